"""WHICH feature maps a model has: their kinds, how a tensor is read as maps, and what a cell can see."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules import activation, batchnorm, conv, instancenorm, normalization, pooling

from gradcam_widget.graph import Field

__all__ = [
    "CustomLayout",
    "Kind",
    "Layer",
    "Layout",
    "find_layout",
    "kind_of",
    "nearest_names",
    "spatial_dimensions",
]

Kind = Literal["conv", "block", "activation", "norm", "pool", "attention"]

_NORMS = (
    batchnorm._BatchNorm,
    instancenorm._InstanceNorm,
    normalization.LayerNorm,
    normalization.GroupNorm,
    normalization.LocalResponseNorm,
)
_POOLS = tuple(getattr(pooling, name) for name in pooling.__all__)
_ACTIVATIONS = tuple(getattr(activation, name) for name in activation.__all__ if name != "MultiheadAttention")
_MOST_PREFIX_TOKENS = 16
_TOLERANCE = 0.15


@dataclass(frozen=True)
class Layer:
    """One call of one module whose output is a feature map.

    Attributes:
        name: the module's name in ``model.named_modules()``; the second call of a reused module is "name:2".
        kind: conv, block, activation, norm, pool or attention.
        shape: (K, h, w): channels and the cells of the map ((K, l) for signals, (K, d, h, w) for volumes).
        receptive_field: how much of the input one cell can see, in input pixels per axis; None where some path
            to the layer mixes the whole picture (squeeze-and-excitation, attention) or cannot be followed.
        call: which call of the module this is, counted from one.
        why: why this layer was chosen, where the engine chose it.
        field: where the receptive fields lie; `seen_by` reads it.
    """

    name: str
    kind: Kind
    shape: tuple[int, ...]
    receptive_field: tuple[int, ...] | None = None
    call: int = 1
    why: str = dataclasses.field(default="", compare=False)
    field: Field | None = dataclasses.field(default=None, compare=False, repr=False)

    def seen_by(self, cell: Sequence[int]) -> tuple[tuple[int, int], ...] | None:
        """(start, stop) in input pixels per axis of what a cell can see: from ``start`` up to before ``stop``.

        Reaches beyond the picture where the padding is seen. None where it is not known, or is all of the picture
        by a mean over it.
        """
        if self.field is None or not all(map(math.isfinite, self.field.size)):
            return None
        return tuple(
            (int(start) + at * stride, int(stop) + at * stride)
            for start, stop, stride, at in zip(*self.field, cell, strict=True)
        )

    @property
    def cells(self) -> int:
        """How many cells the map has."""
        return math.prod(self.shape[1:])

    @property
    def label(self) -> str:
        """The layer in one line: name, kind, shape."""
        return f"{self.name} · {self.kind} · {' × '.join(map(str, self.shape))}"

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Layout:
    """How a module's output (1, ...) is read as K maps.

    Attributes:
        order: "channels first" (1, K, *grid), "channels last" (1, *grid, K) or "tokens" (1, prefix + cells, K).
        grid: cells along each axis of the picture.
        prefix: tokens before the grid that belong to no place (class, distillation, registers).
    """

    order: Literal["channels first", "channels last", "tokens"]
    grid: tuple[int, ...]
    prefix: int = 0

    def maps(self, output: Tensor) -> Tensor:
        """The maps (K, *grid) in a tensor of the module's output shape (1, ...)."""
        if self.order == "channels first":
            return output[0]
        if self.order == "channels last":
            return output[0].movedim(-1, 0)
        return output[0, self.prefix :].T.reshape(-1, *self.grid)

    def total(self, output: Tensor) -> Tensor:
        """(K,) the sum of each map over its cells, in float32 at least."""
        # One operation, because it runs for every feature map of a backward pass.
        if self.order == "channels first":
            return output.sum(_BUT_CHANNELS[output.ndim], dtype=_wide(output))
        cells = output[:, self.prefix :] if self.prefix else output
        return cells.sum(tuple(range(output.ndim - 1)), dtype=_wide(output))

    def summing(self, like: Tensor) -> Callable[[Tensor], Tensor]:
        """`total` for tensors of this one's shape and dtype."""
        if self.order != "channels first":
            return self.total
        axes, wide = _BUT_CHANNELS[like.ndim], _wide(like)
        return (lambda output: output.sum(axes)) if wide == like.dtype else lambda o: o.sum(axes, dtype=wide)

    def totals(self, outputs: Tensor) -> Tensor:
        """(N, K) the sums of several outputs (N, ...) of the module's."""
        if self.order == "channels first":
            return outputs.sum(_BUT_CHANNELS[outputs.ndim][1:], dtype=_wide(outputs))
        cells = outputs[:, self.prefix :] if self.prefix else outputs
        return cells.sum(tuple(range(1, outputs.ndim - 1)), dtype=_wide(outputs))


