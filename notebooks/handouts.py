"""Writes a page for each lesson that needs no kernel: the explorer on its pictures, with questions, into a folder.

python notebooks/handouts.py build/handouts
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gradcam_widget import GradCAM, GradCAMWidget
from gradcam_widget.lessons import find_lesson
from gradcam_widget.models import demo_model, sample_images


@dataclass(frozen=True)
class Handout:
    """What a lesson's page shows.

    Attributes:
        lesson: its number.
        pictures: names of the sample pictures.
        targets: the classes that can be chosen.
        text: below the title.
        questions: below the explorer.
        layers: as in `GradCAMWidget.to_html`.
        show: what is on show at first, as in `GradCAMWidget.set`.
        labels: the true classes, by picture.
    """

    lesson: int
    pictures: tuple[str, ...]
    targets: tuple[str, ...]
    text: str
    questions: tuple[str, ...]
    layers: Any = "blocks"
    show: dict[str, Any] = field(default_factory=dict)
    labels: dict[str, str] | None = None


HANDOUTS = (
    Handout(
        1,
        ("chelsea", "coffee", "cat and espresso"),
        ("Egyptian cat", "tiger cat", "tabby", "espresso", "cup"),
        "On the left is what the network saw, under the heatmap of the chosen class. On the right is one bar for "
        "each channel: warm ones speak for the class, cool ones against it.",
        (
            "Choose cat and espresso, then the class espresso. Where does the heatmap go?",
            "Point at the longest bar. What does its channel answer to?",
            "Go through the layers. From which one on would you say that the cup was found?",
        ),
        layers=["_blocks.2", "_blocks.4", "_blocks.7", "_blocks.10", "_blocks.13", "_blocks.15", "_swish:2"],
    ),
    Handout(
        3,
        ("cat and espresso", "chelsea"),
        ("espresso", "Egyptian cat"),
        "The network turns 224 x 224 pixels into 7 x 7 cells. Below are the maps on the way, in its order.",
        (
            "In which block does the evidence for espresso first lie mostly on the right?",
            "Point at the picture at several layers: how wide is the dotted frame, which is what a cell can see?",
            "On chelsea, at _blocks.15._project_conv, the map is blank. Choose signed. What do you see?",
        ),
        layers=[*(f"_blocks.{i}" for i in range(16)), "_blocks.15._project_conv", "_swish:2"],
        show={"target": "espresso"},
    ),
    Handout(
        4,
        ("cat and espresso",),
        ("Egyptian cat", "tiger cat", "tabby", "espresso", "cup"),
        "A cat and an espresso in one picture, and the network gives both about the same probability.",
        (
            "Egyptian cat, then espresso: which half is warm?",
            "Choose signed for Egyptian cat. What lies on the cup, and what does that mean?",
            "Compare Egyptian cat with tiger cat. Do they differ in their places, or in their channels?",
        ),
        layers=["_blocks.10", "_blocks.15", "_swish:2"],
        show={"target": "Egyptian cat", "compare_target": "espresso"},
    ),
    Handout(
        7,
        ("astronaut", "chelsea"),
        ("bobsled", "football helmet", "space shuttle", "Egyptian cat", "tabby"),
        "Two pictures that the network gets wrong. The true class is marked.",
        (
            "What did it see in place of the astronaut? Look at bobsled, and at football helmet.",
            "Where does the evidence for space shuttle lie? Did the network find it?",
            "Prediction and truth for the cat: the same place, or another one?",
            "Which of the two mistakes could more training pictures mend? Why?",
        ),
        layers=["_blocks.15", "_swish:2"],
        labels={"astronaut": "space shuttle", "chelsea": "tabby"},
    ),
)


def write(handout: Handout, cam: GradCAM, folder: Path) -> Path:
    """The path of the page of one lesson, written."""
    samples = sample_images()
    pictures = {name: samples[name] for name in handout.pictures}
    lesson = find_lesson(handout.lesson)
    widget = GradCAMWidget(cam, pictures, labels=handout.labels)
    try:
        widget.set(**handout.show)
        return widget.to_html(
            folder / f"{lesson.path.stem}.html",
            layers=handout.layers,
            targets=handout.targets,
            images="all",
            title=f"{lesson.number}. {lesson.title}",
            text=f"{lesson.question}\n\n{handout.text}",
            questions=handout.questions,
        )
    finally:
        widget.close()


def main() -> None:
    """Write all of them, and say where they are."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    cam = GradCAM(demo_model())
    for handout in HANDOUTS:
        path = write(handout, cam, folder)
        print(f"{path}  {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
