"""The hand-out: the explorer as one HTML file, without a kernel and without a network."""

from __future__ import annotations

import base64
import datetime
import hashlib
import html
import json
import re
import threading
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradcam_widget import __version__
from gradcam_widget.engine import GradCAM, Passes
from gradcam_widget.explanation import Explanation
from gradcam_widget.files import checked_path, write_file
from gradcam_widget.layers import Layer
from gradcam_widget.methods import METHODS
from gradcam_widget.widget import view as scripts
from gradcam_widget.widget import wire
from gradcam_widget.widget.canvas import Canvas, Scene, Thumbnail, strip_message
from gradcam_widget.widget.state import State, View, nearest
from gradcam_widget.widget.words import classes_of, predictions_of

__all__ = ["MAX_BYTES", "HandOut"]

MAX_BYTES = 3_000_000
"""What a hand-out may weigh, unless another limit is given."""

_LINES = 4  # to write on, under a printed question
_CLASSES = 10  # the likeliest ones, where none are named
_EVIDENCE = ("positive", "signed")
_SMALL = 1024  # cells: a map up to this size is always float32, as the live view has it

_LAYERS: Mapping[str, tuple[str, ...]] = {"blocks": ("block", "attention"), "conv": ("conv",), "all": ()}
"""Groups of layers by a name, as in the control Show: the kinds of each; none for every kind."""

