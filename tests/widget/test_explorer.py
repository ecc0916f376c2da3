"""The explorer: one action, one message; errors in words; bursts; threads; nothing left behind."""

from __future__ import annotations

import io
import logging
import math
import sys
import threading
import types
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ipywidgets
import numpy as np
import pytest
import torch
import traitlets
from messages import OLD, browser_says, browser_sets, choose, click, counted, decode, open_comms, open_widgets
from patience import PATIENCE, ended, eventually
from PIL import Image
from tiny import Four, green_right, red_left
from torch import Tensor, nn

from gradcam_widget.engine import GradCAM
from gradcam_widget.methods import METHODS
from gradcam_widget.targets import ClassProbability
from gradcam_widget.widget import explorer, pictures
from gradcam_widget.widget.explorer import GradCAMWidget, coverage

JOB = "gradcam_widget"  # the thread of many passes


@pytest.fixture
def make(explore: Callable[..., GradCAMWidget]) -> Callable[..., GradCAMWidget]:
    def build(model: Any = None, images: Any = None, **arguments: Any) -> GradCAMWidget:
        images = {"red": red_left(), "green": green_right()} if images is None else images
        return explore(Four() if model is None else model, images, **arguments)

    return build


# -- what is shown ---------------------------------------------------------------------------------------------


def test_the_first_scene_by_hand(widget: GradCAMWidget) -> None:
    # Picture "red": channel 0 is 1 in the left column of cells, else 0; channel 1 is 0.25 everywhere. The means
    # are (0.5, 0.25), the logits (2, 1, -0.75, 0.3125): the class is 0, "cat". At "pool" alpha = W[0] / 4, which
    # is (1, 0), so the cam is [[1, 0], [1, 0]] and the contribution alpha * mean = (0.5, 0).
    scene = widget._canvas.scene
    assert scene["layer"] == {
        "name": "pool",
        "label": "pool · pool · 2 × 2 × 2",
        "kind": "pool",
        "shape": [2, 2, 2],
        "receptive_field": [2, 2],
    }
    assert decode(scene["alpha"]).tolist() == [1, 0]
    assert decode(scene["contribution"]).tolist() == [0.5, 0]
    assert decode(scene["cam"]).tolist() == [[1, 0], [1, 0]]
    assert scene["max"] == 1
    assert scene["coverage"] == {"channels": 1, "of": 2, "share": 0.5}
    exponents = [math.exp(v) for v in (2, 1, -0.75, 0.3125)]
    assert scene["target"]["index"] == 0
    assert scene["target"]["label"] == "cat"
    assert scene["target"]["score"] == pytest.approx(2)
    assert scene["target"]["probability"] == pytest.approx(exponents[0] / sum(exponents), rel=1e-6)
    assert [(p["index"], p["label"]) for p in scene["predictions"]] == [
        (0, "cat"),
        (1, "dog"),
        (3, "crane (3)"),
        (2, "crane (2)"),
    ]
    assert scene["predictions"][1]["probability"] == pytest.approx(exponents[1] / sum(exponents), rel=1e-6)
    assert scene["status"]["device"] == "cpu"
    assert scene["status"]["passes"] == "1 forward, 1 backward pass"
    assert (scene["diagnosis"], scene["revision"]) == (None, 1)
    assert (widget.explanation.layer.name, widget.explanation.target.index) == ("pool", 0)
    assert widget.status.startswith("cpu · 1 forward, 1 backward pass · ")
    assert widget._canvas.notice == {}


def test_the_picture_is_what_the_model_saw(widget: GradCAMWidget) -> None:
    picture = widget._canvas.picture
    shown = np.asarray(Image.open(io.BytesIO(picture["data"])))
    assert (picture["width"], picture["height"], picture["name"]) == (4, 4, "red")
    assert (shown == widget.engine.picture(red_left())).all()


def test_the_controls_show_what_the_engine_chose(widget: GradCAMWidget) -> None:
    controls = widget._controls
    assert controls.picture._options_labels == ("red", "green")
    assert controls.layer.label == "pool · pool · 2 × 2 × 2"
    assert controls.target.value.startswith("cat · 0.")
    assert "predicted class" in controls.target.options
    assert tuple(controls.target.options)[-4:] == ("cat", "dog", "crane (2)", "crane (3)")
    # The wish is still "whatever the engine chooses".
    assert (widget.layer, widget.target, widget.image_index) == (None, None, 0)


def test_coverage_by_hand() -> None:
    # Positive: 4 + 3 + 2 + 1 = 10. The largest alone give 4, the two largest 7 >= 5.
    assert coverage(np.array([1.0, -9, 4, 2, 0, 3])) == {"channels": 2, "of": 6, "share": 0.5}
    assert coverage(np.array([1.0, 1])) == {"channels": 1, "of": 2, "share": 0.5}
    assert coverage(np.full(10, 0.1)) == {"channels": 5, "of": 10, "share": 0.5}
    assert coverage(np.array([4.0, 3, 2, 1]), share=1.0) == {"channels": 4, "of": 4, "share": 1.0}
    assert coverage(np.array([-1.0, 0])) is None


# -- one action, one message -----------------------------------------------------------------------------------


def redraws(widget: GradCAMWidget, sent: list[Any]) -> list[set[str]]:
    """What the messages to the view carry, without the strip, which follows in one of its own."""
    sets = [set(message.state) for message in sent if message.widget is widget._canvas]
    return [names for names in sets if names != {"strip"}]


def others(widget: GradCAMWidget, sent: list[Any]) -> list[tuple[str, set[str]]]:
    rest = [message for message in sent if message.widget is not widget._canvas]
    return [(message.widget.description, set(message.state)) for message in rest]


def test_a_layer_chosen_in_the_list_is_one_message_and_nothing_else(widget: GradCAMWidget) -> None:
    with counted() as sent:
        choose(widget._controls.layer, "conv · conv · 2 × 4 × 4")
    assert (redraws(widget, sent), others(widget, sent)) == ([{"scene"}], [])
    assert (widget.layer, widget.explanation.layer.name) == ("conv", "conv")


def test_a_class_chosen_in_the_list_is_one_message_and_nothing_else(widget: GradCAMWidget) -> None:
    entry = next(option for option in widget._controls.target.options if option.startswith("dog · "))
    with counted() as sent:
        browser_sets(widget._controls.target, value=entry)
    assert (redraws(widget, sent), others(widget, sent)) == ([{"scene"}], [])
    assert (widget.target, widget._canvas.scene["target"]["label"]) == (1, "dog")


def test_where_the_control_must_follow_only_its_value_is_sent_beside_the_message(widget: GradCAMWidget) -> None:
    with counted() as sent:
        browser_says(widget._canvas, type="target", index=1)
    assert (redraws(widget, sent), others(widget, sent)) == ([{"scene"}], [("Class", {"value"})])
    assert widget._controls.target.value.startswith("dog · ")
    with counted() as sent:
        click(widget._controls.previous)
    assert (redraws(widget, sent), others(widget, sent)) == ([{"scene"}], [("Layer", {"index"})])
    assert widget.layer == "conv"
    with counted() as sent:
        browser_sets(widget._controls.target, value="crane (3)")  # it is the entry's shorter form
    assert (redraws(widget, sent), others(widget, sent)) == ([{"scene"}], [("Class", {"value"})])
    assert sum(message.size for message in sent if message.widget is not widget._canvas) < 200


