"""A call of a service that gave no answer, whatever the protocol."""

from __future__ import annotations

GOES_ON = "What it has answered is kept: the same command goes on from there."


class Failure(Exception):
    """A call that gave no answer.

    Attributes:
        unpaid: whether it has certainly cost nothing.
        again: whether it may be made again.
        wait: seconds that the service asks to wait; None if it does not say.
        reached: whether the service was reached.
    """

    def __init__(
        self, message: str, *, unpaid: bool, again: bool, wait: float | None = None, reached: bool = True
    ) -> None:
        super().__init__(message)
        self.unpaid, self.again, self.wait, self.reached = unpaid, again, wait, reached
