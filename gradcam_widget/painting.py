"""A painting: a picture and the strokes over it, from which it can be painted again at any time. Pure numpy."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["FILLS", "TOOLS", "Box", "Painting", "Picture", "Stroke", "as_picture", "fill_colours"]

TOOLS = ("brush", "rectangle")
"""What a stroke covers: a line of round dots through its points, or the rectangle between its first and last."""

FILLS = ("grey", "mean", "blur", "colour", "original")
"""What is put there: mid grey, the original's mean colour, the original blurred, a colour, the original again."""

Box = tuple[int, int, int, int]
"""Pixels from (x0, y0) up to, not including, (x1, y1): (x0, y0, x1, y1)."""

Picture = NDArray[np.uint8]
"""uint8 (H, W, 3)."""

_NOTHING: Box = (0, 0, 0, 0)
_LEAST_RADIUS = math.sqrt(0.5)  # reaches the centre of the pixel that holds a point, wherever in it the point lies


@dataclass(frozen=True)
class Stroke:
    """One stroke, as data.

    Attributes:
        points: (x, y) in pixels of the picture, from its upper left corner; pixel (i, j) is the square from
            (i, j) to (i + 1, j + 1). A rectangle has two: opposite corners. They may lie outside the picture.
        tool: one of `TOOLS`.
        fill: one of `FILLS`.
        colour: (red, green, blue), 0 to 255; used by the fill "colour".
        size: diameter of the brush in pixels.
        soft: edge pixels of the brush are covered in part, as in scanned handwriting, instead of all or nothing.
    """

    points: tuple[tuple[float, float], ...]
    tool: str = "brush"
    fill: str = "grey"
    colour: tuple[int, int, int] = (255, 255, 255)
    size: float = 24.0
    soft: bool = False

    def __post_init__(self) -> None:
        _check_name("tool", self.tool, TOOLS)
        _check_name("fill", self.fill, FILLS)
        object.__setattr__(self, "points", _points(self.points, self.tool))
        object.__setattr__(self, "colour", _colour(self.colour))
        if not _is_number(self.size) or not 1 <= self.size < math.inf:
            raise ValueError(f"size: expected the diameter of the brush, 1 pixel or more; got {self.size!r}")

    @classmethod
    def rectangle(cls, x: float, y: float, width: float, height: float, **how: Any) -> Stroke:
        """The rectangle with the upper left corner (x, y).

        Raises:
            ValueError: for a rectangle without a size.
        """
        if not (_is_number(width) and _is_number(height) and width > 0 and height > 0):
            raise ValueError(
                f"rectangle: expected a width and a height of more than 0 pixels; got {width!r} × {height!r}"
            )
        return cls(points=((x, y), (x + width, y + height)), tool="rectangle", **how)


