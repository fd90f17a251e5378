"""``timm``: a Hugging Face hub folder, for ``timm.create_model("local-dir:FOLDER", pretrained=True)``.

Unlike the thief itself, timm's model takes normalised images: ``pretrained_cfg`` in ``config.json`` says how, and
``timm.data.create_transform(**timm.data.resolve_model_data_config(model))`` makes the transform.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from fmsteal.base.errors import ExportError
from fmsteal.face.export.served import Served
from fmsteal.networks.backbones import BackboneSpec
from fmsteal.networks.own_backbone import OwnBackbone, restore
from fmsteal.training.classifier import Classifier
from fmsteal.training.encoder import Encoder

SUFFIX = ""
CONFIG, WEIGHTS = "config.json", "model.safetensors"
OTHERS = "torch.export and onnx hold it"


def write(served: Served, folder: Path) -> None:
    """Write ``config.json`` and ``model.safetensors``.

    Raises:
        ExportError: timm has no architecture like this thief's; the message says what differs.
    """
    spec = _require_timm(served)
    net = served.net
    assert isinstance(net, Classifier | Encoder)
    args = {**spec.tied_to_size, **spec.options}
    state = _named_as_timm(net, spec, args)
    config = _describe(served, spec, args)
    fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.absolute().parent))
    try:
        (fresh / CONFIG).write_text(json.dumps(config, indent=2))
        save_file({name: value.contiguous().clone() for name, value in state.items()}, fresh / WEIGHTS)
        made = timm.create_model(f"local-dir:{fresh}", pretrained=True).eval()
        mean, std = net.backbone.mean, net.backbone.std

        def answer(images: Tensor) -> Tensor:
            return made((images - mean) / std)

        served.require_alike(answer, "timm")
        fresh.chmod(folder.absolute().parent.stat().st_mode & 0o777)
        fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _require_timm(served: Served) -> BackboneSpec:
    """The backbone of a thief, which must be one of timm's models with a linear classifier or without one.

    Raises:
        ExportError: the thief is not such a model.
    """
    net = served.net
    if not isinstance(net, Classifier | Encoder):
        raise ExportError(f"timm holds timm's own models, and this thief is a program of its attack's: {OTHERS}.")
    spec = restore(served.known["backbone"])
    if isinstance(spec, OwnBackbone):
        raise ExportError(f"timm holds timm's own models, and this thief's trunk is {spec.model}: {OTHERS}.")
    if spec.stem != "own":
        raise ExportError(f"timm's {spec.model} has no stem of this kind (backbone.stem={spec.stem}): {OTHERS}.")
    if isinstance(net, Classifier) and not isinstance(net.head, nn.Linear):
        raise ExportError(f"timm's {spec.model} has a linear head, this thief's is a {_name(net.head)}: {OTHERS}.")
    if isinstance(net, Encoder) and (net.bins > 1 or not isinstance(net.projector, nn.Identity)):
        what = f"pools its last map to ({net.bins}, 1)" if net.bins > 1 else "has a linear map behind its features"
        raise ExportError(f"timm's {spec.model} ends in its features, this encoder {what}: {OTHERS}.")
    return spec


def _name(head: nn.Module) -> str:
    parts = [type(part).__name__ for part in head.children()]
    return f"{type(head).__name__}({', '.join(parts)})" if parts else type(head).__name__


def _named_as_timm(net: Classifier | Encoder, spec: BackboneSpec, args: dict[str, Any]) -> dict[str, Tensor]:
    """The weights under their names in timm's model with a classifier of this width.

    Raises:
        ExportError: that model's classifier is not a single linear layer on the trunk's features.
    """
    state = dict(net.backbone.trunk.state_dict())
    if isinstance(net, Encoder):
        return state
    head = net.head
    with torch.device("meta"):
        model = timm.create_model(spec.model, num_classes=head.out_features, **args)
    there = {name: value.shape for name, value in model.state_dict().items()}
    own = {name for name in there if name not in state}
    places = [name.removesuffix(".weight") for name in own if name.endswith(".weight")]
    linear = len(places) == 1 and own == {f"{places[0]}.weight", f"{places[0]}.bias"}
    if not linear or there[f"{places[0]}.weight"] != head.weight.shape:
        found = ", ".join(sorted(own)) or "none"
        raise ExportError(
            f"timm's {spec.model} has another head than one linear layer behind its features ({found}): {OTHERS}."
        )
    return {**state, f"{places[0]}.weight": head.weight, f"{places[0]}.bias": head.bias}


def _describe(served: Served, spec: BackboneSpec, args: dict[str, Any]) -> dict[str, Any]:
    """The content of ``config.json``: architecture, options, and preprocessing (squash to the size, then normalise)."""
    net = served.net
    assert isinstance(net, Classifier | Encoder)
    architecture, _, _ = spec.model.partition(".")  # without the tag, which names other weights
    classes = net.head.out_features if isinstance(net, Classifier) else 0
    own = timm.get_pretrained_cfg(spec.model)
    return {
        "architecture": architecture,
        "num_classes": classes,
        "num_features": net.backbone.num_features,
        **({"model_args": args} if args else {}),
        "pretrained_cfg": {
            "input_size": [3, *served.size],
            "fixed_input_size": bool(own is not None and own.fixed_input_size),
            "mean": net.backbone.mean.flatten().tolist(),
            "std": net.backbone.std.flatten().tolist(),
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "crop_mode": "squash",
            "num_classes": classes,
            **({} if own is None else {"first_conv": own.first_conv, "classifier": own.classifier}),
        },
        "fmsteal": {**served.describe(), "input": f"{served.shape}, normalised as pretrained_cfg says"},
    }
