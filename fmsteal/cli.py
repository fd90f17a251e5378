"""The `fmsteal` command. Imports Hydra and the standard library only, until a job really runs."""

from __future__ import annotations

import argparse
import logging
import shlex
import shutil
import sys
import traceback
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from fmsteal import paths, results
from fmsteal.errors import FmstealError
from fmsteal.schema import Config
from fmsteal.store import digest, explained, lease, require_writable, write_json
from fmsteal.sweep.identity import axes, job_key, register_resolvers
from fmsteal.sweep.overrides import previews, quoted

log = logging.getLogger(__name__)


def main() -> None:
    """Run a job, or with ``-m`` a sweep of jobs."""
    sys.argv[1:] = [quoted(word) for word in sys.argv[1:]]
    args = get_args_parser().parse_args()
    if args.help or args.hydra_help or args.info is not None or args.shell_completion or args.experimental_rerun:
        return _hydra_main()
    try:
        first = _refuse_nonsense(args)
        if not args.cfg:
            require_writable(Path(first.output))
    except FmstealError as error:
        sys.exit(f"fmsteal: {error}")
    if not args.multirun:
        return _hydra_main()
    sweep_id = first.sweep_id
    if sweep_id is None:  # the same command is the same sweep
        sweep_id = f"sweep-{digest(sorted(args.overrides))[:8]}"
        sys.argv.append(f"sweep_id={sweep_id}")
    try:
        return _hydra_main()
    finally:
        _show_sweep(Path(first.output) / "sweeps" / sweep_id)


def _refuse_nonsense(args: argparse.Namespace) -> DictConfig:
    """Compose what the command line asks for, to refuse it as a whole if a part is wrong; returns the first config.

    A sweep's targets are bound to their options here (which imports torch); a single job does that when it starts.
    """
    jobs = previews(args)
    if args.multirun:
        from fmsteal import build

        for cfg in jobs:
            build.check(cfg)
    return jobs[0]


def register() -> None:
    """Tell Hydra the root's types, the sweep presets and the ``job_key`` resolver."""
    store = ConfigStore.instance()
    store.store(name="root", node=Config)
    for preset in sorted(paths.folder("sweeps").glob("*.yaml")):
        node = OmegaConf.load(preset)
        axes_swept = OmegaConf.select(node, "hydra.sweeper.params") or {}
        for axis, choices in axes_swept.items():
            axes_swept[axis] = quoted(f"{axis}={choices}").partition("=")[2]
        store.store(group="sweep", name=preset.stem, node=node, package="_global_")
    register_resolvers()


register()


def run_job(cfg: DictConfig) -> dict[str, Any]:
    """Run one composed job in its output folder, or find its result there."""
    choices = HydraConfig.get().runtime.choices
    folder = Path(HydraConfig.get().runtime.output_dir)
    key = job_key(cfg, choices)
    try:
        with explained(folder), lease(folder / ".running", f"job {key}"):
            result = None if cfg.force else results.finished(folder, key)
            if result is None:
                result = _run(cfg, key, folder, axes(cfg, choices))
            else:
                log.info("%s is finished already (force=true does it again)", key)
    except FmstealError as error:
        raise CompactHydraException(f"fmsteal: {error}") from error
    if HydraConfig.get().mode == RunMode.RUN:
        from fmsteal.report.table import show_result

        show_result(result, folder)
    return result


_hydra_main = hydra.main(version_base="1.3", config_path=str(paths.folder("conf")), config_name="config")(run_job)


def _run(cfg: DictConfig, key: str, folder: Path, axis: dict[str, Any]) -> dict[str, Any]:
    from fmsteal.pipeline import Job, run

    if cfg.force:
        for name in (results.RESULT, "ledger.bin", "metrics.csv"):
            (folder / name).unlink(missing_ok=True)
        shutil.rmtree(folder / "work", ignore_errors=True)
    try:
        result = run(cfg, Job(key, folder, axis, shlex.join(["fmsteal", *sys.argv[1:]])))
    except BaseException as error:
        failure = {"job_key": key, "axis": axis, "error": f"{type(error).__name__}: {error}"}
        write_json(folder / results.FAILURE, {**failure, "traceback": traceback.format_exc()})
        raise
    (folder / results.FAILURE).unlink(missing_ok=True)
    return result


def _show_sweep(folder: Path) -> None:
    from fmsteal.report.table import show_sweep

    show_sweep(*results.of_sweep(folder), folder)
