"""What fmsteal builds on inside submitit is as it was when that was written."""

from __future__ import annotations

import pytest

from tests.support.inside import importers, require_known

HERE = "fmsteal/sweep/on_submitit.py"
SOURCES = {  # what is replaced or overridden, and what calls that
    "submitit.core.core:InfoWatcher.__init__": "625d7b67dedc",
    "submitit.core.core:InfoWatcher.get_info": "e2c3081a2b7d",
    "submitit.core.core:InfoWatcher.is_done": "98118706ccd6 9d8744fc3165",
    "submitit.core.core:InfoWatcher.update_if_long_enough": "3b40608c5467",
    "submitit.core.core:InfoWatcher.update": "70000fb17843",
    "submitit.core.core:InfoWatcher.register_job": "aaa6a2b43515",
    "submitit.slurm.slurm:SlurmInfoWatcher._make_command": "f1d78d91648e",
    "submitit.slurm.slurm:SlurmInfoWatcher.read_info": "155e518dfb9c ced2e402a1e1",
    "submitit.slurm.slurm:SlurmInfoWatcher.get_state": "9ee6b335ceb4",
    "submitit.core.core:Job._register_in_watcher": "a0c38efa370c",
    "submitit.core.core:Job.results": "fcc5220f5458",
    "submitit.core.core:Job.wait": "9d6eb19a7a55",
    "submitit.core.core:Job.done": "2969a679b94c",
    "submitit.slurm.slurm:SlurmExecutor._internal_process_submissions": "022dccfbecdd",
}


@pytest.mark.parametrize(("name", "known"), SOURCES.items())
def test_submitit_is_the_one_that_this_was_written_for(name: str, known: str) -> None:
    pytest.importorskip("submitit")
    require_known("submitit", name, known, HERE)


def test_nothing_else_looks_inside_submitit() -> None:
    assert list(importers("submitit")) == [HERE]
