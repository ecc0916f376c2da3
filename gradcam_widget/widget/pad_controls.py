"""The pad's controls, each of which does without a mouse what the canvas does with it."""

from __future__ import annotations

import ipywidgets  # type: ignore[import-untyped]  # it has no types
import numpy as np

from gradcam_widget.painting import FILLS, TOOLS, Painting, Stroke
from gradcam_widget.widget.parts import classed

__all__ = ["SHOWING", "PadControls"]

_WORDS = {
    "grey": "grey",
    "mean": "mean colour",
    "blur": "blur",
    "colour": "paint colour",
    "original": "original (erase)",
}
SHOWING = ("before", "after")


class PadControls:
    """Show, Tool, Fill, Colour, Size, Undo, Reset, and a rectangle in numbers. The pad listens to them.

    Attributes:
        settings: by the name of the pad's trait that each of them sets.
    """

    def __init__(self) -> None:
        title = classed(ipywidgets.Label("Paint"), "gradcam-pad-title")
        showing = ipywidgets.ToggleButtons(
            description="Show", options=list(SHOWING), tooltips=["the original picture", "the painted picture"]
        )
        tool = ipywidgets.ToggleButtons(
            description="Tool",
            options=list(TOOLS),
            tooltips=["paint along a line", "drag a rectangle, or give it in numbers"],
        )
        fill = ipywidgets.Dropdown(description="Fill", options=[(_WORDS[name], name) for name in FILLS])
        colour = ipywidgets.ColorPicker(description="Colour", concise=True)
        size = ipywidgets.IntSlider(description="Size", min=1, max=96, readout=True)
        self.settings = {
            "showing": showing,
            "tool": tool,
            "fill": classed(fill, "gradcam-fill"),
            "colour": classed(colour, "gradcam-colour"),
            "size": classed(size, "gradcam-size"),
        }
        self.undo = classed(ipywidgets.Button(description="Undo", tooltip="Undo"), "gradcam-words")
        self.reset = classed(ipywidgets.Button(description="Reset", tooltip="Reset"), "gradcam-words")
        self._fields = [
            classed(ipywidgets.BoundedIntText(description=name, min=low, max=1), "gradcam-number")
            for name, low in (("x", 0), ("y", 0), ("width", 1), ("height", 1))
        ]
        self.apply = classed(
            ipywidgets.Button(description="Fill rectangle", tooltip="Fill rectangle"), "gradcam-words"
        )
        self.head = classed(_row(title, showing), "gradcam-pad-head")
        rectangle = classed(ipywidgets.HBox([*self._fields, self.apply]), "gradcam-pad-rectangle")
        self.rows = (_row(tool, fill, colour, size), _row(rectangle, self.undo, self.reset))

    @property
    def rectangle(self) -> tuple[int, int, int, int]:
        """x, y, width and height as given in numbers."""
        x, y, width, height = (int(field.value) for field in self._fields)
        return x, y, width, height

    def fit(self, height: int, width: int) -> None:
        """Let the fields reach over a picture of this size; at first they hold its middle."""
        size = self.settings["size"]
        size.max = max(2, min(height, width) // 2, size.value)
        first = self._fields[0].max == 1
        for field, most in zip(self._fields, (width - 1, height - 1, width, height), strict=True):
            field.max = max(most, field.min)
        if first:
            for field, value in zip(
                self._fields, (width // 3, height // 3, max(1, width // 3), max(1, height // 3)), strict=True
            ):
                field.value = value

    def show_rectangle(self, stroke: Stroke, height: int, width: int) -> None:
        """Show the numbers of a rectangle that was painted."""
        painting = Painting(np.zeros((height, width), np.uint8))
        x0, y0, x1, y1 = painting.add(stroke)
        if x0 < x1:
            for field, value in zip(self._fields, (x0, y0, x1 - x0, y1 - y0), strict=True):
                field.value = value


def _row(*controls: ipywidgets.Widget) -> ipywidgets.Widget:
    return classed(ipywidgets.HBox(list(controls)), "gradcam-controls")
