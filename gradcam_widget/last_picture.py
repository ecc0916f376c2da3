"""Which picture was asked about: the same tensor as last time, or one whose values a trace is of."""

from __future__ import annotations

from typing import TypeGuard

import torch
from torch import Tensor

from gradcam_widget.trace import Trace

__all__ = ["LastPicture", "is_trace_of", "placed"]


class LastPicture:
    """The tensor asked about last, so that asking again need not compare all of its values."""

    def __init__(self, image: object, number: int) -> None:
        self.number = number
        self._image: Tensor | None = None
        if _sees_writes(image):
            self._image, self._version, self._place = image, image._version, _place(image)
            self._some = _some(image)
            self._values = self._some.clone()

    def is_of(self, image: object) -> bool:
        """Whether it is the same tensor, not written to since as far as torch records it.

        Writes through ``.data`` are not recorded; a sample of the values catches those that change most of them.
        """
        return (
            image is self._image
            and self._image is not None
            and self._image._version == self._version
            and _place(self._image) == self._place
            and torch.equal(self._some, self._values)
        )


def _sees_writes(image: object) -> TypeGuard[Tensor]:
    # Memory shared with numpy can be written to behind torch's back; torch marks it as not resizable.
    return (
        isinstance(image, Tensor)
        and not image.is_cuda
        and not image.is_inference()
        and image.untyped_storage().resizable()
    )


def _place(image: Tensor) -> tuple[object, ...]:
    return image.data_ptr(), image.shape, image.stride()


def _some(image: Tensor) -> Tensor:
    """Some hundred values, spread over the picture, in the picture's own memory."""
    return image.detach()[tuple(slice(None, None, max(1, length // 6)) for length in image.shape)]


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
