"""Documented arguments that no other test gives: each has its effect."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gradcam_widget import GradCAM, replay
from gradcam_widget.archive import manifest_of
from gradcam_widget.evaluate import (
    localisation,
    occlusion_agreement,
    other_classes,
    pointing_game,
    road,
)
from gradcam_widget.evaluate.similarity import ssim
from gradcam_widget.perturbation import Cancelled

from .nets import plain

PICTURE = torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def cam() -> GradCAM:
    return GradCAM(plain())


def stop(done: int, total: int) -> bool:
    return False


def test_a_batch_is_explained_by_the_method_that_is_asked_for(cam):
    (found,) = cam.explain_batch([PICTURE], [1], "0", "HiResCAM")
    assert found.method == "HiResCAM"
    assert torch.equal(found.cam, cam.explain(PICTURE, 1, "0", "HiResCAM").cam)


def test_a_replay_of_many_passes_can_be_cancelled(cam):
    manifest = manifest_of(cam.explain(PICTURE, 1, "0", "ScoreCAM"), cam, PICTURE)
    with pytest.raises(Cancelled, match="cancelled after"):
        replay(manifest, cam.model, PICTURE, progress=stop)


@pytest.mark.parametrize("check", [localisation, pointing_game])
def test_boxes_and_points_are_those_of_the_layer_and_method_that_are_asked_for(cam, check):
    found = check(cam, PICTURE, (2, 2, 9, 9), 1, "0", "HiResCAM")
    assert (found.subject.layer, found.subject.method) == ("0", "HiResCAM")
    wanted = cam.explain(PICTURE, 1, "0", "HiResCAM").heatmap()
    assert found.heatmap == pytest.approx(wanted.double().numpy())
    with pytest.raises(Cancelled, match="cancelled after"):
        check(GradCAM(plain()), PICTURE, (2, 2, 9, 9), 1, "0", "ScoreCAM", progress=stop)


def test_the_occlusion_beside_a_map_is_the_one_that_is_asked_for(cam):
    found = occlusion_agreement(cam, PICTURE, 1, "0", "HiResCAM", patch=4, stride=4, fill="grey")
    assert found.subject.method == "HiResCAM"
    alone = cam.occlude(PICTURE, 1, patch=4, stride=4, fill="grey")
    assert found.occlusion.boxes == alone.boxes
    assert len(alone.boxes) == 16  # 16 pixels in steps of 4 along both sides
    assert np.array_equal(found.occlusion.drop, alone.drop)
    assert not np.array_equal(alone.drop, cam.occlude(PICTURE, 1, patch=4, stride=4, fill="blur").drop)


def test_pixels_are_painted_over_until_somebody_cancels(cam):
    with pytest.raises(Cancelled, match="cancelled after"):
        road(cam, PICTURE, 1, "0", progress=stop)


def test_other_classes_are_drawn_by_a_seed_and_can_be_cancelled(cam):
    one, again, other = (other_classes(cam, PICTURE, 1, "0", classes=2, seed=seed).classes for seed in (0, 0, 2))
    assert one == again
    assert one != other
    with pytest.raises(Cancelled, match="cancelled after"):
        other_classes(cam, PICTURE, 1, "0", progress=stop)


def test_the_structural_similarity_of_maps_in_another_range():
    # Both maps and the range are 10 times as large, which changes nothing but the unit.
    a, b = np.random.default_rng(0).random((2, 20, 20))
    assert ssim(10 * a, 10 * b, data_range=10) == pytest.approx(ssim(a, b), rel=1e-12)
    assert ssim(a, b, data_range=10) > ssim(a, b)  # larger constants make everything more alike
