"""Running only the part of a model that comes after a layer, for many versions of that layer's output."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from gradcam_widget.harmless import never_compiled, of_this_thread, undisturbed
from gradcam_widget.targets import select_output
from gradcam_widget.trace import Record, Trace
from gradcam_widget.tracer import first_tensor, with_first_tensor

__all__ = ["Tail", "is_for_each"]

Selector = Callable[[Any], Tensor] | str | int | None
_Outputs = dict[tuple[nn.Module, int], Any]


class Tail:
    """The part of a model after one layer: outputs of that layer in, scores out, in batches.

    The modules that are finished when the layer starts return what the trace has kept of them, so that nothing
    before the layer is computed again, whatever the architecture; the layer returns what it is given; all that
    follows runs. Where the result of such a replay differs from the model's own, a recording pass keeps the output
    of every module that is finished (of nested ones the outermost), feature map or not; where that does not help
    either, the whole model is run.

    Args:
        model: the model.
        trace: a forward pass of it.
        record: the layer.
        selector: of the scores in the model's output, see `gradcam_widget.targets.select_output`.

    Attributes:
        partial: whether only what follows the layer runs.
        batched: whether several outputs may be given at once.
        recorded: how many recording passes there were, 0 or 1.
    """

    def __init__(self, model: nn.Module, trace: Trace, record: Record, selector: Selector = None) -> None:
        self._model = model
        self._modules = trace.state.modules
        self._inputs = tuple(tensor.detach() for tensor in trace.inputs)
        self._record = record
        self._selector = selector
        self._finished: _Outputs = {}
        self._layer_output: Any = None
        self._copy = False
        self.batched = True
        self.recorded = 0
        self._recomputes = False  # something before the layer, the last time
        self.partial = self._kept_will_do(trace)
        if not self.partial:
            self.recorded = 1
            with undisturbed(model), torch.no_grad():
                self._finished = self._record_finished()
            self.partial = self._choose(trace)

    def __call__(self, outputs: Tensor) -> Tensor:
        """The model's output (B, ...) for B versions of the layer's output (B, ...)."""
        with undisturbed(self._model, self._modules), torch.no_grad():
            return self._run(outputs)

    def _kept_will_do(self, trace: Trace) -> bool:
        """Whether what the trace has kept, feature maps alone, is enough for the part after the layer to run by
        itself, in batches.
        """
        if not self._record.alone:
            return False
        inside = f"{self._record.path}."
        self._layer_output = own = self._record.output.detach()
        self._finished = {
            (record.module, record.call): record.output.detach()
            for record in trace.records[: self._record.index]
            if record.alone and not record.path.startswith(inside)
        }
        try:
            got = self(own.expand(2, *own.shape[1:]))
            return is_for_each(got, trace.output.detach(), 2) and not self._recomputes
        except (RuntimeError, ValueError, TypeError):
            return False

    def _choose(self, trace: Trace) -> bool:
        """Settle on the cheapest way that gives the model's own output; whether it is a partial one."""
        own, recorded = self._record.output.detach(), self._finished
        # One at a time is for models that take no batches, or mix the pictures in one.
        for size in (2, 1):
            for finished, copy in ((recorded, False), (recorded, True), ({}, True)):
                self.batched, self._finished, self._copy = size > 1, finished, copy
                try:
                    got = self(own.expand(size, *own.shape[1:]).clone())
                except (RuntimeError, ValueError, TypeError):
                    # Operations in place on one value that stands for several, or shapes that are fixed.
                    continue
                if is_for_each(got, trace.output.detach(), size):
                    return bool(finished)
        raise ValueError(
            f"method: the part of the model after {self._record.name!r} cannot be run by itself; "
            "use a method that needs gradients only"
        )

    def _record_finished(self) -> _Outputs:
        """Outputs of the outermost modules that are finished when the layer starts."""
        frames: list[_Outputs] = [{}]
        kept: _Outputs = {}
        reached = False
        calls: Counter[nn.Module] = Counter()

        def wrap(module: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
            def recorded(*args: Any, **kwargs: Any) -> Any:
                nonlocal reached
                calls[module] += 1
                call = calls[module]
                if module is self._record.module and call == self._record.call:
                    for frame in frames:
                        kept.update(frame)
                    reached = True
                frames.append({})
                output = forward(*args, **kwargs)
                frames.pop()
                if module is self._record.module and call == self._record.call:
                    self._layer_output = output
                if not reached:
                    # Operations in place may overwrite what was handed on.
                    frames[-1][module, call] = pytree.tree_map_only(Tensor, torch.clone, output)
                return output

            return recorded

        with self._patched(wrap):
            self._model(*(tensor.clone() for tensor in self._inputs))
        return kept

    def _run(self, outputs: Tensor) -> Tensor:
        calls: Counter[nn.Module] = Counter()
        size = outputs.shape[0]
        reached = self._recomputes = False

        def wrap(module: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
            def replayed(*args: Any, **kwargs: Any) -> Any:
                nonlocal reached
                calls[module] += 1
                key = (module, calls[module])
                if key == (self._record.module, self._record.call):
                    reached = True
                    return self._widened(self._layer_output, size)
                if key in self._finished:
                    return self._widened(self._finished[key], size)
                if not reached and not module._modules:
                    self._recomputes = True
                return forward(*args, **kwargs)

            return replayed

        def substitute(module: nn.Module, args: Any, output: Any) -> Any:
            # Last of the layer's hooks: those of the user have had their say when the output was recorded.
            if calls[module] != self._record.call or first_tensor(output) is None:
                return None
            return with_first_tensor(output, outputs.clone())

        with self._patched(wrap):
            hook = never_compiled(of_this_thread(substitute, _nothing))
            handle = self._record.module.register_forward_hook(hook)
            try:
                result = self._model(*(self._widen(tensor, size).clone() for tensor in self._inputs))
            finally:
                handle.remove()
        return select_output(result, self._selector)

    def _widened(self, output: Any, size: int) -> Any:
        """Whatever a module returned for one picture, for a batch of them."""
        return pytree.tree_map_only(Tensor, lambda tensor: self._widen(tensor, size), output)

    def _widen(self, tensor: Tensor, size: int) -> Tensor:
        if tensor.ndim == 0 or tensor.shape[0] != 1:
            return tensor
        wide = tensor.expand(size, *tensor.shape[1:])
        # Of one the copy is not another view of what is kept: an operation in place may follow.
        return wide.clone() if self._copy or size == 1 else wide

    @contextmanager
    def _patched(self, wrap: Callable[[nn.Module, Callable[..., Any]], Callable[..., Any]]) -> Iterator[None]:
        """Every module's ``forward`` wrapped on the instance, and put back as it was."""
        modules = [module for name, module in self._model.named_modules() if name]
        own = {module: module.__dict__.get("forward") for module in modules}
        try:
            for module in modules:
                forward = of_this_thread(wrap(module, module.forward), module.forward)
                module.__dict__["forward"] = never_compiled(forward)
            yield
        finally:
            for module, forward in own.items():
                if forward is None:
                    module.__dict__.pop("forward", None)
                else:
                    module.__dict__["forward"] = forward


def _nothing(*_: object) -> None:
    """A hook that leaves all as it is."""


def is_for_each(got: Tensor, expected: Tensor, size: int) -> bool:
    """Whether the output for a batch (size, ...) is that of one picture (1, ...) for each of them, up to what
    another batch size may do to sums in this precision.
    """
    if got.shape != (size, *expected.shape[1:]):
        return False
    slack = {torch.float64: 1e-9, torch.float32: 1e-3}.get(got.dtype, 3e-2)
    return bool((got - expected).abs().max() <= slack * (1 + expected.abs().max()))
