"""Whether a picture and the model are still what they were when something was computed of them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Literal

import torch
from torch import Tensor, nn

from gradcam_widget.harmless import ModelState, lock_of, writes_to_tensors
from gradcam_widget.last_picture import LastPicture, sees_writes
from gradcam_widget.settings import Settings

__all__ = ["Watch"]


class Watch:
    """Tells later whether a picture and a model are still as they are now. It runs nothing and changes nothing.

    Args:
        model: the model.
        state: of the model, taken when the picture ran through it.
        image: a tensor or several, which may be written to in place; whatever else is taken for what it was.
    """

    def __init__(self, model: nn.Module, state: ModelState, image: object) -> None:
        self._model = model
        self._state = _Values(model) if writes_to_tensors(model) else state
        parts = image if isinstance(image, tuple) else (image,)
        self._pictures = [_Still(part) for part in parts if isinstance(part, Tensor)]

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
        self._settings = Settings([module for _, module in self._modules])
        self._copies = {name: tensor.detach().clone() for name, tensor in _tensors_of(model)}

    def holds(self) -> bool:
        if list(self._model.named_modules()) != self._modules or not self._settings.hold():
            return False
        now = dict(_tensors_of(self._model))
        return list(now) == list(self._copies) and all(
            now[name].dtype == copy.dtype and now[name].device == copy.device and torch.equal(now[name], copy)
            for name, copy in self._copies.items()
        )


def _tensors_of(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    return chain(model.named_parameters(), model.named_buffers())


class _Still:
    """A tensor, and what it was."""

    def __init__(self, image: Tensor) -> None:
        self._image = image
        self._known = LastPicture(image, 0)
        self._copy = None if sees_writes(image) else image.detach().clone()

    def holds(self) -> bool:
        if self._copy is None:
            return self._known.is_of(self._image)
        return self._image.shape == self._copy.shape and torch.equal(self._image.detach(), self._copy)
