"""Concepts that can be computed from a picture's pixels: colours, light and dark, stripes and texture."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["simple_concepts"]

# Hues in degrees, from and up to.
_HUES = {
    "red": (345, 15),
    "orange": (15, 45),
    "yellow": (45, 70),
    "green": (70, 165),
    "blue": (165, 265),
    "purple": (265, 345),
}


def simple_concepts(picture: NDArray[np.uint8]) -> dict[str, NDArray[np.bool_]]:
    """What is where in a picture, as far as pixels alone tell: concept -> bool (H, W).

    Six hues (red, orange, yellow, green, blue, purple) where a pixel has a colour at all; "dark", "bright" and
    "grey"; "stripes" where the brightness changes strongly in one direction, "texture" where it does in several,
    "plain" where it hardly changes. They overlap, and they are no annotations: a channel called "orange" fires
    where pixels are orange, and whether it looks for fur or for fruit is not said. They are there to try
    `gradcam_widget.name_channels` without a data set; its argument ``masks`` takes this function. Channels of the
    last layers look for other things, so that hardly any gets a name from it.

    Args:
        picture: uint8 (H, W, 3).

    Raises:
        ValueError: for another array.

    Source: the direction of change is that of the structure tensor (Bigün and Granlund, "Optimal Orientation
    Detection of Linear Symmetry", ICCV 1987); hue and chroma are those of HSV.
    """
    array = np.asarray(picture)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise ValueError(f"picture: expected uint8 (H, W, 3); got {array.dtype} {array.shape}")
    values = array.astype(np.float32) / 255
    highest, lowest = values.max(2), values.min(2)
    chroma = highest - lowest
    coloured = (chroma > 0.15) & (chroma > 0.25 * highest)
    hue = _hue(values, highest, chroma)
    found = {
        name: coloured & ((hue >= start) & (hue < stop) if start < stop else (hue >= start) | (hue < stop))
        for name, (start, stop) in _HUES.items()
    }
    found["dark"] = highest < 0.25
    found["bright"] = lowest > 0.75
    found["grey"] = (chroma < 0.08) & ~found["dark"] & ~found["bright"]
    return found | _structure(values @ np.array([0.299, 0.587, 0.114], np.float32))


def _hue(values: NDArray[Any], highest: NDArray[Any], chroma: NDArray[Any]) -> NDArray[Any]:
    """(H, W) in degrees; 0 where there is no colour."""
    red, green, blue = np.moveaxis(values, 2, 0)
    span = np.where(chroma > 0, chroma, 1)
    sixths = np.where(
        highest == red,
        ((green - blue) / span) % 6,
        np.where(highest == green, (blue - red) / span + 2, (red - green) / span + 4),
    )
    hue: NDArray[Any] = 60 * sixths
    return hue


def _structure(brightness: NDArray[Any]) -> dict[str, NDArray[np.bool_]]:
    """Stripes, texture and plain, over windows of a fourteenth of the shorter side."""
    if min(brightness.shape) < 2:
        return {}
    down, across = np.gradient(brightness)
    window = max(3, min(brightness.shape) // 14)
    yy, xx, xy = (_mean(product, window) for product in (down * down, across * across, down * across))
    energy = yy + xx
    # 1 where all change is in one direction, 0 where it is the same in all.
    coherence = np.sqrt((xx - yy) ** 2 + 4 * xy**2) / np.where(energy > 0, energy, 1)
    strong = energy > 0.03**2
    return {
        "stripes": strong & (coherence > 0.6),
        "texture": strong & (coherence < 0.35),
        "plain": energy < 0.008**2,
    }


def _mean(values: NDArray[Any], window: int) -> NDArray[np.float64]:
    """The mean over a square window round each pixel; at the edges the nearest pixels count again."""
    before, after = window // 2, window - 1 - window // 2
    padded = np.pad(values.astype(np.float64), ((before + 1, after), (before + 1, after)), "edge")
    sums = padded.cumsum(0).cumsum(1)
    total = sums[window:, window:] - sums[:-window, window:] - sums[window:, :-window] + sums[:-window, :-window]
    mean: NDArray[np.float64] = total / window**2
    return mean
