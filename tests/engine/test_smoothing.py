"""Smoothing: the mean over noisy and mirrored copies, the same each time, without a trace."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gradcam_widget.engine import GradCAM, Passes
from gradcam_widget.methods import METHODS
from gradcam_widget.perturbation import Cancelled
from gradcam_widget.smoothing import Smoothing

from .nets import Head, build

X = torch.rand(1, 3, 12, 14, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def net(symmetric: bool = False) -> nn.Module:
    torch.manual_seed(2)
    convs = [nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 5, 3, padding=1)]
    if symmetric:
        for conv in convs:
            conv.weight.data = (conv.weight.data + conv.weight.data.flip(3)) / 2
    return nn.Sequential(convs[0], nn.ReLU(True), convs[1], nn.Tanh(), Head(5)).double().eval()


def by_hand(
    model: nn.Module, x: Tensor, smooth: Smoothing, target: int, layer: str, method: str
) -> tuple[Tensor, Tensor]:
    """The mean over copies made here, each explained by an engine of its own."""
    generator = torch.Generator().manual_seed(smooth.seed)
    spread = smooth.noise * float(x.max() - x.min())
    alphas, maps = [], []
    for _ in range(max(smooth.samples, 1)):
        copy = x
        if smooth.samples:
            copy = x + torch.randn(x.shape, generator=generator).double() * spread
        for mirrored in (False, True) if smooth.flips else (False,):
            found = GradCAM(model).explain(copy.flip(-1) if mirrored else copy, target, layer, method)
            alphas.append(found.alpha)
            maps.append(found.signed_cam.flip(-1) if mirrored else found.signed_cam)
    return torch.stack(alphas).mean(0), torch.stack(maps).mean(0)


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-12) -> None:
    assert float(expected.abs().max()) > 0
    assert float((found - expected).abs().max()) <= tolerance * float(expected.abs().max())


@pytest.mark.parametrize("method", ["GradCAM", "GradCAM++", "HiResCAM", "AblationCAM", "ShapleyCAM"])
@pytest.mark.parametrize(
    "smooth",
    [Smoothing(3), Smoothing(3, flips=True, seed=4), Smoothing(0, flips=True), Smoothing(2, noise=0.5)],
    ids=repr,
)
def test_it_is_the_mean_over_the_copies(method, smooth):
    found = GradCAM(net()).explain(X, 1, "2", method, smooth=smooth)
    alpha, signed = by_hand(net(), X, smooth, 1, "2", method)
    # the noise is drawn in float32
    close(found.alpha, alpha, 1e-7)
    close(found.signed_cam, signed, 1e-7)


@pytest.mark.parametrize("method", METHODS)
def test_without_noise_it_is_the_plain_map(method):
    layer = "3" if method == "CAM" else "2"
    cam = GradCAM(net())
    plain = cam.explain(X, 1, layer, method)
    found = cam.explain(X, 1, layer, method, smooth=Smoothing(2, noise=0))
    close(found.alpha, plain.alpha)
    close(found.signed_cam, plain.signed_cam)
    assert (found.score, found.probability) == (plain.score, plain.probability)


def test_mirrored_copies_of_a_network_that_is_symmetric_give_the_plain_map():
    cam = GradCAM(net(symmetric=True))
    plain, found = cam.explain(X, 1, "2"), cam.explain(X, 1, "2", smooth=Smoothing(0, flips=True))
    close(found.signed_cam, plain.signed_cam)
    close(found.alpha, plain.alpha)
    crooked = GradCAM(net())
    difference = crooked.explain(X, 1, "2", smooth=Smoothing(0, flips=True)).signed_cam
    assert float((difference - crooked.explain(X, 1, "2").signed_cam).abs().max()) > 1e-6


def test_the_seed_decides():
    def of(seed: int) -> Tensor:
        return GradCAM(net()).explain(X, 1, "2", smooth=Smoothing(4, seed=seed)).signed_cam

    torch.manual_seed(1)
    first = of(0)
    torch.manual_seed(2)
    assert torch.equal(of(0), first)
    assert not torch.equal(of(1), first)


def test_more_copies_lie_nearer_to_the_expectation():
    # the spread of the mean over n copies falls with the root of n: from 2 to 32 copies by 4
    cam = GradCAM(net())
    far = GradCAM(net()).explain(X, 1, "2", smooth=Smoothing(256, seed=99)).signed_cam

    def error(samples: int) -> float:
        maps = [cam.explain(X, 1, "2", smooth=Smoothing(samples, seed=s)).signed_cam for s in range(4)]
        return float(torch.stack([(m - far).norm() for m in maps]).mean())

    assert error(32) < error(2) / 2


def test_random_states_are_untouched():
    model = build("stochastic").double().train()
    torch.manual_seed(7)
    np.random.seed(7)
    random.seed(7)
    before = torch.get_rng_state(), np.random.get_state()[1].tobytes(), random.getstate()
    GradCAM(model).explain(X, 1, "conv", smooth=Smoothing(3, flips=True))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1].tobytes(), random.getstate()) == before[1:]


def test_it_is_kept_beside_the_plain_map():
    cam = GradCAM(net())
    plain = cam.explain(X, 1, "2")
    first = cam.explain(X, 1, "2", smooth=Smoothing(3))
    before = cam.passes
    assert torch.equal(cam.explain(X, 1, "2", smooth=Smoothing(3)).signed_cam, first.signed_cam)
    assert torch.equal(cam.explain(X, 1, "2").signed_cam, plain.signed_cam)
    assert cam.passes == before
    assert not torch.equal(first.signed_cam, plain.signed_cam)
    cam.explain(X, 1, "2", smooth=Smoothing(3, seed=1))
    assert cam.passes - before == Passes(3, 3)
    assert cam.memory().pictures == 1


def test_progress_counts_copies_and_cancels():
    told: list[tuple[int, int]] = []
    cam = GradCAM(net())
    cam.explain(X, 1, "2", smooth=Smoothing(3, flips=True), progress=lambda *so_far: told.append(so_far))
    assert told == [(done, 6) for done in range(1, 7)]
    before = cam.memory()
    with pytest.raises(Cancelled, match="cancelled after 1 of 8 passes"):
        cam.explain(X, 2, "2", smooth=Smoothing(), progress=lambda done, total: False)
    assert cam.memory().maps == before.maps


def test_the_layer_is_chosen_for_the_picture_itself():
    found = GradCAM(net()).explain(X, 1, smooth=Smoothing(2))
    assert found.layer.name == GradCAM(net()).default_layer(X, 1).name


def test_half_precision_inputs_stay_what_they_are():
    model = net().float()
    for copy, _ in Smoothing(1).copies(X.half()):
        assert copy.dtype == torch.float16
    assert GradCAM(model).explain(X.float(), 1, "2", smooth=Smoothing(2)).alpha.dtype == torch.float32


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"samples": -1}, "samples: expected 1 or more noisy copies"),
        ({"samples": 0}, "samples: expected 1 or more noisy copies, or 0 with flips=True; got 0"),
        ({"samples": 2.5}, "samples: .* got 2.5"),
        ({"noise": -0.1}, "noise: expected a share of the input's range, 0 or more; got -0.1"),
        ({"noise": float("nan")}, "noise: .* got nan"),
        ({"noise": float("inf")}, "noise: .* got inf"),
    ],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        Smoothing(**arguments)


@pytest.mark.parametrize("smooth", [True, 8, "noise", Smoothing])
def test_what_is_no_smoothing(smooth):
    with pytest.raises(TypeError, match=r"smooth: expected a gradcam_widget.smoothing.Smoothing; got"):
        GradCAM(net()).explain(X, 1, "2", smooth=smooth)


@pytest.mark.parametrize(
    ("smooth", "passes"),
    [(Smoothing(), 8), (Smoothing(1), 1), (Smoothing(0, flips=True), 2), (Smoothing(5, flips=True), 10)],
    ids=repr,
)
def test_passes(smooth, passes):
    assert smooth.passes == passes == len(list(smooth.copies(X)))
