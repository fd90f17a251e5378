"""What an audit attacks: what its config says, and how many images are asked about besides those of the thefts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from fmsteal.base.errors import ConfigError
from fmsteal.config import build
from fmsteal.config.answers import Answers
from fmsteal.config.price import find_price
from fmsteal.records.honest import find_honest
from fmsteal.sweep.sizes import find_task_size

AXES = ("victim", "data", "query", "thief", "task")
SILENT = {"b4b", "client_limits", "modelguard_s", "prada"}  # defenses whose guards are made without asking the victim


@dataclass(frozen=True)
class Target:
    """What an audit attacks.

    Attributes:
        names: the choices of the axes that say what it is and what it is attacked with.
        answers: what it answers with.
        paid: whether each answer is asked of a service, and may cost money.
        price: US dollars for a thousand answers.
        again: whether the same image is asked about anew for each theft, since its answers differ.
        output: where everything is written.
    """

    names: Mapping[str, str]
    answers: Answers
    paid: bool
    price: float
    again: bool
    output: Path

    @classmethod
    def of(cls, cfg: DictConfig) -> Target:
        """The target of a job's config, with the ``hydra`` node."""
        maker = build.locate(str(cfg.victim._target_), "victim")
        return cls(
            name_choices(cfg), cfg.task.answers, bool(getattr(maker, "paid", False)), find_price(cfg),
            not cfg.victim.get("deterministic", True), Path(cfg.output),
        )  # fmt: skip


def name_choices(cfg: DictConfig) -> dict[str, str]:
    """The choices of `AXES` in a job's config, with the ``hydra`` node; the victim with its own name, if it has one."""
    chosen = cfg.hydra.runtime.choices
    names = {axis: str(chosen[axis]) for axis in AXES if axis in chosen}
    own = next((cfg.victim[key] for key in ("name", "model") if isinstance(cfg.victim.get(key), str)), None)
    return names if own is None else {**names, "victim": f"{own} ({names['victim']})"}


def count_besides(configs: Sequence[DictConfig], jobs: int) -> int:
    """The most images that measuring and preparing ask a paid victim about, on top of the thefts' budgets.

    Each process asks about `LOOK` images to know the service again, so that a command that is given again adds as many.

    Args:
        configs: the config of a job of each defense, and of one without.
        jobs: how many thefts there are.

    Raises:
        ConfigError: that cannot be known without opening a data set.
    """
    from fmsteal.victims.content import LOOK

    known = find_task_size(_plain(configs[0].data))
    if known is None:
        raise ConfigError(
            "How many images this data set holds cannot be told without opening it, so that no limit could be kept: "
            "choose one of known size (data=image_folder, or a named one)."
        )
    judged = known.test + sum(_count_downstream(node) for node in _downstream(configs))
    prepared = known.train if any(asks_to_prepare(cfg) for cfg in configs) else 0
    alone = configs[0].hydra.runtime.choices.get("hydra/launcher", "basic") == "basic"
    looks = LOOK if alone else LOOK * (jobs + 1)  # each process asks who the service is
    if Target.of(configs[0]).again:  # each theft asks again, and each honest client
        return jobs * (2 * judged + prepared) + looks
    return judged + prepared + looks


def asks_to_prepare(cfg: DictConfig) -> bool:
    """Whether a job's defense may ask its victim about training images before it serves anybody."""
    from fmsteal.defenses.base import RowDefense

    if str(cfg.hydra.runtime.choices["defense"]) in SILENT:
        return False
    found = build.locate(str(cfg.defense._target_), "defense")
    return getattr(found, "prepare", None) is not RowDefense.prepare


def require_countable(cfg: DictConfig) -> None:
    """Check that no measurement asks about images that `count_besides` does not know of.

    Raises:
        ConfigError: another evaluation was chosen.
    """
    chosen = str(cfg.hydra.runtime.choices["evaluation"])
    usual = "classify" if cfg.task.answers == "probabilities" else "encoder"
    if chosen != usual:
        raise ConfigError(
            f"evaluation={chosen} may ask a service about more images than an audit can count: leave it out. More can "
            f"be measured afterwards: fmsteal evaluate DIR evaluation={chosen}."
        )


def _downstream(configs: Sequence[DictConfig]) -> list[Mapping[str, Any]]:
    """The downstream tasks that encoders and honest clients are judged by, each once."""
    found: dict[str, Mapping[str, Any]] = {}
    for cfg in configs:
        honest = find_honest(cfg)
        for node in (cfg.evaluation, *(() if honest is None else (honest,))):
            tasks = node.get("downstream") or {}
            found |= {str(name): _plain(tasks[name]) for name in tasks if not str(name).startswith("_")}
    return list(found.values())


def _count_downstream(node: Mapping[str, Any]) -> int:
    size = find_task_size(node)
    if size is None:
        raise ConfigError(
            "How many images a downstream data set holds cannot be told without opening it, so that no limit could be "
            "kept: leave it out."
        )
    return size.train + size.test


def _plain(node: Any) -> Mapping[str, Any]:
    found = OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig) else node
    return {str(key): value for key, value in found.items()} if isinstance(found, dict) else {}
