"""Confidence, occlusion, boxes, pointing, mosaics and noise: by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gradcam_widget.engine import GradCAM
from gradcam_widget.evaluate import (
    confidence,
    grid_pointing,
    iou,
    localisation,
    mosaic,
    noise_sensitivity,
    occlusion_agreement,
    pointing_game,
)
from gradcam_widget.inputs import Preprocess
from gradcam_widget.perturbation import Cancelled

from .nets import plain
from .test_evaluate_curves import PICTURE, Red, logit, red


def p(y: float) -> float:
    """Softmax of the logits y and -y."""
    return 1 / (1 + math.exp(-2 * y))


class Channels(nn.Module):
    """A linear head on the means of the input's channels, seen through a convolution that changes nothing."""

    def __init__(self, head: list[list[float]]) -> None:
        super().__init__()
        channels = len(head[0])
        self.conv = nn.Conv2d(channels, channels, 1, bias=False)
        self.fc = nn.Linear(channels, len(head), bias=False)
        with torch.no_grad():
            self.conv.weight.copy_(torch.eye(channels).view(channels, channels, 1, 1))
            self.fc.weight.copy_(torch.tensor(head))
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(x).mean((2, 3)))


# -- confidence ------------------------------------------------------------------------------------------------


def test_the_drop_by_hand():
    # y is the mean of 4, 3, 2, 1. The heatmap is the picture over its maximum, so that 4, 9/4, 1, 1/4 are left.
    found = confidence(GradCAM(Red()), [PICTURE], [0], "conv")
    assert found.whole == pytest.approx([p(2.5)])
    assert found.marked == pytest.approx([p(7.5 / 4)])
    assert found.average_drop == pytest.approx((p(2.5) - p(7.5 / 4)) / p(2.5))
    assert found.increase == 0
    assert "most of the evidence is in the map" in found.verdict


def test_an_increase_by_hand():
    # 4 and -4 cancel out; with 4 alone y is 1. And with nothing it is 0, as before: no increase, no drop.
    picture = red([[4, -4], [0, 0]])
    found = confidence(
        GradCAM(Red()), [picture, picture], [0, 0], heatmaps=[np.array([[1, 0], [0, 0]]), np.zeros((2, 2))]
    )
    assert found.whole == pytest.approx([0.5, 0.5])
    assert found.marked == pytest.approx([p(1), 0.5])
    assert (found.average_drop, found.increase) == (0, 0.5)
    assert "50% of 2 pictures" in found.verdict


def test_a_drop_takes_pictures_in_lists_dicts_and_tensors_and_needs_classes():
    cam = GradCAM(Red())
    both = torch.cat([PICTURE, PICTURE / 2])
    for images in (both, list(both), {"a": both[0], "b": both[1]}):
        assert confidence(cam, images, [0, 0], "conv").whole == pytest.approx([p(2.5), p(1.25)])
    with pytest.raises(ValueError, match="targets: a drop in confidence is one of a class's probability"):
        confidence(cam, [PICTURE], [logit])
    with pytest.raises(ValueError, match="images: expected at least one"):
        confidence(cam, [])
    with pytest.raises(ValueError, match="targets: expected one for each of the 2 pictures; got 1"):
        confidence(cam, both, [0])


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"images": torch.rand(3, 2, 2)}, ValueError, r"images: expected a tensor \(N, C, H, W\), or a list; got"),
        ({"images": {"a.png", "b.png"}}, TypeError, "images: expected a list; got set, which has no order"),
        ({"images": np.array(1)}, TypeError, "images: expected a list; got ndarray. Put a single one into a list"),
        ({"targets": {"a": 0, "b": 1}}, TypeError, r"targets: .* got dict. Give list\(targets.values\(\)\)"),
        ({"targets": [0, 1.5]}, TypeError, r"targets\[1\]: expected None"),
        ({"targets": [0, "cat"]}, ValueError, r"targets\[1\]: got the class name 'cat'"),
        ({"heatmaps": [None, "x"]}, TypeError, r"heatmaps\[1\]: expected numbers \(H, W\); got str"),
        ({"heatmaps": [None]}, ValueError, "heatmaps: expected one for each of the 2 pictures; got 1"),
        ({"progress": 3}, TypeError, "progress: expected a function"),
        ({"cam": None}, TypeError, "cam: expected a gradcam_widget.GradCAM; got NoneType"),
    ],
)
def test_a_wrong_list_is_told_before_the_model_runs(arguments, error, match):
    cam = GradCAM(Red())
    with pytest.raises(error, match=match):
        confidence(**{"cam": cam, "images": [PICTURE, PICTURE], **arguments})
    assert cam.passes.forward == 0


