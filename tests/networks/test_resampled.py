"""Transformers from files of another image size or of the authors' naming, against their resampling written out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fmsteal.base.errors import ConfigError, DataError
from fmsteal.networks.backbones import BackboneSpec

THIN: Mapping[str, Any] = {"depth": 2, "embed_dim": 24, "num_heads": 2}
VIT = BackboneSpec("vit_tiny_patch16_224", size=64, options=THIN)
DINO = BackboneSpec("vit_small_patch14_dinov2", size=28, options=THIN)
REGISTERS = replace(DINO, model="vit_small_patch14_reg4_dinov2")
SWIN = BackboneSpec(
    "swin_tiny_patch4_window7_224", size=56, options={"depths": [1, 2], "embed_dim": 8, "num_heads": [1, 2]}
)


def state_of(spec: BackboneSpec) -> dict[str, Tensor]:
    """Weights that are all different, as a training leaves them."""
    torch.manual_seed(0)
    found = spec.build(pretrained=False).trunk.state_dict()
    return {k: torch.randn_like(v) if v.is_floating_point() else v for k, v in found.items()}


def loaded(spec: BackboneSpec, state: Mapping[str, Any], folder: Path) -> dict[str, Tensor]:
    torch.save(dict(state), file := folder / "weights.pth")
    return replace(spec, weights=str(file)).build(pretrained=True).trunk.state_dict()


def resized(grid: Tensor, side: int) -> Tensor:
    """Position embeddings ``(1, n*n, D)`` for ``side * side`` patches."""
    n = int(grid.shape[1] ** 0.5)
    image = grid.reshape(1, n, n, -1).permute(0, 3, 1, 2)
    made = F.interpolate(image, size=(side, side), mode="bicubic", antialias=True)
    return made.permute(0, 2, 3, 1).reshape(1, side * side, -1)


@pytest.mark.parametrize("prefix", ["", "module.", "state_dict.model."])
@pytest.mark.parametrize("spec", [VIT, DINO], ids=["vit", "dinov2"])
def test_position_embeddings_of_another_size_are_resampled(
    spec: BackboneSpec, prefix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    theirs = state_of(replace(spec, size=spec.size * 2))  # type: ignore[operator]
    got = loaded(spec, {f"{prefix}{k}": v for k, v in theirs.items()}, tmp_path)
    whole = theirs["pos_embed"]
    wanted = torch.cat([whole[:, :1], resized(whole[:, 1:], spec.size // (16 if spec is VIT else 14))], dim=1)  # type: ignore[operator]
    torch.testing.assert_close(got["pos_embed"], wanted)
    assert all(torch.equal(got[k], v) for k, v in theirs.items() if k != "pos_embed")
    assert "is of another size than" in caplog.text and "resampled are pos_embed, from" in caplog.text


@pytest.mark.parametrize("size", [28, 56])
@pytest.mark.parametrize("mask", [True, False])
def test_register_tokens_in_metas_naming(size: int, mask: bool, tmp_path: Path) -> None:
    """They keep one embedding of a position for the class token, which timm adds to the token; registers have none."""
    timms = state_of(replace(REGISTERS, size=size))
    place = torch.randn_like(timms["cls_token"])
    theirs = {k: v for k, v in timms.items() if k != "reg_token"} | {"register_tokens": timms["reg_token"]}
    theirs["cls_token"], theirs["pos_embed"] = timms["cls_token"] - place, torch.cat([place, timms["pos_embed"]], 1)
    got = loaded(REGISTERS, {**theirs, **({"mask_token": torch.zeros(1, 24)} if mask else {})}, tmp_path)
    wanted = timms | {"pos_embed": resized(timms["pos_embed"], 2) if size == 56 else timms["pos_embed"]}
    for name, tensor in got.items():
        torch.testing.assert_close(tensor, wanted[name], msg=name)
    with pytest.raises(DataError, match=r"further tokens \(register_tokens\) than vit_small_patch14_dinov2 has"):
        loaded(DINO, theirs, tmp_path)


def test_swin_in_its_authors_naming_and_of_another_window(tmp_path: Path) -> None:
    """They downsample at the end of a stage, timm at the start of the next; and keep index tables in the file."""
    timms = state_of(SWIN)
    theirs = {k.replace("layers.1.downsample", "layers.0.downsample"): v for k, v in timms.items()}
    assert theirs.keys() != timms.keys()
    got = loaded(
        SWIN, {"model": {**theirs, "layers.0.blocks.0.attn.relative_position_index": torch.zeros(49, 49)}}, tmp_path
    )
    assert all(torch.equal(got[k], v) for k, v in timms.items())
    large = replace(SWIN, model="swin_base_patch4_window12_384", size=96)
    other, name = state_of(large), "layers.0.blocks.0.attn.relative_position_bias_table"
    got = loaded(SWIN, other, tmp_path)
    assert other[name].shape == (23**2, 1) and got[name].shape == (13**2, 1)
    middle = other[name][23**2 // 2], got[name][13**2 // 2]  # no shift: the same bias whatever the window
    torch.testing.assert_close(*middle)
    assert all(torch.equal(got[k], v) for k, v in other.items() if "relative_position" not in k)


def test_what_is_another_network_is_not_resampled_into_this_one(tmp_path: Path) -> None:
    coarse = state_of(replace(VIT, model="vit_tiny_patch16_224", options={**THIN, "patch_size": 8}))
    with pytest.raises(DataError, match=r"patches are 8x8, the model's 16x16: choose the backbone\.model"):
        loaded(VIT, coarse, tmp_path)
    with pytest.raises(DataError, match=r"deeper network .* no blocks\.2"):
        loaded(VIT, state_of(replace(VIT, size=128, options={**THIN, "depth": 3})), tmp_path)
    with pytest.raises(DataError, match=r"does not fit vit_tiny_patch16_224: .* another shape"):
        loaded(VIT, state_of(replace(VIT, options={**THIN, "embed_dim": 32})), tmp_path)


def test_convnext_in_its_authors_naming(tmp_path: Path) -> None:
    options = {"depths": [1, 1, 1, 1], "dims": [8, 8, 16, 16]}
    spec = BackboneSpec("convnext_tiny", size=32, options=options)
    timms = state_of(spec)
    names = {"stages.0.blocks.0": "stages.0.0", "stages.1.blocks.0": "stages.1.0", "conv_dw": "dwconv"}
    names |= {"mlp.fc1": "pwconv1", "mlp.fc2": "pwconv2", "head.norm": "norm"}
    names |= {"stem": "downsample_layers.0", "stages.1.downsample": "downsample_layers.1"}
    theirs = {}
    for key, value in timms.items():
        for ours, other in names.items():
            key = key.replace(ours, other)
        theirs[key] = value
    got = loaded(spec, {"model": theirs}, tmp_path)
    assert all(torch.equal(got[k], v) for k, v in timms.items())


@pytest.mark.parametrize(
    "model",
    [
        "vit_tiny_r_s16_p8_224",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("maxvit_tiny_tf_224", "coatnet_0_rw_224", "nest_tiny")
        ),
    ],
)
def test_an_architecture_that_fails_at_a_size_says_so(model: str) -> None:
    with torch.device("meta"), pytest.raises(ConfigError) as caught:
        BackboneSpec(model, size=100).build(pretrained=False)
    said = str(caught.value)
    assert said.startswith(f"{model} does not take images of 100 pixels (")
    assert said.endswith("Choose another backbone.size=N; its own size is 224.")
