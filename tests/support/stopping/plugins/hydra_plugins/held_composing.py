"""Hydra loads this where its folder is on the path, and asks it before it composes anything."""

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin

from tests.support.stopping.hold import hold


class Composing(SearchPathPlugin):
    """Holds in ``composing``."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        hold("composing")
