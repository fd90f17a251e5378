"""Composing many jobs of one sweep: Hydra's own loader, with what they share read once and then kept.

A loader is also what a launcher ships to its workers, which compose their job from the files again. `frozen` points it
to a copy of those files, so that jobs that start tomorrow are the ones that were checked today.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra._internal import defaults_list as composing
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository, IConfigRepository
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.default_element import InputDefault, ResultDefault
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig, OmegaConf

from fmsteal.sweep.frozen import copy_files


class SharedLoader(ConfigLoaderImpl):
    """Composes what Hydra's loader composes; a file is read and parsed once, not once per job.

    For jobs that have the same ``hydra.searchpath``, as those of a sweep do.
    """

    def __init__(self, config_search_path: ConfigSearchPath, frozen: bool = False) -> None:
        """Read from ``config_search_path``; ``frozen`` says that it holds what ``hydra.searchpath`` adds already."""
        super().__init__(config_search_path)
        self._frozen = frozen
        self._forget()

    def _forget(self) -> None:
        self._files: CachingConfigRepository | None = None
        self._nodes: dict[tuple[str | None, str | None, bool], ConfigResult] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Workers read for themselves: jobs are shipped one by one, and small."""
        return {**self.__dict__, "_files": None, "_nodes": {}}

    def _parse_overrides_and_create_caching_repo(
        self, config_name: str | None, overrides: list[str]
    ) -> tuple[list[Override], CachingConfigRepository]:
        parsed = OverridesParser.create().parse_overrides(overrides=overrides)
        if self._files is None:
            files = CachingConfigRepository(self.repository)
            if not self._frozen:
                self._process_config_searchpath(config_name, parsed, files)
            self._files = files
        return parsed, self._files

    def _load_configuration_impl(self, *args: Any, **kwargs: Any) -> DictConfig:
        with _only_needed_maps():
            return super()._load_configuration_impl(*args, **kwargs)

    def _load_single_config(self, default: ResultDefault, repo: IConfigRepository) -> ConfigResult:
        key = (default.config_path, default.package, default.primary)
        if key not in self._nodes:
            self._nodes[key] = super()._load_single_config(default, repo)
        kept = self._nodes[key]
        fresh = copy.copy(kept)
        fresh.config = copy.deepcopy(kept.config)  # merging takes the nodes over
        return fresh

    def open(self, master: DictConfig) -> None:
        """Find the config sources of a sweep, from its own config: before anything is asked of this loader."""
        overrides = [str(o) for o in master.hydra.overrides.hydra]
        self._parse_overrides_and_create_caching_repo(master.hydra.job.config_name, overrides)

    def chooses(self, override: Override) -> bool:
        """Whether an override chooses a file, rather than setting a value."""
        assert self._files is not None
        return self._files.group_exists(override.key_or_group)

    def freeze(self, folder: Path) -> SharedLoader:
        """A loader of the same configs that reads a copy of their folders, made in ``folder``.

        The copy is named by its content: the same configs again are the same copy.
        """
        assert self._files is not None
        folder = folder.absolute()  # workers may run elsewhere
        search = ConfigSearchPathImpl()
        for source in self._files.get_sources():
            path = f"{source.scheme()}://{source.path}"
            if source.scheme() == "file" and source.available():
                place = Path(source.path).absolute()
                path = f"file://{copy_files(place, _configs(place), folder)}"
            search.append(source.provider, path)
        return SharedLoader(search, frozen=True)


@contextmanager
def _only_needed_maps() -> Iterator[None]:
    """Spare Hydra the map of all choices that it makes for each defaults list, where no entry of the list looks at it.

    Two thirds of the time that a composition takes otherwise; only lists with an interpolation (``${...}``) need it.
    """
    made = composing._create_interpolation_map

    def needed(overrides: composing.Overrides, defaults_list: list[InputDefault], self_added: bool) -> DictConfig:
        if any(default.is_interpolation() for default in defaults_list):
            return made(overrides, defaults_list, self_added)
        return OmegaConf.create()

    composing._create_interpolation_map = needed
    try:
        yield
    finally:
        composing._create_interpolation_map = made


def _configs(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if p.suffix in (".yaml", ".yml") and p.is_file()]
