"""Small networks of somebody's own, to train as thieves: plain torch, and of torchvision."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import ResNet
from torchvision.models.convnext import CNBlockConfig, ConvNeXt
from torchvision.models.resnet import BasicBlock


class Small(nn.Module):
    """Two convolutions, flattened by `view` as many networks do, and a last layer."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 16, 3, 2, 1)
        self.norm, self.last = nn.BatchNorm2d(16), nn.Linear(16 * 4 * 4, classes)

    def forward(self, images: Tensor) -> Tensor:
        maps = nn.functional.adaptive_max_pool2d(self.norm(self.conv2(self.conv1(images).relu())).relu(), 4)
        return self.last(maps.view(len(images), -1))


def make(classes: int = 10) -> Small:
    return Small(classes)


def make_trained(seed: int = 5) -> Small:
    """As a package gives a model with weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Small().eval()


READY = make_trained()


class NoWeights(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3))


class Detached(Small):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).detach()


class Maps(Small):
    def forward(self, images: Tensor) -> Tensor:
        return self.conv1(images)


def script() -> torch.jit.ScriptModule:
    return torch.jit.script(Small())


def needs_more(images: Any) -> Any:
    return images


def small_convnext() -> ConvNeXt:
    return ConvNeXt([CNBlockConfig(8, 16, 1), CNBlockConfig(16, None, 1)], num_classes=7)


def small_resnet() -> ResNet:
    """torchvision's ResNet with a block for each stage, without its last layer."""
    net = ResNet(BasicBlock, [1, 1, 1, 1])
    net.fc = nn.Identity()  # type: ignore[assignment]
    return net
