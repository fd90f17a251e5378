"""``torch.export``: a ``.pt2`` file, loaded by ``torch.export.load(file).module()``. Takes floats in [0, 1]."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from fmsteal.base.errors import ExportError
from fmsteal.face.export.served import Served

SUFFIX = ".pt2"
ABOUT = "fmsteal.json"  # the file inside it that describes input and output


def write(served: Served, file: Path) -> None:
    """Write the program; it takes batches of any size.

    ``torch.export.load(file, extra_files={"fmsteal.json": ""})`` fills in what `Served.describe` returns.

    Raises:
        ExportError: torch.export cannot hold this thief.
    """
    fresh = file.with_name(f".{file.name}")
    try:
        torch.export.save(trace(served), fresh, extra_files={ABOUT: json.dumps(served.describe())})
        served.require_alike(torch.export.load(fresh).module(), "torch.export")
        fresh.replace(file)
    finally:
        fresh.unlink(missing_ok=True)


def trace(served: Served) -> torch.export.ExportedProgram:
    """The thief as a graph over batches of any size.

    Raises:
        ExportError: torch.export cannot trace the thief.
    """
    try:
        return torch.export.export(served.net, (served.images(2),), dynamic_shapes=({0: torch.export.Dim("batch")},))
    except Exception as error:  # torch.export can fail in many ways
        said = str(error).strip().splitlines() or [""]
        raise ExportError(f"torch.export cannot hold this thief ({type(error).__name__}: {said[0]}).") from error
