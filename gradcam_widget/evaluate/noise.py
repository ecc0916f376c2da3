"""Sensitivity: how much a map changes when the picture changes by next to nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradcam_widget.engine import GradCAM
from gradcam_widget.evaluate.drawing import dress, entitle, sheet
from gradcam_widget.evaluate.given import check_count, check_number, check_seed
from gradcam_widget.evaluate.question import Numbers, Steps, Subject, ask, map_of
from gradcam_widget.perturbation import Progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Sensitivity", "noise_sensitivity"]

Array = NDArray[np.float64]

RADIUS = 0.1
SAMPLES = 10


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """One map beside those of the same picture with noise.

    Attributes:
        subject: which map.
        radius: the largest change of a value of the input.
        grey_levels: about what that is for a pixel, of 255.
        changes: (n,) |map of the noisy picture - map| / |map|, Euclidean; infinite for an empty map that changes.
        original: float64 (h, w), the map.
        worst: float64 (h, w), that of the noisy picture that changed it most.
    """

    subject: Subject
    radius: float
    grey_levels: int
    changes: Array
    original: Array
    worst: Array

    @property
    def max(self) -> float:
        """Max-sensitivity: the largest change."""
        return float(self.changes.max())

    @property
    def numbers(self) -> Numbers:
        """The numbers as a table."""
        return Numbers(("",), {"largest change": (self.max,), "mean change": (float(self.changes.mean()),)})

    @property
    def verdict(self) -> str:
        """What the largest change says, in words."""
        if not self.original.any():
            return "The map is empty, so there is nothing to compare."
        text = (
            f"Noise of about ±{self.grey_levels} of 255 grey levels changes the map by at most {self.max:.0%} in "
            f"{len(self.changes)} tries"
        )
        if self.max <= 0.15:
            return f"{text}: it is stable."
        if self.max <= 0.5:
            return f"{text}: its form holds, its details do not."
        return f"{text}: it is not stable, and small differences in it mean little."

    def figure(self, *, dark: bool = False) -> Figure:
        """The map, the one that changed most, and all changes."""
        figure, look = sheet(dark, (6.2, 1.9))
        left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1, 1.9))
        high = max(float(self.original.max()), float(self.worst.max())) or 1.0
        for ax, values, title in ((left, self.original, "the map"), (middle, self.worst, "with noise")):
            ax.imshow(values, cmap="viridis", vmin=0, vmax=high)
            ax.set_axis_off()
            entitle(ax, look, title)
        dress(right, look)
        values = np.sort(self.changes[np.isfinite(self.changes)])
        right.bar(np.arange(len(values)), values, 0.7, color=look.pro)
        right.set_xticks([])
        right.set_ylim(0, max(0.2, float(values.max(initial=0)) * 1.1))
        right.set_xlabel("tries, in order")
        entitle(right, look, f"change of the map, at most {self.max:.2f}")
        return figure


def noise_sensitivity(
    cam: GradCAM,
    image: object,
    target: object = None,
    layer: object = None,
    method: str = "GradCAM",
    *,
    radius: float = RADIUS,
    samples: int = SAMPLES,
    seed: int = 0,
    progress: Progress | None = None,
) -> Sensitivity:
    """How much the map changes under noise that is uniform in [-radius, radius], at every value of the input.

    The maps are compared as they come from the layer, before they are divided by their maximum.

    Args:
        cam: the engine.
        image: as in `GradCAM.explain`; a picture.
        target: as there; the class that None stands for is the one predicted without noise.
        layer: as there.
        method: as there.
        radius: in the units of the model's input, so after normalisation.
        samples: how many noisy pictures.
        seed: of the noise, which is drawn on the CPU.
        progress: (done, in all) maps; returning False cancels with `gradcam_widget.perturbation.Cancelled`.

    Raises:
        TypeError, ValueError: for an argument that cannot be used, before any pass; and as `GradCAM.explain`.

    Source: C.-K. Yeh et al., "On the (In)fidelity and Sensitivity of Explanations", NeurIPS 2019, definition 3
    (max-sensitivity), divided by the norm of the map.
    """
    samples, seed = check_count("samples", samples), check_seed(seed)
    radius = check_number(
        "radius", radius, "a positive number, in the units of the input", lambda value: value > 0
    )
    question = ask(cam, image, target, layer, method, progress=progress)
    several = isinstance(question.image, tuple)
    first, *others = question.image if several else (question.image,)
    original = map_of(question.explanation)
    size = float(np.linalg.norm(original))
    generator = torch.Generator().manual_seed(seed)
    steps, changes, maps = Steps(progress, samples), [], []
    for _ in range(samples):
        noise = (2 * torch.rand(first.shape, generator=generator, dtype=torch.float32) - 1) * radius
        noisy = first + noise.to(first)
        given = (noisy, *others) if several else noisy
        try:
            found = map_of(question.again(steps.inner, image=given))
        finally:
            cam.forget(given)  # nobody will ask for it again
        change = float(np.linalg.norm(found - original))
        changes.append(change / size if size else (math.inf if change else 0.0))
        maps.append(found)
        steps.done()
    return Sensitivity(
        subject=question.subject,
        radius=radius,
        grey_levels=round(radius * _grey_levels(cam.picture(first), first)),
        changes=np.array(changes),
        original=original,
        worst=maps[int(np.argmax(changes))],
    )


def _grey_levels(picture: NDArray[Any], tensor: Tensor) -> float:
    """How many grey levels of a picture one unit of the model's input is, roughly."""
    span = float(tensor.max()) - float(tensor.min())
    return (int(picture.max()) - int(picture.min())) / span if span > 0 else 0.0
