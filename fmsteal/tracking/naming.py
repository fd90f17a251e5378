"""Names of runs: ``vit_l16 <- resnet18 · 1k · knockoff · s0``, the victim, the thief, what varies, the seed.

In a sweep, what varies is what its jobs do not have in common, according to ``sweep.json`` (which a job on Slurm reads
too); in a single job, it is what differs from the default. A victim's run is called ``vit_l16 · s0``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from omegaconf import OmegaConf

from fmsteal.base import paths
from fmsteal.identity.keys import AXES, OF_VICTIM

ORDER = (
    "task", "data", "query", "budget", "attack", "attack_selection", "attack_strategy", "attack_loss", "defense",
    "evaluation",
)  # fmt: skip
LONGEST = 128  # characters that W&B allows in a name


def find_varying(jobs: Iterable[Mapping[str, Any]]) -> set[str]:
    """The names of the axes and settings in which a sweep's jobs, as listed in ``sweep.json``, differ."""
    jobs = list(jobs)
    found = _differing([list_values(job.get("overrides", ())) for job in jobs])
    return found | _differing([job["axis"] for job in jobs if "axis" in job])


def find_chosen(axis: Mapping[str, Any], words: Sequence[str]) -> set[str]:
    """Names of a single job's axes and settings that are not the default."""
    named = list_values(words).keys() | {n for n, choice in _defaults().items() if axis.get(n, choice) != choice}
    return named - {n for n, choice in _defaults().items() if axis.get(n) == choice}


def _name_model(axis: Mapping[str, Any], who: str, varying: Collection[str]) -> str:
    """A victim or thief, with its adaptation where that varies."""
    adaptation = f"{who}_adaptation"
    return f"{axis[who]}:{axis[adaptation]}" if adaptation in varying else str(axis[who])


def run_name(axis: Mapping[str, Any], words: Sequence[str], varying: Collection[str], kind: str) -> str:
    """The name of a run.

    Args:
        axis: the job's columns.
        words: the job's overrides.
        varying: names of what distinguishes the job from others, see `find_varying` and `find_chosen`.
        kind: ``thief`` or ``victim``.
    """
    own, varying = list_values(words), set(varying)
    shown = dict(axis)
    if "budget.queries" in own:  # a number in place of the file's name
        shown["budget"] = f"{axis['queries']} queries"
        varying |= {"budget"} if "budget.queries" in varying else set()
    victim, thief = (_name_model(axis, who, varying) for who in ("victim", "thief"))
    named = [name for name in ORDER if name in varying and (kind == "thief" or name in OF_VICTIM)]
    settings = [name for name in sorted(varying & own.keys()) if _is_setting(name, kind)]
    parts = [
        victim if kind == "victim" else f"{victim} <- {thief}",
        *(str(shown[name]) for name in named),
        *(f"{short}={own[name]}" for short, name in zip(_shortened(settings), settings, strict=True)),
        *([] if axis["seed"] is None else [f"s{axis['seed']}"]),
    ]
    return " · ".join(parts)[:LONGEST]


def _shortened(settings: Sequence[str]) -> list[str]:
    """The last word of each dotted key, prefixed with its part of the job where the word is ambiguous."""
    words = [name.rpartition(".")[2] for name in settings]
    return [
        word if word != "seed" and words.count(word) == 1 else f"{name.partition('.')[0]}.{word}"
        for name, word in zip(settings, words, strict=True)
    ]


def list_values(words: Sequence[str]) -> dict[str, str]:
    """Overrides by name: axes by their columns' names, other settings by dotted key."""
    pairs = (word.lstrip("+").partition("=") for word in words if not word.startswith("~"))
    values = {key.partition("@")[0].replace("/", "_"): value.strip("'\"") for key, _, value in pairs}
    return {key.replace(".adaptation", "_adaptation"): value for key, value in values.items()}


def _is_setting(name: str, kind: str) -> bool:
    """Whether an override sets an option of one of the job's parts, as ``defense.k`` does; paths do not count."""
    parts = ("data", "victim") if kind == "victim" else (*AXES, "recipes")
    return (
        "." in name and name.partition(".")[0] in parts and not name.endswith((".root", ".weights", "budget.queries"))
    )


def _differing(jobs: Sequence[Mapping[str, Any]]) -> set[str]:
    """The names whose value is not the same in all jobs."""
    names = {name for job in jobs for name in job}
    return {name for name in names if len({str(job.get(name)) for job in jobs}) > 1}


def _defaults() -> dict[str, str]:
    """The choices of a job without overrides."""
    chosen = OmegaConf.select(OmegaConf.load(paths.folder("conf") / "config.yaml"), "defaults")
    pairs = [pair for entry in chosen if not isinstance(entry, str) for pair in entry.items()]
    return {str(group): str(choice) for group, choice in pairs if group in AXES}
