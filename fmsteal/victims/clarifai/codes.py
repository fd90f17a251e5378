"""What Clarifai's status codes mean: whether a call may be made again, whether it was paid for, and what to change."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fmsteal.victims.failure import Failure

if TYPE_CHECKING:
    import grpc

SUCCESS, MIXED, FAILURE = 10000, 10010, 10020
SOON = {10030, 11005, 21351, 21352, 21354, 21355}  # try again, throttled, deploying, queued, busy, loading
MOST_SAID = 300  # characters of what a service says
UNREACHED = "failed to connect to all addresses"  # how grpc says that a call was never sent
_KEY = "It does not accept the key: look at the variable that victim.headers names."
_LIMIT = "A limit of the account is reached: wait, or raise it there, and run the same command again."
_REQUEST = (
    "It takes the request for malformed: look at victim.model_id, victim.version_id and victim.images_per_request."
)
_MODEL = "Look at victim.user_id, victim.app_id, victim.model_id and victim.version_id."
_RIGHTS = "The key is not allowed to ask this: give it the right to predict."
_REFUSED = {  # before anything was done, with what to change
    11000: "Look at the account there: it has a problem.",
    **dict.fromkeys((11001, 11002, 11008, 11009), _KEY),
    11007: _RIGHTS,
    **dict.fromkeys((11003, 11004, 11006), _LIMIT),
    **dict.fromkeys((11100, 11102), _REQUEST),
    **dict.fromkeys((11101, 21200, 21353), _MODEL),
}
_FAILED = {30002: "It cannot read the image: look at victim.encoding and victim.size."}
_UNBEGUN = {  # codes of gRPC itself for what was not begun; whether that goes away, and what to change
    "UNAUTHENTICATED": (False, _KEY),
    "PERMISSION_DENIED": (False, _RIGHTS),
    "RESOURCE_EXHAUSTED": (True, "It is asked too often: a smaller victim.concurrency."),
    "INVALID_ARGUMENT": (False, _REQUEST),
    "NOT_FOUND": (False, _MODEL),
    "UNIMPLEMENTED": (False, "There is no such service there: look at victim.base."),
}
Hide = Callable[[str], str]


def explain_status(status: Any, what: str, hide: Hide) -> Failure:
    """The failure that a status in an answer reports: Clarifai answers with errors inside of successful calls.

    Args:
        status: ``code``, ``description`` and ``details``.
        what: what failed, for the message.
        hide: replaces secrets in a text.
    """
    code = int(status.code)
    said = hide(": ".join(part for part in (status.description, status.details) if part))[:MOST_SAID]
    words = f" and says: {said}" if said else ""
    advice = {**_REFUSED, **_FAILED}.get(code, "")
    return Failure(
        f"Clarifai refuses {what} with {_name(code)}{words}. {advice}".rstrip(),
        unpaid=code in SOON or code in _REFUSED, again=code in SOON,
    )  # fmt: skip


def explain_error(error: grpc.RpcError, base: str, hide: Hide) -> Failure:
    """The failure of a call that gRPC reports. Unless it was never begun, it may have been paid for.

    Args:
        error: what the call raised, with its code and details.
        base: the address, for the message.
        hide: replaces secrets in a text.
    """
    code, details = error.code().name, hide(str(error.details() or ""))
    said = f" and says: {details[:MOST_SAID]}" if details else ""
    if code == "UNAVAILABLE" and details.startswith(UNREACHED):
        return _explain_unreached(details, base)
    if code == "DEADLINE_EXCEEDED":
        return Failure(f"{base} gave no answer in time (victim.timeout).", unpaid=False, again=False)
    if "larger than max" in details:  # the request or the answer
        unpaid = "Sent message" in details or details.startswith("SERVER")
        return Failure(f"{base}{said}: a smaller victim.images_per_request or victim.size.", unpaid=unpaid, again=False)
    if code in _UNBEGUN:
        again, advice = _UNBEGUN[code]
        return Failure(f"{base} refuses with {code}{said}. {advice}", unpaid=True, again=again)
    return Failure(f"{base} broke off with {code}{said}.", unpaid=False, again=False)


def _explain_unreached(details: str, base: str) -> Failure:
    reason = details.rpartition("last error: ")[2][:MOST_SAID]
    if any(word in reason.lower() for word in ("handshake", "certificate", "verification")):
        return Failure(
            f"{base} cannot prove who it is ({reason}): look at victim.base and victim.root_certificates.",
            unpaid=True, again=False, reached=False,
        )  # fmt: skip
    return Failure(
        f"{base} cannot be reached ({reason}): is that its address (victim.base)?",
        unpaid=True, again=True, reached=False,
    )  # fmt: skip


def _name(code: int) -> str:
    from clarifai_grpc.grpc.api.status import status_code_pb2

    known = status_code_pb2.StatusCode.DESCRIPTOR.values_by_number.get(code)
    return f"{code} ({known.name})" if known else str(code)
