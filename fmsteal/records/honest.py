"""The measurement added to a job's evaluation: what its defense costs an honest client."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, OmegaConf

from fmsteal.identity.keys import node_identity

HONEST = "honest"  # the measurement's name
CLASSIFIER = "fmsteal.evaluation.honest.HonestClassifier"
ENCODER = "fmsteal.evaluation.honest.HonestEncoder"


def find_honest(cfg: DictConfig) -> DictConfig | None:
    """The config node of the measurement; None without a defense, or if an evaluation has its own of that name.

    An encoder's client is judged by the downstream tasks and headline head of the first evaluation that has both.
    """
    nodes = [cfg.evaluation, *cfg.evaluations]
    named = any(HONEST in (node.get("also") or {}) for node in nodes)
    if named or node_identity(cfg.defense, "defense").get("name") == "no_defense":
        return None
    node: dict[str, Any] = {"_target_": CLASSIFIER}
    if cfg.task.answers == "embeddings":
        node = {"_target_": ENCODER}
        judged = next(
            (each for each in nodes if each.get("downstream") and each.get("headline") in each.get("heads", {})), None
        )
        if judged is not None:
            given = OmegaConf.to_container(judged, resolve=True, throw_on_missing=True)
            assert isinstance(given, dict)
            node |= {"downstream": given["downstream"], "head": given["heads"][given["headline"]]}
    return OmegaConf.create(node, parent=cfg)
