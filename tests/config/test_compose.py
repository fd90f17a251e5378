"""Every option of every group composes, binds to the class it names, and is explained in its first line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from fmsteal.base import paths
from fmsteal.base.errors import ConfigError
from fmsteal.base.quoting import quote_override
from fmsteal.config import answers, build, by_adaptation, derived
from fmsteal.config.answers import choices
from fmsteal.report.show.published import find, read
from tests.support.composing import choices_of, composed

CONF = paths.folder("conf")
FILES = sorted(p.relative_to(CONF) for p in CONF.rglob("*.yaml") if p.parent != CONF)
DERIVED = [Path(group, f"{name}.yaml") for group in derived.ROLES for name in derived.names(group, [CONF])]
PARTS = {"recipe", "backbone", "learner", "clip", "views", "evaluation/head"}  # used by others of a job's choices
PARTS |= {"hydra/launcher"}  # not of a job, and composed without the plugins: tests/slurm


def filled(*overrides: str) -> DictConfig:
    """The config of a job, told the folders and classes that some choices have to be told."""
    cfg = composed(*overrides)
    folder, made = "/some/images", {"_target_": "collections.UserList"}
    told = {"data.root": folder, "query.root": folder, "data.train": made, "query.images": made, "victim.model": "a:b"}
    told |= {"victim.name": "theirs", "victim.url": "http://127.0.0.1:9", "victim.usd_per_1000": 1.0}
    for key, value in told.items():
        group, _, name = key.partition(".")
        if OmegaConf.is_missing(cfg[group], name):
            cfg[group][name] = value
    for key, value in {"model": "torchvision.models:resnet18", "size": 32}.items():  # of a network of one's own
        if "backbone" in cfg.thief and OmegaConf.is_missing(cfg.thief.backbone, key):
            cfg.thief.backbone[key] = value
    return cfg


def choice(file: Path) -> list[str]:
    """The overrides that choose a file, with the task that it is for."""
    group = file.parent.as_posix()
    chosen = quote_override(f"{group}={file.stem}")
    if group == "attack/strategy":
        return ["attack=activethief", chosen]
    if group == "attack/recovery":
        return ["task=embed", "attack=besa", chosen]
    if file.stem in choices(group, "probabilities"):
        return [chosen]
    return ["task=embed", "attack=direct", chosen] if group.startswith("attack/") else ["task=embed", chosen]


MADE = {"attack", "defense"}  # each is also made: tests/attacks/test_every_attack, tests/defenses/test_every_defense
CHOICES = [
    pytest.param(file, marks=pytest.mark.slow) if file in DERIVED or file.parent.as_posix() in MADE else file
    for file in (*FILES, *DERIVED)
    if file.parent.as_posix() not in PARTS
]


@pytest.mark.parametrize("file", CHOICES, ids=str)
def test_every_choice_composes_and_binds(file: Path) -> None:
    cfg = filled(*choice(file))
    build.check(cfg)
    answers.check(cfg)


@pytest.mark.parametrize("backbone", ["efficientnet_lite0", "resnet10t", "vit_b16"])
@pytest.mark.parametrize("adaptation", ["scratch", "probe", "full", "lora"])
def test_every_adaptation_takes_its_own_recipe(backbone: str, adaptation: str) -> None:
    cfg = composed(f"backbone@victim.backbone={backbone}", f"victim.adaptation={adaptation}")
    build.check(cfg)
    assert cfg.victim.recipe.lr == cfg.recipes[adaptation].lr


SWEEPS = paths.folder("sweeps")
PRESETS = {file.relative_to(SWEEPS).with_suffix("").as_posix(): file for file in sorted(SWEEPS.rglob("*.yaml"))}


@pytest.mark.parametrize("name", PRESETS)
def test_every_sweep_preset_says_what_it_asks_and_how_it_runs(name: str) -> None:
    preset = PRESETS[name]
    head = [line for line in preset.read_text().splitlines() if line.startswith("#")]
    assert head[0].endswith("?") or "?" in head[0]
    assert f"fmsteal -m sweep={name}" in preset.read_text()
    sweeper = OmegaConf.load(preset).hydra.sweeper
    jobs = sweeper.get("n_trials", 1)
    for axis, values in sweeper.params.items():
        jobs *= 1 if "n_trials" in sweeper and axis != "seed" else len(choices_of(axis, values))
    assert any(f"{jobs} jobs" in line for line in head), f"{jobs} jobs"
    build.check(filled(f"sweep={name}"))


@pytest.mark.parametrize("name", PRESETS)
def test_the_seeds_of_a_study_vary_split_and_pool(name: str) -> None:
    """An interval over seeds that all ask about the same images holds no sampling of queries."""
    params = OmegaConf.load(PRESETS[name]).hydra.sweeper.params
    largest = filled(f"sweep={name}", quote_override(f"budget={str(params.get('budget', '2k5')).split(',')[-1]}"))
    job = filled(f"sweep={name}", "seed=7")
    assert job.query.seed == 7
    assert job.data.seed == (0 if job.victim.seed == 0 else 7)  # one target for all thieves is made of the same images
    budget = max(job.budget.queries, largest.budget.queries if "budget" in params else 0)
    assert job.query.count is None or job.query.count >= 2 * budget


def test_by_default_the_seed_leaves_split_and_pool_alone() -> None:
    assert [composed("seed=7", *more).data.seed for more in ([], ["vary=all"])] == [0, 7]
    job = composed("seed=7", "data.seed=3", "vary=all")
    assert (job.data.seed, job.query.seed) == (3, 7)


def test_commands_in_comments_choose_what_there_is() -> None:
    """Also the launcher, which composing does not look at: Hydra's own `submitit_slurm` has an hour and no GPU."""
    launchers = {path.stem for path in (CONF / "hydra" / "launcher").iterdir()} | {"joblib"}
    for file in (*paths.folder("sweeps").rglob("*.yaml"), *CONF.rglob("*.yaml")):
        for group, names in re.findall(r"(?<![\w.@/+])([a-z_/]+)=([\w/]+(?:,[\w/]+)*)", file.read_text()):
            folder = CONF / group if group != "sweep" else paths.folder("sweeps")
            known = {path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml")}
            known |= set(derived.names(group, [CONF]))
            there = launchers if group == "hydra/launcher" else known
            assert not folder.is_dir() or set(names.split(",")) <= there, f"{file}: {group}={names}"


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if "/" in name else ()) for name in PRESETS]
)
def test_every_choice_of_a_sweep_preset_composes_and_binds(name: str) -> None:
    """In as many jobs of the sweep as its longest axis has values."""
    params = OmegaConf.load(PRESETS[name]).hydra.sweeper.params
    axes = {axis: choices_of(axis, values) for axis, values in params.items()}
    for nth in range(max(map(len, axes.values()))):
        job = [quote_override(f"{axis}={values[nth % len(values)]}") for axis, values in axes.items()]
        build.check(filled(f"sweep={name}", *job))


