"""What a view asks is answered in the message that shows what came of it; maps say which question they answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from messages import browser_says, counted
from patience import ended
from tiny import Four, green_right, red_left

from gradcam_widget.widget.explorer import GradCAMWidget


@pytest.fixture
def widget(explore: Callable[..., GradCAMWidget]) -> GradCAMWidget:
    return explore(Four(), {"red": red_left(), "green": green_right()})


def sent_to_view(widget: GradCAMWidget, **message: Any) -> list[set[str]]:
    with counted() as sent:
        browser_says(widget._canvas, **message)
    return [set(one.state) for one in sent if one.widget is widget._canvas]


def test_a_choice_is_answered_by_the_message_that_draws_it(widget: GradCAMWidget) -> None:
    assert sent_to_view(widget, type="layer", name="conv", request="a-1") == [{"scene", "answered"}]
    assert widget._canvas.answered == "a-1"
    assert sent_to_view(widget, type="target", index=1, request="b-1") == [{"scene", "answered"}, {"strip"}]
    assert widget._canvas.answered == "b-1"


def test_a_choice_that_changes_nothing_or_cannot_be_is_answered_too(widget: GradCAMWidget) -> None:
    widget.layer = "pool"
    assert sent_to_view(widget, type="layer", name="pool", request="a-1") == [{"answered"}]
    assert sent_to_view(widget, type="layer", name="nowhere", request="a-2") == [{"notice", "answered"}]
    assert sent_to_view(widget, type="wait", request="a-3") == [{"answered"}]
    assert sent_to_view(widget, type="nonsense", request="a-4") == [{"answered"}]
    assert widget._canvas.answered == "a-4"
    assert sent_to_view(widget, type="wait", request=["no", "text"]) == []
    assert sent_to_view(widget, type="wait", request="x" * 9999) == [{"answered"}]
    assert len(widget._canvas.answered) == 40


def test_passes_that_begin_are_answered_at_once(widget: GradCAMWidget) -> None:
    widget.method = "ScoreCAM"
    with counted() as sent:
        browser_says(widget._canvas, type="compute", request="a-1")
        ended("gradcam_widget")
    answers = [set(one.state) for one in sent if "answered" in one.state]
    assert answers[0] >= {"task", "answered"}
    assert len(answers) == 1


def test_a_wish_of_somebody_elses_answers_no_request(widget: GradCAMWidget) -> None:
    browser_says(widget._canvas, type="layer", name="conv", request="a-1")
    with counted() as sent:
        widget.layer = "pool"
    assert [set(one.state) for one in sent if one.widget is widget._canvas] == [{"scene"}]


@pytest.mark.parametrize(
    "change",
    [{"target": 2}, {"image_index": 1}, {"evidence": "signed"}, {"method": "HiResCAM"}],
    ids=lambda change: next(iter(change)),
)
def test_the_strip_has_the_number_of_the_question_whose_maps_it_shows(
    widget: GradCAMWidget, change: dict[str, Any]
) -> None:
    seen: list[tuple[int, int]] = []

    def numbers() -> tuple[int, int]:
        return widget._canvas.scene["question"], widget._canvas.strip["question"]

    seen.append(numbers())
    widget.layer = "conv"
    assert numbers() == seen[0]
    assert seen[0][0] == seen[0][1]
    messages: list[tuple[int, int]] = []
    widget._canvas.observe(lambda _: messages.append(numbers()), ["scene", "strip"])
    widget.set(**change)
    # First the scene, with a number that the strip on show has not; then the strip of that number.
    assert messages[0][0] != messages[0][1]
    assert messages[-1][0] == messages[-1][1] == messages[0][0] != seen[0][0]


def test_channels_that_are_switched_off_are_answered_too(widget: GradCAMWidget) -> None:
    base = widget._canvas.scene["base"]
    sent = sent_to_view(widget, type="off", base=base, mask="01", request="a-1")
    assert sent[0] >= {"scene", "answered"}
    assert widget.channels_off == (0,)
    assert sent_to_view(widget, type="off", base=base + 99, mask="02", request="a-2") == [{"answered"}]
    assert widget.channels_off == (0,)
