"""Checks a sealed theft: files against digests, ledger against cost and budget, key against identity."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fmsteal.records.folders import PROGRAM, THIEF, TheftFolder
from fmsteal.report.checks.defense_log import check_log
from fmsteal.report.checks.findings import Findings
from fmsteal.report.checks.ledger import read_ledger, require_probabilities
from fmsteal.report.checks.records import Record, key_hash, read_record
from fmsteal.report.checks.weights import check_weights

SCHEMA = 1
FORMS = {"weights": THIEF, "program": PROGRAM, "none": None}


def check_theft(folder: TheftFolder, found: Findings) -> Record | None:
    """Check a theft by itself; return the content of its ``theft.json``, None if that cannot be read."""
    seal = folder.seal.name
    if not folder.path.is_dir():
        found.add(seal, f"is missing: there is no theft {folder.path.name}. Was it moved away?")
        return None
    if folder.refused.exists():
        found.add(folder.refused.name, f"the theft is refused: {_why(folder.refused)}")
    if not folder.seal.exists():
        found.add(seal, "is missing: the theft is not sealed")
        return None
    record = read_record(folder.seal, seal, found)
    if record is None:
        return None
    if record.get("schema") != SCHEMA:
        found.add(seal, f"is of schema {record.get('schema')!r}, this fmsteal reads {SCHEMA}")
    with found.reading(seal):
        _check_begun(folder, record, found)
    with found.reading(seal):
        _check_files(folder, record, found)
    with found.reading(seal):
        _check_account(folder, record, found)
    return record


def _check_begun(folder: TheftFolder, record: Record, found: Findings) -> None:
    seal, name = folder.seal.name, folder.begun.name
    begun = read_record(folder.begun, name, found)
    for part in ("schema", "key", "key_version", "identity", "inputs") if begun is not None else ():
        found.require((begun or {}).get(part) == record[part], name, f"its {part} is not that of {seal}")
    due = key_hash(record["key_version"], record["identity"])
    found.require(str(record["key"])[-17:] == f"-{due}", seal, f"its key is {record['key']}, by its identity ...-{due}")
    found.require(record["victim"] == record["inputs"]["victim"], seal, "its victim is not that of its inputs")


def _check_files(folder: TheftFolder, record: Record, found: Findings) -> None:
    seal, files = folder.seal.name, record["files"]
    for name, known in files.items():
        found.compare(folder.path / name, name, known, seal)
    own = (folder.begun, folder.ledger, folder.defense_log, folder.curves, folder.thief, folder.program)
    for file in own:
        found.require(file.name in files or not file.exists(), file.name, f"is there, but {seal} does not vouch for it")
    form = record["thief"]["form"]
    found.require(form in FORMS, seal, f"says that the thief is kept as {form!r}")
    kept = {file.name for file in (folder.thief, folder.program) if file.name in files}
    found.require(
        kept == {FORMS.get(form)} - {None}, seal, f"the thief is kept as {form}, but the files are {sorted(kept)}"
    )
    if folder.thief.is_file():
        check_weights(folder.thief, record["thief"], found)


def _check_account(folder: TheftFolder, record: Record, found: Findings) -> None:
    """Check that the ledger has as many rows as the theft has asked queries, within the budget."""
    seal, ledger, cost = folder.seal.name, folder.ledger.name, record["cost"]
    asked, rows, identity = cost["cost/queries"], record["ledger"]["rows"], record["identity"]
    found.require(asked == rows, seal, f"cost/queries is {asked}, its ledger has {rows} rows")
    found.require(asked <= record["budget"], seal, f"cost/queries is {asked}, the budget {record['budget']}")
    allowed = identity["budget"].get("queries", record["budget"])
    found.require(
        allowed == record["budget"], seal, f"its budget is {record['budget']}, that of its identity {allowed}"
    )
    found.require(isinstance(record["paid"], bool), seal, f"its paid is {record['paid']!r}")
    forwards = cost["cost/victim_forwards"]
    found.require(isinstance(forwards, int) and forwards >= 0, seal, f"cost/victim_forwards is {forwards!r}")
    book = None
    if folder.ledger.exists():
        with found.reading(ledger):
            book = read_ledger(folder.ledger, found)
            if folder.ledger_head.exists():
                with folder.ledger.open("rb") as stream:
                    same = stream.readline() == folder.ledger_head.read_bytes()
                found.require(same, folder.ledger_head.name, f"is not the header of {ledger}")
    elif rows:
        found.add(ledger, "is missing")
    if book is not None:
        paid = len(book.questions)
        found.require(paid == rows, ledger, f"holds {paid} answers, {seal} says {rows}")
        found.require(paid <= record["budget"], ledger, f"holds {paid} answers, the budget is {record['budget']}")
        found.require(book.width == record["ledger"]["width"], ledger, f"its answers are {book.width} wide")
        whose = f"{record['key'][-16:]} against {record['victim']}"
        found.require(book.whose == whose, ledger, f"is that of {book.whose}, not of {whose}")
        if identity["defense"] == {"name": "no_defense"} and identity["task"].get("answers") == "probabilities":
            require_probabilities(book, ledger, found)
    if folder.defense_log.exists():
        check_log(folder.defense_log, book, cost, found)


def _why(file: Path) -> Any:
    try:
        return json.loads(file.read_text())["why"]
    except (OSError, ValueError, KeyError, TypeError):
        return "its reason cannot be read"
