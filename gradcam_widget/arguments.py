"""What callers may say: models, devices, class names, targets and layers, checked before the model runs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from itertools import chain

import torch
from torch import Tensor, nn

from gradcam_widget.layers import Layer, nearest_names
from gradcam_widget.targets import ClassLogit, Target, class_index

__all__ = [
    "as_int",
    "check_channels",
    "check_class",
    "check_class_names",
    "check_function",
    "check_layer",
    "check_layers",
    "check_model",
    "check_modules",
    "check_target",
    "find_device",
    "named_class",
    "several",
    "split_call",
    "takes",
    "unwrap",
]


def unwrap(model: nn.Module) -> nn.Module:
    """The user's own module inside torch.compile's, DataParallel's and DistributedDataParallel's wrappers."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if inner is None and isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            inner = model.module
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def check_model(model: object) -> None:
    """Raise TypeError for anything but a module that hooks can be put on."""
    if isinstance(model, type):
        raise TypeError(f"model: expected a torch.nn.Module; got the class {model.__name__}, so call it first")
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module; got {type(model).__name__}")
    if isinstance(model, torch.jit.ScriptModule):
        raise TypeError(
            "model: a ScriptModule does not let feature maps be kept for their gradients; "
            "give the nn.Module that it was scripted or traced from"
        )


def check_modules(modules: Iterable[nn.Module]) -> None:
    """Raise ValueError where one of a model's modules has no gradients, or no parameters or values yet."""
    modules = list(modules)
    quantised = next((kind for kind in dict.fromkeys(map(type, modules)) if "quantized" in kind.__module__), None)
    if quantised is not None:
        raise ValueError(
            f"model: it has quantised layers ({quantised.__name__}), which have no gradients; "
            "explain the floating-point model that it was made from"
        )
    places = (place.values() for module in modules for place in (module._parameters, module._buffers))
    tensors = [tensor for tensor in chain.from_iterable(places) if tensor is not None]
    if any(tensor.is_meta for tensor in tensors):
        raise ValueError(
            "model: it has parameters or buffers on the device 'meta', which have no values; "
            "load its weights first, as with load_state_dict(weights, assign=True)"
        )
    lazy = (nn.UninitializedParameter, nn.UninitializedBuffer)
    if any(issubclass(kind, lazy) for kind in set(map(type, tensors))):
        raise ValueError(
            "model: it has lazy modules, which do not know their sizes before they have run; "
            "run the model once on an input first"
        )


def check_class_names(names: Sequence[str] | None, model: nn.Module) -> tuple[str, ...] | None:
    """The class names given, or the model's own ``class_names``, or None.

    Raises:
        TypeError: for what is no list of strings. ValueError: for an empty one.
    """
    if names is None:
        names = getattr(model, "class_names", None) or getattr(unwrap(model), "class_names", None)
    if names is None:
        return None
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise TypeError(
            f"class_names: expected a list of names; got {type(names).__name__}. {_listing_of_names(names)}"
        )
    if not names:
        raise ValueError("class_names: expected at least one name; got an empty list. Leave it out for numbers")
    wrong = next((name for name in names if not isinstance(name, str)), None)
    if wrong is not None:
        raise TypeError(f"class_names: expected strings; got {wrong!r} among them")
    return tuple(names)


def _listing_of_names(names: object) -> str:
    """How a list of class names is made of something else."""
    if isinstance(names, Mapping):
        if set(names) == set(range(len(names))):
            return f"Give [class_names[i] for i in range({len(names)})]"
        if all(isinstance(value, int) for value in names.values()):  # as the class_to_idx of a torchvision dataset
            return "Give sorted(class_names, key=class_names.get)"
        return "Put the names into a list, in the order of the scores"
    if isinstance(names, Iterable) and not isinstance(names, (str, bytes, Set)):
        return "Give list(class_names)"
    return "Put the names into a list, in the order of the scores"


