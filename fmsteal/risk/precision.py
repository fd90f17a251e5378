"""How precise a victim's answers are, by the defense in front of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

PRECISE = 6  # decimals from which on rounding is not told from float32's own

Kind = Literal["soft", "decimals", "top", "label", "perturbed"]
_FROM = "fmsteal.defenses."
_AS_THEY_ARE = {"base.NoDefense", "prada.Prada", "mmd.MMD", "proof_of_work.ProofOfWork", "client_limits.ClientLimits"}
_COARSER: tuple[Kind, ...] = ("soft", "decimals", "top", "label", "perturbed")


@dataclass(frozen=True)
class Precision:
    """What an answer tells of the probabilities.

    Attributes:
        kind: all of them, few ``decimals``, the ``top`` ones, the ``label``, or something else (``perturbed``).
        number: how many decimals or entries; 0 otherwise.
        by: names the defense, if it is none of the others.
    """

    kind: Kind = "soft"
    number: int = 0
    by: str = ""

    @classmethod
    def of(cls, defense: Mapping[str, Any], classes: int | None = None) -> Precision:
        """The precision behind a defense, given its config; of a chain the coarsest of its links."""
        target = str(defense.get("_target_", "")).removeprefix(_FROM)
        if target == "chain.Chain":
            found = [cls.of(link, classes) for link in (defense.get("of") or {}).values()]
            return max(found, key=lambda one: (_COARSER.index(one.kind), -one.number), default=cls())
        if target in _AS_THEY_ARE:
            return cls()
        if target == "truncation.HardLabel":
            return cls("label")
        if target == "truncation.Rounding":
            decimals = int(defense["decimals"])
            return cls() if decimals >= PRECISE else cls("decimals", decimals)
        if target == "truncation.TopK":
            k = int(defense["k"])
            if classes is not None and k >= classes:
                return cls()
            return cls("label") if k == 1 else cls("top", k)
        return cls("perturbed", by=target.rpartition(".")[2])

    def __str__(self) -> str:
        """In words."""
        return {
            "soft": "all probabilities",
            "decimals": f"probabilities to {self.number} decimal{'s'[: self.number != 1]}",
            "top": f"the {self.number} largest probabilities",
            "label": "the label alone",
            "perturbed": f"changed by {self.by}",
        }[self.kind]
