"""Whether a picture and the model are still what they were when something was computed of them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Literal

import torch
from torch import Tensor, nn

from gradcam_widget.harmless import hooks_on, lock_of, same_values, writes_to_tensors
from gradcam_widget.last_picture import LastPicture, placed
from gradcam_widget.settings import Settings
from gradcam_widget.trace import Trace

__all__ = ["Watch"]


class Watch:
    """Tells later whether a picture and a model are still as they are now. It runs nothing and changes nothing.

    Args:
        trace: of the picture, by the model as it is.
        image: a tensor or several, which may be written to in place; whatever else is taken for what it was.
    """

    def __init__(self, trace: Trace, image: object) -> None:
        self._model = trace.model
        self._state = _Values(trace.model) if writes_to_tensors(trace.model) else trace.state
        parts = image if isinstance(image, tuple) else (image,)
        inputs = [trace.lasting(tensor.detach()) for tensor in trace.inputs]
        self._pictures = [
            _Still(part, kept) for part, kept in zip(parts, inputs, strict=False) if isinstance(part, Tensor)
        ]

    def changed(self, *, wait: bool = True) -> Literal["model", "picture"] | None:
        """What has changed since, as far as torch records it or an attribute of a module was assigned.

        That is what `GradCAM` computes anew for: the next question about it takes another forward pass.

        Args:
            wait: for a pass of this model that an engine runs at the moment, in another thread; else None is said
                then of the model, of which nothing can be told while hooks are on it.
        """
        lock = lock_of(self._model)
        if lock.acquire(blocking=wait):
            try:
                if not self._state.holds():
                    return "model"
            finally:
                lock.release()
        return None if all(picture.holds() for picture in self._pictures) else "picture"


class _Values:
    """Tells whether a model is what it was where its passes write to its tensors: by values, bit for bit."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._modules = list(model.named_modules())
        modules = [module for _, module in self._modules]
        self._settings, self._hooks = Settings(modules), hooks_on(modules)
        self._copies = {name: tensor.detach().clone() for name, tensor in _tensors_of(model)}

    def holds(self) -> bool:
        if list(self._model.named_modules()) != self._modules or not self._settings.hold():
            return False
        if hooks_on([module for _, module in self._modules]) != self._hooks:
            return False
        now = dict(_tensors_of(self._model))
        return list(now) == list(self._copies) and all(
            now[name].dtype == copy.dtype and now[name].device == copy.device and same_values(now[name], copy)
            for name, copy in self._copies.items()
        )


def _tensors_of(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    return chain(model.named_parameters(), model.named_buffers())


class _Still:
    """A tensor, and what the model had of it."""

    def __init__(self, image: Tensor, kept: Tensor) -> None:
        self._image, self._kept = image, kept
        self._known = LastPicture(image, 0)

    def holds(self) -> bool:
        if self._known.is_of(self._image):
            return True
        # It may be a part of a tensor that was written to elsewhere, or have its values again.
        now = self._image.detach()
        if now.numel() != self._kept.numel() or now.shape[-1:] != self._kept.shape[-1:]:
            return False
        return torch.equal(placed(now, self._kept).reshape(self._kept.shape), self._kept)
