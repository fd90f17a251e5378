"""The objects that a job consists of, made and checked before anything is trained."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from omegaconf import DictConfig

from fmsteal.attacks.base import Attack
from fmsteal.base.errors import ConfigError
from fmsteal.config import answers, build
from fmsteal.config.price import find_price
from fmsteal.defenses.base import Defense
from fmsteal.evaluation.base import Evaluation, list_measurements
from fmsteal.job import protocols
from fmsteal.oracle.oracle import Budget
from fmsteal.tracking.base import Tracking
from fmsteal.training.learners import ClassifierLearner, EncoderLearner
from fmsteal.training.trainer import Training
from fmsteal.victims.base import VictimMaker

GROUPS = {"training": "trainer", "tracking": "tracker"}  # config groups whose name differs from their part's


@dataclass(frozen=True)
class Parts:
    """The objects that a job consists of; all are made before anything is trained."""

    victim: VictimMaker
    thief: ClassifierLearner | EncoderLearner
    attack: Attack
    budget: Budget
    defense: Defense
    evaluation: Evaluation
    training: Training
    tracking: Tracking
    evaluations: list[Evaluation]

    @classmethod
    def of(cls, cfg: DictConfig) -> Parts:
        """Check the whole config against the classes it names, then make the parts.

        Raises:
            ConfigError: a class does not take an option or refuses its value, a backbone cannot be made, or the attack
                or a measurement is not made for this thief or victim.
            DataError: pretrained weights are missing.
        """
        if cfg.seed < 0:
            raise ConfigError(f"seed must not be negative, but is {cfg.seed}.")
        answers.check(cfg)  # before the options: a loss for the other API may bring a recipe with it
        build.check(cfg)
        names = [field.name for field in fields(cls) if field.name != "evaluations"]
        made = {name: build.make(cfg[GROUPS.get(name, name)]) for name in names}
        if isinstance(made["budget"], Budget):
            made["budget"] = replace(made["budget"], usd_per_1000=find_price(cfg))
        parts = cls(**made, evaluations=[build.make(node) for node in cfg.evaluations])
        parts.require_fit()
        parts.require_floats()
        for learner in (parts.victim, parts.thief):
            if (require := getattr(learner, "require_makeable", None)) is not None:
                require()
        if (check_thief := getattr(parts.attack, "check_thief", None)) is not None:
            check_thief(parts.thief)
        if (check_budget := getattr(parts.victim, "check_budget", None)) is not None:
            check_budget(parts.budget.queries)
        for evaluation in (parts.evaluation, *parts.evaluations):
            for measurement in list_measurements(evaluation).values():
                if (check_victim := getattr(measurement, "check_victim", None)) is not None:
                    check_victim(parts.victim)
        return parts

    def require_floats(self) -> None:
        """Refuse an attack that asks about images which differ by less than an image file can hold.

        Raises:
            ConfigError: the victim gets images as files of 8 bits, and the attack needs more.
        """
        if getattr(self.victim, "eight_bit", False) and getattr(self.attack, "needs_floats", False):
            raise ConfigError(
                f"attack ({protocols.name_of(self.attack)}) asks about images that differ by less than 1/255, and "
                f"victim ({protocols.name_of(self.victim)}) is sent image files of 8 bits, in which they are the same: "
                "choose another attack, or a victim in this process (victim=custom)."
            )

    def require_fit(self) -> None:
        """Check that each part has the methods and types that the job needs.

        Raises:
            ConfigError: a part lacks one.
        """
        if not isinstance(self.thief, ClassifierLearner | EncoderLearner):
            raise ConfigError(
                f"thief ({protocols.name_of(self.thief)}) is no ClassifierLearner or EncoderLearner "
                "(fmsteal.training.learners)."
            )
        protocols.require_methods("victim", self.victim, "victim")
        protocols.require_attack(self.attack)
        protocols.require_methods("defense", self.defense, "defense")
        protocols.require_methods("tracker", self.tracking, "tracker")
        protocols.require_callbacks(self.training.callbacks)
        for evaluation in (self.evaluation, *self.evaluations):
            protocols.require_measurements(evaluation)
