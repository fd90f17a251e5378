"""A victim that is not in this process: images are sent, answers are paid for, and every answer is kept."""

from __future__ import annotations

import functools
import hashlib
import logging
import math
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from fmsteal.base.errors import DataError, VictimError
from fmsteal.base.store import digest
from fmsteal.data.images import Ids, Images, Task
from fmsteal.networks.probabilities import SMALLEST, take_logs
from fmsteal.training.context import Context
from fmsteal.victims.answer_log import AnswerLog, Answers, Call
from fmsteal.victims.base import Victim
from fmsteal.victims.content import LOOK

Pixels = npt.NDArray[np.uint8]
BLOCK = 512  # images that are read, encoded and asked about together
LARGEST_SUM = 1.5  # of a row of probabilities that were rounded
logger = logging.getLogger(__name__)


class Service(Protocol):
    """Something that answers for money.

    Attributes:
        per_call: the most images that it takes at once.
        charged_once: whether it charges calls of the same key once, so that they can be made again.
    """

    @property
    def per_call(self) -> int:
        """The most images in a call."""
        ...

    @property
    def charged_once(self) -> bool:
        """Whether calls with the same key are charged once."""
        ...

    def fit(self, images: Tensor) -> Pixels:
        """The pixels that are sent, uint8 ``(n, 3, h, w)``."""
        ...

    def ask(self, calls: Sequence[tuple[Call, Pixels]], log: AnswerLog, width: int | None) -> None:
        """Make these calls; every answer is in the log when this returns."""
        ...

    def read(self, body: bytes, images: int, width: int | None) -> Answers | None:
        """The answers in a reply that was kept because it could not be read; None if no config can read it.

        Raises:
            VictimError: it still cannot be read, and another config may.
        """
        ...


class RemoteModel(nn.Module):
    """Stands where a model would; only the oracle and the measurements may ask the service."""

    def __init__(self, name: str, width: int) -> None:
        super().__init__()
        self.name, self.width = name, width

    def forward(self, images: Tensor) -> Tensor:
        """Refuse.

        Raises:
            VictimError: always.
        """
        raise VictimError(
            f"{self.name} answers over the network, for money: it has no features or gradients to look at, and is "
            "asked through the oracle alone."
        )


