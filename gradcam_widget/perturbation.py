"""Many passes: scores of ablated channels, masked and occluded pictures, in batches, cancellable."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from gradcam_widget.folding import Folding
from gradcam_widget.harmless import undisturbed
from gradcam_widget.heatmap import upsample
from gradcam_widget.tail import Selector, Tail, is_for_each
from gradcam_widget.targets import Target, select_output
from gradcam_widget.trace import Record, Trace

__all__ = [
    "Cancelled",
    "Progress",
    "VersionScores",
    "ablated_output",
    "ablated_scores",
    "batch_size",
    "covered",
    "masked_scores",
    "refuse",
    "report",
]

Progress = Callable[[int, int], Any]
"""Called with (passes done, passes in all) after each batch; returning False cancels."""


class Cancelled(RuntimeError):  # noqa: N818 # the field's word for it; it is no failure
    """The user's progress function asked to stop; nothing was kept, the model is as it was."""


def batch_size(bytes_per_picture: int, budget: int, device: torch.device, *, whole: bool) -> int:
    """How many pictures go through at once: few on a CPU, whose caches are small; within the budget on a GPU."""
    most = (4 if whole else 32) if device.type == "cpu" else 128
    return max(1, min(most, budget // max(1, bytes_per_picture)))


def ablated_scores(
    tail: Tail, trace: Trace, record: Record, target: Target, size: int, progress: Progress | None = None
) -> tuple[Tensor, Tensor, int]:
    """(y, (K,), passes): the target's value, and its value with each channel of the layer set to zero.

    A channel that is zero already, as many are after a ReLU, takes no pass: nothing would be different.
    Source: Desai and Ramaswamy, "Ablation-CAM", WACV 2020, eq. 2.
    """
    own = record.output.detach()
    places = _places(record)
    values = own.reshape(-1)[places]
    heard = values.ne(0).any(1).nonzero().flatten().tolist()
    size = max(1, min(size, len(heard))) if tail.batched else 1
    # One for all batches, because fresh memory is what they would cost most.
    outputs = own.expand(size, *own.shape[1:]).clone(memory_format=torch.contiguous_format)
    rows = outputs.view(size, -1)
    value = _values(target, trace.output.detach())[0]
    scores = value.repeat(record.shape[0])
    for batch in _batches(len(heard), size, progress):
        channels = heard[batch.start : batch.stop]
        for row, channel in enumerate(channels):
            rows[row, places[channel]] = 0
        scores[channels] = _values(target, tail(outputs[: len(batch)]))
        for row, channel in enumerate(channels):
            rows[row, places[channel]] = values[channel]
    return value, scores, len(heard)


def ablated_output(tail: Tail, record: Record, channels: tuple[int, ...]) -> Tensor:
    """(1, ...) the model's output with these channels of the layer set to zero together."""
    own = record.output.detach()
    outputs = own.clone(memory_format=torch.contiguous_format)
    outputs.view(-1)[_places(record)[list(channels)].flatten()] = 0
    return tail(outputs)


def _places(record: Record) -> Tensor:
    """(K, cells): where each value of each channel lies in the layer's output."""
    # A user's layout may return a copy, into which zeros would be lost.
    own = record.output
    return record.layout.maps(torch.arange(own.numel(), device=own.device).view(own.shape)).flatten(1)


def masked_scores(
    model: nn.Module,
    trace: Trace,
    record: Record,
    target: Target,
    size: int,
    selector: Selector = None,
    progress: Progress | None = None,
) -> tuple[Tensor, int]:
    """((K,), passes): the target's value for the picture times each channel, upsampled and scaled to [0, 1].

    A channel that is flat masks everything, so that one pass does for all of them. Source: Wang et al.,
    "Score-CAM", arXiv 1910.01279, eq. 4.
    """
    first = trace.inputs[0].detach()
    maps = _exact(record.maps())
    low, high = maps.flatten(1).aminmax(dim=1)
    # Told before upsampling, whose rounding would be scaled to a mask. Written so that NaN is flat.
    flat = ~(high > low)
    varied, flats = ((~flat).nonzero().flatten(), flat.nonzero().flatten())
    chosen = torch.cat([varied, flats[:1]])
    outputs, takes_batches = _forward(model, trace, selector)
    found = []
    for batch in _batches(len(chosen), size if size > 1 and takes_batches() else 1, progress):
        channels = chosen[batch.start : batch.stop]
        masks = upsample(maps[channels], tuple(first.shape[2:]))[:, None]
        low, high = masks.flatten(1).aminmax(dim=1)
        span = (high - low).view(-1, *[1] * (masks.ndim - 1))
        masks = torch.where(span > 0, (masks - low.view_as(span)) / span.clamp(min=1e-30), 0)
        masks[flat[channels]] = 0
        found.append(_values(target, outputs(first * masks.to(first.dtype))))
    scores = torch.cat(found)
    every = scores.new_empty(len(flat))
    every[varied] = scores[: len(varied)]
    every[flats] = scores[-1]
    return every, len(chosen)


class VersionScores:
    """A target's values for versions of the picture that was traced: other first inputs, in batches.

    Args:
        model: the model.
        trace: a forward pass of it.
        target: the scalar.
        size: how many versions may go through at once.
        selector: of the scores in the model's output.

    Attributes:
        size: how many are taken at once: 1 where the model does not answer for each picture by itself.
    """

    def __init__(
        self, model: nn.Module, trace: Trace, target: Target, size: int, selector: Selector = None
    ) -> None:
        self._target = target
        self._outputs, takes_batches = _forward(model, trace, selector)
        self.size = size if size > 1 and takes_batches() else 1

    def __call__(self, inputs: Tensor) -> Tensor:
        """(n,) the target's values for first inputs (n, C, H, W), on the model's device and of its dtype."""
        return _values(self._target, self._outputs(inputs))


def covered(first: Tensor, boxes: Sequence[tuple[int, int, int, int]], fill: Tensor) -> Tensor:
    """(n, C, H, W) a picture (1, C, H, W) with each of n boxes replaced by that of ``fill``, (1, C, H, W).

    Boxes are (x0, y0, x1, y1), half open. Source: Zeiler and Fergus, "Visualizing and Understanding Convolutional
    Networks", ECCV 2014, section 4.2.
    """
    inputs = first.expand(len(boxes), *first.shape[1:]).clone()
    for row, (x0, y0, x1, y1) in enumerate(boxes):
        inputs[row, ..., y0:y1, x0:x1] = fill[0, ..., y0:y1, x0:x1]
    return inputs


def _forward(
    model: nn.Module, trace: Trace, selector: Selector
) -> tuple[Callable[[Tensor], Tensor], Callable[[], bool]]:
    """Scores of other first inputs (N, C, H, W) than the one traced, and whether N may be more than 1."""
    first, *others = (tensor.detach() for tensor in trace.inputs)
    # A processor's convolutions are faster with the channels last and the batch norms folded in, up to 1.6 times;
    # whether a model can do with that, the first batch tells.
    nothing: AbstractContextManager[None] = nullcontext()
    ways: list[tuple[torch.memory_format, Callable[[], AbstractContextManager[None]]]] = []
    if first.device.type == "cpu" and first.ndim == 4:
        if first.dtype in (torch.float32, torch.float64) and (folding := Folding(trace, _FOLDED)):
            ways.append((torch.channels_last, folding.used))
        ways.append((torch.channels_last, lambda: nothing))
    ways.append((torch.contiguous_format, lambda: nothing))
    order, how = ways[-1]

    def outputs(inputs: Tensor) -> Tensor:
        inputs = inputs.contiguous(memory_format=order)
        widened = (t.expand(len(inputs), *t.shape[1:]) if t.ndim and t.shape[0] == 1 else t for t in others)
        with undisturbed(model, trace.state.modules), torch.no_grad(), how():
            return select_output(model(inputs, *widened), selector)

    def takes_batches() -> bool:
        nonlocal order, how
        for order, how in ways:  # noqa: B007 # what is tried last is what is used
            try:
                if is_for_each(outputs(first.expand(2, *first.shape[1:]).clone()), trace.output.detach(), 2):
                    return True
            except (RuntimeError, ValueError, TypeError):
                continue
        return False

    return outputs, takes_batches


_FOLDED = 2**28
"""Bytes of copies of weights that the passes over versions of a picture may take."""


def refuse(done: int, total: int) -> bool:
    """The progress function of one who takes what is there, and pays for nothing more."""
    return False


def report(progress: Progress | None, done: int, total: int) -> None:
    """Tell how far it is; raise Cancelled if the answer is False and something is left to do."""
    if progress is not None and progress(done, total) is False and done < total:
        raise Cancelled(f"cancelled after {done} of {total} passes")


def _batches(total: int, size: int, progress: Progress | None) -> Iterator[range]:
    for start in range(0, total, size):
        stop = min(start + size, total)
        yield range(start, stop)
        report(progress, stop, total)


def _values(target: Target, outputs: Tensor) -> Tensor:
    return _exact(torch.stack([target(output).reshape(()) for output in outputs]))


def _exact(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
