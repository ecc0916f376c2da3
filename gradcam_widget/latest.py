"""Which picture was asked about: the same tensor as last time, or one whose values a trace is of."""

from __future__ import annotations

from typing import TypeGuard

import torch
from torch import Tensor

from gradcam_widget.trace import Trace

__all__ = ["Latest", "is_trace_of", "placed"]


class Latest:
    """The tensor asked about last, so that asking again need not compare all of its values."""

    def __init__(self, image: object, number: int) -> None:
        self.number = number
        self._image = image
        self._version = image._version if _sees_writes(image) else None
        self._sample = _sample(image) if _sees_writes(image) else None

    def is_of(self, image: object) -> bool:
        """Whether it is the same tensor, not written to since as far as torch records it.

        Writes through ``.data`` are not recorded; a sample of the values catches those that change most of them.
        """
        return (
            image is self._image
            and _sees_writes(image)
            and image._version == self._version
            and self._sample is not None
            and torch.equal(_sample(image), self._sample)
        )


def _sees_writes(image: object) -> TypeGuard[Tensor]:
    # Memory shared with numpy can be written to behind torch's back; torch marks it as not resizable.
    return (
        isinstance(image, Tensor)
        and not image.is_cuda
        and not image.is_inference()
        and image.untyped_storage().resizable()
    )


def _sample(image: Tensor) -> Tensor:
    """Some sixty values, spread over the picture; a copy."""
    flat = image.detach().reshape(-1)
    return flat[:: max(1, flat.numel() // 61)].clone()


def is_trace_of(trace: Trace, inputs: tuple[Tensor, ...]) -> bool:
    """Whether a trace is of these inputs, value for value, and the model has not changed since."""
    if len(inputs) != len(trace.inputs):
        return False
    for kept, given in zip(trace.inputs, inputs, strict=True):
        if given.shape != kept.shape or not torch.equal(placed(given.detach(), kept), kept.detach()):
            return False
    return trace.state.holds()


def placed(tensor: Tensor, like: Tensor) -> Tensor:
    """A tensor on the device of another, and of its dtype if both are floating point."""
    if tensor.device == like.device and tensor.dtype == like.dtype:
        return tensor
    if tensor.is_floating_point() and like.is_floating_point():
        return tensor.to(like.device, like.dtype)
    return tensor.to(like.device)
