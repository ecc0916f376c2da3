"""What records work on a GPU once and does it again on what the same tensors then hold: CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import torch

__all__ = ["CudaRecorder", "Recorder", "arithmetic"]

_Result = TypeVar("_Result")


class Recorder(Protocol):
    """What records work on tensors so that it can be done again on what the same tensors then hold."""

    def beside(self) -> Any:
        """A context in which work is enqueued where it can be recorded later; forward passes must run inside."""

    def record(
        self, work: Callable[[], _Result], *, known: bool = False
    ) -> tuple[_Result, Callable[[], None], int]:
        """The work's result, a function that does it again into the same tensors, and the bytes that it holds.

        Args:
            work: on tensors.
            known: whether the same has run in `beside` before; else it runs once before it is recorded.
        """


class CudaRecorder:
    """CUDA graphs. Autograd runs a backward operation on the stream of its forward operation, so that both have a
    stream of their own, beside the caller's: a pass on the default stream cannot be recorded.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call] # torch has no types for it

    @contextmanager
    def beside(self) -> Iterator[None]:
        """On the stream of its own, after all that the caller has enqueued; what the caller does next waits."""
        outer = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(outer)
        try:
            with torch.cuda.stream(self._stream):
                yield
        finally:
            outer.wait_stream(self._stream)

    def record(
        self, work: Callable[[], _Result], *, known: bool = False
    ) -> tuple[_Result, Callable[[], None], int]:
        """The work's result, a function that does it again into the same tensors, and the bytes that it holds.

        Args:
            work: on tensors of the GPU, without a look at their values.
            known: whether the same has run in `beside` before; else it runs once before it is recorded, because
                libraries choose their algorithms the first time, which cannot be recorded.
        """
        if not known:
            with self.beside():
                work()
        torch.cuda.synchronize(self._device)
        before = torch.cuda.memory_reserved(self._device)
        graph = torch.cuda.CUDAGraph()
        # Of this thread alone: what another one of the user's does with the GPU meanwhile is no error.
        with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
            result = work()
        held = max(0, torch.cuda.memory_reserved(self._device) - before)

        def replay() -> None:
            random = torch.cuda.get_rng_state(self._device)  # which a graph with random numbers moves on
            with self.beside():
                graph.replay()
            torch.cuda.set_rng_state(random, self._device)

        replay()  # recording alone computes nothing
        return result, replay, held


def arithmetic() -> Hashable:
    """How torch is told to compute at present: what has been recorded goes on as it was told then."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    convolution = getattr(cudnn, "conv", None)  # torch >= 2.9, where asking the old way may be an error
    return (
        cudnn.enabled,
        cudnn.deterministic,
        cudnn.allow_tf32 if convolution is None else convolution.fp32_precision,
        matmul.allow_tf32 if convolution is None else matmul.fp32_precision,
        torch.are_deterministic_algorithms_enabled(),
    )
