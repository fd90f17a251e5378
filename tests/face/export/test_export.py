"""A stolen model, exported: loaded as others load it, it answers alike; what a format cannot hold is named."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from timm.data import create_transform, resolve_model_data_config
from torch import Tensor, nn
from torchvision.transforms.functional import to_pil_image

import fmsteal
from fmsteal.base.errors import ExportError
from fmsteal.face.export import FORMATS, command, export, onnx_file, timm_folder, torch_program
from fmsteal.face.export.served import Served
from fmsteal.job.stolen import Program, open_thief
from fmsteal.networks.backbones import BackboneSpec
from fmsteal.training.classifier import Classifier
from fmsteal.training.encoder import Encoder
from tests.support.commands import environment
from tests.support.composing import SMALL
from tests.support.foreign_thieves import Own
from tests.support.warm import Command

CLASSES, CLOSE = 7, 1e-4
(SEALED,) = (Path(__file__).parents[2] / "support" / "sealed").iterdir()
Answer = Callable[[Tensor], Tensor]


def by_timm(folder: Path) -> Answer:
    """As timm's own documentation has it: normalised images."""
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    how = resolve_model_data_config(model)
    mean, std = (torch.tensor(how[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    return lambda images: model((images - mean) / std)  # type: ignore[no-any-return]


def by_torch(file: Path) -> Answer:
    return torch.export.load(file).module()


def by_onnx(file: Path) -> Answer:
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (name,) = [given.name for given in session.get_inputs()]
    return lambda images: torch.from_numpy(session.run(None, {name: images.numpy()})[0])


READERS: dict[str, tuple[str, Callable[[Path], Answer]]] = {
    "timm": ("thief", by_timm),
    "torch.export": ("thief.pt2", by_torch),
    "onnx": ("thief.onnx", by_onnx),
}


def served(net: Classifier | Encoder, spec: BackboneSpec, output: str = "logits") -> Served:
    size = net.backbone.size
    net = net.eval().requires_grad_(False)
    return Served("job", net, (size, size), net.width, output, {"backbone": vars(spec)})


def classifier(seed: int = 0, **options: Any) -> Served:
    """An untrained classifier whose BatchNorms have seen something."""
    torch.manual_seed(seed)
    spec = BackboneSpec(**options)
    net = Classifier(spec.build(pretrained=False), CLASSES)
    net.train()(torch.rand(8, 3, net.backbone.size, net.backbone.size))
    return served(net, spec)


@torch.no_grad()
def require_same(one: Served, answer: Answer) -> None:
    for count in (1, 2, 5):
        images = torch.rand(count, 3, *one.size)
        due, found = one.net(images), answer(images)
        assert found.shape == due.shape == (count, one.width)
        torch.testing.assert_close(found, due, rtol=0, atol=CLOSE)


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> fmsteal.Job:
    root = tmp_path_factory.mktemp("export")
    linear = ("victim._target_=tests.support.foreign_victims.Linear", "overlap=allow")
    return fmsteal.run([*SMALL, *linear, f"output={root}/outputs", "recipes.scratch.epochs=3"])


@pytest.mark.parametrize("to", FORMATS)
@torch.no_grad()
def test_a_jobs_thief_is_loaded_by_others_and_answers_alike(job: fmsteal.Job, to: str, tmp_path: Path) -> None:
    name, read = READERS[to]
    made = job.export(to, tmp_path / name)
    answer = read(made)
    for count in (1, 2, 5):
        images = torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(count))
        torch.testing.assert_close(answer(images), job.thief(images), rtol=0, atol=CLOSE)
    assert [p.name for p in tmp_path.iterdir()] == [name]
    with pytest.raises(ExportError, match="is there already"):
        job.export(to, tmp_path / name)


@pytest.mark.slow
def test_files_say_what_goes_in_and_what_comes_out(tmp_path: Path) -> None:
    import onnx

    one = classifier(model="test_resnet", size=32)
    torch_program.write(one, tmp_path / "a.pt2")
    files = {torch_program.ABOUT: ""}
    torch.export.load(tmp_path / "a.pt2", extra_files=files)
    onnx_file.write(one, tmp_path / "a.onnx")
    timm_folder.write(one, tmp_path / "a")
    held = {item.key: item.value for item in onnx.load(tmp_path / "a.onnx").metadata_props}
    assert json.loads(files[torch_program.ABOUT]) == held == one.describe()
    assert (
        held["input"] == "images: float32 (n, 3, 32, 32) in [0, 1], RGB" and held["output"] == "logits: float32 (n, 7)"
    )
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    assert config["pretrained_cfg"]["mean"] == [0.5] * 3 and config["pretrained_cfg"]["input_size"] == [3, 32, 32]
    assert "normalised" in config["fmsteal"]["input"]


@torch.no_grad()
def test_timms_own_transform_prepares_images_for_it(tmp_path: Path) -> None:
    one = classifier(model="test_resnet", size=32, normalise="cifar10")
    timm_folder.write(one, tmp_path / "a")
    model = timm.create_model(f"local-dir:{tmp_path / 'a'}", pretrained=True).eval()
    transform = create_transform(**resolve_model_data_config(model))
    image = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8)
    torch.testing.assert_close(model(transform(to_pil_image(image))[None]), one.net(image[None]), rtol=0, atol=CLOSE)
    other = timm.create_model(f"local-dir:{tmp_path / 'a'}", pretrained=True, num_classes=3)  # to go on from it
    assert other(torch.rand(2, 3, 32, 32)).shape == (2, 3)


ARCHITECTURES = [
    {"model": "test_vit", "size": 96},
    {"model": "test_efficientnet"},
    {"model": "test_convnext", "size": 64, "normalise": "imagenet"},
    {"model": "test_nfnet", "size": 64},
    {"model": "resnet10t", "size": 32, "options": {"channels": [8, 16, 24, 32]}},
    {"model": "densenet121", "size": 32, "normalise": "none"},
    {"model": "test_byobnet", "size": 64},
]
SMALL_STEM: dict[str, Any] = {
    "model": "resnet18",
    "size": 32,
    "stem": "small",
    "options": {"channels": [8, 16, 24, 32]},
}


@pytest.mark.parametrize(
    "options",
    [*ARCHITECTURES[:2], *(pytest.param(options, marks=pytest.mark.slow) for options in ARCHITECTURES[2:])],
    ids=lambda options: options["model"],
)
def test_timm_holds_its_own_architectures_at_any_size(options: dict[str, Any], tmp_path: Path) -> None:
    one = classifier(**options)
    timm_folder.write(one, tmp_path / "a")
    require_same(one, by_timm(tmp_path / "a"))


@pytest.mark.slow
@pytest.mark.parametrize("options", [ARCHITECTURES[0], SMALL_STEM], ids=["vit", "stem"])
@pytest.mark.parametrize("to", ["torch.export", "onnx"])
def test_the_others_hold_any(options: dict[str, Any], to: str, tmp_path: Path) -> None:
    one = classifier(**options)
    name, read = READERS[to]
    (torch_program if to == "torch.export" else onnx_file).write(one, tmp_path / name)
    require_same(one, read(tmp_path / name))


@pytest.mark.slow
def test_a_real_probe_of_a_pretrained_trunk(tmp_path: Path) -> None:
    """The default job's thief, as an earlier version has sealed it."""
    known = json.loads((SEALED / "theft.json").read_text())["thief"]
    net = open_thief(SEALED / "thief.safetensors")
    assert isinstance(net, Classifier)
    one = served(net, BackboneSpec(**known["backbone"]))
    for to, module in (("timm", timm_folder), ("torch.export", torch_program), ("onnx", onnx_file)):
        name, read = READERS[to]
        module.write(one, tmp_path / name)
        require_same(one, read(tmp_path / name))


def encoder(width: int, match: Any) -> Served:
    spec = BackboneSpec("test_resnet", size=32)
    return served(Encoder(spec.build(pretrained=False), width, match), spec, "embeddings")


def features() -> int:
    return BackboneSpec("test_resnet", size=32).build(pretrained=False).num_features


def mlp() -> Served:
    one = classifier(model="test_resnet", size=32)
    assert isinstance(one.net, Classifier)
    one.net.head = nn.Sequential(nn.Linear(features(), 5), nn.ReLU(), nn.Linear(5, CLASSES))  # type: ignore[assignment]
    return one


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: classifier(**SMALL_STEM), "no stem of this kind .backbone.stem=small"),
        (mlp, r"a linear head, this thief's is a Sequential\(Linear, ReLU, Linear\)"),
        (lambda: encoder(13, "linear"), "this encoder has a linear map behind its features"),
        (lambda: encoder(2 * features(), "pool"), r"this encoder pools its last map to \(2, 1\)"),
        (
            lambda: classifier(model="deit_tiny_distilled_patch16_224", size=32),
            "another head than one linear .*head_dist",
        ),
    ],
    ids=["stem", "mlp", "encoder head", "pooled", "distilled"],
)
def test_what_timm_cannot_hold_is_named_and_nothing_is_left(
    make: Callable[[], Served], says: str, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=f"{says}.*torch.export and onnx hold it"):
        timm_folder.write(make(), tmp_path / "a")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_encoders_are_held_where_they_can_be(tmp_path: Path) -> None:
    plain = encoder(features(), "linear")
    timm_folder.write(plain, tmp_path / "plain")
    require_same(plain, by_timm(tmp_path / "plain"))
    pooled = encoder(2 * features(), "pool")
    torch_program.write(pooled, tmp_path / "pooled.pt2")
    require_same(pooled, by_torch(tmp_path / "pooled.pt2"))
    mapped = encoder(13, "linear")
    onnx_file.write(mapped, tmp_path / "mapped.onnx")
    require_same(mapped, by_onnx(tmp_path / "mapped.onnx"))
    import onnx

    (out,) = onnx.load(tmp_path / "mapped.onnx").graph.output
    assert out.name == "embeddings"


