"""Mosaics: pictures of several classes in one, and how much of a map lies on the one that it is about."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from gradcam_widget.arguments import several
from gradcam_widget.engine import GradCAM
from gradcam_widget.evaluate.drawing import Pictured, pictured
from gradcam_widget.evaluate.given import check_count, check_engine, of_each
from gradcam_widget.evaluate.question import Numbers, Steps, Subject, ask
from gradcam_widget.localise import Box
from gradcam_widget.methods import find_method
from gradcam_widget.perturbation import Progress
from gradcam_widget.targets import ClassLogit

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["GridPointing", "Mosaic", "grid_pointing", "mosaic"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Mosaic:
    """Pictures of different classes in a square grid, row by row.

    Attributes:
        image: (1, C, H, W) as the model takes it.
        targets: the class of each cell.
        boxes: (left, top, right, bottom) of each cell, in pixels.
    """

    image: Tensor
    targets: tuple[ClassLogit, ...]
    boxes: tuple[Box, ...]


def mosaic(
    cam: GradCAM,
    pictures: Iterable[object],
    labels: Iterable[object] | None = None,
    *,
    cell: int | None = None,
) -> Mosaic:
    """A mosaic of 4, 9, ... labelled pictures, as the model sees each of them.

    Args:
        cam: the engine, which prepares them.
        pictures: as in `GradCAM.explain`, in a list or dict; a square number of them, all different classes.
        labels: class of each, an int or a name; None for the predicted ones.
        cell: side of a cell in pixels; None for the pictures as they are, so that the mosaic is larger than what
            the model is used to, which networks with global pooling take. A model with a fixed input size needs
            its size divided by the cells in a row.

    Raises:
        TypeError, ValueError: for an argument that cannot be used, such as three pictures, or two of one class.
    """
    check_engine(cam)
    given = several(list(pictures.values()) if isinstance(pictures, Mapping) else pictures, "pictures")
    side = math.isqrt(len(given))
    if side < 2 or side**2 != len(given):
        raise ValueError(f"pictures: expected 4, 9 or another square number of them; got {len(given)}")
    if cell is not None:
        cell = check_count("cell", cell)
    classes = (
        [cam.resolve_target(label) for label in of_each(cam, "labels", labels)] if labels is not None else None
    )
    if classes is not None and len(classes) != len(given):
        raise ValueError(f"labels: expected one for each of the {len(given)} pictures; got {len(classes)}")
    tensors = [cam.prepare(picture) for picture in given]
    if classes is None:
        classes = [cam.explain(tensor).target for tensor in tensors]
    targets = tuple(target for target in classes if isinstance(target, ClassLogit))
    if len({target.index for target in targets}) < len(given):
        named = ", ".join(str(getattr(target, "label", target)) for target in classes)
        raise ValueError(f"labels: expected a different class for each picture; got {named}")
    if cell is not None:
        tensors = [_scaled(tensor, cell) for tensor in tensors]
    height, width = tensors[0].shape[-2:]
    if any(tensor.shape != tensors[0].shape for tensor in tensors):
        raise ValueError(
            f"pictures: expected the same size of all; got {sorted({tuple(t.shape[-2:]) for t in tensors})}. "
            "Give cell="
        )
    rows = [torch.cat(tensors[start : start + side], dim=-1) for start in range(0, len(tensors), side)]
    boxes = tuple(
        (column * width, row * height, (column + 1) * width, (row + 1) * height)
        for row in range(side)
        for column in range(side)
    )
    return Mosaic(torch.cat(rows, dim=-2), targets, boxes)


def _scaled(tensor: Tensor, cell: int) -> Tensor:
    return F.interpolate(tensor, (cell, cell), mode="bilinear", align_corners=False, antialias=True)


@dataclass(frozen=True, eq=False)
class GridPointing:
    """How much of each class's map lies on its own cell of a mosaic.

    Attributes:
        subjects: the maps, one for each cell.
        shares: of the positive heatmap that lies in its own cell, 0 to 1; 0 for an empty map.
        boxes: the cells.
        heatmaps: float64 (n, H, W).
        picture: uint8 (H, W, 3), the mosaic.
    """

    subjects: tuple[Subject, ...]
    shares: tuple[float, ...]
    boxes: tuple[Box, ...]
    heatmaps: Array
    picture: NDArray[Any]

    @property
    def score(self) -> float:
        """The mean of the shares."""
        return float(np.mean(self.shares))

    @property
    def chance(self) -> float:
        """The score of a map that is the same everywhere."""
        return 1 / len(self.shares)

    @property
    def numbers(self) -> Numbers:
        """The numbers as a table."""
        rows = {subject.target: (share,) for subject, share in zip(self.subjects, self.shares, strict=True)}
        return Numbers(("share on its cell",), rows | {"mean": (self.score,), "by chance": (self.chance,)})

    @property
    def verdict(self) -> str:
        """What the score says, in words."""
        text = (
            f"In a mosaic of {len(self.shares)} pictures {self.score:.0%} of each map, on average, lies on the "
            f"picture of its own class; by chance it would be {self.chance:.0%}"
        )
        if self.score >= (1 + self.chance) / 2:
            return f"{text}: the maps tell the classes apart."
        if self.score > 1.2 * self.chance:
            return f"{text}: the maps tell the classes apart only in part."
        return f"{text}: the maps do not tell the classes apart."

    def figure(self, *, dark: bool = False) -> Figure:
        """The map of each class over the mosaic, its own cell outlined."""
        parts = [
            Pictured(
                self.picture,
                heat,
                "viridis",
                (0.0, float(heat.max()) or 1.0),
                f"{subject.target}: {share:.0%}",
                ((box, "#ffffff", "-"),),
            )
            for subject, share, box, heat in zip(
                self.subjects, self.shares, self.boxes, self.heatmaps, strict=True
            )
        ]
        return pictured(parts[:4], dark=dark)


def grid_pointing(
    cam: GradCAM,
    grid: Mosaic,
    layer: object = None,
    method: str = "GradCAM",
    *,
    progress: Progress | None = None,
) -> GridPointing:
    """The share of each class's positive heatmap that lies on the picture of that class, in a mosaic.

    Args:
        cam: the engine.
        grid: of `mosaic`.
        layer: as in `GradCAM.explain`; None is chosen once, for the first cell.
        method: as there.
        progress: (done, in all) maps; returning False cancels.

    Raises:
        TypeError, ValueError: for what is no mosaic, and as `GradCAM.explain`.

    Source: M. Böhle, M. Fritz, B. Schiele, "Convolutional Dynamic Alignment Networks for Interpretable
    Classifications", CVPR 2021, section 4.2 (the localisation metric, later called the grid pointing game).
    """
    check_engine(cam)
    find_method(method)
    if not isinstance(grid, Mosaic):
        raise TypeError(f"grid: expected a Mosaic of gradcam_widget.evaluate.mosaic; got {type(grid).__name__}")
    steps = Steps(progress, len(grid.targets))
    subjects, shares, maps = [], [], []
    for target, (left, top, right, bottom) in zip(grid.targets, grid.boxes, strict=True):
        question = ask(cam, grid.image, target, layer, method, progress=steps.inner)
        layer = question.layer
        heat = np.maximum(question.heatmap, 0)
        total = heat.sum()
        subjects.append(question.subject)
        shares.append(float(heat[top:bottom, left:right].sum() / total) if total > 0 else 0.0)
        maps.append(heat)
        steps.done()
    picture = cam.picture(grid.image)
    return GridPointing(tuple(subjects), tuple(shares), grid.boxes, np.stack(maps), picture)
