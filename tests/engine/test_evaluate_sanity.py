"""Randomised weights, other classes, and the similarity of maps: by hand, and beside scikit-image."""

from __future__ import annotations

import gc
import math
import threading
import weakref

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torch import Tensor, nn
from torch.nn import functional as F

from gradcam_widget.engine import GradCAM
from gradcam_widget.evaluate import other_classes, randomise_weights, ssim
from gradcam_widget.evaluate.stages import stages_of
from gradcam_widget.perturbation import Cancelled

from .nets import plain


class Mixed(nn.Module):
    """Channel k is input k; logits are a linear head on the channels' means. Without ``conv`` having a say."""

    def __init__(self, head: list[list[float]]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 1, bias=False)
        self.fc = nn.Linear(2, len(head), bias=False)
        with torch.no_grad():
            self.conv.weight.copy_(torch.eye(2).view(2, 2, 1, 1))
            self.fc.weight.copy_(torch.tensor(head))
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(x).mean((2, 3)))


class SameWhatever(nn.Module):
    """A map that does not depend on what was learnt: all weights count by their absolute values."""

    class Conv(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            return F.conv2d(x, self.weight.abs())

    class Head(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return F.linear(x, self.weight.abs())

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = self.Conv(1, 1, 1, bias=False), self.Head(1, 2, bias=False)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(x).mean((2, 3)))


UP = [[1.0, 2], [3, 4]]
DOWN = [[4.0, 3], [2, 1]]
PICTURE = torch.tensor([[UP, DOWN]])


def test_a_map_of_random_weights_by_hand():
    # The map is relu(sum_k v_k x_k / Z) with the head's weights v of class 0. Those are the first draws of the
    # generator: N(0, 2 / fan in) with a fan in of 2, so of standard deviation 1. Then the filters.
    found = randomise_weights(GradCAM(Mixed([[1, 0], [0, 1]])), PICTURE, 0, "conv", seed=3)
    generator = torch.Generator().manual_seed(3)
    head = torch.randn(2, 2, generator=generator).double()
    filters = torch.randn(2, 2, 1, 1, generator=generator).double()
    x = PICTURE[0].double()
    first = sum(head[0, k] / 4 * x[k] for k in range(2)).clamp(min=0)
    maps = [sum(filters[k, i, 0, 0] * x[i] for i in range(2)) for k in range(2)]
    both = sum(head[0, k] / 4 * maps[k] for k in range(2)).clamp(min=0)
    assert found.stages == ("fc", "conv")
    np.testing.assert_allclose(found.original, np.array(UP) / 4, rtol=1e-6)
    np.testing.assert_allclose(found.maps[0], first, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(found.maps[1], both, rtol=1e-5, atol=1e-7)


def test_independent_stages_leave_the_others_as_learnt():
    found = randomise_weights(GradCAM(Mixed([[1, 0], [0, 1]])), PICTURE, 0, "conv", seed=3, order="independent")
    generator = torch.Generator().manual_seed(3)
    torch.randn(2, 2, generator=generator)
    filters = torch.randn(2, 2, 1, 1, generator=generator).double()
    x = PICTURE[0].double()
    # The head is as learnt again: alpha of class 0 is 1/4 for channel 0 and 0 for channel 1.
    expected = (sum(filters[0, i, 0, 0] * x[i] for i in range(2)) / 4).clamp(min=0)
    np.testing.assert_allclose(found.maps[1], expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("order", ["cascading", "independent"])
def test_a_map_that_does_not_depend_on_the_weights_is_found_out(order):
    picture = torch.rand(1, 1, 16, 16)
    found = randomise_weights(GradCAM(SameWhatever()), picture, 0, "conv", order=order)
    # Every map is the picture times a positive number.
    assert found.rank_correlations == pytest.approx((1.0, 1.0))
    assert found.ssims == pytest.approx((1.0, 1.0), abs=1e-6)
    assert ("does not depend" if order == "cascading" else "hardly depends") in found.verdict


def test_a_map_that_turns_round_is_said_to_depend_on_what_was_learnt():
    # A seed whose first draws speak for channel 1 more than for channel 0: the map turns from UP to DOWN.
    seed = next(
        seed
        for seed in range(99)
        if (draws := torch.randn(2, 2, generator=torch.Generator().manual_seed(seed)))[0, 1] > 2 * abs(draws[0, 0])
    )
    found = randomise_weights(GradCAM(Mixed([[1, 0], [0, 1]])), PICTURE, 0, "conv", seed=seed, stages=1)
    assert found.stages == ("fc to conv",)
    found = randomise_weights(GradCAM(Mixed([[1, 0], [0, 1]])), PICTURE, 0, "conv", seed=seed)
    assert found.rank_correlations[0] == pytest.approx(-1)
    assert found.ssims == (None, None)  # two pixels a side are fewer than a window
    assert "it depends on what was learnt" in found.verdict


def test_the_model_is_untouched_and_its_copy_freed(monkeypatch):
    model = plain().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    made, copied = [], GradCAM.copy

    def copy(self):
        twin = copied(self)
        made.append(weakref.ref(twin.model))
        return twin

    monkeypatch.setattr(GradCAM, "copy", copy)
    cam, picture = GradCAM(model), torch.randn(3, 16, 16)
    state = torch.get_rng_state()
    randomise_weights(cam, picture, 1)
    gc.collect()
    assert [reference() for reference in made] == [None]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())
    assert torch.equal(torch.get_rng_state(), state)


def test_norms_begin_anew_and_biases_are_zero():
    model = plain()
    kept = {}

    class Watching(GradCAM):
        def copy(self):
            twin = super().copy()
            kept.update(enumerate([twin.model]))
            return twin

    with torch.no_grad():
        model[1].running_mean.fill_(3)
    randomise_weights(Watching(model), torch.randn(3, 16, 16), 1)
    twin = kept[0]
    assert twin[1].weight.tolist() == [1.0] * 8
    assert twin[1].running_mean.tolist() == [0.0] * 8
    assert twin[0].bias.abs().max() == 0
    # N(0, 2/27) over 216 draws: the standard deviation is known to some 5 %.
    assert float(twin[0].weight.detach().std()) == pytest.approx(math.sqrt(2 / 27), rel=0.2)


def test_stages_go_from_the_output_back_and_norms_belong_to_what_runs_before():
    model = plain()
    found = stages_of(model, lambda: model(torch.randn(1, 3, 8, 8)), 8)
    assert [(stage.name, stage.modules) for stage in found] == [("7", ("7",)), ("3", ("3",)), ("0", ("0", "1"))]
    found = stages_of(model, lambda: model(torch.randn(1, 3, 8, 8)), 2)
    assert [stage.name for stage in found] == ["7", "3 to 0"]


def test_stages_of_a_deep_model_are_its_blocks():
    block = lambda: nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1))  # noqa: E731
    model = nn.Sequential()
    model.add_module("stem", nn.Conv2d(2, 2, 1))
    model.add_module("blocks", nn.Sequential(*(block() for _ in range(4))))
    model.add_module("unused", nn.Identity())
    model.add_module("head", nn.Conv2d(2, 2, 1))
    found = stages_of(model.eval(), lambda: model(torch.randn(1, 2, 3, 3)), 4)
    assert [stage.name for stage in found] == ["head", "blocks.3", "blocks.2 to blocks.1", "blocks.0 to stem"]
    assert found[1].modules == ("blocks.3.0", "blocks.3.1", "blocks.3.2")
    assert found[3].modules == ("stem", "blocks.0.0", "blocks.0.1", "blocks.0.2")


