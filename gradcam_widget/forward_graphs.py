"""Forward passes on a GPU recorded as CUDA graphs and done again for other pictures, into the same memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable

from torch import Tensor

from gradcam_widget.cache import Cache
from gradcam_widget.memory import is_out_of_memory
from gradcam_widget.recorder import Recorder, arithmetic
from gradcam_widget.trace import Again, Trace
from gradcam_widget.tracer import Tracer

__all__ = ["ForwardGraphs"]

_EAGER = 2
"""Pictures of a size that run before a pass is recorded, which takes as much memory once more."""
_SLACK = 1e-3
"""Of a layer's maximum, by which what a recording gives may differ from the pass."""


class ForwardGraphs:
    """Makes the traces of pictures and keeps them; from the third picture of a size on by a recorded forward pass.

    A recorded pass writes the next picture's feature maps where the last one's were, so that the backward passes
    that were recorded for it go on to hold; the last one is forgotten. A recording is believed when it gives, at
    every layer, what the pass itself gives. A model whose pass cannot be recorded (it looks at a value, waits for
    the GPU, has hooks, or writes to its buffers) goes on as before; `reason` says why. What a model's own code
    does beside computing is not done again.

    Args:
        recorder: of the work.
        cache: where traces are kept by their numbers, and what was recorded goes with them.
        tracer: runs the forward passes.

    Attributes:
        reason: why passes are not recorded; "" where they are.
        replayed: how many were done again.
    """

    def __init__(self, recorder: Recorder, cache: Cache, tracer: Tracer) -> None:
        self.reason = ""
        self.replayed = 0
        self._recorder, self._cache, self._tracer = recorder, cache, tracer
        self._pictures: Counter[Hashable] = Counter()  # that ran, by kind

    def __call__(self, number: int, inputs: tuple[Tensor, ...], *, alone: bool) -> Trace:
        """The trace of a picture, kept under a number.

        Args:
            number: of the forward pass, a new one.
            inputs: as the tracer takes them. Of a model that has changed there is no trace in the cache any more.
            alone: whether no other call of the engine is under way, which may need the trace that is written over.
        """
        kind = _kind_of(inputs)
        if alone:
            for key, kept in self._cache.roots():
                if kept.again is not None and kept.again.kind == kind:
                    return self._renew(number, key, kept, kept.again, inputs)
        with self._recorder.beside():
            trace = self._tracer(inputs)
        self._pictures[kind] += 1
        if alone and self._pictures[kind] > _EAGER and not self.reason:
            trace = self._record(kind, trace, inputs) or trace
        self._cache.put(number, trace, trace.bytes())
        return trace

    def _renew(self, number: int, key: int, old: Trace, again: Again, inputs: tuple[Tensor, ...]) -> Trace:
        """The trace of a picture written over another one's, which is forgotten first, with all but its
        recordings: nothing may be found under its number that is half of the one and half of the other.
        """
        recordings = [kept for kept in self._cache.dependants(key) if kept[0][1] == "replays"]
        self._cache.drop(key)
        with self._recorder.beside():
            for leaf, given in zip(old.inputs, inputs, strict=True):
                # Behind autograd's back: what it has kept of the old values is written anew as well.
                leaf.data.copy_(given)
            again.run()
        self.replayed += 1
        self._tracer.runs += 1
        trace = old.renewed()
        self._cache.put(number, trace, trace.bytes())
        for place, value, size in recordings:
            self._cache.put((number, *place[1:]), value, size, parent=number)
        return trace

    def _record(self, kind: Hashable, trace: Trace, inputs: tuple[Tensor, ...]) -> Trace | None:
        """The trace of the same picture by a recorded pass, or None where that cannot be had."""
        recordings: list[Again] = []

        def around(work: Callable[[], Tensor]) -> Tensor:
            output, run, held = self._recorder.record(work, known=True)
            recordings.append(Again(run, kind, held))
            return output

        try:
            recorded = self._tracer.recorded(inputs, around)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            self.reason = f"{type(error).__name__}: {error}"
            return None
        if recorded is None:
            self.reason = "the model has hooks, or its pass writes to its parameters or buffers"
        elif not _agree(recorded, trace):
            self.reason = "a recorded pass did not give what the pass itself gave"
        else:
            recorded.again = recordings[0]
            return recorded
        return None


def _kind_of(inputs: tuple[Tensor, ...]) -> Hashable:
    """What a recording is good for: pictures of a size, computed in the same way."""
    return tuple((tensor.shape, tensor.dtype) for tensor in inputs), arithmetic()


def _agree(recorded: Trace, trace: Trace) -> bool:
    """Whether two traces are of the same layers, with the same values up to rounding."""
    if [record.name for record in recorded.records] != [record.name for record in trace.records]:
        return False
    pairs = [(recorded.output, trace.output)]
    pairs += [(a.output, b.output) for a, b in zip(recorded.records, trace.records, strict=True)]
    return all(_are_close(a.detach(), b.detach()) for a, b in pairs)


def _are_close(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool(((a - b).abs() <= _SLACK * b.abs().max()).all())
