"""FGSM and PGD against the papers' updates written out per image, in closed form, and by what must hold."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fmsteal.base.errors import ConfigError
from fmsteal.base.seeds import seed_block
from fmsteal.config import build
from fmsteal.evaluation.base import Pair
from fmsteal.evaluation.transfer import Transfer
from fmsteal.training.classifier import Classifier
from fmsteal.training.context import Context
from fmsteal.training.inference import logits
from fmsteal.training.perturb import fgsm, pgd
from fmsteal.victims.base import Victim
from tests.support.composing import composed
from tests.support.small_task import TASK, context, part

IDS = np.arange(len(TASK.test))


def small_net(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.Tanh(), nn.Flatten(), nn.Linear(5 * 16, 4))
    return net.double().eval()


def batch(seed: int, n: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(n, 3, 6, 6, generator=generator, dtype=torch.float64)
    start = torch.rand(images.shape, generator=generator, dtype=torch.float64) * 2 - 1
    return images, torch.randint(4, (n,), generator=generator), start


def climb(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Sign of the loss's gradient at one image, by the ordinary backward pass."""
    leaf = x.clone().requires_grad_()
    F.cross_entropy(model(leaf[None]), y[None]).backward()
    assert leaf.grad is not None
    return leaf.grad.sign()


def test_fgsm_is_the_papers_formula_image_by_image() -> None:
    model, (images, labels, _) = small_net(), batch(0)
    for x, y, got in zip(images, labels, fgsm(model, images, labels, 0.1), strict=True):
        torch.testing.assert_close(got, (x + 0.1 * climb(model, x, y)).clip(0, 1), rtol=0, atol=1e-12)


def test_pgd_is_the_papers_iteration_image_by_image() -> None:
    model, (images, labels, start) = small_net(), batch(1)
    made = pgd(model, images, labels, 0.1, 0.03, 4, start)
    for x, y, s, got in zip(images, labels, start, made, strict=True):
        at = np.clip((x + 0.1 * s).numpy(), 0, 1)
        for _ in range(4):
            at = at + 0.03 * climb(model, torch.from_numpy(at), y).numpy()
            at = np.clip(x.numpy() + np.clip(at - x.numpy(), -0.1, 0.1), 0, 1)
        np.testing.assert_allclose(got.numpy(), at, rtol=0, atol=1e-12)
    assert not torch.equal(made, pgd(model, images, labels, 0.1, 0.03, 4, -start))


@given(st.integers(0, 9999), st.floats(0, 1), st.floats(0, 1), st.integers(1, 3))
@settings(max_examples=40)
def test_examples_stay_in_the_ball_and_are_images(seed: int, eps: float, step: float, steps: int) -> None:
    model, (images, labels, start) = small_net(), batch(seed, 2)
    for made in (fgsm(model, images, labels, eps), pgd(model, images, labels, eps, step, steps, start)):
        assert (made - images).abs().max() <= eps + 1e-12
        assert made.min() >= 0 and made.max() <= 1
        assert not made.requires_grad


