"""Convolutions with the batch norm after them folded in, for forward passes of which only the scores count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradcam_widget.trace import Record, Trace

__all__ = ["Folding"]


class Folding:
    """Which convolutions of a model hand their output to one batch norm alone, as the graph of a trace tells, and
    copies of their weights with that norm folded in: w g / s and (b - m) g / s + t, for a norm of mean m,
    deviation s, weight g and bias t.

    The model's own tensors stay as they are: inside of `used`, and only there, the modules compute with copies.

    Args:
        trace: a forward pass of the model.
        most: bytes that the copies may take.
    """

    def __init__(self, trace: Trace, most: int) -> None:
        pairs = list(_pairs(trace))
        size = sum(conv.weight.nbytes for conv, _ in pairs)
        self._forwards: list[tuple[nn.Module, Callable[[Tensor], Tensor]]] = []
        if size <= most:
            for conv, norm in pairs:
                self._forwards += [(conv, _folded(conv, norm)), (norm, _handed_on)]

    def __bool__(self) -> bool:
        return bool(self._forwards)

    @contextmanager
    def used(self) -> Iterator[None]:
        """Inside, the convolutions do the work of the norms after them."""
        try:
            for module, forward in self._forwards:
                module.__dict__["forward"] = forward
            yield
        finally:
            for module, _ in self._forwards:
                module.__dict__.pop("forward", None)


def _pairs(trace: Trace) -> Iterator[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """The convolutions that can be folded, each with its norm."""
    calls = Counter(record.module for record in trace.records)
    convolutions: dict[Any, Record] = {
        record.output.grad_fn: record for record in trace.records if type(record.module) is nn.Conv2d
    }
    for record in trace.records:
        norm = record.module
        if type(norm) is not nn.BatchNorm2d or norm.running_mean is None or norm.running_var is None:
            continue
        node: Any = record.output.grad_fn
        way = [node]
        while type(way[-1]).__name__ in ("NativeBatchNormBackward0", "CloneBackward0"):  # the tracer's own clone
            way.append(way[-1].next_functions[0][0])
            if way[-1] in convolutions:
                break
        before = convolutions.get(way[-1])
        if before is None or any(len(trace.users.get(other, ())) != 1 for other in way[1:]):
            continue
        conv = before.module
        alone = calls[conv] == calls[norm] == 1 and not before.hooked
        if isinstance(conv, nn.Conv2d) and alone and _is_plain(conv) and _is_plain(norm):
            yield conv, norm


def _is_plain(module: nn.Module) -> bool:
    """Whether nobody looks at what a module gets or gives, and its code is torch's own."""
    looked_at: Sequence[object] = (module._forward_hooks, module._forward_pre_hooks)
    plain = not any(looked_at) and "forward" not in module.__dict__
    return plain and (not isinstance(module, nn.Conv2d) or module.padding_mode == "zeros")


def _folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> Callable[[Tensor], Tensor]:
    """What both do in eval mode, in one."""
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None:
        raise ValueError("model: a batch norm without running statistics cannot be folded")
    with torch.no_grad():
        scale = (variance.double() + norm.eps).rsqrt()
        if norm.weight is not None:
            scale = scale * norm.weight.double()
        bias = -mean.double() if conv.bias is None else conv.bias.double() - mean.double()
        bias = bias * scale
        if norm.bias is not None:
            bias = bias + norm.bias.double()
        weight = (conv.weight.double() * scale.view(-1, 1, 1, 1)).to(conv.weight.dtype)
        weight, bias = weight.contiguous(memory_format=torch.channels_last), bias.to(conv.weight.dtype)

    def forward(x: Tensor) -> Tensor:
        return F.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)

    return forward


def _handed_on(x: Tensor) -> Tensor:
    return x
