"""Who may ask a service: keys (kept as digests alone), budgets, rate limits, prices."""

from __future__ import annotations

import hashlib
import math
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from fmsteal.base.errors import ConfigError
from fmsteal.records.results import load_yaml

LOCAL = "local"  # the only client of a service without a file of clients
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class ServiceClient:
    """One client of a service.

    Attributes:
        name: how logs and records name it.
        key_sha256: SHA-256 of its key, in hex. Keys are random and long, so a plain digest does not give them away.
        budget: answers it may have in all; None: any number.
        per_second: images a second it may ask about, as many as a second allows at once; None: any number.
        price_per_1000: US dollars for a thousand answers.
    """

    name: str
    key_sha256: str
    budget: int | None = None
    per_second: float | None = None
    price_per_1000: float = 0.0

    def __post_init__(self) -> None:
        of = f"client {self.name}"
        if not _DIGEST.fullmatch(str(self.key_sha256)):  # a YAML may hold a number
            raise ConfigError(f"{of}: key_sha256 is 64 hex digits, as `fmsteal serve --new-key {self.name}` prints.")
        if self.budget is not None and not (_is_number(self.budget, int) and self.budget >= 0):
            raise ConfigError(f"{of}: budget is a number of answers, 0 or more, or null; not {self.budget!r}.")
        if self.per_second is not None and not (_is_number(self.per_second) and self.per_second > 0):
            raise ConfigError(f"{of}: per_second is above 0, or null; not {self.per_second!r}.")
        if not (_is_number(self.price_per_1000) and self.price_per_1000 >= 0):
            raise ConfigError(f"{of}: price_per_1000 is in US dollars, 0 or more; not {self.price_per_1000!r}.")


def make_key() -> str:
    """A new random key."""
    return f"fms_{secrets.token_urlsafe(32)}"


def digest_key(key: str) -> str:
    """The SHA-256 of a key, in hex."""
    return hashlib.sha256(key.encode()).hexdigest()


def read_clients(file: Path) -> list[ServiceClient]:
    """The clients of a YAML or JSON file: ``clients: {NAME: {key_sha256: ..., budget: ..., ...}}``.

    Raises:
        ConfigError: the file is missing or damaged, or a client is not described as it must be.
    """
    try:
        known = load_yaml(file.read_text())
    except OSError as error:
        raise ConfigError(f"The clients' file {file} cannot be read: {error.strerror}.") from error
    except Exception as error:  # YAML's own errors
        raise ConfigError(f"The clients' file {file} is no YAML: {error}.") from error
    listed = known.get("clients") if isinstance(known, Mapping) else None
    if not isinstance(listed, Mapping) or not listed:
        raise ConfigError(
            f"{file} lists no clients. It begins with `clients:`; `fmsteal serve --new-key NAME` adds one."
        )
    clients = [_parse(str(name), options, file) for name, options in listed.items()]
    owners: dict[str, str] = {}
    for client in clients:
        if client.key_sha256 in owners:
            raise ConfigError(f"{file}: {owners[client.key_sha256]} and {client.name} have the same key.")
        owners[client.key_sha256] = client.name
    return clients


def _parse(name: str, options: Any, file: Path) -> ServiceClient:
    due = [field.name for field in fields(ServiceClient) if field.name != "name"]
    if not isinstance(options, Mapping):
        raise ConfigError(f"{file}: client {name} has no options. It needs key_sha256; there are: {', '.join(due)}.")
    if "key" in options:
        raise ConfigError(f"{file}: client {name} has its key in the file. Keep its digest there: key_sha256.")
    if unknown := sorted(set(map(str, options)) - set(due)):
        raise ConfigError(f"{file}: client {name} has no option {unknown[0]}. There are: {', '.join(due)}.")
    if "key_sha256" not in options:
        raise ConfigError(f"{file}: client {name} has no key_sha256. `fmsteal serve --new-key {name}` makes one.")
    return ServiceClient(name, **{str(option): value for option, value in options.items()})


def _is_number(value: object, kind: type = float) -> bool:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return whole if kind is int else whole or (isinstance(value, float) and math.isfinite(value))
