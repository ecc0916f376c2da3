"""The answer: what `GradCAM.explain` returns, frozen, with everything that can be derived from it."""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gradcam_widget import figures
from gradcam_widget.heatmap import as_heatmap
from gradcam_widget.layers import Layer
from gradcam_widget.methods import METHODS
from gradcam_widget.smoothing import Smoothing
from gradcam_widget.targets import Target

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Explanation"]


@dataclass(frozen=True, eq=False)
class Explanation:
    """Where, through which channels and how strongly a layer speaks for a target.

    Tensors are float32 (float64 for a float64 model) on the CPU, and copies: they may be changed freely.

    Attributes:
        layer: the layer explained.
        target: the scalar explained.
        method: name of the method, a key of `gradcam_widget.methods.METHODS`.
        score: the target's value, y^c.
        probability: of the class, where the target is one.
        alpha: (K,) the method's channel weights; for GradCAM alpha_k^c = (1/Z) sum_ij dy^c/dA^k_ij.
        signed_cam: (h, w) the map before the ReLU; for GradCAM S^c = sum_k alpha_k^c A^k.
        picture: (H, W), the size of the input the map belongs to.
        guided: (C, H, W) for the guided methods: their map at the picture's pixels; else None.
        smooth: the copies of the picture that the map is averaged over, or None.
        diagnosis: None, or one sentence where the map needs one (empty, one cell, NaN).
        diagnosis_code: the same for programs, such as "no_positive"; see `gradcam_widget.diagnosis.Diagnosis`.
    """

    layer: Layer
    target: Target
    method: str
    score: float
    probability: float | None
    alpha: Tensor
    signed_cam: Tensor
    picture: tuple[int, ...]
    diagnosis: str | None
    diagnosis_code: str | None
    guided: Tensor | None
    smooth: Smoothing | None
    _maps: Tensor = field(repr=False)

    @property
    def activations(self) -> Tensor:
        """The layer's feature maps A, (K, h, w), in the model's dtype and on its device; a copy."""
        return self._maps.clone()

    @cached_property
    def mean_activations(self) -> Tensor:
        """(K,) (1/Z) sum_ij A^k_ij."""
        wide = torch.promote_types(self._maps.dtype, torch.float32)
        with torch.inference_mode(False), torch.no_grad():
            return self._maps.flatten(1).mean(1, dtype=wide).cpu()

    @property
    def contribution(self) -> Tensor:
        """(K,) what each channel adds to the mean of the signed cam: alpha times the mean activation, or alpha
        over the number of cells for the methods whose alpha is the sum of the channel's terms. All zeros for the
        methods that take each channel less its mean: EigenCAM and EigenGradCAM, whose map has the mean 0.
        """
        if METHODS[self.method].centred:
            return torch.zeros_like(self.alpha)
        if METHODS[self.method].alpha == "share":
            return self.alpha / self.signed_cam.numel()
        return self.alpha * self.mean_activations

    @property
    def cam(self) -> Tensor:
        """(h, w) the map: ReLU of the signed cam."""
        return self.signed_cam.clamp(min=0)

    def heatmap(self, size: tuple[int, ...] | None = None) -> Tensor:
        """The map over the picture, (H, W) in [0, 1]: bilinear upsampling (align_corners=False) of the cam,
        divided by the cam's maximum, so that 0 means no evidence. All zeros where there is no positive evidence.

        Args:
            size: (H, W) in pixels; by default that of the picture.
        """
        cam = self.cam
        return as_heatmap(cam, _check_size(self.picture if size is None else size, cam.ndim, self.picture))

    def figure(self, picture: Any = None, *, width: float = 7.0, **look: Any) -> Figure:
        """A matplotlib figure, fit for a paper: the picture with its heatmap, the colour bar, the bars of alpha.

        It needs no pyplot: ``figure.savefig("cam.pdf")``, or show it in a notebook.

        Args:
            picture: uint8 (H, W, 3), what the model saw: ``cam.picture(image)``; None for the map alone.
            width: in inches; the height follows.
            look: evidence, limit, colormap, opacity, sort, channels, box, model, as in
                `gradcam_widget.figures.plate_of`.
        """
        return figures.draw(figures.plate_of(self, picture, **look), width=width)


def _check_size(size: object, axes: int, picture: tuple[int, ...]) -> tuple[int, ...]:
    expected = f"size: expected {axes} positive ints, such as {picture}; got {size!r}"
    try:
        lengths = tuple(operator.index(length) for length in size)  # type: ignore[attr-defined] # told below
    except TypeError as error:
        raise TypeError(expected) from error
    if len(lengths) != axes or min(lengths) < 1:
        raise ValueError(expected)
    return lengths
