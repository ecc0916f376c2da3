"""Deletion and insertion: how a probability falls and rises as pixels go and come in the order of a map."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from gradcam_widget.engine import GradCAM
from gradcam_widget.evaluate.drawing import chart, entitle
from gradcam_widget.evaluate.given import check_choice, check_count, check_seed
from gradcam_widget.evaluate.question import Numbers, Subject, ask, quantity
from gradcam_widget.heatmap import upsample
from gradcam_widget.perturbation import Progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Curves", "area", "blurred", "deletion_insertion", "pixel_order"]

Array = NDArray[np.float64]

STEPS = 20
REFERENCES = 3
_GRID = 7  # random values along the shorter side of a reference map
_BASELINES = ("zero", "blur")
_SAME = 0.01
"""Areas that differ by less than this part of what the curves span are called the same."""


@dataclass(frozen=True, eq=False)
class Curves:
    """Deletion and insertion of one map.

    Attributes:
        subject: which map.
        quantity: what is measured: "probability", or "score" for a target that is no class.
        shares: (n,) of the pixels that have been taken, from 0 to 1.
        deletion: (n,) the quantity after the most important pixels are gone.
        insertion: (n,) the quantity when only they are there.
        deletion_area, insertion_area: under the curves, by trapezoids over [0, 1]. The lower, and the higher, the
            better.
        random_deletions, random_insertions: (m, n) the same curves in the order of smooth random maps.
        pixels: how many go or come at each step.
        baselines: what is there where pixels are not: for deletion, and for insertion.
    """

    subject: Subject
    quantity: str
    shares: Array
    deletion: Array
    insertion: Array
    deletion_area: float
    insertion_area: float
    random_deletions: Array
    random_insertions: Array
    pixels: int
    baselines: tuple[str, str]

    @property
    def random_deletion_areas(self) -> tuple[float, ...]:
        """(m,) under the deletion curves of the random maps."""
        return tuple(area(curve, self.shares) for curve in self.random_deletions)

    @property
    def random_insertion_areas(self) -> tuple[float, ...]:
        """(m,) under the insertion curves of the random maps."""
        return tuple(area(curve, self.shares) for curve in self.random_insertions)

    @property
    def numbers(self) -> Numbers:
        """The numbers as a table."""
        mean_d, mean_i = (
            float(np.mean(areas)) if areas else None
            for areas in (self.random_deletion_areas, self.random_insertion_areas)
        )
        return Numbers(
            ("the map", "random maps"),
            {
                "area under deletion": (self.deletion_area, mean_d),
                "area under insertion": (self.insertion_area, mean_i),
            },
        )

    @property
    def verdict(self) -> str:
        """What the areas say, in words."""
        what = f"the {self.quantity} of {self.subject.target}"
        span = max(float(np.ptp(curve)) for curve in (self.deletion, self.insertion))
        digits = max(2, 2 - math.ceil(math.log10(span))) if span > 0 else 2
        areas = f"areas {self.deletion_area:.{digits}f} and {self.insertion_area:.{digits}f}"
        others_d, others_i = self.random_deletion_areas, self.random_insertion_areas
        if not others_d:
            return f"Deletion and insertion change {what} with the {areas}; there is nothing to compare them with."
        count = len(others_d)
        falls = sum(other - self.deletion_area > _SAME * span for other in others_d)
        rises = sum(self.insertion_area - other > _SAME * span for other in others_i)
        mean_d, mean_i = np.mean(others_d), np.mean(others_i)
        numbers = f"({areas}; of random maps {mean_d:.{digits}f} and {mean_i:.{digits}f} on average)"
        if falls == rises == count:
            return (
                f"Without the pixels that the map marks {what} falls sooner, and with them alone it rises sooner, "
                f"than with any of {count} random maps {numbers}: the map marks what counts."
            )
        if falls + rises == 0:
            return (
                f"In the order of the map {what} neither falls nor rises sooner than with any of {count} random "
                f"maps {numbers}: it does not mark what counts."
            )
        return (
            f"In the order of the map {what} falls sooner than with {falls} of {count} random maps, and rises "
            f"sooner than with {rises} {numbers}: the map marks only in part what counts."
        )

    def figure(self, *, dark: bool = False) -> Figure:
        """Both curves with their areas, those of the random maps grey behind them."""
        figure, axes, look = chart(dark, columns=2, sharey=True)
        rows = (
            ("Deletion", self.deletion, self.deletion_area, self.random_deletions, look.pro, "taken away"),
            ("Insertion", self.insertion, self.insertion_area, self.random_insertions, look.con, "shown"),
        )
        low = 0.0
        for ax, (title, values, value, others, colour, verb) in zip(axes, rows, strict=True):
            for other in others:
                ax.plot(self.shares, other, color=look.muted, linewidth=0.9, alpha=0.7)
            ax.fill_between(self.shares, values, min(0.0, values.min()), color=colour, alpha=0.14, linewidth=0)
            ax.plot(self.shares, values, color=colour, linewidth=2)
            beside = f", random maps {np.mean([area(o, self.shares) for o in others]):.2f}" if len(others) else ""
            entitle(ax, look, f"{title}: area {value:.2f}{beside}")
            ax.set_xlabel(f"share of pixels {verb}")
            ax.set_xlim(0, 1)
            low = min(low, float(values.min()), *(float(other.min()) for other in others))
        axes[0].set_ylim(bottom=low)
        axes[0].set_ylabel(self.quantity)
        return figure


def deletion_insertion(
    cam: GradCAM,
    image: object,
    target: object = None,
    layer: object = None,
    method: str = "GradCAM",
    *,
    heatmap: object = None,
    steps: int = STEPS,
    deletion_baseline: str = "zero",
    insertion_baseline: str = "blur",
    references: int = REFERENCES,
    seed: int = 0,
    progress: Progress | None = None,
) -> Curves:
    """How the probability of a class falls as the pixels that a map calls important are taken away, most important
    first (deletion), and rises as they are put back into nothing (insertion).

    A good map has a small area under the first and a large one under the second. How small, depends on the model
    and the picture, so the same is done with smooth random maps (7 random values along the shorter side, enlarged
    bilinearly as a heatmap is).

    Pixels are taken in the order of the heatmap at the picture's size; equal ones in reading order. At each step
    go ``ceil(H W / steps)`` of them, in all channels, so that the first point is no pixel and the last one all.

    Args:
        cam: the engine.
        image: as in `GradCAM.explain`; a picture.
        target: as there. Measured is the probability of a class, or the value of any other target.
        layer: as there.
        method: as there.
        heatmap: (H, W) of the picture's size, to be evaluated in place of the engine's.
        steps: of each curve.
        deletion_baseline: what a pixel becomes: "zero" in the input, which is the mean colour of the training
            pictures where inputs are normalised, or "blur" (a Gaussian, standard deviation a sixteenth of the
            shorter side).
        insertion_baseline: what the picture begins as; the same.
        references: how many random maps.
        seed: of these.
        progress: (done, in all) passes; returning False cancels with `gradcam_widget.perturbation.Cancelled`.

    Raises:
        TypeError, ValueError: for an argument that cannot be used, before any pass; and as `GradCAM.explain`.

    Source: V. Petsiuk, A. Das, K. Saenko, "RISE: Randomized Input Sampling for Explanation of Black-box Models",
    arXiv 1806.07421, section 4.2: deletion to zeros, insertion from a blurred picture. They take 224 pixels at a
    step; 20 steps cost a tenth of that.
    """
    steps, references, seed = (
        check_count("steps", steps),
        check_count("references", references, 0),
        check_seed(seed),
    )
    for name, value in (("deletion_baseline", deletion_baseline), ("insertion_baseline", insertion_baseline)):
        check_choice(name, value, _BASELINES)
    question = ask(cam, image, target, layer, method, heatmap=heatmap, progress=progress)
    size = question.heatmap.shape
    orders = [pixel_order(question.heatmap)]
    orders += [pixel_order(random) for random in _random_maps(size, references, seed)]
    step = math.ceil(size[0] * size[1] / steps)
    counts = [*range(0, size[0] * size[1], step), size[0] * size[1]]
    kind, measured = quantity(question.target)
    jobs = _jobs(len(orders), counts)
    versions = _versions(
        [_ranks(order).view(size) for order in orders], jobs, deletion_baseline, insertion_baseline
    )
    values = cam.score_versions(question.image, versions, len(jobs), measured, progress=progress).numpy()
    shares = np.array(counts) / counts[-1]
    deletions, insertions = _curves_of(values, len(orders), len(counts))
    return Curves(
        subject=question.subject,
        quantity=kind,
        shares=shares,
        deletion=deletions[0],
        insertion=insertions[0],
        deletion_area=area(deletions[0], shares),
        insertion_area=area(insertions[0], shares),
        random_deletions=deletions[1:],
        random_insertions=insertions[1:],
        pixels=step,
        baselines=(deletion_baseline, insertion_baseline),
    )


def pixel_order(heatmap: Array) -> Tensor:
    """(H * W,) pixel numbers, the highest value first; equal ones in reading order."""
    return torch.from_numpy(np.ascontiguousarray(heatmap)).flatten().argsort(descending=True, stable=True)


def area(values: Array, shares: Array) -> float:
    """The area under a curve by trapezoids, where ``shares`` go from 0 to 1."""
    return float(((values[1:] + values[:-1]) / 2 * np.diff(shares)).sum())


def blurred(picture: Tensor) -> Tensor:
    """A picture (1, C, H, W) under a Gaussian whose standard deviation is a sixteenth of its shorter side, cut at
    three of them; beyond the edge the edge goes on.
    """
    sigma = min(picture.shape[2:]) / 16
    radius = max(1, math.ceil(3 * sigma))
    x = torch.arange(-radius, radius + 1, dtype=torch.float64)
    weights = torch.exp(-(x**2) / (2 * sigma**2))
    weights = (weights / weights.sum()).to(picture)
    out = picture.flatten(0, 1)[:, None]
    out = F.conv2d(F.pad(out, (radius, radius, 0, 0), mode="replicate"), weights.view(1, 1, 1, -1))
    out = F.conv2d(F.pad(out, (0, 0, radius, radius), mode="replicate"), weights.view(1, 1, -1, 1))
    return out.view_as(picture)


_Job = tuple[str, int, int]
"""What becomes of the first pixels of an order: "delete" or "insert", which order, and how many of them."""


def _jobs(orders: int, counts: Sequence[int]) -> list[_Job]:
    """For each order deletion, then insertion, at each count; first of all the ends, where all orders are one."""
    ends = [("delete", 0, 0), ("delete", 0, counts[-1]), ("insert", 0, 0)]
    return ends + [(kind, at, n) for at in range(orders) for kind in ("delete", "insert") for n in counts[1:-1]]


def _curves_of(values: Array, orders: int, counts: int) -> tuple[Array, Array]:
    """(orders, counts) the deletion curves, and the insertion curves, of what was measured for each of `_jobs`."""
    whole, gone, nothing = values[:3]
    inner = values[3:].reshape(orders, 2, counts - 2)
    deletions = [np.concatenate([[whole], row[0], [gone]]) for row in inner]
    insertions = [np.concatenate([[nothing], row[1], [whole]]) for row in inner]
    return np.array(deletions), np.array(insertions)


def _versions(
    ranks: Sequence[Tensor], jobs: Sequence[_Job], deletion_baseline: str, insertion_baseline: str
) -> Callable[[Tensor, range], Tensor]:
    """What `GradCAM.score_versions` asks for: the pictures (n, C, H, W) of some jobs.

    Args:
        ranks: (H, W) for each order the rank of each pixel.
        jobs: of `_jobs`.
        deletion_baseline: "zero" or "blur".
        insertion_baseline: the same.
    """
    made: dict[str, Tensor] = {}

    def baseline(first: Tensor, name: str) -> Tensor:
        if name not in made:
            made[name] = torch.zeros_like(first) if name == "zero" else blurred(first)
        return made[name]

    def versions(first: Tensor, batch: range) -> Tensor:
        rows = []
        for kind, at, n in jobs[batch.start : batch.stop]:
            taken = (ranks[at] < n).to(first.device)
            if kind == "delete":
                rows.append(torch.where(taken, baseline(first, deletion_baseline), first))
            else:
                rows.append(torch.where(taken, first, baseline(first, insertion_baseline)))
        return torch.cat(rows)

    return versions


def _ranks(order: Tensor) -> Tensor:
    ranks = torch.empty_like(order)
    ranks[order] = torch.arange(len(order))
    return ranks


def _random_maps(size: tuple[int, ...], count: int, seed: int) -> list[Array]:
    generator = torch.Generator().manual_seed(seed)
    shorter = min(size)
    grid = [max(1, round(_GRID * length / shorter)) for length in size]
    values = torch.rand(count, *grid, generator=generator, dtype=torch.float64)
    return [upsample(one[None], tuple(size))[0].numpy() for one in values] if count else []
