"""Guided backpropagation: the gradient at the picture's pixels with negative gradients stopped at every ReLU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gradcam_widget.backward import scalar
from gradcam_widget.graph import nodes_below
from gradcam_widget.targets import Target
from gradcam_widget.trace import Trace

__all__ = ["guided_backpropagation"]

_RELUS = ("ReluBackward", "HardtanhBackward", "ThresholdBackward", "LeakyReluBackward")


def guided_backpropagation(trace: Trace, target: Target) -> Tensor:
    """(C, H, W) the gradient of the target at the input, negative gradients set to zero at each ReLU.

    The rule is put on the ReLUs' nodes in the graph of the trace, so functional ReLUs count as much as modules,
    no module is replaced, and no further forward pass is needed.

    Raises:
        ValueError: for a model without ReLUs, for which the method is not defined.

    Source: Springenberg et al., "Striving for Simplicity", arXiv 1412.6806, section 3.4.
    """
    with trace.backward():
        value = scalar(target, trace)
        relus = [node for node in nodes_below(value.grad_fn) if type(node).__name__.startswith(_RELUS)]
        if not relus:
            raise ValueError(
                "method: guided backpropagation is defined by the model's ReLUs, and this model has none; "
                "use another method"
            )
        handles = [node.register_prehook(_positive) for node in relus]
        try:
            (gradient,) = torch.autograd.grad(value, trace.inputs[0], retain_graph=True, allow_unused=True)
        finally:
            for handle in handles:
                handle.remove()
    if gradient is None:
        gradient = torch.zeros_like(trace.inputs[0])
    return gradient[0].detach()


def _positive(gradients: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(None if gradient is None else gradient.clamp(min=0) for gradient in gradients)
