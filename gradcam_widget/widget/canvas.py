"""The Python side of the view: what it is told, and what it says back."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import anywidget
import ipywidgets  # type: ignore[import-untyped]  # it has no types
import numpy as np
import traitlets
from numpy.typing import NDArray

from gradcam_widget.widget import view, wire
from gradcam_widget.widget.kept import Kept, Places
from gradcam_widget.widget.notice import Notice, Task
from gradcam_widget.widget.strip import Thumbnail, strip_message

__all__ = ["Canvas"]

_log = logging.getLogger("gradcam_widget")


class Canvas(anywidget.AnyWidget):
    """The view: picture with heatmap, bars of alpha, predictions, status. The scripts in `view` draw it.

    Attributes:
        picture: what the model saw, as a PNG; sent only when it changes.
        scene: everything that depends on the selection; see `gradcam_widget.widget.scene.Scene`.
        pixels: the map at the picture's pixels, where the method has one, or {}; see `encode_pixels`. It travels
            in the message of its scene, in addition to its 10 kB: as many bytes as the PNG takes, some 100 kB for
            a picture of 224 x 224.
        zoom: how much that map is enlarged, 1 for the whole picture. The browser changes it on its own.
        class_table: whether the table of classes and channels is open. The browser changes it on its own.
        classes: that table, or {}: `ClassChannels.message`, or {"revision", "note"} where there cannot be one.
            Sent after its scene, and only while the table is open.
        notice: an error in words, or {}; see `Notice`.
        task: many passes that the map asked for needs, or {}; see `Task`. While there is one, the scene on show is
            that of an earlier question. The view answers {"type": "compute"} or {"type": "cancel"}.
        strip: thumbnails of the layers in the list, or {}; see `show_strip`. It follows its scene in a message of
            its own (some 25 kB for 50 layers), and only where picture, class, method, evidence or list have
            changed. The view answers {"type": "layer", "name": ...}.
        ablation: {} or what the model itself says without the channels that are off: {"score", "full_score",
            "probability", "full_probability"}. The view asks for it by {"type": "ablate"}, and has channels left
            out by {"type": "off", "base", "mask"}, see `wire.mask`.
        activations: activation maps of the scene on show, or {}: `wire.channels` with "revision", the base of the
            scene, and "first", the number of the first channel. Sent in a message of its own when a channel is
            first looked at, which the view tells by {"type": "activations", "revision", "channel"}.
        answered: the last request of a view's that has been handled, answered by what came with this or before. A
            view numbers what it asks ("request" in its message), to know what it waits for; {"type": "wait"} asks
            nothing else.
        terms: what each channel adds to the map at some cells, or {}: `wire.terms` with "revision", the base of
            the scene, and "first", the number of the first cell, counted row by row. The view asks for a cell by
            {"type": "terms", "base", "cell"}.
        probe: [row, column] of the cell that is kept under the probe, or None. The browser changes it on its own.
        channel: the channel that is kept on the picture; None for the heatmap. The browser changes it on its own.
        names: of the channels of the layer on show, or {}: `gradcam_widget.widget.naming.names_message`. Sent
            after the scene, once for each layer.
        patches: {"layer", "edition", "sprites"}: what excites some channels most, each a JPEG of at most 10 kB
            with its patches side by side. A view asks for it when a channel is first looked at, by {"type":
            "patches", "layer", "edition", "channels"}, and keeps it.
        words: which channels speak for the target and against it, or {}; with "revision", the base of the scene.
            Sent after it, and only while the panel "words" is on show.
        panels: names of the sections of the view that are on show.
        threshold: share of the map's maximum at which the box is cut. The browser changes it on its own.
        show_box: whether the box is drawn. The browser changes it on its own.
        opacity: of the heatmap, 0 to 1. The browser follows the control of this name.
        scale: "picture", "shared" or a positive number: which value has the strongest colour. The browser changes
            it on its own.
        colormap: name of the colour table.
        colormap_index: its number among the tables of its kind. A dropdown tells the browser its index, not its
            value, so this is what follows the colour map control, and what the view draws with: the table of this
            index that is diverging for signed evidence, and sequential otherwise.
        controls: the widgets of some controls by their ids. Of "opacity" and "colormap" the view follows the value
            in the browser; "layer", "previous", "next" and "target" lead to scenes that it may have kept.
        kept: what a saved notebook holds beyond the scene: `gradcam_widget.widget.kept.Kept.message`. It is no
            part of any message but those of the whole state; the view keeps its own.
        tables: {name: {"index", "kind": "sequential" | "diverging", "data": 256 x 3 bytes}}, sent once.
    """

    _esm: ClassVar[str] = view.script()
    _css: ClassVar[str] = view.style()

    picture = traitlets.Dict().tag(sync=True)
    scene = traitlets.Dict().tag(sync=True)
    pixels = traitlets.Dict().tag(sync=True)
    zoom = traitlets.Float(1.0).tag(sync=True)
    class_table = traitlets.Bool(False).tag(sync=True)
    classes = traitlets.Dict().tag(sync=True)
    names = traitlets.Dict().tag(sync=True)
    patches = traitlets.Dict().tag(sync=True)
    words = traitlets.Dict().tag(sync=True)
    notice = traitlets.Dict().tag(sync=True)
    task = traitlets.Dict().tag(sync=True)
    strip = traitlets.Dict().tag(sync=True)
    activations = traitlets.Dict().tag(sync=True)
    ablation = traitlets.Dict().tag(sync=True)
    answered = traitlets.Unicode("").tag(sync=True)
    terms = traitlets.Dict().tag(sync=True)
    probe = traitlets.Any(None, allow_none=True).tag(sync=True)
    channel = traitlets.Int(None, allow_none=True).tag(sync=True)
    panels = traitlets.List(traitlets.Unicode()).tag(sync=True)
    threshold = traitlets.Float(0.15).tag(sync=True)
    show_box = traitlets.Bool(False).tag(sync=True)
    opacity = traitlets.Float(0.5).tag(sync=True)
    scale = traitlets.Any("picture").tag(sync=True)
    colormap = traitlets.Unicode("viridis").tag(sync=True)
    colormap_index = traitlets.Int(0).tag(sync=True)
    controls = traitlets.Dict().tag(sync=True, **ipywidgets.widget_serialization)
    kept = traitlets.Dict().tag(sync=True, to_json=lambda _, canvas: canvas._kept.message())
    tables = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        tables: Mapping[str, tuple[str, NDArray[np.uint8]]],
        *,
        colormap: str,
        opacity: float,
        panels: Sequence[str] = (),
    ) -> None:
        """A view with its colour tables.

        Args:
            tables: {name: (kind, uint8 (256, 3))}, in the order of the colour map control.
            colormap: the one to begin with.
            opacity: to begin with.
            panels: sections of the view to begin with.
        """
        self._told = False  # whether what is set now is known to the browser
        self._request = ""  # the one that is being handled
        self._kept, self._places = Kept(), Places()
        self._sent_kept = 1  # how many scenes the record had when it was sent last
        self._on_target: list[Callable[[int], None]] = []
        self._on_task: list[Callable[[str], None]] = []
        self._on_layer: list[Callable[[str], None]] = []
        self._on_go: list[Callable[[Mapping[str, Any]], None]] = []
        self._on_ready: list[Callable[[], None]] = []
        self._on_truth: list[Callable[[], None]] = []
        self._on_cure: list[Callable[[str], None]] = []
        self._on_activations: list[Callable[[int, int], None]] = []
        self._on_pick: list[Callable[[Mapping[str, Any]], None]] = []
        self._on_export: list[Callable[[Mapping[str, Any]], None]] = []
        self._on_patches: list[Callable[[Mapping[str, Any]], None]] = []
        super().__init__(
            tables=(sent := _tables_message(tables)),
            colormap=colormap,
            colormap_index=sent[colormap]["index"],
            opacity=opacity,
            panels=list(panels),
        )
        self.add_class("gradcam-canvas")
        self.on_msg(self._on_view_message)

    @property
    def revision(self) -> int:
        """Of the scene on show; 0 before the first."""
        return int(self.scene.get("revision", 0))

    def on_target(self, callback: Callable[[int], None]) -> None:
        """Call ``callback(index)`` when a prediction is chosen in the view."""
        self._on_target.append(callback)

    def on_task(self, callback: Callable[[str], None]) -> None:
        """Call ``callback("compute" | "cancel")`` when the view is told to begin or to end a task."""
        self._on_task.append(callback)

    def on_layer(self, callback: Callable[[str], None]) -> None:
        """Call ``callback(name)`` when a layer of the strip is chosen in the view."""
        self._on_layer.append(callback)

    def on_go(self, callback: Callable[[Mapping[str, Any]], None]) -> None:
        """Call ``callback({"layer": name, "target": index})``, or with one of them, when the view rests on a scene
        that it has kept.
        """
        self._on_go.append(callback)

    def on_ready(self, callback: Callable[[], None]) -> None:
        """Call ``callback()`` when a view has been opened."""
        self._on_ready.append(callback)

    def on_truth(self, callback: Callable[[], None]) -> None:
        """Call ``callback()`` when the view is told to compare the prediction with the truth, or to end that."""
        self._on_truth.append(callback)

    def on_cure(self, callback: Callable[[str], None]) -> None:
        """Call ``callback(id)`` when one of the cures on offer is chosen in the view."""
        self._on_cure.append(callback)

    def on_activations(self, callback: Callable[[int, int], None]) -> None:
        """Call ``callback(revision, channel)`` when the view needs the activations of a scene."""
        self._on_activations.append(callback)

    @property
    def base(self) -> int:
        """Of the scene on show: the revision from which it differs by channels that are off alone."""
        return int(self.scene.get("base", self.revision))

    def on_patches(self, callback: Callable[[Mapping[str, Any]], None]) -> None:
        """Call ``callback(message)`` when the view needs the patches of channels."""
        self._on_patches.append(callback)

    def on_pick(self, callback: Callable[[Mapping[str, Any]], None]) -> None:
        """Call ``callback(message)`` when something is picked out of the map in the view."""
        self._on_pick.append(callback)

    def on_export(self, callback: Callable[[Mapping[str, Any]], None]) -> None:
        """Call ``callback(message)`` when a file, or the code, of what is on show is asked for in the view."""
        self._on_export.append(callback)

    def show(
        self,
        scene: dict[str, Any],
        picture: dict[str, Any] | None = None,
        colormap: str | None = None,
        pixels: dict[str, Any] | None = None,
    ) -> None:
        """Draw a scene (see `Scene.message`), with its picture and colour table where those are new, with its map
        at the pixels where it has one, and without a notice or a task.

        All of it travels as one message.
        """
        with self.hold_sync():
            if picture is not None:
                self.picture = picture
                self._kept.begin(picture)
            self._kept.add(scene)
            if colormap is not None:
                self._use(colormap)
            if self.scene and self.scene["layer"]["name"] != scene["layer"]["name"]:
                self.channel = self.probe = None  # they were those of the other layer
            self.scene = scene
            self.pixels = pixels or {}
            self.answered = self._request
            self.notice = {}
            self.task = {}
            self.activations = {}
            self.terms = {}
            self.ablation = {}

    def switch(self, scene: dict[str, Any]) -> None:
        """Draw the scene on show with other channels left out. All that belongs to its base stays."""
        with self.hold_sync():
            self.scene = scene
            self.answered = self._request
            self.ablation = {}

    def show_terms(self, values: NDArray[Any], first: int) -> None:
        """Give the view what each channel adds at some cells (n, K) of the scene on show, from ``first`` on."""
        self.terms = {"revision": self.base, "first": first} | wire.terms(values)

    def show_ablation(self, values: Mapping[str, float | None]) -> None:
        """Show what the model says without the channels that are off."""
        self.ablation = dict(values)

    def say(self, notice: Notice | None, task: Task | None = None) -> None:
        """Show a notice and a task, or take them away."""
        with self.hold_sync():
            self.notice = {} if notice is None else notice.as_message()
            self.work(task)

    def show_strip(self, thumbnails: Sequence[Thumbnail], evidence: str, question: int = 0) -> None:
        """Show the layers with their maps, in this order; ``question`` is that of their scene."""
        self.strip = strip_message(thumbnails, evidence, question)
        self._kept.add_strip(self.strip)

    def show_activations(self, maps: NDArray[Any], first: int) -> None:
        """Give the view the activation maps (n, h, w) of the scene on show, from channel ``first`` on."""
        self.activations = {"revision": self.base, "first": first} | wire.channels(maps)

    def work(self, task: Task | None) -> None:
        """Show how far a task is, or that it waits to be begun, or none."""
        with self.hold_sync():
            self.task = {} if task is None else task.as_message()
            self.answered = self._request

    def look(self, colormap: str, opacity: float, scale: str | float = "picture") -> None:
        """Set colour map, opacity and scale from the kernel."""
        with self.hold_sync():
            self._use(colormap)
            self.opacity = opacity
            self.scale = scale

    def has_look(self, colormap: str, opacity: float) -> None:
        """Hold the colour map and the opacity that the browser has on show: it is told nothing."""
        self._told = True
        try:
            self._use(colormap)
            self.opacity = opacity
        finally:
            self._told = False

    def get_state(self, key: Any = None, drop_defaults: bool = False) -> dict[str, Any]:
        """The state as it travels: every place that had binary parts once is still there."""
        return self._places.hold(super().get_state(key, drop_defaults))

    def send_kept(self) -> None:
        """Send what is kept, for a program that saves what it was sent, and has no view that keeps it."""
        if len(self._kept) > self._sent_kept:
            self._sent_kept = len(self._kept)
            self.send_state("kept")

    def _should_send_property(self, key: str, value: object) -> bool:
        return not self._told and bool(super()._should_send_property(key, value))

    def _use(self, colormap: str) -> None:
        self.colormap = colormap
        self.colormap_index = self.tables[colormap]["index"]

    def _on_view_message(self, _: object, content: object, buffers: object) -> None:
        if not isinstance(content, Mapping):
            return
        if isinstance(request := content.get("request"), str):
            self._request = request[:40]
        try:
            self._handle(content)
        finally:
            self.answered = self._request  # where nothing was to be drawn

    def _handle(self, content: Mapping[str, Any]) -> None:
        """Tell those who listen what a view asks."""
        if content.get("type") == "ready":
            for welcome in tuple(self._on_ready):
                welcome()
        if content.get("type") == "ready" and not content.get("complete", True):
            # Some front ends lose the binary parts of a view's first state.
            self.send_state(
                ["tables", "picture", "scene", "pixels", "classes", "words", "names", "notice", "task", "strip"]
            )
        elif content.get("type") == "target" and isinstance(content.get("index"), int):
            for callback in tuple(self._on_target):
                callback(content["index"])
        elif content.get("type") == "cure" and isinstance(content.get("id"), str):
            for heal in tuple(self._on_cure):
                heal(content["id"])
        elif content.get("type") == "truth":
            for meet in tuple(self._on_truth):
                meet()
        elif content.get("type") == "layer" and isinstance(content.get("name"), str):
            for choose in tuple(self._on_layer):
                choose(content["name"])
        elif content.get("type") == "go":
            wish = {
                name: content[name] for name in ("layer", "target") if isinstance(content.get(name), (str, int))
            }
            for travel in tuple(self._on_go) if wish else ():
                travel(wish)
        elif content.get("type") == "activations":
            if isinstance(content.get("revision"), int) and isinstance(content.get("channel"), int):
                for give in tuple(self._on_activations):
                    give(content["revision"], content["channel"])
        elif content.get("type") == "patches":
            for cut in tuple(self._on_patches):
                cut(content)
        elif content.get("type") in ("off", "ablate", "terms"):
            for pick in tuple(self._on_pick):
                pick(content)
        elif content.get("type") == "export":
            for give_away in tuple(self._on_export):
                give_away(content)
        elif content.get("type") == "wait":
            pass  # it only asks whether its turn has come
        elif content.get("type") in ("compute", "cancel"):
            for act in tuple(self._on_task):
                act(content["type"])
        else:
            _log.debug("The view sent something else: %r", content)


def _tables_message(tables: Mapping[str, tuple[str, NDArray[np.uint8]]]) -> dict[str, dict[str, Any]]:
    """The colour tables as the view takes them, each with its number among those of its kind."""
    counts: Counter[str] = Counter()
    sent: dict[str, dict[str, Any]] = {}
    for name, (kind, table) in tables.items():
        sent[name] = {"index": counts[kind], "kind": kind, "data": np.ascontiguousarray(table).tobytes()}
        counts[kind] += 1
    return sent
