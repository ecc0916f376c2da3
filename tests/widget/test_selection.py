"""What is picked out of a map: box and threshold, and channels that are left out, as traits both ways."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tiny
import torch
import traitlets
from messages import browser_says, browser_sets, counted, decode
from torch import Tensor, nn

from gradcam_widget.methods import METHODS, Method
from gradcam_widget.widget import selection, wire
from gradcam_widget.widget.explorer import GradCAMWidget


class Tiny(tiny.Tiny):
    """Channel 0 is the red input, channel 1 the green one."""

    W = ((4.0, 2.0), (0.0, 4.0), (-1.0, -1.0))


def red_left() -> Tensor:
    """Red 1 in the left half; green 0.5 in the upper half."""
    image = torch.zeros(3, 4, 4)
    image[0, :, :2] = 1
    image[1, :2] = 0.5
    return image


# At "pool", with 2 x 2 cells of 2 x 2 pixels, for class 0: A0 = [[1, 0], [1, 0]], A1 = [[.5, .5], [0, 0]] and
# alpha = (1, 0.5), so that the map is A0 + 0.5 A1 = [[1.25, 0.25], [1, 0]].


@pytest.fixture
def make(explore: Callable[..., GradCAMWidget]) -> Callable[..., GradCAMWidget]:
    def build(model: Any = None, images: Any = None, **arguments: Any) -> GradCAMWidget:
        images = {"red": red_left(), "mirrored": red_left().flip(2)} if images is None else images
        arguments = {"target": 0, "layer": "pool", **arguments}
        return explore(Tiny() if model is None else model, images, **arguments)

    return build


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
        ("threshold", None, "threshold: expected a share"),
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


# -- channels that are off -------------------------------------------------------------------------------------


def shown(widget: GradCAMWidget) -> list[Any]:
    """The map that the view has."""
    return decode(widget._canvas.scene["cam"]).tolist()


def test_the_map_without_a_channel_by_hand(widget: GradCAMWidget) -> None:
    assert widget.channels_off == ()
    assert shown(widget) == [[1.25, 0.25], [1, 0]]
    widget.channels_off = [0]
    assert widget.channels_off == (0,)
    scene = widget._canvas.scene
    assert shown(widget) == [[0.25, 0.25], [0, 0]]
    assert scene["max"] == 0.25
    assert scene["off"] == "01"
    # The contributions alpha * mean are (1 * 0.5, 0.5 * 0.25); the weights are those of the whole map.
    assert scene["coverage"] == {"channels": 1, "of": 1, "share": 0.5}
    assert decode(scene["alpha"]).tolist() == [1, 0.5]
    assert widget.box == (0, 0, 4, 3)  # 0.25 falls to 0 over the rows: 1, 3/4, 1/4, 0 of it
    assert widget.explanation.signed_cam.tolist() == [[1.25, 0.25], [1, 0]]  # the explanation is the whole one
    widget.channels_off = (1, 0, 1)
    assert widget.channels_off == (0, 1)
    assert shown(widget) == [[0, 0], [0, 0]]
    assert widget._canvas.scene["diagnosis"] == "The channels that are on add up to no positive evidence anywhere."
    assert widget.box is None
    widget.channels_off = ()
    assert shown(widget) == [[1.25, 0.25], [1, 0]]
    assert widget._canvas.scene["diagnosis"] is None
    assert widget._canvas.scene["off"] == ""


def test_a_switch_is_one_small_message_and_keeps_what_belongs_to_its_base(widget: GradCAMWidget) -> None:
    browser_says(widget._canvas, type="activations", revision=1, channel=0)
    before = widget._canvas.activations
    passes = widget.engine.passes
    with counted() as sent:
        browser_says(widget._canvas, type="off", base=1, mask="02")
    (message,) = [message for message in sent if message.widget is widget._canvas]
    assert set(message.state) == {"scene"}
    assert message.size <= 10_000
    assert (message.state["scene"]["revision"], message.state["scene"]["base"]) == (2, 1)
    assert widget.channels_off == (1,)
    assert shown(widget) == [[1, 0], [1, 0]]
    assert widget._canvas.activations == before
    browser_says(widget._canvas, type="activations", revision=1, channel=1)  # of the base, which is still on show
    assert widget._canvas.activations["revision"] == 1
    assert widget.engine.passes == passes
    with counted() as sent:
        browser_says(widget._canvas, type="off", base=1, mask="02")
        widget.channels_off = {1}
    assert sent == []
    # What is about an earlier scene is not heard.
    widget.target = 1
    browser_says(widget._canvas, type="off", base=1, mask="01")
    assert widget.channels_off == (1,)


def test_channels_stay_off_at_their_layer_and_are_on_at_another(widget: GradCAMWidget) -> None:
    widget.channels_off = (0,)
    seen: list[Any] = []
    widget.observe(lambda change: seen.append(change["new"]), "channels_off")
    widget.target = 1  # alpha is (0, 1): the map is A1
    assert shown(widget) == [[0.5, 0.5], [0, 0]]
    widget.evidence = "counterfactual"
    assert shown(widget) == [[0, 0], [0, 0]]
    assert widget._canvas.scene["diagnosis"].endswith("add up to no evidence against the class anywhere.")
    widget.set(evidence="signed", target=2)  # alpha is (-1/4, -1/4)
    assert shown(widget) == [[-0.125, -0.125], [0, 0]]
    widget.image_index = 1
    assert widget._canvas.scene["off"] == "01"
    assert seen == []
    with counted() as sent:
        widget.layer = "conv"
    assert len([message for message in sent if "scene" in message.state]) == 1
    assert seen == [()]
    assert widget._canvas.scene["off"] == ""


@pytest.mark.parametrize("method", [name for name, row in METHODS.items() if "guided" not in row.needs])
def test_what_is_left_is_the_engines_map_less_the_terms_of_what_is_off(
    make: Callable[..., GradCAMWidget], method: str
) -> None:
    torch.manual_seed(5)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.Tanh(), nn.Conv2d(6, 7, 3), nn.Softplus(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(7, 4),
    ).eval()  # fmt: skip
    picture = torch.rand(3, 12, 12)
    widget = make(model, picture, layer="3", target=2, evidence="signed", method=method)
    if METHODS[method].many_passes:
        widget.compute()
    assert widget.explanation is not None
    off = (1, 2, 5)
    widget.channels_off = off
    terms = widget.engine.terms(picture, 2, "3", method)
    wanted = (widget.explanation.signed_cam - terms[list(off)].sum(0)).numpy()
    assert np.abs(terms[list(off)].sum(0).numpy()).max() > 1e-3 * np.abs(wanted).max() > 0
    scale = float(terms.abs().sum(0).max())
    np.testing.assert_allclose(decode(widget._canvas.scene["cam"]), wanted, rtol=0, atol=1e-6 * scale)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ((2,), "channels_off: expected ints from 0 to 1, one per channel of the layer; got 2"),
        ([0, -1], "expected ints from 0 to 1, one per channel of the layer; got -1"),
        (1, "channels_off: expected channel numbers, such as .*; got 1"),
        ("1", "channels_off: expected channel numbers"),
        ([0.5], "channels_off: expected channel numbers"),
        ([True], "channels_off: expected channel numbers"),
        (None, "channels_off: expected channel numbers"),
    ],
)
def test_wrong_channels_are_told_and_change_nothing(widget: GradCAMWidget, value: object, message: str) -> None:
    widget.channels_off = (1,)
    with pytest.raises(traitlets.TraitError, match=message):
        widget.channels_off = value
    assert widget.channels_off == (1,)
    assert widget._canvas.scene["off"] == "02"


def test_a_mask_that_is_none_is_said_and_changes_nothing(widget: GradCAMWidget) -> None:
    for mask in ("04", "0100", "zz"):
        browser_says(widget._canvas, type="off", base=1, mask=mask)
        assert widget._canvas.notice["message"] != ""
        assert widget.channels_off == ()
    browser_says(widget._canvas, type="off", base=1, mask="01")
    assert widget.channels_off == (0,)


def test_a_method_that_cannot_say_what_a_channel_adds_says_so(
    make: Callable[..., GradCAMWidget], monkeypatch: pytest.MonkeyPatch
) -> None:
    def strongest(activations: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor]:
        terms = activations * gradients
        return terms.flatten(1).sum(1), terms.amax(0)

    row = Method("Strongest", strongest, "share", "largest term", "one backward pass", "this test")
    monkeypatch.setitem(METHODS, "Strongest", row)
    widget = make()
    widget.channels_off = (0,)
    widget.method = "Strongest"
    assert widget.channels_off == ()
    assert widget._canvas.scene["method"]["terms"] is None
    with pytest.raises(traitlets.TraitError, match="Strongest does not say what a single channel adds"):
        widget.channels_off = (0,)


@pytest.mark.parametrize("method", ["GuidedGradCAM", "GuidedBackprop"])
def test_maps_at_the_pixels_are_no_sum_over_channels_and_none_is_left_out(
    make: Callable[..., GradCAMWidget], method: str
) -> None:
    torch.manual_seed(2)
    model = nn.Sequential(
        nn.Conv2d(3, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3)
    ).eval()
    widget = make(model, torch.rand(3, 8, 8), layer="1")
    widget.channels_off = (0, 3)
    widget.method = method
    assert (widget.channels_off, widget._canvas.scene["off"]) == ((), "")
    assert widget._canvas.scene["method"]["terms"] is None
    with pytest.raises(traitlets.TraitError, match=f"{method} does not say what a single channel adds"):
        widget.channels_off = (0,)
    widget.method = "GradCAM"
    widget.channels_off = (0,)
    assert widget.channels_off == (0,)


def test_ablate_asks_the_model_and_shows_its_answer_until_the_next_scene(widget: GradCAMWidget) -> None:
    # The means are (0.5, 0.25), the scores (2.5, 1, -0.75); without green (2, 0, -0.5).
    widget.channels_off = (1,)
    found = widget.ablate()
    assert (found.score, found.full_score, found.channels) == (2, 2.5, (1,))
    with_all, left = np.exp([2.5, 1, -0.75]), np.exp([2, 0, -0.5])
    assert widget._canvas.ablation == pytest.approx(
        {
            "score": 2,
            "full_score": 2.5,
            "probability": left[0] / left.sum(),
            "full_probability": with_all[0] / with_all.sum(),
        }
    )
    widget.channels_off = ()
    assert widget._canvas.ablation == {}
    widget.evidence = "counterfactual"  # the score is that of the class all the same
    browser_says(widget._canvas, type="off", base=widget._canvas.base, mask="01")
    browser_says(widget._canvas, type="ablate")
    assert widget._canvas.ablation["score"] == 0.5
    widget.target = 1
    assert widget._canvas.ablation == {}
    widget.close()
    with pytest.raises(RuntimeError, match="closed"):
        widget.ablate()


def test_an_ablation_that_fails_is_said(widget: GradCAMWidget, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **named: object) -> None:
        raise RuntimeError("the tail is broken")

    monkeypatch.setattr(widget.engine, "ablate", fail)
    browser_says(widget._canvas, type="ablate")
    assert "the tail is broken" in widget._canvas.notice["message"]
    with pytest.raises(RuntimeError, match="the tail is broken"):
        widget.ablate()


def test_without_a_map_there_is_nothing_to_leave_out(make: Callable[..., GradCAMWidget]) -> None:
    class Broken(Tiny):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("broken")

    widget = make(Broken(), layer=None, target=None)
    with pytest.raises(traitlets.TraitError, match="no layer is on show"):
        widget.channels_off = (0,)
    with pytest.raises(RuntimeError, match="There is no map"):
        widget.ablate()


def test_masks() -> None:
    assert wire.mask((), 9) == ""
    assert wire.mask((0, 3, 8), 9) == "0901"
    assert wire.unmask("0901", 9) == (0, 3, 8)
    assert wire.unmask("", 9) == ()
    random = np.random.default_rng(3)
    for count in (1, 7, 8, 9, 1280, 2048):
        channels = tuple(np.flatnonzero(random.random(count) < 0.3).tolist())
        assert wire.unmask(wire.mask(channels, count), count) == channels
        assert len(wire.mask(tuple(range(count)), count)) <= 512
    with pytest.raises(ValueError, match="expected 2 bytes for 9 channels; got 1"):
        wire.unmask("09", 9)
    with pytest.raises(ValueError, match="expected 2 bytes for 9 channels"):
        wire.unmask("0902", 9)


# -- the probe -------------------------------------------------------------------------------------------------


def terms_sent(widget: GradCAMWidget) -> tuple[int, np.ndarray]:
    """The first cell, and (cells, channels), as the contract says: value = scale * data for each cell."""
    message = widget._canvas.terms
    data = np.frombuffer(zlib.decompress(message["data"]), "<i2").reshape(message["shape"])
    return message["first"], data * np.frombuffer(message["scale"], "<f4")[:, None]


def test_the_terms_at_a_cell_by_hand(widget: GradCAMWidget) -> None:
    # A0 = [[1, 0], [1, 0]] with alpha 1, A1 = [[.5, .5], [0, 0]] with alpha 0.5.
    with counted() as sent:
        browser_says(widget._canvas, type="terms", base=1, cell=1)
    assert [set(message.state) for message in sent] == [{"terms"}]
    first, values = terms_sent(widget)
    assert (first, widget._canvas.terms["revision"]) == (0, 1)
    np.testing.assert_allclose(values, [[1, 0.25], [0, 0.25], [1, 0], [0, 0]], rtol=1e-4)
    widget.method = "LayerCAM"
    assert widget._canvas.terms == {}
    browser_says(widget._canvas, type="terms", base=1, cell=1)  # of the scene before
    assert widget._canvas.terms == {}
    browser_says(widget._canvas, type="terms", base=widget._canvas.base, cell=1)
    np.testing.assert_allclose(terms_sent(widget)[1], [[1, 0.25], [0, 0.25], [1, 0], [0, 0]], rtol=1e-4)
    # They are those of all channels, also while some are off, and stay with their base.
    before = widget._canvas.terms
    widget.channels_off = (0,)
    assert widget._canvas.terms is before


@pytest.mark.parametrize(("most", "first", "many"), [(10**6, 0, 20), (40, 10, 5), (10, 13, 1)])
def test_of_a_large_layer_the_cells_row_or_the_cell_alone_is_sent(
    make: Callable[..., GradCAMWidget], monkeypatch: pytest.MonkeyPatch, most: int, first: int, many: int
) -> None:
    monkeypatch.setattr(selection, "_TERMS", most)
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 1), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)
    ).eval()
    picture = torch.rand(3, 4, 5)
    widget = make(model, picture, layer="1", target=1)
    browser_says(widget._canvas, type="terms", base=1, cell=13)
    terms = widget.engine.terms(picture, 1, "1").numpy().reshape(6, 20).T
    got_first, got = terms_sent(widget)
    assert (got_first, len(got)) == (first, many)
    np.testing.assert_allclose(got, terms[first : first + many], rtol=0, atol=np.abs(terms).max() / 32767)


def test_the_probe_is_two_way_and_ends_with_its_layer(widget: GradCAMWidget) -> None:
    with counted() as sent:
        widget.probe = np.array([1, 0])
    assert widget.probe == (1, 0)
    assert [message.state for message in sent] == [{"probe": [1, 0]}]
    with counted() as sent:
        browser_sets(widget._canvas, probe=[0, 1])
    assert (widget.probe, sent) == ((0, 1), [])
    widget.target = 1
    assert widget.probe == (0, 1)
    widget.layer = "conv"
    assert (widget.probe, widget._canvas.probe) == (None, None)
    widget.probe = (3, 3)
    browser_sets(widget._canvas, probe=None)
    assert widget.probe is None
    browser_sets(widget._canvas, probe=[7, 0])
    assert "probe" in widget._canvas.notice["message"]
    assert (widget.probe, widget._canvas.probe) == (None, None)


def test_the_probe_of_a_larger_picture_ends_where_the_next_one_is_smaller(
    make: Callable[..., GradCAMWidget],
) -> None:
    widget = make(images={"large": torch.rand(3, 8, 8), "small": red_left()})
    widget.probe = (3, 2)
    widget.image_index = 1
    assert widget.explanation.layer.name == "pool"
    assert (widget.probe, widget._canvas.probe) == (None, None)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ((2, 0), "probe: expected a row from 0 to 1 and a column from 0 to 1; got"),
        ((0, -1), "probe: expected a row from 0 to 1"),
        ((0,), r"probe: expected None or \(row, column\) of a cell of the map; got \(0,\)"),
        (3, "probe: expected None or"),
        ("01", "probe: expected None or"),
        ((0.5, 1), "probe: expected None or"),
        ((True, 1), "probe: expected None or"),
    ],
)
def test_a_wrong_probe_is_told_and_changes_nothing(widget: GradCAMWidget, value: object, message: str) -> None:
    widget.probe = (1, 1)
    with pytest.raises(traitlets.TraitError, match=message):
        widget.probe = value
    assert widget.probe == (1, 1)
    assert widget._canvas.probe == [1, 1]


def test_the_scene_tells_the_receptive_field(make: Callable[..., GradCAMWidget]) -> None:
    widget = make()
    # A cell of "pool" is the mean of 2 x 2 pixels.
    assert widget._canvas.scene["layer"]["receptive_field"] == [2, 2]
    widget.layer = "conv"
    assert widget._canvas.scene["layer"]["receptive_field"] == [1, 1]


def test_terms_meet_each_cells_largest_value_within_a_step() -> None:
    random = np.random.default_rng(5)
    values = random.normal(size=(4, 9)) * np.array([[1e-6], [1], [0], [1e5]])
    sent = wire.terms(values)
    data = np.frombuffer(zlib.decompress(sent["data"]), "<i2").reshape(4, 9)
    got = data * np.frombuffer(sent["scale"], "<f4")[:, None].astype(float)
    for row, wanted in zip(got, values, strict=True):
        np.testing.assert_allclose(row, wanted, rtol=1e-6, atol=np.abs(wanted).max() / 32767)


# -- several at once, and from the beginning -------------------------------------------------------------------


def test_what_is_picked_comes_with_the_layer_in_one_redraw(make):
    widget = make(layer="conv")
    with counted() as sent:
        widget.set(layer="pool", channels_off=[1], probe=(1, 0), channel=0, threshold=0.5)
    assert (widget.layer, widget.channels_off, widget.probe, widget.channel) == ("pool", (1,), (1, 0), 0)
    assert widget.threshold == 0.5
    scenes = [message for message in sent if "scene" in message.state]
    assert len(scenes) == 1
    # without channel 1 the map is A0 = [[1, 0], [1, 0]]
    np.testing.assert_allclose(decode(widget._canvas.scene["cam"]), [[1, 0], [1, 0]], atol=1e-6)
    assert (scenes[0].state["probe"], scenes[0].state["channel"]) == ([1, 0], 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layer": "pool", "probe": (2, 0)}, "probe: expected a row from 0 to 1"),  # conv has 4 x 4 cells
        ({"layer": "pool", "channels_off": (2,)}, "channels_off: expected ints from 0 to 1"),
        ({"layer": "pool", "channel": 2}, "channel: expected None or an int from 0 to 1"),
        ({"method": "EigenCAM", "channels_off": (0,), "opacity": 2}, "opacity: expected a number"),
        ({"method": "GuidedGradCAM", "channels_off": (0,)}, "channels_off: GuidedGradCAM does not say"),
        ({"layer": "pool", "zoom": 0}, "zoom: expected a number from 1"),
        ({"layer": "pool", "class_table": 1}, "class_table: expected True or False"),
        ({"layer": "pool", "chanel": 1}, "chanel: there is no such setting; the settings are .*channels_off"),
    ],
)
def test_where_one_of_several_is_wrong_all_is_as_it_was(make, changes, message):
    widget = make(layer="conv")
    widget.set(channels_off=(1,), probe=(3, 3))
    with counted() as sent, pytest.raises(traitlets.TraitError, match=message):
        widget.set(**changes)
    assert (widget.layer, widget.method, widget.channels_off, widget.probe) == ("conv", "GradCAM", (1,), (3, 3))
    assert sent == []


def test_the_constructor_takes_what_is_picked(make):
    widget = make(layer="pool", channel=1, channels_off=(1,), probe=(0, 0), threshold=0.5, show_box=True)
    assert (widget.channel, widget.channels_off, widget.probe) == (1, (1,), (0, 0))
    assert (widget.threshold, widget.show_box) == (0.5, True)
    np.testing.assert_allclose(decode(widget._canvas.scene["cam"]), [[1, 0], [1, 0]], atol=1e-6)
    with pytest.raises(traitlets.TraitError, match="probe: expected a row"):
        make(layer="pool", probe=(2, 2))


def test_what_is_picked_waits_for_the_passes_that_a_map_needs(make):
    widget = make(layer="pool")
    widget.set(method="ScoreCAM", probe=(1, 1))
    assert widget.probe is None
    widget.compute()
    assert widget.probe == (1, 1)
    widget.set(method="AblationCAM", probe=(0, 1))
    widget.set(method="GradCAM")
    assert widget.probe == (1, 1)  # that of the map which was never computed is forgotten
