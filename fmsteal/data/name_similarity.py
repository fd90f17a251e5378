"""A query set weighted by class names: the query preparation of E3 (Zhu et al., ICASSP 2025).

An attacker who knows the names of the victim's classes, and has labelled public images, takes more images of the
classes that a text tower puts near the victim's. As in the authors' code, the worth of a class is the sum of the
cosines between its name and the victim's, scaled from 0 for the least of all classes to 1 for the greatest; images are
drawn at random from each class in proportion to its size times its worth. The authors round each class separately;
here the largest remainders make up the exact count, and what a class is too small for goes to the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from omegaconf import OmegaConf

from fmsteal.base.errors import DataError
from fmsteal.base.store import Store
from fmsteal.config import build
from fmsteal.data.available import look_with
from fmsteal.data.class_names import Names, spell_classes
from fmsteal.data.images import Images, Task
from fmsteal.networks.clip import ClipSpec, load_text_features, require_templates

DIGITS = 4  # digits of a cosine that count: further ones differ between machines


def look(clip: dict[str, Any]) -> None:
    """Check that the text tower is available, as far as possible without the network.

    Raises:
        ConfigError, DataError: it is not available.
    """
    build.make(OmegaConf.create(clip)).require_weights()


@look_with(look)
def pool(
    store: Store,
    task: Task,
    of: dict[str, Any],
    clip: dict[str, Any],
    *,
    names: Names = None,
    victim_names: Names = None,
    template: str | Sequence[str] = "{}",
    split: Literal["train", "test"] = "train",
    count: int = 20000,
    seed: int = 0,
) -> Images:
    """A query set of ``count`` images of a labelled task, without their labels.

    Args:
        store: where the images and the text tower's features of the names are kept.
        task: the victim's task, of which only the class names are used.
        of: a config of the group ``data``: where the images come from.
        clip: a config of the group ``clip``: the model with the text tower.
        names: texts for the classes of ``of``: see `spell_classes`.
        victim_names: the same for the victim's classes.
        template: text in which ``{}`` stands for the name; features of several texts are averaged.
        split: which split of ``of`` to use.
        count: number of images.
        seed: seed of the choice of images within each class.

    Raises:
        ConfigError: a class has no name, or two have the same.
        DataError: there are not enough images of classes with a worth above 0, or they have no labels.
    """
    source: Task = build.make(OmegaConf.create(of), store=store)
    images: Images = getattr(source, split)
    if images.labels is None:
        raise DataError("query=name_similarity needs images with labels: data@query.of=... .")
    own = spell_classes(images.classes, names, "query.names")
    victims = spell_classes(task.train.classes, victim_names, "query.victim_names")
    spec: ClipSpec = build.make(OmegaConf.create(clip))
    spec.require_weights()
    templates = require_templates(template, "query.template")
    rows = load_text_features(spec, [*own, *victims], templates, store).double().numpy()
    worth = worth_of(np.round(rows[: len(own)] @ rows[len(own) :].T, DIGITS))
    quotas = share_out(count, worth, np.bincount(images.labels, minlength=len(own)))
    random = np.random.default_rng(seed)
    members = [random.permutation(np.flatnonzero(images.labels == label)) for label in range(len(own))]
    picked = np.concatenate([ids[:quota] for ids, quota in zip(members, quotas, strict=True)])
    return images.unlabelled().subset(np.sort(picked))


def worth_of(cosines: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The worth of each class, from the cosines ``(classes, victim's classes)``: ``(classes,)`` in [0, 1]."""
    sums = cosines.sum(axis=1)
    low, high = sums.min(), sums.max()
    return (sums - low) / (high - low) if high > low else np.ones(len(sums))


def share_out(count: int, worth: npt.NDArray[np.float64], sizes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """How many of ``count`` images each class gives: ``(classes,)``, in proportion to size times worth, up to its size.

    Raises:
        DataError: the classes with a worth above 0 hold fewer images.
    """
    there = int(sizes[worth > 0].sum())
    if not 0 < count <= there:
        raise DataError(
            f"query.count={count}: the classes whose names are like the victim's at all hold {there} images. Choose a "
            "smaller query.count, or a larger data@query.of=..."
        )
    shares, full = np.zeros(len(sizes)), np.zeros(len(sizes), dtype=bool)
    while True:  # what is too much for a class goes to the others
        weights = np.where(full, 0.0, sizes * worth)
        shares = np.where(full, sizes, weights * (count - sizes[full].sum()) / max(weights.sum(), 1e-300))
        over = ~full & (shares >= sizes) & (weights > 0)
        if not (shares[over] > sizes[over]).any():
            break
        full |= over
    quotas = np.floor(shares + 1e-9).astype(np.int64)
    room = np.where(quotas < sizes, shares - quotas, -1.0)
    room[worth == 0] = -1.0
    quotas[np.argsort(-room, kind="stable")[: count - quotas.sum()]] += 1
    return quotas
