"""Finds mistakes in a command line before Hydra runs it, and names the valid alternatives."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Sequence
from dataclasses import fields

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fmsteal.base import paths
from fmsteal.base.errors import ConfigError
from fmsteal.base.on_hydra import only_needed_maps
from fmsteal.base.quoting import quote_override
from fmsteal.config import searchpath
from fmsteal.config.schema import Config
from fmsteal.identity.keys import find_without_effect
from fmsteal.sweep.only import Only
from fmsteal.sweep.space import list_values

GRID = ".StagedSweeper"  # the sweeper that runs each combination
LONGEST = 200  # characters in a sweep's name
_NAME = re.compile(rf"[A-Za-z0-9._-]{{1,{LONGEST}}}")


def preview(args: argparse.Namespace) -> DictConfig:
    """Compose the job of a command line, with the ``hydra`` node; for a sweep, its first job.

    Raises:
        ConfigError: an option, key or value is misspelt; the message lists the valid ones.
    """
    overrides, places = list(args.overrides), searchpath.parse_places(args)
    searchpath.require_available(places)
    conf = str(paths.folder("conf"))
    with searchpath.add_places(places), initialize_config_dir(config_dir=conf, version_base="1.3"):
        name = "config"
        try:
            parser = OverridesParser.create(GlobalHydra.instance().config_loader())
            parsed = parser.parse_overrides(overrides)
            _refuse_swept(parsed)
            _refuse_lists(parsed)
            plain = [o.input_line or "" for o in parsed if not o.is_sweep_override()]
            cfg = _compose(name, plain)
            _refuse_empty(parsed)
            params = cfg.hydra.sweeper.params or {}
            if args.multirun:
                swept = parser.parse_overrides([f"{k}={v}" for k, v in params.items()])
                _refuse_intervals(cfg, [*swept, *parsed])
                words = plain + [_first(o) for o in _axes(swept, parsed)]
                cfg = _compose(name, words)
                if more := Only().words(cfg, words):
                    cfg = _compose(name, words + more)
            elif params and not args.cfg:
                raise ConfigError(f"This is a sweep: run it with -m, as in fmsteal -m {' '.join(overrides)}.")
            elif len(plain) < len(parsed):  # swept without -m, which Hydra refuses with its own message
                cfg = _compose(name, overrides)
            require_known(cfg)
            if not args.cfg:
                require_complete(cfg)
            return cfg
        except (HydraException, OmegaConfBaseException, AssertionError, ValueError) as error:
            raise ConfigError(explain(name, overrides, error)) from error


def _axes(swept: list[Override], parsed: list[Override]) -> list[Override]:
    """What a sweep varies: a preset's axes and the command line's, which override the preset's."""
    _refuse_lists(swept)
    _refuse_empty(swept)
    given = {o.get_key_element() for o in parsed}
    return [o for o in swept if o.get_key_element() not in given] + [o for o in parsed if o.is_sweep_override()]


def _refuse_swept(overrides: list[Override]) -> None:
    """Refuse axes that a sweep cannot have.

    Raises:
        ConfigError: an axis is the sweep's name, one of its folders, or a Hydra setting.
    """
    for o in overrides:
        if not o.is_sweep_override():
            continue
        if o.key_or_group in ("sweep_id", "output", "cache"):
            raise ConfigError(f"{o.key_or_group} cannot be swept: a sweep has one name and one place.")
        if o.key_or_group.startswith("hydra."):
            raise ConfigError(f"{o.key_or_group} cannot be swept. Quote the value: {o.get_key_element()}='...'.")


def _refuse_intervals(cfg: DictConfig, overrides: list[Override]) -> None:
    """Refuse an interval, which has no end of values, unless the sweeper searches.

    Raises:
        ConfigError: the sweeper runs a grid.
    """
    given = next((o for o in overrides if o.is_sweep_override() and o.is_interval_sweep()), None)
    if given is not None and str(cfg.hydra.sweeper.get("_target_", "")).endswith(GRID):
        raise ConfigError(
            f"{given.input_line} has no end of values. A search tries some: hydra/sweeper=optuna "
            "metric=test/agreement. A grid lists them: a,b,c."
        )


