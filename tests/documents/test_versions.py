"""The version is written once, and the changelog begins with it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from fmsteal import __version__

ROOT = Path(__file__).parents[2]


def test_the_version_is_written_in_the_package_alone() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" not in project["project"] and project["project"]["dynamic"] == ["version"]
    assert (ROOT / project["tool"]["hatch"]["version"]["path"]) == ROOT / "fmsteal" / "__init__.py"
    assert not re.search(r"^version:", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)


def test_the_changelog_begins_with_this_version() -> None:
    releases = re.findall(r"^## (\d+\.\d+\.\d+),", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert releases[0] == __version__
    assert sorted(releases, key=lambda release: [*map(int, release.split("."))], reverse=True) == releases
