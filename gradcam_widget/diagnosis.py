"""One sentence where a map needs one: empty, negative, flat, a single cell, not a number."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["diagnose"]


def diagnose(signed_cam: Tensor, gradients: Tensor | None, target: str, dtype: torch.dtype) -> str | None:
    """What a reader must know about a map, with what to do; None for a map that speaks for itself.

    Args:
        signed_cam: (*grid) the map before the ReLU.
        gradients: of the target at the layer, any shape; None for methods without.
        target: how the target is called.
        dtype: of the model.
    """
    lowest, highest = (float(value) for value in signed_cam.aminmax())
    if not math.isfinite(highest - lowest):
        return "The map has NaN or infinite values: the activations or gradients overflow at this layer."
    if highest <= 0 and gradients is not None and not bool(gradients.any()):
        return (
            f"The gradient of {target} is zero everywhere at this layer: nothing here changes the score. "
            "Choose another layer."
        )
    if highest <= 0:
        return (
            f"No positive evidence for {target} at this layer: the map is negative or zero everywhere. "
            "Its signed form shows what speaks against, a later layer what speaks for it."
        )
    if signed_cam.numel() == 1:
        return "This layer has a single cell, so its map cannot show places; choose an earlier layer."
    if highest == lowest:
        return "The map has the same value everywhere, so it points to no place."
    if dtype in (torch.bfloat16, torch.float16):
        return (
            f"Computed by a {str(dtype).removeprefix('torch.')} model: gradients this coarse make the maps of "
            "middle layers unreliable. Explain a float32 copy for results that count."
        )
    return None
