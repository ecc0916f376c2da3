"""Scenes sent ahead: numbered so that a view can keep them, equal to the answers, never in the way."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from messages import browser_says, decode
from patience import PATIENCE, eventually
from torch import nn

from gradcam_widget import GradCAMWidget
from gradcam_widget.widget import ahead
from gradcam_widget.widget.ahead import AHEAD_BYTES
from gradcam_widget.widget.canvas import Canvas
from gradcam_widget.widget.numbers import Numbers


def net() -> nn.Module:
    torch.manual_seed(5)
    layers: list[nn.Module] = []
    for before, after in [(3, 8), (8, 12), (12, 16), (16, 16), (16, 20), (20, 24), (24, 24), (24, 24)]:
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU()]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 5)).eval()
    model.class_names = ("ant", "bee", "cow", "dog", "elk")  # type: ignore[assignment]
    return model


def picture(seed: int) -> torch.Tensor:
    return torch.randn(3, 24, 24, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[dict[str, Any], bytes]]:
    """What is sent ahead."""
    found: list[tuple[dict[str, Any], bytes]] = []
    plain = Canvas.send

    def send(self: Canvas, content: Any, buffers: Any = None) -> None:
        if content.get("type") == "scenes":
            found.append((content, buffers[0]))
        else:
            plain(self, content, buffers)

    monkeypatch.setattr(Canvas, "send", send)
    monkeypatch.setattr(ahead, "_MOST_SECONDS", math.inf)  # a busy machine is no slow model
    return found


@pytest.fixture
def make(explore: Callable[..., GradCAMWidget]) -> Callable[..., GradCAMWidget]:
    return lambda: explore(net(), {"a": picture(1), "b": picture(2)})


def unpacked(content: dict[str, Any], buffer: bytes) -> dict[str, dict[str, Any]]:
    """Scenes of a message by their layers, the arrays with their values."""
    raw = zlib.decompress(buffer)
    assert len(raw) == content["size"]
    scenes = {}
    for own in content["scenes"]:
        scene = {**content["shared"], **own}
        for name in ("cam", "alpha", "contribution"):
            start, count = scene[name]["data"]
            array = {**scene[name], "data": raw[start : start + count]}
            if array["dtype"] == "u8":
                array = {**array, "dtype": "u8z", "data": zlib.compress(array["data"])}
            scene[name] = decode(array)
        scenes[scene["layer"]["name"]] = scene
    return scenes


def settled(widget: GradCAMWidget, sent: list[Any], count: int) -> None:
    """Waits until so many messages have come, and there is nothing left to make."""
    eventually(lambda: len(sent) >= count)
    assert widget._ahead.wait(PATIENCE)
    assert len(sent) == count


def test_equal_things_have_equal_numbers_and_none_is_used_again() -> None:
    numbers = Numbers(most=2)
    assert [numbers.of("a", 1), numbers.of("b"), numbers.of("a", 1)] == [1, 2, 1]
    assert numbers.of("c") == 3  # "b" is forgotten
    assert [numbers.of("a", 1), numbers.of("b"), numbers.of("c")] == [1, 4, 5]


def test_the_numbers_of_a_scene_tell_what_it_depends_on(widget: GradCAMWidget) -> None:
    def numbers(**changes: Any) -> tuple[int, int, int, int | None]:
        widget.set(**changes)
        scene = widget._canvas.scene
        return scene["base"], scene["question"], scene["ground"], scene["chosen"]

    base, question, ground, chosen = numbers(layer="4", target=2)
    assert chosen == 2
    assert numbers(layer="6")[1:] == (question, ground, 2)
    assert numbers(layer="4", target="cow") == (base, question, ground, 2)
    other = numbers(target=3)
    assert other[2:] == (ground, 3)
    assert not {base, question} & {*other[:2]}
    assert numbers(target=2) == (base, question, ground, 2)
    for changes in ({"image_index": 1}, {"method": "HiResCAM"}, {"evidence": "signed"}):
        before = {name: getattr(widget, name) for name in changes}
        changed = numbers(**changes)
        assert changed[0] != base
        assert changed[1] != question
        assert changed[2] != ground
        assert numbers(**before) == (base, question, ground, 2)
    beside = numbers(compare_target=1)
    assert (beside[0] != base, beside[1], beside[2] != ground) == (True, question, True)
    assert numbers(compare_target=None) == (base, question, ground, 2)
    assert numbers(target=lambda output: output[2])[3] is None
    # what is off belongs to the scene
    widget.set(target=2, channels_off=(1,))
    assert (widget._canvas.scene["base"], bool(widget._canvas.scene["off"])) == (base, True)


def test_another_picture_of_the_same_name_and_another_model_have_other_numbers(widget: GradCAMWidget) -> None:
    before = {name: widget._canvas.scene[name] for name in ("base", "question", "ground")}
    widget.put_picture("a", picture(3))
    painted = {name: widget._canvas.scene[name] for name in before}
    assert all(painted[name] != before[name] for name in before)
    with torch.no_grad():
        widget.engine.model[0].weight.mul_(1.5)
    widget.layer = "6"
    widget.layer = None
    assert all(widget._canvas.scene[name] not in (before[name], painted[name]) for name in before)


def test_scenes_ahead_are_the_answers_that_come_when_they_are_asked_for(widget: GradCAMWidget, sent: Any) -> None:
    browser_says(widget._canvas, type="ready", complete=True)
    settled(widget, sent, 2)
    near, far = (unpacked(*message) for message in sent)
    assert len(near) == 6
    listed = widget._controls.listed
    assert {*near, *far, widget.explanation.layer.name} == {*listed}
    assert sum(len(buffer) for _, buffer in sent) < AHEAD_BYTES
    for layer, scene in {**near, **far}.items():
        widget.layer = layer
        answer = widget._canvas.scene
        for name in ("base", "question", "ground", "chosen", "target", "coverage", "diagnosis", "max"):
            assert scene[name] == answer[name], name
        assert scene["predictions"] == answer["predictions"]
        for name in ("alpha", "cam", "contribution"):
            wanted, steps = decode(answer[name]), 6e4 if name == "alpha" else 250
            assert np.abs(scene[name] - wanted).max() <= np.abs(wanted).max() / steps, name
    assert widget._ahead.wait(PATIENCE)
    assert len(sent) == 2  # the question is the same at all layers


def test_nothing_is_made_where_nobody_looks_or_each_layer_costs_a_pass(widget: GradCAMWidget, sent: Any) -> None:
    widget.target = 1
    assert widget._ahead.wait(PATIENCE)
    browser_says(widget._canvas, type="ready", complete=True)
    settled(widget, sent, 2)
    before = widget.engine.passes
    for method in ("GuidedGradCAM", "EigenCAM", "ScoreCAM"):
        widget.method = method
        assert widget._ahead.wait(PATIENCE)
    assert len(sent) == 2
    assert widget.engine.passes.forward == before.forward


def test_what_is_asked_meanwhile_comes_first(
    widget: GradCAMWidget, sent: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "_IDLE_SECONDS", PATIENCE)  # there is no quiet moment between the choices
    browser_says(widget._canvas, type="ready", complete=True)
    for target in (1, 2, 3):
        widget.target = target
    monkeypatch.setattr(ahead, "_IDLE_SECONDS", 0)
    widget.target = 2
    settled(widget, sent, 2)
    assert {content["shared"]["chosen"] for content, _ in sent} == {2}


def test_a_view_tells_where_it_rests_in_one_message(widget: GradCAMWidget) -> None:
    before = widget._canvas.revision
    browser_says(widget._canvas, type="go", layer="4", target=3, request="r-1")
    assert (widget.layer, widget.target, widget._canvas.revision) == ("4", 3, before + 1)
    assert widget._canvas.answered == "r-1"
    browser_says(widget._canvas, type="go", layer="nowhere", request="r-2")
    assert "layer: expected one of" in widget._canvas.notice["message"]
    assert widget.layer == "4"
