"""Reads JSON files that carry their own digest, and computes digests and keys from their content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fmsteal.report.checks.findings import Findings

Record = dict[str, Any]


def canonical_digest(value: Any) -> str:
    """SHA-256 of a JSON value with sorted keys and without spaces."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def key_hash(version: int, identity: Mapping[str, Any]) -> str:
    """The 16 hex digits at the end of a job's key: a digest of the formula's version and all that decides the theft."""
    return canonical_digest([version, identity])[:16]


def flatten(value: Any, key: str = "") -> Record:
    """Nested mappings as one mapping with dotted keys."""
    if not isinstance(value, Mapping):
        return {key: value}
    found: Record = {}
    for name, inner in value.items():
        found |= flatten(inner, f"{key}.{name}" if key else str(name))
    return found


def read_record(file: Path, name: str, found: Findings) -> Record | None:
    """A record without its seal; its faults are noted, and it is returned if it can be read.

    Its bytes are compared too, since one number may be spelt in two ways.
    """
    found.counted["digests"] += 1
    try:
        content = file.read_bytes()
        record = json.loads(content.decode())
    except FileNotFoundError:
        found.add(name, "is missing")
        return None
    except ValueError:
        found.add(name, "is no JSON: half-written, or damaged")
        return None
    if not isinstance(record, dict):
        found.add(name, "is no record")
        return None
    text = json.dumps(record, indent=2, sort_keys=True) + "\n"
    if record.pop("seal", None) != canonical_digest(record):
        found.add(name, "does not match its own seal: it was changed after it was written")
    elif text.encode() != content:
        found.add(name, "is not spelt as it was written: it was changed afterwards")
    return record
