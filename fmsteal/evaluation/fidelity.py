"""Is it the same encoder? A look at target and thief that needs no labels and trains nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmsteal.base.errors import ConfigError
from fmsteal.base.metric import Metric
from fmsteal.base.rows import Rows
from fmsteal.data.images import Ids, Images
from fmsteal.evaluation.base import Measured, Measurement, Pair, sample
from fmsteal.evaluation.retrieval import picture
from fmsteal.evaluation.similarity import cka
from fmsteal.evaluation.trunk_stages import TrunkStages, backbone_of, match_stages
from fmsteal.training.context import Context
from fmsteal.training.inference import compute_outputs
from fmsteal.victims.base import Victim

QUANTILES = (5, 25, 50, 75, 95)  # per cent
NEIGHBOURS = (10, 100)
FILE = "retrieval.png"


@dataclass(frozen=True)
class Fidelity(Measurement):
    """How alike two encoders' embeddings, neighbourhoods and inner stages are, and a picture of what they retrieve.

    Attributes:
        images: maximum number of test images; neighbours are searched for among them.
        queries: rows of the picture; 0 for no picture.
        shown: neighbours shown in a row.
    """

    images: int = 1000
    queries: int = 8
    shown: int = 5

    def __post_init__(self) -> None:
        for name, least in (("images", 2), ("queries", 0), ("shown", 1)):
            if getattr(self, name) < least:
                raise ConfigError(
                    f"evaluation.also.fidelity.{name} must be at least {least}, not {getattr(self, name)}."
                )

    def run(self, pair: Pair, ctx: Context) -> Measured:
        """The figures that the two encoders allow.

        ``fidelity/cosine_{mean,std,q05,q25,q50,q75,q95}``: of an image's two embeddings, if the two are comparable.
        ``fidelity/neighbours@{10,100}``: share of the nearest images by cosine that both have, see `overlap`.
        ``fidelity/cka/stage<i>``: of the trunks' stages, pooled and matched by relative depth; the first is 1.
        """
        test = pair.task.test
        ids = sample(test, self.images)
        target, thief = (rows[ids] for rows in pair.logits)
        found = [_cosine(name, value) for name, value in cosines(target, thief).items()] if pair.comparable else []
        if len(ids) > 1:
            reach = min(max(*NEIGHBOURS, self.shown), len(ids) - 1)
            near = find_nearest(target, reach), find_nearest(thief, reach)
            found += [
                Metric(f"fidelity/neighbours@{k}", overlap(*near, k), f"overlap of the {k} nearest") for k in NEIGHBOURS
            ]
            if self.queries:
                self._draw(torch.from_numpy(np.array(test.pixels[ids])), near, ctx)
        for stage, value in stage_cka(pair.victim, pair.thief, test, ids, ctx).items():
            found.append(Metric(f"fidelity/cka/{stage}", value, f"CKA at {stage.replace('stage', 'stage ')}"))
        return Measured(found)

    def _draw(self, images: Tensor, near: tuple[Tensor, Tensor], ctx: Context) -> None:
        queries = torch.arange(min(self.queries, len(images)))
        target, thief = (rows[queries, : self.shown] for rows in near)
        picture(images, queries, target, thief).save(ctx.run_dir / FILE)
        ctx.tracker.image("fidelity/retrieval", ctx.run_dir / FILE)


def cosines(target: Tensor, thief: Tensor) -> dict[str, float]:
    """Statistics over images (``mean``, ``std``, ``q05``, ...) of the cosine of both embeddings, each ``(n, D)``."""
    values = F.cosine_similarity(target.double(), thief.double())
    found = {"mean": values.mean(), "std": values.std(correction=0)}
    found |= {f"q{q:02d}": values.quantile(q / 100) for q in QUANTILES}
    return {name: value.item() for name, value in found.items()}


def _cosine(name: str, value: float) -> Metric:
    words = {"mean": "mean", "std": "standard deviation"}.get(name) or f"{int(name[1:])} % quantile"
    return Metric(f"fidelity/cosine_{name}", value, f"cosine of embeddings, {words}", None if name == "std" else True)


def find_nearest(rows: Tensor, k: int) -> Tensor:
    """The ``k`` nearest other rows of each row by cosine, the nearest first: ids ``(n, k)``, k below n."""
    unit, found = F.normalize(rows), []
    for start in range(0, len(unit), 1024):
        some = unit[start : start + 1024] @ unit.T
        some[torch.arange(len(some)), torch.arange(start, start + len(some))] = -torch.inf
        found.append(some.topk(k).indices)
    return torch.cat(found)


def overlap(first: Tensor, second: Tensor, k: int) -> float:
    """Mean share of the ``k`` nearest that are in both lists ``(n, m)``; k is at most m."""
    first, second = first[:, :k], second[:, :k]
    common = [torch.isin(ours, theirs).double().mean() for ours, theirs in zip(first, second, strict=True)]
    return torch.stack(common).mean().item()


def stage_cka(victim: Victim, thief: nn.Module, images: Images, ids: Ids, ctx: Context) -> dict[str, float]:
    """Linear CKA of both trunks' stages, by ``stage1`` and so on; empty if a trunk has none that timm knows of."""
    trunks = backbone_of(victim.model), backbone_of(thief)
    if trunks[0] is None or trunks[1] is None:
        return {}
    with TrunkStages(trunks[0]) as own, TrunkStages(trunks[1]) as other:
        if not own.widths or not other.widths:
            return {}
        stored = images.whole()

        def compute(missing: Ids) -> Rows:
            victim.calls.compute(len(missing))
            return compute_outputs(own, stored, missing, ctx).numpy()

        victim.calls.show(len(ids))
        spec = {"victim": victim.key, "images": stored.digest, "widths": own.widths}
        cache = ctx.rows("stages", victim.key, spec)
        rows = torch.from_numpy(cache.get(images.place(ids), compute)), compute_outputs(other, images, ids, ctx)
        first, second = rows[0].split(own.widths, 1), rows[1].split(other.widths, 1)
    pairs = match_stages(len(first), len(second))
    return {f"stage{i}": cka(first[a], second[b]) for i, (a, b) in enumerate(pairs, start=1)}
