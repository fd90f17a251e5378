"""``fmsteal verify``: figures of results computed again from the kept predictions, without the code that made them.

Plain NumPy on ``predictions.npz``. Shares have to match to 1e-6, KL and L1 to one part in 10,000.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import log_softmax, rel_entr, softmax

from fmsteal.errors import FmstealError, StoreError
from fmsteal.report.predictions import FILE, opened, sets, triple
from fmsteal.report.tidy import require_jobs
from fmsteal.results import DONE, UNREADABLE, Entry, begun, planned

SHARE, RELATIVE = 1e-6, 1e-4  # how far a figure may be from the one computed here
MEANS = ("target_accuracy", "stolen_accuracy", "agreement", "ratio")  # of an encoder's downstream sets
TEXT = """\
Computes the figures of every finished job again, from the predictions that it keeps and without the code that made
them, and names each that does not match: an edited or damaged file, results and predictions that are of two runs.
Shares have to match to 1e-6, KL and L1 to one part in 10,000. Figures that hang on more than the predictions
(out-of-distribution sets, similarity, cost) are counted only."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Verdict:
    """What was found of a job.

    Attributes:
        job: it.
        matching: how many figures are as computed here.
        other: how many cannot be computed from the predictions.
        wrong: what does not match, a sentence each.
    """

    job: Entry
    matching: int
    other: int
    wrong: Sequence[str]


def main(words: Sequence[str]) -> None:
    """Verify the sweeps named on the command line."""
    parser = argparse.ArgumentParser(
        prog="fmsteal verify", description=TEXT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dirs", type=Path, nargs="+", metavar="DIR", help="folders of sweeps, or outputs/runs")
    args = parser.parse_args(words[1:])
    try:
        verdicts = [verdict for folder in args.dirs for verdict in verify(folder)]
    except FmstealError as error:
        sys.exit(f"fmsteal: {error}")
    for verdict in verdicts:
        for what in verdict.wrong:
            print(f"{verdict.job.folder}: {what}")
    matching, wrong = sum(v.matching for v in verdicts), [v for v in verdicts if v.wrong]
    other = sum(v.other for v in verdicts)
    print(
        f"{len(verdicts)} jobs: {matching:,} figures match, {other:,} hang on more than the predictions; "
        f"{len(wrong)} jobs with something wrong"
    )
    if wrong or not matching:
        sys.exit(1)


def verify(folder: Path) -> Iterator[Verdict]:
    """Every finished job of a sweep.

    Raises:
        StoreError: the folder is no sweep's.
    """
    require_jobs(folder)
    jobs = planned(folder)
    for job in begun(folder) if jobs is None else jobs:
        if job.state == DONE:
            yield verdict(job)
        elif job.state == UNREADABLE:
            yield Verdict(job, 0, 0, [job.fault])


def verdict(job: Entry) -> Verdict:
    """Compare a finished job's figures with those of its predictions."""
    metrics = (job.result or {}).get("metrics")
    if not isinstance(metrics, dict) or not metrics:
        return Verdict(job, 0, 0, ["result.json holds no figures"])
    try:
        with opened(job.folder) as arrays:
            known, wrong = recomputed(arrays, metrics)
    except StoreError as error:
        return Verdict(job, 0, len(metrics), [str(error)])
    matching = 0
    for name, value in known.items():
        stored = metrics.get(name)
        tolerance = RELATIVE * abs(value) + 1e-7 if name in ("test/kl", "test/l1") else SHARE
        if stored is None:
            continue
        if isinstance(stored, int | float) and abs(stored - value) <= tolerance:
            matching += 1
        else:
            wrong.append(f"{name} is {stored} in result.json, {value:.6f} by {FILE}")
    return Verdict(job, matching, len(metrics.keys() - known.keys()), wrong)


def recomputed(arrays: np.lib.npyio.NpzFile, metrics: Mapping[str, Any]) -> tuple[dict[str, float], list[str]]:
    """All figures that follow from a job's predictions, and what is wrong with the predictions themselves."""
    known: dict[str, float] = {}
    wrong: list[str] = []
    headline: dict[str, dict[str, float]] = {}
    for name, prefix in sets(arrays).items():
        victim, thief, label = triple(arrays, prefix)
        if not len(victim) == len(thief) == len(label) > 0:
            wrong.append(
                f"{prefix or 'the test set'}: {len(victim)}, {len(thief)} and {len(label)} predictions, labels"
            )
            continue
        shares = {
            "target_accuracy": float(np.mean(victim == label)),
            "stolen_accuracy": float(np.mean(thief == label)),
            "agreement": float(np.mean(victim == thief)),
        }
        shares["ratio"] = shares["stolen_accuracy"] / max(shares["target_accuracy"], 1e-12)
        if name:
            known |= {f"downstream/{name}/{what}": share for what, share in shares.items()}
            if "/" not in name:
                headline[name] = shares
        else:
            known |= {
                "test/agreement": shares["agreement"],
                "test/accuracy": shares["stolen_accuracy"],
                "test/victim_accuracy": shares["target_accuracy"],
                "test/relative_accuracy": shares["ratio"],
            }
    if headline:
        known |= {f"test/{what}": float(np.mean([shares[what] for shares in headline.values()])) for what in MEANS}
    if "victim_logits" in arrays.files and "thief_logits" in arrays.files and not wrong:
        more, wrong = _of_logits(arrays, metrics)
        known |= more
    return known, wrong


def _of_logits(arrays: np.lib.npyio.NpzFile, metrics: Mapping[str, Any]) -> tuple[dict[str, float], list[str]]:
    v, t = (np.asarray(arrays[f"{who}_logits"], np.float64) for who in ("victim", "thief"))
    victim, thief = arrays["victim"], arrays["thief"]
    if v.shape != t.shape or len(v) != len(victim):
        return {}, [f"logits of shapes {v.shape} and {t.shape} for {len(victim)} images"]
    wrong = [
        f"the {who}'s answers are not those of its logits"
        for who, answers, logits in (("victim", victim, v), ("thief", thief, t))
        if not (answers == logits.argmax(1)).all()
    ]
    known = {
        "test/kl": float(rel_entr(softmax(v, 1), np.exp(log_softmax(t, 1))).sum(1).mean()),
        "test/l1": float(np.abs(softmax(v, 1) - softmax(t, 1)).sum(1).mean()),
    }
    for name in metrics:
        if found := re.fullmatch(r"test/agreement@(\d+)", name):
            known[name] = _among(int(found[1]), victim, t)
    return known, wrong


def _among(k: int, victim: npt.NDArray[Any], thief: Floats) -> float:
    """Share of images whose victim's answer is among the thief's first k."""
    first = np.argsort(-thief, axis=1, kind="stable")[:, :k]
    return float((first == np.asarray(victim)[:, None]).any(1).mean())
