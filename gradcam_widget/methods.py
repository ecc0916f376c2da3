"""HOW a map is made: pure tensor functions of activations and gradients, and the table of them.

Every function takes what it needs by name and returns ``(alpha, signed cam)``: alpha (K,), and the map (*grid)
whose positive part is the cam. What can be asked for by name:

activations
    A, (K, *grid).
mean_gradients
    dy^c/dA averaged over the cells, (K,).
gradients
    dy^c/dA, (K, *grid); where the mean will do, ask for that, which takes less time and memory.
curvature
    the Hessian of y^c with respect to A times A, (K, *grid): one more backward pass.
head_weights
    W[c], (K,): the weights of the class in a head of global average pooling and one linear layer; an error
    where the model has no such head after the layer.
ablated_scores
    (y^c, (K,) the score with each channel set to zero): many passes of what follows the layer.
masked_scores
    (K,) the score of the picture times each normalised, upsampled channel: many passes of the model.
guided
    (C, H, W) guided backpropagation of y^c at the pixels.

A function may return a third value, (C, H, W), a map at the picture's pixels.

The signed cam is a sum over the channels. What each of them adds, its terms (K, *grid), is alpha_k A^k for most
methods whose alpha is a weight; the others say it by a function of their own, which may ask for alpha as well.

A new method is one function here and one row of `METHODS`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from gradcam_widget.heatmap import as_heatmap
from gradcam_widget.spelling import did_you_mean
from gradcam_widget.targets import Target, finer

__all__ = ["METHODS", "Method", "find_method"]


@dataclass(frozen=True)
class Method:
    """One row of `METHODS`.

    Attributes:
        name: what ``method=`` calls it: the paper's name.
        function: of some of the quantities listed in the module's docstring, by name, -> (alpha, signed cam).
        alpha: what alpha is: "weight", the factor of each channel in the map, or "share", the sum over the cells
            of each channel's term, for methods that weigh every cell by itself.
        meaning: alpha in words, for the title of its chart.
        passes: what a map costs, in words.
        source: where the method is defined.
        target: (target, output of one picture) -> the target explained instead, for methods that change it.
        terms: of some of those quantities, and of alpha, by name, -> (K, *grid), what each channel adds to the
            signed cam, where that is not alpha_k A^k.
        cancels: whether the map rests on sum_k g^k A^k, which vanishes but for rounding where all paths from the
            layer begin with a normalisation over the channels (Euler: such a function is homogeneous of degree 0).
        centred: whether each channel's term is taken less its mean over the cells, so that no channel adds to the
            mean of the map.
    """

    name: str
    function: Callable[..., tuple[Tensor, ...]]
    alpha: Literal["weight", "share"]
    meaning: str
    passes: str
    source: str
    target: Callable[[Target, Tensor], Target] | None = None
    terms: Callable[..., Tensor] | None = None
    cancels: bool = False
    centred: bool = False

    @cached_property
    def needs(self) -> tuple[str, ...]:
        """The names of the quantities that the function takes."""
        return tuple(inspect.signature(self.function).parameters)

    @property
    def terms_function(self) -> Callable[..., Tensor]:
        """Of quantities by name -> (K, *grid), the terms of the channels.

        Raises:
            ValueError: for a method that weighs every cell by itself and has not said what its terms are.
        """
        if self.terms is not None:
            return self.terms
        if self.alpha == "weight":
            return weighted
        raise ValueError(
            f"method: {self.name} weighs every cell by itself and its row of METHODS has no function terms=, so "
            "what a single channel adds at a cell is not known; use another method"
        )

    @cached_property
    def needs_gradient(self) -> bool:
        """Whether a backward pass to the layer is needed."""
        return "mean_gradients" in self.needs or self.needs_whole_gradient

    @cached_property
    def needs_whole_gradient(self) -> bool:
        """Whether the gradient of every cell is needed, not only each channel's mean."""
        return not {"gradients", "head_weights"}.isdisjoint(self.needs)

    @property
    def many_passes(self) -> bool:
        """Whether a map costs many passes of the model or of a part of it."""
        return not {"ablated_scores", "masked_scores"}.isdisjoint(self.needs)


def gradcam(activations: Tensor, mean_gradients: Tensor) -> tuple[Tensor, Tensor]:
    """Grad-CAM (arXiv 1610.02391, eq. 1 and 2): alpha_k = (1/Z) sum_ij g^k_ij, S = sum_k alpha_k A^k."""
    return mean_gradients, weighted_sum(mean_gradients, activations)


def gradcam_plus_plus(activations: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor]:
    """Grad-CAM++ (arXiv 1710.11063, eq. 19 for y = exp(S)).

    w_k = sum_ij a^k_ij relu(g^k_ij) with a = g^2 / (2 g^2 + (sum_ij A^k) g^3), 0 where g is 0.
    """
    squared = gradients.square()
    total = _per_channel(activations.flatten(1).sum(1), gradients)
    denominator = 2 * squared + total * squared * gradients
    fraction = torch.where(denominator != 0, squared / denominator, torch.zeros_like(squared))
    alpha = (fraction * gradients.clamp(min=0)).flatten(1).sum(1)
    return alpha, weighted_sum(alpha, activations)