def _refuse_lists(overrides: list[Override]) -> None:
    """Refuse several files of a group where one is to be chosen: Hydra would merge them into one, the last winning.

    Raises:
        ConfigError: a group is given a list; for defenses the message shows how to chain them.
    """
    for override in overrides:
        group, value = override.get_key_element().lstrip("+~"), override.value()
        choices = value.list if isinstance(value, ChoiceSweep) else [value]
        names = next((choice for choice in choices if isinstance(choice, list)), None)
        if names is None or not _options(override):
            continue
        each = f"One job for each: -m {group}={','.join(map(str, names))}."
        if override.key_or_group == "defense":
            links = " ".join(
                f"+defense@defense.of.{letter}={name}" for letter, name in zip("abcdefgh", names, strict=False)
            )
            each = f"Defenses one after the other are a chain: defense=chain {links}. {each}"
        raise ConfigError(f"{group} is one choice, not a list ({override.input_line}). {each}")


def _refuse_empty(overrides: list[Override]) -> None:
    """Refuse an axis without values: the sweep would have no job.

    Raises:
        ConfigError: an axis has no value; the message lists the choices.
    """
    for override in overrides:
        if not override.is_sweep_override() or override.is_interval_sweep() or list_values(override):
            continue
        there = _options(override)
        what = (
            f" There is: {', '.join(there)}." if there else " A range ends before its last number: range(0,3) is 0,1,2."
        )
        raise ConfigError(f"{override.input_line} holds no value, so there is no job to run.{what}")


def _first(override: Override) -> str:
    if not override.is_sweep_override():
        return str(override.input_line)
    return quote_override(f"{override.get_key_element()}={list_values(override)[0]}")


def require_complete(cfg: DictConfig) -> None:
    """Check that no value of a job is missing.

    Raises:
        ConfigError: a value is missing.
    """
    missing = sorted(OmegaConf.missing_keys(OmegaConf.masked_copy(cfg, [str(k) for k in cfg if k != "hydra"])))
    if missing:
        raise ConfigError(f"{missing[0]} must be given: {missing[0]}=...")


def require_known(cfg: DictConfig) -> None:
    """Check that a job has no part that nothing reads.

    Raises:
        ConfigError: it has one; the message lists the known parts.
    """
    require_name(cfg)
    there = [f.name for f in fields(Config)]
    for name in sorted({str(key) for key in cfg} - {*there, "hydra"}):
        near = difflib.get_close_matches(name, there, n=1)
        guess = f" Did you mean '{near[0]}'?" if near else ""
        raise ConfigError(
            f"nothing reads '{name}'.{guess} There are: {', '.join(sorted(there))}. Free text goes below notes: "
            f"+notes.{name}=..."
        )


def require_name(cfg: DictConfig) -> None:
    """Check that a sweep's name can be that of a single folder.

    Raises:
        ConfigError: it cannot.
    """
    name = cfg.get("sweep_id")
    if name is not None and (not _NAME.fullmatch(str(name)) or str(name) in (".", "..")):
        raise ConfigError(
            f"sweep_id={str(name)!r:.100} is no name of a sweep, which is that of its folder: letters, digits and ._- "
            f"alone, {LONGEST} at most. Where everything is written says output=/path."
        )


def require_dry_run(cfg: DictConfig) -> None:
    """Check that ``dry_run`` is one of its values.

    Raises:
        ConfigError: it is not.
    """
    if cfg.dry_run not in (False, True, "full"):
        raise ConfigError(f"dry_run={cfg.dry_run} is none of false, true (the plan), full (the plan with every job).")


def require_effect(cfg: DictConfig, overrides: Sequence[str]) -> None:
    """Check that each value given for a single job has an effect.

    Raises:
        ConfigError: a value has no effect; the message says why.
    """
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    given = {o.key_or_group: str(o.input_line) for o in parsed if not o.is_delete() and "/" not in o.key_or_group}
    for found in find_without_effect(cfg):
        for key in (key for key in given if found.covers(key)):
            raise ConfigError(
                f"{given[key]} has no effect with {found.reason}: leave it out, or change {found.owner or found.key}."
            )


