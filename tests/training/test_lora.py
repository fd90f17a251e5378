"""Low-rank updates: the formula, what is trained and what is kept, and what cannot have them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from fmsteal.attacks.losses import soft_cross_entropy
from fmsteal.base.errors import ConfigError
from fmsteal.identity.keys import find_without_effect, identity
from fmsteal.job.parts import Parts
from fmsteal.job.stolen import Made, open_thief
from fmsteal.networks.backbones import BackboneSpec
from fmsteal.training import lora as module
from fmsteal.training.classifier import Classifier
from fmsteal.training.lora import LoRA, require_adaptable
from fmsteal.training.updates import has_updates, inject, merge
from fmsteal.victims.encoder import EncoderVictim
from tests.support.commands import Run
from tests.support.composing import SMOKE, composed
from tests.support.outputs import only_run, only_theft
from tests.support.small_task import TASK, context, part

pytest.importorskip("peft")
VIT, RESNET = BackboneSpec("test_vit", size=32), BackboneSpec("test_resnet", size=32)
LAYERS = [f"blocks.{block}.attn.qkv" for block in range(6)]


def weights(folder: Path, model: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(3)
    options = {"img_size": 32} if "vit" in model else {}
    state = timm.create_model(model, num_classes=0, **options).state_dict()
    for name, value in state.items():  # timm's untrained ResNets close their blocks by a BatchNorm of 0
        if name.endswith("weight") and not value.any():
            value.fill_(1.0)
    save_file(state, folder / f"{model}.safetensors")
    return folder / f"{model}.safetensors"


def adapted(folder: Path, model: str, *overrides: str, who: str = "thief") -> list[str]:
    """The overrides of a victim or thief whose trunk gets low-rank updates."""
    file = weights(folder, model)
    named = {"model": model, "size": 32, "weights": file}
    return [
        f"{who}=resnet10t", *(f"{who}.backbone.{name}={value}" for name, value in named.items()),
        f"{who}.adaptation=lora", "recipes.lora.epochs=2", *overrides,
    ]  # fmt: skip


def test_merged_weights_are_the_papers_formula() -> None:
    torch.manual_seed(0)
    model = Classifier(RESNET.build(pretrained=False), 3)
    plain = {name: value.clone() for name, value in model.state_dict().items()}
    inject(model, LoRA(rank=2, alpha=6.0, modules=["layer1.0.conv1", "downsample.1"]), "test_resnet")
    images = torch.rand(4, 3, 32, 32)
    expected = dict(plain)
    for name, layer in model.backbone.trunk.named_modules():
        if hasattr(layer, "get_base_layer"):
            a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
            nn.init.normal_(b, std=0.2)
            key = f"backbone.trunk.{name}.weight"
            change = np.einsum("or,rihw->oihw", b.detach().numpy()[:, :, 0, 0], a.detach().numpy())
            expected[key] = plain[key] + 6.0 / 2 * torch.from_numpy(change)
    changed = [key for key in plain if not torch.equal(plain[key], expected[key])]
    assert len(changed) >= 2 and "backbone.trunk.layer1.0.conv1.weight" in changed
    with torch.no_grad():
        beside = model.eval()(images)
        merge(model)
        assert not has_updates(model) and model.state_dict().keys() == plain.keys()
        torch.testing.assert_close(model(images), beside, rtol=1e-4, atol=1e-4)
    for key, value in model.state_dict().items():
        torch.testing.assert_close(value, expected[key], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("model", ["test_vit", "test_resnet"])
def test_a_thief_changes_in_the_named_layers_and_the_head_alone(model: str, tmp_path: Path) -> None:
    ctx, layers = context(tmp_path), ["qkv"] if "vit" in model else ["conv2"]
    words = [] if "vit" in model else ["thief.recipe.lora.modules=[conv2]"]
    learner = part("thief", *adapted(tmp_path, model, *words, "recipes.lora.lr=0.1"))
    before = learner.build(3).state_dict()
    answers = torch.rand(40, 3, generator=torch.Generator().manual_seed(0)).softmax(1)

    def fitted(name: str) -> Classifier:
        ids = np.arange(40)
        return learner.fit(TASK.train, ids, answers, 3, soft_cross_entropy, ctx, stage=name, scratch=tmp_path / name)

    thief = fitted("one")
    after = thief.state_dict()
    assert after.keys() == before.keys() and thief.frozen is None
    changed = {name.removeprefix("backbone.trunk.") for name in before if not torch.equal(before[name], after[name])}
    due = {name for name, _ in before.items() if name.rpartition(".")[0].rpartition(".")[2] in layers}
    due = {name.removeprefix("backbone.trunk.") for name in due if name.endswith("weight")}
    assert changed == due | {"head.weight", "head.bias"}, "no statistics of a BatchNorm, no bias, no other layer"
    for name, value in fitted("again").state_dict().items():
        torch.testing.assert_close(value, after[name], rtol=0, atol=0)
    rank = torch.linalg.matrix_rank(
        (after[f"backbone.trunk.{min(due)}"] - before[f"backbone.trunk.{min(due)}"]).flatten(1)
    )
    assert 1 <= rank <= 8


def test_a_victim_is_kept_as_a_plain_model_and_found_again(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    maker = part("victim", *adapted(tmp_path, "test_vit", who="victim"))
    victim = maker.prepare(TASK, ctx)
    assert victim.place is not None
    kept = load_file(victim.place / "weights.safetensors")
    trunk = {n.removeprefix("backbone.trunk."): v for n, v in kept.items() if n.startswith("backbone.trunk.")}
    timm.create_model("test_vit", num_classes=0, img_size=32).load_state_dict(trunk)
    assert maker.prepare(TASK, ctx).key == victim.key
    other = part("victim", *adapted(tmp_path, "test_vit", "victim.recipe.lora.rank=2", who="victim"))
    assert other.prepare(TASK, ctx).key != victim.key
    words = adapted(tmp_path, "test_vit", "victim._target_=fmsteal.victims.encoder.EncoderVictim", who="victim")
    encoder = part("victim", *words)
    assert isinstance(encoder, EncoderVictim)
    made = encoder.prepare(TASK, ctx)
    assert made.answers == "embeddings" and made.key == f"{victim.key}-trunk"


def test_what_a_loop_of_its_own_leaves_is_merged_and_kept_as_weights(tmp_path: Path) -> None:
    learner, made = part("thief", *adapted(tmp_path, "test_vit")), Made()
    model = learner.untrained(3, context(tmp_path)).model
    made.note(model)
    assert has_updates(model)
    thief = made.settle(model)
    assert thief is model and not has_updates(thief) and thief in made
    assert all(p.requires_grad for p in thief.parameters()) and made.settle(3) == 3


@pytest.mark.parametrize(
    ("spec", "lora", "match"),
    [
        (RESNET, LoRA(), r"test_resnet has no layer named qkv\. Name the layers: recipe\.lora\.modules=\[\.\.\.\]"),
        (VIT, LoRA(modules=["qkv", "conv9"]), "test_vit has no layer named conv9.* of proj, qkv, fc1, fc2"),
        (VIT, LoRA(modules=["attn"]), r"blocks\.0\.attn of test_vit is an Attention: .*linear layer"),
        (BackboneSpec("test_efficientnet"), LoRA(modules=["conv_dw"]), "conv_dw of test_efficientnet is a grouped"),
        (BackboneSpec("eva02_tiny_patch14_224"), LoRA(), "no layer named qkv|computes with the weight"),
    ],
)  # fmt: skip
def test_an_architecture_without_the_layers_is_refused_by_name(spec: BackboneSpec, lora: LoRA, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        require_adaptable(spec, lora)


def test_a_layer_whose_weight_is_read_past_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Past(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv = nn.Linear(3, 4)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return nn.functional.linear(images.mean((2, 3)), self.qkv.weight)

    class Seen:
        trunk, size, mean = Past(), 8, torch.zeros(1)

    monkeypatch.setattr(BackboneSpec, "blueprint", Seen)
    with pytest.raises(ConfigError, match="computes with the weight of qkv itself"):
        require_adaptable(VIT, LoRA())


def test_options_that_make_no_sense_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong, match in (({"rank": 0}, r"lora\.rank >= 1"), ({"alpha": 0.0}, "0.0"), ({"modules": []}, "no layer")):
        with pytest.raises(ConfigError, match=match):
            LoRA(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"test_resnet has no layer named qkv"):
        Parts.of(composed(*SMOKE, *adapted(tmp_path, "test_resnet")))
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'fmsteal\[lora\]'"):
        require_adaptable(VIT, LoRA())


@pytest.mark.slow
def test_a_job_steals_by_low_rank_updates_and_seals_a_plain_thief(fmsteal: Run, tmp_path: Path) -> None:
    words = [*SMOKE, "victim=resnet10t", "victim.backbone.model=test_resnet", *adapted(tmp_path, "test_vit")]
    fmsteal(*words, "thief.recipe.lora.rank=4")
    result: dict[str, Any] = json.loads((only_run(tmp_path) / "result.json").read_text())
    assert result["axis"]["thief_adaptation"] == "lora" and result["cost"]["cost/queries"] == 100
    stolen = load_file(only_theft(tmp_path).thief)
    trunk = {n.removeprefix("backbone.trunk."): v for n, v in stolen.items() if n.startswith("backbone.trunk.")}
    public = load_file(tmp_path / "test_vit.safetensors")
    assert trunk.keys() == public.keys()
    changed = [name for name in public if not torch.equal(trunk[name], public[name])]
    assert sorted(changed) == sorted(f"{layer}.weight" for layer in LAYERS)
    loaded = open_thief(only_theft(tmp_path).thief)
    assert isinstance(loaded, Classifier) and not loaded.adapted
    idle = find_without_effect(composed("thief.recipe.lora.rank=4"))
    assert "thief.recipe.lora" in {found.key for found in idle}, "of a probe"
    ranks = [identity(composed(*words, f"thief.recipe.lora.rank={rank}"))["thief"]["recipe"] for rank in (4, 8)]
    assert ranks[0]["lora"]["rank"] == 4 and "rank" not in ranks[1]["lora"], "8 is the default"
