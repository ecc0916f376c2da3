"""dy/dA for the feature maps of a trace: taken lazily, resumed from what is known, kept."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress

import torch
from torch import Tensor

from gradcam_widget.cache import Cache
from gradcam_widget.slopes import Slopes
from gradcam_widget.targets import Target, name_target
from gradcam_widget.trace import Record, Trace

__all__ = ["Gradients", "Passes", "scalar"]


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
    """What is known of one target: gradients and their means by record index. Bytes count each storage once."""

    __slots__ = ("by_slopes", "bytes", "gradients", "means", "storages")

    def __init__(self) -> None:
        self.gradients: dict[int, Tensor | None] = {}
        self.means: dict[int, Tensor | None] = {}
        self.storages: set[int] = set()
        self.by_slopes = False
        self.bytes = 0

    def add(self, record: Record, gradient: Tensor | None) -> None:
        self.gradients[record.index] = gradient
        if gradient is None:
            self.means[record.index] = None
            return
        storage = gradient.untyped_storage()
        if (address := storage.data_ptr()) not in self.storages:
            self.storages.add(address)
            self.bytes += storage.nbytes()

    def add_mean(self, record: Record, mean: Tensor | None) -> None:
        self.means[record.index] = mean
        if mean is not None:
            self.bytes += mean.nbytes


class Gradients:
    """Gradients of targets at the feature maps of traces, and their means over the cells, within a quarter of a
    cache's budget.

    For a target the first request goes back only as far as the deepest layer asked for. Where means are asked
    for, as by Grad-CAM, the pass leaves the mean gradient of every feature map on its way behind, and the gradient
    of the deepest alone: fresh memory is what a pass costs most beside its arithmetic. Where gradients are asked
    for, it keeps them all. A request further down goes on from the nearest known gradient that cuts it off from
    the output; one further up is a look-up.
    """

    def __init__(self, cache: Cache, *, slopes: bool = True) -> None:
        self.passes = 0
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
        if self._take(trace, target, records, known):
            self._keep(place, known)
        return known.gradients

    def _take(self, trace: Trace, target: Target, records: Sequence[Record], known: _Known) -> bool:
        """Take the gradients that are missing at some records; whether that took a pass."""
        missing = [record for record in records if record.index not in known.gradients]
        if not missing:
            return False
        start = self._start(trace, missing, known.gradients)
        wanted = _between(trace, start, missing, known.gradients)
        with trace.backward():
            found = _grad(*_root(trace, target, start, known), [record.output for record in wanted])
        for record, gradient in zip(wanted, found, strict=True):
            known.add(record, gradient)
        self.passes += 1
        return True

    def means(
        self, key: int, trace: Trace, target: Target, records: Sequence[Record]
    ) -> Mapping[int, Tensor | None]:
        """Mean gradients (K,) by record index, at least for these records, in float32 at least; None where no path
        leads to the target. The arguments are those of a call.
        """
        place = (key, "gradients", target)
        known: _Known = self._cache.get(place) or _Known()
        missing = [record for record in records if record.index not in known.means]
        if not missing:
            return known.means
        if self._by_slopes(trace, target, known):
            self._keep(place, known)
        for record in missing:
            if record.index not in known.means and record.index in known.gradients:
                gradient = known.gradients[record.index]
                known.add_mean(record, None if gradient is None else record.mean(gradient))
        missing = [record for record in missing if record.index not in known.means]
        if not missing:
            return known.means
        self.passes += 1
        start = self._start(trace, missing, known.gradients)
        wanted = _between(trace, start, missing, known.means)
        if sum(record.output.nbytes for record in wanted) <= _LITTLE:
            with trace.backward():
                found = _grad(*_root(trace, target, start, known), [record.output for record in wanted])
            for record, gradient in zip(wanted, found, strict=True):
                known.add(record, gradient)
            for record in missing:  # the others' when they are asked for
                gradient = known.gradients[record.index]
                known.add_mean(record, None if gradient is None else record.mean(gradient))
            self._keep(place, known)
            return known.means
        # A pass runs only through what lies above one of its inputs. The means are taken as it goes by; beside the
        # ends only that gradient is kept from which a later pass can go on to what lies below.
        ends = trace.lowest(wanted)
        cut = trace.cut(wanted)
        inputs = [record for record in wanted if record.index in ends or record is cut]
        with trace.backward(), trace.means_taken() as means:
            found = _grad(*_root(trace, target, start, known), [record.output for record in inputs])
        for record in wanted:
            known.add_mean(record, means.get(record.index))
        for record, gradient in zip(inputs, found, strict=True):
            if gradient is None:
                known.add(record, None)
            elif trace.leads_on(record):
                known.add(record, gradient)
        self._keep(place, known)
        return known.means

    def _by_slopes(self, trace: Trace, target: Target, known: _Known) -> bool:
        """Add the mean gradients that follow from that of the pooled features, if there are any; whether it did.

        They are always taken so, lest the last bits of a weight should depend on what was asked before.
        """
        slopes = self._slopes_of(trace)
        if not slopes or slopes.pooled is None or known.by_slopes:
            return False
        gradient = slopes.linear_gradient(target)
        if gradient is None:
            self._take(trace, target, [slopes.pooled], known)
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
        """Take the gradients of several targets at one record, or their means, in batches where that is faster.

        Nothing is taken where a model's operations cannot be batched, or where a gradient is zero everywhere,
        which may mean that there is none: a call for each target does it then.

        Args:
            key: as in a call.
            trace: as in a call.
            targets: the scalars.
            record: a feature map.
            whole: whether the gradients are needed, or only their means.
        """
        if not whole and (slopes := self._slopes_of(trace)) and record in slopes:
            return
        places = {(key, "gradients", target): target for target in targets}
        waiting = [
            (place, target)
            for place, target in places.items()
            if (known := self._cache.get(place)) is None
            or (record.index not in known.gradients and (whole or record.index not in known.means))
        ]
        size = _batch_size(record.output, self._cache.budget)
        if size < _FEWEST or not trace.can_batch:
            return
        for first in range(0, len(waiting), size):
            chunk = waiting[first : first + size]
            with trace.backward():
                found = _batched_grad([scalar(target, trace) for _, target in chunk], record.output)
            if found is None:
                trace.can_batch = False
                return
            reached = found.flatten(1).any(1).tolist()
            for (place, _), gradient in compress(zip(chunk, found, strict=True), reached):
                known = self._cache.get(place) or _Known()
                known.add_mean(record, record.mean(gradient))
                if whole:
                    # A copy, because one target's gradient must not keep those of the others alive.
                    known.add(record, gradient.clone())
                self._keep(place, known)
            self.passes += len(chunk)

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

    def _start(self, trace: Trace, missing: Sequence[Record], known: Mapping[int, Tensor | None]) -> Record | None:
        """The one known record that cuts all the missing ones off from the output, or None."""
        starts = {
            trace.resume_point(record, lambda other: known.get(other.index) is not None) for record in missing
        }
        return starts.pop() if len(starts) == 1 else None


def _between(
    trace: Trace, start: Record | None, missing: Sequence[Record], known: Mapping[int, Tensor | None]
) -> list[Record]:
    """The feature maps from a known gradient, or the output, to the deepest of those that are missing."""
    lowest = min(record.index for record in missing)
    return [
        record
        for record in trace.records[lowest : None if start is None else start.index]
        if record.index not in known and (start is None or trace.is_cut_off(record, start))
    ]


def _root(trace: Trace, target: Target, start: Record | None, known: _Known) -> tuple[Tensor, Tensor | None]:
    """Where a pass begins, and with which gradient."""
    return (scalar(target, trace), None) if start is None else (start.output, known.gradients[start.index])


_LITTLE = 2**20
"""Bytes of gradients, as of a last stage, that are kept sooner than a plan is made how to do without."""
_FEWEST = 4
"""Targets for which a batch is worth its while."""
_MOST = 32
_CACHED = 2**24
"""Bytes of gradients that a processor keeps at hand: of larger batches none was faster than a loop on two cores
(maps of 112 x 112 cells), of smaller ones each (1.3 times at 14 x 14, 1.7 to 3 times at 7 x 7)."""


def _batch_size(output: Tensor, budget: int) -> int:
    most = budget // 8 if output.is_cuda else min(_CACHED, budget // 8)
    return min(_MOST, most // max(1, output.nbytes))


def _batched_grad(values: Sequence[Tensor], tensor: Tensor) -> Tensor | None:
    """The gradients of several scalars at a tensor, stacked; None where torch cannot batch them."""
    try:
        with warnings.catch_warnings():
            # Of an operation without a rule for batches torch says that it goes one by one, slowly.
            warnings.simplefilter("error")
            (found,) = torch.autograd.grad(
                torch.stack(list(values)),
                tensor,
                torch.eye(len(values), dtype=values[0].dtype, device=values[0].device),
                retain_graph=True,
                is_grads_batched=True,
            )
        return found
    except torch.cuda.OutOfMemoryError:
        raise
    except (RuntimeError, NotImplementedError, UserWarning):
        return None


def _grad(root: Tensor, seed: Tensor | None, inputs: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
    try:
        return torch.autograd.grad(root, inputs, seed, retain_graph=True, allow_unused=True)
    except RuntimeError as error:
        if "use_reentrant" in str(error):
            raise ValueError(
                "model: it uses activation checkpointing with use_reentrant=True, which keeps no gradients "
                "inside; set use_reentrant=False, or switch checkpointing off while you explain"
            ) from error
        raise


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
