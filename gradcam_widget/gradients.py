"""dy/dA for the feature maps of a trace: taken lazily, resumed from what is known, kept."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from gradcam_widget.backward import backward, batched_backward, root_of, seed_of
from gradcam_widget.cache import Cache
from gradcam_widget.cuda_graphs import Replays
from gradcam_widget.route import Route, find_route
from gradcam_widget.slopes import Slopes
from gradcam_widget.targets import Target
from gradcam_widget.trace import Record, Trace

__all__ = ["Gradients", "Passes"]


@dataclass(frozen=True)
class Passes:
    """How many passes of the model an engine has run.

    Attributes:
        forward: whole forward passes.
        backward: backward passes, whole or resumed; those are not counted that look once at the few operations
            after the last maps (`gradcam_widget.slopes`).
        partial: passes of the part after a layer, counted by picture.
    """

    forward: int = 0
    backward: int = 0
    partial: int = 0

    def __add__(self, other: Passes) -> Passes:
        return Passes(self.forward + other.forward, self.backward + other.backward, self.partial + other.partial)

    def __sub__(self, other: Passes) -> Passes:
        return Passes(self.forward - other.forward, self.backward - other.backward, self.partial - other.partial)


class _Known:
    """What is known of one target at the records of a trace. Bytes count each storage once.

    Attributes:
        gradients: by record index; None where no path leads to the target.
        means: the mean gradients that have been asked for, by record index.
        sums: what passes have left of the others: the sums over the cells.
        felt: what `Gradients.is_felt` has found, by record index.
        taken: bits of the records whose gradient is known.
        begun: bits of those of them where it is not None.
        summed: bits of those whose mean is known, or their sum.
        by_slopes: whether the means that `gradcam_widget.slopes` can tell are among them.
        bytes: of all of it.
    """

    __slots__ = (
        "_storages",
        "begun",
        "by_slopes",
        "bytes",
        "felt",
        "gradients",
        "means",
        "summed",
        "sums",
        "taken",
    )

    def __init__(self) -> None:
        self.gradients: dict[int, Tensor | None] = {}
        self.means: dict[int, Tensor | None] = {}
        self.sums: dict[int, Tensor] = {}
        self.felt: dict[int, bool | None] = {}
        self.taken = self.begun = self.summed = 0
        self.by_slopes = False
        self.bytes = 0
        self._storages: set[int] = set()

    def add(self, record: Record, gradient: Tensor | None) -> None:
        """A gradient that a pass has taken."""
        self.gradients[record.index] = gradient
        self.taken |= 1 << record.index
        if gradient is None:
            return
        self.begun |= 1 << record.index
        storage = gradient.untyped_storage()
        if (address := storage.data_ptr()) not in self._storages:
            self._storages.add(address)
            self.bytes += storage.nbytes()

    def add_sums(self, route: Route, sums: Mapping[int, Tensor]) -> None:
        """What a pass has left at the records on its way."""
        self.sums.update(sums)
        self.summed |= route.bits
        self.bytes += route.mean_bytes

    def add_mean(self, record: Record, mean: Tensor | None) -> None:
        """A mean gradient, or None where no path leads to the target."""
        self.means[record.index] = mean
        self.summed |= 1 << record.index
        if mean is not None:
            self.bytes += mean.nbytes

    def settle(self, records: Sequence[Record]) -> None:
        """Means of records of which the gradient or its sum is known."""
        for record in records:
            index = record.index
            if index in self.means:
                continue
            if self.summed >> index & 1:
                total = self.sums.pop(index, None)
                self.means[index] = None if total is None else record.mean_of(total)
            else:
                gradient = self.gradients[index]
                self.add_mean(record, None if gradient is None else record.mean(gradient))


class Gradients:
    """Gradients of targets at the feature maps of traces, and their means over the cells, within a quarter of a
    cache's budget.

    For a target the first request goes back only as far as the deepest layer asked for. Where means are asked
    for, as by Grad-CAM, the pass leaves the mean gradient of every feature map on its way behind, and the gradient
    of the deepest alone: fresh memory is what a pass costs most beside its arithmetic. Where gradients are asked
    for, it keeps them all. A request further down goes on from the nearest known gradient that cuts it off from
    the output; one further up is a look-up.
    """

    def __init__(self, cache: Cache, *, slopes: bool = True, replays: Replays | None = None) -> None:
        self.passes = 0
        self._replays = replays
        self._cache = cache
        self._slopes = slopes
        self._sizes: dict[Hashable, int] = {}  # bytes by target, oldest first
        self._total = 0

    def __call__(
        self, key: int, trace: Trace, target: Target, records: Sequence[Record]
    ) -> Mapping[int, Tensor | None]:
        """Gradients by record index, at least for these records; None where no path leads to the target.

        Args:
            key: under which the trace is cached.
            trace: the forward pass.
            target: the scalar.
            records: feature maps of the trace.
        """
        place = (key, "gradients", target)
        known: _Known = self._cache.get(place) or _Known()
        if self._take(key, trace, target, records, known):
            self._keep(place, known)
        return known.gradients

    def means(
        self, key: int, trace: Trace, target: Target, records: Sequence[Record]
    ) -> Mapping[int, Tensor | None]:
        """Mean gradients (K,) by record index, at least for these records, in float32 at least; None where no path
        leads to the target. The arguments are those of a call.
        """
        place = (key, "gradients", target)
        known: _Known = self._cache.get(place) or _Known()
        changed = self._by_slopes(key, trace, target, known)
        there = known.summed | known.taken
        missing = [record for record in records if not there >> record.index & 1]
        if missing:
            self._sum(key, trace, target, missing, known)
        known.settle(records)
        if changed or missing:
            self._keep(place, known)
        return known.means

    def is_felt(self, key: int, trace: Trace, target: Target, record: Record) -> bool | None:
        """Whether a target's gradient at a record is other than zero anywhere; None where no path leads there.
        It is looked at once, because each look at a value of a GPU waits for all that it has to do.
        """
        place = (key, "gradients", target)
        known: _Known | None = self._cache.get(place)
        if known is not None and record.index in known.felt:
            return known.felt[record.index]
        mean = self.means(key, trace, target, [record])[record.index]
        felt = None if mean is None else bool(mean.any())
        if felt is False:
            gradient = self(key, trace, target, [record])[record.index]  # it may cancel out in each channel
            felt = None if gradient is None else bool(record.maps(gradient).any())
        if (kept := self._cache.peek(place)) is not None:
            kept.felt[record.index] = felt
        return felt

    def _take(self, key: int, trace: Trace, target: Target, records: Sequence[Record], known: _Known) -> bool:
        """Take the gradients that are missing at some records; whether that took a pass."""
        missing = [record for record in records if not known.taken >> record.index & 1]
        if not missing:
            return False
        route = find_route(trace, missing, known.begun, known.taken)
        found, _ = self._run(key, trace, target, route, route.wanted, 0, known)
        for record, gradient in zip(route.wanted, found, strict=True):
            known.add(record, gradient)
        return True

    def _sum(self, key: int, trace: Trace, target: Target, missing: Sequence[Record], known: _Known) -> None:
        """Take the sums of the gradients at some records, or the gradients where those are small."""
        route = find_route(trace, missing, known.begun, known.summed | known.taken)
        little = route.gradient_bytes <= _LITTLE
        records, bits = (route.wanted, 0) if little else (route.ends, route.bits)
        found, sums = self._run(key, trace, target, route, records, bits, known)
        for record, gradient in zip(records, found, strict=True):
            if little or gradient is None or route.led_on >> record.index & 1:
                known.add(record, gradient)
        if not little:
            known.add_sums(route, sums)

    def _run(
        self,
        key: int,
        trace: Trace,
        target: Target,
        route: Route,
        records: Sequence[Record],
        bits: int,
        known: _Known,
    ) -> tuple[tuple[Tensor | None, ...], Mapping[int, Tensor]]:
        """One pass along a route: the gradients at some records, and the sums at those whose bits are set."""
        self.passes += 1
        with trace.backward():
            roots = [start.output for start in route.starts]
            seeds = [known.gradients[start.index] for start in route.starts]
            if not roots:
                root, seed = root_of(target, trace)
                roots, seeds = [root], [seed]
            if self._replays is not None and len(roots) == 1 and seeds[0] is not None:
                replayed = self._replays(key, trace, route, records, bits, roots[0], seeds[0])
                if replayed is not None:
                    return replayed
            with trace.hooks_heeded(records) as heeded, trace.sums_taken(bits) as sums:
                found = backward(roots, seeds, [record.output for record in records])
            return tuple(heeded.get(r.index, g) for r, g in zip(records, found, strict=True)), sums

    def _by_slopes(self, key: int, trace: Trace, target: Target, known: _Known) -> bool:
        """Add the mean gradients that follow from that of the pooled features, if there are any; whether it did.

        They are always taken so, lest the last bits of a weight should depend on what was asked before.
        """
        if known.by_slopes:
            return False
        slopes = self._slopes_of(trace)
        if not slopes or slopes.pooled is None:
            return False
        gradient = slopes.linear_gradient(target)
        if gradient is None:
            self._take(key, trace, target, [slopes.pooled], known)
            found = known.gradients[slopes.pooled.index]
            gradient = None if found is None else found.flatten()
        for record, mean in slopes.means(gradient):
            known.add_mean(record, mean)
        known.by_slopes = True
        return True

    def _slopes_of(self, trace: Trace) -> Slopes | None:
        if self._slopes and trace.slopes is None:
            with trace.backward():
                trace.slopes = Slopes(trace)
        slopes: Slopes | None = trace.slopes
        return slopes

    def _keep(self, place: Hashable, known: _Known) -> None:
        self._cache.put(place, known, known.bytes, parent=place[0])  # type: ignore[index] # our own keys
        self._trim(place, known.bytes)

    def together(self, key: int, trace: Trace, targets: Sequence[Target], record: Record, *, whole: bool) -> None:
        """Take the gradients of several targets at one record, or all the means on the way to it, in batches where
        that is faster. Nothing is taken where a model's operations cannot be batched: a call for each target does.

        Args:
            key: as in a call.
            trace: as in a call.
            targets: the scalars.
            record: a feature map.
            whole: whether the gradients are needed, or only their means.
        """
        slopes = None if whole else self._slopes_of(trace)
        if slopes and slopes.pooled is not None and any(slopes.linear_gradient(t) is None for t in targets):
            self.together(key, trace, targets, slopes.pooled, whole=True)
        if not trace.can_batch or (slopes and record in slopes):
            return
        waiting: dict[Route, list[_Waiting]] = {}
        for target in dict.fromkeys(targets):
            known = self._cache.get((key, "gradients", target)) or _Known()
            if not whole:
                self._by_slopes(key, trace, target, known)
            done = known.taken if whole else known.taken | known.summed
            if not done >> record.index & 1:
                route = find_route(trace, [record], known.begun, done)
                waiting.setdefault(route, []).append((target, known))
        for route, those in waiting.items():
            records = [record] if whole else route.wanted
            size = _batch_size(records, self._cache.budget)
            for first in range(0, len(those), size):
                chunk = those[first : first + size]
                if len(chunk) > 1 and trace.can_batch:
                    self._run_batch(key, trace, route, records, chunk)

    def _run_batch(
        self, key: int, trace: Trace, route: Route, records: Sequence[Record], chunk: Sequence[_Waiting]
    ) -> None:
        """One pass along a route for several targets of which the same is known."""
        with trace.backward():
            roots = [start.output for start in route.starts]
            seeds = [
                torch.stack([cast(Tensor, known.gradients[start.index]) for _, known in chunk])
                for start in route.starts
            ]
            if not roots:
                roots, seeds = [trace.output], [torch.stack([seed_of(target, trace) for target, _ in chunk])]
            found = batched_backward(roots, seeds, [record.output for record in records])
        if found is None:
            trace.can_batch = False
            return
        self.passes += len(chunk)
        whole = records is not route.wanted
        for record, gradients in zip(records, found, strict=True):
            rows = [None] * len(chunk) if gradients is None else gradients.unbind()
            totals = rows if whole or gradients is None else record.layout.totals(gradients[:, 0]).unbind()
            for (_, known), gradient, total in zip(chunk, rows, totals, strict=True):
                if gradient is None or whole or route.led_on >> record.index & 1:
                    # A copy, because one target's gradient must not keep those of the others alive.
                    known.add(record, None if gradient is None else gradient.clone())
                if not whole and total is not None:
                    known.sums[record.index] = total
        for target, known in chunk:
            if not whole:
                known.add_sums(route, {})
            self._keep((key, "gradients", target), known)

    def _trim(self, newest: Hashable, size: int) -> None:
        """Leave most of the budget to traces: gradients take a quarter of it, the oldest targets' go first."""
        self._sizes.pop(newest, None)
        self._sizes[newest] = size
        self._total += size
        if self._total <= self._cache.budget // 4:
            return
        # The total counts what has grown twice, and what the cache has dropped on its own: now it is exact.
        self._sizes = {place: size for place in self._sizes if (size := self._cache.size(place))}
        self._total = sum(self._sizes.values())
        for place in list(self._sizes):
            if self._total <= self._cache.budget // 4 or place == newest:
                break
            self._total -= self._sizes.pop(place)
            self._cache.drop(place)


_LITTLE = 2**20
"""Bytes of gradients, as of a last stage, that are kept sooner than a plan is made how to do without."""
_MOST = 32
_CACHED = 2**26
"""Bytes of gradients of a batch: on a processor larger ones were not faster than a loop, smaller ones were (1.1 to
1.3 times at 14 x 14 cells, up to 1.7 times at 7 x 7)."""
_LEAST = 6
"""Targets of a batch: on a processor, those into which fewer fit were as fast as a loop (0.85 to 1.06 times)."""

_Waiting = tuple[Target, _Known]


def _batch_size(records: Sequence[Record], budget: int) -> int:
    size = sum(record.output.nbytes for record in records)
    if records[0].output.is_cuda:
        return max(1, min(_MOST, budget // 8 // max(1, size)))
    fitting = min(_MOST, min(_CACHED, budget // 8) // max(1, size))
    return fitting if fitting >= _LEAST else 1
