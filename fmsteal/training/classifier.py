"""The classifier: a backbone and a linear head, and its training on labels or on soft answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fmsteal.data.augment import apply_augment
from fmsteal.networks.backbones import Backbone, BackboneSpec
from fmsteal.training.recipe import Recipe, StealModule

Loss = Callable[[Tensor, Tensor], Tensor]


def soft_cross_entropies(logits: Tensor, answers: Tensor) -> Tensor:
    """``-sum_k y_k log softmax(z)_k`` of each row ``(n, C)``: ``(n,)``; rows of y need not sum to 1."""
    return -(answers * logits.log_softmax(dim=1)).sum(dim=1)


class Classifier(nn.Module):
    """Raw images in (uint8, or float in [0, 1]), logits ``(n, C)`` out.

    Attributes:
        frozen: the backbone's spec if its trunk is exactly the pretrained one, so that features can be looked up.
        adapted: whether low-rank updates of its trunk are being trained (see `fmsteal.training.lora`).
    """

    adapted = False

    def __init__(self, backbone: Backbone, num_classes: int, frozen: BackboneSpec | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(backbone.num_features, num_classes)
        self.frozen = frozen

    def forward(self, images: Tensor) -> Tensor:
        """Logits of a batch of images."""
        return self.head(self.backbone(images))

    def train(self, mode: bool = True) -> Classifier:
        """Set the mode; with low-rank updates, BatchNorms keep their pretrained statistics."""
        super().train(mode)
        for part in self.backbone.modules() if self.adapted else ():
            if isinstance(part, _BatchNorm):
                part.eval()
        return self

    @property
    def width(self) -> int:
        """The size of an output: the number of classes."""
        return self.head.out_features

    @property
    def trained(self) -> nn.Module:
        """The part that is trained and saved: the head alone if the trunk is frozen."""
        return self if self.frozen is None else self.head


class SupervisedModule(StealModule):
    """Trains a network on ``(inputs, targets)``; inputs are images, or features for a bare head."""

    def __init__(self, net: nn.Module, loss: Loss, recipe: Recipe, seed: int) -> None:
        super().__init__(net, recipe, seed)
        self.loss_function = loss
        self.augment = recipe.augment

    def loss(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss between the network's logits and the targets."""
        inputs, targets = batch
        if self.augment is not None and inputs.ndim == 4:
            inputs = apply_augment(self.augment, inputs)
        return self.loss_function(self.net(inputs), targets), {}


def save_weights(model: nn.Module, path: Path) -> None:
    """Write the trained weights as safetensors. A frozen trunk is left out: its weights are public."""
    trained = model.trained if isinstance(model, Classifier) else model
    path.write_bytes(save({k: v.contiguous() for k, v in trained.state_dict().items()}))
