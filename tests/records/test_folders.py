"""Every file name of jobs, sweeps, thefts and measurements is written down once, in `fmsteal.records.folders`."""

from __future__ import annotations

import ast
from pathlib import Path

from fmsteal.records import folders

HYDRAS = {"config.yaml", "hydra.yaml", "overrides.yaml"}  # names that Hydra gives
PACKAGE = Path(folders.__file__).parents[1]
KINDS = (
    folders.JobFolder, folders.SweepFolder, folders.TheftFolder, folders.MeasurementFolder, folders.AuditFolder,
    folders.CellFolder,
)  # fmt: skip


def names() -> set[str]:
    """The last parts of all paths that the folders name, where they look like no plain word."""
    found = set()
    for kind in KINDS:
        properties = (name for name, what in vars(kind).items() if isinstance(what, property))
        places = [getattr(kind(Path("x")), name) for name in properties]
        found |= {place.name for place in places if isinstance(place, Path)}  # the others are folders of their own
    return {name for name in found if "." in name} - HYDRAS


def literals(file: Path) -> list[str]:
    """The texts of a module that are no docstrings."""
    tree = ast.parse(file.read_text())
    spoken = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    texts = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))
    return [node.value for node in texts if id(node) not in spoken]


def test_each_file_name_is_written_once() -> None:
    wanted = names()
    assert {"result.json", "theft.json", "ledger.bin", "predictions.npz", "measurement.json", "sweep.json"} <= wanted
    elsewhere = {
        (file.relative_to(PACKAGE).as_posix(), text)
        for file in PACKAGE.rglob("*.py")
        if file.name != "folders.py"
        for text in literals(file)
        if text in wanted
    }
    assert elsewhere == set()
    own = [text for text in literals(PACKAGE / "records" / "folders.py") if text in wanted]
    assert sorted(own) == sorted(set(own))
