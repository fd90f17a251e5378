"""What jobs of these tests share: images, and a victim where one is trained."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where jobs find what can be made again."""
    return tmp_path_factory.mktemp("cache")
