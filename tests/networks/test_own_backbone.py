"""A thief of any network: trained, kept and opened again like timm's; what cannot be trained is refused by name."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from fmsteal.attacks.base import AttackContext
from fmsteal.base.errors import ConfigError, DataError, FmstealError
from fmsteal.config import build
from fmsteal.data.images import Images
from fmsteal.identity.keys import identity
from fmsteal.job.pipeline import run
from fmsteal.job.publish import JobInfo
from fmsteal.job.stolen import open_thief
from fmsteal.networks.own_backbone import OwnBackbone
from fmsteal.records.folders import JobFolder, TheftFolder, find_theft
from fmsteal.victims.given import GivenEncoder
from tests.support import own_networks
from tests.support.an_api import in_front_of
from tests.support.composing import TINY, composed
from tests.support.own_networks import READY
from tests.support.small_task import TASK, context

SMALL = (
    "task=embed", "attack=direct", "attack.recipe.epochs=2", "attack.recipe.batch_size=8", "thief=encoder_resnet10",
    "backbone@thief.backbone=resnet10t", "thief.backbone.size=32", f"thief.{TINY}",
)  # fmt: skip
POOL = Images(np.random.default_rng(1).integers(0, 256, (40, 3, 16, 16), dtype=np.uint8), "pool")
NETS = "tests.support.own_networks"
IMAGES = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def spec(name: str, **options: Any) -> OwnBackbone:
    return OwnBackbone(f"{NETS}:{name}", **{"size": 32, **options})


def learner(*words: str, choice: str = "custom") -> Any:
    task = ("task=embed",) if choice == "encoder_custom" else ()
    maker = build.make(composed(*task, f"thief={choice}", *(f"thief.{word}" for word in words)).thief)
    maker.require_makeable()
    return maker


def words(name: str, *more: str) -> tuple[str, ...]:
    return (f"backbone.model={NETS}:{name}", "backbone.size=32", *more)


def test_a_network_of_ones_own_is_a_thief_from_config_to_file(tmp_path: Path) -> None:
    cfg = composed(
        "tracker=none", "trainer=cpu", "victim=resnet10t", f"victim.{TINY}", "victim.recipe.epochs=1",
        "victim.recipe.min_steps=0", "thief=custom", *(f"thief.{word}" for word in words("make", "backbone.head=last")),
        "thief.recipe.epochs=2", "thief.recipe.min_steps=0", "query.count=300", "overlap=allow", "budget.queries=60",
        f"output={tmp_path}",
    )  # fmt: skip
    cfg = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    result = run(cfg, JobInfo("small-0123456789abcdef", tmp_path / "runs" / "job", {}, "fmsteal ...", "victim"))
    assert result["metrics"]["test/agreement"] > 0 and result["cost"]["cost/queries"] == 60
    job = JobFolder(tmp_path / "runs" / "job")
    theft, kept = find_theft(job), np.load(job.predictions)
    assert theft is not None
    thief = open_thief(TheftFolder(theft.path.resolve()).thief)
    assert isinstance(thief.backbone.trunk.net, own_networks.Small)  # type: ignore[union-attr]
    assert isinstance(thief.head, nn.Linear) and thief.head.in_features == 256
    task = build.make(cfg.data)
    with torch.no_grad():
        again = thief(torch.from_numpy(np.array(task.test.pixels[:50])))
    np.testing.assert_allclose(again, kept["thief_logits"][:50], rtol=0, atol=1e-4)


def test_a_stolen_encoder_may_be_a_network_of_ones_own(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    victim = GivenEncoder("tests.support.given_models:embed").prepare(TASK, ctx)
    victim.calls.purpose = "attack"
    attack = build.make(composed(*SMALL).attack)
    thief = attack.run(
        in_front_of(victim, POOL, ctx, 30), POOL,
        AttackContext(learner(*words("make", "backbone.head=last"), choice="encoder_custom"), ctx, labelled=POOL),
    )  # fmt: skip
    with torch.no_grad():
        assert thief(IMAGES).shape == (4, victim.width)


def test_it_begins_as_the_seed_says_or_with_the_weights_that_the_code_gives() -> None:
    first, same, other = (learner(*words("make", f"seed={seed}")).build(5).backbone.trunk.net for seed in (0, 0, 1))
    assert torch.equal(first.conv1.weight, same.conv1.weight) and not torch.equal(
        first.conv1.weight, other.conv1.weight
    )
    for name in ("READY", "make_trained"):
        maker = learner(*words(name, "backbone.weights=own", "adaptation=full", "backbone.normalise=half"))
        net = maker.build(5)
        with torch.no_grad():
            torch.testing.assert_close(net.backbone.eval()(IMAGES), READY(IMAGES * 2 - 1), rtol=1e-5, atol=1e-5)
            net.backbone.trunk.net.conv1.weight.zero_()
        assert READY.conv1.weight.abs().sum() > 0, "the module itself is not trained"
    probe = learner(*words("READY", "backbone.weights=own", "adaptation=probe", "backbone.head=last")).build(5)
    assert [p.shape for p in probe.trained.parameters()] == [(5, 256), (5,)]


def test_it_counts_by_its_code_and_its_weights(tmp_path: Path) -> None:
    def key(*more: str) -> Any:
        return identity(composed("thief=custom", *(f"thief.{word}" for word in words("make", *more))))["thief"]

    assert key() == key() and len({str(key(*more)) for more in [(), ("backbone.head=last",), ("seed=3",)]}) == 3
    assert "source" in str(key()) and key("recipe.epochs=7") != key()
    own = [spec("make_trained", weights="own", options={"seed": seed}).identity(pretrained=True) for seed in (5, 5, 6)]
    assert own[0] == own[1] and own[0]["weights"] != own[2]["weights"]
    torch.save(READY.state_dict(), file := tmp_path / "a.pth")
    shutil.copy(file, tmp_path / "b.pth")
    one, same = (spec("make", weights=str(tmp_path / name)).identity(pretrained=True) for name in ("a.pth", "b.pth"))
    assert one == same
    loaded = spec("make", weights=str(file)).build(pretrained=True).eval()
    with torch.no_grad():
        torch.testing.assert_close(loaded(IMAGES), READY(IMAGES), rtol=1e-5, atol=1e-5)


def test_a_network_of_torchvision_by_name_without_its_head(tmp_path: Path) -> None:
    """As lightly-train exports it: the state of torchvision's own model."""
    torch.manual_seed(3)
    theirs = own_networks.small_convnext().eval()
    torch.save(theirs.state_dict(), file := tmp_path / "exported_last.pt")
    backbone = spec("small_convnext", weights=str(file), head="classifier.2").build(pretrained=True).eval()
    theirs.classifier[2] = nn.Identity()
    with torch.no_grad():
        torch.testing.assert_close(backbone(IMAGES), theirs(IMAGES), rtol=1e-5, atol=1e-5)
    assert backbone.num_features == 16
    state = {key: value for key, value in theirs.state_dict().items() if "features.2" not in key}
    torch.save(state, file)
    with pytest.raises(
        DataError, match=r"exported_last\.pt does not fit .*small_convnext: 4 tensors are missing \(features\.2"
    ):
        spec("small_convnext", weights=str(file), head="classifier.2").build(pretrained=True)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        (words("NoWeights"), r"own_networks:NoWeights cannot be trained: its features depend on no weights"),
        (words("Detached"), r"own_networks:Detached cannot be trained"),
        (words("needs_more"), r"needs_more is a function, which cannot be trained\. A thief needs"),
        (words("script"), r"script is a program of TorchScript, which cannot be trained"),
        (words("READY"), r"READY is a module that was made already, which no seed initialises.*weights=own"),
        (words("Maps"), r"Maps gives an output of shape \(2, 8, 16, 16\) for 2 images, not a row for each"),
        (words("make", "backbone.options={colours: 3}"), r"make cannot be called with its options.*colours"),
        (words("make", "backbone.head=fc"), r"backbone\.head=fc: .* has no such layer\. Its last are .*last"),
        (words("nothing"), r"tests\.support\.own_networks has no nothing"),
        (
            words("make", "backbone.weights=own", "adaptation=full"),
            r"other weights each time: they are not trained",
        ),
        (words("make", "adaptation=full"), r"has no weights to begin with: backbone\.weights=own"),
        (words("make", "backbone.weights=hub"), r"is no model of timm: backbone\.stem=own, and backbone\.weights=own"),
        (words("make", "backbone.normalise=timm"), r"normalise=timm is not one of"),
        (
            ("backbone.model=/models/net.onnx", "backbone.size=32"),
            r"ONNX cannot be trained\. A thief needs",
        ),
        ((f"backbone.model={NETS}:make", "backbone.size=0"), r"backbone\.size=0: say at what size"),
        (
            ("backbone.model=sklearn.linear_model:LogisticRegression", "backbone.size=8"),
            r"is a LogisticRegression",
        ),
    ],
    ids=str,
)
def test_what_cannot_be_trained_is_refused_by_name(given: tuple[str, ...], match: str) -> None:
    with pytest.raises(FmstealError, match=match):
        learner(*given)


def test_size_and_model_have_to_be_given() -> None:
    for lacking, key in ((("size=32",), "model"), ((f"model={NETS}:make",), "size")):
        with pytest.raises(ConfigError, match=rf"thief\.backbone\.{key}"):
            build.check(composed("thief=custom", *(f"thief.backbone.{word}" for word in lacking)))
