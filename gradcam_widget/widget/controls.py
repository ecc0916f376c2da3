"""The controls above the view: what may be chosen, and what the user chose, in ipywidgets."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import ipywidgets  # type: ignore[import-untyped]  # it has no types

from gradcam_widget.widget.choices import NOTHING, PREDICTED, Choices, find_class
from gradcam_widget.widget.parts import classed
from gradcam_widget.widget.state import EVIDENCE, State

__all__ = ["Controls", "uploaded"]

_FILTERS: Mapping[str, tuple[str, ...]] = {
    "conv": ("conv",),
    "blocks": ("block", "attention"),
    "all": (),
}
_EVIDENCE_WORDS = ("what speaks for the class", "what speaks for it and against it", "what speaks against it")


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
    """Picture, Layer, Show, Class, Method, Evidence, Compare with, Colour map and Opacity, in a row that wraps.

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
            self.method,
            self.evidence,
            pair,
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
