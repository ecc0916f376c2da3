"""The checks by name: what each asks, what it costs, and how it is run on one map with its defaults."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from gradcam_widget.engine import GradCAM
from gradcam_widget.evaluate.agreement import occlusion_agreement
from gradcam_widget.evaluate.confidence import confidence
from gradcam_widget.evaluate.curves import REFERENCES, STEPS, deletion_insertion
from gradcam_widget.evaluate.mosaics import GridPointing, grid_pointing, mosaic
from gradcam_widget.evaluate.noise import SAMPLES, noise_sensitivity
from gradcam_widget.evaluate.question import Numbers
from gradcam_widget.evaluate.road import SHARES, road
from gradcam_widget.evaluate.sanity import CLASSES, STAGES, other_classes, randomise_weights
from gradcam_widget.methods import METHODS
from gradcam_widget.occlusion import patches
from gradcam_widget.perturbation import Progress
from gradcam_widget.targets import ClassLogit, Target

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["CHECKS", "Asked", "Check", "Cost", "Result"]


class Result(Protocol):
    """What a check finds."""

    @property
    def verdict(self) -> str:
        """It in words."""

    @property
    def numbers(self) -> Numbers:
        """It in numbers."""

    def figure(self, *, dark: bool = False) -> Figure:
        """It as a picture."""


@dataclass(frozen=True, eq=False)
class Asked:
    """One map, to be checked.

    Attributes:
        cam: the engine.
        image: the picture, as in `GradCAM.explain`.
        target: the scalar.
        layer: name of the layer.
        method: name of the method.
        others: other pictures, for the checks that need several.
    """

    cam: GradCAM
    image: Any
    target: Target
    layer: str
    method: str
    others: Sequence[Any] = ()


@dataclass(frozen=True)
class Cost:
    """Passes of the model.

    Attributes:
        forward, backward: how many.
    """

    forward: int
    backward: int = 0

    def __str__(self) -> str:
        parts = [(self.forward, "forward"), (self.backward, "backward")]
        words = " and ".join(f"{count} {kind}" for count, kind in parts if count)
        return f"{words} {'pass' if self.forward + self.backward == 1 else 'passes'}"


@dataclass(frozen=True)
class Check:
    """One way to doubt a map.

    Attributes:
        name: by which it is asked for.
        title: how it is called.
        question: what it asks.
        run: the check itself, with its defaults.
        passes: forward passes of other pictures, for a picture (H, W).
        maps: explanations of other pictures or weights.
        classes: explanations of the same picture for other classes.
    """

    name: str
    title: str
    question: str
    run: Callable[[Asked, Progress | None], Result]
    passes: Callable[[tuple[int, ...]], int] = lambda picture: 0
    maps: int = 0
    classes: int = 0

    def cost(self, method: str, channels: int, picture: tuple[int, ...]) -> Cost:
        """Roughly what it costs for maps of a method at a layer with so many channels, in a picture (H, W)."""
        row = METHODS[method]
        backward = int(row.needs_gradient)
        many = channels if row.many_passes else 0
        return Cost(
            self.passes(picture) + self.maps * (1 + many) + self.classes * many,
            (self.maps + self.classes) * backward,
        )


def _mosaic(asked: Asked, progress: Progress | None) -> GridPointing:
    """The map's own picture and three others, of classes that differ, in a mosaic."""
    chosen, classes = [asked.image], [asked.target]
    if not isinstance(asked.target, ClassLogit):
        raise ValueError("target: a mosaic is made of pictures of classes; choose a class")
    for other in asked.others:
        target = asked.cam.explain(other).target
        if isinstance(target, ClassLogit) and target not in classes:
            chosen.append(other)
            classes.append(target)
        if len(chosen) == 4:
            break
    if len(chosen) < 4:
        raise ValueError(
            f"pictures: a mosaic needs four pictures that the model takes for different classes; there are "
            f"{len(chosen)}. Give the explorer more pictures"
        )
    indices = [target.index for target in classes if isinstance(target, ClassLogit)]
    return grid_pointing(
        asked.cam, mosaic(asked.cam, chosen, indices), asked.layer, asked.method, progress=progress
    )


def _on_map(function: Callable[..., Result], **options: Any) -> Callable[[Asked, Progress | None], Result]:
    def run(asked: Asked, progress: Progress | None) -> Result:
        return function(
            asked.cam, asked.image, asked.target, asked.layer, asked.method, progress=progress, **options
        )

    return run


def _confidence(asked: Asked, progress: Progress | None) -> Result:
    return confidence(asked.cam, [asked.image], [asked.target], asked.layer, asked.method, progress=progress)


CHECKS: dict[str, Check] = {
    row.name: row
    for row in (
        Check(
            "randomise_weights",
            "Random weights, from the output down",
            "Does the map change when what the network has learnt is replaced by random numbers, stage by stage?",
            _on_map(randomise_weights),
            maps=STAGES,
        ),
        Check(
            "randomise_stages",
            "Random weights, one stage alone",
            "Which stage's learnt weights does the map depend on?",
            _on_map(randomise_weights, order="independent"),
            maps=STAGES,
        ),
        Check(
            "other_classes",
            "Other classes",
            "Is it the map of this class, or that of any?",
            _on_map(other_classes),
            classes=CLASSES,
        ),
        Check(
            "deletion_insertion",
            "Deletion and insertion",
            "Does the probability fall when what the map marks goes, and rise when it comes?",
            _on_map(deletion_insertion),
            passes=lambda picture: 3 + 2 * (STEPS - 1) * (1 + REFERENCES),
        ),
        Check(
            "road",
            "ROAD",
            "Does painting over what the map marks cost more than painting over what it leaves out?",
            _on_map(road),
            passes=lambda picture: 1 + 2 * len(SHARES),
        ),
        Check(
            "occlusion",
            "Occlusion",
            "Does the score drop most where the map is high, when each place is covered?",
            _on_map(occlusion_agreement),
            passes=lambda picture: len(patches((picture[0], picture[1]))[1]),
        ),
        Check(
            "confidence",
            "Drop in confidence",
            "Is what the map marks enough for the class?",
            _confidence,
            passes=lambda picture: 2,
        ),
        Check(
            "noise",
            "Noise",
            "Does the map stay when the picture changes by next to nothing?",
            _on_map(noise_sensitivity),
            maps=SAMPLES,
        ),
        Check(
            "mosaic",
            "Mosaic",
            "In a mosaic of four pictures, does the map of each class lie on its own picture?",
            _mosaic,
            passes=lambda picture: 3 + 4,  # three predictions; a mosaic is four pictures large
            classes=4,
        ),
    )
}
"""The checks by name. One more is one row; the panel "Is it true?" offers whatever the table holds."""
