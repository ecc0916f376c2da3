r"""Figures for paper and print: a map on its picture, its colour bar, and the bars of alpha, drawn by matplotlib.

Matplotlib is imported when a figure is made, as `Figure` with the Agg canvas; pyplot and its state are left alone.
Names are drawn as they are: neither ``$`` nor ``\`` nor ``<`` means anything.
"""

from __future__ import annotations

import functools
import io
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from gradcam_widget import render
from gradcam_widget.captions import aligned, number
from gradcam_widget.localise import Box
from gradcam_widget.paper import MUTED, Bitmap, Block, Paper, Place, Sheet, Style, Tile
from gradcam_widget.plate import Pane, Plate, plate_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FORMATS", "draw", "encode_figure", "encode_snapshot", "plate_of"]

FORMATS = ("png", "svg", "pdf")
"""What a figure can be saved as."""

_FILES: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "gradcam_widget",
    "pdf.fonttype": 42,
    "savefig.bbox": None,
    "savefig.transparent": False,
}
_lock = threading.Lock()

_MARGIN, _GAP = 0.1, 0.2  # inches
_PANE = 1.7  # inches that a pane with its bars below it takes at least
_UPRIGHT, _FLAT = 0.62, 1.3  # inches that a colour bar takes at least, for its numbers
_ONE_LINE = 1.9  # inches of a flat one with what its ends mean on the line of the numbers
_TITLE, _SMALL = 9.0, 7.0  # points
_HEAD, _TEXT, _NUMBER = Style(_TITLE, bold=True), Style(_SMALL, MUTED), Style(_SMALL, mono=True)

_P = TypeVar("_P", bound=Paper)


def draw(plate: Plate, *, width: float = 7.0) -> Figure:
    """The figure of a plate.

    One pane stands beside its bars; several stand side by side, each above its bars, all bars on one scale. In one
    column of a paper, less than 5 inches, one pane stands above its bars, too, and several stand below one
    another, each beside its bars.

    Args:
        plate: what is on it.
        width: in inches, 3 at least; the height follows.

    Raises:
        ValueError: for a width that leaves no room.
    """
    if not 3 <= width <= 60:
        raise ValueError(f"width: expected 3 to 60 inches; got {width!r}")
    return _arrange(plate, width, Sheet, 0.95).figure


def encode_snapshot(plate: Plate, dpi: float = 90) -> bytes:
    """The same, 7 inches wide, as the bytes of a PNG, drawn by Pillow: at once, and without reading matplotlib's
    figures and fonts, which takes longer than all the rest. Letters are those of one font.
    """
    return _arrange(plate, 7.0, functools.partial(Bitmap, dpi=dpi), 0.88).png()


def encode_figure(figure: Figure, kind: str, dpi: float = 200) -> bytes:
    """A figure as a file of one of `FORMATS`.

    Text stays text in SVG and PDF. The same figure gives the same bytes: no date is written.

    Args:
        figure: of `draw`.
        kind: "png", "svg" or "pdf".
        dpi: pixels for each inch; in SVG and PDF those of the pictures inside.

    Raises:
        ValueError: for a kind or a resolution that cannot be had.
    """
    if kind not in FORMATS:
        raise ValueError(f"format: expected {', '.join(FORMATS)}; got {kind!r}")
    if isinstance(dpi, bool) or not isinstance(dpi, (int, float)) or not 10 <= dpi <= 2400:
        raise ValueError(f"dpi: expected a number from 10 to 2400; got {dpi!r}")
    dateless: dict[str, dict[str, Any]] = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
    buffer = io.BytesIO()
    with _settings(_FILES):
        figure.savefig(buffer, format=kind, dpi=dpi, metadata=dateless[kind], facecolor="white", bbox_inches=None)
    return buffer.getvalue()


@contextmanager
def _settings(values: dict[str, Any]) -> Iterator[None]:
    """Some of matplotlib's settings, and afterwards what they were.

    Others may be changed meanwhile by a cell, in another thread, and stay so; `matplotlib.rc_context` would put
    back all of them.
    """
    import matplotlib

    own: Any = matplotlib.rcParams
    with _lock:
        before = {name: own[name] for name in values}
        own.update(values)
        try:
            yield
        finally:
            own.update(before)


# -- the two arrangements --------------------------------------------------------------------------------------


