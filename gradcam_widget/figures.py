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
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from gradcam_widget import render
from gradcam_widget.cell_output import show_itself
from gradcam_widget.localise import Box
from gradcam_widget.methods import METHODS
from gradcam_widget.targets import name_target

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from gradcam_widget.explanation import Explanation

__all__ = [
    "FORMATS",
    "SORTS",
    "Pane",
    "Plate",
    "check_sort",
    "draw",
    "encode_figure",
    "encode_snapshot",
    "layer_words",
    "method_words",
    "number",
    "plate_of",
    "score_words",
]

FORMATS = ("png", "svg", "pdf")
"""What a figure can be saved as."""

SORTS: dict[str, Callable[[NDArray[Any], NDArray[Any], NDArray[Any]], NDArray[Any]]] = {
    "|α|": lambda alpha, contribution, other: np.abs(alpha),
    "α": lambda alpha, contribution, other: alpha,
    "contribution": lambda alpha, contribution, other: np.abs(contribution),
    "difference": lambda alpha, contribution, other: np.abs(alpha - other),
    "channel": lambda alpha, contribution, other: -np.arange(len(alpha)),
}
"""The orders of the bars, as the view has them: what each sorts by, the largest first."""

_ALIASES = {"|alpha|": "|α|", "alpha": "α", "abs": "|α|"}

_INK, _MUTED, _LINE, _EDGE = "#1d2330", "#667085", "#d5d9e0", "#98a2b3"
_PRO, _CON, _WASH = "#c2410c", "#2563eb", "#e2ecff"
_SANS, _MONO = "DejaVu Sans", "DejaVu Sans Mono"  # they come with matplotlib
_OTHER_FONTS = (  # for what these have no letters for, where one is installed
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "Source Han Sans",
    "PingFang SC",
    "Hiragino Sans",
    "Microsoft YaHei",
    "Yu Gothic",
    "Malgun Gothic",
    "WenQuanYi Zen Hei",
    "Arial Unicode MS",
    "Noto Sans Devanagari",
    "Noto Sans Thai",
    "Noto Sans Hebrew",
    "Noto Sans Arabic",
)
_TEXT = 240  # characters of one name

_FILES: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "gradcam_widget",
    "pdf.fonttype": 42,
    "savefig.bbox": None,
    "savefig.transparent": False,
}
_lock = threading.Lock()

_MARGIN, _GAP = 0.1, 0.2  # inches
_TITLE, _SMALL = 9.0, 7.0  # points
_LEADING = 1.35


@dataclass(frozen=True, eq=False)
class Pane:
    """One picture with a map on it, and the weights that made the map.

    Attributes:
        title: above it, in bold.
        cam: (h, w) the map, in its own unit.
        limit: the value with the strongest colour; 0 for a map that is 0 everywhere.
        signed: whether the colours have two sides, from -limit to limit.
        colormap: a name in `gradcam_widget.render.COLORMAPS`.
        ends: words at the limits of the colour bar: (upper, lower).
        alpha: (K,) the bars that go with it.
        bars: title of these bars.
        pixels: uint8 (H, W, 3), drawn in place of picture and map: a map at the pixels, grey where it is 0.
        note: below the title, in small letters.
    """

    title: str
    cam: NDArray[Any]
    limit: float
    alpha: NDArray[Any]
    bars: str
    signed: bool = False
    colormap: str = "viridis"
    ends: tuple[str, str] = ("max", "")
    pixels: NDArray[np.uint8] | None = None
    note: str = ""