def _compose(name: str, overrides: list[str]) -> DictConfig:
    with only_needed_maps():
        return compose(name, overrides, return_hydra_config=True)


def _options(override: Override) -> list[str]:
    """The files of the group that an override chooses from; empty if it sets a plain key."""
    return GlobalHydra.instance().config_loader().get_group_options(override.key_or_group)


def explain(name: str, overrides: list[str], error: Exception) -> str:
    """Name the first override that is wrong, and list what is allowed in its place."""
    said = _say(error)
    if isinstance(error, OverrideParseException):
        return f"{error.override} is no override: {said}. A value with special characters needs quotes: 'key=\"...\"'."
    if isinstance(error, ValueError):  # Hydra does not name the override here
        said = f"{said}, in {' '.join(overrides)}"
    return _find_wrong(name, overrides) or said


def _find_wrong(name: str, overrides: list[str]) -> str | None:
    """What is wrong with the first override whose key does not exist in the config of the chosen files."""
    try:
        parsed = OverridesParser.create(GlobalHydra.instance().config_loader()).parse_overrides(overrides)
        groups = [o for o in parsed if _options(o)]
        cfg = _compose(name, [str(o.input_line) for o in groups if not o.is_sweep_override()])
    except (HydraException, OmegaConfBaseException, ValueError):
        return None
    settings = [override for override in parsed if override not in groups]
    return next((wrong for override in settings if (wrong := _wrong_setting(override, cfg))), None)


def _wrong_setting(override: Override, cfg: DictConfig) -> str | None:
    package, _, group = override.key_or_group.rpartition("/")
    if package and GlobalHydra.instance().config_loader().get_group_options(group):
        place = f"{group}@{package.replace('/', '.')}.{group}"
        return f"{override.input_line} chooses from no folder of configs: write {place}={override.value()}."
    if override.is_add() or override.is_force_add() or override.is_delete():
        return None
    return _first_missing(cfg, override.key_or_group)


def _say(error: Exception) -> str:
    """The message of a Hydra error, without its search path, and with all sweeps where it lists some."""
    said = ". ".join(part.strip() for part in (str(error), str(error.__cause__ or "")) if part.strip())
    said = re.sub(r"\nConfig search path:.*", "", said, flags=re.DOTALL)
    if "Available options in 'sweep':" in said:  # Hydra omits those in sub-folders
        folder = paths.folder("sweeps")
        below = [file.relative_to(folder).with_suffix("").as_posix() for file in sorted(folder.glob("*/*.yaml"))]
        said = "\n\t".join([said.rstrip(), *below])
    return _guess_choice(said)


def _guess_choice(said: str) -> str:
    """A message that lists the choices there are, with the one that was meant, if one is near."""
    wrong = re.search(r"Could not find '(?:[^']*/)?([^'/]+)'(?=\s+Available options)", said)
    near = difflib.get_close_matches(wrong[1], said[wrong.end() :].split(), n=1) if wrong else []
    return f"{said[: wrong.end()]}. Did you mean '{near[0]}'?{said[wrong.end() :]}" if wrong and near else said


def _first_missing(cfg: DictConfig, key: str) -> str | None:
    node, seen = cfg, ""
    for part in key.replace("/", ".").split("."):
        if not isinstance(node, DictConfig):
            return None
        there = [str(k) for k in node if not str(k).startswith("_")]
        if part not in node.keys():  # noqa: SIM118 (an option that is still to be given, ???, is not `in` its node)
            near = difflib.get_close_matches(part, there, n=1)
            guess = f" Did you mean '{seen}{near[0]}'?" if near else ""
            if not there:
                return f"there is no option '{seen}{part}'. Add it with +{key}=..."
            what = f"'{seen.rstrip('.')}' has" if seen else "There are"
            return f"there is no option '{seen}{part}'.{guess} {what}: {', '.join(sorted(there))}."
        node, seen = node._get_node(part), f"{seen}{part}."  # type: ignore[assignment]
    return None