def _arrange(plate: Plate, width: float, paper: Callable[[float, float], _P], tight: float) -> _P:
    """Everything on a paper; ``paper(width, height)`` makes one of that size in inches.

    On a screen letters are set on whole pixels, which takes more room: ``tight`` is the share of a line that text
    may fill by its own measure.
    """
    count = len(plate.panes)
    if count == 1 and width >= 5:
        return _draw_one(plate, width, paper, tight)
    across = (width - 2 * _MARGIN - _GAP * (count - 1)) / count
    return (_draw_several if across >= _PANE else _draw_rows)(plate, width, paper, tight)


def _draw_one(plate: Plate, width: float, paper: Callable[[float, float], _P], tight: float) -> _P:
    pane, order = plate.panes[0], plate.order()
    block = functools.partial(Block, tight=tight)
    side = 0.405 * width
    picture_width, picture_height = _fit(plate, pane, side)
    second = _MARGIN + side + 0.75 + 0.6 * _GAP  # the colour bar and its numbers take three quarters of an inch
    room = width - _MARGIN - second
    left = [block(pane.title, side + 0.6, _HEAD), block(pane.note, side + 0.6, _TEXT)]
    right = [
        block(pane.bars, room, _HEAD),
        block(_bar_words(plate, order), room, _TEXT),
    ]
    caption = block(plate.caption, width - 2 * _MARGIN, _TEXT, most=8)
    top = _MARGIN + max(sum(lines.height for lines in column) for column in (left, right)) + 0.07
    row = min(max(picture_height / len(order), 0.15), 0.26)
    scale_height = max(picture_height, _UPRIGHT)
    body = max(picture_height, row * len(order), scale_height if pane.limit > 0 else 0)
    sheet = paper(width, top + body + 0.12 + caption.height + _MARGIN)
    for column, x in ((left, _MARGIN), (right, second)):
        y = _MARGIN
        for lines in column:
            y = sheet.write(lines, x, y)
    _draw_pane(sheet, plate, pane, (_MARGIN, top, picture_width, picture_height), box=plate.box)
    if pane.limit > 0:
        _draw_scale(sheet, pane, (_MARGIN + picture_width + 0.08, top, 0.11, scale_height))
    most = float(np.abs(pane.alpha[order]).max(initial=0.0))
    _draw_bars(sheet, plate, pane.alpha, order, most, (second, top, room, row * len(order)))
    sheet.write(caption, _MARGIN, top + body + 0.12)
    return sheet


def _draw_several(plate: Plate, width: float, paper: Callable[[float, float], _P], tight: float) -> _P:
    panes, order = plate.panes, plate.order()
    block = functools.partial(Block, tight=tight)
    gap = _GAP
    side = (width - 2 * _MARGIN - gap * (len(panes) - 1)) / len(panes)
    sizes = [_fit(plate, pane, side) for pane in panes]
    lefts = [_MARGIN + i * (side + gap) for i in range(len(panes))]
    heads = [[block(pane.title, side, _HEAD), block(pane.note, side, _TEXT)] for pane in panes]
    names = [block(pane.bars, side, Style(_TITLE - 1, bold=True)) for pane in panes]
    words = block(_bar_words(plate, order), width - 2 * _MARGIN, _TEXT)
    caption = block(plate.caption, width - 2 * _MARGIN, _TEXT, most=8)
    top = _MARGIN + max(sum(lines.height for lines in head) for head in heads) + 0.07
    under = top + max(height for _, height in sizes) + 0.07
    bars_top = under + 0.11 + 0.3
    name_height = max(lines.height for lines in names)
    row = 0.18
    bars_at = bars_top + name_height + words.height + 0.05
    end = bars_at + row * len(order)
    sheet = paper(width, end + 0.12 + caption.height + _MARGIN)
    most = max(float(np.abs(pane.alpha[order]).max(initial=0.0)) for pane in panes)
    for i, (pane, left, (across, down)) in enumerate(zip(panes, lefts, sizes, strict=True)):
        y = _MARGIN
        for lines in heads[i]:
            y = sheet.write(lines, left, y)
        _draw_pane(sheet, plate, pane, (left, top, across, down), box=plate.box if i == 0 else None)
        if pane.limit > 0:
            _draw_scale(sheet, pane, (left, under, max(across, min(side, _FLAT)), 0.09), flat=True)
        sheet.write(names[i], left, bars_top)
        _draw_bars(sheet, plate, pane.alpha, order, most, (left, bars_at, side, row * len(order)))
    sheet.write(words, _MARGIN, bars_top + name_height)
    sheet.write(caption, _MARGIN, end + 0.12)
    return sheet