@dataclass(frozen=True, eq=False)
class Plate:
    """Everything that is on a figure.

    Attributes:
        picture: uint8 (H, W, 3), what the model saw; None for the map alone.
        panes: one, or several to be compared, side by side.
        contribution: (K,) of the first pane.
        caption: below all of it: a list of sentences.
        weights: what alpha is, in words.
        opacity: of the map, 0 to 1.
        sort: one of `SORTS`.
        channels: how many bars.
        off: channels that are left out of the maps; their bars are hollow.
        kept: the channel whose bar is marked.
        box: (left, top, right, bottom) in pixels of the picture, drawn on the first pane.
    """

    picture: NDArray[np.uint8] | None
    panes: tuple[Pane, ...]
    contribution: NDArray[Any]
    caption: str
    weights: str = ""
    opacity: float = 0.5
    sort: str = "|α|"
    channels: int = 12
    off: frozenset[int] = field(default_factory=frozenset)
    kept: int | None = None
    box: Box | None = None

    def order(self) -> list[int]:
        """The channels that have a bar, from the top to the bottom."""
        alpha = self.panes[0].alpha
        other = self.panes[1].alpha if len(self.panes) > 1 else np.zeros_like(alpha)
        keys = SORTS[self.sort](alpha, self.contribution, other)
        chosen: list[int] = np.argsort(-keys, kind="stable")[: self.channels].tolist()
        return chosen


def plate_of(
    explanation: Explanation,
    picture: NDArray[np.uint8] | None = None,
    *,
    evidence: Literal["positive", "signed"] = "positive",
    limit: float | None = None,
    colormap: str | None = None,
    opacity: float = 0.5,
    sort: str = "|α|",
    channels: int = 12,
    box: Box | None = None,
    model: str = "",
) -> Plate:
    """What is on the figure of one explanation.

    Args:
        explanation: of pictures, (K, h, w).
        picture: uint8 (H, W, 3) that the model saw, `GradCAM.picture(image)`; None for the map alone.
        evidence: "positive" for the cam, "signed" for the map before the ReLU.
        limit: the value with the strongest colour; None for the map's own maximum.
        colormap: a name in `gradcam_widget.render.COLORMAPS`; None for viridis, or RdBu_r where it is signed.
        opacity: of the heatmap, 0 to 1.
        sort: the order of the bars: "|α|" (or "abs"), "α" ("alpha"), "contribution" or "channel".
        channels: how many bars, at least 1.
        box: (left, top, right, bottom) in pixels of the picture, to be drawn.
        model: its name, for the caption.

    Raises:
        TypeError: for a picture of another kind.
        ValueError: for an argument with a wrong value.
    """
    if evidence not in ("positive", "signed"):
        raise ValueError(
            f"evidence: expected 'positive' or 'signed'; got {evidence!r}. What speaks against a class is the "
            "explanation of gradcam_widget.targets.Counterfactual(target)"
        )
    if explanation.signed_cam.ndim != 2:
        raise ValueError(f"explanation: figures show maps (h, w); got {tuple(explanation.signed_cam.shape)}")
    if limit is not None and not (0 < float(limit) < math.inf):
        raise ValueError(f"limit: expected a positive number, or None for the map's maximum; got {limit!r}")
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity: expected a number from 0 to 1; got {opacity!r}")
    if not isinstance(channels, int) or isinstance(channels, bool) or channels < 1:
        raise ValueError(f"channels: expected a positive int, the number of bars; got {channels!r}")
    signed = evidence == "signed"
    cam = _numbers(explanation.signed_cam if signed else explanation.cam)
    if not np.isfinite(cam).all():
        raise ValueError(f"explanation: {explanation.diagnosis or 'the map has NaN or infinite values'}")
    label = name_target(explanation.target)
    most = float(np.abs(cam).max(initial=0.0))
    where = f"at {explanation.layer.name}"
    pane = Pane(
        title=f"{'Signed ' if signed else ''}{method_words(explanation.method)} for {label}",
        note=f"{where} · {' × '.join(map(str, cam.shape))} cells",
        cam=cam,
        limit=float(limit or most) if most else 0.0,
        signed=signed,
        colormap=colormap or ("RdBu_r" if signed else "viridis"),
        ends=("for", "against") if signed else ("max" if limit is None else "scale", ""),
        alpha=_numbers(explanation.alpha),
        bars=f"αₖ {where}",
    )
    if explanation.guided is not None:
        pane = at_pixels(pane, _numbers(explanation.guided))
    if pane.colormap not in render.COLORMAPS:
        raise ValueError(f"colormap: expected one of {list(render.COLORMAPS)}; got {colormap!r}")
    words = [
        model,
        layer_words(explanation.layer.label),
        f"{label}: {score_words(explanation.score, explanation.probability)}",
        f"{method_words(explanation.method)}{', signed' if signed else ''}",
    ]
    caption = " · ".join(word for word in words if word) + "."
    return Plate(
        picture=_checked_picture(picture, explanation.picture),
        panes=(pane,),
        contribution=_numbers(explanation.contribution),
        caption=caption if explanation.diagnosis is None else f"{caption} {explanation.diagnosis}",
        weights=METHODS[explanation.method].meaning,
        opacity=float(opacity),
        sort=check_sort(sort),
        channels=channels,
        box=box,
    )


