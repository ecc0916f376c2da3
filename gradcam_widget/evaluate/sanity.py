"""Sanity checks: does a map change when the weights are random, and when another class is asked for?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from gradcam_widget.engine import GradCAM
from gradcam_widget.evaluate.drawing import chart, dress, sheet
from gradcam_widget.evaluate.given import check_choice, check_count, check_seed
from gradcam_widget.evaluate.question import (
    Numbers,
    Question,
    Steps,
    Subject,
    ask,
    digits,
    map_of,
    on_picture,
)
from gradcam_widget.evaluate.similarity import ssim
from gradcam_widget.evaluate.stages import put_back, randomise, stages_of
from gradcam_widget.explanation import Explanation
from gradcam_widget.occlusion import rank_correlation
from gradcam_widget.perturbation import Progress
from gradcam_widget.targets import ClassLogit

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["OtherClasses", "RandomisedWeights", "other_classes", "randomise_weights"]

Array = NDArray[np.float64]

STAGES = 8
CLASSES = 16
_ORDERS = ("cascading", "independent")
_ALIKE, _UNLIKE = 0.7, 0.4  # rank correlations from which maps are called alike, and below which they are not


@dataclass(frozen=True, eq=False)
class RandomisedWeights:
    """One map after the weights of more and more stages, or of one stage at a time, have become random.

    Attributes:
        subject: which map.
        order: "cascading" from the output down, or "independent", one stage at a time.
        stages: names of the stages, the one at the output first.
        rank_correlations: Spearman's, of each map with the original one, over the cells of the layer; None where
            one of them is the same everywhere, such as empty.
        ssims: structural similarity of the heatmaps over the picture, [0, 1]; None for pictures below 11 pixels.
        original: float64 (h, w), the map of the model as it is.
        maps: those of the randomised ones, in the order of the stages.
    """

    subject: Subject
    order: str
    stages: tuple[str, ...]
    rank_correlations: tuple[float | None, ...]
    ssims: tuple[float | None, ...]
    original: Array
    maps: tuple[Array, ...]

    @property
    def numbers(self) -> Numbers:
        """The numbers as a table."""
        rows = zip(self.stages, self.rank_correlations, self.ssims, strict=True)
        return Numbers(("rank correlation", "SSIM"), {name: (rho, alike) for name, rho, alike in rows})

    @property
    def verdict(self) -> str:
        """What the correlations say, in words."""
        if not self.original.any():
            return "The map is empty, so there is nothing that could change."
        found = [value for value in self.rank_correlations if value is not None]
        first, last = self.stages[0], self.stages[-1]
        if self.order == "independent":
            if not found:
                return "With any stage randomised the map is empty or flat: it depends on what was learnt."
            unlike = sum(value is None or value < _ALIKE for value in self.rank_correlations)
            at = int(np.argmin([np.inf if value is None else value for value in self.rank_correlations]))
            text = (
                f"Randomising one stage at a time changes the map most at {self.stages[at]} "
                f"({_rho(self.rank_correlations[at])}); it falls below {_ALIKE} for {unlike} of {len(self.stages)}"
            )
            return f"{text}: " + (
                "the map depends on what was learnt there." if unlike else "the map hardly depends on the weights."
            )
        start, end = self.rank_correlations[0], self.rank_correlations[-1]
        middle = [v for v in self.rank_correlations if v is not None and v >= _ALIKE]
        told = f"Randomising {first} alone: {_rho(start)}; all down to {last}: {_rho(end)}"
        if not found:
            return f"{told}. The maps of random weights are empty or flat: the map depends on what was learnt."
        if end is not None and end >= _ALIKE:
            return f"{told}. Random weights give much the same map: it does not depend on what was learnt."
        if start is None or start < _UNLIKE:
            return f"{told}. The map changes at once: it depends on what was learnt, even in the last stage."
        if len(middle) > len(self.stages) / 2:
            return f"{told}. The map changes only late: it depends little on what the later stages learnt."
        return f"{told}. The map changes: it depends on what was learnt."

    def figure(self, *, dark: bool = False) -> Figure:
        """Both measures by stage, and the maps above them."""
        figure, look = sheet(dark, (6.2, 3.0))
        count = len(self.maps) + 1
        grid = figure.add_gridspec(2, count, height_ratios=(1, 2.4), wspace=0.08)
        for at, found in enumerate((self.original, *self.maps)):
            ax = figure.add_subplot(grid[0, at])
            ax.imshow(found, cmap="viridis", vmin=0, vmax=float(found.max()) or 1.0)
            ax.set_xticks([])
            ax.set_yticks([])
            for spine in ax.spines.values():
                spine.set_color(look.line)
            ax.set_title("as learnt" if at == 0 else str(at), color=look.muted, fontsize=7.5)
        ax = figure.add_subplot(grid[1, :])
        dress(ax, look)
        places = np.arange(1, count)
        for values, name, colour, mark in (
            (self.rank_correlations, "rank correlation", look.pro, "o"),
            (self.ssims, "SSIM", look.con, "s"),
        ):
            drawn = [np.nan if value is None else value for value in values]
            ax.plot(
                [0, *places], [1.0, *drawn], color=colour, marker=mark, markersize=3.5, linewidth=1.5, label=name
            )
        ax.axhline(0, color=look.line, linewidth=0.8, zorder=0)
        ax.set_xlim(-0.4, count - 0.6)
        ax.set_ylim(min(-0.1, *(v for v in self.rank_correlations if v is not None), 0.0) - 0.05, 1.06)
        ax.set_xticks([0, *places], ["as learnt", *(_short(name.split(" to ")[-1]) for name in self.stages)])
        ax.tick_params(axis="x", labelsize=7, rotation=20 if max(map(len, self.stages)) > 8 else 0)
        legend = ax.legend(frameon=False, fontsize=7.5, labelcolor=look.ink, loc="upper right", ncols=2)
        legend.set_zorder(5)
        cascading = "weights randomised from the output down to this part"
        ax.set_xlabel(
            cascading if self.order == "cascading" else "weights randomised in one stage, which begins here"
        )
        return figure


def randomise_weights(
    cam: GradCAM,
    image: object,
    target: object = None,
    layer: object = None,
    method: str = "GradCAM",
    *,
    order: str = "cascading",
    stages: int = STAGES,
    seed: int = 0,
    progress: Progress | None = None,
) -> RandomisedWeights:
    """How alike the map stays while the weights of a copy of the model become random, stage by stage.

    A map that shows what the network has learnt must change. The layers are taken together in stages, because that
    is what can be told apart within seconds (`gradcam_widget.evaluate.stages.stages_of`), and their weights are
    drawn as before a training (`randomise`). The model itself is not touched; its copy is freed at the end.

    Args:
        cam: the engine.
        image: as in `GradCAM.explain`; a picture.
        target: as there; the class that None stands for is the one predicted before anything is random.
        layer: as there.
        method: as there.
        order: "cascading" (from the output down, each stage with all above it) or "independent" (each stage alone,
            the others as learnt).
        stages: how many at most.
        seed: of the random weights.
        progress: (done, in all) maps; returning False cancels with `gradcam_widget.perturbation.Cancelled`.

    Raises:
        TypeError: for a model that cannot be copied, and as `GradCAM.explain`.

    Source: J. Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018, sections 3 and 4.
    """
    check_choice("order", order, _ORDERS)
    stages, seed = check_count("stages", stages), check_seed(seed)
    question = ask(cam, image, target, layer, method, progress=progress)
    generator = torch.Generator().manual_seed(seed)
    twin = cam.copy()
    try:
        parts = stages_of(twin.model, lambda: twin.predict(question.image), stages)
        steps = Steps(progress, len(parts))
        found = []
        for part in parts:
            randomise(twin.model, part, generator)
            found.append(question.again(steps.inner, cam=twin))
            if order == "independent":
                put_back(twin.model, cam.model, part)
            steps.done()
    finally:
        twin.close()
    return RandomisedWeights(
        subject=question.subject,
        order=order,
        stages=tuple(part.name for part in parts),
        rank_correlations=tuple(rank_correlation(map_of(question.explanation), map_of(other)) for other in found),
        ssims=tuple(ssim(question.heatmap, on_picture(other)) for other in found),
        original=map_of(question.explanation),
        maps=tuple(map_of(other) for other in found),
    )


@dataclass(frozen=True, eq=False)
class OtherClasses:
    """One map beside those of other classes.

    Attributes:
        subject: which map.
        classes: the others, drawn at random.
        rank_correlations: Spearman's, of the map with each of theirs, over the cells of the layer; None where one
            of them is the same everywhere, such as empty.
        ssims: structural similarity of the heatmaps; None for pictures below 11 pixels.
    """

    subject: Subject
    classes: tuple[int, ...]
    rank_correlations: tuple[float | None, ...]
    ssims: tuple[float | None, ...]

    @property
    def mean(self) -> float | None:
        """The mean rank correlation of those that have one."""
        found = [value for value in self.rank_correlations if value is not None]
        return float(np.mean(found)) if found else None

    @property
    def numbers(self) -> Numbers:
        """The numbers as a table."""
        found = {"rank correlation": self.rank_correlations, "SSIM": self.ssims}
        return Numbers(
            ("mean", "lowest", "highest"),
            {
                name: (float(np.mean(known)), min(known), max(known)) if known else (None, None, None)
                for name, values in found.items()
                for known in [[value for value in values if value is not None]]
            },
        )

    @property
    def verdict(self) -> str:
        """What the correlations say, in words."""
        count = len(self.classes)
        if self.mean is None:
            return f"There is nothing to compare: this map, or those of {count} other classes, are empty or flat."
        rho = digits(self.mean)
        text = f"The maps of {count} random other classes have a rank correlation of {rho} with this one"
        if self.mean >= _ALIKE:
            return f"{text} on average: the map says little about the class that was asked for."
        if self.mean >= _UNLIKE:
            return f"{text} on average: the map is in part that of this class, in part that of any."
        return f"{text} on average: the map belongs to the class that was asked for."

    def figure(self, *, dark: bool = False) -> Figure:
        """Each class a dot: how alike its map is."""
        figure, (ax,), look = chart(dark, (6.2, 1.6))
        generator = np.random.default_rng(0)
        for row, (values, colour) in enumerate(((self.rank_correlations, look.pro), (self.ssims, look.con))):
            found = np.array([value for value in values if value is not None])
            jitter = generator.uniform(-0.16, 0.16, len(found))
            ax.plot(found, row + jitter, "o", color=colour, markersize=4, alpha=0.65, markeredgewidth=0)
            if len(found):
                ax.plot([found.mean()] * 2, [row - 0.32, row + 0.32], color=look.ink, linewidth=1.6)
        ax.axvline(1, color=look.line, linewidth=0.8, zorder=0)
        ax.axvline(0, color=look.line, linewidth=0.8, zorder=0)
        ax.set_ylim(1.5, -0.5)
        ax.set_yticks([0, 1], ["rank correlation", "SSIM"])
        every = [value for value in (*self.rank_correlations, *self.ssims) if value is not None]
        ax.set_xlim(min(-0.1, *every, 0.0) - 0.05, 1.05)
        ax.set_xlabel(f"of the maps of {len(self.classes)} other classes with this one; the line is the mean")
        return figure


def other_classes(
    cam: GradCAM,
    image: object,
    target: object = None,
    layer: object = None,
    method: str = "GradCAM",
    *,
    classes: int = CLASSES,
    seed: int = 0,
    progress: Progress | None = None,
) -> OtherClasses:
    """How alike the maps of other classes are, drawn at random. A map of one class should not be that of any.

    Args:
        cam: the engine.
        image: as in `GradCAM.explain`; a picture.
        target: as there; a class.
        layer: as there.
        method: as there.
        classes: how many others; all, where there are fewer.
        seed: of the draw.
        progress: (done, in all) maps; returning False cancels with `gradcam_widget.perturbation.Cancelled`.

    Raises:
        TypeError, ValueError: as `GradCAM.explain`, and for a target that is no class, or a model with one class.

    Source: the random logit test of L. Sixt, M. Granz, T. Landgraf, "When Explanations Lie", ICML 2020, section 4.
    """
    classes, seed = check_count("classes", classes), check_seed(seed)
    question = ask(cam, image, target, layer, method, progress=progress)
    index = question.target.index if isinstance(question.target, ClassLogit) else None
    if index is None:
        raise ValueError(
            f"target: other classes are drawn in place of a class; got {question.subject.target}. "
            "Give a class of a model with several"
        )
    total = cam.predict(question.image).numel()
    drawn = torch.randperm(total, generator=torch.Generator().manual_seed(seed)).tolist()
    others = [other for other in drawn if other != index][:classes]
    if not others:
        raise ValueError("target: the model has one class, so there is no other to compare with")
    steps = Steps(progress, len(others))
    found: list[Explanation] = []
    for other in others:
        found.append(_of_class(question, other, steps))
        steps.done()
    return OtherClasses(
        subject=question.subject,
        classes=tuple(others),
        rank_correlations=tuple(rank_correlation(map_of(question.explanation), map_of(other)) for other in found),
        ssims=tuple(ssim(question.heatmap, on_picture(other)) for other in found),
    )


def _of_class(question: Question, index: int, steps: Steps) -> Explanation:
    return question.again(steps.inner, target=index)


def _rho(value: float | None) -> str:
    return "no map to compare" if value is None else f"rank correlation {digits(value)}"


def _short(name: str) -> str:
    """13 letters of it at most: where there are more its beginning and its end."""
    return name if len(name) <= 13 else f"{name[:5]}…{name[-6:]}"
