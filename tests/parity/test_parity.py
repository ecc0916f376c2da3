"""grad-cam, captum and torchcam beside ours: the same map, or a difference that is explained by a reference."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradcam_widget.engine import GradCAM
from gradcam_widget.methods import METHODS, weighted_sum
from gradcam_widget.presets import as_captum, as_grad_cam, as_torchcam
from gradcam_widget.targets import ClassLogit, Finer

from . import peers, special
from .compare import DIFFERENT, EQUAL, Row, engine, measure, negated, rows
from .networks import TINY, louder, network, picture, target

X = picture()


def normalised(signed: Tensor) -> Tensor:
    """grad-cam's picture of a map, written down here: (H, W)."""
    cam = signed.detach().clamp(min=0)
    cam = (cam - cam.min()) / (cam.max() - cam.min())
    cam = F.interpolate(cam[None, None], X.shape[2:], mode="bilinear", align_corners=False)[0, 0]
    return (cam - cam.min()) / (cam.max() - cam.min())


def at_low_resolution(signed: Tensor) -> Tensor:
    """torchcam's: (1, h, w)."""
    cam = signed.detach().clamp(min=0)
    return ((cam - cam.min()) / (cam.max() - cam.min()))[None]


@pytest.mark.parametrize("row", [row for row in rows() if row.expected_equal], ids=str)
def test_the_same_map(row: Row):
    # Singular vectors in float32 leave a little more room than sums do.
    allowed = 10 * EQUAL if row.method.startswith("Eigen") else EQUAL
    for layer, found in measure(row).items():
        assert found <= allowed, layer


@pytest.mark.parametrize("row", [row for row in rows() if not row.expected_equal], ids=str)
def test_another_map_where_a_reason_is_known(row: Row):
    assert max(measure(row).values()) > EQUAL
    assert row.method in METHODS


def test_every_method_of_theirs_that_we_have_is_compared():
    compared = {(row.peer, row.method) for row in rows()}
    assert compared == {(peer, method) for peer, (methods, _, _) in peers.PEERS.items() for method in methods}
    assert set(DIFFERENT) <= compared
    in_any = {method for methods, _, _ in peers.PEERS.values() for method in methods}
    assert in_any | {"GuidedGradCAM", "GuidedBackprop"} == set(METHODS)


def test_the_comparison_can_fail():
    shifted = engine("tiny").explain(X, target("tiny"), "pool", "HiResCAM")
    theirs = peers.grad_cam(network("tiny"), "pool", X, target("tiny"), "GradCAM")
    assert peers.difference(theirs, as_grad_cam(shifted)) > 1e-3


# -- where they differ: which is the definition ----------


