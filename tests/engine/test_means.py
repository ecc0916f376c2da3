"""Grad-CAM needs means, not gradients: what a pass leaves behind, what that costs, and that it is right."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from torch import Tensor, nn

from gradcam_widget import GradCAM, gradients

PICTURE = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


class _Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(channels, channels, 3, padding=1), nn.Conv2d(channels, channels, 1)
        self.act = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.act(self.left(x)) * torch.sigmoid(self.right(x).mean((2, 3), keepdim=True))


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(2)
    body = [nn.Conv2d(3, 8, 3, padding=1), *(_Block(8) for _ in range(5))]
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 6)).double().eval()


@pytest.fixture
def lean(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small networks too are treated as large ones."""
    monkeypatch.setattr(gradients, "_LITTLE", 0)


def gradient_at(model: nn.Module, layer: str, target: int) -> Tensor:
    """dy/dA by a hook of the test's own."""
    kept = {}
    handle = model.get_submodule(layer).register_forward_hook(lambda *args: kept.update(out=args[2]))
    scores = model(PICTURE.clone().requires_grad_())
    handle.remove()
    (found,) = torch.autograd.grad(scores[0, target], kept["out"])
    return found


@pytest.mark.usefixtures("lean")
@pytest.mark.parametrize("first", ["5.left", "3.right", "2.act", "0", "4", "6"])
@pytest.mark.parametrize("second", ["5", "3.left", "2.right", "0", "1.act"])
def test_means_are_those_of_the_gradients_whatever_was_asked_before(model, first, second):
    cam = GradCAM(model)
    for layer in (first, second, "0", "1.right", "5.right"):
        found = cam.explain(PICTURE, 2, layer)
        expected = gradient_at(model, layer, 2)[0].flatten(1).mean(1)
        torch.testing.assert_close(found.alpha, expected, rtol=1e-9, atol=1e-15)


@pytest.mark.usefixtures("lean")
def test_one_pass_leaves_the_weights_of_all_layers_on_its_way_and_few_gradients(model):
    cam = GradCAM(model)
    cam.explain(PICTURE, 2, "0")
    assert cam.passes.backward == 1
    for layer in cam.layers(PICTURE):
        cam.explain(PICTURE, 2, layer)
    assert cam.passes.backward == 1
    whole = GradCAM(model)
    whole.explain(PICTURE, 2, "0", "LayerCAM")
    assert cam.memory().gradients < whole.memory().gradients / 4


@pytest.mark.usefixtures("lean")
def test_a_method_that_weighs_every_cell_takes_one_more_pass_for_all_layers(model):
    cam = GradCAM(model)
    cam.explain_layers(PICTURE, 2)
    assert cam.passes.backward == 1
    found = cam.explain_layers(PICTURE, 2, method="HiResCAM")
    assert cam.passes.backward == 2
    for method in ("LayerCAM", "XGradCAM", "GradCAM++", "GradCAM"):
        cam.explain_layers(PICTURE, 2, method=method)
    assert cam.passes.backward == 2
    own = dict(model.named_modules())
    for name, explanation in found.items():
        kept = []
        handle = own[name].register_forward_hook(lambda *args: kept.append(args[2].detach()))  # noqa: B023
        model(PICTURE)
        handle.remove()
        expected = (gradient_at(model, name, 2) * kept[0])[0].sum(0)
        torch.testing.assert_close(explanation.signed_cam, expected, rtol=1e-9, atol=1e-15)


@pytest.mark.usefixtures("lean")
def test_a_pass_further_down_goes_on_from_a_cut(model, monkeypatch):
    cam = GradCAM(model)
    cam.explain(PICTURE, 2, "4.left")  # inside a block, whose other branch goes round it
    roots = []
    grad = torch.autograd.grad

    def watched(outputs, *args, **kwargs):
        roots.append([tuple(output.shape) for output in outputs])
        return grad(outputs, *args, **kwargs)

    monkeypatch.setattr(torch.autograd, "grad", watched)
    cam.explain(PICTURE, 2, "0")
    assert roots == [[(1, 8, 32, 32)]]  # the output of a block, not the score


