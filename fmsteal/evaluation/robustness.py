"""Is a robust victim harder to steal, and is what was stolen as robust? Both models' own robustness, side by side.

The paper that names this trade-off (Raj et al., BMVC 2024) measures only adversarial fidelity; here each model's
accuracy is measured under common corruptions, and under PGD with its own gradients (white box).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from fmsteal.base.errors import ConfigError
from fmsteal.base.metric import Metric
from fmsteal.base.store import Store
from fmsteal.config.answers import Answers
from fmsteal.data.images import Ids, Images, content_digest
from fmsteal.evaluation import corruptions, imagenet_c, metrics
from fmsteal.evaluation.base import Measured, Measurement, Pair, sample
from fmsteal.evaluation.forwards import classify
from fmsteal.evaluation.white_box import PGD, find_thief_withstanding, find_victim_withstanding
from fmsteal.training.context import Context
from fmsteal.training.perturb import has_gradients
from fmsteal.victims.base import VictimMaker

log = logging.getLogger(__name__)
SUITES = {"basic": corruptions.NAMES, "imagenet_c": imagenet_c.NAMES}
PLACE = "evaluation.also.robustness"

Model = Literal["victim", "thief"]


@dataclass(frozen=True)
class Robustness(Measurement):
    """Accuracy of victim and thief under corruptions and under PGD. The victim's part is computed once per victim.

    Attributes:
        suite: suite of corruptions: ``basic``, the four of `fmsteal.evaluation.corruptions`; ``imagenet_c``, all 15,
            which need a package (`fmsteal.evaluation.imagenet_c`).
        corruptions: which corruptions of the suite to use; None for all.
        severities: strengths of the corruptions, 1 to 5; figures are means over them.
        images: maximum number of random test images to corrupt.
        white_box: the models that are attacked with their own gradients. An API has none: ``[thief]``.
        attacked: maximum number of random test images to attack; a subset of those to corrupt, or a superset.
        eps: radii of the balls, for pixels in [0, 1].
        steps: numbers of PGD steps; each is an attack of its own, at each radius.
        restarts: restarts of each attack; an image withstands it if it withstands all of them.
        step: how far a pixel moves in a step; None takes 2.5 eps / steps.
    """

    answers: ClassVar[Answers] = "probabilities"

    suite: Literal["basic", "imagenet_c"] = "basic"
    corruptions: Sequence[str] | None = None
    severities: Sequence[int] = (1, 2, 3, 4, 5)
    images: int = 1000
    white_box: Sequence[Model] = ("victim", "thief")
    attacked: int = 500
    eps: Sequence[float] = (8 / 255,)
    steps: Sequence[int] = (10, 50)
    restarts: int = 5
    step: float | None = None

    def __post_init__(self) -> None:
        if self.suite not in SUITES:
            raise ConfigError(f"{PLACE}.suite is one of {', '.join(SUITES)}, not {self.suite}.")
        for name in self.corruptions or ():
            self._require_corruption(name)
        if not self.severities or not set(self.severities) <= {1, 2, 3, 4, 5}:
            raise ConfigError(f"{PLACE}.severities are some of 1 to 5, not {list(self.severities)}.")
        for option, least in (("images", 1), ("attacked", 1), ("restarts", 1)):
            if getattr(self, option) < least:
                raise ConfigError(f"{PLACE}.{option} must be at least {least}, not {getattr(self, option)}.")
        if min(self.eps, default=1) < 0 or min(self.steps, default=1) < 1 or (self.step is not None and self.step <= 0):
            raise ConfigError(
                f"{PLACE} needs eps of at least 0, steps of at least 1 and a step above 0, or null; given: "
                f"eps={list(self.eps)}, steps={list(self.steps)}, step={self.step}."
            )

    def inputs(self, store: Store) -> Mapping[str, str]:
        """The package that makes the corruptions, and its version.

        Raises:
            ConfigError: the package is not installed.
        """
        return {imagenet_c.PACKAGE: imagenet_c.find_version()} if self.suite == "imagenet_c" else {}

    def check_victim(self, victim: VictimMaker) -> None:
        """Refuse a white-box attack on an API without gradients, before anything is paid for."""
        given = getattr(victim, "gradients", True)  # a maker from elsewhere may not say
        if "victim" in self.white_box and self._attacks and not given:
            raise ConfigError(
                f"{PLACE} attacks the victim with its own gradients, but {type(victim).__name__} is an API that gives "
                f"none. Leave that out, the other figures stay: {PLACE}.white_box=[thief]."
            )

    def run(self, pair: Pair, ctx: Context) -> Measured:
        """Shares of images: ``accuracy`` is the thief's, beside ``victim_accuracy``.

        ``robustness/clean/...``: on the images that are attacked. ``robustness/pgd<steps>@<255 eps>/...``: those that
        withstand. ``robustness/<suite>/...``: the mean over the corruptions. ``robustness/<suite>/<corruption>/...``:
        each of them. The last two have ``agreement`` too.
        """
        return Measured([*self._under_attack(pair, ctx), *self._under_corruptions(pair, ctx)])

    @property
    def _attacks(self) -> list[PGD]:
        return [PGD(eps, steps, self.restarts, self.step) for eps in self.eps for steps in self.steps]

    def _under_attack(self, pair: Pair, ctx: Context) -> list[Metric]:
        if not self._attacks or not self.white_box:
            return []
        test = pair.task.test
        ids = sample(test, self.attacked)
        labels = _labels(test, ids)
        victim, thief = (rows[ids] for rows in pair.logits)
        found = [
            _share("clean/victim_accuracy", metrics.accuracy(victim, labels), "victim accuracy, clean", None, len(ids)),
            _share("clean/accuracy", metrics.accuracy(thief, labels), "thief accuracy, clean", True, len(ids)),
        ]
        models = [model for model in ("victim", "thief") if model in self.white_box and _attackable(model, pair)]
        for attack in self._attacks:
            about = f"under {attack.steps} steps of PGD, eps {255 * attack.eps:g}/255"
            for model in models:
                if model == "victim":
                    holds = find_victim_withstanding(pair.victim, test, labels, ids, attack, ctx)
                else:
                    holds = find_thief_withstanding(pair.thief, test, labels, ids, attack, ctx)
                name = "victim_accuracy" if model == "victim" else "accuracy"
                share = float(holds.mean())
                found.append(_share(f"{attack.name}/{name}", share, f"{model} accuracy {about}", None, len(ids)))
        return found

    def _under_corruptions(self, pair: Pair, ctx: Context) -> list[Metric]:
        names = SUITES[self.suite] if self.corruptions is None else self.corruptions
        ids = sample(pair.task.test, self.images)
        labels = _labels(pair.task.test, ids)
        clean = pair.task.test.subset(ids)
        each: dict[str, list[tuple[float, float, float]]] = {name: [] for name in names}
        for done, name in enumerate(names, start=1):
            for severity in self.severities:
                images = self._corrupted(clean, name, severity, ctx)
                victim, thief = classify(pair.victim, pair.thief, images, np.arange(len(images)), ctx)
                accuracies = metrics.accuracy(victim, labels), metrics.accuracy(thief, labels)
                each[name].append((*accuracies, metrics.agreement(victim, thief)))
            ctx.progress.update("corruptions", done, len(names))
        means = {name: np.mean(rows, axis=0) for name, rows in each.items()}
        mean = np.mean(list(means.values()), axis=0) if means else None
        whole = [] if mean is None else _three(self.suite, mean, f"under {len(means)} corruptions")
        single = [
            _three(f"{self.suite}/{name}", mean, f"under {name.replace('_', ' ')}") for name, mean in means.items()
        ]
        return [metric for some in (whole, *single) for metric in some]

    def _corrupted(self, clean: Images, name: str, severity: int, ctx: Context) -> Images:
        if self.suite == "imagenet_c":
            return imagenet_c.corrupt_images(clean, name, severity, ctx.store)
        pixels = corruptions.corrupt_images(np.asarray(clean.pixels), name, severity)
        return Images(pixels, content_digest(pixels))

    def _require_corruption(self, name: str) -> None:
        if name not in SUITES[self.suite]:
            elsewhere = next((suite for suite, names in SUITES.items() if name in names), None)
            hint = f" {PLACE}.suite={elsewhere} has it." if elsewhere else ""
            raise ConfigError(
                f"{PLACE}.corruptions: there is no '{name}' in suite={self.suite}. There are: "
                f"{', '.join(SUITES[self.suite])}.{hint}"
            )


def _attackable(model: str, pair: Pair) -> bool:
    """Whether a model has gradients; one that costs money is not even tried."""
    net, image = (pair.victim.model if model == "victim" else pair.thief), pair.task.test.pixels[0]
    paid = model == "victim" and pair.victim.paid
    if not paid and has_gradients(net, torch.from_numpy(np.array(image)).float() / 255):
        return True
    log.warning(
        "robustness: the %s gives no gradients, so nothing is said of it under PGD; the rest is measured", model
    )
    return False


def _labels(test: Images, ids: Ids) -> Tensor:
    if test.labels is None:
        raise ConfigError("evaluation=robustness is of accuracies: it needs a test split with labels.")
    return torch.from_numpy(np.array(test.labels[ids]))


def _share(name: str, value: float, label: str, higher_is_better: bool | None, count: int) -> Metric:
    return Metric(f"robustness/{name}", value, label, higher_is_better, metrics.wilson(value, count))


def _three(name: str, means: Any, where: str) -> list[Metric]:
    victim, thief, agreement = (float(value) for value in means)
    return [
        Metric(f"robustness/{name}/victim_accuracy", victim, f"victim accuracy {where}", None),
        Metric(f"robustness/{name}/accuracy", thief, f"thief accuracy {where}"),
        Metric(f"robustness/{name}/agreement", agreement, f"agreement {where}"),
    ]
