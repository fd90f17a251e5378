"""What an API answers decides which victims, thieves, attacks, defenses and evaluations go together."""

from __future__ import annotations

import pytest

from fmsteal.base.errors import ConfigError
from fmsteal.config import answers
from fmsteal.job.pipeline import Parts
from tests.support.composing import composed

ENCODER_ATTACKS = {
    "stolen_encoder", "stolen_encoder_k0", "stolen_encoder_rda", "direct", "cont_steal", "cont_steal_once",
    "cont_steal_two_view", "rda", "rda_clip", "rda_imagenet", "repeat_average", "sybil_remap",
    "pretrain", "linear_map", "public_encoder", "repeat_average_map", "sybil_remap_map", "besa", "besa_direct",
}  # fmt: skip


def test_the_defaults_of_both_tasks_go_together() -> None:
    for task in ("classify", "embed"):
        answers.check(composed(f"task={task}"))


def test_a_choice_on_the_command_line_beats_the_tasks_default() -> None:
    cfg = composed("task=embed", "thief=encoder_resnet34", "attack=rda", "victim=vit_b16")
    answers.check(cfg)
    assert cfg.attack._target_.endswith("RDA") and cfg.thief.backbone.model.startswith("resnet34")
    assert cfg.victim._target_.endswith("EncoderVictim"), "a trunk that also serves as a classifier"


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["attack=stolen_encoder"], ["attack (", "StolenEncoder", "made for embeddings", "knockoff", "task=embed"]),
        (["task=embed", "attack=knockoff"], ["attack (", "Knockoff", "answers with embeddings", "task=classify"]),
        (["task=embed", "attack=direct", "attack/loss=soft"], ["attack.loss", "infonce", "wasserstein"]),
        (["attack/loss=mse"], ["attack.loss", "these fit: hard, sharpened, soft"]),
        (["task=embed", "defense=top_k"], ["defense (", "feature_noise", "feature_top_k", "none"]),
        (["task=embed", "defense=mad"], ["defense (", "MAD", "made for probabilities", "client_limits", "mmd"]),
        (["defense=feature_noise"], ["defense (", "hard_label", "none", "rounding"]),
        (["thief=encoder_resnet10"], ["thief (", "efficientnet_lite0", "resnet10t"]),
        (["task=embed", "thief=resnet10t"], ["thief (", "encoder_resnet10", "encoder_resnet34"]),
        (["victim=simclr_resnet18"], ["victim (", "SimCLR"]),
        (["task=embed", "evaluation=ood"], ["evaluation", "these fit: credit, dataset_inference, encoder"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_does_not_go_together_is_refused_with_what_does(overrides: list[str], says: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        answers.check(composed(*overrides))
    for words in says:
        assert words in str(caught.value)


def test_a_loss_for_the_other_api_is_refused_as_such_not_for_the_recipe_it_brings_along() -> None:
    with pytest.raises(ConfigError, match=r"attack\.loss .*infonce.* made for embeddings.* fit: hard, sharpened, soft"):
        Parts.of(composed("attack/loss=infonce"))


def test_a_target_that_does_not_exist_is_named_with_its_place() -> None:
    with pytest.raises(ConfigError, match=r"^victim\._target_=foo\.Bar cannot be found"):
        Parts.of(composed("task=embed", "victim._target_=foo.Bar"))


def test_attacks_are_listed_by_what_they_steal() -> None:
    assert set(answers.choices("attack", "embeddings")) == ENCODER_ATTACKS
    assert ENCODER_ATTACKS.isdisjoint(answers.choices("attack", "probabilities"))
