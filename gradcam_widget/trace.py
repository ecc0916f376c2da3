"""One forward pass: every feature map kept, the graph kept, the model left as it was found."""

from __future__ import annotations

import operator
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import padding

from gradcam_widget.graph import Dominators, receptive_field
from gradcam_widget.layers import Kind, Layer, Layout, find_layout, kind_of
from gradcam_widget.targets import select_output

__all__ = ["ModelState", "Record", "Trace", "Tracer", "undisturbed"]

_PADDINGS = tuple(getattr(padding, name) for name in padding.__all__)  # their cells lie outside of the picture
_IDENTITIES = ("Identity", "Dropout", "StochasticDepth", "DropPath", "DropBlock", "FeatureAlphaDropout")


class ModelState:
    """Tells whether a model is still the one that was traced: same modules, same tensors, same versions.

    Changes through autograd-aware operations (optimisers, ``load_state_dict``, assignment of parameters or
    modules) are seen; writing through ``parameter.data`` is not, because torch does not record it.
    """

    def __init__(self, model: nn.Module) -> None:
        entries = [
            (place, name, value)
            for module in model.modules()
            for place in (module._modules, module._parameters, module._buffers)
            for name, value in place.items()
            if value is not None
        ]
        self._places = [place for place, _, _ in entries]
        self._names = [name for _, name, _ in entries]
        self._values = [value for _, _, value in entries]
        self._versioned = [
            value for value in self._values if isinstance(value, Tensor) and not value.is_inference()
        ]
        self._versions = list(map(_VERSION, self._versioned))

    def holds(self) -> bool:
        """Whether nothing has changed since this state was taken."""
        # Runs at every look-up over hundreds of tensors, hence the loops in C.
        try:
            same = all(map(operator.is_, map(operator.getitem, self._places, self._names), self._values))
        except KeyError:
            return False
        return same and list(map(_VERSION, self._versioned)) == self._versions


_VERSION = operator.attrgetter("_version")


def _version(tensor: Tensor) -> int:
    # Inference tensors have no version counter and cannot be changed in place outside inference mode.
    return -1 if tensor.is_inference() else tensor._version


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Runs the model in eval mode with gradients on, whatever the caller's modes, and puts everything back.

    Put back are training flags, buffers, and the random state of torch, its GPUs, numpy and Python; the flags
    are set on the modules themselves, because a user's ``train()`` may do more than set a flag.
    """
    flags = [(module, module.training) for module in model.modules()]
    buffers = [
        (place, name, buffer, _version(buffer), buffer.detach().clone())
        for module in model.modules()
        for place in (module._buffers,)
        for name, buffer in place.items()
        if buffer is not None
    ]
    restore_random = _random_state()
    try:
        for module, training in flags:
            if training:
                module.training = False
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        for module, training in flags:
            if module.training is not training:
                module.training = training
        for place, name, buffer, version, value in buffers:
            if place.get(name) is not buffer:
                place[name] = buffer
            if _version(buffer) != version:
                with torch.inference_mode(buffer.is_inference()), torch.no_grad():
                    buffer.copy_(value)
        restore_random()


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
        self, name: str, call: int, module: nn.Module, kind: Kind, output: Tensor, layout: Layout, index: int
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
        self, inputs: tuple[Tensor, ...], output: Tensor, records: list[Record], state: ModelState
    ) -> None:
        self.inputs = inputs
        self.output = output
        self.records = records
        self.state = state
        self.by_name = {record.name: record for record in records}
        self._dominators: Dominators | None = None
        self._fields: dict[Any, Any] = {}
        self._layers: tuple[Layer, ...] | None = None

    @property
    def picture(self) -> tuple[int, ...]:
        """The spatial size of the (first) input."""
        return tuple(self.inputs[0].shape[2:])

    @property
    def layers(self) -> tuple[Layer, ...]:
        """All feature maps in the order in which they were made."""
        if self._layers is None:
            self._layers = tuple(self.layer(record) for record in self.records)
        return self._layers

    def layer(self, record: Record, why: str = "") -> Layer:
        """The public description of a record."""
        return Layer(record.name, record.kind, record.shape, self._receptive_field(record), record.call, why)

    def resume_point(self, record: Record, known: Callable[[Record], bool]) -> Record | None:
        """The nearest known record that every path from the output to ``record`` runs through, or None.

        The gradient at that record is all that is needed to go on to ``record``: the chain rule through a
        single cut of the graph.
        """
        if self._dominators is None:
            nodes = [record.output.grad_fn for record in self.records]
            self._dominators = Dominators(self.output.grad_fn, nodes)
        for index in self._dominators.of(record.index):
            candidate = self.records[index]
            if known(candidate):
                return candidate
        return None

    def bytes(self) -> int:
        """Bytes of the kept activations, each storage counted once."""
        sizes = {
            tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
            for tensor in (*self.inputs, self.output, *(record.output for record in self.records))
        }
        return sum(sizes.values())

    def _receptive_field(self, record: Record) -> tuple[int, ...] | None:
        return receptive_field(record.output, self.inputs[0], self._fields)


class Tracer:
    """Runs forward passes of one model and learns from the first one which layers are overwritten in place.

    The hook keeps a layer's own output. Where a later operation works in place (a ReLU with ``inplace=True``,
    ``+=``), the layer's output is kept and a clone is passed on, so that the activations and the gradient both
    belong to the layer as named. The first pass clones everywhere and notes which clones were written to; later
    passes clone only those, and start over if another layer turns out to be overwritten.
    """

    def __init__(self, model: nn.Module, output: Callable[[Any], Tensor] | str | int | None = None) -> None:
        self.model = model
        self._selector = output
        self._overwritten: set[str] | None = None
        self._state: ModelState | None = None

    def __call__(self, inputs: tuple[Tensor, ...]) -> Trace:
        """A trace of the model on its inputs, each (1, ...), on the model's device and of its dtype."""
        if self._state is None or not self._state.holds():
            self._state, self._overwritten = ModelState(self.model), None
        run = _Run(self.model, self._overwritten)
        trace = run(inputs, self._selector, self._state)
        if run.violated:
            run = _Run(self.model, None)
            trace = run(inputs, self._selector, self._state)
        self._overwritten = run.overwritten
        if not self._state.holds():
            # The pass itself wrote to a buffer, which has been put back; the versions have moved on.
            self._state = trace.state = ModelState(self.model)
        return trace


