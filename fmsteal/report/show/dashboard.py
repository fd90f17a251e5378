"""The project's W&B workspace and reports, as code: every name in them is one that runs log (a test checks this)."""

from __future__ import annotations

import json
from typing import Any

from fmsteal.base.errors import FmstealError
from fmsteal.report.read.about import guess

AGREEMENT = "test/agreement"
QUERIES = "cost/queries"
SHOWN = ("victim", "thief", "budget", "attack", "defense", "seed")  # columns of the table of runs, by axis
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


def make(entity: str | None, project: str, sweep: str | None, stolen: str, login: bool) -> Any:
    """The workspace of a project, or a report about one of its sweeps.

    Args:
        entity: the project's owner; None for the login's default.
        project: the project's name.
        sweep: the sweep to report on; None for the workspace.
        stolen: ``classifiers`` or ``encoders``.
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
    return _workspace(wr, ws, owner, project, stolen) if sweep is None else _report(wr, owner, project, sweep, stolen)


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


def _workspace(wr: Any, ws: Any, entity: str, project: str, stolen: str) -> Any:
    sections = [
        ws.Section(name=name, panels=panels, is_open=number < 3)
        for number, (name, panels) in enumerate(_sections(wr, stolen).items())
    ]
    pinned = [
        "run:displayName",
        *(f"config:{_column(name)}" for name in SHOWN),
        *(f"summary:{name}" for name in (*FIGURES[stolen], QUERIES)),
    ]
    return ws.Workspace(
        entity=entity,
        project=project,
        name=f"fmsteal: stolen {stolen}",
        sections=sections,
        settings=ws.WorkspaceSettings(max_runs=100),
        runset_settings=ws.RunsetSettings(filters=[_thieves(ws)], pinned_columns=pinned),
    )


def _report(wr: Any, entity: str, project: str, sweep: str, stolen: str) -> Any:
    def runs(**more: Any) -> Any:
        return wr.Runset(entity=entity, project=project, filters=f"Group = '{sweep}' and JobType = 'thief'", **more)

    matrix = runs(name="by victim and thief", groupby=[f"config.{_column(name)}" for name in ("victim", "thief")])
    blocks: list[Any] = [
        wr.P(
            f"Jobs of the sweep {sweep}. Agreement is top-1, with the undefended victim, on the victim's test set; "
            "lines and bars are means over jobs, their bands standard deviations."
        ),
        wr.TableOfContents(),
    ]
    for name, panels in _sections(wr, stolen).items():
        runsets = [matrix] if name == "victim x thief" else [runs(name="thieves")]
        blocks += [wr.H2(name), wr.PanelGrid(runsets=runsets, panels=panels)]
    return wr.Report(
        entity=entity, project=project, title=f"fmsteal: {sweep}", description="By `fmsteal dashboard`.", blocks=blocks
    )


def _sections(wr: Any, stolen: str) -> dict[str, list[Any]]:
    """The panels, by heading."""
    figures = FIGURES[stolen]

    def against_queries(y: str, axis: str) -> Any:
        title = f"{guess(y).label} against queries, by {axis}"
        return wr.LinePlot(
            title=title, x=QUERIES, y=[y], log_x=True, title_x="queries", groupby=_column(axis),
            groupby_aggfunc="mean", groupby_rangefunc="stddev", max_runs_to_show=500,
        )  # fmt: skip

    def bars(y: str, key: str, title: str) -> Any:
        return wr.BarPlot(title=title, metrics=[y], groupby=key, groupby_aggfunc="mean", groupby_rangefunc="stddev")

    return {
        "agreement against budget": [against_queries(y, "attack") for y in figures[:2]],
        "victim x thief": [
            bars(AGREEMENT, "pair.value", f"{guess(AGREEMENT).label}, by victim <- thief"),
            bars(AGREEMENT, _column("victim"), f"{guess(AGREEMENT).label}, by victim"),
            bars(AGREEMENT, _column("thief"), f"{guess(AGREEMENT).label}, by thief"),
        ],
        "defense frontier": [
            against_queries(AGREEMENT, "defense"),
            wr.ScatterPlot(title=f"{guess(AGREEMENT).label} and {guess(figures[1]).label}", x=figures[1], y=AGREEMENT),
            wr.ScatterPlot(
                title=f"{guess(AGREEMENT).label} and {guess('cost/usd').label}", x="cost/usd", y=AGREEMENT, log_x=True
            ),
        ],
        "disagreement": [
            wr.MediaBrowser(title="where victim and thief disagree", media_keys=list(PICTURES[stolen]), num_columns=4),
            *(wr.WeavePanelSummaryTable(table_name=name) for name in TABLES[stolen]),
        ],
        "under way": [
            wr.LinePlot(title="rounds: held-out agreement", x="attack/queries", y=["attack/held_out_agreement"]),
            wr.LinePlot(title="spent so far", x="attack/queries", y=["attack/usd"]),
            wr.LinePlot(title="training of the thief", x="thief/epoch", y=["thief/loss"]),
            wr.LinePlot(title="training of the victim", x="victim/epoch", y=["victim/loss"]),
        ],
        "runs beside each other": [wr.RunComparer(diff_only="split")],
    }


def _column(axis: str) -> str:
    """An axis in the config, as the app addresses it: its key contains a dot, and is not nested."""
    return f"axis.{axis}.value"


def _thieves(ws: Any) -> Any:
    return ws.Metric("JobType") == "thief"
