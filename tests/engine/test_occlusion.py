"""The occlusion map by hand, its grid, cancelling it, and Spearman's rank correlation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gradcam_widget.engine import GradCAM, Passes
from gradcam_widget.occlusion import Occlusion, patches, rank_correlation
from gradcam_widget.perturbation import Cancelled

from .nets import PLAIN, build

GREY = 128 / 255


class Mean(nn.Module):
    """Two logits: the mean of the red channel, and twice that of the green one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1, bias=False)
        with torch.no_grad():
            self.conv.weight.copy_(torch.tensor([[1.0, 0, 0], [0, 2.0, 0]]).view(2, 3, 1, 1))
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).mean((2, 3))


class OneByOne(Mean):
    """Takes one picture at a time, as some models with a reshape inside do."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.reshape(1, 3, 4, 4))


def red_left() -> Tensor:
    image = torch.zeros(1, 3, 4, 4)
    image[0, 0, :, :2] = 1
    return image


# -- the map ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [Mean, OneByOne])
def test_the_drop_by_hand(model):
    # y is the mean of 16 red values: 8 / 16 = 0.5. Grey, 128/255, over the upper left patch takes four ones away
    # and puts four greys there: the drop is (4 - 4 * 128/255) / 16. On the right there were zeros: it is
    # -4 * (128/255) / 16.
    left, right = (4 - 4 * GREY) / 16, -4 * GREY / 16
    found = GradCAM(model(), transform=PLAIN).occlude(red_left(), 0, patch=2, stride=2, fill="grey")
    assert found.score == pytest.approx(0.5)
    np.testing.assert_allclose(found.drop, [[left, right], [left, right]], rtol=1e-6)
    assert found.boxes == ((0, 0, 2, 2), (2, 0, 4, 2), (0, 2, 2, 4), (2, 2, 4, 4))
    assert (found.picture, found.fill, found.target.index) == ((4, 4), "grey", 0)
    np.testing.assert_allclose(found.heatmap()[:, 0], left, rtol=1e-6)
    np.testing.assert_allclose(found.heatmap()[:, 3], right, rtol=1e-6)


def test_the_mean_colour_by_hand():
    # The mean red is 8 / 16 = 0.5, as a pixel 127.5, rounded half to even: 128.
    found = GradCAM(Mean(), transform=PLAIN).occlude(red_left(), 0, patch=4, fill="mean")
    assert found.drop.tolist() == [[pytest.approx(0.5 - GREY, abs=1e-6)]]


def test_overlapping_patches_share_their_pixels():
    # Side 2 in steps of 1 over 3 x 3: four places; the middle pixel lies under all of them, each corner under one.
    (rows, columns), boxes = patches((3, 3), 2, 1)
    drop = np.array([[1.0, 2.0], [3.0, 4.0]])
    heat = Occlusion(None, 0.0, drop, boxes, (3, 3), "grey").heatmap()
    assert (rows, columns) == (2, 2)
    assert heat.tolist() == [[1, 1.5, 2], [2, 2.5, 3], [3, 3.5, 4]]


def test_the_last_patch_lies_at_the_edge():
    # Side 3 in steps of 2 over 6 wide and 4 high: 0, 2, and 3, where a further step would stand out.
    (rows, columns), boxes = patches((4, 6), 3, 2)
    assert (rows, columns) == (2, 3)
    assert [box[0] for box in boxes[:3]] == [0, 2, 3]
    assert [box[1] for box in boxes[::3]] == [0, 1]


def test_a_seventh_of_the_shorter_side_in_half_steps_where_nothing_is_said():
    (rows, columns), boxes = patches((224, 448))
    assert boxes[0] == (0, 0, 32, 32)
    assert boxes[1] == (16, 0, 48, 32)
    assert (rows, columns) == (13, 27)
    assert patches((3, 3))[1][0] == (0, 0, 1, 1)


def test_passes_are_counted_told_and_can_be_cancelled():
    model = build("plain")
    cam, told = GradCAM(model), []
    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    cam.occlude(image, 1, patch=4, stride=4, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (16, 16)
    assert cam.passes == Passes(forward=17)
    with pytest.raises(Cancelled, match="cancelled after 4 of 16 passes"):
        cam.occlude(image, 1, patch=4, stride=4, progress=lambda done, total: False)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_each_place_is_the_score_of_that_picture_alone():
    model = build("plain").double()
    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(3)).double()
    found = GradCAM(model, transform=PLAIN).occlude(image, 2, patch=5, fill="grey")
    alone = []
    for x0, y0, x1, y1 in found.boxes:
        covered = image.clone()
        covered[..., y0:y1, x0:x1] = GREY
        alone.append((model(image)[0, 2] - model(covered)[0, 2]).item())
    np.testing.assert_allclose(found.drop.ravel(), alone, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"patch": 5}, r"patch: expected a side from 1 to 4 pixels; got 5"),
        ({"patch": 2.0}, r"patch: expected a side from 1 to 4 pixels; got 2.0"),
        ({"patch": 2, "stride": 3}, r"stride: expected 1 to 2 pixels, .*; got 3"),
        ({"fill": "black"}, r"fill: expected mean, grey or blur; got 'black'"),
        ({"target": 7}, r"target: expected a class from 0 to 1; got 7"),
    ],
)
def test_wrong_arguments_are_refused_in_words(arguments, message):
    with pytest.raises(ValueError, match=message):
        GradCAM(Mean(), transform=PLAIN).occlude(red_left(), **arguments)


def test_a_signal_is_refused():
    model = nn.Sequential(nn.Conv1d(2, 3, 1), nn.AdaptiveAvgPool1d(1), nn.Flatten()).eval()
    with pytest.raises(ValueError, match=r"image: expected a picture \(1, C, H, W\); got shape \(1, 2, 8\)"):
        GradCAM(model).occlude(torch.rand(2, 8))


# -- Spearman --------------------------------------------------------------------------------------------------


def test_rank_correlation_by_hand():
    # Ranks of the second: 2, 1, 4, 3; differences -1, 1, -1, 1. Without ties rho = 1 - 6 sum d^2 / (n (n^2 - 1))
    # = 1 - 6 * 4 / (4 * 15) = 0.6.
    assert rank_correlation([1, 2, 3, 4], [20, 10, 400, 30]) == pytest.approx(0.6)


def test_ties_share_the_mean_rank():
    # Ranks (1, 2.5, 2.5, 4) and (1, 2, 3, 4), each with mean 2.5: deviations (-1.5, 0, 0, 1.5) and
    # (-1.5, -0.5, 0.5, 1.5). The products sum to 4.5, the squares to 4.5 and 5: rho = 4.5 / sqrt(22.5) = 0.9487.
    assert rank_correlation([0, 5, 5, 9], [1, 2, 3, 4]) == pytest.approx(4.5 / 22.5**0.5)


def test_rank_correlation_sees_order_alone():
    values = np.random.default_rng(0).normal(size=50)
    assert rank_correlation(values, np.exp(3 * values)) == pytest.approx(1)
    assert rank_correlation(values, -(values**3)) == pytest.approx(-1)


def test_without_ranks_there_is_no_correlation():
    assert rank_correlation([1, 1, 1], [1, 2, 3]) is None
    assert rank_correlation([], []) is None
    assert rank_correlation([2], [3]) is None
    with pytest.raises(ValueError, match="as many values in both; got 2 and 3"):
        rank_correlation([1, 2], [1, 2, 3])


def test_the_agreement_with_a_heatmap_by_hand():
    # Heat in the left half, where covering costs most: the four places have means 1, 0, 1, 0 and drops 2, 1, 2, 1:
    # the ranks are the same.
    found = GradCAM(Mean(), transform=PLAIN).occlude(red_left(), 0, patch=2, stride=2, fill="grey")
    heat = np.zeros((4, 4))
    heat[:, :2] = 1
    assert found.agreement(heat) == pytest.approx(1)
    assert found.agreement(1 - heat) == pytest.approx(-1)
    assert found.agreement(np.full((4, 4), 0.1)) is None
    with pytest.raises(ValueError, match=r"heatmap: expected the size of the picture, \(4, 4\); got \(2, 2\)"):
        found.agreement(np.zeros((2, 2)))