@dataclass(frozen=True)
class CustomLayout:
    """How outputs that cannot be guessed are read as maps: by the user's function.

    Args:
        function: a module's output (1, ...) -> (1, K, h, w), by rearranging and leaving out alone (view, permute,
            slices), since gradients are read through it too; None for an output that is no feature map.
        grid: cells along each axis, as the function gave them.
    """

    function: Callable[[Tensor], Tensor | None]
    grid: tuple[int, ...]
    order: Literal["custom"] = "custom"

    @classmethod
    def of(cls, function: Callable[[Tensor], Tensor | None], output: Tensor, axes: int) -> CustomLayout | None:
        """The layout of an output, or None where the function gives None.

        Raises:
            ValueError: if the function gives anything but (1, K, *grid).
        """
        maps = function(output.detach())
        if maps is None:
            return None
        if not isinstance(maps, Tensor) or maps.ndim != axes + 2 or maps.shape[0] != 1 or 0 in maps.shape:
            got = tuple(maps.shape) if isinstance(maps, Tensor) else type(maps).__name__
            raise ValueError(
                f"layout: expected the function to return a tensor (1, K{', n' * axes}) or None for an output of "
                f"{tuple(output.shape)}; got {got}"
            )
        return cls(function, tuple(maps.shape[2:]))

    def maps(self, output: Tensor) -> Tensor:
        """The maps (K, *grid) in a tensor of the module's output shape (1, ...).

        Raises:
            ValueError: where the function gives no maps for this tensor, although it did for the first.
        """
        maps = self.function(output)
        if maps is None:
            raise ValueError(f"layout: the function gave no maps for {tuple(output.shape)}, where it did before")
        return maps[0]

    def total(self, output: Tensor) -> Tensor:
        """(K,) the sum of each map over its cells, in float32 at least."""
        return self.maps(output).flatten(1).sum(1, dtype=_wide(output))

    def summing(self, like: Tensor) -> Callable[[Tensor], Tensor]:
        """`total` for tensors of this one's shape and dtype."""
        return self.total

    def totals(self, outputs: Tensor) -> Tensor:
        """(N, K) the sums of several outputs (N, ...) of the module's."""
        return torch.stack([self.total(output[None]) for output in outputs])


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


_BUT_CHANNELS = {axes: (0, *range(2, axes)) for axes in range(2, 8)}
"""By the number of a tensor's axes, with the channels second, all the others; the first one is the one picture."""


def kind_of(module: nn.Module, path: str = "") -> Kind:
    """The kind of a module, by its class and, for attention, by its class's name or its own.

    A linear layer on tokens or channels-last maps is a convolution of one cell.
    """
    own_class: type = type(module)
    known = _kind_of_class(own_class)
    if known is not None:
        return known
    own = path.rpartition(".")[2].lower()
    if "attention" in own or "attn" in own:
        return "attention"
    if not any(module._modules.values()):
        name = type(module).__name__.lower()
        if "norm" in name:
            return "norm"
        if "pool" in name:
            return "pool"
    return "block"