# The rule of precision, from the finest on: how a map of more than `_SMALL` cells is stored, and how many bytes
# a value of an activation map has. The first form that keeps the file within its limit is taken.
_FORMS: tuple[tuple[str, int], ...] = (("f32", 2), ("i16", 2), ("i16", 1), ("u8z", 1))
_MAP_WORDS = {
    "f32": "maps are exact to float32",
    "i16": "maps are exact to 1/32767 of their largest value",
    "u8z": "maps are exact to 1/255 of their range",
}

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
    _truths: dict[int, int | None]
    _spent: Passes
    _numbered: tuple[int, View | None]

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
    ) -> Path:
        """Write a hand-out: one HTML file with the explorer in it, which needs no kernel and no network.

        It uses the view of this widget, and answers from what is computed now, by the same code: pictures, layers,
        classes, a second class beside the first, positive and signed evidence, channels under the pointer or out
        of the sum, the box, the scale. What needs the model (other layers, classes and methods, painting, the
        score without some channels) is not in it. The method is the one on show.

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

        Returns:
            The path.

        Raises:
            ValueError: for an unknown layer, class or picture, a method of many passes, a wrong suffix, or where
                no form keeps the file within its limit.
            FileNotFoundError: where the folder does not exist.
        """
        self._check_open()
        file = checked_path(path, (".html", ".htm"))
        words = _Words.checked(title, text, questions)
        if max_bytes is not None and (isinstance(max_bytes, bool) or not isinstance(max_bytes, Integral)):
            raise TypeError(f"max_bytes: expected an int or None; got {max_bytes!r}")
        with self._lock, self._aside():
            lesson = self._lesson(layers, targets, images, words)
        page, left_out = _within(lesson, max_bytes)
        if left_out:
            warnings.warn(
                f"to_html: the activation maps of {_listed(left_out)} are left out, to keep {file.name} within "
                f"{max_bytes} bytes; bars of these layers show no map. Name fewer layers or classes, or give a "
                "larger max_bytes",
                stacklevel=2,
            )
        write_file(file, page)
        return file

    # What the explorer gives.

    def _check_open(self) -> None:
        raise NotImplementedError

    def _input(self, image_index: int) -> object:
        raise NotImplementedError

    def _layers_of(self, image_index: int) -> tuple[Layer, ...]:
        raise NotImplementedError

    def _found(self, view: View) -> Any:
        raise NotImplementedError

    def _encoded(self, image_index: int) -> dict[str, Any]:
        raise NotImplementedError

    def _plain(self, **changes: Any) -> dict[str, Any]:
        raise NotImplementedError

    @contextmanager
    def _aside(self) -> Iterator[None]:
        """What is computed inside is no answer to what the widget is asked: its counts stay as they are."""
        before = self._spent, self._numbered
        try:
            yield
        finally:
            self._spent, self._numbered = before

    # -- what goes into it -------------------------------------------------------------------------------------

    def _lesson(self, layers: Any, targets: Any, images: Any, words: _Words) -> _Lesson:
        """Everything that the page shows, computed."""
        row = METHODS[self._state.method]
        if row.many_passes or "guided" in row.needs:
            why = (
                "draws at the pixels"
                if "guided" in row.needs
                else f"needs {row.passes}, for every layer and class"
            )
            raise ValueError(
                f'to_html: {row.name} {why}; choose another method first, such as widget.method = "GradCAM"'
            )
        names = self._state.offer.pictures
        chosen = _picked_pictures(images, names, self._state.image_index)
        pictures = [self._picture(index, layers, targets) for index in chosen]
        shown = self._canvas.scene
        start = chosen.index(self._state.image_index) if self._state.image_index in chosen else 0
        return _Lesson(
            words=words,
            pictures=pictures,
            start={
                "picture": start,
                "layer": shown.get("layer", {}).get("name"),
                "target": shown.get("target", {}).get("label"),
                "compare": (shown.get("compare") or {}).get("target", {}).get("label"),
                "evidence": self._state.evidence if self._state.evidence in _EVIDENCE else "positive",
                "opacity": self._canvas.opacity,
                "scale": self._canvas.scale,
                "threshold": self._canvas.threshold,
                "show_box": self._canvas.show_box,
                "panels": list(self._canvas.panels),
                "colormap": self._canvas.colormap,
            },
            tables=self._canvas.tables,
            method=row.name,
            model=type(self.engine.model).__name__,
            compares=row.name in _LINEAR,
        )

    def _picture(self, index: int, layers: Any, targets: Any) -> _Picture:
        """One picture with all its answers."""
        image = self._input(index)
        asked = self._asked_targets(index, targets)
        names = self._asked_layers(index, layers)
        state = self._state
        edition = state.offer.editions.get(index, 0)
        reads: dict[str, Explanation] = {}
        answers = []
        for target in asked:
            if METHODS[state.method].needs_gradient:
                self.engine.explain_layers(image, target, names, state.method)  # one backward pass for all of them
            scenes: dict[tuple[str, str], Scene] = {}
            for evidence in _EVIDENCE:
                for name in names:
                    drawn = self._found(View(index, name, target, state.method, evidence, edition))
                    scenes[name, evidence] = drawn.whole
                    reads.setdefault(name, drawn.explanation)
            answers.append(scenes)
        info = getattr(self._images[index], "info", {})
        credits = [info[key] for key in ("title", "author", "licence", "source") if isinstance(info.get(key), str)]
        default = self.engine.default_layer(image).name
        return _Picture(
            encoded=self._encoded(index),
            layers={name: _Read(reads[name]) for name in names},
            answers=answers,
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
            listed = list(layers) if isinstance(layers, (list, tuple, set, frozenset)) else [layers]
            wanted = {self._layer_name(layer) for layer in listed}
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
        many = isinstance(targets, (list, tuple, set, frozenset, range))
        scores = self.engine.predict(self._input(index))
        labels = classes_of(scores, self.engine.class_names)
        if targets is not None:
            wanted = list(targets) if many else [targets]
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


# -- the parts of a page -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Words:
    """The teacher's words: plain text."""

    title: str | None
    text: str
    questions: tuple[str, ...]

    @classmethod
    def checked(cls, title: object, text: object, questions: Any) -> _Words:
        listed = [questions] if isinstance(questions, str) else questions
        if not isinstance(listed, (list, tuple)) or not all(isinstance(one, str) for one in listed):
            raise TypeError(f"questions: expected a list of texts; got {questions!r}")
        for name, value in {"title": title, "text": text}.items():
            if not isinstance(value, str) and not (name == "title" and value is None):
                raise TypeError(f"{name}: expected a text; got {type(value).__name__}")
        return cls(title, str(text), tuple(one for one in listed if one.strip()))  # type: ignore[arg-type] # told above


class _Read:
    """What belongs to a layer and a picture, whatever the class: the activations and their means."""

    def __init__(self, explanation: Explanation) -> None:
        self.means: NDArray[np.float32] = explanation.mean_activations.cpu().numpy().astype("<f4")
        self.maps: NDArray[Any] = explanation.activations.detach().cpu().double().numpy()


@dataclass(frozen=True)
class _Picture:
    encoded: Mapping[str, Any]
    layers: Mapping[str, _Read]
    answers: Sequence[Mapping[tuple[str, str], Scene]]  # for each target: (layer, evidence) -> scene
    credits: str
    default: str | None  # the layer that the engine takes where none is named


@dataclass(frozen=True)
class _Lesson:
    words: _Words
    pictures: Sequence[_Picture]
    start: Mapping[str, Any]
    tables: Mapping[str, Mapping[str, Any]]
    method: str
    model: str
    compares: bool


@dataclass(frozen=True)
class _Form:
    """How numbers are stored, and the layers whose activations are not."""

    maps: str
    bytes: int
    without: frozenset[str] = frozenset()


class _Pack:
    """Bytes, one after the other; the same ones are stored once."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._places: dict[bytes, list[int]] = {}
        self._length = 0

    def put(self, data: bytes) -> list[int]:
        """[first, count] of these bytes."""
        if data not in self._places:
            self._places[data] = [self._length, len(data)]
            self._parts.append(data)
            self._length += len(data)
        return self._places[data]

    def deflated(self) -> bytes:
        return zlib.compress(b"".join(self._parts), 9)


def _within(lesson: _Lesson, limit: int | None) -> tuple[bytes, list[str]]:
    """The page in the finest form that fits, and the layers whose activations are left out."""
    forms = [_Form(maps, count) for maps, count in _FORMS]
    page = b""
    for form in forms:
        page = _page(lesson, form)
        if limit is None or len(page) <= limit:
            return page, []
    sizes: dict[str, int] = {}
    for picture in lesson.pictures:
        for name, read in picture.layers.items():
            sizes[name] = sizes.get(name, 0) + len(zlib.compress(_steps(read.maps, 1)[2], 9)) * 4 // 3
    assert limit is not None
    left_out: list[str] = []
    for name in sorted(sizes, key=lambda name: -sizes[name]):
        left_out.append(name)
        if len(page) - sum(sizes[other] for other in left_out) > 1.02 * limit:
            continue
        smaller = _page(lesson, replace(forms[-1], without=frozenset(left_out)))
        if len(smaller) <= limit:
            order = [other for other in sizes if other in left_out]
            return smaller, order
    least = len(_page(lesson, replace(forms[-1], without=frozenset(sizes))))
    counts = f"{len(lesson.pictures)} × {len(sizes)} × {len(lesson.pictures[0].answers)}"
    raise ValueError(
        f"max_bytes: {counts} pictures, layers and classes take {least} bytes without any activation map, and the "
        f"limit is {limit}. Name fewer of them (layers=, targets=, images=), or give a larger max_bytes"
    )


def _steps(maps: NDArray[Any], count: int) -> tuple[bytes, bytes, bytes]:
    """Activation maps (K, h, w) in steps of ``count`` bytes, each channel with its own: low and step as float32,
    and the numbers of the steps.
    """
    flat = maps.reshape(len(maps), -1)
    most = 256**count - 1
    low = flat.min(1, keepdims=True).astype("<f4")
    step = ((flat.max(1, keepdims=True) - low) / most).astype("<f4")
    data = np.rint((flat - low) / np.where(step > 0, step, 1)).clip(0, most).astype(f"<u{count}")
    return low.tobytes(), step.tobytes(), data.tobytes()


def _data(lesson: _Lesson, form: _Form) -> tuple[dict[str, Any], bytes]:
    """What the page's script reads: a JSON object in which [first, count] stands for bytes, and these bytes."""
    pack = _Pack()
    tables = {name: {**table, "data": pack.put(table["data"])} for name, table in lesson.tables.items()}
    pictures = [_picture_data(picture, form, pack) for picture in lesson.pictures]
    data = {
        "start": dict(lesson.start),
        "tables": tables,
        "compares": lesson.compares,
        "pictures": pictures,
    }
    return data, pack.deflated()


def _picture_data(picture: _Picture, form: _Form, pack: _Pack) -> dict[str, Any]:
    names = list(picture.layers)
    first = picture.answers[0][names[0], "positive"]
    layers = []
    for name, read in picture.layers.items():
        maps = None
        if name not in form.without and np.isfinite(read.maps).all():
            low, step, numbers = _steps(read.maps, form.bytes)
            maps = {"bytes": form.bytes, "low": pack.put(low), "step": pack.put(step), "data": pack.put(numbers)}
        layer = wire.plain(picture.answers[0][name, "positive"].layer)
        layers.append({**layer, "name": name, "means": pack.put(read.means.tobytes()), "maps": maps})
    return {
        **{key: picture.encoded[key] for key in ("name", "width", "height")},
        "data": pack.put(picture.encoded["data"]),
        "predictions": [wire.plain(prediction) for prediction in first.predictions],
        "truth": None if first.truth is None else wire.plain(first.truth),
        "method": wire.plain(first.method),
        "layers": layers,
        "targets": [_target_data(scenes, picture, form, pack) for scenes in picture.answers],
    }


def _target_data(
    scenes: Mapping[tuple[str, str], Scene], picture: _Picture, form: _Form, pack: _Pack
) -> dict[str, Any]:
    names = list(picture.layers)
    answers = []
    for name in names:
        positive, signed = (scenes[name, evidence] for evidence in _EVIDENCE)
        alpha = positive.alpha.astype("<f4")
        # What the browser computes itself where it comes to the same bits.
        product = alpha * picture.layers[name].means
        own = positive.contribution.astype("<f4")
        array = wire.encode(signed.cam, "f32" if signed.cam.size <= _SMALL else form.maps)
        answers.append(
            {
                "alpha": pack.put(alpha.tobytes()),
                "contribution": None if np.array_equal(product, own) else pack.put(own.tobytes()),
                "cam": {**array, "data": pack.put(array["data"])},
                "coverage": positive.coverage,
                "words": {
                    evidence: _words_about(scenes[name, evidence], picture)
                    for evidence in _EVIDENCE
                    if scenes[name, evidence].diagnosis is not None
                },
            }
        )
    strips = {}
    for evidence in _EVIDENCE:
        thumbnails = [
            Thumbnail(name, "", scenes[name, evidence].layer["shape"], scenes[name, evidence].cam)
            for name in names
        ]
        strip = strip_message(thumbnails, evidence, 0)
        tiles = [{key: tile[key] for key in ("cells", "max", "signed")} for tile in strip["layers"]]
        strips[evidence] = {"data": pack.put(strip["data"]), "tiles": tiles}
    target = scenes[names[0], "positive"].target
    return {**wire.plain(target), "answers": answers, "strips": strips}


def _words_about(scene: Scene, picture: _Picture) -> dict[str, Any]:
    """What is said about a map, and what helps, as far as the page can do it."""
    cures = []
    for cure in scene.cures:
        changes = dict(cure.changes)
        if changes.get("layer", "") is None:
            changes["layer"] = picture.default
        can = changes.get("evidence", "positive") in _EVIDENCE and changes.get("layer", "") is not None
        if can and set(changes) <= {"evidence", "layer"}:
            cures.append({"id": cure.id, "label": cure.label, "changes": changes})
    assert scene.diagnosis is not None
    return {"diagnosis": wire.shorten(scene.diagnosis, 600), "cures": cures}


# -- the page ----------------------------------------------------------------------------------------------------


def _page(lesson: _Lesson, form: _Form) -> bytes:
    """The whole file."""
    data, numbers = _data(lesson, form)
    script = f"\n{scripts.script((*scripts.SCRIPTS, *scripts.HANDOUT_SCRIPTS))}\n"
    style = f"\n{scripts.style((*scripts.STYLES, *scripts.HANDOUT_STYLES))}\n"
    words = lesson.words
    title = words.title if words.title is not None else f"What {lesson.model} sees"
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )
    parts = {
        "policy": policy,
        "title": _escaped(title),
        "style": style,
        "text": "".join(f'<p dir="auto">{_escaped(part)}</p>' for part in _paragraphs(words.text)),
        "questions": _questions(words.questions),
        "foot": "".join(f"<p>{_escaped(line)}</p>" for line in _foot(lesson, form)),
        "data": _json(data),
        "numbers": base64.b64encode(numbers).decode("ascii"),
        "script": script,
    }
    # In one go: what a user writes is never looked at again, whatever stands in it.
    page = re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], scripts.shell())
    return page.encode("utf-8")


