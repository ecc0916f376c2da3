"""One forward pass: every feature map kept, the graph kept, the model left as it was found."""

from __future__ import annotations

import operator
import random
import sys
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import batchnorm, conv, padding, pooling

from gradcam_widget.graph import Dominators, receptive_field
from gradcam_widget.layers import CustomLayout, Kind, Layer, Layout, find_layout, kind_of
from gradcam_widget.targets import select_output

__all__ = [
    "ModelState",
    "Record",
    "Trace",
    "Tracer",
    "autocast_off",
    "first_tensor",
    "gradients_on",
    "undisturbed",
    "with_first_tensor",
]

_PADDINGS = tuple(getattr(padding, name) for name in padding.__all__)  # their cells lie outside of the picture
_CHANNELS_FIRST = (conv._ConvNd, batchnorm._BatchNorm, *(getattr(pooling, name) for name in pooling.__all__))
_IDENTITIES = ("Identity", "Dropout", "StochasticDepth", "DropPath", "DropBlock", "FeatureAlphaDropout")


class ModelState:
    """Tells whether a model is still the one that was traced: the same modules, hooks and tensors, unwritten.

    Seen are optimisers, ``load_state_dict``, ``to``, and any parameter, buffer, module or hook added, removed or
    assigned. What writes into ``parameter.data`` is not seen, because torch does not record it; call
    `gradcam_widget.GradCAM.close` after that.
    """

    def __init__(self, model: nn.Module) -> None:
        self.modules = list(model.modules())
        self._places: list[dict[str, Any]] = [
            place for module in self.modules for place in (module._modules, module._parameters, module._buffers)
        ]
        self._lengths = list(map(len, self._places))
        self._values = list(chain.from_iterable(map(dict.values, self._places)))
        self._hooks = [
            place for module in self.modules for place in (module._forward_hooks, module._forward_pre_hooks)
        ]
        self._hook_counts = list(map(len, self._hooks))
        self._hooked = [place for place in self._hooks if place]
        self._hook_names = list(map(tuple, self._hooked))
        self._tensors = [value for value in self._values if isinstance(value, Tensor)]
        self._versioned = [tensor for tensor in self._tensors if not tensor.is_inference()]
        self._versions = list(map(_VERSION, self._versioned))
        self._addresses = list(map(Tensor.data_ptr, self._tensors))

    def holds(self) -> bool:
        """Whether nothing has changed since this state was taken."""
        # Runs at every look-up over hundreds of tensors, hence loops in C.
        return (
            list(map(_VERSION, self._versioned)) == self._versions
            and list(map(len, self._places)) == self._lengths
            and all(map(operator.is_, chain.from_iterable(map(dict.values, self._places)), self._values))
            and list(map(Tensor.data_ptr, self._tensors)) == self._addresses
            and list(map(len, self._hooks)) == self._hook_counts
            and list(map(tuple, self._hooked)) == self._hook_names
        )

    def any_training(self) -> bool:
        """Whether a module is in training mode."""
        return any(map(_TRAINING, self.modules))


_TRAINING = operator.attrgetter("training")
_VERSION = operator.attrgetter("_version")


def _version(tensor: Tensor) -> int:
    # Inference tensors have no version counter and cannot be changed in place outside inference mode.
    return -1 if tensor.is_inference() else tensor._version


@contextmanager
def gradients_on() -> Iterator[None]:
    """Gradients are recorded inside, also under the caller's no_grad or inference_mode."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Runs the model in eval mode with gradients on and autocast off, and puts everything back.

    Put back are training flags, buffers, and the random state of torch, its GPUs, numpy and Python; the flags
    are set on the modules themselves, because a user's ``train()`` may do more than set a flag.
    """
    modules = list(model.modules())
    flags = [(module, module.training) for module in modules]
    buffers = [_Buffers(module) for module in modules]
    restore_random = _random_state()
    try:
        for module, training in flags:
            if training:
                module.training = False
        with gradients_on(), autocast_off(_kind_of_device(model)), _eagerly():
            yield
    finally:
        for module, training in flags:
            if module.training is not training:
                module.training = training
        for kept in buffers:
            kept.restore()
        restore_random()


