"""The `fmsteal` command. Imports only Hydra and the standard library until a job actually runs."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from omegaconf import DictConfig, OmegaConf

from fmsteal import __version__
from fmsteal.base import agent, command_line, on_hydra, paths, stopping
from fmsteal.base.errors import ConfigError, FmstealError
from fmsteal.base.quoting import quote_override
from fmsteal.base.shell import complete, tolerate_closed_pipe
from fmsteal.base.store import digest, require_readable, require_writable
from fmsteal.config import by_adaptation, derived, later, searchpath
from fmsteal.config.schema import Config
from fmsteal.job import objective
from fmsteal.job.run import run_job
from fmsteal.sweep import launchers, only
from fmsteal.sweep.overrides import preview, require_dry_run, require_effect

COMMANDS = {  # sub-command: the module whose `main` runs it, imported when it is called
    "status": "fmsteal.report.commands.status",
    "cancel": "fmsteal.sweep.cancel",
    "results": "fmsteal.report.commands.results",
    "report": "fmsteal.report.commands.report",
    "compare": "fmsteal.report.commands.compare",
    "verify": "fmsteal.report.commands.verify",
    "cells": "fmsteal.report.commands.cells",
    "sync": "fmsteal.report.commands.sync",
    "dashboard": "fmsteal.report.commands.dashboard",
    "cache": "fmsteal.report.commands.cache",
    "export": "fmsteal.face.export.command",
    "wandb-sweep": "fmsteal.sweep.wandb_sweep",
    "audit": "fmsteal.audit.command",
    "risk": "fmsteal.risk.command",
}
NAMESAKES = (("hydra", "launcher", "ray.yaml"), ("hydra", "sweeper", "optuna.yaml"))  # options of other packages
EVALUATE = "evaluate"  # the one that runs jobs
SERVE = "serve"  # the one that runs until it is told to end, and then ends in its own way


def register() -> None:
    """Put the root's schema, the choices that have no file, and the sweep presets into Hydra's store."""
    ConfigStore.instance().store(name="root", node=Config)
    places = searchpath.find_folders()
    by_adaptation.store(places)
    derived.store(places)
    folder = paths.folder("sweeps")
    for preset in folder.rglob("*.yaml"):
        group = "/".join(("sweep", *preset.parent.relative_to(folder).parts))  # sweep=paper/cifar10_lp
        later.store(group, preset.stem, partial(load_preset, preset), package="_global_")


def load_preset(file: Path) -> DictConfig:
    """The config of a sweep preset, with its axes quoted for Hydra's grammar."""
    node = OmegaConf.load(file)
    assert isinstance(node, DictConfig)
    swept = OmegaConf.select(node, "hydra.sweeper.params") or {}
    for axis, choices in swept.items():
        swept[axis] = quote_override(f"{axis}={choices}").partition("=")[2]
    return node


def forget_other_plugins() -> None:
    """Forget the options of hydra-ray-launcher and hydra-optuna-sweeper: Hydra would check ours against them."""
    Plugins.instance()  # registers those that are installed
    for path in NAMESAKES:
        on_hydra.forget(path)


register()


@tolerate_closed_pipe()
@on_hydra.parsed_once()
def main(words: Sequence[str] | None = None) -> None:
    """Run a job, a sweep of jobs (``-m``) or a sub-command (`COMMANDS`).

    Args:
        words: the words after ``fmsteal``; None for this process's own.
    """
    words = sys.argv[1:] if words is None else list(words)
    if words == ["--version"]:
        print(f"fmsteal {__version__} (Hydra {hydra.__version__})")
        return
    if words[:1] == [SERVE]:
        return import_module("fmsteal.serve.command").main(words)
    with stopping.run_command(words):
        if words[:1] == [EVALUATE]:
            from fmsteal.sweep import evaluate

            return evaluate.main(words, run)
        if words and (module := COMMANDS.get(words[0])):
            return import_module(module).main(words)
        return run(words)