def find_device(device: str | torch.device) -> torch.device:
    """The device of a name; "auto" is a GPU where there is one. ValueError for one that is not there."""
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device: expected 'auto', 'cpu', 'cuda' or 'mps'; got {device!r}") from error
    if found.type == "meta":
        raise ValueError("device: expected one that computes; got 'meta', where tensors have no values")
    there = {
        "cuda": torch.cuda.is_available() and (found.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not there.get(found.type, True):
        raise ValueError(
            f"device: {str(found)!r} is not there on this machine; use device='auto' for a GPU where there is "
            "one, or leave device out"
        )
    return found


def as_int(value: object) -> int | None:
    """An int from an int, a numpy integer or a 0-d integer tensor; None for anything else, bool included."""
    if isinstance(value, bool):
        return None
    if isinstance(value, Tensor):
        whole = not (value.is_floating_point() or value.is_complex() or value.dtype == torch.bool)
        return int(value) if value.ndim == 0 and whole else None
    try:
        return value.__index__()  # type: ignore[attr-defined, no-any-return] # whatever has it
    except (AttributeError, TypeError):
        return None


def check_channels(channels: Iterable[object], count: int) -> tuple[int, ...]:
    """Channel numbers, sorted, each once.

    Raises:
        TypeError: for anything but ints. ValueError: for a number that none of the ``count`` channels has.
    """
    numbers: set[int] = set()
    for channel in channels:
        number = as_int(channel)
        if number is None:
            raise TypeError(
                f"channels: expected ints from 0 to {count - 1}; got {channel!r}, a {type(channel).__name__}"
            )
        if not 0 <= number < count:
            raise ValueError(f"channels: expected ints from 0 to {count - 1}, one per channel; got {number}")
        numbers.add(number)
    return tuple(sorted(numbers))


def check_class(index: int, count: int | None) -> None:
    """Raise ValueError for a class out of range."""
    if index < 0 or (count is not None and index >= count):
        top = f"0 to {count - 1}" if count is not None else "0 or more"
        raise ValueError(f"target: expected a class from {top}; got {index}")


def several(values: Iterable[object], what: str, *, ordered: bool = True) -> list[object]:
    """A list of what was given; TypeError for a single thing, which is a likely slip, and for what is of pairs or,
    where the order counts, has none.
    """
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable) or getattr(values, "ndim", 1) == 0:
        raise TypeError(f"{what}: expected a list; got {type(values).__name__}. Put a single one into a list")
    if isinstance(values, Mapping):
        raise TypeError(f"{what}: expected a list; got {type(values).__name__}. Give list({what}.values())")
    if ordered and isinstance(values, Set):
        raise TypeError(f"{what}: expected a list; got {type(values).__name__}, which has no order")
    return list(values)


def check_function(value: object, what: str, signature: str, count: int) -> None:
    """Raise TypeError for what is neither None nor a function of so many arguments, as far as it tells.

    Args:
        value: what was given.
        what: name of the argument.
        signature: of the function, in words.
        count: of its arguments.
    """
    if value is not None and not callable(value):
        raise TypeError(f"{what}: expected a function {signature}; got {type(value).__name__}")
    if isinstance(value, type):
        raise TypeError(
            f"{what}: expected a function {signature}; got the class {value.__name__}. Give an object of it, "
            f"{value.__name__}(...)"
        )
    if value is not None and not takes(value, count):
        raise TypeError(
            f"{what}: expected a function {signature}; {getattr(value, '__name__', type(value).__name__)} cannot "
            f"be called with {count} argument{'s' * (count != 1)}"
        )


def takes(function: Callable[..., object], count: int) -> bool:
    """Whether a function can be called with so many arguments, as far as it tells."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # it does not tell
        return True
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True


def named_class(index: int, class_names: Sequence[str] | None) -> ClassLogit:
    """The logit of a class, with its name where it has one."""
    return ClassLogit(index, class_names[index] if class_names and index < len(class_names) else None)


def check_target(target: object, class_names: Sequence[str] | None) -> Target | None:
    """The target that was meant, as far as that can be told without the model's output; None for None.

    Raises:
        TypeError: for a kind that is no target. ValueError: for an unknown class.
    """
    if target is None:
        return None
    if isinstance(target, str):
        return named_class(class_index(target, class_names), class_names)
    index = as_int(target)
    if index is not None:
        check_class(index, len(class_names) if class_names else None)
        return named_class(index, class_names)
    if not callable(target) or isinstance(target, (nn.Module, type)):
        raise TypeError(
            "target: expected None (the predicted class), an int, a class name, or a function from the model's "
            f"output to a scalar; got {type(target).__name__}"
        )
    if type(target).__module__ != ClassLogit.__module__ and not takes(target, 1):
        raise TypeError(
            "target: expected a function from the model's output for one picture to a scalar; "
            f"{getattr(target, '__name__', type(target).__name__)} cannot be called with that one argument"
        )
    try:
        hash(target)
    except TypeError as error:
        raise TypeError(
            f"target: {type(target).__name__} cannot be hashed, and what is computed is kept by target; "
            "use a function or a frozen dataclass"
        ) from error
    return target


def check_layers(layers: Iterable[object], model: nn.Module) -> list[str | nn.Module | None]:
    """For each what `check_layer` gives."""
    known = {name for name, _ in model.named_modules(remove_duplicate=False) if name}
    return [layer if isinstance(layer, str) and layer in known else check_layer(layer, model) for layer in layers]


def check_layer(layer: object, model: nn.Module) -> str | nn.Module | None:
    """The module, or the name of the call of a module, that was meant; None for None.

    Raises:
        TypeError: for a kind that is no layer. ValueError: for a module or name that is not of this model.
    """
    if layer is None:
        return None
    if isinstance(layer, Layer):
        layer = layer.name
    if isinstance(layer, nn.Module):
        if not any(layer is module for module in model.modules()):
            raise ValueError(
                f"layer: this {type(layer).__name__} is not a module of the model; take one from "
                "model.named_modules() of the very model that is explained"
            )
        return layer
    if not isinstance(layer, str):
        raise TypeError(f"layer: expected None, a module's name, a module or a Layer; got {type(layer).__name__}")
    names = [name for name, _ in model.named_modules(remove_duplicate=False) if name]
    path, call = split_call(layer, names)
    if path not in names or (call and not call.isdigit()):
        raise ValueError(f"layer: the model has no module {layer!r}; {nearest_names(path, names)}")
    return layer


def split_call(layer: str, names: Iterable[str]) -> tuple[str, str]:
    """The module's name and the number of the call in "name:2"; a module may have a colon in its own name."""
    if layer in names or ":" not in layer:
        return layer, ""
    path, _, call = layer.rpartition(":")
    return path, call
