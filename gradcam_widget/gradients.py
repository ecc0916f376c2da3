"""dy/dA for the feature maps of a trace: taken lazily, resumed from what is known, kept."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gradcam_widget.cache import Cache
from gradcam_widget.targets import Target, name_target
from gradcam_widget.trace import Record, Trace

__all__ = ["Gradients", "Passes", "scalar"]


@dataclass(frozen=True)
class Passes:
    """How many passes of the model an engine has run.

    Attributes:
        forward: whole forward passes.
        backward: backward passes, whole or resumed.
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
    """The gradients of one target that are known, by record index, and their bytes, each storage counted once."""

    __slots__ = ("bytes", "gradients", "storages")

    def __init__(self) -> None:
        self.gradients: dict[int, Tensor | None] = {}
        self.storages: set[int] = set()
        self.bytes = 0

    def add(self, records: Sequence[Record], found: Sequence[Tensor | None]) -> None:
        for record, gradient in zip(records, found, strict=True):
            self.gradients[record.index] = gradient
            if gradient is not None:
                storage = gradient.untyped_storage()
                if (address := storage.data_ptr()) not in self.storages:
                    self.storages.add(address)
                    self.bytes += storage.nbytes()


class Gradients:
    """Gradients of targets at the feature maps of traces, within a quarter of a cache's budget.

    For a target the first request goes back only as far as the deepest layer asked for and keeps the gradient
    of every feature map on its way. A request further down goes on from the nearest known gradient that cuts it
    off from the output; one further up is a look-up.
    """

    def __init__(self, cache: Cache) -> None:
        self.passes = 0
        self._cache = cache
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
        kept: _Known = self._cache.get(place) or _Known()
        known = kept.gradients
        missing = [record for record in records if record.index not in known]
        if not missing:
            return known
        start = self._start(trace, missing, known) if known else None
        lowest = min(record.index for record in missing)
        highest = start.index if start is not None else None
        wanted = [
            record
            for record in trace.records[lowest:highest]
            if record.index not in known and (start is None or trace.is_cut_off(record, start))
        ]
        with trace.backward():
            root, seed = (scalar(target, trace), None) if start is None else (start.output, known[start.index])
            found = _grad(root, [record.output for record in wanted], seed)
        self.passes += 1
        kept.add(wanted, found)
        self._cache.put(place, kept, kept.bytes, parent=key)
        self._trim(place, kept.bytes)
        return known

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


def _grad(root: Tensor, inputs: Sequence[Tensor], seed: Tensor | None) -> tuple[Tensor | None, ...]:
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
