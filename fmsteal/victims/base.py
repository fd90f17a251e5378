"""The model behind the API."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from fmsteal.base.rows import Rows
from fmsteal.config.answers import Answers
from fmsteal.data.images import Ids, Images, Task
from fmsteal.training.context import Context
from fmsteal.training.inference import logits, run_in_batches
from fmsteal.training.learners import Learner
from fmsteal.victims.calls import Calls


@dataclass
class Victim:
    """A trained victim.

    Attributes:
        key: identifies it down to its weights: victims of one recipe made twice can differ in the last digits.
        model: raw images in, logits ``(n, C)`` or embeddings ``(n, D)`` out.
        answers: what the API makes of them: probabilities (of logits), or the embeddings as they are.
        place: the folder of the store that it was made in and is read from; None if it needs none.
        paid: whether each image it is shown costs money: its answers are then kept beside the thefts, and what
            measurements show it is counted and priced too.
        given: whether somebody else has made it: its content is then a part of its key.
        deterministic: whether it answers the same image alike each time; if not, its answers do not tell what it is.
        digest: of its content, found by `fmsteal.victims.content` before anything is asked.
        calls: what it was shown in this process, by purpose.
    """

    key: str
    model: nn.Module
    answers: Answers = "probabilities"
    place: Path | None = None
    paid: bool = False
    given: bool = False
    deterministic: bool = True
    digest: str = ""
    calls: Calls = field(default_factory=Calls, repr=False)

    @property
    def forwards(self) -> int:
        """Images that went through the model in this process."""
        return sum(self.calls.computed.values())

    @property
    def width(self) -> int:
        """Numbers in an answer: classes, or the embedding's dimensions."""
        return int(self.model.width)  # type: ignore[arg-type]

    def answer(self, raw: Tensor) -> Tensor:
        """What the API answers before any defense: the softmax of logits ``(n, C)``, or embeddings ``(n, D)``."""
        return raw.softmax(1) if self.answers == "probabilities" else raw

    def raw(self, images: Images, ids: Ids, ctx: Context) -> Tensor:
        """Raw outputs for ``images[ids]``, float32 ``(n, C)``; computed once, shared with other jobs."""

        stored = images.whole()

        def compute(missing: Ids) -> Rows:
            self.calls.compute(len(missing))
            return logits(self.model, stored, missing, ctx).numpy()

        self.calls.show(len(ids))
        cache = ctx.rows("answers", self.key, {"victim": self.key, "images": stored.digest}, kept=self.paid)
        return torch.from_numpy(cache.get(images.place(ids), compute))

    def raw_images(self, images: Tensor, ctx: Context) -> Tensor:
        """Raw outputs for float images ``(n, 3, H, W)`` in [0, 1]; kept only where they cost money."""
        self.calls.show(len(images))

        def compute(missing: Ids) -> Tensor:
            self.calls.compute(len(missing))
            some = images[torch.from_numpy(missing)]
            return run_in_batches(self.model, lambda part: some[part], len(some), ctx)

        ids = np.arange(len(images))
        if not self.paid or self.calls.purpose != "measurement":  # an attack's are in its ledger
            return compute(ids)
        content = hashlib.sha256(images.detach().cpu().numpy().tobytes()).hexdigest()
        cache = ctx.rows("answers", self.key, {"victim": self.key, "images": content}, kept=True)
        return torch.from_numpy(cache.get(ids, lambda missing: compute(missing).numpy()))


class VictimMaker(Learner):
    """How a victim is made: a choice of ``conf/victim``.

    A remote API comes in here too, as a maker of a `Victim` whose ``raw`` and ``raw_images`` ask the network.

    Attributes:
        gradients: whether its outputs can be differentiated by the images: False of an API.
    """

    answers: ClassVar[Answers]
    gradients: ClassVar[bool] = True

    def prepare(self, task: Task, ctx: Context) -> Victim:
        """The victim, from the store if any job has made it before."""
        raise NotImplementedError
