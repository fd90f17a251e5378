"""A model behind an API, as the pipeline puts it there: what tests of attacks ask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fmsteal.data.images import Images
from fmsteal.defenses.base import NoDefense, prepare
from fmsteal.oracle.ledger import Ledger
from fmsteal.oracle.oracle import Budget, Oracle
from fmsteal.training.context import Context
from fmsteal.victims.base import Victim


def in_front_of(
    victim: Victim,
    pool: Images,
    ctx: Context,
    queries: int,
    defense: Any = None,
    on_answer: Callable[[int, int], None] = lambda used, allowed: None,
) -> Oracle:
    """The victim's API, with its ledger in the job's folder."""
    return Oracle(
        answer_pool=lambda ids: victim.raw(pool, ids, ctx),
        answer_images=lambda images: victim.raw_images(images, ctx),
        to_answers=victim.answer,
        pool=pool,
        guard=prepare(defense or NoDefense(), victim, pool, ctx),
        budget=Budget(queries),
        ledger=Ledger(ctx.run_dir / "ledger.bin", "job"),
        seed=0,
        on_answer=on_answer,
    )
