"""What single channels add to a map, and what the model says without them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gradcam_widget.engine import GradCAM
from gradcam_widget.methods import METHODS, Method
from gradcam_widget.perturbation import Cancelled
from gradcam_widget.targets import ClassProbability

from .nets import Gap, build

X = torch.rand(1, 3, 9, 10, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


class Small(nn.Module):
    """A 1x1 convolution that copies red and green, global average pooling, and a head set by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1, bias=False)
        self.gap = Gap()
        self.head = nn.Linear(2, 2, bias=False)
        with torch.no_grad():
            self.conv.weight.copy_(torch.tensor([[1.0, 0, 0], [0, 1.0, 0]]).view(2, 3, 1, 1))
            self.head.weight.copy_(torch.tensor([[8.0, -4.0], [0.0, 4.0]]))
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gap(self.conv(x)))


RED = [[1.0, 2.0], [0.0, 1.0]]
GREEN = [[1.0, 0.0], [0.0, 3.0]]
SMALL = torch.tensor([[RED, GREEN, [[9.0, 9.0], [9.0, 9.0]]]])


def test_terms_by_hand() -> None:
    # Z = 4 cells, so dy0/dA is 8/4 = 2 in the red channel and -4/4 = -1 in the green one: alpha = (2, -1).
    cam = GradCAM(Small())
    assert cam.terms(SMALL, 0, "conv").tolist() == [[[2, 4], [0, 2]], [[-1, 0], [0, -3]]]
    # The gradients are the same in each cell, so HiResCAM's terms are equal; LayerCAM drops negative gradients.
    assert cam.terms(SMALL, 0, "conv", "HiResCAM").tolist() == [[[2, 4], [0, 2]], [[-1, 0], [0, -3]]]
    assert cam.terms(SMALL, 0, "conv", "LayerCAM").tolist() == [[[2, 4], [0, 2]], [[0, 0], [0, 0]]]
    assert cam.terms(SMALL, 0, "conv", "GradCAMElementWise").tolist() == [[[2, 4], [0, 2]], [[0, 0], [0, 0]]]


def test_terms_of_a_known_map_cost_no_pass() -> None:
    cam = GradCAM(Small())
    for method in ("GradCAM", "LayerCAM", "EigenCAM"):
        cam.explain(SMALL, 0, "conv", method)
        before = cam.passes
        cam.terms(SMALL, 0, "conv", method)
        assert cam.passes == before


@pytest.fixture(scope="module")
def network() -> nn.Sequential:
    torch.manual_seed(11)
    model = nn.Sequential(
        nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(), nn.Conv2d(5, 6, 3), nn.Softplus(), Gap(), nn.Linear(6, 4)
    )
    return model.double().eval()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("layer", ["1", "3"])
def test_the_terms_of_every_method_add_up_to_its_signed_map(network, method, layer):
    cam = GradCAM(network)
    if method == "CAM" and layer == "1":
        with pytest.raises(ValueError, match="CAM"):
            cam.terms(X, 2, layer, method)
        return
    found = cam.explain(X, 2, layer, method)
    terms = cam.terms(X, 2, layer, method)
    assert terms.dtype == torch.float64
    assert terms.shape == found.activations.shape
    assert found.signed_cam.abs().max() > 0
    torch.testing.assert_close(terms.sum(0), found.signed_cam, rtol=0, atol=1e-12)
    if METHODS[method].alpha == "share":
        torch.testing.assert_close(terms.sum((1, 2)), found.alpha, rtol=0, atol=1e-12)


def test_a_term_depends_on_its_own_channel_alone(network):
    # The engine's terms against a loop over the formula, with the gradient taken by hand in the tail.
    own = network[:2](X).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(network[2:](own)[0, 2], own)
    own = own.detach()
    terms = GradCAM(network).terms(X, 2, "1")
    by_cell = GradCAM(network).terms(X, 2, "1", "HiResCAM")
    for k in range(5):
        alpha = sum(float(v) for v in gradient[0, k].flatten()) / 90
        for i in range(9):
            for j in range(10):
                assert float(terms[k, i, j]) == pytest.approx(alpha * float(own[0, k, i, j]), abs=1e-12)
                wanted = float(gradient[0, k, i, j]) * float(own[0, k, i, j])
                assert float(by_cell[k, i, j]) == pytest.approx(wanted, abs=1e-12)


def test_many_passes_for_terms_can_be_refused(network):
    cam = GradCAM(network)
    calls = []

    def refuse(done: int, total: int) -> bool:
        calls.append((done, total))
        return False

    class Wide(nn.Sequential):
        pass

    wide = Wide(nn.Conv2d(3, 40, 1), nn.Tanh(), Gap(), nn.Linear(40, 3)).double().eval()
    with pytest.raises(Cancelled, match="cancelled after"):
        GradCAM(wide).terms(X, 0, "1", "AblationCAM", progress=refuse)
    assert calls[0][1] == 40
    cam.explain(X, 0, "1", "AblationCAM")
    before = cam.passes
    cam.terms(X, 0, "1", "AblationCAM", progress=refuse)  # the weights are known
    assert cam.passes == before


