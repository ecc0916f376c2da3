"""One forward pass: every feature map kept, the graph kept, the model left as it was found."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import batchnorm, conv, padding, pooling

from gradcam_widget.graph import Dominators, Field, reach, receptive_field
from gradcam_widget.harmless import ModelState, autocast_off, autocasts, gradients_on, rewrites_itself, undisturbed
from gradcam_widget.layers import CustomLayout, Kind, Layer, Layout, find_layout, kind_of
from gradcam_widget.targets import select_output

__all__ = ["Record", "Trace", "Tracer", "first_tensor", "with_first_tensor"]

_PADDINGS = tuple(getattr(padding, name) for name in padding.__all__)  # their cells lie outside of the picture
_CHANNELS_FIRST = (conv._ConvNd, batchnorm._BatchNorm, *(getattr(pooling, name) for name in pooling.__all__))
_Key = tuple[str, int]
"""One call of a module: path and number of the call."""
_IDENTITIES = ("Identity", "Dropout", "StochasticDepth", "DropPath", "DropBlock", "FeatureAlphaDropout")


class Record:
    """One module call of a trace: the layer's own output, with its graph.

    Attributes:
        alone: whether the module returned this tensor itself, not a tuple that begins with it.
        hooked: whether the model's own code has put a hook on the graph there.
    """

    __slots__ = ("_maps", "alone", "call", "hooked", "index", "kind", "layout", "module", "name", "output", "path")

    def __init__(
        self,
        key: _Key,
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
        self.alone = self.hooked = False
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

    def mean(self, tensor: Tensor) -> Tensor:
        """(K,) the mean over the cells of a tensor of the output's shape, in float32 at least."""
        return self.layout.mean(tensor)


