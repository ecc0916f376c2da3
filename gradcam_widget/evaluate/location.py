"""Where the evidence lies beside where the object is: boxes, their overlap, and the pointing game."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gradcam_widget.engine import GradCAM
from gradcam_widget.evaluate.drawing import Pictured, pictured
from gradcam_widget.evaluate.given import check_engine, check_number
from gradcam_widget.evaluate.question import Numbers, Question, Steps, Subject, ask
from gradcam_widget.localise import THRESHOLD, Box, find_box
from gradcam_widget.perturbation import Progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Localisation", "Pointing", "iou", "localisation", "pointing_game"]

Array = NDArray[np.float64]

TOLERANCE = 15
_ENOUGH = 0.5  # overlap from which a box counts as found


@dataclass(frozen=True, eq=False)
class Localisation:
    """The box of one map beside the object's.

    Attributes:
        subject: which map.
        box: (left, top, right, bottom) of the largest segment, in pixels; None where nothing is positive.
        truth: the object's.
        overlap: intersection over union, 0 to 1.
        threshold: of the maximum, where the map was cut.
        heatmap: float64 (H, W).
        picture: uint8 (H, W, 3), what the model saw.
    """

    subject: Subject
    box: Box | None
    truth: Box
    overlap: float
    threshold: float
    heatmap: Array
    picture: NDArray[Any]

    @property
    def hit(self) -> bool:
        """Whether the overlap is a half or more."""
        return self.overlap >= _ENOUGH

    @property
    def numbers(self) -> Numbers:
        """The numbers as a table."""
        return Numbers(("",), {"intersection over union": (self.overlap,)})

    @property
    def verdict(self) -> str:
        """What the overlap says, in words."""
        if self.box is None:
            return f"The map has no positive evidence for {self.subject.target}, so it marks no place."
        found = "it finds the object" if self.hit else "it misses the object by the usual measure of a half"
        return (
            f"The box of the map and that of {self.subject.target} overlap by {self.overlap:.2f} "
            f"(intersection over union): {found}."
        )

    def figure(self, *, dark: bool = False) -> Figure:
        """Both boxes on the picture: the map's solid, the object's dashed."""
        boxes = [(self.truth, "#ffffff", "--")]
        if self.box is not None:
            boxes.append((self.box, "#ffb000", "-"))
        part = Pictured(
            self.picture,
            self.heatmap,
            "viridis",
            _limits(self.heatmap),
            f"overlap {self.overlap:.2f}",
            tuple(boxes),
        )
        return pictured([part], dark=dark)


@dataclass(frozen=True, eq=False)
class Pointing:
    """The highest place of one map beside the object.

    Attributes:
        subject: which map.
        point: (x, y) of the maximum, the first in reading order; None where nothing is positive.
        distance: from there to the object in pixels, 0 inside; infinite where there is no point.
        tolerance: pixels that the point may lie outside.
        region: bool (H, W), the object.
        heatmap: float64 (H, W).
        picture: uint8 (H, W, 3), what the model saw.
    """

    subject: Subject
    point: tuple[int, int] | None
    distance: float
    tolerance: float
    region: NDArray[np.bool_]
    heatmap: Array
    picture: NDArray[Any]

    @property
    def hit(self) -> bool:
        """Whether the maximum lies in the object, or within the tolerance of it."""
        return self.distance <= self.tolerance

    @property
    def numbers(self) -> Numbers:
        """The numbers as a table."""
        return Numbers(("",), {"distance in pixels": (self.distance,)})

    @property
    def verdict(self) -> str:
        """Whether it points at the object, in words."""
        if self.point is None:
            return f"The map has no positive evidence for {self.subject.target}, so it points nowhere: a miss."
        x, y = self.point
        if self.distance == 0:
            return f"The maximum of the map, at ({x}, {y}), lies in {self.subject.target}: a hit."
        found = "a hit within" if self.hit else "a miss with"
        return (
            f"The maximum of the map, at ({x}, {y}), lies {self.distance:.0f} pixels outside "
            f"{self.subject.target}: {found} a tolerance of {self.tolerance:g}."
        )

    def figure(self, *, dark: bool = False) -> Figure:
        """The maximum as a cross, and the object's box."""
        points = () if self.point is None else ((self.point, "#ffb000"),)
        title = "hit" if self.hit else "miss"
        part = Pictured(
            self.picture,
            self.heatmap,
            "viridis",
            _limits(self.heatmap),
            title,
            ((_box_of(self.region), "#ffffff", "--"),),
            points,
        )
        return pictured([part], dark=dark)