# -- occlusion -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"patch": 3}, "patch: expected a side from 1 to 2 pixels; got 3"),
        ({"patch": 1, "stride": 2}, "stride: expected 1 to 1 pixels"),
        ({"fill": "black"}, "fill: expected mean, grey or blur; got 'black'"),
        ({"fill": np.zeros(2)}, "fill: expected mean, grey or blur"),
    ],
)
def test_what_cannot_cover_a_picture_is_told_before_the_model_runs(arguments, match):
    cam = GradCAM(Red())
    with pytest.raises(ValueError, match=match):
        occlusion_agreement(cam, PICTURE, **arguments)
    assert cam.passes.forward == 0


def test_agreement_with_occlusion_by_hand():
    # A patch of one pixel costs (x - c) / 4, the more the larger the pixel is: the ranks are those of the picture.
    cam = GradCAM(Red())
    found = occlusion_agreement(cam, PICTURE, logit, "conv", patch=1)
    assert found.rank_correlation == pytest.approx(1)
    assert "the two agree" in found.verdict
    turned = occlusion_agreement(cam, PICTURE, logit, heatmap=[[1, 2], [3, 4]], patch=1)
    assert turned.rank_correlation == pytest.approx(-1)
    assert "contradict" in turned.verdict
    assert occlusion_agreement(cam, PICTURE, logit, heatmap=np.ones((2, 2)), patch=1).rank_correlation is None
    with pytest.raises(Cancelled, match="cancelled after"):
        occlusion_agreement(GradCAM(plain()), torch.randn(3, 16, 16), 1, progress=lambda *_: False)


# -- boxes and points ------------------------------------------------------------------------------------------


def test_the_overlap_of_boxes_by_hand():
    # Two squares of 16 share 4: 4 / 28.
    assert iou((0, 0, 4, 4), (2, 2, 6, 6)) == pytest.approx(1 / 7)
    assert iou((0, 0, 2, 2), (2, 0, 4, 2)) == 0
    assert iou((1, 1, 3, 4), (1, 1, 3, 4)) == 1
    assert iou([0, 0, 4.0, 4], np.array([2, 2, 6, 6])) == pytest.approx(1 / 7)


@pytest.mark.parametrize(
    ("box", "error", "match"),
    [
        ((0, 0), ValueError, r"expected a box \(left, top, right, bottom\); got 2 values"),
        (None, TypeError, "got None, a NoneType"),
        ("abcd", TypeError, "got 'abcd', a str"),
        ((0, 0, "4", 4), TypeError, "which are not all numbers"),
        ((True, False, True, True), TypeError, "which are not all numbers"),
        ((0, 0, float("nan"), 4), ValueError, "left up to right"),
        ((10, 10, 4, 4), ValueError, r"is \(left, top, left \+ width, top \+ height\)"),
    ],
)
def test_what_is_no_box_is_told(box, error, match):
    with pytest.raises(error, match=f"^a: .*{match}"):
        iou(box, (0, 0, 4, 4))
    with pytest.raises(error, match=f"^b: .*{match}"):
        iou((0, 0, 4, 4), box)


