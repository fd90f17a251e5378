"""The runs that `test_art.py` compares, each in a process of its own: the same theft by us, and by the
adversarial-robustness-toolbox (ART).

    python -m tests.bench.art_runs prepare FOLDER ROUNDS OVERRIDE...
    python -m tests.bench.art_runs ours|tuned|tuned_plain|defaults|probe FOLDER knockoff|copycat SEED OVERRIDE...

`prepare` makes what all of them find in FOLDER: images, the trained victim, each round's pool ids and untrained thief.
A run prints one line of JSON. Its clock runs from "victim and pool are in memory" to "the thief is trained". Only our
runs import Lightning, only ART's import ART.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from safetensors.torch import load_file
from torch import Tensor, nn

from fmsteal import cli
from fmsteal.base import paths
from fmsteal.data.images import Images, Task, load, save
from fmsteal.networks.backbones import BackboneSpec, set_memory_format

if TYPE_CHECKING:
    from fmsteal.job.pipeline import Parts
    from fmsteal.training.context import Context

assert cli  # importing it registers the root config and the resolvers


HEAD = {"weight", "bias"}  # all that is kept of a model on a frozen public trunk


@dataclass
class Stopwatch:
    """What a run takes between two points: seconds by the wall and of CPU, images through the victim, memory."""

    found: dict[str, float] = field(default_factory=dict)
    forwards: int = 0

    def watch(self, victim: nn.Module) -> None:
        """Count the images that pass the victim."""

        def count(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            self.forwards += len(output)

        victim.register_forward_hook(count)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Measure the block."""
        forwards, memory = self.forwards, _megabytes("VmRSS")
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.found = {
            "seconds": time.perf_counter() - wall,
            "cpu_seconds": time.process_time() - cpu,
            "victim_forwards": self.forwards - forwards,
            "peak_mb": _megabytes("VmHWM"),
            "rise_mb": _megabytes("VmHWM") - memory,
        }


def _megabytes(what: Literal["VmHWM", "VmRSS"]) -> float:
    """The most memory this process has held, or what it holds. (`getrusage` begins with its parent's peak.)"""
    status = Path("/proc/self/status").read_text()
    found = re.search(rf"{what}:\s+(\d+) kB", status)
    assert found, status
    return int(found[1]) / 1024


def composed(*overrides: str) -> DictConfig:
    """The config of a job."""
    with initialize_config_dir(str(paths.folder("conf")), version_base="1.3"):
        return compose("config", list(overrides))


def surroundings(parts: Parts, folder: Path, run: str, seed: int) -> Context:
    """A job's context; its answers are its own, only victims are shared."""
    from fmsteal.base.progress import Progress
    from fmsteal.base.store import Store
    from fmsteal.tracking.base import CsvTracker
    from fmsteal.training.context import Context

    run_dir = folder / "runs" / run
    run_dir.mkdir(parents=True)
    store = Store(run_dir / "cache")
    store.root.mkdir(parents=True)
    (store.root / "victims").symlink_to(folder / "victims")
    return Context(store, run_dir, parts.training, CsvTracker(run_dir), Progress(), seed)


def images(folder: Path) -> tuple[Task, Images]:
    """The victim's task and the query set."""
    return Task(load(folder / "train"), load(folder / "test")), load(folder / "pool")


