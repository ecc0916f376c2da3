"""The checks beside those of torchcam, grad-cam and captum, where the definitions meet."""

from __future__ import annotations

import copy
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from gradcam_widget.engine import GradCAM
from gradcam_widget.evaluate import confidence, deletion_insertion, noise_sensitivity, road
from gradcam_widget.heatmap import upsample
from gradcam_widget.presets import as_torchcam
from gradcam_widget.targets import ClassProbability

from .networks import network, picture
from .peers import quiet

LAYER, CLASS = "layer4", 3
X = picture()


@pytest.fixture(scope="module")
def cam() -> GradCAM:
    model = copy.deepcopy(network("resnet18"))
    with torch.no_grad():
        model.fc.weight *= 0.01  # so that no probability is 0 or 1
    return GradCAM(model)


def torchcam_heatmap(cam: GradCAM, image: Tensor = X) -> np.ndarray:
    """torchcam's map at the picture's size: of the probability, from its minimum to its maximum, then bilinear."""
    explanation = cam.explain(image, ClassProbability(CLASS), LAYER)
    return upsample(as_torchcam(explanation), tuple(image.shape[2:]))[0].numpy()


def test_deletion_and_insertion_are_those_of_torchcam(cam):
    from torchcam.methods import GradCAM as Extractor
    from torchcam.metrics import DeletionInsertionMetric

    ours = deletion_insertion(
        cam, X, CLASS, LAYER, heatmap=torchcam_heatmap(cam), steps=13, insertion_baseline="zero", references=0
    )
    with quiet(), Extractor(cam.copy().model, LAYER) as extractor:
        metric = DeletionInsertionMetric(extractor, partial(torch.softmax, dim=-1), steps=13)
        metric.update(X.clone(), CLASS)
        theirs = metric.summary()
    # Towards the edge a bilinear map is flat, and rounding decides which of its equal pixels goes first.
    assert ours.deletion_area == pytest.approx(theirs["deletion_auc"], rel=5e-3)
    assert ours.insertion_area == pytest.approx(theirs["insertion_auc"], rel=5e-3)


def test_average_drop_and_increase_are_those_of_torchcam(cam):
    from torchcam.methods import GradCAM as Extractor
    from torchcam.metrics import ClassificationMetric

    for scale in (1.0, -1.0):
        image = X * scale
        ours = confidence(cam, [image], [CLASS], LAYER, heatmaps=[torchcam_heatmap(cam, image)])
        with quiet(), Extractor(cam.copy().model, LAYER) as extractor:
            metric = ClassificationMetric(extractor, partial(torch.softmax, dim=-1))
            metric.update(image.clone(), CLASS)
            theirs = metric.summary()
        # Theirs divides by the probability plus 1e-7.
        assert ours.average_drop == pytest.approx(theirs["avg_drop"], rel=1e-4, abs=1e-6)
        assert ours.increase == theirs["conf_increase"]


def test_the_probabilities_that_drop_are_those_of_grad_cam(cam):
    with quiet():
        from pytorch_grad_cam.metrics.cam_mult_image import CamMultImageConfidenceChange

        heat = torchcam_heatmap(cam)
        change = CamMultImageConfidenceChange()(
            X, heat[None], [lambda scores: scores.softmax(0)[CLASS]], cam.copy().model
        )
    ours = confidence(cam, [X], [CLASS], LAYER, heatmaps=[heat])
    assert ours.marked[0] - ours.whole[0] == pytest.approx(float(change[0]), rel=1e-4, abs=1e-7)


def test_max_sensitivity_is_that_of_captum(cam):
    from captum.attr import LayerGradCam
    from captum.metrics import sensitivity_max

    ours = noise_sensitivity(cam, X, CLASS, LAYER, radius=0.3, samples=4, seed=1)
    generator = torch.Generator().manual_seed(1)
    draws = [(2 * torch.rand(X.shape, generator=generator) - 1) * 0.3 for _ in range(4)]
    model = cam.copy().model
    with quiet():
        attribution = LayerGradCam(model, model.get_submodule(LAYER))
        theirs = [
            sensitivity_max(
                lambda inputs: attribution.attribute(inputs, target=CLASS, relu_attributions=True),
                X.clone(),
                perturb_func=lambda inputs, *_, noise=noise: (X + noise,),
                n_perturb_samples=1,
            ).item()
            for noise in draws
        ]
    assert ours.changes == pytest.approx(theirs, rel=1e-4)
    assert ours.max == pytest.approx(max(theirs), rel=1e-4)


def test_road_is_that_of_grad_cam(cam):
    with quiet():
        from pytorch_grad_cam.metrics.perturbation_confidence import (
            PerturbationConfidenceMetric,
            RemoveLeastRelevantFirst,
            RemoveMostRelevantFirst,
        )
        from pytorch_grad_cam.metrics.road import NoisyLinearImputer

        heat = cam.explain(X, CLASS, LAYER).heatmap().numpy()
        # No two values alike: which of equal ones are cut off is nobody's definition.
        heat = heat + 0.01 * np.random.default_rng(0).random(heat.shape, np.float32)
        heat /= heat.max()
        model, target = cam.copy().model, [lambda scores: scores.softmax(0)[CLASS]]
        theirs = [
            [
                float(
                    PerturbationConfidenceMetric(remove(percentile, NoisyLinearImputer(noise=0)))(
                        X, heat[None], target, model, return_diff=False
                    )[0]
                )
                for percentile in (70, 30)
            ]
            for remove in (RemoveMostRelevantFirst, RemoveLeastRelevantFirst)
        ]
    ours = road(cam, X, CLASS, LAYER, heatmap=heat, shares=(0.3, 0.7), noise=0)
    assert ours.most == pytest.approx(theirs[0], rel=5e-3, abs=1e-5)
    assert ours.least == pytest.approx(theirs[1], rel=5e-3, abs=1e-5)
