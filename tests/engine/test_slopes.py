"""Where channels reach the pooled features each by itself a class costs no pass, and gets autograd's weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradcam_widget import GradCAM, gradients
from gradcam_widget.targets import ClassLogit, ClassProbability, Contrast

PICTURE = torch.rand(1, 3, 24, 20, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


class Net(nn.Module):
    """A convolution ``conv``, something between it and the pooled features ``pool``, and a head."""

    def __init__(self, between: nn.Module, head: nn.Module | None = None) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2)
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.between = between
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = head or nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        return self.head(self.pool(self.between(self.conv(x) + x)).flatten(1))


class Function(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Gate(nn.Module):
    """Squeeze and excitation: every channel scales every other."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.mix(x.mean((2, 3), keepdim=True)))


def clamped(x: Tensor) -> Tensor:
    """A model's own code that changes the gradient, which then is not linear in the features' gradient."""
    y = x * 2
    y.register_hook(lambda gradient: gradient.clamp(min=0))
    return y + 0


class Clamped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.act = nn.Tanh()

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(x)
        y.register_hook(lambda gradient: gradient.clamp(min=0))
        return y


APART = {
    "batch norm and ReLU": lambda: nn.Sequential(nn.BatchNorm2d(8), nn.ReLU()),
    "in-place ReLU": lambda: nn.Sequential(nn.BatchNorm2d(8), nn.ReLU(inplace=True)),
    "nothing": nn.Identity,
    "hardswish and pooling": lambda: nn.Sequential(nn.Hardswish(), nn.MaxPool2d(2), nn.AvgPool2d(2)),
    "a residual sum": lambda: Function(lambda x: F.silu(x) - 0.3 * x),
    "a mean along one axis": lambda: Function(lambda x: F.gelu(x).mean(-1, keepdim=True)),
    "a product": lambda: Function(lambda x: x * torch.sigmoid(x) * torch.arange(1.0, 9).double().view(8, 1, 1)),
}
MIXED = {
    "a gate": Gate,
    "a convolution": lambda: nn.Conv2d(8, 8, 1),
    "group norm": lambda: nn.GroupNorm(2, 8),
    "a shuffle": lambda: Function(lambda x: x.view(1, 2, 4, *x.shape[2:]).transpose(1, 2).reshape(x.shape)),
    "softmax over channels": lambda: Function(lambda x: x.softmax(1)),
    "a mean over channels": lambda: Function(lambda x: x * x.mean(1, keepdim=True)),
    "rolled channels": lambda: Function(lambda x: x.roll(1, 1)),
    "a hook that clamps": Clamped,
}


def build(between, head=None) -> nn.Module:
    torch.manual_seed(4)
    model = Net(between(), head).double().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            nn.init.normal_(module.weight)
    return model


def expected(model: nn.Module, target) -> Tensor:
    """Mean gradients by a hook and a pass of the test's own."""
    kept = {}

    def keep(module, args, output):
        kept["out"] = output
        return output.clone()

    handle = model.conv.register_forward_hook(keep)
    scores = model(PICTURE.clone().requires_grad_())
    handle.remove()
    (found,) = torch.autograd.grad(target(scores[0]), kept["out"])
    return found[0].flatten(1).mean(1)


@pytest.mark.parametrize("little", [0, 2**20])
@pytest.mark.parametrize("name", APART)
def test_a_class_costs_no_pass_where_channels_stay_apart(name, little, monkeypatch):
    monkeypatch.setattr(gradients, "_LITTLE", little)
    model = build(APART[name])
    cam = GradCAM(model)
    for index in (1, 0, 4, 3, 2):
        alpha = cam.explain(PICTURE, index, "conv").alpha
        torch.testing.assert_close(alpha, expected(model, ClassLogit(index)), rtol=1e-9, atol=1e-14)
    assert cam.passes.backward == 0


@pytest.mark.parametrize("name", MIXED)
def test_every_class_costs_a_pass_where_channels_mix(name):
    model = build(MIXED[name])
    cam = GradCAM(model)
    for index in range(5):
        alpha = cam.explain(PICTURE, index, "conv").alpha
        torch.testing.assert_close(alpha, expected(model, ClassLogit(index)), rtol=1e-9, atol=1e-14)
    assert cam.passes.backward == 5


