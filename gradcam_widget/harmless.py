"""The model belongs to the user: whether it has changed is told, and what a pass may disturb is put back."""

from __future__ import annotations

import operator
import random
import sys
import threading
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import chain
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as every_module
from torch.utils.hooks import RemovableHandle

from gradcam_widget.settings import Settings, written_apart

__all__ = [
    "ModelState",
    "autocast_off",
    "autocasts",
    "gradients_on",
    "has_old_hooks",
    "hooks_on",
    "lock_of",
    "never_compiled",
    "of_this_thread",
    "plain_arithmetic",
    "rewrites_itself",
    "same_values",
    "undisturbed",
    "writes_to_tensors",
]

_TRAINING = operator.attrgetter("training")
_OWN_TRAINING = itemgetter("training")
_VERSION = operator.attrgetter("_version")
_POINTER = Tensor.data_ptr
_SHAPE = operator.attrgetter("shape")
_WANTS = operator.attrgetter("requires_grad")
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)


class ModelState:
    """Tells whether a model is still the one that was traced: the same modules, hooks, settings and tensors,
    unwritten.

    Seen are optimisers, ``load_state_dict``, ``to``, and any parameter, buffer, module, hook or other attribute
    added, removed or assigned (`gradcam_widget.settings`). What writes into ``parameter.data`` is not seen,
    because torch does not record it; call `gradcam_widget.GradCAM.close` after that.

    Attributes:
        named: (path, module) of every module, the model itself first.
        modules: the modules alone.
        of_inference: whether some parameter or buffer was made under ``torch.inference_mode``.
    """

    def __init__(self, model: nn.Module) -> None:
        self.named = list(model.named_modules())
        self.modules = [module for _, module in self.named]
        # Where the training flags are: looked up there, before each backward pass, in a third of the time.
        attributes = list(map(vars, self.modules))
        self._flagged = [own for own in attributes if "training" in own]
        self._others = [m for m, own in zip(self.modules, attributes, strict=True) if "training" not in own]
        places = [_places(module) for module in self.modules]
        hooks = [place for module in self.modules for place in _hooks_of(module)]
        self._empty = [place for place in chain.from_iterable(places) if not place]
        self._unhooked = [place for place in hooks if not place]
        self._handles = _handles()
        self._views = [place.values() for place in chain.from_iterable(places) if place]
        self._held = list(chain.from_iterable(self._views))
        alike = [index for index, value in enumerate(self._held) if _may_equal_another(value)]
        self._alike = itemgetter(*alike) if len(alike) > 1 else None
        self._hooked = [place for place in hooks if place]
        self._hook_names = list(map(tuple, self._hooked))
        self._hooks_of_all = _hooks_of_all()
        # A batch norm's count of batches among them: new running statistics leave no trace but that one.
        tensors = [value for value in self._held if isinstance(value, Tensor)]
        versioned = [tensor for tensor in tensors if not tensor.is_inference()]
        self.of_inference = len(versioned) < len(tensors)
        self._tensors = tensors
        self._addresses = list(map(_POINTER, self._tensors))
        self._indices = list(range(len(self._tensors)))
        self._versioned = versioned
        self._versions = list(map(_VERSION, self._versioned))
        self._settings = Settings(self.modules)

    def holds(self) -> bool:
        """Whether nothing has changed since this state was taken."""
        # Runs at every look-up over hundreds of tensors, hence loops in C.
        if (handles := _handles()) != self._handles or handles is None:
            if any(self._unhooked):
                return False
            self._handles = handles
        if (
            any(self._empty)
            or not _same_addresses(self._tensors, self._addresses, self._indices)
            or list(map(_VERSION, self._versioned)) != self._versions
            or (self._hooked and list(map(tuple, self._hooked)) != self._hook_names)
            or _hooks_of_all() != self._hooks_of_all
            or not self._settings.hold()
        ):
            return False
        held = list(chain.from_iterable(self._views))
        try:
            # Faster than one by one: what is the same object is not compared further, and of others, tensors of
            # one value aside, this is false or an error.
            if held != self._held:
                return False
        except Exception:  # whatever comparing with another tensor or module says
            return False
        return self._alike is None or all(map(operator.is_, self._alike(held), self._alike(self._held)))

    @property
    def has_hooks(self) -> bool:
        """Whether something of the user's is called in a forward pass beside the modules."""
        return bool(self._hooked or every_module._global_forward_hooks or every_module._global_forward_pre_hooks)

    @property
    def has_backward_hooks(self) -> bool:
        """Whether a module calls something of the user's in a backward pass."""
        if every_module._global_backward_hooks or every_module._global_backward_pre_hooks:
            return True
        return bool(self._hooked) and any(any(_hooks_of(module)[2:]) for module in self.modules)

    def any_training(self) -> bool:
        """Whether a module is in training mode."""
        return any(map(_OWN_TRAINING, self._flagged)) or any(map(_TRAINING, self._others))


