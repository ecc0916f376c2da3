"""The trace of a picture: found again by the picture's values, or made, and kept by the number of its pass."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import Tensor, nn

from gradcam_widget.cache import Cache
from gradcam_widget.forward_graphs import ForwardGraphs
from gradcam_widget.last_picture import LastPicture, is_trace_of, placed
from gradcam_widget.trace import Trace
from gradcam_widget.tracer import Tracer

__all__ = ["Traces", "tensor_of"]


class Traces:
    """The traces that an engine keeps. A picture or a model that has changed has a new one, under a new number.

    Args:
        tracer: runs the forward passes.
        cache: where traces are kept, together with what depends on them.
        forward_graphs: makes and keeps the traces where forward passes are recorded.
    """

    def __init__(self, tracer: Tracer, cache: Cache, forward_graphs: ForwardGraphs | None) -> None:
        self._tracer, self._cache, self._forward_graphs = tracer, cache, forward_graphs
        self._numbers = itertools.count()
        self._latest: LastPicture | None = None

    def __call__(self, image: object, load: Callable[[], tuple[Tensor, ...]], *, alone: bool) -> tuple[int, Trace]:
        """(number, trace) of a picture.

        Args:
            image: what was asked about.
            load: gives its inputs, each (1, ...).
            alone: whether no other call of the engine is under way.

        Raises:
            ValueError: for inputs that are not finite.
        """
        if self._latest is not None and self._latest.is_of(image):
            latest: Trace | None = self._cache.get(self._latest.number)
            if latest is not None and latest.state.holds():
                return self._latest.number, latest
        inputs = load()
        for key, kept in sorted(self._cache.roots(), key=lambda root: root[0] != self.number):
            if is_trace_of(kept, inputs):  # the one that answered last is asked first: comparing takes time
                self._cache.get(key)
                self._latest = LastPicture(image, key)
                return key, kept
        _check_finite(inputs)
        for key, kept in self._cache.roots():
            if not kept.state.holds():
                self._cache.drop(key)
        first, number = tensor_of(self._tracer.model), next(self._numbers)
        ready = tuple(placed(tensor, first) for tensor in inputs)
        if self._forward_graphs is not None:
            trace = self._forward_graphs(number, ready, alone=alone)
        else:
            trace = self._tracer(ready)
            self._cache.put(number, trace, trace.bytes())
        self._latest = LastPicture(image, number)
        return number, trace

    @property
    def number(self) -> int:
        """Of the forward pass that answered last."""
        return 0 if self._latest is None else self._latest.number

    @property
    def latest(self) -> Trace | None:
        """The trace that answered last, where it is still kept; not marked as used."""
        return None if self._latest is None else self._cache.peek(self._latest.number)

    def lasting(self, trace: Trace) -> Trace:
        """A trace of the same picture that stays as it is when the engine turns to another one."""
        return trace if trace.again is None else self._tracer(tuple(tensor.detach() for tensor in trace.inputs))

    def forget(self, inputs: tuple[Tensor, ...]) -> None:
        """Forget the traces of some inputs, and what depends on them."""
        for key, kept in self._cache.roots():
            if is_trace_of(kept, inputs):
                self._cache.drop(key)
                if self._latest is not None and self._latest.number == key:
                    self._latest = None

    def clear(self) -> None:
        """Forget all, with all that the cache holds."""
        self._cache.clear()
        self._latest = None


def tensor_of(model: nn.Module) -> Tensor:
    """A floating-point parameter or buffer that tells the model's device and dtype."""
    for tensor in itertools.chain(model.parameters(), model.buffers()):
        if tensor.is_floating_point():
            return tensor
    return torch.zeros(())


def _check_finite(inputs: tuple[Tensor, ...]) -> None:
    for tensor in inputs:
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ValueError(
                "image: it contains NaN or infinite values, for which no map can be computed; "
                "check the transform and the file"
            )
