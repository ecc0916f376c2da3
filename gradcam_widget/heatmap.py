"""A cam over a picture: divided by its maximum and upsampled, the one convention of all heatmaps here."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["as_heatmap", "upsample"]

_INTERPOLATION = {1: "linear", 2: "bilinear", 3: "trilinear"}


def upsample(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    """Maps (N, *grid) at another size (N, *size): linear along each axis, align_corners=False."""
    mode = _INTERPOLATION[maps.ndim - 1]
    return F.interpolate(maps[:, None], size=size, mode=mode, align_corners=False)[:, 0]


def as_heatmap(cam: Tensor, size: tuple[int, ...]) -> Tensor:
    """A cam (*grid), nowhere negative, over a picture (*size), in [0, 1]: divided by its maximum and upsampled
    linearly along each axis (align_corners=False). All zeros for a cam that is empty or not finite.
    """
    highest = cam.max()
    if not torch.isfinite(highest) or highest <= 0:
        return torch.zeros(size, dtype=cam.dtype, device=cam.device)
    return upsample(cam[None] / highest, size)[0].clamp(0, 1)