def run(words: Sequence[str]) -> None:
    """Run the job or sweep of a command line, given its words after ``fmsteal``."""
    stopping.check()
    words = ["quiet=true" if word in ("-q", "--quiet") else quote_override(word) for word in words]
    forget_other_plugins()
    args = on_hydra.parse(words)
    if args.shell_completion and not _completed(words):
        return
    if _is_hydras(args):
        with searchpath.add_places(searchpath.parse_places(args)):
            return _run(words, args)
    if args.multirun and args.cfg:
        sys.exit("fmsteal: --cfg shows the config of a job; leave out -m.")
    if args.multirun:
        words = _insert_name(words, args)
    try:
        cfg = refuse_nonsense(args)
    except FmstealError as error:
        sys.exit(f"fmsteal: {error}")
    with searchpath.add_derived(args):
        return _run(words, args, cfg)


def _run(words: Sequence[str], args: argparse.Namespace, known: DictConfig | None = None) -> None:
    with command_line.record_words(words):
        on_hydra.run_command(args, run_job, paths.folder("conf"), known)


def _is_hydras(args: argparse.Namespace) -> bool:
    """Whether a command line asks for one of Hydra's own features, or names a config other than ours."""
    asks = args.help or args.hydra_help or args.info is not None or args.shell_completion
    return bool(asks or args.experimental_rerun or args.config_path or args.config_name)


def _completed(words: Sequence[str]) -> bool:
    """Print the sub-commands that complete a line for the shell; return whether Hydra is to add its own."""
    if "COMP_LINE" not in os.environ or not any(word.startswith("query=") for word in words):
        return True
    names, line = complete(os.environ["COMP_LINE"], [*COMMANDS, EVALUATE, SERVE])
    print(*names, sep="\n")
    if line is not None:
        os.environ["COMP_LINE"] = line
    return line is not None


def _insert_name(words: Sequence[str], args: argparse.Namespace) -> Sequence[str]:
    """The words, with a name for a sweep that has none. It goes next to the other overrides, as argparse requires."""
    before = args.overrides[-1] if args.overrides else "-m"
    name = name_sweep(args)
    if name is None:
        return words
    place = words.index(before) if before in words else len(words) - 1
    return [*words[: place + 1], name, *words[place + 1 :]]


def name_sweep(args: argparse.Namespace) -> str | None:
    """Give a sweep without a name one made from its axes, so that the same command is the same sweep.

    Returns:
        The override that names it, which is also added to ``args.overrides``; None if the sweep has a name.
    """
    where = ("output=", "cache=", "tracker", "trainer", "hydra")
    how = (*where, "sweep_id=", "force=", "stage=", "dry_run=", "quiet=", "+notes", "notes")
    if any(word.startswith(("sweep_id=", "sweep=", "hydra.sweeper.of=")) for word in args.overrides):
        return None
    what = (word for word in args.overrides if not word.startswith(how) or word.startswith(only.KEY))
    name = f"sweep_id=sweep-{digest(sorted(what))[:8]}"
    args.overrides.append(name)
    return name


def refuse_nonsense(args: argparse.Namespace) -> DictConfig:
    """Compose the job of a command line, or a sweep's first job, to report errors in plain words.

    The sweeper checks the other jobs before it runs any (`fmsteal.sweep.run`).

    Returns:
        The config, with the ``hydra`` node.

    Raises:
        ConfigError, StoreError: the job cannot be composed or run.
    """
    cfg = preview(args)
    if args.cfg:
        return cfg
    if args.multirun and not find_spec("hydra_plugins.fmsteal_staged"):
        raise ConfigError("The sweeper is not installed: install fmsteal again (in a checkout: pip install -e .).")
    if args.multirun:
        launchers.require_sweeper(cfg.hydra.sweeper)
    if not args.multirun:
        require_effect(cfg, args.overrides)
    require_dry_run(cfg)
    if cfg.dry_run and not args.multirun:
        raise ConfigError("dry_run=true shows the plan of a sweep: add -m. A job's config: fmsteal --cfg job.")
    objective.require_logged(cfg)
    agent.require_sweep(args.overrides)
    require_writable(Path(cfg.hydra.sweep.dir if args.multirun else cfg.hydra.run.dir))
    require_readable(Path(cfg.cache))
    require_writable(Path(cfg.cache))
    if args.multirun and not cfg.dry_run:
        launchers.make_ready(cfg.hydra.launcher)
    return cfg
