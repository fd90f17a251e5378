"""Opens a victim for an estimate: that of a finished job, or of a config that is composed here."""

from __future__ import annotations

from collections.abc import Sequence

from fmsteal.base.errors import JobError
from fmsteal.risk.profile import Known, VictimProfile, profile

ACCURACY = "test/victim_accuracy"


def open_job(folder: str, said: Known) -> VictimProfile:
    """The victim of a finished job.

    Raises:
        JobError: the folder is not a finished job's.
        ConfigError: its victim is an encoder, or the config says otherwise than ``said``.
    """
    from fmsteal.face.jobs import load

    try:
        job = load(folder)
    except JobError as error:
        raise JobError(f"{error} Or give a job's choices: fmsteal risk victim=... data=... .") from error
    axis, accuracy = job.result.get("axis", {}), job.result.get("metrics", {}).get(ACCURACY)
    name = f"{axis.get('victim', 'victim')} on {axis.get('data', '?')}"
    return profile(job.config, name, said, None if accuracy is None else float(accuracy))


def open_overrides(words: Sequence[str], said: Known) -> VictimProfile:
    """The victim of a job that is composed from the words after ``fmsteal``.

    Raises:
        ConfigError: a word is misspelt, the victim is an encoder, or the config says otherwise than ``said``.
    """
    from fmsteal.audit.composer import open_composer
    from fmsteal.audit.target import name_choices

    with open_composer(words) as composer:
        cfg = composer.compose(words)
        names = name_choices(cfg)
        return profile(cfg, f"{names['victim']} on {names['data']}", said)
