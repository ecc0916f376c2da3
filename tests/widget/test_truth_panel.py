"""The panel "Is it true?": nothing runs unasked; results belong to the map that they were computed for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import traitlets
from messages import browser_says, browser_sets, counted, open_widgets
from patience import PATIENCE, ended, eventually
from PIL import Image
from tiny import Four, red_left

from gradcam_widget.evaluate import checks as table
from gradcam_widget.evaluate import deletion_insertion
from gradcam_widget.evaluate.checks import CHECKS
from gradcam_widget.widget.checks import CheckPanel
from gradcam_widget.widget.explorer import GradCAMWidget


@pytest.fixture
def make(explore: Callable[..., GradCAMWidget]) -> Callable[..., tuple[GradCAMWidget, CheckPanel]]:
    def build(images: Any = None, **arguments: Any) -> tuple[GradCAMWidget, CheckPanel]:
        widget = explore(Four(), images or {"a": red_left(), "b": red_left(8)}, **arguments)
        panel = widget.children[2].children[0]
        assert isinstance(panel, CheckPanel)
        return widget, panel

    return build


def test_it_is_there_closed_and_runs_nothing_by_itself(make):
    widget, panel = make()
    assert not panel.opened
    assert (panel.result, panel.task, panel.notice, panel.found) == ({}, {}, {}, None)
    before = widget.engine.passes
    panel.opened = True
    assert widget.engine.passes == before
    assert [row["name"] for row in panel.checks] == list(CHECKS)
    assert all("pass" in row["cost"] for row in panel.checks)


def test_a_result_has_words_numbers_and_figures_in_both_themes(make):
    widget, panel = make()
    found = panel.run("deletion_insertion")
    expected = deletion_insertion(widget.engine, red_left(), "cat", "pool")
    assert (found.deletion_area, found.insertion_area) == (expected.deletion_area, expected.insertion_area)
    result = panel.result
    assert result["verdict"] == expected.verdict
    assert result["about"] == "GradCAM at pool for cat"
    assert result["rows"][0][:2] == ["area under deletion", f"{expected.deletion_area:.2f}"]
    assert result["light"].startswith(b"\x89PNG")
    assert result["light"] != result["dark"]
    assert (panel.task, panel.notice) == ({}, {})


def test_a_check_is_run_from_python_and_opens_the_panel(make):
    widget, panel = make(panels=["heatmap", "checks", "alpha"])
    found = widget.check("confidence")
    assert panel.opened
    assert (panel.check, panel.found) == ("confidence", found)
    with pytest.raises(
        ValueError, match=r"check: expected one of randomise_weights, .*; got 'confidenc'. Nearest: conf"
    ):
        widget.check("confidenc")
    hidden = GradCAMWidget(Four(), red_left(), panels=["heatmap"])
    assert hidden.check("noise").max >= 0
    assert hidden.panels == ("heatmap", "checks")
    hidden.close()


def test_a_result_vanishes_with_its_map_and_comes_back_with_it(make):
    widget, panel = make()
    panel.run("confidence")
    shown = panel.result
    for changes in ({"target": "dog"}, {"layer": "conv"}, {"method": "LayerCAM"}, {"image_index": 1}):
        widget.set(**changes)
        assert panel.result == {}, changes
        assert panel.found is None
        widget.set(target=None, layer=None, method="GradCAM", image_index=0)
        assert panel.result == shown, changes
    widget.evidence = "counterfactual"
    assert panel.result == {}
    widget.evidence = "signed"  # the same map, with its other side
    assert panel.result == shown
    widget.put_picture("a", red_left(8))
    assert panel.result == {}


def test_each_check_has_a_result_of_its_own(make):
    _, panel = make()
    panel.run("confidence")
    panel.check = "noise"
    assert panel.result == {}
    panel.check = "confidence"
    assert panel.result["verdict"].startswith("With only what the map marks")
    with pytest.raises(traitlets.TraitError, match="magic"):
        panel.check = "magic"


def test_a_selection_is_one_message_while_the_panel_is_closed(make):
    widget, panel = make()
    with counted() as sent:
        widget.target = "dog"
    assert [message for message in sent if message.widget is panel] == []


def slow(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """A check that is never done: an event that says when it has begun, and one that lets it go on."""
    running, go_on = threading.Event(), threading.Event()

    def run(asked: Any, progress: Any) -> Any:
        table_report(progress, 1, 10_000)
        running.set()
        assert go_on.wait(PATIENCE)
        table_report(progress, 2, 10_000)
        raise AssertionError("it was never cancelled")

    from gradcam_widget.perturbation import report as table_report

    monkeypatch.setitem(CHECKS, "noise", table.Check("noise", "Noise", "?", run))
    return running, go_on


def test_the_button_runs_in_the_background_and_cancel_works_at_once(make, monkeypatch):
    running, go_on = slow(monkeypatch)
    widget, panel = make()
    browser_sets(panel, check="noise")
    browser_says(panel, type="run")
    assert running.wait(PATIENCE)
    eventually(lambda: panel.task.get("total") == 10_000)
    assert widget.engine.predict(red_left()) is not None  # the engine answers meanwhile
    browser_says(panel, type="cancel")
    assert panel.task == {}  # although the check has not seen it yet
    go_on.set()
    ended("gradcam_widget check")
    assert (panel.result, panel.notice) == ({}, {})


def test_another_selection_stops_what_is_running(make, monkeypatch):
    running, go_on = slow(monkeypatch)
    widget, panel = make()
    browser_sets(panel, check="noise")
    browser_says(panel, type="run")
    assert running.wait(PATIENCE)
    widget.target = "dog"
    go_on.set()
    ended("gradcam_widget check")
    assert (panel.task, panel.result) == ({}, {})


def test_a_check_that_cannot_be_made_says_why(make):
    widget, panel = make()
    assert panel.run("mosaic") is None
    assert "a mosaic needs four pictures" in panel.notice["message"]
    panel.check = "confidence"
    assert panel.notice == {}
    widget.target = lambda scores: scores.sum()
    panel.run("confidence")
    assert "a drop in confidence is one of a class's probability" in panel.notice["message"]


def test_what_the_method_makes_of_a_class_is_checked_as_that_class(make):
    _, panel = make(method="FinerCAM", layer="pool")
    assert panel.run("confidence") is not None
    assert panel.result["about"] == "FinerCAM at pool for cat"


def test_without_a_map_nothing_is_run(make):
    widget, panel = make()
    widget.put_picture("a", np.zeros((4, 4, 3), np.uint8))
    widget.set(method="ScoreCAM")
    panel.opened = True
    assert widget.explanation is None
    assert panel.run("confidence") is None
    assert {row["cost"] for row in panel.checks} == {""}


def test_pictures_of_any_kind_are_checked(make):
    draw = np.random.default_rng(0)
    _, panel = make(images=[Image.fromarray(draw.integers(0, 255, (40, 40, 3), dtype=np.uint8))])
    assert panel.run("occlusion") is not None


def test_a_check_that_runs_already_is_waited_for(make, monkeypatch):
    running, go_on = threading.Event(), threading.Event()
    noise = CHECKS["noise"]

    def run(asked: Any, progress: Any) -> Any:
        running.set()
        assert go_on.wait(PATIENCE)
        return noise.run(asked, progress)

    monkeypatch.setitem(CHECKS, "noise", replace(noise, run=run))
    _, panel = make()
    browser_sets(panel, check="noise")
    browser_says(panel, type="run")
    assert running.wait(PATIENCE)
    found: list[Any] = []
    asking = threading.Thread(target=lambda: found.append(panel.run()))
    asking.start()
    go_on.set()
    asking.join(PATIENCE)
    ended("gradcam_widget check")
    assert found == [panel.found]
    assert panel.found is not None


def test_without_a_map_it_is_said_that_there_is_none_to_check(make):
    widget, panel = make()
    widget.set(layer="conv", method="ScoreCAM")
    assert widget.explanation is None
    assert panel.run("noise") is None
    assert panel.notice["title"] == "There is no map to check"
    widget.method = "GradCAM"
    assert panel.notice == {}
    assert panel.run("noise") is not None


def test_closing_the_explorer_closes_it_and_stops_it(monkeypatch):
    before = set(open_widgets())
    running, go_on = slow(monkeypatch)
    widget = GradCAMWidget(Four(), red_left())
    panel = widget.children[2].children[0]
    browser_sets(panel, check="noise")
    browser_says(panel, type="run")
    assert running.wait(PATIENCE)
    widget.close()
    go_on.set()
    ended("gradcam_widget check")
    assert set(open_widgets()) == before
