"""What refers to what in a cache; whatever is asked to be pruned, what a theft names stays."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fmsteal.base.artifacts import list_artifacts
from fmsteal.base.lease import lease
from fmsteal.base.rows import RowCache
from fmsteal.base.store import Store, digest, write_json
from fmsteal.base.users import register
from fmsteal.identity.keys import KEY_VERSION, key_hash
from fmsteal.records.references import References, find_references
from fmsteal.report.commands import cache as command

DAY = 86400.0


def build(out: Path, scratch: Path) -> None:
    (out / "data.bin").write_bytes(b"abc")


def identity(number: int, defense: str = "no_defense") -> dict[str, Any]:
    return {
        "data": {"name": "digits"},
        "victim": {"name": "classifier", "seed": number},
        "trainer": {},
        "defense": {"name": defense},
    }


def add_victim(output: Path, number: int) -> Path:
    """A victim in the cache, noted under its key."""
    place = Store(output / "cache").get("victims", f"v{number}", {"seed": number}, build)
    key = key_hash({k: v for k, v in identity(number).items() if k != "defense"})
    (output / "cache" / "prepared").mkdir(exist_ok=True)
    write_json(output / "cache" / "prepared" / f"{key}.json", {"place": f"victims/{place.name}"})
    return place


def add_theft(output: Path, number: int, defense: str = "no_defense", sealed: bool = True) -> Path:
    """A theft from a victim."""
    folder = output / "thefts" / f"t{number}-{defense}-{digest(number)[:16]}"
    folder.mkdir(parents=True)
    record = {"identity": identity(number, defense), "key_version": KEY_VERSION}
    write_json(folder / ("theft.json" if sealed else "begun.json"), record)
    (folder / "ledger.bin").write_bytes(b"")
    return folder


def age(place: Path, days: float) -> None:
    os.utime(place, (time.time() - days * DAY,) * 2)


def look(output: Path) -> tuple[References, dict[str, str]]:
    """The references, and why each artifact is kept."""
    found = list_artifacts(output / "cache")
    references = find_references(output / "cache", found)
    return references, {artifact.name: references.require(artifact) for artifact in found}


def test_a_victim_is_kept_while_a_theft_names_it_open_or_sealed(tmp_path: Path) -> None:
    places = [add_victim(tmp_path, number) for number in range(3)]
    theft = add_theft(tmp_path, 0)
    opened = add_theft(tmp_path, 1, sealed=False)
    references, why = look(tmp_path)
    assert why[places[0].name] == f"a theft names it: {theft.name}" and opened.name in why[places[1].name]
    assert why[places[2].name] == ""
    assert references.thefts[places[0].name] == [theft.name]


def test_where_a_theft_may_name_a_victim_it_is_kept(tmp_path: Path) -> None:
    place = add_victim(tmp_path, 0)
    bare = Store(tmp_path / "cache").get("victims", "bare", {}, build)
    assert "no note says whose victim it is" in look(tmp_path)[1][bare.name]
    register(tmp_path / "cache", tmp_path / "elsewhere")
    assert "elsewhere, which cannot be read now, may name it" in look(tmp_path)[1][place.name]
    (tmp_path / "elsewhere").mkdir()
    assert look(tmp_path)[1][place.name] == ""
    add_theft(tmp_path / "elsewhere", 0)
    assert look(tmp_path)[1][place.name].startswith("a theft names it")
    damaged = add_theft(tmp_path, 1) / "theft.json"
    other = add_victim(tmp_path, 2)
    damaged.write_text("{")
    assert "whose records cannot be read, may name it" in look(tmp_path)[1][other.name]


def test_networks_of_defenses_and_probes_are_kept_and_what_a_job_under_way_may_use(tmp_path: Path) -> None:
    store = Store(tmp_path / "cache")
    defense = store.get("defenses", "net", {}, build)
    images, old = (store.get("images", name, {"of": name}, build) for name in ("images", "old"))
    assert look(tmp_path)[1][defense.name] == ""
    add_theft(tmp_path, 0, "adaptive_misinformation")
    assert look(tmp_path)[1][defense.name] == "1 thefts have a defense, which may be this one"
    job = tmp_path / "runs" / "job"
    (job / ".hydra").mkdir(parents=True)
    age(old, 2)
    (job / ".hydra" / "overrides.yaml").write_text("[]")
    age(job / ".hydra" / "overrides.yaml", 1)
    with lease(job / ".running", "the job"):
        why = look(tmp_path)[1]
    assert why[images.name] == "a job under way may use it: job" and why[old.name] == ""
    assert look(tmp_path)[1][images.name] == ""
    record = tmp_path / "sweeps" / "s" / "sweep.json"
    record.parent.mkdir(parents=True)
    record.write_text("{}")
    age(record, 1)
    with lease(record.parent / ".command-1", "the sweep"):
        assert look(tmp_path)[1][images.name] == "a job under way may use it: s"


def test_artifacts_name_each_other(tmp_path: Path) -> None:
    store, place = Store(tmp_path / "cache"), add_victim(tmp_path, 0)

    def images(out: Path, scratch: Path) -> None:
        write_json(out / "images.json", {"digest": "abc"})

    pool = store.get("images", "pool", {}, images)
    spec = {"victim": f"{place.name}-12345678", "images": "abc"}
    for kind, slug, of in (
        ("answers", "a", spec),
        ("features", "net", {"backbone": {"model": "net"}, "images": "abc"}),
    ):
        RowCache(store, kind, slug, of).get(np.arange(1), lambda ids: np.ones((1, 1), np.float32))
    found = list_artifacts(tmp_path / "cache")
    references = find_references(tmp_path / "cache", found)
    said = {artifact.kind: references.describe(artifact) for artifact in found}
    assert said["victims"] == "1 answers" and said["images"] == "1 answers, 1 features"
    assert said["answers"] == f"of {spec['victim']} on {pool.name}" and said["features"] == f"of net on {pool.name}"


@settings(max_examples=15)
@given(
    named=st.sets(st.integers(0, 3)),
    ages=st.lists(st.floats(0.5, 100), min_size=6, max_size=6),
    leased=st.integers(0, 5),
    older=st.integers(1, 90),
)
def test_whatever_is_pruned_what_is_needed_or_new_stays_and_all_else_goes(
    named: set[int], ages: list[float], leased: int, older: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder)
        places = [add_victim(output, number) for number in range(4)]
        places += [Store(output / "cache").get("images", name, {"of": name}, build) for name in ("a", "b")]
        thefts = [add_theft(output, number) for number in sorted(named)]
        for place, days in zip(places, ages, strict=True):
            age(place, days)
        marker = output / "cache" / "leases" / f"{places[leased].parent.name}-{places[leased].name}"
        words = ["cache", str(output / "cache"), "--prune", "--older-than", f"{older}d"]
        with lease(marker, "it"):
            command.main(words)
            assert all(place.is_dir() for place in places), "nothing is removed unless it is asked for"
            command.main([*words, "--yes"])
        for number, (place, days) in enumerate(zip(places, ages, strict=True)):
            assert place.is_dir() == (number in named or number == leased or days <= older)
        assert all((theft / "theft.json").is_file() for theft in thefts)
