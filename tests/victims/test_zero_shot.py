"""CLIP as a classifier of class names: against open_clip's own, through the command, and what has no name."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fmsteal.base.errors import ConfigError, DataError
from fmsteal.data.class_names import spell_classes
from fmsteal.data.digits import digits
from fmsteal.data.images import Images, Task
from fmsteal.evaluation.base import Pair
from fmsteal.evaluation.similarity import Similarity
from fmsteal.job.parts import Parts
from fmsteal.networks.clip import ClipSpec
from tests.support.commands import Run
from tests.support.composing import composed
from tests.support.outputs import only_run
from tests.support.small_clip import MEAN, STD, small_clip
from tests.support.small_task import TASK, context, part

open_clip = pytest.importorskip("open_clip")
NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
NAMES = f"victim.names=[{','.join(NUMBERS)}]"
ANIMALS = Task(
    *(Images(s.pixels, s.digest, s.labels, ["cat", "polar_bear", "001.dog"]) for s in (TASK.train, TASK.test))
)


def maker(folder: Path, *overrides: str) -> Any:
    clip = small_clip(folder / "clip") if not (folder / "clip").exists() else saved(folder / "clip")
    return part("victim", "victim=clip_zero_shot", *(f"victim.clip.{word}" for word in clip), *overrides)


def saved(folder: Path) -> list[str]:
    return [f"model={folder}/open_clip_config.json", f"weights={folder}/open_clip_model.safetensors"]


def test_its_answers_are_open_clips_zero_shot_classifier(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ctx, ids = context(tmp_path), np.arange(20)
    small_clip(tmp_path / "clip")
    caplog.clear()
    with caplog.at_level(logging.INFO):
        victim = maker(tmp_path, "victim.template=['a {}.','the {}, small']").prepare(ANIMALS, ctx)
    assert not caplog.records, "open_clip's own messages stay out of the log"
    folder = f"local-dir:{tmp_path / 'clip'}"
    model, tokenizer = open_clip.create_model(folder).eval(), open_clip.get_tokenizer(folder)
    head = open_clip.build_zero_shot_classifier(
        model, tokenizer, ["cat", "polar bear", "dog"], ["a {}.", "the {}, small"]
    )
    shown = torch.nn.functional.interpolate(
        torch.from_numpy(ANIMALS.test.pixels[ids]).float() / 255, (16, 16), mode="bilinear", antialias=True
    )
    shown = (shown - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)
    with torch.no_grad():
        due = model.logit_scale.exp() * model.encode_image(shown, normalize=True) @ head
    raw = victim.raw(ANIMALS.test, ids, ctx)
    torch.testing.assert_close(raw, due, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(victim.answer(raw), due.softmax(1), rtol=1e-4, atol=1e-5)
    assert victim.width == 3 and victim.answers == "probabilities"
    assert maker(tmp_path).prepare(ANIMALS, ctx).key != victim.key, "another template"
    thief = part("thief")
    pair = Pair(victim, thief.build(3), (maker(tmp_path), thief), ANIMALS, ctx, (raw, raw))
    assert Similarity().run(pair, ctx).values["test/victim_entropy"] > 0


def test_classes_are_spelt_by_their_names_or_by_those_given(tmp_path: Path) -> None:
    assert spell_classes(["001.ak47", "polar_bear", "3 - three"], None, "o") == ["ak47", "polar bear", "three"]
    assert spell_classes(["a", "b"], {"b": "x", "a": "y", "c": "z"}, "o") == ["y", "x"]
    file = tmp_path / "words.txt"
    file.write_text("n01440764\ttench, Tinca tinca\nn01443537,goldfish,Carassius\nn02085620 Chihuahua dog\n")
    assert spell_classes(["n01443537", "n01440764", "n02085620"], str(file), "o") == [
        "goldfish",
        "tench",
        "Chihuahua dog",
    ]


@pytest.mark.parametrize(
    ("classes", "names", "match"),
    [
        (["0", "1"], None, r"class '0' has no name that says what it is \(2 of 2 .*victim\.names=\[zero,one"),
        (["cat", "n02085620"], None, "class 'n02085620' has no name"),
        (["cat", "dog"], {"cat": "a cat"}, r"victim\.names has no text for the class 'dog' \(1 of 2 are missing"),
        (["cat", "dog"], ["a cat"], "has 1 texts, but there are 2 classes"),
        (["a_b", "a b"], None, r"a_b, a b are all 'a b' to a text tower"),
    ],
)
def test_a_class_without_a_text_is_refused_by_name(classes: list[str], names: Any, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        spell_classes(classes, names, "victim.names")


def test_towers_that_cannot_be_had_are_told_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of(*words: str) -> None:
        Parts.of(composed("victim=clip_zero_shot", *words))

    with pytest.raises(ConfigError, match="open_clip has no model 'ViT-Z'"):
        of("victim.clip.model=ViT-Z")
    with pytest.raises(DataError, match=r"weights=mine is no file, and no tag of open_clip's for ViT-B-32"):
        of("victim.clip.weights=mine")
    with pytest.raises(DataError, match=r"There is no file .*/no/open_clip_config\.json"):
        of("victim.clip.model=/no/open_clip_config.json", "victim.clip.weights=/no/w.pt")
    with pytest.raises(ConfigError, match=r"has weights of its own: clip\.weights=null"):
        of("victim.clip.model=hf-hub:a/b")
    with pytest.raises(ConfigError, match=r"victim\.template=a photo must have one \{\}"):
        of("victim.template=a photo")
    words = small_clip(tmp_path / "clip")
    other = tmp_path / "other.safetensors"
    other.write_bytes(Path(words[1].partition("=")[2]).read_bytes()[:1000])
    with pytest.raises(DataError, match=r"could not be loaded.*file with the weights of that very model"):
        ClipSpec(words[0].partition("=")[2], str(other)).load()
    monkeypatch.setattr("fmsteal.networks.clip.importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'fmsteal\[clip\]'"):
        of()


def test_towers_count_by_the_content_of_their_files(tmp_path: Path) -> None:
    one, other = small_clip(tmp_path / "a", seed=0), small_clip(tmp_path / "b", seed=1)
    specs = [ClipSpec(*(word.partition("=")[2] for word in words)) for words in (one, other)]
    assert specs[0].identity()["model"] == specs[1].identity()["model"]
    assert specs[0].identity()["weights"] != specs[1].identity()["weights"]


def test_a_task_of_numbers_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"class '0' has no name that says what it is .*victim\.names=\[zero"):
        maker(tmp_path).prepare(digits(), context(tmp_path))


@pytest.mark.slow
def test_a_job_steals_a_zero_shot_victim(fmsteal: Run, tmp_path: Path) -> None:
    texts = [f"a photo of a {name}." for name in NUMBERS]
    clip = small_clip(tmp_path / "clip", digits().train, texts)
    words = ["tracker=none", "trainer=cpu", "victim=clip_zero_shot", *(f"victim.clip.{word}" for word in clip)]
    words += ["budget=100", "query.count=300", "thief=resnet10t", "thief.backbone.model=test_resnet"]
    words += ["recipes.scratch.epochs=1", "recipes.scratch.min_steps=0"]
    fmsteal(*words, NAMES)
    result = json.loads((only_run(tmp_path) / "result.json").read_text())
    assert result["axis"]["victim"] == "clip_zero_shot" and result["axis"]["victim_adaptation"] == "zero_shot"
    assert result["metrics"]["test/victim_accuracy"] > 0.2 and result["cost"]["cost/queries"] == 100
