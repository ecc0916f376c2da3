"""Methods by checks on the demo model and the sample pictures: ``python benchmarks/evaluation.py --write FILE``.

Every number is one that `gradcam_widget.evaluate` gives; ``--numbers FILE`` keeps the raw ones, and reads them
again where the file is there.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gradcam_widget import GradCAM, evaluate
from gradcam_widget.evaluate.question import ask
from gradcam_widget.methods import METHODS
from gradcam_widget.models import demo_model, sample_images
from gradcam_widget.occlusion import rank_correlation

PICTURES = ("chelsea", "coffee", "astronaut", "rocket", "china", "flower")
LEFT_OUT = tuple(row.name for row in METHODS.values() if row.many_passes)
FIRST = ("GradCAM", "EigenCAM", "GuidedBackprop", "LayerCAM", "GradCAM++", "HiResCAM", "GuidedGradCAM")
STEPS = 10  # of the curves
CLASSES, TRIES = 6, 4
CENTRE = "a blob in the middle"

COLUMNS: dict[str, tuple[str, str, bool]] = {
    # key: title, what it is, whether more is better
    "deletion": ("deletion", "area under the deletion curve", False),
    "insertion": ("insertion", "area under the insertion curve", True),
    "drop": ("drop", "average drop of the probability when the picture is multiplied with the heatmap", False),
    "road": ("ROAD", "lowest less highest pixels painted over, half of the mean difference", True),
    "occlusion": ("occlusion", "rank correlation of the heatmap with an occlusion map", True),
    "weights": ("weights", "rank correlation of the map with that of random weights, mean over 8 stages", False),
    "classes": ("classes", f"rank correlation with the maps of {CLASSES} random other classes, mean", False),
    "noise": ("noise", f"largest change of the map under noise of ±0.1 in the input, {TRIES} tries", False),
    "grid": ("grid", "share of the heatmap on the picture of its own class, in mosaics of four", True),
    "pointing": ("pointing", "share of the maxima that lie on the picture of their own class, in mosaics", True),
}


def main() -> None:
    """Measure, or read what was measured, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, help="the page")
    parser.add_argument("--numbers", type=Path, help="the raw numbers: read where they are there, else written")
    chosen = parser.parse_args()
    if chosen.numbers and chosen.numbers.exists():
        raw = json.loads(chosen.numbers.read_text())
    else:
        for raw in measure():
            if chosen.numbers:
                chosen.numbers.write_text(json.dumps(raw, indent=1))
    page = written(raw)
    if chosen.write:
        chosen.write.write_text(page, encoding="utf-8")
    else:
        print(page)


