"""The model behind the API."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
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
        key: identifies the victim down to its weights: training one recipe twice can give different last digits.
        model: raw images in, logits ``(n, C)`` or embeddings ``(n, D)`` out.
        answers: what the API returns: probabilities (the logits' softmax), or the embeddings as they are.
        place: the folder of the store that the victim is made in and read from; None if it needs none.
        paid: whether each image shown costs money; answers are then kept beside the thefts, and the images that
            measurements show are counted and priced too.
        given: whether the model was made by somebody else; its content is then part of the key.
        deterministic: whether it answers the same image the same way each time; if not, its answers cannot identify it.
        digest: digest of the victim's content, set by `fmsteal.victims.content` before anything is asked.
        calls: number of images shown in this process, by purpose.
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
        """The length of an answer: the number of classes, or the embedding's width."""
        return int(self.model.width)  # type: ignore[arg-type]

    def answer(self, raw: Tensor) -> Tensor:
        """What the API answers before any defense: the softmax of logits ``(n, C)``, or embeddings ``(n, D)``."""
        return raw.softmax(1) if self.answers == "probabilities" else raw

    def expect(self, questions: Sequence[str]) -> None:
        """Name the questions of the images that an attack shows next, in their order; a local victim needs none."""

    def probe(self, images: Tensor, ctx: Context) -> Tensor:
        """Raw outputs for a few float images, to identify a victim without weights by."""
        return self.raw_images(images, ctx)

    def costs(self, ctx: Context) -> Mapping[str, float]:
        """What the theft has cost on top of the queries that its oracle counts, by metric name."""
        return {}

    def raw(self, images: Images, ids: Ids, ctx: Context) -> Tensor:
        """Raw outputs for ``images[ids]``, float32 ``(n, C)``; computed once and shared with other jobs."""

        stored = images.whole()

        def compute(missing: Ids) -> Rows:
            self.calls.compute(len(missing))
            return logits(self.model, stored, missing, ctx).numpy()

        self.calls.show(len(ids))
        cache = ctx.rows("answers", self.key, {"victim": self.key, "images": stored.digest}, kept=self.paid)
        return torch.from_numpy(cache.get(images.place(ids), compute))

    def raw_images(self, images: Tensor, ctx: Context) -> Tensor:
        """Raw outputs for float images ``(n, 3, H, W)`` in [0, 1]; a measurement's are kept if they cost money."""
        self.calls.show(len(images))

        def compute(missing: Ids) -> Tensor:
            self.calls.compute(len(missing))
            some = images[torch.from_numpy(missing)]
            return run_in_batches(self.model, lambda part: some[part], len(some), ctx)

        ids = np.arange(len(images))
        if not self.paid or self.calls.purpose != "measurement":  # an attack's answers are in its ledger
            return compute(ids)
        content = hashlib.sha256(images.detach().cpu().numpy().tobytes()).hexdigest()
        cache = ctx.rows("answers", self.key, {"victim": self.key, "images": content}, kept=True)
        return torch.from_numpy(cache.get(ids, lambda missing: compute(missing).numpy()))


class VictimMaker(Learner):
    """How a victim is made: a choice of ``conf/victim``.

    A remote API is also added this way, by a maker of a `Victim` whose ``raw`` and ``raw_images`` ask over the network.

    Attributes:
        gradients: whether its outputs can be differentiated with respect to the images; False for an API.
        eight_bit: whether images reach it as files of 8 bits, so that it cannot tell apart what differs by less.
    """

    answers: ClassVar[Answers]
    gradients: ClassVar[bool] = True
    eight_bit: ClassVar[bool] = False

    def prepare(self, task: Task, ctx: Context) -> Victim:
        """The victim, from the store if any job has made it before."""
        raise NotImplementedError
