"""The model belongs to the user: whether it has changed is told, and what a pass may disturb is put back."""

from __future__ import annotations

import operator
import random
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["ModelState", "autocast_off", "autocasts", "gradients_on", "undisturbed"]

_TRAINING = operator.attrgetter("training")
_VERSION = operator.attrgetter("_version")
_POINTER = Tensor.data_ptr


class ModelState:
    """Tells whether a model is still the one that was traced: the same modules, hooks and tensors, unwritten.

    Seen are optimisers, ``load_state_dict``, ``to``, and any parameter, buffer, module or hook added, removed or
    assigned. What writes into ``parameter.data`` is not seen, because torch does not record it; call
    `gradcam_widget.GradCAM.close` after that.

    Attributes:
        named: (path, module) of every module, the model itself first.
        modules: the modules alone.
        of_inference: whether some parameter or buffer was made under ``torch.inference_mode``.
    """

    def __init__(self, model: nn.Module) -> None:
        self.named = list(model.named_modules())
        self.modules = [module for _, module in self.named]
        self._places: list[dict[str, Any]] = [
            place for module in self.modules for place in (module._modules, module._parameters, module._buffers)
        ]
        self._lengths = list(map(len, self._places))
        # An empty place is the same as long as its length is.
        self._filled = [place for place in self._places if place]
        self._values = list(chain.from_iterable(map(dict.values, self._filled)))
        self._hooks = [
            place for module in self.modules for place in (module._forward_hooks, module._forward_pre_hooks)
        ]
        self._hook_counts = list(map(len, self._hooks))
        self._hooked = [place for place in self._hooks if place]
        self._hook_names = list(map(tuple, self._hooked))
        self._tensors = [value for value in self._values if isinstance(value, Tensor)]
        self._versioned = [tensor for tensor in self._tensors if not tensor.is_inference()]
        self._versions = list(map(_VERSION, self._versioned))
        self._addresses = list(map(_POINTER, self._tensors))
        self.of_inference = len(self._versioned) < len(self._tensors)

    def holds(self) -> bool:
        """Whether nothing has changed since this state was taken."""
        # Runs at every look-up over hundreds of tensors, hence loops in C.
        return (
            list(map(_VERSION, self._versioned)) == self._versions
            and list(map(len, self._places)) == self._lengths
            and all(map(operator.is_, chain.from_iterable(map(dict.values, self._filled)), self._values))
            and list(map(_POINTER, self._tensors)) == self._addresses
            and list(map(len, self._hooks)) == self._hook_counts
            and (not self._hooked or list(map(tuple, self._hooked)) == self._hook_names)
        )

    def any_training(self) -> bool:
        """Whether a module is in training mode."""
        return any(map(_TRAINING, self.modules))


def gradients_on() -> AbstractContextManager[Any]:
    """Gradients are recorded inside, also under the caller's no_grad or inference_mode."""
    if torch.is_inference_mode_enabled():
        return _out_of_inference_mode()
    return nullcontext() if torch.is_grad_enabled() else torch.enable_grad()


@contextmanager
def _out_of_inference_mode() -> Iterator[None]:
    with torch.inference_mode(False), torch.enable_grad():
        yield


@contextmanager
def undisturbed(model: nn.Module, modules: Sequence[nn.Module] | None = None) -> Iterator[None]:
    """Runs the model in eval mode with gradients on and autocast off, and puts everything back.

    Put back are training flags, buffers, and the random state of torch, its GPUs, numpy and Python; the flags
    are set on the modules themselves, because a user's ``train()`` may do more than set a flag.

    Args:
        model: the model.
        modules: all of its modules, where they are at hand.
    """
    modules = list(model.modules()) if modules is None else modules
    flags = list(map(_TRAINING, modules))
    buffers = _Buffers(modules)
    restore_random = _random_state()
    try:
        for module, training in zip(modules, flags, strict=True):
            if training:
                module.training = False
        with gradients_on(), autocast_off(_kind_of_device(model)), _eagerly():
            yield
    finally:
        if list(map(_TRAINING, modules)) != flags:
            for module, training in zip(modules, flags, strict=True):
                module.training = training
        buffers.restore()
        restore_random()


