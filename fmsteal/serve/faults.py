"""What a request can be refused for: a code, its HTTP status, and a sentence for the person who sent it."""

from __future__ import annotations

from dataclasses import dataclass

REASONS: dict[str, tuple[int, str]] = {  # code: status, and what the documentation says of it
    "bad_request": (400, "The body is empty, no valid JSON, or not what the documentation shows."),
    "unauthorized": (401, "No key was sent (Authorization: Bearer KEY), or it is not known."),
    "budget_exhausted": (402, "More images than are left of this key's budget. Nothing was answered or charged."),
    "refused": (403, "The defense refused every image of the request. Nothing was charged."),
    "not_found": (404, "There is nothing at this address."),
    "wrong_task": (404, "The model answers the other of /v1/classify and /v1/embed."),
    "method_not_allowed": (405, "The address does not take this method."),
    "slow_body": (408, "The body did not arrive in time. Nothing was answered or charged."),
    "body_too_large": (413, "The body has more bytes than are allowed."),
    "image_too_large": (413, "The images have more pixels than are allowed in one request."),
    "batch_too_long": (413, "More images than are allowed in one request."),
    "unsupported_media_type": (415, "The Content-Type is none of image/png, image/jpeg, application/json."),
    "not_an_image": (422, "A body is no PNG or JPEG image, or a damaged one."),
    "key_reused": (422, "The Idempotency-Key was used before, for another request."),
    "rate_limited": (429, "More images a second than this key may ask about: try again after Retry-After seconds."),
    "failed": (500, "The model or its defense failed on these images. Nothing was charged."),
    "overloaded": (503, "Too many requests are waiting: try again after Retry-After seconds."),
    "in_progress": (503, "Another worker is answering the request of this Idempotency-Key: ask again."),
    "storage": (503, "The service could not write its records. Nothing was answered or charged."),
    "stopping": (503, "The service is stopping: the request was not read."),
}


@dataclass(eq=False)
class Fault(Exception):
    """A request that is refused.

    Attributes:
        code: one of `REASONS`.
        message: one sentence or two that name what is wrong, and what to do.
        retry_after: seconds after which the same request may succeed; None if it will not.
    """

    code: str
    message: str
    retry_after: float | None = None

    @property
    def status(self) -> int:
        """The HTTP status."""
        return REASONS[self.code][0]

    @property
    def body(self) -> dict[str, object]:
        """The JSON body."""
        return {"error": {"code": self.code, "message": self.message, "retry_after": self.retry_after}}
