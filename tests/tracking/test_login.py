from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb

from fmsteal.base.errors import ConfigError
from fmsteal.report.commands import main
from fmsteal.tracking.login import auto_mode, find_server, require_reachable
from fmsteal.tracking.wandb import WandbTracking
from tests.tracking.infos import info

KEY = "0" * 40
CLOUD = str(wandb.Settings().base_url)  # what wandb takes where nobody names a server


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[pytest.MonkeyPatch]:
    """No login and no settings from outside; W&B reads them once in a process, until it is torn down."""
    for name in [n for n in os.environ if n.startswith("WANDB_") or n.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    wandb.teardown()
    yield monkeypatch
    wandb.teardown()


def knows(folder: Path, *hosts: str) -> None:
    (folder / "netrc").write_text("".join(f"machine {host}\n  login user\n  password {KEY}\n" for host in hosts))


@pytest.mark.parametrize("host", ["api.wandb.ai", CLOUD.removeprefix("https://")])
def test_a_login_at_wandbs_own_server_is_found_by_its_old_and_by_its_present_name(host: str, tmp_path: Path) -> None:
    assert (find_server(), auto_mode()) == (CLOUD, "offline")
    knows(tmp_path, "elsewhere.example.org")
    assert auto_mode() == "offline"
    knows(tmp_path, "elsewhere.example.org", host)
    assert auto_mode() == "online"


def test_a_login_without_a_key_is_none(tmp_path: Path) -> None:
    (tmp_path / "netrc").write_text('machine api.wandb.ai\n  login user\n  password ""\n')
    assert auto_mode() == "offline"


def test_a_login_at_another_server_is_not_one_here(tmp_path: Path, nobody: pytest.MonkeyPatch) -> None:
    knows(tmp_path, "api.wandb.ai")
    nobody.setenv("WANDB_BASE_URL", "https://wandb.example.org:8080")
    assert (find_server(), auto_mode()) == ("https://wandb.example.org:8080", "offline")
    knows(tmp_path, "wandb.example.org:8080")
    assert auto_mode() == "online"


def test_the_server_that_a_login_has_kept_is_the_one(tmp_path: Path) -> None:
    """`wandb login --host` writes this file."""
    knows(tmp_path, "wandb.example.org")
    (tmp_path / ".config" / "wandb").mkdir(parents=True)
    (tmp_path / ".config" / "wandb" / "settings").write_text("[default]\nbase_url = https://wandb.example.org\n")
    assert (find_server(), auto_mode()) == ("https://wandb.example.org", "online")


def test_a_key_or_a_token_in_the_environment_is_a_login(nobody: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE"):
        with nobody.context() as patch:
            patch.setenv(name, KEY)
            assert auto_mode() == "online"
        assert auto_mode() == "offline"


@pytest.mark.parametrize("mode", ["auto", "offline"])
def test_settings_that_wandb_refuses_are_named(mode: Any, tmp_path: Path, nobody: pytest.MonkeyPatch) -> None:
    nobody.setenv("WANDB_BASE_URL", "nonsense")
    with pytest.raises(ConfigError, match=r"WANDB_\* variables, tracker.*base_url Input should be a valid URL"):
        WandbTracking(mode=mode).open(info(tmp_path / "job")).__enter__()


def listening(patch: pytest.MonkeyPatch) -> socket.socket:
    """A server that takes calls and says nothing, where runs are to be sent."""
    server = socket.create_server(("127.0.0.1", 0))
    patch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
    return server


def test_a_server_that_takes_calls_is_there(nobody: pytest.MonkeyPatch) -> None:
    with listening(nobody):
        require_reachable()


def test_nothing_is_tried_at_a_server_that_does_not_answer(tmp_path: Path, nobody: pytest.MonkeyPatch) -> None:
    with WandbTracking(mode="offline").open(info(tmp_path / "sweep" / "job")) as tracker:
        tracker.summary({"test/agreement": 0.5})
    wandb.teardown()
    listening(nobody).close()
    with pytest.raises(SystemExit, match=r"does not answer .*refused.*Nothing was uploaded"):
        main(["sync", str(tmp_path / "sweep")])
    assert not list(tmp_path.rglob("*.synced"))


def test_what_a_proxy_reaches_is_not_judged_from_here(nobody: pytest.MonkeyPatch) -> None:
    listening(nobody).close()
    nobody.setenv("http_proxy", "http://proxy.example.org:3128")
    require_reachable()


@pytest.mark.parametrize("command", ["sync", "dashboard"])
def test_an_address_that_is_none_is_named_before_anything_is_sent(
    command: str, tmp_path: Path, nobody: pytest.MonkeyPatch
) -> None:
    if command == "dashboard":
        pytest.importorskip("wandb_workspaces")
    with WandbTracking(mode="offline").open(info(tmp_path / "sweep" / "job")):
        pass
    wandb.teardown()
    nobody.setenv("WANDB_BASE_URL", "nonsense")
    with pytest.raises(SystemExit, match="base_url Input should be a valid URL"):
        main([command, str(tmp_path / "sweep")] if command == "sync" else [command])
