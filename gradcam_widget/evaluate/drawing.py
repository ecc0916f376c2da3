"""Figures: matplotlib figures in the colours of the explorer, light and dark, without pyplot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Look", "chart", "dress", "entitle", "look_of", "sheet"]


@dataclass(frozen=True)
class Look:
    """Colours of one theme: those of the explorer's style sheet."""

    ground: str
    ink: str
    muted: str
    line: str
    accent: str
    pro: str
    con: str


_LOOKS = {
    False: Look("#ffffff", "#1d2330", "#667085", "#d5d9e0", "#0f62fe", "#c2410c", "#2563eb"),
    True: Look("#111418", "#e6e9ef", "#98a2b3", "#3a414d", "#78a9ff", "#fb923c", "#60a5fa"),
}


def look_of(dark: bool) -> Look:
    """The colours of the light or the dark theme."""
    return _LOOKS[dark]


def sheet(dark: bool = False, size: tuple[float, float] = (6.2, 2.6)) -> tuple[Figure, Look]:
    """An empty figure of a size in inches, and its colours."""
    from matplotlib.figure import Figure

    look = look_of(dark)
    return Figure(figsize=size, dpi=144, facecolor=look.ground, layout="constrained"), look


def chart(
    dark: bool = False, size: tuple[float, float] = (6.2, 2.6), columns: int = 1, **options: Any
) -> tuple[Figure, list[Axes], Look]:
    """A figure with axes side by side, two quiet lines each and no box."""
    figure, look = sheet(dark, size)
    axes = list(figure.subplots(1, columns, squeeze=False, **options)[0])
    for ax in axes:
        dress(ax, look)
    return figure, axes, look


def dress(ax: Axes, look: Look) -> None:
    """Axes as the explorer draws them."""
    ax.set_facecolor("none")
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color(look.line)
    ax.tick_params(colors=look.muted, labelsize=8, length=3, width=0.8)
    for label in (ax.xaxis.label, ax.yaxis.label):
        label.set_color(look.muted)
        label.set_fontsize(8.5)


def entitle(ax: Axes, look: Look, text: str) -> None:
    """A title over the left end of axes."""
    ax.set_title(text, loc="left", color=look.ink, fontsize=8.5)
