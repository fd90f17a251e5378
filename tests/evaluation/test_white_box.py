"""White-box accuracy: against the plain loop, the closed form of a linear model, and two independent libraries."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmsteal.data.images import Images
from fmsteal.evaluation.white_box import PGD, _start, find_victim_withstanding, find_withstanding
from fmsteal.training.perturb import has_gradients, pgd
from fmsteal.victims.base import Victim
from tests.support.small_task import context

PIXELS = np.random.default_rng(0).integers(60, 196, (24, 3, 6, 6), dtype=np.uint8)
IDS = np.arange(24)


def net(classes: int = 4, seed: int = 0) -> nn.Module:
    """A small network, steep enough for labels to be lost within a few grey levels, BatchNorm and dropout in it."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = nn.Sequential(
            nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Tanh(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(6 * 16, classes)
        )
    return made.eval()


def images(model: nn.Module, wrong: int = 3) -> tuple[Images, Tensor]:
    """Images with the model's own labels, the first few of which are made wrong."""
    with torch.no_grad():
        labels = model(torch.from_numpy(PIXELS).float() / 255).argmax(1)
    labels[:wrong] = (labels[:wrong] + 1) % 4
    return Images(PIXELS, "digest", labels.numpy(), tuple("abcd")), labels


def holds(model: nn.Module, image: Tensor, label: int, attack: PGD, number: int) -> bool:
    """The definition, for one image: right at the image itself and at every point of every restart."""
    step = attack.step or 2.5 * attack.eps / attack.steps
    if int(model(image[None]).argmax()) != label:
        return False
    for restart in range(attack.restarts):
        x = (image + attack.eps * _start(image.shape, number, restart)).clip(0, 1)
        for _ in range(attack.steps):
            leaf = x.clone().requires_grad_()
            logits = model(leaf[None])
            F.cross_entropy(logits, torch.tensor([label])).backward()
            if int(logits.argmax()) != label:
                return False
            assert leaf.grad is not None
            x = image + (x + step * leaf.grad.sign() - image).clip(-attack.eps, attack.eps)
            x = x.clip(0, 1).detach()
        if int(model(x[None]).argmax()) != label:
            return False
    return True


@pytest.mark.parametrize("attack", [PGD(4 / 255, 4, 1), PGD(2 / 255, 10, 3), PGD(8 / 255, 1, 2, step=0.01)])
def test_an_image_withstands_where_the_plain_loop_never_loses_its_label(attack: PGD, tmp_path: Path) -> None:
    model, ctx = net(), context(tmp_path)
    task, labels = images(model)
    clean = torch.from_numpy(PIXELS).float() / 255
    want = [holds(model, clean[i], int(labels[i]), attack, i) for i in IDS]
    found = find_withstanding(model, task, labels, IDS, attack, ctx)
    assert found.tolist() == want and 0 < sum(want) < 21, "or it says little"
    some = IDS[::-3].copy()
    assert find_withstanding(model, task, labels[some], some, attack, ctx).tolist() == found[some].tolist()
    in_fives = dataclasses.replace(ctx, training=dataclasses.replace(ctx.training, inference_batch=5))
    assert find_withstanding(model, task, labels, IDS, attack, in_fives).tolist() == want


def test_of_a_linear_model_it_is_the_closed_form(tmp_path: Path) -> None:
    weight = torch.randn(2, 108, generator=torch.Generator().manual_seed(0))
    model = nn.Sequential(nn.Flatten(), nn.Linear(108, 2, bias=False))
    model[1].weight.data = weight
    task, labels = images(model, wrong=0)
    rows = model(torch.from_numpy(PIXELS).float() / 255)
    margin = (rows[:, 0] - rows[:, 1]).abs().detach()
    l1 = (weight[0] - weight[1]).abs().sum()
    for eps in (1 / 255, 3 / 255, 8 / 255):  # the images keep 60 grey levels from either end: nothing is clipped
        found = find_withstanding(model, task, labels, IDS, PGD(eps, 10, 1), context(tmp_path))
        assert found.tolist() == (margin > eps * l1).tolist()
    assert 0 < (margin > 3 / 255 * l1).sum() < 24


