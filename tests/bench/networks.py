"""The network whose steps are timed."""

from __future__ import annotations

import torch
from torch import nn

from fmsteal.networks.backbones import BackboneSpec
from fmsteal.training.classifier import Classifier


def resnet() -> nn.Module:
    backbone = BackboneSpec("resnet10t", size=32, normalise="half").build(pretrained=False)
    return Classifier(backbone, 10).to(memory_format=torch.channels_last)