def draw(plate: Plate, *, width: float = 7.0) -> Figure:
    """The figure of a plate.

    One pane stands beside its bars; several stand side by side, each above its bars, all bars on one scale. Where
    the width is that of one column of a paper, less than 5 inches, one pane stands above its bars, too.

    Args:
        plate: what is on it.
        width: in inches, 3 at least; the height follows.

    Raises:
        ValueError: for a width that leaves no room.
    """
    if not 3 <= width <= 60:
        raise ValueError(f"width: expected 3 to 60 inches; got {width!r}")
    sheet: _Sheet = _arrange(plate, width, _Sheet, 0.95)
    return sheet.figure


def encode_snapshot(plate: Plate, dpi: float = 90) -> bytes:
    """The same, 7 inches wide, as the bytes of a PNG, drawn by Pillow: at once, and without reading matplotlib's
    figures and fonts, which takes longer than all the rest. Letters are those of one font.
    """
    paper: _Bitmap = _arrange(plate, 7.0, functools.partial(_Bitmap, dpi=dpi), 0.88)
    return paper.png()


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


def check_sort(sort: object) -> str:
    """The name of an order of the bars, as `SORTS` has it."""
    name = _ALIASES.get(sort, sort) if isinstance(sort, str) else None
    if name not in SORTS:
        raise ValueError(f"sort: expected one of {', '.join(SORTS)}; got {sort!r}")
    return str(name)


def at_pixels(pane: Pane, guided: NDArray[Any]) -> Pane:
    """A pane that shows a map at the pixels (C, H, W) in place of the heatmap."""
    pixels, limit = render.grey_centred(guided)
    rows, columns = pixels.shape[:2]
    note = f"{rows} × {columns} pixels, grey where it is 0"
    return replace(pane, pixels=pixels, limit=limit, signed=True, colormap="gray", ends=("", ""), note=note)


# -- words -----------------------------------------------------------------------------------------------------


def number(value: float, short: bool = False) -> str:
    """A number in three significant digits with a real minus sign, as the view writes it: 0.412, −0.000530."""
    if not math.isfinite(value):
        return "not a number"
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1e5 or size < (1e-2 if short else 1e-4):
        text = f"{value:.{1 if short else 2}e}"
        mantissa, _, power = text.partition("e")
        text = f"{mantissa}e{int(power)}"
    elif size >= 1e3:
        text = str(round(value))
    else:
        text = f"{value:.{max(0, 2 - math.floor(math.log10(float(f'{size:.2e}'))))}f}"
    return text.replace("-", "−")


def method_words(method: str) -> str:
    """How people write a method."""
    return "Grad-CAM" if method == "GradCAM" else method


def layer_words(label: str) -> str:
    """A layer's label, "name · kind · K × h × w", as a part of a caption: "name (kind, K × h × w)"."""
    name, separator, rest = label.partition(" · ")
    return f"{name} ({rest.replace(' · ', ', ')})" if separator else name


