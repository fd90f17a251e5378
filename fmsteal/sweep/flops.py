"""Counts a trunk's floating-point operations. Imports torch."""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch
from omegaconf import DictConfig
from torch.utils.flop_counter import FlopCounterMode

from fmsteal.config import build
from fmsteal.networks.backbones import BackboneSpec


class TrunkSize(NamedTuple):
    """The operations of one image's forward pass (a multiply-add is two of them), and the features' width."""

    flops: float
    width: int


def count(node: DictConfig) -> TrunkSize | None:
    """Count the trunk of a ``backbone`` node; None if it is none of ours, or cannot be made or run."""
    try:
        spec = build.make(node)
        return _count(spec) if isinstance(spec, BackboneSpec) else None
    except Exception:  # whatever an architecture raises; the job itself says it better
        return None


@functools.lru_cache(maxsize=64)
def _count(spec: BackboneSpec) -> TrunkSize:
    trunk = spec.blueprint.eval()  # on torch's meta device: nothing is computed
    device = next((parameter.device for parameter in trunk.parameters()), torch.device("cpu"))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        trunk(torch.zeros(1, 3, trunk.size, trunk.size, device=device))
    return TrunkSize(float(counter.get_total_flops()), trunk.width)
