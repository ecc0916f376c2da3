"""ROAD: what happens to a class when the pixels that a map marks are painted over by their surroundings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from gradcam_widget.engine import GradCAM
from gradcam_widget.evaluate.drawing import chart
from gradcam_widget.evaluate.question import Numbers, Subject, ask, digits, quantity
from gradcam_widget.perturbation import Progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Road", "impute", "road"]

Array = NDArray[np.float64]

SHARES = (0.2, 0.4, 0.6, 0.8)
NOISE = 0.01
_ENOUGH = 1e-4  # of the right-hand side, where the equations count as solved


@dataclass(frozen=True, eq=False)
class Road:
    """Most and least relevant pixels removed, by one map.

    Attributes:
        subject: which map.
        quantity: what is measured: "probability", or "score" for a target that is no class.
        shares: (n,) of the pixels that are removed.
        whole: the quantity for the picture as it is.
        most: (n,) without the pixels where the map is highest.
        least: (n,) without those where it is lowest.
    """

    subject: Subject
    quantity: str
    shares: Array
    whole: float
    most: Array
    least: Array

    @property
    def score(self) -> float:
        """Half of the mean difference of the two: the higher, the better; 0 for a map that says nothing."""
        return float((self.least - self.most).mean() / 2)

    @property
    def numbers(self) -> Numbers:
        """The numbers as a table."""
        rows = zip(self.shares, self.most, self.least, strict=True)
        return Numbers(
            ("highest removed", "lowest removed"),
            {f"{share:.0%} of the pixels": (float(most), float(least)) for share, most, least in rows},
        )

    @property
    def verdict(self) -> str:
        """What the difference says, in words."""
        what = f"the {self.quantity} of {self.subject.target}"
        most, least = float(self.most.mean()), float(self.least.mean())
        text = (
            f"With the pixels painted over where the map is highest {what} is {digits(most)} on average, where it "
            f"is lowest {digits(least)}; it is {digits(self.whole)} for the picture itself"
        )
        if self.score > 0.05 * abs(self.whole):
            return f"{text}. What the map marks counts more than what it leaves out."
        if self.score < -0.05 * abs(self.whole):
            return f"{text}. What the map leaves out counts more than what it marks."
        return f"{text}. What the map marks counts no more than what it leaves out."

    def figure(self, *, dark: bool = False) -> Figure:
        """Both curves from the whole picture on."""
        figure, (ax,), look = chart(dark, (6.2, 2.4))
        places = [0.0, *self.shares]
        ax.plot(places, [self.whole, *self.most], "o-", color=look.pro, markersize=4, label="highest removed")
        ax.plot(places, [self.whole, *self.least], "s-", color=look.con, markersize=4, label="lowest removed")
        ax.set_xlim(0, 1)
        ax.set_ylim(bottom=min(0.0, float(self.most.min()), float(self.least.min())))
        ax.set_xlabel("share of pixels painted over")
        ax.set_ylabel(self.quantity)
        ax.legend(frameon=False, fontsize=7.5, labelcolor=look.ink)
        return figure


def road(
    cam: GradCAM,
    image: object,
    target: object = None,
    layer: object = None,
    method: str = "GradCAM",
    *,
    heatmap: object = None,
    shares: tuple[float, ...] = SHARES,
    noise: float = NOISE,
    seed: int = 0,
    progress: Progress | None = None,
) -> Road:
    """The class's probability after the pixels where the map is highest, and after those where it is lowest, are
    replaced by what can be guessed from their surroundings: a hole in the picture betrays its own form, a filled
    one hardly does.

    Removed is what lies at or above the percentile of the map, so with many equal values more than the share.

    Args:
        cam: the engine.
        image: as in `GradCAM.explain`; a picture.
        target: as there. Measured is the probability of a class, or the value of any other target.
        layer: as there.
        method: as there.
        heatmap: (H, W) of the picture's size, to be evaluated in place of the engine's.
        shares: of the pixels, between 0 and 1.
        noise: standard deviation of what is added to guessed values, in the units of the input.
        seed: of the noise.
        progress: (done, in all) passes; returning False cancels with `gradcam_widget.perturbation.Cancelled`.

    Source: Y. Rong et al., "A Consistent and Efficient Evaluation Strategy for Attribution Methods", ICML 2022
    (arXiv 2202.00449), section 4: noisy linear imputation. The score is that of pytorch-grad-cam's ROADCombined.
    """
    if not shares or not all(isinstance(share, float) and 0 < share < 1 for share in shares):
        raise ValueError(f"shares: expected some numbers between 0 and 1; got {shares!r}")
    if isinstance(noise, bool) or not isinstance(noise, (int, float)) or not 0 <= noise < math.inf:
        raise ValueError(f"noise: expected a number, 0 or more; got {noise!r}")
    question = ask(cam, image, target, layer, method, heatmap=heatmap, progress=progress)
    kind, measured = quantity(question.target)
    heat = question.heatmap
    missing = [values >= np.percentile(values, 100 * (1 - share)) for values in (heat, -heat) for share in shares]
    holes = torch.from_numpy(np.stack([~mask if mask.all() else mask for mask in missing]))
    generator = torch.Generator().manual_seed(seed)

    def versions(first: Tensor, batch: range) -> Tensor:
        rows = []
        if batch.start == 0:
            rows.append(first)
        wanted = holes[max(0, batch.start - 1) : batch.stop - 1].to(first.device)
        if len(wanted):
            filled = impute(first, wanted)
            draws = torch.randn(filled.shape, generator=generator, dtype=torch.float32).to(first)
            rows.append(torch.where(wanted[:, None], filled + noise * draws, filled))
        return torch.cat(rows)

    values = cam.score_versions(question.image, versions, 1 + len(holes), measured, progress=progress).numpy()
    most, least = values[1 : 1 + len(shares)], values[1 + len(shares) :]
    return Road(question.subject, kind, np.array(shares), float(values[0]), most, least)


def impute(picture: Tensor, holes: Tensor, tolerance: float = _ENOUGH) -> Tensor:
    """(n, C, H, W) a picture (1, C, H, W) with holes, bool (n, H, W), filled so that every missing pixel is the
    weighted mean of its neighbours: 1/6 for those beside it and 1/12 for those at its corners, less where the
    picture ends.

    The equations are solved by conjugate gradients, beginning at the mean of what is known. A picture without any
    known pixel stays as it is.
    """
    weights = torch.tensor([[1.0, 2, 1], [2, 0, 2], [1, 2, 1]], dtype=picture.dtype, device=picture.device) / 12
    count, (channels, height, width) = len(holes), picture.shape[1:]
    missing = holes[:, None].expand(count, channels, height, width).reshape(-1, 1, height, width).to(picture.dtype)
    values = picture.expand(count, -1, -1, -1).reshape(-1, 1, height, width)
    known = values * (1 - missing)

    def neighbours(x: Tensor) -> Tensor:
        return F.conv2d(x, weights[None, None], padding=1)

    def dot(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum((1, 2, 3), keepdim=True)

    total = neighbours(torch.ones_like(values[:1]))
    right = neighbours(known) * missing
    seen = (1 - missing).sum((1, 2, 3), keepdim=True)
    x = known.sum((1, 2, 3), keepdim=True) / seen.clamp(min=1) * missing

    def residual_of(x: Tensor) -> Tensor:
        return (right - (total * x - neighbours(x)) * missing) * missing

    r = residual_of(x)
    z = r / total
    p, rz = z, dot(r, z)
    goal = tolerance * dot(right, right).sqrt().clamp(min=1e-12)
    for _ in range(10 * (height + width)):
        if bool((dot(r, r).sqrt() <= goal).all()):
            break
        product = (total * p - neighbours(p)) * missing
        step = rz / dot(p, product).clamp(min=1e-30)
        x, r = x + step * p, r - step * product
        z = r / total
        before, rz = rz, dot(r, z)
        p = z + rz / before.clamp(min=1e-30) * p
    filled = torch.where(seen > 0, known + x, values)
    return filled.view(count, channels, height, width)
