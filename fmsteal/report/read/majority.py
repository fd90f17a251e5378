"""The thief that answers one class for every image, as a reference for any table's figures. Imports no torch.

The class is the most frequent true label of the test images; ties go to the first. This thief asks no query and sees no
image; its scores are computed from the victim's answers and the labels that a job keeps.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fmsteal.base.errors import StoreError
from fmsteal.records.folders import JobFolder
from fmsteal.report.read.predictions import list_sets, open_predictions

NAME = "majority class, no query"


@functools.lru_cache(maxsize=4096)
def scores(folder: Path) -> Mapping[str, float]:
    """What the majority class scores on a finished job's test images, by metric; empty without predictions.

    For encoders it replaces the stolen encoder's heads, on each downstream set and in the mean over the sets.
    """
    if not JobFolder(folder).predictions.is_file():
        return {}
    found: dict[str, float] = {}
    by_set: dict[str, dict[str, float]] = {}
    try:
        with open_predictions(folder) as arrays:
            for name, prefix in list_sets(arrays).items():
                victim, label = arrays[f"{prefix}victim"], arrays[f"{prefix}label"]
                most = np.bincount(label).argmax()
                agreement, accuracy = float((victim == most).mean()), float((label == most).mean())
                plain = arrays["original"] if not name and "original" in arrays.files else victim
                theirs = max(float((plain == label).mean()), 1e-12)
                if not name:
                    found |= {"test/agreement": agreement, "test/accuracy": accuracy}
                    found["test/relative_accuracy"] = accuracy / theirs
                    continue
                scored = {"agreement": agreement, "stolen_accuracy": accuracy, "ratio": accuracy / theirs}
                found |= {f"downstream/{name}/{kind}": value for kind, value in scored.items()}
                if "/" not in name:  # judged with the headline's head
                    by_set[name] = scored
    except StoreError:  # torn: `fmsteal verify` reports it
        return {}
    for kind in ("agreement", "stolen_accuracy", "ratio") if by_set else ():
        found[f"test/{kind}"] = math.fsum(scored[kind] for scored in by_set.values()) / len(by_set)
    return found
