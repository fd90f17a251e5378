"""What fmsteal builds on inside W&B is as it was when that was written; its files are read in `test_wandb.py`."""

from __future__ import annotations

import pytest
import wandb
from wandb.proto.wandb_internal_pb2 import Record

from tests.support.inside import importers, require_known

HERE = "fmsteal/tracking/on_wandb.py"
KNOWN = {  # digests of sources, or signatures
    "wandb.sdk.wandb_setup:singleton": "f9676a650d9c",
    "wandb.sdk.wandb_setup:_WandbSetup.settings": "d13fde41c1c9",
    "wandb.sdk.wandb_setup:teardown": "8c939096979f",
    "wandb.sdk.lib.module:unset_globals": "45b74d97241b",
    "wandb.sdk.wandb_settings:Settings.update_from_env_vars": "(self, environ)",
    "wandb.sdk.mailbox:MailboxClosedError": "662d2556bcc1",
    "wandb.sdk.mailbox:HandleAbandonedError": "404b9b2c686e",
    "wandb.sdk.mailbox.mailbox:Mailbox.require_response": "c0577d1cf834",
    "wandb.sdk.mailbox.mailbox_handle:MailboxHandle.wait_or": "f9dd726ab724",
    "wandb.sdk.mailbox.response_handle:MailboxResponseHandle.wait_or": "0afd8754fac5",
}


@pytest.mark.parametrize(("name", "known"), KNOWN.items())
def test_wandb_is_the_one_that_this_was_written_for(name: str, known: str) -> None:
    require_known("wandb", name, known, HERE)


def test_settings_and_records_have_the_names_that_are_used() -> None:
    settings = {"silent", "console", "disable_git", "disable_code", "x_disable_stats", "init_timeout", "http_proxy"}
    assert settings <= wandb.Settings.model_fields.keys(), "look at fmsteal/tracking/wandb.py and login.py"
    kinds = {field.name for field in Record.DESCRIPTOR.oneofs_by_name["record_type"].fields}
    assert {"run", "exit", "history", "summary"} <= kinds, f"look at {HERE} and fmsteal/tracking/offline.py"


def test_nothing_else_looks_inside_wandb() -> None:
    assert list(importers("wandb.sdk", "wandb.errors", "wandb.proto")) == [HERE]
