"""One backward pass by autograd: from a target or a known gradient, for one target or a batch of them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from gradcam_widget.targets import ClassLogit, Target, name_target
from gradcam_widget.trace import Trace

__all__ = ["backward", "batched_backward", "root_of", "scalar", "seed_of"]


def root_of(target: Target, trace: Trace) -> tuple[Tensor, Tensor | None]:
    """Where a target's pass begins, and with which gradient; None for that of a scalar, 1.

    Raises:
        ValueError: as `scalar`.
    """
    seed = _unit_seed(target, trace.output)
    return (scalar(target, trace), None) if seed is None else (trace.output, seed)


def seed_of(target: Target, trace: Trace) -> Tensor:
    """The gradient of a target by the model's output, of the output's shape.

    Raises:
        ValueError: as `scalar`.
    """
    seed = _unit_seed(target, trace.output)
    if seed is None:
        value = scalar(target, trace)
        (seed,) = torch.autograd.grad(value, trace.output, retain_graph=True, allow_unused=True)
    return torch.zeros_like(trace.output) if seed is None else seed


def _unit_seed(target: Target, output: Tensor) -> Tensor | None:
    """The gradient of a class's logit by the scores, of which it is one; None for any other target."""
    if type(target) is not ClassLogit or output.ndim != 2 or target.index >= output.shape[1]:
        return None
    seed = torch.zeros_like(output)
    seed[0, target.index] = 1
    return seed


def scalar(target: Target, trace: Trace) -> Tensor:
    """The target's value for a trace, a 0-d tensor with its graph.

    Raises:
        ValueError: if the target returns anything but one value with a gradient.
    """
    # A clone, because a user's target may work in place.
    value = target(trace.output[0].clone())
    if not isinstance(value, Tensor) or value.numel() != 1:
        got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(
            f"target: {name_target(target)} must return a tensor with one value for an output of shape "
            f"{tuple(trace.output.shape[1:])}; got {got}"
        )
    if not value.requires_grad:
        raise ValueError(
            f"target: {name_target(target)} returned a value without a gradient; compute it from the output "
            "with torch operations, without detach() or item()"
        )
    return value.reshape(())


def backward(
    roots: Sequence[Tensor], seeds: Sequence[Tensor | None], inputs: Sequence[Tensor]
) -> tuple[Tensor | None, ...]:
    """Gradients at some tensors, the graph kept; None where no path leads to a root.

    Args:
        roots: where the pass begins.
        seeds: the gradient at each root; None for that of a scalar, 1.
        inputs: where gradients are taken.

    Raises:
        ValueError: for a model with activation checkpointing of the kind that keeps no gradients.
    """
    try:
        return torch.autograd.grad(roots, inputs, seeds, retain_graph=True, allow_unused=True)
    except RuntimeError as error:
        if "use_reentrant" in str(error):
            raise ValueError(
                "model: it uses activation checkpointing with use_reentrant=True, which keeps no gradients "
                "inside; set use_reentrant=False, or switch checkpointing off while you explain"
            ) from error
        raise


def batched_backward(
    roots: Sequence[Tensor], seeds: Sequence[Tensor], inputs: Sequence[Tensor]
) -> tuple[Tensor | None, ...] | None:
    """Gradients (N, 1, ...) at some tensors for N gradients (N, 1, ...) at each root, the graph kept; None where
    no path leads there, and None for all where torch cannot batch them.
    """
    try:
        with warnings.catch_warnings():
            # Of an operation without a rule for batches torch says that it goes one by one, slowly.
            warnings.simplefilter("error")
            return torch.autograd.grad(
                roots, inputs, seeds, retain_graph=True, is_grads_batched=True, allow_unused=True
            )
    except torch.cuda.OutOfMemoryError:
        raise
    except (RuntimeError, NotImplementedError, UserWarning):
        return None
