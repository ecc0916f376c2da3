"""What is picked out of a map: the box and its threshold, as traits both ways."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
import traitlets
from messages import browser_sets, counted
from torch import Tensor, nn

from gradcam_widget.widget import wire
from gradcam_widget.widget.explorer import GradCAMWidget


class Tiny(nn.Module):
    """conv (1x1, 3 -> 2 channels), pool (2x2), global average pooling, and a linear head to 3 classes.

    Channel 0 is the red input, channel 1 the green one; logits = W @ mean over the cells, so that alpha at "pool"
    is W[c] / Z with Z = 4 cells.
    """

    class_names = ("cat", "dog", "crane")
    W = ((4.0, 2.0), (0.0, 4.0), (-1.0, -1.0))

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1, bias=False)
        self.pool = nn.AvgPool2d(2)
        self.head = nn.Linear(2, 3, bias=False)
        with torch.no_grad():
            self.conv.weight.copy_(torch.tensor([[1.0, 0, 0], [0, 1.0, 0]]).view(2, 3, 1, 1))
            self.head.weight.copy_(torch.tensor(self.W))
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(self.conv(x)).mean((2, 3)))


def red_left() -> Tensor:
    """Red 1 in the left half; green 0.5 in the upper half."""
    image = torch.zeros(3, 4, 4)
    image[0, :, :2] = 1
    image[1, :2] = 0.5
    return image


# At "pool", with 2 x 2 cells of 2 x 2 pixels, for class 0: A0 = [[1, 0], [1, 0]], A1 = [[.5, .5], [0, 0]] and
# alpha = (1, 0.5), so that the map is A0 + 0.5 A1 = [[1.25, 0.25], [1, 0]].


@pytest.fixture
def make() -> Iterator[Callable[..., GradCAMWidget]]:
    made: list[GradCAMWidget] = []

    def build(model: Any = None, images: Any = None, **arguments: Any) -> GradCAMWidget:
        images = {"red": red_left(), "mirrored": red_left().flip(2)} if images is None else images
        arguments = {"target": 0, "layer": "pool", **arguments}
        made.append(GradCAMWidget(Tiny() if model is None else model, images, **arguments))
        return made[-1]

    yield build
    for widget in made:
        widget.close()


@pytest.fixture
def widget(make: Callable[..., GradCAMWidget]) -> GradCAMWidget:
    return make()


# -- the box ---------------------------------------------------------------------------------------------------


def test_the_box_by_hand(widget: GradCAMWidget) -> None:
    # From 2 to 4 pixels the weights are (1, 0), (3/4, 1/4), (1/4, 3/4), (0, 1): the upper row is 1.25, 1, 0.5,
    # 0.25 and the lower one 1, 0.75, 0.25, 0; 15 % of 1.25 is 0.1875, which the last pixels of those miss.
    assert (widget.threshold, widget.show_box) == (0.15, False)
    assert widget.box == (0, 0, 4, 4)
    widget.threshold = (
        0.7  # 0.875: the rows are [1.25, 1, ..], [1.1875, 0.9375, ..], [1.0625, 0.8125, ..], [1, ..]
    )
    assert widget.box == (0, 0, 2, 4)
    widget.threshold = 0.9  # 1.125: the first pixel of the first two rows
    assert widget.box == (0, 0, 1, 2)


def test_the_box_follows_what_is_shown_and_can_be_observed(widget: GradCAMWidget) -> None:
    widget.threshold = 0.7
    seen: list[Any] = []
    widget.observe(lambda change: seen.append(change["new"]), "box")
    widget.image_index = 1
    assert widget.box == (2, 0, 4, 4)
    widget.target = 2  # alpha is (-1/4, -1/4): nothing positive
    assert widget.box is None
    widget.evidence = "counterfactual"
    assert widget.box is not None
    assert seen[:2] == [(2, 0, 4, 4), None]
    with pytest.raises(traitlets.TraitError, match="read-only"):
        widget.box = (0, 0, 1, 1)


def test_no_map_no_box(widget: GradCAMWidget, monkeypatch: pytest.MonkeyPatch) -> None:
    assert widget.box is not None

    def fail(x: Tensor) -> Tensor:
        raise RuntimeError("broken")

    monkeypatch.setattr(widget.engine.model, "forward", fail)
    widget.image_index = 1
    assert widget.explanation is None
    assert widget.box is None
    widget.threshold = 0.5
    assert widget.box is None


def test_threshold_and_box_are_two_way_and_send_no_scene(widget: GradCAMWidget) -> None:
    with counted() as sent:
        widget.threshold = 0.7
        widget.show_box = True
    states = [message.state for message in sent if message.widget is widget._canvas]
    assert states == [{"threshold": 0.7}, {"show_box": True}]
    with counted() as sent:
        browser_sets(widget._canvas, threshold=0.9, show_box=False)
    assert sent == []
    assert (widget.threshold, widget.show_box, widget.box) == (0.9, False, (0, 0, 1, 2))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("threshold", 1.5, "threshold: expected a share of the map's maximum, from 0 to 1; got 1.5"),
        ("threshold", "much", "threshold: expected a share"),
        ("threshold", True, "threshold: expected a share"),
        ("threshold", float("nan"), "threshold: expected a share"),
        ("show_box", 1, "show_box: expected True or False; got 1"),
    ],
)
def test_wrong_values_are_told_and_change_nothing(
    widget: GradCAMWidget, name: str, value: object, message: str
) -> None:
    before = getattr(widget, name)
    with pytest.raises(traitlets.TraitError, match=message):
        setattr(widget, name, value)
    assert getattr(widget, name) == before
    assert getattr(widget._canvas, name) == before


def test_a_wrong_value_from_the_view_is_said_and_put_back(widget: GradCAMWidget) -> None:
    browser_sets(widget._canvas, threshold=7.0)
    assert "threshold" in widget._canvas.notice["message"]
    assert widget._canvas.threshold == widget.threshold == 0.15


def test_arrays_are_decoded_as_the_view_does() -> None:
    random = np.random.default_rng(2)
    values = random.normal(size=(5, 7))
    assert wire.decode(wire.encode(values, "f32")).tolist() == values.astype(np.float32).tolist()
    for dtype, steps in (("i16", 32767), ("u8z", 254), ("u8z/31", 30)):
        got = wire.decode(wire.encode(values, dtype))
        assert got.shape == (5, 7)
        span = np.abs(values).max() if dtype == "i16" else np.ptp(values)
        assert np.abs(got - values).max() <= span / steps / 2 * 1.1
        assert np.abs(got - values).max() > 0
