"""``fmsteal evaluate``: measure more of jobs that are there. Nothing is stolen again.

The jobs of a folder are run once more with further measurements; their thefts being sealed, they measure what is
missing and write their results anew. They run as a sweep does: through any launcher, checked before any is run.
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
    """Measure what is missing, folder by folder; ends non-zero where a job could not be measured.

    Args:
        words: of the command line, from ``evaluate`` on.
        run: runs the command of the words that follow ``fmsteal``.
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
    """The words that measure the jobs of a folder, after ``fmsteal``.

    Raises:
        ConfigError: it holds no jobs.
    """
    jobs = list_jobs(folder)
    output = folder.absolute().parent if folder.name == RUNS else folder.absolute().parent.parent
    known = folder.name == RUNS or folder.absolute().parent.name == SWEEPS
    here = [f"output='{output}'"] if known and output != Path("outputs").absolute() else []
    words = [*_search_path(jobs[0]), *here, *(w for w in overrides if not w.startswith("output="))]
    return ["-m", *words, f"hydra.sweep.dir='{folder.absolute()}'", f"hydra.sweeper.of='{folder.absolute()}'"]


def add_overrides(folder: Path, overrides: Sequence[str]) -> list[list[str]]:
    """The jobs of a folder as they are and with further ``overrides``: each two of one key, measured in both ways."""
    place = [word for word in overrides if word.startswith("output=")]
    found = [[*entry.overrides, *place] for entry in list_jobs(folder)]
    return [*found, *([*job, *overrides] for job in found)]


def list_jobs(folder: Path) -> list[JobOnDisk]:
    """The jobs of a sweep's folder, or of single runs.

    Raises:
        ConfigError: there are none.
    """
    found = [entry for entry in list_planned(folder) or list_begun(folder) if entry.stage != "victim"]
    if not found:
        raise ConfigError(f"{folder} holds no jobs. Name the folder of a sweep (outputs/sweeps/...), or outputs/runs.")
    return found


def _search_path(entry: JobOnDisk) -> list[str]:
    """Where a job found the configs of others."""
    try:
        hydra = load_yaml(JobFolder(entry.folder).choices.read_text())["hydra"]
        words = [str(word) for word in (hydra.get("overrides") or {}).get("hydra") or []]
    except Exception:  # absent, or damaged in whatever way
        return []
    return [word for word in words if word.startswith("hydra.searchpath=")]
