"""Written targets: how each target is put down as JSON and as a line of Python, and read again."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from gradcam_widget.targets import (
    BinaryLogit,
    ClassLogit,
    ClassLogProbability,
    ClassProbability,
    Contrast,
    Counterfactual,
    Finer,
    Region,
    Similarity,
    Target,
)

__all__ = ["TARGETS", "Form", "OwnTargetError", "code_of", "parts_of", "read_target", "write_target"]

_HOME = ClassLogit.__module__
_NESTED = 8  # targets within targets
_MOST_PIXELS = 512_000_000  # of a region's mask; more is none of ours


class OwnTargetError(ValueError):
    """A target, or a part of it, is a function of the user's."""


def write_target(target: Target) -> dict[str, Any]:
    """A target as plain JSON values; {"kind": "own"} for a function of the user's."""
    form = _form(target)
    return {"kind": "own"} if form is None else {"kind": type(target).__name__} | form.write(target)


def read_target(written: object, depth: int = 0) -> Target:
    """The target that `write_target` wrote.

    Args:
        written: plain JSON values.
        depth: of how many targets it is a part.

    Raises:
        OwnTargetError: for one of the user's own, or with one as a part.
        ValueError: for what is no target.
    """
    kind = written.get("kind") if isinstance(written, Mapping) else None
    if kind == "own":
        raise OwnTargetError("target: the manifest holds only its name, because it was a function of yours")
    if not isinstance(written, Mapping) or kind not in TARGETS or depth > _NESTED:
        raise ValueError(f"manifest: its target is of an unknown kind, {kind!r}; the file may be damaged")
    try:
        return TARGETS[kind].read(written, depth)
    except OwnTargetError:
        raise
    except (KeyError, TypeError, AttributeError, OverflowError, ValueError, zlib.error, RuntimeError) as error:
        raise ValueError(f"manifest: its target, a {kind}, cannot be read: {error}") from error


def code_of(target: Target, own: Callable[[Target], str]) -> str:
    """A target as Python: the index of a class alone, or an expression with the names of `TARGETS`.

    Args:
        target: any.
        own: the name of a variable that holds a function of the user's.
    """
    return str(int(target.index)) if type(target) is ClassLogit else _expression(target, own)


def parts_of(target: Target) -> list[Target]:
    """A target with those that it is made of, itself the first."""
    form = _form(target)
    parts = () if form is None else form.parts(target)
    return [target, *(inner for part in parts for inner in parts_of(part))]


def _form(target: Target) -> Form | None:
    """How a target is written; None for a function of the user's."""
    return TARGETS.get(type(target).__name__) if type(target).__module__ == _HOME else None


def _expression(target: Target, own: Callable[[Target], str]) -> str:
    form = _form(target)
    if form is None:
        return own(target)
    arguments = [_expression(part, own) for part in form.parts(target)] or form.arguments(target)
    return f"{type(target).__name__}({', '.join(arguments)})"


def _class(written: Mapping[str, Any]) -> tuple[int, str | None]:
    index, name = written["index"], written.get("name")
    if not isinstance(index, int) or isinstance(index, bool) or not (name is None or isinstance(name, str)):
        raise TypeError("a class is an int and a name")
    return index, name


def _write_class(target: Any) -> dict[str, Any]:
    return {"index": target.index, "name": target.name}


def _write_region(target: Any) -> dict[str, Any]:
    if target.mask is None:
        return _write_class(target) | {"mask": None}
    packed = zlib.compress(np.packbits(target.mask.numpy()).tobytes(), 9)
    mask = {"shape": list(target.mask.shape), "bits": base64.b64encode(packed).decode("ascii")}
    return _write_class(target) | {"mask": mask}


def _read_region(written: Mapping[str, Any]) -> Region:
    index, name = _class(written)
    if (mask := written["mask"]) is None:
        return Region(index, None, name)
    height, width = (int(length) for length in mask["shape"])
    count = height * width
    if not 0 < count < _MOST_PIXELS:
        raise TypeError(f"its mask has {count} pixels")
    packed = zlib.decompressobj().decompress(base64.b64decode(mask["bits"]), -(-count // 8))
    bits = np.unpackbits(np.frombuffer(packed, np.uint8), count=count)
    if bits.size != count:
        raise TypeError("its mask is cut short")
    return Region(index, torch.from_numpy(bits.reshape(height, width).astype(bool)), name)


def _read_similarity(written: Mapping[str, Any]) -> Similarity:
    data = np.frombuffer(base64.b64decode(written["embedding"]), "<f4").astype(np.float32)
    return Similarity(torch.from_numpy(data))


def _index(target: Any) -> list[str]:
    return [repr(int(target.index))]


def _region_arguments(target: Region) -> list[str]:
    mask = [] if target.mask is None else [f"torch.tensor({target.mask.int().tolist()!r})"]
    return [*_index(target), *mask]


def _finer_arguments(target: Finer) -> list[str]:
    return [*_index(target), repr(tuple(int(index) for index in target.against)), repr(float(target.gamma))]


def _none(target: Any) -> tuple[()]:
    return ()


@dataclass(frozen=True)
class Form:
    """How targets of one kind are written.

    Attributes:
        write: a target as plain JSON values, without its kind.
        read: the target of these values, itself a part of so many others.
        arguments: those of its constructor, as Python.
        parts: targets that it is made of; where there are some, they are its arguments.
    """

    write: Callable[[Any], dict[str, Any]]
    read: Callable[[Mapping[str, Any], int], Target]
    arguments: Callable[[Any], Sequence[str]] = _none
    parts: Callable[[Any], Sequence[Target]] = _none


TARGETS: dict[str, Form] = {
    "ClassLogit": Form(_write_class, lambda it, depth: ClassLogit(*_class(it)), _index),
    "ClassProbability": Form(_write_class, lambda it, depth: ClassProbability(*_class(it)), _index),
    "ClassLogProbability": Form(_write_class, lambda it, depth: ClassLogProbability(*_class(it)), _index),
    "BinaryLogit": Form(
        lambda target: {"positive": bool(target.positive)},
        lambda it, depth: BinaryLogit(bool(it["positive"])),
        lambda target: [repr(bool(target.positive))],
    ),
    "Finer": Form(
        lambda target: _write_class(target) | {"against": list(target.against), "gamma": target.gamma},
        lambda it, depth: Finer(
            _class(it)[0], tuple(int(index) for index in it["against"]), float(it["gamma"]), _class(it)[1]
        ),
        _finer_arguments,
    ),
    "Region": Form(_write_region, lambda it, depth: _read_region(it), _region_arguments),
    "Similarity": Form(
        lambda target: {"embedding": base64.b64encode(target.embedding.numpy().astype("<f4").tobytes()).decode()},
        lambda it, depth: _read_similarity(it),
        lambda target: [f"torch.tensor({target.embedding.tolist()!r})"],
    ),
    "Contrast": Form(
        lambda target: {"first": write_target(target.first), "second": write_target(target.second)},
        lambda it, depth: Contrast(read_target(it["first"], depth + 1), read_target(it["second"], depth + 1)),
        parts=lambda target: [target.first, target.second],
    ),
    "Counterfactual": Form(
        lambda target: {"target": write_target(target.target)},
        lambda it, depth: Counterfactual(read_target(it["target"], depth + 1)),
        parts=lambda target: [target.target],
    ),
}
"""The targets that a manifest and lines of code can hold."""
