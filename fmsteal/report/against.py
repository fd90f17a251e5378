"""Attacks beside a baseline: agreement for each number of queries, and what each gains, paired seed by seed.

    python -m fmsteal.report.against outputs/sweeps/attacks --plot attacks.png

prints a Markdown table and draws the curves. Other axes than the attack are compared with ``--axis``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fmsteal.errors import FmstealError
from fmsteal.report.interval import student_interval
from fmsteal.results import Result, of_sweep
from fmsteal.sweep.identity import AXES

WIDTH, HEIGHT = 8.0, 4.5  # inches


@dataclass(frozen=True)
class Beside:
    """A choice and the baseline at one number of queries.

    Attributes:
        choice: of the axis that is compared, as ``activethief``.
        queries: the budget.
        agreement: of each seed.
        gain: over the baseline, of each seed that both have.
    """

    choice: str
    queries: int
    agreement: list[float]
    gain: list[float]

    @property
    def verdict(self) -> str:
        """``better`` or ``worse`` where Student's 95 % interval of the mean gain leaves zero out; else nothing."""
        interval = student_interval(self.gain)
        if interval is None or interval[0] <= 0 <= interval[1]:
            return ""
        return "better" if interval[0] > 0 else "worse"


def against(results: Sequence[Result], baseline: str, axis: str = "attack") -> list[Beside]:
    """Every choice of an axis beside the baseline, by choice and queries.

    Raises:
        FmstealError: no result of the baseline, results that differ in more than axis, budget and seed, or two results
            for the same of these: such are not to be averaged.
    """
    others = [name for name in AXES if name not in (axis, "budget")]
    mixed = [name for name in others if len({str(r["axis"].get(name)) for r in results}) > 1]
    if mixed:
        raise FmstealError(f"The results differ in {', '.join(mixed)} too: compare one choice of it at a time.")
    found: dict[tuple[str, int], dict[int, float]] = {}
    for r in results:
        seeds = found.setdefault((str(r["axis"][axis]), r["budget"]), {})
        if r["axis"]["seed"] in seeds:
            raise FmstealError(
                f"There are two results for {axis}={r['axis'][axis]}, {r['budget']} queries and seed "
                f"{r['axis']['seed']}, of different settings: compare them in folders of their own."
            )
        seeds[r["axis"]["seed"]] = r["metrics"]["test/agreement"]
    if all(choice != baseline for choice, _ in found):
        there = ", ".join(sorted({choice for choice, _ in found})) or "no finished job"
        raise FmstealError(f"There is no result of {axis}={baseline} to compare with. There is: {there}.")
    return [
        Beside(choice, queries, list(seeds.values()), [seeds[s] - base[s] for s in seeds if s in base])
        for (choice, queries), seeds in sorted(found.items())
        for base in [found.get((baseline, queries), {})]
    ]


def markdown(rows: Sequence[Beside], baseline: str, axis: str = "attack") -> str:
    """A row for each choice, a column for each number of queries: the mean, and the gain with its 95 % interval.

    The best with most queries come first; gains whose interval leaves zero out are bold.
    """
    budgets = sorted({row.queries for row in rows})
    cell = {(row.choice, row.queries): row for row in rows}

    def text(row: Beside | None) -> str:
        if row is None:
            return ""
        mean = _figure(statistics.fmean(row.agreement))
        interval = student_interval(row.gain)
        if row.choice == baseline or not row.gain:
            return mean
        gain = f"{statistics.fmean(row.gain):+.3f}".replace("0.", ".", 1)
        if interval is None:
            return f"{mean} ({gain})"
        return (
            f"{mean} ({f'**{gain}**' if row.verdict else gain} ± {_figure(interval[1] - statistics.fmean(row.gain))})"
        )

    def rank(choice: str) -> list[float]:
        means = [statistics.fmean(cell[choice, q].agreement) if (choice, q) in cell else -1.0 for q in budgets]
        return [-mean for mean in reversed(means)]

    head = f"| {axis} | " + " | ".join(f"{queries:,} queries" for queries in budgets) + " |"
    choices = sorted({row.choice for row in rows}, key=rank)
    body = [f"| `{choice}` | " + " | ".join(text(cell.get((choice, q))) for q in budgets) + " |" for choice in choices]
    return "\n".join([head, "|---" * (len(budgets) + 1) + "|", *body])


def plot(rows: Sequence[Beside], baseline: str, file: Path) -> None:
    """Mean agreement against queries, a line for each choice, the baseline with the band of its 95 % interval."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, HEIGHT), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(xscale="log", xlabel="queries", ylabel="agreement with the victim")
    colours, marks = mpl.colormaps["tab20"].colors, "osv^D<>pPX*hd"  # type: ignore[attr-defined]
    last = max(row.queries for row in rows)
    final = {row.choice: statistics.fmean(row.agreement) for row in rows if row.queries == last}
    for number, choice in enumerate(sorted({row.choice for row in rows}, key=lambda c: -final.get(c, -1.0))):
        points = sorted((row for row in rows if row.choice == choice), key=lambda row: row.queries)
        queries = [row.queries for row in points]
        means = [statistics.fmean(row.agreement) for row in points]
        mine = choice == baseline
        style = {"color": "black", "linewidth": 2.5} if mine else {"color": colours[number % len(colours)]}
        axes.plot(queries, means, marker=marks[number % len(marks)], label=choice, zorder=3 if mine else 2, **style)
        intervals = [student_interval(row.agreement) for row in points]
        if mine and all(intervals):
            low, high = zip(*[i for i in intervals if i is not None], strict=True)
            axes.fill_between(queries, low, high, color="black", alpha=0.12, linewidth=0)
    budgets = sorted({row.queries for row in rows})
    axes.set_xticks(budgets, [f"{queries:,}" for queries in budgets])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", frameon=False, fontsize="small")
    figure.savefig(file)


def _figure(share: float) -> str:
    return f"{share:.3f}".removeprefix("0")


def main() -> None:
    """Print the table, draw the plot."""
    parser = argparse.ArgumentParser(prog="python -m fmsteal.report.against", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="of a sweep: outputs/sweeps/<sweep_id>")
    parser.add_argument("--axis", default="attack", choices=AXES)
    parser.add_argument("--baseline", default="knockoff", help="the choice that the others are compared with")
    parser.add_argument("--plot", type=Path, help="also draw the curves into this file (png, pdf, svg)")
    args = parser.parse_args()
    sweep = of_sweep(args.folder)
    try:
        rows = against(sweep.results, args.baseline, args.axis)
    except FmstealError as error:
        sys.exit(f"fmsteal: {error}")
    left = len(sweep.failures) + len(sweep.unfinished)
    print(markdown(rows, args.baseline, args.axis))
    if left:
        print(f"\n{left} jobs failed or are unfinished: they are not in it.")
    if args.plot:
        plot(rows, args.baseline, args.plot)


if __name__ == "__main__":
    main()