@functools.lru_cache(1024)  # asked for every module of every trace
def _kind_of_class(kind: type) -> Kind | None:
    if issubclass(kind, conv._ConvNd | nn.Linear):
        return "conv"
    if issubclass(kind, _NORMS):
        return "norm"
    if issubclass(kind, _POOLS):
        return "pool"
    if issubclass(kind, _ACTIVATIONS):
        return "activation"
    name = kind.__name__.lower()
    return "attention" if "attention" in name or "attn" in name else None


def spatial_dimensions(model: nn.Module) -> int:
    """How many spatial dimensions the model's input has, told by its first convolution; 2 where it has none, and
    where there are some along one axis beside others along two, which run over the channels, as in attention.
    """
    found = [len(module.kernel_size) for module in model.modules() if isinstance(module, conv._ConvNd)]
    return 2 if not found or {1, 2} <= set(found) else found[0]


def find_layout(
    shape: Sequence[int], picture: Sequence[int], grids: Collection[tuple[int, ...]] = (), *, last: bool = False
) -> Layout | None:
    """How an output of this shape is read as maps, or None where it is not a feature map.

    Args:
        shape: of the module's output, batch first; the batch must be 1.
        picture: the input's spatial size.
        grids: the grids of the feature maps seen so far, newest last; a token sequence is matched to them first.
        last: whether the module is known to normalise or mix the last axis (LayerNorm, Linear), which settles
            what is ambiguous by shape alone.
    """
    if not shape or shape[0] != 1 or 0 in shape:
        return None
    spatial = len(picture)
    if len(shape) == spatial + 2:
        first, final = tuple(shape[2:]), tuple(shape[1:-1])
        if spatial != 2:
            return Layout("channels first", first)
        fits_first = first in grids or _same_aspect(first, picture)
        fits_last = final in grids or _same_aspect(final, picture)
        if fits_last and (last or not fits_first):
            return Layout("channels last", final)
        return Layout("channels first", first) if fits_first else None
    if len(shape) == 3 and spatial == 2:
        return _token_layout(shape[1], picture, list(grids))
    return None


def _same_aspect(grid: Sequence[int], picture: Sequence[int]) -> bool:
    """Whether a grid could lie over the picture: the same stride along both axes, up to rounding and borders."""
    (h, w), (height, width) = grid, picture
    if h > 2 * height or w > 2 * width:
        return False
    if h == w == 1:
        return True
    strides = height / h, width / w
    # Unpadded convolutions take a few cells off each border; one cell more or less is always possible.
    slack = 1.5 / min(h, w) + _TOLERANCE
    return max(strides) / min(strides) <= 1 + slack


def _token_layout(tokens: int, picture: Sequence[int], grids: list[tuple[int, ...]]) -> Layout | None:
    for grid in reversed(grids):
        prefix = tokens - math.prod(grid)
        if math.prod(grid) > 1 and 0 <= prefix <= _MOST_PREFIX_TOKENS:
            return Layout("tokens", grid, prefix)
    for prefix in range(_MOST_PREFIX_TOKENS + 1):
        cells = tokens - prefix
        if cells < 4:
            break
        h = round(math.sqrt(cells * picture[0] / picture[1]))
        if h and cells % h == 0 and _exactly_same_aspect((h, cells // h), picture):
            return Layout("tokens", (h, cells // h), prefix)
    return None


def _exactly_same_aspect(grid: tuple[int, int], picture: Sequence[int]) -> bool:
    return abs(grid[0] * picture[1] - grid[1] * picture[0]) <= 0.02 * grid[0] * picture[1]


def nearest_names(name: str, names: Iterable[str]) -> str:
    """A hint for an unknown name: the nearest known ones, or some of them."""
    known = list(names)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if close:
        return f"did you mean {', '.join(map(repr, close))}?"
    some = ", ".join(map(repr, known[-3:]))
    return f"the last ones are {some}" if some else "there is none"
