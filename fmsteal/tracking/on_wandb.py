"""Everything that fmsteal uses of Weights & Biases' internals.

Written for wandb 0.27.2 to 0.31.0. `tests/tracking/test_on_wandb.py` checks it against the installed wandb, and fails
if that is another version.

- `SERVICE_GONE`: the exceptions that W&B raises when its service process has died; they have no public names.
- `forget_run`: a run whose service is gone cannot be finished, and W&B starts no other run while it counts as open.
- `read_settings`: `wandb.setup` returns the same settings, but starts the service.
- `check_environment`: refuses a wrong WANDB_* variable before anything is trained, not when the run begins.
- `read_records`: the format of a ``.wandb`` file, which W&B reads only to upload it.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import wandb
from wandb.errors import AuthenticationError, CommError, UsageError
from wandb.proto.wandb_internal_pb2 import Record
from wandb.sdk import wandb_setup
from wandb.sdk.lib.module import unset_globals
from wandb.sdk.lib.service import service_token
from wandb.sdk.mailbox import HandleAbandonedError, MailboxClosedError

REFUSED = (ValueError, UsageError)  # raised by W&B for an invalid setting
UNREACHABLE = (CommError, AuthenticationError, UsageError, TimeoutError)  # raised if a run cannot be online
SERVICE_GONE = (ConnectionError, MailboxClosedError, HandleAbandonedError, service_token.WandbServiceConnectionError)
BLOCK = 32 * 1024
HEADER = 7  # bytes in the header of a ``.wandb`` file, and in that of each of its records


def forget_run() -> None:
    """Drop a run that cannot be closed because its service has ended, so that the next run starts a service anew."""
    with suppress(*SERVICE_GONE):
        wandb.teardown()
    service_token.clear_service_in_env()  # it may name a service that another process, or nobody, has
    unset_globals()


def read_settings() -> Any:
    """W&B's settings from its variables and files, without starting its service."""
    return wandb_setup.singleton().settings


def check_environment() -> None:
    """Check that W&B would accept its variables.

    Raises:
        ValueError, UsageError: it would refuse one.
    """
    wandb.Settings().update_from_env_vars(dict(os.environ))


def read_records(file: Path) -> Iterator[Any]:
    """The records of a ``.wandb`` file: LevelDB's log format, each a protobuf; in a torn file, the complete ones."""
    data, place, parts = file.read_bytes(), HEADER, b""
    while place + HEADER <= len(data):
        if BLOCK - place % BLOCK < HEADER:  # a block's last bytes are padding if no header fits
            place += BLOCK - place % BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        place += HEADER
        if place + length > len(data):
            return
        parts += data[place : place + length]
        place += length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield Record.FromString(parts)
            parts = b""