def of_layer(layer: str, method: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """A signed map of the tiny network from A and g, in float64, by a function given here."""
    model = copy.deepcopy(network("tiny")).double()
    for module in model.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
    kept: list[Tensor] = []
    handle = model.get_submodule(layer).register_forward_hook(lambda module, args, output: kept.append(output))
    score = model(X.double())[0, target("tiny")]
    handle.remove()
    (gradient,) = torch.autograd.grad(score, kept)
    weights = method(kept[0][0].detach(), gradient[0])
    return weighted_sum(weights, kept[0][0].detach())


@pytest.mark.parametrize("layer", TINY)
def test_gradcam_plus_plus_of_each(layer):
    def weights(epsilon: float) -> Callable[[Tensor, Tensor], Tensor]:
        def of(A: Tensor, g: Tensor) -> Tensor:
            below = 2 * g**2 + A.sum((1, 2), keepdim=True) * g**3 + epsilon
            return (torch.where(g != 0, g**2 / below, 0) * g.clamp(min=0)).nan_to_num().sum((1, 2))

        return of

    def undivided(A: Tensor, g: Tensor) -> Tensor:
        return (g**2 * g.clamp(min=0)).sum((1, 2))

    model, index = network("tiny"), target("tiny")
    own = engine("tiny").explain(X, index, layer, "GradCAM++")
    of_grad_cam = peers.grad_cam(model, layer, X, index, "GradCAM++")
    of_torchcam = peers.torchcam(model, layer, X, index, "GradCAM++")
    # ours is the definition, grad-cam's has 1e-6 in the denominator, torchcam's has no denominator
    assert peers.difference(own.signed_cam, of_layer(layer, weights(0))) < EQUAL
    assert peers.difference(of_grad_cam, normalised(of_layer(layer, weights(1e-6)))) < 10 * EQUAL
    assert peers.difference(of_torchcam, at_low_resolution(of_layer(layer, undivided))) < 10 * EQUAL
    # with large gradients grad-cam's is the definition too
    loud = louder(model, 1e5)
    same = as_grad_cam(GradCAM(loud).explain(X, index, layer, "GradCAM++"))
    assert peers.difference(peers.grad_cam(loud, layer, X, index, "GradCAM++"), same) < EQUAL


@pytest.mark.parametrize("layer", TINY)
def test_finercam_of_each(layer):
    model, index = network("tiny"), target("tiny")
    cam = engine("tiny")
    own = cam.explain(X, index, layer, "FinerCAM")
    assert isinstance(own.target, Finer)
    against = list(own.target.against)

    def weighed(scores: Tensor) -> Tensor:
        shares = torch.softmax(scores, 0)[against]
        return (shares * (scores[index] - scores[against])).sum() / (shares.sum() + 1e-9)

    # grad-cam's: the other classes weighed by their probabilities
    theirs = peers.grad_cam(model, layer, X, index, "FinerCAM")
    assert peers.difference(theirs, as_grad_cam(cam.explain(X, weighed, layer))) < EQUAL
    # given the definition as its target, grad-cam gives our map
    mean = peers.grad_cam(model, layer, X, own.target, "GradCAM")
    assert peers.difference(mean, as_grad_cam(own)) < EQUAL
    # torchcam's gamma is 0.6 where nothing is said
    softer = cam.explain(X, Finer(index, tuple(against), gamma=0.6), layer)
    assert (
        peers.difference(peers.torchcam(model, layer, X, index, "FinerCAM", gamma=0.6), as_torchcam(softer))
        < EQUAL
    )


def scorecam(layer: str, mask_of: Callable[[Tensor], Tensor]) -> Tensor:
    """The signed map by a loop over the channels, in float32 as the peers do it."""
    model, index = network("tiny"), target("tiny")
    A = engine("tiny").explain(X, index, layer).activations
    with torch.no_grad():
        scores = torch.stack([model(X * mask_of(channel[None, None]))[0, index] for channel in A])
    return weighted_sum(torch.softmax(scores, 0), A)


def scaled(mask: Tensor) -> Tensor:
    return (mask - mask.min()) / (mask.max() - mask.min()).clamp(min=1e-30)


@pytest.mark.parametrize("layer", TINY[1:])
def test_scorecam_of_each(layer):
    def corners(mask: Tensor) -> Tensor:
        return scaled(F.interpolate(mask, X.shape[2:], mode="bilinear", align_corners=True))

    def scaled_first(mask: Tensor) -> Tensor:
        return F.interpolate(scaled(mask), X.shape[2:], mode="bilinear", align_corners=False)

    def definition(mask: Tensor) -> Tensor:
        return scaled(F.interpolate(mask, X.shape[2:], mode="bilinear", align_corners=False))

    model, index = network("tiny"), target("tiny")
    own = engine("tiny").explain(X, index, layer, "ScoreCAM")
    assert peers.difference(own.signed_cam, scorecam(layer, definition)) < 5 * EQUAL
    theirs = peers.grad_cam(model, layer, X, index, "ScoreCAM")
    assert peers.difference(theirs, normalised(scorecam(layer, corners))) < 5 * EQUAL
    theirs = peers.torchcam(model, layer, X, index, "ScoreCAM")
    assert peers.difference(theirs, at_low_resolution(scorecam(layer, scaled_first))) < 5 * EQUAL


def test_ablationcam_where_activations_are_negative():
    # before a ReLU grad-cam puts in -1e7 for the channel instead of 0
    model, index = network("tiny"), target("tiny")
    exact = special.exact("tiny").requires_grad_(False)
    x = exact.pool(F.relu(exact.stem(X.double())))
    A = exact.conv(x + exact.block(x))

    def weights(rest: Callable[[Tensor], Tensor], put: Callable[[int], float]) -> Tensor:
        score, found = exact.fc(rest(A).mean((2, 3)))[0, index], []
        for k in range(A.shape[1]):
            without = A.clone()
            without[:, k] = put(k)
            found.append((score - exact.fc(rest(without).mean((2, 3)))[0, index]) / score)
        return torch.stack(found)

    def nothing(k: int) -> float:
        return 0.0

    def lower_and_lower(k: int) -> float:
        # the minimum is taken over the whole batch, which holds the values put in for the channels before
        return float(A.min()) - 1e7 * (k + 1)

    def identity(a: Tensor) -> Tensor:
        return a

    assert float(A.min()) < 0
    own = engine("tiny").explain(X, index, "conv", "AblationCAM")
    assert peers.difference(own.alpha, weights(F.relu, nothing)) < EQUAL
    assert peers.difference(own.signed_cam, weighted_sum(weights(F.relu, nothing), A[0])) < EQUAL
    # before a ReLU that is 0 too, but without one the score drops by millions, by more for each channel
    assert torch.allclose(weights(F.relu, lower_and_lower), weights(F.relu, nothing))
    model = copy.deepcopy(model)
    model.act = nn.Identity()
    theirs = peers.grad_cam(model, "conv", X, index, "AblationCAM")
    assert peers.difference(theirs, normalised(weighted_sum(weights(identity, lower_and_lower), A[0]))) < 5 * EQUAL
    found = GradCAM(model).explain(X, index, "conv", "AblationCAM")
    assert peers.difference(found.signed_cam, weighted_sum(weights(identity, nothing), A[0])) < EQUAL
    assert peers.difference(theirs, as_grad_cam(found)) > 0.05


def test_a_convolution_with_an_in_place_relu_behind_it():
    found = special.in_place_relu()
    definition = "A before, g before"
    meant = {
        "gradcam_widget": definition,
        "captum": definition,
        "grad-cam": "A after, g before",
        "torchcam": "A after, g after",
    }
    assert found.keys() == meant.keys()
    for name, differences in found.items():
        assert differences[meant[name]] < EQUAL, name
        assert all(value > 0.05 for key, value in differences.items() if key != meant[name]), name


def test_a_module_that_runs_twice():
    found = special.reused_module()
    meant = {
        "gradcam_widget `layer4.1.relu`": "first call",
        "gradcam_widget `layer4.1.relu:2`": "last call",
        "grad-cam": "first call",
        "captum": "last call",
        "torchcam": "last call",
    }
    assert found.keys() == meant.keys()
    for name, differences in found.items():
        assert differences[meant[name]] < EQUAL, name
        assert all(value > 0.05 for key, value in differences.items() if key != meant[name]), name


def test_interpolation_of_captum_is_nearest_unless_it_is_told():
    from captum.attr import LayerAttribution

    own = engine("tiny").explain(X, target("tiny"), "pool")
    size = (64, 64)
    nearest = LayerAttribution.interpolate(as_captum(own, relu=True), size)
    bilinear = LayerAttribution.interpolate(as_captum(own, relu=True), size, interpolate_mode="bilinear")
    assert peers.difference(bilinear[0, 0] / own.cam.max(), own.heatmap()) < EQUAL
    assert peers.difference(nearest[0, 0] / own.cam.max(), own.heatmap()) > 0.05


def test_the_sign_of_grad_cams_principal_component_is_left_to_chance():
    # the same network, with the channels of the layer in another order: the map must not change, theirs may turn
    signs = set()
    for row in rows():
        if row.peer == "grad-cam" and row.method == "EigenCAM":
            model, index = network(row.network), target(row.network)
            for layer in measure(row):
                own = engine(row.network).explain(X, index, layer, "EigenCAM")
                theirs = peers.grad_cam(model, layer, X, index, "EigenCAM")
                same = peers.difference(theirs, as_grad_cam(own)) < EQUAL
                other = peers.difference(theirs, as_grad_cam(negated(own))) < EQUAL
                assert same != other
                signs.add(same)
    assert signs == {True, False}


def test_guided_backpropagation_is_captums():
    from captum.attr import GuidedBackprop, GuidedGradCam

    class Modules(nn.Module):
        """captum sees ReLU modules alone, each of them used once."""

        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 3)
            )
            self.fc = nn.Linear(6, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.body(x).mean((2, 3)))

    torch.manual_seed(1)
    model = Modules().eval()
    cam = GradCAM(model)
    index = next(index for index in range(5) if float(cam.explain(X, index, "body.5").cam.max()) > 0)
    own = cam.explain(X, index, "body.5", "GuidedBackprop").guided
    with peers.quiet():
        theirs = GuidedBackprop(copy.deepcopy(model)).attribute(X.clone(), target=index)[0].detach()
        copied = copy.deepcopy(model)
        product = GuidedGradCam(copied, copied.body[5]).attribute(
            X.clone(), target=index, interpolate_mode="bilinear"
        )
    assert own is not None
    assert peers.difference(theirs, own) < EQUAL
    # Guided Grad-CAM is the product with the map, which captum does not divide by its maximum
    found = cam.explain(X, index, "body.5", "GuidedGradCAM")
    assert float(found.cam.max()) > 0
    assert found.guided is not None
    assert peers.difference(product[0].detach(), found.guided * found.cam.max()) < EQUAL


