"""What helps where a map needs a word: each cure leads to a map without the diagnosis that it was offered for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from messages import browser_says, counted, decode
from torch import Tensor, nn

from gradcam_widget.engine import GradCAM
from gradcam_widget.targets import ClassLogit, ClassLogProbability, ClassProbability
from gradcam_widget.widget.cures import cures_of
from gradcam_widget.widget.explorer import GradCAMWidget


class Signs(nn.Module):
    """Two layers of 2 x 2 cells before the mean: "first" is red and green, "last" is (red - green, 0).

    The logits are 8 times (m, -m, 0, 0) for the mean m of red - green. The weights of "first" for class 0 are so
    +2 for red and -2 for green.
    """

    def __init__(self, scale: float = 8.0) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 2, 1, bias=False)
        self.last = nn.Conv2d(2, 2, 1, bias=False)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(2, 4, bias=False)
        with torch.no_grad():
            self.first.weight.copy_(torch.tensor([[1.0, 0, 0], [0, 1.0, 0]]).view(2, 3, 1, 1))
            self.last.weight.copy_(torch.tensor([[1.0, -1.0], [0.0, 0.0]]).view(2, 2, 1, 1))
            self.head.weight.copy_(scale * torch.tensor([[1.0, 0], [-1.0, 0], [0, 0], [0, 0]]))
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(self.last(self.first(x))).flatten(1))


def picture(red: float, green: float) -> Tensor:
    image = torch.zeros(3, 2, 2)
    image[0, 0], image[1, 1] = red, green
    return image


@pytest.fixture
def make(explore: Callable[..., GradCAMWidget]) -> Callable[..., GradCAMWidget]:
    def build(model: Any = None, image: Any = None, **arguments: Any) -> GradCAMWidget:
        return explore(model or Signs(), picture(1, 0) if image is None else image, **arguments)

    return build


def offered(widget: GradCAMWidget) -> list[str]:
    return [cure["id"] for cure in widget._canvas.scene.get("cures", [])]


def cure(widget: GradCAMWidget, name: str) -> None:
    browser_says(widget._canvas, type="cure", id=name)


def test_a_healthy_map_needs_no_cure(make: Callable[..., GradCAMWidget]) -> None:
    widget = make(image=picture(1, 0.5))
    assert widget.explanation.diagnosis_code is None
    assert "cures" not in widget._canvas.scene


def test_a_negative_map_offers_its_signed_form_and_that_what_speaks_against(
    make: Callable[..., GradCAMWidget],
) -> None:
    # For class 1 the map is -2 (red - green): nowhere positive.
    widget = make(target=1)
    assert widget.explanation.diagnosis_code == "no_positive"
    assert offered(widget) == ["signed"]
    cure(widget, "signed")
    assert widget.evidence == "signed"
    assert widget._canvas.scene["max"] > 0
    assert "No positive evidence" not in widget._canvas.scene["diagnosis"]
    assert offered(widget) == ["counterfactual"]
    cure(widget, "counterfactual")
    assert widget.evidence == "counterfactual"
    assert widget._canvas.scene["diagnosis"] is None
    assert decode(widget._canvas.scene["cam"]).max() > 0


def test_nothing_against_offers_what_speaks_for(make: Callable[..., GradCAMWidget]) -> None:
    widget = make(target=0, evidence="counterfactual")
    assert offered(widget) == ["positive"]
    cure(widget, "positive")
    assert (widget.evidence, widget._canvas.scene["diagnosis"]) == ("positive", None)


class Silent(nn.Module):
    """ "early" gives -1 everywhere and speaks for class 0 by it; "late" is the red input."""

    def __init__(self) -> None:
        super().__init__()
        self.early = nn.Conv2d(3, 1, 1)
        self.late = nn.Conv2d(1, 1, 1)
        self.head = nn.Linear(1, 2, bias=False)
        with torch.no_grad():
            self.early.weight.copy_(torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1))
            self.early.bias.fill_(-2)
            self.late.weight.fill_(1)
            self.late.bias.fill_(2)
            self.head.weight.copy_(torch.tensor([[1.0], [0.0]]))
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.late(self.early(x)).mean((2, 3)))


def test_another_layer_is_offered_where_its_map_is_well(make: Callable[..., GradCAMWidget]) -> None:
    # At "early" the activations are red - 2 < 0 and alpha is positive: no positive evidence; at "late" there is.
    widget = make(Silent(), layer="early")
    assert widget.explanation.diagnosis_code == "no_positive"
    assert offered(widget) == ["signed", "last_layer"]
    with counted() as sent:
        cure(widget, "last_layer")
    assert widget.layer is None
    assert widget.explanation.layer.name == "late"
    assert widget._canvas.scene["diagnosis"] is None
    assert len([m for m in sent if m.widget is widget._canvas and "scene" in m.state]) == 1
    widget.layer = "late"
    assert offered(widget) == []


def test_another_layer_is_not_offered_where_its_map_has_the_same_trouble(
    make: Callable[..., GradCAMWidget],
) -> None:
    # For class 1 of `Signs` the last layer has no positive evidence either.
    widget = make(target=1, layer="first")
    assert widget.explanation.diagnosis_code == "no_positive"
    assert "last_layer" not in offered(widget)


def test_one_cell_offers_the_last_layer_with_several(make: Callable[..., GradCAMWidget]) -> None:
    widget = make(image=picture(1, 0.5), layer="pool")
    assert widget.explanation.diagnosis_code == "single_cell"
    (button,) = widget._canvas.scene["cures"]
    assert button == {"id": "last_layer", "label": "Go to the last layer with several cells"}
    cure(widget, "last_layer")
    assert widget.explanation.layer.name == "last"
    assert widget._canvas.scene["diagnosis"] is None


@pytest.mark.parametrize("target", [ClassProbability(0), ClassLogProbability(0)])
def test_a_saturated_probability_offers_the_logit(make: Callable[..., GradCAMWidget], target: Any) -> None:
    # Logits (80, -80, 0, 0) * 0.5: the probability is 1 to the last bit of float32.
    widget = make(Signs(80.0), target=target)
    assert widget.explanation.diagnosis_code == "saturated"
    assert "Explain the logit instead" in widget._canvas.scene["diagnosis"]
    assert offered(widget) == ["logit"]
    cure(widget, "logit")
    assert widget.explanation.target == ClassLogit(0)
    assert widget._canvas.scene["diagnosis"] is None


@pytest.mark.parametrize(
    ("scale", "code"),
    # 8: logits (4, -4, 0, 0), p = 0.964; 24: (12, -12, 0, 0), 1 - p = 1.2e-5, with a gradient that is not zero.
    [(8.0, None), (24.0, "saturated")],
)
def test_saturation_begins_where_hardly_any_gradient_is_left(scale: float, code: str | None) -> None:
    found = GradCAM(Signs(scale)).explain(picture(1, 0.0), ClassProbability(0))
    assert found.diagnosis_code == code
    assert found.signed_cam.abs().max() > 0


class Overflow(nn.Module):
    """ "early" overflows float32; what follows does not know of it."""

    def __init__(self) -> None:
        super().__init__()
        self.early = nn.Conv2d(3, 1, 1, bias=False)
        self.squash = nn.Tanh()
        self.head = nn.Linear(1, 2, bias=False)
        with torch.no_grad():
            self.early.weight.copy_(torch.tensor([3e38, 3e38, 0]).view(1, 3, 1, 1))
            self.head.weight.copy_(torch.tensor([[1.0], [-1.0]]))
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.squash(self.early(x)).mean((2, 3)))


def test_a_map_that_is_not_finite_offers_the_last_layer(make: Callable[..., GradCAMWidget]) -> None:
    widget = make(Overflow(), torch.tensor([2.0, 0, 0.5, 1]).view(1, 2, 2).repeat(3, 1, 1), layer="early")
    assert widget._canvas.scene == {}
    assert "NaN or infinite" in widget._canvas.notice["message"]
    assert widget._canvas.notice["cures"] == [{"id": "last_layer", "label": "Go to the last layer"}]
    cure(widget, "last_layer")
    assert widget._canvas.notice == {}
    assert widget.explanation.layer.name == "squash"


def test_what_is_not_on_offer_is_not_heard(make: Callable[..., GradCAMWidget]) -> None:
    widget = make(image=picture(1, 0.5))
    with counted() as sent:
        for name in ("signed", "last_layer", "logit", "", "target"):
            cure(widget, name)
        browser_says(widget._canvas, type="cure", id=7)
    assert sent == []
    assert (widget.evidence, widget.layer, widget.target) == ("positive", None, None)


def test_the_table_of_cures() -> None:
    def ids(code: str | None, lowest: float = -1.0, target: int | None = 3, well: bool = True) -> list[str]:
        return [cure.id for cure in cures_of(code, lowest=lowest, target=target, last_layer_is_well=well)]

    assert ids(None) == []
    assert ids("coarse") == []
    assert ids("no_positive") == ["signed", "last_layer"]
    assert ids("no_positive", lowest=0.0) == ["last_layer"]
    assert ids("no_positive", lowest=0.0, well=False) == []
    assert ids("no_gradient") == ids("flat") == ids("single_cell") == ids("not_finite") == ["last_layer"]
    assert ids("saturated") == ["logit"]
    assert ids("saturated", target=None) == []