def _foot(lesson: _Lesson, form: _Form) -> list[str]:
    """What was computed, and what is not here."""
    first = lesson.pictures[0]
    method = "Grad-CAM" if lesson.method == "GradCAM" else lesson.method
    day = datetime.date.today().isoformat()
    count = _counted(len(lesson.pictures), "picture")
    held = f"{count}, {_counted(len(first.layers), 'layer')}, {_counted(len(first.answers), 'class', 'classes')}"
    missing = f"; the activation maps of {_listed(sorted(form.without))} are left out" if form.without else ""
    fineness = "1/65535" if form.bytes == 2 else "1/255"
    most = max(
        picture.answers[0][name, "signed"].cam.size for picture in lesson.pictures for name in picture.layers
    )
    maps = _MAP_WORDS["f32" if most <= _SMALL else form.maps]
    lines = [
        f"{method} of {lesson.model}, computed on {day} with gradcam_widget {__version__}: {held}. "
        f"Weights are exact to float32, {maps}, activations to {fineness} of their channel's range{missing}. "
        "Other layers, classes and methods, and what the model says to a changed picture, need the live widget.",
    ]
    credits = [f"{picture.encoded['name']}: {picture.credits}" for picture in lesson.pictures if picture.credits]
    return [*lines, *([f"Pictures: {'; '.join(credits)}."] if credits else [])]