def xgradcam(activations: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor]:
    """XGrad-CAM (arXiv 2008.02312, eq. 8): w_k = sum_ij g A / sum_ij A, 0 where a channel's sum is 0."""
    terms, total = (gradients * activations).flatten(1).sum(1), activations.flatten(1).sum(1)
    alpha = torch.where(total != 0, terms / total, torch.zeros_like(total))
    return alpha, weighted_sum(alpha, activations)


def hirescam(activations: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor]:
    """HiResCAM (arXiv 2011.08891, eq. 2): S = sum_k g^k A^k, cell by cell."""
    return _sum_of_terms(hirescam_terms(activations, gradients))


def hirescam_terms(activations: Tensor, gradients: Tensor) -> Tensor:
    """g^k A^k."""
    return gradients * activations


def layercam(activations: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor]:
    """LayerCAM (Jiang et al., IEEE TIP 2021, eq. 5 and 6): S = sum_k relu(g^k) A^k."""
    return _sum_of_terms(layercam_terms(activations, gradients))


def layercam_terms(activations: Tensor, gradients: Tensor) -> Tensor:
    """relu(g^k) A^k."""
    return gradients.clamp(min=0) * activations


def gradcam_elementwise(activations: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor]:
    """Grad-CAM, element-wise: S = sum_k relu(g^k A^k), as in pytorch-grad-cam's GradCAMElementWise."""
    return _sum_of_terms(elementwise_terms(activations, gradients))


def elementwise_terms(activations: Tensor, gradients: Tensor) -> Tensor:
    """relu(g^k A^k)."""
    return (gradients * activations).clamp(min=0)


def eigencam(activations: Tensor) -> tuple[Tensor, Tensor]:
    """Eigen-CAM (arXiv 2008.00299): the projection of A on its first principal component.

    The cells are the samples and the channels the variables; the sign, which a principal component leaves open,
    is the one that correlates with the mean activation.
    """
    return _principal(activations, activations)


def eigencam_terms(alpha: Tensor, activations: Tensor) -> Tensor:
    """alpha_k (A^k - its mean over the cells): a principal component is one of centred values."""
    return _per_channel(alpha, activations) * _centred(activations)


def eigengradcam(activations: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor]:
    """Eigen-Grad-CAM: Eigen-CAM of g A, as in pytorch-grad-cam; the sign correlates with the mean of g A."""
    terms = gradients * activations
    return _principal(terms, terms)


def eigengradcam_terms(alpha: Tensor, activations: Tensor, gradients: Tensor) -> Tensor:
    """alpha_k (g^k A^k - its mean over the cells)."""
    return _per_channel(alpha, activations) * _centred(gradients * activations)


def shapleycam(activations: Tensor, gradients: Tensor, curvature: Tensor) -> tuple[Tensor, Tensor]:
    """ShapleyCAM (Cai 2025, arXiv 2501.06261): w_k = (1/Z) sum_ij (g - 1/2 H A)^k_ij, S = sum_k w_k A^k."""
    alpha = (gradients - curvature / 2).flatten(1).mean(1)
    return alpha, weighted_sum(alpha, activations)


def cam(activations: Tensor, head_weights: Tensor) -> tuple[Tensor, Tensor]:
    """CAM (arXiv 1512.04150, eq. 2): S = sum_k W[c,k] A^k before global average pooling and a linear layer."""
    return head_weights, weighted_sum(head_weights, activations)


