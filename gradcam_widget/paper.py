"""Paper: what figures are drawn on, in inches from the upper left corner: a sheet of matplotlib's, or a bitmap."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from gradcam_widget import lettering
from gradcam_widget.cell_output import show_itself
from gradcam_widget.localise import Box

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["INK", "MUTED", "Bitmap", "Block", "Paper", "Place", "Sheet", "Style", "Tile"]

INK, MUTED = "#1d2330", "#667085"
_EDGE = "#98a2b3"
_PRO, _CON, _WASH = "#c2410c", "#2563eb", "#e2ecff"
_LEADING = 1.35

Place = tuple[float, float, float, float]
"""Left, top, width and height in inches."""


@dataclass(frozen=True)
class Style:
    """How a line of text looks.

    Attributes:
        size: of the letters, in points.
        align: which end of the line its place is.
    """

    size: float
    colour: str = INK
    bold: bool = False
    mono: bool = False
    align: Literal["left", "center", "right"] = "left"


class Block:
    """A few lines of text: wrapped to a width, and cut at the end where they are too many.

    Args:
        words: the text, as it is.
        width: in inches.
        style: of all lines.
        tight: the share of the width that text may fill by its own measure.
        most: lines.
    """

    def __init__(self, words: str, width: float, style: Style, *, tight: float, most: int = 3) -> None:
        self.style = style
        drawable = lettering.drawable(words, lettering.LONGEST * (most // 2))
        self.lines = (
            lettering.wrapped(drawable, width * tight, style.size, style.bold, most) if words.strip() else []
        )

    @property
    def leading(self) -> float:
        """From one line to the next, in inches."""
        return self.style.size * _LEADING / 72

    @property
    def height(self) -> float:
        """Of all lines, in inches."""
        return self.leading * len(self.lines)


@dataclass(frozen=True, eq=False)
class Tile:
    """An image, and the place that it fills.

    Attributes:
        place: where.
        image: uint8 (H, W, 3).
        size: its (width, height) in the unit of the box.
        label: "picture", or "scale" for a colour bar.
        box: (left, top, right, bottom), drawn on it.
        framed: whether there is a thin frame around it.
    """

    place: Place
    image: NDArray[np.uint8]
    size: tuple[int, int]
    label: Literal["picture", "scale"]
    box: Box | None = None
    framed: bool = False


class Paper(ABC):
    """Something on which things are placed in inches from its upper left corner.

    Attributes:
        fine: pixels, at least, in which a picture is blended with its map.
    """

    fine: int

    @abstractmethod
    def image(self, tile: Tile) -> None:
        """An image that fills its place."""

    @abstractmethod
    def wash(self, place: Place) -> None:
        """A tinted ground."""

    @abstractmethod
    def bars(self, place: Place, shown: Sequence[tuple[float, bool]], limit: float) -> None:
        """Signed bars from the top to the bottom, (value, whether hollow), between -limit and limit."""

    @abstractmethod
    def label(self, x: float, baseline: float, words: str, style: Style) -> None:
        """One line of text, as it is."""

    def write(self, block: Block, x: float, y: float) -> float:
        """A block whose upper left corner is at (x, y); where the next one begins."""
        for at, line in enumerate(block.lines):
            self.label(x, y + block.leading * at + block.style.size * 1.02 / 72, line, block.style)
        return y + block.height


class Sheet(Paper):
    """A figure of matplotlib's."""

    fine = 448

    def __init__(self, width: float, height: float) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.width, self.height = width, height
        self.figure = show_itself(Figure(figsize=(width, height), dpi=100, facecolor="white"))
        self.figure.set_layout_engine("none")
        FigureCanvasAgg(self.figure)

    def image(self, tile: Tile) -> None:
        """On axes whose unit is that of ``size``."""
        from matplotlib.patches import Rectangle

        columns, rows = tile.size
        axes = self.axes(tile.place, tile.label)
        smooth = "bilinear" if tile.label == "scale" else "antialiased"
        extent = (0, columns, rows, 0)
        axes.imshow(tile.image, extent=extent, aspect="auto", interpolation=smooth, origin="upper")
        axes.set(xlim=(0, columns), ylim=(rows, 0))
        if tile.framed:
            axes.spines[:].set(visible=True, color=_EDGE, linewidth=0.5)
        if tile.box is not None:
            left, top, right, bottom = tile.box
            for colour, thickness in (("white", 2.2), (INK, 1.0)):
                outline = Rectangle(
                    (left, top), right - left, bottom - top, fill=False, edgecolor=colour, linewidth=thickness
                )
                axes.add_patch(outline)

    def wash(self, place: Place) -> None:
        """A tinted ground."""
        axes = self.axes(place, "kept")
        axes.set_facecolor(_WASH)
        axes.patch.set_visible(True)

    def bars(self, place: Place, shown: Sequence[tuple[float, bool]], limit: float) -> None:
        """On axes from -limit to limit."""
        from matplotlib.patches import Rectangle

        axes = self.axes(place, "bars")
        axes.set(xlim=(-limit, limit), ylim=(len(shown) - 0.5, -0.5))
        axes.axvline(0, color=_EDGE, linewidth=0.6)
        for rank, (value, off) in enumerate(shown):
            colour = _PRO if value > 0 else _CON
            bar = Rectangle(
                (0, rank - 0.34),
                value,
                0.68,
                facecolor="none" if off else colour,
                edgecolor=colour if off else "none",
                linewidth=0.7,
                clip_on=False,
            )
            axes.add_patch(bar)

    def axes(self, place: Place, label: str) -> Axes:
        """Axes without ticks and frame."""
        left, top, width, height = place
        rectangle = (
            left / self.width,
            1 - (top + height) / self.height,
            width / self.width,
            height / self.height,
        )
        axes = self.figure.add_axes(rectangle, label=label, xticks=[], yticks=[], frame_on=True)
        axes.spines[:].set_visible(False)
        axes.patch.set_visible(False)
        return axes

    def label(self, x: float, baseline: float, words: str, style: Style) -> None:
        """In DejaVu, and where that lacks a letter in another font that is installed."""
        words = lettering.drawable(words)
        self.figure.text(
            x / self.width,
            1 - baseline / self.height,
            words,
            fontsize=style.size,
            fontfamily=lettering.families(words, style.mono),
            fontweight="bold" if style.bold else "normal",
            fontstyle="normal",
            fontstretch="normal",
            color=style.colour,
            ha=style.align,
            va="baseline",
            parse_math=False,
            usetex=False,
        )


