from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from fmsteal.base.store import read_json
from fmsteal.identity import keys
from fmsteal.identity.keys import axes, cell_key, cell_settings, find, hash_of, identity, job_key, key_hash, victim_key
from tests.identity.golden import GOLDEN
from tests.support.commands import environment
from tests.support.composing import composed, hash_now


def key(*overrides: str) -> str:
    cfg: DictConfig = composed(*overrides)
    return job_key(cfg, cfg.hydra.runtime.choices)


def hashed(*overrides: str) -> str:
    return hash_of(key(*overrides))


@pytest.mark.parametrize("job", GOLDEN)
def test_representative_jobs_have_the_hash_they_had(job: str) -> None:
    assert hash_now(job) == GOLDEN[job], "what this says of the job is another: see tests/identity/golden.py"


def test_a_key_reads_as_what_it_is() -> None:
    found = key("budget=1k", "seed=3")
    assert found.startswith("digits-efficientnet_lite0-efficientnet_lite0-glyphs-1000-knockoff-none-s3-")
    assert found.endswith(f"-{key_hash(identity(composed('budget=1k', 'seed=3')))}")


def test_an_identity_can_be_read_and_holds_no_module_path() -> None:
    found = identity(composed("defense=top_k"))
    assert found["defense"] == {"name": "top_k", "k": 3} and found["budget"] == {"queries": 2500}
    assert found["task"] == {"answers": "probabilities"} and found["trainer"]["lightning"] == {"name": "trainer"}
    assert "fmsteal" not in json.dumps(found) and "evaluation" not in found


@pytest.mark.parametrize(
    "override",
    ["seed=1", "budget.queries=7", "victim.recipe.l2=0.1", "thief.adaptation=full", "query.seed=1",
     "attack/loss=hard", "defense=top_k", "data.seed=4", "recipes.probe.l2=1", "recipe@recipes.probe=probe_adamw",
     "trainer.lightning.precision=bf16-mixed", "+trainer.lightning.gradient_clip_val=1",
     "thief.backbone.weights=/data/other.pth", "edition=second"],
)  # fmt: skip
def test_what_decides_the_theft_decides_the_key(override: str) -> None:
    assert hashed(override) != hashed()


@pytest.mark.parametrize(
    "override",
    ["trainer.lightning.deterministic=false", "output=/elsewhere",
     "cache=/scratch/cache", "tracker=none", "trainer=cpu", "trainer.inference_batch=8",
     "force=true", "sweep_id=mine", "+notes.why=because", "recipes.full.lr=1", "hydra.verbose=true",
     "budget.usd_per_1000=9", "evaluation=similarity", "hydra/launcher=slurm", "thief.recipe.label_smoothing=0.1",
     "victim.recipe.gamma=0.5", "+defense._convert_=all"],
)  # fmt: skip
def test_paths_devices_prices_and_measurements_do_not(override: str) -> None:
    assert key(override) == key()


@pytest.mark.parametrize("option", ["seed=7", "recipe.epochs=3", "recipe.lr=1", "recipe.optimizer=sgd"])
def test_a_minimum_has_no_steps_and_no_seed(option: str) -> None:
    """But in attacks that train the thief in a loop of their own, and where it takes steps."""
    for attack in ("knockoff", "activethief", "jbda", "copycat"):
        assert key(f"attack={attack}", f"thief.{option}") == key(f"attack={attack}"), attack
    assert key(f"victim.{option}") == key()
    for other in ("attack=mixmatch", "attack=querywise", "recipe@recipes.probe=probe_adamw", "thief.adaptation=full"):
        assert hashed(other, f"thief.{option}") != hashed(other), other
    assert hashed("attack=dfme", "thief.seed=7") != hashed("attack=dfme")
    with_loop, patience = ("attack=activethief", "thief.adaptation=full"), "attack.patience=3"
    assert key("attack=activethief", patience) == key("attack=activethief")
    assert hashed(*with_loop, patience) != hashed(*with_loop)


def test_a_number_has_one_key_however_it_is_written() -> None:
    assert key("budget=1k") == key("budget.queries=1000") == key("budget.queries=1000.0") == key("budget.queries=1e3")
    assert axes(composed("budget.queries=1000.0"), {})["queries"] == 1000


def test_weights_that_are_not_loaded_do_not_count() -> None:
    scratch = ("victim=resnet10t", "thief.adaptation=scratch")
    assert hashed(*scratch, "thief.backbone.weights=/my.pth") == hashed(*scratch)


def test_a_victim_is_the_same_for_every_thief() -> None:
    def victim(*overrides: str) -> str:
        cfg = composed(*overrides)
        return victim_key(cfg, cfg.hydra.runtime.choices)

    scratch = "victim=resnet10t"
    assert victim(scratch, "seed=1", "thief=resnet10t") == victim(scratch, "seed=1") != victim(scratch, "seed=2")
    assert victim("seed=1", "budget=1k") == victim("seed=2"), "a minimum has no seed"
    assert victim("task=embed", "seed=1") == victim("task=embed", "seed=2"), "a pretrained trunk is used as it is"
    assert victim("edition=b") != victim()


def test_of_a_path_the_content_counts(tmp_path: Path) -> None:
    def weights(file: Path) -> str:
        return hashed(f"thief.backbone.weights={file}", f"output={tmp_path}")

    for name, content in {"a": b"one", "b": b"two", "c": b"one"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "last.ckpt").write_bytes(content)
    first = weights(tmp_path / "a" / "last.ckpt")
    assert weights(tmp_path / "b" / "last.ckpt") != first == weights(tmp_path / "c" / "last.ckpt")
    (tmp_path / "c" / "last.ckpt").write_bytes(b"other")
    assert weights(tmp_path / "c" / "last.ckpt") != first


