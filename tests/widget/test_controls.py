"""Controls: names, what typed text means, filtering and stepping, uploads; showing is never choosing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from messages import OLD, browser_sets, choose, click, counted

from gradcam_widget.widget import controls as controls_module
from gradcam_widget.widget.choices import Choices, Prediction, class_labels, find_class
from gradcam_widget.widget.controls import Controls, uploaded
from gradcam_widget.widget.state import Offer, State

LAYERS = tuple(
    (name, kind, f"{name} · {kind} · 4 × 2 × 2")
    for name, kind in (
        ("stem", "conv"),
        ("act", "activation"),
        ("block.0", "block"),
        ("block.0.conv", "conv"),
        ("block.1", "block"),
        ("pool", "pool"),
    )
)
CLASSES = ("tabby", "tiger cat", "Egyptian cat", "table lamp", "crane (4)", "crane (5)", "goldfish")
PREDICTIONS = (Prediction(2, "Egyptian cat", 0.434), Prediction(0, "tabby", 0.205))
CHOICES = Choices(
    pictures=("a", "b"),
    picture=0,
    layers=LAYERS,
    layer="act",
    classes=CLASSES,
    predictions=PREDICTIONS,
    target=2,
    target_label="Egyptian cat",
)


class Desk:
    """Controls with everything they report."""

    def __init__(self) -> None:
        offer = Offer(
            ("a", "b"), ("GradCAM",), ("viridis", "magma"), lambda _: [row[0] for row in LAYERS], lambda *_: None
        )
        self.state = State(offer)
        self.updates: list[dict[str, Any]] = []
        self.errors: list[Exception] = []
        self.files: list[tuple[str, bytes]] = []
        update = self.state.update

        def recorded(**changes: Any) -> None:
            self.updates.append(changes)
            update(**changes)

        self.state.update = recorded  # type: ignore[method-assign]
        self.controls = Controls(
            self.state,
            upload=lambda name, content: self.files.append((name, content)),
            reject=self.errors.append,
        )
        self.controls.show(CHOICES)


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_every_control_is_named_by_its_label(desk: Desk) -> None:
    controls = desk.controls
    assert controls.picture.description == "Picture"
    assert controls.layer.description == "Layer"
    assert controls.filter.description == "Show"
    assert controls.target.description == "Class"
    assert controls.colormap.description == "Colour map"
    assert controls.opacity.description == "Opacity"
    assert controls.method.description == "Method"
    assert controls.evidence.description == "Evidence"
    assert tuple(controls.evidence.options) == ("positive", "signed", "counterfactual")
    assert controls.upload.description == "Upload a picture"
    assert getattr(controls.upload, "tooltip", "Upload a picture") == "Upload a picture"  # ipywidgets 7 has none
    # Icons have no text, so the title is the accessible name.
    assert [(b.description, b.tooltip) for b in (controls.previous, controls.next)] == [
        ("", "Previous layer"),
        ("", "Next layer"),
    ]
    assert (controls.upload.accept, controls.upload.multiple) == ("image/*", False)


def test_showing_is_not_choosing(desk: Desk) -> None:
    desk.controls.show(
        replace(CHOICES, pictures=("a", "b", "c"), picture=2, layer="pool", target=6, target_label="goldfish")
    )
    desk.controls.show(replace(CHOICES, layers=LAYERS[:2], layer="stem", classes=CLASSES[:3], predictions=()))
    desk.controls.show(Choices())
    desk.controls.show(CHOICES)
    assert desk.controls.show_look("magma", 0.25)
    assert (desk.updates, desk.errors) == ([], [])
    assert (desk.controls.colormap.value, desk.controls.opacity.value) == ("magma", 0.25)


def test_the_lists_hold_what_is_offered(desk: Desk) -> None:
    controls = desk.controls
    assert controls.picture._options_labels == ("a", "b")
    # The filter begins with convolutions; the chosen layer is there although it is none.
    assert controls.filter.value == "conv"
    assert controls.layer._options_labels == tuple(LAYERS[i][2] for i in (0, 1, 3))
    assert controls.layer.value == "act"
    assert tuple(controls.target.options) == ("Egyptian cat · 0.434", "tabby · 0.205", "predicted class", *CLASSES)
    assert controls.target.value == "Egyptian cat · 0.434"


def test_a_network_without_convolutions_shows_all_its_layers() -> None:
    desk = Desk()
    fresh = Controls(desk.state, upload=lambda *_: None, reject=lambda _: None)
    fresh.show(replace(CHOICES, layers=LAYERS[4:], layer="pool"))
    assert (fresh.filter.value, fresh.layer._options_labels) == ("all", (LAYERS[4][2], LAYERS[5][2]))


def test_what_has_not_changed_is_not_sent_again(desk: Desk) -> None:
    with counted() as sent:
        desk.controls.show(replace(CHOICES))
        assert sent == []
        desk.controls.show(replace(CHOICES, layer="stem"))
        assert [message.state for message in sent] == [{"index": 0}]
        sent.clear()
        desk.controls.show(replace(CHOICES, layer="stem", target=6, target_label="goldfish"))
        assert [message.state for message in sent] == [{"value": "goldfish"}]


@pytest.mark.parametrize("shown", ["conv", "blocks", "all"])
def test_filtering_changes_no_selection(desk: Desk, shown: str) -> None:
    with counted() as sent:
        choose(desk.controls.filter, shown)
    kinds = {"conv": {"conv"}, "blocks": {"block"}, "all": {row[1] for row in LAYERS}}[shown]
    assert desk.controls.layer._options_labels == tuple(
        label for name, kind, label in LAYERS if kind in kinds or name == "act"
    )
    assert (desk.controls.layer.value, desk.updates) == ("act", [])
    assert len(sent) <= 1


def test_a_layer_that_is_filtered_out_joins_the_list_when_it_is_shown(desk: Desk) -> None:
    desk.controls.show(replace(CHOICES, layer="block.1"))
    assert desk.controls.layer.value == "block.1"
    assert LAYERS[4][2] in desk.controls.layer._options_labels


def test_choosing_a_layer_writes_it_once(desk: Desk) -> None:
    choose(desk.controls.layer, LAYERS[3][2])
    assert desk.updates == [{"layer": "block.0.conv"}]
    assert desk.state.layer == "block.0.conv"


def test_stepping_goes_through_the_shown_list_and_stops_at_its_ends(desk: Desk) -> None:
    def shown(layer: str) -> None:
        desk.controls.show(replace(CHOICES, layer=layer))

    click(desk.controls.next)  # stem, [act], block.0.conv
    shown("block.0.conv")
    click(desk.controls.next)
    click(desk.controls.previous)
    shown("act")
    click(desk.controls.previous)
    shown("stem")
    click(desk.controls.previous)
    assert desk.updates == [{"layer": "block.0.conv"}, {"layer": "act"}, {"layer": "stem"}]


def test_stepping_before_any_layer_is_known_does_nothing() -> None:
    desk = Desk()
    desk.controls.show(Choices(pictures=("a",), picture=0))
    click(desk.controls.next)
    assert (desk.updates, desk.errors) == ([], [])


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("Egyptian cat · 0.434", 2),
        ("tabby · 0.205", 0),
        ("tabby · 0.99", 0),  # an entry of a list that has changed since
        ("tabby · <0.001", 0),
        ("egyptian CAT", 2),
        ("  goldfish ", 6),
        ("gold", 6),
        ("ti", 1),
        ("lamp", 3),
        ("3", 3),
        ("#3", 3),
        ("class 3", 3),
        ("0", 0),
        ("crane (5)", 5),
    ],
)
def test_typed_text_finds_its_class(text: str, index: int) -> None:
    assert find_class(text, CLASSES, PREDICTIONS) == index


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tab", r"'tab' fits 2 classes: tabby, table lamp\. Type more of it"),
        ("crane", r"'crane' fits 2 classes: crane \(4\), crane \(5\)"),
        ("cat", r"'cat' fits 2 classes: tiger cat, Egyptian cat"),
        ("egiptian cat", r"There is no class called 'egiptian cat'\. Nearest: Egyptian cat"),
        ("zzzzzz", r"There is no class called 'zzzzzz'\. Open the list"),
        ("7", r"There is no class 7: the classes are numbered 0 to 6"),
        ("-1", r"There is no class -1"),
        ("9" * 5000, r"There is no class called '9+…9+'"),
        ("(", r"'\(' fits 2 classes"),
    ],
)
def test_text_that_means_no_single_class_is_answered_in_words(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_class(text, CLASSES, PREDICTIONS)


def test_numbers_find_classes_without_names() -> None:
    labels = class_labels(None, 300)
    assert (labels[281], find_class("281", labels), find_class("Class 281", labels)) == ("class 281", 281, 281)
    with pytest.raises(ValueError, match="There is no class"):
        find_class("anything", ())


def test_labels_of_classes_all_differ() -> None:
    names = ("crane", "Crane", "dog", "crane (0)", "class 5")
    labels = class_labels(names, 6)
    assert labels == ("crane (0)", "Crane (1)", "dog", "crane (0) (3)", "class 5 (4)", "class 5 (5)")
    assert len({label.casefold() for label in labels}) == 6
    assert all(find_class(label, labels) == index for index, label in enumerate(labels))


def test_choosing_a_class_by_text(desk: Desk) -> None:
    browser_sets(desk.controls.target, value="goldf")
    browser_sets(desk.controls.target, value="predicted class")
    browser_sets(desk.controls.target, value="tabby · 0.205")
    assert desk.updates == [{"target": 6}, {"target": None}, {"target": 0}]


def test_unknown_text_is_reported_and_the_field_goes_back(desk: Desk) -> None:
    for _ in range(2):  # the same mistake twice: the field works on
        browser_sets(desk.controls.target, value="dragon")
        assert desk.controls.target.value == "Egyptian cat · 0.434"
    assert [type(error) for error in desk.errors] == [ValueError, ValueError]
    assert desk.updates == []
    browser_sets(desk.controls.target, value="goldfish")
    assert desk.updates == [{"target": 6}]


def test_a_cleared_field_is_no_choice(desk: Desk) -> None:
    browser_sets(desk.controls.target, value="   ")
    assert (desk.updates, desk.errors) == ([], [])
    assert desk.controls.target.value == "Egyptian cat · 0.434"


def test_an_error_of_the_state_is_reported_and_the_control_goes_back(desk: Desk) -> None:
    desk.state.offer = replace(desk.state.offer, layers=lambda _: ("act",))
    choose(desk.controls.layer, LAYERS[0][2])
    assert desk.controls.layer.value == "act"
    assert "layer: expected one of the 1 feature maps" in str(desk.errors[0])


def test_a_slider_under_the_hand_is_not_moved_by_the_kernel(desk: Desk) -> None:
    moved: list[bool] = []
    desk.state.on_update(lambda: moved.append(desk.controls.show_look("viridis", 0.125)))
    with counted() as sent:
        browser_sets(desk.controls.opacity, value=0.75)
        browser_sets(desk.controls.colormap, index=1)
    assert desk.updates == [{"opacity": 0.75}, {"colormap": "magma"}]
    assert (moved, sent) == ([False, False], [])


def test_choosing_a_method_writes_it_once_and_showing_one_writes_nothing(desk: Desk) -> None:
    desk.state.offer = replace(desk.state.offer, methods=("GradCAM", "HiResCAM"))
    fresh = Controls(desk.state, upload=lambda *_: None, reject=desk.errors.append)
    choose(fresh.method, "HiResCAM")
    assert desk.updates == [{"method": "HiResCAM"}]
    fresh.show(CHOICES)
    assert (fresh.method.value, len(desk.updates), desk.errors) == ("GradCAM", 1, [])


def test_the_colour_maps_follow_the_evidence_and_each_kind_keeps_its_own(desk: Desk) -> None:
    shown: list[bool] = []
    desk.state.on_update(lambda: shown.append(desk.controls.show_look(desk.state.colormap, desk.state.opacity)))
    desk.state.update(colormap="magma")
    browser_sets(desk.controls.evidence, index=1)
    assert desk.updates[-1] == {"evidence": "signed"}
    assert desk.controls.colormap._options_labels == ("RdBu_r",)
    assert (desk.state.colormap, desk.controls.colormap.value) == ("RdBu_r", "RdBu_r")
    browser_sets(desk.controls.evidence, index=2)
    assert desk.controls.colormap._options_labels == ("viridis", "magma")
    assert (desk.state.colormap, desk.controls.colormap.value, shown) == ("magma", "magma", [True] * 3)


def test_very_many_classes_are_typed_rather_than_listed(desk: Desk) -> None:
    labels = class_labels(None, 21_841)
    desk.controls.show(replace(CHOICES, classes=labels))
    assert len(desk.controls.target.options) < 2100
    browser_sets(desk.controls.target, value="21840")
    assert desk.updates == [{"target": 21_840}]


def test_hostile_names_stay_text(desk: Desk) -> None:
    hostile = "<img src=x onerror=alert(1)>"
    desk.controls.show(
        Choices(
            pictures=(hostile,),
            picture=0,
            layers=((hostile, "conv", hostile),),
            layer=hostile,
            classes=(hostile, "b"),
            predictions=(Prediction(0, hostile, 1.0),),
            target=0,
            target_label=hostile,
        )
    )
    for widget in (desk.controls.picture, desk.controls.layer, desk.controls.target):
        # ipywidgets makes text of options and values; only a description may hold markup, and ours are fixed.
        assert getattr(widget, "description_allow_html", False) is False
    browser_sets(desk.controls.target, value=hostile)
    assert desk.updates == [{"target": 0}]


def test_uploads_of_ipywidgets_7_and_8_are_read_alike() -> None:
    assert uploaded({"cat.png": {"metadata": {"name": "cat.png", "size": 3}, "content": b"abc"}}) == [
        ("cat.png", b"abc")
    ]
    assert uploaded(({"name": "cat.png", "type": "image/png", "size": 3, "content": memoryview(b"abc")},)) == [
        ("cat.png", b"abc")
    ]


@pytest.mark.skipif(OLD, reason="the value that ipywidgets 8 gives; that of 7 is below, and in test_colab.py")
def test_an_upload_is_passed_on_and_the_same_file_can_come_again(desk: Desk) -> None:
    for _ in range(2):
        browser_sets(
            desk.controls.upload,
            value=[
                {
                    "name": "cat.png",
                    "type": "image/png",
                    "size": 3,
                    "last_modified": 1_700_000_000_000,
                    "content": memoryview(b"abc"),
                }
            ],
        )
    assert desk.files == [("cat.png", b"abc")] * 2
    assert desk.controls.upload.value == ()


def test_an_upload_of_ipywidgets_7_is_passed_on(desk: Desk) -> None:
    desk.controls._on_upload_value({"new": {"dog.png": {"metadata": {}, "content": b"xyz"}}})
    assert desk.files == [("dog.png", b"xyz")]


def test_the_list_of_ipywidgets_7_is_markup_that_no_name_can_leave(desk: Desk, monkeypatch: Any) -> None:
    hostile = '"><img src=x>'
    chosen = replace(CHOICES, classes=(*CLASSES, hostile))
    monkeypatch.setattr(controls_module.ipywidgets, "__version__", "8.1.9")
    desk.controls.show(chosen)
    assert desk.controls.target.options[-1] == hostile  # ipywidgets 8 makes elements of them
    monkeypatch.setattr(controls_module.ipywidgets, "__version__", "7.7.1")
    desk.controls.show(chosen)
    assert desk.controls.target.options[-1] == "”><img src=x>"
    assert desk.controls.compare.options[-1] == "”><img src=x>"
    browser_sets(desk.controls.target, value="”><img src=x>")
    assert desk.errors == []
    assert desk.updates[-1] == {"target": len(CLASSES)}
