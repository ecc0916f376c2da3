"""Is the map true? Pure functions of an engine and a picture, whose results have a verdict and a figure."""

from __future__ import annotations

from gradcam_widget.evaluate.curves import Curves, deletion_insertion
from gradcam_widget.evaluate.sanity import OtherClasses, RandomisedWeights, other_classes, randomise_weights
from gradcam_widget.evaluate.similarity import ssim

__all__ = [
    "Curves",
    "OtherClasses",
    "RandomisedWeights",
    "deletion_insertion",
    "other_classes",
    "randomise_weights",
    "ssim",
]
