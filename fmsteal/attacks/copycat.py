"""Copycat CNN (Correia-Silva et al., IJCNN 2018; Pattern Recognition 2021): natural images, and their labels alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fmsteal.attacks.knockoff import Knockoff
from fmsteal.base.seeds import derive_seed
from fmsteal.data.images import Ids
from fmsteal.oracle.oracle import Oracle


@dataclass(frozen=True)
class Copycat(Knockoff):
    """As `Knockoff`, on a transfer set in which all labels that were answered are equally frequent.

    Attributes:
        balance: repeat images of rare labels and leave out some of frequent ones (see `balance_classes`); also the
            default of the authors' framework. It costs no questions. False: every image counts once.
    """

    balance: bool = True

    def transfer_set(self, oracle: Oracle, ids: Ids, seed: int) -> tuple[Ids, Tensor]:
        """The images with their answers, balanced."""
        answers = oracle.ask(ids)
        if not self.balance:
            return ids, answers
        rows = balance_classes(answers.argmax(dim=1), derive_seed("copycat", seed))
        return ids[rows], answers[torch.from_numpy(rows)]


def balance_classes(labels: Tensor, seed: int) -> Ids:
    """Rows of a transfer set of n images, drawn such that each of its k labels has n // k of them.

    As in the authors' framework, the images of a rarer label are repeated in one random order until there are enough;
    of a more frequent label a random part is kept.
    """
    found = np.asarray(labels)
    random = np.random.default_rng(seed)
    present = np.unique(found)
    each = len(found) // len(present)
    return np.concatenate([np.resize(random.permutation(np.flatnonzero(found == k)), each) for k in present])
