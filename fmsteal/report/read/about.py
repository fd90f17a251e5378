"""The label and direction of a figure, as its results state them. Imports no torch.

A metric defines both (`fmsteal.base.metric.Metric`), and a result keeps them. The tables here are for costs, which no
measurement makes, and for results written before metrics defined them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fmsteal.base.metric import spell
from fmsteal.records.results import Result
from fmsteal.report.read.interval import Bounds


@dataclass(frozen=True)
class About:
    """A figure's label and direction.

    Attributes:
        label: its name in axes and headings.
        higher_is_better: whether a higher value means a better theft; None if neither direction does.
    """

    label: str
    higher_is_better: bool | None


COSTS = {
    "cost/queries": About("queries", False),
    "cost/usd": About("cost (USD)", False),
    "cost/seconds": About("wall time (s)", False),
    "cost/victim_forwards": About("victim's forward passes", False),
}
OLD = {
    "test/agreement": About("agreement", True),
    "test/accuracy": About("thief accuracy", True),
    "test/victim_accuracy": About("victim accuracy", None),
    "test/relative_accuracy": About("thief accuracy / victim accuracy", True),
    "test/kl": About("KL(victim || thief), nats", False),
    "test/l1": About("L1 distance of probabilities", False),
    "test/target_accuracy": About("target's downstream accuracy", None),
    "test/stolen_accuracy": About("stolen encoder's downstream accuracy", True),
    "test/ratio": About("accuracy ratio, stolen / target", True),
    "test/cosine": About("cosine of embeddings", True),
    "test/l2": About("L2 distance of embeddings", False),
    "test/cka": About("CKA", True),
    "test/cka_unbiased": About("CKA after the attack", True),
    "test/trunk_cka_unbiased": About("CKA before the attack", None),
    "test/victim_entropy": About("victim's entropy (nats)", None),
    "test/knn_agreement": About("agreement of nearest neighbours", True),
    "test/adversarial_agreement": About("agreement on PGD examples", True),
    "transfer/pgd/changed": About("victim fooled by PGD on thief", True),
    "ood/noise/agreement": About("agreement under noise", True),
    "ood/blur/agreement": About("agreement under blur", True),
    "ood/contrast/agreement": About("agreement at low contrast", True),
    "ood/jpeg/agreement": About("agreement under JPEG", True),
}
SHARE: Bounds = (0, 1)
BOUNDS: dict[str, Bounds] = {  # by the last part of a name, or its last word
    **dict.fromkeys(("agreement", "agreement_original", "accuracy", "changed", "fooled", "neighbours", "cka"), SHARE),
    **dict.fromkeys(("kl", "l1", "l2", "entropy", "ratio", "relative_accuracy"), (0, None)),
    **dict.fromkeys(("queries", "usd", "seconds", "forwards"), (0, None)),
    **dict.fromkeys(("cka_unbiased", "trunk_cka_unbiased"), (None, 1)), "cosine": (-1, 1),
}  # fmt: skip
OLD_SETS = ("downstream/", "ood/", "transfer/")
OLD_SHARES = ("/agreement", "/accuracy", "/stolen_accuracy", "/ratio", "/changed")  # of the sets above


def describe(results: Iterable[Result]) -> dict[str, About]:
    """Labels and directions of all figures in results, by name.

    If results label a metric differently, the first label counts; if they differ in its direction, it has none.
    """
    found: dict[str, About] = {}
    for result in results:
        told = result.get("about")
        for name in (*_mapping(result, "metrics"), *_mapping(result, "cost")):
            about = _read(told.get(name), name) if isinstance(told, dict) else guess(name)
            known = found.setdefault(name, about)
            if known.higher_is_better is not about.higher_is_better:
                found[name] = About(known.label, None)
    return found


def guess(name: str) -> About:
    """The label and direction of a figure that no result describes; only our own figures have a direction."""
    if name in COSTS or name in OLD:
        return COSTS.get(name) or OLD[name]
    ours = name.startswith(OLD_SETS) and name.endswith(OLD_SHARES)
    ours = ours or (name.startswith("fidelity/") and name != "fidelity/cosine_std")
    return About(spell(name), True if ours or name.startswith("test/agreement@") else None)


def bounds(name: str, results: Iterable[Result] = ()) -> Bounds:
    """The least and the greatest possible value of a figure: as a result states, else judging by its name."""
    for result in results:
        about = result.get("about")
        told = about.get(name) if isinstance(about, dict) else None
        given = told.get("bounds") if isinstance(told, dict) else None
        if isinstance(given, list) and len(given) == 2 and all(e is None or isinstance(e, int | float) for e in given):
            return given[0], given[1]
    last = name.rpartition("/")[2].partition("@")[0]
    return next((BOUNDS[word] for word in (last, last.rpartition("_")[2]) if word in BOUNDS), (None, None))


def _read(told: object, name: str) -> About:
    if name in COSTS:
        return COSTS[name]
    if not isinstance(told, dict):
        return About(spell(name), None)
    better = told.get("higher_is_better")
    return About(str(told.get("label") or spell(name)), better if isinstance(better, bool) else None)


def _mapping(result: Result, part: str) -> Mapping[str, object]:
    found = result.get(part)
    return found if isinstance(found, dict) else {}
