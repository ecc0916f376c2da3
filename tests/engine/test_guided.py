"""Guided backpropagation against an independent one: ReLUs with a backward pass of their own, in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradcam_widget.engine import GradCAM, Passes
from gradcam_widget.graph import nodes_below
from gradcam_widget.targets import ClassProbability, Counterfactual

X = torch.randn(1, 3, 12, 14, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
CLASSES = 4


class GuidedRelu(torch.autograd.Function):
    """ReLU, or a clamp to [0, 6]; in the backward pass only where the input and the gradient are positive."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, top: float) -> Tensor:
        ctx.save_for_backward((x > 0) & (x < top))
        return x.clamp(0, top)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (passed,) = ctx.saved_tensors
        return torch.where(passed & (gradient > 0), gradient, 0), None


def guided(x: Tensor) -> Tensor:
    return GuidedRelu.apply(x, float("inf"))


def guided6(x: Tensor) -> Tensor:
    return GuidedRelu.apply(x, 6.0)


class Net(nn.Module):
    """A residual network whose ReLU is given as a function; `scale` makes ReLU6 saturate."""

    def __init__(self, relu: Callable[[Tensor], Tensor], scale: float = 1) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.a, self.b, self.c = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 5, 3, stride=2)
        self.bn, self.head, self.scale = nn.BatchNorm2d(6), nn.Linear(5, CLASSES), scale
        self.act = relu
        self.double().eval()

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.a(x) * self.scale)
        y = self.act(self.bn(self.b(y)) + y)
        return self.head(self.act(self.c(y)).mean((2, 3)))


def reference(model: nn.Module, target: Callable[[Tensor], Tensor]) -> Tensor:
    x = X.clone().requires_grad_()
    (found,) = torch.autograd.grad(target(model(x)[0]), x)
    return found[0]


def close(found: Tensor, expected: Tensor) -> None:
    assert found.shape == expected.shape
    assert float(expected.abs().max()) > 0
    assert float((found - expected).abs().max()) <= 1e-12 * float(expected.abs().max())


