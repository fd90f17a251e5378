"""The interface of an attack: it asks an oracle about public images, and returns a thief."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, get_args

import numpy as np
import numpy.typing as npt
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from fmsteal.base.errors import ConfigError
from fmsteal.base.metric import Metric, spell
from fmsteal.data.images import Ids, Images
from fmsteal.data.loader import TensorLoader
from fmsteal.identity.rules import Ignores
from fmsteal.networks.backbones import BackboneSpec, set_memory_format
from fmsteal.oracle.oracle import Budget, Oracle
from fmsteal.training.classifier import Classifier, Loss
from fmsteal.training.context import Context
from fmsteal.training.encoder import Encoder
from fmsteal.training.held_out import By, HeldOut
from fmsteal.training.inference import features, logits, penultimate
from fmsteal.training.learners import IS_CONVEX, ClassifierLearner, EncoderLearner, Untrained
from fmsteal.training.recipe import STEPS, StealModule

GRADIENT_BATCH = 32  # images at a time when gradients are taken: autograd keeps a lot for each
FITTED_TO_ANSWERS: Ignores = {"/thief.recipe.label_smoothing": {}}  # label smoothing is for labels: see `Recipe`
CONVEX_THIEF = {f"/thief.{name}": value for name, value in IS_CONVEX.items()}
#: For an attack that makes all its thieves by `AttackContext.fit_thief`: a convex one takes no steps and has no seed.
ONLY_FITTED: Ignores = {
    **FITTED_TO_ANSWERS,
    **dict.fromkeys(["/thief.seed", *(f"/thief.recipe.{step}" for step in STEPS)], CONVEX_THIEF),
}
Measure = Callable[[nn.Module, Tensor], Tensor]
ROUND = {  # a thief's figures that are logged against queries
    "loss": "thief_loss",
    "best_held_out_agreement": "held_out_agreement",
    "best_held_out_macro_f1": "held_out_macro_f1",
}


class AttackContext:
    """What an attacker has besides the oracle: a thief to train, ways to inspect it, a seed.

    It gives no access to the job's `Context`, whose store holds the victim.
    """

    def __init__(
        self,
        thief: ClassifierLearner | EncoderLearner,
        job: Context,
        asked: Callable[[], int] | None = None,
        made: Callable[[nn.Module], None] = lambda model: None,
        labelled: Images | None = None,
    ) -> None:
        """Prepare what an attack is given.

        Args:
            thief: how the job's thief is made.
            job: the job's context.
            asked: returns the queries asked so far; without it nothing is logged against queries.
            made: called with each model that is handed out, see `fmsteal.job.stolen.Made`.
            labelled: labelled images, for an attack that declares some: see
                `own_data.find_labelled_images`.
        """
        self.thief = thief
        self.labelled = labelled
        self._asked, self._made = asked, made
        self.seed = job.seed
        self.found: list[Metric] = []
        self._job = lambda: job  # not an attribute: no attribute of this object leads to the victim

    @property
    def device(self) -> torch.device:
        """The device for an attack that trains or differentiates in its own code."""
        return self._job().training.device

    @property
    def processes(self) -> int:
        """How many processes train a model together."""
        return self._job().training.processes

    def fit_thief(
        self,
        pool: Images,
        ids: Ids,
        answers: Tensor,
        loss: Loss,
        stage: str = "thief",
        held_out: HeldOut | None = None,
        trunk: BackboneSpec | None = None,
    ) -> nn.Module:
        """Train a fresh classifier on pool images and their answers ``(n, C)``; it has C classes.

        ``stage`` names its curves and its checkpoints: give each of several thieves its own. With ``held_out`` the
        weights of the epoch that fits the held-out answers best are kept. A frozen trunk with a convex recipe has no
        epochs: there the held-out answers choose the penalty, and the head is then fitted to them too. With ``trunk``
        the thief is made like the job's, but on that public trunk.

        Raises:
            ConfigError: the thief is not a classifier.
        """
        job, classes = self._job(), answers.shape[1]
        scratch = job.scratch(stage)
        fitted = self._classifier(trunk).fit(
            pool, ids, answers, classes, loss, job, stage=stage, scratch=scratch, held_out=held_out
        )
        latest = job.tracker.latest
        found = {name: latest[f"{stage}/{curve}"] for curve, name in ROUND.items() if f"{stage}/{curve}" in latest}
        if found and self._asked is not None:
            self.log(found, self._asked())
        self._report_held_out(stage)
        self._made(fitted)
        return fitted

    def untrained(self, num_classes: int, trunk: BackboneSpec | None = None) -> Untrained:
        """A fresh classifier and its inputs, for an attack with its own module or training loop.

        It is on the CPU: `train` moves it to the training device, your own loop must move it to `device`. ``trunk`` is
        as for `fit_thief`.

        Raises:
            ConfigError: the thief is not a classifier.
        """
        start = self._classifier(trunk).untrained(num_classes, self._job())
        self._made(start.model)
        return start

    def encoder(self, width: int | None = None, frozen: bool = False) -> Encoder:
        """A fresh, untrained encoder with embeddings ``(n, width)``; by default as wide as its features.

        With ``frozen`` its trunk is a public one that the attack does not train; a linear map gives any ``width``.

        Raises:
            ConfigError: the thief is not an encoder, its features cannot be mapped to that width, or its trunk is
                frozen although the attack trains it, or the reverse.
        """
        if not isinstance(self.thief, EncoderLearner):
            raise _unfit(self.thief, "an encoder", "fmsteal.training.learners.EncoderLearner")
        if frozen != (self.thief.adaptation == "probe"):
            does, due = ("leaves the thief's trunk as it is", "probe") if frozen else ("trains the trunk", "full")
            raise ConfigError(
                f"The attack {does}, but thief.adaptation={self.thief.adaptation}. Choose thief.adaptation={due} or "
                f"another thief=... ({'encoder_efficientnet_lite0_probe' if frozen else 'encoder_resnet10'}, for "
                "example)."
            )
        encoder = self.thief.build(width)
        set_memory_format(encoder, self._job().training.layout)
        self._made(encoder)
        return encoder

    def train(
        self, module: StealModule, loader: TensorLoader, stage: str = "thief", callbacks: Sequence[Callback] = ()
    ) -> nn.Module:
        """Train an attack's own module on the batches of a loader; returns its network, ready for use.

        A killed training resumes from its last checkpoint. ``stage`` is as for `fit_thief`; ``callbacks`` are Lightning
        callbacks of this training, such as those of `Untrained.choosing`.
        """
        job = self._job()
        job.training.fit(
            module,
            loader,
            stage=stage,
            scratch=job.scratch(stage),
            tracker=job.tracker,
            progress=job.progress,
            callbacks=callbacks,
        )
        self._report_held_out(stage)
        return module.net.cpu().eval()

    def logits(self, model: nn.Module, pool: Images, ids: Ids) -> Tensor:
        """The outputs ``(n, C)`` of a thief for pool images, without autograd."""
        return logits(model, pool, ids, self._job())

    def features(self, model: Classifier, pool: Images, ids: Ids) -> Tensor:
        """The inputs ``(n, D)`` of a thief's last layer, without autograd; looked up if its trunk is frozen."""
        return penultimate(model, pool, ids, self._job())

    def public_features(self, pool: Images, ids: Ids, trunk: BackboneSpec | None = None) -> Tensor:
        """Features ``(n, D)`` of a public trunk as it was published: the thief's own, or ``trunk``.

        They cost no query. Each image passes through a trunk only once, ever.

        Raises:
            ConfigError: no trunk is given, and the thief starts from scratch.
            DataError: the trunk's weights are missing.
        """
        if trunk is None and not self.thief.pretrained:
            raise ConfigError(
                f"The attack looks at pool images through the thief's public trunk, but thief.adaptation="
                f"{self.thief.adaptation} has no public trunk. Choose a pretrained thief=..., or another attack or "
                "attack/selection=..."
            )
        spec = trunk or self.thief.backbone
        return features(spec, spec.build(pretrained=True), pool, ids, self._job())

    def per_image(self, model: nn.Module, pool: Images, ids: Ids, measure: Measure) -> Tensor:
        """A number for each pool image, float32 ``(n,)``: the results of ``measure(thief, images)``, batch by batch.

        ``measure`` gets the thief in eval mode and float images ``(b, 3, H, W)`` in [0, 1], both on the trainer's
        device, and may take gradients.
        """
        job = self._job()
        model = set_memory_format(model.to(self.device).eval(), job.training.layout)
        parts = []
        for start in range(0, len(ids), GRADIENT_BATCH):
            images = torch.from_numpy(np.array(pool.pixels[ids[start : start + GRADIENT_BATCH]]))
            parts.append(measure(model, images.to(self.device).float() / 255).detach().float().cpu())
            job.progress.update("measure", min(start + GRADIENT_BATCH, len(ids)), len(ids))
        return torch.cat(parts) if parts else torch.zeros(0)

    def kept(self, name: str, make: Callable[[], npt.NDArray[Any]]) -> npt.NDArray[Any]:
        """The array that ``make()`` returns, or returned before the run was killed; it is on disk when this returns.

        Use it for questions that depend on a trained thief, before asking them: another machine's thief differs in the
        last digits, and would pay again for other questions. Names are of letters, digits and dashes, one per array.
        """
        return self._job().kept(name, make)

    def log(self, metrics: Mapping[str, float], queries: int) -> None:
        """Add a point to the curves ``attack/<metric>``, against the queries asked so far (``attack/queries``)."""
        named = {f"attack/{name}": value for name, value in metrics.items()}
        self._job().tracker.log(named, ("attack/queries", float(queries)))

    def report(self, metrics: Iterable[Metric]) -> None:
        """Add figures of the attack's own to the job's result, as ``attack/<name>``."""
        self.found += [replace(metric, name=f"attack/{metric.name}") for metric in metrics]

    def _report_held_out(self, stage: str) -> None:
        """Report how well a thief fits the held-out answers, if any were held out; of several thieves the last counts.

        It is the figure by which the thief's epoch or penalty was chosen.
        """
        latest = self._job().tracker.latest
        for name in get_args(By):
            if (found := latest.get(f"{stage}/best_held_out_{name}")) is not None:
                self.report([Metric(f"held_out_{name}", found, f"{spell(name)} on held-out answers")])

    def _classifier(self, trunk: BackboneSpec | None = None) -> ClassifierLearner:
        if not isinstance(self.thief, ClassifierLearner):
            raise _unfit(self.thief, "a classifier", "fmsteal.training.learners.ClassifierLearner")
        return self.thief if trunk is None else replace(self.thief, backbone=trunk)


