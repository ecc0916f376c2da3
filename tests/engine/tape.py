"""A stand-in for CUDA graphs on the CPU: records the operations of some work, and does them again in place."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from gradcam_widget import GradCAM
from gradcam_widget.cuda_graphs import Replays
from gradcam_widget.forward_graphs import ForwardGraphs


class _Tape(TorchDispatchMode):
    """As a CUDA graph: operations on given memory, whose results go where they went the first time."""

    def __init__(self) -> None:
        super().__init__()
        self._steps: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self._steps.append((function, args, kwargs or {}, result))
        return result

    def play(self) -> None:
        with torch.no_grad():
            for function, args, kwargs, result in self._steps:
                # .data, because a graph writes behind autograd's back: no version is counted.
                args, kwargs = tree_map_only(Tensor, lambda tensor: tensor.data, (args, kwargs))
                for old, new in zip(tree_leaves(result), tree_leaves(function(*args, **kwargs)), strict=True):
                    if isinstance(old, Tensor):
                        old.data.copy_(new)


class TapeRecorder:
    """A recorder on the CPU.

    Attributes:
        recorded: how often work was recorded.
        inside: how often work was enqueued beside the caller's.
    """

    def __init__(self, error: Exception | None = None, held: int = 1000) -> None:
        self.error, self.held, self.recorded, self.inside = error, held, 0, 0

    def beside(self):
        self.inside += 1
        return contextlib.nullcontext()

    def record(self, work: Callable[[], Any], *, known: bool = False) -> tuple[Any, Callable[[], None], int]:
        if self.error is not None:
            raise self.error
        self.recorded += 1
        with _Tape() as tape:
            result = work()
        return result, tape.play, self.held


def backward_replaying(model, recorder: TapeRecorder, **options: Any) -> tuple[GradCAM, Replays]:
    """An engine that records backward passes alone."""
    cam = GradCAM(model, **options)
    cam._replays = cam._gradients._replays = Replays(recorder, cam._cache)
    cam._forward_graphs = cam._traces._forward_graphs = ForwardGraphs(recorder, cam._cache, cam._tracer)
    cam._forward_graphs.reason = "left out in this test"
    return cam, cam._replays


def replaying(model, recorder: TapeRecorder, **options: Any) -> tuple[GradCAM, ForwardGraphs]:
    """An engine that records forward and backward passes."""
    cam, _ = backward_replaying(model, recorder, **options)
    cam._forward_graphs.reason = ""
    return cam, cam._forward_graphs