def test_the_other_encoders_of_stolen_encoders_preset_see_images_at_their_own_size() -> None:
    def size(*victim: str) -> int | None:
        return filled("sweep=stolen_encoder", *victim).victim.backbone.size

    assert (size(), size("victim=clip_rn50"), size("victim=simclr_imagenet_resnet50")) == (32, None, 224)


ABLATIONS = [name for name in PRESETS if name.startswith("stolen_encoder/")]


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_of_stolen_encoder_differs_from_its_setting_in_one_thing(name: str) -> None:
    whole, swept = filled("sweep=stolen_encoder"), OmegaConf.load(PRESETS[name]).hydra.sweeper.params
    varied = [axis for axis in swept if axis not in ("attack", "seed")]
    assert swept.attack == "stolen_encoder" and len({axis.split(".")[0] for axis in varied}) == 1
    first = filled(f"sweep={name}", *(quote_override(f"{axis}={str(swept[axis]).split(',')[0]}") for axis in varied))
    same = set(whole) - {varied[0].split(".")[0], "sweep_id", "hydra", *(["query"] if "surrogate" in name else [])}
    for part in same:
        assert first[part] == whole[part], part
    head = [line for line in PRESETS[name].read_text().splitlines() if line.startswith("#")]
    assert any("paper found" in line for line in head) and any("encoder_cost" in line for line in head)


def test_every_axis_of_the_paper_has_an_ablation() -> None:
    axes = {axis for name in ABLATIONS for axis in OmegaConf.load(PRESETS[name]).hydra.sweeper.params}
    assert axes == {
        "attack", "seed", "attack.k", "attack.lam", "attack.distance", "query", "budget.queries", "thief", "defense.k",
        "defense.decimals", "defense.sigma",
    }  # fmt: skip


