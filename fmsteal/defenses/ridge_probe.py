"""A probe in closed form: ridge regression of answers on fixed features, as a function of the answers alone.

For features x_i and answers y_i of m images, the probe with a constant term that is not penalised is::

    s(z) = (z - m_x)' W + m_y,   W = (C + r u I)^-1 (1/m) sum_i (x_i - m_x) y_i'

with C the covariance of the features, u their mean variance and m_x, m_y the means. The features do not change, so
``W = P Y`` with a matrix P that is computed once, and the scores can be differentiated with respect to the answers.
"""

from __future__ import annotations

import torch
from torch import Tensor


class RidgeProbe:
    """The ridge probes on the features ``(m, D)`` of m images, whatever their answers are."""

    def __init__(self, features: Tensor, penalty: float) -> None:
        """``penalty`` (r) is in units of the mean variance of a feature; computed in float64, kept in float32."""
        x = features.double()
        self.mean = x.mean(0)
        centred = x - self.mean
        covariance = centred.T @ centred / len(x)
        unit = covariance.diagonal().mean().clamp(min=torch.finfo(torch.float64).tiny)
        ridge = covariance + penalty * unit * torch.eye(x.shape[1], dtype=x.dtype)
        self.solution = torch.linalg.solve(ridge, centred.T / len(x)).float()
        self.mean = self.mean.float()

    def scores(self, z: Tensor, answers: Tensor) -> Tensor:
        """What the probe of ``answers (m, K)`` says of images with the features ``z (n, D)``: ``(n, K)``."""
        return (z - self.mean) @ (self.solution @ answers) + answers.mean(0)


def find_lead(scores: Tensor, labels: Tensor) -> Tensor:
    """By how much the label's score ``(n, K)`` leads over the largest other one, ``(n,)``."""
    own = scores.gather(1, labels[:, None]).squeeze(1)
    return own - scores.scatter(1, labels[:, None], -torch.inf).amax(1)


def relative_lead(scores: Tensor, labels: Tensor) -> Tensor:
    """The same in units of the scores' own spread over classes, which no scaling of the answers changes.

    The spread is the root of the mean over images of the variance over classes.
    """
    spread = scores.var(1, correction=0).mean().sqrt().clamp(min=1e-12)
    return find_lead(scores, labels) / spread
