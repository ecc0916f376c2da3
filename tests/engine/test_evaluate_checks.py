"""The table of checks: what each says of its cost is what it costs, and each says in words what it found."""

from __future__ import annotations

import pytest
import torch

from gradcam_widget.engine import GradCAM
from gradcam_widget.evaluate.checks import CHECKS, Asked, Cost
from gradcam_widget.evaluate.question import digits
from gradcam_widget.targets import ClassLogit

from .nets import plain


def asked(method: str = "GradCAM") -> Asked:
    cam = GradCAM(plain())
    torch.manual_seed(0)
    pictures = [torch.rand(3, 16, 16) for _ in range(4)]
    for picture in pictures:
        cam.explain(picture, 1, "3", method)
    return Asked(cam, pictures[0], ClassLogit(1), "3", method, pictures[1:])


@pytest.mark.parametrize("name", [name for name in CHECKS if name != "mosaic"])
def test_every_check_has_a_verdict_numbers_and_a_figure(name):
    heard = []
    found = CHECKS[name].run(asked(), lambda *at: heard.append(at))
    assert found.verdict.endswith(".")
    numbers = found.numbers
    assert numbers.rows
    assert all(len(values) == len(numbers.columns) for values in numbers.rows.values())
    assert found.figure().axes
    assert heard[-1][0] == heard[-1][1]


@pytest.mark.parametrize("name", ["deletion_insertion", "occlusion", "confidence", "noise"])
@pytest.mark.parametrize("method", ["GradCAM", "ScoreCAM"])
def test_the_cost_is_what_it_costs(name, method):
    question = asked(method)
    before = question.cam.passes
    CHECKS[name].run(question, None)
    spent = question.cam.passes - before
    told = CHECKS[name].cost(method, 6, (16, 16))
    # The map itself is known; what tells its target and layer may be one backward pass more. And there may be
    # fewer: the gradient behind a pooled head is known without a pass.
    assert abs(spent.forward - told.forward) <= 0.1 * told.forward + 1
    assert spent.backward <= told.backward + 1


def test_a_cost_reads_as_words():
    assert str(Cost(155)) == "155 forward passes"
    assert str(Cost(8, 8)) == "8 forward and 8 backward passes"
    assert str(Cost(0, 1)) == "1 backward pass"
    assert CHECKS["randomise_weights"].cost("ScoreCAM", 1280, (224, 224)) == Cost(8 * 1281)
    assert CHECKS["other_classes"].cost("GradCAM", 1280, (224, 224)) == Cost(0, 16)


def test_a_mosaic_needs_pictures_of_four_classes():
    question = asked()
    with pytest.raises(
        ValueError, match="a mosaic needs four pictures that the model takes for different classes"
    ):
        CHECKS["mosaic"].run(Asked(question.cam, question.image, question.target, "3", "GradCAM"), None)
    with pytest.raises(ValueError, match="a mosaic is made of pictures of classes"):
        CHECKS["mosaic"].run(Asked(question.cam, question.image, lambda s: s.sum(), "3", "GradCAM"), None)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        *((0.0, "0.00"), (1.0, "1.00"), (0.316, "0.32"), (12.345, "12.35"), (-0.5, "\u22120.50")),
        *((0.09, "0.09"), (0.0312, "0.031"), (-0.0028, "\u22120.0028"), (0.0001, "0.0001"), (1e-6, "0.00")),
    ],
)
def test_numbers_are_told_in_digits_that_say_something(value, told):
    assert digits(value) == told
