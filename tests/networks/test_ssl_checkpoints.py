"""Encoders as solo-learn and lightly-train write them: the right network of each file, with its own features.

solo-learn: Lightning's file with ``backbone.`` (before 1.0.6: ``encoder.``), its momentum copy, projectors, predictors,
queues, heads (github.com/vturrisi/solo-learn, solo/methods/base.py). lightly-train: the same with
``embedding_model.wrapped_model.``, teacher and student, and whole pickled modules (github.com/lightly-ai/lightly-train,
src/lightly_train/_checkpoint.py).
"""

from __future__ import annotations

import copy
import itertools
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn
from torchvision.models._utils import IntermediateLayerGetter

from fmsteal.attacks.base import AttackContext
from fmsteal.base.errors import DataError
from fmsteal.config import build
from fmsteal.data.images import Images
from fmsteal.identity.keys import identity
from fmsteal.networks.backbones import BackboneSpec
from fmsteal.oracle.ledger import Ledger
from tests.support.an_api import in_front_of
from tests.support.composing import TINY, composed
from tests.support.own_networks import small_resnet
from tests.support.small_task import TASK, context

SMALL = (
    "task=embed", "attack=direct", "attack.recipe.epochs=2", "attack.recipe.batch_size=8", "thief=encoder_resnet10",
    "backbone@thief.backbone=resnet10t", "thief.backbone.size=32", f"thief.{TINY}",
)  # fmt: skip
POOL = Images(np.random.default_rng(1).integers(0, 256, (40, 3, 16, 16), dtype=np.uint8), "pool")
LAYERS = {"layers": [1, 1, 1, 1]}
IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
LAYER = ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4")


def mlp(*widths: int) -> nn.Sequential:
    parts = [(nn.Linear(a, b), nn.BatchNorm1d(b), nn.ReLU()) for a, b in itertools.pairwise(widths)]
    return nn.Sequential(*(part for three in parts for part in three))


def cifar_resnet() -> nn.Module:
    """As solo-learn changes torchvision's for CIFAR: two pixels of padding."""
    net = small_resnet()
    net.conv1, net.maxpool = nn.Conv2d(3, 64, 3, 1, 2, bias=False), nn.Identity()  # type: ignore[assignment]
    return net


def trained(net: nn.Module) -> nn.Module:
    """With statistics that no initialisation gives."""
    for _ in range(2):
        net.train()(IMAGES)
    return net.eval()


class SoloLearn(nn.Module):
    """The parts that solo-learn's method holds, in its order."""

    def __init__(self, method: str, backbone: nn.Module, momentum: nn.Module, name: str = "backbone") -> None:
        super().__init__()
        self.add_module(name, backbone)
        self.classifier = nn.Linear(512, 10)
        self.add_module(f"momentum_{name}", momentum)
        if method == "dino":
            self.head, self.momentum_head = mlp(512, 32, 16), mlp(512, 32, 16)
        else:
            self.projector, self.momentum_projector = mlp(512, 32, 16), mlp(512, 32, 16)
        if method == "byol":
            self.predictor = mlp(16, 32, 16)
        if method == "mocov2plus":
            self.register_buffer("queue", torch.rand(2, 16, 64))
            self.register_buffer("queue_ptr", torch.zeros(1, dtype=torch.long))


def save_by_lightning(module: nn.Module, file: Path, **more: Any) -> None:
    """The content of a checkpoint of Lightning, its optimiser with it."""
    some = [p for p in module.parameters() if p.numel() < 10_000]
    optimiser = torch.optim.AdamW(some)
    sum(p.sum() for p in some).backward()  # type: ignore[union-attr]
    optimiser.step()
    state = {
        "epoch": 1, "global_step": 8, "pytorch-lightning_version": "2.1.0", "state_dict": module.state_dict(),
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 1}}}}, "callbacks": {},
        "optimizer_states": [optimiser.state_dict()], "lr_schedulers": [{"base_lrs": [0.1]}],
        "hyper_parameters": OmegaConf.create({"method": "m", "optimizer": {"lr": 0.1}}), **more,
    }  # fmt: skip
    torch.save(state, file)


def features(spec: BackboneSpec) -> Tensor:
    with torch.no_grad():
        return spec.build(pretrained=True).eval()(IMAGES)


def due(net: nn.Module) -> Tensor:
    with torch.no_grad():
        return net.eval()(IMAGES)