def ablationcam(activations: Tensor, ablated_scores: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Ablation-CAM (Desai and Ramaswamy, WACV 2020, eq. 2): w_k = (y - y without channel k) / y."""
    score, without = ablated_scores
    alpha = (score - without) / score if score != 0 else torch.zeros_like(without)
    return alpha, weighted_sum(alpha, activations)


def scorecam(activations: Tensor, masked_scores: Tensor) -> tuple[Tensor, Tensor]:
    """Score-CAM (arXiv 1910.01279, eq. 4 to 6): w = softmax_k(y(x * N(U(A^k))) - y(baseline)).

    The baseline's score is the same for all channels and drops out of the softmax, so it is not computed.
    """
    alpha = torch.softmax(masked_scores, 0)
    return alpha, weighted_sum(alpha, activations)


def guided_gradcam(activations: Tensor, mean_gradients: Tensor, guided: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Guided Grad-CAM (arXiv 1610.02391, section 3.3): guided backpropagation times the heatmap, per pixel."""
    alpha, signed = gradcam(activations, mean_gradients)
    heatmap = as_heatmap(signed.clamp(min=0), tuple(guided.shape[1:]))
    return alpha, signed, guided * heatmap


def guided_backprop(activations: Tensor, mean_gradients: Tensor, guided: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Guided backpropagation (arXiv 1412.6806) at the pixels, beside Grad-CAM's map of the layer."""
    return (*gradcam(activations, mean_gradients), guided)


def weighted_sum(weights: Tensor, activations: Tensor) -> Tensor:
    """sum_k w_k A^k: (K,) and (K, *grid) -> (*grid)."""
    return (weights @ activations.flatten(1)).view(activations.shape[1:])


def weighted(alpha: Tensor, activations: Tensor) -> Tensor:
    """alpha_k A^k, (K, *grid)."""
    return _per_channel(alpha, activations) * activations


def _centred(values: Tensor) -> Tensor:
    return values - values.mean(tuple(range(1, values.ndim)), keepdim=True)


def _per_channel(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *[1] * (like.ndim - 1))


def _sum_of_terms(terms: Tensor) -> tuple[Tensor, Tensor]:
    return terms.flatten(1).sum(1), terms.sum(0)


def _principal(values: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Each channel's loading on the first principal component, and the projection of the centred values on it."""
    samples = values.flatten(1)
    centred = samples - samples.mean(1, keepdim=True)
    direction = torch.linalg.svd(centred.T, full_matrices=False).Vh[0]
    projection = direction @ centred
    mean = reference.flatten(1).mean(0)
    if torch.dot(projection, mean - mean.mean()) < 0:
        direction, projection = -direction, -projection
    return direction, projection.view(values.shape[1:])


_BACKWARD = "one backward pass per class"

METHODS: dict[str, Method] = {
    row.name: row
    for row in (
        Method(
            "GradCAM",
            gradcam,
            "weight",
            "mean gradient of the target per channel",
            _BACKWARD,
            "Selvaraju et al. 2017, arXiv 1610.02391",
        ),
        Method(
            "GradCAM++",
            gradcam_plus_plus,
            "weight",
            "weighted sum of the positive gradients per channel",
            _BACKWARD,
            "Chattopadhyay et al. 2018, arXiv 1710.11063",
        ),
        Method(
            "XGradCAM",
            xgradcam,
            "weight",
            "gradient averaged by activation per channel",
            _BACKWARD,
            "Fu et al. 2020, arXiv 2008.02312",
        ),
        Method(
            "HiResCAM",
            hirescam,
            "share",
            "sum of gradient times activation per channel",
            _BACKWARD,
            "Draelos and Carin 2020, arXiv 2011.08891",
            terms=hirescam_terms,
            cancels=True,
        ),
        Method(
            "LayerCAM",
            layercam,
            "share",
            "sum of positive gradient times activation per channel",
            _BACKWARD,
            "Jiang et al. 2021, IEEE TIP, doi 10.1109/TIP.2021.3089943",
            terms=layercam_terms,
        ),
        Method(
            "GradCAMElementWise",
            gradcam_elementwise,
            "share",
            "sum of the positive part of gradient times activation per channel",
            _BACKWARD,
            "pytorch-grad-cam",
            terms=elementwise_terms,
        ),
        Method(
            "EigenCAM",
            eigencam,
            "weight",
            "loading on the first principal component of the activations",
            "no backward pass; the same for every class",
            "Muhammad and Yeasin 2020, arXiv 2008.00299",
            terms=eigencam_terms,
            centred=True,
        ),
        Method(
            "EigenGradCAM",
            eigengradcam,
            "weight",
            "loading on the first principal component of gradient times activation",
            _BACKWARD,
            "pytorch-grad-cam",
            terms=eigengradcam_terms,
            cancels=True,
            centred=True,
        ),
        Method(
            "ShapleyCAM",
            shapleycam,
            "weight",
            "mean gradient less half the curvature per channel",
            "two backward passes per class and layer",
            "Cai 2025, arXiv 2501.06261",
        ),
        Method(
            "FinerCAM",
            gradcam,
            "weight",
            "mean gradient, the class against those most like it, per channel",
            _BACKWARD,
            "Zhang et al. 2025, CVPR, arXiv 2501.11309",
            target=finer,
        ),
        Method(
            "CAM",
            cam,
            "weight",
            "the class's weight in the linear head per channel",
            "no backward pass; needs a head of global average pooling and one linear layer",
            "Zhou et al. 2016, arXiv 1512.04150",
        ),
        Method(
            "AblationCAM",
            ablationcam,
            "weight",
            "relative drop of the score without the channel",
            "up to one pass per channel, through what follows the layer",
            "Desai and Ramaswamy 2020, WACV",
        ),
        Method(
            "ScoreCAM",
            scorecam,
            "weight",
            "softmax of the score of the picture masked by the channel",
            "up to one forward pass per channel",
            "Wang et al. 2020, arXiv 1910.01279",
        ),
        Method(
            "GuidedGradCAM",
            guided_gradcam,
            "weight",
            "mean gradient of the target per channel",
            "one more backward pass per class, to the pixels",
            "Selvaraju et al. 2017, arXiv 1610.02391",
        ),
        Method(
            "GuidedBackprop",
            guided_backprop,
            "weight",
            "mean gradient of the target per channel",
            "one more backward pass per class, to the pixels; the same for every layer",
            "Springenberg et al. 2015, arXiv 1412.6806",
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
        raise ValueError(f"method: expected one of {list(METHODS)}; got {name!r}{did_you_mean(name, METHODS)}")
    return METHODS[name]