def test_a_method_without_terms_or_with_wrong_ones_says_so(network, monkeypatch):
    def maximum(activations: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor]:
        terms = activations * gradients
        return terms.flatten(1).sum(1), terms.amax(0)

    rows: dict[str, Any] = {"alpha": "share", "meaning": "largest term", "passes": "one", "source": "this test"}
    monkeypatch.setitem(METHODS, "Most", Method("Most", maximum, **rows))
    with pytest.raises(ValueError, match=r"Most weighs every cell by itself .* no function terms="):
        GradCAM(network).terms(X, 2, "1", "Most")
    wrong = Method("Most", maximum, **rows, terms=lambda activations, gradients: activations * gradients)
    monkeypatch.setitem(METHODS, "Most", wrong)
    with pytest.raises(ValueError, match="the map of Most is not the sum over the channels"):
        GradCAM(network).terms(X, 2, "1", "Most")


# -- ablation ----------


def hooked(model: nn.Module, x: Tensor, name: str, channels: list[int]) -> Tensor:
    """The scores of a whole pass in which a hook of the test's sets channels to zero."""

    def zero(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        changed = output.clone()
        for channel in channels:
            changed[:, channel] = 0
        return changed

    handle = model.get_submodule(name).register_forward_hook(zero)
    try:
        with torch.no_grad():
            return model(x.clone())[0]
    finally:
        handle.remove()


def test_ablation_by_hand() -> None:
    # The means are (1, 1), the scores (8 - 4, 4) = (4, 4). Without green: (8, 0); without both: (0, 0).
    cam = GradCAM(Small())
    found = cam.ablate(SMALL, [1], 0, "conv")
    assert (found.score, found.full_score, found.change) == (8, 4, 4)
    assert found.channels == (1,)
    assert found.layer.name == "conv"
    assert found.probability == pytest.approx(1 / (1 + 2.718281828459045**-8))
    assert found.full_probability == pytest.approx(0.5)
    assert cam.ablate(SMALL, [1, 0, 1], 0, "conv").score == 0
    assert cam.ablate(SMALL, (), 0, "conv").change == 0


@pytest.mark.parametrize("name", ["plain", "side branches", "dense", "residual"])
def test_ablated_scores_are_those_of_a_whole_pass_with_a_hook(name):
    model = build(name).double()
    x = torch.rand(1, 3, 12, 14, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    cam = GradCAM(model)
    layers = [layer for layer in cam.layers(x) if layer.call == 1 and layer.kind == "conv"]
    assert len(layers) >= 2
    with torch.no_grad():
        full = model(x.clone())[0]
    for layer in layers:
        for channels in ([0], [1, 3], list(range(layer.shape[0]))):
            if max(channels) >= layer.shape[0]:
                continue
            without = hooked(model, x, layer.name, channels)
            found = cam.ablate(x, channels, 2, layer)
            assert found.score == pytest.approx(float(without[2]), abs=1e-12)
            assert found.full_score == pytest.approx(float(full[2]), abs=1e-12)
            assert found.probability == pytest.approx(float(without.softmax(0)[2]), abs=1e-12)
            assert found.full_probability == pytest.approx(float(full.softmax(0)[2]), abs=1e-12)
            own = cam.ablate(x, channels, ClassProbability(1), layer)
            assert own.score == pytest.approx(float(without.softmax(0)[1]), abs=1e-12)


def test_without_a_target_the_class_is_the_one_predicted_with_all_channels(network):
    with torch.no_grad():
        predicted = int(network(X)[0].argmax())
    found = GradCAM(network).ablate(X, range(6), None, "3")
    assert found.target.index == predicted
    bias = network[5].bias.detach()  # all that is left
    assert found.score == pytest.approx(float(bias[predicted]), abs=1e-12)


@pytest.mark.parametrize(
    ("channels", "error", "message"),
    [
        ([5], ValueError, "channels: expected ints from 0 to 4, one per channel; got 5"),
        ([-1], ValueError, "got -1"),
        ([0.5], TypeError, "channels: expected ints from 0 to 4; got 0.5, a float"),
        ([True], TypeError, "got True, a bool"),
        (3, TypeError, "channels: expected a list; got int"),
    ],
)
def test_wrong_channels_are_told(network, channels, error, message):
    with pytest.raises(error, match=message):
        GradCAM(network).ablate(X, channels, 2, "1")
