"""What callers of the checks may give: counts, seeds, numbers, choices, lists and maps, before anything runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from numbers import Real

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gradcam_widget.arguments import as_int, check_function, several
from gradcam_widget.engine import GradCAM

__all__ = [
    "as_map",
    "check_choice",
    "check_count",
    "check_engine",
    "check_number",
    "check_progress",
    "check_seed",
    "of_each",
]


def check_engine(cam: object) -> None:
    """Raise TypeError for anything but an engine."""
    if not isinstance(cam, GradCAM):
        raise TypeError(f"cam: expected a gradcam_widget.GradCAM; got {type(cam).__name__}. Use GradCAM(model)")


def check_progress(progress: object) -> None:
    """Raise TypeError for what is neither None nor a function of two arguments."""
    check_function(progress, "progress", "(done, in all)", 2)


def check_count(name: str, value: object, least: int = 1) -> int:
    """The value where it is an int of at least ``least``.

    Raises:
        TypeError, ValueError: where it is not.
    """
    number = as_int(value)
    if number is None:
        raise TypeError(f"{name}: expected an int; got {value!r}, a {type(value).__name__}")
    if number < least:
        raise ValueError(f"{name}: expected {least} or more; got {number}")
    return number


def check_seed(seed: object) -> int:
    """The seed where it is an int that a generator of torch takes.

    Raises:
        TypeError, ValueError: where it is not.
    """
    number = as_int(seed)
    if number is None:
        raise TypeError(f"seed: expected an int, as seed=0; got {seed!r}, a {type(seed).__name__}")
    if not -(2**63) <= number < 2**63:
        raise ValueError(f"seed: expected an int of 64 bits, as seed=0; got {number}")
    return number


def check_number(name: str, value: object, wanted: str, accepts: Callable[[float], bool]) -> float:
    """The value as a float where it is a finite number that is accepted.

    Args:
        name: of the argument.
        value: what was given.
        wanted: what is expected, in words.
        accepts: whether a finite number is.

    Raises:
        TypeError, ValueError: where it is not.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}: expected {wanted}; got {value!r}, a {type(value).__name__}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not (math.isfinite(number) and accepts(number)):
        raise ValueError(f"{name}: expected {wanted}; got {value!r}")
    return number


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Raise ValueError for anything but one of the choices."""
    if not isinstance(value, str) or value not in choices:
        *others, last = choices
        raise ValueError(f"{name}: expected {', '.join(others)} or {last}; got {value!r}")


def of_each(cam: GradCAM, name: str, targets: Iterable[object]) -> list[object]:
    """A list of targets, each one that the engine takes; errors name the argument and the place in the list."""
    wanted = several(targets, name)
    for at, target in enumerate(wanted):
        try:
            cam.resolve_target(target)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{name}[{at}]: {str(error).removeprefix('target: ')}") from error
    return wanted


def as_map(name: str, values: object) -> NDArray[np.float64]:
    """A map (H, W) as float64.

    Raises:
        TypeError: for what is no numbers. ValueError: for another shape, or values that are not finite.
    """
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        values = values.double() if not values.is_complex() else values
    try:
        array = np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name}: expected numbers (H, W); got {type(values).__name__}: {error}") from error
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name}: expected numbers (H, W); got {type(values).__name__} of {array.dtype}")
    if array.ndim != 2 or not array.size or not np.isfinite(array).all():
        raise ValueError(f"{name}: expected finite values (H, W); got the shape {array.shape}, or NaN in it")
    return array.astype(np.float64)
