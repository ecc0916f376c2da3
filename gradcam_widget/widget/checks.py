"""The panel "Is it true?": runs a check of the map on show when it is asked to, and shows what it found."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import threading
import time
from dataclasses import dataclass, field
from typing import Any, ClassVar

import anywidget
import traitlets

from gradcam_widget.evaluate.checks import CHECKS, Asked, Check, Cost, Result
from gradcam_widget.evaluate.question import digits
from gradcam_widget.explanation import Explanation
from gradcam_widget.perturbation import Cancelled
from gradcam_widget.targets import ClassLogit, Finer, Target, name_target
from gradcam_widget.watch import Watch
from gradcam_widget.widget import view
from gradcam_widget.widget.state import nearest
from gradcam_widget.widget.words import in_words

__all__ = ["CheckPanel", "panel"]

_log = logging.getLogger("gradcam_widget")

_FOLLOWED = ("explanation", "image_index")  # the explorer sets one after the other
_TELL_SECONDS = 0.1  # how often progress is told
_YIELD_SECONDS = 0.002  # for which the engine is left to others after each batch
_KEPT = 24  # results that are remembered
_NO_MAP = {
    "title": "There is no map to check",
    "message": "A check is one of the map on show. Choose a method, layer and class that show one, then run it.",
}
_CHANGED = {
    "title": "The model or the picture has changed meanwhile",
    "message": "What was found is of no map that can be shown. Run the check again.",
}
_DOTS = 144  # per inch of a figure, twice what a page has


def panel(explorer: Any) -> CheckPanel:
    """The panel "checks" of an explorer."""
    return CheckPanel(explorer)


class CheckPanel(anywidget.AnyWidget):
    """Checks of the map that an explorer shows.

    A result belongs to the picture, layer, class and method that it was computed for: it is gone when one of them
    changes, and back when they do. Nothing runs before `run`, or the button, asks for it.

    Args:
        explorer: a `GradCAMWidget`.

    Attributes:
        opened: whether the panel is open.
        check: name of the chosen check, a key of `gradcam_widget.evaluate.checks.CHECKS`.
        checks: [{"name", "title", "question", "cost"}] that can be chosen.
        task: {"done", "total"} while a check runs; else {}.
        result: {"about", "verdict", "columns", "rows", "light", "dark", "width", "height"}, or {}.
        notice: {"title", "message"}, or {}.

    The view says {"type": "run"}, {"type": "cancel"} and {"type": "ready", "complete"}.
    """

    _esm: ClassVar[str] = view.script(view.CHECK_SCRIPTS)
    _css: ClassVar[str] = view.style(view.CHECK_STYLES)

    opened = traitlets.Bool(False).tag(sync=True)
    check = traitlets.Enum(tuple(CHECKS), next(iter(CHECKS))).tag(sync=True)
    checks: Any = traitlets.List().tag(sync=True)
    task = traitlets.Dict().tag(sync=True)
    result = traitlets.Dict().tag(sync=True)
    notice = traitlets.Dict().tag(sync=True)

    def __init__(self, explorer: Any) -> None:
        self._explorer = explorer
        self._lock = threading.RLock()
        self._job: _Job | None = None
        self._found: dict[tuple[_Key, str], _Found] = {}
        self._pass_seconds = _seconds_of(explorer.status)
        super().__init__()
        self.add_class("gradcam-checks")
        self.on_msg(self._on_message)
        self.observe(self._on_own_open, "opened")
        self.observe(self._on_own_check, "check")
        explorer.observe(self._on_explorer_explanation, list(_FOLLOWED))
        self._follow()

    @property
    def found(self) -> Result | None:
        """What the chosen check found for the map on show; None where it has not been run."""
        kept = self._kept(self._key())
        return None if kept is None else kept.result

    def run(self, check: str | None = None) -> Result | None:
        """Run a check of the map on show, wait for it, and show what it found; see `found`.

        Args:
            check: its name; None for the one that is chosen.
        """
        if check is not None:
            if check not in CHECKS:
                known = tuple(CHECKS)
                raise ValueError(
                    f"check: expected one of {', '.join(known)}; got {check!r}. {nearest(str(check), known)}"
                )
            self.check = check
        job = self._begin()
        if job is not None:
            self._work(job)
        elif (running := self._job) is not None:
            running.ended.wait()
        return self.found

    def check_now(self, check: str | None = None) -> Result | None:
        """Open the panel, and `run`."""
        self.opened = True
        return self.run(check)

    def cancel(self) -> None:
        """Stop what is running, after the batch that it is in."""
        self._drop(None)
        self._follow()

    def close(self) -> None:
        """Stop what is running, and close."""
        self._drop(None)
        with contextlib.suppress(ValueError):  # it may have been closed before
            self._explorer.unobserve(self._on_explorer_explanation, list(_FOLLOWED))
        super().close()

    # -- what is asked -----------------------------------------------------------------------------------------

    def _key(self) -> _Key | None:
        """What a result belongs to; None while no map is on show."""
        explanation: Explanation | None = self._explorer.explanation
        if explanation is None:
            return None
        images = list(self._explorer.pictures.values())
        index = self._explorer.image_index
        if index >= len(images):
            return None
        target = explanation.target
        if isinstance(target, Finer):  # FinerCAM makes it of the class that was asked for
            target = ClassLogit(target.index, target.name)
        return _Key(index, id(images[index]), images[index], explanation.layer.name, target, explanation.method)

    def _kept(self, key: _Key | None) -> _Found | None:
        """What the chosen check found for a map, where model and picture have not changed since."""
        with self._lock:
            kept = None if key is None else self._found.get((key, self.check))
            return None if kept is None or kept.watch.changed(wait=False) else kept

    def _cost(self, check: Check) -> str:
        explanation: Explanation | None = self._explorer.explanation
        if explanation is None:
            return ""
        cost = check.cost(explanation.method, len(explanation.alpha), explanation.picture)
        return f"{cost}{self._in_seconds(cost)}"

    def _in_seconds(self, cost: Cost) -> str:
        if self._pass_seconds is None:
            return ""
        seconds = _units(cost) * self._pass_seconds
        if seconds < 1:
            return ", less than a second"
        if seconds < 90:
            return f", roughly {seconds:.0f} s"
        return f", roughly {seconds / 60:.0f} min"

    def _follow(self) -> None:
        """Let the view show what belongs to the map on show. A closed panel is told nothing new of costs."""
        key = self._key()
        with self._lock:
            kept = self._kept(key)
            with self.hold_sync():
                if self.opened or not self.checks:
                    self.checks = [
                        {
                            "name": row.name,
                            "title": row.title,
                            "question": row.question,
                            "cost": self._cost(row) if self.opened else "",
                        }
                        for row in CHECKS.values()
                    ]
                self.result = {} if kept is None else kept.message
                if self._job is None:
                    self.task = {}

    # -- what is run -------------------------------------------------------------------------------------------

    def _begin(self) -> _Job | None:
        self._explorer.refresh()  # the map that is checked is one of the model as it is
        subject = self._explorer.subject()
        with self._lock:
            key = self._key()
            if key is None or subject is None:
                self.notice = _NO_MAP
            if key is None or subject is None or self._job is not None:
                return None
            self._job = job = _Job(key, CHECKS[self.check], *subject)
            self.notice = {}
            self.task = {"done": 0, "total": 0}
            return job

    def _work(self, job: _Job) -> None:
        try:
            self._run_to_its_end(job)
        finally:
            job.ended.set()

    def _run_to_its_end(self, job: _Job) -> None:
        """Run a check, or leave off where nobody wants it any more."""
        key, check, explorer = job.key, job.check, self._explorer
        others = [image for image in explorer.pictures.values() if image is not key.image]
        asked = Asked(explorer.engine, job.image, key.target, key.layer, key.method, others)
        started = time.perf_counter()
        notice: dict[str, Any] = {}
        try:
            found = check.run(asked, lambda done, total: self._tell(job, done, total))
            seconds = time.perf_counter() - started
            message = _message(found, key)
            if job.watch.changed():
                notice = _CHANGED
        except Cancelled:
            return
        except Exception as error:
            _log.exception("The check %s failed", check.name)
            said = in_words(error, explorer.engine.device, stale=False)
            notice = {"title": said.title, "message": said.message}
        with self._lock:
            if not self._drop(job):
                return
            if not notice:
                explanation = explorer.explanation
                if explanation is not None:
                    cost = check.cost(key.method, len(explanation.alpha), explanation.picture)
                    self._pass_seconds = seconds / max(1, _units(cost))
                while len(self._found) >= _KEPT:
                    del self._found[next(iter(self._found))]
                self._found[key, check.name] = _Found(found, message, job.watch)
            self.notice = notice
            self._follow()

    def _tell(self, job: _Job, done: int, total: int) -> bool:
        with self._lock:
            if self._job is not job:
                return False
            if (now := time.monotonic()) >= job.next_word:
                job.next_word = now + _TELL_SECONDS
                self.task = {"done": done, "total": total}
        time.sleep(_YIELD_SECONDS)
        return True

    def _drop(self, job: _Job | None) -> bool:
        """Forget what is running, or only this; whether it was."""
        with self._lock:
            if self._job is None or job not in (None, self._job):
                return False
            self._job = None
            return True

    # -- what comes in -----------------------------------------------------------------------------------------

    def _on_message(self, _: object, content: dict[str, Any], buffers: object) -> None:
        kind = content.get("type")
        if kind == "run":
            if (job := self._begin()) is not None:
                threading.Thread(target=self._work, args=(job,), name="gradcam_widget check", daemon=True).start()
        elif kind == "cancel":
            self.cancel()
        elif kind == "ready" and content.get("complete") is False:
            self.send_state(["result"])

    def _on_own_open(self, _: object) -> None:
        self._follow()

    def _on_own_check(self, _: object) -> None:
        self._drop(None)
        self.notice = {}
        self._follow()

    def _on_explorer_explanation(self, _: object) -> None:
        key = self._key()
        with self._lock:
            if self._job is not None and self._job.key != key:
                self._drop(None)
                self.notice = {}
            if key is not None and self.notice == _NO_MAP:
                self.notice = {}
        if self._pass_seconds is None:
            self._pass_seconds = _seconds_of(self._explorer.status)
        self._follow()


@dataclass(frozen=True)
class _Key:
    """What a result belongs to. The picture is held, so that its id is that of no other."""

    index: int
    identity: int
    image: Any = field(compare=False)
    layer: str
    target: Target
    method: str


@dataclass(frozen=True, eq=False)
class _Found:
    """A result, as the view takes it, and what tells whether it still holds."""

    result: Result
    message: dict[str, Any]
    watch: Watch


@dataclass(eq=False)
class _Job:
    """A check that is being run."""

    key: _Key
    check: Check
    image: object  # as the engine takes it
    watch: Watch
    next_word: float = 0.0
    ended: threading.Event = field(default_factory=threading.Event)


def _message(found: Result, key: _Key) -> dict[str, Any]:
    """A result as the view takes it."""
    light, (width, height) = _picture(found, dark=False)
    dark, _ = _picture(found, dark=True)
    numbers = found.numbers
    return {
        "about": f"{key.method} at {key.layer} for {name_target(key.target)}",
        "verdict": found.verdict,
        "columns": list(numbers.columns),
        "rows": [[title, *map(_in_digits, values)] for title, values in numbers.rows.items()],
        "light": light,
        "dark": dark,
        "width": width,
        "height": height,
    }


def _picture(found: Result, *, dark: bool) -> tuple[bytes, tuple[int, int]]:
    """The figure as PNG without a ground, and its size in CSS pixels."""
    figure = found.figure(dark=dark)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DOTS, transparent=True)
    width, height = figure.get_size_inches() * 96
    return buffer.getvalue(), (round(float(width)), round(float(height)))


def _in_digits(value: float | None) -> str:
    return "none" if value is None else digits(value)


def _units(cost: Cost) -> int:
    """Passes, a backward one counted as two forward ones."""
    return cost.forward + 2 * cost.backward


def _seconds_of(status: str) -> float | None:
    """Seconds of a forward pass, from the explorer's line about its last answer; None where that tells nothing."""
    passes = re.search(r"(\d+) forward", status)
    took = re.search(r"([\d.]+) ms", status)
    if passes is None or took is None:
        return None
    backward = re.search(r"(\d+) backward", status)
    units = int(passes[1]) + 2 * (int(backward[1]) if backward else 0)
    return float(took[1]) / 1000 / max(1, units)
