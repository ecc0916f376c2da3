"""Layers whose channels reach the pooled features each by itself, so that a class costs no backward pass there.

Where only operations that keep the channels apart (activations, normalisation in eval mode, pooling, residual
sums) lie between a layer and a global average pooling, the pooled feature v_k depends on A^k alone, so that

    alpha_k = (1/Z) sum_ij dy/dA^k_ij = dy/dv_k * s_k  with  s_k = (1/Z) sum_ij dv_k/dA^k_ij,

and s is the same for every target. If the scores are a linear layer on v, dy^c/dv is a row of its weights, and a
class costs no backward pass at all. All of it is read off the autograd graph, never off the architecture, and
proven on the graph by passes through these few operations.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from gradcam_widget.targets import ClassLogit, Target
from gradcam_widget.trace import Record, Trace

__all__ = ["Slopes"]

_APART = frozenset(
    f"{name}Backward0"
    for name in (
        "AdaptiveAvgPool1D", "AdaptiveAvgPool2D", "AdaptiveAvgPool3D", "Add", "Alias", "AvgPool2D", "AvgPool3D",
        "Celu", "Clone", "Elu", "Gelu", "Hardsigmoid", "Hardswish", "Hardtanh", "LeakyRelu", "Mish", "Mul", "Neg",
        "MaxPool2DWithIndices", "Relu", "Sigmoid", "Silu", "Softplus", "Sub", "Tanh",
    )
)  # fmt: skip
"""Autograd nodes of operations that keep the channels apart."""
_RESHAPES = ("CloneBackward", "ReshapeAliasBackward", "SqueezeBackward", "UnsafeViewBackward", "ViewBackward")
"""Begins of the names of those that leave the values and their order as they are."""


class Slopes:
    """The records of a trace whose channels reach the pooled features each by itself, and how steeply; none where
    there are no such features.

    It must be made, and asked, inside of `Trace.backward`.
    """

    def __init__(self, trace: Trace) -> None:
        self.pooled = next((record for record in reversed(trace.records) if _is_pooled(record)), None)
        self._records = [] if self.pooled is None else _apart(trace, self.pooled)
        self._factors: Tensor | None = None  # (records, K)
        self._weights: Tensor | None = None
        if self.pooled is None or not self._records:
            return
        root = self.pooled.output
        ones = torch.ones_like(root)
        # Proof: where channels mix, or a hook of the model's own bends the gradient, it is not linear in this.
        # Values are large and small, because a hook may clip.
        numbers = torch.arange(root.numel(), dtype=root.dtype, device=root.device)
        uneven = (numbers.add(1).cos() * 4096 ** numbers.remainder(3).sub(1)).view_as(root)
        self._factors = torch.stack(self._means(root, ones))
        if not _are_same(torch.stack(self._means(root, uneven)), self._factors * uneven.flatten()):
            self._records = []
        self._weights = _linear_weights(trace, self.pooled)

    def __bool__(self) -> bool:
        return bool(self._records)

    def __contains__(self, record: Record) -> bool:
        return any(record is other for other in self._records)

    def linear_gradient(self, target: Target) -> Tensor | None:
        """(K,) that of a class's logit by the pooled features, where the scores are a linear layer on them."""
        return None if self._weights is None or type(target) is not ClassLogit else self._weights[target.index]

    def means(self, gradient: Tensor | None) -> Iterator[tuple[Record, Tensor | None]]:
        """The records with their mean gradients (K,), from the gradient (K,) by the pooled features."""
        nothing: list[None] = [None] * len(self._records)
        means = nothing if gradient is None or self._factors is None else (gradient * self._factors).unbind()
        yield from zip(self._records, means, strict=True)

    def _means(self, root: Tensor, seed: Tensor) -> list[Tensor]:
        outputs = [record.output for record in self._records]
        found = torch.autograd.grad(root, outputs, seed, retain_graph=True)
        return [record.mean(gradient) for record, gradient in zip(self._records, found, strict=True)]


def _is_pooled(record: Record) -> bool:
    return _plain(record) and math.prod(record.shape[1:]) == 1 and record.shape[0] > 1


def _apart(trace: Trace, pooled: Record) -> list[Record]:
    """The records with several cells whose channels reach the pooled features each by itself, the last first."""
    by_node: dict[Any, list[Record]] = {}
    for record in trace.records:
        output = record.output
        if _plain(record) and (output.ndim, output.shape[1]) == (pooled.output.ndim, pooled.output.shape[1]):
            by_node.setdefault(record.output.grad_fn, []).append(record)
    found: list[Record] = []
    top = pooled.output.grad_fn
    waiting: list[Any] = [top]
    seen: Counter[Any] = Counter()
    while waiting:
        node = waiting.pop()
        if not _keeps_apart(node) or any(record.hooked for record in by_node.get(node, ())):
            continue
        for child, output in node.next_functions:
            seen[child] += 1
            # All that reads it has been seen: there is no other way to the output.
            if child is not None and output == 0 and seen[child] == len(trace.users[child]):
                waiting.append(child)
                found += [
                    r for r in by_node.get(child, ()) if r.output.ndim == pooled.output.ndim and not r.hooked
                ]
    return [record for record in found if math.prod(record.shape[1:]) > 1]


def _linear_weights(trace: Trace, pooled: Record) -> Tensor | None:
    """(classes, K) the weights of the linear layer that makes scores of the pooled features, where one does."""
    node: Any = trace.output.grad_fn
    if type(node).__name__ != "AddmmBackward0" or node._saved_alpha != 1 or node._saved_mat2 is None:
        return None
    weights: Tensor = node._saved_mat2.detach().T
    below, output = node.next_functions[1]
    while below is not pooled.output.grad_fn:
        if output != 0 or not type(below).__name__.startswith(_RESHAPES):
            return None
        below, output = below.next_functions[0]
    if weights.shape != (trace.output.shape[1:].numel(), pooled.output.numel()):
        return None
    (first,) = torch.autograd.grad(trace.output[0, 0], pooled.output, retain_graph=True)
    return weights if torch.equal(first.flatten(), weights[0]) else None


def _are_same(means: Tensor, expected: Tensor) -> bool:
    """Whether the means (records, K) are the expected ones, each row up to rounding."""
    # One look for all rows: each waits for the GPU.
    slack = 1e-9 if means.dtype == torch.float64 else 1e-4
    return bool(((means - expected).abs().amax(1) <= slack * expected.abs().amax(1)).all())


def _plain(record: Record) -> bool:
    """Whether a record is (1, K, *grid) as it stands, in a precision that allows for comparisons."""
    output = record.output
    return (
        record.layout.order == "channels first"
        and output.output_nr == 0
        and output.grad_fn is not None
        and output.dtype in (torch.float32, torch.float64)
    )


def _keeps_apart(node: Any) -> bool:
    name = type(node).__name__
    if name == "NativeBatchNormBackward0":
        return not node._saved_training
    if name.startswith("MeanBackward"):
        axes = len(node._saved_self_sym_sizes)
        dimensions: Sequence[int] | None = getattr(node, "_saved_dim", None)
        # Negative ones are saved as unsigned numbers.
        return bool(dimensions) and all(_signed(d) % axes > 1 for d in dimensions or ())
    return name in _APART


def _signed(number: int) -> int:
    return number - 2**64 if number >= 2**63 else number
