"""Low-rank updates in a classifier, by peft: put in before training, merged into its weights afterwards."""

from __future__ import annotations

import re

from torch import nn

from fmsteal.training.classifier import Classifier
from fmsteal.training.lora import LoRA


def inject(model: Classifier, lora: LoRA, name: str) -> None:
    """Put fresh updates into a classifier's trunk, in place; they are then the trunk's only part with gradients.

    Random numbers are torch's own. ``name`` is the trunk's, for error messages.
    """
    from peft import LoraConfig, inject_adapter_in_model

    layers = lora.layers(model.backbone.trunk, name)
    model.backbone.trunk.requires_grad_(False)
    config = LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, target_modules="|".join(re.escape(layer) for layer in layers), bias="none"
    )
    inject_adapter_in_model(config, model.backbone.trunk)
    model.adapted = True


def merge(model: nn.Module) -> None:
    """Add the updates in a model to the weights they belong to, in place: its architecture is the plain one again."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, layer in list(model.named_modules()):
        if isinstance(layer, BaseTunerLayer):
            layer.merge()
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, layer.get_base_layer())
    for part in model.modules():
        if isinstance(part, Classifier):
            part.adapted = False
    model.requires_grad_(True)


def has_updates(model: nn.Module) -> bool:
    """Whether a model has updates that are not merged."""
    return any(isinstance(part, Classifier) and part.adapted for part in model.modules())
