"""Draws the README's figure of a job: `python .github/pipeline.py` writes pipeline.png beside itself."""

from __future__ import annotations

from pathlib import Path

from matplotlib import pyplot as plt
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

YOURS, OURS = "#f2a65a", "#5b8fc7"
WIDTH, HEIGHT = 1.7, 0.62
BOXES = {  # name: (x, y, what it is, second line)
    "data": (0, 2, YOURS, "labelled images"),
    "victim": (2.2, 2, YOURS, "trained once, kept"),
    "defense": (4.4, 2, YOURS, "a guard, or a chain"),
    "oracle": (6.6, 2, OURS, "meter and ledger"),
    "query": (0, 0.7, YOURS, "public images"),
    "budget": (2.2, 0.7, YOURS, "how many queries"),
    "attack": (4.4, 0.7, YOURS, "selection, loss"),
    "theft": (6.6, 0.7, OURS, "sealed and kept"),
    "thief": (4.4, -0.6, YOURS, "backbone, recipe"),
    "evaluation": (8.8, 0.7, YOURS, "agreement, ..."),
    "result": (8.8, -0.6, OURS, "json, W&B, tables"),
}
ARROWS = [
    ("data", "victim"), ("victim", "defense"), ("defense", "oracle"), ("query", "budget"), ("budget", "attack"),
    ("attack", "oracle"), ("attack", "theft"), ("oracle", "theft"), ("thief", "attack"), ("theft", "evaluation"),
    ("evaluation", "result"),
]  # fmt: skip


def draw(path: Path) -> None:
    """Draw boxes and arrows into a file."""
    figure, axes = plt.subplots(figsize=(10.6, 3.9))
    for name, (x, y, colour, line) in BOXES.items():
        axes.add_patch(
            FancyBboxPatch((x, y), WIDTH, HEIGHT, boxstyle="round,pad=0.06,rounding_size=0.1", fc=colour, ec="none")
        )
        axes.text(x + WIDTH / 2, y + 0.42, name, ha="center", va="center", weight="bold", size=11)
        axes.text(x + WIDTH / 2, y + 0.16, line, ha="center", va="center", size=9)
    for start, end in ARROWS:
        axes.add_patch(FancyArrowPatch(*_edges(start, end), arrowstyle="-|>", mutation_scale=13, color="#444444"))
    for x, colour, text in (
        (0, YOURS, "a config group: yours to choose or to write"),
        (4.4, OURS, "what runs underneath"),
    ):
        axes.add_patch(FancyBboxPatch((x, -1.32), 0.22, 0.16, boxstyle="round,pad=0.03", fc=colour, ec="none"))
        axes.text(x + 0.4, -1.24, text, va="center", size=9)
    axes.set(xlim=(-0.2, 10.7), ylim=(-1.5, 2.8), aspect="equal")
    axes.axis("off")
    figure.savefig(path, dpi=130, bbox_inches="tight", facecolor="white", metadata={"Software": None})


def _edges(start: str, end: str) -> tuple[tuple[float, float], tuple[float, float]]:
    """Where an arrow leaves a box and where it meets the other one."""
    (x, y), (other_x, other_y) = BOXES[start][:2], BOXES[end][:2]
    pad = 0.08
    if y == other_y:
        return (x + WIDTH + pad, y + HEIGHT / 2), (other_x - pad, y + HEIGHT / 2)
    is_down = other_y < y
    if x == other_x:
        return (x + WIDTH / 2, y - pad if is_down else y + HEIGHT + pad), (
            x + WIDTH / 2,
            other_y + HEIGHT + pad if is_down else other_y - pad,
        )
    return (x + WIDTH + pad, y + HEIGHT - 0.1), (other_x + 0.2, other_y - pad)


if __name__ == "__main__":
    draw(Path(__file__).with_suffix(".png"))
