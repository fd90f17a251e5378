"""Training through Lightning: what the machine decides (device, precision, checkpoints), and the fit that resumes."""

from __future__ import annotations

import copy
import functools
import logging
import signal
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, Checkpoint
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

from fmsteal.base.errors import ConfigError
from fmsteal.base.processes import SPAWN, SyncedBatchNorm, run_training_processes
from fmsteal.base.progress import Progress
from fmsteal.base.store import write_json
from fmsteal.data.loader import TensorLoader
from fmsteal.identity.keys import MACHINE
from fmsteal.records.results import EPOCHS
from fmsteal.tracking.base import Tracker
from fmsteal.training.batches import require_whole
from fmsteal.training.curves import Curves, EpochLogger
from fmsteal.training.recipe import StealModule

log = logging.getLogger(__name__)
LAST = "last.ckpt"
SRUN = ".*`srun` command is available.*"  # a warning of Lightning's: no job here needs it
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
DECIDED_BY_RECIPE = {
    "max_epochs", "min_epochs", "max_steps", "min_steps", "max_time", "fast_dev_run", "overfit_batches",
    "limit_train_batches",
}  # fmt: skip
DECIDED_HERE = {
    "callbacks": "give Lightning callbacks by trainer.callbacks=[...]",
    "logger": "curves go to metrics.csv and to tracker=...",
    "enable_progress_bar": "a job has a bar of its own, which quiet=true leaves out",
    "enable_model_summary": "no model is summarised",
    "default_root_dir": "a training's files lie in its job's folder: output=/path",
}


