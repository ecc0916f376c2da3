"""Names of channels in the explorer: sent once for each layer, patches on demand, words after their scene."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import traitlets
from messages import browser_says, counted
from torch import Tensor, nn

from gradcam_widget import ChannelNames, GradCAMWidget, name_channels
from gradcam_widget.widget.panels import DEFAULT_PANELS


class Three(nn.Module):
    """Three channels, the inputs themselves, at "conv" and halved at "pool"; alpha is W[c] over the cells."""

    class_names = ("cat", "<b>dog</b>")
    W = ((4.0, -2.0, 0.0), (-1.0, 3.0, 0.0))

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1, bias=False)
        self.pool = nn.AvgPool2d(2)
        self.head = nn.Linear(3, 2, bias=False)
        with torch.no_grad():
            self.conv.weight.copy_(torch.eye(3).view(3, 3, 1, 1) * scale)
            self.head.weight.copy_(torch.tensor(self.W))
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(self.conv(x)).mean((2, 3)))


def picture(left: float = 1.0) -> Tensor:
    image = torch.zeros(3, 8, 8)
    image[0, :, :4] = torch.linspace(left, left / 2, 32).reshape(8, 4)
    image[1] = 0.25
    return image


def names_of(layer: str, model: nn.Module | None = None) -> ChannelNames:
    left = np.zeros((8, 8), bool)
    left[:, :4] = True
    pictures = {"one": picture(), "two": picture(0.5)}
    return name_channels(model or Three(), pictures, layer, masks=[{"left": left}] * 2, quantile=0.2)


@pytest.fixture(scope="module")
def conv() -> ChannelNames:
    return names_of("conv")


@pytest.fixture(scope="module")
def pool() -> ChannelNames:
    return names_of("pool")


@pytest.fixture
def make(explore: Callable[..., GradCAMWidget]) -> Callable[..., GradCAMWidget]:
    def build(**arguments: Any) -> GradCAMWidget:
        return explore(Three(), [picture(), picture(0.7)], **{"layer": "conv", **arguments})

    return build


def asks(widget: GradCAMWidget, layer: str, channels: list[Any], edition: Any = 1) -> None:
    browser_says(widget._canvas, type="patches", layer=layer, edition=edition, channels=channels)


def sent_names(widget: GradCAMWidget, sent: list[Any]) -> list[set[str]]:
    ours = {"names", "patches", "words", "scene"}
    found = [set(m.state) & ours for m in sent if m.widget is widget._canvas]
    return [keys for keys in found if keys]


def test_without_names_nothing_is_sent_and_no_panel_is_added(make: Callable[..., GradCAMWidget]) -> None:
    with counted() as sent:
        widget = make()
        widget.target = "cat"
        asks(widget, "conv", [0])
    assert widget.names == {}
    assert widget.panels == DEFAULT_PANELS
    assert not any(message.state.get(key) for message in sent for key in ("names", "patches", "words"))


def test_the_view_has_the_names_of_the_layer_on_show(
    make: Callable[..., GradCAMWidget], conv: ChannelNames, pool: ChannelNames
) -> None:
    widget = make(names=[conv, pool], target="cat")
    assert widget.names == {"conv": conv, "pool": pool}
    assert widget._canvas.names == {
        "layer": "conv",
        "edition": 1,
        "channels": 3,
        "pictures": 2,
        "approximate": False,
        "concepts": ["left"],
        "named": {"0": [0, f"IoU {conv[0].score:.2f}"]},
    }
    assert conv[1].name is None
    with counted() as sent:
        widget.target = 1  # the names are there; the words are others
    assert sent_names(widget, sent) == [{"scene"}, {"words"}]
    with counted() as sent:
        widget.layer = "pool"
    assert sent_names(widget, sent)[0] == {"scene"}
    assert {"names", "words"} <= sent_names(widget, sent)[1]
    assert widget._canvas.names["layer"] == "pool"
    widget.layer = "conv"
    widget.names = {"pool": pool}
    assert widget._canvas.names == widget._canvas.words == {}


def test_the_words_are_those_of_the_scene(make: Callable[..., GradCAMWidget], conv: ChannelNames) -> None:
    widget = make(names=conv, target=0)
    said = widget._canvas.words
    assert (said["revision"], said["label"], said["against"]) == (widget._canvas.revision, "cat", False)
    # alpha at conv: W / 64 cells.
    assert said["for_it"] == [{"channel": 0, "alpha": 4 / 64, "pictures": ["one", "two"]}]
    assert said["against_it"] == [{"channel": 1, "alpha": -2 / 64, "pictures": []}]  # it is the same everywhere
    widget.set(target=1, evidence="counterfactual")
    said = widget._canvas.words
    assert (said["label"], said["against"]) == ("<b>dog</b>", True)
    assert [word["channel"] for word in said["for_it"]] == [0]
    widget.channels_off = [0]
    assert widget._canvas.words["revision"] == widget._canvas.base != widget._canvas.revision


def test_the_panel_comes_with_the_names_and_goes_unless_panels_were_chosen(
    make: Callable[..., GradCAMWidget], conv: ChannelNames
) -> None:
    widget = make()
    widget.names = conv
    assert widget.panels == (*DEFAULT_PANELS, "words")
    assert widget._canvas.words["edition"] == 2
    widget.names = None
    assert widget.panels == DEFAULT_PANELS
    widget.panels = ["heatmap", "alpha"]
    widget.names = [conv]
    assert widget.panels == ("heatmap", "alpha")
    assert widget._canvas.names["layer"] == "conv"
    assert widget._canvas.words == {}
    widget.panels = ["heatmap", "words"]
    assert widget._canvas.words["revision"] == widget._canvas.base
    chosen = make(names=conv, panels=["heatmap"])
    assert chosen.panels == ("heatmap",)


def test_patches_are_sent_when_they_are_asked_for(
    make: Callable[..., GradCAMWidget], conv: ChannelNames, pool: ChannelNames
) -> None:
    widget = make(names=[conv, pool])
    with counted() as sent:
        asks(widget, "conv", [0, 1])
    (message,) = [m for m in sent if "patches" in m.state]
    assert message.size < 20_000 + 1_000
    first, second = widget._canvas.patches["sprites"]
    assert (first["channel"], first["count"], first["pictures"]) == (0, 2, ["one", "two"])
    assert first["data"] == conv.sprite(0)
    assert (second["count"], second["data"], second["near"]) == (0, b"", "")
    for wrong in ([7], [-1], [True], ["0"], "01", None):
        asks(widget, "conv", wrong)
        assert widget._canvas.patches.get("sprites", [])[2:] == []
    before = widget._canvas.patches
    asks(widget, "conv", [0], edition=0)
    asks(widget, "head", [0])
    assert widget._canvas.patches == before


def test_what_cannot_be_used_is_refused_and_changes_nothing(
    make: Callable[..., GradCAMWidget], conv: ChannelNames, pool: ChannelNames
) -> None:
    widget = make(names=conv)
    for wrong, words in (
        (3, "expected a ChannelNames"),
        ("names.npz", "expected a ChannelNames"),
        ([conv, conv], "two for 'conv'"),
        ({"pool": conv}, "'pool' is not"),
        (names_of("conv", Three(2.0)), "another model, or other weights"),
    ):
        with pytest.raises(traitlets.TraitError, match=words):
            widget.names = wrong
        assert widget.names == {"conv": conv}
    with pytest.raises(ValueError, match="other weights"):
        make(names=names_of("conv", Three(2.0)))


def test_words_wait_where_there_is_no_map(make: Callable[..., GradCAMWidget], conv: ChannelNames) -> None:
    widget = make(names=conv)
    before = widget._canvas.words
    widget.method = "ScoreCAM"  # waits to be asked for: the map on show is that before
    assert widget._canvas.words == before
    widget.compute()
    assert widget._canvas.words["revision"] == widget._canvas.base > before["revision"]
