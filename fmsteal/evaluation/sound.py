"""Whether a victim's answers tell anything: one that always gives the same answer is copied by any constant."""

from __future__ import annotations

import logging

import numpy as np
import torch
from torch import Tensor

from fmsteal.base.errors import VictimError
from fmsteal.data.images import Task
from fmsteal.evaluation import metrics
from fmsteal.training.context import Context
from fmsteal.victims.base import Victim

log = logging.getLogger(__name__)


def require_telling(victim: Victim, task: Task, ctx: Context) -> None:
    """Check a classifier's answers to the test images before it is queried.

    The answers are kept for the measurements. A classifier that is no better than always answering the commonest class
    gets a warning.

    Raises:
        VictimError: it gives all test images the same class, and they are of several.
    """
    if victim.answers != "probabilities" or task.test.labels is None or len(np.unique(task.test.labels)) < 2:
        return
    with victim.calls.during("measurement"):
        logits = victim.raw(task.test, np.arange(len(task.test)), ctx)
    labels = torch.from_numpy(np.array(task.test.labels))
    if answers_one_class(logits):
        named = task.test.classes[int(logits[0].argmax())]
        raise VictimError(
            f"The victim answers the same class, '{named}', to all of the {len(labels)} test images: its training has "
            "failed, and any constant would agree with it perfectly. Train it longer or otherwise (victim.recipe, "
            "victim.adaptation), on images that it can tell apart (data=..., victim.backbone.size)."
        )
    right, most = int((logits.argmax(1) == labels).sum()), int(labels.bincount().max())
    if metrics.wilson(right / len(labels), len(labels))[0] <= most / len(labels):
        log.warning(
            "The victim knows %d of %d test images, no more than chance: always answering the commonest class would be "
            "right on %d. What is stolen from it says little",
            right,
            len(labels),
            most,
        )


def answers_one_class(logits: Tensor) -> bool:
    """Whether all of several logits ``(n, C)`` are of one class; False if they are not finite."""
    return len(logits) > 1 and bool(logits.isfinite().all()) and len(logits.argmax(1).unique()) == 1
