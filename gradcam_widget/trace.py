"""What one forward pass left behind: every feature map of a picture, sharing one graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from copy import copy
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gradcam_widget.graph import Dominators, Field, frontier, reach, receptive_field
from gradcam_widget.harmless import ModelState, autocast_off, autocasts, gradients_on, undisturbed
from gradcam_widget.layers import CustomLayout, Kind, Layer, Layout
from gradcam_widget.targets import probabilities

__all__ = ["Again", "Call", "Record", "Trace"]

Call = tuple[str, int]
"""One call of a module: path and number of the call, from 1."""


class Again(NamedTuple):
    """A recorded forward pass.

    Attributes:
        run: does it again for what the inputs of its trace then hold, into the same memory.
        kind: of the pictures that it is good for.
        bytes: that it holds.
    """

    run: Callable[[], None]
    kind: Hashable
    bytes: int


class Record:
    """One module call of a trace: the layer's own output, with its graph.

    Attributes:
        alone: whether the module returned this tensor itself, not a tuple that begins with it.
        hooked: whether the model's own code has put a hook on the graph there.
        bent: whether such a hook is on ``output`` itself, so that a pass which begins there calls it, and one that
            goes on below reports the gradient as it was before the hook.
    """

    __slots__ = (
        "_maps",
        "alone",
        "bent",
        "call",
        "hooked",
        "index",
        "kind",
        "layout",
        "module",
        "name",
        "output",
        "path",
    )

    def __init__(
        self,
        key: Call,
        module: nn.Module,
        kind: Kind,
        output: Tensor,
        layout: Layout | CustomLayout,
        index: int,
    ) -> None:
        self.path, self.call = key
        self.name = self.path if self.call == 1 else f"{self.path}:{self.call}"
        self.module = module
        self.kind = kind
        self.output = output
        self.layout = layout
        self.index = index
        self.alone = self.hooked = self.bent = False
        self._maps: Tensor | None = None

    def maps(self, tensor: Tensor | None = None) -> Tensor:
        """The maps (K, *grid) in the layer's output, or in a tensor of its shape such as its gradient."""
        if tensor is not None:
            return self.layout.maps(tensor)
        if self._maps is not None:
            return self._maps
        maps = self.layout.maps(self.output.detach())
        if isinstance(self.layout, Layout):  # a user's may be a copy, which is not worth its memory
            self._maps = maps
        return maps

    @property
    def shape(self) -> tuple[int, ...]:
        """(K, *grid)."""
        return tuple(self.maps().shape)

    @property
    def cells(self) -> int:
        """How many cells each map has."""
        return math.prod(self.layout.grid)

    def mean(self, tensor: Tensor) -> Tensor:
        """(K,) the mean over the cells of a tensor of the output's shape, in float32 at least."""
        return self.mean_of(self.layout.total(tensor))

    def mean_of(self, total: Tensor) -> Tensor:
        """(K,) the mean over the cells, from the sum."""
        return total / self.cells


