"""The defended API as measurements see it: an honest client of it, and the model that serves where one is replaced."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from fmsteal.data.images import Ids, Images, Task
from fmsteal.defenses.base import Defense, NoDefense, name_of, prepare
from fmsteal.defenses.replacing import find_server, is_replacing
from fmsteal.evaluation.base import Asker, Defended
from fmsteal.networks.probabilities import take_logs
from fmsteal.oracle.blocks import Shown
from fmsteal.oracle.visit import Visit
from fmsteal.training.context import Context
from fmsteal.victims.base import Victim

BLOCK = 1000  # images in memory at once


def open_door(defense: Defense, victim: Victim, task: Task, ctx: Context) -> Callable[[], Asker] | None:
    """A function that makes new clients of a victim behind a defense; None if there is no defense.

    Each client has its own guard, which remembers nothing yet; what a defense trains comes from the store.
    """
    if isinstance(defense, NoDefense):
        return None
    return lambda: HonestClient(defense, victim, task, ctx)


def find_model(defense: Defense, victim: Victim, task: Task, ctx: Context) -> Callable[[], Tensor] | None:
    """What gives the logits ``(n, C)`` on the test images of the model that serves in the victim's place.

    None if the victim itself serves, whatever a defense does to its answers.
    """
    if not is_replacing(defense):
        return None

    def answer() -> Tensor:
        serve, pixels = find_server(prepare(defense, victim, task.train, ctx)), task.test.pixels
        assert serve is not None  # `prepare` has made sure
        parts = [pixels[start : start + BLOCK] for start in range(0, len(task.test), BLOCK)]
        return take_logs(torch.cat([serve(torch.from_numpy(np.array(part))) for part in parts]))

    return answer


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
