"""Choices: what can be chosen and what is, as the controls show it; and which class a typed text means."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from gradcam_widget import captions
from gradcam_widget.widget import wire

__all__ = ["NOTHING", "PREDICTED", "Choices", "Prediction", "class_labels", "find_class"]

PREDICTED = "predicted class"
"""The entry of the class list with which the class follows the picture."""

NOTHING = "no comparison"
"""The entry of the list of second classes with which none is compared."""
_MOST_CLASSES = 2000  # names sent to the browser; any other class can still be typed


@dataclass(frozen=True)
class Prediction:
    """One of the most probable classes."""

    index: int
    label: str
    probability: float

    @property
    def option(self) -> str:
        """How it stands in the class list."""
        return f"{self.label} · {captions.chance(self.probability)}"


@dataclass(frozen=True)
class Choices:
    """What the controls show: the possibilities, and what is chosen among them.

    Attributes:
        pictures: names, in order.
        picture: index of the chosen one.
        layers: (name, kind, label) of each layer, in the order of the network.
        layer: name of the chosen one.
        classes: all class labels, different from each other; `class_labels`.
        predictions: the most probable first.
        target: index of the explained class; None where the target is no class.
        target_label: how the target is called.
        method: name of the method.
        evidence: what the map shows.
        compare: how the class that is compared with it is called; "" where there is none.
    """

    pictures: tuple[str, ...] = ()
    picture: int | None = None
    layers: tuple[tuple[str, str, str], ...] = ()
    layer: str | None = None
    classes: tuple[str, ...] = ()
    predictions: tuple[Prediction, ...] = ()
    target: int | None = None
    target_label: str = ""
    method: str = "GradCAM"
    evidence: str = "positive"
    compare: str = ""

    @property
    def compare_options(self) -> tuple[str, ...]:
        """The list of second classes. It is the same for all pictures, so that it travels once."""
        return (NOTHING, *self.classes[:_MOST_CLASSES]) if self.classes else ()

    @property
    def class_options(self) -> tuple[str, ...]:
        """The class list: the predictions with their probabilities, then all classes."""
        if not self.classes:
            return ()
        first = tuple(prediction.option for prediction in self.predictions)
        return (*first, PREDICTED, *self.classes[:_MOST_CLASSES])

    @property
    def class_text(self) -> str:
        """What stands in the class field."""
        for prediction in self.predictions:
            if prediction.index == self.target:
                return prediction.option
        return wire.shorten(self.target_label)


@lru_cache(maxsize=8)
def class_labels(names: tuple[str, ...] | None, count: int) -> tuple[str, ...]:
    """One label per class, all different: the name, with its index where several classes share it.

    Args:
        names: class names, or None; where there are fewer than classes, the rest is called "class 281".
        count: number of classes.
    """
    labels = [wire.shorten(names[i]) if names and i < len(names) else f"class {i}" for i in range(count)]
    shared = Counter(label.casefold() for label in labels)
    labels = [f"{label} ({i})" if shared[label.casefold()] > 1 else label for i, label in enumerate(labels)]
    taken: set[str] = set()
    for i, label in enumerate(labels):
        while label.casefold() in taken:
            label = f"{label} ({i})"
        taken.add(label.casefold())
        labels[i] = label
    return tuple(labels)


def find_class(text: str, classes: Sequence[str], predictions: Sequence[Prediction] = ()) -> int:
    """The index of the class that a typed text means.

    In this order: an entry of the list, a label in any case, a number ("281", "#281", "class 281"), the
    beginning of exactly one label, a part of exactly one label.

    Raises:
        ValueError: where it means none or several; the message offers some.
    """
    text = " ".join(text.split())
    for prediction in predictions:
        if text == prediction.option:
            return prediction.index
    folded = [label.casefold() for label in classes]
    for wanted in (text.casefold(), re.sub(r" · <?[01]\.\d+$", "", text).casefold()):
        if wanted in folded:
            return folded.index(wanted)
    if number := re.fullmatch(r"(?:class |#)?\s*(-?\d{1,9})", text, re.IGNORECASE):
        if 0 <= (index := int(number[1])) < len(classes):
            return index
        raise ValueError(f"There is no class {number[1]}: the classes are numbered 0 to {len(classes) - 1}.")
    for found in (
        [i for i, label in enumerate(folded) if label.startswith(wanted)],
        [i for i, label in enumerate(folded) if wanted in label],
    ):
        if len(found) == 1:
            return found[0]
        if found:
            some = ", ".join(classes[i] for i in found[:5]) + (", …" if len(found) > 5 else "")
            raise ValueError(f"{wire.shorten(text, 60)!r} fits {len(found)} classes: {some}. Type more of it.")
    close = difflib.get_close_matches(wanted, folded, n=3, cutoff=0.4)
    hint = (
        f"Nearest: {', '.join(classes[folded.index(label)] for label in close)}."
        if close
        else "Open the list to see all of them, or type a number."
    )
    raise ValueError(f"There is no class called {wire.shorten(text, 60)!r}. {hint}")
