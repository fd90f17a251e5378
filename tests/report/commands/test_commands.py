"""Every sub-command is a module of its name; what it refuses ends it with a reason, without a trace."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from fmsteal import cli
from fmsteal.report import commands

OURS = sorted(name for name, module in cli.COMMANDS.items() if module.startswith("fmsteal.report."))


@pytest.mark.parametrize("name", OURS)
def test_a_command_is_a_module_of_its_name(name: str) -> None:
    assert cli.COMMANDS[name] == f"fmsteal.report.commands.{name}"
    assert import_module(cli.COMMANDS[name]).main.__module__ == cli.COMMANDS[name]


@pytest.mark.parametrize("name", [name for name in OURS if name != "dashboard"])
def test_a_folder_that_is_not_there_is_refused_by_name(name: str, tmp_path: Path) -> None:
    gone = str(tmp_path / "gone")
    with pytest.raises(SystemExit, match=r"^fmsteal: There (is|are) no .*gone"):
        commands.main([name, gone, *([gone] if name == "compare" else [])])
