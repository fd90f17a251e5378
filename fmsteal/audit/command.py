"""The sub-command ``fmsteal audit``: plans the thefts, runs them as sweeps, and writes the page."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fmsteal.audit.request import LADDER, make_request, require_authorised
from fmsteal.base.quoting import spell_command
from fmsteal.base.store import explain_errors, write_json
from fmsteal.records.folders import SweepFolder
from fmsteal.report.commands.arguments import end_if_refused, make_parser

if TYPE_CHECKING:
    from fmsteal.audit.document import Document
    from fmsteal.audit.plan import AuditPlan

TEXT = """\
How stealable is a model of yours? A shelf of attackers steals it at a ladder of budgets, with and without defenses in
front of it, and a page says what a copy costs, what detectors saw, and what honest users would lose.

  fmsteal audit i_am_authorised=true                              the default job's victim
  fmsteal audit i_am_authorised=true victim=custom victim.model=yours.models:net data=cifar10 --plan
  fmsteal audit i_am_authorised=true victim=http victim.name=mine victim.url=http://127.0.0.1:8000 --queries 20000

The words with = are those of a job (victim=..., data=..., thief=..., query=..., output=...). What it asks, what its
limits count, and how to use it responsibly: fmsteal/audit/README.md."""


@end_if_refused()
def main(words: Sequence[str]) -> None:
    """Run the sub-command; its name is the first word. Exit non-zero if a theft has no result."""
    args = _make_parser().parse_intermixed_args(words[1:])
    require_authorised(args.what)
    request = make_request(
        args.what, args.attacks, args.defenses, args.ladder, args.seeds, args.queries, args.usd, args.name
    )
    from fmsteal.audit.plan import make_plan

    plan = make_plan(request)
    _show_plan(plan)
    if args.plan:
        return
    failed = _run(plan.commands)
    _report(plan, spell_command(["fmsteal", *words]))
    sys.exit(int(failed))


def _run(commands: Sequence[Sequence[str]]) -> bool:
    """Run the sweeps one after the other; whether one of them has jobs without a result."""
    from fmsteal import cli

    failed = False
    for line in commands:
        try:
            cli.run(line)
        except SystemExit as end:
            failed = failed or end.code not in (None, 0)
            if isinstance(end.code, str):
                print(end.code, file=sys.stderr)
    return failed


def _report(plan: AuditPlan, command: str) -> None:
    """Write the page and the JSON file, and print what they say."""
    from fmsteal.audit.document import make_document, read_thefts
    from fmsteal.audit.page import write_page

    thefts = read_thefts(plan)
    document = make_document(plan, thefts, command)
    folder = SweepFolder(plan.folder).audit
    with explain_errors(folder.path):
        write_page(document, thefts, folder)
        write_json(folder.document, document)
    _show(document)
    for file in (folder.page, folder.document):
        print(f"written to {file}")


def _show_plan(plan: AuditPlan) -> None:
    out = _console()
    names = ", ".join(dict.fromkeys(theft.attack for theft in plan.thefts))
    behind = ", ".join(dict.fromkeys(theft.defense for theft in plan.thefts))
    finished = sum(theft.job.finished for theft in plan.thefts)
    more = f", {plan.besides:,} of them to measure and to prepare" if plan.besides else ""
    for line in (
        f"target    {plan.target.names['victim']}, {plan.target.answers}",
        f"attackers {names}",
        f"defenses  {behind}",
        f"budgets   {', '.join(f'{rung:,}' for rung in plan.ladder)}; seeds: {plan.request.seeds}",
        f"in all    {len(plan.thefts)} thefts ({finished} finished already), at most {plan.queries:,} queries{more}, "
        f"{plan.usd:,.2f} USD at {plan.target.price:g} for 1,000",
        *(f"left out  {gap.what}: {gap.why}" for gap in plan.gaps),
        f"folder    {plan.folder}",
    ):
        out.print(line, highlight=False, markup=False, soft_wrap=True)


def _show(document: Document) -> None:
    """Print an audit's verdict and its main table."""
    from fmsteal.audit.verdict import count, dollars, percent

    out, verdict = _console(), document["verdict"]
    table = Table(title="queries and dollars at which agreement first passes (budgets that were tried)")
    table.title_justify = "left"
    for heading in ("attacker", "defense"):
        table.add_column(heading)
    for heading in (*(f"{100 * level:g} %" for level in document["levels"]), "best"):
        table.add_column(heading, justify="right")
    for thief in document["thieves"]:
        passes = (thief["passes"][f"{level:g}"] for level in document["levels"])
        cells = ["-" if each is None else f"{count(each['queries'])}, {dollars(each['usd'])}" for each in passes]
        best = "-" if thief["best"] is None else percent(thief["best"]["agreement"])
        table.add_row(escape(thief["attack"]), escape(thief["defense"]), *cells, best)
    out.print(table)
    out.print(f"Verdict: {verdict['grade']}. {verdict['headline']}", style="bold", highlight=False, markup=False)
    for line in (*verdict["sentences"], *(f"{name}: {said}" for name, said in verdict["defenses"].items())):
        out.print(f"- {line}", highlight=False, markup=False)


def _console() -> Console:
    from fmsteal.report.show.table import console

    return console()


def _make_parser() -> argparse.ArgumentParser:
    parser = make_parser("audit", TEXT)
    parser.add_argument("what", nargs="*", metavar="KEY=VALUE", help="i_am_authorised=true, and a job's choices")
    parser.add_argument(
        "--attacks", action="append", default=[], metavar="A,B",
        help="attackers; one with options of its own: 'solve thief=resnet10t' (default: a shelf for the task)",
    )  # fmt: skip
    parser.add_argument(
        "--defenses", action="append", default=[], metavar="A,B",
        help="in front of the model one at a time, beside none; with own options: 'gaussian defense.sigma=0.2'",
    )  # fmt: skip
    rungs = ",".join(map(str, LADDER))
    parser.add_argument("--ladder", metavar="N,N", help=f"budgets of the thefts (default: {rungs}, as far as they fit)")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="seeds 0 to N - 1 (%(default)s)")
    parser.add_argument("--queries", type=int, metavar="N", help="most queries in all")
    parser.add_argument("--usd", type=float, metavar="USD", help="most dollars in all")
    parser.add_argument("--name", help="its name, that of its folder (default: made from the command)")
    parser.add_argument("--plan", action="store_true", help="show what it would do, and end; nothing is asked")
    return parser
