"""Which thefts an audit makes: all checked, and within its limits, before anything is asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from omegaconf import DictConfig

from fmsteal.audit.composer import Composer, open_composer
from fmsteal.audit.request import LADDER, AuditRequest
from fmsteal.audit.shelf import ATTACKS, DEFENSES, NONE, Choice
from fmsteal.audit.target import Target, count_besides, require_countable
from fmsteal.base.errors import ConfigError, FmstealError
from fmsteal.sweep.grid import SweepJob

DEFAULTS = ("tracker=none",)  # an audited model is nobody else's business, unless its owner says so


@dataclass(frozen=True)
class Gap:
    """Something that an audit did not try, and why."""

    what: str
    why: str


@dataclass(frozen=True)
class PlannedTheft:
    """A job of an audit.

    Attributes:
        job: the job, as the sweep runs it.
        attack: the attacker's label.
        defense: the defense's label.
    """

    job: SweepJob
    attack: str
    defense: str

    @property
    def queries(self) -> int:
        """The budget of the theft; 0 for an attacker that asks nothing."""
        return self.job.queries


@dataclass(frozen=True)
class AuditPlan:
    """Which thefts an audit makes.

    Attributes:
        request: what was asked for.
        target: what is attacked.
        thefts: the jobs, in the order of the shelf.
        ladder: the budgets, ascending.
        besides: the most images that a paid victim is asked about besides, to measure and to prepare; 0 of any other.
        commands: the words of each sweep after ``fmsteal``; all are in one folder.
        gaps: what is not tried.
    """

    request: AuditRequest
    target: Target
    thefts: Sequence[PlannedTheft]
    ladder: Sequence[int]
    besides: int
    commands: Sequence[Sequence[str]]
    gaps: Sequence[Gap]

    @property
    def folder(self) -> Path:
        """The sweep's folder."""
        return self.thefts[0].job.folder.parent

    @property
    def queries(self) -> int:
        """The most that is asked in all, each theft counted in full."""
        return sum(theft.queries for theft in self.thefts) + self.besides

    @property
    def usd(self) -> float:
        """The price of that."""
        return self.queries * self.target.price / 1000


def make_plan(request: AuditRequest) -> AuditPlan:
    """Compose and check all thefts of an audit.

    Raises:
        ConfigError: the target, an attacker or a defense that was named cannot be used, or the limits are too low.
    """
    words = [*(word for word in DEFAULTS if not _sets(request.target, "tracker")), *request.target]
    with open_composer(words) as composer:
        return _Planner(request, composer, words).make()


