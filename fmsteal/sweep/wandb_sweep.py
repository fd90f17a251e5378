"""``fmsteal wandb-sweep``: a sweep for `wandb agent`, which asks W&B's server for each job's values. No torch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig

from fmsteal.base import agent, paths
from fmsteal.base.errors import ConfigError
from fmsteal.base.on_hydra import SharedLoader, parse
from fmsteal.base.quoting import quote_override, unquote_override
from fmsteal.job import objective
from fmsteal.report.commands.arguments import end_if_refused, make_parser, require_folder
from fmsteal.sweep.grid import check_jobs, expand
from fmsteal.sweep.overrides import preview
from fmsteal.sweep.space import Parameter, Space, read_space

TEXT = """\
Write a sweep for W&B's agents: wandb sweep FILE registers it, and wandb agent ENTITY/PROJECT/ID, on as many machines as
there are, runs its jobs one by one. What varies becomes W&B's parameters; the jobs are checked first, none is run.
  fmsteal wandb-sweep sweep=quickstart -o sweep.yaml
  fmsteal wandb-sweep metric=test/agreement "thief.recipe.lr=tag(log,interval(1e-4,1e-1))" --method bayes"""
METHODS = ("grid", "random", "bayes")
Node = dict[str, Any]


@end_if_refused()
def main(words: Sequence[str]) -> None:
    """Write the YAML of a W&B sweep to a file, or print it."""
    parser = make_parser("wandb-sweep", TEXT)
    parser.add_argument("words", nargs="+", metavar="KEY=VALUE", help="as for fmsteal -m")
    parser.add_argument("--method", choices=METHODS, help="(grid; bayes if there is an interval)")
    parser.add_argument(
        "--goal", choices=("maximize", "minimize"), default="maximize", help="of metric=... (%(default)s)"
    )
    parser.add_argument("-o", "--out", metavar="FILE", help="write it there")
    args = parser.parse_args(list(words[1:]))
    text = yaml.safe_dump(describe(args.words, args.method, args.goal), sort_keys=False, width=1000)
    if args.out is None:
        print(text, end="")
        return
    require_folder(Path(args.out))
    Path(args.out).write_text(text)


def describe(words: Sequence[str], method: str | None, goal: str) -> Node:
    """The W&B sweep of a command line, given its words after ``fmsteal -m``; its jobs are composed and checked.

    Raises:
        ConfigError: a job is not valid, or W&B's sweeps cannot do what is asked for.
    """
    from fmsteal import cli

    given = parse(["-m", *(quote_override(word) for word in words if not word.startswith("hydra/sweeper="))])
    cli.name_sweep(given)
    cfg = preview(parse(["-m", "hydra/sweeper=optuna", *given.overrides]))  # which takes intervals
    objective.require_logged(cfg)
    arguments = [*(f"{axis}={values}" for axis, values in (cfg.hydra.sweeper.params or {}).items()), *given.overrides]
    space = _check(arguments, given.overrides)
    method = method or ("bayes" if any(_is_interval(each) for each in space.parameters) else "grid")
    _require_possible(space, method, cfg)
    seeds = {"seed": {"values": list(space.seeds)}} if space.seeds else {}
    swept = {parameter.key for parameter in space.parameters} | seeds.keys()
    metric = {} if cfg.metric is None else {"metric": {"name": str(cfg.metric), "goal": goal}}
    fixed = [unquote_override(word) for word in given.overrides if _key(word) not in swept]
    return {
        "program": "fmsteal",
        "name": str(cfg.sweep_id),
        **_place(cfg),
        "method": method,
        **metric,
        "parameters": {**{parameter.key: _values(parameter) for parameter in space.parameters}, **seeds},
        "command": ["${env}", "fmsteal", "-m", *fixed, agent.ARGUMENTS],
    }


def _check(arguments: Sequence[str], given: Sequence[str]) -> Space:
    """Compose and check all jobs of a grid, or those at the ends of each interval; the space that they are from."""
    plain = [word for word in given if word.startswith("hydra")]
    with initialize_config_dir(str(paths.folder("conf")), version_base="1.3"):
        reader = GlobalHydra.instance().config_loader()
        master = reader.load_configuration("config", plain, RunMode.MULTIRUN)
        loader = SharedLoader(reader.get_search_path())
        loader.open(master)
        own = [word for word in arguments if word not in plain]
        space = read_space(loader, own)
        searched = any(_is_interval(each) for each in space.parameters)
        check_jobs(loader, master, space.samples() if searched else expand(loader, own))
    return space


def _require_possible(space: Space, method: str, cfg: DictConfig) -> None:
    intervals = [each.key for each in space.parameters if _is_interval(each)]
    if not space.parameters and not space.seeds:
        raise ConfigError("Nothing varies, so there is no sweep: give an axis several values, as in budget=100,500.")
    if method == "grid" and intervals:
        raise ConfigError(f"--method grid needs values, not an interval ({', '.join(intervals)}): random or bayes.")
    if method == "bayes" and cfg.metric is None:
        raise ConfigError("--method bayes needs a figure to look for: metric=test/agreement.")
    if method != "grid" and len(space.seeds) > 1:
        raise ConfigError(
            f"--method {method} would try seeds like other values, as W&B takes no mean over runs: give one seed, or "
            "search with hydra/sweeper=optuna, which averages over seed=0,1,2."
        )


def _values(parameter: Parameter) -> Node:
    """A parameter as W&B has it."""
    if parameter.kind == "choice":
        return {"values": [_number(choice) for choice in parameter.choices]}
    low, high, step = parameter.low, parameter.high, parameter.step
    if step:
        count = round((high - low) / step) + 1
        numbers = [low + place * step for place in range(count)]
        return {"values": [int(n) if parameter.kind == "int" else float(f"{n:.12g}") for n in numbers]}
    if parameter.log:
        kind = "q_log_uniform_values" if parameter.kind == "int" else "log_uniform_values"
        return {"distribution": kind, "min": low, "max": high}
    return {"distribution": "int_uniform" if parameter.kind == "int" else "uniform", "min": low, "max": high}


def _number(choice: str) -> int | float | str:
    """A choice as a number, if it is written as one: only of numbers can W&B say which is larger."""
    for kind in (int, float):
        try:
            return kind(choice) if str(kind(choice)) == choice else choice
        except ValueError:
            continue
    return choice.strip("'") if choice.strip("'").isdigit() else choice


def _place(cfg: DictConfig) -> Node:
    """The project and the team of the runs: those of a sweep decide, not those of its jobs."""
    known = {"project": cfg.tracker.get("project") or os.environ.get("WANDB_PROJECT") or "fmsteal"}
    entity = cfg.tracker.get("entity") or os.environ.get("WANDB_ENTITY")
    return known | ({"entity": entity} if entity else {})


def _is_interval(parameter: Parameter) -> bool:
    return parameter.kind != "choice" and not parameter.step


def _key(word: str) -> str:
    return word.partition("=")[0]