def prepare(folder: Path, rounds: int, overrides: list[str]) -> None:
    """Decode the images, train the victim, draw each round's ids and untrained thief."""
    from fmsteal.base.store import Store, write_json
    from fmsteal.config import build
    from fmsteal.job.pipeline import Parts
    from fmsteal.training.classifier import save_weights
    from fmsteal.training.inference import logits

    cfg = composed(*overrides)
    parts = Parts.of(cfg)
    store = Store(folder / "decoded")
    task = build.make(cfg.data, store=store)
    pool = build.make(cfg.query, store=store, task=task)
    for name, part in (("train", task.train), ("test", task.test), ("pool", pool.unlabelled())):
        (folder / name).mkdir()
        save(folder / name, np.array(part.pixels), part.labels, part.classes)
    task, pool = images(folder)
    (folder / "victims").mkdir()
    ctx = surroundings(parts, folder, "prepare", cfg.seed)
    victim = parts.victim.prepare(task, ctx)
    answers = logits(victim.model, task.test, np.arange(len(task.test)), ctx)
    np.save(folder / "victim_logits.npy", answers.numpy())
    save_weights(victim.model, folder / "victim.safetensors")
    for seed in range(rounds):
        thief = replace(parts.thief, seed=seed).build(task.num_classes)  # type: ignore[call-arg]
        save_weights(thief, folder / f"thief-{seed}.safetensors")
        np.save(folder / f"ids-{seed}.npy", parts.attack.selection(len(pool), cfg.budget.queries, seed))  # type: ignore[attr-defined]
    backbones = {role: learner.backbone for role, learner in (("victim", parts.victim), ("thief", parts.thief))}
    fields = ("model", "size", "weights", "normalise", "stem", "options")
    write_json(
        folder / "setup.json",
        {
            "backbones": {role: {f: getattr(spec, f) for f in fields} for role, spec in backbones.items()},
            "classes": task.num_classes,
            "victim_accuracy": float((answers.argmax(1).numpy() == task.test.labels).mean()),
        },
    )


def ours(folder: Path, attack: str, seed: int, overrides: list[str]) -> dict[str, Any]:
    """As `fmsteal.job.pipeline` does it: the composed parts, the oracle with its ledger, the attack's `run`."""
    from fmsteal.attacks.base import AttackContext
    from fmsteal.base.store import digest
    from fmsteal.job.parts import Parts
    from fmsteal.job.steal import Account, account_name, put_behind_api
    from fmsteal.job.theft import hold
    from fmsteal.oracle.ledger import Ledger, Question

    parts = Parts.of(composed(*overrides, f"attack={attack}", f"seed={seed}"))
    task, pool = images(folder)
    ctx = surroundings(parts, folder, f"{attack}-{seed}", seed)
    victim = parts.victim.prepare(task, ctx)
    with hold(folder / "thefts", f"{attack}-{digest([attack, seed])[:16]}", {"attack": attack}) as theft:
        account = Account()
        oracle = put_behind_api(theft, victim, pool, task, parts, account, ctx)
        attacker = AttackContext(parts.thief, ctx)
        watch = Stopwatch()
        watch.watch(victim.model)
        with watch.running():
            thief = parts.attack.run(oracle, pool, attacker)
        ledger = Ledger(theft.folder.ledger, account_name(theft, victim))

    ids = np.load(folder / f"ids-{seed}.npy")
    asked = [Question(0, image, 0) for image in pool.image_digests(ids)]
    assert len(ledger) == len(ids) and all(question in ledger for question in asked), "other images were asked about"
    fresh = parts.thief.build(task.num_classes).state_dict()  # type: ignore[call-arg]
    start = load_file(folder / f"thief-{seed}.safetensors")
    if start.keys() != HEAD:  # the minimum on a frozen trunk has no start
        assert fresh.keys() == start.keys() and all(torch.equal(fresh[k], start[k]) for k in fresh), "another start"
    logits = attacker.logits(thief, task.test, np.arange(len(task.test)))
    return {**watch.found, **_figures(folder, thief, logits.numpy())}


class Net(nn.Module):
    """The classifier of `fmsteal.training.classifier`, whose module imports Lightning."""

    def __init__(self, folder: Path, role: str, weights: str, layout: torch.memory_format) -> None:
        super().__init__()
        setup = json.loads((folder / "setup.json").read_text())
        kept = load_file(folder / weights)
        self.backbone = BackboneSpec(**setup["backbones"][role]).build(pretrained=kept.keys() == HEAD)
        self.head = nn.Linear(self.backbone.num_features, setup["classes"])
        (self.head if kept.keys() == HEAD else self).load_state_dict(kept)
        set_memory_format(self, layout)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.backbone(x))


