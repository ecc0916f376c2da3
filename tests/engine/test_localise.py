"""The box of a heatmap: by hand, against a slow search from pixel to pixel, and by what must not change it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gradcam_widget.engine import GradCAM
from gradcam_widget.heatmap import as_heatmap
from gradcam_widget.localise import enlarge, find_box, largest_segment

from .nets import build


def drawn(*lines: str) -> np.ndarray:
    return np.array([[character == "#" for character in line] for line in lines])


def test_the_largest_segment_by_hand() -> None:
    # Two segments of 4 and 5 pixels that touch at a corner only, which does not join them.
    mask = drawn(
        "##...",
        "##.##",
        "..###",
        ".....",
    )
    wanted = drawn(
        ".....",
        "...##",
        "..###",
        ".....",
    )
    assert np.array_equal(largest_segment(mask), wanted)
    # Arms that meet only further down are one segment: 3 + 3 + 5 = 11 pixels.
    comb = drawn(
        "#.#.#",
        "#.#.#",
        "#####",
    )
    assert np.array_equal(largest_segment(comb), comb)
    # Of equals the first one.
    assert np.array_equal(largest_segment(drawn("#.#", "...", "##.")), drawn("...", "...", "##."))
    assert np.array_equal(largest_segment(drawn("..#", "#..", "...")), drawn("..#", "...", "..."))
    assert largest_segment(drawn("...", "...")) is None


def test_a_box_by_hand() -> None:
    heatmap = np.array(
        [
            [0.0, 0.1, 0.0, 0.0, 0.9],
            [0.0, 0.3, 0.2, 0.0, 0.0],
            [0.0, 0.3, 0.1, 0.0, 0.0],
            [2.0, 0.0, 0.0, 0.0, 0.0],
        ]
    )
    # The level is 0.15 * 2 = 0.3: {(1, 1), (2, 1)}, which is larger than the two single pixels that are stronger.
    assert find_box(heatmap) == (1, 1, 2, 3)
    # From 0.1 on the three pixels at 0.1 and 0.2 belong to it.
    assert find_box(heatmap, 0.05) == (1, 0, 3, 3)
    assert find_box(heatmap, 1) == (0, 3, 1, 4)
    # At 0 everything that is positive.
    assert find_box(heatmap, 0) == (1, 0, 3, 3)
    assert find_box(np.zeros((3, 4))) is None
    assert find_box(-heatmap) is None
    assert find_box(np.ones((3, 4))) == (0, 0, 4, 3)


def by_search(mask: np.ndarray) -> list[set[tuple[int, int]]]:
    """All segments, each found by walking from pixel to pixel."""
    left = {(int(y), int(x)) for y, x in zip(*np.nonzero(mask), strict=True)}
    found = []
    for start in sorted(left):
        if start not in left:
            continue
        segment, edge = set(), [start]
        while edge:
            y, x = edge.pop()
            if (y, x) in left:
                left.remove((y, x))
                segment.add((y, x))
                edge += [(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)]
        found.append(segment)
    return found


@pytest.mark.parametrize("share", [0.2, 0.45, 0.55, 0.6, 0.8])
def test_random_masks_against_a_search(share: float) -> None:
    random = np.random.default_rng(4)
    for _ in range(30):
        mask = random.random(random.integers(1, 24, 2)) < share
        segments = by_search(mask)
        if not segments:
            assert largest_segment(mask) is None
            continue
        most = max(map(len, segments))
        wanted = next(segment for segment in segments if len(segment) == most)
        got = largest_segment(mask)
        assert {(int(y), int(x)) for y, x in zip(*np.nonzero(got), strict=True)} == wanted


def test_what_must_not_change_the_box() -> None:
    random = np.random.default_rng(5)
    for _ in range(40):
        # Whole numbers, so that no factor moves a value across the level.
        heatmap = random.integers(0, 40, (11, 17)).astype(float)
        box = find_box(heatmap, 0.5)
        left, top, right, bottom = box
        assert find_box(heatmap * 8, 0.5) == box
        segment = largest_segment(heatmap >= 0.5 * heatmap.max())
        sizes = sorted(map(len, by_search(heatmap >= 0.5 * heatmap.max())))
        assert segment.sum() == sizes[-1]
        assert segment[top:bottom, left:right].sum() == sizes[-1]
        if len(sizes) > 1 and sizes[-1] == sizes[-2]:
            continue  # which of two equals comes first depends on the direction of reading
        assert find_box(heatmap[:, ::-1], 0.5) == (17 - right, top, 17 - left, bottom)
        assert find_box(heatmap.T, 0.5) == (top, left, bottom, right)


def test_enlarging_is_the_heatmaps_bilinear_interpolation() -> None:
    random = np.random.default_rng(6)
    for shape, size in [
        ((7, 7), (224, 224)),
        ((4, 3), (31, 50)),
        ((1, 5), (6, 6)),
        ((9, 8), (5, 4)),
        ((3, 3), (3, 3)),
    ]:
        cam = random.random(shape)
        expected = torch.nn.functional.interpolate(
            torch.from_numpy(cam)[None, None], size=size, mode="bilinear", align_corners=False
        )[0, 0]
        np.testing.assert_allclose(enlarge(cam, size), expected.numpy(), rtol=0, atol=1e-14)


def test_the_box_of_an_explanation() -> None:
    # A cam with a 2 x 2 block at the strongest and a weaker single cell, at 32 pixels a cell: along a line through
    # the block the value falls from 1 at the centre of its last cell to 0 at the centre of the next one, so it is
    # 0.15 at 85 % of the way: 64 - 16 + 0.85 * 32 = 75.2, and pixel centres up to 74.5 are inside.
    cam = torch.zeros(7, 7)
    cam[0:2, 0:2] = 1
    cam[5, 5] = 0.9
    heatmap = as_heatmap(cam, (224, 224)).numpy()
    assert find_box(heatmap) == (0, 0, 75, 75)
    model = build("plain")
    found = GradCAM(model).explain(torch.rand(1, 3, 12, 14, generator=torch.Generator().manual_seed(3)), 1, "0")
    left, top, right, bottom = find_box(found.heatmap().numpy())
    assert 0 <= left < right <= 14
    assert 0 <= top < bottom <= 12


@pytest.mark.parametrize(
    ("heatmap", "threshold", "message"),
    [
        (np.zeros(4), 0.15, "heatmap: expected finite values"),
        (np.array([[np.nan]]), 0.15, "heatmap: expected finite values"),
        (np.ones((2, 2)), 1.5, "threshold: expected a share of the maximum, from 0 to 1; got 1.5"),
        (np.ones((2, 2)), float("nan"), "threshold: expected a share"),
    ],
)
def test_wrong_arguments_are_told(heatmap: np.ndarray, threshold: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_box(heatmap, threshold)
