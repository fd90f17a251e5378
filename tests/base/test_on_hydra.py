"""What fmsteal builds on inside Hydra is as it was when that was written."""

from __future__ import annotations

from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf import base as reading
from omegaconf.errors import GrammarParseError
from omegaconf.grammar_parser import parse as parse_anew

from fmsteal.base import on_hydra, paths
from tests.support.composing import composed
from tests.support.inside import PACKAGE, importers, require_known

HERE = "fmsteal/base/on_hydra.py"
SOURCES = {  # what is replaced, overridden or done here in another way
    "hydra.main:main": "820c1bf825cf",
    "hydra._internal.utils:run_and_report": "becb13aa1907",
    "hydra._internal.utils:_run_hydra": "f7c384a595f5",
    "hydra.core.utils:JobReturn.return_value": "a0f4637fecfb",
    "hydra._internal.utils:_run_app": "d1dd9948f972",
    "hydra._internal.hydra:Hydra.run": "5a8f4e5fac0a",
    "hydra._internal.hydra:Hydra.get_mode": "d918acfc3128",
    "hydra._internal.hydra:Hydra.compose_config": "28e7f7345bca",
    "hydra.core.utils:run_job": "147405d9a5ac",
    "hydra.core.singleton:Singleton": "1afcfc0a2dbb",
    "hydra.core.config_store:ConfigStore._open": "14c61d71f5c3",
    "hydra._internal.core_plugins.basic_sweeper:BasicSweeper.split_arguments": "2fde83da8b3c",
    "hydra._internal.defaults_list:_create_interpolation_map": "305421840570",
    "hydra._internal.defaults_list:_create_defaults_list": "87516ee01d88",
    "hydra._internal.config_loader_impl:ConfigLoaderImpl.__init__": "76857bbda2a5",
    "hydra._internal.config_loader_impl:ConfigLoaderImpl._parse_overrides_and_create_caching_repo": "7ae90f3ab634",
    "hydra._internal.config_loader_impl:ConfigLoaderImpl._process_config_searchpath": "17de43439876",
    "hydra._internal.config_loader_impl:ConfigLoaderImpl._load_configuration_impl": "86e12172ff3e",
    "hydra._internal.config_loader_impl:ConfigLoaderImpl._load_single_config": "31fafa3c6846",
    "hydra._internal.config_repository:CachingConfigRepository.__init__": "529dc561cbce",
    "hydra._internal.config_repository:CachingConfigRepository.get_sources": "03fe3f03e1ce",
    "hydra._internal.config_repository:CachingConfigRepository.group_exists": "f8039a5f910b",
}
SIGNATURES = {  # what is called
    "hydra.main:_get_rerun_conf": "(file_path, overrides)",
    "hydra._internal.utils:get_args_parser": "()",
    "hydra.core.utils:_flush_loggers": "()",
    "hydra._internal.callbacks:Callbacks.__init__": "(self, config=)",
    "hydra._internal.callbacks:Callbacks.on_run_start": "(self, config, **kwargs)",
    "hydra._internal.callbacks:Callbacks.on_run_end": "(self, config, **kwargs)",
    "hydra._internal.config_loader_impl:ConfigLoaderImpl._apply_overrides_to_config": "(overrides, cfg)",
    "hydra._internal.config_search_path_impl:ConfigSearchPathImpl.append": "(self, provider, path, anchor=)",
}


@pytest.mark.parametrize(("name", "known"), [*SOURCES.items(), *SIGNATURES.items()])
def test_hydra_is_the_one_that_this_was_written_for(name: str, known: str) -> None:
    require_known("hydra-core", name, known, HERE)


def test_omegaconf_reads_what_its_parser_returns_and_changes_nothing_in_it() -> None:
    require_known("omegaconf", "omegaconf.base:Container.resolve_parse_tree", "e3eb720f0f95", HERE)


def test_an_interpolation_that_is_parsed_once_has_the_same_value(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("experiment=smoke", "attack=activethief", "defense=rounding", "tracker=wandb")

    def read() -> object:
        cfg = composed(*words)
        OmegaConf.set_struct(cfg, False)
        del cfg["hydra"]  # names folders that a run makes
        return OmegaConf.to_container(cfg, resolve=True)

    monkeypatch.setattr(reading, "parse", parse_anew)
    plain = read()
    calls = []
    monkeypatch.setattr(reading, "parse", lambda text: calls.append(text) or parse_anew(text))
    with on_hydra.parsed_once():
        assert [read(), read()] == [plain, plain]
        assert len(calls) == len(set(calls)) > 20
        for _ in range(2):  # what cannot be parsed is kept no more than what can
            with pytest.raises(GrammarParseError):
                OmegaConf.create({"a": "${b"})["a"]


def test_hydra_takes_the_mode_that_was_composed_before() -> None:
    cfg = composed("hydra.mode=MULTIRUN")
    with initialize_config_dir(str(paths.folder("conf")), version_base=on_hydra.VERSION):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        assert hydra.get_mode("config", []) is None
        with on_hydra.known_mode(cfg):
            assert hydra.get_mode("config", ["no=such"]) is RunMode.MULTIRUN
        with on_hydra.known_mode(None):
            assert hydra.get_mode("config", ["hydra.mode=RUN"]) is RunMode.RUN


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("hydra._internal.utils:run_and_report", "record its digest [0-9a-f]{12} beside becb13aa1907"),
        ("hydra._internal.utils:get_args_parser", "record its signature \\(call, \\*, how=\\) instead of \\(\\)"),
    ],
)
def test_a_function_that_has_changed_is_named(name: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(call: Any, *, how: int = 1) -> Any:
        return call()

    monkeypatch.setattr(name.replace(":", "."), changed)
    with pytest.raises(AssertionError, match=f"hydra-core .* has another {name} .* {HERE} .*{says}"):
        require_known("hydra-core", name, (SOURCES | SIGNATURES)[name], HERE)


def test_a_function_that_is_gone_is_named() -> None:
    with pytest.raises(AssertionError, match=f"has another hydra.main:gone .* {HERE} .*put something in its place"):
        require_known("hydra-core", "hydra.main:gone", "()", HERE)


def test_nothing_else_looks_inside_hydra() -> None:
    assert list(importers("hydra._internal")) == [HERE]
    inside = ("_return_value", "._instances", "ConfigStore.instance().repo")
    found = {file for file in PACKAGE.rglob("*.py") for name in inside if name in file.read_text()}
    assert [file.relative_to(PACKAGE.parent).as_posix() for file in found] == [HERE]
