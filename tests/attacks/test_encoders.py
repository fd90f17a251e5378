"""Attacks on embedding APIs, as configured: what each asks, what it returns, how it goes on after a kill."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fmsteal.attacks.asked_views import AskedViews
from fmsteal.attacks.base import AttackContext
from fmsteal.base.errors import AttackError, ConfigError
from fmsteal.config import build
from fmsteal.config.answers import choices
from fmsteal.defenses.base import RowDefense
from fmsteal.defenses.embeddings import FeatureNoise
from fmsteal.oracle.guard import Ask
from fmsteal.oracle.ledger import Ledger
from fmsteal.oracle.oracle import Budget, Oracle
from fmsteal.training.inference import compute_outputs
from tests.attacks.embedding_api import POOL, QUICK, Brightness, oracle_for, steal
from tests.support.composing import composed
from tests.support.small_task import context

ATTACKS = sorted(set(choices("attack", "embeddings")) - {"public_encoder"})  # which no budget is too small for


@pytest.mark.parametrize(
    ("attack", "used"),
    [
        (("attack=stolen_encoder",), 33),
        (("attack=stolen_encoder", "attack.k=0"), 33),
        (("attack=stolen_encoder_rda",), 33),
        (("attack=direct",), 33),
        (("attack=cont_steal",), 32),  # 16 images in each of 2 epochs
        (("attack=cont_steal", "attack.ask=once"), 33),
        (("attack=cont_steal_two_view",), 32),
        (("attack=rda",), 30),  # 3 images, 10 views of each
        (("attack=repeat_average",), 30),
        (("attack=sybil_remap",), 33),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_each_attack_pays_for_what_it_asks_and_returns_an_encoder(
    attack: tuple[str, ...], used: int, tmp_path: Path
) -> None:
    thief, oracle = steal(tmp_path, 33, *attack)
    assert oracle.used == len(Ledger(tmp_path / "ledger.bin", "job")) == used
    embedded = compute_outputs(thief, POOL, np.arange(5), context(tmp_path))
    assert embedded.shape == (5, 6) and embedded.isfinite().all() and not thief.training


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_budget_for_not_one_image_or_more_than_there_are_is_refused(attack: str) -> None:
    made = build.make(composed("task=embed", f"attack={attack}").attack)
    if made.asks > 1 or attack == "sybil_remap":
        with pytest.raises(ConfigError, match="budget"):
            made.check(Budget(1), POOL)
    with pytest.raises(ConfigError, match="query set holds 64 images"):
        made.check(Budget(1000 * made.asks), POOL)
    made.check(Budget(20 * made.asks), POOL)


def test_two_accounts_that_need_more_images_than_there_are_are_told_their_own_numbers() -> None:
    made = build.make(composed("task=embed", "attack=sybil_remap").attack)
    with pytest.raises(ConfigError, match=r"^A budget of 120 queries is for 100 images, 20 of them .* holds 64 images"):
        made.check(Budget(120), POOL)


@pytest.mark.parametrize("attack", ["cont_steal", "cont_steal_two_view", "rda", "pretrain"])
def test_a_batch_of_one_image_is_refused_before_it_is_asked_about(attack: str) -> None:
    made = build.make(composed("task=embed", f"attack={attack}").attack)
    with pytest.raises(ConfigError, match=r"needs 2 or more in it, but a budget of \d+ queries is for 1 "):
        made.check(Budget(made.asks), POOL)
    single = build.make(composed("task=embed", f"attack={attack}", "attack.recipe.batch_size=1").attack)
    with pytest.raises(ConfigError, match=r"is for 9 and attack\.recipe\.batch_size is 1\."):
        single.check(Budget(9 * made.asks), POOL)
    made.check(Budget(2 * made.asks), POOL)


def test_an_attack_that_does_not_say_what_it_is_made_for_is_told_when_the_thief_does_not_fit(tmp_path: Path) -> None:
    encoder, classifier = (build.make(composed(*task).thief) for task in (QUICK, ("thief=resnet10t",)))
    with pytest.raises(ConfigError, match=r"trains a classifier, but thief=\.\.\. is a EncoderLearner"):
        AttackContext(encoder, context(tmp_path)).fit_thief(POOL, np.arange(4), torch.ones(4, 2), nn.MSELoss())
    with pytest.raises(ConfigError, match=r"trains an encoder, but thief=\.\.\. is a ClassifierLearner"):
        AttackContext(classifier, context(tmp_path)).encoder(6)


def test_the_encoder_learns_what_the_target_answers(tmp_path: Path) -> None:
    thief, _ = steal(tmp_path, 60, "attack=direct", "attack.recipe.epochs=40", "attack.recipe.lr=3e-3", "defense=none")
    ids = np.arange(64)
    target = compute_outputs(Brightness(), POOL, ids, context(tmp_path))
    error = (compute_outputs(thief, POOL, ids, context(tmp_path)) - target).square().mean()
    assert error < 0.5 * target.var(dim=0).mean()


def test_a_killed_attack_that_asks_every_epoch_asks_the_same_again(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    attack = build.make(composed(*QUICK, "attack=cont_steal", "attack.recipe.epochs=4").attack)

    def loader(oracle: Oracle) -> AskedViews:
        return attack.transfer_set(oracle, POOL, np.arange(8), AttackContext(build.make(composed(*QUICK).thief), ctx))

    def served(loader: AskedViews, epoch: int) -> list[tuple[Tensor, Tensor]]:
        loader.set_epoch(epoch)
        return list(loader)

    whole = oracle_for(ctx, 32)
    through = loader(whole)
    epochs = [served(through, epoch) for epoch in range(4)]
    assert whole.used == 32
    again = oracle_for(ctx, 32)
    resumed = served(loader(again), 3)
    assert again.used == 32
    for (images, answers), (others, other_answers) in zip(epochs[3], resumed, strict=True):
        assert torch.equal(images, others) and torch.equal(answers, other_answers)
    assert not torch.equal(epochs[0][0][0], epochs[3][0][0])


def test_views_asked_about_once_are_the_same_in_every_epoch(tmp_path: Path) -> None:
    attack = build.make(composed(*QUICK, "attack=cont_steal", "attack.ask=once").attack)
    ctx = context(tmp_path)
    oracle = oracle_for(ctx, 8)
    loader = attack.transfer_set(oracle, POOL, np.arange(8), AttackContext(build.make(composed(*QUICK).thief), ctx))
    seen = []
    for epoch in range(2):
        loader.set_epoch(epoch)
        seen.append({images.numpy().tobytes() for batch, _ in loader for images in batch})
    assert seen[0] == seen[1] and len(seen[0]) == 8 and oracle.used == 8


def test_averaging_takes_noise_away(tmp_path: Path) -> None:
    ids = np.arange(30)
    target = nn.functional.normalize(compute_outputs(Brightness(), POOL, ids, context(tmp_path)))
    errors = {}
    for repeats in (1, 9):
        ctx = context(tmp_path / str(repeats))
        attack = build.make(composed(*QUICK, "attack=repeat_average", f"attack.repeats={repeats}").attack)
        oracle = oracle_for(ctx, 300, FeatureNoise(0.3))
        loader = attack.transfer_set(oracle, POOL, ids, AttackContext(build.make(composed(*QUICK).thief), ctx))
        assert oracle.used == 30 * repeats
        errors[repeats] = float((loader.targets - target).square().mean())
    assert errors[1] == pytest.approx(0.09, rel=0.3)
    assert errors[9] == pytest.approx(0.01, rel=0.3)


class Turned(RowDefense):
    """A defense that turns and moves each account's embeddings in its own way."""

    def protect(self, answers: Tensor, ask: Ask) -> Tensor:
        out = []
        for answer, question in zip(answers, ask.questions, strict=True):
            drawn = torch.Generator().manual_seed(question.client)
            out.append(torch.randn(6, 6, generator=drawn) @ answer + torch.randn(6, generator=drawn))
        return torch.stack(out)


