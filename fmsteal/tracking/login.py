"""Which W&B server runs are sent to, whether the user is logged in there, and whether it answers."""

from __future__ import annotations

import netrc
import os
import socket
from pathlib import Path
from typing import Literal
from urllib.parse import urlparse
from urllib.request import getproxies

from pydantic import ValidationError

from fmsteal.base.errors import ConfigError, FmstealError
from fmsteal.tracking.on_wandb import REFUSED, read_settings

FORMER = "api.wandb.ai"  # the former name of W&B's own server; a login stored under it still counts
CLOUD = ("api.forge.coreweave.com", FORMER)
PATIENCE = 10.0  # seconds for a server to answer


def find_server() -> str:
    """The server's address: WANDB_BASE_URL, the one stored by `wandb login --host`, or W&B's own cloud.

    Raises:
        ConfigError: W&B refuses the address, or another of its settings.
    """
    try:
        return str(read_settings().base_url)
    except REFUSED as error:
        raise find_refusal(error) from error


def find_refusal(error: Exception) -> ConfigError:
    """W&B's complaint about its settings, in one line."""
    said = str(error)
    if isinstance(error, ValidationError):
        said = "; ".join(f"{'.'.join(map(str, each['loc']))} {each['msg']}" for each in error.errors())
    said = " ".join(said.split())
    return ConfigError(f"W&B refuses its settings (WANDB_* variables, tracker.*): {said}")


def auto_mode() -> Literal["online", "offline"]:
    """``online`` if there is a login, without asking for one; else ``offline``."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return "online"
    host = urlparse(find_server()).netloc
    logins = _read_logins()
    names = (host, FORMER) if host in CLOUD else (host,)
    found = [logins.authenticators(name) for name in names] if logins else []
    return "online" if any(login and login[2] for login in found) else "offline"


def _read_logins() -> netrc.netrc | None:
    """The logins in ``~/.netrc``, or in the file that NETRC names; None if it cannot be read."""
    places = [os.environ["NETRC"]] if os.environ.get("NETRC") else ["~/.netrc", "~/_netrc"]
    file = next((path for path in (Path(place).expanduser() for place in places) if path.exists()), None)
    try:
        return netrc.netrc(file) if file else None
    except (OSError, netrc.NetrcParseError):
        return None


def require_reachable() -> None:
    """Try the server's port; behind a proxy, which may have its own route, assume that it answers.

    Raises:
        FmstealError: the server does not answer. `wandb sync` would retry for minutes.
    """
    where = find_server()
    address = urlparse(where)
    settings = read_settings()
    if address.scheme in getproxies() or settings.http_proxy or settings.https_proxy:
        return
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        socket.create_connection((address.hostname or "", port), timeout=PATIENCE).close()
    except OSError as error:
        raise FmstealError(
            f"W&B's server {where} does not answer ({error}). Nothing was uploaded; with a network, give the same "
            "command again. Another server: WANDB_BASE_URL."
        ) from error
