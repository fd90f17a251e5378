"""``fmsteal evaluate``: further measurements of existing jobs. Nothing is stolen again.

The jobs of a folder are run again with further measurements; since their thefts are sealed, they only measure what is
missing and rewrite their results. They run like a sweep: through any launcher, all checked before the first is run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from fmsteal.base.errors import ConfigError, FmstealError
from fmsteal.records.folders import RUNS, SWEEPS, JobFolder
from fmsteal.records.results import JobOnDisk, list_begun, list_planned, load_yaml

TEXT = """\
Measure more of finished jobs: what their evaluation and the one named here ask for and nobody has measured yet. No
query is asked and no thief is trained. Further words are Hydra's, as for a sweep: hydra/launcher=joblib, ..."""


def main(words: Sequence[str], run: Callable[[Sequence[str]], None]) -> None:
    """Measure what is missing, folder by folder; exit non-zero if a job could not be measured.

    Args:
        words: the command line, from ``evaluate`` on.
        run: runs a command, given the words that follow ``fmsteal``.
    """
    parser = argparse.ArgumentParser(
        prog="fmsteal evaluate", description=TEXT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "words", nargs="+", metavar="DIR|KEY=VALUE", help="folders of sweeps, or outputs/runs; evaluation=..."
    )
    given = parser.parse_args(list(words[1:])).words
    folders, overrides = [w for w in given if "=" not in w], [w for w in given if "=" in w]
    try:
        if not folders:
            raise ConfigError(
                "Name the folders of the sweeps: fmsteal evaluate outputs/sweeps/quickstart evaluation=similarity."
            )
        commands = [make_command(Path(folder), overrides) for folder in folders]
    except FmstealError as error:
        sys.exit(f"fmsteal: {error}")
    failed = False
    for line in commands:
        try:
            run(line)
        except SystemExit as end:
            failed = failed or end.code not in (None, 0)
            if isinstance(end.code, str):
                print(end.code, file=sys.stderr)
    sys.exit(int(failed))


def make_command(folder: Path, overrides: Sequence[str]) -> list[str]:
    """The command that measures the jobs of a folder, without ``fmsteal``.

    Raises:
        ConfigError: the folder holds no jobs.
    """
    jobs = list_jobs(folder)
    output = folder.absolute().parent if folder.name == RUNS else folder.absolute().parent.parent
    known = folder.name == RUNS or folder.absolute().parent.name == SWEEPS
    here = [f"output='{output}'"] if known and output != Path("outputs").absolute() else []
    words = [*_search_path(jobs[0]), *here, *(w for w in overrides if not w.startswith("output="))]
    return ["-m", *words, f"hydra.sweep.dir='{folder.absolute()}'", f"hydra.sweeper.of='{folder.absolute()}'"]


def add_overrides(folder: Path, overrides: Sequence[str]) -> list[list[str]]:
    """Each job of a folder twice, as it is and with ``overrides``: both have the same key, so one job measures both."""
    place = [word for word in overrides if word.startswith("output=")]
    found = [[*entry.overrides, *place] for entry in list_jobs(folder)]
    return [*found, *([*job, *overrides] for job in found)]


def list_jobs(folder: Path) -> list[JobOnDisk]:
    """The jobs of a sweep's folder, or of single runs.

    Raises:
        ConfigError: the folder holds no jobs.
    """
    found = [entry for entry in list_planned(folder) or list_begun(folder) if entry.stage != "victim"]
    if not found:
        raise ConfigError(f"{folder} holds no jobs. Name the folder of a sweep (outputs/sweeps/...), or outputs/runs.")
    return found


def _search_path(entry: JobOnDisk) -> list[str]:
    """A job's override of Hydra's search path, if any."""
    try:
        hydra = load_yaml(JobFolder(entry.folder).choices.read_text())["hydra"]
        words = [str(word) for word in (hydra.get("overrides") or {}).get("hydra") or []]
    except Exception:  # absent, or damaged in any way
        return []
    return [word for word in words if word.startswith("hydra.searchpath=")]
