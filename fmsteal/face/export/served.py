"""A thief in the form it is exported: one input size, floats in [0, 1], and its description."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from fmsteal.base.errors import ExportError
from fmsteal.face.models import load_thief
from fmsteal.job.stolen import Program
from fmsteal.networks.backbones import Backbone
from fmsteal.records.folders import TheftFolder
from fmsteal.training.classifier import Classifier
from fmsteal.training.encoder import Encoder

if TYPE_CHECKING:
    from fmsteal.face.jobs import Job

CLOSE = 1e-4  # tolerance between exported model and thief, relative to the largest output (at least 1)
LOOKED = 3  # number of images to compare them on


@dataclass(frozen=True)
class Served:
    """The model to export.

    Attributes:
        key: the job's key.
        net: the network; takes floats in [0, 1], ``(n, 3, *size)``.
        size: height and width of its images.
        width: number of values in an output.
        output: kind of output: ``logits`` or ``embeddings``.
        known: the theft's record of its thief.
    """

    key: str
    net: nn.Module
    size: tuple[int, int]
    width: int
    output: str
    known: dict[str, Any]

    @property
    def shape(self) -> str:
        """The input's type and shape, as readable text."""
        height, width = self.size
        return f"float32 (n, 3, {height}, {width})"

    def describe(self) -> dict[str, str]:
        """The description written into a file: the model's input, output and origin."""
        return {
            "input": f"images: {self.shape} in [0, 1], RGB",
            "output": f"{self.output}: float32 (n, {self.width})",
            "job": self.key,
            "made_by": "fmsteal export",
        }

    def images(self, count: int = LOOKED) -> Tensor:
        """Some images, the same at each call: floats in [0, 1], ``(count, 3, *size)``."""
        return torch.rand(count, 3, *self.size, generator=torch.Generator().manual_seed(0))

    @torch.no_grad()
    def require_alike(self, answer: Callable[[Tensor], Tensor], to: str) -> None:
        """Check that the exported model answers like the thief, for one image and for several.

        Args:
            answer: maps images in [0, 1] to the exported model's outputs.
            to: the format.

        Raises:
            ExportError: the outputs differ.
        """
        for images in (self.images(), self.images(1)):
            due, found = self.net(images), answer(images)
            scale = float(due.abs().max().clamp(min=1.0))
            far = float((found - due).abs().max()) if found.shape == due.shape else float("nan")
            if not far <= CLOSE * scale:
                raise ExportError(
                    f"{to} does not keep this thief: what was written answers otherwise, by {far:.2g} on outputs up to "
                    f"{scale:.2g}. Nothing was kept. Another format may hold it."
                )


def serve(job: Job) -> Served:
    """The thief of a job in the form it is exported.

    Raises:
        TheftError: no file holds the thief.
        DataError: the public weights of the thief's frozen trunk are missing.
        ExportError: the thief's input size is unknown.
    """
    known = dict(job.theft["thief"])
    net = load_thief(TheftFolder(job.theft_folder), job.theft)  # without the check of what it is shown
    if isinstance(net, Program):
        size = net.size
    elif isinstance(net, Classifier | Encoder):
        size = (net.backbone.size, net.backbone.size)
    else:
        raise ExportError(f"A thief of the class {type(net).__name__} cannot be exported: its input size is unknown.")
    for part in net.modules():
        if isinstance(part, Backbone):
            part.layout = torch.contiguous_format
    output = "embeddings" if job.config.task.answers == "embeddings" else "logits"
    return Served(job.key, net.eval().requires_grad_(False), size, int(known["width"]), output, known)
