"""Which classes share a channel: the channel weights of several classes, where they are strongest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradcam_widget.widget import wire

__all__ = ["ClassChannels", "strongest"]


@dataclass(frozen=True, eq=False)
class ClassChannels:
    """The weights of some classes at some channels of one layer.

    Attributes:
        layer: its name.
        method: whose weights these are.
        classes: indices of the classes, those of the rows.
        labels: how they are called.
        channels: numbers of the channels, those of the columns; the strongest first.
        alpha: float (classes, channels).
    """

    layer: str
    method: str
    classes: tuple[int, ...]
    labels: tuple[str, ...]
    channels: tuple[int, ...]
    alpha: NDArray[Any]

    def message(self, revision: int) -> dict[str, Any]:
        """The table as the view takes it: {"revision", "classes": [{"index", "label"}], "channels", "alpha"}."""
        rows = zip(self.classes, self.labels, strict=True)
        return {
            "revision": revision,
            "classes": [{"index": index, "label": wire.shorten(label)} for index, label in rows],
            "channels": list(self.channels),
            "alpha": wire.encode(self.alpha, "f32"),
        }


def strongest(alphas: NDArray[Any], count: int) -> tuple[int, ...]:
    """The channels with the largest weights of any class, the largest first; of equal ones the lower number.

    Args:
        alphas: (classes, K).
        count: how many, or all where there are fewer.
    """
    order = np.argsort(-np.abs(alphas).max(0), kind="stable")
    return tuple(int(channel) for channel in order[:count])