class _Buffers:
    """A module's buffers as they were: the same objects, order, addresses and bits."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._items = dict(module._buffers)
        self._passing = set(module._non_persistent_buffers_set)
        self._kept = [
            (buffer, _version(buffer), buffer.data, buffer.detach().clone())
            for buffer in self._items.values()
            if buffer is not None
        ]

    def restore(self) -> None:
        """Put them back, touching only what has changed."""
        place = self._module._buffers
        if list(map(id, place.values())) != list(map(id, self._items.values())) or list(place) != list(
            self._items
        ):
            place.clear()
            place.update(self._items)
            self._module._non_persistent_buffers_set.intersection_update(self._passing)
            self._module._non_persistent_buffers_set.update(self._passing)
        for buffer, version, memory, value in self._kept:
            if buffer.data_ptr() != memory.data_ptr():
                buffer.data = memory
            # Writes through .data leave the version alone.
            if _version(buffer) != version or not torch.equal(buffer, value):
                with torch.inference_mode(buffer.is_inference()), torch.no_grad():
                    buffer.copy_(value)


def _kind_of_device(model: nn.Module) -> str:
    return next((tensor.device.type for tensor in model.parameters()), "cpu")


def autocast_off(device: str) -> AbstractContextManager[Any]:
    """Autocast off inside: it would make a map depend on where it is asked for. ``device`` is a type: "cuda"."""
    if device in ("cpu", "cuda") and torch.is_autocast_enabled(device):
        return torch.autocast(device, enabled=False)
    return nullcontext()


def _eagerly() -> AbstractContextManager[Any]:
    """Compiled parts run as written: compiled code would skip our hooks, or be compiled anew with them inside."""
    set_stance = getattr(torch.compiler, "set_stance", None)  # torch >= 2.6
    if set_stance is None or "torch._dynamo" not in sys.modules:
        return nullcontext()
    stance: AbstractContextManager[Any] = set_stance("force_eager")
    return stance


def _random_state() -> Callable[[], None]:
    """The present state of every random generator that a forward pass may draw from; call it to put it back."""
    cpu = torch.get_rng_state()
    gpu = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None  # type: ignore[no-untyped-call]
    mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
    python = random.getstate()
    numpy = sys.modules.get("numpy")
    array = numpy.random.get_state() if numpy else None

    def restore() -> None:
        torch.set_rng_state(cpu)
        if gpu is not None:
            torch.cuda.set_rng_state_all(gpu)
        if mps is not None:
            torch.mps.set_rng_state(mps)
        random.setstate(python)
        if numpy and array is not None:
            numpy.random.set_state(array)

    return restore


class Record:
    """One module call of a trace: the layer's own output, with its graph."""

    __slots__ = ("call", "index", "kind", "layout", "module", "name", "output", "path")

    def __init__(
        self,
        name: str,
        call: int,
        module: nn.Module,
        kind: Kind,
        output: Tensor,
        layout: Layout | CustomLayout,
        index: int,
    ) -> None:
        self.path = name
        self.call = call
        self.name = name if call == 1 else f"{name}:{call}"
        self.module = module
        self.kind = kind
        self.output = output
        self.layout = layout
        self.index = index

    def maps(self, tensor: Tensor | None = None) -> Tensor:
        """The maps (K, *grid) in the layer's output, or in a tensor of its shape such as its gradient."""
        return self.layout.maps(self.output.detach() if tensor is None else tensor)

    @property
    def shape(self) -> tuple[int, ...]:
        """(K, *grid)."""
        return tuple(self.maps().shape)


class Trace:
    """What one forward pass left behind: inputs, output and records, sharing one graph."""

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
        self.records = records
        self.state = state
        self.by_name = {record.name: record for record in records}
        self._dominators: Dominators | None = None
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
            known = Layer(record.name, record.kind, record.shape, field, record.call)
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

    def _cuts(self, record: Record) -> Iterator[int]:
        if self._dominators is None:
            nodes = [record.output.grad_fn for record in self.records]
            self._dominators = Dominators(self.output.grad_fn, nodes)
        return self._dominators.of(record.index)

    def backward(self) -> AbstractContextManager[None]:
        """Around a backward pass: as `undisturbed`, since activation checkpointing runs the model's code again;
        free of cost where every module is in eval mode.
        """
        return undisturbed(self.model) if self.state.any_training() else _backward_modes(self.output.device.type)

    def bytes(self) -> int:
        """Bytes of the kept activations, each storage counted once."""
        sizes = {
            tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
            for tensor in (*self.inputs, self.output, *(record.output for record in self.records))
        }
        return sum(sizes.values())

    def _receptive_field(self, record: Record) -> tuple[int, ...] | None:
        with self.backward():  # what a checkpoint saved is computed when it is looked at
            return receptive_field(record.output, self.inputs[0], self._fields)


