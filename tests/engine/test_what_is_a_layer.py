"""What only looks like a feature map, or like the last one; and maps that are rounding."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from gradcam_widget import GradCAM

PICTURE = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))


class _OverChannels(nn.Module):
    """LayerNorm over the channels of each cell, as in ConvNeXt."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=1e-12)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def normalised() -> nn.Module:
    torch.manual_seed(2)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, stride=2),
        _OverChannels(8),
        nn.Conv2d(8, 6, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 4),
    ).eval()


@pytest.mark.parametrize("method", ["HiResCAM", "EigenGradCAM"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_terms_that_cancel_out_are_called_rounding(method, dtype):
    cam = GradCAM(normalised().to(dtype))
    at_norm = cam.explain(PICTURE.to(dtype), 1, "0", method)
    # Normalised maps do not change with the scale of their input, so sum_k g^k A^k is 0 at every cell (Euler).
    terms = cam.terms(PICTURE.to(dtype), 1, "0", "HiResCAM")
    assert terms.sum(0).abs().max() < 1e-5 * terms.abs().sum(0).max()
    assert at_norm.diagnosis is not None
    assert "the map is rounding" in at_norm.diagnosis
    for layer in ("1", "2", "3"):
        said = cam.explain(PICTURE.to(dtype), 1, layer, method).diagnosis
        assert said is None or "rounding" not in said


@pytest.mark.parametrize("method", ["GradCAM", "GradCAM++", "XGradCAM", "LayerCAM", "GradCAMElementWise"])
def test_methods_without_that_sum_say_nothing_of_rounding(method):
    said = GradCAM(normalised()).explain(PICTURE, 1, "0", method).diagnosis
    assert said is None or "rounding" not in said


class _TwoHeads(nn.Module):
    """Scores of the whole and, added to them, the best of scores by place, made last."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, stride=2), nn.ReLU())
        self.head = nn.Linear(8, 5)
        self.aux = nn.Conv2d(8, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.body(x)
        return self.head(maps.mean((2, 3))) + 0.5 * self.aux(maps).amax((2, 3))


def test_an_auxiliary_head_is_not_the_last_feature_map():
    cam = GradCAM(_TwoHeads().eval())
    assert "aux" in [layer.name for layer in cam.layers(PICTURE)]
    assert cam.default_layer(PICTURE).name == "body"
    assert cam.explain(PICTURE, 0, "aux").layer.name == "aux"


def test_a_head_that_all_goes_through_is():
    torch.manual_seed(5)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 5, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ).eval()
    assert GradCAM(model).default_layer(PICTURE).name == "2"


def test_flattened_maps_are_no_tokens():
    # (1, 17, 16 * 16 / 16) has as many "tokens" as a class token beside a grid of 4 x 4.
    torch.manual_seed(6)
    model = nn.Sequential(nn.Conv2d(3, 17, 4, stride=4), nn.Flatten(2), nn.Flatten(), nn.Linear(272, 3)).eval()
    assert [layer.name for layer in GradCAM(model).layers(PICTURE)] == ["0"]


class _ChannelAttention(nn.Module):
    """A convolution along the channels, registered before the one over the picture."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.along = nn.Conv1d(1, 1, 3, padding=1, bias=False)
        self.stem = nn.Conv2d(3, 8, 3)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.stem(x)
        weights = self.along(maps.mean((2, 3))[:, None])[:, 0]
        return self.head((maps * weights.sigmoid()[..., None, None]).mean((2, 3)))


def test_a_convolution_along_the_channels_makes_no_signal_of_a_picture():
    cam = GradCAM(_ChannelAttention().eval())
    found = cam.explain(PICTURE, 1)
    assert (found.layer.name, tuple(found.cam.shape)) == ("stem", (14, 14))


def test_signals_stay_signals():
    torch.manual_seed(8)
    model = nn.Sequential(nn.Conv1d(2, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 2))
    assert GradCAM(model.eval()).explain(torch.rand(1, 2, 20), 0).cam.shape == (18,)
