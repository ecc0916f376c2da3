"""Forward passes: hooks keep every feature map with its graph, and the model is left as it was found."""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import batchnorm, conv, padding, pooling

from gradcam_widget.harmless import ModelState, has_old_hooks, never_compiled, rewrites_itself, undisturbed
from gradcam_widget.layers import CustomLayout, Kind, Layout, find_layout, kind_of
from gradcam_widget.targets import select_output
from gradcam_widget.trace import Call, Record, Trace

__all__ = ["Tracer", "first_tensor", "with_first_tensor"]

_PADDINGS = tuple(getattr(padding, name) for name in padding.__all__)  # their cells lie outside of the picture
_CHANNELS_FIRST = (conv._ConvNd, batchnorm._BatchNorm, *(getattr(pooling, name) for name in pooling.__all__))
_IDENTITIES = ("Identity", "Dropout", "StochasticDepth", "DropPath", "DropBlock", "FeatureAlphaDropout")

Around = Callable[[Callable[[], Tensor]], Tensor]
"""What is given the work of a pass, and returns what it returns."""

_OVERWRITTEN: weakref.WeakKeyDictionary[nn.Module, set[Call]] = weakref.WeakKeyDictionary()


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

    def recorded(self, inputs: tuple[Tensor, ...], around: Around) -> Trace | None:
        """As a call, where all that the model did in its last one was to compute; None where it did more, such as
        writing to its buffers, which doing the same operations again would not put back.

        Args:
            inputs: as in a call.
            around: is given what computes the output, and returns what that returns.
        """
        state = self._state
        if state is None or not state.holds() or state.has_hooks or rewrites_itself(self.model):
            return None
        run = self._run(state, inputs, _OVERWRITTEN.get(self.model), around)
        if run.violated or run.copied or not state.holds():
            return None
        return Trace(self.model, run.leaves, run.output, run.records, state)

    def _run(
        self,
        state: ModelState,
        inputs: tuple[Tensor, ...],
        clone: set[Call] | None,
        around: Around | None = None,
    ) -> _Run:
        self.runs += 1
        self.size = tuple(inputs[0].shape)
        return _Run(self.model, state, inputs, clone, self._selector, self._layout, around)


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
        clone: set[Call] | None,
        selector: Callable[[Any], Tensor] | str | int | None,
        layout: Callable[[Tensor], Tensor | None] | None,
        around: Around | None,
    ) -> None:
        self._state = state
        self._layout = layout
        self._around = around
        self.copied = rewrites_itself(model)
        self.violated = False
        self.overwritten: set[Call] = set()
        self.leaves = tuple(_leaf(tensor) for tensor in inputs)
        self._clone = clone
        self._kept: list[_Kept] = []
        self._passed: dict[int, _Kept] = {}  # by the address of what was passed on
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
                        hook = never_compiled(self._hook(name, kind_of(module, name)))
                        handles.append(module.register_forward_hook(hook))
                if self._around is None:
                    return self._compute(model, selector)
                return self._around(lambda: self._compute(model, selector))
            finally:
                for handle in handles:
                    handle.remove()

    def _compute(self, model: nn.Module, selector: Callable[[Any], Tensor] | str | int | None) -> Tensor:
        # Clones, because a model may work in place on its input and a leaf forbids that.
        return select_output(self._call(model, tuple(leaf.clone() for leaf in self.leaves)), selector)

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
        thread = threading.get_ident()

        def hook(module: nn.Module, args: Any, output: Any) -> Any:
            nonlocal calls
            if threading.get_ident() != thread:
                return None  # another one of the user's runs the model meanwhile
            calls += 1
            own = first_tensor(output)
            if own is None or own.ndim < 3 or not own.requires_grad or not own.is_floating_point():
                return None
            if args and own is args[0] and _is_identity(module):
                return None
            kept = _Kept((name, calls), module, kind, own, alone=own is output)
            self._kept.append(kept)
            inner = self._passed.get(id(own))
            if inner is not None and own._version == 0 and own is not first_tensor(args):
                # A block that returns what its last layer returned: one tensor of the model's, so one place.
                kept.own, kept.version, kept.passed = inner.own, inner.version, own
                return None
            kept.clones = not (_is_view_of(own, args) or has_old_hooks(module))
            if (self._clone is not None and kept.key not in self._clone) or not kept.clones:
                return None
            replaced = with_first_tensor(output, own.clone())
            if replaced is None:
                return None
            kept.passed = first_tensor(replaced)
            self._passed[id(kept.passed)] = kept
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
                self.violated |= self._clone is not None and kept.clones
                self.overwritten.add(kept.key)
                continue
            layout = self._layout_of(kept, picture, grids)
            if layout is None:
                continue
            if layout.order.startswith("channels"):
                grids.pop(layout.grid, None)
                grids[layout.grid] = None
            record = Record(kept.key, kept.module, kept.kind, kept.own, layout, len(records))
            record.bent = bool(kept.own._backward_hooks)
            record.hooked = record.bent or (kept.passed is not None and bool(kept.passed._backward_hooks))
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

    __slots__ = ("alone", "clones", "key", "kind", "module", "own", "passed", "type", "version")

    def __init__(self, key: Call, module: nn.Module, kind: Kind, own: Tensor, *, alone: bool) -> None:
        self.key, self.module, self.kind, self.own, self.alone = key, module, kind, own, alone
        self.type: type = type(module)
        self.version = own._version
        self.passed: Tensor | None = None
        self.clones = True  # whether a clone may be passed on


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
