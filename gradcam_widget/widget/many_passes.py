"""Many passes: the explorer's part that runs them when they are asked for, and tells how far they are."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

from gradcam_widget.engine import GradCAM
from gradcam_widget.perturbation import Cancelled
from gradcam_widget.widget.answers import Unpaid
from gradcam_widget.widget.canvas import Canvas
from gradcam_widget.widget.notice import Notice, Task
from gradcam_widget.widget.state import State, View
from gradcam_widget.widget.words import in_words

__all__ = ["ManyPasses"]

_log = logging.getLogger("gradcam_widget")

_TELL_SECONDS = 0.1  # how often the progress of many passes is told


class ManyPasses:
    """The part of the explorer that computes a map of many passes: beside the user's choices, which come first."""

    # The explorer's own, of which this is a part.
    engine: GradCAM
    _answered: View | None
    _canvas: Canvas
    _closed: bool
    _drawn: Any
    _failure: Notice | None
    _job_seconds: float
    _lock: threading.RLock
    _paid: set[View]
    _state: State
    _unpaid: Unpaid | None

    def _begin_passes(self) -> None:
        self._job: _Job | None = None  # the passes that are being run
        self._job_lock = threading.Lock()

    # What the explorer gives.

    def _counted(self) -> AbstractContextManager[None]:
        raise NotImplementedError

    def _explain(self, image: object, view: View, progress: Callable[[int, int], bool] | None = None) -> Any:
        raise NotImplementedError

    def _follow(self) -> None:
        raise NotImplementedError

    def _input(self, image_index: int) -> object:
        raise NotImplementedError

    def refresh(self) -> None:
        """Compute and draw what is asked, where that is not what is shown."""
        raise NotImplementedError

    def _begin_job(self) -> _Job | None:
        """The passes that are waited for, from now on being run; None where there are none."""
        with self._lock, self._job_lock:
            if self._closed or self._unpaid is None or self._job is not None:
                return None
            self._job = job = _Job(self._state.snapshot(), self._unpaid.task)
            self._canvas.work(replace(job.task, done=0))
            return job

    def _run_job(self, job: _Job) -> None:
        """Run passes until they are done or cancelled, and draw. Meanwhile only the engine is not to be had."""
        started = time.perf_counter()
        try:
            with self._lock:
                image = self._input(job.view.image_index)
            with self._counted():
                self._explain(image, job.view, lambda done, total: self._tell(job, done, total))
            self._paid.add(job.view)
            self._job_seconds = time.perf_counter() - started
        except Cancelled:
            return
        except Exception as error:
            _log.exception("No explanation for %s", job.view)
            job.error = error
        with self._lock:
            if self._drop_job(job):
                if job.error is None:
                    self._answered = None  # it has an answer now
                else:
                    self._failure = in_words(job.error, self.engine.device, stale=self._drawn is not None)
                    self._unpaid = None
                self.refresh()

    def _tell(self, job: _Job, done: int, total: int) -> bool:
        """Show how far passes are, from time to time; whether they shall go on."""
        with self._job_lock:
            if self._job is not job:
                return False
            if (now := time.monotonic()) >= job.next_word:
                job.next_word = now + _TELL_SECONDS
                self._canvas.work(replace(job.task, done=done, total=total))
        return True

    def _drop_job(self, job: _Job | None = None, *, wait: bool = False) -> bool:
        """Forget the passes that are being run, or only these; they end with the batch. Whether there were any."""
        with self._job_lock:
            running = self._job
            if running is None or job not in (None, running):
                return False
            self._job = None
        if wait and running.thread is not None and running.thread is not threading.current_thread():
            running.thread.join()
        return True

    def _drop_other_job(self, view: View) -> None:
        """Forget the passes that are being run for another question."""
        if self._job is not None and self._job.view != view:
            self._drop_job()

    def _on_canvas_task(self, wish: str) -> None:
        if wish == "cancel":
            if self._drop_job():
                with self._lock:
                    self._follow()
        elif (job := self._begin_job()) is not None:
            job.thread = threading.Thread(target=self._run_job, args=(job,), name="gradcam_widget", daemon=True)
            job.thread.start()


@dataclass(eq=False)
class _Job:
    """Many passes that are being run for a question."""

    view: View
    task: Task
    thread: threading.Thread | None = None
    error: Exception | None = None
    next_word: float = 0.0
