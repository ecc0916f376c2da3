"""The paint pad: an ipycanvas on which the user edits a picture, with its controls and what came of it."""

from __future__ import annotations

import functools
import logging
import re
import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import ipywidgets  # type: ignore[import-untyped]  # it has no types
import numpy as np
import traitlets
from numpy.typing import NDArray

from gradcam_widget.painting import FILLS, TOOLS, Box, Painting, Picture, Stroke
from gradcam_widget.widget import wire
from gradcam_widget.widget.latest import Latest
from gradcam_widget.widget.occluding import Occluded, Occluder, Occluding
from gradcam_widget.widget.pad_canvas import PadCanvas
from gradcam_widget.widget.pad_controls import SHOWING, PadControls
from gradcam_widget.widget.pad_view import PadView, changes
from gradcam_widget.widget.parts import classed, close_all
from gradcam_widget.widget.state import SettingError

__all__ = ["Occluded", "Occluder", "PaintPad"]

_log = logging.getLogger("gradcam_widget")
_Method = TypeVar("_Method", bound=Callable[..., Any])


Scores = Callable[[Picture], Mapping[str, float]]
"""Class labels and their probabilities for a picture, uint8 (H, W, 3)."""


def _guarded(method: _Method) -> _Method:
    """A callback whose errors are shown in the pad and logged; in a notebook they would be lost."""

    @functools.wraps(method)
    def guarded(self: PaintPad, *args: Any) -> None:
        try:
            method(self, *args)
        except Exception as error:
            self._say(error)

    return guarded  # type: ignore[return-value] # its result is never used