def test_localisation_by_hand():
    # 20 x 20; a square of 6 x 6 at 1, a lone pixel at 0.2, and weak evidence at 0.1, which the cut at 0.15 drops.
    heat = np.full((20, 20), 0.1)
    heat[4:10, 2:8] = 1
    heat[15, 15] = 0.2
    cam, picture = GradCAM(plain()), torch.rand(3, 20, 20)
    found = localisation(cam, picture, (2, 4, 8, 13), 1, heatmap=heat)
    assert found.box == (2, 4, 8, 10)
    # 36 pixels in both, 54 in the object's box.
    assert (found.overlap, found.hit) == (pytest.approx(36 / 54), True)
    assert "overlap by 0.67 (intersection over union): it finds the object" in found.verdict
    assert localisation(cam, picture, (2, 4, 8, 10), 1, heatmap=heat, threshold=0.05).box == (0, 0, 20, 20)
    mask = np.zeros((20, 20), bool)
    mask[4:13, 2:8] = True
    assert localisation(cam, picture, mask, 1, heatmap=heat).overlap == found.overlap
    nothing = localisation(cam, picture, mask, 1, heatmap=np.zeros((20, 20)))
    assert (nothing.box, nothing.overlap, nothing.hit) == (None, 0, False)


def test_pointing_by_hand():
    # The maximum is at x = 5, y = 2; the nearest pixel of the object at x = 8, y = 6: three across, four down.
    heat = np.zeros((20, 20))
    heat[2, 5] = heat[9, 9] = 1
    cam, picture = GradCAM(plain()), torch.rand(3, 20, 20)
    found = pointing_game(cam, picture, (8, 6, 12, 20), 1, heatmap=heat, tolerance=5)
    assert (found.point, found.distance, found.hit) == ((5, 2), 5, True)
    assert not pointing_game(cam, picture, (8, 6, 12, 20), 1, heatmap=heat, tolerance=4.9).hit
    assert pointing_game(cam, picture, (5, 2, 6, 3), 1, heatmap=heat, tolerance=0).distance == 0
    nowhere = pointing_game(cam, picture, (8, 6, 12, 20), 1, heatmap=heat * 0)
    assert (nowhere.point, nowhere.hit) == (None, False)
    assert "a miss" in nowhere.verdict


@pytest.mark.parametrize(
    ("truth", "error", "match"),
    [
        ((0, 0, 21, 5), ValueError, r"truth: expected a box .* within 20 x 20 .* got \(0, 0, 21, 5\)"),
        ((3, 3, 3, 5), ValueError, "truth: expected a box"),
        ((0, 0, 1.5, 5), TypeError, "not all ints"),
        (np.zeros((20, 20), bool), ValueError, "with 0 pixels"),
        (np.ones((10, 20), bool), ValueError, r"the shape \(10, 20\)"),
        (np.ones((20, 20)), TypeError, "got ndarray of float64"),
        ((1, 2, 3), ValueError, r"got \(1, 2, 3\), 3 values"),
        ([[True, False], [True]], TypeError, "got list"),
        (None, TypeError, "got NoneType"),
    ],
)
def test_what_is_no_region_is_told_before_the_model_runs(truth, error, match):
    cam = GradCAM(plain())
    with pytest.raises(error, match=match):
        localisation(cam, torch.rand(3, 20, 20), truth)
    assert cam.passes.forward == 0
    with pytest.raises(ValueError, match="threshold: expected a share"):
        localisation(cam, torch.rand(3, 20, 20), (0, 0, 5, 5), threshold=2)
    with pytest.raises(ValueError, match="tolerance: expected a number of pixels"):
        pointing_game(cam, torch.rand(3, 20, 20), (0, 0, 5, 5), tolerance=-1)
    with pytest.raises(TypeError, match="tolerance: expected a number of pixels, 0 or more; got '3', a str"):
        pointing_game(cam, torch.rand(3, 20, 20), (0, 0, 5, 5), tolerance="3")
    with pytest.raises(TypeError, match=r"image: a tuple must hold the model's input tensors; got \(int, int\)"):
        localisation(cam, (1, 2), (0, 0, 5, 5))
    for check in (localisation, pointing_game):
        with pytest.raises(TypeError, match="progress: expected a function"):
            check(cam, torch.rand(3, 20, 20), (0, 0, 5, 5), progress=3)
    assert cam.passes.forward == 0


