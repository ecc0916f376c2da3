"""Concepts of pixels, on pictures of which one knows what they show."""

from __future__ import annotations

import numpy as np
import pytest

from gradcam_widget.concepts import simple_concepts


def flat(colour: tuple[int, int, int]) -> np.ndarray:
    return np.full((28, 28, 3), colour, np.uint8)


@pytest.mark.parametrize(
    ("colour", "names"),
    [
        ((220, 20, 30), {"red"}),
        ((230, 130, 20), {"orange"}),
        ((230, 220, 30), {"yellow"}),
        ((30, 160, 40), {"green"}),
        ((30, 60, 200), {"blue"}),
        ((200, 40, 200), {"purple"}),
        ((10, 10, 12), {"dark"}),
        ((250, 251, 249), {"bright"}),
        ((128, 128, 128), {"grey"}),
        ((0, 0, 0), {"dark"}),
    ],
)
def test_a_flat_colour_is_that_colour_and_plain(colour, names):
    found = simple_concepts(flat(colour))
    assert {name for name, mask in found.items() if mask.all()} == names | {"plain"}
    assert not any(mask.any() for name, mask in found.items() if name not in names | {"plain"})


def test_each_half_has_its_own():
    picture = flat((220, 20, 30))
    picture[:, 14:] = 30, 60, 200
    found = simple_concepts(picture)
    assert (found["red"][:, :14].all(), found["red"][:, 14:].any()) == (True, False)
    assert (found["blue"][:, 14:].all(), found["blue"][:, :14].any()) == (True, False)
    picture[:, 14:] = 250
    assert simple_concepts(picture)["stripes"][:, 13:15].all()  # the edge is a change in one direction


def test_stripes_have_one_direction_and_texture_has_several():
    wave = (127 + 100 * np.sin(np.arange(56) * 1.1)).astype(np.uint8)
    stripes = np.repeat(np.tile(wave, (56, 1))[..., None], 3, 2)
    found = simple_concepts(stripes)
    assert found["stripes"].mean() > 0.95
    assert not found["texture"].any()
    assert simple_concepts(stripes.transpose(1, 0, 2).copy())["stripes"].mean() > 0.95
    noise = np.repeat(np.random.default_rng(0).integers(0, 256, (112, 112, 1)).astype(np.uint8), 3, 2)
    found = simple_concepts(noise)
    assert found["texture"].mean() > 0.85
    assert found["stripes"].mean() < 0.02
    assert not found["plain"].any()


@pytest.mark.parametrize(
    "picture", [np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)]
)
def test_anything_else_is_refused(picture):
    with pytest.raises(ValueError, match="uint8 \\(H, W, 3\\)"):
        simple_concepts(picture)
