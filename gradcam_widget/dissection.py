"""Network dissection: the concept that fits a channel best, by masks or by the labels of whole pictures."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradcam_widget.channel_names import Concept
from gradcam_widget.reading import Reading

__all__ = ["Masks", "Overlap", "by_labels", "check_aspect", "check_masks"]

Masks = Mapping[str, NDArray[np.bool_]]
"""What is where in one picture: concept -> bool (H, W)."""
_MOST_PIXELS = 1 << 23  # of enlarged maps at once


class Overlap:
    """How many pixels each channel's region shares with each concept, over all pictures that have masks.

    Args:
        masks: for each picture a dict concept -> bool (H, W) or None, or a function that makes it of the picture.
        names: of the pictures, for errors.
        picture: what the model saw of a picture, uint8 (H, W, 3), by its number.
        thresholds: (K,) T_k.
        lowest: (K,) the smallest activation of each channel.
        highest: (K,) the largest.
    """

    def __init__(
        self,
        masks: Sequence[Masks | None] | Callable[[NDArray[np.uint8]], Masks],
        names: Sequence[str],
        picture: Callable[[int], NDArray[np.uint8]],
        thresholds: Tensor,
        lowest: Tensor,
        highest: Tensor,
    ) -> None:
        self._masks, self._names, self._picture = masks, names, picture
        # What is between two equal values may differ from them by rounding.
        near = 16 * torch.finfo(thresholds.dtype).eps * torch.maximum(highest.abs(), lowest.abs())
        self._thresholds = thresholds + torch.where(thresholds > lowest, -near, near)
        self._concepts: dict[str, int] = {}
        self._shared = np.zeros((len(thresholds), 0))  # pixels: channel, concept
        self._own = np.zeros(len(thresholds))  # of each channel's regions
        self._there: list[float] = []  # of each concept
        self._seen: list[int] = []  # pictures with each concept

    def take(self, reading: Reading) -> None:
        """Take the readings one after the other."""
        for row, maps in enumerate(reading.maps):
            masks = self._masks_of(reading.first + row)
            if masks is not None:
                check_aspect(masks, self._names[reading.first + row], reading.picture)
                self._add(maps, masks, reading.picture)

    def _masks_of(self, number: int) -> Masks | None:
        if not callable(self._masks):
            return self._masks[number]
        made = self._masks(self._picture(number))
        check_masks(made, self._names[number])
        return made

    def _add(self, maps: Tensor, masks: Masks, picture: tuple[int, ...]) -> None:
        for concept in masks:
            if concept not in self._concepts:
                self._concepts[concept] = len(self._concepts)
                self._there.append(0.0)
                self._seen.append(0)
        missing = len(self._concepts) - self._shared.shape[1]
        self._shared = np.pad(self._shared, ((0, 0), (0, missing)))
        planes = np.array([np.asarray(mask) for mask in masks.values()] or np.zeros((0, *picture), np.bool_))
        columns = [self._concepts[concept] for concept in masks]
        for column, pixels in zip(columns, planes.sum((1, 2)), strict=True):
            self._there[column] += float(pixels)
            self._seen[column] += bool(pixels)
        # What lies between values is never above all of them: only these channels can have a region here.
        active = torch.nonzero(maps.amax((1, 2)) > self._thresholds).flatten()
        flat = torch.from_numpy(
            np.ascontiguousarray(planes.reshape(len(planes), math.prod(planes.shape[1:])).T)
        ).float()
        rows, columns_of = (
            _linear(n, size).to(maps) for n, size in zip(maps.shape[1:], planes.shape[1:], strict=True)
        )
        step = max(1, _MOST_PIXELS // flat.shape[0])
        for start in range(0, len(active), step):
            some = active[start : start + step]
            enlarged = rows @ maps[some] @ columns_of.T
            region = (enlarged > self._thresholds[some][:, None, None]).flatten(1).float()
            self._own[some.numpy()] += region.sum(1, dtype=torch.float64).numpy()
            self._shared[np.ix_(some.numpy(), np.array(columns, np.int64))] += (region @ flat).double().numpy()

    def concepts(self) -> list[Concept | None]:
        """For each channel the concept with the largest IoU, of equal ones the first; None where all are 0."""
        names = list(self._concepts)
        if not names:
            return [None] * len(self._own)
        union = self._own[:, None] + np.array(self._there)[None] - self._shared
        iou = np.divide(self._shared, union, out=np.zeros_like(union), where=union > 0)
        best = iou.argmax(1)
        return [
            Concept(names[c], float(iou[k, c]), "IoU", self._seen[c]) if iou[k, c] > 0 else None
            for k, c in enumerate(best)
        ]


def check_masks(masks: object, picture: str) -> None:
    """Raise TypeError or ValueError for what are no masks of a picture, with the picture's name."""
    if masks is None:
        return
    if not isinstance(masks, Mapping):
        raise TypeError(
            f"masks: expected a dict concept -> bool (H, W), or None, for {picture!r}; got {type(masks).__name__}"
        )
    shapes = set()
    for concept, mask in masks.items():
        array = np.asarray(mask)
        if not isinstance(concept, str):
            raise TypeError(f"masks: expected the names of concepts as strings; got {concept!r} for {picture!r}")
        if array.dtype != np.bool_ or array.ndim != 2 or not array.size:
            raise ValueError(
                f"masks: expected bool (H, W) for {concept!r} in {picture!r}; got {array.dtype} {array.shape}. "
                "A mask of numbers becomes one by mask > 0"
            )
        shapes.add(array.shape)
    if len(shapes) > 1:
        raise ValueError(f"masks: expected all of {picture!r} to have one size; got {sorted(shapes)}")