class Painting:
    """A picture that is painted on. What it looks like follows from the original and the strokes alone.

    Args:
        original: uint8 (H, W, 3) or (H, W).

    Attributes:
        original: uint8 (H, W, 3), never written to.

    A stroke that is being drawn is begun, extended point by point, and ended; each of these returns the box of
    pixels that may have changed, so that no more than that need be drawn again.
    """

    def __init__(self, original: NDArray[Any]) -> None:
        self.original: Picture = as_picture(original).copy()
        self.original.setflags(write=False)
        self._picture = self.original.copy()
        self._strokes: tuple[Stroke, ...] = ()
        self._before: list[tuple[Stroke, ...]] = []  # what undo goes back to
        self._open: _Open | None = None
        self._fills: dict[tuple[str, tuple[int, int, int]], Picture] = {}

    @property
    def picture(self) -> Picture:
        """The picture as painted, a copy, uint8 (H, W, 3)."""
        return self._picture.copy()

    @property
    def strokes(self) -> tuple[Stroke, ...]:
        """All strokes, with the one that is being drawn."""
        return self._strokes if self._open is None else (*self._strokes, self._open.stroke())

    @property
    def box(self) -> Box:
        """The whole picture."""
        return (0, 0, self.original.shape[1], self.original.shape[0])

    @property
    def can_undo(self) -> bool:
        """Whether there is something to take back."""
        return bool(self._before) or self._open is not None

    def part(self, box: Box) -> Picture:
        """A part of the picture as painted, a copy."""
        x0, y0, x1, y1 = box
        return self._picture[y0:y1, x0:x1].copy()

    def begin(self, stroke: Stroke) -> Box:
        """Begin to draw a stroke; its first points may be all it has."""
        self.end()
        self._before.append(self._strokes)
        self._open = _Open(stroke, self._picture.copy(), self._fill(stroke))
        box = _NOTHING
        for point in stroke.points:
            box = _union(box, self._extend(self._open, point))
        return box

    def extend(self, x: float, y: float) -> Box:
        """Draw on to a point. Nothing happens where no stroke has been begun."""
        return _NOTHING if self._open is None else self._extend(self._open, (float(x), float(y)))

    def end(self) -> None:
        """The stroke is drawn."""
        if self._open is not None:
            self._strokes, self._open = (*self._strokes, self._open.stroke()), None

    def add(self, stroke: Stroke) -> Box:
        """Draw a whole stroke."""
        box = self.begin(stroke)
        self.end()
        return box

    def undo(self) -> bool:
        """Take back the last stroke, or the last `reset` or `repaint`; whether there was one."""
        self.end()
        if not self._before:
            return False
        self._paint(self._before.pop())
        return True

    def reset(self) -> bool:
        """Take all strokes away, which can be undone; whether there were any."""
        self.end()
        return bool(self._strokes) and self.repaint(())

    def repaint(self, strokes: Iterable[Stroke]) -> bool:
        """Paint these strokes instead, which can be undone; whether they are others than before.

        Raises:
            TypeError: for anything but strokes.
        """
        self.end()
        wanted = tuple(strokes)
        wrong = next((stroke for stroke in wanted if not isinstance(stroke, Stroke)), None)
        if wrong is not None:
            raise TypeError(f"strokes: expected Stroke objects; got {type(wrong).__name__} among them")
        if wanted == self._strokes:
            return False
        self._before.append(self._strokes)
        self._paint(wanted)
        return True

    def _paint(self, strokes: tuple[Stroke, ...]) -> None:
        self._picture[...] = self.original
        for stroke in strokes:
            current = _Open(stroke, self._picture.copy(), self._fill(stroke))
            for point in stroke.points:
                self._extend(current, point)
        self._strokes = strokes

    def _extend(self, current: _Open, point: tuple[float, float]) -> Box:
        box = current.extend(point)
        x0, y0, x1, y1 = box
        under, fill = current.under[y0:y1, x0:x1], current.fill[y0:y1, x0:x1]
        mask = current.mask[y0:y1, x0:x1, None]
        self._picture[y0:y1, x0:x1] = np.rint(under * (1 - mask) + fill * mask)
        return box

    def _fill(self, stroke: Stroke) -> Picture:
        key = (stroke.fill, stroke.colour if stroke.fill == "colour" else (0, 0, 0))
        if key not in self._fills:
            if len(self._fills) > 15:  # colours; the rest are few
                self._fills.clear()
            self._fills[key] = fill_colours(self.original, stroke.fill, stroke.colour)
        return self._fills[key]


class _Open:
    """A stroke that is being drawn: what was there before, what is put there, and how much of it, 0 to 1."""

    def __init__(self, stroke: Stroke, under: Picture, fill: Picture) -> None:
        self.under, self.fill = under, fill
        self.mask: NDArray[np.float32] = np.zeros(under.shape[:2], np.float32)
        self._stroke = stroke
        self._points: list[tuple[float, float]] = []
        self._rectangle: Box = _NOTHING

    def stroke(self) -> Stroke:
        return replace(self._stroke, points=tuple(self._points))

    def extend(self, point: tuple[float, float]) -> Box:
        """Cover what a further point covers; the box of pixels that may have changed."""
        if self._stroke.tool == "rectangle":
            self._points = [*self._points[:1], point]
            before, self._rectangle = self._rectangle, self._clipped(self._corners())
            for box, share in ((before, 0.0), (self._rectangle, 1.0)):
                self.mask[box[1] : box[3], box[0] : box[2]] = share
            return _union(before, self._rectangle)
        start = self._points[-1] if self._points else point
        self._points.append(point)
        radius = max(self._stroke.size / 2, _LEAST_RADIUS)
        reach = radius + 1
        box = self._clipped(
            (
                math.floor(min(start[0], point[0]) - reach),
                math.floor(min(start[1], point[1]) - reach),
                math.ceil(max(start[0], point[0]) + reach),
                math.ceil(max(start[1], point[1]) + reach),
            )
        )
        distance = _distance(box, start, point)
        cover = np.clip(radius + 0.5 - distance, 0, 1) if self._stroke.soft else distance <= radius + 1e-9
        part = self.mask[box[1] : box[3], box[0] : box[2]]
        np.maximum(part, cover, out=part)
        return box

    def _corners(self) -> Box:
        (ax, ay), (bx, by) = self._points[0], self._points[-1]
        x0, y0 = math.floor(min(ax, bx)), math.floor(min(ay, by))
        # A press without a drag is the pixel under it.
        return x0, y0, max(x0 + 1, math.ceil(max(ax, bx))), max(y0 + 1, math.ceil(max(ay, by)))

    def _clipped(self, box: Box) -> Box:
        height, width = self.under.shape[:2]
        x0, x1 = min(max(box[0], 0), width), min(max(box[2], 0), width)
        y0, y1 = min(max(box[1], 0), height), min(max(box[3], 0), height)
        return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else _NOTHING