# -- mosaics ---------------------------------------------------------------------------------------------------


def tile(channel: int) -> Tensor:
    picture = torch.zeros(4, 6, 5)
    picture[channel] = 1
    return picture


def test_grid_pointing_by_hand():
    # Picture k is 1 in channel k alone. Class 0 sees channels 0 and 1 alike, so half of its map is on its own
    # cell; class 3 sees 3 with weight 3 and 2 with weight 1: three quarters. The mean of 1/2, 1, 1, 3/4 is 13/16.
    cam = GradCAM(Channels([[1.0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 3]]))
    grid = mosaic(cam, [tile(k) for k in range(4)], [0, 1, 2, 3])
    assert grid.image.shape == (1, 4, 12, 10)
    assert grid.boxes == ((0, 0, 5, 6), (5, 0, 10, 6), (0, 6, 5, 12), (5, 6, 10, 12))
    assert all(bool((grid.image[0, k, t:b, x:r] == 1).all()) for k, (x, t, r, b) in enumerate(grid.boxes))
    found = grid_pointing(cam, grid, "conv")
    assert found.shares == pytest.approx((0.5, 1, 1, 0.75))
    assert (found.score, found.chance) == (pytest.approx(13 / 16), 0.25)
    assert found.verdict.endswith("the maps tell the classes apart.")


def test_a_map_that_is_blind_to_the_class_scores_by_chance():
    cam = GradCAM(Channels([[1.0, 1, 1, 1], [2, 2, 2, 2], [3, 3, 3, 3], [4, 4, 4, 4]]))
    found = grid_pointing(cam, mosaic(cam, {str(k): tile(k) for k in range(4)}, [0, 1, 2, 3]), "conv")
    assert found.shares == pytest.approx((0.25,) * 4)
    assert "do not tell the classes apart" in found.verdict


def test_a_mosaic_takes_predictions_and_names_and_can_be_made_smaller():
    cam = GradCAM(Channels(torch.eye(4).tolist()), class_names=["a", "b", "c", "d"])
    tiles = [tile(k) for k in (2, 0, 3, 1)]
    assert [target.index for target in mosaic(cam, tiles).targets] == [2, 0, 3, 1]
    assert [target.label for target in mosaic(cam, tiles, ["c", "a", "d", "b"]).targets] == ["c", "a", "d", "b"]
    small = mosaic(cam, tiles, cell=3)
    assert small.image.shape == (1, 4, 6, 6)
    assert small.image[0, 2, :3, :3].eq(1).all()


@pytest.mark.parametrize(
    ("pictures", "labels", "match"),
    [
        ([tile(0), tile(1)], None, "pictures: expected 4, 9 or another square number of them; got 2"),
        ([tile(0)] * 4, None, "labels: expected a different class for each picture; got class 0, class 0"),
        ([tile(k) for k in range(4)], [0, 1], "labels: expected one for each of the 4 pictures; got 2"),
        ([tile(k) for k in range(3)] + [torch.zeros(4, 2, 2)], [0, 1, 2, 3], "expected the same size of all"),
    ],
)
def test_what_makes_no_mosaic_is_told(pictures, labels, match):
    with pytest.raises(ValueError, match=match):
        mosaic(GradCAM(Channels(torch.eye(4).tolist())), pictures, labels)


@pytest.mark.parametrize(
    ("labels", "error", "match"),
    [
        ({0: "a", 1: "b", 2: "c", 3: "d"}, TypeError, r"labels: .* Give list\(labels.values\(\)\)"),
        ([0, 1, 2, True], TypeError, r"labels\[3\]: expected None"),
        ([0, 1, 2, "cat"], ValueError, r"labels\[3\]: got the class name 'cat'"),
    ],
)
def test_wrong_labels_of_a_mosaic_are_told(labels, error, match):
    with pytest.raises(error, match=match):
        mosaic(GradCAM(Channels(torch.eye(4).tolist())), [tile(k) for k in range(4)], labels)
    with pytest.raises(TypeError, match=r"cam: expected a gradcam_widget.GradCAM; got NoneType"):
        mosaic(None, [tile(k) for k in range(4)])