def test_of_a_folder_the_names_and_sizes_count(tmp_path: Path) -> None:
    def folder(name: str) -> str:
        return hashed("data=image_folder", f"data.root={tmp_path / name / 'imgs'}")

    for name, size in {"p": 1, "q": 2, "r": 1}.items():
        (tmp_path / name / "imgs" / "wren").mkdir(parents=True)
        (tmp_path / name / "imgs" / "wren" / "1.png").write_bytes(b"x" * size)
    (tmp_path / "r" / "imgs" / ".hidden").touch()
    (tmp_path / "r" / "imgs" / "wren" / "up").symlink_to(tmp_path / "r" / "imgs")
    assert folder("p") == folder("r") != folder("q")


def test_known_data_sets_count_by_name_and_what_is_missing_by_its_last_part(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    assert hashed("data=cifar10", f"data.root={tmp_path}") == hashed("data=cifar10", "data.download=false")
    assert hashed("data=cifar10") != hashed("data=cifar100")

    def birds(root: str) -> str:
        return hashed("data=image_folder", f"data.root={root}")

    assert birds("/mnt/a/birds") == birds("/home/b/birds/") != birds("/mnt/a/dogs")


def test_digests_are_kept_in_the_cache_and_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    file, cache = tmp_path / "w.pth", tmp_path / "cache"
    file.write_bytes(b"weights")
    cache.mkdir()
    found = keys.Contents(cache).of(str(file))
    known = read_json(cache / "digests.json")
    assert known[str(file)][0] == 7 and found == f"file:{known[str(file)][2]}"
    known[str(file)][2] = "remembered"
    (cache / "digests.json").write_text(json.dumps(known))
    assert keys.Contents(cache).of(str(file)) == "file:remembered"
    os.utime(file, ns=(1, 1))
    assert keys.Contents(cache).of(str(file)) == found
    assert keys.Contents(tmp_path / "not" / "there").of(str(file)) == found
    assert keys.Contents(file).of(str(file)) == found


def test_settings_that_look_like_paths() -> None:
    for name in ("data.root", "data.test_root", "x.weights", "attack.prior_file", "a.checkpoint", "path"):
        assert keys.is_path(name, "some/where") and not keys.is_path(name, "pypi:package")
    assert not keys.is_path("x.weights", "hub") and not keys.is_path("trainer.profile", "simple")
    assert keys.is_path("attack.prior", "/") and not keys.is_path("attack.prior", "/no/such/thing")


def test_a_folder_is_found_by_its_hash(tmp_path: Path) -> None:
    digits = "0123456789abcdef"
    assert find(tmp_path / "none", f"a-{digits}") == tmp_path / "none" / f"a-{digits}"
    assert find(tmp_path, f"a-{digits}") == tmp_path / f"a-{digits}"
    (tmp_path / f"another-slug-{digits}").mkdir()
    assert find(tmp_path, f"a-{digits}").name == f"another-slug-{digits}"
    assert find(tmp_path, f"a-{digits[::-1]}").name == f"a-{digits[::-1]}"
    (tmp_path / f"a-{digits}").mkdir()
    assert find(tmp_path, f"a-{digits}").name == f"a-{digits}"
    assert hash_of(f"a-{digits}") == digits and hash_of("old-0123abcd") == "old-0123abcd"


def test_a_job_goes_on_in_its_folder_whatever_its_slug(tmp_path: Path) -> None:
    where = f"output={tmp_path}"
    by_name = composed("victim=efficientnet_lite0_96", where)
    folder = Path(by_name.hydra.run.dir)
    by_value = ("victim=efficientnet_lite0", "victim.backbone.size=96", where)
    assert Path(composed(*by_value).hydra.run.dir) != folder
    folder.mkdir(parents=True)
    assert Path(composed(*by_value).hydra.run.dir) == folder


def test_axes_are_flat_and_complete() -> None:
    cfg = composed("attack/loss=hard", "victim=resnet10t", "budget=1k")
    found = axes(cfg, cfg.hydra.runtime.choices)
    assert found == {
        "task": "classify", "data": "digits", "victim": "resnet10t", "thief": "efficientnet_lite0", "query": "glyphs",
        "budget": "1k", "attack": "knockoff", "attack_selection": "random", "attack_strategy": "none",
        "attack_loss": "hard", "defense": "none", "evaluation": "classify", "victim_adaptation": "scratch",
        "thief_adaptation": "probe",
        "queries": 1000, "seed": 0,
    }  # fmt: skip


def test_a_cell_is_what_seeds_have_in_common() -> None:
    scratch = "victim=resnet10t"
    assert cell_settings(composed("seed=1", scratch)) == cell_settings(composed("seed=2", scratch))
    fixed = cell_settings(composed("seed=1", "victim.seed=0", scratch))
    assert fixed == cell_settings(composed("seed=2", "victim.seed=0", scratch))
    assert fixed != cell_settings(composed("seed=1", scratch))
    assert cell_settings(composed("defense=top_k", "defense.k=1")) != cell_settings(composed("defense=top_k"))
    assert cell_key({"seed": 0, "evaluation": "a", "data": "x"}, {}) == cell_key({"data": "x"}, {})


def test_parsing_once_resolves_the_same() -> None:
    cfg = composed("thief.adaptation=full")
    plain = OmegaConf.to_container(cfg.thief, resolve=True)
    assert keys.resolve_groups(cfg)["thief"] == plain == keys.resolve_groups(cfg)["thief"]


def test_an_identity_needs_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from tests.support.composing import composed; from fmsteal.identity.keys import settings;"
        "settings(composed('attack=dfme')); print(sorted({'torch', 'lightning', 'timm', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
