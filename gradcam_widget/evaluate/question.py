"""What is evaluated: one map, with the picture, target, layer and method that it belongs to, found once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradcam_widget.engine import GradCAM
from gradcam_widget.evaluate.given import as_map, check_engine, check_progress
from gradcam_widget.explanation import Explanation
from gradcam_widget.heatmap import upsample
from gradcam_widget.layers import Layer
from gradcam_widget.methods import find_method
from gradcam_widget.perturbation import Progress, report
from gradcam_widget.targets import BinaryLogit, ClassLogit, ClassProbability, Target, name_target

__all__ = [
    "Numbers",
    "Probability",
    "Question",
    "Steps",
    "Subject",
    "ask",
    "digits",
    "map_of",
    "on_picture",
    "quantity",
]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Numbers:
    """What a check measured, as a table.

    Attributes:
        columns: their titles; "" for a single one without.
        rows: title -> one number for each column, None where there is none.
    """

    columns: tuple[str, ...]
    rows: Mapping[str, tuple[float | None, ...]]


@dataclass(frozen=True)
class Subject:
    """What a result is about, in words.

    Attributes:
        target: what is explained.
        layer: its name.
        method: its name, or "heatmap" for a map that was given.
    """

    target: str
    layer: str
    method: str

    def __str__(self) -> str:
        return f"{self.method} at {self.layer} for {self.target}"


@dataclass(frozen=True, eq=False)
class Question:
    """One map of one picture.

    Attributes:
        cam: the engine.
        image: as the engine takes it at no cost.
        target: the scalar as it was asked for, before a method makes another of it.
        layer: the layer.
        method: name of the method.
        explanation: the engine's answer.
        heatmap: float64 (H, W) over the picture, nowhere negative: what is evaluated.
        subject: the same in words.
    """

    cam: GradCAM
    image: Any
    target: Target
    layer: Layer
    method: str
    explanation: Explanation
    heatmap: Array
    subject: Subject

    def again(self, progress: Progress | None = None, **changes: Any) -> Explanation:
        """The explanation with another ``cam``, ``image`` or ``target``, at the same layer by the same method."""
        cam = changes.get("cam", self.cam)
        image = changes.get("image", self.image)
        return cam.explain(  # type: ignore[no-any-return] # `changes` says nothing of its types
            image, changes.get("target", self.target), self.layer.name, self.method, progress=progress
        )


def ask(
    cam: GradCAM,
    image: object,
    target: object,
    layer: object,
    method: str,
    *,
    heatmap: object = None,
    progress: Progress | None = None,
) -> Question:
    """The question that the arguments of a check ask, all of them checked before the model runs.

    Args:
        cam: the engine.
        image: as in `GradCAM.explain`; a picture.
        target: as there.
        layer: as there.
        method: as there.
        heatmap: (H, W) of the picture's size, higher where it matters more, to be evaluated instead of the
            engine's map.
        progress: cancels the passes of a method that needs many.

    Raises:
        TypeError, ValueError: for an argument that cannot be used, as `GradCAM.explain` says it.
    """
    check_engine(cam)
    find_method(method)
    check_progress(progress)
    cam.resolve_target(target)
    given = None if heatmap is None else as_map("heatmap", heatmap)
    first = cam.prepare(image)
    image, size = image if isinstance(image, tuple) else first, first.shape[-2:]
    if given is not None and given.shape != tuple(size):
        raise ValueError(f"heatmap: expected the size of the picture, {tuple(size)}; got {given.shape}")
    plain = cam.explain(image, target, layer)  # tells the target and the layer, whatever the method makes of them
    if plain.signed_cam.ndim != 2:
        raise ValueError(
            f"image: checks are for pictures, whose maps are (h, w); {plain.layer.name!r} gives "
            f"{tuple(plain.signed_cam.shape)}"
        )
    explanation = plain
    if given is None and method != plain.method:
        explanation = cam.explain(image, plain.target, plain.layer, method, progress=progress)
    named = method if given is None else "heatmap"
    return Question(
        cam=cam,
        image=image,
        target=plain.target,
        layer=plain.layer,
        method=method,
        explanation=explanation,
        heatmap=on_picture(explanation) if given is None else given,
        subject=Subject(name_target(plain.target), plain.layer.name, named),
    )


def map_of(explanation: Explanation) -> Array:
    """What is shown of an explanation, float64, nowhere negative: the cam (h, w), or for the guided methods the
    sum of the absolute values over the colours, (H, W).
    """
    if explanation.guided is not None:
        return _array(explanation.guided.double().abs().sum(0))
    return _array(explanation.cam.double())


def on_picture(explanation: Explanation) -> Array:
    """`map_of` over the picture, float64 (H, W) in [0, 1]: divided by its maximum, bilinear; zeros where empty."""
    found = map_of(explanation)
    highest = found.max()
    size = tuple(explanation.picture)
    if not np.isfinite(highest) or highest <= 0:
        return np.zeros(size)
    return _array(upsample(torch.from_numpy(found / highest)[None], size)[0])


def _array(tensor: Tensor) -> Array:
    array: Array = tensor.detach().cpu().numpy()
    return array


@dataclass(frozen=True)
class Probability:
    """The probability of a side of a head with one logit."""

    of: BinaryLogit

    def __call__(self, output: Tensor) -> Tensor:
        """The scalar in [0, 1]."""
        return torch.sigmoid(self.of(output))

    @property
    def label(self) -> str:
        """How it is called where people read it."""
        return f"probability of {self.of.label}"


def digits(value: float) -> str:
    """A number with two decimals, a small one with two digits that say something, and a minus that is one."""
    small = 5e-5 <= abs(value) < 0.095
    return (f"{value:.2g}" if small else f"{value:.2f}").replace("-", "\N{MINUS SIGN}")


def quantity(target: Target) -> tuple[str, Target]:
    """What is measured of a target while a picture changes: ("probability", that of the class) where there is one,
    else ("score", the target itself).
    """
    if isinstance(target, ClassLogit):
        return "probability", ClassProbability(target.index, target.name)
    if isinstance(target, BinaryLogit):
        return "probability", Probability(target)
    return "score", target


class Steps:
    """Progress of a check that is made of many explanations: counts them, and hands cancelling on to their passes.

    Args:
        progress: of the check.
        total: explanations in all.
    """

    def __init__(self, progress: Progress | None, total: int) -> None:
        check_progress(progress)
        self._progress, self._total, self._done = progress, total, 0

    def done(self) -> None:
        """One more is done; raises `Cancelled` where that is the wish."""
        self._done += 1
        report(self._progress, self._done, self._total)

    @property
    def inner(self) -> Callable[[int, int], Any] | None:
        """What passes within one of them report to."""
        progress = self._progress
        return None if progress is None else lambda *_: progress(self._done, self._total)