@dataclass
class RemoteVictim(Victim):
    """Asks a service, keeps what it answers, and never asks for the same answer twice.

    A deterministic service is asked once about an image, by whichever theft. One that is not is asked anew for every
    question of a theft (who asks, about which image, how often before), and once about an image for measurements.

    Attributes:
        service: the service.
        logits: whether it answers with logits; if not, with probabilities, whose logarithms are returned.
        asked: the answers that told what the service is, by the images' digests; asked for once in a process.
    """

    service: Service | None = None
    logits: bool = False
    asked: dict[str, Answers] = field(default_factory=dict, repr=False)
    _warned: bool = False
    _expected: list[str] = field(default_factory=list, repr=False)
    _logs: dict[str, AnswerLog] = field(default_factory=dict, repr=False)

    def expect(self, questions: Sequence[str]) -> None:
        """Name the questions of the next images shown, in their order."""
        self._expected = list(questions)

    def raw(self, images: Images, ids: Ids, ctx: Context) -> Tensor:
        """Raw outputs for ``images[ids]``, float32 ``(n, C)``; only what was never answered is paid for."""
        return self._answer(lambda rows: torch.from_numpy(np.array(images.pixels[ids[rows]])), len(ids), ctx)

    def raw_images(self, images: Tensor, ctx: Context) -> Tensor:
        """The same for float images ``(n, 3, H, W)`` in [0, 1], which are rounded to 8 bits."""
        return self._answer(lambda rows: images[torch.from_numpy(rows)], len(images), ctx)

    def answer(self, raw: Tensor) -> Tensor:
        """What the service answered, as it came: probabilities that it rounded are not brought to a sum of 1."""
        if self.answers == "embeddings" or self.logits:
            return super().answer(raw)
        return torch.where(raw > math.log(SMALLEST) + 1e-3, raw.exp(), 0.0)

    def probe(self, images: Tensor, ctx: Context) -> Tensor:
        """Raw outputs for a few images, asked anew: is it still the same model? Asked once in a process."""
        assert self.service is not None
        pixels = self.service.fit(images)
        names = [_name(image) for image in pixels]
        new = [row for row, name in enumerate(names) if name not in self.asked]
        self.calls.show(len(images))
        if new:
            self.calls.compute(len(new))
            place = ctx.scratch("probe")
            log = AnswerLog(place, secrets.token_hex(8))
            fresh = [f"{log.path.stem}/{names[row]}" for row in new]
            self.service.ask(self._cut(fresh, [digest(one)[:32] for one in fresh], pixels[new]), log, None)
            rows = log.read([digest(one)[:32] for one in fresh])
            self.asked |= {names[row]: answer for row, answer in zip(new, rows, strict=True)}
            log.path.unlink(missing_ok=True)
        return self._to_raw(np.stack([self.asked[name] for name in names]))

    def find_width(self, task: Task, ctx: Context) -> int:
        """The width of its answers, found by asking about up to 8 test images; one, if it is not deterministic."""
        images = torch.from_numpy(np.array(task.test.pixels[: LOOK if self.deterministic else 1])).float() / 255
        return self.probe(images, ctx).shape[1]

    def costs(self, ctx: Context) -> Mapping[str, float]:
        """What was paid for.

        ``cost/queries_billed``: images that the service answered for this theft. ``cost/preparation_queries``: images
        that told whether it is the same model. ``cost/unconfirmed``: images that may have been paid for without an
        answer, at most ``concurrency * images_per_request`` for each time that the process died.
        """
        log = self._log(ctx)
        unconfirmed = 0 if self._service.charged_once else log.unsettled
        billed = {"cost/queries_billed": log.count_paid("attack", "defense")}
        if probes := self.calls.computed["preparation"]:
            billed["cost/preparation_queries"] = probes
        return {**billed, **({"cost/unconfirmed": unconfirmed} if unconfirmed else {})}

    @property
    def _service(self) -> Service:
        assert self.service is not None
        return self.service

    def _answer(self, look: Callable[[npt.NDArray[np.int64]], Tensor], count: int, ctx: Context) -> Tensor:
        names, self._expected = self._expected, []
        if self.calls.purpose == "outside":
            self.calls.show(count)
            raise VictimError(f"{self.key}: {count} images were shown to it past the oracle. Nothing was sent.")
        self.calls.show(count)
        blocks = range(0, count, BLOCK)
        parts = [
            self._answer_block(look(np.arange(at, min(at + BLOCK, count))), names[at : at + BLOCK], ctx)
            for at in blocks
        ]
        return self._to_raw(np.concatenate(parts)) if parts else torch.zeros(0, self.width)

    def _answer_block(self, images: Tensor, names: Sequence[str], ctx: Context) -> Answers:
        log, pixels = self._log(ctx), self._service.fit(images)
        of_image = [_name(image) for image in pixels]
        asked = list(names) if names else [f"{self.calls.purpose}/{name}" for name in of_image]
        keys = of_image if self.deterministic or not names else [digest([self._account(ctx), n])[:32] for n in asked]
        if any(key not in log for key in keys):
            log.refresh()
        new = [row for row, key in enumerate(keys) if key not in log and keys.index(key) == row]
        if new:
            self._ask(new, asked, keys, pixels, log, ctx)
        return log.read(keys)

    def _ask(
        self,
        new: Sequence[int],
        asked: Sequence[str],
        keys: Sequence[str],
        pixels: Pixels,
        log: AnswerLog,
        ctx: Context,
    ) -> None:
        """Ask about the rows ``new``: first what was under way when an earlier process ended, as it was."""
        self.calls.compute(len(new))
        row_of, calls = {keys[row]: row for row in new}, list[tuple[Call, Pixels]]()
        for left in list(log.left):
            if not set(left.call.questions) <= row_of.keys():
                continue
            rows = [row_of[key] for key in left.call.questions]
            found = None if left.body is None else self._service.read(left.body, len(rows), self.width)
            if found is not None:
                log.answer(left.number, found)
            elif self._service.charged_once:
                calls.append((left.call, pixels[rows]))
            if found is not None or self._service.charged_once:
                log.left.remove(left)
                for key in left.call.questions:
                    del row_of[key]
        rest = list(row_of.values())
        names = [f"{self._account(ctx)}/{asked[row]}" for row in rest]
        calls += self._cut(names, [keys[row] for row in rest], pixels[rest])
        if calls:
            self._service.ask(calls, log, self.width)

    def _cut(self, names: Sequence[str], keys: Sequence[str], pixels: Pixels) -> list[tuple[Call, Pixels]]:
        """Calls of as many images as the service takes; the idempotency key is made from the questions' names."""
        size, found = self._service.per_call, []
        for at in range(0, len(keys), size):
            part = slice(at, at + size)
            call = Call(digest([self.key, *names[part]])[:32], tuple(keys[part]), self.calls.purpose)
            found.append((call, pixels[part]))
        return found

    def _log(self, ctx: Context) -> AnswerLog:
        store = ctx.paid or ctx.store
        place = store.path("paid", self.key, {"victim": self.key})
        name = f"{place}/{self._account(ctx)}"
        if name not in self._logs:
            self._logs[name] = AnswerLog(place, self._account(ctx))
        return self._logs[name]

    def _account(self, ctx: Context) -> str:
        return ctx.account or "alone"

    def _to_raw(self, rows: Answers) -> Tensor:
        answers = torch.from_numpy(rows)
        if self.answers == "embeddings" or self.logits:
            return answers
        return self._to_logs(answers)

    def _to_logs(self, answers: Tensor) -> Tensor:
        """The logarithms of probabilities ``(n, C)``, which a service may have rounded or cut: sums need not be 1.

        Raises:
            DataError: they are none.
        """
        sums = answers.sum(1)
        if len(answers) and not ((answers >= 0).all() and (answers <= 1.001).all() and sums.max() <= LARGEST_SUM):
            raise DataError(
                f"victim={self.key} gives rows that are not probabilities: their sums go from {float(sums.min()):.3g} "
                f"to {float(sums.max()):.3g}, their entries from {float(answers.min()):.3g} to "
                f"{float(answers.max()):.3g}. If they are logits: victim.outputs=logits."
            )
        if len(answers) and not self._warned and (off := float((sums - 1).abs().max())) > 1e-3:
            self._warned = True
            logger.warning(
                "victim=%s: sums of probabilities are up to %.2g off 1, as where a service rounds them or leaves some "
                "out. They are used as they came.", self.key, off,
            )  # fmt: skip
        return take_logs(answers)


def spell_key(name: str, settings: Mapping[str, Any]) -> str:
    """The key of a service: a part of its name that can be a file's, and a digest of all that decides the answers."""
    return f"{re.sub(r'[^A-Za-z0-9_.-]', '_', name)[-40:]}-{digest(settings)[:16]}"


@functools.cache
def asked_in_this_process(place: str, settings: str) -> dict[str, Answers]:
    """The answers that told what a service is: a sweep in one process asks for them once."""
    return {}


def _name(image: Pixels) -> str:
    """Identifies an image by its content: 32 hex digits."""
    return hashlib.blake2b(repr(image.shape).encode() + image.tobytes(), digest_size=16).hexdigest()
