"""ROAD: what happens to a class when the pixels that a map marks are painted over by their surroundings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from gradcam_widget.arguments import several
from gradcam_widget.engine import GradCAM
from gradcam_widget.evaluate.drawing import chart
from gradcam_widget.evaluate.given import check_number, check_seed
from gradcam_widget.evaluate.question import Numbers, Subject, ask, digits, quantity
from gradcam_widget.perturbation import Progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Road", "impute", "road"]

Array = NDArray[np.float64]

SHARES = (0.2, 0.4, 0.6, 0.8)
NOISE = 0.01
_ENOUGH = 1e-3  # of the right-hand side, where the equations count as solved


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

    Raises:
        TypeError, ValueError: for an argument that cannot be used, before any pass; and as `GradCAM.explain`.

    Source: Y. Rong et al., "A Consistent and Efficient Evaluation Strategy for Attribution Methods", ICML 2022
    (arXiv 2202.00449), section 4: noisy linear imputation. The score is that of pytorch-grad-cam's ROADCombined.
    """
    given, wanted = several(shares, "shares"), "some numbers between 0 and 1"
    if not given:
        raise ValueError(f"shares: expected {wanted}; got none")
    shares = tuple(check_number("shares", share, wanted, lambda value: 0 < value < 1) for share in given)
    noise = check_number("noise", noise, "a number, 0 or more", lambda value: value >= 0)
    seed = check_seed(seed)
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

    The equations are solved by conjugate gradients, up to a residual of ``tolerance`` times the right-hand side,
    from the solution for a picture of half the size on. A picture without any known pixel stays as it is.
    """
    known = (~holes[:, None]).to(picture.dtype)
    values = picture.expand(len(holes), -1, -1, -1)
    filled = _solved(values * known, known, tolerance)
    return torch.where(known.sum((2, 3), keepdim=True) > 0, torch.where(holes[:, None], filled, values), values)


def _solved(values: Tensor, known: Tensor, tolerance: float) -> Tensor:
    """Values (n, C, h, w), 0 where they are missing, with what is missing filled in; known is (n, 1, h, w)."""
    missing = 1 - known
    total = _neighbours(torch.ones_like(known[:1]))
    right = _neighbours(values) * missing
    x = _guess(values, known, tolerance) * missing
    r = right - (total * x - _neighbours(x)) * missing
    z = r / total
    p, rz = z, _dot(r, z)
    goal = tolerance * _dot(right, right).sqrt().clamp(min=1e-12)
    for _ in range(10 * sum(values.shape[2:])):
        if bool((_dot(r, r).sqrt() <= goal).all()):
            break
        product = (total * p - _neighbours(p)) * missing
        step = rz / _dot(p, product).clamp(min=1e-30)
        x, r = x + step * p, r - step * product
        z = r / total
        before, rz = rz, _dot(r, z)
        p = z + rz / before.clamp(min=1e-30) * p
    return values + x


def _guess(values: Tensor, known: Tensor, tolerance: float) -> Tensor:
    """Where the equations are solved from: the solution for cells of 2 x 2 pixels; the mean in a small picture."""
    if min(values.shape[2:]) < 8:
        count = known.sum((2, 3), keepdim=True).clamp(min=1)
        return (values.sum((2, 3), keepdim=True) / count).expand_as(values)
    share = F.avg_pool2d(known, 2, ceil_mode=True)
    half = F.avg_pool2d(values, 2, ceil_mode=True) / share.clamp(min=1e-6)
    there = (share > 0).to(values.dtype)
    return F.interpolate(
        _solved(half * there, there, tolerance), values.shape[2:], mode="bilinear", align_corners=False
    )


def _neighbours(x: Tensor) -> Tensor:
    """The weighted sum of each pixel's neighbours: (1 2 1) along both axes without the middle, over 12."""
    across = F.pad(x, (1, 1))
    across = across[..., :-2] + 2 * x + across[..., 2:]
    down = F.pad(across, (0, 0, 1, 1))
    return (down[..., :-2, :] + 2 * across + down[..., 2:, :] - 4 * x) / 12


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum((2, 3), keepdim=True)