class _Run:
    """One forward pass with its hooks."""

    def __init__(self, model: nn.Module, clone: set[str] | None) -> None:
        self.model = model
        self.violated = False
        self.overwritten: set[str] = set()
        self._clone = clone
        self._calls: Counter[str] = Counter()
        self._kept: list[tuple[str, int, nn.Module, Tensor, int, Tensor]] = []

    def __call__(
        self, inputs: tuple[Tensor, ...], selector: Callable[[Any], Tensor] | str | int | None, state: ModelState
    ) -> Trace:
        handles = []
        with undisturbed(self.model):
            leaves = tuple(_leaf(tensor) for tensor in inputs)
            try:
                for name, module in self.model.named_modules():
                    if name and not isinstance(module, nn.ModuleList | nn.ModuleDict):
                        handles.append(module.register_forward_hook(self._hook(name)))
                # A clone, because a model may work in place on its input and a leaf forbids that.
                output = select_output(self.model(*(leaf.clone() for leaf in leaves)), selector)
            finally:
                for handle in handles:
                    handle.remove()
            self._check(output)
            for key, _, _, own, version, passed in self._kept:
                if passed is not own and passed._version > 0:
                    self.overwritten.add(key)
                if own._version != version:
                    self.overwritten.add(key)
                    self.violated = True
        return Trace(leaves, output, self._records(leaves[0]), state)

    def _hook(self, name: str) -> Callable[[nn.Module, Any, Any], Any]:
        def hook(module: nn.Module, args: Any, output: Any) -> Any:
            self._calls[name] += 1
            key = f"{name}:{self._calls[name]}"
            own = _first_tensor(output)
            if own is None or not own.is_floating_point() or not own.requires_grad or own.ndim < 3:
                return None
            if isinstance(module, _PADDINGS) or (_is_identity(module) and args and own is args[0]):
                return None
            clone = self._clone is None or key in self._clone
            passed = own.clone() if clone else own
            self._kept.append((key, self._calls[name], module, own, own._version, passed))
            return _with_first_tensor(output, passed) if clone else None

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

    def _records(self, first: Tensor) -> list[Record]:
        picture = tuple(first.shape[2:])
        grids: list[tuple[int, ...]] = []
        records: list[Record] = []
        for key, call, module, own, _, _ in self._kept:
            last = isinstance(module, nn.LayerNorm | nn.Linear)
            layout = find_layout(tuple(own.shape), picture, grids, last=last)
            if layout is None:
                continue
            if layout.order != "tokens":
                grids.append(layout.grid)
            name = key.rpartition(":")[0]
            records.append(Record(name, call, module, kind_of(module), own, layout, len(records)))
        return records


def _is_identity(module: nn.Module) -> bool:
    """Whether a module hands its input on in eval mode; its output then is the earlier layer's."""
    return type(module).__name__.startswith(_IDENTITIES)


def _leaf(tensor: Tensor) -> Tensor:
    copy = tensor.detach().clone()
    return copy.requires_grad_() if copy.is_floating_point() else copy


def _first_tensor(output: Any) -> Tensor | None:
    if isinstance(output, Tensor):
        return output
    if isinstance(output, (tuple, list)) and output and isinstance(output[0], Tensor):
        return output[0]
    return None


def _with_first_tensor(output: Any, tensor: Tensor) -> Any:
    if isinstance(output, Tensor):
        return tensor
    rest = [tensor, *output[1:]]
    return type(output)(*rest) if hasattr(output, "_fields") else type(output)(rest)
