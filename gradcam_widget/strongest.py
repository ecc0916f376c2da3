"""The strongest activations of each channel: its best places, and the threshold of its regions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradcam_widget.channel_names import Place
from gradcam_widget.layers import Layer
from gradcam_widget.reading import Reading

__all__ = ["Strongest"]

_MOST_CELLS = 1 << 32  # of one picture


class Strongest:
    """The largest activations of each channel: its best places, and the values from which T_k is read.

    Args:
        pictures: how many will be read.
        top: places that are kept for each channel.
        per_picture: how many of them may be of one picture.
        quantile: share of a channel's cells that exceed its T_k; None where no thresholds are wanted.
        budget: bytes, half of which may be taken by the values from which T_k is read.
        of_pictures: whether the maxima of each picture are kept.

    Attributes:
        count: cells read of each channel.
        read_for_threshold: pictures from which T_k is read; None where it is not wanted.
        highest: (K,) the largest activation of each channel.
        lowest: (K,) the smallest one.
    """

    def __init__(
        self,
        pictures: int,
        *,
        top: int,
        per_picture: int,
        quantile: float | None,
        budget: int,
        of_pictures: bool,
    ) -> None:
        self.count = 0
        self.read_for_threshold: int | None = None
        self.highest = self.lowest = torch.zeros(0)
        self._pictures, self._budget = pictures, budget
        self._top, self._per_picture, self._quantile = top, per_picture, quantile
        self._values = torch.zeros(0, 0)
        self._where = torch.zeros(0, 0, dtype=torch.int64)  # picture and cell of each, in one number
        self._tail = torch.zeros(0, 0)
        self._room, self._every, self._cells = 0, 1, 0
        self._maxima: list[Tensor] | None = [] if of_pictures else None
        self._sizes: dict[int, tuple[Layer, tuple[int, ...]]] = {}  # of the pictures that follow, by the first one

    def take(self, reading: Reading) -> None:
        """Take the readings one after the other.

        Raises:
            ValueError: where the layer has another number of channels than for the pictures before.
        """
        maps = reading.maps.flatten(2)  # (n, K, cells)
        n, channels, cells = maps.shape
        if not self.count:
            self.highest = torch.full((channels,), -math.inf, dtype=maps.dtype)
            self.lowest = torch.full((channels,), math.inf, dtype=maps.dtype)
            self._values, self._tail = (torch.zeros(channels, 0, dtype=maps.dtype) for _ in range(2))
            self._where = torch.zeros(channels, 0, dtype=torch.int64)
            self._begin(channels, cells, maps.element_size())
        elif channels != len(self.highest):
            raise ValueError(
                f"layer: expected {len(self.highest)} channels for every picture; got {channels} for picture "
                f"{reading.first}"
            )
        size = reading.layer, reading.picture
        if not self._sizes or next(reversed(self._sizes.values())) != size:
            self._sizes[reading.first] = size
        self.count += n * cells
        self.highest = torch.maximum(self.highest, maps.amax((0, 2)))
        self.lowest = torch.minimum(self.lowest, maps.amin((0, 2)))
        if self._maxima is not None:
            self._maxima.append(maps.amax(2))
        # Stable, so that of equal values the first picture's, and its first cell's, comes first.
        best, at = maps.sort(dim=2, descending=True, stable=True) if self._per_picture > 1 else _largest(maps)
        best, at = best[:, :, : self._per_picture], at[:, :, : self._per_picture]
        number = torch.arange(reading.first, reading.first + n)[:, None, None]
        where = number * _MOST_CELLS + at
        self._values = torch.cat([self._values, best.permute(1, 0, 2).flatten(1)], 1)
        self._where = torch.cat([self._where, where.permute(1, 0, 2).flatten(1)], 1)
        self._values, order = self._values.sort(dim=1, descending=True, stable=True)
        self._values, order = self._values[:, : self._top], order[:, : self._top]
        self._where = self._where.gather(1, order)
        if self._quantile is not None:
            self._take_tail(maps, reading.first)

    def _begin(self, channels: int, cells: int, size: int) -> None:
        """Decide how many pictures the thresholds are read from, so that the largest values fit the budget."""
        if self._quantile is None:
            return
        need = self._quantile * self._pictures * cells * channels * size
        self._every = max(1, math.ceil(need / max(1, self._budget // 2)))
        self._room = math.floor(self._quantile * math.ceil(self._pictures / self._every) * cells) + 1
        self.read_for_threshold = 0

    def _take_tail(self, maps: Tensor, first: int) -> None:
        """Keep the largest values of each channel: as many as may exceed its threshold, and one more."""
        wanted = [row for row in range(len(maps)) if (first + row) % self._every == 0]
        if not wanted:
            return
        self.read_for_threshold = (self.read_for_threshold or 0) + len(wanted)
        self._cells += len(wanted) * maps.shape[2]
        # Pictures of several sizes have other numbers of cells than the first one told.
        self._room = max(self._room, math.floor((self._quantile or 0.0) * self._cells) + 1)
        rows = maps[wanted].permute(1, 0, 2).flatten(1)
        both = torch.cat([self._tail, rows], 1)
        self._tail = both.topk(min(self._room, both.shape[1]), dim=1).values

    def thresholds(self, quantile: float) -> Tensor:
        """(K,) T_k: the smallest of the channel's values that no more than this share of its cells exceed.

        Raises:
            ValueError: where there are so few cells that none of them is above.
        """
        above = math.floor(quantile * self._cells)
        if not above:
            raise ValueError(
                f"quantile: of {self._cells} cells none is the highest {quantile:g}; give more pictures, or a "
                f"larger quantile than {1 / self._cells:.2g}"
            )
        return self._tail[:, above]

    def of_pictures(self) -> NDArray[Any]:
        """(N, K) the largest activation of each channel in each picture."""
        found: NDArray[Any] = torch.cat(self._maxima or []).numpy()
        return found

    @property
    def layer(self) -> Layer:
        """As it is for the first picture."""
        return self._sizes[0][0]

    def is_approximate(self) -> bool:
        """Whether patches are the regions of cells, for there is a picture that the receptive field exceeds."""
        return any(_window(layer, (0, 0), picture) is None for layer, picture in self._sizes.values())

    def places(self, around: int, approximate: bool) -> Iterator[tuple[Place, ...]]:
        """For each channel its places, the strongest first; none where it is no stronger than at its weakest."""
        starts = np.array(list(self._sizes))
        values, where, lowest = self._values.tolist(), self._where.tolist(), self.lowest.tolist()
        for k in range(len(values)):
            places = []
            for value, at in zip(values[k], where[k], strict=True):
                if value <= lowest[k]:
                    break
                number, index = divmod(at, _MOST_CELLS)
                layer, picture = self._sizes[int(starts[np.searchsorted(starts, number, "right") - 1])]
                cell = divmod(index, layer.shape[2])
                box = None if approximate else _window(layer, cell, picture)
                places.append(Place(number, cell, value, box or _region(layer, cell, picture, around)))
            yield tuple(places)


def _largest(maps: Tensor) -> tuple[Tensor, Tensor]:
    """The largest value of each map, and its cell, both (n, K, 1)."""
    at = maps.argmax(2, keepdim=True)  # of equal ones the first
    return maps.gather(2, at), at


def _window(layer: Layer, cell: tuple[int, int], picture: tuple[int, ...]) -> tuple[int, int, int, int] | None:
    """(left, top, right, bottom) of what a cell sees; None where that is not known, or larger than the picture."""
    seen = layer.seen_by(cell)
    if seen is None or any(stop - start > size for (start, stop), size in zip(seen, picture, strict=True)):
        return None
    (top, bottom), (left, right) = seen
    return left, top, right, bottom


def _region(
    layer: Layer, cell: tuple[int, int], picture: tuple[int, ...], around: int
) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of a cell with its neighbours, in whole pixels; it may exceed the picture."""
    edges = [
        (math.floor((at - around) * size / cells), math.ceil((at + 1 + around) * size / cells))
        for at, cells, size in zip(cell, layer.shape[1:], picture, strict=True)
    ]
    (top, bottom), (left, right) = edges
    return left, top, right, bottom
