"""Guided methods in the explorer: the map at the pixels, its limits, its message, its zoom."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import traitlets
from messages import browser_sets, counted
from PIL import Image
from torch import Tensor, nn

from gradcam_widget.engine import GradCAM
from gradcam_widget.widget.explorer import GradCAMWidget
from gradcam_widget.widget.pixels import encode_pixels, grey_centred


class Relus(nn.Module):
    """One channel, red - green, through a ReLU, pooled to 2 x 2 cells; the logits are 4 and -4 times the mean."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 1, 1, bias=False)
        self.relu = nn.ReLU()
        self.pool = nn.AvgPool2d(2)
        self.head = nn.Linear(1, 2, bias=False)
        with torch.no_grad():
            self.conv.weight.copy_(torch.tensor([1.0, -1.0, 0.0]).view(1, 3, 1, 1))
            self.head.weight.copy_(torch.tensor([[4.0], [-4.0]]))
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(self.relu(self.conv(x))).mean((2, 3)))


def red_left() -> Tensor:
    image = torch.zeros(3, 4, 4)
    image[0, :, :2] = 1
    image[1] = 0.25
    return image


@pytest.fixture
def make(explore: Callable[..., GradCAMWidget]) -> Callable[..., GradCAMWidget]:
    def build(model: Any = None, **arguments: Any) -> GradCAMWidget:
        return explore(Relus() if model is None else model, red_left(), **arguments)

    return build


def drawn(widget: GradCAMWidget) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(widget._canvas.pixels["data"])))


def test_grey_is_zero_and_the_ends_are_the_limit() -> None:
    # 1000 values: 0 but for five. The 99.5 % quantile of the magnitudes lies between them and the zeros, so the
    # limit is taken from the largest; 2 is half of it: 128 + 63.5.
    values = np.zeros((1, 10, 100))
    values[0, 0, :3] = 4, -4, 2
    pixels, limit = grey_centred(values)
    assert limit == 4
    assert pixels[0, :4].tolist() == [[255] * 3, [1] * 3, [192] * 3, [128] * 3]


def test_the_few_largest_values_are_cut_at_the_limit() -> None:
    values = np.ones((3, 20, 100))
    values[0, 0, 0], values[1, 0, 0], values[2, 0, 0] = 50, -50, 0.5
    pixels, limit = grey_centred(values)
    assert limit == 1
    assert pixels[0, 0].tolist() == [255, 1, 192]
    assert pixels[5, 5].tolist() == [255, 255, 255]


def test_no_value_at_all_is_grey() -> None:
    pixels, limit = grey_centred(np.zeros((3, 2, 2)))
    assert (limit, np.unique(pixels).tolist()) == (0, [128])
    with pytest.raises(ValueError, match="NaN or infinite"):
        encode_pixels(np.array([[[np.nan]]]), 1)


def test_guided_backpropagation_by_hand(make: Callable[..., GradCAMWidget]) -> None:
    # The ReLU is open in the left half, and dy/d(its output) = 4 / 16 there: the gradient at red is 0.25, at green
    # -0.25, at blue 0; in the right half 0. The limit is 0.25.
    widget = make(method="GuidedBackprop")
    pixels = widget._canvas.pixels
    assert (pixels["width"], pixels["height"], pixels["limit"]) == (4, 4, 0.25)
    assert drawn(widget)[1, 0].tolist() == [255, 1, 128]
    assert drawn(widget)[1, 3].tolist() == [128, 128, 128]
    assert pixels["revision"] == widget._canvas.scene["revision"]
    assert widget._canvas.scene["method"]["pixels"] is True


def test_guided_grad_cam_is_the_engine_s(make: Callable[..., GradCAMWidget]) -> None:
    widget = make(method="GuidedGradCAM")
    found = GradCAM(Relus()).explain(red_left(), method="GuidedGradCAM").guided
    limit = widget._canvas.pixels["limit"]
    back = (drawn(widget).astype(float) - 128) / 127 * limit
    np.testing.assert_allclose(back.transpose(2, 0, 1), found.clamp(-limit, limit).numpy(), atol=limit / 250)


def test_scene_and_pixels_are_one_message_and_another_method_takes_them_away(
    make: Callable[..., GradCAMWidget],
) -> None:
    widget = make()
    assert widget._canvas.pixels == {}
    with counted() as sent:
        widget.method = "GuidedGradCAM"
    (message,) = [message for message in sent if message.widget is widget._canvas and "scene" in message.state]
    assert set(message.state) == {"scene", "pixels"}
    assert message.size - len(widget._canvas.pixels["data"]) <= 10_000
    with counted() as sent:
        widget.method = "GradCAM"
    (message,) = [message for message in sent if message.widget is widget._canvas and "scene" in message.state]
    assert set(message.state) == {"scene", "pixels"}
    assert widget._canvas.pixels == {}


def test_the_strip_of_a_guided_method_costs_no_pass_to_the_pixels(make: Callable[..., GradCAMWidget]) -> None:
    widget = make()
    before = widget.engine.passes
    widget.method = "GuidedBackprop"
    spent = widget.engine.passes - before
    assert (spent.forward, spent.backward) == (0, 1)
    assert [layer["max"] > 0 for layer in widget._canvas.strip["layers"]] == [True] * 2


def test_no_channel_can_be_left_out_of_a_map_that_is_no_sum_of_channels(
    make: Callable[..., GradCAMWidget],
) -> None:
    widget = make(method="GuidedGradCAM")
    with pytest.raises(traitlets.TraitError, match="GuidedGradCAM does not say what a single channel adds"):
        widget.channels_off = (0,)


def test_a_model_without_relus_is_told_and_the_next_method_works(make: Callable[..., GradCAMWidget]) -> None:
    model = Relus()
    model.relu = nn.Identity()
    widget = make(model, method="GuidedBackprop")
    assert "this model has none" in widget._canvas.notice["message"]
    widget.method = "GradCAM"
    assert widget._canvas.notice == {}


def test_the_zoom_goes_both_ways(make: Callable[..., GradCAMWidget]) -> None:
    widget = make(method="GuidedBackprop")
    with counted() as sent:
        browser_sets(widget._canvas, zoom=4)
    assert (widget.zoom, sent) == (4.0, [])
    widget.zoom = 8
    assert widget._canvas.zoom == 8.0
    for wrong in (0.5, 33, "2", None, True):
        with pytest.raises(traitlets.TraitError, match="zoom: expected a number from 1"):
            widget.zoom = wrong
    browser_sets(widget._canvas, zoom=100.0)
    assert (widget.zoom, widget._canvas.zoom) == (8.0, 8.0)