def score_words(score: float, probability: float | None) -> str:
    """A target's value in words."""
    chance = "" if probability is None else f", probability {_chance(probability)}"
    return f"score {number(score)}{chance}"


def _chance(value: float) -> str:
    return "<0.001" if 0 < value < 0.0005 else f"{value:.3f}"


def _aligned(most: float) -> Callable[[float], str]:
    """Signed values with one count of decimals, enough for two digits of ``most``."""
    decimals = math.ceil(-math.log10(most)) + 1 if most > 0 else 1

    def write(value: float) -> str:
        text = f"{abs(value):.1e}" if decimals > 5 else f"{abs(value):.{min(max(decimals, 1), 5)}f}"
        return ("+" if value >= 0 else "−") + text

    return write


# -- the two arrangements --------------------------------------------------------------------------------------


def _arrange(plate: Plate, width: float, paper: Callable[[float, float], Any], tight: float) -> Any:
    """Everything on a paper; ``paper(width, height)`` makes one of that size in inches.

    On a screen letters are set on whole pixels, which takes more room: ``tight`` is the share of a line that text
    may fill by its own measure.
    """
    one = len(plate.panes) == 1 and width >= 5
    return (_draw_one if one else _draw_several)(plate, width, paper, tight)


def _draw_one(plate: Plate, width: float, paper: Callable[[float, float], Any], tight: float) -> Any:
    pane, order = plate.panes[0], plate.order()
    block = functools.partial(_Block, tight=tight)
    side = 0.405 * width
    picture_width, picture_height = _fit(plate, pane, side)
    second = _MARGIN + side + 0.75 + 0.6 * _GAP  # the colour bar and its numbers take three quarters of an inch
    room = width - _MARGIN - second
    left = [block(pane.title, side + 0.6, _TITLE, bold=True), block(pane.note, side + 0.6, _SMALL, _MUTED)]
    right = [
        block(pane.bars, room, _TITLE, bold=True),
        block(_bar_words(plate, order), room, _SMALL, _MUTED),
    ]
    caption = block(plate.caption, width - 2 * _MARGIN, _SMALL, _MUTED, most=8)
    top = _MARGIN + max(sum(lines.height for lines in column) for column in (left, right)) + 0.07
    row = min(max(picture_height / len(order), 0.15), 0.26)
    body = max(picture_height, row * len(order))
    sheet = paper(width, top + body + 0.12 + caption.height + _MARGIN)
    for column, x in ((left, _MARGIN), (right, second)):
        y = _MARGIN
        for lines in column:
            y = sheet.write(lines, x, y)
    _draw_pane(sheet, plate, pane, (_MARGIN, top, picture_width, picture_height), box=plate.box)
    if pane.limit > 0:
        _draw_scale(sheet, pane, (_MARGIN + picture_width + 0.08, top, 0.11, picture_height))
    most = float(np.abs(pane.alpha[order]).max(initial=0.0))
    _draw_bars(sheet, plate, pane.alpha, order, most, (second, top, room, row * len(order)))
    sheet.write(caption, _MARGIN, top + body + 0.12)
    return sheet


def _draw_several(plate: Plate, width: float, paper: Callable[[float, float], Any], tight: float) -> Any:
    panes, order = plate.panes, plate.order()
    block = functools.partial(_Block, tight=tight)
    gap = _GAP
    side = (width - 2 * _MARGIN - gap * (len(panes) - 1)) / len(panes)
    sizes = [_fit(plate, pane, side) for pane in panes]
    lefts = [_MARGIN + i * (side + gap) for i in range(len(panes))]
    heads = [
        [block(pane.title, side, _TITLE, bold=True), block(pane.note, side, _SMALL, _MUTED)] for pane in panes
    ]
    names = [block(pane.bars, side, _TITLE - 1, bold=True) for pane in panes]
    words = block(_bar_words(plate, order), width - 2 * _MARGIN, _SMALL, _MUTED)
    caption = block(plate.caption, width - 2 * _MARGIN, _SMALL, _MUTED, most=8)
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
            _draw_scale(sheet, pane, (left, under, across, 0.09), flat=True)
        sheet.write(names[i], left, bars_top)
        _draw_bars(sheet, plate, pane.alpha, order, most, (left, bars_at, side, row * len(order)))
    sheet.write(words, _MARGIN, bars_top + name_height)
    sheet.write(caption, _MARGIN, end + 0.12)
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