class Trace:
    """What one forward pass left behind: inputs, output and records, sharing one graph.

    Attributes:
        scores: the output for the one picture, without its graph.
        can_batch: False once batched backward passes through it have failed.
        slopes: what `gradcam_widget.slopes` has read off the graph, once it was asked.
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
        self.can_batch = True
        self.slopes: Any = None
        self._sink: _Sink | None = None
        self._cut_by: dict[int, tuple[int, ...]] = {}
        self._fields: dict[Any, Any] = {}
        self._described: dict[int, Layer] = {}

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
            field = self._receptive_field(record)
            size = field and tuple(int(min(pair)) for pair in zip(field.size, self.picture, strict=True))
            known = Layer(record.name, record.kind, record.shape, size, record.call, field=field)
            self._described[record.index] = known
        return replace(known, why=why) if why else known

    def resume_point(self, record: Record, known: Callable[[Record], bool]) -> Record | None:
        """The nearest known record that every path from the output to ``record`` runs through, or None.

        The gradient at that record is all that is needed to go on to ``record``: the chain rule through a
        single cut of the graph.
        """
        return next((self.records[index] for index in self._cuts(record) if known(self.records[index])), None)

    def is_cut_off(self, record: Record, by: Record) -> bool:
        """Whether every path from the output to ``record`` runs through ``by``."""
        return by.index in self._cuts(record)

    def lowest(self, records: Sequence[Record]) -> set[int]:
        """Indices of those of the records below which, towards the input, there is none of the others."""
        wanted = sum(1 << record.index for record in records)
        return {record.index for record in records if not self._below[record.index] & wanted}

    def cut(self, records: Sequence[Record]) -> Record | None:
        """The deepest of some records that cuts the first of all off; None if that is among them."""
        if records[0].index == 0:
            return None
        among = {record.index: record for record in records}
        return next((among[index] for index in self._cuts(self.records[0]) if index in among), None)

    def is_on_every_path(self, record: Record) -> bool:
        """Whether every path from the output to the first feature map runs through a record."""
        return record.index in self._cuts(self.records[0])

    @contextmanager
    def means_taken(self) -> Iterator[dict[int, Tensor]]:
        """The mean gradients (K,), by index, of the records that a backward pass inside runs through."""
        if self._sink is None:
            # Once for all passes: each hook costs as much to set as to run.
            self._sink = _Sink()
            same: dict[tuple[int, str], list[Record]] = {}
            for record in self.records:  # the output of a block is often that of its last layer
                same.setdefault((id(record.output), record.layout.order), []).append(record)
            for records in same.values():
                _hook(records[0].output, self._sink.take(records))
        means: dict[int, Tensor] = {}
        self._sink.means = means
        try:
            yield means
        finally:
            self._sink.means = None

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
        """Bytes of the kept activations, each storage counted once."""
        sizes = {
            tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
            for tensor in (*self.inputs, self.output, *(record.output for record in self.records))
        }
        return sum(sizes.values())

    def _receptive_field(self, record: Record) -> Field | None:
        with self.backward():  # what a checkpoint saved is computed when it is looked at
            return receptive_field(record.output, self.inputs[0], self._fields)


class _Sink:
    """Where hooks on the graph leave mean gradients, as long as there is somebody who wants them."""

    def __init__(self) -> None:
        self.means: dict[int, Tensor] | None = None

    def take(self, records: Sequence[Record]) -> Callable[[Tensor], None]:
        """A hook on the one output of some records."""
        # Neither the trace nor a record, which would keep each other alive through the graph.
        indices, mean = [record.index for record in records], records[0].layout.mean

        def hook(gradient: Tensor) -> None:
            if self.means is not None:
                found = mean(gradient)
                for index in indices:
                    self.means[index] = found

        return hook


def _hook(tensor: Tensor, function: Callable[[Tensor], None]) -> None:
    tensor.register_hook(function)  # type: ignore[no-untyped-call] # torch has no types for it


_OVERWRITTEN: weakref.WeakKeyDictionary[nn.Module, set[_Key]] = weakref.WeakKeyDictionary()


@contextmanager
def _backward_modes(device: str) -> Iterator[None]:
    with gradients_on(), autocast_off(device):
        yield


class Tracer:
    """Runs forward passes of one model and learns from the first one which layers are overwritten in place.

    The hook keeps a layer's own output. Where a later operation works in place (a ReLU with ``inplace=True``,
    ``+=``), the layer's output is kept and a clone is passed on, so that the activations and the gradient both
    belong to the layer as named. The first pass clones everywhere and notes which clones were written to; later
    passes clone only those, and start over if another layer turns out to be overwritten. What was learnt of a
    model is kept as long as the model, for all tracers.

    Attributes:
        runs: forward passes so far.
        size: of the last (first) input.
    """

    def __init__(
        self,
        model: nn.Module,
        output: Callable[[Any], Tensor] | str | int | None = None,
        layout: Callable[[Tensor], Tensor | None] | None = None,
    ) -> None:
        self.model = model
        self.runs = 0
        self.size: tuple[int, ...] = ()
        self._selector = output
        self._layout = layout
        self._state: ModelState | None = None

    def __call__(self, inputs: tuple[Tensor, ...]) -> Trace:
        """A trace of the model on its inputs, each (1, ...), on the model's device and of its dtype."""
        state = self._state
        if state is None or not state.holds():
            state = ModelState(self.model)
        run = self._run(state, inputs, _OVERWRITTEN.get(self.model))
        if run.violated:
            run = self._run(state, inputs, None)
        if not run.copied and rewrites_itself(self.model):
            run = self._run(state, inputs, None)
        _OVERWRITTEN[self.model] = run.overwritten
        if not state.holds():
            # The pass itself wrote to a buffer, which has been put back; the versions have moved on.
            state = ModelState(self.model)
        self._state = state
        return Trace(self.model, run.leaves, run.output, run.records, state)

    def _run(self, state: ModelState, inputs: tuple[Tensor, ...], clone: set[_Key] | None) -> _Run:
        self.runs += 1
        self.size = tuple(inputs[0].shape)
        return _Run(self.model, state, inputs, clone, self._selector, self._layout)


