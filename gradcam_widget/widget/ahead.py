"""Ahead: the explorer's part that gives the view the scenes of other layers before they are asked for."""

from __future__ import annotations

import logging
import threading
import time
import zlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import traitlets

from gradcam_widget.engine import GradCAM
from gradcam_widget.methods import METHODS
from gradcam_widget.widget import wire
from gradcam_widget.widget.canvas import Canvas
from gradcam_widget.widget.latest import Latest
from gradcam_widget.widget.scene import Scene
from gradcam_widget.widget.state import View

__all__ = ["AHEAD_BYTES", "Ahead", "scenes_message"]

_log = logging.getLogger("gradcam_widget")

AHEAD_BYTES = 256_000
"""What the scenes that are sent ahead for one question may weigh together."""

_IDLE_SECONDS = 0.3  # after the last answer, before anything is made ahead
_BREATH_SECONDS = 0.002  # between two layers, for whoever waits for the interpreter
_MOST_SECONDS = 0.25  # that a scene may take; where one does not, it is the last
_TEXT_BYTES = 900  # of a scene that is sent ahead, beside its numbers
_NEAREST = 6  # layers round the one on show, which are sent first

# What the scenes of one question have in common.
_SHARED = ("trace", "question", "ground", "chosen", "target", "method", "evidence", "off", "predictions", "truth")


class Ahead(traitlets.HasTraits):
    """The part of the explorer that sends scenes before they are asked for, which a view keeps by their numbers.

    When nothing has been asked for a moment, the scenes of the other layers in the list are computed, one by one,
    and sent in two messages: first those round the layer on show. With them a view steps from layer to layer
    without the kernel. What is asked meanwhile comes first. Where no view has been opened nothing is made.
    """

    # The explorer's own, of which this is a part.
    engine: GradCAM
    _canvas: Canvas
    _closed: bool
    _controls: Any
    _drawn: Any
    _failure: Any
    _unpaid: Any
    _lock: threading.RLock
    _state: Any
    _has_views = False  # whether there is anybody to send to
    _sent_ahead: tuple[Any, ...] = ()  # what has been sent

    def _begin_ahead(self) -> None:
        """Prepare to send ahead, also to views that open later."""
        self._ahead = Latest(self._make_ahead)
        self._moved = threading.Event()  # a question has been asked
        self._canvas.on_ready(self._on_canvas_ready)

    def _end_ahead(self) -> None:
        self._ahead.stop()
        self._moved.set()
        self._ahead.wait(1.0)  # not for ever: who closes may hold the lock

    def _look_ahead(self) -> None:
        """Begin anew to wait for a quiet moment."""
        self._moved.set()
        if self._has_views and self._quest() not in (None, self._sent_ahead):
            self._ahead.ask()

    def _on_canvas_ready(self) -> None:
        self._has_views, self._sent_ahead = True, ()
        self._look_ahead()

    # What the explorer gives.

    def _asked(self) -> View:
        raise NotImplementedError

    def _aside(self) -> AbstractContextManager[None]:
        raise NotImplementedError

    def _found(self, view: View) -> Any:
        raise NotImplementedError

    def _quest(self) -> tuple[Any, ...] | None:
        """What would be sent ahead now; None for nothing."""
        drawn = self._drawn
        if drawn is None or self._failure or self._unpaid or self._closed:
            return None
        row = METHODS[drawn.view.method]
        if row.many_passes or "guided" in row.needs or "curvature" in row.needs or row.name.startswith("Eigen"):
            return None  # each layer would cost a pass, or some
        return drawn.whole.question, drawn.whole.ground, self._controls.listed

    def _make_ahead(self) -> None:
        """Compute the scenes of the layers in the list, and send them. It gives way to every question."""
        self._moved.clear()
        if self._moved.wait(_IDLE_SECONDS):
            return  # what moved has asked for another turn
        with self._lock:
            quest, drawn = self._quest(), self._drawn
            if quest is None or quest == self._sent_ahead:
                return
            listed = list(self._controls.listed)
        shown = drawn.explanation.layer.name
        here = listed.index(shown) if shown in listed else len(listed) - 1
        others = [place for place, name in enumerate(listed) if name != shown]
        order = sorted(others, key=lambda place: abs(place - here))
        room = AHEAD_BYTES
        most = min(AHEAD_BYTES // max(len(order), 1), wire.SCENE_BYTES)
        for group in (order[:_NEAREST], order[_NEAREST:]):
            scenes: list[Scene] = []
            for place in group:
                if room <= 0:
                    break
                if self._moved.wait(_BREATH_SECONDS) or self._drawn is not drawn:
                    return
                began = time.monotonic()
                scene = self._scene_at(drawn, listed[place])
                is_slow = time.monotonic() - began > _MOST_SECONDS
                size = 0 if scene is None else _weight(scene)
                if scene is not None and size <= room:
                    scenes.append(scene)
                    room -= size
                if is_slow:
                    room = 0  # whoever chose something would have to wait as long
            if scenes:
                content, buffer = scenes_message(scenes, most)
                self._canvas.send(content, [buffer])
        with self._lock:
            if self._quest() == quest:
                self._sent_ahead = quest

    def _scene_at(self, drawn: Any, layer: str) -> Scene | None:
        """The scene of another layer for the question on show; None where there is none."""
        with self._lock:
            if self._drawn is not drawn or self._closed or drawn.watch.changed(wait=False):
                return None
            try:
                with self._aside():
                    scene: Scene = self._found(replace(drawn.view, layer=layer)).whole
            except Exception:
                # Nothing that was asked for has failed; the layer itself will tell when it is asked for.
                _log.debug("There is no scene at %s", layer, exc_info=True)
                return None
        # The model may have changed meanwhile, in a cell that runs.
        return scene if (scene.question, scene.ground) == (drawn.whole.question, drawn.whole.ground) else None


def _weight(scene: Scene) -> int:
    """About how many bytes of a message a scene takes."""
    return _TEXT_BYTES + (4 * len(scene.alpha) + scene.cam.size) * (1 if scene.pair is None else 2)


def scenes_message(scenes: Sequence[Scene], most: int) -> tuple[dict[str, Any], bytes]:
    """Scenes of one question as a view takes them, see ``scenes.js``: content and buffer of a custom message.

    Args:
        scenes: of which those parts are equal that one question has in common.
        most: bytes of each, before they are deflated together.
    """
    shared: dict[str, Any] = {}
    sent = []
    parts: list[bytes] = []
    end = 0

    def place(array: Mapping[str, Any]) -> dict[str, Any]:
        nonlocal end
        parts.append(array["data"])
        start, end = end, end + len(array["data"])
        return {**array, "data": [start, end - start]}

    for scene in scenes:
        message = scene.message(0, most, plain=True)
        shared = {name: message[name] for name in _SHARED if name in message}
        own = {name: value for name, value in message.items() if name not in _SHARED and name != "revision"}
        for name in ("cam", "alpha", "contribution"):
            own[name] = place(own[name])
        if "alpha" in own.get("compare", {}):
            pair = own["compare"]
            own["compare"] = {**pair, **{name: place(pair[name]) for name in ("alpha", "cam", "contrast")}}
        sent.append(own)
    data = zlib.compress(b"".join(parts), 1)
    return {"type": "scenes", "shared": shared, "scenes": sent, "size": end}, data
