"""Patterns of file names, against what bash makes of them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from fmsteal.base.patterns import expand_braces, find_base, find_files, is_pattern
from fmsteal.base.quoting import quote_override, spell_command
from tests.support.composing import composed


@pytest.mark.parametrize(
    "pattern",
    ["s-{000..012}.tar", "s-{8..11}.tar", "{a,b}/s-{0..2}.tar", "s-{09..11}", "plain.tar", "s-{3..1}", "{x}", "{a,}z",
     "{0..1}{a,b}", "{008..10}"],
)  # fmt: skip
def test_braces_are_what_bash_makes_of_them(pattern: str) -> None:
    said = subprocess.run(["bash", "-c", f"echo {pattern}"], capture_output=True, text=True, check=True).stdout
    assert expand_braces(pattern) == said.split()


def test_braces_name_missing_files_and_stars_only_those_that_exist(tmp_path: Path) -> None:
    for name in ("s-0.tar", "s-1.tar", "s-10.tar", "other.tar"):
        (tmp_path / name).touch()
    assert [file.name for file in find_files(f"{tmp_path}/s-{{0..2}}.tar")] == ["s-0.tar", "s-1.tar", "s-2.tar"]
    assert [file.name for file in find_files(f"{tmp_path}/s-?.tar")] == ["s-0.tar", "s-1.tar"]
    assert [file.name for file in find_files(f"{tmp_path}/{{s,other}}*.tar")] == [
        "s-0.tar", "s-1.tar", "s-10.tar", "other.tar",
    ]  # fmt: skip
    assert find_base(f"{tmp_path}/{{a,b}}/s-*.tar") == tmp_path == find_base(f"{tmp_path}/s-*.tar")


def test_a_name_that_exists_is_no_pattern(tmp_path: Path) -> None:
    (tmp_path / "s-{0..2}[1].tar").touch()
    assert not is_pattern(str(tmp_path / "s-{0..2}[1].tar")) and is_pattern(str(tmp_path / "s-{0..2}.tar"))
    assert not is_pattern("/data/shards")


def test_a_range_needs_no_quotes_for_hydra() -> None:
    typed = "query.root=/data/a b/s-{000..099}.tar"
    assert quote_override(typed) == typed  # a space: as before
    typed = "query.root=/data/s-{000..099}.tar"
    quoted = quote_override(typed)
    assert composed("query=webdataset", quoted).query.root == "/data/s-{000..099}.tar"
    assert quote_override(quoted) == quoted and spell_command([quoted]) == f"'{typed}'"
