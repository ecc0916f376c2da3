"""One sentence where a map needs one: empty, negative, flat, saturated, a single cell, not a number."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Diagnosis", "diagnose"]


@dataclass(frozen=True)
class Diagnosis:
    """What a reader must know about a map.

    Attributes:
        code: for programs: "not_finite", "saturated", "no_gradient", "no_positive", "single_cell", "flat",
            "rounding" or "coarse".
        sentence: for people, with what to do.
    """

    code: str
    sentence: str


def diagnose(
    signed_cam: Tensor,
    is_felt: Callable[[], bool | None],
    target: str,
    dtype: torch.dtype,
    *,
    saturated: bool = False,
    cancelled: bool = False,
) -> Diagnosis | None:
    """What a reader must know about a map, with what to do; None for a map that speaks for itself.

    Args:
        signed_cam: (*grid) the map before the ReLU.
        is_felt: tells whether the target's gradient at the layer is other than zero anywhere, None for methods
            without one; asked only for a map without positive values.
        target: how the target is called.
        dtype: of the model.
        saturated: whether the target is a probability so near to 0 or 1 that it has hardly any gradient.
        cancelled: whether the terms of the channels cancel out, so that rounding is left.
    """
    lowest, highest = (float(value) for value in signed_cam.aminmax())
    if not math.isfinite(highest - lowest):
        return Diagnosis(
            "not_finite",
            "The map has NaN or infinite values: the activations or gradients overflow at this layer.",
        )
    if cancelled:
        return Diagnosis(
            "rounding",
            "The terms of the channels cancel out at this layer, as they do where a normalisation over the "
            "channels reads it, so the map is rounding. Choose the layer after it, or GradCAM.",
        )
    if highest <= 0 and is_felt() is False:
        zero = f"The gradient of {target} is zero everywhere at this layer"
        if saturated:
            return Diagnosis("saturated", f"{zero}: the probability is saturated. Explain the logit instead.")
        return Diagnosis("no_gradient", f"{zero}: nothing here changes the score. Choose another layer.")
    if saturated:
        return Diagnosis(
            "saturated",
            f"The {target} is saturated: it has hardly any gradient, and what is left of it may be rounding. "
            "Explain the logit instead.",
        )
    if highest <= 0:
        return Diagnosis(
            "no_positive",
            f"No positive evidence for {target} at this layer: the map is negative or zero everywhere. "
            "Its signed form shows what speaks against, a later layer what speaks for it.",
        )
    if signed_cam.numel() == 1:
        return Diagnosis(
            "single_cell", "This layer has a single cell, so its map cannot show places; choose an earlier layer."
        )
    if highest == lowest:
        return Diagnosis("flat", "The map has the same value everywhere, so it points to no place.")
    if dtype in (torch.bfloat16, torch.float16):
        return Diagnosis(
            "coarse",
            f"Computed by a {str(dtype).removeprefix('torch.')} model: gradients this coarse make the maps of "
            "middle layers unreliable. Explain a float32 copy for results that count.",
        )
    return None