class Trace:
    """What one forward pass left behind: inputs, output and records, sharing one graph.

    Attributes:
        scores: the output for the one picture, without its graph.
        again: its forward pass, where that has been recorded; `renewed` is the trace of the next picture.
        hooked: whether the model has hooks of its own on gradients: such as its modules have, and those on the
            outputs of its layers, as far as they can be seen.
        can_batch: False once batched backward passes through it have failed, and where hooks would see a batch.
        resumable: bits of the records from whose gradient a pass can go on. A hook on the output would be called
            again; one on a module calls for its output's gradient, which a pass from within does not bring.
        slopes: what `gradcam_widget.slopes` has read off the graph, once it was asked.
        routes: what `gradcam_widget.route` has planned.
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: tuple[Tensor, ...],
        output: Tensor,
        records: list[Record],
        state: ModelState,
    ) -> None:
        self.model = model
        self.inputs = inputs
        self.output = output
        self.scores = output.detach()[0]
        self.records = records
        self.state = state
        self.by_name = {record.name: record for record in records}
        self.again: Again | None = None
        self.hooked = state.has_backward_hooks or any(record.hooked for record in records)
        self.can_batch = not self.hooked
        self.resumable = 0
        if not state.has_backward_hooks:
            self.resumable = sum(1 << record.index for record in records if not record.bent)
        self.slopes: Any = None
        self.routes: dict[Any, Any] = {}
        self._sink: _Sink | None = None
        self._cut_by: dict[int, tuple[int, ...]] = {}
        self._described: dict[int, Layer] = {}

    def renewed(self) -> Trace:
        """The trace of the values that its forward pass has written when done `again`: what the graph tells stays,
        what has been read off the values is forgotten.
        """
        other = copy(self)
        for name in ("scores_on_cpu", "probabilities"):
            other.__dict__.pop(name, None)
        other.slopes = None
        return other

    def lasting(self, tensor: Tensor) -> Tensor:
        """A tensor of this trace, such as a layer's maps, that stays as it is when the memory is written again."""
        return tensor if self.again is None else tensor.clone()

    @cached_property
    def scores_on_cpu(self) -> Tensor:
        """The same on the CPU: copied once for all classes."""
        return self.scores.cpu()

    @cached_property
    def probabilities(self) -> Tensor:
        """Of the classes, where the output for the picture is (num_classes,), on the CPU."""
        return probabilities(self.scores_on_cpu)

    @property
    def picture(self) -> tuple[int, ...]:
        """The spatial size of the (first) input."""
        return tuple(self.inputs[0].shape[2:])

    @property
    def layers(self) -> tuple[Layer, ...]:
        """All feature maps in the order in which they were made."""
        return tuple(self.layer(record) for record in self.records)

    def layer(self, record: Record, why: str = "") -> Layer:
        """The public description of a record."""
        known = self._described.get(record.index)
        if known is None:
            field = self._receptive_fields[record.index]
            size = field and tuple(int(min(pair)) for pair in zip(field.size, self.picture, strict=True))
            known = Layer(record.name, record.kind, record.shape, size, record.call, field=field)
            self._described[record.index] = known
        return replace(known, why=why) if why else known

    def resume_point(self, records: Sequence[Record], known: int) -> Record | None:
        """The nearest of some known records, given as bits, that every path from the output to any of ``records``
        runs through, or None.

        The gradient at that record is all that is needed to go on to them: the chain rule through a single cut of
        the graph.
        """
        for record in records:
            known &= sum(1 << index for index in self._cuts(record))
        return next((self.records[index] for index in self._cuts(records[0]) if known >> index & 1), None)

    def resume_points(self, records: Sequence[Record], known: int) -> tuple[Record, ...]:
        """The nearest of some known records, given as bits, where it takes several to cut ``records`` off: every
        path from the output runs through exactly one of them, as through the two branches of a block that makes
        the maps smaller. Nothing where there are none such.

        The gradients at all of them are all that is needed to go on.
        """
        stops = {
            record.output.grad_fn: record
            for record in self.records
            if known >> record.index & 1 and self._dominators.has_one_output(record.index)
        }
        found = frontier([record.output.grad_fn for record in records], stops, self.users)
        if found is None or len(found[0]) < 2:
            return ()
        chosen = sorted((stops[node] for node in found[0]), key=lambda record: record.index)
        bits = sum(1 << record.index for record in chosen)
        return () if any(self._below[record.index] & bits for record in chosen) else tuple(chosen)

    def cut_off_together(self, records: Sequence[Record], by: Sequence[Record]) -> Iterator[Record]:
        """Those of some records to which every path from the output runs through one of others."""
        stops = {record.output.grad_fn for record in by}
        for record in records:
            found = frontier([record.output.grad_fn], stops, self.users)
            if found is not None:
                stops |= found[1]  # whose paths need not be gone again
                yield record

    def is_cut_off(self, record: Record, by: Record) -> bool:
        """Whether every path from the output to ``record`` runs through ``by``."""
        return by.index in self._cuts(record)

    def lowest(self, records: Sequence[Record]) -> set[int]:
        """Indices of those of the records below which, towards the input, there is none of the others."""
        wanted = sum(1 << record.index for record in records)
        return {record.index for record in records if not self._below[record.index] & wanted}

    def cut(self, records: Sequence[Record]) -> Record | None:
        """The deepest of some records that cuts the first of all off and from which a pass can go on; None if that
        is among them.
        """
        if records[0].index == 0:
            return None
        among = {record.index: record for record in records if self.resumable >> record.index & 1}
        return next((among[index] for index in self._cuts(self.records[0]) if index in among), None)

    def is_on_every_path(self, record: Record) -> bool:
        """Whether every path from the output to the first feature map runs through a record."""
        return record.index in self._cuts(self.records[0])

    @contextmanager
    def sums_taken(self, wanted: int) -> Iterator[dict[int, Tensor]]:
        """The gradients' sums over the cells (K,), by index, of those records that a backward pass inside runs
        through and whose bits are set.
        """
        if not wanted:
            yield {}
            return
        if self._sink is None:
            # Once for all passes: each hook costs as much to set as to run.
            self._sink = _Sink()
            same: dict[tuple[int, str], list[Record]] = {}
            for record in self.records:  # the output of a block is often that of its last layer
                same.setdefault((id(record.output), record.layout.order), []).append(record)
            for records in same.values():
                _hook(records[0].output, self._sink.take(records))
        self._sink.wanted, self._sink.sums = wanted, {}
        try:
            yield self._sink.sums
        finally:
            self._sink.wanted, self._sink.sums = 0, {}

    @contextmanager
    def hooks_heeded(self, records: Sequence[Record]) -> Iterator[dict[int, Tensor]]:
        """The gradients that a backward pass inside has at those of some records on whose outputs the model's own
        code has put hooks, by index, as the hooks leave them.

        Torch reports the gradient of a tensor with hooks as it is after these, unless another tensor is asked for
        that lies below; then as it was before. What is meant is the former, whatever else is asked for.
        """
        found: dict[int, Tensor] = {}
        handles = [_hook(record.output, _keeping(found, record.index)) for record in records if record.bent]
        try:
            yield found
        finally:
            for handle in handles:
                handle.remove()

    @property
    def users(self) -> Mapping[Any, Sequence[Any]]:
        """Of each node of the graph, the nodes that read it, once for each time."""
        return self._dominators.users

    def leads_on(self, record: Record) -> bool:
        """Whether there are feature maps below a record, towards the input."""
        return self._below[record.index] != 0

    @cached_property
    def _below(self) -> list[int]:
        """For each record the records below it, as bits."""
        return reach([record.output.grad_fn for record in self.records])

    @cached_property
    def _dominators(self) -> Dominators:
        return Dominators(self.output.grad_fn, [record.output.grad_fn for record in self.records])

    def _cuts(self, record: Record) -> tuple[int, ...]:
        """Indices of the records that cut this one off from the output, the nearest first."""
        known = self._cut_by.get(record.index)
        if known is None:
            known = self._cut_by[record.index] = tuple(self._dominators.of(record.index))
        return known

    def backward(self) -> AbstractContextManager[None]:
        """Around a backward pass: as `undisturbed`, since activation checkpointing runs the model's code again;
        free of cost where every module is in eval mode.
        """
        if self.state.any_training():
            return undisturbed(self.model, self.state.modules)
        device = self.output.device.type
        if torch.is_inference_mode_enabled() or autocasts(device):
            return _backward_modes(device)
        return gradients_on()

    def bytes(self) -> int:
        """Bytes of the kept activations, each storage counted once, or of the recording that they belong to."""
        sizes = {
            tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
            for tensor in (*self.inputs, self.output, *(record.output for record in self.records))
        }
        return max(sum(sizes.values()), 0 if self.again is None else self.again.bytes)

    @cached_property
    def _receptive_fields(self) -> list[Field | None]:
        """Of all records, which is hardly more work than of the last one."""
        seen: dict[Any, Field | None] = {}
        with self.backward():  # what a checkpoint saved is computed when it is looked at
            return [receptive_field(record.output, self.inputs[0], seen) for record in self.records]