def _questions(questions: Sequence[str]) -> str:
    if not questions:
        return ""
    lines = f'<div class="handout-lines" aria-hidden="true">{"<div></div>" * _LINES}</div>'
    items = "".join(
        f'<li>{"".join(f"""<p dir="auto">{_escaped(part)}</p>""" for part in _paragraphs(question))}{lines}</li>'
        for question in questions
    )
    head = "Question" if len(questions) == 1 else "Questions"
    return (
        '<section class="handout-questions" aria-labelledby="handout-questions">'
        f'<h2 id="handout-questions">{head}</h2><ol>{items}</ol></section>'
    )


def _paragraphs(text: str) -> list[str]:
    return [part.strip("\n") for part in re.split(r"\n\s*\n", text.replace("\r\n", "\n")) if part.strip()]


def _escaped(text: str) -> str:
    """Text for HTML: no markup, no control characters, valid UTF-8."""
    plain = text.encode("utf-8", "replace").decode("utf-8")
    return html.escape(re.sub(r"[\x00-\x08\x0b-\x1f\x7f]", " ", plain))


def _json(data: object) -> str:
    """JSON that means nothing to an HTML parser, and nothing else to a script."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}'"


def _counted(count: int, one: str, many: str | None = None) -> str:
    return f"{count} {one if count == 1 else many or one + 's'}"


def _listed(names: Sequence[str], most: int = 4) -> str:
    """The first of some names, and how many more there are."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def _picked_pictures(images: Any, names: Sequence[str], shown: int) -> list[int]:
    """The indices of the pictures that are asked for, each once."""
    if images is None:
        return [shown]
    if isinstance(images, str) and images == "all" and "all" not in names:
        return list(range(len(names)))
    listed = list(images) if isinstance(images, (list, tuple, range)) else [images]
    found: dict[int, None] = {}
    for image in listed:
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