def test_a_model_that_cannot_be_copied_is_told_in_words():
    model = plain()
    model.lock = threading.Lock()
    with pytest.raises(TypeError, match=r"Sequential cannot be copied .* weights are changed in a copy only"):
        randomise_weights(GradCAM(model), torch.randn(3, 16, 16), 1)


def test_cancelling_frees_the_copy_and_leaves_the_model():
    cam, heard = GradCAM(plain()), []
    randomise_weights(cam, torch.randn(3, 16, 16), 1, progress=lambda *at: heard.append(at))
    assert heard == [(1, 3), (2, 3), (3, 3)]
    with pytest.raises(Cancelled, match="cancelled after 1 of 3"):
        randomise_weights(cam, torch.randn(3, 16, 16), 1, progress=lambda *_: False)
    with pytest.raises(Cancelled, match="cancelled after"):  # within the passes of one map, too
        randomise_weights(cam, torch.randn(3, 16, 16), 1, method="ScoreCAM", progress=lambda done, _: done < 0)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"order": "random"}, ValueError, "order: expected cascading or independent; got 'random'"),
        ({"order": np.zeros(2)}, ValueError, "order: expected cascading or independent"),
        ({"stages": 0}, ValueError, "stages: expected 1 or more; got 0"),
        ({"seed": "a"}, TypeError, "seed: expected an int, as seed=0; got 'a', a str"),
        ({"seed": None}, TypeError, "seed: expected an int"),
    ],
)
def test_wrong_arguments_are_told_before_the_model_runs(arguments, error, match):
    cam = GradCAM(plain())
    with pytest.raises(error, match=match):
        randomise_weights(cam, torch.randn(3, 16, 16), **arguments)
    assert cam.passes.forward == 0


