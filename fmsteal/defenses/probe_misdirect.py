"""Answers that mislead a probe of public features, within an L1 ball and with the label kept (a defense of our own).

A thief who knows the victim's public trunk fits a linear map from its features x to the answers y: least squares, with
``W = A^-1 mean_i x_i y_i'`` and ``A = mean_i x_i x_i'``. On an image of the victim's own kind, with features z, the
victim's class leads by ``z' W (e_first - e_second)``. So an answer y_i adds ``g_i . y_i`` to the mean lead, with

    g_i = x_i' A^-1 M,   M = mean_z z (e_first - e_second)'

and the defense returns the answer with the least ``g_i . y``. Neither A nor M needs the thief's images: A is taken over
training images, too. A thief with another trunk, or one who keeps nothing but the label, is not misled.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fmsteal.base.errors import ConfigError
from fmsteal.data.images import choose_ids
from fmsteal.defenses.base import RowGuard, name_of
from fmsteal.defenses.cheapest import find_cheapest, require_room
from fmsteal.defenses.probabilities import ProbabilityDefense
from fmsteal.networks.backbones import BackboneSpec
from fmsteal.oracle.guard import Ask, Guard
from fmsteal.oracle.simulated import cannot_simulate
from fmsteal.training.context import Context
from fmsteal.training.inference import features, run_in_batches

if TYPE_CHECKING:
    from fmsteal.data.images import Images
    from fmsteal.victims.base import Victim


class ProbeMisdirect(ProbabilityDefense):
    """Returns ``argmin_y g . y`` with ``|y - p|_1 <= epsilon``, on the simplex, g as the module says.

    The top class keeps a lead of ``margin``, as in `fmsteal.defenses.modelguard_w`. Each image passes through the trunk
    once more when it is asked about.
    """

    _network: nn.Module  # from raw images to g
    _ctx: Context

    def __init__(
        self, trunk: BackboneSpec, epsilon: float = 0.5, margin: float = 1e-4, penalty: float = 1e-2,
        images: int = 2000, seed: int = 0,
    ) -> None:  # fmt: skip
        """Set the options.

        Args:
            trunk: the public trunk whose probes are misled.
            epsilon: the largest L1 distance of an answer from p.
            margin: the least lead of the top class.
            penalty: of the probe, in units of the mean variance of a feature.
            images: how many training images A and M are taken over, at most.
            seed: chooses them.
        """
        require_room(epsilon, margin)
        if not penalty > 0:
            raise ConfigError(f"defense.penalty must be above 0, not {penalty}.")
        if images < 2:
            raise ConfigError(f"defense.images must be at least 2, not {images}.")
        self.trunk, self.epsilon, self.margin = trunk, epsilon, margin
        self.penalty, self.images, self.seed = penalty, images, seed

    def prepare(self, victim: Victim, train: Images, ctx: Context) -> Guard:
        """Ask the victim about training images, and take their features."""
        if victim.width < 2:
            raise ConfigError(f"{name_of(self)} lowers the lead of a class over another, but there is one alone.")
        ids = choose_ids(len(train), min(self.images, len(train)), self.seed)
        backbone = self.trunk.build(pretrained=True)
        x = features(self.trunk, backbone, train, ids, ctx)
        p = victim.answer(victim.raw(train, ids, ctx))
        weight, bias = find_scores(x.double(), p.double(), self.penalty)
        scores = nn.Linear(*weight.T.shape)
        scores.load_state_dict({"weight": weight.float(), "bias": bias.float()})
        prepared = copy.copy(self)
        prepared._network, prepared._ctx = nn.Sequential(backbone, scores), ctx
        return RowGuard(prepared, victim.width)

    def simulate(self, width: int, seed: int) -> Guard:
        """Refused: M is the mean of the victim's training images.

        Raises:
            ConfigError: always.
        """
        raise cannot_simulate(self)

    def perturb(self, p: Tensor, ask: Ask) -> Tensor:
        """Return the answers that mislead most, ``(n, K)``."""
        if not len(p):
            return p
        images = ask.images()
        g = run_in_batches(self._network, lambda part: images[part], len(images), self._ctx)
        return find_cheapest(p, g.double(), self.epsilon, self.margin)


def find_scores(x: Tensor, p: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
    """The linear map from features to g, as weight ``(K, D)`` and bias ``(K,)``.

    The probe has a constant term, which is not penalised: features are centred, and 1 is added to each product.

    Args:
        x: features of images of the victim's own kind, float64 ``(n, D)``.
        p: its answers to them, float64 ``(n, K)``.
        penalty: of the probe, in units of the mean variance of a feature.
    """
    mean = x.mean(0)
    z = x - mean
    first, second = p.topk(2, dim=1).indices.T
    n = len(p)
    lead = torch.zeros_like(p)
    lead[torch.arange(n), first], lead[torch.arange(n), second] = 1.0, -1.0
    covariance = z.T @ z / n
    unit = covariance.diagonal().mean().clamp(min=torch.finfo(torch.float64).tiny)
    weight = torch.linalg.solve(covariance + penalty * unit * torch.eye(x.shape[1], dtype=x.dtype), z.T @ lead / n).T
    return weight, lead.mean(0) - weight @ mean