_Place = tuple[float, float, float, float]  # left, top, width, height in inches


def _fit(plate: Plate, pane: Pane, side: float) -> tuple[float, float]:
    """Width and height of a pane within a square, in inches."""
    rows, columns = _image_size(plate, pane)
    return side * columns / max(rows, columns), side * rows / max(rows, columns)


def _image_size(plate: Plate, pane: Pane) -> tuple[int, int]:
    shown = pane.pixels if pane.pixels is not None else plate.picture
    rows, columns = (pane.cam if shown is None else shown).shape[:2]
    return int(rows), int(columns)


def _draw_pane(sheet: _Sheet | _Bitmap, plate: Plate, pane: Pane, place: _Place, box: Box | None) -> None:
    rows, columns = _image_size(plate, pane)
    image = pane.pixels if pane.pixels is not None else _blend(plate.picture, pane, plate.opacity, sheet.fine)
    sheet.image(place, image, (columns, rows), "picture", box=box)


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


def _draw_scale(sheet: _Sheet | _Bitmap, pane: Pane, place: _Place, *, flat: bool = False) -> None:
    """The colour bar with its limits: upright beside the picture, or flat below it."""
    left, top, width, height = place
    steps = np.linspace(0, 1, 256)
    if not pane.signed and render.COLORMAPS[pane.colormap] == "diverging":
        steps = (steps + 1) / 2
    ramp = render.colour(steps, pane.colormap)
    # The end of grey is as white as the paper.
    sheet.image(place, ramp[None] if flat else ramp[::-1, None], (1, 1), "scale", framed=pane.colormap == "gray")
    low = number(-pane.limit, short=True) if pane.signed else "0"
    high = number(pane.limit, short=True)
    upper, lower = pane.ends
    write = functools.partial(sheet.label, size=_SMALL, mono=True)
    if flat:
        y = top + height + 0.11
        sheet.label(left, y, f"{low} {lower}".strip(), size=_SMALL, mono=True)
        write(left + width, y, f"{upper} {high}".strip(), align="right")
        if pane.signed:
            write(left + width / 2, y, "0", align="center")
        return
    x = left + width + 0.05
    write(x, top + 0.085, high)
    if upper:
        sheet.label(x, top + 0.2, upper, size=_SMALL - 0.5, colour=_MUTED)
    write(x, top + height - 0.01, low)
    if lower:
        sheet.label(x, top + height - 0.125, lower, size=_SMALL - 0.5, colour=_MUTED)
    if pane.signed:
        write(x, top + height / 2 + 0.035, "0")


def _draw_bars(
    sheet: _Sheet | _Bitmap, plate: Plate, alpha: NDArray[Any], order: Sequence[int], most: float, place: _Place
) -> None:
    """The signed bars of some channels, each with its number and its value."""
    left, top, width, height = place
    names, values = 0.44, 0.58  # inches on either side
    row = height / len(order)
    if plate.kept is not None and plate.kept in order:
        sheet.wash((left - 0.03, top + list(order).index(plate.kept) * row, width + 0.06, row))
    shown = [(float(alpha[channel]), channel in plate.off) for channel in order]
    sheet.bars((left + names, top, width - names - values, height), shown, most or 1.0)
    write = _aligned(most)
    size = _SMALL - 0.3
    for rank, (channel, (value, _)) in enumerate(zip(order, shown, strict=True)):
        y = top + (rank + 0.5) * row + 0.032
        sheet.label(left + names - 0.07, y, f"#{channel}", size=size, mono=True, align="right", colour=_MUTED)
        sheet.label(left + width, y, write(value), size=size, mono=True, align="right")


