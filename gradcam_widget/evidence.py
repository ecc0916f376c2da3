"""What a method may ask for, by name: computed when asked, for one picture, layer and target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gradcam_widget.backward import scalar
from gradcam_widget.gradients import Gradients, Passes
from gradcam_widget.guided import guided_backpropagation
from gradcam_widget.perturbation import Progress, ablated_scores, batch_size, masked_scores
from gradcam_widget.tail import Selector, Tail
from gradcam_widget.targets import Target, name_target
from gradcam_widget.trace import Record, Trace

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Evidence", "exact"]

_POOLING_HEAD = (
    "Addmm",
    "Alias",
    "Clone",
    "Mean",
    "AdaptiveAvgPool",
    "Reshape",
    "Select",
    "Squeeze",
    "T",
    "Unsqueeze",
    "View",
)


class Evidence:
    """The quantities of `gradcam_widget.methods` for one layer and target of a trace.

    Args:
        model: the model that was traced.
        trace: the forward pass.
        record: the layer.
        target: the scalar.
        gradients: where dy/dA comes from.
        key: under which the trace is cached.
        selector: of the scores in the model's output.
        budget: bytes that a batch of many passes may take.
        progress: of many passes.

    Attributes:
        passes: of the model, beside those that the source of the gradients counts.
    """

    passes = Passes()

    def __init__(
        self,
        model: nn.Module,
        trace: Trace,
        record: Record,
        target: Target,
        gradients: Gradients,
        key: int,
        *,
        selector: Selector = None,
        budget: int = 2 * 10**9,
        progress: Progress | None = None,
    ) -> None:
        self._model, self._trace, self._record, self._target = model, trace, record, target
        self._source, self._key = gradients, key
        self._selector, self._budget, self._progress = selector, budget, progress

    def take(self, names: tuple[str, ...]) -> Mapping[str, Any]:
        """The named quantities, as keyword arguments of a method's function."""
        unknown = [name for name in names if not hasattr(type(self), name)]
        if unknown:
            raise TypeError(f"method: its function asks for {unknown}, which gradcam_widget.methods does not list")
        return {name: getattr(self, name)() for name in names}

    def activations(self) -> Tensor:
        """A, (K, *grid)."""
        return exact(self._record.maps())

    def gradients(self) -> Tensor:
        """dy/dA, (K, *grid)."""
        found = self._source(self._key, self._trace, self._target, [self._record])
        return exact(self._record.maps(self._there(found)))

    def mean_gradients(self) -> Tensor:
        """(K,), dy/dA averaged over the cells."""
        return self._there(self._source.means(self._key, self._trace, self._target, [self._record]))

    def _there(self, found: Mapping[int, Tensor | None]) -> Tensor:
        value = found[self._record.index]
        if value is None:
            raise ValueError(
                f"layer: {self._record.name!r} has no influence on the target {name_target(self._target)}: no "
                "path leads from it to that output. Choose another layer of cam.layers(image)"
            )
        return value

    def curvature(self) -> Tensor:
        """The Hessian of y with respect to A, times A, (K, *grid); zero where y is linear in A."""
        own = self._record.output
        try:
            with self._trace.backward():
                (gradient,) = torch.autograd.grad(
                    scalar(self._target, self._trace), own, create_graph=True, allow_unused=True
                )
                product = None
                if gradient is not None and gradient.requires_grad:
                    (product,) = torch.autograd.grad(
                        gradient, own, own.detach(), retain_graph=True, allow_unused=True
                    )
        except (NotImplementedError, RuntimeError) as error:
            if "not implemented" not in str(error):
                raise
            raise ValueError(
                f"method: ShapleyCAM needs second derivatives, and torch has none of an operation after "
                f"{self._record.name!r} ({error}); use GradCAM"
            ) from error
        self.passes += Passes(backward=2)
        return exact(self._record.maps(torch.zeros_like(own) if product is None else product.detach()))

    def head_weights(self) -> Tensor:
        """W[c], (K,): the class's weights where global average pooling and one linear layer follow the layer."""
        with self._trace.backward():
            node: Any = scalar(self._target, self._trace).grad_fn
        layer = self._record.output.grad_fn
        linear = 0
        while node is not layer:
            name = type(node).__name__.removesuffix("Backward0").removesuffix("Backward1")
            inner = [parent for parent, _ in node.next_functions if not _is_parameter(parent)]
            linear += name == "Addmm"
            if not name.startswith(_POOLING_HEAD) or len(inner) != 1:
                raise ValueError(
                    f"method: CAM needs global average pooling and one linear layer after {self._record.name!r}, "
                    f"but there is {name}; use GradCAM, which is the same up to a factor where CAM is defined"
                )
            node = inner[0]
        weights = self.gradients().flatten(1)
        if linear != 1 or bool((weights - weights[:, :1]).abs().max() > 1e-5 * weights.abs().max()):
            raise ValueError(
                f"method: CAM needs global average pooling and one linear layer after {self._record.name!r}; "
                "use GradCAM, which is the same up to a factor where CAM is defined"
            )
        return weights.sum(1)

    def ablated_scores(self) -> tuple[Tensor, Tensor]:
        """(y, (K,)) the score, and the score without each channel."""
        tail = Tail(self._model, self._trace, self._record, self._selector)
        size = self._batch(2 * self._record.output.nbytes, whole=not tail.partial)
        score, without, passes = ablated_scores(
            tail, self._trace, self._record, self._target, size, self._progress
        )
        self.passes += Passes(forward=tail.recorded, partial=passes)
        return score, without

    def masked_scores(self) -> Tensor:
        """(K,) the score of the picture masked by each channel."""
        size = self._batch(self._trace.bytes(), whole=True)
        found, passes = masked_scores(
            self._model, self._trace, self._record, self._target, size, self._selector, self._progress
        )
        self.passes += Passes(forward=passes)
        return found

    def guided(self) -> Tensor:
        """(C, H, W) guided backpropagation at the picture's pixels."""
        found = exact(guided_backpropagation(self._trace, self._target))
        self.passes += Passes(backward=1)
        return found

    def _batch(self, bytes_per_picture: int, *, whole: bool) -> int:
        return batch_size(bytes_per_picture, self._budget, self._record.output.device, whole=whole)


def _is_parameter(node: Any) -> bool:
    """Whether an edge of the graph leads to a parameter, directly or transposed, or nowhere."""
    while node is not None and type(node).__name__ in ("TBackward0", "TransposeBackward0"):
        node = node.next_functions[0][0]
    return node is None or type(node).__name__ == "AccumulateGrad"


def exact(tensor: Tensor) -> Tensor:
    """In float32 at least: half precision is for the model, not for sums over its maps."""
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()
