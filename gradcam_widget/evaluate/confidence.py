"""Average drop and increase in confidence: what is left of a class when only what the map marks is shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradcam_widget.arguments import several
from gradcam_widget.engine import GradCAM
from gradcam_widget.evaluate.drawing import chart
from gradcam_widget.evaluate.given import as_map, check_engine, check_progress, of_each
from gradcam_widget.evaluate.question import Numbers, Question, Steps, Subject, ask, digits, quantity
from gradcam_widget.methods import find_method
from gradcam_widget.perturbation import Progress
from gradcam_widget.targets import Target

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Confidence", "confidence"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Confidence:
    """Probabilities of pictures and of what their maps leave of them.

    Attributes:
        subjects: which maps.
        whole: (n,) the class's probability for each picture.
        marked: (n,) its probability for the picture times the heatmap.
    """

    subjects: tuple[Subject, ...]
    whole: Array
    marked: Array

    @property
    def drops(self) -> Array:
        """(n,) max(0, whole - marked) / whole, from 0 to 1; 0 where the probability is 0 already."""
        lost = np.maximum(0.0, self.whole - self.marked)
        found: Array = np.divide(lost, self.whole, out=np.zeros_like(lost), where=self.whole > 0)
        return found

    @property
    def average_drop(self) -> float:
        """The mean of `drops`: the lower, the better."""
        return float(self.drops.mean())

    @property
    def increase(self) -> float:
        """The share of pictures whose class becomes more probable: the higher, the better."""
        return float((self.marked > self.whole).mean())

    @property
    def numbers(self) -> Numbers:
        """The numbers as a table."""
        rows = zip(self.subjects, self.whole, self.marked, self.drops, strict=True)
        return Numbers(
            ("whole", "marked", "drop"),
            {
                f"{at} {subject.target}" if len(self.whole) > 1 else subject.target: (
                    float(whole),
                    float(marked),
                    float(drop),
                )
                for at, (subject, whole, marked, drop) in enumerate(rows)
            },
        )

    @property
    def verdict(self) -> str:
        """What the drop says, in words."""
        if len(self.whole) > 1:
            return (
                f"With only what the maps mark, the classes lose {self.average_drop:.0%} of their probability on "
                f"average, and become more probable in {self.increase:.0%} of {len(self.whole)} pictures."
            )
        before, after, what = self.whole[0], self.marked[0], self.subjects[0].target
        change = f"the probability of {what} goes from {digits(before)} to {digits(after)}"
        if after > before:
            return f"With only what the map marks {change}: the map holds what the class needs."
        lost = self.average_drop
        if lost <= 0.3:
            return (
                f"With only what the map marks {change}, a drop of {lost:.0%}: most of the evidence is in the map."
            )
        return (
            f"With only what the map marks {change}, a drop of {lost:.0%}: much of what counts is outside the map."
        )

    def figure(self, *, dark: bool = False) -> Figure:
        """Each picture two bars: whole, and what is marked."""
        count = len(self.whole)
        figure, (ax,), look = chart(dark, (6.2, 0.9 + 0.42 * count))
        rows = np.arange(count)
        for values, shift, colour, name in (
            (self.whole, -0.19, look.muted, "the whole picture"),
            (self.marked, 0.19, look.pro, "times the map"),
        ):
            ax.barh(rows + shift, values, 0.34, color=colour, label=name)
            for row, value in zip(rows, values, strict=True):
                ax.annotate(
                    digits(value),
                    (value, row + shift),
                    (4, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=7.5,
                    color=look.ink,
                )
        ax.set_yticks(rows, [subject.target for subject in self.subjects])
        ax.set_ylim(count - 0.5, -0.5)
        ax.set_xlim(0, 1.02 * max(0.3, float(self.whole.max()), float(self.marked.max())) + 0.12)
        ax.set_xlabel("probability")
        ax.legend(frameon=False, fontsize=7.5, labelcolor=look.ink, loc="lower right")
        return figure


def confidence(
    cam: GradCAM,
    images: Iterable[object],
    targets: Iterable[object] | None = None,
    layer: object = None,
    method: str = "GradCAM",
    *,
    heatmaps: Iterable[object] | None = None,
    progress: Progress | None = None,
) -> Confidence:
    """What is left of the classes' probabilities when each picture is multiplied with its heatmap, in the model's
    input: where the heatmap is 0 stands a 0, the mean colour of the training pictures where inputs are normalised.

    Args:
        cam: the engine.
        images: pictures as in `GradCAM.explain`, in a list, a dict or a tensor (N, C, H, W).
        targets: one for each, classes; None for the predicted ones.
        layer: as in `GradCAM.explain`.
        method: as there.
        heatmaps: (H, W) each, to be evaluated in place of the engine's.
        progress: (done, in all) pictures; returning False cancels.

    Raises:
        TypeError, ValueError: for an argument that cannot be used, such as more targets than pictures; and as
            `GradCAM.explain`.

    Source: A. Chattopadhyay et al., "Grad-CAM++", WACV 2018, section 5.1.1: average drop % and increase in
    confidence. The heatmap is the one that is shown, in [0, 1], bilinear.
    """
    check_engine(cam)
    find_method(method)
    check_progress(progress)
    if isinstance(images, Tensor) and images.ndim != 4:
        raise ValueError(f"images: expected a tensor (N, C, H, W), or a list; got the shape {tuple(images.shape)}")
    pictures = several(list(images.values()) if isinstance(images, Mapping) else images, "images")
    if not pictures:
        raise ValueError("images: expected at least one picture; got none")
    wanted = [None] * len(pictures) if targets is None else of_each(cam, "targets", targets)
    maps = [None] * len(pictures) if heatmaps is None else several(heatmaps, "heatmaps")
    for name, given in (("targets", wanted), ("heatmaps", maps)):
        if len(given) != len(pictures):
            raise ValueError(f"{name}: expected one for each of the {len(pictures)} pictures; got {len(given)}")
    for at, found in enumerate(maps):
        if found is not None:
            as_map(f"heatmaps[{at}]", found)
    steps = Steps(progress, len(pictures))
    subjects, values = [], []
    for picture, target, heatmap in zip(pictures, wanted, maps, strict=True):
        question = ask(cam, picture, target, layer, method, heatmap=heatmap, progress=steps.inner)
        kind, measured = quantity(question.target)
        if kind != "probability":
            raise ValueError(
                f"targets: a drop in confidence is one of a class's probability; got {question.subject.target}"
            )
        subjects.append(question.subject)
        values.append(_values(question, measured))
        steps.done()
    whole, marked = np.array(values).T
    return Confidence(tuple(subjects), whole, marked)


def _values(question: Question, measured: Target) -> Array:
    heat = torch.from_numpy(question.heatmap)

    def versions(first: Tensor, batch: range) -> Tensor:
        both = torch.cat([first, first * heat.to(first)])
        return both[batch.start : batch.stop]

    found: Array = question.cam.score_versions(question.image, versions, 2, measured).numpy()
    return found
