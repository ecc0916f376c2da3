"""An occlusion map: how much of the score is lost when a patch of the picture is covered, place by place."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradcam_widget.targets import Target

__all__ = ["Occlusion", "patches", "rank_correlation"]

_GRID = 7  # patches along the shorter side, where none is named


@dataclass(frozen=True, eq=False)
class Occlusion:
    """How much of a target's value is lost under each place of a patch.

    Attributes:
        target: the scalar explained.
        score: its value for the whole picture.
        drop: float64 (rows, columns): the score less that with the patch there; positive where the patch covers
            what speaks for the target.
        boxes: the places (x0, y0, x1, y1) in pixels, half open, row by row.
        picture: (H, W), the size of the input.
        fill: what the patch was filled with.
    """

    target: Target
    score: float
    drop: NDArray[np.float64]
    boxes: tuple[tuple[int, int, int, int], ...]
    picture: tuple[int, int]
    fill: str

    def heatmap(self) -> NDArray[np.float64]:
        """(H, W) the mean drop of the patches that cover each pixel; signed, in units of the score."""
        total, count = np.zeros(self.picture), np.zeros(self.picture)
        for (x0, y0, x1, y1), drop in zip(self.boxes, self.drop.ravel(), strict=True):
            total[y0:y1, x0:x1] += drop
            count[y0:y1, x0:x1] += 1
        mean: NDArray[np.float64] = np.divide(total, count, out=np.zeros(self.picture), where=count > 0)
        return mean

    def agreement(self, heatmap: NDArray[Any]) -> float | None:
        """Spearman's rank correlation with a heatmap (H, W), from -1 to 1: do patches that cost much lie where
        the heatmap is high? The heatmap counts by its mean under each patch.

        None where either is the same everywhere, so that there are no ranks.

        Raises:
            ValueError: for a heatmap of another size.
        """
        if heatmap.shape != self.picture:
            raise ValueError(f"heatmap: expected the size of the picture, {self.picture}; got {heatmap.shape}")
        # Rounding must not turn what is equal into ranks: means over patches are compared to 12 digits.
        means = [float(f"{heatmap[y0:y1, x0:x1].mean(dtype=np.float64):.11e}") for x0, y0, x1, y1 in self.boxes]
        return rank_correlation(np.array(means), self.drop.ravel())


def patches(
    picture: tuple[int, int], patch: int | None = None, stride: int | None = None
) -> tuple[tuple[int, int], tuple[tuple[int, int, int, int], ...]]:
    """((rows, columns), boxes): where a square patch comes to lie as it is slid over a picture.

    Args:
        picture: (H, W).
        patch: its side in pixels; None for a seventh of the shorter side.
        stride: from one place to the next; None for half of the patch. Every pixel is covered: the last place of
            a row or column lies at the edge, nearer to the one before it where the stride asks for it.

    Raises:
        ValueError: for a patch that does not fit into the picture, or a stride that leaves pixels out.
    """
    height, width = picture
    if patch is None:
        patch = max(1, round(min(height, width) / _GRID))
    if isinstance(patch, bool) or not isinstance(patch, int) or not 1 <= patch <= min(height, width):
        raise ValueError(f"patch: expected a side from 1 to {min(height, width)} pixels; got {patch!r}")
    if stride is None:
        stride = max(1, patch // 2)
    if isinstance(stride, bool) or not isinstance(stride, int) or not 1 <= stride <= patch:
        raise ValueError(
            f"stride: expected 1 to {patch} pixels, the side of the patch, so that no pixel is left out; "
            f"got {stride!r}"
        )
    tops, lefts = (_starts(length, patch, stride) for length in (height, width))
    boxes = tuple((left, top, left + patch, top + patch) for top in tops for left in lefts)
    return (len(tops), len(lefts)), boxes


def _starts(length: int, patch: int, stride: int) -> list[int]:
    starts = list(range(0, length - patch + 1, stride))
    return starts if starts[-1] == length - patch else [*starts, length - patch]


def rank_correlation(a: NDArray[Any], b: NDArray[Any]) -> float | None:
    """Spearman's rho of two lists of numbers: the correlation of their ranks, equal values sharing the mean rank.

    None where all values of either are equal, or there are fewer than two.

    Raises:
        ValueError: where one list is longer.

    Source: C. Spearman, "The Proof and Measurement of Association between Two Things", 1904; with ties it is
    Pearson's correlation of the ranks.
    """
    x, y = (_ranks(np.asarray(values, np.float64).ravel()) for values in (a, b))
    if x.shape != y.shape:
        raise ValueError(f"rank_correlation: expected as many values in both; got {x.size} and {y.size}")
    x, y = x - x.mean() if x.size else x, y - y.mean() if y.size else y
    spread = math.sqrt(float(x @ x) * float(y @ y))
    return float(np.clip(float(x @ y) / spread, -1, 1)) if spread > 0 else None


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 for the smallest; equal values have the mean of the ranks that they take up together."""
    _, group, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    ranks: NDArray[np.float64] = (last - (count - 1) / 2)[group]
    return ranks
