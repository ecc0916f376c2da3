"""The controls above the view: what may be chosen, and what the user chose, in ipywidgets."""

from __future__ import annotations

import difflib
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import ipywidgets  # type: ignore[import-untyped]  # it has no types

from gradcam_widget.widget import wire
from gradcam_widget.widget.parts import classed
from gradcam_widget.widget.state import EVIDENCE, State

__all__ = ["NOTHING", "PREDICTED", "Choices", "Controls", "Prediction", "class_labels", "find_class", "uploaded"]

PREDICTED = "predicted class"
"""The entry of the class list with which the class follows the picture."""

NOTHING = "no comparison"
"""The entry of the list of second classes with which none is compared."""

_FILTERS: Mapping[str, tuple[str, ...]] = {
    "conv": ("conv",),
    "blocks": ("block", "attention"),
    "all": (),
}
_EVIDENCE_WORDS = ("what speaks for the class", "what speaks for it and against it", "what speaks against it")
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
        return f"{self.label} · {self.probability:.2f}"


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
    for wanted in (text.casefold(), re.sub(r" · [01]\.\d+$", "", text).casefold()):
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


def uploaded(value: Any) -> list[tuple[str, bytes]]:
    """(name, content) of each file in the value of a FileUpload, as ipywidgets 7 or 8 gives it."""
    if isinstance(value, Mapping):  # ipywidgets 7: {name: {"metadata": {...}, "content": bytes}}
        return [(str(name), bytes(file["content"])) for name, file in value.items()]
    return [(str(file["name"]), bytes(file["content"])) for file in value]


@dataclass
class _Hands(threading.local):
    """Who moves the controls in this thread: the code that shows, or the user."""

    showing: bool = False
    chosen: tuple[str, ...] = field(default=())


