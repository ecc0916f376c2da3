"""Is the map true? Pure functions of an engine and a picture, whose results have a verdict and a figure."""

from __future__ import annotations

from gradcam_widget.evaluate.agreement import OcclusionAgreement, occlusion_agreement
from gradcam_widget.evaluate.confidence import Confidence, confidence
from gradcam_widget.evaluate.curves import Curves, deletion_insertion
from gradcam_widget.evaluate.location import Localisation, Pointing, iou, localisation, pointing_game
from gradcam_widget.evaluate.mosaics import GridPointing, Mosaic, grid_pointing, mosaic
from gradcam_widget.evaluate.noise import Sensitivity, noise_sensitivity
from gradcam_widget.evaluate.road import Road, road
from gradcam_widget.evaluate.sanity import OtherClasses, RandomisedWeights, other_classes, randomise_weights
from gradcam_widget.evaluate.similarity import ssim

__all__ = [
    "Confidence",
    "Curves",
    "GridPointing",
    "Localisation",
    "Mosaic",
    "OcclusionAgreement",
    "OtherClasses",
    "Pointing",
    "RandomisedWeights",
    "Road",
    "Sensitivity",
    "confidence",
    "deletion_insertion",
    "grid_pointing",
    "iou",
    "localisation",
    "mosaic",
    "noise_sensitivity",
    "occlusion_agreement",
    "other_classes",
    "pointing_game",
    "randomise_weights",
    "road",
    "ssim",
]
