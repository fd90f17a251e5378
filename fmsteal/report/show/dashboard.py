"""The project's W&B workspace and reports, as code: every name in them is one that runs log (a test checks this)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from fmsteal.base.errors import FmstealError
from fmsteal.report.read.about import guess
from fmsteal.report.read.cells import CELL, COUNT, HALF
from fmsteal.tracking.columns import OLD, name_column

AGREEMENT = "test/agreement"
QUERIES = "cost/queries"
SHOWN = ("victim", "thief", "budget", "attack", "defense", "seed")  # columns of the table of runs, by axis
DECIDE = ("victim", "thief", "query", "attack", "defense")  # axes of the parallel coordinates, before the queries
FIGURES = {  # final figures, by what is stolen
    "classifiers": (AGREEMENT, "test/accuracy", "test/victim_accuracy", "test/kl"),
    "encoders": (AGREEMENT, "test/stolen_accuracy", "test/target_accuracy", "test/ratio", "test/cosine"),
}
PICTURES = {
    "classifiers": ("test/disagreements",),
    "encoders": ("downstream/digits/disagreements", "fidelity/retrieval"),
}
TABLES = {
    "classifiers": ("test/confusion", "test/per_class"),
    "encoders": ("downstream/digits/confusion", "downstream/digits/per_class"),
}
LOGIN = "Log in with `wandb login` (or set WANDB_API_KEY); to see it without an account: --dry-run FILE."


@dataclass(frozen=True)
class Dashboard:
    """What a workspace or a report shows.

    Attributes:
        project: the project's name.
        stolen: ``classifiers`` or ``encoders``.
        sweep: the sweep to report on; None for the project's workspace.
        cells: show a run for each cell, with means over seeds, instead of a run for each job.
        old: the runs are of version 0.1, whose columns are named ``axis.victim``.
    """

    project: str
    stolen: str = "classifiers"
    sweep: str | None = None
    cells: bool = False
    old: bool = False

    @property
    def kind(self) -> str:
        """The job type of the runs shown."""
        return CELL if self.cells else "thief"

    @property
    def shown(self) -> tuple[str, ...]:
        """The axes in the table of runs."""
        return tuple(name for name in SHOWN if name != "seed" or not self.cells)

    @property
    def figures(self) -> tuple[str, ...]:
        """The figures in the table of runs."""
        return (AGREEMENT + HALF, COUNT, *FIGURES[self.stolen]) if self.cells else FIGURES[self.stolen]

    def column(self, axis: str) -> str:
        """The config column of an axis."""
        return f"{OLD}{axis}" if self.old else name_column(axis)

    def key(self, axis: str) -> str:
        """The same column as the app addresses it."""
        return f"{self.column(axis)}.value"


def make(view: Dashboard, entity: str | None, login: bool) -> Any:
    """The workspace of a project, or a report about one of its sweeps.

    Args:
        view: what is shown.
        entity: the project's owner; None for the login's default.
        login: whether a login is needed; without it, the default entity stays empty.

    Raises:
        FmstealError: wandb-workspaces is not installed, or the user is not logged in.
    """
    try:
        import wandb_workspaces.reports.v2 as wr
        import wandb_workspaces.workspaces as ws
    except ImportError as absent:
        raise FmstealError(
            "Dashboards are made by wandb-workspaces, which is not installed: pip install 'fmsteal[dashboard]'."
        ) from absent
    owner = _owner(entity) if login else entity or ""
    return _workspace(wr, ws, owner, view) if view.sweep is None else _report(wr, owner, view)


def to_json(view: Any) -> str:
    """The JSON that would be sent to W&B."""
    return json.dumps(json.loads(view._to_model().model_dump_json(by_alias=True, exclude_none=True)), indent=1)


def save(view: Any) -> str:
    """Send a view to W&B; return its address."""
    try:
        return str(view.save().url)
    except Exception as error:  # network, permissions: whatever the client raises
        raise FmstealError(f"W&B did not take it ({str(error).splitlines()[0]}). {LOGIN}") from error


def _owner(entity: str | None) -> str:
    from fmsteal.tracking.login import auto_mode

    if auto_mode() == "offline":
        raise FmstealError(f"Nobody is logged in to W&B. {LOGIN}")
    if entity is not None:
        return entity
    import wandb

    try:
        return str(wandb.Api().default_entity)
    except Exception as error:  # network, a key that is not accepted: whatever the client raises
        raise FmstealError(f"W&B does not answer ({str(error).splitlines()[0]}). {LOGIN}") from error


def _workspace(wr: Any, ws: Any, entity: str, view: Dashboard) -> Any:
    sections = [
        ws.Section(name=name, panels=panels, is_open=number < 3)
        for number, (name, panels) in enumerate(_sections(wr, view).items())
    ]
    pinned = [
        "run:displayName",
        *(f"config:{view.key(name)}" for name in view.shown),
        *(f"summary:{name}" for name in (*view.figures, QUERIES)),
    ]
    of = ", means over seeds" if view.cells else ""
    return ws.Workspace(
        entity=entity,
        project=view.project,
        name=f"fmsteal: stolen {view.stolen}{of}",
        sections=sections,
        settings=ws.WorkspaceSettings(max_runs=100),
        runset_settings=ws.RunsetSettings(filters=[ws.Metric("JobType") == view.kind], pinned_columns=pinned),
    )


def _report(wr: Any, entity: str, view: Dashboard) -> Any:
    def runs(kind: str, **more: Any) -> Any:
        filters = f"Group = '{view.sweep}' and JobType = '{kind}'"
        return wr.Runset(entity=entity, project=view.project, filters=filters, **more)

    matrix = runs(
        view.kind, name="by victim and thief", groupby=[f"config.{view.key(name)}" for name in ("victim", "thief")]
    )
    means = runs(CELL, name="cells")
    blocks: list[Any] = [
        wr.P(
            f"Jobs of the sweep {view.sweep}. Agreement is top-1, with the undefended victim, on the victim's test "
            "set; lines and bars are means over jobs, their bands standard deviations."
        ),
        wr.TableOfContents(),
        wr.H2("means over seeds"),
        wr.P(
            f"A row for each cell: mean, half of its 95 % interval ({AGREEMENT}{HALF}), and the seeds in it ({COUNT})."
        ),
        wr.PanelGrid(runsets=[means], panels=[wr.BarPlot(title=guess(AGREEMENT).label, metrics=[AGREEMENT])]),
    ]
    for name, panels in _sections(wr, view).items():
        runsets = [matrix] if name == "victim x thief" else [runs(view.kind, name=f"{view.kind} runs")]
        blocks += [wr.H2(name), wr.PanelGrid(runsets=runsets, panels=panels)]
    return wr.Report(
        entity=entity,
        project=view.project,
        title=f"fmsteal: {view.sweep}",
        description="By `fmsteal dashboard`.",
        blocks=blocks,
    )


def _sections(wr: Any, view: Dashboard) -> dict[str, list[Any]]:
    """The panels, by heading."""
    of_jobs = {} if view.cells else {"disagreement": _disagreement(wr, view), "under way": _under_way(wr)}
    coordinates = [] if view.old else [_coordinates(wr, view)]  # a column there cannot have a dot in its name
    return {
        "agreement against budget": [_against_queries(wr, view, y, "attack") for y in FIGURES[view.stolen][:2]],
        "victim x thief": [
            _bars(wr, "pair.value", f"{guess(AGREEMENT).label}, by victim <- thief"),
            _bars(wr, view.key("victim"), f"{guess(AGREEMENT).label}, by victim"),
            _bars(wr, view.key("thief"), f"{guess(AGREEMENT).label}, by thief"),
        ],
        "defense frontier": _frontier(wr, view),
        "what decides": [*coordinates, wr.ParameterImportancePlot(with_respect_to=AGREEMENT)],
        **of_jobs,
        "runs beside each other": [wr.RunComparer(diff_only="split")],
    }


def _against_queries(wr: Any, view: Dashboard, y: str, axis: str) -> Any:
    return wr.LinePlot(
        title=f"{guess(y).label} against queries, by {axis}", x=QUERIES, y=[y], log_x=True, title_x="queries",
        groupby=view.key(axis), groupby_aggfunc="mean", groupby_rangefunc="stddev", max_runs_to_show=500,
    )  # fmt: skip


def _bars(wr: Any, key: str, title: str) -> Any:
    return wr.BarPlot(title=title, metrics=[AGREEMENT], groupby=key, groupby_aggfunc="mean", groupby_rangefunc="stddev")


def _frontier(wr: Any, view: Dashboard) -> list[Any]:
    label, other = guess(AGREEMENT).label, FIGURES[view.stolen][1]
    return [
        _against_queries(wr, view, AGREEMENT, "defense"),
        wr.ScatterPlot(title=f"{label} and {guess(other).label}", x=other, y=AGREEMENT),
        wr.ScatterPlot(title=f"{label} and {guess('cost/usd').label}", x="cost/usd", y=AGREEMENT, log_x=True),
    ]


def _coordinates(wr: Any, view: Dashboard) -> Any:
    column = wr.ParallelCoordinatesPlotColumn
    return wr.ParallelCoordinatesPlot(
        title=f"the axes and {guess(AGREEMENT).label}",
        columns=[
            *(column(wr.Config(view.column(name)), display_name=name) for name in DECIDE),
            column(wr.Config(view.column("queries")), display_name="queries", log=True),
            column(wr.SummaryMetric(AGREEMENT)),
        ],
    )


def _disagreement(wr: Any, view: Dashboard) -> list[Any]:
    shown = list(PICTURES[view.stolen])
    return [
        wr.MediaBrowser(title="where victim and thief disagree", media_keys=shown, num_columns=4),
        *(wr.WeavePanelSummaryTable(table_name=name) for name in TABLES[view.stolen]),
    ]


def _under_way(wr: Any) -> list[Any]:
    curves = {
        "training of the thief": "loss",
        "training of the thief: held-out agreement": "held_out_agreement",
        "training of the thief: learning rate": "lr",
    }
    return [
        wr.LinePlot(title="rounds: held-out agreement", x="attack/queries", y=["attack/held_out_agreement"]),
        wr.LinePlot(title="spent so far", x="attack/queries", y=["attack/usd"]),
        *(wr.LinePlot(title=title, x="thief/epoch", y=[f"thief/{name}"]) for title, name in curves.items()),
        wr.LinePlot(title="training of the victim", x="victim/epoch", y=["victim/loss"]),
    ]