class Attack(Protocol):
    """An attack. Adding one takes one file, and one YAML with its ``_target_``."""

    def check(self, budget: Budget, pool: Images) -> None:
        """Refuse what cannot work, with a clear error and before anything is trained. Optional.

        An attack that needs a certain kind of thief has a further method, ``check_thief(learner)``.
        """
        ...

    def run(self, oracle: Oracle, pool: Images, ctx: AttackContext) -> nn.Module:
        """Ask within the oracle's budget and return the thief: raw images in, answers like the API's out.

        Must be deterministic given the answers: a killed run starts again and asks the same questions.
        """
        ...


def affordable(budget: Budget, pool: Images, asks: int = 1) -> int:
    """The number of pool images that the budget is enough for, at ``asks`` questions each.

    Raises:
        ConfigError: the budget is too small for one image, or for more than the query set holds.
    """
    count = budget.queries // asks
    if not count:
        raise ConfigError(
            f"The budget is {budget.queries} queries, but this attack asks {asks} times about each image. Choose a "
            "larger budget (budget=..., or budget.queries=N), or make the attack ask less (see its options)."
        )
    if count > len(pool):
        times = "once" if asks == 1 else f"{asks} times"
        raise ConfigError(
            f"The budget is {budget.queries} queries, but the query set holds {len(pool)} images and each is asked "
            f"about {times}. Choose a smaller budget (budget=...) or a larger query set (query=..., query.count=N)."
        )
    return count


def mean_answer(oracle: Oracle, ids: Ids, repeats: int) -> Tensor:
    """The mean of ``repeats`` answers to each image, ``(n, ...)``; takes ``n * repeats`` questions."""
    return torch.stack([oracle.ask(ids) for _ in range(repeats)]).mean(dim=0)


def require_no_budget(budget: Budget) -> None:
    """Refuse a budget for an attack that asks nothing: tables would show it beside attacks that asked.

    Raises:
        ConfigError: the budget is not 0.
    """
    if budget.queries:
        raise ConfigError(f"This attack asks nothing, but the budget is {budget.queries} queries. Set budget=0.")


def _unfit(thief: object, needed: str, target: str) -> ConfigError:
    """For attacks of others without the attribute ``answers``, which says what they are made for."""
    return ConfigError(
        f"The attack trains {needed}, but thief=... is a {type(thief).__name__}. Choose a thief whose _target_ is "
        f"{target}, with the task it goes with: an attack's attribute `answers` says which "
        "(see fmsteal.config.answers)."
    )
