from __future__ import annotations

from pathlib import Path

from fmsteal.base import lease as lease_module
from fmsteal.base.lease import lease


def test_a_lease_is_exclusive_and_given_back(tmp_path: Path) -> None:
    with lease(tmp_path / "a", "a"), lease(tmp_path / "b", "b"):
        assert len(list(tmp_path.glob("*.lease"))) == 2
    assert not list(tmp_path.glob("*.lease"))


def test_a_marker_whose_maker_died_before_it_wrote_its_name_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.lease").touch()
    with lease(tmp_path / "a", "a", seconds=0.3):
        assert (tmp_path / "a.lease").stat().st_size
    assert not list(tmp_path.iterdir())


def test_a_marker_that_came_meanwhile_stays(tmp_path: Path) -> None:
    marker = tmp_path / "a.lease"
    marker.write_text("somebody alive")
    lease_module._take_away(marker, (1, 1))
    assert [p.name for p in tmp_path.iterdir()] == ["a.lease"] and marker.read_text() == "somebody alive"