_OVERWRITTEN: weakref.WeakKeyDictionary[nn.Module, set[str]] = weakref.WeakKeyDictionary()


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
        if self._state is None or not self._state.holds():
            self._state = ModelState(self.model)
        run = self._run(inputs, _OVERWRITTEN.get(self.model))
        if run.violated:
            run = self._run(inputs, None)
        _OVERWRITTEN[self.model] = run.overwritten
        if not self._state.holds():
            # The pass itself wrote to a buffer, which has been put back; the versions have moved on.
            self._state = ModelState(self.model)
        return Trace(self.model, run.leaves, run.output, run.records, self._state)

    def _run(self, inputs: tuple[Tensor, ...], clone: set[str] | None) -> _Run:
        self.runs += 1
        self.size = tuple(inputs[0].shape)
        return _Run(self.model, inputs, clone, self._selector, self._layout)


class _Run:
    """One forward pass with its hooks.

    Attributes:
        leaves: the inputs as leaves of the graph.
        output: the scores.
        records: the feature maps.
        overwritten: keys of the calls whose output a later operation wrote to.
        violated: whether such a call had passed its own output on, so that its record would be wrong.
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: tuple[Tensor, ...],
        clone: set[str] | None,
        selector: Callable[[Any], Tensor] | str | int | None,
        layout: Callable[[Tensor], Tensor | None] | None,
    ) -> None:
        self._layout = layout
        self.violated = False
        self.overwritten: set[str] = set()
        self.leaves = tuple(_leaf(tensor) for tensor in inputs)
        self._clone = clone
        self._calls: Counter[str] = Counter()
        self._kept: list[_Kept] = []
        self._attentions: list[_Kept] = []
        self.output = self._forward(model, selector)
        self._check(self.output)
        self.records = self._records()

    def _forward(self, model: nn.Module, selector: Callable[[Any], Tensor] | str | int | None) -> Tensor:
        handles = []
        with undisturbed(model):
            try:
                for name, module in model.named_modules():
                    if name:
                        handles.append(module.register_forward_hook(self._hook(name)))
                # Clones, because a model may work in place on its input and a leaf forbids that.
                return select_output(_call(model, tuple(leaf.clone() for leaf in self.leaves)), selector)
            finally:
                for handle in handles:
                    handle.remove()

    def _hook(self, name: str) -> Callable[[nn.Module, Any, Any], Any]:
        def hook(module: nn.Module, args: Any, output: Any) -> Any:
            self._calls[name] += 1
            own = first_tensor(output)
            if own is None or not own.is_floating_point() or not own.requires_grad or own.ndim < 3:
                return None
            if isinstance(module, _PADDINGS) or (_is_identity(module) and args and own is args[0]):
                return None
            kept = _Kept(name, self._calls[name], module, own)
            self._kept.append(kept)
            if _is_view_of(own, args) or not (self._clone is None or kept.key in self._clone):
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
        grids: list[tuple[int, ...]] = []
        records: list[Record] = []
        self._attentions = [kept for kept in self._kept if kind_of(kept.module, kept.name) == "attention"]
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
                grids.append(layout.grid)
            kind = kind_of(kept.module, kept.name)
            records.append(Record(kept.name, kept.call, kept.module, kind, kept.own, layout, len(records)))
        return records

    def _layout_of(
        self, kept: _Kept, picture: tuple[int, ...], grids: list[tuple[int, ...]]
    ) -> Layout | CustomLayout | None:
        """The user's layout where there is one for this output, else the one that its shape tells."""
        custom = None if self._layout is None else CustomLayout.of(self._layout, kept.own, len(picture))
        if custom is not None:
            return custom
        if isinstance(kept.module, _CHANNELS_FIRST) and kept.own.ndim == len(picture) + 2:
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
            if not kept.name.startswith(other.name + "."):
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


class _Kept:
    """A layer's own output as its hook found it, and what was passed on in its place."""

    __slots__ = ("call", "key", "module", "name", "own", "passed", "version")

    def __init__(self, name: str, call: int, module: nn.Module, own: Tensor) -> None:
        self.name, self.call, self.module, self.own = name, call, module, own
        self.key = f"{name}:{call}"
        self.version = own._version
        self.passed: Tensor | None = None


def _call(model: nn.Module, inputs: tuple[Tensor, ...]) -> Any:
    """The model's output; of a model made under inference_mode with copies of its tensors, since autograd refuses
    the originals.
    """
    named = [*model.named_parameters(), *model.named_buffers()]
    if not any(tensor.is_inference() for _, tensor in named):
        return model(*inputs)
    return torch.func.functional_call(model, {name: tensor.clone() for name, tensor in named}, inputs)


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
