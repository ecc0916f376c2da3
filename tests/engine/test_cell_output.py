"""A figure is a picture where it is the value of a notebook's cell, also without pyplot."""

from __future__ import annotations

import io
import pickle

import numpy as np
import torch
from IPython.core.formatters import DisplayFormatter
from PIL import Image
from torch import nn

from gradcam_widget import GradCAM, evaluate

LAYERS = (nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(64, 3))
MODEL = nn.Sequential(*LAYERS).eval()


def shown(figure: object) -> Image.Image:
    data, _ = DisplayFormatter().format(figure)
    return Image.open(io.BytesIO(data["image/png"]))


def test_figures_show_themselves():
    torch.manual_seed(0)
    cam = GradCAM(MODEL)
    picture = torch.rand(3, 24, 24)
    figures = [cam.explain(picture).figure(), evaluate.deletion_insertion(cam, picture).figure()]
    for figure in figures:
        seen = np.asarray(shown(figure).convert("L"))
        assert seen.shape[1] > 300
        assert seen.std() > 10
        again = pickle.loads(pickle.dumps(figure))
        assert np.array_equal(np.asarray(shown(again).convert("L")), seen)
