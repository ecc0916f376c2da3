"""ROAD: holes are filled by the equations, the scores are by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gradcam_widget.engine import GradCAM
from gradcam_widget.evaluate import road
from gradcam_widget.evaluate.road import impute

from .nets import plain
from .test_evaluate_curves import PICTURE, Red, logit, red


def solved(picture: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """The same by a dense system in float64, one equation for each missing pixel."""
    places = [tuple(place) for place in np.argwhere(hole)]
    numbers = {place: at for at, place in enumerate(places)}
    a, b = np.zeros((len(places), len(places))), np.zeros(len(places))
    for (y, x), at in numbers.items():
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                other = (y + dy, x + dx)
                if (dy, dx) == (0, 0) or not (0 <= other[0] < hole.shape[0] and 0 <= other[1] < hole.shape[1]):
                    continue
                weight = 1 / 6 if 0 in (dy, dx) else 1 / 12
                a[at, at] += weight
                if other in numbers:
                    a[at, numbers[other]] -= weight
                else:
                    b[at] += weight * picture[other]
    filled = picture.copy()
    filled[hole] = np.linalg.solve(a, b)
    return filled


def test_a_lone_hole_by_hand():
    # The middle of 1 .. 9 is the mean of its neighbours: (2 + 4 + 6 + 8) / 6 + (1 + 3 + 7 + 9) / 12 = 5. A corner
    # has three: (2 / 6 + 4 / 6 + 5 / 12) / (5 / 12) = 3.4.
    picture = torch.arange(1.0, 10).view(1, 1, 3, 3)
    holes = torch.zeros(2, 3, 3, dtype=torch.bool)
    holes[0, 1, 1] = holes[1, 0, 0] = True
    middle, corner = impute(picture, holes, 1e-7)
    assert float(middle[0, 1, 1]) == pytest.approx(5)
    assert float(corner[0, 0, 0]) == pytest.approx(3.4)
    assert torch.equal(middle[0][~holes[0]], picture[0, 0][~holes[0]])


@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
def test_holes_are_filled_as_a_dense_solver_fills_them(share):
    draw = np.random.default_rng(3)
    picture, hole = draw.random((2, 14, 11)), draw.random((14, 11)) < share
    hole[:6, :6] = True
    found = impute(torch.from_numpy(picture)[None], torch.from_numpy(hole)[None], 1e-12)[0].numpy()
    np.testing.assert_allclose(found, [solved(channel, hole) for channel in picture], atol=1e-8)


def test_a_picture_of_which_nothing_is_known_stays():
    picture = torch.randn(1, 1, 3, 3)
    assert torch.equal(impute(picture, torch.ones(1, 3, 3, dtype=torch.bool))[0], picture[0])


def test_the_score_by_hand():
    # Half of the pixels of 4, 3, 2, 1 in 2 x 2, where each has three neighbours with the weights 2, 2, 1.
    # Without 4 and 3: a = (2 b + 2 * 2 + 1) / 5 and b = (2 a + 2 + 2 * 1) / 5, so a = 33/21, b = 30/21; the score
    # is the mean.
    a, b = 33 / 21, 30 / 21
    # Without 2 and 1: c = (2 * 4 + 2 d + 3) / 5, d = (2 * 3 + 2 c + 4) / 5.
    c = 75 / 21
    d = (10 + 2 * c) / 5
    found = road(GradCAM(Red()), PICTURE, logit, "conv", shares=(0.5,), noise=0)
    assert found.whole == pytest.approx(2.5)
    assert found.most == pytest.approx([(a + b + 3) / 4], rel=1e-4)
    assert found.least == pytest.approx([(7 + c + d) / 4], rel=1e-4)
    assert found.score == pytest.approx(((7 + c + d) - (a + b + 3)) / 8, rel=1e-4)
    assert found.verdict.endswith("What the map marks counts more than what it leaves out.")
    turned = road(GradCAM(Red()), PICTURE, logit, heatmap=[[1, 2], [3, 4]], shares=(0.5,), noise=0)
    assert turned.score == pytest.approx(-found.score)


def test_noise_is_seeded_and_only_in_the_holes():
    cam, picture = GradCAM(Red()), red([[4, 3], [2, 1]])
    once, again, other = (
        road(cam, picture, logit, shares=(0.5,), noise=1.0, seed=seed).most for seed in (0, 0, 1)
    )
    assert once == again != other
    with pytest.raises(ValueError, match="shares: expected some numbers between 0 and 1"):
        road(cam, picture, shares=(0.5, 1.0))
    with pytest.raises(ValueError, match="noise: expected a number, 0 or more"):
        road(cam, picture, noise=-1)
    with pytest.raises(ValueError, match="shares: expected some numbers between 0 and 1; got none"):
        road(cam, picture, shares=np.array([]))
    with pytest.raises(TypeError, match="shares: expected a list; got float"):
        road(cam, picture, shares=0.5)
    with pytest.raises(TypeError, match="seed: expected an int"):
        road(cam, picture, seed="a")
    assert road(cam, picture, logit, shares=np.array([0.5]), noise=1.0).most == once
    road(GradCAM(plain()), torch.rand(3, 20, 20), 1).figure(dark=True).canvas.draw()
