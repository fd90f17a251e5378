"""Which thefts an audit makes: all checked, and within its limits, before anything is asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from omegaconf import DictConfig

from fmsteal.audit.composer import Composer, open_composer
from fmsteal.audit.pairs import AttackPair, group_pairs, sets, spell_own
from fmsteal.audit.probe import probe_attack
from fmsteal.audit.request import LADDER, AuditRequest
from fmsteal.audit.shelf import ATTACKS, DEFENSES, NONE, ShelfChoice
from fmsteal.audit.target import Target, count_besides, require_countable
from fmsteal.base.errors import ConfigError, FmstealError
from fmsteal.config import answers
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
    tracker = () if sets(request.target, "tracker") else DEFAULTS
    words = [*tracker, *request.target, f"sweep_id={request.sweep_id}"]
    with open_composer(words) as composer:
        return _Planner(request, composer, words).make()


class _Planner:
    def __init__(self, request: AuditRequest, composer: Composer, words: Sequence[str]) -> None:
        self.request, self.composer = request, composer
        self.words = words
        self.cfg = composer.compose(words)
        self.target = Target.of(self.cfg)
        self.attacks = request.attacks or ATTACKS[self.target.answers]
        self.plain = next(one for one in ATTACKS[self.target.answers] if not one.words and one.name != "own_data")
        self.defenses = request.defenses or (NONE, *DEFENSES[self.target.answers])
        self.gaps: list[Gap] = []

    def make(self) -> AuditPlan:
        self._require_limits()
        self._require_fitting()
        pairs = [pair for attack in self.attacks for pair in self._pair_up(attack)]
        try:
            pairs = self._check_together(pairs)
        except FmstealError:  # find out which
            self.gaps.clear()
            pairs = [pair for attack in self.attacks for pair in self._check_apart(attack)]
        if not any(pair.asks for pair in pairs):
            why = "".join(f" {gap.what}: {gap.why}" for gap in self.gaps[-1:])
            raise ConfigError(
                f"No attacker of this audit asks anything: name one that does, as --attacks knockoff.{why}"
            )
        self._require_useful(pairs)
        plan = self._fit_ladder(pairs)
        kept = [pair.cut(plan.ladder) for pair in pairs]
        return replace(
            plan, gaps=self.gaps, commands=[group.spell(self.words, self.request.seeds) for group in group_pairs(kept)]
        )

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

    def _require_fitting(self) -> None:
        """Check that the defenses that were named exist, and are made for the API's answers."""
        for defense in self.defenses[1:]:
            answers.check(self._compose(self.plain, defense))

    def _pair_up(self, attack: ShelfChoice) -> list[AttackPair]:
        """An attacker with each defense, and the budgets that it can have, unchecked; none if it cannot be tried."""
        named, rungs = self.request.ladder is not None, self.request.ladder or LADDER
        try:
            found = probe_attack(self._compose(attack), rungs)
            if found.refused and (named or not found.rungs):
                raise ConfigError(next(iter(found.refused.values())))
        except FmstealError as error:
            return self._leave_out(attack, error)
        self.gaps += [Gap(f"{attack.label} with {rung:,} queries", why) for rung, why in found.refused.items()]
        defenses = [NONE] if found.rungs == (0,) else self.defenses
        return [AttackPair(attack, defense, found.rungs) for defense in defenses]

    def _leave_out(self, attack: ShelfChoice, error: FmstealError) -> list[AttackPair]:
        """Leave out an attacker of the default shelf; one that was named is refused."""
        if self.request.attacks is not None:
            raise error
        self.gaps.append(Gap(f"the attacker {attack.label}", _say(error)))
        return []

    def _check_together(self, pairs: Sequence[AttackPair]) -> list[AttackPair]:
        """The pairs with their jobs, each part of a job checked once."""
        found: list[AttackPair] = []
        for group in group_pairs(pairs):
            jobs = self.composer.check(group.spell(self.words, self.request.seeds)[1:-1])
            for pair in group.pairs:
                chosen = pair.attack.name, pair.defense.name
                mine = [job for job in jobs if (job.axis["attack"], job.axis["defense"]) == chosen]
                found.append(replace(pair, jobs=mine))
        return sorted(found, key=lambda pair: (self.attacks.index(pair.attack), self.defenses.index(pair.defense)))

    def _check_apart(self, attack: ShelfChoice) -> Iterator[AttackPair]:
        """An attacker with each defense that it can be tried against."""
        for pair in self._pair_up(attack):
            try:
                yield self._check_together([pair])[0]
            except FmstealError as error:
                if pair.defense == NONE:
                    self._leave_out(attack, error)
                    return
                self.gaps.append(Gap(f"{attack.label} against {pair.defense.label}", _say(error)))

    def _compose(self, attack: ShelfChoice, defense: ShelfChoice = NONE, queries: int = 1) -> DictConfig:
        own = spell_own(self.words, attack, defense)
        words = [f"attack={attack.name}", f"defense={defense.name}", f"budget.queries={queries}"]
        return self.composer.compose([*own, *words])

    def _require_useful(self, pairs: Sequence[AttackPair]) -> None:
        """Check that each defense that was named can be tried against some attacker."""
        for defense in self.defenses[1:]:
            if not any(pair.defense == defense for pair in pairs):
                why = next(gap.why for gap in self.gaps if gap.what.endswith(f"against {defense.label}"))
                raise ConfigError(f"No attacker of this audit can be tried against {defense.label}: {why}")

    def _fit_ladder(self, pairs: Sequence[AttackPair]) -> AuditPlan:
        """The plan of the rungs that fit the limits; of the default ladder as many as fit, from below."""
        asked = sorted({rung for pair in pairs for rung in pair.rungs if rung})
        for most in range(len(asked), 0, -1):
            plan = self._plan(pairs, asked[:most])
            if not (over := self._find_excess(plan)):
                self.gaps += [
                    Gap(f"thefts of {rung:,} queries", "they did not fit the limits") for rung in asked[most:]
                ]
                return plan
            if self.request.ladder is not None:
                break
        smallest = "" if self.request.ladder else f" That is with the smallest budget, {asked[0]:,}, alone."
        raise ConfigError(
            f"{over}{smallest} Choose a shorter --ladder, fewer --attacks, --defenses or --seeds, or a higher limit. "
            "Nothing was asked."
        )

    def _plan(self, pairs: Sequence[AttackPair], ladder: Sequence[int]) -> AuditPlan:
        thefts = [
            PlannedTheft(job, pair.attack.label, pair.defense.label) for pair in pairs for job in pair.cut(ladder).jobs
        ]
        besides = 0
        if self.target.paid:
            attack = next(pair.attack for pair in pairs if pair.asks)
            configs = [self._compose(attack, defense) for defense in self.defenses]
            besides = count_besides(configs, len(thefts))
        return AuditPlan(self.request, self.target, thefts, tuple(ladder), besides, (), ())

    def _find_excess(self, plan: AuditPlan) -> str:
        """Which limit a plan passes, in words; "" if none."""
        more = f" ({plan.besides:,} of them to measure and to prepare)" if plan.besides else ""
        asked = f"These {len(plan.thefts)} thefts may ask {plan.queries:,} queries{more}"
        if self.request.queries is not None and plan.queries > self.request.queries:
            return f"{asked}, more than --queries {self.request.queries:,}."
        if self.request.usd is not None and plan.usd > self.request.usd:
            return f"{asked} for {plan.usd:,.2f} USD, more than --usd {self.request.usd:,.2f}."
        return ""


def _say(error: FmstealError) -> str:
    """An error's message without the job that it is about."""
    return str(error).partition("\nThis is job")[0].strip()
