"""Stages of a model: its weights in the order in which they run, a handful of groups that can be randomised."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Stage", "put_back", "randomise", "stages_of"]


@dataclass(frozen=True)
class Stage:
    """A part of a model that has weights.

    Attributes:
        name: of the parts in it, the last one first, as "layer4.1" or "layer4.0 to layer3.1".
        modules: the paths of its modules with weights of their own, in the order in which they run.
    """

    name: str
    modules: tuple[str, ...]


def stages_of(model: nn.Module, run: Callable[[], Any], count: int) -> tuple[Stage, ...]:
    """A model's stages from its output back to its input: the last part alone, and the others in groups.

    A part is what shares the beginning of a path, as short as gives ``count`` parts or more; a norm belongs to
    what runs before it. Modules that do not run belong to none.

    Args:
        model: the model; hooks are put on it for one run.
        run: runs it once.
        count: how many stages at most.

    Raises:
        ValueError: for a model without weights that run.
    """
    paths = _run_order(model, run)
    if not paths:
        raise ValueError(f"model: {type(model).__name__} has no weights that run for this picture")
    parts = _parts(model, paths, count)[::-1]
    head, rest = parts[:1], parts[1:]
    groups = [head, *_split(rest, count - 1)] if count > 1 else [parts]
    return tuple(_stage(group) for group in groups)


def _run_order(model: nn.Module, run: Callable[[], Any]) -> list[str]:
    """Paths of the modules with weights of their own, in the order in which they first end."""
    seen: dict[str, None] = {}
    handles = [
        module.register_forward_hook(lambda *_, path=path: seen.setdefault(path))
        for path, module in model.named_modules()
        if _own(module)
    ]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return list(seen)


def _own(module: nn.Module) -> dict[str, Tensor]:
    return {
        name: value
        for name, value in module.named_parameters(recurse=False)
        if value.is_floating_point() and value.numel() > 0
    }


def _parts(model: nn.Module, paths: Sequence[str], count: int) -> list[list[str]]:
    """Neighbouring modules with the same beginning of their path, in run order."""
    deepest = max(path.count(".") for path in paths) + 1
    parts: list[list[str]] = []
    for depth in range(1, deepest + 1):
        parts = []
        before: str | None = None
        for path in paths:
            start = ".".join(path.split(".")[:depth])
            is_norm = all(value.ndim < 2 for value in _own(model.get_submodule(path)).values())
            if parts and (start == before or is_norm):
                parts[-1].append(path)
            else:
                parts.append([path])
                before = start
        if len(parts) >= count:
            break
    return parts


def _split(parts: list[list[str]], groups: int) -> list[list[list[str]]]:
    """The parts in so many groups, the smaller ones first."""
    groups = min(groups, len(parts))
    if groups == 0:
        return []
    small, larger = divmod(len(parts), groups)
    sizes = [small] * (groups - larger) + [small + 1] * larger
    starts = [sum(sizes[:i]) for i in range(groups)]
    return [parts[start : start + size] for start, size in zip(starts, sizes, strict=True)]


def _stage(parts: Sequence[Sequence[str]]) -> Stage:
    """One stage of parts, the last part first."""
    first, last = _called(parts[0]), _called(parts[-1])
    modules = tuple(path for part in parts[::-1] for path in part)
    return Stage(first if first == last else f"{first} to {last}", modules)


def _called(part: Sequence[str]) -> str:
    """What the paths of a part have in common; the first one where that is nothing."""
    if len(part) == 1:
        return part[0] or "the model"
    common = []
    for words in zip(*(path.split(".") for path in part), strict=False):
        if len(set(words)) > 1:
            break
        common.append(words[0])
    return ".".join(common) or part[0] or "the model"


def randomise(model: nn.Module, stage: Stage, generator: torch.Generator) -> None:
    """Give the weights of a stage random values, in place; ``model`` is a copy.

    Matrices and filters are drawn from N(0, 2 / fan in), on the CPU, so that they are the same on every device;
    biases become 0, the weights of norms 1, their running means 0 and variances 1: a network before training. Any
    other vector is drawn with its own mean and standard deviation.

    Args:
        model: the copy.
        stage: of `stages_of`.
        generator: on the CPU.

    Source: the initialisation is K. He et al., "Delving Deep into Rectifiers", ICCV 2015, eq. 10.
    """
    with torch.no_grad():
        for path in stage.modules:
            module = model.get_submodule(path)
            for name, value in _own(module).items():
                value.copy_(_fresh(name, value, generator))
            for name, buffer in module.named_buffers(recurse=False):
                if name in ("running_mean", "running_var"):
                    buffer.fill_(float(name == "running_var"))


def _fresh(name: str, value: Tensor, generator: torch.Generator) -> Tensor:
    if value.ndim < 2 and "bias" in name:
        return torch.zeros_like(value)
    if value.ndim < 2 and name == "weight":
        return torch.ones_like(value)
    draws = torch.randn(value.shape, generator=generator, dtype=torch.float32)
    if value.ndim < 2:
        spread = float(value.float().std(correction=0)) if value.numel() > 1 else 0.0
        return (draws * spread + float(value.float().mean())).to(value)
    return (draws * math.sqrt(2 / math.prod(value.shape[1:]))).to(value)


def put_back(model: nn.Module, original: nn.Module, stage: Stage) -> None:
    """Give a stage of a copy the weights that the original has."""
    with torch.no_grad():
        for path in stage.modules:
            for (_, value), (_, own) in _pairs(model.get_submodule(path), original.get_submodule(path)):
                value.copy_(own)


def _pairs(copy: nn.Module, original: nn.Module) -> Iterator[tuple[tuple[str, Tensor], tuple[str, Tensor]]]:
    yield from zip(copy.named_parameters(recurse=False), original.named_parameters(recurse=False), strict=True)
    yield from zip(copy.named_buffers(recurse=False), original.named_buffers(recurse=False), strict=True)
