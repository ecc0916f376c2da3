"""Backward passes on a GPU recorded as CUDA graphs and replayed for other classes: no launching, one copy in."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gradcam_widget.backward import backward
from gradcam_widget.cache import Cache
from gradcam_widget.memory import is_out_of_memory
from gradcam_widget.recorder import Recorder, arithmetic
from gradcam_widget.route import Route
from gradcam_widget.trace import Record, Trace

__all__ = ["Replays"]

Result = tuple[tuple[Tensor | None, ...], dict[int, int], Tensor | None]
"""Gradients, the lengths of the sums by record index, and all the sums in one tensor."""
_EAGER = 2
"""Passes along a way before one is recorded, which costs some passes: a way that is gone twice is gone again."""


class _Replay(NamedTuple):
    """One recorded pass: write into ``seed``, call ``run``, read ``result``."""

    seed: Tensor
    result: Result
    run: Callable[[], None]


class Replays:
    """Backward passes through the graphs of traces, recorded when the same way is gone for the third time.

    What is replayed is the pass itself, so that the numbers are those of the pass that was recorded. A model whose
    pass cannot be recorded (it looks at a value, or waits for the GPU) goes on as before; `reason` says why.

    Args:
        recorder: of the work.
        cache: where recordings are kept with their trace, within the budget; they go when it goes.

    Attributes:
        reason: why passes are not recorded; "" where they are.
        replayed: how many passes were.
    """

    def __init__(self, recorder: Recorder, cache: Cache) -> None:
        self.reason = ""
        self.replayed = 0
        self._recorder, self._cache = recorder, cache

    def __call__(
        self,
        key: int,
        trace: Trace,
        route: Route,
        records: Sequence[Record],
        bits: int,
        root: Tensor,
        seed: Tensor,
    ) -> tuple[tuple[Tensor | None, ...], Mapping[int, Tensor]] | None:
        """(gradients at some records, sums of those at the records whose bits are set), or None where the pass is
        not recorded and must be run.

        Args:
            key: under which the trace is cached.
            trace: whose forward pass ran in ``recorder.beside()``.
            route: the way of the pass.
            records: where its gradients are taken.
            bits: of the records whose sums are taken.
            root: where the pass begins.
            seed: the gradient there.
        """
        if self.reason:
            return None
        starts = tuple(record.index for record in route.starts)
        place = (key, "replays", (starts, tuple(record.index for record in records), bits, arithmetic()))
        known: _Replay | int | None = self._cache.get(place)
        if isinstance(known, _Replay):
            known.seed.copy_(seed)
            known.run()
        elif (known or 0) < _EAGER:
            self._cache.put(place, (known or 0) + 1, 0, parent=key)
            return None
        else:
            known = self._record(place, trace, records, bits, root, seed)
            if known is None:
                return None
        self.replayed += 1
        gradients, lengths, together = known.result
        # Copies, because the next replay writes into the same memory: one for all sums, one for each gradient.
        copied = tuple(None if gradient is None else gradient.clone() for gradient in gradients)
        if together is None:
            return copied, {}
        parts = torch.split(together.clone(), list(lengths.values()))
        return copied, dict(zip(lengths, parts, strict=True))

    def _record(
        self, place: Hashable, trace: Trace, records: Sequence[Record], bits: int, root: Tensor, seed: Tensor
    ) -> _Replay | None:
        if trace.hooked:
            self.reason = "the model's own code has hooks on gradients, which a recorded pass would not call"
            return None
        inputs = [record.output for record in records]
        own = seed.clone()

        def work() -> Result:
            with trace.sums_taken(bits) as sums:
                found = backward([root], [own], inputs)
                lengths = {index: len(total) for index, total in sums.items()}
                return found, lengths, torch.cat(list(sums.values())) if sums else None

        try:
            with trace.backward():
                result, run, held = self._recorder.record(work)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            self.reason = f"{type(error).__name__}: {error}"
            return None
        replay = _Replay(own, result, run)
        self._cache.put(place, replay, held + own.nbytes, parent=place[0])  # type: ignore[index] # our own keys
        return replay