def fill_colours(original: Picture, fill: str, colour: tuple[int, int, int] = (255, 255, 255)) -> Picture:
    """What a fill puts into each pixel of a picture, uint8 (H, W, 3).

    "blur" is a Gaussian whose standard deviation is a sixteenth of the shorter side, at least one pixel: what is
    there can no longer be told, but the colours stay.

    Args:
        original: uint8 (H, W, 3).
        fill: one of `FILLS`; "original" gives the picture itself.
        colour: red, green and blue, 0 to 255, for "colour".

    Raises:
        ValueError: for an unknown fill.
    """
    _check_name("fill", fill, FILLS)
    if fill == "original":
        return original
    if fill == "blur":
        from PIL import Image, ImageFilter

        radius = max(1.0, min(original.shape[:2]) / 16)
        return np.asarray(Image.fromarray(original).filter(ImageFilter.GaussianBlur(radius)))
    one = {
        "grey": (128, 128, 128),
        "mean": np.rint(original.reshape(-1, 3).mean(0, dtype=np.float64)),
        "colour": colour,
    }
    return np.broadcast_to(np.asarray(one[fill], dtype=np.uint8), original.shape)


def as_picture(pixels: object) -> Picture:
    """A uint8 array (H, W, 3) from that or (H, W).

    Raises:
        TypeError: for no array. ValueError: for another shape or dtype.
    """
    if not isinstance(pixels, np.ndarray):
        raise TypeError(f"picture: expected a uint8 array (H, W, 3) or (H, W); got {type(pixels).__name__}")
    if (
        pixels.dtype != np.uint8
        or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3))
        or 0 in pixels.shape
    ):
        raise ValueError(
            f"picture: expected a uint8 array (H, W, 3) or (H, W), not empty; got {pixels.dtype} {pixels.shape}"
        )
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    return np.ascontiguousarray(pixels)


def _distance(box: Box, a: tuple[float, float], b: tuple[float, float]) -> NDArray[np.float64]:
    """From the centre of each pixel of a box to the line from a to b."""
    x = np.arange(box[0], box[2]) + 0.5 - a[0]
    y = (np.arange(box[1], box[3]) + 0.5 - a[1])[:, None]
    dx, dy = b[0] - a[0], b[1] - a[1]
    along = np.clip((x * dx + y * dy) / ((dx * dx + dy * dy) or 1.0), 0, 1)
    distance: NDArray[np.float64] = np.hypot(x - along * dx, y - along * dy)
    return distance


def _union(a: Box, b: Box) -> Box:
    if _NOTHING in (a, b):
        return b if a == _NOTHING else a
    return min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])


def _check_name(what: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{what}: expected one of {', '.join(known)}; got {value!r}")


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _points(points: object, tool: str) -> tuple[tuple[float, float], ...]:
    try:
        pairs = tuple((x, y) for x, y in points)  # type: ignore[attr-defined] # told below
    except (TypeError, ValueError):
        pairs = ()
    if not pairs or not all(_is_number(x) and _is_number(y) for x, y in pairs):
        raise ValueError(f"points: expected one pair of finite numbers (x, y) or more; got {points!r}")
    if tool == "rectangle" and len(pairs) > 2:
        raise ValueError(f"points: a rectangle has two, opposite corners; got {len(pairs)}")
    return tuple((float(x), float(y)) for x, y in pairs)


def _colour(colour: object) -> tuple[int, int, int]:
    parts = tuple(colour) if isinstance(colour, (tuple, list, np.ndarray)) else ()
    if len(parts) == 3 and all(isinstance(c, Integral) and not isinstance(c, bool) for c in parts):
        red, green, blue = (int(c) for c in parts)
        if {red, green, blue} <= set(range(256)):
            return red, green, blue
    raise ValueError(f"colour: expected (red, green, blue), each an int from 0 to 255; got {colour!r}")
