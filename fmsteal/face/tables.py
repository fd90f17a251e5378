"""All figures of sweeps as a data frame."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from fmsteal.base.errors import ConfigError, FmstealError

if TYPE_CHECKING:
    import pandas


def table(*folders: str | os.PathLike[str]) -> pandas.DataFrame:
    """A row for each job of these sweeps, as ``fmsteal results --csv`` writes it; needs pandas.

    Args:
        folders: folders of sweeps (``outputs/sweeps/<sweep_id>``), or ``outputs/runs``.

    Raises:
        FmstealError: pandas is not installed.
        ConfigError: no folder is given.
        StoreError: a folder holds no jobs.
    """
    try:
        import pandas
    except ImportError as absent:
        raise FmstealError("fmsteal.table needs pandas, which is not installed: pip install 'fmsteal[pandas]'.") from (
            absent
        )
    from fmsteal.report.read import tidy

    if not folders:
        raise ConfigError("Name the folders of sweeps: fmsteal.table('outputs/sweeps/quickstart'), or 'outputs/runs'.")
    places = [Path(folder) for folder in folders]
    for place in places:
        tidy.require_jobs(place)
    rows = [row for place in places for row in tidy.make_rows(place)]
    return pandas.DataFrame(rows, columns=tidy.list_columns(rows))