class _Planner:
    def __init__(self, request: AuditRequest, composer: Composer, words: Sequence[str]) -> None:
        self.request, self.composer = request, composer
        self.words = [*words, f"sweep_id={request.sweep_id}"]
        self.cfg = composer.compose([*self.words])
        self.target = Target.of(self.cfg)
        self.attacks = request.attacks or ATTACKS[self.target.answers]
        self.defenses = request.defenses or (NONE, *DEFENSES[self.target.answers])
        self.gaps: list[Gap] = []

    def make(self) -> AuditPlan:
        self._require_limits()
        pairs = [pair for attack in self.attacks for pair in self._check_attack(attack)]
        if not any(pair.rungs != (0,) for pair in pairs):
            raise ConfigError("No attacker of this audit asks anything: name one that does, as --attacks knockoff.")
        self._require_useful(pairs)
        ladder, plan = self._fit_ladder(pairs)
        return replace(plan, gaps=self.gaps, commands=list(self._commands(pairs, ladder)))

    def _require_limits(self) -> None:
        if not self.target.paid:
            return
        require_countable(self.cfg)
        if self.request.queries is None and self.request.usd is None:
            raise ConfigError(
                f"victim={self.cfg.hydra.runtime.choices['victim']} is asked over a network, and may cost money: say "
                f"how much at most, --queries N or --usd USD (a price of {self.target.price:g} USD for 1,000 is known; "
                "another: victim.usd_per_1000=...)."
            )

    def _check_attack(self, attack: Choice) -> Iterator[_Pair]:
        """An attacker with each defense that it can be tried against, and the budgets that it can have."""
        named, rungs = self.request.attacks is not None, self.request.ladder or LADDER
        try:
            if _asks_nothing(self._compose(attack, NONE, 0)):
                if why := _find_obstacle(attack, self.cfg):
                    raise ConfigError(why)
                yield _Pair(attack, NONE, (0,), self._check(attack, NONE, [0]))
                return
            undefended = self._check_rungs(attack, NONE, rungs)
        except FmstealError as error:
            if named:
                raise
            return self.gaps.append(Gap(f"the attacker {attack.label}", _say(error)))
        yield undefended
        for defense in self.defenses[1:]:
            try:
                yield self._check_rungs(attack, defense, undefended.rungs)
            except FmstealError as error:
                self.gaps.append(Gap(f"{attack.label} against {defense.label}", _say(error)))

    def _check_rungs(self, attack: Choice, defense: Choice, rungs: Sequence[int]) -> _Pair:
        """The budgets that an attacker can have; those of the default ladder that it cannot are left out."""
        try:
            return _Pair(attack, defense, tuple(rungs), self._check(attack, defense, rungs))
        except FmstealError:
            if self.request.ladder is not None:
                raise
        fine, why = [], ""
        for rung in rungs:
            try:
                self._check(attack, defense, [rung])
                fine.append(rung)
            except FmstealError as error:
                why = _say(error)
                if rung == rungs[-1] and not fine:
                    raise
                self.gaps.append(Gap(f"{attack.label} with {rung:,} queries", why))
        return _Pair(attack, defense, tuple(fine), self._check(attack, defense, fine))

    def _check(self, attack: Choice, defense: Choice, rungs: Sequence[int]) -> Sequence[SweepJob]:
        return self.composer.check(self._spell(attack, defense, rungs))

    def _compose(self, attack: Choice, defense: Choice, queries: int) -> DictConfig:
        own = self._own(attack, defense)
        return self.composer.compose([*own, f"attack={attack.name}", f"defense={defense.name}", f"budget.queries={queries}"])

    def _own(self, attack: Choice, defense: Choice) -> list[str]:
        """The words that all jobs of an attacker against a defense have; its own come in place of the target's."""
        own = [*attack.words, *defense.words]
        return [*(word for word in self.words if not _sets(own, word.partition("=")[0])), *own]

    def _spell(
        self, attack: Choice, defense: Choice, rungs: Sequence[int], attacks: str = "", defenses: str = ""
    ) -> list[str]:
        """The words of a sweep over budgets and seeds, and over further attacks and defenses without own words."""
        return [
            *self._own(attack, defense),
            f"attack={attacks or attack.name}",
            f"defense={defenses or defense.name}",
            f"budget.queries={','.join(map(str, rungs))}",
            f"seed={','.join(map(str, range(self.request.seeds)))}",
        ]

    def _require_useful(self, pairs: Sequence[_Pair]) -> None:
        """Check that each defense that was named can be tried against some attacker."""
        for defense in self.defenses[1:]:
            if not any(pair.defense == defense for pair in pairs):
                why = next(gap.why for gap in self.gaps if gap.what.endswith(f"against {defense.label}"))
                raise ConfigError(f"No attacker of this audit can be tried against {defense.label}: {why}")

    def _fit_ladder(self, pairs: Sequence[_Pair]) -> tuple[tuple[int, ...], AuditPlan]:
        """The rungs that fit the limits, and the plan of them; of the default ladder as many as fit, from below."""
        asked = sorted({rung for pair in pairs for rung in pair.rungs if rung})
        for most in range(len(asked), 0, -1):
            ladder = tuple(asked[:most])
            plan = self._plan(pairs, ladder)
            if over := self._find_excess(plan):
                if self.request.ladder is not None:
                    raise ConfigError(f"{over} A shorter --ladder, fewer --attacks, --defenses or --seeds, or a higher limit.")
                continue
            self.gaps += [Gap(f"thefts of {rung:,} queries", "they did not fit the limits") for rung in asked[most:]]
            return ladder, plan
        raise ConfigError(
            f"{self._find_excess(self._plan(pairs, asked[:1]))} That is with the smallest budget of {asked[0]:,} alone: "
            "fewer --attacks or --defenses, a smaller --ladder, or a higher limit."
        )

    def _plan(self, pairs: Sequence[_Pair], ladder: Sequence[int]) -> AuditPlan:
        kept = {0, *ladder}
        thefts = [
            PlannedTheft(job, pair.attack.label, pair.defense.label)
            for pair in pairs
            for job in pair.jobs
            if job.queries in kept
        ]
        besides = 0
        if self.target.paid:
            attack = next(pair.attack for pair in pairs if pair.rungs != (0,))
            configs = [self._compose(attack, defense, ladder[0]) for defense in self.defenses]
            besides = count_besides(configs, len(thefts))
        return AuditPlan(self.request, self.target, thefts, ladder, besides, (), ())

    def _find_excess(self, plan: AuditPlan) -> str:
        """Which limit a plan passes, in words; "" if none."""
        more = f" ({plan.besides:,} of them to measure and to prepare)" if plan.besides else ""
        asked = f"These {len(plan.thefts)} thefts may ask {plan.queries:,} queries{more}"
        if self.request.queries is not None and plan.queries > self.request.queries:
            return f"{asked}, more than --queries {self.request.queries:,}."
        if self.request.usd is not None and plan.usd > self.request.usd:
            return f"{asked} for {plan.usd:,.2f} USD, more than --usd {self.request.usd:,.2f}."
        return ""

    def _commands(self, pairs: Sequence[_Pair], ladder: Sequence[int]) -> Iterator[list[str]]:
        """The sweeps that make up the audit: those attackers together that share defenses, budgets and own words."""
        groups: dict[tuple[object, ...], dict[Choice, list[_Pair]]] = {}
        for pair in pairs:
            rungs = tuple(rung for rung in pair.rungs if rung in {0, *ladder})
            if rungs:
                kind = (pair.attack.words, pair.defense.words, rungs)
                groups.setdefault(kind, {}).setdefault(pair.attack, []).append(replace(pair, rungs=rungs))
        for members in groups.values():
            together: dict[tuple[str, ...], list[_Pair]] = {}
            for mine in members.values():
                together.setdefault(tuple(pair.defense.name for pair in mine), []).append(mine[0])
            for defenses, some in together.items():
                first = some[0]
                words = self._spell(
                    first.attack, first.defense, first.rungs, ",".join(p.attack.name for p in some), ",".join(defenses)
                )
                yield ["-m", *words, "hydra.sweeper.mixed=true"]


