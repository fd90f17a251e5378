"""The `fmsteal` command. Imports Hydra and the standard library only, until a job really runs."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from omegaconf import OmegaConf

from fmsteal import paths
from fmsteal.errors import ConfigError, FmstealError
from fmsteal.job import run_job
from fmsteal.schema import Config
from fmsteal.store import digest, require_readable, require_writable
from fmsteal.sweep import launchers
from fmsteal.sweep.overrides import preview, quoted

COMMANDS = {  # sub-commands: the module whose `main` runs them, imported when one is called
    "status": "fmsteal.report.commands",
    "results": "fmsteal.report.commands",
    "report": "fmsteal.report.reporting",
    "compare": "fmsteal.report.compare",
    "verify": "fmsteal.report.verify",
    "sync": "fmsteal.tracking.commands",
    "dashboard": "fmsteal.tracking.commands",
}


def register() -> None:
    """Tell Hydra the root's types and the sweep presets."""
    store = ConfigStore.instance()
    store.store(name="root", node=Config)
    for preset in sorted(paths.folder("sweeps").glob("*.yaml")):
        node = OmegaConf.load(preset)
        swept = OmegaConf.select(node, "hydra.sweeper.params") or {}
        for axis, choices in swept.items():
            swept[axis] = quoted(f"{axis}={choices}").partition("=")[2]
        store.store(group="sweep", name=preset.stem, node=node, package="_global_")


def only_our_ray() -> None:
    """Forget the options of hydra-ray-launcher, if that is installed: Hydra would hold ours against them."""
    Plugins.instance()  # registers them
    ConfigStore.instance().repo.get("hydra", {}).get("launcher", {}).pop("ray.yaml", None)


register()
_hydra_main = hydra.main(version_base="1.3", config_path=str(paths.folder("conf")), config_name="config")(run_job)


def main() -> None:
    """Run a job, or with ``-m`` a sweep of jobs; or look at those that are there (`COMMANDS`)."""
    if sys.argv[1:2] and (module := COMMANDS.get(sys.argv[1])):
        return import_module(module).main(sys.argv[1:])
    sys.argv[1:] = ["quiet=true" if word in ("-q", "--quiet") else quoted(word) for word in sys.argv[1:]]
    only_our_ray()
    args = get_args_parser().parse_args()
    asks_hydra = args.help or args.hydra_help or args.info is not None or args.shell_completion
    if asks_hydra or args.experimental_rerun or args.config_path or args.config_name:
        return _hydra_main()
    if args.multirun and args.cfg:
        sys.exit("fmsteal: --cfg shows the config of a job; leave out -m.")
    if args.multirun:
        _name_sweep(args)
    try:
        _refuse_nonsense(args)
    except FmstealError as error:
        sys.exit(f"fmsteal: {error}")
    return _hydra_main()


def _name_sweep(args: argparse.Namespace) -> None:
    """Give a sweep that has no name one made from its axes: the same command is the same sweep."""
    where = ("output=", "cache=", "tracker", "trainer", "hydra")
    how = (*where, "sweep_id=", "force=", "stage=", "dry_run=", "quiet=", "+notes", "notes")
    if any(word.startswith(("sweep_id=", "sweep=")) for word in args.overrides):
        return
    name = f"sweep_id=sweep-{digest(sorted(w for w in args.overrides if not w.startswith(how)))[:8]}"
    last = args.overrides[-1] if args.overrides else "-m"  # beside the other overrides, or argparse is confused
    place = sys.argv.index(last) if last in sys.argv else len(sys.argv) - 1
    sys.argv.insert(place + 1, name)
    args.overrides.append(name)


def _refuse_nonsense(args: argparse.Namespace) -> None:
    """Compose what the command line asks for, to say in plain words what is wrong with it; of a sweep, its first job.

    The others are checked by the sweeper, before it runs any (`fmsteal.sweep.run`).
    """
    cfg = preview(args)
    if args.cfg:
        return
    if args.multirun and not find_spec("hydra_plugins.fmsteal_staged"):
        raise ConfigError("The sweeper is not installed: install fmsteal again (in a checkout: pip install -e .).")
    if cfg.dry_run and not args.multirun:
        raise ConfigError("dry_run=true shows the plan of a sweep: add -m. A job's config: fmsteal --cfg job.")
    require_writable(Path(cfg.hydra.sweep.dir if args.multirun else cfg.hydra.run.dir))
    require_readable(Path(cfg.cache))
    require_writable(Path(cfg.cache))
    if args.multirun and not cfg.dry_run:
        launchers.ready(cfg.hydra.launcher)
