"""Nothing more is told of a map once the model, or the picture, is another one; and cells of a notebook tell."""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from IPython.core.events import EventManager, available_events
from messages import browser_says, browser_sets, counted, decode
from patience import PATIENCE
from PIL import Image
from tiny import Four, Tiny, green_right, red_left
from torch import nn

from gradcam_widget import name_channels
from gradcam_widget.harmless import lock_of
from gradcam_widget.inputs import Preprocess
from gradcam_widget.widget import changes
from gradcam_widget.widget.explorer import GradCAMWidget


@pytest.fixture
def make(explore: Callable[..., GradCAMWidget]) -> Callable[..., GradCAMWidget]:
    def build(model: Any = None, images: Any = None, **arguments: Any) -> GradCAMWidget:
        images = {"red": red_left(), "green": green_right()} if images is None else images
        return explore(Four() if model is None else model, images, **arguments)

    return build


class Shell:
    """What there is of IPython."""

    events: EventManager


@pytest.fixture
def cell(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Ends a cell, of a notebook that there is from now on."""
    shell = Shell()
    shell.events = EventManager(shell, available_events)
    monkeypatch.setattr(sys.modules["IPython"], "get_ipython", lambda: shell)
    yield lambda: shell.events.trigger("post_run_cell", None)
    changes._listening.clear()


def teach(widget: GradCAMWidget, factor: float = 2.0) -> None:
    """A step of a training: the scores of all classes, and the maps, are multiplied."""
    with torch.no_grad():
        widget.engine.model.head.weight.mul_(factor)


def score(widget: GradCAMWidget) -> float:
    """On show in the view."""
    return float(widget._canvas.scene["target"]["score"])


def test_refresh_shows_the_model_as_it_is(make):
    widget = make()
    assert (score(widget), widget.explanation.score) == (2, 2)
    teach(widget)
    with counted() as sent:
        widget.refresh()
    assert (score(widget), widget.explanation.score) == (4, 4)
    assert widget._canvas.picture["name"] == "red"
    assert not any("picture" in message.state for message in sent), "it is the same picture"
    passes = widget.engine.passes
    with counted() as sent:
        widget.refresh()
    assert (sent, widget.engine.passes) == ([], passes), "nothing has changed since"


def test_refresh_shows_the_picture_as_it_is(make):
    image = red_left()
    widget = make(images=image)
    image[0] = 0.5
    widget.refresh()
    shown = np.asarray(Image.open(io.BytesIO(widget._canvas.picture["data"])))
    assert (shown == widget.engine.picture(image)).all()
    assert decode(widget._canvas.scene["cam"]).tolist() == [[0.5, 0.5], [0.5, 0.5]]


def test_refresh_after_each_step_of_a_training(make):
    widget = make()
    optimiser = torch.optim.SGD(widget.engine.model.parameters(), lr=0.1)
    seen = []
    for _ in range(3):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(widget.engine.model(red_left()[None]), torch.tensor([1])).backward()
        optimiser.step()
        widget.refresh()
        with torch.no_grad():
            expected = widget.engine.model(red_left()[None])[0]
        assert score(widget) == pytest.approx(float(expected.max()), rel=1e-5)
        seen.append(score(widget))
    assert len(set(seen)) == 3
    assert widget.engine.model.head.weight.grad is not None


ASKED: dict[str, Callable[[GradCAMWidget], object]] = {
    "ablate": lambda w: w.ablate(),
    "class_channels": lambda w: w.class_channels(),
    "figure": lambda w: w.figure(),
    "code": lambda w: w.code(),
    "channels off": lambda w: setattr(w, "channels_off", (1,)),
    "channels off, in the view": lambda w: browser_says(w._canvas, type="off", base=w._canvas.base, mask="01"),
    "probe": lambda w: browser_says(w._canvas, type="terms", base=w._canvas.base, cell=0),
    "the list of layers": lambda w: browser_sets(w._controls.filter, index=2),
    "shown again": lambda w: w._repr_mimebundle_() if hasattr(w, "_repr_mimebundle_") else w.refresh(),
    "a file, from the view": lambda w: browser_says(w._canvas, type="export", what="npz", ticket=1),
    "another class": lambda w: setattr(w, "target", 0),
    "another layer": lambda w: w.set(layer="conv"),
    "there and back": lambda w: (w.set(image_index=1), w.set(image_index=0)),
    "a check": lambda w: w.check("deletion_insertion"),
    "an occlusion map": lambda w: w.paint().occlusion(),
}


@pytest.mark.parametrize("asked", ASKED)
def test_whatever_is_asked_is_of_the_model_as_it_is(make, asked):
    widget = make()
    teach(widget)
    ASKED[asked](widget)
    assert score(widget) == widget.explanation.score == 4
    assert widget.box is None or widget._canvas.notice == {}


@pytest.mark.parametrize("suffix", [".npz", ".json", ".svg", ".html"])
def test_a_file_is_of_the_model_as_it_is(make, tmp_path, suffix):
    widget = make()
    teach(widget)
    path = tmp_path / f"shown{suffix}"
    if suffix == ".html":
        widget.to_html(path)
    else:
        widget.save(path)
    assert score(widget) == 4
    if suffix == ".json":
        assert json.loads(path.read_text())["score"] == 4
    if suffix == ".svg":
        assert "score 4" in path.read_text()


def test_what_is_left_out_stays_out(make):
    widget = make(channels_off=(1,))
    teach(widget)
    found = widget.ablate()
    assert (widget.channels_off, found.channels, found.full_score) == ((1,), (1,), 4)
    assert widget._canvas.scene["off"] is not None


def test_other_layers_are_known_anew(make):
    class Deep(Tiny):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Sequential(self.conv, nn.Conv2d(2, 2, 1))

    widget = make(Deep().eval())
    assert "conv.1" in widget._controls.listed
    widget.engine.model.conv = widget.engine.model.conv[0]
    widget.refresh()
    assert "conv.1" not in widget._layer_names(0)
    assert "conv.1" not in widget._controls.listed


def test_all_layers_are_reached_anew(make):
    class Deep(Four):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Sequential(self.conv, *(nn.Sequential(nn.Conv2d(2, 2, 1), nn.Tanh()) for _ in range(4)))

    widget = make(Deep().eval())
    first = widget.engine.passes
    teach(widget)
    widget.refresh()
    passes = widget.engine.passes
    assert passes - first == first
    widget.layer = "conv.0"
    assert widget.engine.passes == passes


def test_a_model_that_fails_now(make, caplog):
    widget = make()
    widget.engine.model.head = nn.Linear(3, 4)
    with caplog.at_level(logging.ERROR, "gradcam_widget"):
        widget.refresh()
    assert widget._canvas.notice["stale"] is True
    assert widget.explanation is None
    widget.engine.model.head = Four().head
    widget.refresh()
    assert (widget._canvas.notice, widget.explanation.score) == ({}, 2)


# -- a notebook's cells ----------------------------------------------------------------------------------------


def test_a_cell_that_changes_nothing_says_nothing(make, cell):
    widget = make()
    with counted() as sent:
        cell()
        widget.engine.model.train()
        cell()
    assert sent == []


def test_a_cell_that_changes_the_model_is_told_and_computes_nothing(make, cell):
    widget = make()
    teach(widget)
    passes = widget.engine.passes
    cell()
    notice = widget._canvas.notice
    assert (notice["title"], notice["stale"], notice["news"]) == ("The model has changed", True, True)
    assert notice["mark"] == "out of date"
    assert notice["cures"] == [{"id": "renew", "label": "Show it as it is now"}]
    assert (widget.engine.passes, score(widget), widget.explanation.score) == (passes, 2, 2)
    with counted() as sent:
        cell()
    assert sent == [], "it is said once"
    browser_says(widget._canvas, type="cure", id="renew")
    assert (widget._canvas.notice, score(widget)) == ({}, 4)
    cell()
    assert widget._canvas.notice == {}


def test_a_picture_that_was_painted_over(make, cell):
    image = red_left()
    widget = make(images=image)
    image.mul_(0.5)
    cell()
    assert widget._canvas.notice["title"] == "The picture has changed"
    widget.refresh()
    assert (widget._canvas.notice, score(widget)) == ({}, 1)


def test_a_choice_shows_it_as_it_is(make, cell):
    widget = make()
    teach(widget)
    cell()
    widget.target = "dog"
    assert (widget._canvas.notice, score(widget)) == ({}, 2)  # 4 * 0.25, doubled


def test_a_wrong_choice_leaves_it_out_of_date(make, cell):
    widget = make()
    teach(widget)
    cell()
    browser_sets(widget._controls.target, value="dgo")
    assert "There is no class called 'dgo'" in widget._canvas.notice["message"]
    assert widget._canvas.notice["stale"] is True
    assert widget._canvas.notice["mark"] == "out of date"
    assert "news" not in widget._canvas.notice


def test_an_error_is_said_rather_than_that(make, cell, caplog):
    widget = make()
    widget.engine.model.head = nn.Linear(3, 4)
    with caplog.at_level(logging.ERROR, "gradcam_widget"):
        widget.refresh()
    before = widget._canvas.notice
    cell()
    assert widget._canvas.notice == before


def test_explorers_that_are_closed_or_busy_are_left_alone(make, cell, monkeypatch):
    monkeypatch.setattr(changes, "_MOST_SECONDS", 0.05)
    closed, busy = make(), make()
    closed.close()
    teach(busy)
    entered, left = threading.Event(), threading.Event()

    def compute() -> None:
        with busy._lock:
            entered.set()
            left.wait(PATIENCE)

    thread = threading.Thread(target=compute)
    thread.start()
    assert entered.wait(PATIENCE)
    cell()
    assert busy._canvas.notice == {}
    left.set()
    thread.join()
    cell()
    assert busy._canvas.notice["title"] == "The model has changed"


def test_a_shell_has_one_listener_for_all(make, cell):
    shell = sys.modules["IPython"].get_ipython()
    before = len(shell.events.callbacks["post_run_cell"])
    make(), make()
    assert len(shell.events.callbacks["post_run_cell"]) == before + 1


def test_what_goes_wrong_there_is_no_error_of_the_cell(make, cell, monkeypatch, capsys):
    widget = make()
    monkeypatch.setattr(widget, "_look_for_changes", lambda: 1 / 0)
    cell()
    assert capsys.readouterr() == ("", "")


# -- what was found before -------------------------------------------------------------------------------------


def test_names_of_other_weights_are_taken_away(make, caplog):
    widget = make()
    widget.names = name_channels(widget.engine, {"red": red_left(8), "green": green_right(8)}, "pool")
    assert widget._canvas.names
    teach(widget)
    with caplog.at_level(logging.WARNING, "gradcam_widget"):
        widget.refresh()
    assert (widget.names, widget._canvas.names, widget._canvas.words) == ({}, {}, {})
    assert "those of 'pool' were found with the weights before" in caplog.text


def test_a_check_of_the_model_before_is_gone(make):
    widget = make()
    found = widget.check("deletion_insertion")
    panel = widget.children[2].children[0]
    widget.set(layer="conv")
    widget.set(layer=None)
    assert panel.found is found
    teach(widget)
    widget.set(layer="conv")
    widget.set(layer=None)
    assert (panel.found, panel.result) == (None, {})
    assert widget.check("deletion_insertion").verdict


def test_an_occlusion_map_of_the_model_before_is_gone(make):
    widget = make()
    pad = widget.paint()
    pad.occlusion()
    assert pad._view.occlusion
    teach(widget)
    widget.refresh()
    assert pad._view.occlusion == {}


def test_the_scores_before_a_stroke_are_those_of_the_model_as_it_is(make):
    widget = make()
    pad = widget.paint()
    pad.stroke((0, 0))
    assert pad.wait(PATIENCE)
    before = dict(pad.before)
    teach(widget)
    pad.stroke((0, 1))
    assert pad.wait(PATIENCE)
    expected = torch.softmax(widget.engine.predict(red_left()), -1)
    assert (
        pad.before["cat"] == pytest.approx(float(expected[0]), rel=1e-5) != pytest.approx(before["cat"], rel=1e-3)
    )
    after = torch.softmax(widget.engine.predict(widget.pictures["red, edited"]), -1)
    assert pad.after["cat"] == pytest.approx(float(after[0]), rel=1e-5)


def test_the_scores_in_the_pad_follow_the_model(make):
    widget = make()
    pad = widget.paint()
    assert pad.wait(PATIENCE)
    teach(widget)
    widget.refresh()
    assert pad.wait(PATIENCE)
    expected = torch.softmax(widget.engine.predict(red_left()), -1)
    assert pad.before["cat"] == pad.after["cat"] == pytest.approx(float(expected[0]), rel=1e-5)


def test_nothing_is_computed_ahead_of_a_model_that_has_changed(make):
    widget = make()
    drawn = widget._drawn
    assert widget._scene_at(drawn, "conv") is not None
    teach(widget)
    passes = widget.engine.passes
    assert widget._scene_at(drawn, "conv") is None
    assert widget.engine.passes == passes


def test_a_scene_made_ahead_while_the_model_changes_is_not_sent(make, monkeypatch):
    widget = make()
    explain = widget._explain

    def changed_meanwhile(*arguments: Any) -> Any:
        teach(widget)
        return explain(*arguments)

    monkeypatch.setattr(widget, "_explain", changed_meanwhile)
    assert widget._scene_at(widget._drawn, "conv") is None


# -- in the middle of something --------------------------------------------------------------------------------


def busy(model: nn.Module) -> tuple[threading.Thread, threading.Event]:
    """A pass of the model that an engine runs elsewhere, until the event is set."""
    begun, end = threading.Event(), threading.Event()

    def run() -> None:
        with lock_of(model):
            begun.set()
            end.wait(PATIENCE)

    thread = threading.Thread(target=run)
    thread.start()
    assert begun.wait(PATIENCE)
    return thread, end


def test_a_mark_stays_while_nothing_can_be_told(make, cell, monkeypatch):
    monkeypatch.setattr(changes, "_MOST_SECONDS", 0.05)
    widget = make()
    teach(widget)
    cell()
    thread, end = busy(widget.engine.model)
    widget.opacity = 0.3
    cell()
    assert (widget._canvas.notice["mark"], score(widget)) == ("out of date", 2)
    end.set()
    thread.join()


def test_what_needs_the_engine_waits_until_it_can_be_told(make):
    widget = make()
    teach(widget)
    thread, end = busy(widget.engine.model)
    threading.Timer(0.2, end.set).start()
    widget.channels_off = (1,)
    assert (score(widget), decode(widget._canvas.scene["cam"]).tolist()) == (4, [[2, 0], [2, 0]])
    thread.join()


def test_a_mark_goes_when_the_change_was_taken_back(make, cell):
    widget = make()
    handle = widget.engine.model.conv.register_forward_hook(lambda *_: None)
    cell()
    assert widget._canvas.notice["title"] == "The model has changed"
    handle.remove()
    cell()
    assert (widget._canvas.notice, score(widget)) == ({}, 2)


def test_a_map_that_waits_for_passes_is_told_nothing_more_of(make):
    widget = make()
    widget.method = "ScoreCAM"
    before = widget._canvas.scene
    teach(widget)
    widget.channels_off = (1,)
    browser_says(widget._canvas, type="terms", base=widget._canvas.base, cell=0)
    assert widget._canvas.scene == before
    assert widget._canvas.terms == {}
    for question in (widget.ablate, widget.class_channels):
        with pytest.raises(RuntimeError, match="There is no map"):
            question()
    widget.compute()
    assert (widget.explanation.method, widget.channels_off, score(widget)) == ("ScoreCAM", (1,), 4)


def test_a_change_while_the_answer_is_computed_is_noticed(make, monkeypatch, cell):
    widget = make()
    predict = widget.engine.predict

    def changed_meanwhile(image: Any) -> Any:
        found = predict(image)
        monkeypatch.undo()
        teach(widget)
        return found

    monkeypatch.setattr(widget.engine, "predict", changed_meanwhile)
    widget.target = "dog"
    widget.refresh()
    assert score(widget) == 2


def test_a_check_of_a_model_that_changes_meanwhile_has_no_result(make, monkeypatch):
    widget = make()
    panel = widget.children[2].children[0]
    tell = panel._tell

    def changed_meanwhile(*arguments: Any) -> Any:
        monkeypatch.undo()
        teach(widget)
        return tell(*arguments)

    monkeypatch.setattr(panel, "_tell", changed_meanwhile)
    assert panel.run("deletion_insertion") is None
    assert (panel.result, panel.notice["title"]) == ({}, "The model or the picture has changed meanwhile")


def test_the_picture_on_show_is_checked_whatever_became_of_the_file(make):
    array = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    widget = make(images=array, transform=Preprocess(16, 16, mean=(0, 0, 0), std=(1, 1, 1)))
    expected = widget.check("deletion_insertion")
    panel = widget.children[2].children[0]
    panel._found.clear()
    array[:] = 0
    found = widget.check("deletion_insertion")
    assert (found.deletion_area, found.insertion_area) == (expected.deletion_area, expected.insertion_area)


def test_names_come_beside_a_map_of_the_model_as_it_is(make):
    pictures = {"red": red_left(8), "green": green_right(8)}
    widget = make(images=pictures)
    teach(widget)
    widget.names = name_channels(widget.engine, pictures, "pool")
    assert widget._canvas.names
    assert score(widget) == 4


def test_the_table_belongs_to_the_scene(make):
    widget = make()
    teach(widget)
    widget.class_table = True
    assert widget._canvas.classes["revision"] == widget._canvas.base
    assert score(widget) == 4


def test_a_cell_waits_for_all_busy_explorers_together(make, cell, monkeypatch):
    monkeypatch.setattr(changes, "_MOST_SECONDS", 0.3)
    widgets = [make() for _ in range(5)]
    begun, end = threading.Barrier(6), threading.Event()

    def hold(widget: GradCAMWidget) -> None:
        with widget._lock:
            begun.wait(PATIENCE)
            end.wait(PATIENCE)

    threads = [threading.Thread(target=hold, args=(widget,)) for widget in widgets]
    for thread in threads:
        thread.start()
    begun.wait(PATIENCE)
    started = time.monotonic()
    cell()
    assert time.monotonic() - started < 1.2
    end.set()
    for thread in threads:
        thread.join()


def test_a_buffer_that_is_not_a_number_is_no_change(make, cell):
    model = Four()
    model.register_buffer("calibration", torch.full((2,), float("nan")))
    widget = make(model)
    assert score(widget) == 2
    passes = widget.engine.passes
    cell()
    widget.refresh()
    assert (widget._canvas.notice, widget.engine.passes) == ({}, passes)
