"""HOW a map is made: pure functions (activations, gradients) -> (alpha, signed cam), and the table of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

__all__ = ["METHODS", "Method", "find_method", "gradcam"]


@dataclass(frozen=True)
class Method:
    """One row of `METHODS`.

    Attributes:
        name: what ``method=`` calls it: the paper's name.
        function: (activations, gradients), each (K, *grid), -> (alpha (K,), signed cam (*grid)); the cam is the
            positive part of the signed cam.
        weights: what alpha is, in words for the title of the chart.
        passes: what a map costs, in words.
        source: where the method is defined.
    """

    name: str
    function: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    weights: str
    passes: str
    source: str


def gradcam(activations: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor]:
    """Grad-CAM (arXiv 1610.02391, eq. 1 and 2).

    alpha_k^c = (1/Z) sum_ij dy^c/dA^k_ij and S^c = sum_k alpha_k^c A^k, whose positive part is L^c.

    Args:
        activations: A, (K, *grid).
        gradients: dy^c/dA, (K, *grid).

    Returns:
        alpha (K,) and the signed cam S (*grid).
    """
    alpha = gradients.flatten(1).mean(1)
    return alpha, weighted_sum(alpha, activations)


def weighted_sum(weights: Tensor, activations: Tensor) -> Tensor:
    """sum_k w_k A^k: (K,) and (K, *grid) -> (*grid)."""
    return (weights @ activations.flatten(1)).view(activations.shape[1:])


METHODS: dict[str, Method] = {
    row.name: row
    for row in (
        Method(
            "GradCAM",
            gradcam,
            "mean gradient of the logit per channel",
            "one backward pass per class",
            "Selvaraju et al. 2017, arXiv 1610.02391",
        ),
    )
}


def find_method(name: str) -> Method:
    """The row of `METHODS` with this name.

    Raises:
        TypeError: if it is not a string. ValueError: for an unknown name; the known ones are listed.
    """
    if not isinstance(name, str):
        raise TypeError(f"method: expected one of {list(METHODS)}; got {type(name).__name__}")
    if name not in METHODS:
        raise ValueError(f"method: expected one of {list(METHODS)}; got {name!r}")
    return METHODS[name]