class _Deep(nn.Module):
    """A block whose one branch has two layers: the second cuts off the first, but not what is before the block."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(torch.relu(self.first(x)))


@pytest.mark.usefixtures("lean")
@pytest.mark.parametrize("together", [False, True])
def test_a_pass_to_several_layers_goes_on_from_what_cuts_off_all_of_them(monkeypatch, together):
    torch.manual_seed(3)
    body = [nn.Conv2d(3, 8, 3, padding=1), *(_Deep() for _ in range(3)), nn.Conv2d(8, 6, 1), nn.Tanh()]
    model = nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 6)).double().eval()
    cam = GradCAM(model)
    cam.explain_targets(PICTURE, [2, 3] if together else [2], "3.second")
    roots = []
    grad = torch.autograd.grad

    def watched(outputs, *args, **kwargs):
        roots.append([tuple(output.shape) for output in outputs])
        return grad(outputs, *args, **kwargs)

    monkeypatch.setattr(torch.autograd, "grad", watched)
    found = cam.explain_layers(PICTURE, 2, ["3.first", "2", "1.first", "0"])
    monkeypatch.undo()
    assert roots == [[(1, 8, 32, 32)]]  # the output of the block, not the score
    for name, explanation in found.items():
        expected = gradient_at(model, name, 2)[0].flatten(1).mean(1)
        torch.testing.assert_close(explanation.alpha, expected, rtol=1e-9, atol=1e-15)


def test_a_mean_of_zero_is_not_taken_for_no_gradient():
    class Difference(nn.Module):
        """y_0 = left half of channel 0 minus its right half: a gradient whose mean is zero."""

        def __init__(self) -> None:
            super().__init__()
            self.same = nn.Conv2d(1, 1, 1, bias=False)
            nn.init.ones_(self.same.weight)

        def forward(self, x: Tensor) -> Tensor:
            maps = self.same(x)
            return torch.stack([maps[..., :2].sum() - maps[..., 2:].sum(), maps.sum()])[None]

    cam = GradCAM(Difference().eval())
    picture = torch.ones(1, 1, 2, 4)
    assert cam.default_layer(picture, 0).name == "same"
    said = cam.explain(picture, 0, "same").diagnosis
    assert "No positive evidence" in said
    assert "zero everywhere" not in said.partition("No positive")[0]


@pytest.mark.usefixtures("lean")
def test_the_hooks_on_the_graph_keep_nothing_alive(model):
    cam = GradCAM(model)
    cam.explain(PICTURE, 2, "0")
    trace = weakref.ref(cam._trace(PICTURE)[1])
    gc.disable()
    try:
        cam.close()
        cam._tracer = cam._traces._tracer = None
        assert trace() is None
    finally:
        gc.enable()


class Normed(nn.Module):
    """Convolutions with batch norms in every relation that the graph may have."""

    def __init__(self, seen: list[str]) -> None:
        super().__init__()
        self.first, self.first_norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
        self.second, self.shared = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.third, self.plain = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8, affine=False)
        self.forked, self.forked_norm = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)
        self.hooked, self.hooked_norm = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)
        self.block = nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8))
        self.head = nn.Linear(8, 6)
        for name in ("watched", "watched_norm"):
            setattr(self, name, nn.Conv2d(8, 8, 1) if name == "watched" else nn.BatchNorm2d(8))
        self.watched_norm.bias.register_hook(lambda gradient: seen.append("bias"))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first_norm(self.first(x)))
        x = torch.relu(self.shared(torch.relu(self.shared(self.second(x)))))
        x = self.plain(self.third(x)).tanh()
        forked = self.forked(x)
        x = self.forked_norm(forked) + 0.1 * forked
        kept = self.hooked(x)
        kept.register_hook(lambda gradient: 3 * gradient)
        x = torch.sigmoid(self.hooked_norm(kept)) + x
        x = x + self.block(x)
        x = self.watched_norm(self.watched(x)).sin()
        return self.head(x.mean((2, 3)))


@pytest.mark.usefixtures("lean")
@pytest.mark.parametrize("frozen", ["nothing", "all", "biases"])
@pytest.mark.parametrize("run", ["first", "second"])
def test_means_through_batch_norms(frozen, run):
    torch.manual_seed(5)
    seen: list[str] = []
    model = Normed(seen).double().eval()
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if "norm" in name or "shared" in name or "plain" in name or "block.1" in name:
            tensor.data.copy_(torch.rand(tensor.shape) + 0.5)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(frozen == "nothing" or (frozen == "biases" and not name.endswith("bias")))
    if frozen != "nothing":
        seen.clear()
    if run == "second":
        GradCAM(model).predict(PICTURE)  # after it the tracer clones nothing that it need not
    cam = GradCAM(model)
    found = cam.explain_layers(PICTURE, 3)
    assert cam.passes.backward == 1
    assert {"first", "first_norm", "second", "shared", "shared:2", "forked", "hooked", "block", "block.0"} <= set(
        found
    )
    assert not seen
    assert all(parameter.grad is None for parameter in model.parameters())
    for name, explanation in found.items():
        if ":" in name or name == "shared":
            continue
        expected = gradient_at(model, name, 3)[0].flatten(1).mean(1)
        torch.testing.assert_close(explanation.alpha, expected, rtol=1e-9, atol=1e-15)
    calls: list[Tensor] = []
    handle = model.shared.register_forward_hook(lambda *args: calls.append(args[2]))
    scores = model(PICTURE.clone().requires_grad_())
    handle.remove()
    for name, gradient in zip(("shared", "shared:2"), torch.autograd.grad(scores[0, 3], calls), strict=True):
        torch.testing.assert_close(found[name].alpha, gradient[0].flatten(1).mean(1), rtol=1e-9, atol=1e-15)
