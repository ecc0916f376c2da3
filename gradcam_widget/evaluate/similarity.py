"""How alike two maps are: the structural similarity index, in pure numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradcam_widget.evaluate.given import as_map, check_number

__all__ = ["ssim"]

_SIGMA, _RADIUS = 1.5, 5
_K1, _K2 = 0.01, 0.03


def ssim(a: NDArray[Any], b: NDArray[Any], data_range: float = 1.0) -> float | None:
    """The mean structural similarity of two maps (H, W), from -1 to 1; 1 for equal ones.

    Windows are Gaussian, 11 pixels wide with a standard deviation of 1.5, and only those that lie within the maps
    count. None for maps that are smaller than a window.

    Args:
        a: one map.
        b: the other.
        data_range: from the smallest to the largest value that a map can have.

    Raises:
        TypeError, ValueError: for maps of two sizes, or that are not finite numbers (H, W), and a range that is
            not positive.

    Source: Z. Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity", IEEE TIP
    2004, eq. 13 with its constants (K1 = 0.01, K2 = 0.03).
    """
    x, y = as_map("a", a), as_map("b", b)
    if x.shape != y.shape:
        raise ValueError(f"b: expected a map of one size with a, {x.shape}; got {y.shape}")
    data_range = check_number("data_range", data_range, "a positive number", lambda value: value > 0)
    if min(x.shape) < 2 * _RADIUS + 1:
        return None
    mean_x, mean_y = _windowed(x), _windowed(y)
    var_x = _windowed(x * x) - mean_x**2
    var_y = _windowed(y * y) - mean_y**2
    both = _windowed(x * y) - mean_x * mean_y
    c1, c2 = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2
    index = (2 * mean_x * mean_y + c1) * (2 * both + c2) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    return float(index.mean())


def _windowed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The weighted mean in each window that lies within the map."""
    offsets = np.arange(-_RADIUS, _RADIUS + 1)
    weights = np.exp(-(offsets**2) / (2 * _SIGMA**2))
    weights /= weights.sum()
    height, width = values.shape
    lines = sum(w * values[i : height - 2 * _RADIUS + i] for i, w in enumerate(weights))
    found: NDArray[np.float64] = sum(w * lines[:, i : width - 2 * _RADIUS + i] for i, w in enumerate(weights))
    return found
