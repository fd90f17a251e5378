"""The arithmetic of what stealing an encoder costs: against layers counted one by one, and by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fmsteal.attacks.encoder_cost import (
    RESNET18,
    RESNET34,
    count_operations,
    count_pretraining,
    count_stealing,
    draw,
    main,
    table,
)
from fmsteal.networks.backbones import BackboneSpec


def layer_by_layer(spec: BackboneSpec, size: int) -> int:
    """Two operations for each weight of a convolution at each place that it is used, from the shapes of its outputs."""
    backbone, counted = spec.build(pretrained=False).eval(), [0]

    def count(module: Any, _: Any, out: Tensor) -> None:
        places = out.shape[-1] * out.shape[-2] if isinstance(module, nn.Conv2d) else 1
        counted[0] += 2 * module.weight.numel() * places

    for module in backbone.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    with torch.no_grad():
        backbone(torch.zeros(1, 3, size, size))
    return counted[0]


@pytest.mark.parametrize("spec", [RESNET18, RESNET34, BackboneSpec("tf_efficientnet_lite0", size=64)], ids=str)
def test_a_forward_pass_is_counted_as_layer_by_layer(spec: BackboneSpec) -> None:
    assert count_operations(spec) == layer_by_layer(spec, spec.size or 0)


def test_a_resnet18_for_small_images_is_as_costly_as_is_known() -> None:
    assert count_operations(RESNET18) == pytest.approx(2 * 0.556e9, rel=0.01)  # multiply-adds, widely printed


def test_costs_by_hand() -> None:
    whole, theft = (
        count_pretraining("c", RESNET18, 50_000, 1000),
        count_stealing("c", "k", RESNET18, RESNET34, 2_500, 1, 100),
    )
    assert (whole.passes, theft.passes, theft.images) == (100_000_000, 500_000, 2_500)
    victim, thief = count_operations(RESNET18), count_operations(RESNET34)
    assert whole.operations == 1e8 * 3 * victim and theft.operations == 2_500 * victim + 5e5 * 3 * thief
    assert whole.hours(1e12) == pytest.approx(3e8 * victim / 3.6e15)
    share = f"{100 * theft.operations / whole.operations:.3g} %"
    assert share in table([whole, theft]).splitlines()[3] and "| - |" in table([theft])


@pytest.mark.slow
def test_the_table_and_its_figure(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    main(["--figure", str(tmp_path / "cost.png"), "--rate", "1e14"])
    said = capsys.readouterr().out
    assert "| CIFAR-10 | stolen, k = 1 | 2,500 | 500,000 |" in said and "by arithmetic, at 1e+14" in said
    assert (tmp_path / "cost.png").stat().st_size > 5000
    draw([count_pretraining("c", RESNET18, 10, 1)], tmp_path / "one.svg")
    for wrong, match in (
        (["--rate", "0"], "must be above 0"),
        (["--figure", "/not/there/f.png"], "no folder /not/there"),
    ):
        with pytest.raises(SystemExit):
            main(wrong)
        assert match in capsys.readouterr().err