def _draw_rows(plate: Plate, width: float, paper: Callable[[float, float], _P], tight: float) -> _P:
    order = plate.order()
    block = functools.partial(Block, tight=tight)
    whole = width - 2 * _MARGIN
    side = 0.42 * whole
    second = _MARGIN + side + _GAP
    room = width - _MARGIN - second
    words = block(_bar_words(plate, order), whole, _TEXT)
    caption = block(plate.caption, whole, _TEXT, most=8)
    row = 0.18
    heads = [(block(pane.title, whole, _HEAD), block(pane.note, whole, _TEXT)) for pane in plate.panes]
    names = [block(pane.bars, room, Style(_TITLE - 1, bold=True)) for pane in plate.panes]
    bodies = [
        max(_fit(plate, pane, side)[1] + 0.07 + 0.09 + 0.3, name.height + 0.05 + row * len(order))
        for pane, name in zip(plate.panes, names, strict=True)
    ]
    height = sum(title.height + note.height + 0.07 for title, note in heads) + sum(bodies) + _GAP * len(bodies)
    sheet = paper(width, _MARGIN + height + words.height + 0.07 + caption.height + _MARGIN)
    most = max(float(np.abs(pane.alpha[order]).max(initial=0.0)) for pane in plate.panes)
    y = _MARGIN
    for pane, head, name, body in zip(plate.panes, heads, names, bodies, strict=True):
        for lines in head:
            y = sheet.write(lines, _MARGIN, y)
        y += 0.07
        across, down = _fit(plate, pane, side)
        _draw_pane(
            sheet, plate, pane, (_MARGIN, y, across, down), box=plate.box if pane is plate.panes[0] else None
        )
        if pane.limit > 0:
            flat = (_MARGIN, y + down + 0.07, max(across, min(side, _FLAT)), 0.09)
            _draw_scale(sheet, pane, flat, flat=True)
        bars_at = sheet.write(name, second, y) + 0.05
        _draw_bars(sheet, plate, pane.alpha, order, most, (second, bars_at, room, row * len(order)))
        y += body + _GAP
    y = sheet.write(words, _MARGIN, y) + 0.07
    sheet.write(caption, _MARGIN, y)
    return sheet


def _bar_words(plate: Plate, order: Sequence[int]) -> str:
    """What the bars are, and which of the channels they are."""
    count = len(plate.panes[0].alpha)
    by = {"contribution": "|contribution|", "difference": "|difference|"}.get(plate.sort, plate.sort)
    if len(order) == count:
        some = f"all {count} channels" if count > 1 else "the one channel"
        some += "" if plate.sort == "channel" else f", by {by}"
    elif plate.sort == "channel":
        some = f"the first {len(order)} of {count} channels"
    else:
        some = f"the {len(order)} of {count} channels with the largest {by}"
    off = "; hollow: left out of the map" if plate.off & set(order) else ""
    return f"{plate.weights + ': ' if plate.weights else ''}{some}{off}"


# -- the parts -------------------------------------------------------------------------------------------------


def _fit(plate: Plate, pane: Pane, side: float) -> tuple[float, float]:
    """Width and height of a pane within a square, in inches."""
    rows, columns = _image_size(plate, pane)
    return side * columns / max(rows, columns), side * rows / max(rows, columns)


def _image_size(plate: Plate, pane: Pane) -> tuple[int, int]:
    shown = pane.pixels if pane.pixels is not None else plate.picture
    rows, columns = (pane.cam if shown is None else shown).shape[:2]
    return int(rows), int(columns)


def _draw_pane(sheet: Paper, plate: Plate, pane: Pane, place: Place, box: Box | None) -> None:
    rows, columns = _image_size(plate, pane)
    image = pane.pixels if pane.pixels is not None else _blend(plate.picture, pane, plate.opacity, sheet.fine)
    sheet.image(Tile(place, image, (columns, rows), "picture", box))


