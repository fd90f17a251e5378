"""What of a node counts: the table against the code, and what may change without changing a key."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmsteal.base.errors import ConfigError
from fmsteal.identity import foreign, nodes, table
from fmsteal.identity.table import Entry
from fmsteal.identity.write_names import collect, find_problems, merge

TOP_K = "fmsteal.defenses.truncation.TopK"


def counted(value: Any, path: str = "x") -> Any:
    found = frozenset(i.key for i in nodes.find_idle(value, path, {}))
    return nodes.keep_effective(value, path, found, lambda place: f"content of {place}")


@contextmanager
def other_table(changed: dict[str, Entry | None]) -> Iterator[None]:
    known = {**table.entries(), **changed}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table, "entries", lambda: {k: v for k, v in known.items() if v is not None})
        nodes._known.cache_clear()
        yield
    nodes._known.cache_clear()


@pytest.fixture(scope="module")
def code() -> dict[str, Entry]:
    return collect()


def test_the_table_is_that_of_the_code(code: dict[str, Entry]) -> None:
    assert find_problems(table.entries(), code) == []


def test_the_table_is_written_as_it_is_read(tmp_path: Path) -> None:
    table.write(tmp_path / "names.json", table.entries())
    assert (tmp_path / "names.json").read_text() == table.FILE.read_text()


def test_a_changed_default_without_a_raised_version_is_named(code: dict[str, Entry]) -> None:
    changed = replace(code[TOP_K], defaults={"renormalise": True})
    assert (
        f"{TOP_K}: option 'renormalise' had default false"
        in find_problems(table.entries(), {**code, TOP_K: changed})[0]
    )
    with pytest.raises(ConfigError, match="version: ClassVar"):
        merge(table.entries(), {**code, TOP_K: changed})
    found = merge(table.entries(), {**code, TOP_K: replace(changed, version=2)})
    assert (found[TOP_K].name, found[TOP_K].version) == ("top_k", 2)
    given_one = replace(code[TOP_K], defaults={"renormalise": False, "k": 3}, required=[])
    assert "'k' had no default" in find_problems(table.entries(), {**code, TOP_K: given_one})[0]
    with pytest.raises(ConfigError, match="below"):
        merge({TOP_K: replace(table.entries()[TOP_K], version=3)}, {TOP_K: code[TOP_K]})


def test_two_classes_of_one_stable_name_are_named(code: dict[str, Entry]) -> None:
    twice = {**table.entries(), TOP_K: replace(table.entries()[TOP_K], name="rounding")}
    assert find_problems(twice, code)[0] == "2 classes have the stable name 'rounding'"


def test_a_new_class_has_a_name_of_its_own(code: dict[str, Entry]) -> None:
    without = {path: entry for path, entry in table.entries().items() if path != TOP_K}
    assert merge(without, code)[TOP_K].name == "top_k"
    taken = {**without, "fmsteal.a.b": replace(table.entries()[TOP_K], name="top_k")}
    assert merge(taken, {**code, "fmsteal.a.b": Entry("")})[TOP_K].name == "truncation_top_k"


def test_a_moved_class_keeps_its_name_and_its_key(code: dict[str, Entry]) -> None:
    moved = "fmsteal.defenses.elsewhere.TopK"
    found = merge(table.entries(), {**{k: v for k, v in code.items() if k != TOP_K}, moved: code[TOP_K]})
    assert found[moved].name == "top_k" and TOP_K not in found
    before = counted({"_target_": TOP_K, "k": 3})
    with other_table({TOP_K: None, moved: found[moved]}):
        assert counted({"_target_": moved, "k": 3}) == before == {"name": "top_k", "k": 3}


def test_a_new_option_at_its_default_changes_nothing_and_a_raised_version_does() -> None:
    before, entry = counted({"_target_": TOP_K, "k": 3}), table.entries()[TOP_K]
    with other_table({TOP_K: replace(entry, defaults={**entry.defaults, "new": 1.0})}):
        assert counted({"_target_": TOP_K, "k": 3, "new": 1}) == before
        assert counted({"_target_": TOP_K, "k": 3, "new": 2}) == {**before, "new": 2}
        assert counted({"_target_": TOP_K, "k": 3, "new": True}) == {**before, "new": True}
    with other_table({TOP_K: replace(entry, version=2)}):
        assert counted({"_target_": TOP_K, "k": 3}) == {**before, "version": 2}


@given(st.integers(-(10**9), 10**9))
def test_a_whole_float_is_an_int(number: int) -> None:
    assert counted({"a": float(number)}) == counted({"a": number}) and type(nodes.to_whole(float(number))) is int


@given(st.booleans(), st.sampled_from(["all", "object", "none"]))
def test_how_an_object_is_made_is_no_part(flag: bool, how: str) -> None:
    special = {"_partial_": flag, "_recursive_": not flag, "_convert_": how}
    assert counted({"_target_": TOP_K, "k": 1, **special}) == {"name": "top_k", "k": 1}


def test_an_option_that_has_no_effect_is_left_out_only_then() -> None:
    def recipe(**options: Any) -> Any:
        known = {"epochs": 1, "batch_size": 2, "optimizer": "sgd", "lr": 0.1}
        return counted({"_target_": "fmsteal.training.recipe.Recipe", **known, **options})

    assert recipe(gamma=0.5) == recipe() != recipe(schedule="step", gamma=0.5)
    assert recipe(optimizer="adam", momentum=0.5) == recipe(optimizer="adam")
    assert recipe(momentum=0.5) != recipe()


def test_options_named_as_the_head_do_not_hide_it() -> None:
    assert counted({"_target_": TOP_K, "name": "x"}) == {"name": "top_k", "name_": "x"}


THEIRS = """
from dataclasses import dataclass
from typing import ClassVar

@dataclass
class Attack:
    k: int
    rounds: int = 3
    {version}

    def run(self):
        return {body}

def select(pool, count, *, temperature=1.0):
    return {body}
"""


def described(folder: Path, target: str, **parts: str) -> Any:
    (folder / "theirs_id").mkdir(exist_ok=True)
    (folder / "theirs_id" / "__init__.py").write_text("from .deep import Attack\nraise SystemExit('imported')\n")
    (folder / "theirs_id" / "deep.py").write_text(THEIRS.format(**{"version": "", "body": "1", **parts}))
    foreign.describe.cache_clear()
    nodes._known.cache_clear()
    return counted({"_target_": target, "k": 1, "rounds": 3})


@pytest.mark.parametrize("target", ["theirs_id.deep.Attack", "theirs_id.Attack"])
def test_a_foreign_class_counts_with_its_source_and_is_not_imported(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    first = described(tmp_path, target)
    assert first.keys() == {"name", "source", "k"} and first["name"] == target
    assert described(tmp_path, target, body="2") != first == described(tmp_path, target)
    one = described(tmp_path, target, version="version: ClassVar[int] = 1")
    assert one == {"name": target, "version": 1, "k": 1}
    assert described(tmp_path, target, version="version = 1", body="2") == one
    assert described(tmp_path, target, version="version = 2") == {**one, "version": 2}


def test_functions_libraries_and_what_is_not_there_count_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    described(tmp_path, "theirs_id.deep.Attack")
    select = counted({"_target_": "theirs_id.deep.select", "temperature": 1})
    assert select.keys() == {"name", "source"}
    assert counted({"_target_": "torch.nn.GELU", "approximate": "tanh"}) == {
        "name": "torch.nn.GELU", "approximate": "tanh",
    }  # fmt: skip
    assert counted({"_target_": "no_such_package.Thing"}) == {"name": "no_such_package.Thing"}