PAPER = {  # data: query set, momentum, weight decay, the victims' steps, the thieves', statistics of the victims' input
    "cifar10": ("imagenet32.pool", 0.9, 5e-4, "PadCrop Flip", "Resize RandomAffine", "cifar10"),
    "indoor67": ("data.imagenet.pool", 0.5, 0.0, "ResizedCrop Flip", "Flip RandAugment", "imagenet"),
    "caltech256": ("data.imagenet.pool", 0.5, 5e-4, "ResizedCrop Flip", "Flip RandAugment", "imagenet"),
}


@pytest.mark.parametrize("adaptation", ["probe", "full"])
@pytest.mark.parametrize("data", PAPER)
def test_a_job_of_the_foundation_model_papers_presets_is_what_the_paper_says(data: str, adaptation: str) -> None:
    query, momentum, decay, victims, thieves, statistics = PAPER[data]
    kind = {"probe": "lp", "full": "fft"}[adaptation]
    cfg = filled(f"sweep=paper/{data}_{kind}", "victim=resnet50", "thief=vit_b16_clip", "seed=2")
    build.check(cfg)
    assert cfg.query._target_.endswith(query) and cfg.query.count in (None, 128_116)
    assert (cfg.budget.queries, cfg.attack._target_.rpartition(".")[2]) == (5000, "Knockoff")
    assert (cfg.attack.validation, cfg.attack.by, cfg.attack.every) == (0.1, "macro_f1", 2)
    assert cfg.defense._target_.endswith("HardLabel") and cfg.attack.loss._target_.endswith("hard_cross_entropy")
    assert cfg.victim.adaptation == cfg.thief.adaptation == adaptation
    assert (cfg.victim.backbone.normalise, cfg.thief.backbone.normalise) == (statistics, "none")
    assert (cfg.victim.backbone.size, cfg.thief.backbone.size) == (224, None)

    def steps(recipe: DictConfig) -> str:
        made = [step._target_ for step in recipe.augment.steps]
        return " ".join(target.rpartition(".")[2] for target in made)

    of_victim, of_thief = cfg.victim.recipe, cfg.thief.recipe
    assert (of_victim.lr, of_victim.momentum, of_victim.weight_decay) == (0.002, momentum, decay)
    assert (of_thief.lr, of_thief.momentum, of_thief.weight_decay) == (0.001, 0.9, 5e-4)
    assert (list(of_victim.milestones), list(of_thief.milestones)) == ([30, 60, 90], [50])
    assert (steps(of_victim), steps(of_thief)) == (victims, thieves)
    for recipe in (of_victim, of_thief):
        assert (recipe.optimizer, recipe.batch_size, recipe.epochs, recipe.gamma) == ("sgd", 64, 100, 0.1)


def test_every_published_cell_of_the_main_tables_is_a_job_of_a_preset() -> None:
    published = [figure for figure in read(find("fm_stealing")) if figure.table == "main"]
    kinds = {"probe": "lp", "full": "fft"}
    for data, adaptation in {(f.axis["data"], f.axis["victim_adaptation"]) for f in published}:
        swept = OmegaConf.load(PRESETS[f"paper/{data}_{kinds[adaptation]}"]).hydra.sweeper.params
        jobs = {(v, t) for v in swept.victim.split(",") for t in swept.thief.split(",")}
        cells = {
            (f.axis["victim"], f.axis["thief"])
            for f in published
            if (f.axis["data"], f.axis["victim_adaptation"]) == (data, adaptation)
        }
        missing = {(v, "resnet101") for v, _ in jobs} if (data, adaptation) == ("caltech256", "full") else set()
        assert jobs - missing == cells


@pytest.mark.parametrize("file", FILES, ids=str)
def test_every_file_says_what_it_is_in_its_first_comment(file: Path) -> None:
    lines = (CONF / file).read_text().splitlines()
    comment = next(line for line in lines if not line.startswith("# @package"))
    assert comment.startswith("# ") and len(comment) > 20


def test_every_target_of_the_config_tree_is_reached() -> None:
    cfg = composed()
    found = {path for path, _ in build.find_targets(cfg)}
    assert {
        "data",
        "victim",
        "victim.backbone",
        "victim.recipe",
        "attack.loss",
        "trainer.lightning",
        "tracker",
    } <= found


