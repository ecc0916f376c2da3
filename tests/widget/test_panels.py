"""Panels: which sections of the view are on show, and panels of a user's own beside them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import ipywidgets
import pytest
import traitlets
from messages import browser_sets, counted, open_widgets
from tiny import Four, red_left

from gradcam_widget.widget.explorer import GradCAMWidget
from gradcam_widget.widget.panels import DEFAULT_PANELS, PANELS


@pytest.fixture
def make(explore: Callable[..., GradCAMWidget]) -> Callable[..., GradCAMWidget]:
    def build(**arguments: Any) -> GradCAMWidget:
        return explore(Four(), red_left(), **arguments)

    return build


def score(widget: GradCAMWidget) -> ipywidgets.Widget:
    """A toy panel: tells the score, and chooses a class."""
    line = ipywidgets.Label()
    classes = ipywidgets.BoundedIntText(value=widget.explanation.target.index, max=3, description="Class number")

    def tell(_: object = None) -> None:
        line.value = f"{widget.explanation.score:.2f}" if widget.explanation else "no score"

    tell()
    widget.observe(tell, "explanation")
    ipywidgets.link((classes, "value"), (widget, "target"))
    return ipywidgets.HBox([line, classes])


def faulty(widget: GradCAMWidget) -> ipywidgets.Widget:
    raise KeyError("<b>my own mistake</b>")


def test_every_panel_of_the_table_is_on_show_unless_it_says_otherwise(
    make: Callable[..., GradCAMWidget],
) -> None:
    widget = make()
    assert widget.panels == DEFAULT_PANELS == tuple(row.name for row in PANELS.values() if row.default)
    assert {"heatmap", "alpha", "layers"} <= set(widget._canvas.panels)
    assert widget.children[:2] == (widget._controls.box, widget._canvas)


def test_panels_can_be_read_set_and_observed_and_a_change_is_one_message(
    make: Callable[..., GradCAMWidget],
) -> None:
    widget = make(panels=["heatmap", "alpha", "layers"])
    assert widget.panels == ("heatmap", "alpha", "layers")
    assert widget._canvas.panels == ["heatmap", "alpha", "layers"]
    heard: list[Any] = []
    widget.observe(lambda change: heard.append(change["new"]), "panels")
    with counted() as sent:
        widget.panels = ["heatmap"]
    assert heard == [("heatmap",)]
    assert [(message.widget, message.state) for message in sent] == [(widget._canvas, {"panels": ["heatmap"]})]
    with counted() as sent:
        widget.panels = ("heatmap", "heatmap")
    assert (sent, widget.panels) == ([], ("heatmap",))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("heatmap", "panels: expected a list of names .* got 'heatmap', a str"),
        (None, "expected a list"),
        (["heatmap", "layer"], "got 'layer'. Nearest: layers"),
        ([3], "expected a name or a function widget -> ipywidgets.Widget.*; got 3, a int"),
    ],
)
def test_what_is_no_panel_is_refused_in_words_and_changes_nothing(
    make: Callable[..., GradCAMWidget], value: Any, message: str
) -> None:
    with pytest.raises(traitlets.TraitError, match=message):
        make(panels=value)
    widget = make()
    with pytest.raises(traitlets.TraitError, match=message):
        widget.panels = value
    assert widget.panels == DEFAULT_PANELS


def test_a_widget_in_the_place_of_a_function_is_refused(make: Callable[..., GradCAMWidget]) -> None:
    with pytest.raises(traitlets.TraitError, match="which is called with this explorer; got Label"):
        make(panels=[ipywidgets.Label("mine")])


def test_a_panel_reads_what_is_on_show_and_sets_what_is_asked(make: Callable[..., GradCAMWidget]) -> None:
    widget = make(panels=["heatmap", score])
    assert widget._canvas.panels == ["heatmap"]
    *_, box = widget.children
    assert "gradcam-panel" in box._dom_classes
    ((line, classes),) = (content.children for content in box.children)
    # Channel means 0.5 (red) and 0.25 (green): the logits are 4 * 0.5 = 2, 4 * 0.25 = 1, -0.75 and 0.3125.
    assert line.value == "2.00"
    browser_sets(classes, value=1)
    assert (widget.target, line.value) == (1, "1.00")
    widget.target = 2
    assert (classes.value, line.value) == (2, "-0.75")


def test_a_panel_is_built_once_and_is_as_it_was_when_it_comes_back(make: Callable[..., GradCAMWidget]) -> None:
    calls = []

    def counting(widget: GradCAMWidget) -> ipywidgets.Widget:
        calls.append(widget)
        return ipywidgets.Label("mine")

    widget = make(panels=["heatmap", counting, score])
    box = widget.children[2]
    widget.panels = ["heatmap", score]
    assert len(widget.children) == 3
    widget.panels = [score, "heatmap", counting]
    assert widget.children[3] is box
    assert calls == [widget]


def test_a_panel_that_fails_says_so_in_its_place_and_the_rest_works(
    make: Callable[..., GradCAMWidget], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "gradcam_widget"):
        widget = make(panels=["heatmap", faulty, score, lambda widget: "no widget"])
    first, second, third = (box.children[0] for box in widget.children[2:])
    assert isinstance(first, ipywidgets.Label)  # text, not markup
    assert "The panel faulty cannot be shown: KeyError" in first.value
    assert "my own mistake" in first.value
    assert second.children[0].value == "2.00"
    assert "returned 'no widget', a str" in third.value
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [KeyError, TypeError]
    widget.target = 1
    assert second.children[0].value == "1.00"
    assert widget._canvas.notice == {}


def test_close_closes_the_panels_also_those_that_are_not_on_show() -> None:
    before = set(open_widgets())
    widget = GradCAMWidget(Four(), red_left(), panels=["heatmap", score, faulty])
    widget.panels = ["heatmap", faulty]
    widget.close()
    assert set(open_widgets()) == before
    with pytest.raises(RuntimeError, match="closed; make a new one"):
        widget.panels = ["heatmap"]
