"""The attackers and the defenses that an audit tries, each with options of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fmsteal.base.errors import ConfigError

PUBLIC_TRUNK = "thief=encoder_efficientnet_lite0_probe"  # frozen, with a linear map
UNDEFENDED = "none"


@dataclass(frozen=True)
class ShelfChoice:
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


NONE = ShelfChoice(UNDEFENDED)
ATTACKS: Mapping[str, Sequence[ShelfChoice]] = {  # by what the API answers with; those that ask nothing come first
    "probabilities": (ShelfChoice("own_data"), ShelfChoice("knockoff"), ShelfChoice("top1"), ShelfChoice("solve")),
    "embeddings": (
        ShelfChoice("public_encoder", (PUBLIC_TRUNK,)),
        ShelfChoice("linear_map", (PUBLIC_TRUNK,)),
        ShelfChoice("direct"),
        ShelfChoice("stolen_encoder_k0"),
    ),
}
DEFENSES: Mapping[str, Sequence[ShelfChoice]] = {
    "probabilities": (ShelfChoice("hard_label"), ShelfChoice("prada")),
    "embeddings": (ShelfChoice("feature_rounding"), ShelfChoice("b4b")),
}


def parse_choices(given: Iterable[str], option: str) -> tuple[ShelfChoice, ...]:
    """The choices that an option names: ``a,b``, or one with overrides of its own: ``"a k=v"``.

    Raises:
        ConfigError: one is no name, its overrides are none, or it is given twice.
    """
    found: list[ShelfChoice] = []
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
            found.append(ShelfChoice(name, tuple(words)))
    if twice := [one for one in found if found.count(one) > 1]:
        raise ConfigError(f"{option} names {twice[0].label} twice.")
    return tuple(found)