def test_a_grid_must_be_a_mosaic():
    grid = mosaic(GradCAM(Channels(torch.eye(4).tolist())), [tile(k) for k in range(4)], range(4))
    with pytest.raises(TypeError, match="progress: expected a function"):
        grid_pointing(GradCAM(Channels(torch.eye(4).tolist())), grid, progress=3)
    with pytest.raises(TypeError, match="grid: expected a Mosaic"):
        grid_pointing(GradCAM(Red()), PICTURE)


# -- noise -----------------------------------------------------------------------------------------------------


def test_sensitivity_by_hand():
    # The map is channel 0 of the input over 4, so it changes as that does: |noise| / |channel|, with the noise
    # drawn as documented.
    cam = GradCAM(Channels([[1.0, 0], [0, 1]]))
    picture = torch.tensor([[[[1.0, 2], [3, 4]], [[9, 9], [9, 9]]]])
    found = noise_sensitivity(cam, picture, 0, "conv", radius=0.5, samples=3, seed=7)
    generator = torch.Generator().manual_seed(7)
    draws = [(2 * torch.rand(1, 2, 2, 2, generator=generator) - 1) * 0.5 for _ in range(3)]
    expected = [float(noise[0, 0].norm()) / math.sqrt(1 + 4 + 9 + 16) for noise in draws]
    np.testing.assert_allclose(found.changes, expected, rtol=1e-5)
    assert found.max == pytest.approx(max(expected))
    worst = int(np.argmax(expected))
    np.testing.assert_allclose(found.worst, (picture + draws[worst])[0, 0] / 4, rtol=1e-5)


def test_noisy_pictures_are_not_kept_and_an_empty_map_is_said_to_be_empty():
    cam = GradCAM(plain())
    noise_sensitivity(cam, torch.randn(3, 16, 16), 1, samples=4)
    assert cam.memory().pictures == 1
    empty = noise_sensitivity(GradCAM(Channels([[-1.0, -1], [0, 1]])), torch.ones(2, 2, 2), 0, "conv")
    assert "is empty" in empty.verdict
    assert empty.max == 0
    with pytest.raises(ValueError, match="radius: expected a positive number"):
        noise_sensitivity(cam, torch.randn(3, 16, 16), radius=0)
    with pytest.raises(TypeError, match="seed: expected an int, as seed=0; got 'a', a str"):
        noise_sensitivity(cam, torch.randn(3, 16, 16), seed="a")
    with pytest.raises(Cancelled, match="after 1 of 4"):
        noise_sensitivity(cam, torch.randn(3, 16, 16), samples=4, progress=lambda *_: False)


# -- all of them -----------------------------------------------------------------------------------------------


def test_all_figures_are_drawn():
    cam, picture = GradCAM(plain()), torch.rand(3, 20, 20)
    channels = GradCAM(Channels(torch.eye(4).tolist()))
    for found in (
        confidence(cam, [picture, picture], [1, 2]),
        occlusion_agreement(cam, picture, 1, patch=10),
        localisation(cam, picture, (2, 4, 8, 13), 1),
        pointing_game(cam, picture, (2, 4, 8, 13), 1),
        noise_sensitivity(cam, picture, 1, samples=2),
        grid_pointing(channels, mosaic(channels, [tile(k) for k in range(4)]), "conv"),
    ):
        for dark in (False, True):
            figure = found.figure(dark=dark)
            figure.canvas.draw()
            assert figure.axes
        assert found.verdict.endswith(".")


def test_noise_is_told_in_grey_levels():
    # A picture from black to white, normalised to -1 to 1: 255 grey levels are two units, 0.1 of one about 13.
    picture = torch.linspace(-1, 1, 300).view(3, 10, 10)
    cam = GradCAM(plain(), transform=Preprocess(10, 10, mean=(0.5,) * 3, std=(0.5,) * 3))
    assert noise_sensitivity(cam, picture, 1, radius=0.1, samples=1).grey_levels == 13