def measure() -> Iterator[dict[str, Any]]:
    """{"values": method -> column -> numbers, "classes": picture -> class, ...}, after each method."""
    started = time.perf_counter()
    cam, images = GradCAM(demo_model()), sample_images()
    pictures = {name: cam.prepare(images[name]) for name in PICTURES}
    targets = {name: cam.explain(picture).target for name, picture in pictures.items()}
    layer = cam.default_layer(pictures["chelsea"]).name
    occlusions = {
        name: cam.occlude(picture, targets[name], patch=32, stride=32) for name, picture in pictures.items()
    }
    names = list(pictures)
    grids = [
        evaluate.mosaic(cam, [pictures[name] for name in part], [targets[name].index for name in part])
        for part in ([names[(at + i) % len(names)] for i in range(4)] for at in range(0, len(names), 2))
    ]
    values: dict[str, dict[str, list[float | None]]] = {}
    about = {
        "classes": {
            name: [target.label, float(torch.softmax(cam.predict(pictures[name]), 0)[target.index])]
            for name, target in targets.items()
        },
        "layer": layer,
        "mosaics": len(grids),
    }
    row = values[CENTRE] = {name: [] for name in COLUMNS}
    for name, picture in pictures.items():
        on_heatmap(row, (cam, picture, targets[name], layer), blob(picture.shape[2:]), occlusions[name])
    random = [
        [float(np.mean(areas)) for areas in (found.random_deletion_areas, found.random_insertion_areas)]
        for name, picture in pictures.items()
        for found in [evaluate.deletion_insertion(cam, picture, targets[name], layer, steps=STEPS)]
    ]
    first = [name for name in FIRST if name in METHODS]
    for method in [*first, *(name for name in METHODS if name not in (*LEFT_OUT, *first))]:
        row = values[method] = {name: [] for name in COLUMNS}
        for name, picture in pictures.items():
            at = (cam, picture, targets[name], layer, method)
            heat = ask(*at).heatmap
            on_heatmap(row, at[:4], heat, occlusions[name])
            row["weights"].append(mean(evaluate.randomise_weights(*at).rank_correlations))
            row["classes"].append(evaluate.other_classes(*at, classes=CLASSES).mean)
            row["noise"].append(evaluate.noise_sensitivity(*at, samples=TRIES).max)
        for grid in grids:
            in_grid(row, evaluate.grid_pointing(cam, grid, layer, method))
        print(f"{method}: {time.perf_counter() - started:.0f} s", flush=True)
        yield {
            **about,
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


def mean(values: Iterable[float | None]) -> float | None:
    """Of those that are there; None where none is."""
    found = [value for value in values if value is not None]
    return float(np.mean(found)) if found else None


def written(raw: dict[str, Any]) -> str:
    """The page."""
    table = {
        method: {name: mean(numbers) for name, numbers in row.items()} for method, row in raw["values"].items()
    }
    table = {method: table[method] for method in (*METHODS, CENTRE) if method in table}
    return "".join([HEAD, tables(raw, table), reading(raw, table)])


HEAD = """# Are the maps true?

Every method of the table `METHODS` under the checks of `gradcam_widget.evaluate`, on the demo model
(EfficientNet-Lite0) and the sample pictures. Written by `make evaluate`; every number is computed, and the words
below follow the numbers.

"""


def tables(raw: dict[str, Any], table: dict[str, dict[str, float | None]]) -> str:
    """Methods by checks, and what the columns are."""
    lines = ["| method | " + " | ".join(f"{title} {'↑' if more else '↓'}" for title, _, more in COLUMNS.values())]
    lines[0] += " |"
    lines.append("|---|" + "---:|" * len(COLUMNS))
    best = {name: extreme(table, name, more) for name, (_, _, more) in COLUMNS.items()}
    for method, row in table.items():
        cells = []
        for name in COLUMNS:
            value = row[name]
            text = "" if value is None else digits(value)
            cells.append(f"**{text}**" if value is not None and method in best[name] else text)
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    random = np.mean(raw["random"], axis=0)
    cells = [digits(random[0]), digits(random[1]), *[""] * (len(COLUMNS) - 2)]
    lines.append("| random maps | " + " | ".join(cells) + " |")
    notes = "\n".join(f"- *{title}*: {what}." for title, what, _ in COLUMNS.values())
    seen = "; ".join(f"{name}: {label} {p:.2f}" for name, (label, p) in raw["classes"].items())
    about = f"""Means over {len(raw["random"])} pictures, each for its predicted class, at the layer
`{raw["layer"]}`; *grid* and *pointing* over {raw["mosaics"]} mosaics of four pictures each.
↑ more is better, ↓ less is; bold is the best
method, and those within 0.01 of it.

{notes}

The predicted classes and their probabilities: {seen}. *{CENTRE}* is a Gaussian that knows nothing of the picture,
*random maps* are smooth random values. {" and ".join(LEFT_OUT)} are left out: they take 1280 passes
for each of some hundred maps. Curves of {STEPS} steps, ROAD with 30 % and 70 % of the pixels, occlusion by 7 × 7
places, seed 0.

"""
    return "\n".join(lines) + "\n\n" + about


def extreme(table: dict[str, dict[str, float | None]], column: str, more: bool) -> set[str]:
    """The methods with the best number, or one that is within 0.01 of it."""
    found = {m: row[column] for m, row in table.items() if row[column] is not None and m != CENTRE}
    best = (max if more else min)(found.values())
    return {method for method, value in found.items() if abs(value - best) <= 0.01}


def digits(value: float) -> str:
    """A number with two digits, and a minus that is one."""
    return f"{value:.2f}".replace("-", "−")


def reading(raw: dict[str, Any], table: dict[str, dict[str, float | None]]) -> str:
    """What the numbers say, and what they do not: the words follow the numbers."""
    methods = [method for method in table if method != CENTRE]
    pictures = len(raw["random"])
    bold = {name: extreme(table, name, more) for name, (_, _, more) in COLUMNS.items()}
    wins = {method: sum(method in best for best in bold.values()) for method in methods}
    first = max(wins, key=lambda method: wins[method])
    parts = [
        f"**No method is best at everything.** {first} is among the best in {wins[first]} of {len(COLUMNS)} "
        "columns, "
        "more than any other."
        if wins[first] < len(COLUMNS)
        else f"**{first} is among the best in every column.**"
    ]

    agreement = agreement_of_columns(table, methods)
    verdict = "hardly agree" if agreement < 0.3 else "agree only in part" if agreement < 0.7 else "agree"
    parts.append(
        f"**The checks {verdict} on which method is better**: taken two by two, their orders of the methods "
        "have a "
        f"rank correlation of {digits(agreement)} on average. Each asks something else; a single number is not "
        "the "
        "truth of a map."
    )

    within = [
        name
        for name in COLUMNS
        if spread_of_pictures(raw, methods, name) > spread_of_methods(table, methods, name)
    ]
    parts.append(
        f"**The sample is small.** It is {pictures} pictures and one network. In {len(within)} of "
        f"{len(COLUMNS)} columns "
        "the numbers of one method differ more from picture to picture (standard deviation) than the methods' "
        "means "
        f"differ from each other{': ' + listed([COLUMNS[name][0] for name in within]) if within else ''}. "
        "Differences of "
        "a few hundredths mean nothing here."
    )

    beaten = {}
    for name, (title, _, more) in COLUMNS.items():
        own = table[CENTRE][name]
        if own is not None:
            values = [value for m in methods if (value := table[m][name]) is not None]
            beaten[title] = sum((own > value) if more else (own < value) for value in values), len(values)
    strong = [f"{title} ({count} of {of})" for title, (count, of) in beaten.items() if count > of / 2]
    parts.append(
        "**A blob in the middle, which looks at nothing, is hard to beat on photographs whose object is in the "
        "middle**: "
        f"it does better than most methods at {listed(strong)}. These columns reward what photographers do, too."
        if strong
        else "**A blob in the middle, which looks at nothing, is beaten by most methods in every column** that "
        "can be "
        "measured of it."
    )

    random = np.mean(raw["random"], axis=0)
    worse = [m for m in methods if (value := table[m]["deletion"]) is not None and value >= random[0]]
    better = [m for m in methods if (value := table[m]["insertion"]) is not None and value > random[1]]
    parts.append(
        f"**Beside smooth random maps** (deletion {digits(random[0])}, insertion {digits(random[1])}) "
        f"{len(better)} of "
        f"{len(methods)} methods are better at insertion and {len(methods) - len(worse)} at deletion. Zeros in "
        "the place "
        "of pixels make pictures that no network was trained on; ROAD, which fills them in, asks the same with "
        "less of "
        "that."
    )

    stubborn = [m for m in methods if (value := table[m]["weights"]) is not None and value >= 0.4]
    blind = [m for m in methods if (value := table[m]["classes"]) is not None and value >= 0.7]
    parts.append(
        (
            f"**The sanity checks** single out {listed(stubborn)}, whose maps stay alike (0.4 or more) when the "
            "weights "
            "are random"
            if stubborn
            else "**The sanity checks**: with random weights no method's map stays alike (0.4 or more)"
        )
        + (
            f", and {listed(blind)}, which give much the same map (0.7 or more) for any class. Such a map may "
            "look "
            "right, and says nothing of what the network learnt of this class."
            if blind
            else ". And no method gives the same map (0.7 or more) for any class."
        )
    )

    grid = {m: value for m in methods if (value := table[m]["grid"]) is not None}
    top, low = max(grid, key=lambda m: grid[m]), min(grid, key=lambda m: grid[m])
    parts.append(
        f"**In the mosaics**, where the truth is known, shares on the right picture go from {digits(grid[low])} "
        f"({low}) "
        f"to {digits(grid[top])} ({top}); by chance it were 0.25. The mosaics are larger than what the network "
        "is used "
        "to, and some of the predicted classes are wrong (an astronaut is no bobsled): the maps are those of "
        "what the "
        "network takes the pictures for."
    )
    return "## Reading\n\n" + "\n\n".join(parts) + "\n"


def agreement_of_columns(table: dict[str, dict[str, float | None]], methods: list[str]) -> float:
    """The mean rank correlation of two columns, both turned so that more is better."""
    found = []
    for at, (one, (_, _, more)) in enumerate(COLUMNS.items()):
        for other, (_, _, other_more) in list(COLUMNS.items())[at + 1 :]:
            pairs = [(table[m][one], table[m][other]) for m in methods]
            values = np.array([pair for pair in pairs if None not in pair], float)
            rho = rank_correlation(values[:, 0], values[:, 1])
            if rho is not None:
                found.append(rho if more == other_more else -rho)
    return float(np.mean(found))


def spread_of_pictures(raw: dict[str, Any], methods: list[str], name: str) -> float:
    """The standard deviation over the pictures, mean over the methods."""
    rows = [[value for value in raw["values"][m][name] if value is not None] for m in methods]
    return float(np.mean([np.std(row, ddof=1) for row in rows if len(row) > 1]))


def spread_of_methods(table: dict[str, dict[str, float | None]], methods: list[str], name: str) -> float:
    """The standard deviation of the methods' means."""
    return float(np.std([value for m in methods if (value := table[m][name]) is not None], ddof=1))


def listed(words: list[str]) -> str:
    """Words in a row: a, b and c."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


if __name__ == "__main__":
    main()
