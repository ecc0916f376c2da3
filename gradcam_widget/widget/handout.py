"""The hand-out: the explorer as one HTML file, without a kernel and without a network."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np

from gradcam_widget.arguments import check_function
from gradcam_widget.engine import GradCAM, Passes
from gradcam_widget.explanation import Explanation
from gradcam_widget.files import checked_path, write_file
from gradcam_widget.layers import Layer
from gradcam_widget.methods import METHODS
from gradcam_widget.perturbation import Cancelled
from gradcam_widget.resolution import check_names
from gradcam_widget.targets import Counterfactual
from gradcam_widget.widget.canvas import Canvas
from gradcam_widget.widget.handout_page import (
    EVIDENCE,
    SPRITES,
    Lesson,
    Names,
    Picture,
    Read,
    Words,
    listed,
    page_within,
)
from gradcam_widget.widget.naming import names_message, sprite_of
from gradcam_widget.widget.scene import Scene
from gradcam_widget.widget.state import State, View, nearest
from gradcam_widget.widget.words import classes_of, predictions_of

__all__ = ["MAX_BYTES", "HandOut"]

MAX_BYTES = 3_000_000
"""What a hand-out may weigh, unless another limit is given."""

_CLASSES = 10  # the likeliest ones, where none are named

_PANELS = ("heatmap", "alpha", "predictions", "layers", "words", "classes")  # those that need no kernel

_LAYERS: Mapping[str, tuple[str, ...]] = {"blocks": ("block", "attention"), "conv": ("conv",), "all": ()}
"""Groups of layers by a name, as in the control Show: the kinds of each; none for every kind."""

# Methods whose map is linear in the target, so that the contrast of two classes is the difference of their maps.
_LINEAR = ("GradCAM", "XGradCAM", "HiResCAM", "CAM")


class HandOut:
    """The part of the explorer that writes what it shows into one HTML file."""

    # The explorer's own, of which this is a part.
    engine: GradCAM
    _canvas: Canvas
    _state: State
    _lock: threading.RLock
    _images: list[Any]
    _paid: set[View]
    names: Any
    _truths: dict[int, int | None]
    _spent: Passes

    def to_html(
        self,
        path: str | Path,
        *,
        layers: str | Sequence[Any] | None = None,
        targets: Any = None,
        images: Any = None,
        title: str | None = None,
        text: str = "",
        questions: str | Sequence[str] = (),
        max_bytes: int | None = MAX_BYTES,
        progress: Callable[[int, int], object] | None = None,
    ) -> Path:
        """Write a hand-out: one HTML file with the explorer in it, which needs no kernel and no network.

        It uses the view of this widget, and answers from what is computed now, by the same code: pictures, layers,
        classes, a second class beside the first, positive, signed and counterfactual evidence, channels under the
        pointer or out of the sum, their names and what they say in words, the box, the scale. What needs the model
        (other layers, classes and methods, painting, the score without some channels) is not in it. The method is
        the one on show. One of many passes runs them now, for each layer and class, which must be named then, and
        has no counterfactual evidence; a method that draws at the pixels cannot be in a page.

        Where channels have names, the patches of the strongest ones of each class are in the page, if it keeps
        within its limit with them.

        Numbers: weights are float32, and so are maps of up to 1024 cells. Larger maps and the activations have
        the first of these forms with which the file keeps within ``max_bytes``: float32 and 16 bits; 16 bits
        both; 16 and 8 bits; 8 bits both. Where that does not suffice, activations are left out, those of the
        layer with most values first; the page and a warning name the layers. The foot of the page has the form.

        Args:
            path: of the file, ``.html``; one that is there is replaced. Its folder must exist.
            layers: names, modules or `Layer` objects; or "blocks", "conv" or "all" as in the control Show. By
                default the blocks, where the model has some, else the convolutions; and the layer on show.
            targets: what is explained, each given like ``target`` of the widget. By default the ten likeliest
                classes of each picture, the class on show, the one that is compared, and the true one.
            images: indices or names of pictures, or "all"; by default the one on show.
            title: the heading.
            text: stands below it. Plain text; blank lines separate paragraphs.
            questions: stand below the explorer; printed with lines to write on. Plain text.
            max_bytes: what the file may weigh; None for no limit.
            progress: called with (maps done, in all) while they are computed; returning False gives up, with
                `gradcam_widget.perturbation.Cancelled`.

        Returns:
            The path.

        Raises:
            ValueError: for an unknown layer, class or picture, a method of many passes, a wrong suffix, or where
                no form keeps the file within its limit.
            FileNotFoundError: where the folder does not exist.
        """
        self._check_open()
        file = checked_path(path, (".html", ".htm"))
        words = Words.checked(title, text, questions)
        if max_bytes is not None and (isinstance(max_bytes, bool) or not isinstance(max_bytes, Integral)):
            raise TypeError(f"max_bytes: expected an int or None; got {max_bytes!r}")
        if max_bytes is not None and max_bytes <= 0:
            raise ValueError(f"max_bytes: expected a positive number of bytes, or None; got {max_bytes}")
        self._renew()
        with self._lock, self._aside():
            lesson = self._lesson(layers, targets, images, words, progress)
        page, left_out = page_within(lesson, max_bytes)
        if left_out:
            warnings.warn(
                f"to_html: the activation maps of {listed(left_out)} are left out, to keep {file.name} within "
                f"{max_bytes} bytes; bars of these layers show no map. Name fewer layers or classes, or give a "
                "larger max_bytes",
                stacklevel=2,
            )
        write_file(file, page)
        return file

    # What the explorer gives.

    def _check_open(self) -> None:
        raise NotImplementedError

    def _renew(self, *, wait: bool = True) -> bool:
        raise NotImplementedError

    def _input(self, image_index: int) -> object:
        raise NotImplementedError

    def _layers_of(self, image_index: int) -> tuple[Layer, ...]:
        raise NotImplementedError

    def _found(self, view: View) -> Any:
        raise NotImplementedError

    def _explain(self, image: object, view: View, progress: Callable[[int, int], bool] | None = None) -> Any:
        raise NotImplementedError

    def _words(self, drawn: Any, found: Any) -> dict[str, Any]:
        raise NotImplementedError

    def _encoded(self, image_index: int) -> dict[str, Any]:
        raise NotImplementedError

    def _plain(self, **changes: Any) -> dict[str, Any]:
        raise NotImplementedError

    @contextmanager
    def _aside(self) -> Iterator[None]:
        """What is computed inside is no answer to what the widget is asked: its counts stay as they are."""
        before = self._spent
        try:
            yield
        finally:
            self._spent = before

    # -- what goes into it -------------------------------------------------------------------------------------

    def _lesson(
        self,
        layers: Any,
        targets: Any,
        images: Any,
        words: Words,
        progress: Callable[[int, int], object] | None,
    ) -> Lesson:
        """Everything that the page shows, computed."""
        check_function(progress, "progress", "(maps done, in all)", 2)
        layers = _several("layers", layers, ordered=False)
        targets = _several("targets", targets, ordered=False)
        images = _several("images", images, ordered=True)
        row = METHODS[self._state.method]
        other = 'choose another method first, such as widget.method = "GradCAM"'
        if "guided" in row.needs:
            raise ValueError(f"to_html: {row.name} draws at the pixels, and a page has maps of layers; {other}")
        if row.many_passes and (layers is None or targets is None):
            raise ValueError(
                f"to_html: {row.name} needs {row.passes}, for every layer and class, and runs them all now. Name "
                f"the layers and the targets, or {other}"
            )
        names = self._state.offer.pictures
        chosen = _picked_pictures(images, names, self._state.image_index)
        evidence = EVIDENCE[:2] if row.many_passes else EVIDENCE
        asked = [
            (index, self._asked_targets(index, targets), self._asked_layers(index, layers)) for index in chosen
        ]
        steps = _Steps(progress, sum(len(found) * len(listed) for _, found, listed in asked))
        pictures = [self._picture(*one, evidence, steps) for one in asked]
        shown = self._canvas.scene
        start = chosen.index(self._state.image_index) if self._state.image_index in chosen else 0
        return Lesson(
            words=words,
            pictures=pictures,
            start={
                "picture": start,
                "layer": shown.get("layer", {}).get("name"),
                "target": shown.get("target", {}).get("label"),
                "compare": (shown.get("compare") or {}).get("target", {}).get("label"),
                "evidence": self._state.evidence if self._state.evidence in evidence else "positive",
                "opacity": self._canvas.opacity,
                "scale": self._canvas.scale,
                "threshold": self._canvas.threshold,
                "show_box": self._canvas.show_box,
                "panels": [name for name in self._canvas.panels if name in _PANELS] or list(_PANELS),
                "colormap": self._canvas.colormap,
            },
            tables=self._canvas.tables,
            method=row.name,
            model=type(self.engine.model).__name__,
            compares=row.name in _LINEAR,
            evidence=evidence,
            names=self._names_for(pictures),
        )

    def _names_for(self, pictures: Sequence[Picture]) -> dict[str, Names]:
        """The names of the layers of a page, with the patches of the channels that matter most in it."""
        found = {}
        for layer in {name: None for picture in pictures for name in picture.layers}:
            known = self.names.get(layer)
            scenes = [
                scenes[layer, "positive"] for one in pictures if layer in one.layers for scenes in one.answers
            ]
            if known is None or len(known) != len(scenes[0].alpha):
                continue
            wanted = {int(k) for scene in scenes for k in np.argsort(-np.abs(scene.alpha))[:SPRITES]}
            said = [
                words
                for one in pictures
                for about in one.words
                for (name, _), words in about.items()
                if name == layer
            ]
            wanted |= {word["channel"] for words in said for word in (*words["for_it"], *words["against_it"])}
            sprites = {k: sprite_of(known, k) for k in sorted(wanted)}
            found[layer] = Names(names_message(known, 1), sprites)
        return found

    def _picture(
        self, index: int, asked: Sequence[Any], names: Sequence[str], evidence: Sequence[str], steps: _Steps
    ) -> Picture:
        """One picture with all its answers."""
        image = self._input(index)
        state = self._state
        row = METHODS[state.method]
        edition = state.offer.editions.get(index, 0)
        reads: dict[str, Explanation] = {}
        answers, words = [], []
        for target in asked:
            if row.needs_gradient:  # one backward pass for all of them
                plain = self.engine.explain_layers(image, target, names, state.method)
                if "counterfactual" in evidence:
                    against = Counterfactual(plain[names[0]].target)
                    self.engine.explain_layers(image, against, names, state.method)
            scenes: dict[tuple[str, str], Scene] = {}
            said: dict[tuple[str, str], Mapping[str, Any]] = {}
            for name in names:
                for side in evidence:
                    view = View(index, name, target, state.method, side, edition)
                    if row.many_passes:
                        self._explain(image, view, steps.report)
                        self._paid.add(view)
                    drawn = self._found(view)
                    whole = drawn.whole
                    if side == "counterfactual":
                        # the page draws it after the ReLU, and sums it without some channels before that
                        whole = replace(whole, cam=drawn.explanation.signed_cam.detach().cpu().double().numpy())
                    scenes[name, side] = whole
                    if name in self.names and side != "signed":
                        said[name, side] = self._words(drawn, self.names[name])
                    reads.setdefault(name, drawn.explanation)
                steps.next()
            answers.append(scenes)
            words.append(said)
        info = getattr(self._images[index], "info", {})
        credits = [info[key] for key in ("title", "author", "licence", "source") if isinstance(info.get(key), str)]
        default = self.engine.default_layer(image).name
        return Picture(
            encoded=self._encoded(index),
            layers={name: Read(reads[name]) for name in names},
            answers=answers,
            words=words,
            credits=", ".join(credits) if "author" in info else "",
            default=default if default in names else None,
        )

    def _asked_layers(self, index: int, layers: Any) -> list[str]:
        """The names of the layers, in the order of the network."""
        known = [layer for layer in self._layers_of(index) if len(layer.shape) == 3]
        kinds = {
            name: [layer.name for layer in known if not of or layer.kind in of] for name, of in _LAYERS.items()
        }
        if layers is None:
            shown = self._canvas.scene.get("layer", {}).get("name")
            wanted = {*(kinds["blocks"] or kinds["conv"] or kinds["all"]), *([shown] if shown else [])}
        elif isinstance(layers, str) and layers in kinds:
            wanted = set(kinds[layers])
            if not wanted:
                raise ValueError(
                    f"layers: this model has none of {layers!r}; give names, as in widget.engine.layers()"
                )
        else:
            wanted = {self._layer_name(layer) for layer in (layers if isinstance(layers, list) else [layers])}
        if not wanted:
            raise ValueError("layers: expected at least one layer; got none")
        names = [layer.name for layer in known]
        for name in sorted(wanted - set(names)):
            raise ValueError(f"layers: {name!r} is no feature map of this model. {nearest(name, names)}")
        return [name for name in names if name in wanted]

    def _layer_name(self, layer: Any) -> str:
        name = self._plain(layer=layer)["layer"]
        if not isinstance(name, str):
            raise TypeError(
                f"layers: expected names of layers, modules, or one of {', '.join(_LAYERS)}; got {layer!r}"
            )
        return name

    def _asked_targets(self, index: int, targets: Any) -> list[Any]:
        """What is explained, as the state takes it, each once."""
        scores = self.engine.predict(self._input(index))
        if scores.ndim == 1:
            check_names(self.engine.class_names, len(scores))
        labels = classes_of(scores, self.engine.class_names)
        if targets is not None:
            wanted = targets if isinstance(targets, list) else [targets]
            if not wanted:
                raise ValueError("targets: expected at least one class; got none")
        else:
            best = [prediction.index for prediction in predictions_of(scores, labels, _CLASSES)]
            shown = [self._state.target, self._state.compare_target, self._truths.get(index)]
            wanted = [*best, *(target for target in shown if target is not None)] or [None]
        for target in wanted:
            try:
                self._state.check(image_index=index, target=target)
            except ValueError as error:
                raise ValueError(str(error).replace("target:", "targets:", 1)) from error
        found: dict[object, Any] = {}
        for target in wanted:
            resolved = self.engine.resolve_target(target)
            number = getattr(resolved, "index", None)
            found.setdefault(resolved, number if isinstance(number, int) and not callable(target) else target)
        return list(found.values())


class _Steps:
    """How many maps are computed, and whether the caller wants the rest."""

    def __init__(self, progress: Callable[[int, int], object] | None, total: int) -> None:
        self._progress, self._done, self._total = progress, 0, total

    def report(self, *_: int) -> bool:
        """Tell, while passes are run; whether they shall go on."""
        return self._progress is None or self._progress(self._done, self._total) is not False

    def next(self) -> None:
        """One more is done."""
        self._done += 1
        if not self.report() and self._done < self._total:
            raise Cancelled(f"cancelled after {self._done} of {self._total} maps")


def _several(name: str, value: Any, *, ordered: bool) -> Any:
    """A list of several values; one value as it is.

    Raises:
        TypeError: for several in what is no list, such as a generator or an array.
    """
    if isinstance(value, (list, tuple, range)) or (not ordered and isinstance(value, (set, frozenset))):
        return list(value)
    many = isinstance(value, Iterable) and getattr(value, "ndim", 1) > 0
    if many and not isinstance(value, (str, bytes)) and not callable(value):
        raise TypeError(f"{name}: expected one, or a list of them; got {type(value).__name__}. Give list({name})")
    return value


def _picked_pictures(images: Any, names: Sequence[str], shown: int) -> list[int]:
    """The indices of the pictures that are asked for, each once."""
    if images is None:
        return [shown]
    if isinstance(images, str) and images == "all" and "all" not in names:
        return list(range(len(names)))
    found: dict[int, None] = {}
    for image in images if isinstance(images, list) else [images]:
        if isinstance(image, str):
            if image not in names:
                raise ValueError(f"images: there is no picture named {image!r}. {nearest(image, names)}")
            found[names.index(image)] = None
        elif isinstance(image, Integral) and not isinstance(image, bool):
            if not 0 <= int(image) < len(names):
                raise ValueError(f"images: expected ints from 0 to {len(names) - 1}, one per picture; got {image}")
            found[int(image)] = None
        else:
            raise TypeError(f'images: expected names or indices of pictures, or "all"; got {image!r}')
    if not found:
        raise ValueError("images: expected at least one picture; got none")
    return list(found)