class _Sink:
    """Where hooks on the graph leave sums of gradients, as long as there is somebody who wants them."""

    def __init__(self) -> None:
        self.wanted = 0
        self.sums: dict[int, Tensor] = {}

    def take(self, records: Sequence[Record]) -> Callable[[Tensor | None], None]:
        """A hook on the one output of some records."""
        # Neither the trace nor a record, which would keep each other alive through the graph.
        indices, first = [record.index for record in records], records[0]
        total = first.layout.summing(first.output)
        bits = sum(1 << index for index in indices)

        def hook(gradient: Tensor | None) -> None:
            # None for one of several outputs of a function of which another one is used.
            if gradient is not None and self.wanted & bits:
                found = total(gradient)
                for index in indices:
                    self.sums[index] = found

        return hook


def _keeping(found: dict[int, Tensor], index: int) -> Callable[[Tensor | None], None]:
    """A hook that keeps the gradient; None is that of an output which nothing uses."""

    def hook(gradient: Tensor | None) -> None:
        if gradient is not None:
            found[index] = gradient

    return hook


def _hook(tensor: Tensor, function: Callable[[Tensor | None], None]) -> Any:
    return tensor.register_hook(function)  # type: ignore[no-untyped-call] # torch has no types for it


@contextmanager
def _backward_modes(device: str) -> Iterator[None]:
    with gradients_on(), autocast_off(device):
        yield