class _Block:
    """A few lines of text: wrapped to a width, and cut at the end where they are too many."""

    def __init__(
        self,
        words: str,
        width: float,
        size: float,
        colour: str = _INK,
        *,
        tight: float,
        bold: bool = False,
        most: int = 3,
    ) -> None:
        self.size, self.colour, self.bold = size, colour, bold
        drawable = _drawable(words, _TEXT * (most // 2))
        self.lines = _wrap(drawable, width * tight, size, bold, most) if words.strip() else []

    @property
    def leading(self) -> float:
        """From one line to the next, in inches."""
        return self.size * _LEADING / 72

    @property
    def height(self) -> float:
        """Of all lines, in inches."""
        return self.leading * len(self.lines)


class _Paper:
    """Something on which things are placed in inches from its upper left corner."""

    fine: int  # pixels, at least, in which a picture is blended with its map

    def label(
        self,
        x: float,
        baseline: float,
        words: str,
        *,
        size: float,
        colour: str = _INK,
        bold: bool = False,
        mono: bool = False,
        align: Literal["left", "center", "right"] = "left",
    ) -> None:
        """One line of text, as it is."""
        raise NotImplementedError

    def write(self, block: _Block, x: float, y: float) -> float:
        """A block whose upper left corner is at (x, y); where the next one begins."""
        for at, line in enumerate(block.lines):
            baseline = y + block.leading * at + block.size * 1.02 / 72
            self.label(x, baseline, line, size=block.size, colour=block.colour, bold=block.bold)
        return y + block.height


class _Sheet(_Paper):
    """A figure of matplotlib's."""

    fine = 448

    def __init__(self, width: float, height: float) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.width, self.height = width, height
        self.figure = show_itself(Figure(figsize=(width, height), dpi=100, facecolor="white"))
        self.figure.set_layout_engine("none")
        FigureCanvasAgg(self.figure)

    def image(
        self,
        place: _Place,
        image: NDArray[np.uint8],
        size: tuple[int, int],
        label: str,
        *,
        box: Box | None = None,
        framed: bool = False,
    ) -> None:
        """An image on axes whose unit is a pixel of the picture, (width, height) of them."""
        from matplotlib.patches import Rectangle

        columns, rows = size
        axes = self.axes(place, label)
        smooth = "bilinear" if label == "scale" else "antialiased"
        extent = (0, columns, rows, 0)
        axes.imshow(image, extent=extent, aspect="auto", interpolation=smooth, origin="upper")
        axes.set(xlim=(0, columns), ylim=(rows, 0))
        if framed:
            axes.spines[:].set(visible=True, color=_EDGE, linewidth=0.5)
        if box is not None:
            left, top, right, bottom = box
            for colour, thickness in (("white", 2.2), (_INK, 1.0)):
                outline = Rectangle(
                    (left, top), right - left, bottom - top, fill=False, edgecolor=colour, linewidth=thickness
                )
                axes.add_patch(outline)

    def wash(self, place: _Place) -> None:
        """A tinted ground."""
        axes = self.axes(place, "kept")
        axes.set_facecolor(_WASH)
        axes.patch.set_visible(True)

    def bars(self, place: _Place, shown: Sequence[tuple[float, bool]], limit: float) -> None:
        """Signed bars from the top to the bottom, (value, whether hollow), on axes from -limit to limit."""
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

    def axes(self, place: _Place, label: str) -> Axes:
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

    def label(
        self,
        x: float,
        baseline: float,
        words: str,
        *,
        size: float,
        colour: str = _INK,
        bold: bool = False,
        mono: bool = False,
        align: Literal["left", "center", "right"] = "left",
    ) -> None:
        """One line of text, as it is."""
        words = _drawable(words)
        self.figure.text(
            x / self.width,
            1 - baseline / self.height,
            words,
            fontsize=size,
            fontfamily=_families(words, mono),
            fontweight="bold" if bold else "normal",
            fontstyle="normal",
            fontstretch="normal",
            color=colour,
            ha=align,
            va="baseline",
            parse_math=False,
            usetex=False,
        )


class _Bitmap(_Paper):
    """The same on a picture of Pillow's."""

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

    def image(
        self,
        place: _Place,
        image: NDArray[np.uint8],
        size: tuple[int, int],
        label: str,
        *,
        box: Box | None = None,
        framed: bool = False,
    ) -> None:
        """An image; the box is in the unit of ``size``."""
        from PIL import Image

        left, top, right, bottom = self._pixels(place)
        across, down = max(1, right - left), max(1, bottom - top)
        fitted = Image.fromarray(np.ascontiguousarray(image)).resize((across, down), Image.Resampling.BILINEAR)
        self._image.paste(fitted, (left, top))
        if framed:
            self._draw.rectangle((left, top, right - 1, bottom - 1), outline=_EDGE)
        if box is not None:
            columns, rows = size
            x0, x1 = (left + round(at / columns * across) for at in (box[0], box[2]))
            y0, y1 = (top + round(at / rows * down) for at in (box[1], box[3]))
            self._draw.rectangle((x0 - 1, y0 - 1, x1, y1), outline="white", width=3)
            self._draw.rectangle((x0, y0, x1 - 1, y1 - 1), outline=_INK)

    def wash(self, place: _Place) -> None:
        """A tinted ground."""
        left, top, right, bottom = self._pixels(place)
        self._draw.rectangle((left, top, right - 1, bottom - 1), fill=_WASH)

    def bars(self, place: _Place, shown: Sequence[tuple[float, bool]], limit: float) -> None:
        """Signed bars from the top to the bottom, (value, whether hollow)."""
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

    def label(
        self,
        x: float,
        baseline: float,
        words: str,
        *,
        size: float,
        colour: str = _INK,
        bold: bool = False,
        mono: bool = False,
        align: Literal["left", "center", "right"] = "left",
    ) -> None:
        """One line of text, as it is."""
        own = _letters(_SANS)
        plain = "".join(letter if ord(letter) in own else "□" for letter in _drawable(words))
        anchor = {"left": "ls", "center": "ms", "right": "rs"}[align]
        font = _font(_MONO if mono else _SANS, size * self.dpi / 72, bold)
        self._draw.text((x * self.dpi, round(baseline * self.dpi)), plain, fill=colour, font=font, anchor=anchor)

    def _pixels(self, place: _Place) -> tuple[int, int, int, int]:
        left, top, width, height = place
        edges = (left, top, left + width, top + height)
        x0, y0, x1, y1 = (round(edge * self.dpi) for edge in edges)
        return x0, y0, x1, y1


# -- text that can be drawn ------------------------------------------------------------------------------------


def _drawable(words: str, most: int = _TEXT) -> str:
    """Text without line breaks and control characters; what no font here has letters for becomes a box."""
    if len(words) > most:
        head = (most - 1) // 2
        words = f"{words[:head]}…{words[len(words) - (most - 1 - head) :]}"
    own = _letters(_SANS)
    plain = (" " if character.isspace() else character for character in words)
    return "".join(
        character if character.isprintable() and (ord(character) in own or _font_for(character)) else "□"
        for character in plain
    )


def _families(words: str, mono: bool) -> list[str]:
    """The fonts that a text needs, the first one first."""
    first = _MONO if mono else _SANS
    own = _letters(first)
    others = [_font_for(character) for character in words if ord(character) not in own]
    return [first, *dict.fromkeys(name for name in others if name)]


@functools.lru_cache(maxsize=4096)
def _font_for(character: str) -> str | None:
    """An installed font that has a letter which DejaVu Sans lacks; None where there is none."""
    return next((name for name in (_SANS, *_installed()) if ord(character) in _letters(name)), None)


@functools.cache
def _installed() -> tuple[str, ...]:
    from matplotlib import font_manager

    there = set(font_manager.get_font_names())
    return tuple(name for name in _OTHER_FONTS if name in there)


@functools.cache
def _letters(family: str) -> frozenset[int]:
    """The characters that a font has, both upright and bold."""
    from matplotlib.ft2font import FT2Font

    faces = [FT2Font(_file_of(family, bold)) for bold in (False, True)]
    return frozenset(faces[0].get_charmap()) & frozenset(faces[1].get_charmap())


@functools.cache
def _file_of(family: str, bold: bool) -> str:
    """Where a font is. Those that come with matplotlib are found without reading all fonts there are."""
    if family in (_SANS, _MONO):
        import matplotlib

        name = f"{family.replace(' ', '')}{'-Bold' if bold else ''}.ttf"
        return str(Path(matplotlib.get_data_path(), "fonts", "ttf", name))
    from matplotlib import font_manager

    wanted = font_manager.FontProperties(family=[family], weight="bold" if bold else "normal")
    return str(font_manager.findfont(wanted))


@functools.lru_cache(maxsize=32)
def _font(family: str, size: float, bold: bool) -> Any:
    """A font of Pillow's; ``size`` in pixels."""
    from PIL import ImageFont

    return ImageFont.truetype(_file_of(family, bold), size, layout_engine=ImageFont.Layout.BASIC)


@functools.lru_cache(maxsize=2048)
def _length(words: str, size: float, bold: bool) -> float:
    """Of a line of text, in inches."""
    own = _letters(_SANS)
    length = _font(_SANS, 100, bold).getlength(words) / 100
    wide = 0.4 * sum(ord(letter) not in own for letter in words)  # in another font they are a square wide
    return float(length + wide) * size / 72


def _wrap(words: str, width: float, size: float, bold: bool, most: int) -> list[str]:
    lines: list[str] = []
    space = _length("x x", size, bold) - 2 * _length("x", size, bold)
    used = 0.0
    for piece in _pieces(words, width, size, bold):
        length = _length(piece, size, bold)
        if lines and used + space + length <= width:
            lines[-1] += f" {piece}"
            used += space + length
        else:
            lines.append(piece)
            used = length
    if len(lines) > most:
        lines = [*lines[:most]]
        while lines[-1] and _length(f"{lines[-1]}…", size, bold) > width:
            lines[-1] = lines[-1][:-1]
        lines[-1] += "…"
    return lines


def _pieces(words: str, width: float, size: float, bold: bool) -> Iterator[str]:
    """The words of a text; one that is longer than a line comes in pieces."""
    for word in words.split():
        while _length(word, size, bold) > width:
            fitting = max(1, int(len(word) * width / _length(word, size, bold)))
            while fitting > 1 and _length(word[:fitting], size, bold) > width:
                fitting -= 1
            yield word[:fitting]
            word = word[fitting:]
        yield word


# -- what comes in ---------------------------------------------------------------------------------------------


def _numbers(tensor: Any) -> NDArray[Any]:
    array: NDArray[Any] = tensor.detach().cpu().double().numpy()
    return array


def _checked_picture(picture: object, size: tuple[int, ...]) -> NDArray[np.uint8] | None:
    if picture is None:
        return None
    array = np.asarray(picture)
    if array.dtype != np.uint8 or array.shape != (*size, 3):
        raise ValueError(
            f"picture: expected what the model saw, uint8 {(*size, 3)}: GradCAM.picture(image); got {array.dtype} "
            f"{array.shape}"
        )
    return array
