"""Which W&B server runs are sent to, whether somebody is logged in there, and whether it answers."""

from __future__ import annotations

import netrc
import os
from pathlib import Path
from typing import Literal
from urllib.error import HTTPError
from urllib.parse import urlparse
from urllib.request import urlopen

import wandb

from fmsteal.errors import FmstealError

CLOUD = ("api.wandb.ai", "api.forge.coreweave.com")  # W&B's own server, by its old and its new name
PATIENCE = 10.0  # seconds for a server to answer


def server() -> str:
    """The server's address: WANDB_BASE_URL, what `wandb login --host` has kept, or W&B's own cloud."""
    return str(wandb.setup().settings.base_url)


def auto_mode() -> Literal["online", "offline"]:
    """``online`` if there is a login, without asking for one; else ``offline``."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return "online"
    host = urlparse(server()).netloc
    for file in (os.environ.get("NETRC"), "~/.netrc", "~/_netrc"):
        try:
            logins = netrc.netrc(Path(file).expanduser()) if file else None
        except (OSError, netrc.NetrcParseError):
            continue
        if logins and any(logins.authenticators(name) for name in (CLOUD if host in CLOUD else (host,))):
            return "online"
    return "offline"


def require_reachable() -> None:
    """Ask the server for its first page; whatever it says, it is there.

    Raises:
        FmstealError: nobody answers. `wandb sync` would try again for minutes.
    """
    try:
        urlopen(server(), timeout=PATIENCE).close()
    except HTTPError:
        return
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise FmstealError(
            f"W&B's server {server()} does not answer ({reason}). Nothing was uploaded; with a network, give the same "
            "command again. Another server: WANDB_BASE_URL."
        ) from error
