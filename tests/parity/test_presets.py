"""The presets by hand, without the peers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from gradcam_widget.engine import GradCAM
from gradcam_widget.explanation import Explanation
from gradcam_widget.presets import as_captum, as_grad_cam, as_torchcam


def explained(signed: list[list[float]], method: str = "GradCAM") -> Explanation:
    """An explanation whose signed map is the given one: a convolution that multiplies by 1, and a mean."""
    picture = torch.tensor(signed, dtype=torch.float64)[None, None]
    model = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 2))
    with torch.no_grad():
        model[0].weight.fill_(1)
        # alpha is W/Z for GradCAM and W for CAM, S = alpha · A
        model[3].weight.fill_(picture.numel() if method == "GradCAM" else 1)
        model[3].bias.zero_()
    found = GradCAM(model.double().eval()).explain(picture, 0, "0", method)
    assert torch.allclose(found.signed_cam, picture[0, 0])
    return found


def near(found: Tensor, expected: list[list[float]]) -> None:
    wanted = torch.tensor(expected, dtype=torch.float64)
    assert found.shape == wanted.shape
    assert torch.allclose(found, wanted, atol=1e-6)


def test_by_hand():
    # S = -2 1 ; ReLU: 0 1 ; min 0, max 3: 0 1/3 ; 2/3 1
    #      2 3         2 3
    found = explained([[-2, 1], [2, 3]])
    near(as_grad_cam(found), [[0, 1 / 3], [2 / 3, 1]])
    near(as_torchcam(found)[0], [[0, 1 / 3], [2 / 3, 1]])
    near(as_captum(found)[0, 0], [[-2, 1], [2, 3]])
    near(as_captum(found, relu=True)[0, 0], [[0, 1], [2, 3]])
    assert as_captum(found).shape == (1, 1, 2, 2)
    assert as_torchcam(found).shape == (1, 2, 2)


def test_the_smallest_evidence_becomes_zero_there_and_not_here():
    # S = 2 3 4 4: theirs from 0 to 1, ours over the maximum
    found = explained([[2, 3], [4, 4]])
    near(as_grad_cam(found), [[0, 0.5], [1, 1]])
    near(as_torchcam(found)[0], [[0, 0.5], [1, 1]])
    near(found.heatmap(), [[0.5, 0.75], [1, 1]])


def test_a_flat_map_becomes_zeros_there_and_not_here():
    found = explained([[3, 3], [3, 3]])
    near(as_grad_cam(found), [[0, 0], [0, 0]])
    near(as_torchcam(found)[0], [[0, 0], [0, 0]])
    near(found.heatmap(), [[1, 1], [1, 1]])


def test_an_empty_map_is_zeros_everywhere():
    found = explained([[-3, -1], [-2, -5]])
    near(as_grad_cam(found), [[0, 0], [0, 0]])
    near(as_torchcam(found)[0], [[0, 0], [0, 0]])


def test_grad_cam_upsamples_and_scales_again():
    # 0 1 over four pixels: 0 1/4 3/4 1; one row stays one row
    found = explained([[0, 1]])
    near(as_grad_cam(found, (1, 4)), [[0, 0.25, 0.75, 1]])
    # 0 4 0 over two pixels: 1 and 1 (each half way), which is flat and scaled to zeros
    near(as_grad_cam(explained([[0, 4, 0, 0]]), (1, 2)), [[1, 0]])


def test_cam_has_no_relu_in_torchcam():
    found = explained([[-2, 1], [2, 2]], "CAM")
    near(as_torchcam(found)[0], [[0, 0.75], [1, 1]])


@pytest.mark.parametrize("convention", [as_grad_cam, as_captum, as_torchcam])
def test_the_explanation_is_left_alone(convention):
    found = explained([[-2, 1], [2, 3]])
    before = found.signed_cam.clone()
    convention(found).fill_(7)
    near(before, found.signed_cam.tolist())
