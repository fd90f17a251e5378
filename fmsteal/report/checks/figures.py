"""Checks a job's figures, recomputed in NumPy and SciPy from ``predictions.npz``, without the code that evaluates.

Shares must agree to 1e-9, KL and L1 to 1e-6 (they come from 32-bit logits). Wilson's intervals are computed again too:
they show whether as many images were judged as are kept. Where logits tie, a top-k may go either way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import log_softmax

from fmsteal.base.errors import FmstealError
from fmsteal.records.folders import JobFolder
from fmsteal.report.read.predictions import list_sets, load_triple, open_predictions

SHARES, DISTANCES = 1e-9, 1e-6  # tolerances
NORMAL = 1.959963984540054  # quantile of the 95 % interval

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Check:
    """A figure that was computed again.

    Attributes:
        name: the metric's name.
        found: the least and greatest values that the predictions allow; they differ where logits tie.
        interval: Wilson's, if the result should have one.
    """

    name: str
    found: tuple[float, float]
    interval: tuple[float, float] | None = None

    def off(self, value: float) -> float:
        """How far a result's value is from what was found; NaN if it is not finite."""
        return max(self.found[0] - value, value - self.found[1], 0.0) if np.isfinite(value) else float("nan")


@dataclass(frozen=True)
class Figures:
    """How far off each figure of a job is, the faults in words, and the figures that predictions do not determine."""

    off: dict[str, float] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)


def check_figures(folder: Path, result: Mapping[str, Any]) -> Figures:
    """Compute a finished job's figures again."""
    recorded, intervals = (_mapping(result, part) for part in ("metrics", "intervals"))
    off: dict[str, float] = {}
    faults: list[str] = []
    file = JobFolder(folder).predictions.name
    try:
        with open_predictions(folder) as arrays:
            if not list_sets(arrays):
                faults.append(f"{file} holds no predictions")
            for check in _checks(arrays, recorded, faults):
                faults += _compared(check, recorded, intervals, off)
    except FmstealError as error:
        faults.append(str(error).replace(f"{folder}/", ""))
    except Exception as error:  # a damaged archive fails in many ways
        faults.append(f"{file} cannot be read: {type(error).__name__}: {error}")
    unchecked = [name for name in recorded if name not in off]
    if not faults:
        faults += [f"{name} has no predictions" for name in unchecked if _of_a_set(name)]
    return Figures(off, faults, unchecked)


def _checks(arrays: Any, recorded: Mapping[str, Any], faults: list[str]) -> Iterator[Check]:
    """All figures that a job's predictions determine; arrays that do not fit together are faults instead."""
    by_set: dict[str, dict[str, Check]] = {}
    for name, prefix in list_sets(arrays).items():
        victim, thief, label = load_triple(arrays, prefix)
        where = f"{name or 'test'}: "
        if not victim.shape == thief.shape == label.shape or victim.ndim != 1:
            faults.append(f"{where}{len(victim)} answers of the victim, {len(thief)} of the thief, {len(label)} labels")
        elif not len(label):
            faults.append(f"{where}no images")
        elif name:
            by_set[name] = {check.name.rpartition("/")[2]: check for check in _downstream(name, victim, thief, label)}
            yield from by_set[name].values()
        else:
            original = arrays["original"] if "original" in arrays.files else None
            if original is not None and original.shape != victim.shape:
                faults.append(f"{where}{len(victim)} answers of the victim, {len(original)} of the one it replaces")
                continue
            yield from _classifier(victim, thief, label, original)
            yield from _logits(arrays, victim, thief, recorded, faults)
    heads = [checks for name, checks in by_set.items() if "/" not in name]
    for metric in ("target_accuracy", "stolen_accuracy", "ratio", "agreement") if heads else ():
        mean = float(np.mean([checks[metric].found[0] for checks in heads]))
        yield _exact(f"test/{metric}", mean)


def _classifier(victim: Array, thief: Array, label: Array, original: Array | None) -> Iterator[Check]:
    """A classifier's figures; ``original`` is the victim as it was trained, if a defense has replaced it."""
    n, plain = len(label), victim if original is None else original
    yield _share("test/agreement", int(np.count_nonzero(victim == thief)), n)
    yield _share("test/accuracy", own := int(np.count_nonzero(thief == label)), n)
    yield _share("test/victim_accuracy", theirs := int(np.count_nonzero(plain == label)), n)
    yield _exact("test/relative_accuracy", (own / n) / max(theirs / n, 1e-12))
    if original is not None:
        yield _share("test/agreement_original", int(np.count_nonzero(original == thief)), n)
    if count := int(np.count_nonzero(wrong := victim != label)):
        yield _share("test/agreement_victim_wrong", int(np.count_nonzero((victim == thief) & wrong)), count)
    if len(np.unique(victim)) > 1:
        by_chance = sum(float((victim == c).mean() * (thief == c).mean()) for c in np.unique(victim))
        yield _exact("test/kappa", float(((victim == thief).mean() - by_chance) / (1 - by_chance)))


def _downstream(name: str, victim: Array, thief: Array, label: Array) -> Iterator[Check]:
    n, place = len(label), f"downstream/{name}"
    yield _share(f"{place}/target_accuracy", theirs := int(np.count_nonzero(victim == label)), n)
    yield _share(f"{place}/stolen_accuracy", own := int(np.count_nonzero(thief == label)), n)
    yield _share(f"{place}/agreement", int(np.count_nonzero(victim == thief)), n)
    yield _exact(f"{place}/ratio", (own / n) / max(theirs / n, 1e-12))


