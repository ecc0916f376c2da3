"""Several targets at one layer: their backward passes run together, and each map is the one of its own pass."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor, nn

from gradcam_widget import GradCAM
from gradcam_widget.targets import ClassLogit, ClassLogProbability, Contrast

CLASSES = 40
LAYERS = ("0", "1", "2", "4", "5", "6", "7")


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(3)
    return (
        nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 9, 3, padding=1, bias=False),
            nn.GELU(),
            nn.GroupNorm(3, 9),
            nn.SiLU(inplace=True),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(9, CLASSES),
        )
        .double()
        .eval()
    )


@pytest.fixture
def picture() -> Tensor:
    return torch.rand(1, 3, 12, 12, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def count_calls(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each call of torch.autograd.grad from now on is a batched one."""
    calls: list[bool] = []
    grad = torch.autograd.grad

    def counted(*args, **kwargs):
        calls.append(bool(kwargs.get("is_grads_batched")))
        return grad(*args, **kwargs)

    monkeypatch.setattr(torch.autograd, "grad", counted)
    return calls


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("method", ["GradCAM", "GradCAM++", "LayerCAM", "FinerCAM"])
def test_each_map_is_the_one_of_its_own_pass(model, picture, layer, method):
    targets: list[object] = list(range(0, CLASSES, 3))
    if method != "FinerCAM":  # it compares classes
        contrast = Contrast(ClassLogit(7), ClassLogit(8))
        targets += [ClassLogProbability(4), contrast, lambda scores: scores[1] * scores[2]]
    together = GradCAM(model).explain_targets(picture, targets, layer, method)
    alone = GradCAM(model)
    for found, target in zip(together, targets, strict=True):
        expected = alone.explain(picture, target, layer, method)
        assert (found.target, found.layer, found.score) == (expected.target, expected.layer, expected.score)
        torch.testing.assert_close(found.alpha, expected.alpha, rtol=1e-10, atol=1e-14)
        torch.testing.assert_close(found.signed_cam, expected.signed_cam, rtol=1e-10, atol=1e-14)


def test_forty_classes_take_two_runs_of_autograd(model, picture, monkeypatch):
    cam = GradCAM(model)
    cam.explain(picture, 0, "7")  # the graph is looked at once
    calls = count_calls(monkeypatch)
    before = cam.passes
    cam.explain_targets(picture, range(CLASSES), "5")
    assert calls == [True, True]
    assert (cam.passes - before).backward == CLASSES
    cam.explain_targets(picture, range(CLASSES), "5")
    cam.explain(picture, 17, "5")
    assert calls == [True, True]
    # The gradients at the end of the passes were kept, for later ones to go on from and for other methods.
    cam.explain_targets(picture, range(CLASSES), "5", "LayerCAM")
    assert calls == [True, True]
    # Of what lay on the way there are only means, so that a method which weighs every cell takes passes, once.
    cam.explain(picture, 17, "6")
    assert calls == [True, True]
    cam.explain_targets(picture, range(CLASSES), "6", "LayerCAM")
    cam.explain_targets(picture, range(CLASSES), "6", "HiResCAM")
    cam.explain(picture, 17, "6", "XGradCAM")
    assert calls == [True] * 4


def test_what_is_known_is_not_taken_again(model, picture, monkeypatch):
    cam = GradCAM(model)
    for target in range(10):
        cam.explain(picture, target, "0")
    calls = count_calls(monkeypatch)
    cam.explain_targets(picture, range(14), "4")
    assert calls == [True]
    assert cam.passes.backward == 14


def test_a_layer_further_up_or_down_is_right_after_a_batch(model, picture):
    cam, alone = GradCAM(model), GradCAM(model)
    cam.explain_targets(picture, range(8), "4")
    for layer in ("7", "1", "4", "0"):
        found, expected = cam.explain(picture, 5, layer), alone.explain(picture, 5, layer)
        torch.testing.assert_close(found.signed_cam, expected.signed_cam, rtol=1e-10, atol=1e-14)


class _Doubled(torch.autograd.Function):
    """An operation that torch cannot batch."""

    @staticmethod
    def forward(context, x):
        return 2 * x

    @staticmethod
    def backward(context, gradient):
        return 2 * gradient if gradient.sum().item() < float("inf") else gradient  # a look at a value


class _Unbatched(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return _Doubled.apply(x)


def test_a_model_that_cannot_be_batched_goes_one_by_one(model, picture, monkeypatch):
    model.insert(8, _Unbatched())
    cam, alone = GradCAM(model), GradCAM(model)
    cam.explain(picture, 0, "7")
    calls = count_calls(monkeypatch)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = cam.explain_targets(picture, range(6), "5")
        cam.explain_targets(picture, range(6, 9), "5")
    assert calls == [True] + [False] * 9
    for target in range(6):
        torch.testing.assert_close(found[target].alpha, alone.explain(picture, target, "5").alpha)


def test_a_target_that_the_layer_does_not_reach_says_so_in_a_batch_too(picture):
    class TwoHeads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([self.left(x).mean((2, 3)), self.right(x).mean((2, 3))], 1)

    model = TwoHeads().double().eval()
    found = GradCAM(model).explain_targets(picture, [0, 1, 2, 3, 0], "left")
    assert [explanation.target.index for explanation in found] == [0, 1, 2, 3, 0]
    alone = GradCAM(model).explain(picture, 5, "left")
    among = GradCAM(model).explain_targets(picture, [0, 1, 2, 5], "left")[-1]
    assert torch.equal(alone.alpha, among.alpha)
    assert alone.diagnosis == among.diagnosis


def test_no_targets_no_maps(model, picture):
    cam = GradCAM(model)
    assert cam.explain_targets(picture, []) == []


def test_a_bad_target_among_good_ones_is_told_before_any_pass(model, picture):
    cam = GradCAM(model)
    with pytest.raises(ValueError, match="class from 0 to 39"):
        cam.explain_targets(picture, [0, 1, CLASSES], "5")
    assert cam.passes.backward == 0
