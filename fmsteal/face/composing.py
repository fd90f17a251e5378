"""Composes a job's config from Python, with the checks and messages of the command line."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from fmsteal.base.errors import ConfigError
from fmsteal.base.quoting import quote_override, unquote_override
from fmsteal.face.borrowing import borrow_hydra
from fmsteal.sweep.overrides import preview, require_effect


def compose(overrides: Sequence[str] = ()) -> DictConfig:
    """The config of a job: ``fmsteal.compose(["budget=100", "seed=3"])``. Nothing is run, and torch is not imported.

    Args:
        overrides: the words that would follow ``fmsteal`` on the command line.

    Raises:
        ConfigError: an option, key or value is misspelt or has no effect; the message names it and what exists instead.
    """
    words = spell_words(overrides)
    with borrow_hydra():
        refuse_sweeps(words)
        cfg = preview(make_arguments(words))
        require_effect(cfg, words)
    return OmegaConf.masked_copy(cfg, [str(name) for name in cfg if name != "hydra"])


def spell_words(overrides: Sequence[str]) -> list[str]:
    """Quote overrides for Hydra's grammar.

    Raises:
        ConfigError: `overrides` is not a list of ``key=value``.
    """
    if isinstance(overrides, str):
        raise ConfigError(f'Give a list of overrides: ["{overrides}"], one word each, as ["budget=100", "seed=3"].')
    for word in overrides:
        if not isinstance(word, str):
            raise ConfigError(f'{word!r} is no override: they are texts, as in ["budget=100", "seed=3"].')
        if word.startswith("-"):
            raise ConfigError(
                f"{word} is for the command line; here are key=value alone. A sweep: fmsteal.run_sweep([...]); "
                "configs of your own: hydra.searchpath=[file:///my/conf]; -q is quiet=true."
            )
    return [quote_override(word) for word in overrides]


def refuse_sweeps(words: Sequence[str]) -> None:
    """Check that the words describe a single job.

    Raises:
        ConfigError: one of the words is an axis of a sweep.
    """
    for word in words:
        try:
            swept = OverridesParser.create().parse_override(word).is_sweep_override()
        except HydraException:  # reported when the config is composed
            continue
        if swept:
            raise ConfigError(
                f"{unquote_override(word)} is a sweep: fmsteal.run_sweep([...]) runs one. Here give one value."
            )


def make_arguments(words: Sequence[str], multirun: bool = False) -> Namespace:
    """The parsed command line of these words, as `fmsteal.cli` takes it."""
    return Namespace(overrides=list(words), config_dir=None, multirun=multirun, cfg=None)