@pytest.mark.slow
def test_a_thief_of_its_attacks_own_make(tmp_path: Path) -> None:
    """As torch.export keeps it when its theft is sealed."""
    images = torch.rand(4, 3, 16, 20)
    own = Own(torch.randn(48, CLASSES))
    program = torch.export.export(own, (images,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))
    torch.export.save(program, tmp_path / "sealed.pt2")
    net = Program(tmp_path / "sealed.pt2")
    assert net.size == (16, 20)
    one = Served("job", net, net.size, CLASSES, "logits", {})
    torch_program.write(one, tmp_path / "a.pt2")
    onnx_file.write(one, tmp_path / "a.onnx")
    require_same(one, by_torch(tmp_path / "a.pt2"))
    require_same(one, by_onnx(tmp_path / "a.onnx"))
    with pytest.raises(ExportError, match="a program of its attack's"):
        timm_folder.write(one, tmp_path / "a")


class Fickle(nn.Module):
    """Answers otherwise each time."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.rand_like(images).flatten(1)[:, :CLASSES]


class Untraceable(nn.Module):
    """Depends on what it sees in a way that no graph can."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.tensor(images.numpy().tolist()).flatten(1)[:, :CLASSES]


@pytest.mark.parametrize("to", ["torch.export", pytest.param("onnx", marks=pytest.mark.slow)])
def test_what_is_written_is_compared_and_only_kept_if_it_answers_alike(to: str, tmp_path: Path) -> None:
    name, _ = READERS[to]
    module = torch_program if to == "torch.export" else onnx_file
    for net, says in ((Fickle(), "answers otherwise, by"), (Untraceable(), "torch.export cannot hold this thief")):
        with pytest.raises(ExportError, match=says):
            module.write(Served("job", net.eval(), (8, 8), CLASSES, "logits", {}), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_mistakes_are_named(job: fmsteal.Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ExportError, match=r"no format 'tensorflow'. There are: timm, torch.export, onnx"):
        job.export("tensorflow", tmp_path / "a")
    with pytest.raises(ExportError, match=r"end its name with \.onnx"):
        job.export("onnx", tmp_path / "a.pt2")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ExportError, match=r"onnxruntime is not installed: pip install 'fmsteal\[export\]'"):
        export(job, "onnx", tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


def test_the_command(job: fmsteal.Job, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command.main(["export", str(job.folder), "--to", "timm", str(tmp_path / "deep" / "thief")])
    assert "thief is written and answers like the thief" in capsys.readouterr().out
    images = torch.rand(2, 3, 32, 32)
    np.testing.assert_allclose(
        by_timm(tmp_path / "deep" / "thief")(images).detach(), job.thief(images).detach(), rtol=0, atol=CLOSE
    )
    done = Command(("export", str(tmp_path), "--to", "onnx", "x.onnx"), tmp_path, environment()).done()
    assert done.returncode == 1 and "is no job's folder" in done.stderr and "Traceback" not in done.stderr
