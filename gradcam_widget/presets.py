"""Other libraries' conventions: what grad-cam, captum and torchcam would have returned, for people who migrate.

Only what is done to the map afterwards differs here (ReLU, normalisation, interpolation). Where a library takes
another tensor or another formula, its map is another one; docs/parity.md lists where.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from gradcam_widget.heatmap import upsample

if TYPE_CHECKING:
    from gradcam_widget.explanation import Explanation

__all__ = ["as_captum", "as_grad_cam", "as_torchcam"]


def as_grad_cam(explanation: Explanation, size: tuple[int, ...] | None = None) -> Tensor:
    """(H, W) in [0, 1], as one map of pytorch-grad-cam's ``cam(input_tensor, targets)``.

    ReLU, minimum to 0 and maximum to 1 at the layer's size, bilinear upsampling, then the same once more: 0 is the
    smallest evidence in the picture, not none. A map that is flat becomes zeros.

    Args:
        explanation: of the method that is compared.
        size: (H, W); by default the picture's, as there.
    """
    scaled = _min_max(explanation.cam, 1e-7)
    return _min_max(upsample(scaled[None], explanation.picture if size is None else size)[0], 1e-7)


def as_captum(explanation: Explanation, *, relu: bool = False) -> Tensor:
    """(1, 1, h, w) as captum's ``LayerGradCam.attribute``: the signed map at the layer's size, nothing done to it.

    Args:
        explanation: of GradCAM, the one method that captum has.
        relu: captum's ``relu_attributions``.
    """
    return (explanation.cam if relu else explanation.signed_cam)[None, None].clone()


def as_torchcam(explanation: Explanation) -> Tensor:
    """(1, h, w) in [0, 1], as one of the maps that a torchcam extractor returns.

    ReLU (not for CAM), then minimum to 0 and maximum to 1, at the layer's size; torchcam leaves the upsampling to
    its ``overlay_mask``.

    Args:
        explanation: of the method that is compared.
    """
    return _min_max(explanation.signed_cam if explanation.method == "CAM" else explanation.cam, 1e-8)[None]


def _min_max(values: Tensor, epsilon: float) -> Tensor:
    shifted = values - values.min()
    return shifted / (shifted.max() + epsilon)