def localisation(
    cam: GradCAM,
    image: object,
    truth: object,
    target: object = None,
    layer: object = None,
    method: str = "GradCAM",
    *,
    threshold: float = THRESHOLD,
    heatmap: object = None,
    progress: Progress | None = None,
) -> Localisation:
    """How well the box round the largest segment of a heatmap, cut at a share of its maximum, is the object's.

    Args:
        cam: the engine.
        image: as in `GradCAM.explain`; a picture.
        truth: the object in pixels of what the model sees: a box (left, top, right, bottom), right and bottom the
            first ones outside, or a mask, bool (H, W).
        target: as in `GradCAM.explain`.
        layer: as there.
        method: as there.
        threshold: 0 to 1, of the maximum.
        heatmap: (H, W) of the picture's size, to be evaluated in place of the engine's.
        progress: (done, in all) maps; returning False cancels the passes of a method that needs many.

    Raises:
        TypeError, ValueError: for an argument that cannot be used, before any pass; and as `GradCAM.explain`.

    Source: R. Selvaraju et al., "Grad-CAM", arXiv 1610.02391, section 4.1; an overlap of a half counts as found
    (ILSVRC localisation).
    """
    wanted = "a share of the maximum, from 0 to 1"
    threshold = check_number("threshold", threshold, wanted, lambda value: 0 <= value <= 1)
    mask = _region(cam, image, truth, "truth")
    steps = Steps(progress, 1)
    question = ask(cam, image, target, layer, method, heatmap=heatmap, progress=steps.inner)
    steps.done()
    box, true_box = find_box(question.heatmap, threshold), _box_of(mask)
    return Localisation(
        subject=question.subject,
        box=box,
        truth=true_box,
        overlap=0.0 if box is None else iou(box, true_box),
        threshold=threshold,
        heatmap=question.heatmap,
        picture=_picture(question),
    )


def pointing_game(
    cam: GradCAM,
    image: object,
    region: object,
    target: object = None,
    layer: object = None,
    method: str = "GradCAM",
    *,
    tolerance: float = TOLERANCE,
    heatmap: object = None,
    progress: Progress | None = None,
) -> Pointing:
    """Whether the maximum of a heatmap lies in the object. Over many pictures the score is hits / (hits + misses).

    Args:
        cam: the engine.
        image: as in `GradCAM.explain`; a picture.
        region: the object, as ``truth`` in `localisation`.
        target: as in `GradCAM.explain`.
        layer: as there.
        method: as there.
        tolerance: pixels that the maximum may lie outside; 15 in the paper.
        heatmap: (H, W) of the picture's size, to be evaluated in place of the engine's.
        progress: (done, in all) maps; returning False cancels the passes of a method that needs many.

    Raises:
        TypeError, ValueError: for an argument that cannot be used, before any pass; and as `GradCAM.explain`.

    Source: J. Zhang et al., "Top-down Neural Attention by Excitation Backprop", arXiv 1608.00507, section 4.2.
    """
    tolerance = check_number("tolerance", tolerance, "a number of pixels, 0 or more", lambda value: value >= 0)
    mask = _region(cam, image, region, "region")
    steps = Steps(progress, 1)
    question = ask(cam, image, target, layer, method, heatmap=heatmap, progress=steps.inner)
    steps.done()
    point, distance = None, math.inf
    if question.heatmap.max() > 0:
        y, x = (int(at) for at in np.unravel_index(question.heatmap.argmax(), question.heatmap.shape))
        rows, columns = np.nonzero(mask)
        point, distance = (x, y), float(np.hypot(rows - y, columns - x).min())
    return Pointing(
        subject=question.subject,
        point=point,
        distance=distance,
        tolerance=tolerance,
        region=mask,
        heatmap=question.heatmap,
        picture=_picture(question),
    )


def iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes (left, top, right, bottom), 0 to 1.

    Raises:
        TypeError, ValueError: for what is no box.
    """
    one, other = _corners("a", a), _corners("b", b)
    width, height = min(one[2], other[2]) - max(one[0], other[0]), min(one[3], other[3]) - max(one[1], other[1])
    both = max(0, width) * max(0, height)
    either = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)) - both
    return both / either if either else 0.0


def _corners(name: str, box: object) -> tuple[float, float, float, float]:
    """The four numbers of a box."""
    values = box.tolist() if isinstance(box, (np.ndarray, Tensor)) else box
    wanted = f"{name}: expected a box (left, top, right, bottom)"
    if not isinstance(values, (tuple, list)):
        raise TypeError(f"{wanted}; got {box!r}, a {type(box).__name__}")
    if len(values) != 4:
        raise ValueError(f"{wanted}; got {len(values)} values")
    if any(isinstance(value, (bool, np.bool_)) or not isinstance(value, Real) for value in values):
        raise TypeError(f"{wanted}; got {box!r}, which are not all numbers")
    left, top, right, bottom = values
    if not (-math.inf < left <= right < math.inf and -math.inf < top <= bottom < math.inf):
        raise ValueError(
            f"{wanted} with left up to right and top up to bottom; got {box!r}. "
            "A box (left, top, width, height) is (left, top, left + width, top + height)"
        )
    return left, top, right, bottom


def _region(cam: GradCAM, image: object, region: object, name: str) -> NDArray[np.bool_]:
    """The object as a mask of the picture's size."""
    check_engine(cam)
    height, width = cam.prepare(image).shape[-2:]
    wanted = (
        f"{name}: expected a box (left, top, right, bottom) within {width} x {height} pixels, or a mask, bool "
        f"({height}, {width}), with something in it"
    )
    if isinstance(region, (tuple, list)) and len(region) == 4:
        if not all(isinstance(value, (int, np.integer)) and not isinstance(value, bool) for value in region):
            raise TypeError(f"{wanted}; got {region!r}, which are not all ints")
        left, top, right, bottom = (int(value) for value in region)
        if not (0 <= left < right <= width and 0 <= top < bottom <= height):
            raise ValueError(f"{wanted}; got {tuple(region)!r}")
        mask = np.zeros((height, width), bool)
        mask[top:bottom, left:right] = True
        return mask
    try:
        values = np.asarray(region.cpu() if isinstance(region, Tensor) else region)
    except (TypeError, ValueError, RuntimeError) as error:  # such as lines of different lengths
        raise TypeError(f"{wanted}; got {type(region).__name__}: {error}") from error
    if isinstance(region, (tuple, list)) and values.ndim == 1:
        raise ValueError(f"{wanted}; got {region!r}, {len(region)} values")
    if values.dtype != bool:
        raise TypeError(f"{wanted}; got {type(region).__name__} of {values.dtype}")
    if values.shape != (height, width) or not values.any():
        raise ValueError(f"{wanted}; got the shape {values.shape} with {int(values.sum())} pixels")
    return values


def _box_of(mask: NDArray[np.bool_]) -> Box:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _picture(question: Question) -> NDArray[Any]:
    image = question.image
    found: NDArray[Any] = question.cam.picture(image[0] if isinstance(image, tuple) else image)
    return found


def _limits(heatmap: Array) -> tuple[float, float]:
    return 0.0, float(heatmap.max()) or 1.0
