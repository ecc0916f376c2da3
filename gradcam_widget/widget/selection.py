"""Selection: what the user picks out of the map on show. It asks the engine for nothing but what was picked."""

from __future__ import annotations

import threading
from numbers import Real
from typing import Any

import numpy as np
import traitlets

from gradcam_widget.localise import THRESHOLD, enlarge, find_box
from gradcam_widget.widget import wire
from gradcam_widget.widget.canvas import Canvas
from gradcam_widget.widget.state import SettingError

__all__ = ["Selection"]


class Selection(traitlets.HasTraits):
    """The part of the explorer that holds what is picked out of a map, both ways between Python and the view.

    Attributes:
        threshold: share of the map's maximum, 0 to 1, at which `box` cuts it.
        show_box: whether the box is drawn on the picture.
        box: (left, top, right, bottom) in pixels of the picture, right and bottom being the first ones outside:
            round the largest connected segment of the heatmap that reaches the threshold
            (`gradcam_widget.localise.find_box`), of the map as it is drawn. None without positive evidence.
    """

    threshold = traitlets.Any(THRESHOLD)
    show_box = traitlets.Any(False)
    box = traitlets.Any(None, allow_none=True, read_only=True)

    # The explorer's own, of which this is a part.
    _canvas: Canvas
    _lock: threading.RLock
    _map_shown = False  # whether the map in the view answers what is asked

    def _begin_selection(self) -> None:
        """Link the traits with the view."""
        for name in ("threshold", "show_box"):
            self._canvas.observe(self._on_canvas_pick, names=name)
        self.observe(self._on_own_look, names=["threshold", "show_box"])

    def _on_controls_reject(self, error: Exception) -> None:
        raise NotImplementedError

    # -- the box -----------------------------------------------------------------------------------------------

    @traitlets.validate("threshold")
    def _validate_threshold(self, proposal: Any) -> float:
        value = proposal["value"]
        if not isinstance(value, Real) or isinstance(value, bool) or not 0 <= float(value) <= 1:
            raise SettingError(f"threshold: expected a share of the map's maximum, from 0 to 1; got {value!r}")
        return float(value)

    @traitlets.validate("show_box")
    def _validate_show_box(self, proposal: Any) -> bool:
        value = proposal["value"]
        if not isinstance(value, (bool, np.bool_)):
            raise SettingError(f"show_box: expected True or False; got {value!r}")
        return bool(value)

    def _on_own_look(self, change: Any) -> None:
        setattr(self._canvas, change["name"], change["new"])
        if change["name"] == "threshold":
            with self._lock:
                self._measure_box()

    def _measure_box(self, shown: bool | None = None) -> None:
        """Let ``box`` follow the map in the view, and be None where that answers nothing (``shown`` is False)."""
        self._map_shown = self._map_shown if shown is None else shown
        scene, picture = self._canvas.scene, self._canvas.picture
        box = None
        if self._map_shown and scene and picture:
            # What the view draws, which for large maps is rounded.
            cam = np.maximum(wire.decode(scene["cam"]), 0)
            box = find_box(enlarge(cam, (picture["height"], picture["width"])), self.threshold)
        self.set_trait("box", box)

    # -- what comes from the view ------------------------------------------------------------------------------

    def _on_canvas_pick(self, change: Any) -> None:
        """A trait that the view has set; one that is not valid there is put back."""
        name = change["name"]
        try:
            setattr(self, name, change["new"])
        except Exception as error:
            setattr(self._canvas, name, getattr(self, name))
            self._on_controls_reject(error)
