"""The kind of answers an API gives, and a check that every part of a job is made for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from fmsteal.base.errors import ConfigError
from fmsteal.config import build, derived
from fmsteal.config.searchpath import find_folders

Answers = Literal["probabilities", "embeddings"]
Made = TypeVar("Made", bound=Callable[..., Any])


def mark_answers(answers: Answers) -> Callable[[Made], Made]:
    """Mark a function as made for one kind of answers; a class has an attribute ``answers`` for that."""

    def mark(function: Made) -> Made:
        function.answers = answers  # type: ignore[attr-defined]
        return function

    return mark


def check(cfg: DictConfig) -> None:
    """Check that victim, thief, attack, defense and evaluation are all made for what the API answers.

    Raises:
        ConfigError: one is not; the message lists the choices of its group that are, and the task it is made for.
    """
    answers = cfg.task.answers
    if answers not in get_args(Answers):
        raise ConfigError(f"task.answers is one of {', '.join(get_args(Answers))}, not {answers}.")
    for path, node in build.find_targets(cfg):
        made_for = _made_for(node._target_, path)
        if made_for not in (None, answers):
            places = _folders(cfg)
            group = _group(path, places)
            fit = ", ".join(sorted(set(choices(group, answers, places)))) or "none"
            raise ConfigError(
                f"{path} ({node._target_}) is made for {made_for}, but the API of task={_task(answers)} answers with "
                f"{answers}. Of {group}/ these fit: {fit}. Or choose the other API: task={_task(made_for)}."
            )


def choices(group: str, answers: str, places: Sequence[Path] = ()) -> Iterator[str]:
    """The choices of a config group that fit these answers; ``places`` are config folders, by default ours."""
    places = places or find_folders()
    files = {file.stem for place in places for file in (place / group).glob("*.yaml")}
    for name in (*sorted(files), *derived.names(group, places)):
        target = _target(f"{group}/{name}", places)
        with suppress(ConfigError):  # not a choice if its target cannot be imported
            if target is None or target.startswith("${") or _made_for(target, group) in (None, answers):
                yield name


def _made_for(target: str, path: str) -> Any:
    return getattr(build.locate(target, path), "answers", None)


def _folders(cfg: DictConfig) -> list[Path]:
    """The folders that a job is composed from, including those of other packages if Hydra still knows them."""
    sources = OmegaConf.select(cfg, "hydra.runtime.config_sources")
    if sources is None and HydraConfig.initialized():
        sources = HydraConfig.get().runtime.config_sources
    return find_folders([f"{source.schema}://{source.path}" for source in sources or ()])


def _target(choice: str, places: Sequence[Path]) -> str | None:
    """The ``_target_`` of a choice (``attack/knockoff``): its own, or that of a choice in its defaults."""
    group, _, name = choice.rpartition("/")
    file = next((file for place in places if (file := place / f"{choice}.yaml").is_file()), None)
    if file is None and name not in derived.names(group, places):
        return None
    node = OmegaConf.to_container(OmegaConf.load(file)) if file else derived.derive(group, name, places)
    if not isinstance(node, dict):
        return None
    for inner in (node, *(v for v in node.values() if isinstance(v, dict))):
        if "_target_" in inner:
            return str(inner["_target_"])
    for base in _bases(node, group):
        if base != choice and (found := _target(base, places)):
            return found
    return None


def _bases(node: dict[Any, Any], group: str) -> Iterator[str]:
    """The choices in the defaults of a config, such as ``attack/base``."""
    for base in node.get("defaults", []):
        if isinstance(base, str):
            word = base.partition("@")[0]
            yield word.removeprefix("/") if word.startswith("/") else f"{group}/{word}"


def _group(path: str, places: Sequence[Path]) -> str:
    """The config group that chooses the node at a path: ``attack.loss`` is chosen from ``attack/loss``."""
    group = path.replace(".", "/")
    while not any((place / group).is_dir() for place in places):
        group = group.rpartition("/")[0]
    return group


def _task(answers: str) -> str:
    return "embed" if answers == "embeddings" else "classify"