def check_aspect(masks: Masks, picture: str, seen: Sequence[int]) -> None:
    """Raise ValueError for masks that cannot lie over what the model saw, (H, W), at whatever resolution."""
    height, width = seen
    for mask in list(masks.values())[:1]:  # all of a picture have one size
        rows, columns = np.asarray(mask).shape
        # Of a resolution that was rounded to whole pixels, one side may be off by less than one.
        if abs(rows * width - columns * height) >= max(height, width):
            raise ValueError(
                f"masks: expected the aspect of {height} x {width}, which is what the model sees of {picture!r}; "
                f"got {rows} x {columns}. Make them for GradCAM.picture(image), or crop them alike"
            )


def _linear(cells: int, pixels: int) -> Tensor:
    """(pixels, cells) the weights of linear enlargement along one axis, align_corners=False."""
    at = ((torch.arange(pixels, dtype=torch.float64) + 0.5) * cells / pixels - 0.5).clamp(0, cells - 1)
    low = at.floor().long()
    high = (low + 1).clamp(max=cells - 1)
    weights = torch.zeros(pixels, cells, dtype=torch.float64)
    rows = torch.arange(pixels)
    weights[rows, low] += 1 - (at - low)
    weights[rows, high] += at - low
    return weights


def by_labels(strongest: NDArray[Any], labels: Sequence[str | None]) -> list[Concept | None]:
    """For each channel the label with the largest average precision.

    Args:
        strongest: (N, K), each channel's largest activation in each picture.
        labels: of the pictures.
    """
    known = [number for number, label in enumerate(labels) if label is not None]
    counts = Counter(label for label in labels if label is not None)
    names = [label for label, count in counts.items() if 2 <= count < len(known)]
    if not names:
        return [None] * strongest.shape[1]
    is_of = np.array([[labels[number] == name for name in names] for number in known], dtype=np.float64)
    found: list[Concept | None] = []
    for scores in strongest[known].T:
        precision = _average_precision(scores, is_of)
        best = int(precision.argmax())
        found.append(Concept(names[best], float(precision[best]), "average precision", counts[names[best]]))
    return found


def _average_precision(scores: NDArray[Any], is_of: NDArray[np.float64]) -> NDArray[np.float64]:
    """(C,) the sum over the ranks of precision times the recall gained, pictures of equal score counted together.

    Args:
        scores: (N,).
        is_of: (N, C) 1.0 where a picture has the label.
    """
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    hits = is_of[order].cumsum(0)[ends]
    recall = hits / is_of.sum(0)
    gained = np.diff(recall, axis=0, prepend=0.0)
    precision: NDArray[np.float64] = (gained * hits / (ends + 1)[:, None]).sum(0)
    return precision
