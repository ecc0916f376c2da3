"""What a saved notebook keeps: the scenes of one picture, in few bytes, and nothing that a selection sends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from messages import counted, decode
from tiny import Tiny, green_right, red_left

from gradcam_widget.widget.explorer import GradCAMWidget
from gradcam_widget.widget.kept import Kept, Places


@pytest.fixture
def widget() -> Iterator[GradCAMWidget]:
    made = GradCAMWidget(Tiny(), {"red": red_left(), "green": green_right()})
    yield made
    made.close()


def kept(widget: GradCAMWidget) -> dict[tuple[str, str], dict[str, Any]]:
    """The scenes of the state that is asked for as a whole, by class and layer."""
    scenes = widget._canvas.get_state()["kept"]["scenes"].values()
    return {(scene["target"]["label"], scene["layer"]["name"]): scene for scene in scenes if scene.get("layer")}


def scene(
    revision: int, *, layer: str = "conv", question: int = 1, index: int = 0, size: int = 100, trace: int = 0
) -> dict[str, Any]:
    array = {"dtype": "f32", "shape": [size // 4], "scale": 1.0, "offset": 0.0, "data": bytes(size)}
    return {
        "revision": revision,
        "trace": trace,
        "question": question,
        "base": f"{layer} {question}",
        "layer": {"name": layer},
        "target": {"index": index, "label": f"class {index}"},
        "method": {"name": "GradCAM"},
        "evidence": "positive",
        "off": "",
        "cam": array,
        "alpha": array,
        "contribution": array,
    }


def test_the_whole_state_has_every_scene_of_the_picture_with_its_numbers(widget: GradCAMWidget) -> None:
    widget.layer = "conv"
    widget.target = 1
    alpha = {}
    for target in (0, 1):
        for layer in ("pool", "conv"):
            widget.set(target=target, layer=layer)
            alpha["cat" if target == 0 else "dog", layer] = widget.explanation.alpha.numpy()
    found = kept(widget)
    assert set(found) == set(alpha)
    for name, values in alpha.items():
        np.testing.assert_array_equal(decode(found[name]["alpha"]), values)
    # the strip of each class belongs to its scenes
    strips = widget._canvas.get_state()["kept"]["strips"].values()
    assert {strip["question"] for strip in strips} == {one["question"] for one in found.values()}
    # another picture: nothing of this one
    widget.image_index = 1
    assert set(kept(widget)) == {("dog", "conv")}


def test_a_selection_sends_nothing_of_it(widget: GradCAMWidget) -> None:
    with counted() as sent:
        for target in (1, 2, 0, 1):
            widget.target = target
    assert not any("kept" in message.state for message in sent)
    with counted() as sent:  # where it is displayed, a program that saves what it was sent hears of it, once
        widget._with_shot({})
        widget._with_shot({})
    assert [set(message.state) for message in sent] == [{"kept"}]
    assert len(sent[0].state["kept"]["scenes"]) == 3


def test_what_is_no_selection_of_its_own_is_not_kept(widget: GradCAMWidget) -> None:
    before = set(kept(widget))
    widget.channels_off = (0,)
    assert kept(widget)[next(iter(before))]["off"] == ""
    widget.set(channels_off=(), compare_target=1)
    assert len(widget._canvas.get_state()["kept"]["scenes"]) == 2  # beside another class it is one


def test_the_oldest_make_room_and_the_last_always_stays() -> None:
    record = Kept(limit=3 * 2300)
    record.begin({"name": "one", "data": bytes(40)})
    for number in range(1, 6):
        record.add(scene(number, layer=f"layer {number}"))
    assert [one["revision"] for one in record.message()["scenes"].values()] == [3, 4, 5]
    record.add(scene(6, layer="layer 3"))  # shown again: in the place of the first, and the newest
    assert [one["revision"] for one in record.message()["scenes"].values()] == [4, 5, 6]
    record.add(scene(7, size=9000))
    assert [one["revision"] for one in record.message()["scenes"].values()] == [7]


def test_what_a_model_said_before_it_changed_is_not_kept(widget: GradCAMWidget) -> None:
    widget.target = 1
    widget.target = 0
    assert len(kept(widget)) == 2
    with torch.no_grad():
        next(widget.engine.model.parameters()).mul_(1.5)
    widget.target = 2
    assert [scene["target"]["index"] for scene in kept(widget).values()] == [2]
    strips = widget._canvas.get_state()["kept"]["strips"].values()
    assert {strip.get("question") for strip in strips} <= {None, widget._canvas.scene["question"]}


def test_a_place_that_had_bytes_once_is_still_there() -> None:
    # nbclient keeps the bytes of "a.b.data" for ever; a front end cannot put them where there is no "a.b"
    places = Places()
    assert places.hold({"a": {"b": {"data": b"1"}, "text": "t"}}) == {"a": {"b": {"data": b"1"}, "text": "t"}}
    assert places.hold({"a": {"text": "u"}, "other": 1}) == {"a": {"text": "u", "b": {}}, "other": 1}
    assert places.hold({"a": {"b": None}}) == {"a": {"b": {}}}
    assert places.hold({"a": {"b": {"data": b"2"}}}) == {"a": {"b": {"data": b"2"}}}


def test_a_comparison_that_has_ended_leaves_its_places(widget: GradCAMWidget) -> None:
    widget.compare_target = 1
    with counted() as sent:
        widget.compare_target = None
    (message,) = [one for one in sent if "scene" in one.state]
    assert message.state["scene"]["compare"] == {"alpha": {}, "cam": {}, "contrast": {}}
