"""How plots look: colours that the colour-blind can distinguish, and marks and strokes that work in grey print."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

MARKS = "os^Dv<>Pp*"
STROKES = ("-", "--", "-.", ":")


@dataclass(frozen=True)
class Theme:
    """The colours of a plot; a page may replace them by variables.

    Attributes:
        ink: colour of text and axes, and of intervals and seeds on bars.
        paper: colour of the background; ``none`` is transparent.
        grid: colour of grid lines.
        series: colours of the compared choices, in order; they repeat with another stroke.
        heat: the colour map of heat maps, legible on light and dark paper alike.
    """

    ink: str = "#222222"
    paper: str = "#ffffff"
    grid: str = "#d9d9d9"
    series: tuple[str, ...] = (  # Okabe and Ito's; their yellow is too pale for paper, their black is the ink
        "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f",
    )  # fmt: skip
    heat: str = "cividis"

    def line(self, place: int) -> dict[str, Any]:
        """Colour, mark and stroke of the line at a place in the order."""
        turn = place // len(self.series)
        return {
            "color": self.series[place % len(self.series)],
            "marker": MARKS[place % len(MARKS)],
            "linestyle": STROKES[turn % len(STROKES)],
        }

    def rc(self) -> dict[str, Any]:
        """Matplotlib's settings, for drawing and for writing."""
        return {
            "font.size": 8, "axes.titlesize": 8, "axes.labelsize": 8, "legend.fontsize": 8,
            "xtick.labelsize": 7.5, "ytick.labelsize": 7.5,
            "text.color": self.ink, "axes.labelcolor": self.ink, "axes.titlecolor": self.ink,
            "axes.edgecolor": self.ink, "xtick.color": self.ink, "ytick.color": self.ink,
            "axes.facecolor": "none", "figure.facecolor": self.paper, "savefig.facecolor": self.paper,
            "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.6,
            "xtick.major.width": 0.6, "ytick.major.width": 0.6, "xtick.major.size": 3, "ytick.major.size": 3,
            "axes.axisbelow": True, "grid.color": self.grid, "grid.linewidth": 0.5,
            "lines.linewidth": 1.4, "lines.markersize": 4.5, "legend.frameon": False,
            "legend.title_fontsize": 8,
            "pdf.fonttype": 42, "svg.fonttype": "none", "svg.hashsalt": "fmsteal", "axes.unicode_minus": False,
        }  # fmt: skip


PAPER = Theme()
