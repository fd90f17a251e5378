"""What records on disk must look like, so that their readers can rely on it, and what is wrong with a damaged one.

A job's folder may have been edited, copied in part, or written by another program; this must not keep anybody from
seeing the other jobs. Imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeGuard

from fmsteal.base.shown import make_typable

LATEST = 2.0**33  # seconds since 1970: the latest time that is accepted
Record = dict[str, Any]


def fault_of_result(result: Any) -> str:
    """The first thing that is wrong with a job's result, beginning with a verb; "" if it is valid."""
    if not isinstance(result, dict):
        return "is no result"
    for part, rule in _PARTS.items():
        if part in result and not rule(result[part]):
            return f"is no result: its {part} is {_short(result[part])}"
    if "axis" not in result:
        return "is no result: it has no axis"
    for part, rule in _VALUES.items():
        for name, value in result.get(part, {}).items():
            if not rule(value):
                return f"is no result: its {part}: {_short(name)[1:-1]} is {_short(value)}"
    if not is_seed(seed := result["axis"].get("seed")):
        return f"is no result: its axis: seed is {_short(seed)}"
    return ""


def mend_failure(failure: Any, key: str) -> Record:
    """The record of a job that raised, with its key, and with text wherever text is expected."""
    if not isinstance(failure, dict):
        return {"job_key": key, "error": "what it raised cannot be read: failure.json is damaged", "traceback": ""}
    texts = {name: failure.get(name) for name in ("stage", "log", "command", "traceback")}
    axis = failure.get("axis")
    whole = isinstance(axis, dict) and all(map(is_plain, axis.values())) and is_seed(axis.get("seed"))
    return {
        "job_key": failure["job_key"] if isinstance(failure.get("job_key"), str) else key,
        "error": str(failure.get("error", "unknown")),
        "traceback": "",
        **{name: text for name, text in texts.items() if isinstance(text, str)},
        **({"axis": axis} if whole else {}),
    }


def mend_plan(record: Record) -> Record:
    """A sweep's record without its malformed parts."""
    begun = record.get("begun")
    jobs = {key: _mend_job(job) for key, job in record["jobs"].items() if _is_name(key) and isinstance(job, dict)}
    return {
        **record,
        "jobs": jobs,
        "command": make_typable(record.get("command")),
        "begun": begun if is_number(begun) and 0 <= begun < LATEST else None,
        "fixed": _mapping(record.get("fixed")),
        "varied": [name for name in record.get("varied") or () if isinstance(name, str)]
        if isinstance(record.get("varied"), list)
        else [],
    }


def _mend_job(job: Record) -> Record:
    axis, words, known = _mapping(job.get("axis")), job.get("overrides"), {}
    if axis and all(map(is_plain, axis.values())) and is_seed(axis.get("seed")):
        known["axis"] = axis
    if isinstance(job.get("cell"), str):
        known["cell"] = job["cell"]
    return {
        "victim": job["victim"] if isinstance(job.get("victim"), str) else "",
        "overrides": [str(word) for word in words] if isinstance(words, list) else [],
        **known,
    }


def is_number(value: Any) -> TypeGuard[int | float]:
    """Whether it is a number that a float can hold, which includes NaN and infinity."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return isinstance(value, float) or abs(value) < 2**1023


def is_plain(value: Any) -> bool:
    """Whether it is text, a number, true, false or null."""
    return value is None or isinstance(value, str | bool) or is_number(value)


def is_seed(value: Any) -> bool:
    """Whether it can stand in a column of seeds."""
    return value is None or value == "none" or (isinstance(value, int) and not isinstance(value, bool))


def _is_name(key: str) -> bool:
    """Whether it can be the name of a sub-folder."""
    return bool(key) and not set(key) & {"/", "\0"} and key not in (".", "..")


def _mapping(value: Any) -> Record:
    return value if isinstance(value, dict) else {}


def _is_mapping(value: Any) -> bool:
    return isinstance(value, dict)


def _is_interval(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(is_number, value))


def _is_count(value: Any) -> bool:
    return value is None or (isinstance(value, int) and is_number(value))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _short(value: Any) -> str:
    """A value as it is shown: ASCII without control characters, shortened to 60 characters."""
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:56]} ..."


_PARTS: Mapping[str, Callable[[Any], bool]] = {
    "job_key": _is_text,
    "axis": _is_mapping,
    "settings": _is_mapping,
    "metrics": _is_mapping,
    "cost": _is_mapping,
    "intervals": _is_mapping,
    "budget": _is_count,
}
_VALUES: Mapping[str, Callable[[Any], bool]] = {
    "axis": is_plain,
    "metrics": is_number,
    "cost": is_number,
    "intervals": _is_interval,
}
