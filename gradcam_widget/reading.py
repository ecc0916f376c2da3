"""Reading one layer for many pictures: its activations batch after batch, with no graph, the model as it was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from threading import get_ident

import torch
from torch import Tensor, nn

from gradcam_widget.harmless import never_compiled, undisturbed
from gradcam_widget.layers import Layer
from gradcam_widget.trace import Record
from gradcam_widget.tracer import first_tensor

__all__ = ["Reader", "Reading"]


@dataclass(frozen=True, eq=False)
class Reading:
    """The activations of one layer for some pictures that follow each other.

    Attributes:
        first: number of the first one.
        layer: the layer; its shape is that for these pictures.
        picture: their size, (H, W) for pictures.
        input: (n, C, *size), the first input of the model, before it was moved to the model's device.
        maps: (n, K, *grid), float32 at least, on the CPU.
    """

    first: int
    layer: Layer
    picture: tuple[int, ...]
    input: Tensor
    maps: Tensor


class Reader:
    """Reads the layer of a record for other inputs of the same size, several at once.

    Args:
        model: the user's.
        record: of a trace of one picture; it says which call of which module is read, and how.
    """

    def __init__(self, model: nn.Module, record: Record) -> None:
        self._model, self._record = model, record
        self.takes_batches = True

    def __call__(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """(n, K, *grid) for inputs (n, ...).

        Raises:
            ValueError: where the module does not run as it did for the picture that was traced.
        """
        calls, thread = 0, get_ident()
        kept: Tensor | None = None

        def hook(module: nn.Module, args: object, output: object) -> None:
            nonlocal calls, kept
            if get_ident() != thread:
                return  # another one of the user's runs the model meanwhile
            calls += 1
            own = first_tensor(output)
            if calls == self._record.call and own is not None:
                kept = own.detach().clone()  # what follows may work in place

        with undisturbed(self._model), torch.no_grad():
            handle = self._record.module.register_forward_hook(never_compiled(hook))
            try:
                self._model(*inputs)
            finally:
                handle.remove()
            if kept is None:
                raise ValueError(
                    f"layer: {self._record.name!r} did not run for this picture, as it did for the first one"
                )
            maps = torch.stack([self._record.layout.maps(one[None]) for one in kept])
            return maps.to("cpu", torch.promote_types(maps.dtype, torch.float32))

    def check_batches(self, first: Sequence[Tensor]) -> None:
        """Find out, by two pictures that are the same, whether pictures go through together as they do alone."""
        alone = self._record.maps().to("cpu", torch.float32)
        try:
            both = self(tuple(tensor.expand(2, *tensor.shape[1:]).clone() for tensor in first)).float()
        except (RuntimeError, ValueError, TypeError, IndexError):
            self.takes_batches = False
            return
        near = 1e-3 * float(alone.abs().max()) + 1e-12
        same = both.shape == (2, *alone.shape)
        self.takes_batches = same and bool(((both - alone).abs() <= near).all())
