"""All that fmsteal takes from inside Weights & Biases.

Written for wandb 0.27.2 to 0.31.0. `tests/tracking/test_on_wandb.py` holds it against the wandb that is installed,
and fails where that is another one.

- `SERVICE_GONE`: the exceptions by which W&B says that its service process has died; it has no public name for them.
- `forget_run`: a run whose service is gone cannot be finished, and W&B starts no other while it takes it for open.
- `read_settings`: `wandb.setup` says the same and starts the service.
- `check_environment`: a wrong WANDB_* variable is refused before anything is trained, not when the run begins.
- `read_records`: the format of a ``.wandb`` file. W&B reads it only to upload it.
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
from wandb.sdk.mailbox import HandleAbandonedError, MailboxClosedError

REFUSED = (ValueError, UsageError)  # how W&B says that a setting is not valid
UNREACHABLE = (CommError, AuthenticationError, UsageError, TimeoutError)  # how it says that a run cannot be online
SERVICE_GONE = (ConnectionError, MailboxClosedError, HandleAbandonedError)
BLOCK = 32 * 1024
HEADER = 7  # bytes, of a ``.wandb`` file and of each of its records


def forget_run() -> None:
    """Leave a run that nobody is left to close, as its service has ended: the next starts anew."""
    with suppress(*SERVICE_GONE):
        wandb.teardown()
    unset_globals()


def read_settings() -> Any:
    """W&B's settings as its variables and files make them, without starting its service."""
    return wandb_setup.singleton().settings


def check_environment() -> None:
    """See that W&B would take its variables.

    Raises:
        ValueError, UsageError: it would not.
    """
    wandb.Settings().update_from_env_vars(dict(os.environ))


def read_records(file: Path) -> Iterator[Any]:
    """The records of a ``.wandb`` file: LevelDB's log format, each protobuf; of a torn file those that are whole."""
    data, place, parts = file.read_bytes(), HEADER, b""
    while place + HEADER <= len(data):
        if BLOCK - place % BLOCK < HEADER:  # a block's last bytes are padding where no header fits
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
