"""From maps to pixels: exact upsampling, matplotlib's colours, blending without hidden steps."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from gradcam_widget.render import COLORMAPS, bilinear, colour, overlay, table

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ((7, 7), (224, 224)),
        ((14, 14), (224, 224)),
        ((1, 1), (5, 9)),
        ((1, 6), (20, 20)),
        ((7, 10), (225, 333)),
        ((3, 5), (3, 5)),
        ((9, 8), (4, 3)),  # smaller
        ((2, 3), (1, 1)),
        ((56, 56), (100, 31)),
    ],
)
def test_bilinear_is_torchs(short, long):
    values = RNG.standard_normal(short)
    expected = F.interpolate(torch.from_numpy(values)[None, None], size=long, mode="bilinear", align_corners=False)
    np.testing.assert_allclose(bilinear(values, long), expected[0, 0].numpy(), rtol=0, atol=1e-12)


def test_bilinear_keeps_a_constant_and_the_range():
    np.testing.assert_allclose(bilinear(np.full((4, 6), 0.3), (50, 70)), 0.3, rtol=0, atol=1e-15)
    values = RNG.random((7, 7))
    large = bilinear(values, (224, 224))
    assert values.min() - 1e-15 <= large.min() <= large.max() <= values.max() + 1e-15


@pytest.mark.parametrize("name", COLORMAPS)
def test_tables_are_matplotlibs(name):
    expected = (matplotlib.colormaps[name](np.arange(256))[:, :3] * 255 + 0.5).astype(int)
    found = table(name)
    assert (found.shape, found.dtype) == ((256, 3), np.uint8)
    assert np.abs(found.astype(int) - expected).max() <= 1  # matplotlib truncates where it gives bytes
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 0


def test_kinds_of_tables():
    assert set(COLORMAPS.values()) == {"sequential", "diverging"}
    assert next(iter(COLORMAPS)) == "viridis"
    assert list(COLORMAPS)[-1] == "turbo"
    for name, kind in COLORMAPS.items():
        lightness = table(name).astype(float) @ (0.2126, 0.7152, 0.0722)
        middle = lightness[118:138].mean()
        assert (middle > max(lightness[0], lightness[-1]) + 20) == (kind == "diverging" or name == "turbo"), name


def test_an_unknown_table():
    with pytest.raises(ValueError, match=r"colormap: expected one of \['viridis', .*\]; got 'jet'"):
        table("jet")


def test_colours_of_values():
    steps = np.arange(256) / 255
    np.testing.assert_array_equal(colour(steps, "viridis"), table("viridis"))
    np.testing.assert_array_equal(
        colour(np.array([[-1.0, 2.0]]), "viridis"), [[table("viridis")[0], table("viridis")[-1]]]
    )
    assert colour(np.zeros((2, 3)), "gray").shape == (2, 3, 3)


PICTURE = RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", COLORMAPS)
def test_where_there_is_no_evidence_the_picture_is_untouched(name):
    heatmap = np.zeros((6, 8))
    heatmap[2:4, 3:5] = 1
    for opacity in (0.0, 0.3, 0.5, 1.0):
        found = overlay(PICTURE, heatmap, name, opacity)
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found[heatmap == 0], PICTURE[heatmap == 0])
    np.testing.assert_array_equal(overlay(PICTURE, heatmap, name, 0), PICTURE)
    np.testing.assert_array_equal(overlay(PICTURE, heatmap, name, 1)[2, 3], table(name)[255])


def test_the_blend_worked_by_hand():
    # value 0.25: mixed in by opacity · min(1, 2 · 0.25) = 0.4 · 0.5 = 0.2; gray(0.25) = 64
    found = overlay(np.full((1, 1, 3), 200, dtype=np.uint8), np.full((1, 1), 0.25), "gray", 0.4)
    assert found.tolist() == [[[round(200 * 0.8 + 64 * 0.2)] * 3]]


def test_a_pixels_colour_does_not_depend_on_its_neighbours():
    heatmap = RNG.random((6, 8))
    whole = overlay(PICTURE, heatmap, "viridis", 0.5)
    for row, column in ((0, 0), (3, 4), (5, 7)):
        alone = overlay(PICTURE[row : row + 1, column : column + 1], heatmap[row : row + 1, column : column + 1])
        np.testing.assert_array_equal(alone[0, 0], whole[row, column])


@pytest.mark.parametrize("opacity", [-0.1, 1.01, float("nan"), 50])
def test_opacities_that_are_none(opacity):
    with pytest.raises(ValueError, match="opacity: expected a number from 0 to 1; got"):
        overlay(PICTURE, np.zeros((6, 8)), "viridis", opacity)