@pytest.mark.parametrize("shared", [0.2, 0.5])
def test_two_accounts_answers_are_brought_together(shared: float, tmp_path: Path) -> None:
    ctx = context(tmp_path)
    overrides = (*QUICK, "attack=sybil_remap", f"attack.shared={shared}", "attack.ridge=1e-8")
    attack, oracle = build.make(composed(*overrides).attack), oracle_for(ctx, 60, Turned())
    count = attack.images(oracle.budget, POOL)
    loader = attack.transfer_set(oracle, POOL, np.arange(count), AttackContext(build.make(composed(*QUICK).thief), ctx))
    assert oracle.used == 60 and count == 60 - round(60 * shared / (1 + shared))
    alone = oracle_for(context(tmp_path / "alone"), 60, Turned()).ask(np.arange(count))  # the first account's terms
    torch.testing.assert_close(loader.targets, alone, rtol=1e-3, atol=1e-3)


def test_a_target_that_answers_all_images_alike_is_named(tmp_path: Path) -> None:
    class Flat(RowDefense):
        def protect(self, answers: Tensor, ask: Ask) -> Tensor:
            return torch.ones_like(answers)

    with pytest.raises(AttackError, match="same embedding to all of 20 images"):
        steal(tmp_path, 20, "attack=direct", defense=Flat())


