"""Two classes side by side: numbers by hand, one small message, the true class, and what cannot be compared."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import traitlets
from messages import browser_says, browser_sets, click, counted, decode
from tiny import Tiny, red_left
from torch import nn

from gradcam_widget.comparison import terms_of
from gradcam_widget.engine import GradCAM
from gradcam_widget.methods import METHODS
from gradcam_widget.targets import ClassProbability, Contrast
from gradcam_widget.widget import wire
from gradcam_widget.widget.choices import NOTHING
from gradcam_widget.widget.explorer import GradCAMWidget
from gradcam_widget.widget.labels import true_classes
from gradcam_widget.widget.scene import Pair, Scene


@pytest.fixture
def make(explore: Callable[..., GradCAMWidget]) -> Callable[..., GradCAMWidget]:
    def build(**arguments: Any) -> GradCAMWidget:
        return explore(Tiny(), {"red": red_left(), "green": red_left().flip(0)}, **arguments)

    return build


def scenes(widget: GradCAMWidget, sent: list[Any]) -> list[Any]:
    return [message for message in sent if message.widget is widget._canvas and "scene" in message.state]


def test_the_numbers_of_a_comparison_by_hand(widget: GradCAMWidget) -> None:
    # cat: alpha (1, 0), map = red = [[1, 0], [1, 0]]. crane: alpha (-1, 0.5), S = -red + 0.5 * 0.25 =
    # [[-0.875, 0.125], ...], of which ReLU leaves [[0, 0.125], [0, 0.125]]. The contrast is
    # red - S = [[1.875, -0.125], ...]; its largest magnitude is 1.875.
    found = widget.compare("crane")
    scene = widget._canvas.scene
    pair = scene["compare"]
    assert scene["target"]["label"] == "cat"
    assert (pair["target"]["index"], pair["target"]["label"]) == (2, "crane")
    assert pair["target"]["score"] == pytest.approx(-4 * 0.5 + 2 * 0.25)
    assert decode(pair["alpha"]).tolist() == [-1, 0.5]
    assert decode(pair["cam"]).tolist() == [[0, 0.125], [0, 0.125]]
    assert decode(pair["contrast"]).tolist() == [[1.875, -0.125], [1.875, -0.125]]
    assert (scene["max"], pair["max"], pair["contrast_max"]) == (1, 0.125, 1.875)
    assert found is widget.comparison is not None
    assert found.first is widget.explanation
    assert found.contrast.target == Contrast(found.first.target, found.second.target)
    assert found.contrast.alpha.tolist() == [2, -0.5]
    assert found.second.alpha.tolist() == [-1, 0.5]


def test_evidence_holds_for_both_classes_and_the_contrast_stays(widget: GradCAMWidget) -> None:
    widget.set(compare_target="crane", evidence="signed")
    pair = widget._canvas.scene["compare"]
    assert decode(pair["cam"]).tolist() == [[-0.875, 0.125], [-0.875, 0.125]]
    assert decode(pair["contrast"]).tolist() == [[1.875, -0.125], [1.875, -0.125]]
    # Against crane: S = red - 0.125, of which the left cells are positive.
    widget.evidence = "counterfactual"
    pair = widget._canvas.scene["compare"]
    assert pair["target"]["label"] == "crane"
    assert decode(pair["cam"]).tolist() == [[0.875, 0], [0.875, 0]]
    assert decode(pair["contrast"]).tolist() == [[1.875, -0.125], [1.875, -0.125]]


def test_compare_sets_both_classes_and_none_ends_it(widget: GradCAMWidget) -> None:
    found = widget.compare("dog", 2)
    assert (widget.target, widget.compare_target) == ("dog", 2)
    assert found is not None
    assert (found.first.target.index, found.second.target.index) == (1, 2)
    assert widget.compare(None) is None
    assert (widget.target, widget.compare_target, widget.comparison) == ("dog", None, None)
    assert "compare" not in widget._canvas.scene


def test_a_comparison_is_one_message_and_the_class_list_travels_once(widget: GradCAMWidget) -> None:
    with counted() as sent:
        widget.compare_target = "dog"
    assert len(scenes(widget, sent)) == 1
    (message,) = scenes(widget, sent)
    assert set(message.state) == {"scene"}
    assert not [message for message in sent if "options" in message.state]
    with counted() as sent:
        widget.compare_target = "dog"
    assert sent == []


def test_the_control_compares_and_its_button_ends_it(widget: GradCAMWidget) -> None:
    controls = widget._controls
    assert controls.compare.options == (NOTHING, "cat", "dog", "crane")
    assert (controls.compare.value, controls.alone.disabled) == ("", True)
    browser_sets(controls.compare, value="CRANE")
    assert (widget.compare_target, controls.compare.value, controls.alone.disabled) == (2, "crane", False)
    click(controls.alone)
    assert (widget.compare_target, controls.compare.value, controls.alone.disabled) == (None, "", True)
    browser_sets(controls.compare, value="dog")
    assert widget.compare_target == 1
    browser_sets(controls.compare, value=NOTHING)
    assert (widget.compare_target, controls.compare.value) == (None, "")
    browser_sets(controls.compare, value="zebra")
    assert "zebra" in widget._canvas.notice["message"]
    assert widget.compare_target is None


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (7, r"7"),
        ("zebra", r"compare_target: there is no class named 'zebra'"),
        (1.5, r"compare_target: expected None \(no comparison\), an int, a class name or a function"),
        (True, r"compare_target: expected None"),
    ],
)
def test_a_wrong_second_class_is_refused_and_changes_nothing(
    widget: GradCAMWidget, wrong: object, words: str
) -> None:
    widget.compare_target = "dog"
    with pytest.raises(traitlets.TraitError, match=words):
        widget.compare_target = wrong
    assert widget.compare_target == "dog"
    assert widget._canvas.scene["compare"]["target"]["label"] == "dog"


def test_a_target_of_ones_own_can_be_compared(widget: GradCAMWidget) -> None:
    found = widget.compare(ClassProbability(0), "dog")
    assert found is not None
    assert found.first.target == ClassProbability(0)
    assert widget._canvas.scene["compare"]["target"]["label"] == "dog"


def test_a_layer_change_under_a_comparison_costs_no_pass(widget: GradCAMWidget) -> None:
    widget.compare_target = "crane"
    before = widget.engine.passes
    widget.layer = "conv"
    assert widget.engine.passes == before
    assert widget.comparison.second.layer.name == widget.comparison.contrast.layer.name == "conv"


@pytest.mark.parametrize("method", METHODS)
def test_every_method_compares_or_says_why_not(method: str) -> None:
    torch.manual_seed(2)
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4))
    image = torch.rand(3, 9, 9)
    w = GradCAMWidget(model.eval(), image, target=0)
    w.set(method=method, compare_target=3, layer="1")
    w.compute()
    pair = w._canvas.scene["compare"]
    if method in ("AblationCAM", "ScoreCAM", "EigenCAM", "GuidedGradCAM", "GuidedBackprop"):
        assert w.comparison is None
        assert pair["note"].startswith(method)
        assert pair["note"].endswith("Choose GradCAM.")
    else:
        plain = GradCAM(model)
        second = plain.explain(image, 3, "1", method)
        np.testing.assert_allclose(decode(pair["cam"]), second.cam.numpy(), rtol=1e-3, atol=1e-5)
        assert w.comparison.contrast.method in (method, "GradCAM")
    w.close()


def test_labels_mark_the_true_class(make: Callable[..., GradCAMWidget]) -> None:
    widget = make(labels={"red": "crane"})
    # The logits of "red" are (2, 1, -1.5).
    exponents = [math.exp(v) for v in (2, 1, -1.5)]
    truth = widget._canvas.scene["truth"]
    assert (truth["index"], truth["label"]) == (2, "crane")
    assert truth["probability"] == pytest.approx(exponents[2] / sum(exponents), rel=1e-6)
    widget.image_index = 1
    assert "truth" not in widget._canvas.scene


def test_prediction_against_truth_is_one_click(make: Callable[..., GradCAMWidget]) -> None:
    widget = make(labels=["crane", None], target="dog")
    browser_says(widget._canvas, type="truth")
    assert (widget.target, widget.compare_target) == (None, 2)
    assert widget._canvas.scene["compare"]["target"]["label"] == "crane"
    assert widget._canvas.scene["target"]["label"] == "cat"
    browser_says(widget._canvas, type="truth")
    assert (widget.target, widget.compare_target) == (None, None)
    widget.image_index = 1
    browser_says(widget._canvas, type="truth")
    assert widget.compare_target is None


def test_labels_in_all_their_forms() -> None:
    names, classes = ("a", "b", "c"), ("cat", "dog")
    assert true_classes(None, names, classes) == [None, None, None]
    assert true_classes("dog", names, classes) == [1, 1, 1]
    assert true_classes(0, names, None) == [0, 0, 0]
    assert true_classes(["cat", None, 1], names, classes) == [0, None, 1]
    assert true_classes({"b": "dog"}, names, classes) == [None, 1, None]
    assert true_classes(torch.tensor([1, 0, 1]), names, classes) == [1, 0, 1]
    assert true_classes(np.int64(1), names, classes) == [1, 1, 1]


@pytest.mark.parametrize(
    ("labels", "error", "words"),
    [
        ("zebra", ValueError, "labels: there is no class named 'zebra'"),
        (2, ValueError, "labels: the classes are numbered from 0 to 1; got 2"),
        ([0, 1], ValueError, "labels: expected one class for each of the 3 pictures; got 2"),
        ({"d": 0}, ValueError, "labels: there is no picture named 'd'"),
        ([0, 1.5, None], TypeError, "labels: expected a class as an int or a name, or None; got float"),
        (object(), TypeError, "labels: expected a class .* got object"),
    ],
)
def test_wrong_labels_are_refused_in_words(labels: object, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        true_classes(labels, ("a", "b", "c"), ("cat", "dog"))


def test_a_true_class_that_the_model_lacks_is_said(make: Callable[..., GradCAMWidget]) -> None:
    model = Tiny()
    model.class_names = None
    widget = GradCAMWidget(model, red_left(), labels=9)
    assert (
        "labels: the true class of this picture is 9, and the model has the classes 0 to 2"
        in (widget._canvas.notice["message"])
    )
    widget.close()


@pytest.mark.parametrize(("K", "size"), [(64, 28), (512, 7), (1280, 7), (2048, 7), (2048, 14)])
def test_a_scene_of_two_classes_stays_within_ten_kilobytes(K: int, size: int) -> None:
    # Noise deflates worse than any real map.
    random = np.random.default_rng(1)
    target = {"index": 1, "label": "Egyptian cat", "score": 8.0, "probability": 0.4}
    maps = [np.maximum(random.normal(size=(size, size)), 0) for _ in range(2)]
    sent = Scene(
        layer={"name": "features.18.0", "label": f"features.18.0 · conv · {K} × {size} × {size}", "kind": "conv"},
        target=target,
        method={"name": "GradCAM", "weights": "mean gradient of the target per channel"},
        cam=maps[0],
        alpha=random.normal(size=K),
        contribution=random.normal(size=K),
        coverage={"channels": 12, "of": K, "share": 0.5},
        predictions=[{"index": i, "label": "a class of some length", "probability": 0.1} for i in range(5)],
        status={"device": "cpu", "note": None, "milliseconds": 8.1, "passes": "2 backward passes"},
        diagnosis=None,
        pair=Pair(target=target, alpha=random.normal(size=K), cam=maps[1], contrast=maps[0] - maps[1]),
        truth={"index": 3, "label": "tabby", "probability": 0.1},
    ).message(7)
    compare = sent["compare"]
    arrays = [
        sent["alpha"],
        sent["contribution"],
        sent["cam"],
        *(compare[n] for n in ("alpha", "cam", "contrast")),
    ]
    data = sum(len(array["data"]) for array in arrays)
    text = len(json.dumps(sent, default=lambda data: "").encode())
    assert data + text <= wire.SCENE_BYTES
    assert compare["alpha"]["dtype"] == sent["alpha"]["dtype"]  # one precision for both: they are compared
    np.testing.assert_allclose(decode(compare["contrast"]), maps[0] - maps[1], atol=np.abs(maps[0]).max() / 10)


def test_channels_that_are_off_are_off_in_all_three_maps(widget: GradCAMWidget) -> None:
    # Without the red channel cat has nothing, crane 0.5 * 0.25 everywhere, and the contrast is minus that.
    widget.compare_target = "crane"
    widget.channels_off = (0,)
    scene = widget._canvas.scene
    assert decode(scene["cam"]).tolist() == [[0, 0], [0, 0]]
    assert decode(scene["compare"]["cam"]).tolist() == [[0.125, 0.125], [0.125, 0.125]]
    assert decode(scene["compare"]["contrast"]).tolist() == [[-0.125, -0.125], [-0.125, -0.125]]
    assert decode(scene["compare"]["alpha"]).tolist() == [-1, 0.5]
    widget.channels_off = ()
    assert decode(widget._canvas.scene["compare"]["contrast"]).tolist() == [[1.875, -0.125], [1.875, -0.125]]


@pytest.mark.parametrize("method", ["HiResCAM", "FinerCAM", "CAM", "LayerCAM"])
def test_the_terms_of_every_method_make_its_comparison(method: str) -> None:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5))
    w = GradCAMWidget(model.eval(), torch.rand(3, 9, 9), target=0, method=method, layer="1", evidence="signed")
    found = w.compare(3)
    second, contrast = terms_of(w.engine, w._input(0), found)
    torch.testing.assert_close(second.sum(0), found.second.signed_cam)
    torch.testing.assert_close(contrast.sum(0), found.contrast.signed_cam)
    w.close()


# -- the scale -------------------------------------------------------------------------------------------------


def test_the_scale_goes_both_ways_and_costs_no_computation(widget: GradCAMWidget) -> None:
    assert (widget.scale, widget._canvas.scale) == ("picture", "picture")
    before = widget.engine.passes
    with counted() as sent:
        browser_sets(widget._canvas, scale="shared")
    assert widget.scale == "shared"
    assert sent == []
    browser_sets(widget._canvas, scale=2)
    assert widget.scale == 2.0
    with counted() as sent:
        widget.scale = 0.25
    assert [set(message.state) for message in sent] == [{"scale"}]
    assert widget._canvas.scale == 0.25
    assert widget.engine.passes == before


@pytest.mark.parametrize("wrong", ["own", 0, -1.0, math.inf, math.nan, True, None, [1]])
def test_a_wrong_scale_is_refused_and_changes_nothing(widget: GradCAMWidget, wrong: object) -> None:
    widget.scale = 3
    with pytest.raises(traitlets.TraitError, match="scale: expected 'picture', 'shared', or a positive number"):
        widget.scale = wrong
    assert (widget.scale, widget._canvas.scale) == (3.0, 3.0)
    browser_sets(widget._canvas, scale=wrong)
    assert (widget.scale, widget._canvas.scale) == (3.0, 3.0)
    assert "scale" in widget._canvas.notice["message"]


@pytest.mark.parametrize("name", ["image_index", "method", "evidence", "colormap", "opacity", "scale"])
def test_none_is_refused_where_it_means_nothing(widget: GradCAMWidget, name: str) -> None:
    before = getattr(widget, name)
    with pytest.raises(traitlets.TraitError, match=f"{name}: expected"):
        setattr(widget, name, None)
    assert getattr(widget, name) == before


def test_the_scale_can_be_given_from_the_start(make: Callable[..., GradCAMWidget]) -> None:
    widget = make(scale="shared", compare_target="dog")
    assert (widget.scale, widget._canvas.scale) == ("shared", "shared")
    assert widget._canvas.scene["compare"]["target"]["label"] == "dog"