@dataclass(frozen=True)
class _Pair:
    """An attacker against a defense, with the budgets that it can have, and the jobs of all of them."""

    attack: Choice
    defense: Choice
    rungs: tuple[int, ...]
    jobs: Sequence[SweepJob]


def _asks_nothing(cfg: DictConfig) -> bool:
    """Whether an attack refuses any budget but none."""
    import numpy as np

    from fmsteal.data.images import Images
    from fmsteal.job.parts import Parts
    from fmsteal.job.protocols import check_attack
    from fmsteal.oracle.oracle import Budget

    attack, pool = Parts.of(cfg).attack, Images(np.zeros((1, 3, 1, 1), np.uint8), "an image")
    try:
        check_attack(attack, Budget(0), pool)
    except FmstealError:
        return False
    try:
        check_attack(attack, Budget(1), pool)
    except FmstealError:
        return True
    return False


def _find_obstacle(attack: Choice, cfg: DictConfig) -> str:
    """Why an attacker that asks nothing cannot be tried; "" if nothing is known against it."""
    if attack.name == "own_data" and "train_count" in cfg.data and cfg.data.train_count is None:
        return "it needs labelled images that the victim was not trained on: data.train_count=N leaves some out."
    return ""


def _sets(words: Sequence[str], key: str) -> bool:
    """Whether one of the words gives a key a value, or chooses for its group."""
    return any(word.partition("=")[0].lstrip("+~") == key.lstrip("+~") for word in words)


def _say(error: FmstealError) -> str:
    """An error's message without the job that it is about."""
    return str(error).partition("\nThis is job")[0].strip()