def test_the_same_choice_again_sends_nothing(widget: GradCAMWidget) -> None:
    choose(widget._controls.layer, "conv · conv · 2 × 4 × 4")
    with counted() as sent:
        choose(widget._controls.layer, "conv · conv · 2 × 4 × 4")
        widget.layer = "conv"
        widget.set(layer="conv", target=None)
        widget.refresh()
    assert sent == []


def test_a_new_picture_travels_once_and_with_its_scene(widget: GradCAMWidget) -> None:
    with counted() as sent:
        choose(widget._controls.picture, "green")
    assert redraws(widget, sent) == [{"picture", "scene"}]
    assert {name for name, _ in others(widget, sent)} <= {"Class"}  # the predictions at the head of its list
    assert (widget.image_index, widget._canvas.scene["target"]["label"]) == (1, "dog")
    with counted() as sent:
        widget.layer = "conv"
    assert redraws(widget, sent) == [{"scene"}]


def test_the_predicted_class_follows_the_picture_and_a_chosen_one_stays(widget: GradCAMWidget) -> None:
    widget.image_index = 1
    assert (widget.target, widget.explanation.target.index) == (None, 1)
    widget.target = "cat"
    widget.image_index = 0
    widget.image_index = 1
    assert (widget.target, widget.explanation.target.index) == ("cat", 0)
    browser_sets(widget._controls.target, value="predicted class")
    assert (widget.target, widget.explanation.target.index) == (None, 1)


def test_the_look_changes_without_a_redraw_and_without_an_echo(widget: GradCAMWidget) -> None:
    with counted() as sent:
        browser_sets(widget._controls.opacity, value=0.25)
        browser_sets(widget._controls.colormap, index=2)
    assert sent == []
    assert (widget.opacity, widget.colormap) == (0.25, "magma")
    with counted() as sent:
        widget.layer = "conv"
    assert all(not {"opacity", "colormap_index"} & set(message.state) for message in sent)
    with counted() as sent:
        widget.opacity = 0.75
        widget.colormap = "viridis"
    assert all("scene" not in message.state for message in sent)
    assert (widget._canvas.opacity, widget._canvas.colormap, widget._canvas.colormap_index) == (0.75, "viridis", 0)
    assert (widget._controls.opacity.value, widget._controls.colormap.value) == (0.75, "viridis")


def test_opacity_and_colour_map_are_linked_in_the_browser(widget: GradCAMWidget) -> None:
    ids = {name: f"IPY_MODEL_{part.model_id}" for name, part in widget._canvas.controls.items()}
    assert widget._canvas.get_state("controls")["controls"] == ids
    followed = [widget._canvas.controls[name].description for name in ("opacity", "colormap", "layer", "target")]
    assert followed == ["Opacity", "Colour map", "Layer", "Class"]
    offered = widget._controls.colormap._options_labels
    assert [widget._canvas.tables[name]["index"] for name in offered] == list(range(len(offered)))
    two_sided = [table for table in widget._canvas.tables.values() if table["kind"] == "diverging"]
    assert [table["index"] for table in two_sided] == [0, 1, 2]


def test_every_layer_of_a_real_network_is_one_message_within_10_kb_and_runs_no_pass(
    make: Callable[..., GradCAMWidget], demo: nn.Module, pictures: dict[str, Image.Image]
) -> None:
    widget = make(demo, {"chelsea": pictures["chelsea"]})
    assert widget._canvas.scene["target"]["label"] == "Egyptian cat"
    names = [layer.name for layer in widget.engine.layers(pictures["chelsea"])]
    assert len(names) > 100
    passes = widget.engine.passes
    sizes: dict[str, int] = {}
    for name in names:
        with counted() as sent:
            widget.layer = name
        canvas = [message for message in sent if "scene" in message.state]
        assert len(canvas) == len(redraws(widget, sent)) == 1
        sizes[name] = canvas[0].size
        scene = widget._canvas.scene
        assert scene["layer"]["name"] == name
        alpha = decode(scene["alpha"])
        assert np.abs(alpha - widget.explanation.alpha.numpy()).max() <= np.abs(alpha).max() / 65000
        cam = widget.explanation.cam.numpy()
        # At 112 x 112 a map that is all detail is left 63 steps or more; any other has 255 or more.
        steps = 63 if cam.size == 112 * 112 else 255
        assert np.abs(decode(scene["cam"]) - cam).max() <= cam.max() / steps / 2 * 1.001
        assert widget._canvas.scene["status"]["passes"] == "no pass"
    assert max(sizes.values()) <= 10_000
    assert widget.engine.passes == passes


# -- from Python -----------------------------------------------------------------------------------------------


def test_traits_are_two_way_and_can_be_observed(widget: GradCAMWidget) -> None:
    seen: list[tuple[Any, str]] = []
    widget.observe(lambda change: seen.append((change.new, widget.explanation.layer.name)), "layer")
    choose(widget._controls.layer, "conv · conv · 2 × 4 × 4")
    widget.layer = "pool"
    assert seen == [("conv", "conv"), ("pool", "pool")]
    assert widget._controls.layer.value == "pool"
    widget.layer = widget.engine.model.conv  # a module
    assert widget.layer == "conv"
    widget.layer = widget.engine.layers(red_left())[1]  # a Layer
    assert widget.layer == "pool"
    widget.target = np.int64(1)
    assert (type(widget.target), widget.explanation.target.index) == (int, 1)


def test_set_changes_all_or_nothing_with_one_redraw(widget: GradCAMWidget) -> None:
    with counted() as sent:
        widget.set(layer="conv", target="dog", image_index=1)
    assert redraws(widget, sent) == [{"picture", "scene"}]
    assert (widget.layer, widget.target, widget.image_index) == ("conv", "dog", 1)
    with counted() as sent, pytest.raises(ValueError, match=r"target: there is no class named 'dgo'.*'dog'"):
        widget.set(layer="pool", target="dgo", opacity=0.125)
    assert sent == []
    assert (widget.layer, widget.target, widget.opacity) == ("conv", "dog", 0.5)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("layer", "pol", r"layer: expected one of the 2 feature maps of this model; got 'pol'\. Nearest: pool"),
        ("layer", "unused", r"layer: expected one of the 2 feature maps"),
        ("layer", nn.Conv2d(1, 1, 1), r"layer: this Conv2d is not a module of the model"),
        ("target", 4, r"target: expected a class from 0 to 3"),
        ("target", "crane", r"target: 'crane' is the name of classes \[2, 3\]"),
        ("target", 1.5, r"target: expected None .* got 1.5"),
        ("image_index", 2, r"image_index: expected an int from 0 to 1"),
        ("method", "Nope", r"method: expected one of GradCAM"),
        ("evidence", "all", r"evidence: expected one of positive, signed, counterfactual"),
        ("colormap", "jet", r"colormap: expected one of viridis"),
        ("opacity", 2, r"opacity: expected a number"),
    ],
)
def test_a_wrong_value_from_python_raises_and_keeps_everything(
    widget: GradCAMWidget, name: str, value: Any, message: str
) -> None:
    before, explanation = getattr(widget, name), widget.explanation
    with counted() as sent, pytest.raises(traitlets.TraitError, match=message):
        setattr(widget, name, value)
    assert (getattr(widget, name), widget.explanation, sent) == (before, explanation, [])
    assert widget._canvas.notice == {}
    widget.layer = "conv"  # it works on
    assert widget.explanation.layer.name == "conv"


