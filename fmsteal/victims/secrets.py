"""Keys of services: a config names them, and they are read when a request is sent. They are written down nowhere."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from urllib.parse import parse_qsl, urlsplit

from fmsteal.base.errors import ConfigError, VictimError

ENV = re.compile(r"env:([A-Za-z_][A-Za-z0-9_]*)")
TOKEN = "{token}"
_SECRET = re.compile(
    r"authori[sz]ation|cookie|token|secret|password|credential|api[-_]?key|subscription-key|^key$", re.I
)
_LASTS = 1800.0  # seconds after which a token is fetched again; those of Google Cloud last an hour


class Headers:
    """The headers of a request, whose values may name secrets.

    ``env:NAME`` in a value stands for an environment variable, ``{token}`` for what ``token_command`` prints.
    """

    def __init__(self, headers: Mapping[str, str], token_command: Sequence[str] | None) -> None:
        """Take the headers as a config gives them.

        Raises:
            ConfigError: a header that holds a key holds it in clear, or ``{token}`` has no command.
        """
        self._headers, self._command = dict(headers), list(token_command or ())
        self._token, self._fetched, self.edition = "", 0.0, 0
        for name, value in self._headers.items():
            if _SECRET.search(name) and not ENV.search(value) and TOKEN not in value:
                raise ConfigError(
                    f"victim.headers.{name} is to name its key, not to hold it: a config is written into every job's "
                    f"folder. Write env:NAME (the variable is read when a request is sent), or {TOKEN} with "
                    "victim.token_command."
                )
            if TOKEN in value and not self._command:
                raise ConfigError(f"victim.headers.{name} has {TOKEN}: give victim.token_command=[program, words].")

    def require_set(self) -> None:
        """Check that all variables are set.

        Raises:
            ConfigError: one is not.
        """
        for name, value in self._headers.items():
            for variable in ENV.findall(value):
                if not os.environ.get(variable, "").strip():
                    raise ConfigError(
                        f"victim.headers.{name} names the variable {variable}, which is not set: export it."
                    )

    def spell_out(self) -> dict[str, str]:
        """The headers to send, with their secrets.

        Raises:
            VictimError: the token command failed.
        """
        return {name: self._fill(value) for name, value in self._headers.items()}

    @property
    def renews(self) -> bool:
        """Whether a token can be fetched again when the service no longer takes it."""
        return bool(self._command)

    def forget_token(self) -> None:
        """Fetch the token again when it is needed next; ``edition`` counts how often."""
        self._token = ""
        self.edition += 1

    def hide(self, text: str) -> str:
        """A text in which each secret is replaced by its name."""
        for value in self._headers.values():
            for variable in ENV.findall(value):
                if secret := os.environ.get(variable, "").strip():
                    text = text.replace(secret, f"env:{variable}")
        return text.replace(self._token, "(token)") if self._token else text

    def __repr__(self) -> str:
        return f"Headers({', '.join(self._headers)})"

    def _fill(self, value: str) -> str:
        filled = ENV.sub(lambda found: os.environ.get(found[1], "").strip(), value)
        return filled.replace(TOKEN, self._fetch()) if TOKEN in value else filled

    def _fetch(self) -> str:
        if not self._token or time.monotonic() - self._fetched > _LASTS:
            try:
                done = subprocess.run(self._command, capture_output=True, text=True, timeout=60, check=False)
            except (OSError, subprocess.TimeoutExpired) as error:
                raise VictimError(
                    f"victim.token_command={self._command[0]} could not be run ({type(error).__name__})."
                ) from None
            if done.returncode or not done.stdout.strip():
                said = f"ended with {done.returncode}" if done.returncode else "printed nothing"
                raise VictimError(f"victim.token_command={self._command[0]} {said}: run it by hand and see.")
            self._token, self._fetched = done.stdout.strip(), time.monotonic()
        return self._token


def check_url(url: str) -> None:
    """Refuse an address that is none, or that holds a password or a key.

    Raises:
        ConfigError: it does.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname
        parts.port  # noqa: B018  # raises if it is no number
    except ValueError:
        host, parts = None, urlsplit("")
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigError(f"victim.url={url} is no address: http://host:port/path or https://host/path.")
    if parts.username or parts.password or any(_SECRET.search(name) for name, _ in parse_qsl(parts.query)):
        raise ConfigError(
            "victim.url holds a key or a password, and a config is written into every job's folder: send it in a "
            "header, victim.headers={Authorization: 'Bearer env:NAME'}."
        )
