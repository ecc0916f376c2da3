"""Two targets side by side: an explanation of each at one layer, and of their difference."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gradcam_widget.engine import GradCAM
from gradcam_widget.explanation import Explanation
from gradcam_widget.methods import METHODS
from gradcam_widget.targets import Contrast, Counterfactual

__all__ = ["Comparison", "compare_targets", "no_comparison", "terms_of"]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two targets at one layer, by one method.

    Attributes:
        first, second: the explanation of either; for counterfactual evidence that of the negative of either.
        contrast: the explanation of y_a - y_b: its signed cam is positive where the layer speaks for the first
            rather than the second. For GradCAM, whose maps are linear in the target, it is the difference of the
            two signed cams, and its alpha the difference of their alphas.
    """

    first: Explanation
    second: Explanation
    contrast: Explanation


def no_comparison(method: str) -> str | None:
    """Why maps of this method are not compared, in words; None where they are."""
    row = METHODS[method]
    if row.many_passes:
        return f"{method} needs {row.passes}, for each of the three maps of a comparison. Choose GradCAM."
    if "guided" in row.needs:
        return f"{method} draws at the pixels, and a comparison is one of maps of the layer. Choose GradCAM."
    if not (row.needs_gradient or "curvature" in row.needs):
        return f"{method} gives the same map for every class, so there is nothing to compare. Choose GradCAM."
    return None


def compare_targets(
    engine: GradCAM, image: object, own: Explanation, first: Explanation, target: object, evidence: str
) -> Comparison:
    """The second class beside the first, and the contrast of both.

    Args:
        engine: which has explained the first.
        image: as in `GradCAM.explain`.
        own: an explanation of the first target, which tells the target and the layer.
        first: what is on show of it.
        target: the second one, as in `GradCAM.explain`.
        evidence: what ``first`` shows; the second shows the same.

    Raises:
        ValueError: where a map is not finite, or the method does not take one of the targets.
    """
    method = first.method
    if evidence == "counterfactual":
        plain = engine.explain(image, target, own.layer)
        second = engine.explain(image, Counterfactual(plain.target), own.layer, method)
    else:
        second = plain = engine.explain(image, target, own.layer, method)
    what = Contrast(own.target, plain.target)
    if "head_weights" in METHODS[method].needs and evidence != "counterfactual":
        contrast = _difference(first, second, what)  # the head's weights are those of one class
    else:
        contrast = engine.explain(image, what, own.layer, _linear(method))
    for explanation in (second, contrast):
        if not torch.isfinite(explanation.signed_cam).all():
            raise ValueError(f"compare_target: {explanation.diagnosis or 'the map is not finite'}")
    return Comparison(first, second, contrast)


def terms_of(engine: GradCAM, image: object, comparison: Comparison) -> tuple[Tensor, Tensor]:
    """(K, h, w) what each channel adds to the signed map of the second target, and to that of the contrast."""
    second, contrast = comparison.second, comparison.contrast
    method = _linear(second.method)  # the targets are those that the method makes of them
    own = engine.terms(image, second.target, second.layer, method)
    if contrast.method == second.method and "head_weights" in METHODS[method].needs:
        return own, engine.terms(image, comparison.first.target, second.layer, method) - own
    return own, engine.terms(image, contrast.target, contrast.layer, contrast.method)


def _difference(first: Explanation, second: Explanation, target: Contrast) -> Explanation:
    """The explanation of a contrast by a method that is linear in the target."""
    signed = first.signed_cam - second.signed_cam
    return replace(
        first,
        target=target,
        score=first.score - second.score,
        probability=None,
        alpha=first.alpha - second.alpha,
        signed_cam=signed,
        diagnosis=None,
        diagnosis_code=None,
    )


def _linear(method: str) -> str:
    """The method for a contrast: one that changes its target gives way to the one with the same function, since
    the two targets of the contrast are changed already.
    """
    row = METHODS[method]
    if row.target is None:
        return method
    return next(
        other.name for other in METHODS.values() if other.function is row.function and other.target is None
    )
