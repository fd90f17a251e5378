"""What an ownership figure is compared with: an encoder that certainly was not stolen."""

from __future__ import annotations

from torch import Tensor, nn

from fmsteal.base.errors import AttackError
from fmsteal.data.images import Ids, Images
from fmsteal.evaluation.base import Pair
from fmsteal.evaluation.forwards import embed
from fmsteal.networks.backbones import BackboneSpec
from fmsteal.training.context import Context
from fmsteal.training.inference import logits
from fmsteal.training.learners import EncoderLearner

CONTROL = "control"
WHO = ("victim", "thief", CONTROL)


def require_control(spec: BackboneSpec | None) -> None:
    """Check that a pretrained trunk that is named as the control can be built and has its weights.

    Raises:
        ConfigError: the trunk cannot be built as described.
        DataError: its weights are missing.
    """
    if spec is not None:
        spec.require_buildable()
        spec.require_weights()


def build_control(pair: Pair, spec: BackboneSpec | None) -> nn.Module:
    """An encoder that has seen none of the victim's answers: raw images in, embeddings of any width out.

    Args:
        pair: the pair; its thief's learner says what the thief started from.
        spec: a pretrained trunk to use as it is; None for the thief before the attack, with its public weights or its
            random initialisation.

    Raises:
        AttackError: the thief was not made as an encoder.
    """
    if spec is not None:
        return spec.build(pretrained=True).eval()
    learner = pair.learners[1]
    if not isinstance(learner, EncoderLearner):
        raise AttackError(f"Nothing is known of what a thief by {type(learner).__name__} started from.")
    return learner.build().eval()


def embed_all(pair: Pair, control: nn.Module, images: Images, ids: Ids, ctx: Context) -> dict[str, Tensor]:
    """Embeddings of ``images[ids]`` by ``victim``, ``thief`` and ``control``, each ``(n, D)`` with its own width D.

    Raises:
        AttackError: embeddings of victim or thief have the wrong shape, are not finite, or are all the same.
    """
    victim, thief = embed(pair.victim, pair.thief, images, ids, ctx)
    return dict(zip(WHO, (victim, thief, logits(control, images, ids, ctx)), strict=True))
