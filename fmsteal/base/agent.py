"""What `wandb agent` tells the command that it starts, in W&B's own variables. Imports nothing heavy.

An agent names the sweep, the one run to log into, and a file with the values that the server has chosen.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fmsteal.base.errors import ConfigError

SWEEP, RUN, CHOSEN = "WANDB_SWEEP_ID", "WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH"
ARGUMENTS = "${args_no_hyphens}"  # the last word of a W&B sweep's command: the values, as key=value


def started_us() -> bool:
    """Whether an agent has started this process, or one that started it."""
    return bool(os.environ.get(SWEEP))


def is_logged(result: Mapping[str, Any]) -> bool:
    """Whether a finished job is in the run that an agent has named; without an agent, it is where it should be."""
    run = os.environ.get(RUN)
    return not started_us() or not run or str(result.get("tracker")).endswith(run)


def require_sweep(words: Sequence[str]) -> None:
    """Check that the agent's sweep is still there, and that the command got the values that it has chosen.

    Args:
        words: the command's overrides.

    Raises:
        ConfigError: the file of values is gone, or the command lacks some of them.
    """
    if not started_us() or CHOSEN not in os.environ:
        return
    file = Path(os.environ[CHOSEN])
    if not file.is_file():
        raise ConfigError(
            f"The W&B sweep {os.environ[SWEEP]} is gone: an agent has named {file} ({CHOSEN}), which does not exist. "
            "Start an agent of a sweep that exists (wandb agent ...), or run this without W&B's variables: "
            f"unset {SWEEP} {RUN} {CHOSEN}."
        )
    given = {word.lstrip("+~").partition("=")[0] for word in words}
    if missing := [name for name in _read_names(file) if name not in given]:
        raise ConfigError(
            f"The W&B sweep {os.environ[SWEEP]} has chosen {', '.join(missing)}, which this command is not given: "
            f"every run would be the same. The sweep's command must end with {ARGUMENTS}, as fmsteal wandb-sweep "
            "writes it."
        )


def require_one(jobs: int) -> None:
    """Check that a command that an agent has started is for one job.

    Raises:
        ConfigError: it is for several, which would all log into the agent's one run.
    """
    if started_us() and jobs != 1:
        raise ConfigError(
            f"An agent of the W&B sweep {os.environ[SWEEP]} has named one run, and this command is for {jobs} jobs. "
            "Let W&B give the values, one job each: fmsteal wandb-sweep writes such a sweep."
        )


def require_known(said: str) -> None:
    """Check that W&B's server knows the agent's sweep, from what it ``said`` when it refused the run.

    Raises:
        ConfigError: it does not.
    """
    if started_us() and "sweep" in said.lower():
        raise ConfigError(
            f"The W&B sweep {os.environ[SWEEP]} is gone: {said}. Start an agent of a sweep that exists (wandb agent "
            f"...), or run this without W&B's variables: unset {SWEEP} {RUN} {CHOSEN}."
        )


def _read_names(file: Path) -> list[str]:
    import yaml

    try:
        found = yaml.safe_load(file.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{file} ({CHOSEN}) cannot be read: {str(error).splitlines()[0]}.") from error
    return [str(name) for name in found if name != "wandb_version"] if isinstance(found, dict) else []