class PaintPad(ipywidgets.VBox):  # type: ignore[misc]  # ipywidgets has no types
    """A picture that is painted on in the notebook.

    Args:
        picture: uint8 (H, W, 3) or (H, W), or a `Painting`.
        scores: class labels and probabilities of a picture, for the table. Called in a thread of its own, once at
            a time; where strokes have overtaken it, once more with the last of them.
        name: of the picture.
        occluder: makes occlusion maps; None for a pad without.
        grey: whether the picture has one channel only, so that colours are painted as the grey they have.

    Attributes:
        tool: "brush" or "rectangle".
        fill: "grey", "mean" (the picture's mean colour), "blur", "colour", or "original", which takes paint away.
        colour: "#rrggbb", for the fill "colour".
        size: diameter of the brush in pixels of the picture.
        soft: whether the brush has a soft edge.
        showing: "after" for the painted picture, "before" for the original. Painting shows "after".
        strokes: all strokes as data (`gradcam_widget.painting.Stroke`); can be set, and painted again elsewhere.
        before, after: {label: probability} of the original and of the painted picture. Read-only.

    All of it can be done without a mouse: by the controls, the rectangle in numbers, and from Python.
    """

    tool = traitlets.Enum(TOOLS, "brush")
    fill = traitlets.Enum(FILLS, "grey")
    colour = traitlets.Any("#ffffff")
    size = traitlets.Any(24)
    soft = traitlets.Bool(False)
    showing = traitlets.Enum(SHOWING, "after")
    strokes = traitlets.Any(())
    before = traitlets.Dict(read_only=True)
    after = traitlets.Dict(read_only=True)

    _closed = True  # until the constructor has come to its end

    def __init__(
        self,
        picture: NDArray[Any] | Painting,
        *,
        scores: Scores | None = None,
        name: str = "picture",
        occluder: Occluder | None = None,
        grey: bool = False,
        tool: str = "brush",
        fill: str = "grey",
        colour: str = "#ffffff",
        size: int | None = None,
        soft: bool = False,
    ) -> None:
        self._painting = picture if isinstance(picture, Painting) else Painting(picture)
        self._score: Scores | None = None
        self._grey, self._name, self._explained = grey, name, ""
        self._lock = threading.RLock()  # of the painting and the canvas; never held while others are called
        self._listeners: list[Callable[[Painting, Picture], None]] = []
        self._scored: Painting | None = None  # whose original `before` belongs to
        self._latest = Latest(self._follow)

        self._canvas = PadCanvas()
        self._view = PadView()
        self._view.add_class("gradcam-pad-view")
        self._occluding = Occluding(self._view, self._latest.wait, self._say)
        self._controls = PadControls()
        side = classed(ipywidgets.VBox([*self._controls.rows, self._view]), "gradcam-pad-side")
        body = classed(ipywidgets.HBox([self._canvas, side]), "gradcam-pad-body")
        super().__init__([self._controls.head, body])
        self._closed = False
        self.add_class("gradcam-widget")
        self.add_class("gradcam-pad")

        longest = max(self._painting.original.shape[:2])
        self.set_trait("size", max(1, round(longest / 9)) if size is None else size)
        self.tool, self.fill, self.colour, self.soft = tool, fill, colour, soft
        self._bind()
        self.load(self._painting, name)
        self.connect(scores, occluder)

    @classmethod
    def blank(
        cls, size: tuple[int, int] = (28, 28), *, scores: Scores | None = None, **arguments: Any
    ) -> PaintPad:
        """A black pad to draw on in white, with a soft brush: for digits and doodles.

        Args:
            size: (H, W) in pixels, small; each is shown as a square.
            scores: as in the class. ``picture[..., 0] / 255`` is what a model of one channel takes.
            arguments: as in the class; grey unless said otherwise.
        """
        settings: dict[str, Any] = {
            "name": "drawing",
            "grey": True,
            "fill": "colour",
            "size": max(1, round(min(size) / 14)),
            "soft": True,
        }
        return cls(np.zeros((*size, 3), np.uint8), scores=scores, **(settings | arguments))

    # -- what one does with it ---------------------------------------------------------------------------------

    @property
    def picture(self) -> Picture:
        """The picture as painted, uint8 (H, W, 3), a copy."""
        with self._lock:
            return self._painting.picture

    @property
    def original(self) -> Picture:
        """The picture as it was, uint8 (H, W, 3)."""
        return self._painting.original

    @property
    def painting(self) -> Painting:
        """What is being painted on."""
        return self._painting

    def stroke(self, *points: tuple[float, float], **how: Any) -> None:
        """Paint through points (x, y); ``how`` are fields of `Stroke`, by default as the controls say."""
        self._add(Stroke(tuple(points), **(self._how() | how)))

    def rectangle(self, x: float, y: float, width: float, height: float, **how: Any) -> None:
        """Paint a rectangle, given its upper left corner and its size in pixels; ``how`` as in `stroke`."""
        self._add(Stroke.rectangle(x, y, width, height, **(self._how(rectangle=True) | how)))

    def undo(self) -> None:
        """Take back the last stroke, or the last reset."""
        self._change(lambda painting: painting.undo())

    def reset(self) -> None:
        """Take away all strokes; `undo` brings them back."""
        self._change(lambda painting: painting.reset())

    def load(self, painting: Painting, name: str) -> None:
        """Paint on another picture; its strokes come with it."""
        with self._lock:
            self._painting.end()
            self._painting, self._name = painting, name
            height, width = painting.original.shape[:2]
            self._canvas.fit(height, width)
            self._controls.fit(height, width)
            self._draw(painting.box)
        self._tell_strokes()
        self._latest.ask()

    def connect(self, scores: Scores | None, occluder: Occluder | None = None) -> None:
        """Say what computes scores and occlusion maps; both as in the class."""
        self._score, self._scored = scores, None
        self._occluding.connect(occluder)
        self._latest.ask()

    def on_change(self, callback: Callable[[Painting, Picture], None]) -> None:
        """Call ``callback(painting, picture)`` after strokes, in a thread of its own; the latest picture wins."""
        self._listeners.append(callback)

    @property
    def outdated(self) -> bool:
        """Whether what is being computed has been overtaken by a stroke."""
        return self._latest.pending

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until scores and all that follows belong to the picture; whether that is so."""
        return self._latest.wait(timeout)

    def occlusion(self) -> Occluded | None:
        """Compute the occlusion map of the picture on show, wait for it, and show it; None where there is none."""
        return self._occluding.run() if self._occluding.begin() else None

    def explain(self, label: str) -> None:
        """Mark a class of the table as the one that is explained."""
        self._explained = wire.shorten(label)
        if self._view.scores and self._view.scores["explained"] != self._explained:
            self._view.scores = {**self._view.scores, "explained": self._explained}

    def show_occlusion(self, occluded: Occluded | None) -> None:
        """Show an occlusion map, or none."""
        self._occluding.show(occluded)

    def cancel(self) -> None:
        """Stop computing an occlusion map; it ends with the batch that is under way."""
        self._occluding.cancel()

    def close(self) -> None:
        """Close the pad with all its parts."""
        if self._closed:
            return
        self._closed = True
        self._latest.stop()
        self._occluding.close()
        for child in self.children:
            close_all(child)
        for part in (self.style, self.layout) if self.has_trait("style") else (self.layout,):
            part.close()
        super().close()

    # -- the canvas --------------------------------------------------------------------------------------------

    def _draw(self, box: Box) -> None:
        """Send a part of the picture on show to the canvas; the lock is held."""
        x0, y0, x1, y1 = box
        if x0 < x1 and y0 < y1:
            shown = self._painting.part(box) if self.showing == "after" else self.original[y0:y1, x0:x1]
            self._canvas.put(shown, x0, y0)

    @_guarded
    def _on_canvas_ready(self) -> None:
        with self._lock:
            self._draw(self._painting.box)

    @_guarded
    def _on_canvas_down(self, x: float, y: float) -> None:
        self.showing = "after"
        with self._lock:
            self._draw(self._painting.begin(Stroke(((x, y),), **self._how())))
        self._latest.ask()

    @_guarded
    def _on_canvas_move(self, x: float, y: float) -> None:
        with self._lock:
            box = self._painting.extend(x, y)
            self._draw(box)
        if box[0] < box[2]:
            self._latest.ask()

    @_guarded
    def _on_canvas_up(self, *_: float) -> None:
        with self._lock:
            self._painting.end()
        self._tell_strokes()

    @_guarded
    def _on_canvas_touch(self, touches: list[tuple[float, float]]) -> None:
        if touches:
            self._on_canvas_down(*touches[0])

    @_guarded
    def _on_canvas_drag(self, touches: list[tuple[float, float]]) -> None:
        if touches:
            self._on_canvas_move(*touches[0])

    # -- strokes -----------------------------------------------------------------------------------------------

    def _how(self, *, rectangle: bool = False) -> dict[str, Any]:
        """What the controls say of a stroke, or of a rectangle, which need not be told its tool."""
        red, green, blue = (int(self.colour[i : i + 2], 16) for i in (1, 3, 5))
        if self._grey:
            red = green = blue = round(0.299 * red + 0.587 * green + 0.114 * blue)
        return ({} if rectangle else {"tool": self.tool}) | {
            "fill": self.fill,
            "colour": (red, green, blue),
            "size": float(self.size),
            "soft": self.soft,
        }

    def _add(self, stroke: Stroke) -> None:
        self._check_open()
        self.showing = "after"
        with self._lock:
            self._draw(self._painting.add(stroke))
        self._tell_strokes()
        self._latest.ask()

    def _change(self, change: Callable[[Painting], bool]) -> None:
        self._check_open()
        self.showing = "after"
        with self._lock:
            if not change(self._painting):
                return
            self._draw(self._painting.box)
        self._tell_strokes()
        self._latest.ask()

    def _tell_strokes(self) -> None:
        """Let the trait, the fields and the canvas's name follow the painting."""
        with self._lock:
            strokes, name = self._painting.strokes, self._name
        height, width = self.original.shape[:2]
        count = f"{len(strokes)} stroke{'' if len(strokes) == 1 else 's'}"
        self._view.canvas = {"label": f"Paint pad: {wire.shorten(name)}, {width} × {height} pixels, {count}"}
        if strokes and strokes[-1].tool == "rectangle":
            self._controls.show_rectangle(strokes[-1], height, width)
        if strokes != self.strokes:
            self.strokes = strokes

    @traitlets.validate("strokes")
    def _validate_strokes(self, proposal: Any) -> tuple[Stroke, ...]:
        value = proposal["value"]
        if not isinstance(value, (tuple, list)) or not all(isinstance(stroke, Stroke) for stroke in value):
            raise SettingError(
                f"strokes: expected a list of gradcam_widget.painting.Stroke; got {value!r}, "
                f"a {type(value).__name__}"
            )
        return tuple(value)

    @traitlets.validate("colour")
    def _validate_colour(self, proposal: Any) -> str:
        value = proposal["value"]
        if isinstance(value, str) and re.fullmatch(r"#[0-9a-fA-F]{6}", value):
            return value.lower()
        raise SettingError(f"colour: expected '#rrggbb', such as '#ff0000' for red; got {value!r}")

    @traitlets.validate("size")
    def _validate_size(self, proposal: Any) -> int:
        value = proposal["value"]
        if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
            return value
        raise SettingError(
            f"size: expected the diameter of the brush, a whole number of pixels from 1; got {value!r}"
        )

    # -- what follows the picture ------------------------------------------------------------------------------

    def _follow(self) -> None:
        """Compute what follows the picture. Runs in the thread of `Latest`; the lock is not held meanwhile."""
        with self._lock:
            painting, picture = self._painting, self._painting.picture
        try:
            for listener in tuple(self._listeners):
                listener(painting, picture)
            if self._score is not None:
                known = self._scored is painting
                before = self.before if known else dict(self._score(painting.original))
                after = dict(self._score(picture)) if (picture != painting.original).any() else before
                if painting is self._painting and not self._closed:
                    self._scored = painting
                    self._show_scores(before, after)
            if self._view.notice:
                self._view.notice = {}
        except Exception as error:
            self._say(error)

    def _show_scores(self, before: dict[str, float], after: dict[str, float]) -> None:
        self.set_trait("before", before)
        self.set_trait("after", after)
        rows = [row | {"label": wire.shorten(row["label"])} for row in changes(before, after)]
        self._view.scores = {"rows": rows, "explained": self._explained}
        if self._view.task.get("done") is None:
            self._occluding.offer()

    def _say(self, error: Exception) -> None:
        """Show an error where the user looks, and log it."""
        if self._closed:
            return
        _log.error("The paint pad met an error", exc_info=error)
        title = (
            "That is not possible" if isinstance(error, ValueError) else f"{type(error).__name__} while painting"
        )
        self._view.notice = {"title": title, "message": wire.shorten(str(error) or "see the log", 600)}

    # -- what comes in -----------------------------------------------------------------------------------------

    def _bind(self) -> None:
        controls, canvas = self._controls, self._canvas
        for name, control in controls.settings.items():
            control.value = getattr(self, name)
            control.observe(functools.partial(self._on_control, name), names="value")
        self.observe(self._on_own_setting, names=list(controls.settings))
        self.observe(self._on_own_showing, names="showing")
        self.observe(self._on_own_strokes, names="strokes")
        controls.undo.on_click(self._on_undo_click)
        controls.reset.on_click(self._on_reset_click)
        controls.apply.on_click(self._on_apply_click)
        canvas.on_client_ready(self._on_canvas_ready)
        canvas.on_mouse_down(self._on_canvas_down)
        canvas.on_mouse_move(self._on_canvas_move)
        canvas.on_mouse_up(self._on_canvas_up)
        canvas.on_mouse_out(self._on_canvas_up)
        canvas.on_touch_start(self._on_canvas_touch)
        canvas.on_touch_move(self._on_canvas_drag)
        canvas.on_touch_end(self._on_canvas_up)
        canvas.on_touch_cancel(self._on_canvas_up)
        self._view.on_msg(self._on_view_message)

    @_guarded
    def _on_control(self, name: str, change: Any) -> None:
        chosen = getattr(self, name) != change["new"]
        setattr(self, name, change["new"])
        if name == "colour" and chosen:
            self.fill = "colour"  # who takes a colour wants to paint with it

    def _on_own_setting(self, change: Any) -> None:
        control = self._controls.settings[change["name"]]
        if change["name"] == "size" and change["new"] > control.max:
            control.max = change["new"]
        if control.value != change["new"]:
            control.value = change["new"]

    def _on_own_showing(self, _: object) -> None:
        with self._lock:
            self._painting.end()
            self._draw(self._painting.box)
        self._latest.ask()

    def _on_own_strokes(self, change: Any) -> None:
        if change["new"] != self._painting.strokes:
            self._change(lambda painting: painting.repaint(change["new"]))

    @_guarded
    def _on_undo_click(self, _: object) -> None:
        self.undo()

    @_guarded
    def _on_reset_click(self, _: object) -> None:
        self.reset()

    @_guarded
    def _on_apply_click(self, _: object) -> None:
        self.rectangle(*self._controls.rectangle)

    @_guarded
    def _on_view_message(self, _: object, content: object, buffers: object) -> None:
        kind = content.get("type") if isinstance(content, Mapping) else None
        if kind == "undo":
            self.undo()
        elif kind == "cancel":
            self.cancel()
        elif kind == "occlude" and self._occluding.begin():
            threading.Thread(target=self._occluding.run, name="gradcam_widget occlusion", daemon=True).start()
        elif kind == "ready" and isinstance(content, Mapping) and not content.get("complete", True):
            # Some front ends lose the binary parts of a view's first state.
            self._view.send_state(["canvas", "scores", "task", "occlusion", "notice"])

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("This PaintPad is closed; make a new one")