def _blend(picture: NDArray[np.uint8] | None, pane: Pane, opacity: float, fine: int) -> NDArray[np.uint8]:
    """Picture and map as the view blends them, uint8 (H, W, 3), enlarged by a whole number where it is small."""
    from PIL import Image

    rows, columns = pane.cam.shape if picture is None else picture.shape[:2]
    times = max(1, math.ceil(fine / max(rows, columns)))
    size = (rows * times, columns * times)
    values = render.bilinear(pane.cam, size) / pane.limit if pane.limit > 0 else np.zeros(size)
    values = np.clip(values, -1 if pane.signed else 0, 1)
    if pane.signed or render.COLORMAPS[pane.colormap] == "diverging":
        colours = render.colour((values + 1) / 2, pane.colormap)
    else:
        colours = render.colour(values, pane.colormap)
    if picture is None:
        return colours
    large: NDArray[Any] = np.asarray(picture)
    if times > 1:
        large = np.asarray(Image.fromarray(large).resize(size[::-1], Image.Resampling.BICUBIC))
    mix = (opacity * np.minimum(1, 2 * np.abs(values)))[..., None]
    blended: NDArray[np.uint8] = np.rint(large * (1 - mix) + colours * mix).astype(np.uint8)
    return blended


def _draw_scale(sheet: Paper, pane: Pane, place: Place, *, flat: bool = False) -> None:
    """The colour bar with its limits: upright beside the picture, or flat below it."""
    left, top, width, height = place
    steps = np.linspace(0, 1, 256)
    if not pane.signed and render.COLORMAPS[pane.colormap] == "diverging":
        steps = (steps + 1) / 2
    ramp = render.colour(steps, pane.colormap)
    # The end of grey is as white as the paper.
    image = ramp[None] if flat else ramp[::-1, None]
    sheet.image(Tile(place, image, (1, 1), "scale", framed=pane.colormap == "gray"))
    low = number(-pane.limit, short=True) if pane.signed else "0"
    high = number(pane.limit, short=True)
    upper, lower = pane.ends
    if flat:
        y = top + height + 0.11
        if width < _ONE_LINE:
            end = Style(_SMALL - 0.5, MUTED)
            sheet.label(left, y, low, _NUMBER)
            sheet.label(left, y + 0.12, lower, end)
            sheet.label(left + width, y, high, replace(_NUMBER, align="right"))
            sheet.label(left + width, y + 0.12, upper, replace(end, align="right"))
        else:
            sheet.label(left, y, f"{low} {lower}".strip(), _NUMBER)
            sheet.label(left + width, y, f"{upper} {high}".strip(), replace(_NUMBER, align="right"))
        if pane.signed:
            sheet.label(left + width / 2, y, "0", replace(_NUMBER, align="center"))
        return
    x = left + width + 0.05
    end = Style(_SMALL - 0.5, MUTED)
    sheet.label(x, top + 0.085, high, _NUMBER)
    if upper:
        sheet.label(x, top + 0.2, upper, end)
    sheet.label(x, top + height - 0.01, low, _NUMBER)
    if lower:
        sheet.label(x, top + height - 0.125, lower, end)
    if pane.signed:
        sheet.label(x, top + height / 2 + 0.035, "0", _NUMBER)


def _draw_bars(
    sheet: Paper, plate: Plate, alpha: NDArray[Any], order: Sequence[int], most: float, place: Place
) -> None:
    """The signed bars of some channels, each with its number and its value."""
    left, top, width, height = place
    names, values = 0.44, 0.58  # inches on either side
    row = height / len(order)
    if plate.kept is not None and plate.kept in order:
        sheet.wash((left - 0.03, top + list(order).index(plate.kept) * row, width + 0.06, row))
    shown = [(float(alpha[channel]), channel in plate.off) for channel in order]
    sheet.bars((left + names, top, width - names - values, height), shown, most or 1.0)
    write = aligned(most)
    value_style = Style(_SMALL - 0.3, mono=True, align="right")
    name_style = replace(value_style, colour=MUTED)
    for rank, (channel, (value, _)) in enumerate(zip(order, shown, strict=True)):
        y = top + (rank + 0.5) * row + 0.032
        sheet.label(left + names - 0.07, y, f"#{channel}", name_style)
        sheet.label(left + width, y, write(value), value_style)