def test_before_a_layer_norm_hirescam_is_rounding():
    # the norm does not change when its input is multiplied, so sum_k g^k A^k = 0 in every cell
    found = engine("convnext_tiny").explain(X, target("convnext_tiny"), "features.1", "HiResCAM")
    plain = engine("convnext_tiny").explain(X, target("convnext_tiny"), "features.1", "LayerCAM")
    assert float(found.signed_cam.abs().max()) < 1e-3 * float(plain.signed_cam.abs().max())


def test_the_page_is_written(tmp_path, monkeypatch):
    from . import table

    path = tmp_path / "docs" / "parity.md"
    monkeypatch.setattr("sys.argv", ["table", "--write", str(path)])
    assert table.main() == 0
    text = path.read_text(encoding="utf-8")
    assert "| GradCAM | **=** | **=** | **=** | **=** | **=** | **=** |" in text
    assert "| captum | **=** | 0." in text
    assert all(reason in text for reason in DIFFERENT.values())


def test_what_we_ask_of_ours_leaves_the_model_and_theirs_do_not():
    model = copy.deepcopy(network("tiny")).train()
    GradCAM(model).explain(X, 0, "act")
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    with pytorch_grad_cam.GradCAM(model, [model.act]) as extractor:
        extractor(X.clone(), [ClassifierOutputTarget(0)])
    assert not model.training
    assert any(parameter.grad is not None for parameter in model.parameters())


def test_the_target_of_the_comparison_is_a_logit():
    found = engine("tiny").explain(X, target("tiny"), "act")
    assert found.target == ClassLogit(target("tiny"))
