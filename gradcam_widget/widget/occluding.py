"""Occluding: the occlusion map of a pad is offered with its cost, computed one at a time, and shown."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from PIL import Image

from gradcam_widget.painting import Picture
from gradcam_widget.widget import wire
from gradcam_widget.widget.pad_view import PadView

__all__ = ["Occluded", "Occluder", "Occluding", "Progress"]

Progress = Callable[[int, int], bool]
"""Called with (passes done, passes in all); False asks to stop."""


@dataclass(frozen=True)
class Occluded:
    """An occlusion map, to be looked at.

    Attributes:
        picture: uint8 (H, W, 3), the map in colours.
        sentences: what it says, one after the other.
    """

    picture: Picture
    sentences: tuple[str, ...]


class Occluder(Protocol):
    """What makes occlusion maps for a pad."""

    def passes(self) -> int:
        """How many passes the map of the picture on show takes."""

    def run(self, progress: Progress) -> Occluded | None:
        """The map of the picture on show; None when it was asked to stop."""


class Occluding:
    """The part of a pad that gives occlusion maps.

    Args:
        view: where they are offered and shown.
        wait: waits until all else that follows the picture has been computed.
        say: shows an error.
    """

    def __init__(self, view: PadView, wait: Callable[[], object], say: Callable[[Exception], None]) -> None:
        self._view, self._wait, self._say = view, wait, say
        self._occluder: Occluder | None = None
        self._lock = threading.Lock()
        self._running = False
        self._number = 0  # of the one that may be running

    def connect(self, occluder: Occluder | None) -> None:
        """Say what computes the maps; None for no maps."""
        self._occluder = occluder
        self.offer()

    def offer(self) -> None:
        """Offer a map with what it costs."""
        task: dict[str, Any] = {}
        if self._occluder is not None:
            task = {"total": self._occluder.passes(), "done": None}
        if task != self._view.task:
            self._view.task = task

    def begin(self) -> bool:
        """Whether `run` may be called now: no other map is being computed."""
        with self._lock:
            if self._running:
                return False
            self._running, self._number = True, self._number + 1
            return True

    def run(self) -> Occluded | None:
        """Compute and show a map, which has begun; None where there is none."""
        number, occluder = self._number, self._occluder
        occluded = None
        try:
            if occluder is not None:
                total = occluder.passes()
                self._view.task = {"total": total, "done": 0}
                self._wait()
                occluded = occluder.run(lambda done, total: self._tell(number, done, total))
                if occluded is not None and self._goes_on(number):
                    self.show(occluded)
        except Exception as error:
            self._say(error)
        finally:
            if self._drop(number):
                self.offer()
        return occluded

    def show(self, occluded: Occluded | None) -> None:
        """Show a map, or none."""
        if occluded is None:
            self._view.occlusion = {}
            return
        buffer = io.BytesIO()
        Image.fromarray(occluded.picture).save(buffer, "PNG")
        height, width = occluded.picture.shape[:2]
        self._view.occlusion = {
            "data": buffer.getvalue(),
            "width": width,
            "height": height,
            "sentences": [wire.shorten(sentence, 300) for sentence in occluded.sentences],
        }

    def cancel(self) -> None:
        """Stop computing; it ends with the batch that is under way."""
        if self._drop():
            self.offer()

    def close(self) -> None:
        """Stop computing, and offer nothing any more."""
        self._occluder = None
        self._drop()

    def _tell(self, number: int, done: int, total: int) -> bool:
        """Show how far a map is; whether it shall go on."""
        if not self._goes_on(number):
            return False
        self._view.task = {"total": total, "done": done}
        return True

    def _goes_on(self, number: int) -> bool:
        with self._lock:
            return self._running and self._number == number

    def _drop(self, number: int | None = None) -> bool:
        """Forget what is being computed, or only that of this number; whether there was anything."""
        with self._lock:
            if not self._running or number not in (None, self._number):
                return False
            self._running = False
            return True