class _Run:
    """One forward pass with its hooks.

    Attributes:
        copied: whether the model ran on copies of its tensors, because it writes to them.
        leaves: the inputs as leaves of the graph.
        output: the scores.
        records: the feature maps.
        overwritten: keys of the calls whose output a later operation wrote to.
        violated: whether such a call had passed its own output on, so that its record would be wrong.
    """

    def __init__(
        self,
        model: nn.Module,
        state: ModelState,
        inputs: tuple[Tensor, ...],
        clone: set[_Key] | None,
        selector: Callable[[Any], Tensor] | str | int | None,
        layout: Callable[[Tensor], Tensor | None] | None,
    ) -> None:
        self._state = state
        self._layout = layout
        self.copied = rewrites_itself(model)
        self.violated = False
        self.overwritten: set[_Key] = set()
        self.leaves = tuple(_leaf(tensor) for tensor in inputs)
        self._clone = clone
        self._kept: list[_Kept] = []
        self._attentions: list[_Kept] = []
        self.output = self._forward(model, selector)
        self._check(self.output)
        self.records = self._records()

    def _forward(self, model: nn.Module, selector: Callable[[Any], Tensor] | str | int | None) -> Tensor:
        handles = []
        with undisturbed(model, self._state.modules):
            try:
                for name, module in self._state.named:
                    if name and not _is_no_layer(module.__class__):
                        handles.append(module.register_forward_hook(self._hook(name, kind_of(module, name))))
                # Clones, because a model may work in place on its input and a leaf forbids that.
                return select_output(self._call(model, tuple(leaf.clone() for leaf in self.leaves)), selector)
            finally:
                for handle in handles:
                    handle.remove()

    def _call(self, model: nn.Module, inputs: tuple[Tensor, ...]) -> Any:
        """The model's output; of a model made under inference_mode with copies of its tensors, since autograd
        refuses the originals, and of one that rewrites them, since its graph needs what it has written.
        """
        if not self._state.of_inference and not self.copied:
            return model(*inputs)
        named = [*model.named_parameters(), *model.named_buffers()]
        return torch.func.functional_call(model, {name: tensor.clone() for name, tensor in named}, inputs)

    def _hook(self, name: str, kind: Kind) -> Callable[[nn.Module, Any, Any], Any]:
        calls = 0

        def hook(module: nn.Module, args: Any, output: Any) -> Any:
            nonlocal calls
            calls += 1
            own = first_tensor(output)
            if own is None or own.ndim < 3 or not own.requires_grad or not own.is_floating_point():
                return None
            if args and own is args[0] and _is_identity(module):
                return None
            kept = _Kept((name, calls), module, kind, own, alone=own is output)
            self._kept.append(kept)
            if (self._clone is not None and kept.key not in self._clone) or _is_view_of(own, args):
                return None
            replaced = with_first_tensor(output, own.clone())
            if replaced is None:
                return None
            kept.passed = first_tensor(replaced)
            return replaced

        return hook

    def _check(self, output: Tensor) -> None:
        if not output.requires_grad:
            raise ValueError(
                "model: its output is not connected to its input by a gradient. It may run under no_grad, "
                "detach, quantise or round inside; Grad-CAM needs a differentiable model"
            )
        if output.ndim == 0 or output.shape[0] != 1:
            raise ValueError(
                "model: expected an output with a batch dimension of 1 for one picture; "
                f"got {tuple(output.shape)}. Choose the scores with GradCAM(model, output=...)"
            )

    def _records(self) -> list[Record]:
        picture = tuple(self.leaves[0].shape[2:])
        grids: dict[tuple[int, ...], None] = {}  # the newest last
        records: list[Record] = []
        self._attentions = [kept for kept in self._kept if kept.kind == "attention"]
        for kept in self._kept:
            if kept.passed is not None and kept.passed._version > 0:
                self.overwritten.add(kept.key)
            if kept.own._version != kept.version:
                # Written to behind the layer's back. If a clone can help, the next run passes one on; if not
                # (another name of the same memory was written to), there is no map of the layer as named.
                self.violated |= self._clone is not None
                self.overwritten.add(kept.key)
                continue
            layout = self._layout_of(kept, picture, grids)
            if layout is None:
                continue
            if layout.order.startswith("channels"):
                grids.pop(layout.grid, None)
                grids[layout.grid] = None
            record = Record(kept.key, kept.module, kept.kind, kept.own, layout, len(records))
            record.hooked = any(t is not None and bool(t._backward_hooks) for t in (kept.own, kept.passed))
            record.alone = kept.alone
            records.append(record)
        return records

    def _layout_of(
        self, kept: _Kept, picture: tuple[int, ...], grids: Collection[tuple[int, ...]]
    ) -> Layout | CustomLayout | None:
        """The user's layout where there is one for this output, else the one that its shape tells."""
        custom = None if self._layout is None else CustomLayout.of(self._layout, kept.own, len(picture))
        if custom is not None:
            return custom
        if _is_channels_first(kept.type) and kept.own.ndim == len(picture) + 2:
            # Whatever its aspect: strides may differ along the axes.
            return Layout("channels first", tuple(kept.own.shape[2:])) if kept.own.shape[0] == 1 else None
        last = isinstance(kept.module, nn.LayerNorm | nn.Linear)
        found = find_layout(tuple(kept.own.shape), picture, grids, last=last)
        return None if found is None or self._is_of_heads(kept) else found

    def _is_of_heads(self, kept: _Kept) -> bool:
        """Whether an output inside attention is no picture: heads by tokens, or queries, keys and values."""
        if isinstance(kept.module, nn.Conv2d):
            return False
        for other in self._attentions:
            if not kept.key[0].startswith(other.key[0] + "."):
                continue
            if isinstance(kept.module, nn.Linear):
                return True
            if kept.own.ndim != 4:
                continue
            shape = other.own.shape
            tokens = {shape[1]} if other.own.ndim == 3 else {shape[1] * shape[2], shape[2] * shape[3]}
            if not tokens.isdisjoint(kept.own.shape[2:]):
                return True
        return False


