"""A victim whose head an attack can solve for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from fmsteal.attacks.base import AttackContext
from fmsteal.data.images import Images
from fmsteal.networks.backbones import BackboneSpec
from fmsteal.training.classifier import Classifier
from fmsteal.victims.base import Victim

CLASSES = 5


RANDOM = np.random.default_rng(4)


POOL = Images(RANDOM.integers(0, 256, (500, 3, 16, 16)).astype(np.uint8), "pool")


LAST = np.arange(400, 500)  # images that the attacks below do not ask about


TRUNK = ("thief=resnet10t", "thief.backbone.model=test_resnet", "thief.backbone.size=16", "thief.adaptation=probe")


QUICK = ("thief.recipe.epochs=3", "thief.recipe.min_steps=0", "query.count=null")


def weights(folder: Path, seed: int) -> Path:
    """A small trunk that somebody has published."""
    import timm

    torch.manual_seed(seed)
    model = timm.create_model("test_resnet", num_classes=0)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.normal_(norm.running_mean, std=0.3)
            nn.init.uniform_(norm.weight, 0.5, 1.5)
    file = folder / f"trunk-{seed}.safetensors"
    save_file(model.state_dict(), file)
    return file


def a_victim(spec: BackboneSpec, size: float = 1.0) -> Victim:
    """A head on a public trunk whose answers differ from image to image."""
    torch.manual_seed(9)
    model = Classifier(spec.build(pretrained=True), CLASSES)
    with torch.no_grad():
        features = model.backbone.eval()(torch.from_numpy(np.array(POOL.pixels[:100])))
        weight = torch.randn(CLASSES, features.shape[1])
        model.head.weight.copy_(2 * size * weight / (features @ weight.T).std(0).mean())
        model.head.bias.copy_(-(features.mean(0) @ model.head.weight.T))
    return Victim("made", model.eval(), "probabilities")


def found(ctx: AttackContext) -> dict[str, float]:
    return {metric.name: metric.value for metric in ctx.found}