def test_on_a_linear_model_both_find_the_optimum() -> None:
    weight = torch.randn(2, 27, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    model = nn.Sequential(nn.Flatten(), nn.Linear(27, 2, bias=False, dtype=torch.float64))
    model[1].weight.data = weight
    images = torch.rand(6, 3, 3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 0.4 + 0.3
    labels = model(images).argmax(1)
    sign = (weight[1] - weight[0]).sign().view(3, 3, 3) * torch.where(labels == 0, 1, -1).view(-1, 1, 1, 1)
    worst = images + 0.1 * sign  # the margin falls by eps times the L1 distance of the two rows, and by no more
    torch.testing.assert_close(fgsm(model, images, labels, 0.1), worst)
    torch.testing.assert_close(pgd(model, images, labels, 0.1, 0.05, 4, torch.zeros_like(images)), worst)
    torch.testing.assert_close(pgd(model, images, labels, 0.1, 0.05, 4, -sign), worst)

    def margin(x: Tensor) -> Tensor:
        rows = model(x)
        return (rows[:, 1] - rows[:, 0]) * torch.where(labels == 1, 1, -1)

    lost = 0.1 * (weight[1] - weight[0]).abs().sum()
    torch.testing.assert_close(margin(images) - margin(worst), lost.expand(6))


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Pair, Context]:
    ctx = context(tmp_path_factory.mktemp("transfer"))
    learners = part("victim", "victim=resnet10t"), part("thief", "thief=resnet10t", "recipes.scratch.epochs=8")
    victim = learners[0].prepare(TASK, ctx)
    answers = torch.from_numpy(TASK.train.labels)
    thief = learners[1].fit(
        TASK.train, np.arange(40), answers, 3, F.cross_entropy, ctx, stage="thief", scratch=ctx.scratch("thief")
    )
    both = logits(victim.model, TASK.test, IDS, ctx), logits(thief, TASK.test, IDS, ctx)
    return Pair(victim, thief, learners, TASK, ctx, both), ctx


@pytest.mark.slow
def test_figures_are_shares_of_images(pair: tuple[Pair, Context]) -> None:
    looked, ctx = pair
    found = Transfer(eps=0.1).run(looked, ctx).values
    order = np.random.default_rng(0).permutation(len(TASK.test))
    images = torch.from_numpy(TASK.test.pixels[order]).float() / 255
    with torch.no_grad():
        victim, thief = looked.victim.model(images).argmax(1), looked.thief(images).argmax(1)
        made = fgsm(looked.thief, images, thief, 0.1)
        victims, own = looked.victim.model(made).argmax(1), looked.thief(made).argmax(1)
    assert found["transfer/fgsm/changed"] == pytest.approx(float((victims != victim).double().mean()))
    assert found["transfer/fgsm/fooled"] == pytest.approx(float((own != thief).double().mean()))
    assert found["transfer/fgsm/agreement"] == pytest.approx(float((victims == own).double().mean()))
    assert 0 < found["transfer/fgsm/changed"] < found["transfer/fgsm/fooled"], "or the above says little"
    assert found["test/adversarial_agreement"] == found["transfer/pgd/agreement"]
    assert found["transfer/pgd/fooled"] > 0.5, "ten steps with the gradients of the thief itself"


def test_adversarial_fidelity_by_a_plain_loop_over_the_first_images(pair: tuple[Pair, Context]) -> None:
    looked, ctx = pair
    node = composed("evaluation=adversarial_fidelity")
    build.check(node)
    paper = build.make(node.evaluation).also["adversarial_fidelity"]
    assert (paper.images, paper.eps, paper.step, paper.steps) == (1000, 8 / 255, 0.01, 10)
    found = dataclasses.replace(paper, images=9, eps=0.1).run(looked, ctx).values
    victim, thief = (lambda x, m=m: int(m(x[None]).argmax()) for m in (looked.victim.model.eval(), looked.thief.eval()))
    assert TASK.test.labels is not None
    with seed_block("transfer", ctx.seed):
        starts = torch.rand(9, 3, 32, 32) * 2 - 1
    same, changed, fooled = {"fgsm": 0, "pgd": 0}, {"fgsm": 0, "pgd": 0}, {"fgsm": 0, "pgd": 0}
    for at in range(9):
        clean = torch.from_numpy(np.array(TASK.test.pixels[at])).float() / 255
        label = torch.tensor(TASK.test.labels[at])
        made = {"fgsm": (clean + 0.1 * climb(looked.thief, clean, label)).clip(0, 1)}
        x = (clean + 0.1 * starts[at]).clip(0, 1)
        for _ in range(10):
            x = x + 0.01 * climb(looked.thief, x, label)
            x = (clean + (x - clean).clip(-0.1, 0.1)).clip(0, 1)
        made["pgd"] = x
        for name, example in made.items():
            same[name] += victim(example) == thief(example)
            changed[name] += victim(example) != victim(clean)
            fooled[name] += thief(example) != thief(clean)
    for name in ("fgsm", "pgd"):
        assert found[f"adversarial/{name}/fidelity"] == pytest.approx(same[name] / 9)
        assert found[f"adversarial/{name}/changed"] == pytest.approx(changed[name] / 9)
        assert found[f"adversarial/{name}/fooled"] == pytest.approx(fooled[name] / 9)
    assert len(found) == 6, "no figure of the other measurement: both can be taken of one thief"
    own = dataclasses.replace(paper, images=9, eps=0.1, labels="own").run(looked, ctx).values
    assert own["transfer/pgd/agreement"] != found["adversarial/pgd/fidelity"], "or the labels say little"


def test_a_thief_that_is_the_victim_transfers_all_and_zero_eps_nothing(pair: tuple[Pair, Context]) -> None:
    looked, ctx = pair
    rows = looked.logits[0]
    same = Pair(looked.victim, looked.victim.model, looked.learners, TASK, ctx, (rows, rows))
    found = Transfer(eps=0.1, steps=3).run(same, ctx).values
    for name in ("fgsm", "pgd"):
        assert found[f"transfer/{name}/changed"] == found[f"transfer/{name}/fooled"] > 0
        assert found[f"transfer/{name}/agreement"] == 1
    still = Transfer(eps=0).run(looked, ctx).values
    agreement = float((looked.logits[0].argmax(1) == looked.logits[1].argmax(1)).double().mean())
    for name in ("fgsm", "pgd"):
        assert still[f"transfer/{name}/changed"] == still[f"transfer/{name}/fooled"] == 0
        assert still[f"transfer/{name}/agreement"] == pytest.approx(agreement)


def test_a_model_is_left_as_it_was_and_so_is_the_global_generator(pair: tuple[Pair, Context]) -> None:
    looked, ctx = pair
    thief = looked.thief
    assert isinstance(thief, Classifier)
    thief.train()
    thief.head.eval()
    thief.head.bias.requires_grad_(False)
    thief.zero_grad()
    thief.head.weight.grad = torch.ones_like(thief.head.weight)
    modes = [m.training for m in thief.modules()]
    asks = [p.requires_grad for p in thief.parameters()]
    state = {k: v.clone() for k, v in thief.state_dict().items()}
    generator = torch.random.get_rng_state()
    Transfer(images=4, steps=2).run(looked, ctx)
    assert torch.equal(torch.random.get_rng_state(), generator)
    assert [m.training for m in thief.modules()] == modes
    assert [p.requires_grad for p in thief.parameters()] == asks
    assert all(torch.equal(v, state[k]) for k, v in thief.state_dict().items()), "BatchNorm's statistics too"
    grads = {n: p.grad for n, p in thief.named_parameters() if p.grad is not None}
    assert list(grads) == ["head.weight"] and torch.equal(grads["head.weight"], torch.ones_like(thief.head.weight))
    thief.eval().requires_grad_(True)


def test_the_seed_decides_and_the_batch_size_does_not(pair: tuple[Pair, Context]) -> None:
    looked, ctx = pair
    measure = Transfer(images=7, steps=1)
    images = torch.from_numpy(TASK.test.pixels[:7]).float() / 255
    labels = torch.arange(7) % 3

    def examples(ctx: Context) -> Tensor:
        return measure._examples("pgd", looked.thief, images, labels, ctx)

    first = examples(ctx)
    assert torch.equal(first, examples(ctx))
    assert (first != examples(dataclasses.replace(ctx, seed=1))).double().mean() > 0.5
    in_threes = dataclasses.replace(ctx.training, inference_batch=3)
    other = examples(dataclasses.replace(ctx, training=in_threes))
    assert (first - other).abs().gt(1e-6).double().mean() < 0.01, "but for gradients within rounding of zero"


def test_frozen_thieves_are_attacked_through_their_trunk(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    learners = part("victim", "victim=resnet10t"), part("thief")
    victim, thief = Victim("v", learners[0].build(3, "victim")), learners[1].build(3).requires_grad_(False)
    both = logits(victim.model, TASK.test, IDS, ctx), logits(thief, TASK.test, IDS, ctx)
    found = Transfer(images=6, eps=0.1, steps=2).run(Pair(victim, thief, learners, TASK, ctx, both), ctx).values
    assert found["transfer/pgd/fooled"] > 0.5


def test_the_configs_numbers_are_the_classs_own_and_nonsense_is_refused() -> None:
    node = composed("evaluation=transfer").evaluation.also.transfer
    assert {k: v for k, v in node.items() if k != "_target_"} == dataclasses.asdict(Transfer())
    for field, value in (("images", 0), ("eps", -0.1), ("step", -1.0), ("steps", 0)):
        with pytest.raises(ConfigError, match=rf"transfer\.{field} must be at least"):
            Transfer(**{field: value})