def _hooks_of(module: nn.Module) -> tuple[dict[int, Any], ...]:
    return module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks


def hooks_on(modules: Sequence[nn.Module]) -> list[tuple[int, ...]]:
    """The names of all hooks that are called in a pass of these modules; one that is added has a new one."""
    return [*_hooks_of_all(), *(tuple(place) for module in modules for place in _hooks_of(module))]


def _handles() -> int | None:
    """A number that is another one after any hook has been registered; None where torch has none."""
    return getattr(RemovableHandle, "next_id", None)


def _hooks_of_all() -> list[tuple[int, ...]]:
    """Names of the hooks that are on every module there is."""
    return [
        tuple(every_module._global_forward_hooks),
        tuple(every_module._global_forward_pre_hooks),
        tuple(every_module._global_backward_hooks),
        tuple(every_module._global_backward_pre_hooks),
    ]


def has_old_hooks(module: nn.Module) -> bool:
    """Whether a module has hooks of the kind that torch puts on the operation which made its output, and would put
    on a clone instead.
    """
    of_all = every_module._global_backward_hooks and every_module._global_is_full_backward_hook is False
    return bool(of_all or (module._backward_hooks and module._is_full_backward_hook is False))


def _places(module: nn.Module) -> list[dict[str, Any]]:
    """Where a module keeps what its result depends on: children, parameters and buffers."""
    places: list[dict[str, Any]] = [module._modules, module._parameters, module._buffers]
    kind: type = type(module)
    if kind.__module__.startswith("torch.nn.modules.") and not isinstance(module, _CONTAINERS):
        return [
            place for place in places if place
        ]  # torch's own layers never look for more than they were made with
    return places


def _may_equal_another(value: Any) -> bool:
    return (
        value.numel() < 2 if isinstance(value, Tensor) else type(value).__eq__ not in (object.__eq__, None.__eq__)
    )


