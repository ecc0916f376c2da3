"""Where the evidence lies: the box round the largest connected segment of a heatmap, in pure numpy.

The view draws the same box (``widget/view/localise.js``): both do the same operations in the same order in double
precision, so that they agree to the last pixel.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["THRESHOLD", "Box", "enlarge", "find_box", "largest_segment"]

Array = np.ndarray[Any, np.dtype[Any]]

Box = tuple[int, int, int, int]
"""(left, top, right, bottom) in pixels; right and bottom are the first ones outside, as in PIL."""

THRESHOLD = 0.15
"""Of the maximum, where the paper cuts a heatmap to localise an object (arXiv 1610.02391, section 4.1)."""


def enlarge(cam: Array, size: tuple[int, int]) -> Array:
    """A map (h, w) at the size of the picture (H, W), float64: bilinear, align_corners=False.

    As `gradcam_widget.render.bilinear`, but one operation after the other, so that a browser can repeat it.
    """
    values = np.asarray(cam, np.float64)
    (low, high, down), (left, right, across) = (
        _taps(n, length) for n, length in zip(values.shape, size, strict=True)
    )
    lines = values[low] + (values[high] - values[low]) * down[:, None]
    enlarged: Array = lines[:, left] + (lines[:, right] - lines[:, left]) * across
    return enlarged


def find_box(heatmap: Array, threshold: float = THRESHOLD) -> Box | None:
    """The box round the largest connected segment of a heatmap cut at a share of its maximum.

    Source: R. Selvaraju et al., "Grad-CAM", arXiv 1610.02391, section 4.1, weakly supervised localisation.

    Args:
        heatmap: (H, W) at the size of the picture; what is not positive is never inside.
        threshold: 0 to 1, of the heatmap's own maximum.

    Returns:
        (left, top, right, bottom), or None where nothing is positive.

    Raises:
        ValueError: for a threshold that is no share, or a heatmap that is not two-dimensional or not finite.
    """
    values = np.asarray(heatmap, np.float64)
    if values.ndim != 2 or not np.isfinite(values).all():
        raise ValueError(f"heatmap: expected finite values (H, W); got the shape {values.shape}, or NaN in it")
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold: expected a share of the maximum, from 0 to 1; got {threshold!r}")
    highest = values.max(initial=0.0)
    segment = largest_segment((values > 0) & (values >= threshold * highest))
    if segment is None:
        return None
    rows, columns = np.flatnonzero(segment.any(1)), np.flatnonzero(segment.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def largest_segment(mask: Array) -> Array | None:
    """The largest part of a mask (H, W) whose pixels hang together by their edges, as a mask; None for none.

    Among parts of one size it is the one that begins first, row by row.
    """
    rows, starts, ends = _runs(np.asarray(mask, bool))
    if not rows.size:
        return None
    roots = _joined(rows, starts, ends)
    sizes = np.bincount(roots, weights=ends - starts)
    segment = np.zeros(mask.shape, bool)
    for run in np.flatnonzero(roots == sizes.argmax()):
        segment[rows[run], starts[run] : ends[run]] = True
    return segment


def _taps(count: int, length: int) -> tuple[Array, Array, Array]:
    """For each of ``length`` places: the two neighbours among ``count`` values, and the second one's weight."""
    source = np.minimum(np.maximum((np.arange(length) + 0.5) * count / length - 0.5, 0), count - 1)
    low = np.floor(source).astype(int)
    return low, np.minimum(low + 1, count - 1), source - low


def _runs(mask: Array) -> tuple[Array, Array, Array]:
    """Row, first column and the column after the last, of each unbroken piece of a row, in reading order."""
    edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(edges == 1)
    return rows, starts, np.nonzero(edges == -1)[1]


def _joined(rows: Array, starts: Array, ends: Array) -> Array:
    """For each run the number of the first run that it hangs together with."""
    # The runs of the row above that touch a run are those from the first that ends behind its start, to the last
    # that begins before its end. Counted along all rows, one behind the other, starts and ends are in order.
    width = int(ends.max()) + 1
    here, above = rows * width, (rows - 1) * width
    first = np.searchsorted(here + ends, above + starts, side="right")
    count = np.searchsorted(here + starts, above + ends, side="left") - first
    lower = np.repeat(np.arange(len(rows)), count)
    upper = np.arange(len(lower)) - np.repeat(np.cumsum(count) - count - first, count)
    roots = np.arange(len(rows))
    while True:
        # Each pair's smaller root goes to both roots, and each run to the root of its root.
        new = roots.copy()
        smaller = np.minimum(roots[lower], roots[upper])
        np.minimum.at(new, roots[lower], smaller)
        np.minimum.at(new, roots[upper], smaller)
        new = new[new]
        if (new == roots).all():
            return roots
        roots = new
