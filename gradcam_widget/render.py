"""From maps to pixels in pure numpy: upsampling, colour tables, blending."""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

import numpy as np

__all__ = ["COLORMAPS", "bilinear", "colour", "grey_centred", "overlay", "table"]

Array = np.ndarray[Any, np.dtype[Any]]

COLORMAPS: dict[str, Literal["sequential", "diverging"]] = {
    "viridis": "sequential",
    "inferno": "sequential",
    "magma": "sequential",
    "plasma": "sequential",
    "cividis": "sequential",
    "gray": "sequential",
    "RdBu_r": "diverging",
    "PuOr_r": "diverging",
    "coolwarm": "diverging",
    "turbo": "sequential",  # last: it is not perceptually uniform, but people look for something like jet
}
"""The colour tables on offer, by matplotlib's names."""


_SHARE = 0.995  # of the values lie within the limits: a few extreme ones would leave the rest grey


@cache
def table(name: str) -> Array:
    """The colour table (256, 3) uint8 of a name in `COLORMAPS`; it cannot be written to.

    Raises:
        ValueError: for an unknown name; the known ones are listed.
    """
    if name not in COLORMAPS:
        raise ValueError(f"colormap: expected one of {list(COLORMAPS)}; got {name!r}")
    import matplotlib  # costs a quarter of a second, so only when colours are wanted

    colours: Array = matplotlib.colormaps[name](np.arange(256), bytes=True)[:, :3].copy()
    colours.setflags(write=False)
    return colours


def bilinear(values: Array, size: tuple[int, int]) -> Array:
    """A map (h, w) at the size (H, W): bilinear, pixel centres aligned (align_corners=False), edges held.

    The same as ``torch.nn.functional.interpolate(..., mode="bilinear", align_corners=False)``, by two small
    matrix products.
    """
    return _weights(values.shape[0], size[0]) @ values @ _weights(values.shape[1], size[1]).T


def _weights(short: int, long: int) -> Array:
    """(long, short): the weight of each of the short values in each of the long ones."""
    place = np.clip((np.arange(long) + 0.5) * short / long - 0.5, 0, short - 1)
    low = np.floor(place).astype(int)
    share = place - low
    weights = np.zeros((long, short))
    rows = np.arange(long)
    weights[rows, low] = 1 - share
    weights[rows, np.minimum(low + 1, short - 1)] += share
    return weights


def colour(values: Array, name: str) -> Array:
    """Values in [0, 1], any shape, to colours (..., 3) uint8 of a table."""
    return table(name)[np.clip(values * 255 + 0.5, 0, 255).astype(np.uint8)]


def overlay(picture: Array, heatmap: Array, name: str = "viridis", opacity: float = 0.5) -> Array:
    """The picture (H, W, 3) uint8 under the coloured heatmap (H, W) in [0, 1], uint8 (H, W, 3).

    A pixel's colour depends on the picture, its own value and the opacity alone: the map is mixed in by
    ``opacity * min(1, 2 * value)``, so that where there is no evidence the picture stays untouched.

    Args:
        picture: uint8 (H, W, 3).
        heatmap: (H, W) in [0, 1].
        name: of a colour table, a key of `COLORMAPS`.
        opacity: of the map, 0 to 1.

    Raises:
        ValueError: for an opacity that is no share.
    """
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity: expected a number from 0 to 1; got {opacity}")
    mix = (opacity * np.minimum(1, 2 * heatmap))[..., None]
    blended: Array = np.rint(picture * (1 - mix) + colour(heatmap, name) * mix).astype(np.uint8)
    return blended


def grey_centred(values: Array) -> tuple[Array, float]:
    """Signed values as a picture, and the limit at which its colours end.

    Args:
        values: (C, H, W). Three channels are red, green and blue; any other number is summed to grey.

    Returns:
        uint8 (H, W, 3): 128 for 0, 1 for minus the limit and below, 255 for the limit and above; and the limit,
        within which 99.5 % of the magnitudes lie, or 0 where all values are 0.

    Raises:
        ValueError: for values that are not finite.
    """
    signed = np.asarray(values, dtype=np.float64)
    if not np.isfinite(signed).all():
        raise ValueError(
            "method: the gradient at the picture's pixels is NaN or infinite somewhere; choose another method"
        )
    if len(signed) != 3:
        signed = np.repeat(signed.sum(0, keepdims=True), 3, 0)
    magnitudes = np.abs(signed)
    limit = float(np.quantile(magnitudes, _SHARE)) or float(magnitudes.max(initial=0.0))
    share = np.clip(signed / (limit or 1.0), -1, 1)
    return np.rint(128 + 127 * share).astype(np.uint8).transpose(1, 2, 0), limit
