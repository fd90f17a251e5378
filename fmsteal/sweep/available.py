"""Looks once for the data sets that a sweep's jobs need, before any job runs."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from omegaconf import DictConfig

from fmsteal.base.errors import DataError, FmstealError
from fmsteal.base.store import Store, digest
from fmsteal.config.build import find_targets
from fmsteal.config.schema import Stage
from fmsteal.data.available import require_available
from fmsteal.identity.keys import node_identity

log = logging.getLogger(__name__)


def require_data(jobs: Sequence[DictConfig], stage: Stage) -> None:
    """Check that every data set, query set and downstream set of the jobs is available; fetch what may be fetched.

    Raises:
        DataError: some are not available; each is listed.
    """
    missing = [f"{key}: {error}" for key, error in _missing(jobs, stage)]
    if missing:
        found = f"{len(missing)} data sets are" if len(missing) > 1 else "A data set is"
        raise DataError(f"{found} not available:\n" + "\n".join(missing) + "\nNo job was run.")


def _missing(jobs: Sequence[DictConfig], stage: Stage) -> Iterator[tuple[str, FmstealError]]:
    seen: set[str] = set()
    for cfg in jobs:
        for key, node in find_targets(cfg):
            group = key.partition(".")[0]
            if group not in ("data", "query", "evaluation", "evaluations"):
                continue
            if stage is Stage.victims and group != "data":  # victims need nothing else
                continue
            known = digest([node_identity(node, key), node.get("root")])
            if known in seen:
                continue
            seen.add(known)
            try:
                require_available(node, Store(Path(cfg.cache)))
            except FmstealError as error:
                yield key, error
