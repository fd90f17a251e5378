"""From how many answers on `fmsteal.attacks.solve` finds the victim's own head: arithmetic, nothing is measured."""

from __future__ import annotations

FEWEST, SHARE = 5, 100  # `solve_exactly` keeps back a hundredth of the answers, at least five, to check the head by


def count_unknowns(width: int) -> int:
    """The unknowns of each class of a linear head on ``width`` features: its weights and its bias."""
    return width + 1


def count_exact(width: int, classes: int, known: int | None = None) -> int:
    """The fewest soft answers from which `solve_exactly` can find a head on a public trunk.

    An answer of ``known`` entries gives ``known - 1`` equations for ``(width + 1) (classes - 1)`` unknowns (the
    softmax hides a term that all classes share). All but the answers kept back must determine them. Features that
    depend on each other need fewer. Saturated answers need more, and truncated ones that always name the same classes
    may never do: then this is a lower bound.

    Args:
        width: number of features, at least 1.
        classes: number of classes, at least 2.
        known: entries that an answer tells, 2 at least; None: all.
    """
    each = min(known or classes, classes) - 1
    needed = -(-count_unknowns(width) * (classes - 1) // each)  # rounded up
    asked = max(needed, width + 2)
    while asked - max(FEWEST, asked // SHARE) < needed or asked * each <= count_unknowns(width) * (classes - 1):
        asked += 1
    return asked