def test_what_is_read_only_cannot_be_set(widget: GradCAMWidget) -> None:
    for name in ("explanation", "status"):
        with pytest.raises(traitlets.TraitError, match=f'"{name}" trait is read-only'):
            setattr(widget, name, None)


def test_a_target_of_the_users_own(widget: GradCAMWidget) -> None:
    def cat_minus_dog(output: Tensor) -> Tensor:
        return output[0] - output[1]

    widget.target = cat_minus_dog
    scene = widget._canvas.scene
    assert scene["target"] == {"index": None, "label": "cat_minus_dog", "score": 1.0, "probability": None}
    assert decode(scene["alpha"]).tolist() == [1, -1]  # (W[0] - W[1]) / 4
    assert widget._controls.target.value == "cat_minus_dog"
    browser_sets(widget._controls.target, value="dog")
    assert widget.target == 1


def test_arguments_of_the_constructor(make: Callable[..., GradCAMWidget]) -> None:
    widget = make(layer="conv", target="dog", colormap="magma", opacity=0.25, class_names=["w", "x", "y", "dog"])
    assert (widget.explanation.layer.name, widget.explanation.target.index) == ("conv", 3)
    assert (widget.layer, widget.target, widget.colormap, widget.opacity) == ("conv", "dog", "magma", 0.25)
    assert (widget._canvas.colormap, widget._controls.opacity.value) == ("magma", 0.25)


