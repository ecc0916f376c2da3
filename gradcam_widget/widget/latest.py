"""Work in the background of which only the latest counts: one run at a time, each with the last state."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

__all__ = ["Latest"]

_log = logging.getLogger("gradcam_widget")


class Latest:
    """Runs ``work`` in a thread of its own whenever it is asked to.

    However often it is asked while ``work`` runs, ``work`` runs once more afterwards, and so sees the last state.
    The thread ends when there is nothing left to do.

    Args:
        work: takes nothing; what it raises is logged.
    """

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._changed = threading.Condition()
        self._asked = self._stopped = False
        self._thread: threading.Thread | None = None

    def ask(self) -> None:
        """See to it that ``work`` runs from its beginning after this moment. Returns at once."""
        with self._changed:
            if self._stopped:
                return
            self._asked = True
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="gradcam_widget latest", daemon=True)
                self._thread.start()

    @property
    def pending(self) -> bool:
        """Whether it has been asked to run once more."""
        with self._changed:
            return self._asked

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until there is nothing left to do; whether that is so. Within ``work`` it returns at once."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while self._thread is not None and self._thread is not threading.current_thread():
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return False
                self._changed.wait(left)
        return True

    def stop(self) -> None:
        """Begin no more work. What is running comes to its end, which is not waited for."""
        with self._changed:
            self._stopped, self._asked = True, False

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._asked:
                    self._thread = None
                    self._changed.notify_all()
                    return
                self._asked = False
            try:
                self._work()
            except Exception:
                _log.exception("Work in the background failed")
