"""What stealing an encoder costs against pre-training it, by arithmetic: images, passes, GPU hours; nothing measured.

    python -m fmsteal.attacks.encoder_cost                      # StolenEncoder's own settings and ablations, as a table
    python -m fmsteal.attacks.encoder_cost --figure cost.png

A forward pass of one image costs the network's multiply-adds (two floating-point operations each, in convolutions and
matrix products only); a backward pass costs twice as much. Not counted: views drawn on the CPU, reading images, heads
and their losses, CLIP's text tower.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from fmsteal.networks.backbones import BackboneSpec

RATE = 0.4 * 312e12  # operations a second: 40 % of an A100's bf16 peak
BACKWARD = 3  # a forward and a backward pass, in forward passes
HOUR = 3600

RESNET18 = BackboneSpec("resnet18", size=32, stem="small")
RESNET34 = BackboneSpec("resnet34", size=32, stem="small")
RESNET34_224 = BackboneSpec("resnet34", size=224, stem="small")
RESNET50 = BackboneSpec("resnet50", size=224)
CLIP = BackboneSpec("resnet50_clip.openai", size=224, options={"num_classes": 1024})


@dataclass(frozen=True)
class Cost:
    """The cost of one training.

    Attributes:
        target: name of the encoder.
        way: how it is obtained: pre-trained or stolen.
        images: distinct training images; for a theft, also its questions.
        passes: passes of one image through the trained network, forward and backward.
        operations: floating-point operations, including those of the target's answers.
    """

    target: str
    way: str
    images: int
    passes: int
    operations: float

    def hours(self, rate: float = RATE) -> float:
        """Hours on a processor with ``rate`` operations a second."""
        return self.operations / rate / HOUR


@functools.cache
def count_operations(spec: BackboneSpec) -> int:
    """Floating-point operations of one image's forward pass, counted without weights and without storage."""
    with torch.device("meta"):
        trunk, size = spec.build(pretrained=False).eval().trunk, spec.size or 224
        images = torch.zeros(1, 3, size, size)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        trunk(images)
    return int(counter.get_total_flops())


def count_pretraining(target: str, spec: BackboneSpec, images: int, epochs: int, views: int = 2) -> Cost:
    """Contrastive pre-training, with several views of each image in each epoch."""
    passes = images * epochs * views
    return Cost(target, "pre-trained", images, passes, float(passes) * BACKWARD * count_operations(spec))


def count_stealing(
    target: str, way: str, victim: BackboneSpec, thief: BackboneSpec, images: int, k: int, epochs: int
) -> Cost:
    """StolenEncoder: one answer per image; each epoch trains on the image and ``k`` views of it."""
    passes = images * epochs * (1 + k)
    answered = float(images) * count_operations(victim)
    return Cost(target, way, images, passes, answered + float(passes) * BACKWARD * count_operations(thief))


def list_published() -> list[Cost]:
    """StolenEncoder's targets (Liu et al., CCS 2022): pre-training, baseline without views, and theft for several k.

    For the large targets the numbers of images asked about are RDA's (Wu et al., ECCV 2024).
    """
    found = []
    small = {"CIFAR-10": (50_000, 2_500), "STL-10": (105_000, 5_250), "Food-101": (90_900, 4_545)}
    for name, (images, asked) in small.items():
        found.append(count_pretraining(name, RESNET18, images, 1000))
        found.append(count_stealing(name, "stolen, no views", RESNET18, RESNET34, images, 0, 100))
        ks = (0, 1, 3, 9) if name == "CIFAR-10" else (1,)
        found += [count_stealing(name, f"stolen, k = {k}", RESNET18, RESNET34, asked, k, 100) for k in ks]
    for name, spec, images, epochs, views, asked in (
        ("ImageNet SimCLR", RESNET50, 1_281_167, 1000, 2, 40_000),
        ("CLIP RN50, images alone", CLIP, 400_000_000, 32, 1, 60_000),
    ):
        found.append(count_pretraining(name, spec, images, epochs, views))
        found.append(count_stealing(name, "stolen, k = 1", spec, RESNET34_224, asked, 1, 100))
    return found


def table(costs: Sequence[Cost], rate: float = RATE) -> str:
    """A Markdown table that compares each training with the pre-training of its target."""
    whole = {cost.target: cost.operations for cost in costs if cost.way == "pre-trained"}
    rows = [
        "| target | way | images | passes | operations | GPU hours | of pre-training |",
        "|---|---|---|---|---|---|---|",
    ]
    for cost in costs:
        share = cost.operations / whole[cost.target] if cost.target in whole else None
        rows.append(
            f"| {cost.target} | {cost.way} | {cost.images:,} | {cost.passes:,} | {cost.operations:.1e} | "
            f"{cost.hours(rate):.3g} | {'-' if share is None else f'{100 * share:.3g} %'} |"
        )
    return "\n".join([*rows, "", f"GPU hours by arithmetic, at {rate:.3g} operations a second; nothing was measured."])


def draw(costs: Sequence[Cost], file: Path, rate: float = RATE) -> None:
    """Draw images, passes and GPU hours as bars on logarithmic axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 0.22 * len(costs) + 1.2), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    panels: dict[str, Sequence[float]] = {"images": [c.images for c in costs], "passes": [c.passes for c in costs]}
    panels["GPU hours, by arithmetic"] = [c.hours(rate) for c in costs]
    colours = ["0.55" if cost.way == "pre-trained" else "C0" for cost in costs]
    for axes, (title, values) in zip(figure.subplots(1, 3, sharey=True), panels.items(), strict=True):
        axes.barh(range(len(costs)), values, color=colours)
        axes.set(xscale="log", title=title)
        axes.set_yticks(range(len(costs)), [f"{cost.target}: {cost.way}" for cost in costs], fontsize=7)
        axes.set_ylim(len(costs) - 0.4, -0.6)
    figure.savefig(file)


def main(words: Sequence[str] | None = None) -> None:
    """Show the table, and draw it if a file is given."""
    parser = argparse.ArgumentParser(prog="python -m fmsteal.attacks.encoder_cost", description=__doc__.split("\n")[0])
    parser.add_argument("--figure", type=Path, metavar="FILE", help="draw it too: .png, .pdf or .svg")
    parser.add_argument("--rate", type=float, default=RATE, metavar="R", help="operations a second (%(default).3g)")
    args = parser.parse_args(words)
    if not args.rate > 0:
        parser.error(f"--rate={args.rate:g} must be above 0")
    if args.figure and not args.figure.absolute().parent.is_dir():
        parser.error(f"there is no folder {args.figure.absolute().parent} to write {args.figure.name} into")
    costs = list_published()
    print(table(costs, args.rate))
    if args.figure:
        draw(costs, args.figure, args.rate)


if __name__ == "__main__":
    main()
