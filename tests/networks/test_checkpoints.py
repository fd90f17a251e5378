"""Checkpoints of other code: every naming in use gives the same features, and what does not fit is named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from fmsteal.base.errors import DataError
from fmsteal.networks.backbones import Backbone, BackboneSpec

SPEC = BackboneSpec("resnet18", size=32, stem="small", options={"channels": [8, 8, 16, 16]})
BOTTLENECK = BackboneSpec("resnet50", size=32, options={"channels": [8, 8, 16, 16], "layers": [2, 1, 1, 1]})
IMAGES = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def source(spec: BackboneSpec = SPEC) -> Backbone:
    """A trunk whose weights and statistics are none that an initialisation gives."""
    torch.manual_seed(0)
    backbone = spec.build(pretrained=False)
    for _ in range(3):
        backbone(IMAGES)
    return backbone.eval()


def numbered(state: Mapping[str, Tensor], prefix: str, *, pooled: bool) -> dict[str, Tensor]:
    """As an `nn.Sequential` of conv1, bn1, relu, [maxpool,] layer1, ... names its parts."""
    order = ["conv1", "bn1", "relu", *(["maxpool"] if pooled else []), "layer1", "layer2", "layer3", "layer4"]
    split = {key: key.split(".", 1) for key in state}
    return {f"{prefix}{order.index(split[key][0])}.{split[key][1]}": value for key, value in state.items()}


def named(state: Mapping[str, Tensor], naming: str) -> dict[str, Tensor]:
    """The same tensors as another code base calls them, with the head that it leaves in the file."""
    if naming.startswith("numbered "):
        _, prefix, pool = naming.split()
        found = numbered(state, prefix, pooled=pool == "pool")
        return {**found, "g.0.weight": torch.rand(16, 16), "g.1.running_mean": torch.rand(16)}
    if naming == "no counters":
        found = {k: v for k, v in state.items() if "num_batches" not in k}
        return {**found, "fc.weight": torch.rand(10, 16), "fc.bias": torch.rand(10)}
    return {**{naming + k: v for k, v in state.items()}, naming + "fc.weight": torch.rand(10, 16)}


@pytest.mark.parametrize("spec", [SPEC, BOTTLENECK], ids=["basic", "bottleneck"])
@pytest.mark.parametrize(
    "naming",
    [
        "", "module.", "encoder.", "model.backbone.", "encoder_q.", "module.any.thing-1.", "backbone.trunk.",
        "no counters", "numbered f. no", "numbered f. pool", "numbered f.f. no", "numbered module.f. pool",
    ],
)  # fmt: skip
@pytest.mark.parametrize("wrapped", [None, "state_dict", pytest.param("model", marks=pytest.mark.slow)])
def test_every_naming_gives_the_same_features(
    spec: BackboneSpec, naming: str, wrapped: str | None, tmp_path: Path
) -> None:
    before = source(spec)
    state = named(before.trunk.state_dict(), naming)
    torch.save({wrapped: state, "epoch": 1000} if wrapped else state, file := tmp_path / "model.pth")
    after = replace(spec, weights=str(file)).build(pretrained=True).eval()
    with torch.no_grad():
        torch.testing.assert_close(after(IMAGES), before(IMAGES), rtol=0, atol=0)


@pytest.mark.parametrize("wrapped", ["net", "model_state_dict", "teacher", "model.state_dict", "a.b.c"])
@pytest.mark.parametrize("naming", ["", "module.any.thing-1.", "numbered f. pool"])
def test_a_container_may_have_any_name(naming: str, wrapped: str, tmp_path: Path) -> None:
    trunk = SPEC.build(pretrained=False).trunk.state_dict()
    content: Mapping[str, object] = named(trunk, naming)
    for key in reversed(wrapped.split(".")):
        content = {"epoch": 3, key: content, "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}}}
    torch.save(content, file := tmp_path / "model.pth")
    got = replace(SPEC, weights=str(file)).build(pretrained=True).trunk.state_dict()
    assert all(torch.equal(got[k], v) for k, v in trunk.items())


def test_of_two_networks_in_a_file_the_first_is_taken_and_of_one_and_a_half_the_whole(tmp_path: Path) -> None:
    first, second = source().trunk.state_dict(), SPEC.build(pretrained=False).trunk.state_dict()
    both = {**named(first, "encoder_q."), **named(second, "encoder_k.")}
    torch.save(both, file := tmp_path / "moco.pth")
    got = replace(SPEC, weights=str(file)).build(pretrained=True).trunk.state_dict()
    assert all(torch.equal(got[k], v) for k, v in first.items())
    torch.save({k: v for k, v in both.items() if "_q.layer4" not in k}, file)
    got = replace(SPEC, weights=str(file)).build(pretrained=True).trunk.state_dict()
    assert all(torch.equal(got[k], v) for k, v in second.items() if "num_batches" not in k)


def refused(state: Mapping[str, Tensor], folder: Path, spec: BackboneSpec = SPEC, *, names_model: bool = True) -> str:
    save_file({k: v.contiguous() for k, v in state.items()}, file := folder / "w.safetensors")
    with pytest.raises(DataError) as caught:
        replace(spec, weights=str(file)).build(pretrained=True)
    assert str(file) in str(caught.value) and (spec.model in str(caught.value) or not names_model)
    return str(caught.value)


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    state = source().trunk.state_dict()
    half = {k: v for k, v in state.items() if not k.startswith(("layer3", "layer4"))}
    said = refused(named(half, "encoder."), tmp_path)
    assert f"{len(state) - len(half) - 10} tensors are missing (layer3.0." in said, said
    assert "not the model's: encoder.fc.weight" in said
    foreign = {f"visual.blocks.{i}.attn.qkv.weight": torch.rand(2) for i in range(2)}
    said = refused(foreign, tmp_path)
    assert "tensors are missing" in said and "not the model's: visual.blocks.0.attn.qkv.weight, visual" in said
    wide = {k: torch.cat([v, v]) if k == "layer1.0.conv1.weight" else v for k, v in state.items()}
    assert "1 have another shape (layer1.0.conv1.weight)" in refused(wide, tmp_path)


@pytest.mark.parametrize("naming", ["", "module.", "numbered f. no"])
def test_a_stem_of_the_other_size_is_told_how_to_be_had(naming: str, tmp_path: Path) -> None:
    state = named(source().trunk.state_dict(), naming)
    said = refused(state, tmp_path, replace(SPEC, stem="own"))
    assert "1 have another shape (conv1.weight)" in said and said.endswith("7x7: backbone.stem=small.")
    assert source(BOTTLENECK).trunk.conv1.weight.shape[-1] == 7  # type: ignore[union-attr,index]
    state = named(source(BOTTLENECK).trunk.state_dict(), naming)
    assert refused(state, tmp_path, replace(BOTTLENECK, stem="small")).endswith("3x3: backbone.stem=own.")


@pytest.mark.parametrize("naming", ["", "module.encoder_q.", "numbered f. no"])
def test_a_part_of_a_deeper_network_is_not_taken_for_the_model(naming: str, tmp_path: Path) -> None:
    deeper = replace(SPEC, model="resnet34").build(pretrained=False).state_dict()
    trunk = {key.removeprefix("trunk."): value for key, value in deeper.items()}
    save_file(named(trunk, naming), tmp_path / "r34.safetensors")
    with pytest.raises(DataError, match=r"r34\.safetensors is of a deeper network than resnet18, .* layer1\.2"):
        replace(SPEC, weights=str(tmp_path / "r34.safetensors")).build(pretrained=True)


def test_a_truncated_file_and_one_without_tensors_are_named(tmp_path: Path) -> None:
    torch.save(source().trunk.state_dict(), whole := tmp_path / "whole.pth")
    save_file(source().trunk.state_dict(), tensors := tmp_path / "whole.safetensors")
    for file in (whole, tensors):
        cut = file.with_stem("cut")
        cut.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        with pytest.raises(DataError, match=rf"cut{cut.suffix} cannot be read as weights"):
            replace(SPEC, weights=str(cut)).build(pretrained=True)
    for content in ({"epoch": 3}, [1, 2], {"state_dict": {}}):
        torch.save(content, file := tmp_path / "none.pth")
        with pytest.raises(DataError, match=r"none.pth cannot be read as weights: it holds no tensors"):
            replace(SPEC, weights=str(file)).build(pretrained=True)


def test_raw_weights_are_taken_before_their_average_and_a_teacher_before_its_student(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = source().trunk.state_dict(), SPEC.build(pretrained=False).trunk.state_dict()
    for at, (taken, left, content) in enumerate(
        [
            ("state_dict.", "state_dict_ema.", {"state_dict_ema": second, "state_dict": first}),
            ("model.", "model_ema.", {"model_ema": second, "model": first}),
            ("teacher.backbone.", "student.", {"student": second, "teacher": named(first, "backbone.")}),
            ("net.", "ema.", {**named(second, "ema."), **named(first, "net.")}),
        ]
    ):
        torch.save(content, file := tmp_path / f"{at}.pth")
        got = replace(SPEC, weights=str(file)).build(pretrained=True).trunk.state_dict()
        assert all(torch.equal(got[k], v) for k, v in first.items())
        assert f"{file} holds several networks that fit: {taken} is taken, not {left}" in caplog.text
    torch.save({"state_dict_ema": first}, file := tmp_path / "alone.pth")
    got = replace(SPEC, weights=str(file)).build(pretrained=True).trunk.state_dict()
    assert all(torch.equal(got[k], v) for k, v in first.items()) and "alone.pth" not in caplog.text


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_the_files_fault(value: float, tmp_path: Path) -> None:
    state = source().trunk.state_dict()
    state["layer2.0.conv1.weight"][0, 0] = value
    said = refused(state, tmp_path, SPEC, names_model=False)
    assert "not finite (NaN or infinity), in 1 of 126 tensors, first layer2.0.conv1.weight" in said
    assert "lr" not in said
