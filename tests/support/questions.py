"""Questions of a ledger, and answers to them."""

from __future__ import annotations

import numpy as np

from fmsteal.oracle.ledger import Question


def questions(count: int, client: int = 0) -> list[Question]:
    return [Question(client, bytes([i]) * 16, 0) for i in range(count)]


ANSWERS = np.random.default_rng(0).random((9, 4)).astype(np.float32)
