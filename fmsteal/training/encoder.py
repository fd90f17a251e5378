"""The stolen encoder: a backbone whose features are mapped to the width of the embeddings it is trained on."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmsteal.base.errors import ConfigError
from fmsteal.networks.backbones import Backbone, BackboneSpec

Match = Literal["pool", "linear", "map"]


class Encoder(nn.Module):
    """Raw images in (uint8, or float in [0, 1]), embeddings ``(n, width)`` out.

    If the backbone's features are as wide as the embeddings, they are the embeddings. If not (with ``map``, always):

    - ``pool``: the last feature map ``(n, c, h, w)`` is averaged to ``(n, c, width / c, 1)``, not ``(n, c, 1, 1)``
      (StolenEncoder against CLIP: 512 channels pooled to (2, 1) make 1,024 numbers);
    - ``linear``, ``map``: a linear layer that is trained with the thief and belongs to it.

    Attributes:
        aligned: whether its numbers mean what the target's mean; False if it was never trained on them.
        frozen: the backbone's spec if its trunk is exactly the pretrained one, so that features can be looked up.

    Raises:
        ConfigError: with ``pool``, the width is not a multiple of the channels, or there is no feature map.
    """

    aligned = True

    def __init__(self, backbone: Backbone, width: int, match: Match, frozen: BackboneSpec | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        self.width = width
        self.match = match
        self.frozen = frozen
        features = backbone.num_features
        self.bins = width // features if match == "pool" else 1
        if match == "pool" and (width % features or (self.bins > 1 and not self._has_map())):
            raise ConfigError(
                f"A thief with {features} features cannot be pooled to the {width} numbers of the API's embeddings: "
                "pooling needs a convolutional thief and a multiple of its width. Choose thief.match=linear, or "
                "another thief=..."
            )
        layer = match == "map" or (match == "linear" and features != width)
        self.projector = nn.Linear(features, width) if layer else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """Embeddings of a batch of images."""
        if self.bins > 1:
            return self._pooled(self._map(images))
        return self.projector(self.backbone(images))

    @property
    def trained(self) -> nn.Module:
        """The part that is trained and saved: the layer alone if the trunk is frozen."""
        return self if self.frozen is None else self.projector

    def _map(self, images: Tensor) -> Tensor:
        return self.backbone.trunk.forward_features(self.backbone.preprocess(images))  # type: ignore[operator]

    def _pooled(self, features: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(features, (self.bins, 1)).flatten(1)

    def _has_map(self) -> bool:
        """Whether the trunk ends in a feature map with one channel per feature."""
        if not hasattr(self.backbone.trunk, "forward_features"):  # no model of timm
            return False
        training = self.backbone.training
        with torch.no_grad():
            self.backbone.eval()
            seen = self._map(torch.zeros(1, 3, self.backbone.size, self.backbone.size))
        self.backbone.train(training)
        return seen.ndim == 4 and seen.shape[1] == self.backbone.num_features
