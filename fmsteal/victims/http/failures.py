"""What can go wrong with a call: whether it may be made again, whether it was paid for, and what a person is told."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from fmsteal.victims.failure import Failure

if TYPE_CHECKING:
    import aiohttp

ADVICE = {
    400: "It takes the request for malformed: look at victim.body, victim.options and victim.images_per_request.",
    401: "It does not accept the key: look at the variable that victim.headers names.",
    402: "The budget there is spent: raise it, and run the same command again.",
    403: "The key is not allowed to ask this: look at the key's rights, and at victim.url.",
    404: "There is nothing at that address: look at victim.url.",
    405: "That address takes no images: look at victim.url.",
    409: "It has seen this question with another image: another victim.name asks anew.",
    413: "The request is too large for it: a smaller victim.images_per_request or victim.size.",
    415: "It does not take this type: look at victim.encoding and victim.body.",
    422: "It cannot read the images: look at victim.encoding, victim.size and victim.body.",
}


def explain_network(error: Exception, url: str, charged_once: bool) -> Failure:
    """A failure below HTTP.

    Args:
        error: what the client raised.
        url: the address, for the message.
        charged_once: whether the service charges the same question once, so that it may be sent again.
    """
    import aiohttp

    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError):
        return Failure(
            f"{url} cannot prove who it is ({_kind(error)}): look at victim.url and at this machine's certificates.",
            unpaid=True, again=False,
        )  # fmt: skip
    if isinstance(error, aiohttp.InvalidURL):
        return Failure(f"victim.url={url} is no address.", unpaid=True, again=False)
    if isinstance(error, aiohttp.ClientConnectorError):
        return Failure(
            f"{url} cannot be reached ({_reason(error)}): is the service running, and is that its address "
            "(victim.url)?",
            unpaid=True, again=True, reached=False,
        )  # fmt: skip
    said = "gave no answer in time (victim.timeout)" if isinstance(error, asyncio.TimeoutError) else "broke off"
    return Failure(f"{url} {said} ({_kind(error)}).", unpaid=False, again=charged_once)


def explain_status(
    status: int, said: str | None, headers: Mapping[str, str], url: str, again: bool, unpaid: bool
) -> Failure:
    """A failure that the service reports by an HTTP status; below 500, and with 503, it has done nothing.

    Args:
        status: the status.
        said: what the service says.
        headers: those of its reply.
        url: the address, for the message.
        again: whether the config has it as one to try again.
        unpaid: whether it costs nothing for certain, whatever it is.
    """
    wait = read_retry_after(headers.get("Retry-After"))
    if 300 <= status < 400:
        where = headers.get("Location", "another address")
        return Failure(f"{url} has moved to {where}: give that (victim.url).", unpaid=True, again=False)
    words = f" and says: {said}" if said else ""
    advice = ADVICE.get(status, "")
    return Failure(
        f"{url} refuses with {status}{words}. {advice}".rstrip(),
        unpaid=unpaid or status < 500 or status == 503, again=again, wait=wait,
    )  # fmt: skip


def read_retry_after(value: str | None) -> float | None:
    """The seconds that a ``Retry-After`` header asks for: a number, or a date; None if it says neither."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except (TypeError, ValueError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _reason(error: aiohttp.ClientConnectorError) -> str:
    return error.strerror or _kind(error)


def _kind(error: Exception) -> str:
    return type(error).__name__