def _logits(
    arrays: Any, victim: Array, thief: Array, recorded: Mapping[str, Any], faults: list[str]
) -> Iterator[Check]:
    """The figures that both models' logits determine; answers other than the greatest are faults."""
    if not {"victim_logits", "thief_logits"} <= set(arrays.files):
        return
    answers = {"victim": victim, "thief": thief}
    answers |= {"original": arrays["original"]} if "original_logits" in arrays.files else {}
    given = {who: arrays[f"{who}_logits"] for who in answers}
    if any(logits.dtype.kind not in "fiu" for logits in given.values()):
        faults.append("logits that are no real numbers")
        return
    given = {who: logits.astype(np.float64) for who, logits in given.items()}
    if (fault := _find_fault(given, answers)) is not None:
        faults.append(fault)
        return
    v, t = given["victim"], given["thief"]
    for name in recorded:
        k = name.removeprefix("test/agreement@")
        if k != name and k.isdecimal():
            yield _among_first(name, int(k), t, victim)
    p, q = log_softmax(v, 1), log_softmax(t, 1)
    yield _least_sure(np.exp(p).max(1), victim == thief)
    yield _exact("test/kl", float((np.exp(p) * (p - q)).sum(1).mean()))
    yield _exact("test/l1", float(np.abs(np.exp(p) - np.exp(q)).sum(1).mean()))


def _find_fault(given: Mapping[str, Array], answers: Mapping[str, Array]) -> str | None:
    """What is wrong with the logits of each model, given its answers; None if nothing is."""
    shapes, images = [logits.shape for logits in given.values()], len(answers["victim"])
    if len(set(shapes)) > 1 or len(shapes[0]) != 2 or shapes[0][0] != images:
        return f"logits of {' and '.join(map(str, shapes))} for {images} images"
    if not all(np.isfinite(logits).all() for logits in given.values()):
        return "logits that are not finite"
    for who, logits in given.items():
        own = answers[who]
        fits = (own >= 0) & (own < logits.shape[1])
        if not fits.all() or (logits[np.arange(images), own] < logits.max(1)).any():
            return f"the {who}'s answers are not those of its logits"
    return None


def _among_first(name: str, k: int, t: Array, victim: Array) -> Check:
    """How often the victim's answer is one of the thief's first ``k``."""
    chosen = t[np.arange(len(t)), victim][:, None]
    before, with_ties = (t > chosen).sum(1), (t >= chosen).sum(1) - 1
    sure, perhaps = (int(np.count_nonzero(rank < k)) for rank in (with_ties, before))
    interval = wilson(sure, len(t)) if sure == perhaps else None
    return Check(name, (sure / len(t), perhaps / len(t)), interval=interval)


def _least_sure(sure: Array, hits: Array) -> Check:
    """Agreement on the tenth of the images that the victim is least sure of; any that tie at its edge may be in it."""
    count = -(-len(sure) // 10)
    edge = np.sort(sure)[count - 1]
    inside, level = sure < edge - SHARES, np.abs(sure - edge) <= SHARES
    free, known, right = count - int(inside.sum()), int(hits[inside].sum()), int(hits[level].sum())
    least, most = known + max(free - int(level.sum()) + right, 0), known + min(free, right)
    interval = wilson(least, count) if least == most else None
    return Check("test/agreement_least_sure", (least / count, most / count), interval)


def _compared(
    check: Check, recorded: Mapping[str, Any], intervals: Mapping[str, Any], off: dict[str, float]
) -> list[str]:
    """Note how far a result is off, and return its faults; a figure that was not measured is not a fault."""
    value = recorded.get(check.name)
    if value is None:
        return ["no test/agreement"] if check.name == "test/agreement" else []
    if not isinstance(value, int | float):
        return [f"{check.name} is {value!r}, no number"]
    off[check.name] = gap = check.off(value)
    if not gap <= tolerance(check.name):
        return [f"{check.name} is {value:.6g} in the result, {check.found[0]:.6g} by the predictions"]
    ends = intervals.get(check.name)
    if check.interval and isinstance(ends, list) and not np.allclose(ends, check.interval, rtol=0, atol=DISTANCES):
        low, high = check.interval
        return [
            f"the interval of {check.name} is that of another number of images: {ends}, not [{low:.4f}, {high:.4f}]"
        ]
    return []


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a share."""
    share, z = hits / n, NORMAL
    centre, half = share + z**2 / (2 * n), z * (share * (1 - share) / n + z**2 / (4 * n**2)) ** 0.5
    return (centre - half) / (1 + z**2 / n), (centre + half) / (1 + z**2 / n)


def _share(name: str, hits: int, n: int) -> Check:
    return Check(name, (hits / n, hits / n), interval=wilson(hits, n))


def _exact(name: str, value: float) -> Check:
    return Check(name, (value, value))


def tolerance(name: str) -> float:
    """How far a result's figure may be from what was found."""
    return DISTANCES if name in ("test/kl", "test/l1") else SHARES


def _of_a_set(name: str) -> bool:
    """Whether a figure is determined by the predictions of a downstream set."""
    return name.startswith("downstream/") and name.endswith(("/agreement", "_accuracy", "/ratio"))


def _mapping(record: Mapping[str, Any], part: str) -> Mapping[str, Any]:
    found = record.get(part)
    return found if isinstance(found, dict) else {}