def test_zero_eps_is_clean_accuracy_and_more_restarts_or_steps_only_lose(tmp_path: Path) -> None:
    model, ctx = net(), context(tmp_path)
    task, labels = images(model)
    assert find_withstanding(model, task, labels, IDS, PGD(0, 2, 1), ctx).sum() == 21
    once, thrice = (find_withstanding(model, task, labels, IDS, PGD(2 / 255, 3, n), ctx) for n in (1, 3))
    assert not (thrice & ~once).any()
    assert PGD(8 / 255, 50, 1).name == "pgd50@8" and PGD(0.5 / 255, 10, 1).name == "pgd10@0.5"


def test_the_model_is_left_as_it_was(tmp_path: Path) -> None:
    model = net().train()
    model[4].eval()
    task, labels = images(net())
    before, modes = {k: v.clone() for k, v in model.state_dict().items()}, [m.training for m in model.modules()]
    state = torch.random.get_rng_state()
    find_withstanding(model, task, labels, IDS, PGD(4 / 255, 3, 2), context(tmp_path))
    assert [m.training for m in model.modules()] == modes
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters()) and torch.equal(torch.random.get_rng_state(), state)


def test_a_victim_is_attacked_once_whatever_the_order_and_the_subset(tmp_path: Path) -> None:
    model, attack = net(), PGD(3 / 255, 5, 2)
    task, labels = images(model)
    victim = Victim("v", model)
    found = find_victim_withstanding(victim, task, labels, IDS, attack, context(tmp_path))
    assert found.tolist() == find_withstanding(model, task, labels, IDS, attack, context(tmp_path)).tolist()
    once = victim.calls.computed["preparation"]
    assert once > 24 and victim.calls.shown["preparation"] == 24
    part, order = task.subset(IDS[10:20]), np.array([7, 2, 5])
    again = find_victim_withstanding(victim, part, labels[10:20][order], order, attack, context(tmp_path))
    assert again.tolist() == found[10:20][order].tolist()
    assert victim.calls.computed["preparation"] == once, "another job finds it in the store"
    find_victim_withstanding(victim, task, labels, IDS, dataclasses.replace(attack, steps=6), context(tmp_path))
    assert victim.calls.computed["preparation"] > once, "another attack"
    assert model(torch.zeros(1, 3, 6, 6)).shape == (1, 4) and not model._forward_pre_hooks


def test_what_answers_without_gradients_is_seen() -> None:
    class API(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.from_numpy(np.asarray(x.numpy()).mean((2, 3)))

    class Detached(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                return x.mean((2, 3))

    image = torch.rand(3, 6, 6)
    assert has_gradients(net(), image) and not has_gradients(API(), image) and not has_gradients(Detached(), image)
    frozen = net().requires_grad_(False)
    assert has_gradients(frozen, image), "weights that are frozen hide no gradient of the image"


def test_pgd_is_that_of_the_adversarial_robustness_toolbox() -> None:
    evasion = pytest.importorskip("art.attacks.evasion")
    estimators = pytest.importorskip("art.estimators.classification")
    model = net()
    _, labels = images(model, wrong=0)
    clean = torch.from_numpy(PIXELS).float() / 255
    wrapped = estimators.PyTorchClassifier(model, nn.CrossEntropyLoss(), (3, 6, 6), 4, clip_values=(0.0, 1.0))
    for eps, steps in ((4 / 255, 10), (8 / 255, 50)):
        step = 2.5 * eps / steps
        attack = evasion.ProjectedGradientDescentPyTorch(
            wrapped, eps=eps, eps_step=step, max_iter=steps, num_random_init=0, verbose=False
        )
        theirs = torch.from_numpy(attack.generate(clean.numpy(), labels.numpy()))
        ours = pgd(model, clean, labels, eps, step, steps, torch.zeros_like(clean))
        same = (ours - theirs).abs() < 1e-5
        assert same.double().mean() > 0.99, "but for gradients within rounding of zero"
        assert torch.equal(model(ours).argmax(1), model(theirs).argmax(1))


def test_pgd_is_that_of_torchattacks() -> None:
    torchattacks = pytest.importorskip("torchattacks")
    model = net()
    _, labels = images(model, wrong=0)
    clean = torch.from_numpy(PIXELS).float() / 255
    for eps, steps in ((4 / 255, 10), (8 / 255, 50)):
        step = 2.5 * eps / steps
        theirs = torchattacks.PGD(model, eps, step, steps, random_start=False)(clean, labels)
        ours = pgd(model, clean, labels, eps, step, steps, torch.zeros_like(clean))
        assert ((ours - theirs).abs() < 1e-5).double().mean() > 0.99
        assert torch.equal(model(ours).argmax(1), model(theirs).argmax(1))