@pytest.mark.parametrize(
    ("override", "match"),
    [
        ("+attack.bogus=1", r"attack\.bogus: .*Knockoff has no option 'bogus'\. It takes: selection, loss"),
        ("+trainer.lightning.acelerator=gpu", r"trainer\.lightning\.acelerator: lightning\.Trainer has no option"),
        ("evaluation.k=five", r"evaluation\.k='five' does not fit .*int"),
        ("victim.adaptation=frozen", r"victim\.adaptation='frozen' does not fit"),
        ("thief.recipe.schedule=linear", r"thief\.recipe\.schedule='linear' does not fit"),
        ("budget.queries=1.5", r"budget\.queries=1\.5 does not fit"),
        ("defense._target_=fmsteal.defenses.nothing.No", r"defense\._target_=.* cannot be found"),
        ("+data.colour=true", r"It takes: size, test, train_count, seed\."),
        ("~budget.queries", r"budget\.queries must be given"),
    ],
)
def test_what_a_class_would_reject_is_named_before_anything_runs(override: str, match: str) -> None:
    overrides = [override]
    if override.startswith("victim.adaptation"):
        overrides.append("recipes.frozen=${recipes.probe}")
        overrides[-1] = "+" + overrides[-1]
    with pytest.raises(ConfigError, match=match):
        build.check(composed(*overrides))


def test_fields_of_a_recipe_can_be_set_in_place_or_for_all() -> None:
    cfg = composed("victim.recipe.epochs=3", "recipes.probe.lr=0.5", "thief.adaptation=full")
    assert (cfg.victim.recipe.epochs, cfg.victim.recipe.lr) == (3, 0.5)
    assert (cfg.thief.recipe.epochs, cfg.thief.recipe.lr) == (cfg.recipes.full.epochs, cfg.recipes.full.lr)


def test_a_jobs_recipes_are_given_as_a_whole_and_in_place() -> None:
    cfg = composed("recipes.scratch={epochs: 1, min_steps: 0}", "thief=resnet10t", "thief.recipe.lr=0.5")
    assert (cfg.thief.recipe.epochs, cfg.thief.recipe.min_steps, cfg.thief.recipe.lr) == (1, 0, 0.5)
    assert cfg.recipes.scratch.lr == 2e-3
    other = composed("thief.adaptation=full", "thief.recipe.epochs=5", "recipes.full.lr=0.1")
    assert (other.thief.recipe.epochs, other.thief.recipe.lr, other.recipes.full.epochs) == (5, 0.1, 15)


def test_a_presets_recipe_makes_way_for_that_of_the_adaptation() -> None:
    preset, victim = "sweep=paper/mini_lp", "victim=resnet18_scratch"
    paper, own = filled(preset, victim), filled(preset, victim, "recipe@victim.recipe=by_adaptation")
    assert paper.victim.recipe.optimizer == "sgd" and own.victim.recipe.epochs == own.recipes.scratch.epochs


@pytest.mark.parametrize("adaptation", ["scratch", "probe", "full", "lora"])
@pytest.mark.parametrize("who", ["victim", "thief"])
def test_every_field_of_an_adaptations_recipe_reaches_the_models(adaptation: str, who: str) -> None:
    cfg = composed(f"{who}=vit_b16", f"{who}.adaptation={adaptation}", "recipes.lora.rank=3")
    recipe, given = (
        OmegaConf.to_container(cfg[who].recipe, resolve=True),
        OmegaConf.to_container(cfg.recipes[adaptation]),
    )
    assert isinstance(recipe, dict) and isinstance(given, dict)
    assert {recipe.pop("_target_"), recipe["augment"].pop("_target_"), recipe["lora"].pop("_target_")} == {
        f"fmsteal.{target}" for target in ("training.recipe.Recipe", "data.augment.RandomAffine", "training.lora.LoRA")
    }
    of_lora = {name: given.pop(name, cfg.recipes.lora[name]) for name in recipe["lora"]}
    assert recipe == {**given, "lora": of_lora} and recipe["lora"]["rank"] == 3


def test_a_field_that_is_new_in_the_recipes_is_the_models_too(tmp_path: Path) -> None:
    for name in ("full", "lora"):
        (tmp_path / f"{name}.yaml").write_text("epochs: 3\naugment: {flip: 0.5}\nclip_norm: 1.0\n")
    thief = {"adaptation": "probe", "recipe": by_adaptation.make(tmp_path)}
    made = OmegaConf.create({"recipes": {"probe": {"clip_norm": 2.0}}, "thief": thief})
    assert made.thief.recipe.clip_norm == 2.0
