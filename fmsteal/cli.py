"""The `fmsteal` command. Imports Hydra and the standard library only, until a job really runs."""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from omegaconf import DictConfig, OmegaConf

from fmsteal.base import paths, stopping
from fmsteal.base.errors import ConfigError, FmstealError
from fmsteal.base.quoting import quote_override
from fmsteal.base.shell import complete, print_errors_alone, tolerate_closed_pipe
from fmsteal.base.store import digest, require_readable, require_writable
from fmsteal.config import searchpath
from fmsteal.config.schema import Config
from fmsteal.job.run import run_job
from fmsteal.sweep import launchers
from fmsteal.sweep.overrides import preview, require_effect

COMMANDS = {  # sub-commands: the module whose `main` runs them, imported when one is called
    "status": "fmsteal.report.commands.status",
    "results": "fmsteal.report.commands.results",
    "report": "fmsteal.report.commands.report",
    "compare": "fmsteal.report.commands.compare",
    "verify": "fmsteal.report.commands.verify",
    "sync": "fmsteal.report.commands.sync",
    "dashboard": "fmsteal.report.commands.dashboard",
    "export": "fmsteal.face.export.command",
}
EVALUATE = "evaluate"  # the one that runs jobs


def register() -> None:
    """Tell Hydra the root's types and the sweep presets."""
    store = ConfigStore.instance()
    store.store(name="root", node=Config)
    folder = paths.folder("sweeps")
    for preset in sorted(folder.rglob("*.yaml")):
        node = OmegaConf.load(preset)
        swept = OmegaConf.select(node, "hydra.sweeper.params") or {}
        for axis, choices in swept.items():
            swept[axis] = quote_override(f"{axis}={choices}").partition("=")[2]
        group = "/".join(("sweep", *preset.parent.relative_to(folder).parts))  # sweep=paper/cifar10_lp
        store.store(group=group, name=preset.stem, node=node, package="_global_")


def forget_other_ray() -> None:
    """Forget the options of hydra-ray-launcher, if that is installed: Hydra would hold ours against them."""
    Plugins.instance()  # registers them
    ConfigStore.instance().repo.get("hydra", {}).get("launcher", {}).pop("ray.yaml", None)


register()
_hydra_main = hydra.main(version_base="1.3", config_path=str(paths.folder("conf")), config_name="config")(run_job)


@tolerate_closed_pipe()
def main() -> None:
    """Run a job, or with ``-m`` a sweep of jobs; or look at those that are there (`COMMANDS`)."""
    with stopping.run_command(sys.argv[1:]):
        _main()


def _main() -> None:
    if sys.argv[1:2] == [EVALUATE]:
        from fmsteal.sweep import evaluate

        return evaluate.main(sys.argv[1:], run)
    if sys.argv[1:2] and (module := COMMANDS.get(sys.argv[1])):
        return import_module(module).main(sys.argv[1:])
    return run()


def run() -> None:
    """Run the job or the sweep that the words of `sys.argv` ask for."""
    stopping.check()
    sys.argv[1:] = ["quiet=true" if word in ("-q", "--quiet") else quote_override(word) for word in sys.argv[1:]]
    forget_other_ray()
    args = get_args_parser().parse_args()
    print_errors_alone()
    if args.shell_completion and not _completed():
        return
    asks_hydra = args.help or args.hydra_help or args.info is not None or args.shell_completion
    if asks_hydra or args.experimental_rerun or args.config_path or args.config_name:
        with searchpath.add_places(searchpath.parse_places(args)):
            return _hydra_main()
    if args.multirun and args.cfg:
        sys.exit("fmsteal: --cfg shows the config of a job; leave out -m.")
    if args.multirun and (name := name_sweep(args)):
        last = args.overrides[-2] if args.overrides[1:] else "-m"  # beside the others, or argparse is confused
        place = sys.argv.index(last) if last in sys.argv else len(sys.argv) - 1
        sys.argv.insert(place + 1, name)
    try:
        refuse_nonsense(args)
    except FmstealError as error:
        sys.exit(f"fmsteal: {error}")
    return _hydra_main()


def _completed() -> bool:
    """Print the sub-commands that may come next, for a shell that asks; whether Hydra is to say what else may."""
    if "COMP_LINE" not in os.environ or not any(word.startswith("query=") for word in sys.argv):
        return True
    names, line = complete(os.environ["COMP_LINE"], [*COMMANDS, EVALUATE])
    print(*names, sep="\n")
    if line is not None:
        os.environ["COMP_LINE"] = line
    return line is not None


def name_sweep(args: argparse.Namespace) -> str | None:
    """Give a sweep that has no name one made from its axes: the same command is the same sweep.

    Returns:
        The word that names it, added to the overrides; None if it has a name.
    """
    where = ("output=", "cache=", "tracker", "trainer", "hydra")
    how = (*where, "sweep_id=", "force=", "stage=", "dry_run=", "quiet=", "+notes", "notes")
    if any(word.startswith(("sweep_id=", "sweep=", "hydra.sweeper.of=")) for word in args.overrides):
        return None
    name = f"sweep_id=sweep-{digest(sorted(w for w in args.overrides if not w.startswith(how)))[:8]}"
    args.overrides.append(name)
    return name


def refuse_nonsense(args: argparse.Namespace) -> DictConfig:
    """Compose what the command line asks for, to say in plain words what is wrong with it; of a sweep, its first job.

    The others are checked by the sweeper, before it runs any (`fmsteal.sweep.run`).

    Returns:
        The config, with the ``hydra`` node.

    Raises:
        ConfigError, StoreError: something is wrong.
    """
    cfg = preview(args)
    if args.cfg:
        return cfg
    if args.multirun and not find_spec("hydra_plugins.fmsteal_staged"):
        raise ConfigError("The sweeper is not installed: install fmsteal again (in a checkout: pip install -e .).")
    if not args.multirun:
        require_effect(cfg, args.overrides)
    if cfg.dry_run and not args.multirun:
        raise ConfigError("dry_run=true shows the plan of a sweep: add -m. A job's config: fmsteal --cfg job.")
    require_writable(Path(cfg.hydra.sweep.dir if args.multirun else cfg.hydra.run.dir))
    require_readable(Path(cfg.cache))
    require_writable(Path(cfg.cache))
    if args.multirun and not cfg.dry_run:
        launchers.make_ready(cfg.hydra.launcher)
    return cfg