class _Buffers:
    """The buffers of modules as they were: the same objects, order, addresses and bits."""

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self._without = [module for module in modules if not module._buffers]
        self._with = [
            (module, dict(module._buffers), set(module._non_persistent_buffers_set))
            for module in modules
            if module._buffers
        ]
        self._values = list(chain.from_iterable(items.values() for _, items, _ in self._with))
        self._tensors = [value for value in self._values if value is not None]
        self._versions = list(map(_version, self._tensors))
        self._memories = [tensor.data for tensor in self._tensors]
        self._places = [(tensor.data_ptr(), tensor.shape) for tensor in self._tensors]
        self._bits = _in_one_piece(self._memories)

    def restore(self) -> None:
        """Put them back, touching only what has changed."""
        for module in self._without:
            if module._buffers:
                _put_back(module, {}, set())
        for module, items, passing in self._with:
            now = module._buffers
            same = len(now) == len(items) and all(map(operator.is_, now.values(), items.values()))
            if not same or list(now) != list(items):
                _put_back(module, items, passing)
        for tensor, memory, place in zip(self._tensors, self._memories, self._places, strict=True):
            if (tensor.data_ptr(), tensor.shape) != place:
                tensor.data = memory
        # Writes through .data leave the versions alone, so the values are compared, bit for bit.
        bits = _in_one_piece(self._tensors)
        if list(map(_version, self._tensors)) != self._versions or not _equal(bits, self._bits):
            self._rewrite()

    def _rewrite(self) -> None:
        positions: dict[Any, int] = defaultdict(int)
        for tensor, version in zip(self._tensors, self._versions, strict=True):
            kind, start = _kind(tensor), positions[_kind(tensor)]
            positions[kind] += tensor.numel()
            value = self._bits[kind][start : start + tensor.numel()].view(tensor.shape)
            if _version(tensor) != version or not torch.equal(tensor, value):
                with torch.inference_mode(tensor.is_inference()), torch.no_grad():
                    tensor.copy_(value)


def _put_back(module: nn.Module, items: dict[str, Tensor | None], passing: set[str]) -> None:
    module._buffers.clear()
    module._buffers.update(items)
    module._non_persistent_buffers_set.intersection_update(passing)
    module._non_persistent_buffers_set.update(passing)


def _kind(tensor: Tensor) -> Any:
    return tensor.dtype, tensor.device


def _in_one_piece(tensors: Sequence[Tensor]) -> dict[Any, Tensor]:
    """A copy of all values, by dtype and device: one operation instead of one for each tensor."""
    by_kind: dict[Any, list[Tensor]] = defaultdict(list)
    for tensor in tensors:
        by_kind[_kind(tensor)].append(tensor.detach().reshape(-1))
    with torch.inference_mode(False), torch.no_grad():
        return {kind: torch.cat(pieces) for kind, pieces in by_kind.items()}


def _equal(first: dict[Any, Tensor], second: dict[Any, Tensor]) -> bool:
    return all(torch.equal(values, second[kind]) for kind, values in first.items())


def _version(tensor: Tensor) -> int:
    # Inference tensors have no version counter and cannot be changed in place outside inference mode.
    return -1 if tensor.is_inference() else tensor._version


def _kind_of_device(model: nn.Module) -> str:
    return next((tensor.device.type for tensor in model.parameters()), "cpu")


def autocast_off(device: str) -> AbstractContextManager[Any]:
    """Autocast off inside: it would make a map depend on where it is asked for. ``device`` is a type: "cuda"."""
    return torch.autocast(device, enabled=False) if autocasts(device) else nullcontext()


def autocasts(device: str) -> bool:
    """Whether the caller has switched autocast on for a type of device."""
    return device in ("cpu", "cuda") and torch.is_autocast_enabled(device)


def _eagerly() -> AbstractContextManager[Any]:
    """Compiled parts run as written: compiled code would skip our hooks, or be compiled anew with them inside."""
    set_stance = getattr(torch.compiler, "set_stance", None)  # torch >= 2.6
    if set_stance is None or "torch._dynamo" not in sys.modules:
        return nullcontext()
    stance: AbstractContextManager[Any] = set_stance("force_eager")
    return stance


def _random_state() -> Callable[[], None]:
    """The present state of every random generator that a forward pass may draw from; call it to put it back."""
    cpu = torch.get_rng_state()
    gpu = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None  # type: ignore[no-untyped-call]
    mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
    python = random.getstate()
    numpy = sys.modules.get("numpy")
    array = numpy.random.get_state() if numpy else None

    def restore() -> None:
        torch.set_rng_state(cpu)
        if gpu is not None:
            torch.cuda.set_rng_state_all(gpu)
        if mps is not None:
            torch.mps.set_rng_state(mps)
        random.setstate(python)
        if numpy and array is not None:
            numpy.random.set_state(array)

    return restore
