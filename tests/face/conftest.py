"""A finished job that these tests open, made once from Python."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import fmsteal
from tests.support.composing import SMALL


@pytest.fixture(scope="session")
def job(tmp_path_factory: pytest.TempPathFactory) -> Iterator[fmsteal.Job]:
    """Run in a folder of its own, with relative paths, and opened elsewhere."""
    root, before = tmp_path_factory.mktemp("face"), Path.cwd()
    os.chdir(root)
    try:
        made = fmsteal.run([*SMALL, "seed=3"])
    finally:
        os.chdir(before)
    yield made
