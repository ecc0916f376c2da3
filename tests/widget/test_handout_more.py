"""What a hand-out has beside maps and weights: counterfactual evidence, names of channels, many passes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_handout import Page, green
from tiny import Tiny, red_left

from gradcam_widget.engine import GradCAM
from gradcam_widget.neurons import name_channels
from gradcam_widget.perturbation import Cancelled
from gradcam_widget.targets import ClassLogit, Counterfactual
from gradcam_widget.widget.explorer import GradCAMWidget


@pytest.fixture
def make(explore: Callable[..., GradCAMWidget]) -> Callable[..., GradCAMWidget]:
    def build(**arguments: Any) -> GradCAMWidget:
        return explore(Tiny(), {"red": red_left(), "green": green()}, **arguments)

    return build


def test_what_speaks_against_a_class_is_the_map_with_its_signs_turned(make, tmp_path):
    page = Page(make().to_html(tmp_path / "a.html", layers=["pool"]))
    assert page.data["evidence"] == ["positive", "signed", "counterfactual"]
    answer = page.answer("pool", "crane")
    assert "against" not in answer["answer"]  # the page turns the signs itself
    against = GradCAM(Tiny()).explain(red_left(), Counterfactual(ClassLogit(2)), "pool")
    np.testing.assert_array_equal(-answer["alpha"], against.alpha)
    np.testing.assert_array_equal(-answer["cam"], against.signed_cam)


def test_where_that_is_another_map_it_is_in_the_page(make, tmp_path):
    page = Page(make(method="GradCAM++").to_html(tmp_path / "a.html", layers=["pool"]))
    stored = page.answer("pool", "crane")["answer"]["against"]
    against = GradCAM(Tiny()).explain(red_left(), Counterfactual(ClassLogit(2)), "pool", method="GradCAM++")
    np.testing.assert_array_equal(np.frombuffer(page.bytes(stored["alpha"]), "<f4"), against.alpha)


def test_a_method_of_many_passes_is_computed_where_layers_and_classes_are_named(make, tmp_path):
    widget = make(method="ScoreCAM")
    told: list[tuple[int, int]] = []
    page = Page(
        widget.to_html(
            tmp_path / "a.html", layers=["pool"], targets=["cat", "crane"], progress=lambda *how: told.append(how)
        )
    )
    assert page.data["evidence"] == ["positive", "signed"]
    found = GradCAM(Tiny()).explain(red_left(), "crane", "pool", method="ScoreCAM")
    np.testing.assert_allclose(page.answer("pool", "crane")["alpha"], found.alpha, rtol=1e-6)
    assert told[-1] == (2, 2)
    assert widget.explanation is None  # for the explorer itself nobody has asked for them


def test_it_can_be_given_up(make, tmp_path):
    with pytest.raises(Cancelled, match="cancelled after"):
        make().to_html(tmp_path / "a.html", layers=["pool"], progress=lambda done, total: done < 1)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(TypeError, match="progress: expected a function"):
        make().to_html(tmp_path / "a.html", progress=3)


def test_names_of_channels_are_in_the_page_and_patches_as_far_as_they_fit(make, tmp_path):
    names = name_channels(GradCAM(Tiny()), {"red": red_left(), "green": green()}, "pool")
    widget = make(names=names)
    page = Page(widget.to_html(tmp_path / "a.html", layers=["pool", "conv"]))
    (layer,) = page.data["names"]
    assert layer == "pool"
    message, sprites = page.data["names"]["pool"].values()
    assert message["channels"] == 2
    assert set(sprites) == {"0", "1"}
    assert page.bytes(sprites["0"]["data"]) == names.sprite(0)
    said = next(one for one in page.data["pictures"][0]["targets"] if one["label"] == "cat")["said"]
    # at "pool" alpha for cat is (1, 0)
    assert [
        word["channel"]
        for word in said[[one["name"] for one in page.data["pictures"][0]["layers"]].index("pool")]["positive"][
            "for_it"
        ]
    ] == [0]
    assert "Channels have names at pool" in " ".join(page.words)

    whole = page_bytes(tmp_path / "a.html")
    bare = Page(widget.to_html(tmp_path / "b.html", layers=["pool", "conv"], max_bytes=whole - 200))
    assert bare.data["names"]["pool"]["sprites"] == {}
    assert "their patches are left out" in " ".join(bare.words)


def page_bytes(path: Path) -> int:
    return path.stat().st_size