class Bitmap(Paper):
    """A picture of Pillow's, with ``dpi`` pixels for each inch."""

    def __init__(self, width: float, height: float, dpi: float) -> None:
        from PIL import Image, ImageDraw

        self.dpi = dpi
        self.fine = round(3 * dpi)  # pixels of the largest picture, or so
        self._image = Image.new("RGB", (round(width * dpi), round(height * dpi)), "white")
        self._draw = ImageDraw.Draw(self._image)

    def png(self) -> bytes:
        """What is on it."""
        buffer = io.BytesIO()
        self._image.save(buffer, "PNG")
        return buffer.getvalue()

    def image(self, tile: Tile) -> None:
        """Enlarged or made smaller to whole pixels."""
        from PIL import Image

        left, top, right, bottom = self._pixels(tile.place)
        across, down = max(1, right - left), max(1, bottom - top)
        image = Image.fromarray(np.ascontiguousarray(tile.image))
        fitted = image.resize((across, down), Image.Resampling.BILINEAR)
        self._image.paste(fitted, (left, top))
        if tile.framed:
            self._draw.rectangle((left, top, right - 1, bottom - 1), outline=_EDGE)
        if tile.box is not None:
            columns, rows = tile.size
            x0, x1 = (left + round(at / columns * across) for at in (tile.box[0], tile.box[2]))
            y0, y1 = (top + round(at / rows * down) for at in (tile.box[1], tile.box[3]))
            self._draw.rectangle((x0 - 1, y0 - 1, x1, y1), outline="white", width=3)
            self._draw.rectangle((x0, y0, x1 - 1, y1 - 1), outline=INK)

    def wash(self, place: Place) -> None:
        """A tinted ground."""
        left, top, right, bottom = self._pixels(place)
        self._draw.rectangle((left, top, right - 1, bottom - 1), fill=_WASH)

    def bars(self, place: Place, shown: Sequence[tuple[float, bool]], limit: float) -> None:
        """In whole pixels; what is shorter than half a pixel is not drawn."""
        left, top, right, bottom = self._pixels(place)
        zero = (left + right) // 2
        self._draw.line((zero, top, zero, bottom - 1), fill=_EDGE)
        row = (bottom - top) / len(shown)
        for rank, (value, off) in enumerate(shown):
            length = round(abs(value) / limit * (right - left) / 2)
            if not length:
                continue
            colour = _PRO if value > 0 else _CON
            y = (round(top + (rank + 0.16) * row), round(top + (rank + 0.84) * row) - 1)
            x = (zero + 1, zero + length) if value > 0 else (zero - length, zero - 1)
            self._draw.rectangle((x[0], y[0], x[1], y[1]), fill=None if off else colour, outline=colour)

    def label(self, x: float, baseline: float, words: str, style: Style) -> None:
        """In DejaVu alone."""
        anchor = {"left": "ls", "center": "ms", "right": "rs"}[style.align]
        family = lettering.MONO if style.mono else lettering.SANS
        font = lettering.font(family, style.size * self.dpi / 72, style.bold)
        at = (x * self.dpi, round(baseline * self.dpi))
        self._draw.text(at, lettering.boxed(words), fill=style.colour, font=font, anchor=anchor)

    def _pixels(self, place: Place) -> tuple[int, int, int, int]:
        """(left, top, right, bottom)."""
        left, top, width, height = place
        edges = (left, top, left + width, top + height)
        x0, y0, x1, y1 = (round(edge * self.dpi) for edge in edges)
        return x0, y0, x1, y1
