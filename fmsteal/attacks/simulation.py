"""An attacker's own copy of the API's defense, which it applies to answers that it makes up."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fmsteal.base.errors import ConfigError
from fmsteal.base.seeds import derive_seed
from fmsteal.config.answers import Answers
from fmsteal.data.images import Ids, Images
from fmsteal.oracle.guard import Ask
from fmsteal.oracle.ledger import Question
from fmsteal.oracle.replies import hear
from fmsteal.oracle.simulated import KnownDefense, name_of, simulate

AT_ONCE = 512  # rows answered at a time: as many images are in memory
TRIED = 256  # rows on which a defense is tried that may change nothing
SAME = 1e-6  # an entry that moves by less is not changed: float32 itself is no finer


class Simulation:
    """A defense as the attacker carries it out: same class, same options, but random numbers of the attacker's own.

    Each made-up row counts as another client's question about another image. So noise that the API freezes for an
    image or a client varies from row to row: the attacker knows how it is distributed, not which was drawn.
    """

    def __init__(
        self, defense: KnownDefense, width: int, pool: Images, seed: int, answers: Answers = "probabilities"
    ) -> None:
        """Build the guard.

        Args:
            defense: what the attacker takes the API's defense to be.
            width: number of classes, or of an embedding's entries.
            pool: the query set; a defense that looks at images is shown these.
            seed: the attack's; the numbers derived from it differ from those of the API.
            answers: what it is made up for.

        Raises:
            ConfigError: the defense cannot be carried out without the victim, or changes the width of answers.
        """
        self._pool, self._name, self._answers = pool, name_of(defense), answers
        self._seed = derive_seed("simulated defense", seed)
        self._guard = simulate(defense, width, derive_seed("simulated secrets", seed))
        if self._guard.width != width:
            what = "classes" if answers == "probabilities" else "entries of an embedding"
            due = "a probability for each class" if answers == "probabilities" else "as many"
            raise ConfigError(
                f"attack.defense={self._name} turns {width} {what} into {self._guard.width} numbers: this attack "
                f"undoes defenses that answer with {due}. Choose another attack=..."
            )

    def answer(self, p: Tensor, ids: Ids) -> Tensor:
        """The defended rows, float32 ``(n, K)``, for made-up rows ``p (n, K)`` about pool images ``ids (n,)``."""
        parts = [p[:0].float()]
        for start in range(0, len(p), AT_ONCE):
            rows, shown = p[start : start + AT_ONCE].float(), ids[start : start + AT_ONCE]
            ask = Ask(
                questions=[Question(row, row.to_bytes(16), 0) for row in range(start, start + len(rows))],
                answers=rows,
                raw=self._undo_softmax(rows),
                images=lambda shown=shown: torch.from_numpy(np.array(self._pool.pixels[shown])),  # type: ignore[misc]
                seed=self._seed,
            )
            parts.append(hear(self._guard, ask, self._name).answers)
        return torch.cat(parts)

    def _undo_softmax(self, rows: Tensor) -> Tensor:
        """What the victim itself says when these are its answers: logits, or the embeddings as they are."""
        return rows if self._answers == "embeddings" else rows.clamp(min=torch.finfo(torch.float32).tiny).log()

    def changes_nothing(self, classes: int) -> bool:
        """Whether the defense returns rows drawn evenly from the simplex as they are: there is nothing to undo."""
        random = np.random.default_rng(self._seed)
        p = torch.from_numpy(random.dirichlet(np.ones(classes), TRIED)).float()
        y = self.answer(p, random.integers(len(self._pool), size=TRIED))
        return float((y - p).abs().max()) <= SAME
