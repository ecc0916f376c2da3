"""Changes: the explorer's part that notices that model or picture are no longer what the map on show is of."""

from __future__ import annotations

import logging
import sys
import threading
import time
import weakref
from contextlib import ExitStack
from typing import Any

from gradcam_widget.engine import GradCAM
from gradcam_widget.harmless import lock_of
from gradcam_widget.neurons import fingerprint
from gradcam_widget.watch import Watch
from gradcam_widget.widget.canvas import Canvas
from gradcam_widget.widget.cures import Cure
from gradcam_widget.widget.notice import Notice

__all__ = ["Changes"]

_log = logging.getLogger("gradcam_widget")

_MOST_SECONDS = 1.0  # that a cell waits for what is being computed; a scene that is made ahead takes a part of it

_RENEW = (Cure("renew", "Show it as it is now", {}),)
_WORDS = {
    "model": Notice(
        "The model has changed",
        "What is on show is of the model as it was before. Any choice shows it as it is now; from Python, "
        "widget.refresh() does.",
        stale=True,
        cures=_RENEW,
        news=True,
        mark="out of date",
    ),
    "picture": Notice(
        "The picture has changed",
        "What is on show is of the picture as it was before. Any choice shows it as it is now; from Python, "
        "widget.refresh() does.",
        stale=True,
        cures=_RENEW,
        news=True,
        mark="out of date",
    ),
}


class Changes:
    """The part of the explorer that looks, before it tells more of a map, whether the map still holds.

    After each cell of a notebook it looks, too, and says in the view that a map is out of date. It computes none
    then: a cell may be one of many steps, and the model may be in the middle of something.
    """

    # The explorer's own, of which this is a part.
    engine: GradCAM
    names: Any
    _answered: Any
    _canvas: Canvas
    _closed: bool
    _drawn: Any
    _failure: Notice | None
    _input: Any
    _job: Any
    _layers: dict[int, Any]
    _lock: threading.RLock
    _reached: Any
    _unpaid: Any
    _aged: Notice | None = None  # what is said of a map that is out of date
    _picture_changed = False  # whether that is so since the map on show
    _following = False  # whether an answer is on its way into view, controls and traits

    def _begin_changes(self) -> None:
        _tell_after_cells(self)

    def _end_changes(self) -> None:
        _open.discard(self)

    # What the explorer gives.

    def refresh(self) -> None:
        """Compute and draw what is asked, where that is not what is shown."""
        raise NotImplementedError

    def subject(self) -> tuple[object, Watch] | None:
        """What the map on show is of: the picture, as the engine takes it, and what tells whether it and the model
        are still what they were. None where there is no map.
        """
        with self._lock:
            drawn = self._drawn
            return None if drawn is None else (self._input(drawn.view.image_index), drawn.watch)

    def _renew(self, *, wait: bool = True) -> bool:
        """Answer anew where what is on show is out of date: before more is told, or given away, of it.

        Args:
            wait: for a pass that runs at the moment, as in `gradcam_widget.watch.Watch.changed`.

        Returns:
            Whether what is on show holds then, as far as that is told. It does not where there is no answer.
        """
        with self._lock:
            if self._drawn is None or self._drawn.watch.changed(wait=wait) is None:
                return True
            if not self._following:
                self.refresh()
            return self._drawn.watch.changed(wait=wait) is None

    def _forget_changed(self, *, wait: bool) -> None:
        """Let nothing count as known that is of the model or the picture before they changed. Under the lock."""
        changed = None if self._drawn is None else self._drawn.watch.changed(wait=wait)
        self._picture_changed = changed == "picture"
        if changed is not None or wait:
            self._aged = None
        if changed is None:
            return
        self._answered = None
        if changed == "model":
            self._layers.clear()
            self._reached = None
            self._drop_names()

    def _drop_names(self) -> None:
        """Take away the names of channels that were found with other weights."""
        if self.names and any(found.model != fingerprint(self.engine.model) for found in self.names.values()):
            lost = ", ".join(map(repr, self.names))
            _log.warning(
                "%s",
                f"names: those of {lost} were found with the weights before, and are taken away; find "
                "them anew with name_channels(widget.engine, pictures, layer)",
            )
            self.names = {}

    def _look_for_changes(self, seconds: float) -> None:
        """Say so where the map on show is out of date; not while something is computed that takes longer."""
        with ExitStack() as held:
            for lock in (self._lock, lock_of(self.engine.model)):  # in the order in which all others take them
                if not lock.acquire(timeout=seconds):
                    return
                held.callback(lock.release)
            drawn = self._drawn
            if self._closed or drawn is None or self._failure or self._unpaid or self._job:
                return
            changed = drawn.watch.changed()
            before, self._aged = self._aged, None if changed is None else _WORDS[changed]
            if self._aged is not before:
                self._canvas.say(self._aged)


_open: weakref.WeakSet[Changes] = weakref.WeakSet()
_listening: list[weakref.ref[Any]] = []  # the shell whose cells are listened to


def _tell_after_cells(explorer: Changes) -> None:
    """Let an explorer look for changes after each cell; where there are no cells, nothing happens."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    if shell is None:
        return
    _open.add(explorer)
    if not (_listening and _listening[0]() is shell):
        _listening[:] = [weakref.ref(shell)]
        shell.events.register("post_run_cell", _after_cell)


def _after_cell(result: object = None) -> None:
    end = time.monotonic() + _MOST_SECONDS
    for explorer in list(_open):
        try:
            explorer._look_for_changes(max(0.0, end - time.monotonic()))
        except Exception:
            # It is no business of the cell that has just run.
            _log.debug("Whether the model has changed is not known", exc_info=True)