class Probe(Net):
    """The same on a frozen trunk."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.backbone.requires_grad_(False)

    def train(self, mode: bool = True) -> Probe:
        super().train(mode)
        self.backbone.eval()
        return self


def art(folder: Path, attack: str, seed: int, overrides: list[str], how: str) -> dict[str, Any]:
    """As ART's users do it: a `PyTorchClassifier` for victim and thief, float images in memory, `extract`.

    ``tuned`` is at our settings; ``tuned_plain`` too, but for the memory layout, which is then PyTorch's own;
    ``defaults`` is at ART's settings, in our layout. ``probe`` trains a head on the frozen trunk, as linear probes
    usually are: 40 epochs of AdamW in batches of 64.
    """
    from art.attacks.extraction import CopycatCNN, KnockoffNets
    from art.estimators.classification import PyTorchClassifier

    cfg = composed(*overrides, f"attack={attack}", f"seed={seed}")
    recipe = cfg.thief.recipe
    probed = how == "probe"
    assert probed or (recipe.optimizer == "sgd" and recipe.schedule == "constant" and recipe.min_steps == 0)
    layout = torch.contiguous_format if how == "tuned_plain" else torch.channels_last
    victim_net = Net(folder, "victim", "victim.safetensors", layout)
    net = (Probe if probed else Net)(folder, "thief", f"thief-{seed}.safetensors", layout)
    tuned = how != "defaults"
    classes, side = net.head.out_features, load(folder / "pool").pixels.shape[-1]
    common = {"input_shape": (3, side, side), "nb_classes": classes, "device_type": "cpu", "clip_values": (0.0, 1.0)}
    victim = PyTorchClassifier(nn.Sequential(victim_net, nn.Softmax(dim=1)), nn.CrossEntropyLoss(), **common)
    optimizer: torch.optim.Optimizer = torch.optim.AdamW(net.head.parameters(), lr=1e-3)
    if not probed:
        optimizer = torch.optim.SGD(
            net.parameters(), lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay
        )
    thief = PyTorchClassifier(net, nn.CrossEntropyLoss(), optimizer=optimizer, **common)
    pool, test = load(folder / "pool"), load(folder / "test")
    x = _floats(pool.pixels[np.load(folder / f"ids-{seed}.npy")])
    known = np.load(folder / "victim_logits.npy")
    some = torch.from_numpy(_floats(test.pixels[:64]))
    with torch.no_grad():
        assert np.allclose(victim_net.eval()(some).numpy(), known[:64], rtol=1e-3, atol=1e-3), "another victim"
    settings: dict[str, Any] = {"nb_stolen": len(x)}
    if tuned:
        batch = 64 if probed else int(recipe.batch_size)
        asked = int(cfg.trainer.inference_batch)
        settings |= {"batch_size_fit": batch, "batch_size_query": asked}
        settings |= {"nb_epochs": 40 if probed else int(recipe.epochs)}
    if attack == "knockoff" and tuned:
        settings |= {"use_probability": True}
    kind = {"knockoff": KnockoffNets, "copycat": CopycatCNN}[attack]
    np.random.seed(seed)  # noqa: NPY002 (ART draws from it)
    torch.manual_seed(seed)
    watch = Stopwatch()
    watch.watch(victim_net)
    with watch.running():
        kind(victim, **settings).extract(x, thieved_classifier=thief)
    return {**watch.found, **_figures(folder, net, thief.predict(_floats(test.pixels), batch_size=64))}


def _floats(pixels: Any) -> np.ndarray[Any, Any]:
    return np.asarray(pixels).astype(np.float32) / 255


def _figures(folder: Path, thief: nn.Module, logits: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Agreement with the victim on the test images, whether the thief is finite, and how many steps made it."""
    victim = np.load(folder / "victim_logits.npy").argmax(1)
    counters = [int(v) for k, v in thief.state_dict().items() if k.endswith("num_batches_tracked")]
    return {
        "agreement": float((logits.argmax(1) == victim).mean()),
        "finite": bool(np.isfinite(logits).all()),
        "steps": max(counters),
    }


def main(what: str, folder: str, *words: str) -> None:
    if what == "prepare":
        prepare(Path(folder), int(words[0]), list(words[1:]))
        return
    attack, seed, overrides = words[0], int(words[1]), list(words[2:])
    if what == "ours":
        found = ours(Path(folder), attack, seed, overrides)
    else:
        found = art(Path(folder), attack, seed, overrides, what)
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
