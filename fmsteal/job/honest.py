"""An honest client of a job's API: a measurement asks through the job's defense, prepared afresh each time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from fmsteal.data.images import Ids, Images, Task
from fmsteal.defenses.base import Defense, NoDefense, name_of, prepare
from fmsteal.evaluation.base import Asker, Defended
from fmsteal.oracle.blocks import Shown
from fmsteal.oracle.visit import Visit
from fmsteal.training.context import Context
from fmsteal.victims.base import Victim


def open_door(defense: Defense, victim: Victim, task: Task, ctx: Context) -> Callable[[], Asker] | None:
    """A function that makes new clients of a victim behind a defense; None if there is no defense.

    Each client has its own guard, which remembers nothing yet; what a defense trains comes from the store.
    """
    if isinstance(defense, NoDefense):
        return None
    return lambda: HonestClient(defense, victim, task, ctx)


class HonestClient:
    """Asks and keeps nothing; budget and ledger are not involved. See `fmsteal.evaluation.base.Asker`."""

    def __init__(self, defense: Defense, victim: Victim, task: Task, ctx: Context) -> None:
        guard = prepare(defense, victim, task.train, ctx)
        self._visit = Visit(guard, name_of(defense), victim.answer, ctx.seed)
        self._victim, self._ctx = victim, ctx

    def ask(self, images: Images, ids: Ids) -> Defended:
        """Ask about ``images[ids]``, in that order.

        Raises:
            DefenseError: the defense failed or broke its contract.
        """
        shown = Shown(
            (images.digest, images.pixels.shape[1:]),
            lambda rows: self._victim.raw(images, ids[list(rows)], self._ctx),
            lambda rows: torch.from_numpy(np.array(images.pixels[ids[list(rows)]])),
        )
        given = self._visit.ask(images.image_digests(ids), shown)
        rows = given.rows or ()
        names = sorted({name for row in rows for name in row.flags})
        flags = {name: torch.tensor([row.flags.get(name, 0.0) for row in rows]) for name in names}
        usd, seconds = sum(row.usd for row in rows), sum(row.seconds for row in rows)
        return Defended(given.answers, given.refused, flags, usd, seconds, given.busy)