def test_numbers_of_numpy_and_torch_are_numbers():
    cam, picture = GradCAM(plain()), torch.randn(3, 16, 16)
    plainly = other_classes(cam, picture, 1, classes=2, seed=3)
    assert other_classes(cam, picture, 1, classes=np.int64(2), seed=torch.tensor(3)).classes == plainly.classes
    with pytest.raises(TypeError, match="seed: expected an int"):
        other_classes(cam, picture, 1, seed=1.5)


# -- other classes ---------------------------------------------------------------------------------------------


def test_other_classes_by_hand():
    # Class 0 is UP. Class 1 is twice that: the same ranks. Class 2 is DOWN: the ranks turned round. Class 3 has no
    # map. The mean of 1 and -1 is 0.
    cam = GradCAM(Mixed([[1, 0], [2, 0], [0, 1], [0, 0]]))
    found = other_classes(cam, PICTURE, 0, "conv")
    by_class = dict(zip(found.classes, found.rank_correlations, strict=True))
    assert by_class == {1: pytest.approx(1), 2: pytest.approx(-1), 3: None}
    assert found.mean == pytest.approx(0)
    assert "belongs to the class" in found.verdict


def test_a_method_that_is_blind_to_the_class_is_found_out():
    found = other_classes(GradCAM(plain()), torch.randn(3, 16, 16), 1, method="EigenCAM")
    assert found.mean == pytest.approx(1)
    assert "says little about the class" in found.verdict
    assert sorted(found.classes) == [0, 2, 3, 4]


def test_other_classes_need_classes():
    with pytest.raises(ValueError, match="target: other classes are drawn in place of a class"):
        other_classes(GradCAM(plain()), torch.randn(3, 16, 16), lambda scores: scores.sum())
    lone = nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 1)).eval()
    with pytest.raises(ValueError, match="other classes are drawn in place of a class; got"):
        other_classes(GradCAM(lone), torch.randn(3, 16, 16))


def test_an_empty_map_is_said_to_be_empty():
    cam = GradCAM(Mixed([[-1, -1], [0, 1]]))
    assert "is empty" in randomise_weights(cam, PICTURE, 0, "conv").verdict
    assert "nothing to compare" in other_classes(cam, PICTURE, 0, "conv").verdict


def test_the_figures_are_drawn():
    cam, picture = GradCAM(plain()), torch.randn(3, 16, 16)
    for found in (randomise_weights(cam, picture, 1), other_classes(cam, picture, 1)):
        for dark in (False, True):
            found.figure(dark=dark).canvas.draw()
    figure = randomise_weights(cam, picture, 1).figure()
    assert len(figure.axes) == 5  # the map as learnt, one for each of three stages, and the curves


# -- similarity ------------------------------------------------------------------------------------------------


def test_the_similarity_of_flat_maps_by_hand():
    # Without variance the second factor is 1: (2 a b + c1) / (a^2 + b^2 + c1) with c1 = 0.01^2.
    a, b = np.full((12, 12), 0.5), np.full((12, 12), 0.25)
    assert ssim(a, b) == pytest.approx((2 * 0.125 + 1e-4) / (0.25 + 0.0625 + 1e-4))
    assert ssim(a, a) == pytest.approx(1)
    assert ssim(a[:10], b[:10]) is None
    with pytest.raises(ValueError, match=r"b: expected a map of one size with a, \(12, 12\); got \(11, 12\)"):
        ssim(a, b[:11])
    with pytest.raises(TypeError, match=r"a: expected numbers \(H, W\); got str"):
        ssim("a", b)
    with pytest.raises(ValueError, match=r"b: expected finite values"):
        ssim(a, a * float("nan"))
    for wrong in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="data_range: expected a positive number"):
            ssim(a, b, data_range=wrong)


@pytest.mark.parametrize("size", [(11, 11), (32, 20), (64, 64)])
def test_the_similarity_is_that_of_scikit_image(size):
    draw = np.random.default_rng(1)
    a = draw.random(size)
    for b in (draw.random(size), 0.5 * a + 0.2, np.clip(a + 0.1 * draw.standard_normal(size), 0, 1)):
        theirs = structural_similarity(
            a, b, data_range=1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        assert ssim(a, b) == pytest.approx(theirs, abs=1e-12)