@pytest.mark.parametrize(
    ("method", "name"),
    [
        ("mocov2plus", "backbone"),
        *(pytest.param(*each, marks=pytest.mark.slow) for each in (("byol", "backbone"), ("mocov2plus", "encoder"))),
        ("dino", "backbone"),
    ],
)
def test_of_solo_learn_the_trained_network_is_taken(
    method: str, name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    backbone, momentum = trained(cifar_resnet()), trained(cifar_resnet())
    save_by_lightning(SoloLearn(method, backbone, momentum, name), file := tmp_path / f"{method}.ckpt")
    spec = BackboneSpec("resnet18", str(file), 32, "none", "small_wide", LAYERS)
    with caplog.at_level(logging.WARNING):
        torch.testing.assert_close(features(spec), due(backbone), rtol=1e-4, atol=1e-4)
    assert f"state_dict.{name}. is taken, not state_dict.momentum_{name}." in caplog.text
    if method == "byol":
        other = BackboneSpec("resnet18", str(file), 32, "none", "small", LAYERS)
        assert (features(other) - due(backbone)).abs().max() > 1e-3, "the padding is no part of the weights"


class Wrapper(nn.Module):
    """lightly-train's wrapper of a ResNet of torchvision; the model itself is in a list, so that it is no module."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._model = [model]
        self._features = IntermediateLayerGetter(model, {"layer4": "out"})  # shares the layers
        self._pool = nn.AdaptiveAvgPool2d(1)


class TimmWrapper(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._model = model


class Embedding(nn.Module):
    def __init__(self, wrapped: nn.Module) -> None:
        super().__init__()
        self.wrapped_model, self.embed_head = wrapped, nn.Identity()


class LightlyDino(nn.Module):
    """The parts of lightly-train's DINO, in its order."""

    def __init__(self, teacher: Embedding, student: Embedding, width: int) -> None:
        super().__init__()
        self.teacher_embedding_model, self.teacher_projection_head = teacher, mlp(width, 16)
        self.student_embedding_model, self.student_projection_head = student, mlp(width, 16)


def whole(model: nn.Module, embedding: Embedding) -> dict[str, Any]:
    """What lightly-train adds to Lightning's file: the modules themselves, pickled."""
    models = {"model": model, "wrapped_model": embedding.wrapped_model, "embedding_model": embedding}
    return {"lightly_train": {"version": "0.18.0", "models": models, "normalize_args": {"mean": [0.5]}}}


@pytest.mark.slow
def test_of_lightly_train_the_teacher_is_taken_and_equals_what_it_exports(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = trained(small_resnet())
    model.fc = nn.Linear(512, 1000)
    embedding = Embedding(Wrapper(model))
    student = Embedding(Wrapper(trained(small_resnet())))
    file, exported = tmp_path / "last.ckpt", tmp_path / "exported_last.pt"
    save_by_lightning(LightlyDino(embedding, student, 512), file, **whole(model, embedding))
    torch.save(model.state_dict(), exported)
    model.fc = nn.Identity()
    with caplog.at_level(logging.WARNING):
        for path in (file, exported):
            spec = BackboneSpec("resnet18", str(path), 32, "none", options=LAYERS)
            torch.testing.assert_close(features(spec), due(model), rtol=1e-4, atol=1e-4)
    (said,) = [record.message for record in caplog.records]
    assert (
        "teacher_embedding_model.wrapped_model._features. is taken, not" in said and "lightly_train.models" not in said
    )


def test_of_lightly_train_a_vit_of_timm(tmp_path: Path) -> None:
    model = timm.create_model("test_vit", num_classes=0, img_size=32).eval()
    embedding = Embedding(TimmWrapper(model))
    with torch.no_grad():
        (student := copy.deepcopy(embedding)).wrapped_model._model.cls_token.add_(1)  # type: ignore[union-attr,operator]
    save_by_lightning(LightlyDino(embedding, student, 64), file := tmp_path / "last.ckpt", **whole(model, embedding))
    spec = BackboneSpec("test_vit", str(file), 32, "none")
    torch.testing.assert_close(features(spec), due(model), rtol=1e-4, atol=1e-4)


def test_a_file_that_lacks_a_layer_is_refused_by_name(tmp_path: Path) -> None:
    module = SoloLearn("byol", cifar_resnet(), nn.Linear(2, 2))
    state = {key: value for key, value in module.state_dict().items() if "layer4" not in key}
    torch.save({"state_dict": state}, file := tmp_path / "byol.ckpt")
    with pytest.raises(DataError, match=r"byol\.ckpt does not fit resnet18: \d+ tensors are missing \(layer4\.0"):
        BackboneSpec("resnet18", str(file), 32, "none", "small_wide", LAYERS).build(pretrained=True)


@pytest.mark.parametrize("by", [pytest.param("solo-learn", marks=pytest.mark.slow), "lightly-train"])
def test_such_an_encoder_is_a_victim_keyed_by_content_and_is_stolen(by: str, tmp_path: Path) -> None:
    file = tmp_path / "last.ckpt"
    if by == "solo-learn":
        net = trained(cifar_resnet())
        save_by_lightning(SoloLearn("byol", net, trained(cifar_resnet())), file)
    else:
        net = trained(small_resnet())
        save_by_lightning(embedding := Embedding(Wrapper(net)), file, **whole(net, embedding))
    stem = "small_wide" if by == "solo-learn" else "own"
    words = (
        *SMALL, "victim=resnet10_small", "victim.adaptation=probe",
        "~victim.backbone.options.channels", "victim.backbone.normalise=none", f"victim.backbone.stem={stem}",
    )  # fmt: skip
    cfg = composed(*words, f"victim.backbone.weights={file}")
    ctx = context(tmp_path / "job")
    maker = build.make(cfg.victim)
    maker.require_makeable()
    victim = maker.prepare(TASK, ctx)
    victim.calls.purpose = "attack"
    oracle = in_front_of(victim, POOL, ctx, 20)
    thief = build.make(cfg.attack).run(oracle, POOL, AttackContext(build.make(cfg.thief), ctx, labelled=POOL))
    ledger = Ledger(ctx.run_dir / "ledger.bin", "job")
    with torch.no_grad():
        assert len(ledger) == 20 and thief(IMAGES).shape == (2, 512)
        rows = net.eval()(torch.nn.functional.interpolate(
            torch.from_numpy(np.array(POOL.pixels)).float() / 255, (32, 32), mode="bilinear", antialias=True
        ))  # fmt: skip
    nearest = (torch.cdist(torch.from_numpy(np.array(ledger.answers)), rows).min(1).values).max()
    assert nearest < 1e-3 * rows.norm(dim=1).max(), "each answer is an image's own features"
    shutil.copy(file, same := tmp_path / "copy.ckpt")
    key = identity(composed(*words, f"victim.backbone.weights={same}"))
    assert key == identity(cfg)
    save_by_lightning(SoloLearn("byol", cifar_resnet(), cifar_resnet()), same)
    assert identity(composed(*words, f"victim.backbone.weights={same}")) != key
