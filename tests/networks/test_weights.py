"""Files that are taken for weights: read whatever they are called, or told apart in a sentence; none of them runs."""

from __future__ import annotations

import argparse
import gzip
import json
import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save, save_file
from torch import nn

from fmsteal.base.errors import DataError
from fmsteal.networks.backbones import BackboneSpec
from fmsteal.networks.weights import read

SPEC = BackboneSpec("resnet18", size=32, stem="small", options={"channels": [8, 8, 16, 16]})


@pytest.fixture
def trunk() -> nn.Module:
    return SPEC.build(pretrained=False).trunk


def same(file: Path, trunk: nn.Module) -> None:
    got = replace(SPEC, weights=str(file)).build(pretrained=True).trunk.state_dict()
    assert all(torch.equal(got[k], v) for k, v in trunk.state_dict().items())


def refused(file: Path) -> str:
    with pytest.raises(DataError) as caught:
        replace(SPEC, weights=str(file)).build(pretrained=True)
    said = str(caught.value)
    assert said.startswith(f"{file} cannot be read as weights: ") and "\n" not in said
    assert "weights_only" not in said and "add_safe_globals" not in said
    return said


def test_a_file_is_read_by_what_it_holds_and_not_by_its_name(trunk: nn.Module, tmp_path: Path) -> None:
    state = trunk.state_dict()
    save_file(state, tmp_path / "tensors.pth")
    torch.save(state, tmp_path / "pickled.safetensors")
    torch.save(state, tmp_path / "legacy.bin", _use_new_zipfile_serialization=False)
    for name in ("tensors.pth", "pickled.safetensors", "legacy.bin"):
        same(tmp_path / name, trunk)


def test_a_training_checkpoint_with_objects_is_read_for_its_tensors(trunk: nn.Module, tmp_path: Path) -> None:
    args = argparse.Namespace(lr=0.1, device=torch.device("cpu"), out=Path("out"), best=np.float64(0.5))
    torch.save({"args": args, "epoch": 3, "model": {"state_dict": trunk.state_dict()}}, tmp_path / "run.pth")
    same(tmp_path / "run.pth", trunk)
    assert next(iter(read(tmp_path / "run.pth"))) == "model.state_dict.conv1.weight"


def test_a_pickled_module_is_read_for_its_tensors(trunk: nn.Module, tmp_path: Path) -> None:
    torch.save(nn.DataParallel(trunk), tmp_path / "model.pt")
    same(tmp_path / "model.pt", trunk)
    torch.save({"net": trunk, "epoch": 1}, tmp_path / "inside.pt")
    same(tmp_path / "inside.pt", trunk)
    torch.save(trunk, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert "a module that was pickled whole" in refused(tmp_path / "old.pt")


class Hostile:
    def __init__(self, file: Path, how: object = os.system) -> None:
        self.file, self.how = file, how

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return self.how, (f"touch {self.file}" if self.how is os.system else f"open({str(self.file)!r}, 'w')",)


@pytest.mark.parametrize("how", [os.system, eval, exec])
def test_nothing_in_a_file_is_run(how: object, trunk: nn.Module, tmp_path: Path) -> None:
    file, before = tmp_path / "hostile.pth", torch.serialization.get_safe_globals()
    torch.save({"state_dict": trunk.state_dict(), "more": Hostile(tmp_path / "ran", how)}, file)
    try:
        same(file, trunk)
    except DataError as error:
        assert "cannot be read as weights" in str(error) and "weights_only" not in str(error)
    assert not (tmp_path / "ran").exists()
    assert set(torch.serialization.get_safe_globals()) == set(before)


def test_what_is_no_file_of_weights_is_told_in_words(trunk: nn.Module, tmp_path: Path) -> None:
    pages = {
        "page.pth": b"\n<!DOCTYPE html>\n<html><title>Sign in</title></html>",
        "page.safetensors": b"<html></html>",
        "pointer.safetensors": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
        "index.json": json.dumps({"weight_map": {}}).encode(),
        "packed.pth": gzip.compress(b"weights"),
        "keras.h5": b"\x89HDF\r\n\x1a\n" + bytes(100),
        "empty.pth": b"",
    }
    words = ["a web page", "a web page", "a Git LFS pointer", "JSON text", "packed by gzip", "an HDF5 file", "empty"]
    for (name, content), word in zip(pages.items(), words, strict=True):
        (tmp_path / name).write_bytes(content)
        assert f"it is {word}" in refused(tmp_path / name)
    np.savez(tmp_path / "jax.npz", kernel=np.ones(3))
    assert "an archive of kernel.npy, not weights of PyTorch" in refused(tmp_path / "jax.npz")
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / "script.pt")
    said = refused(tmp_path / "script.pt")
    assert "a TorchScript archive" in said and "torch.jit.load" in said


def test_a_damaged_file_is_said_to_be_one(trunk: nn.Module, tmp_path: Path) -> None:
    torch.save(trunk.state_dict(), whole := tmp_path / "whole.pth")
    (tmp_path / "whole.safetensors").write_bytes(save(trunk.state_dict()))
    for file in (whole, tmp_path / "whole.safetensors"):
        content = file.read_bytes()
        for share in (0.02, 0.5, 0.99):
            file.with_stem("cut").write_bytes(content[: int(len(content) * share)])
            assert "damaged, cut short or of another kind" in refused(file.with_stem("cut"))
    (tmp_path / "text.pth").write_bytes(b"no weights at all")
    assert "damaged, cut short or of another kind" in refused(tmp_path / "text.pth")


def test_without_tensors_the_keys_that_are_there_are_listed(tmp_path: Path) -> None:
    for content, said in (
        ({"epoch": 3, "config": {"lr": 1}}, "it holds no tensors by name, but the keys epoch, config."),
        ([1, 2], "but a list."),
        ({}, "but nothing."),
        (argparse.Namespace(lr=1), "but an object of argparse.Namespace."),
        (torch.ones(3), "but a Tensor."),
    ):
        torch.save(content, tmp_path / "none.pth")
        assert refused(tmp_path / "none.pth").endswith(said)
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps({"epoch": 3}, protocol=2))
    assert "cannot be read as weights" in refused(tmp_path / "plain.pkl")
