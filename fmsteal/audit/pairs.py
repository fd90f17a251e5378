"""Attackers against defenses, and the sweeps that try them together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fmsteal.audit.shelf import ShelfChoice
from fmsteal.sweep.grid import SweepJob


@dataclass(frozen=True)
class AttackPair:
    """An attacker against a defense, the budgets that it has, and the jobs of all of them."""

    attack: ShelfChoice
    defense: ShelfChoice
    rungs: tuple[int, ...]
    jobs: Sequence[SweepJob] = ()

    @property
    def asks(self) -> bool:
        """Whether the attacker asks anything."""
        return self.rungs != (0,)

    def cut(self, ladder: Sequence[int]) -> AttackPair:
        """The pair with those of its budgets alone that are in a ladder, or 0."""
        kept = {0, *ladder}
        rungs = tuple(rung for rung in self.rungs if rung in kept)
        return replace(self, rungs=rungs, jobs=[job for job in self.jobs if job.queries in kept])


@dataclass(frozen=True)
class Group:
    """Attackers that share defenses, budgets and own words: one sweep."""

    pairs: Sequence[AttackPair]

    def spell(self, words: Sequence[str], seeds: int) -> list[str]:
        """The sweep's words after ``fmsteal``, given those that all jobs of the target have."""
        first = self.pairs[0]
        axes = {
            "attack": [pair.attack.name for pair in self.pairs],
            "defense": [pair.defense.name for pair in self.pairs],
            "budget.queries": first.rungs,
            "seed": range(seeds),
        }
        swept = [f"{axis}={','.join(dict.fromkeys(map(str, values)))}" for axis, values in axes.items()]
        return ["-m", *spell_own(words, first.attack, first.defense), *swept, "hydra.sweeper.mixed=true"]


def group_pairs(pairs: Sequence[AttackPair]) -> list[Group]:
    """Pairs as sweeps, of which each has every combination of its attackers and defenses."""
    lists: dict[tuple[ShelfChoice, tuple[str, ...], tuple[int, ...]], list[AttackPair]] = {}
    for pair in pairs:
        if pair.rungs:
            lists.setdefault((pair.attack, pair.defense.words, pair.rungs), []).append(pair)
    found: dict[object, list[AttackPair]] = {}
    for (attack, words, rungs), mine in lists.items():
        kind = attack.words, words, rungs, tuple(pair.defense for pair in mine)
        found.setdefault(kind, []).extend(mine)
    return [Group(members) for members in found.values()]


def spell_own(words: Sequence[str], attack: ShelfChoice, defense: ShelfChoice) -> list[str]:
    """The words that all jobs of an attacker against a defense have; their own come in place of the target's."""
    own = [*attack.words, *defense.words]
    return [*(word for word in words if not sets(own, word.partition("=")[0])), *own]


def sets(words: Sequence[str], key: str) -> bool:
    """Whether one of the words gives a key a value, or chooses for its group."""
    return any(word.partition("=")[0].lstrip("+~") == key.lstrip("+~") for word in words)