def same_values(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors of one type and device are equal, value for value; NaN is equal to NaN."""
    if torch.equal(one, other):
        return True
    if one.shape != other.shape or not (one.is_floating_point() or one.is_complex()):
        return False
    return torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)


def _compare_addresses(tensors: list[Tensor], addresses: list[int], indices: list[int]) -> bool:
    return list(map(_POINTER, tensors)) == addresses


# Several times as fast, where torch has it.
_same_addresses = getattr(torch._C, "_tensors_data_ptrs_at_indices_equal", _compare_addresses)


def gradients_on() -> AbstractContextManager[Any]:
    """Gradients are recorded inside, also under the caller's no_grad or inference_mode, which is what it was
    afterwards whatever a model has switched.
    """
    return _out_of_inference_mode() if torch.is_inference_mode_enabled() else torch.enable_grad()


@contextmanager
def _out_of_inference_mode() -> Iterator[None]:
    with torch.inference_mode(False), torch.enable_grad():
        yield


def of_this_thread(function: Callable[..., Any], otherwise: Callable[..., Any]) -> Callable[..., Any]:
    """A function for the thread that runs at present; the others, in which the user may run the model meanwhile,
    get ``otherwise``.
    """
    thread = threading.get_ident()

    def chosen(*args: Any, **kwargs: Any) -> Any:
        return (function if threading.get_ident() == thread else otherwise)(*args, **kwargs)

    return chosen


_LOCKS: weakref.WeakKeyDictionary[nn.Module, threading.RLock] = weakref.WeakKeyDictionary()
_LOCKING = threading.Lock()


def lock_of(model: nn.Module) -> threading.RLock:
    """What lets one engine at a time run a model: each would take the flags that another one has set for found.
    Whoever holds it sees the model as the user left it.
    """
    with _LOCKING:
        return _LOCKS.setdefault(model, threading.RLock())


@contextmanager
def undisturbed(model: nn.Module, modules: Sequence[nn.Module] | None = None) -> Iterator[None]:
    """Runs the model in eval mode with gradients on and autocast off, and puts everything back; other engines of
    the same model wait.

    Put back are training flags, buffers, parameters, weights that hooks compute, and the random state of torch,
    its GPUs, numpy and Python.
    The flags are set on the modules themselves, because a user's ``train()`` may do more than set a flag. What a
    model writes into its own parameters in place is put back from its second pass on, once it is known that it
    does so (`rewrites_itself`).

    Args:
        model: the model.
        modules: all of its modules, where they are at hand.
    """
    modules = list(model.modules()) if modules is None else modules
    with lock_of(model), written_apart(modules), _undisturbed(model, modules):
        yield


@contextmanager
def _undisturbed(model: nn.Module, modules: Sequence[nn.Module]) -> Iterator[None]:
    flags = list(map(_TRAINING, modules))
    buffers = _Buffers(modules)
    parameters = _Parameters(modules, copied=model in _REWRITING)
    computed = _computed(modules)
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
        if buffers.restore():
            _WRITING.add(model)
        for attributes, tensors in computed:
            attributes.update(tensors)
        if parameters.restore():
            _REWRITING.add(model)
        restore_random()


def _computed(modules: Sequence[nn.Module]) -> list[tuple[dict[str, Any], dict[str, Tensor]]]:
    """Attributes of modules with hooks that run before them, and the tensors there: such hooks compute the weight
    anew in each pass, as `torch.nn.utils.weight_norm` does, and leave it there with its graph.
    """
    attributes = [vars(module) for module in modules if module._forward_pre_hooks]
    return [(own, {name: value for name, value in own.items() if isinstance(value, Tensor)}) for own in attributes]


_REWRITING: weakref.WeakSet[nn.Module] = weakref.WeakSet()


def rewrites_itself(model: nn.Module) -> bool:
    """Whether a model has been seen to write to its own parameters in a pass, as max-norm constraints do."""
    return model in _REWRITING


_WRITING: weakref.WeakSet[nn.Module] = weakref.WeakSet()


def writes_to_tensors(model: nn.Module) -> bool:
    """Whether a model has been seen to write to its parameters or buffers in a pass. They are put back, and only
    their values tell then that they are what they were.
    """
    return model in _WRITING or model in _REWRITING


class _Parameters:
    """The parameters of modules as they were: the same addresses, whether they want gradients and, where copied,
    bits.
    """

    def __init__(self, modules: Sequence[nn.Module], *, copied: bool) -> None:
        owned = (value for module in modules for value in module._parameters.values())
        self._tensors = [value for value in owned if value is not None]
        self._versions = list(map(_version, self._tensors))
        self._memories = [tensor.data for tensor in self._tensors]
        self._addresses = list(map(_POINTER, self._tensors))
        self._copies = [memory.clone() for memory in self._memories] if copied else []
        self._wanting = list(map(_WANTS, self._tensors))

    def restore(self) -> bool:
        """Put them back; whether any had been written to, as far as torch records it."""
        if list(map(_WANTS, self._tensors)) != self._wanting:
            for tensor, wants in zip(self._tensors, self._wanting, strict=True):
                tensor.requires_grad_(wants)
        moved = list(map(_POINTER, self._tensors)) != self._addresses
        if moved:
            for tensor, memory in zip(self._tensors, self._memories, strict=True):
                if tensor.data_ptr() != memory.data_ptr():
                    tensor.data = memory
        for memory, copy in zip(self._memories, self._copies, strict=False):
            if not same_values(memory, copy):
                memory.copy_(copy)
        return moved or list(map(_version, self._tensors)) != self._versions


class _Buffers:
    """The buffers of modules as they were: the same objects, order, addresses and bits."""

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self._without = [module for module in modules if not module._buffers]
        self._with = [
            (module, dict(module._buffers), set(module._non_persistent_buffers_set))
            for module in modules
            if module._buffers
        ]
        self._tensors = [value for _, items, _ in self._with for value in items.values() if value is not None]
        self._versions = list(map(_version, self._tensors))
        self._memories = [tensor.data for tensor in self._tensors]
        self._addresses = list(map(_POINTER, self._tensors))
        self._shapes = list(map(_SHAPE, self._tensors))
        self._groups: dict[Any, list[Tensor]] = defaultdict(list)  # by dtype and device, to be copied in one go
        for tensor in self._tensors:
            self._groups[tensor.dtype, tensor.device].append(tensor)
        self._bits = self._copies()

    def restore(self) -> bool:
        """Put them back, touching only what has changed; whether the values of any had been written to."""
        for module in self._without:
            if module._buffers:
                _put_back(module, {}, set())
        for module, items, passing in self._with:
            now = module._buffers
            same = len(now) == len(items) and all(map(operator.is_, now.values(), items.values()))
            if not same or list(now) != list(items):
                _put_back(module, items, passing)
        if (
            list(map(_POINTER, self._tensors)) != self._addresses
            or list(map(_SHAPE, self._tensors)) != self._shapes
        ):
            for tensor, memory in zip(self._tensors, self._memories, strict=True):
                if (tensor.data_ptr(), tensor.shape) != (memory.data_ptr(), memory.shape):
                    tensor.data = memory
        # Writes through .data leave the versions alone, so the values are compared, bit for bit.
        if list(map(_version, self._tensors)) != self._versions or not all(
            map(same_values, self._copies(), self._bits)
        ):
            self._rewrite()
            return True
        return False

    def _copies(self) -> list[Tensor]:
        with torch.inference_mode(False), torch.no_grad():
            return [torch.cat([tensor.reshape(-1) for tensor in group]) for group in self._groups.values()]

    def _rewrite(self) -> None:
        versions = dict(zip(map(id, self._tensors), self._versions, strict=True))
        for group, bits in zip(self._groups.values(), self._bits, strict=True):
            for tensor, value in zip(group, torch.split(bits, [tensor.numel() for tensor in group]), strict=True):
                if _version(tensor) != versions[id(tensor)] or not same_values(tensor.reshape(-1), value):
                    with torch.inference_mode(tensor.is_inference()), torch.no_grad():
                        tensor.copy_(value.view(tensor.shape))


def _put_back(module: nn.Module, items: dict[str, Tensor | None], passing: set[str]) -> None:
    module._buffers.clear()
    module._buffers.update(items)
    module._non_persistent_buffers_set.intersection_update(passing)
    module._non_persistent_buffers_set.update(passing)


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


def plain_arithmetic(tensor: Tensor) -> AbstractContextManager[None]:
    """No inference tensors and no autocast on a tensor's device inside, whatever the caller's modes. Nothing there
    has a gradient, so none is recorded.
    """
    if not torch.is_inference_mode_enabled() and not autocasts(tensor.device.type):
        return nullcontext()
    return _out_of_all_modes(tensor.device.type)


@contextmanager
def _out_of_all_modes(device: str) -> Iterator[None]:
    with torch.inference_mode(False), torch.no_grad(), autocast_off(device):
        yield


def _eagerly() -> AbstractContextManager[Any]:
    """Compiled parts run as written: compiled code would skip our hooks, or be compiled anew with them inside."""
    set_stance = getattr(torch.compiler, "set_stance", None)  # torch >= 2.6
    if set_stance is None or "torch._dynamo" not in sys.modules:
        return nullcontext()
    stance: AbstractContextManager[Any] = set_stance("force_eager")
    return stance


def never_compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """A hook that runs as written also where torch has no way to run compiled parts so, and would compile it."""
    if getattr(torch.compiler, "set_stance", None) is not None or "torch._dynamo" not in sys.modules:
        return function
    disabled: Callable[..., Any] = torch.compiler.disable(function)  # type: ignore[no-untyped-call] # as in torch 2.4
    return disabled


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
