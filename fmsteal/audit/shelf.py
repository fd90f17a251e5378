"""The attackers and the defenses that an audit tries, each with options of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fmsteal.base.errors import ConfigError

PUBLIC_TRUNK = "thief=encoder_efficientnet_lite0_probe"  # frozen, with a linear map
UNDEFENDED = "none"


@dataclass(frozen=True)
class Choice:
    """An attack or a defense.

    Attributes:
        name: its file in ``conf/attack`` or ``conf/defense``.
        words: the overrides that its jobs get besides.
    """

    name: str
    words: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """What tables call it: its name, and its own options."""
        return f"{self.name} ({', '.join(self.words)})" if self.words else self.name


NONE = Choice(UNDEFENDED)
ATTACKS: Mapping[str, Sequence[Choice]] = {  # by what the API answers with; those that ask nothing come first
    "probabilities": (Choice("own_data"), Choice("knockoff"), Choice("top1"), Choice("solve")),
    "embeddings": (
        Choice("public_encoder", (PUBLIC_TRUNK,)),
        Choice("linear_map", (PUBLIC_TRUNK,)),
        Choice("direct"),
        Choice("stolen_encoder_k0"),
    ),
}
DEFENSES: Mapping[str, Sequence[Choice]] = {
    "probabilities": (Choice("hard_label"), Choice("prada")),
    "embeddings": (Choice("feature_rounding"), Choice("b4b")),
}


def parse_choices(given: Iterable[str], option: str) -> tuple[Choice, ...]:
    """The choices that an option names: ``a,b``, or one with overrides of its own: ``"a k=v"``.

    Raises:
        ConfigError: one is no name, its overrides are none, or it is given twice.
    """
    found: list[Choice] = []
    for text in map(str.strip, given):
        parts = [text.split()] if " " in text else [[name] for name in text.split(",")]
        for name, *words in parts:
            if not name or "=" in name:
                raise ConfigError(
                    f"{option} takes names, as {option} a,b, or {option} 'a key=value': {text!r} is none."
                )
            if wrong := [word for word in words if "=" not in word]:
                raise ConfigError(
                    f"{option} {text!r}: {wrong[0]} is no override. Several names: {option} {','.join([name, *wrong])}."
                )
            found.append(Choice(name, tuple(words)))
    if twice := [one for one in found if found.count(one) > 1]:
        raise ConfigError(f"{option} names {twice[0].label} twice.")
    return tuple(found)
