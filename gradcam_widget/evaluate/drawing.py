"""Figures: matplotlib figures in the colours of the explorer, light and dark, without pyplot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gradcam_widget import render
from gradcam_widget.cell_output import show_itself

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Look", "Pictured", "chart", "dress", "entitle", "look_of", "pictured", "sheet"]


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
    figure = Figure(figsize=size, dpi=144, facecolor=look.ground, layout="constrained")
    return show_itself(figure), look


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


@dataclass(frozen=True, eq=False)
class Pictured:
    """A map over a picture.

    Attributes:
        picture: uint8 (H, W, 3).
        values: (H, W).
        colormap: name of a colour table.
        limits: the values with the first and the last colour.
        title: above it.
        boxes: (left, top, right, bottom) with a colour and a style of line each, drawn as outlines.
        points: (x, y) with a colour each, drawn as crosses.
    """

    picture: NDArray[Any]
    values: NDArray[np.float64]
    colormap: str
    limits: tuple[float, float]
    title: str
    boxes: tuple[tuple[tuple[int, int, int, int], str, str], ...] = ()
    points: tuple[tuple[tuple[int, int], str], ...] = ()


def pictured(parts: Sequence[Pictured], title: str = "", *, dark: bool = False) -> Figure:
    """Maps over pictures, side by side; blended evenly, the picture in grey."""
    from matplotlib.patches import Rectangle

    columns = len(parts)
    side = 2.7 if columns < 3 else 6.2 / columns
    figure, look = sheet(dark, (side * columns, side + (0.5 if title else 0.25)))
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for ax, part in zip(axes, parts, strict=True):
        low, high = part.limits
        share = (part.values - low) / ((high - low) or 1.0)
        grey = part.picture.mean(-1, keepdims=True)
        mixed = 0.5 * np.repeat(grey, 3, axis=2) + 0.5 * render.colour(share, part.colormap)
        ax.imshow(np.clip(np.rint(mixed), 0, 255).astype(np.uint8), interpolation="nearest")
        for (left, top, right, bottom), colour, style in part.boxes:
            for width, ink in ((3.0, "black"), (1.6, colour)):  # seen on any colour
                ax.add_patch(
                    Rectangle(
                        (left - 0.5, top - 0.5),
                        right - left,
                        bottom - top,
                        fill=False,
                        edgecolor=ink,
                        linewidth=width,
                        linestyle=style if ink == colour else "-",
                    )
                )
        for (x, y), colour in part.points:
            ax.plot([x], [y], "x", color="black", markersize=9, markeredgewidth=3.4)
            ax.plot([x], [y], "x", color=colour, markersize=8, markeredgewidth=1.8)
        ax.set_axis_off()
        entitle(ax, look, part.title)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=9, color=look.ink)
    return figure