def test_asking_every_epoch_is_refused_where_several_processes_train(tmp_path: Path) -> None:
    attack = build.make(composed(*QUICK, "attack=cont_steal").attack)
    ctx = context(tmp_path, "trainer.lightning.devices=2")
    oracle = oracle_for(ctx, 32)
    with pytest.raises(ConfigError, match=r"attack\.ask=once"):
        attack.run(oracle, POOL, AttackContext(build.make(composed(*QUICK).thief), ctx))
    assert oracle.used == 0
    with pytest.raises(ConfigError, match="min_steps"):
        build.make(composed(*QUICK, "attack=cont_steal", "+attack.recipe.min_steps=5").attack)


def test_a_thief_that_does_not_fit_is_refused_before_anything_is_paid(tmp_path: Path) -> None:
    cfg = composed(*QUICK, "attack=direct", "thief.match=pool")
    oracle = oracle_for(context(tmp_path), 32)
    with pytest.raises(ConfigError, match="pooled to the 6 numbers"):
        build.make(cfg.attack).run(oracle, POOL, AttackContext(build.make(cfg.thief), context(tmp_path)))
    assert oracle.used == 0


@pytest.mark.parametrize("setting", ["views=2", "label_smoothing=0.1", "augment.flip=0.5"])
def test_a_setting_that_plays_no_part_is_refused(setting: str) -> None:
    augment = ("+attack.recipe.augment._target_=fmsteal.data.augment.RandomAffine", "+attack.recipe.augment.flip=0.5")
    overrides = augment if setting.startswith("augment") else (*augment, f"+attack.recipe.{setting}")
    made = build.make(composed(*QUICK, "attack=rda", *overrides).attack)
    with pytest.raises(ConfigError, match=r"attack\.recipe\.\w+ has no effect"):
        made.check(Budget(40), POOL)
    if setting.startswith("augment"):
        build.make(composed(*QUICK, "attack=direct", *overrides).attack).check(Budget(40), POOL)


def test_what_was_not_trained_on_the_targets_answers_is_not_compared_number_by_number(tmp_path: Path) -> None:
    thief, oracle = steal(tmp_path, 16, "attack=pretrain", "attack.recipe.batch_size=8")
    assert oracle.used == 0 and thief.aligned is False
    assert compute_outputs(thief, POOL, np.arange(2), context(tmp_path)).shape == (2, 96)


@pytest.mark.parametrize("loss", ["infonce", "softnn", "barlow"])
def test_a_loss_that_compares_images_is_refused_with_one_in_a_batch(loss: str) -> None:
    made = build.make(composed(*QUICK, "attack=direct", f"attack/loss={loss}").attack)
    with pytest.raises(ConfigError, match=r"needs 2 or more in it, but a budget of 1"):
        made.check(Budget(1), POOL)
    made.check(Budget(2), POOL)
    narrow = build.make(composed(*QUICK, "attack=direct", f"attack/loss={loss}", "attack.recipe.batch_size=1").attack)
    with pytest.raises(ConfigError, match=r"attack\.recipe\.batch_size is 1"):
        narrow.check(Budget(40), POOL)
    build.make(composed(*QUICK, "attack=direct", "attack/loss=mse").attack).check(Budget(1), POOL)


@pytest.mark.parametrize(
    ("loss", "batch", "lr"),
    [
        ("mse", 64, 1e-3),
        ("wasserstein", 64, 1e-3),
        ("infonce", 256, 3e-4),
        ("softnn", 256, 1e-3),
        ("barlow", 256, 1e-3),
    ],
)
def test_recipes_of_direct_extraction_are_the_published_ones(loss: str, batch: int, lr: float) -> None:
    recipe = build.make(composed("task=embed", "attack=direct", f"attack/loss={loss}").attack).recipe
    assert (recipe.batch_size, recipe.lr, recipe.weight_decay, recipe.epochs) == (batch, lr, 1e-4, 100)
    assert (recipe.optimizer, recipe.schedule, recipe.hold_epochs) == ("adam", "late_cosine", 10)