class Controls:
    """Picture, Layer, Show, Class, Compare with, Method, Evidence, Colour map and Opacity, in a row that wraps.

    They write what the user chooses into a `State`, and show what they are told with `show`. What they show
    is never taken for a choice of the user's.

    Args:
        state: what they write to.
        upload: called with the name and the content of an uploaded file.
        reject: called with the error when a choice is not valid.

    Attributes:
        box: the row, to be put into a container.
    """

    def __init__(
        self,
        state: State,
        *,
        upload: Callable[[str, bytes], None],
        reject: Callable[[Exception], None],
    ) -> None:
        self._state = state
        self._upload_file = upload
        self._reject = reject
        self._choices = Choices()
        self._listed: tuple[str, ...] = ()
        self._listed_from: tuple[tuple[str, str, str], ...] = ()
        self._hands = _Hands()
        self._make(state)
        self.box = self._arranged()
        self._listen()

    def _make(self, state: State) -> None:
        """Make the controls, each with what it shows before there is a choice."""
        self.picture = classed(ipywidgets.Dropdown(description="Picture"), "gradcam-picture")
        self.upload = classed(
            ipywidgets.FileUpload(description="Upload a picture", accept="image/*", multiple=False),
            "gradcam-upload",
        )
        if self.upload.has_trait("tooltip"):  # from ipywidgets 8 on; the view names the button after its title
            self.upload.tooltip = self.upload.description
        # Buttons without a text take their accessible name from their title, which is the tooltip.
        self.previous = classed(
            ipywidgets.Button(icon="chevron-left", tooltip="Previous layer"), "gradcam-previous"
        )
        self.layer = classed(ipywidgets.Dropdown(description="Layer"), "gradcam-layer")
        self.next = classed(ipywidgets.Button(icon="chevron-right", tooltip="Next layer"), "gradcam-next")
        self.filter = classed(
            ipywidgets.Dropdown(description="Show", options=list(_FILTERS), value="all"), "gradcam-show"
        )
        self.target = classed(
            ipywidgets.Combobox(
                description="Class", placeholder="type a class", continuous_update=False, ensure_option=False
            ),
            "gradcam-class",
        )
        self.compare = classed(
            ipywidgets.Combobox(
                description="Compare with", placeholder=NOTHING, continuous_update=False, ensure_option=False
            ),
            "gradcam-class",
        )
        self.compare.add_class("gradcam-compare")
        self.alone = classed(ipywidgets.Button(icon="times", tooltip="End the comparison"), "gradcam-alone")
        self.alone.disabled = True
        self.method = classed(
            ipywidgets.Dropdown(description="Method", options=list(state.offer.methods), value=state.method),
            "gradcam-method",
        )
        self.evidence = classed(
            ipywidgets.ToggleButtons(
                description="Evidence", options=list(EVIDENCE), value=state.evidence, tooltips=_EVIDENCE_WORDS
            ),
            "gradcam-evidence",
        )
        self.colormap = classed(
            ipywidgets.Dropdown(
                description="Colour map",
                options=list(state.offer.tables(state.evidence)),
                value=state.colormap,
            ),
            "gradcam-colormap",
        )
        self.opacity = classed(
            ipywidgets.FloatSlider(
                description="Opacity", min=0, max=1, step=0.01, value=state.opacity, readout=False
            ),
            "gradcam-opacity",
        )

    def _arranged(self) -> ipywidgets.Widget:
        """The row of the controls; those that belong together wrap together."""
        group = classed(ipywidgets.HBox([self.previous, self.layer, self.next]), "gradcam-layer-group")
        pair = classed(ipywidgets.HBox([self.compare, self.alone]), "gradcam-pair")
        row = [
            self.picture,
            self.upload,
            group,
            self.filter,
            self.target,
            pair,
            self.method,
            self.evidence,
            self.colormap,
            self.opacity,
        ]
        return classed(ipywidgets.HBox(row), "gradcam-controls")

    def _listen(self) -> None:
        self.picture.observe(self._on_picture_value, names="value")
        self.upload.observe(self._on_upload_value, names="value")
        self.previous.on_click(self._on_previous_click)
        self.layer.observe(self._on_layer_value, names="value")
        self.next.on_click(self._on_next_click)
        self.filter.observe(self._on_filter_value, names="value")
        self.target.observe(self._on_target_value, names="value")
        self.compare.observe(self._on_compare_value, names="value")
        self.alone.on_click(self._on_alone_click)
        self.method.observe(self._on_method_value, names="value")
        self.evidence.observe(self._on_evidence_value, names="value")
        self.colormap.observe(self._on_colormap_value, names="value")
        self.opacity.observe(self._on_opacity_value, names="value")

    @property
    def listed(self) -> tuple[str, ...]:
        """The names of the layers in the list, in the order of the network."""
        return self._listed

    def show(self, choices: Choices) -> None:
        """Show these choices. Only what differs from what the controls hold is sent to the browser."""
        with self._as_shown():
            first = not self._choices.layers and choices.layers
            pictures, self._choices = self._choices.pictures, choices
            if first and any(kind == "conv" for _, kind, _ in choices.layers):
                self.filter.value = "conv"
            with self.picture.hold_sync():
                if choices.pictures != pictures:
                    self.picture.options = [(name, i) for i, name in enumerate(choices.pictures)]
                _set(self.picture, "value", choices.picture)
            self._show_layers(rebuild=False)
            with self.target.hold_sync():
                _set(self.target, "options", _offered(choices.class_options))
                _set(self.target, "value", choices.class_text)
            with self.compare.hold_sync():
                _set(self.compare, "options", _offered(choices.compare_options))
                _set(self.compare, "value", choices.compare)
            _set(self.alone, "disabled", not choices.compare)
            _set(self.method, "value", choices.method)
            _set(self.evidence, "value", choices.evidence)

    def show_look(self, colormap: str, opacity: float) -> bool:
        """Show colour map and opacity, unless the user is just moving these; whether anything was set.

        While a slider is dragged the browser is ahead of the kernel: sending it an older value would move the
        slider back under the user's hand.
        """
        if {"colormap", "opacity"} & set(self._hands.chosen):
            return False
        with self._as_shown():
            with self.colormap.hold_sync():
                _set(self.colormap, "options", self._state.offer.tables(self._state.evidence))
                _set(self.colormap, "value", colormap)
            _set(self.opacity, "value", opacity)
        return True

    def _show_layers(self, *, rebuild: bool) -> None:
        """Fill the layer list. The chosen layer is always in it, so that filtering changes no selection."""
        choices = self._choices
        if rebuild or choices.layers != self._listed_from or choices.layer not in (None, *self._listed):
            kinds = _FILTERS[self.filter.value]
            listed = [row for row in choices.layers if not kinds or row[1] in kinds or row[0] == choices.layer]
            self._listed_from, self._listed = choices.layers, tuple(name for name, _, _ in listed)
            with self.layer.hold_sync():
                options = tuple((label, name) for name, _, label in listed)
                _set(self.layer, "options", options)
                _set(self.layer, "value", choices.layer)
        else:
            _set(self.layer, "value", choices.layer)

    @contextmanager
    def _as_shown(self) -> Iterator[None]:
        """What is set inside is shown, not chosen."""
        before, self._hands.showing = self._hands.showing, True
        try:
            yield
        finally:
            self._hands.showing = before

    def _choose(self, **changes: object) -> None:
        """Write a choice of the user's into the state; when it is not valid, say so and show what holds."""
        before, self._hands.chosen = self._hands.chosen, tuple(changes)
        try:
            self._state.update(**changes)
        except Exception as error:
            self._refuse(error)
        finally:
            self._hands.chosen = before

    def _refuse(self, error: Exception) -> None:
        self._reject(error)
        self.show(self._choices)

    def _on_picture_value(self, change: Any) -> None:
        if not self._hands.showing and change["new"] is not None:
            self._choose(image_index=change["new"])

    def _on_upload_value(self, change: Any) -> None:
        if self._hands.showing or not change["new"]:
            return
        try:
            files = uploaded(change["new"])
            if isinstance(change["new"], tuple):  # ipywidgets 8; emptied, so that the same file can come again
                with self._as_shown():
                    self.upload.value = ()
            for name, content in files:
                self._upload_file(name, content)
        except Exception as error:
            self._refuse(error)

    def _on_layer_value(self, change: Any) -> None:
        if not self._hands.showing and change["new"] is not None:
            self._choose(layer=change["new"])

    def _on_previous_click(self, _: object) -> None:
        self._step(-1)

    def _on_next_click(self, _: object) -> None:
        self._step(1)

    def _step(self, by: int) -> None:
        if self._choices.layer not in self._listed:
            return
        there = self._listed.index(self._choices.layer) + by
        if 0 <= there < len(self._listed):
            self._choose(layer=self._listed[there])

    def _on_filter_value(self, change: Any) -> None:
        if not self._hands.showing:
            with self._as_shown():
                self._show_layers(rebuild=True)

    def _on_target_value(self, change: Any) -> None:
        self._choose_class("target", change["new"].strip(), PREDICTED)

    def _on_compare_value(self, change: Any) -> None:
        self._choose_class("compare_target", change["new"].strip(), NOTHING)

    def _choose_class(self, name: str, text: str, none: str) -> None:
        """Take what was written into a field for a class; ``none`` is the word for no class of one's own."""
        if self._hands.showing:
            return
        options = {*self._choices.class_options, *self._choices.compare_options}
        text = dict(zip(_offered(options), options, strict=True)).get(text, text) if "”" in text else text
        if not text:  # the field was cleared and left: no choice
            self.show(self._choices)
        elif text.casefold() == none:
            self._choose(**{name: None})
        else:
            try:
                index = find_class(text, self._choices.classes, self._choices.predictions)
            except ValueError as error:
                self._refuse(error)
            else:
                self._choose(**{name: index})

    def _on_alone_click(self, _: object) -> None:
        self._choose(compare_target=None)

    def _on_method_value(self, change: Any) -> None:
        if not self._hands.showing:
            self._choose(method=change["new"])

    def _on_evidence_value(self, change: Any) -> None:
        if not self._hands.showing:
            self._choose(evidence=change["new"])

    def _on_colormap_value(self, change: Any) -> None:
        if not self._hands.showing:
            self._choose(colormap=change["new"])

    def _on_opacity_value(self, change: Any) -> None:
        if not self._hands.showing:
            self._choose(opacity=change["new"])


def _offered(options: Iterable[str]) -> tuple[str, ...]:
    """The entries of a Combobox. That of ipywidgets 7 writes them into markup, between straight quotes."""
    if int(ipywidgets.__version__.split(".")[0]) >= 8:
        return tuple(options)
    return tuple(option.replace('"', "”") for option in options)


def _set(widget: Any, name: str, value: Any) -> None:
    """Set a trait where it differs: setting it to what it is may still notify."""
    if getattr(widget, name) != value:
        setattr(widget, name, value)
