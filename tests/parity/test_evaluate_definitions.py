"""The checks beside the definitions of Xplique, which needs TensorFlow: its documented formulas, written out anew
in plain loops over float64 numbers.
"""

from __future__ import annotations

import copy
from itertools import pairwise

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torch import Tensor, nn

from gradcam_widget.engine import GradCAM
from gradcam_widget.evaluate import confidence, deletion_insertion, other_classes

from .networks import network, picture

LAYER, CLASS = "layer4", 3


@pytest.fixture(scope="module")
def model() -> nn.Module:
    made = copy.deepcopy(network("resnet18")).double()
    with torch.no_grad():
        made.fc.weight *= 0.01  # so that no probability is 0 or 1
    return made


@pytest.fixture(scope="module")
def cam(model) -> GradCAM:
    return GradCAM(model)


@pytest.fixture(scope="module")
def image() -> Tensor:
    return picture().double()


@pytest.fixture(scope="module")
def heat(cam, image) -> np.ndarray:
    """From 0 to 1, no two values alike: which of equal ones goes first is nobody's definition."""
    found = cam.explain(image, CLASS, LAYER).heatmap().double().numpy()
    found = found + 1e-3 * np.random.default_rng(0).permutation(found.size).reshape(found.shape) / found.size
    return (found - found.min()) / (found.max() - found.min())


def probability(model: nn.Module, image: Tensor) -> float:
    with torch.no_grad():
        return float(model(image).softmax(1)[0, CLASS])


@pytest.mark.parametrize("kind", ["deletion", "insertion"])
def test_the_causal_fidelity_of_xplique(kind, cam, model, image, heat):
    # Features in descending order; 0, N/steps, ... N of them go from the start to the end, all channels at once;
    # the area is the mean of the trapezoids. The baseline is 0 for both; the activation is the softmax.
    steps, pixels = 8, heat.size
    order = sorted(range(pixels), key=lambda place: -heat.flat[place])
    start, end = (image, torch.zeros_like(image))[:: 1 if kind == "deletion" else -1]
    values = []
    for count in np.linspace(0, pixels, steps + 1).astype(int):
        mixed = start.clone().flatten(2)
        for place in order[:count]:
            mixed[..., place] = end.flatten(2)[..., place]
        values.append(probability(model, mixed.view_as(image)))
    theirs = sum(a + b for a, b in pairwise(values)) / steps / 2
    ours = deletion_insertion(
        cam, image, CLASS, LAYER, heatmap=heat, steps=steps, insertion_baseline="zero", references=0
    )
    assert getattr(ours, kind) == pytest.approx(values, abs=1e-12)
    assert getattr(ours, f"{kind}_area") == pytest.approx(theirs, abs=1e-12)
    assert theirs != pytest.approx((values[0] + values[-1]) / 2, rel=1e-3)  # a straight line would say nothing


def test_the_average_drop_and_increase_of_xplique(cam, model, image, heat):
    # relu(base - after) / base, and after > base, with the picture times the map, which goes from 0 to 1.
    pictures, maps = [image, -image, 3 * image], [heat, heat[::-1].copy(), heat.T.copy()]
    pairs = [
        (probability(model, shown), probability(model, shown * torch.from_numpy(found)))
        for shown, found in zip(pictures, maps, strict=True)
    ]
    ours = confidence(cam, pictures, [CLASS] * 3, LAYER, heatmaps=maps)
    assert ours.average_drop == pytest.approx(np.mean([max(a - b, 0) / a for a, b in pairs]), abs=1e-8)
    assert ours.increase == np.mean([b > a for a, b in pairs])


def test_the_random_logit_invariance_of_xplique(cam, image):
    # The structural similarity of the maps for the class and for others: windows of 11, Gaussian of 1.5, K of 0.01
    # and 0.03, over the range of the two maps, which is 1 for heatmaps.
    ours = other_classes(cam, image, CLASS, LAYER, classes=4, seed=5)
    mine = cam.explain(image, CLASS, LAYER).heatmap().double().numpy()
    assert CLASS not in ours.classes
    for other, found in zip(ours.classes, ours.ssims, strict=True):
        theirs = cam.explain(image, other, LAYER).heatmap().double().numpy()
        values = structural_similarity(
            mine,
            theirs,
            data_range=max(mine.max(), theirs.max()) - min(mine.min(), theirs.min()),
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            full=True,
        )[1]
        assert found == pytest.approx(values[5:-5, 5:-5].mean(), abs=1e-6)
