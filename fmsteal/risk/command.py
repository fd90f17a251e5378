"""The sub-command ``fmsteal risk``: how stealable a victim is, before anybody steals. Nothing is asked or trained."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fmsteal.audit.request import parse_ladder
from fmsteal.base.errors import ConfigError
from fmsteal.base.store import explain_errors, write_json
from fmsteal.report.commands.arguments import end_if_refused, make_parser, require_folder

if TYPE_CHECKING:
    from fmsteal.risk.check import Calibration
    from fmsteal.risk.estimate import BudgetEstimate, RiskEstimate
    from fmsteal.risk.profile import VictimProfile

TEXT = """\
How stealable is a victim, before anybody steals? From the victim alone: at how many queries its head can be solved for,
what agreement to expect of the strongest attacker by our own measured tables, with an interval, and the dollars.
Nothing is asked, trained or downloaded.

  fmsteal risk                                    the default job's victim
  fmsteal risk outputs/runs/<key>                 that of a finished job, with its accuracy
  fmsteal risk victim=resnet18_scratch data=cifar10 defense=rounding --accuracy .73
  fmsteal risk victim=http victim.name=mine victim.url=http://127.0.0.1:8000 --kind probed --width 768
  fmsteal risk --check                            how well that did on victims that it had not seen

What the figures rest on, and what they do not say: fmsteal/risk/README.md."""


@end_if_refused()
def main(words: Sequence[str]) -> None:
    """Run the sub-command; its name is the first word."""
    args = _make_parser().parse_intermixed_args(words[1:])
    if args.check:
        if args.what:
            raise ConfigError(f"--check is about the measured tables, not about a victim: leave out {args.what[0]}.")
        return _show_check()
    ladder = parse_ladder(args.ladder)
    if args.out is not None:
        require_folder(args.out)
    profile = _profile(args)
    from fmsteal.risk.estimate import LADDER, estimate

    found = estimate(profile, ladder or LADDER)
    _show(found)
    if args.out is not None:
        with explain_errors(args.out.absolute().parent):
            write_json(args.out, found.as_document())
        print(f"written to {args.out}")


def _profile(args: argparse.Namespace) -> VictimProfile:
    from fmsteal.risk.profile import Known

    public = None if args.trunk is None else args.trunk == "public"
    said = Known(args.kind, public, args.width, args.classes, args.accuracy)
    jobs = [word for word in args.what if "=" not in word and not word.startswith("~")]
    overrides = [word for word in args.what if word not in jobs]
    if len(jobs) > 1:
        raise ConfigError(f"One victim at a time, not {len(jobs)}: {', '.join(jobs)}.")
    if jobs and overrides:
        raise ConfigError(f"A finished job is taken as it is: leave out {overrides[0]}, or leave out {jobs[0]}.")
    from fmsteal.risk.opening import open_job, open_overrides

    return open_job(jobs[0], said) if jobs else open_overrides(overrides, said)


def _show(found: RiskEstimate) -> None:
    from rich.table import Table

    from fmsteal.report.show.table import console

    out, profile = console(), found.profile
    for line in (
        f"victim    {profile.name}: {profile}",
        f"answers   {profile.precision}",
        f"solved    {found.exact_says}",
    ):
        out.print(line, highlight=False, markup=False, soft_wrap=True)
    table = Table(title=f"the strongest attacker, 90 % prediction interval; {profile.price:g} USD for 1,000 queries")
    table.title_justify = "left"
    for heading in ("queries", "for each unknown", "agreement", "interval", "USD"):
        table.add_column(heading, justify="right")
    table.add_column("beyond what was measured")
    for budget in found.budgets:
        table.add_row(*_spell(budget))
    out.print(table)
    for sentence in found.says:
        out.print(f"- {sentence}", highlight=False, markup=False, soft_wrap=True)


def _spell(budget: BudgetEstimate) -> tuple[str, ...]:
    ratio = "?" if budget.ratio is None else f"{budget.ratio:.2g}"
    middle = "?" if budget.expected is None else f"{budget.expected:.2f}"
    middle = f"{middle} solved" if budget.exact else middle
    interval = "?" if budget.low is None else f"{budget.low:.2f} to {budget.high:.2f}"
    return f"{budget.queries:,}", ratio, middle, interval, f"{budget.usd:,.2f}", "; ".join(budget.outside)


def _show_check() -> None:
    from rich.table import Table

    from fmsteal.report.show.table import console
    from fmsteal.risk.check import validate_all

    out, checks = console(), validate_all()
    table = Table(title="expectations of cells that were left out, against what was measured")
    table.title_justify = "left"
    for heading in ("left out", "accuracy", "cells", "Spearman", "mean error", "inside 90 %", "width"):
        table.add_column(heading, justify="right")
    for check in checks:
        table.add_row(*_spell_check(check))
    out.print(table)
    single = Table(title="each victim from the others, its accuracy known")
    single.title_justify = "left"
    for heading in ("victim", "trunk", "queries", "expected", "interval", "measured"):
        single.add_column(heading, justify="left" if heading == "victim" else "right")
    for held in checks[0].cells:
        cell, expected = held.cell, held.expected
        interval = f"{expected.low:.2f} to {expected.high:.2f}{'' if held.inside else ' *'}"
        row = (
            cell.victim,
            cell.trunk,
            f"{cell.queries:,}",
            f"{expected.agreement:.2f}",
            interval,
            f"{cell.agreement:.3f}",
        )
        single.add_row(*row)
    out.print(single)


def _spell_check(check: Calibration) -> tuple[str, ...]:
    return (
        f"each of {check.groups} {'victims' if check.left_out == 'victim' else 'studies'}",
        "known" if check.informed else "not known", str(len(check.cells)), f"{check.rank:.2f}", f"{check.error:.3f}",
        f"{check.inside:.2f}", f"{check.width:.2f}",
    )  # fmt: skip


def _make_parser() -> argparse.ArgumentParser:
    parser = make_parser("risk", TEXT)
    parser.add_argument("what", nargs="*", metavar="JOB|KEY=VALUE", help="a finished job's folder, or a job's choices")
    parser.add_argument("--kind", metavar="KIND", help="how it was made: probed, fine-tuned, scratch")
    parser.add_argument(
        "--trunk", choices=("public", "private"), help="whether anybody can have its trunk as it serves"
    )
    parser.add_argument("--width", type=int, metavar="N", help="number of its features")
    parser.add_argument("--classes", type=int, metavar="N", help="number of its classes")
    parser.add_argument("--accuracy", type=float, metavar="SHARE", help="its accuracy on its own task: .9")
    parser.add_argument("--ladder", metavar="N,N", help="budgets (default: 100,500,1000,5000,20000)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write it as JSON")
    parser.add_argument("--check", action="store_true", help="show how well expectations of left-out cells did")
    return parser
