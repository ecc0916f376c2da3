"""The strip: the layers in the list with a small map of each, as the view takes them."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradcam_widget.widget import wire

__all__ = ["Thumbnail", "strip_message"]


@dataclass(frozen=True)
class Thumbnail:
    """One layer of the strip.

    Attributes:
        name, label: of the layer; the label tells its kind and shape.
        shape: (K, h, w).
        cam: (h, w) as in `Scene`; None where this method has no map here, or none without more passes.
    """

    name: str
    label: str
    shape: Sequence[int]
    cam: NDArray[Any] | None


def strip_message(thumbnails: Sequence[Thumbnail], evidence: str, question: int) -> dict[str, Any]:
    """The layers with their maps, in this order, as the view takes them; ``question`` is that of their scene.

    The maps travel together, uint8, deflated, one after the other: `wire.thumbnail` says what the values mean.
    Each is as strong as its own maximum; one whose ``max`` is 0 is empty, and one without cells is not known.
    """
    layers, maps = [], []
    for thumbnail in thumbnails:
        small = np.zeros((0, 0), np.uint8) if thumbnail.cam is None else wire.thumbnail(thumbnail.cam)
        maps.append(small.tobytes())
        layers.append(
            {
                "name": wire.shorten(thumbnail.name),
                "label": wire.shorten(thumbnail.label),
                "shape": list(thumbnail.shape),
                "cells": list(small.shape),
                "max": 0.0 if thumbnail.cam is None else float(np.abs(thumbnail.cam).max(initial=0.0)),
                "signed": thumbnail.cam is not None and bool((thumbnail.cam < 0).any()),
            }
        )
    data = zlib.compress(b"".join(maps), 6)
    return {"evidence": evidence, "question": question, "layers": layers, "data": data}
