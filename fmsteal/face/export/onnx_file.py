"""``onnx``: one ``.onnx`` file, for onnxruntime and others. Input ``images``: floats in [0, 1]."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from torch import Tensor

from fmsteal.base.errors import ExportError
from fmsteal.face.export import EXTRA
from fmsteal.face.export.served import Served
from fmsteal.face.export.torch_program import trace

SUFFIX = ".onnx"
INPUT = "images"
NEEDED = ("onnx", "onnxscript", "onnxruntime")


def write(served: Served, file: Path) -> None:
    """Write the model with a dynamic batch axis; its metadata holds what `Served.describe` returns.

    Raises:
        ExportError: onnx, onnxscript or onnxruntime is not installed, or ONNX cannot hold this thief.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as absent:
        raise ExportError(
            f"ONNX files are written and tried by {', '.join(NEEDED)}, of which {absent.name} is not installed: "
            f"pip install {EXTRA}. torch.export and timm need nothing more."
        ) from absent
    fresh = file.with_name(f".{file.name}")
    try:
        _convert(served, fresh)
        model = onnx.load(fresh)
        onnx.helper.set_model_props(model, served.describe())
        onnx.save(model, fresh)
        session = onnxruntime.InferenceSession(fresh, providers=["CPUExecutionProvider"])

        def answer(images: Tensor) -> Tensor:
            return torch.from_numpy(session.run(None, {INPUT: images.numpy()})[0])

        served.require_alike(answer, "onnx")
        fresh.replace(file)
    finally:
        fresh.unlink(missing_ok=True)


def _convert(served: Served, file: Path) -> None:
    program, quiet = trace(served), logging.getLogger("torch.onnx")
    level = quiet.level
    quiet.setLevel(logging.ERROR)  # it warns of non-torch operators, whether or not the model has any
    try:
        torch.onnx.export(
            program, (), file, input_names=[INPUT], output_names=[served.output], external_data=False, verbose=False
        )
    except Exception as error:  # torch.onnx can fail in many ways
        said = str(error).strip().splitlines() or [""]
        raise ExportError(f"ONNX cannot hold this thief ({type(error).__name__}: {said[0]}).") from error
    finally:
        quiet.setLevel(level)