@dataclass(frozen=True)
class Training:
    """The trainer's options.

    Attributes:
        lightning: makes a `lightning.Trainer`; every Trainer argument can be given there.
        channels_last: memory layout of convolutions; contiguous if it is false. Decides speed, not results.
        compile: run `torch.compile` on the network before training.
        inference_batch: images per forward pass outside training; always padded to this size, so that an image's
            features do not depend on its neighbours. None takes the fastest size on this device, measured once.
        checkpoint_seconds: least time between two checkpoints, which are taken at the end of an epoch.
        callbacks: further Lightning callbacks.
    """

    machine: ClassVar[frozenset[str]] = frozenset({"channels_last", "compile", "inference_batch", "checkpoint_seconds"})

    lightning: Callable[..., Trainer]
    channels_last: bool = True
    compile: bool = False
    inference_batch: int | None = 64
    checkpoint_seconds: float = 10.0
    callbacks: Sequence[Callback] = field(default=())

    def __post_init__(self) -> None:
        options = self._options
        if self.inference_batch is not None and self.inference_batch < 1:
            raise ConfigError(f"trainer.inference_batch must be at least 1, not {self.inference_batch}.")
        if options.get("precision", "32-true") not in PRECISIONS:
            raise ConfigError(
                f"trainer.lightning.precision={options['precision']} is not supported; there are: "
                f"{', '.join(PRECISIONS)}."
            )
        decided = sorted(DECIDED_BY_RECIPE & options.keys())
        if decided:
            raise ConfigError(
                f"trainer.lightning.{decided[0]} cannot be set: how long a model trains is its recipe's to say "
                "(victim.recipe.epochs, thief.recipe.epochs)."
            )
        if given := [name for name in DECIDED_HERE if options.get(name)]:
            raise ConfigError(f"trainer.lightning.{given[0]} has no effect: {DECIDED_HERE[given[0]]}.")

    @property
    def _options(self) -> dict[str, Any]:
        return dict(getattr(self.lightning, "keywords", {}))

    @property
    def layout(self) -> torch.memory_format:
        """The memory layout that `channels_last` selects."""
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def identity(self) -> dict[str, Any]:
        """The options that decide a training's result, for an artifact's spec."""
        lightning = {k: repr(v) for k, v in sorted(self._options.items()) if k not in MACHINE}
        plain = (bool, int, float, str, type(None))
        callbacks = [
            {"class": type(c).__qualname__, **{k: v for k, v in vars(c).items() if isinstance(v, plain)}}
            for c in self.callbacks
        ]
        return {"lightning": lightning, "callbacks": callbacks}

    @functools.cached_property
    def device(self) -> torch.device:
        """Where forward passes outside training run: the device that the trainer uses."""
        return self._idle.strategy.root_device

    def fit(
        self,
        module: StealModule,
        loader: TensorLoader,
        *,
        stage: str,
        scratch: Path,
        tracker: Tracker,
        progress: Progress,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        """Train to the recipe's last epoch; start from the last checkpoint in ``scratch`` if there is one.

        ``callbacks`` are this training's own, besides the trainer's.

        With several devices, each has a process of its own, started and ended here: to the rest of the job a fit is one
        call, whatever it runs on. Features in memory are fitted on one device: a step of a head takes less time than
        communicating with other devices.
        """
        processes = 1 if isinstance(loader.inputs, Tensor) else self.processes
        curves = Curves(tracker, progress, stage, module.recipe.epochs)
        checkpoint = scratch / LAST
        if checkpoint.is_file():
            log.info("%s: going on from the checkpoint of an interrupted run", stage)
        scratch.mkdir(parents=True, exist_ok=True)
        write_json(scratch / EPOCHS, module.recipe.epochs)
        module.train()
        require_whole(module.net, loader)
        module.compiled = self.compile
        with warnings.catch_warnings(), curves.relay() if processes > 1 else nullcontext(curves) as receive:
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            warnings.filterwarnings("ignore", message=".*lr_scheduler.step.*")
            warnings.filterwarnings("ignore", message=".*smaller than the logging interval.*")
            warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
            warnings.filterwarnings("ignore", message=".*in eval mode at the start of training.*")  # beside LoRA
            warnings.filterwarnings("ignore", message=SRUN)
            trainer = self._trainer(
                **self._share_of_devices(processes),
                max_epochs=module.recipe.epochs,
                default_root_dir=scratch,
                logger=EpochLogger(stage, receive),
                callbacks=[
                    EpochCheckpoint(scratch, self.checkpoint_seconds),
                    KeepSignals(),
                    *copy.deepcopy(self.callbacks),
                    *callbacks,
                ],
            )
            with run_training_processes():
                trainer.fit(module, loader, ckpt_path=checkpoint if checkpoint.is_file() else None, weights_only=True)
        module.eval()

    @functools.cached_property
    def processes(self) -> int:
        """How many devices a model trains on, each with a process of its own.

        Raises:
            ConfigError: the devices are on several nodes, or the strategy would start the whole job many times.
        """
        trainer = self._idle
        if trainer.num_nodes > 1:
            raise ConfigError(
                f"trainer.lightning.num_nodes={trainer.num_nodes}: a model is trained on the devices of one node. Give "
                "each node jobs of its own, and a job several devices: trainer.lightning.devices=N."
            )
        if trainer.world_size > 1 and self._options.get("strategy", SPAWN) not in (SPAWN, "auto"):
            raise ConfigError(
                f"trainer.lightning.strategy={self._options['strategy']} would start the whole job "
                f"{trainer.world_size} times. Leave it at auto, or {SPAWN}: processes that only train."
            )
        return trainer.world_size

    def _share_of_devices(self, processes: int) -> dict[str, Any]:
        """The trainer's options for all of its devices, or for the first alone."""
        if self.processes == 1:
            return {}
        if processes == 1:
            return {"devices": [self.device.index] if self.device.type == "cuda" else 1, "strategy": "auto"}
        synced = [SyncedBatchNorm()] if self.device.type == "cuda" else []  # torch has it for GPUs only
        return {"strategy": SPAWN, "plugins": [*self._plugins, *synced], "sync_batchnorm": False}

    @property
    def _plugins(self) -> list[Any]:
        """On a cluster, jobs get devices from it but start their own processes: Lightning must not look for others."""
        return self._options.get("plugins") or [LightningEnvironment()]

    @functools.cached_property
    def _idle(self) -> Trainer:
        """A trainer that trains nothing: it knows what the options amount to on this machine."""
        return self._trainer(max_epochs=0, logger=False, enable_checkpointing=False)

    def _trainer(self, **options: Any) -> Trainer:
        for name in ("lightning.pytorch", "lightning.fabric"):
            logging.getLogger(name).setLevel(logging.WARNING)
        plain = {"enable_progress_bar": False, "enable_model_summary": False, "plugins": self._plugins}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*GPU available.*")
            warnings.filterwarnings("ignore", message=SRUN)
            try:
                return self.lightning(**{**plain, **options})
            except (MisconfigurationException, ModuleNotFoundError, ValueError) as error:
                raise ConfigError(f"Lightning refuses the trainer's options: {error}") from error


class EpochCheckpoint(Checkpoint):
    """Keeps the state of the last finished epoch as ``last.ckpt``, replaced atomically.

    A `Checkpoint` runs after the module's own hook: an epoch is logged, and its loss found to be finite, before it is
    saved.
    """

    def __init__(self, folder: Path, seconds: float) -> None:
        self.path = folder / LAST
        self.seconds = seconds
        self._saved = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save, if the last checkpoint is old enough; processes that train together do it together."""
        due = time.monotonic() - self._saved >= self.seconds and trainer.current_epoch + 1 < (trainer.max_epochs or 0)
        if not trainer.strategy.broadcast(due):
            return
        fresh = self.path.with_suffix(".tmp")
        trainer.save_checkpoint(fresh)
        if trainer.is_global_zero:
            fresh.replace(self.path)
        self._saved = time.monotonic()


class KeepSignals(Callback):
    """Keeps the job's own signal handlers: Lightning's do not replace them.

    Those are the command's own (`fmsteal.base.stopping`), and submitit's. When a job has to make way, Slurm sends it
    SIGTERM some time before it kills it and queues it again. Lightning would end the training at once with a
    `SystemExit`, and the job with it: it would count as failed, not as preempted or stopped. Processes that only train
    ignore the signals that the job handles; they end with the job.
    """

    def __init__(self) -> None:
        warnings_of_clusters = (signal.SIGTERM, signal.SIGCONT, signal.SIGUSR1, signal.SIGUSR2)
        self.handlers: dict[signal.Signals, Any] = {
            number: handler for number in warnings_of_clusters if (handler := signal.getsignal(number)) is not None
        }

    def __getstate__(self) -> dict[str, Any]:
        handled = [number for number, handler in self.handlers.items() if callable(handler)]
        return {"handlers": dict.fromkeys(handled, signal.SIG_IGN)}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put back what Lightning has replaced."""
        if threading.current_thread() is threading.main_thread():
            for number, handler in self.handlers.items():
                signal.signal(number, handler)
