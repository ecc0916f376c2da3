"""What a saved notebook keeps beyond the scene on show: the scenes of the same picture that were shown before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["KEPT_BYTES", "Kept", "Places"]

KEPT_BYTES = 300_000
"""What the scenes and strips of a record may weigh together."""


class Kept:
    """Scenes and strips of one picture in the order in which they were shown; the oldest make room for new ones.

    The view keeps such a record too, of what it was sent (``kept.js``), so that front ends which save what is in
    the browser save it as well. Both follow the same rules.

    Args:
        limit: bytes. What is on show is kept even if it is heavier.
    """

    def __init__(self, limit: int = KEPT_BYTES) -> None:
        self._limit = limit
        self._picture = ""
        self._scenes: list[Mapping[str, Any]] = []
        self._strips: list[Mapping[str, Any]] = []

    def begin(self, picture: Mapping[str, Any]) -> None:
        """Another picture: nothing that was kept is about it."""
        self._picture = mark_of(picture)
        self._scenes, self._strips = [], []

    def add(self, scene: Mapping[str, Any]) -> None:
        """Keep a scene message in the place of an earlier one of the same selection.

        What is of another forward pass goes: the model has changed since. A scene with channels left out, or with
        a map at the picture's pixels, which travels beside it, is not kept.
        """
        if any(other["trace"] != scene["trace"] for other in self._scenes):
            self._scenes, self._strips = [], []
        if not (scene.get("off") or scene["method"].get("pixels")):
            self._scenes = [other for other in self._scenes if other["base"] != scene["base"]]
            self._scenes.append(scene)
        self._shed()

    def add_strip(self, strip: Mapping[str, Any]) -> None:
        """Keep the strip of the scenes that answer the same question."""
        if strip.get("layers"):
            self._strips = [other for other in self._strips if other["question"] != strip["question"]]
            self._strips.append(strip)
            self._shed()

    def message(self) -> dict[str, Any]:
        """The record as the view takes it: {"picture", "scenes": {place: scene}, "strips": {place: strip}}."""
        if not self._scenes:
            return {}
        scenes, strips = (
            {str(place): one for place, one in enumerate(kept)} for kept in (self._scenes, self._strips)
        )
        return {"picture": self._picture, "scenes": scenes, "strips": strips}

    def __len__(self) -> int:
        return len(self._scenes)

    def _shed(self) -> None:
        while len(self._scenes) > 1 and sum(map(weight, (*self._scenes, *self._strips))) > self._limit:
            del self._scenes[0]
            asked = {scene["question"] for scene in self._scenes}
            self._strips = [strip for strip in self._strips if strip["question"] in asked]


class Places:
    """The places of binary parts below a trait: what was in a message once is in all later ones.

    A program that executes a notebook and saves its widgets (nbclient) keeps each binary part for ever, by its
    place. Where a later message has no such place, no front end can open the notebook: so an empty one stays.
    """

    def __init__(self) -> None:
        self._known: dict[str, dict[str, Any]] = {}

    def hold(self, state: dict[str, Any]) -> dict[str, Any]:
        """The state with the places that its traits had before."""
        held = {}
        for name, value in state.items():
            if isinstance(value, Mapping):
                known = self._known.setdefault(name, {})
                _note(value, known)
                value = _filled(value, known)
            held[name] = value
        return held


def mark_of(picture: Mapping[str, Any]) -> str:
    """What tells a picture from others: its name, and the sums at the end of its PNG."""
    return f"{bytes(picture['data'])[-20:-12].hex()} {picture['name']}"


def weight(kept: Mapping[str, Any]) -> int:
    """About how many bytes a scene or a strip takes."""
    if "layers" in kept:
        return len(kept["data"]) + 200 * len(kept["layers"])
    beside = kept.get("compare") or {}
    arrays = [
        kept["cam"],
        kept["alpha"],
        kept["contribution"],
        *(beside.get(n) for n in ("alpha", "cam", "contrast")),
    ]
    return 2000 + sum(len(array["data"]) for array in arrays if array)


def _note(value: Mapping[str, Any], known: dict[str, Any]) -> None:
    """Add the places of the binary parts below a value to those that are known; its own parts need none."""
    for name, part in value.items():
        if isinstance(part, Mapping) and _has_bytes(part):
            _note(part, known.setdefault(name, {}))


def _has_bytes(value: Mapping[str, Any]) -> bool:
    return any(
        isinstance(part, (bytes, bytearray, memoryview)) or (isinstance(part, Mapping) and _has_bytes(part))
        for part in value.values()
    )


def _filled(value: Mapping[str, Any], known: Mapping[str, Any]) -> Mapping[str, Any]:
    if not known:
        return value
    missing = {}
    for name, below in known.items():
        part = value.get(name)
        if not isinstance(part, Mapping):
            missing[name] = _filled({}, below)
        elif below:
            missing[name] = _filled(part, below)
    return {**value, **missing}