def test_a_ready_engine_is_used_and_left_open(make: Callable[..., GradCAMWidget]) -> None:
    class Watched(GradCAM):
        closed = False

        def close(self) -> None:
            self.closed = True

    engine = Watched(Four())
    widget = make(engine)
    assert widget.engine is engine
    widget.close()
    assert not engine.closed
    with pytest.raises(ValueError, match=r"device: the model is a GradCAM, which has its own"):
        make(engine, device="cpu")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"model": "resnet18"}, TypeError, "model: expected a torch.nn.Module; got str"),
        ({"model": Four}, TypeError, "model: expected a torch.nn.Module; got the class Four"),
        ({"images": []}, ValueError, "images: expected at least one picture; got none"),
        ({"images": {}}, ValueError, "images: expected at least one picture; got none"),
        ({"images": [3]}, TypeError, "images: expected a picture, .* got int"),
        ({"images": None}, TypeError, "images: expected a picture, .* got NoneType"),
        ({"images": "no/such.png"}, FileNotFoundError, "images: there is no file 'no.such.png'"),
        ({"images": "."}, FileNotFoundError, "images: there is a folder, not a file, at '.'"),
        ({"images": iter([])}, TypeError, r"got list_iterator. Put several pictures into a list: list\(...\)"),
        ({"layer": "cnv"}, ValueError, "layer: expected one of the 2 feature maps.*Nearest: conv"),
        ({"layer": 3}, ValueError, "layer: expected the name of a layer"),
        ({"target": 7}, ValueError, "target: expected a class from 0 to 3"),
        ({"method": "x"}, ValueError, "method: expected one of GradCAM"),
        ({"colormap": "jet"}, ValueError, "colormap: expected one of viridis"),
        ({"opacity": -1}, ValueError, "opacity: expected a number"),
        ({"class_names": "cat"}, TypeError, "class_names: expected a list"),
        ({"transform": 3}, TypeError, "transform: expected a function"),
        ({"device": "abacus"}, ValueError, "device: expected"),
    ],
)
def test_bad_arguments_raise_and_leave_nothing_behind(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    before = set(open_widgets())
    with pytest.raises(error, match=message):
        GradCAMWidget(**{"model": Four(), "images": red_left()} | arguments)
    assert set(open_widgets()) == before


def test_pictures_of_all_kinds_and_their_names(make: Callable[..., GradCAMWidget], tmp_path: Path) -> None:
    path = tmp_path / "red.png"
    Image.new("RGB", (40, 30), "red").save(path)
    opened = Image.open(path)
    array = np.zeros((30, 40, 3), np.uint8)
    widget = make(images=[path, str(path), opened, Image.new("RGB", (40, 30), "green"), array, red_left(8)])
    names = ("red.png", "red.png (2)", "red.png (3)", "picture 4", "picture 5", "picture 6")
    assert widget._controls.picture._options_labels == names
    sizes = []
    for index in range(6):
        widget.image_index = index
        assert widget._canvas.notice == {}
        sizes.append((widget._canvas.picture["width"], widget._canvas.picture["name"]))
    assert sizes == [*((224, name) for name in names[:5]), (8, "picture 6")]
    opened.close()
    assert make(images=red_left())._controls.picture._options_labels == ("picture 1",)
    batch = torch.stack([red_left(), green_right()])
    assert make(images=batch)._controls.picture._options_labels == ("picture 1", "picture 2")


class Binary(Four):
    """Only the first logit of Four: 4 times the mean of red; and with ``minus`` its negative."""

    class_names: Any = None
    minus = False

    def forward(self, x: Tensor) -> Tensor:
        logit = super().forward(x)[:, :1]
        return -logit if self.minus else logit


def test_models_without_names(make: Callable[..., GradCAMWidget]) -> None:
    class Nameless(Four):
        class_names: Any = None

    widget = make(Nameless())
    assert tuple(widget._controls.target.options)[-4:] == ("class 0", "class 1", "class 2", "class 3")
    assert widget._canvas.scene["target"]["label"] == "class 0"
    browser_sets(widget._controls.target, value="2")
    assert (widget.target, widget._canvas.scene["target"]["label"]) == (2, "class 2")


def test_one_output_without_names_has_a_positive_side(make: Callable[..., GradCAMWidget]) -> None:
    widget = make(Binary(), red_left())
    scene = widget._canvas.scene
    # The only logit is 2; its sigmoid is the probability of the positive side.
    probability = pytest.approx(1 / (1 + math.exp(-2)))
    assert scene["predictions"] == [{"index": 0, "label": "positive", "probability": probability}]
    assert (scene["target"]["index"], scene["target"]["label"]) == (0, "positive")
    assert scene["target"]["probability"] == probability
    browser_sets(widget._controls.target, value="1")
    assert "numbered 0 to 0" in widget._canvas.notice["message"]


def test_one_output_with_two_names_has_two_sides(make: Callable[..., GradCAMWidget]) -> None:
    model = Binary()
    model.minus = True
    widget = make(model, red_left(), class_names=["healthy", "ill"])
    scene = widget._canvas.scene
    # The logit is -2, so "ill", the positive side, has the probability sigmoid(-2), and "healthy" the rest.
    ill = 1 / (1 + math.exp(2))
    assert [(p["index"], p["label"]) for p in scene["predictions"]] == [(0, "healthy"), (1, "ill")]
    assert [p["probability"] for p in scene["predictions"]] == pytest.approx([1 - ill, ill])
    assert (scene["target"]["index"], scene["target"]["label"]) == (0, "healthy")
    browser_says(widget._canvas, type="target", index=1)
    assert widget._canvas.scene["target"]["label"] == "ill"
    assert widget._canvas.scene["target"]["score"] == pytest.approx(-2)
    assert widget._controls.target.value == "ill · 0.119"


def test_a_target_about_a_class_marks_the_class_and_keeps_its_own_name(widget: GradCAMWidget) -> None:
    widget.target = ClassProbability(1, "dog")
    assert widget._canvas.scene["target"]["index"] == 1
    assert widget._canvas.scene["target"]["label"] == "probability of dog"
    assert widget._controls.target.value == "probability of dog"


def test_where_alpha_is_a_share_it_is_the_contribution(widget: GradCAMWidget) -> None:
    # HiResCAM at "pool" for "cat": the terms g A are alpha A of GradCAM, because g is the same in every cell;
    # summed over the cells that is 1 * (1 + 1) for channel 0, and nothing for channel 1.
    widget.method = "HiResCAM"
    scene = widget._canvas.scene
    assert decode(scene["alpha"]).tolist() == [2, 0]
    assert decode(scene["contribution"]).tolist() == [2, 0]
    assert scene["method"] == {"name": "HiResCAM", "weights": METHODS["HiResCAM"].meaning, "terms": "own"}


# -- the strip of layers ---------------------------------------------------------------------------------------


def strip_maps(widget: GradCAMWidget) -> dict[str, list[Any]]:
    """The cells of each layer of the strip, unpacked as the contract says."""
    strip = widget._canvas.strip
    values, at, maps = zlib.decompress(strip["data"]), 0, {}
    for layer in strip["layers"]:
        rows, columns = layer["cells"]
        cells = np.frombuffer(values, np.uint8, rows * columns, at).reshape(rows, columns)
        maps[layer["name"]] = cells.tolist()
        at += rows * columns
    assert at == len(values)
    return maps


def test_the_strip_follows_its_scene_and_only_where_something_else_than_the_layer_has_changed(
    widget: GradCAMWidget,
) -> None:
    # The list shows convolutions, and "pool", which is chosen. For "cat" the map at "pool" is [[1, 0], [1, 0]]; at
    # "conv" alpha is (W[0] / 16, 0), so that the map is as red as the picture: full on the left.
    left = [255, 255, 0, 0]
    assert strip_maps(widget) == {"conv": [left] * 4, "pool": [[255, 0], [255, 0]]}
    with counted() as sent:
        widget.target = 2
    assert [set(message.state) for message in sent if message.widget is widget._canvas] == [{"scene"}, {"strip"}]
    assert [layer["max"] for layer in widget._canvas.strip["layers"]] == [0, 0]
    with counted() as sent:
        widget.layer = "conv"
        widget.layer = "pool"
    assert [set(message.state) for message in sent if message.widget is widget._canvas] == [{"scene"}] * 2
    widget.evidence = "signed"
    # -(A0 + A1) / 4 at "pool": -0.3125 and -0.0625, a fifth of it.
    assert strip_maps(widget)["pool"] == [[1, 103], [1, 103]]
    assert widget._canvas.strip["evidence"] == "signed"


def test_the_strip_shows_the_layers_that_the_list_shows(widget: GradCAMWidget) -> None:
    with counted() as sent:
        choose(widget._controls.filter, "all")
    assert redraws(widget, sent) == []
    assert tuple(strip_maps(widget)) == widget._controls.listed == ("conv", "pool")
    browser_says(widget._canvas, type="layer", name="conv")
    assert (widget.layer, widget.explanation.layer.name) == ("conv", "conv")
    choose(widget._controls.filter, "conv")
    assert tuple(strip_maps(widget)) == ("conv",)
    browser_says(widget._canvas, type="layer", name="nowhere")
    assert "layer: expected one of the 2 feature maps" in widget._canvas.notice["message"]


def test_a_method_of_many_passes_has_no_thumbnails_but_its_layers(widget: GradCAMWidget) -> None:
    widget.method = "ScoreCAM"
    widget.compute()
    passes = widget.engine.passes
    assert strip_maps(widget) == {"conv": [], "pool": []}
    assert widget.engine.passes == passes


# -- channels --------------------------------------------------------------------------------------------------


def received(widget: GradCAMWidget) -> np.ndarray[Any, Any]:
    sent = widget._canvas.activations
    low, step = (np.frombuffer(sent[name], "<f4")[:, None, None] for name in ("low", "step"))
    return low + step * np.frombuffer(zlib.decompress(sent["data"]), np.uint8).reshape(sent["shape"])


def test_activations_are_sent_once_they_are_asked_for(
    widget: GradCAMWidget, monkeypatch: pytest.MonkeyPatch
) -> None:
    with counted() as sent:
        browser_says(widget._canvas, type="activations", revision=1, channel=1)
    assert redraws(widget, sent) == [{"activations"}]
    # "pool" of the picture "red": red in the left column of cells, a quarter of green everywhere.
    assert received(widget).tolist() == [[[1, 0], [1, 0]], [[0.25, 0.25], [0.25, 0.25]]]
    assert (widget._canvas.activations["revision"], widget._canvas.activations["first"]) == (1, 0)
    widget.layer = "conv"
    assert widget._canvas.activations == {}
    with counted() as sent:
        browser_says(widget._canvas, type="activations", revision=1, channel=1)  # of the scene before
        browser_says(widget._canvas, type="activations", revision=2, channel="1")
    assert sent == []
    monkeypatch.setattr(explorer, "_ACTIVATIONS", 31)  # 2 x 4 x 4 are too many: channel by channel
    browser_says(widget._canvas, type="activations", revision=2, channel=1)
    assert (widget._canvas.activations["first"], received(widget).tolist()) == (1, [[[0.25] * 4] * 4])


def test_a_kept_channel_is_a_trait_both_ways_and_ends_with_its_layer(widget: GradCAMWidget) -> None:
    seen: list[Any] = []
    widget.observe(lambda change: seen.append(change.new), "channel")
    browser_sets(widget._canvas, channel=1)
    assert widget.channel == 1
    with counted() as sent:
        widget.channel = np.int64(0)
    assert (redraws(widget, sent), type(widget.channel)) == ([{"channel"}], int)
    for wrong in (2, -1, True, "0"):
        with pytest.raises(traitlets.TraitError, match=r"channel: expected None or an int from 0 to 1"):
            widget.channel = wrong
    browser_sets(widget._canvas, channel=7)
    assert (widget.channel, widget._canvas.channel) == (0, 0)
    assert "channel: expected" in widget._canvas.notice["message"]
    widget.target = 1
    assert widget.channel == 0
    with counted() as sent:
        widget.layer = "conv"
    assert redraws(widget, sent) == [{"scene", "channel"}]
    assert (widget.channel, seen) == (None, [1, 0, None])


# -- evidence --------------------------------------------------------------------------------------------------


def test_signed_evidence_is_the_map_before_the_relu_with_its_own_colours_in_one_message(
    widget: GradCAMWidget,
) -> None:
    # "crane (2)" has the weights (-1, -1), so alpha = (-1/4, -1/4) at "pool", and S = -(A0 + A1) / 4 with
    # A0 = [[1, 0], [1, 0]] and A1 = 0.25 everywhere.
    widget.set(target=2, colormap="magma")
    with counted() as sent:
        browser_sets(widget._controls.evidence, index=1)
    assert redraws(widget, sent) == [{"scene", "colormap", "colormap_index"}]
    assert [name for name, _ in others(widget, sent)] == ["Colour map"]
    scene = widget._canvas.scene
    assert decode(scene["cam"]).tolist() == [[-0.3125, -0.0625], [-0.3125, -0.0625]]
    assert (scene["evidence"], scene["max"]) == ("signed", 0.3125)
    assert scene["diagnosis"] == "All of this map speaks against crane (2): it is nowhere positive."
    assert (widget.evidence, widget.colormap, widget._canvas.colormap_index) == ("signed", "RdBu_r", 0)
    assert tuple(widget._controls.colormap.options) == ("RdBu_r", "PuOr_r", "coolwarm")
    widget.colormap = "PuOr_r"
    assert widget._canvas.colormap_index == 1
    widget.evidence = "positive"
    assert (widget.colormap, widget._canvas.colormap_index, widget._canvas.scene["max"]) == ("magma", 2, 0)
    assert "No positive evidence" in widget._canvas.scene["diagnosis"]


def test_counterfactual_evidence_is_that_of_the_negative_target(widget: GradCAMWidget) -> None:
    before = widget._canvas.scene["target"]
    with counted() as sent:
        widget.evidence = "counterfactual"
    assert redraws(widget, sent) == [{"scene"}]
    scene = widget._canvas.scene
    # Against "cat": alpha is -W[0] / 4 = (-1, 0), and nothing of the map is positive.
    assert decode(scene["alpha"]).tolist() == [-1, 0]
    assert (scene["evidence"], scene["max"], scene["coverage"]) == ("counterfactual", 0, None)
    assert scene["diagnosis"] == "Nothing speaks against cat at this layer: the evidence is all for it."
    # The class, its score and its probability are still its own.
    assert scene["target"] == before
    widget.target = 2
    assert decode(widget._canvas.scene["cam"]).tolist() == [[0.3125, 0.0625], [0.3125, 0.0625]]
    assert widget._canvas.scene["target"]["score"] == pytest.approx(-0.75)
    assert widget.explanation.target.label == "against crane"


def test_evidence_of_one_output_and_of_a_method_that_cannot(make: Callable[..., GradCAMWidget]) -> None:
    widget = make(Binary(), red_left(), evidence="signed")
    assert (widget.colormap, widget._canvas.colormap, widget._canvas.scene["evidence"]) == ("RdBu_r",) * 2 + (
        "signed",
    )
    widget.evidence = "counterfactual"
    assert (widget.colormap, decode(widget._canvas.scene["alpha"]).tolist()) == ("viridis", [-1, 0])
    several = make(evidence="counterfactual", method="FinerCAM")
    assert "needs a class as target" in several._canvas.notice["message"]
    several.evidence = "positive"
    assert several._canvas.notice == {}


# -- methods ---------------------------------------------------------------------------------------------------


def test_every_method_is_in_the_list_and_gives_a_map_or_a_reason(widget: GradCAMWidget) -> None:
    offered = widget._controls.method._options_labels
    assert offered == tuple(METHODS)
    widget.method = "LayerCAM"
    for name in offered:
        with counted() as sent:
            choose(widget._controls.method, name)
        assert widget.method == name
        assert others(widget, sent) == []
        # Four takes its mean over the cells without a module for it, and it has no ReLU.
        said = {"CAM": "global average pooling", "GuidedGradCAM": "has none", "GuidedBackprop": "has none"}
        answer = "task" if METHODS[name].many_passes else "notice" if name in said else "scene"
        same = name == "GuidedBackprop"  # the words for GuidedGradCAM are there already
        assert [answer in message for message in redraws(widget, sent)] == ([] if same else [True])
        assert (widget._canvas.scene["method"]["name"] == name) == (answer == "scene")
        assert said.get(name, "") in widget._canvas.notice.get("message", "")


def test_many_passes_are_told_before_they_run_and_run_when_they_are_asked_for(widget: GradCAMWidget) -> None:
    widget.layer = "pool"
    passes, revision = widget.engine.passes, widget._canvas.revision
    choose(widget._controls.method, "ScoreCAM")
    assert widget._canvas.task == {
        "method": "ScoreCAM",
        "cost": "up to one forward pass per channel",
        "total": 2,
        "done": None,
    }
    # Nothing has run and nothing is shown as its result, but everything chosen is named.
    assert (widget.engine.passes, widget._canvas.revision, widget.explanation) == (passes, revision, None)
    assert (widget._controls.method.value, widget._controls.layer.value) == ("ScoreCAM", "pool")
    assert widget._controls.target.value.startswith("cat · ")
    browser_says(widget._canvas, type="compute")
    ended(JOB)
    assert (widget._canvas.revision, widget._canvas.task, widget._canvas.notice) == (revision + 1, {}, {})
    assert widget._canvas.scene["method"]["name"] == "ScoreCAM"
    assert widget._canvas.scene["status"]["passes"] == "2 forward passes"
    # Score-CAM by hand: N(A0) keeps the red half, N(A1) is flat and masks all. The scores of "cat", 4 times the
    # mean of red, are 2 x the share of red that is kept and 0; A0 is 1 on the left and upsampled from 2 to 4
    # columns it is (1, 0.75, 0.25, 0), which leaves (1 + 0.75) / 4 of red: 1.75. alpha = softmax(1.75, 0).
    first = math.exp(1.75) / (math.exp(1.75) + 1)
    assert decode(widget._canvas.scene["alpha"]) == pytest.approx([first, 1 - first], rel=1e-6)
    # What has been computed is there at once when it is chosen again.
    passes = widget.engine.passes
    widget.method = "GradCAM"
    widget.method = "ScoreCAM"
    assert (widget._canvas.task, widget.explanation.method) == ({}, "ScoreCAM")
    assert widget.engine.passes == passes


def test_many_passes_can_be_run_from_python(make: Callable[..., GradCAMWidget]) -> None:
    widget = make(method="AblationCAM", layer="pool")
    assert (widget.explanation, widget._canvas.revision, widget._canvas.task["total"]) == (None, 0, 2)
    widget.compute()
    # Without channel 0 "cat" has 0 of 2, without channel 1 all of it: alpha = (1, 0).
    assert widget.explanation.alpha.tolist() == [1, 0]
    assert ", 2 partial, 1 backward passes" in widget._canvas.scene["status"]["passes"]
    widget.compute()  # nothing waits
    assert widget._canvas.revision == 1


class Wide(Four):
    """Four with 64 channels before the pool, and a gate that each forward pass waits at."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(2, 64, 1)
        self.head = nn.Linear(64, 4)
        self.gate = threading.Event()
        self.gate.set()
        self.waiting = threading.Event()

    def forward(self, x: Tensor) -> Tensor:
        self.waiting.set()
        assert self.gate.wait(PATIENCE)
        return self.head(self.pool(self.wide(self.conv(x))).mean((2, 3)))


@pytest.fixture
def halted(make: Callable[..., GradCAMWidget]) -> Iterator[tuple[GradCAMWidget, Wide]]:
    """A widget whose many passes have begun and wait at the gate."""
    model = Wide()
    widget = make(model, layer="pool")
    widget.method = "ScoreCAM"
    model.gate.clear()
    model.waiting.clear()
    browser_says(widget._canvas, type="compute")
    assert model.waiting.wait(PATIENCE)
    yield widget, model
    model.gate.set()


def test_a_cancel_is_answered_while_a_batch_is_still_running(halted: tuple[GradCAMWidget, Wide]) -> None:
    widget, model = halted
    assert (widget._canvas.task["done"], widget._canvas.task["total"]) == (0, 64)
    thread = widget._job.thread
    browser_says(widget._canvas, type="cancel")
    assert (widget._canvas.task["done"], widget._canvas.task["total"]) == (None, 64)
    model.gate.set()
    thread.join(PATIENCE)
    assert (widget._canvas.task["done"], widget.explanation, widget._canvas.notice) == (None, None, {})
    widget.compute()
    assert (widget.explanation.method, widget._canvas.task) == ("ScoreCAM", {})


def test_another_choice_ends_the_passes_and_is_answered(halted: tuple[GradCAMWidget, Wide]) -> None:
    widget, model = halted
    thread = widget._job.thread
    threading.Timer(0.1, model.gate.set).start()
    widget.set(method="GradCAM", layer="conv")
    thread.join(PATIENCE)
    assert (widget.explanation.method, widget.explanation.layer.name) == ("GradCAM", "conv")
    assert (widget._canvas.task, widget._canvas.notice, widget._job) == ({}, {}, None)


def test_moving_the_opacity_does_not_end_the_passes(halted: tuple[GradCAMWidget, Wide]) -> None:
    widget, model = halted
    browser_sets(widget._controls.opacity, value=0.25)
    assert widget._canvas.task["done"] == 0
    model.gate.set()
    ended(JOB)
    assert (widget.explanation.method, widget._canvas.task) == ("ScoreCAM", {})


def test_close_ends_the_passes(halted: tuple[GradCAMWidget, Wide]) -> None:
    widget, model = halted
    thread = widget._job.thread
    threading.Timer(0.1, model.gate.set).start()
    widget.close()
    assert not thread.is_alive()


def test_passes_that_fail_are_told_and_left_behind(
    widget: GradCAMWidget, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    widget.set(method="ScoreCAM", layer="pool")

    def fail(x: Tensor) -> Tensor:
        raise RuntimeError("the pool is closed")

    monkeypatch.setattr(widget.engine.model.pool, "forward", fail)
    with caplog.at_level(logging.ERROR, "gradcam_widget"):
        browser_says(widget._canvas, type="compute")
        ended(JOB)
    assert "the pool is closed" in widget._canvas.notice["message"]
    assert (widget._canvas.task, widget._canvas.notice["stale"]) == ({}, True)
    monkeypatch.undo()
    widget.method = "GradCAM"
    assert (widget._canvas.notice, widget.explanation.method) == ({}, "GradCAM")


# -- errors in words -------------------------------------------------------------------------------------------


class Moody(Four):
    """Raises what it is told to."""

    error: BaseException | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.error is not None:
            raise self.error
        return super().forward(x)


def test_unknown_text_in_the_class_field(widget: GradCAMWidget) -> None:
    with counted() as sent:
        browser_sets(widget._controls.target, value="dgo")
    assert redraws(widget, sent) == [{"notice"}]
    notice = widget._canvas.notice
    assert "There is no class called 'dgo'. Nearest: dog" in notice["message"]
    # Nothing was changed, so what is shown still belongs to what is selected.
    assert (notice["stale"], widget.target) == (False, None)
    assert widget._controls.target.value.startswith("cat · ")
    browser_sets(widget._controls.target, value="dog")
    assert (widget._canvas.notice, widget.target) == ({}, 1)


def test_a_valid_choice_of_what_is_shown_takes_the_notice_away(widget: GradCAMWidget) -> None:
    browser_sets(widget._controls.target, value="dgo")
    with counted() as sent:
        widget.set(target=None)
    assert redraws(widget, sent) == [{"notice"}]
    assert widget._canvas.notice == {}


def test_a_wrong_class_from_the_view_is_shown(widget: GradCAMWidget) -> None:
    browser_says(widget._canvas, type="target", index=99)
    assert "target: expected a class from 0 to 3" in widget._canvas.notice["message"]
    assert widget.target is None


@pytest.mark.parametrize("kind", [RuntimeError, TypeError, ValueError])
def test_a_model_that_raises_is_shown_logged_and_left_behind(
    make: Callable[..., GradCAMWidget], caplog: pytest.LogCaptureFixture, kind: type[Exception]
) -> None:
    model = Moody()
    widget = make(model)
    model.error = kind("mat1 and mat2 shapes cannot be multiplied")
    with caplog.at_level(logging.ERROR, "gradcam_widget"):
        choose(widget._controls.picture, "green")
    notice = widget._canvas.notice
    assert notice["title"] == f"{kind.__name__} while explaining"
    assert notice["message"].startswith("mat1 and mat2 shapes cannot be multiplied. ")
    assert notice["stale"] is True
    assert "Traceback" in caplog.text
    assert (widget.explanation, widget.image_index) == (None, 1)
    assert widget._controls.picture.value == 1
    assert widget._canvas.scene["revision"] == 1  # the old picture, marked stale
    assert widget._canvas.picture["name"] == "red"
    del model.error  # it is what it was
    with counted() as sent:
        choose(widget._controls.picture, "red")  # what the view still holds: nothing to compute or to send
    assert redraws(widget, sent) == [{"notice"}]
    assert widget._canvas.notice == {}
    assert widget.explanation.target.index == 0
    with counted() as sent:
        choose(widget._controls.picture, "green")
    assert redraws(widget, sent) == [{"picture", "scene"}]
    assert widget.explanation.target.index == 1


@pytest.mark.parametrize("error", [torch.cuda.OutOfMemoryError("CUDA out of memory"), MemoryError()])
@pytest.mark.parametrize("where", ["model", "widget"])
def test_out_of_memory_says_what_to_do(
    make: Callable[..., GradCAMWidget], monkeypatch: pytest.MonkeyPatch, error: BaseException, where: str
) -> None:
    def fail(*_: Any) -> Any:
        raise error

    model = Moody()
    widget = make(model)
    if where == "model":
        model.error = error
    else:
        monkeypatch.setattr(explorer, "encode_picture", fail)
    widget.image_index = 1
    assert widget._canvas.notice["title"] == "Out of memory"
    assert "a smaller picture" in widget._canvas.notice["message"]
    assert widget._canvas.notice["message"].startswith("The ")
    model.error = None
    widget.image_index = 0
    assert widget._canvas.notice == {}


def test_a_model_that_fails_at_once_still_gives_a_widget(make: Callable[..., GradCAMWidget]) -> None:
    model = Moody()
    model.error = RuntimeError("no weights")
    widget = make(model)
    notice = widget._canvas.notice
    assert (notice["title"], notice["stale"]) == ("RuntimeError while explaining", False)
    assert (widget._canvas.scene, widget.explanation, widget.status) == ({}, None, "cpu · no explanation")
    assert widget._controls.picture._options_labels == ("red", "green")
    model.error = None
    widget.image_index = 1
    assert (widget._canvas.notice, widget._canvas.scene["target"]["label"]) == ({}, "dog")


def test_a_model_without_feature_maps_says_so(make: Callable[..., GradCAMWidget]) -> None:
    widget = make(nn.Sequential(nn.Flatten(), nn.Linear(48, 3)))
    assert "Grad-CAM needs at least one" in widget._canvas.notice["message"]
    assert widget.explanation is None


def test_a_layer_that_the_new_picture_does_not_have_is_an_error(make: Callable[..., GradCAMWidget]) -> None:
    class Choosy(Four):
        def forward(self, x: Tensor) -> Tensor:
            maps = self.conv(x)
            if x[0, 0].sum() > 0:  # only red pictures are pooled
                maps = self.pool(maps)
            return self.head(maps.mean((2, 3)))

    widget = make(Choosy(), layer="pool")
    choose(widget._controls.picture, "green")
    assert "'pool' gave no feature map for this picture" in widget._canvas.notice["message"]
    assert (widget._canvas.notice["stale"], widget._controls.layer.value) == (True, None)
    choose(widget._controls.layer, "conv · conv · 2 × 4 × 4")
    assert (widget._canvas.notice, widget.explanation.layer.name) == ({}, "conv")


def test_maps_that_are_not_finite_are_told_not_drawn(make: Callable[..., GradCAMWidget]) -> None:
    model = Four()
    with torch.no_grad():
        model.head.weight[0] = float("inf")
    widget = make(model, target=1)
    widget.target = 0
    assert "infinite" in widget._canvas.notice["message"]
    assert widget.explanation is None


def test_an_error_in_an_observer_of_the_users_is_shown_and_nothing_breaks(widget: GradCAMWidget) -> None:
    def faulty(change: Any) -> None:
        raise RuntimeError("my own mistake")

    widget.observe(faulty, "layer")
    choose(widget._controls.layer, "conv · conv · 2 × 4 × 4")
    assert "my own mistake" in widget._canvas.notice["message"]
    widget.unobserve(faulty, "layer")
    choose(widget._controls.layer, "pool · pool · 2 × 2 × 2")
    assert (widget.layer, widget._canvas.notice) == ("pool", {})


def test_hostile_names_reach_the_view_as_text(make: Callable[..., GradCAMWidget]) -> None:
    evil = "<script>alert(1)</script>"
    widget = make(images={evil: red_left()}, class_names=[evil, "b", "c", "d"])
    assert widget._canvas.picture["name"] == evil
    assert widget._canvas.scene["target"]["label"] == evil
    browser_sets(widget._controls.target, value=f"{evil}?")
    assert evil in widget._canvas.notice["message"]


# -- uploads ---------------------------------------------------------------------------------------------------


def png(colour: str = "lime", size: tuple[int, int] = (40, 30)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def upload(widget: GradCAMWidget, name: str, content: bytes) -> None:
    if OLD:
        field = widget._controls.upload
        state = {"metadata": [{"name": name}], "data": [memoryview(content)], "_counter": field._counter + 1}
        browser_sets(field, **state)
    else:
        file = {"name": name, "type": "", "size": len(content), "last_modified": 0, "content": memoryview(content)}
        browser_sets(widget._controls.upload, value=[file])


def test_an_uploaded_picture_is_appended_and_selected(widget: GradCAMWidget) -> None:
    with counted() as sent:
        upload(widget, "frog.png", png())
    assert redraws(widget, sent) == [{"picture", "scene"}]
    assert widget._controls.picture._options_labels == ("red", "green", "frog.png")
    assert (widget.image_index, widget._controls.picture.value) == (2, 2)
    assert widget._canvas.picture["name"] == "frog.png"
    assert widget.explanation.target.index == 1  # it is green
    upload(widget, "frog.png", png("red"))
    assert widget._controls.picture._options_labels[3:] == ("frog.png (2)",)
    assert widget.explanation.target.index == 0
    upload(widget, "C:\\fakepath\\../<b>x</b>.png", png())
    assert widget._controls.picture._options_labels[4:] == ("b>.png",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "'bad.png' cannot be read as a picture"),
        (b"GIF89a, or not", "'bad.png' cannot be read as a picture"),
        (png()[:60], "'bad.png' cannot be read as a picture"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "upload a whole PNG, JPEG,"),
    ],
)
def test_an_unreadable_upload_is_told_and_changes_nothing(
    widget: GradCAMWidget, content: bytes, message: str
) -> None:
    upload(widget, "bad.png", content)
    assert message in widget._canvas.notice["message"]
    assert widget._controls.picture._options_labels == ("red", "green")
    assert widget.image_index == 0
    upload(widget, "good.png", png())
    assert (widget._canvas.notice, widget.image_index) == ({}, 2)


def test_uploads_are_limited_in_bytes_and_pixels(widget: GradCAMWidget, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "_UPLOAD_PIXELS", 1000)
    upload(widget, "wide.png", png())
    assert "'wide.png' has 40 × 30 pixels" in widget._canvas.notice["message"]
    monkeypatch.setattr(pictures, "_UPLOAD_BYTES", 50)
    upload(widget, "heavy.png", png())
    assert "'heavy.png' has 0 MB" in widget._canvas.notice["message"]
    monkeypatch.undo()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)  # what Pillow itself refuses
    upload(widget, "bomb.png", png())
    assert "'bomb.png' has more pixels than can be unpacked safely" in widget._canvas.notice["message"]
    assert widget.image_index == 0


# -- threads and bursts ----------------------------------------------------------------------------------------


class Slow(GradCAM):
    """An engine that waits for a sign before it answers, and keeps the questions."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.asked: list[Any] = []
        self.started, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()

    def explain(self, image: Any, target: Any = None, layer: Any = None, **more: Any) -> Any:
        self.asked.append(target)
        self.started.set()
        assert self.go_on.wait(PATIENCE)
        return super().explain(image, target, layer, **more)


def test_a_burst_from_two_threads_ends_on_the_last_choice(make: Callable[..., GradCAMWidget]) -> None:
    engine = Slow(Four())
    widget = make(engine)
    engine.asked.clear()
    engine.started.clear()
    engine.go_on.clear()
    first = threading.Thread(target=lambda: browser_says(widget._canvas, type="target", index=1))
    first.start()
    assert engine.started.wait(PATIENCE)
    # While the answer for class 1 is computed, another thread brings three more choices.
    later = []
    for index in (2, 3, 0):
        later.append(threading.Thread(target=lambda index=index: widget._state.update(target=index)))
        later[-1].start()
        eventually(lambda index=index: widget._state.target == index)
    with counted() as sent:
        engine.go_on.set()
        for thread in (first, *later):
            thread.join(PATIENCE)
            assert not thread.is_alive()
    # The answer for 1 came too late to be drawn; 2 and 3 were never computed; the strip asks for 0 again.
    assert (engine.asked[:2], set(engine.asked)) == ([1, 0], {1, 0})
    assert redraws(widget, sent) in ([{"scene"}], [])  # class 0 at this layer: drawn once
    assert (widget.target, widget.explanation.target.index) == (0, 0)
    assert widget._canvas.scene["target"]["label"] == "cat"
    assert widget._controls.target.value.startswith("cat · ")


def test_many_changes_from_two_threads_leave_everything_in_step(make: Callable[..., GradCAMWidget]) -> None:
    widget = make()

    def pick(targets: list[int]) -> None:
        for target in targets:
            browser_says(widget._canvas, type="target", index=target)

    def step(layers: list[str]) -> None:
        for layer in layers:
            widget.layer = layer

    threads = [
        threading.Thread(target=pick, args=([0, 1, 2, 3] * 6,)),
        threading.Thread(target=step, args=(["conv", "pool"] * 12,)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert (widget.target, widget.layer) == (3, "pool")
    assert (widget.explanation.target.index, widget.explanation.layer.name) == (3, "pool")
    scene = widget._canvas.scene
    assert (scene["target"]["index"], scene["layer"]["name"]) == (3, "pool")
    assert (widget._controls.layer.value, widget._canvas.notice) == ("pool", {})


def test_an_observer_may_set_another_trait(widget: GradCAMWidget) -> None:
    widget.observe(lambda change: widget.set(target=1), "layer")
    choose(widget._controls.layer, "conv · conv · 2 × 4 × 4")
    assert (widget.layer, widget.target) == ("conv", 1)
    assert (widget.explanation.layer.name, widget.explanation.target.index) == ("conv", 1)


# -- life and death --------------------------------------------------------------------------------------------


def test_close_leaves_no_comm_no_widget_and_no_thread() -> None:
    comms = open_comms()
    before, threads = (set(comms), set(open_widgets())), threading.active_count()
    widget = GradCAMWidget(Four(), red_left())
    widget.layer = "conv"
    engine = widget.engine
    assert len(set(comms) - before[0]) > 20
    widget.close()
    widget.close()
    assert (set(comms), set(open_widgets())) == before
    eventually(lambda: threading.active_count() <= threads)
    assert len(engine._cache) == 0
    with pytest.raises(RuntimeError, match="closed; make a new one"):
        widget.layer = "pool"
    with pytest.raises(RuntimeError, match="closed; make a new one"):
        widget.set(layer="pool")
    for name, value in {"names": {}, "class_table": True, "show_box": True, "probe": (0, 0), "channel": 1}.items():
        with pytest.raises(RuntimeError, match="closed; make a new one"):
            setattr(widget, name, value)
    with pytest.raises(RuntimeError, match="closed; make a new one"):
        assert widget.pictures is None
    widget.refresh()
    browser_says(widget._canvas, type="target", index=1)


def test_the_model_is_left_as_it_was(make: Callable[..., GradCAMWidget]) -> None:
    model = Four().train()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    widget = make(model)
    widget.set(layer="conv", target=1)
    widget.close()
    assert model.training
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_it_is_a_box_of_controls_and_canvas(widget: GradCAMWidget) -> None:
    assert isinstance(widget, ipywidgets.VBox)
    controls, canvas, *_ = widget.children
    assert "gradcam-widget" in widget._dom_classes
    assert "gradcam-controls" in controls._dom_classes
    assert "gradcam-canvas" in canvas._dom_classes


def test_an_idle_gpu_is_pointed_out(make: Callable[..., GradCAMWidget], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    note = make()._canvas.scene["status"]["note"]
    assert note == 'a GPU is idle: GradCAMWidget(..., device="cuda") uses it'
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert make()._canvas.scene["status"]["note"] is None


def test_colab_is_told_once_to_show_widgets(
    make: Callable[..., GradCAMWidget], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    output = types.SimpleNamespace(enable_custom_widget_manager=lambda: calls.append("enabled"))
    explorer._enable_colab.cache_clear()
    monkeypatch.setitem(sys.modules, "google.colab.output", output)
    explorer._enable_colab()
    explorer._enable_colab()
    explorer._enable_colab.cache_clear()
    assert calls == ["enabled"]


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda w: w.put_picture("x", None), TypeError, "image: expected a PIL image, a uint8 array"),
        (
            lambda w: w.put_picture("x", red_left(), like=9),
            ValueError,
            "like: expected the index .* 0 to 0; got 9",
        ),
        (lambda w: w.put_picture("x", red_left(), like="a"), TypeError, "like: expected the index .* got 'a'"),
        (lambda w: w.paint(blank=28), TypeError, r"blank: expected \(height, width\) in pixels.*got 28"),
    ],
)
def test_pictures_that_cannot_be_put_are_told_by_their_arguments(
    explore: Callable[..., GradCAMWidget], call: Callable[[GradCAMWidget], object], kind: type, message: str
) -> None:
    widget = explore(Four(), red_left())
    with pytest.raises(kind, match=message):
        call(widget)
    assert len(widget.pictures) == 1


@pytest.mark.parametrize("kind", [torch.tensor, np.int64])
def test_a_class_may_be_what_argmax_gives(
    explore: Callable[..., GradCAMWidget], tmp_path: Path, kind: Callable[[int], Any]
) -> None:
    widget = explore(Four(), red_left())
    widget.target = kind(2)
    assert (widget.target, type(widget.target)) == (2, int)
    assert widget.explanation.target.index == 2
    widget.set(compare_target=kind(1))
    assert widget.compare_target == 1
    widget.to_html(tmp_path / "lesson.html", targets=[kind(0), 3])
    with pytest.raises(traitlets.TraitError, match="target: expected None"):
        widget.target = torch.tensor([1, 2])
    with pytest.raises(traitlets.TraitError, match="target: expected None"):
        widget.target = torch.tensor(1.0)