@functools.lru_cache(1024)  # asked for every module of every trace
def _is_no_layer(kind: type) -> bool:
    return issubclass(kind, (*_PADDINGS, nn.Flatten))  # a flattened map is the earlier layer's


@functools.lru_cache(1024)
def _is_channels_first(kind: type) -> bool:
    return issubclass(kind, _CHANNELS_FIRST)


class _Kept:
    """A layer's own output as its hook found it, and what was passed on in its place."""

    __slots__ = ("alone", "key", "kind", "module", "own", "passed", "type", "version")

    def __init__(self, key: _Key, module: nn.Module, kind: Kind, own: Tensor, *, alone: bool) -> None:
        self.key, self.module, self.kind, self.own, self.alone = key, module, kind, own, alone
        self.type: type = type(module)
        self.version = own._version
        self.passed: Tensor | None = None


def _is_view_of(own: Tensor, args: Any) -> bool:
    """Whether an output is another view of an input's memory; a clone would cut what the model links."""
    storage = own.untyped_storage().data_ptr()
    return any(
        isinstance(arg, Tensor) and arg is not own and arg.untyped_storage().data_ptr() == storage for arg in args
    )


def _is_identity(module: nn.Module) -> bool:
    """Whether a module hands its input on in eval mode; its output then is the earlier layer's."""
    return type(module).__name__.startswith(_IDENTITIES)


def _leaf(tensor: Tensor) -> Tensor:
    copy = tensor.detach().clone()
    return copy.requires_grad_() if copy.is_floating_point() else copy


def first_tensor(output: Any) -> Tensor | None:
    """A module's output if it is a tensor, the first of a tuple or list, or None."""
    if isinstance(output, Tensor):
        return output
    if isinstance(output, (tuple, list)) and output and isinstance(output[0], Tensor):
        return output[0]
    return None


def with_first_tensor(output: Any, tensor: Tensor) -> Any:
    """The same kind of output with its `first_tensor` replaced; None for a kind that cannot be made anew."""
    if isinstance(output, Tensor):
        return tensor
    rest = [tensor, *output[1:]]
    try:
        return type(output)(*rest) if hasattr(output, "_fields") else type(output)(rest)
    except TypeError:
        return None
