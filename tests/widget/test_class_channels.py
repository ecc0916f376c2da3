"""The table of classes and channels: by hand, only while it is open, and what its clicks do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import traitlets
from messages import browser_says, browser_sets, counted, decode
from tiny import Tiny, red_left

from gradcam_widget.widget.class_channels import strongest
from gradcam_widget.widget.explorer import GradCAMWidget


class Three(Tiny):
    """The three inputs. Their means in `red_left` are (0.5, 0.25, 0), so the logits are (2, 1, -1.5, 0.5)."""

    class_names = ("cat", "dog", "crane", "owl")
    W = ((4.0, 0.0, 8.0), (0.0, 4.0, -8.0), (-4.0, 2.0, 0.4), (1.0, 0.0, 0.0))


@pytest.fixture
def make(explore: Callable[..., GradCAMWidget]) -> Callable[..., GradCAMWidget]:
    def build(**arguments: Any) -> GradCAMWidget:
        return explore(Three(), red_left(), layer="pool", **arguments)

    return build


def tables(widget: GradCAMWidget, sent: list[Any]) -> list[set[str]]:
    return [
        set(message.state) for message in sent if message.widget is widget._canvas and "classes" in message.state
    ]


def test_the_numbers_by_hand(make: Callable[..., GradCAMWidget]) -> None:
    # The two likeliest are cat (2) and dog (1). Their alphas are (1, 0, 2) and (0, 1, -2): channel 2 is the
    # strongest, then 0 and 1, which are equal, in the order of their numbers.
    found = make().class_channels(classes=2, channels=2)
    assert (found.layer, found.method) == ("pool", "GradCAM")
    assert (found.classes, found.labels, found.channels) == ((0, 1), ("cat", "dog"), (2, 0))
    assert found.alpha.tolist() == [[2, 1], [-2, 0]]


def test_the_class_on_show_is_always_in_it(make: Callable[..., GradCAMWidget]) -> None:
    found = make(target="crane").class_channels(classes=1, channels=9)
    assert found.labels == ("cat", "crane")
    assert found.channels == (2, 0, 1)
    assert found.alpha.round(6).tolist() == [[2, 1, 0], [0.1, -1, 0.5]]


def test_strongest_by_hand() -> None:
    assert strongest(np.array([[1.0, -3, 2, 0], [0, 1, -2, 2.5]]), 3) == (1, 3, 2)
    assert strongest(np.array([[1.0, 1.0]]), 12) == (0, 1)


def test_nothing_is_computed_or_sent_while_it_is_closed(make: Callable[..., GradCAMWidget]) -> None:
    widget = make()
    with counted() as sent:
        widget.target = "dog"
    assert tables(widget, sent) == []
    assert widget._canvas.classes == {}
    before = widget.engine.passes
    browser_sets(widget._canvas, class_table=True)
    assert widget.class_table is True
    assert widget.engine.passes.forward == before.forward
    assert widget.engine.passes.backward > before.backward
    table = widget._canvas.classes
    assert table["revision"] == widget._canvas.base
    assert [row["label"] for row in table["classes"]] == ["cat", "dog", "owl", "crane"]
    assert table["channels"] == [2, 0, 1]
    assert decode(table["alpha"]).round(6).tolist() == [[2, 1, 0], [-2, 0, 1], [0, 0.25, 0], [0.1, -1, 0.5]]


def test_open_it_follows_the_scene_in_a_message_of_its_own(make: Callable[..., GradCAMWidget]) -> None:
    widget = make(target="cat")
    widget.class_table = True
    with counted() as sent:
        widget.target = "dog"
    assert tables(widget, sent) == [{"classes"}]
    scenes = [m for m in sent if m.widget is widget._canvas and "scene" in m.state]
    assert len(scenes) == 1
    assert sent.index(scenes[0]) < next(i for i, m in enumerate(sent) if "classes" in m.state)
    assert "no pass" in widget.status  # dog was among the rows
    assert next(m.size for m in sent if "classes" in m.state) < 2000
    with counted() as sent:
        widget.opacity = 0.3
        widget.class_table = False
        widget.class_table = True
    assert tables(widget, sent) == []


def test_a_click_on_a_number_explains_its_class_and_keeps_its_channel(make: Callable[..., GradCAMWidget]) -> None:
    widget = make()
    widget.class_table = True
    browser_sets(widget._canvas, channel=2)
    browser_says(widget._canvas, type="target", index=1)
    assert (widget.target, widget.channel) == (1, 2)


@pytest.mark.parametrize("method", ["AblationCAM", "ScoreCAM"])
def test_methods_of_many_passes_are_told_and_cost_nothing(make: Callable[..., GradCAMWidget], method: str) -> None:
    widget = make(method=method)
    widget.compute()
    with pytest.raises(ValueError, match=f"{method} needs .* for each class. Choose GradCAM"):
        widget.class_channels()
    before = widget.engine.passes
    widget.class_table = True
    assert widget._canvas.classes["note"].startswith(method)
    assert widget.engine.passes == before


@pytest.mark.parametrize("wrong", [1, "yes", None])
def test_wrong_values_are_refused(make: Callable[..., GradCAMWidget], wrong: object) -> None:
    widget = make()
    with pytest.raises(traitlets.TraitError, match="class_table: expected True or False"):
        widget.class_table = wrong
    assert widget.class_table is False
    for arguments in ({"classes": 0}, {"channels": 1.5}, {"channels": True}):
        with pytest.raises(ValueError, match="expected a positive int"):
            widget.class_channels(**arguments)


def test_another_layer_has_another_table(make: Callable[..., GradCAMWidget]) -> None:
    widget = make()
    widget.class_table = True
    widget.layer = "conv"
    # At "conv" there are 16 cells: alpha is W[c] / 16.
    assert decode(widget._canvas.classes["alpha"])[0].tolist() == [0.5, 0.25, 0]
