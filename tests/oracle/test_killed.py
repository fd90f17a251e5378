"""After 50 SIGKILLs a defense remembers what it remembers of a run that nobody disturbed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.commands import environment

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_state_and_files_after_fifty_kills_are_those_of_an_undisturbed_run(tmp_path: Path) -> None:
    env = {**environment(), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "tests.oracle.killed", str(tmp_path), "50"]
    done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("50 killed")
