"""A defense that is made in Python without options is the one that its config makes."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from fmsteal.base import paths
from fmsteal.config.build import locate

CONFIGS = sorted(paths.folder("conf").joinpath("defense").glob("*.yaml"))
OWN = {("mad_argmax", "keep_label"), ("gradient_redirection_batch", "batch")}  # what makes it another choice


@pytest.mark.parametrize("config", CONFIGS, ids=lambda file: file.stem)
def test_its_options_have_the_configs_values(config: Path) -> None:
    written = OmegaConf.load(config)
    if "_target_" not in written:
        return  # it extends another
    takes = inspect.signature(locate(written._target_)).parameters
    plain = {str(k): written[k] for k in written if not OmegaConf.is_interpolation(written, k)}
    for name, value in plain.items():
        default = takes[name].default if name in takes else inspect.Parameter.empty
        if isinstance(value, int | float | str) and default is not inspect.Parameter.empty:
            assert (value == default) == ((config.stem, name) not in OWN), name
