"""Writes a stolen model for others to load: timm, torch.export, ONNX. Torch is imported only to write a model."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from fmsteal.base.errors import ExportError

if TYPE_CHECKING:
    from fmsteal.face.jobs import Job

FORMATS = {  # format name: the module whose `write` writes it
    "timm": "fmsteal.face.export.timm_folder",
    "torch.export": "fmsteal.face.export.torch_program",
    "onnx": "fmsteal.face.export.onnx_file",
}
EXTRA = "'fmsteal[export]'"


def export(job: Job, to: str, dest: Path) -> Path:
    """Write a job's thief, load it as others do, and check that its outputs agree (to 1e-4 of its largest output).

    Each format states its input in the file: float32 ``(n, 3, H, W)`` of any ``n``, at the model's size. ``timm`` takes
    normalised images (its ``pretrained_cfg`` holds mean, std and size); the others take floats in [0, 1].

    Args:
        job: a finished job.
        to: a name from `FORMATS`.
        dest: the folder (for timm) or file to write. It must not exist yet.

    Returns:
        ``dest``.

    Raises:
        ExportError: the format cannot hold this thief, the package that writes it is not installed, or ``dest`` exists.
    """
    if to not in FORMATS:
        raise ExportError(f"There is no format '{to}'. There are: {', '.join(FORMATS)}.")
    if dest.exists():
        raise ExportError(f"{dest} is there already: choose another name, or remove it.")
    module = import_module(FORMATS[to])
    due = module.SUFFIX
    if due and dest.suffix != due:
        raise ExportError(f"{dest} is to be a file of {to}: end its name with {due}.")
    from fmsteal.face.export.served import serve

    dest.absolute().parent.mkdir(parents=True, exist_ok=True)
    module.write(serve(job), dest)
    return dest
