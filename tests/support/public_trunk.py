"""A trunk with public weights, the smallest there is: those of an untrained network, in a file."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import save_file

from fmsteal.networks.backbones import BackboneSpec
from fmsteal.training.classifier import Classifier


@cache
def public_trunk() -> BackboneSpec:
    """``test_resnet`` at 16 pixels."""
    spec = BackboneSpec("test_resnet", size=16, normalise="half")
    file = Path(tempfile.mkdtemp()) / "trunk.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_file(spec.build(pretrained=False).trunk.state_dict(), file)
    return BackboneSpec("test_resnet", weights=str(file), size=16, normalise="half")


def head_on_trunk(classes: int) -> Classifier:
    """An untrained head on it, which is frozen."""
    spec = public_trunk()
    return Classifier(spec.build(pretrained=True), classes, spec)
