"""Methods by checks on the demo model and the sample pictures: ``python benchmarks/evaluation.py --write FILE``.

Every number is one that `gradcam_widget.evaluate` gives; ``--numbers FILE`` keeps the raw ones, and reads them
again where the file is there. The two settings run beside each other, each in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from evaluation_page import CENTRE, COLUMNS, mean, written

from gradcam_widget import GradCAM, evaluate
from gradcam_widget.evaluate.question import ask
from gradcam_widget.methods import METHODS
from gradcam_widget.models import demo_model, sample_images

PICTURES = ("chelsea", "coffee", "astronaut", "rocket", "china", "flower")
STEPS = 10  # of the curves


@dataclass(frozen=True)
class Setting:
    """What one table is measured on.

    Attributes:
        methods: names.
        pictures: how many of `PICTURES`, the first ones.
        layer: its name, or None for the model's last one.
        stages: of the weights that are randomised.
        classes: others, drawn at random.
        tries: of noise.
        mosaics: of four pictures each.
    """

    methods: tuple[str, ...]
    pictures: int
    layer: str | None
    stages: int
    classes: int
    tries: int
    mosaics: int


# Score-CAM runs the whole model once for each channel of the layer that is not flat, of 1280 at the last layer.
LAST = Setting(
    methods=tuple(row.name for row in METHODS.values() if "masked_scores" not in row.needs),
    pictures=6,
    layer=None,
    stages=8,
    classes=6,
    tries=4,
    mosaics=3,
)
# A layer of the same 7 x 7 cells with 192 channels; CAM needs a head right after the layer.
BEFORE = Setting(
    methods=tuple(row.name for row in METHODS.values() if "head_weights" not in row.needs),
    pictures=4,
    layer="_blocks.14",
    stages=3,
    classes=2,
    tries=2,
    mosaics=1,
)


def main() -> None:
    """Measure, or read what was measured, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, help="the page")
    parser.add_argument("--numbers", type=Path, help="the raw numbers: read where they are there, else written")
    chosen = parser.parse_args()
    if chosen.numbers and chosen.numbers.exists():
        raw = json.loads(chosen.numbers.read_text())
    else:
        with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
            raw = list(pool.map(measure, (LAST, BEFORE)))
        if chosen.numbers:
            chosen.numbers.write_text(json.dumps(raw, indent=1))
    page = written(*raw)
    if chosen.write:
        chosen.write.write_text(page, encoding="utf-8")
    else:
        print(page)


def measure(setting: Setting) -> dict[str, Any]:
    """{"values": method -> column -> numbers, "predicted": picture -> class, ...}."""
    started = time.perf_counter()
    cam, images = GradCAM(demo_model()), sample_images()
    pictures = {name: cam.prepare(images[name]) for name in PICTURES[: setting.pictures]}
    targets = {name: cam.explain(picture).target for name, picture in pictures.items()}
    shown = cam.explain(pictures[PICTURES[0]], layer=setting.layer)
    layer = shown.layer.name
    occlusions = {
        name: cam.occlude(picture, targets[name], patch=32, stride=32) for name, picture in pictures.items()
    }
    names = list(pictures)
    grids = [
        evaluate.mosaic(cam, [pictures[name] for name in part], [targets[name].index for name in part])
        for part in ([names[(at + i) % len(names)] for i in range(4)] for at in range(0, 2 * setting.mosaics, 2))
    ]
    values: dict[str, dict[str, list[float | None]]] = {}
    row = values[CENTRE] = {name: [] for name in COLUMNS}
    for name, picture in pictures.items():
        on_heatmap(row, (cam, picture, targets[name], layer), blob(picture.shape[2:]), occlusions[name])
    random = [
        [float(np.mean(areas)) for areas in (found.random_deletion_areas, found.random_insertion_areas)]
        for name, picture in pictures.items()
        for found in [evaluate.deletion_insertion(cam, picture, targets[name], layer, steps=STEPS)]
    ]
    for method in setting.methods:
        row = values[method] = {name: [] for name in COLUMNS}
        for name, picture in pictures.items():
            at = (cam, picture, targets[name], layer, method)
            on_heatmap(row, at[:4], ask(*at).heatmap, occlusions[name])
            row["weights"].append(mean(evaluate.randomise_weights(*at, stages=setting.stages).rank_correlations))
            row["classes"].append(evaluate.other_classes(*at, classes=setting.classes).mean)
            row["noise"].append(evaluate.noise_sensitivity(*at, samples=setting.tries).max)
        for grid in grids:
            in_grid(row, evaluate.grid_pointing(cam, grid, layer, method))
        print(f"{layer}, {method}: {time.perf_counter() - started:.0f} s", flush=True)
    return {
        "predicted": {
            name: [target.label, float(torch.softmax(cam.predict(pictures[name]), 0)[target.index])]
            for name, target in targets.items()
        },
        "layer": layer,
        "channels": shown.alpha.numel(),
        "cells": list(shown.signed_cam.shape),
        "stages": setting.stages,
        "classes": setting.classes,
        "tries": setting.tries,
        "mosaics": len(grids),
        "steps": STEPS,
        "values": values,
        "random": random,
        "seconds": time.perf_counter() - started,
        "threads": torch.get_num_threads(),
    }


def on_heatmap(row: dict[str, list[float | None]], at: tuple[Any, ...], heat: Any, occlusion: Any) -> None:
    """What can be measured of any heatmap."""
    cam, picture, target, layer = at
    curves = evaluate.deletion_insertion(*at, heatmap=heat, steps=STEPS, references=0)
    row["deletion"].append(curves.deletion_area)
    row["insertion"].append(curves.insertion_area)
    row["drop"].append(evaluate.confidence(cam, [picture], [target], layer, heatmaps=[heat]).average_drop)
    row["road"].append(evaluate.road(*at, heatmap=heat, shares=(0.3, 0.7)).score)
    row["occlusion"].append(occlusion.agreement(heat))


def in_grid(row: dict[str, list[float | None]], found: evaluate.GridPointing) -> None:
    """What can be measured of maps of a mosaic."""
    row["grid"].append(found.score)
    hits = 0
    for heat, (left, top, right, bottom) in zip(found.heatmaps, found.boxes, strict=True):
        y, x = np.unravel_index(heat.argmax(), heat.shape)
        hits += bool(heat.max() > 0 and left <= x < right and top <= y < bottom)
    row["pointing"].append(hits / len(found.boxes))


def blob(size: Iterable[int]) -> np.ndarray[Any, Any]:
    """A Gaussian in the middle, its standard deviation a quarter of the side: a map that looks at nothing."""
    axes = [np.exp(-(((np.arange(n) + 0.5) / n - 0.5) ** 2) / (2 * 0.25**2)) for n in size]
    found: np.ndarray[Any, Any] = axes[0][:, None] * axes[1]
    return found


if __name__ == "__main__":
    main()
