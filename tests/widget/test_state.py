"""State: what it accepts, what it says to what it does not, and who hears of a change."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import traitlets
from patience import PATIENCE

from gradcam_widget.widget.state import Offer, SettingError, State, View, nearest


def check_target(target: object, image_index: int) -> None:
    if isinstance(target, str) and target not in ("cat", "dog"):
        raise ValueError(f"target: there is no class named {target!r}")


@pytest.fixture
def state() -> State:
    layers = {0: ("stem", "block.1", "head"), 1: ("stem", "head")}
    return State(
        Offer(
            pictures=("a", "b"),
            methods=("GradCAM",),
            colormaps=("viridis", "magma"),
            layers=lambda index: layers[index],
            check_target=check_target,
        )
    )


def test_the_snapshot_is_frozen_and_leaves_the_look_out(state: State) -> None:
    before = state.snapshot()
    state.update(opacity=0.25, colormap="magma")
    assert state.snapshot() == before == View(0, None, None, "GradCAM")
    state.update(layer="head", target=3, image_index=1, evidence="signed")
    assert state.snapshot() == View(1, "head", 3, "GradCAM", "signed")
    assert before == View(0, None, None, "GradCAM")
    with pytest.raises(AttributeError, match="layer"):
        before.layer = "stem"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_index": 2}, r"image_index: expected an int from 0 to 1, one per picture; got 2"),
        ({"image_index": -1}, r"image_index: expected an int from 0 to 1, one per picture; got -1"),
        ({"image_index": "zzz"}, r"image_index: expected an int from 0 to 1; got 'zzz', a str$"),
        ({"image_index": "b"}, r"image_index: .* got 'b', a str. That picture is image_index=1$"),
        ({"image_index": "B"}, r"image_index: .* got 'B', a str. Did you mean 'b'\?$"),
        ({"image_index": True}, r"image_index: .* got True, a bool"),
        ({"layer": "haed"}, r"layer: expected one of the 3 feature maps of this model; got 'haed'. Nearest: head"),
        ({"layer": 3}, r"layer: expected the name of a layer, or None for the default one; got 3, a int"),
        ({"target": "cow"}, r"target: there is no class named 'cow'"),
        ({"target": 1.5}, r"target: expected None .* got 1.5, a float"),
        ({"target": True}, r"target: expected None .* got True, a bool"),
        ({"method": "Grad"}, r"method: expected one of GradCAM; got 'Grad'"),
        ({"method": "grad-cam"}, r"method: .*; got 'grad-cam'. Did you mean 'GradCAM'\?$"),
        ({"evidence": "both"}, r"evidence: expected one of positive, signed, counterfactual; got 'both'"),
        ({"colormap": "RdBu_r"}, r"colormap: expected one of viridis, magma; got 'RdBu_r'"),
        ({"evidence": "signed", "colormap": "magma"}, r"colormap: expected one of RdBu_r; got 'magma'"),
        ({"colormap": "jet"}, r"colormap: expected one of viridis, magma; got 'jet'"),
        ({"opacity": 1.5}, r"opacity: expected a number from 0 .* to 1 .*; got 1.5"),
        ({"opacity": float("nan")}, r"opacity: .* got nan"),
        ({"opacity": "0.5"}, r"opacity: .* got '0.5'"),
        ({"colour": "red"}, r"colour: there is no such setting; the settings are image_index, layer,"),
        # "block.1" is a layer of the first picture, but not of the second.
        ({"layer": "block.1", "image_index": 1}, r"layer: expected one of the 2 feature maps"),
    ],
)
def test_a_wrong_value_raises_and_changes_nothing(state: State, changes: dict[str, object], message: str) -> None:
    state.update(layer="stem", target=1, opacity=0.75)
    heard: list[str] = []
    state.on_update(lambda: heard.append("update"))
    with pytest.raises(SettingError, match=message):
        state.update(**{"target": 2, "opacity": 0.1} | changes)
    assert (state.snapshot(), state.opacity) == (View(0, "stem", 1, "GradCAM"), 0.75)
    assert heard == []
    assert issubclass(SettingError, traitlets.TraitError)
    assert issubclass(SettingError, ValueError)


def test_a_wrong_value_of_a_single_trait_raises_as_well(state: State) -> None:
    with pytest.raises(SettingError, match="got 'nope'"):
        state.layer = "nope"
    assert state.layer is None


def test_values_come_out_plain(state: State) -> None:
    state.update(image_index=np.int64(1), target=np.int32(7), opacity=np.float32(0.5), layer="head")
    assert [type(v) for v in (state.image_index, state.target, state.opacity)] == [int, int, float]


def test_a_layer_is_taken_where_the_layers_cannot_be_known(state: State) -> None:
    state.offer = Offer(("a",), ("GradCAM",), ("viridis",), lambda index: (), check_target)
    state.update(layer="whatever")
    assert state.layer == "whatever"


def test_listeners_hear_once_per_update_and_see_all_of_it(state: State) -> None:
    heard: list[View] = []
    state.on_update(lambda: heard.append(state.snapshot()))
    state.update(layer="head", target=2, image_index=1)
    assert heard == [View(1, "head", 2, "GradCAM")]
    state.update(target=2)  # chosen again
    assert len(heard) == 2
    state.layer = "stem"
    assert heard[2:] == [View(1, "stem", 2, "GradCAM")]


def test_an_update_does_not_wait_for_the_listeners_of_another_thread(state: State) -> None:
    computing, go_on = threading.Event(), threading.Event()

    def slow() -> None:
        if state.target == 1:
            computing.set()
            assert go_on.wait(PATIENCE)

    state.on_update(slow)
    thread = threading.Thread(target=lambda: state.update(target=1))
    thread.start()
    assert computing.wait(PATIENCE)
    state.update(target=2)  # would hang here
    assert state.target == 2
    go_on.set()
    thread.join(PATIENCE)
    assert state.target == 2


def test_nearest_offers_close_names_parts_and_at_least_examples() -> None:
    known = ("features.0", "features.1", "classifier", "avgpool")
    assert nearest("feature.0", known).startswith("Nearest: features.0")
    assert nearest("POOL", known) == "Nearest: avgpool."
    assert nearest("xyz", known) == "There are, for example, features.1, classifier, avgpool."
    assert nearest("xyz", ()) == ""