def test_a_hook_inside_the_models_code_is_seen_by_the_comparison_with_autograd():
    model = build(lambda: Function(clamped))
    cam = GradCAM(model)
    for index in range(5):
        alpha = cam.explain(PICTURE, index, "conv").alpha
        torch.testing.assert_close(alpha, expected(model, ClassLogit(index)), rtol=1e-9, atol=1e-14)


def test_what_the_graph_seems_to_say_is_not_believed_against_autograd(monkeypatch):
    monkeypatch.setattr("gradcam_widget.slopes._keeps_apart", lambda node: True)
    model = build(Gate)
    cam = GradCAM(model)
    for index in range(3):
        alpha = cam.explain(PICTURE, index, "conv").alpha
        torch.testing.assert_close(alpha, expected(model, ClassLogit(index)), rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize(
    "head",
    [
        lambda: nn.Sequential(nn.Linear(8, 6), nn.Hardswish(), nn.Linear(6, 5)),
        lambda: nn.Sequential(nn.Linear(8, 5), nn.LogSoftmax(1)),
        lambda: nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 5)),
        lambda: nn.Linear(8, 5, bias=False),
        lambda: nn.Sequential(nn.Dropout(0.5), nn.Linear(8, 5)),
    ],
    ids=["two layers", "log-softmax", "layer norm", "no bias", "dropout"],
)
def test_any_head_after_the_pooled_features_will_do(head):
    model = build(APART["batch norm and ReLU"], head())
    cam = GradCAM(model)
    for index in range(5):
        alpha = cam.explain(PICTURE, index, "conv").alpha
        torch.testing.assert_close(alpha, expected(model, ClassLogit(index)), rtol=1e-9, atol=1e-14)


def test_other_targets_than_classes():
    model = build(APART["batch norm and ReLU"])
    cam = GradCAM(model)
    for target in (
        ClassProbability(2),
        ClassLogit(3),
        Contrast(ClassLogit(0), ClassLogit(4)),
        ClassProbability(1),
    ):
        alpha = cam.explain(PICTURE, target, "conv").alpha
        torch.testing.assert_close(alpha, expected(model, target), rtol=1e-9, atol=1e-14)


def test_gradients_may_be_asked_for_afterwards():
    model = build(APART["batch norm and ReLU"])
    cam = GradCAM(model)
    for index in (0, 1):
        cam.explain(PICTURE, index, "conv")
    known = cam.passes.backward
    found = cam.explain(PICTURE, 1, "conv", "HiResCAM")
    assert cam.passes.backward == known + 1
    torch.testing.assert_close(found.signed_cam, GradCAM(model).explain(PICTURE, 1, "conv", "HiResCAM").signed_cam)
    stem = cam.explain(PICTURE, 1, "stem").alpha
    torch.testing.assert_close(stem, GradCAM(model).explain(PICTURE, 1, "stem").alpha, rtol=1e-9, atol=1e-14)


def test_frozen_parameters_and_no_grad():
    model = build(APART["batch norm and ReLU"]).requires_grad_(False)
    cam = GradCAM(model)
    with torch.no_grad():
        found = [cam.explain(PICTURE, index, "conv").alpha for index in range(3)]
    assert cam.passes.backward == 0
    for index, alpha in enumerate(found):
        torch.testing.assert_close(alpha, expected(model, ClassLogit(index)), rtol=1e-9, atol=1e-14)


def test_no_bit_of_a_weight_depends_on_what_was_asked_before():
    model = build(APART["batch norm and ReLU"]).float()
    picture = PICTURE.float()
    first = GradCAM(model).explain(picture, 3, "conv").alpha
    ways = {
        "after other classes": lambda cam: [cam.explain(picture, index, "conv") for index in (0, 4)],
        "after the pass to a deeper layer": lambda cam: cam.explain(picture, 3, "stem"),
        "after its gradients": lambda cam: cam.explain(picture, 3, "conv", "HiResCAM"),
        "with all layers": lambda cam: cam.explain_layers(picture, 3),
        "with other classes": lambda cam: cam.explain_targets(picture, range(5), "conv"),
    }
    for way, before in ways.items():
        cam = GradCAM(model)
        before(cam)
        assert torch.equal(cam.explain(picture, 3, "conv").alpha, first), way