KINDS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor], float]] = {
    "a module": (nn.ReLU(), guided, 1),
    "in place": (nn.ReLU(inplace=True), guided, 1),
    "a function": (F.relu, guided, 1),
    "a function in place": (torch.relu_, guided, 1),
    "a method": (Tensor.relu, guided, 1),
    "ReLU6": (nn.ReLU6(), guided6, 30),
    "ReLU6 in place": (nn.ReLU6(inplace=True), guided6, 30),
    "a function of ReLU6": (F.relu6, guided6, 30),
    "hardtanh": (lambda x: F.hardtanh(x, 0, 6), guided6, 30),
    "threshold": (nn.Threshold(0, 0), guided, 1),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layer", ["a", "c"])
def test_guided_backpropagation(kind, layer):
    relu, own, scale = KINDS[kind]
    expected = reference(Net(own, scale), lambda y: y[2])
    found = GradCAM(Net(relu, scale)).explain(X, 2, layer, "GuidedBackprop")
    close(found.guided, expected)
    # and it is not the plain gradient
    plain = reference(Net(lambda x: x.clamp(0, 6) if own is guided6 else x.clamp(min=0), scale), lambda y: y[2])
    assert float((found.guided - plain).abs().max()) > 0.1 * float(plain.abs().max())


def test_relu6_is_saturated_somewhere():
    with torch.no_grad():
        assert bool((Net(F.relu6, 30).a(X) * 30 > 6).any())


@pytest.mark.parametrize(
    "target", [3, ClassProbability(1), Counterfactual(ClassProbability(1)), lambda y: y.prod()]
)
def test_other_targets(target):
    function = target if callable(target) else lambda y: y[target]
    found = GradCAM(Net(nn.ReLU(True))).explain(X, target, "b", "GuidedBackprop")
    close(found.guided, reference(Net(guided), function))


@pytest.mark.parametrize("layer", ["a", "b", "c"])
def test_guided_gradcam_is_the_product_with_the_heatmap(layer):
    cam = GradCAM(Net(nn.ReLU(True)))
    found, plain = cam.explain(X, 1, layer, "GuidedGradCAM"), cam.explain(X, 1, layer)
    signed = plain.signed_cam.clamp(min=0)
    heatmap = F.interpolate((signed / signed.max())[None, None], X.shape[2:], mode="bilinear", align_corners=False)
    assert float(signed.max()) > 0
    close(found.guided, reference(Net(guided), lambda y: y[1]) * heatmap[0, 0])
    assert torch.equal(found.alpha, plain.alpha)
    assert torch.equal(found.signed_cam, plain.signed_cam)


def test_where_nothing_speaks_for_the_class_guided_gradcam_is_black():
    model = Net(nn.ReLU(True))
    with torch.no_grad():
        model.head.weight[0] = -model.head.weight[0].abs()
    found = GradCAM(model).explain(X, 0, "c", "GuidedGradCAM")
    cell = GradCAM(model).explain(X, 0, "c")
    expected = cell.heatmap() * GradCAM(model).explain(X, 0, "c", "GuidedBackprop").guided
    assert torch.allclose(found.guided, expected, atol=1e-15)


def test_only_the_guided_methods_have_pixels():
    assert GradCAM(Net(F.relu)).explain(X, 1, "c").guided is None


def test_hooks_are_gone_and_later_maps_are_untouched():
    model = Net(nn.ReLU(True))
    untouched = GradCAM(copy.deepcopy(model)).explain_layers(X, 2)
    cam = GradCAM(model)
    first = cam.explain(X, 2, "c", "GuidedBackprop").guided
    # the same graph is used again: with a hook left on its ReLUs these would change
    for name, found in cam.explain_layers(X, 2).items():
        assert torch.equal(found.alpha, untouched[name].alpha)
    assert torch.equal(cam.explain(X, 2, "a", "GuidedBackprop").guided, first)
    assert not any(module._forward_hooks or module._backward_hooks for module in model.modules())
    assert type(model.act) is nn.ReLU
    assert model.act.inplace


def test_hooks_are_gone_after_a_failure(monkeypatch):
    cam = GradCAM(Net(nn.ReLU(True)))
    plain = cam.explain(X, 2, "a").alpha
    grad = torch.autograd.grad

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("in the middle")

    monkeypatch.setattr(torch.autograd, "grad", fail)
    with pytest.raises(RuntimeError, match="in the middle"):
        cam.explain(X, 3, "c", "GuidedBackprop")
    monkeypatch.setattr(torch.autograd, "grad", grad)
    found = cam.explain(X, lambda y: y[2] * 1, "a")
    assert torch.allclose(found.alpha, plain, rtol=1e-12, atol=0)


def test_it_costs_one_more_backward_pass():
    cam = GradCAM(Net(nn.ReLU(True)))
    cam.explain(X, 2, "c")
    before = cam.passes
    cam.explain(X, 2, "c", "GuidedBackprop")
    assert cam.passes - before == Passes(0, 1)


def test_a_model_without_relus_is_refused():
    model = Net(torch.tanh)
    with pytest.raises(ValueError, match="defined by the model's ReLUs, and this model has none"):
        GradCAM(model).explain(X, 2, "c", "GuidedBackprop")
    assert GradCAM(model).explain(X, 2, "c").alpha.any()


def test_a_smoothed_guided_map_is_the_mean_over_the_copies():
    from gradcam_widget.smoothing import Smoothing

    model = Net(nn.ReLU(True))
    found = GradCAM(model).explain(X, 2, "c", "GuidedBackprop", smooth=Smoothing(0, flips=True))
    one, other = (GradCAM(model).explain(x, 2, "c", "GuidedBackprop").guided for x in (X, X.flip(-1)))
    close(found.guided, (one + other.flip(-1)) / 2)


def test_nodes_below_finds_each_once():
    y = F.relu(X.clone().requires_grad_())
    nodes = nodes_below((y + y).sum().grad_fn)
    assert [type(node).__name__ for node in nodes].count("ReluBackward0") == 1
