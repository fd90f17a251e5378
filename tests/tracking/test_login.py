from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import wandb

from fmsteal.errors import ConfigError, FmstealError
from fmsteal.tracking.commands import sync
from fmsteal.tracking.login import auto_mode, require_reachable, server
from fmsteal.tracking.wandb import WandbTracking
from tests.tracking.test_wandb import info

KEY = "0" * 40
CLOUD = str(wandb.Settings().base_url)  # what wandb takes where nobody names a server


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[pytest.MonkeyPatch]:
    """No login and no settings from outside; W&B reads them once in a process, until it is torn down."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_CONFIG_DIR"):
        monkeypatch.delenv(name, raising=False)
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
    assert (server(), auto_mode()) == (CLOUD, "offline")
    knows(tmp_path, "elsewhere.example.org")
    assert auto_mode() == "offline"
    knows(tmp_path, "elsewhere.example.org", host)
    assert auto_mode() == "online"


def test_a_login_at_another_server_is_not_one_here(tmp_path: Path, nobody: pytest.MonkeyPatch) -> None:
    knows(tmp_path, "api.wandb.ai")
    nobody.setenv("WANDB_BASE_URL", "https://wandb.example.org:8080")
    assert (server(), auto_mode()) == ("https://wandb.example.org:8080", "offline")
    knows(tmp_path, "wandb.example.org:8080")
    assert auto_mode() == "online"


def test_the_server_that_a_login_has_kept_is_the_one(tmp_path: Path) -> None:
    """`wandb login --host` writes this file."""
    knows(tmp_path, "wandb.example.org")
    (tmp_path / ".config" / "wandb").mkdir(parents=True)
    (tmp_path / ".config" / "wandb" / "settings").write_text("[default]\nbase_url = https://wandb.example.org\n")
    assert (server(), auto_mode()) == ("https://wandb.example.org", "online")


def test_a_key_or_a_token_in_the_environment_is_a_login(nobody: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE"):
        with nobody.context() as patch:
            patch.setenv(name, KEY)
            assert auto_mode() == "online"
        assert auto_mode() == "offline"


@pytest.mark.parametrize("mode", ["auto", "offline"])
def test_settings_that_wandb_refuses_are_named(mode: Any, tmp_path: Path, nobody: pytest.MonkeyPatch) -> None:
    nobody.setenv("WANDB_BASE_URL", "nonsense")
    with pytest.raises(ConfigError, match=r"WANDB_\* variables.*base_url Input should be a valid URL"):
        WandbTracking(mode=mode).open(info(tmp_path / "job")).__enter__()


class Refuses(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_a_server_that_answers_anything_is_there(nobody: pytest.MonkeyPatch) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Refuses) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        nobody.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{http.server_port}")
        require_reachable()
        http.shutdown()


@pytest.mark.parametrize("silent", [False, True], ids=["closed", "silent"])
def test_nothing_is_tried_at_a_server_that_does_not_answer(
    silent: bool, tmp_path: Path, nobody: pytest.MonkeyPatch
) -> None:
    with WandbTracking(mode="offline").open(info(tmp_path / "sweep" / "job")) as tracker:
        tracker.summary({"test/agreement": 0.5})
    wandb.teardown()
    nobody.setattr("fmsteal.tracking.login.PATIENCE", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as taken:  # accepts, and says nothing
        nobody.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{taken.getsockname()[1]}")
        if not silent:
            taken.close()
        with pytest.raises(FmstealError, match=r"does not answer .*Nothing was uploaded"):
            sync([str(tmp_path / "sweep")])
    assert not list(tmp_path.rglob("*.synced"))
