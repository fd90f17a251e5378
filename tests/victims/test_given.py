"""Models that somebody else has trained, behind the API: they answer as they do by themselves; known by content."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor

from fmsteal.base.errors import ConfigError, DataError, FmstealError, VictimError
from fmsteal.identity.keys import identity
from fmsteal.networks.given import load
from fmsteal.victims.content import know
from tests.support import given_models
from tests.support.commands import Run
from tests.support.composing import composed
from tests.support.given_models import READY, Net
from tests.support.outputs import only_run
from tests.support.small_task import TASK, context, part

MODELS = "tests.support.given_models"
IDS = np.arange(20)
SHOWN = torch.from_numpy(TASK.test.pixels[IDS]).float() / 255


def make(model: str, *overrides: str, choice: str = "custom") -> Any:
    maker = part("victim", f"victim={choice}", f"victim.model='{model}'", *(f"victim.{word}" for word in overrides))
    maker.require_makeable()
    return maker


def ask(folder: Path, model: str, *overrides: str, choice: str = "custom") -> Tensor:
    ctx = context(folder)
    victim = make(model, *overrides, choice=choice).prepare(TASK, ctx)
    return victim.answer(victim.raw(TASK.test, IDS, ctx))


def resized(size: int) -> Tensor:
    return torch.nn.functional.interpolate(SHOWN, (size, size), mode="bilinear", antialias=True)


@pytest.mark.parametrize(
    "words", [("READY",), ("make", "options={classes: 3, seed: 1}"), ("Net", "options={seed: 1}"), ("answer",)]
)
def test_a_name_is_a_model_what_makes_one_or_what_answers(words: tuple[str, ...], tmp_path: Path) -> None:
    name, *options = words
    torch.testing.assert_close(ask(tmp_path, f"{MODELS}:{name}", *options), READY(SHOWN).softmax(1).detach())


def test_images_are_resized_and_normalised_as_the_config_says(tmp_path: Path) -> None:
    words = ("size=8", "normalise={mean: [0.5, 0.4, 0.3], std: [0.2, 0.3, 0.4]}")
    mean, std = (torch.tensor(three).view(1, 3, 1, 1) for three in ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4)))
    due = READY((resized(8) - mean) / std).softmax(1).detach()
    torch.testing.assert_close(ask(tmp_path, f"{MODELS}:READY", *words), due)


def test_a_network_may_see_the_pixels_as_they_are_stored(tmp_path: Path) -> None:
    seen: list[Tensor] = []
    hook = READY.register_forward_pre_hook(lambda _, images: (seen.append(images[0]), (images[0].float() / 255,))[1])
    try:
        answers = ask(tmp_path, f"{MODELS}:READY", "normalise=raw")
    finally:
        hook.remove()
    assert {images.dtype for images in seen} == {torch.uint8}
    torch.testing.assert_close(answers, READY(SHOWN).softmax(1).detach())


def write_torchscript(file: Path) -> None:
    torch.jit.save(torch.jit.trace(READY, SHOWN[:2]), str(file))


def write_exported(file: Path) -> None:
    batch = torch.export.Dim("batch")
    torch.export.save(torch.export.export(READY, (SHOWN[:2],), dynamic_shapes=({0: batch},)), file)


def write_onnx(file: Path) -> None:
    pytest.importorskip("onnxruntime")
    torch.onnx.export(
        READY, (SHOWN[:2],), file, dynamo=True, dynamic_shapes=({0: torch.export.Dim("n")},), verbose=False
    )


def write_onnx_of_four(file: Path) -> None:
    pytest.importorskip("onnxruntime")
    torch.onnx.export(READY, (SHOWN[:4],), file, dynamo=True, verbose=False)


@pytest.mark.parametrize(
    ("suffix", "write"),
    [(".pt", write_torchscript), (".pt2", write_exported), (".onnx", write_onnx), (".onnx", write_onnx_of_four)],
)
def test_a_file_holds_the_model(suffix: str, write: Callable[[Path], None], tmp_path: Path) -> None:
    file = tmp_path / f"model{suffix}"
    write(file)
    words = ("outputs=logits",) if suffix == ".onnx" else ()
    torch.testing.assert_close(ask(tmp_path, str(file), *words), READY(SHOWN).softmax(1).detach())


def test_a_scikit_learn_classifier_sees_rows(tmp_path: Path) -> None:
    fitted = given_models.fit()
    joblib.dump(fitted, tmp_path / "fitted.joblib")
    due = fitted.predict_proba(resized(8).flatten(1).numpy())
    answers = ask(tmp_path, "joblib:load", f"options={{filename: {tmp_path}/fitted.joblib}}", "size=8")
    np.testing.assert_allclose(answers, due, atol=1e-5)


def test_torchvision_and_hugging_face_models_by_name(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.squeezenet1_1(num_classes=3).eval()
    torch.manual_seed(0)
    answers = ask(tmp_path / "a", "torchvision.models:squeezenet1_1", "options={num_classes: 3}", "normalise=imagenet")
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    torch.testing.assert_close(answers, theirs((SHOWN - mean) / std).softmax(1).detach(), atol=1e-4, rtol=1e-3)
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=16, patch_size=8,
        num_labels=3,
    )  # fmt: skip
    vit = transformers.ViTForImageClassification(config).eval()
    vit.save_pretrained(tmp_path / "vit")
    folder = f"options={{pretrained_model_name_or_path: {tmp_path}/vit}}"
    names = "transformers:AutoModelForImageClassification.from_pretrained", folder, "size=16"
    due = vit(resized(16)).logits.detach()
    torch.testing.assert_close(ask(tmp_path / "b", *names), due.softmax(1), atol=1e-4, rtol=1e-3)
    encoder = "transformers:AutoModel.from_pretrained", folder, "size=16"
    assert ask(tmp_path / "c", *encoder, choice="custom_encoder").shape == (20, 16)


def test_an_encoders_outputs_are_its_embeddings(tmp_path: Path) -> None:
    answers = ask(tmp_path, f"{MODELS}:embed", choice="custom_encoder")
    np.testing.assert_allclose(answers, given_models.embed(TASK.test.pixels[IDS]), rtol=1e-5)


def test_a_black_box_is_known_by_its_answers_and_a_network_by_its_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def key(name: str, *words: str) -> str:
        load.__globals__["_load"].cache_clear()
        ctx = context(tmp_path)
        return know(make(f"{MODELS}:{name}", *words).prepare(TASK, ctx), True, TASK, ctx).key

    before = {name: key(name) for name in ("READY", "answer")}
    assert before == {name: key(name) for name in before}
    monkeypatch.setattr(given_models, "READY", Net(seed=5))
    after = {name: key(name) for name in before}
    assert all(after[name] != before[name] for name in before)
    assert key("answer", "deterministic=false").endswith("-changing")


def test_edited_code_and_other_files_are_other_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "theirs_given.py").write_text("def answer(images): return images\n")
    (tmp_path / "m.onnx").write_bytes(b"1")

    def keys() -> list[str]:
        from fmsteal.identity import foreign

        foreign.describe.cache_clear()
        models = "theirs_given:answer", f"{tmp_path}/m.onnx"
        return [json.dumps(identity(composed("victim=custom", f"victim.model='{m}'"))["victim"]) for m in models]

    before = keys()
    assert keys() == before
    (tmp_path / "theirs_given.py").write_text("def answer(images): return -images\n")
    (tmp_path / "m.onnx").write_bytes(b"2")
    assert [a != b for a, b in zip(before, keys(), strict=True)] == [True, True]


def test_gradients_are_those_of_a_torch_model_alone() -> None:
    assert make(f"{MODELS}:READY").gradients and not make(f"{MODELS}:answer").gradients


@pytest.mark.parametrize(
    ("words", "error", "match"),
    [
        (("nowhere:model",), ConfigError, "nowhere cannot be imported"),
        ((f"{MODELS}:Nothing",), ConfigError, "has no Nothing"),
        (("resnet18",), ConfigError, r"resnet18 names no model\. Give pkg\.module:name"),
        (("/no/such/model.onnx",), DataError, r"no file /no/such/model\.onnx"),
        ((f"{MODELS}:make", "options={klasses: 3}"), ConfigError, "cannot be called with its options"),
        ((f"{MODELS}:READY", "options={a: 1}"), ConfigError, "is a model already"),
        ((f"{MODELS}:READY", "normalise=timm"), ConfigError, "normalise=timm is not one of imagenet"),
        ((f"{MODELS}:READY", "normalise=raw", "size=8"), ConfigError, r"leave out victim\.size"),
        ((f"{MODELS}:make", "options={classes: 4}"), VictimError, "has 4 classes, the data set 3"),
        ((f"{MODELS}:break_off",), VictimError, "failed on an image .*the service is down"),
        ((f"{MODELS}:embed",), DataError, "rows that are not probabilities"),
        ((f"{MODELS}:CLASSES",), ConfigError, "int, which cannot be called"),
        ((f"{MODELS}:fit", "options={labels: [1, 2, 3]}", "size=8"), ConfigError, r"\[1, 2, 3\].*fit it to those"),
    ],
)
def test_what_does_not_work_is_said(
    words: tuple[str, ...], error: type[FmstealError], match: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=match):
        ask(tmp_path, *words)


def test_weights_alone_are_not_a_model(tmp_path: Path) -> None:
    torch.save(READY.state_dict(), tmp_path / "weights.pt")
    with pytest.raises(DataError, match=r"(?s)could not be loaded as TorchScript.*Weights alone are not a model"):
        ask(tmp_path, f"{tmp_path}/weights.pt")


@pytest.mark.slow
def test_a_job_steals_somebody_elses_function(fmsteal: Run, tmp_path: Path) -> None:
    (tmp_path / "theirs.py").write_text(
        "import numpy as np\n"
        "def answer(images):\n"
        "    rows = images[:, 0].reshape(len(images), 8, -1, 8, images.shape[-1] // 8).mean((2, 4))\n"
        "    rows = rows.reshape(len(images), -1)\n"
        "    scores = rows @ np.random.default_rng(0).normal(size=(64, 10)) / 20\n"
        "    scores = np.exp(scores - scores.max(1, keepdims=True))\n"
        "    return scores / scores.sum(1, keepdims=True)\n"
    )
    done = fmsteal(
        "victim=custom",
        "victim.model=theirs:answer",
        "budget.queries=200",
        "tracker=none",
        "trainer=cpu",
        "query.count=300",
    )
    assert done.returncode == 0
    result = json.loads((only_run(tmp_path) / "result.json").read_text())
    assert result["cost"]["cost/queries"] == 200 and result["metrics"]["test/agreement"] > 0.5
