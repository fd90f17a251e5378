"""Checks a job's costs, computed again from its theft, its measurements and the price in its config."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fmsteal.report.checks.findings import Findings
from fmsteal.report.checks.records import Record


def check_cost(
    result: Record, sealed: Record, records: Sequence[Record], price: float, name: str, found: Findings
) -> None:
    """Compare a result's costs with those computed again; ``price`` is for 1000 queries."""
    cost, theirs = result["cost"], sealed["cost"]
    queries, shown = theirs["cost/queries"], sum(record["victim_forwards"] for record in records)
    usd = queries * price / 1000 + theirs.get("cost/defense_usd", 0.0)
    seconds = theirs["cost/seconds"] + sum(record["seconds"] for record in records)
    billed = usd
    if "cost/queries_billed" in theirs:
        asked = theirs["cost/queries_billed"] + theirs.get("cost/preparation_queries", 0)
        billed = asked * price / 1000 + theirs.get("cost/defense_usd", 0.0)
    due = {**theirs, "cost/usd": usd, "cost/usd_billed": billed, "cost/seconds": seconds}
    if sealed["paid"]:
        due |= {"cost/evaluation_queries": shown, "cost/evaluation_usd": shown * price / 1000}
    for key in sorted({*cost, *due}):
        value, wanted = cost.get(key), due.get(key)
        if value is None or wanted is None:
            found.add(name, f"{key} is {value}, by the theft {wanted}")
        elif key == "cost/usd_billed" and value == 0:
            continue  # reusing a theft costs nothing
        elif not _close(value, wanted, 0.011 if key == "cost/seconds" else 0.0):
            found.add(name, f"{key} is {value}, by theft, measurements and price {wanted:.6g}")
    budget = result["budget"]
    found.require(queries <= budget, name, f"cost/queries is {queries}, the budget {budget}")
    found.require(budget == sealed["budget"], name, f"its budget is {budget}, that of the theft {sealed['budget']}")
    width = sealed["ledger"]["width"]
    found.require(result["width"] == width, name, f"its width is {result['width']}, that of the ledger {width}")


def _close(value: float, wanted: float, slack: float) -> bool:
    return math.isclose(value, wanted, rel_tol=1e-9, abs_tol=max(slack, 1e-12))
