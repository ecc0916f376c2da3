"""The page of a hand-out: from what was computed to the bytes of one HTML file that fits its limit."""

from __future__ import annotations

import base64
import datetime
import hashlib
import html
import json
import re
import zlib
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradcam_widget import __version__
from gradcam_widget.explanation import Explanation
from gradcam_widget.widget import view as scripts
from gradcam_widget.widget import wire
from gradcam_widget.widget.cures import Cure
from gradcam_widget.widget.scene import Scene
from gradcam_widget.widget.strip import Thumbnail, strip_message

__all__ = ["EVIDENCE", "Lesson", "Picture", "Read", "Words", "listed", "page_within"]

EVIDENCE = ("positive", "signed", "counterfactual")
"""What the maps of a page can show."""

SPRITES = 12
"""Of how many channels of a class and a named layer, the strongest ones, the patches are in a page."""

_LINES = 4  # to write on, under a printed question
_SMALL = 1024  # cells: a map up to this size is always float32, as the live view has it

# The rule of precision, from the finest on: how a map of more than `_SMALL` cells is stored, and how many bytes
# a value of an activation map has. The first form that keeps the file within its limit is taken.
_FORMS: tuple[tuple[str, int], ...] = (("f32", 2), ("i16", 2), ("i16", 1), ("u8z", 1))
_MAP_WORDS = {
    "f32": "maps are exact to float32",
    "i16": "maps are exact to 1/32767 of their largest value",
    "u8z": "maps are exact to 1/255 of their range",
}


@dataclass(frozen=True)
class Words:
    """The teacher's words: plain text."""

    title: str | None
    text: str
    questions: tuple[str, ...]

    @classmethod
    def checked(cls, title: object, text: object, questions: Any) -> Words:
        """The words, each of the right kind, without questions that say nothing.

        Raises:
            TypeError: for what is no text.
        """
        asked = [questions] if isinstance(questions, str) else questions
        if not isinstance(asked, (list, tuple)) or not all(isinstance(one, str) for one in asked):
            raise TypeError(f"questions: expected a list of texts; got {questions!r}. Put them into a list")
        for name, value in {"title": title, "text": text}.items():
            if not isinstance(value, str) and not (name == "title" and value is None):
                raise TypeError(f"{name}: expected a text; got {type(value).__name__}")
        return cls(title, str(text), tuple(one for one in asked if one.strip()))  # type: ignore[arg-type] # told above


class Read:
    """What belongs to a layer and a picture, whatever the class: the activations and their means."""

    def __init__(self, explanation: Explanation) -> None:
        self.means: NDArray[np.float32] = explanation.mean_activations.cpu().numpy().astype("<f4")
        self.maps: NDArray[Any] = explanation.activations.detach().cpu().double().numpy()


@dataclass(frozen=True)
class Picture:
    """One picture with all its answers.

    Attributes:
        encoded: as the view takes it; see `gradcam_widget.widget.scene.encode_picture`.
        layers: name -> activations, in the order of the network.
        answers: for each target (layer, evidence) -> scene.
        credits: who made it, where that is known.
        default: the layer that the engine takes where none is named, where it is among these.
        words: for each target (layer, evidence) -> which channels speak for it, as the view takes it; of layers
            whose channels have names.
    """

    encoded: Mapping[str, Any]
    layers: Mapping[str, Read]
    answers: Sequence[Mapping[tuple[str, str], Scene]]
    credits: str
    default: str | None
    words: Sequence[Mapping[tuple[str, str], Mapping[str, Any]]] = ()


@dataclass(frozen=True)
class Names:
    """What the channels of a layer look for.

    Attributes:
        message: as the view takes it; see `gradcam_widget.widget.naming.names_message`.
        sprites: channel -> {"channel", "count", "data", "pictures", "near"}, of some channels.
    """

    message: Mapping[str, Any]
    sprites: Mapping[int, Mapping[str, Any]]


@dataclass(frozen=True)
class Lesson:
    """Everything that a page shows.

    Attributes:
        words: the teacher's.
        pictures: at least one.
        start: what it begins with: index of the picture, name of the layer, labels of the classes, and the look.
        tables: the colour tables as the view takes them.
        method, model: their names.
        compares: whether the contrast of two classes is the difference of their maps.
        evidence: what can be chosen, of `EVIDENCE`.
        names: of the channels of some layers.
    """

    words: Words
    pictures: Sequence[Picture]
    start: Mapping[str, Any]
    tables: Mapping[str, Mapping[str, Any]]
    method: str
    model: str
    compares: bool
    evidence: Sequence[str] = EVIDENCE
    names: Mapping[str, Names] = field(default_factory=dict)


@dataclass(frozen=True)
class _Form:
    """How numbers are stored, and the layers whose activations are not."""

    maps: str
    bytes: int
    without: frozenset[str] = frozenset()
    patches: bool = True


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


def page_within(lesson: Lesson, limit: int | None) -> tuple[bytes, list[str]]:
    """The page in the finest form that fits, and the layers whose activations are left out."""
    forms = [_Form(maps, count) for maps, count in _FORMS]
    if any(names.sprites for names in lesson.names.values()):
        forms += [replace(form, patches=False) for form in forms]
    if limit is None:
        return _page(lesson, forms[0]), []
    page = b""
    for form in forms:
        page = _page(lesson, form)
        if len(page) <= limit:
            return page, []
    return _page_without(lesson, forms[-1], len(page), limit)


def _page_without(lesson: Lesson, form: _Form, length: int, limit: int) -> tuple[bytes, list[str]]:
    """The page in a form in which it is too long, without the activations of some layers; and these layers."""
    sizes: dict[str, int] = {}
    for picture in lesson.pictures:
        for name, read in picture.layers.items():
            sizes[name] = sizes.get(name, 0) + len(zlib.compress(_steps(read.maps, 1)[2], 9)) * 4 // 3
    left_out: list[str] = []
    for name in sorted(sizes, key=lambda name: -sizes[name]):
        left_out.append(name)
        if length - sum(sizes[other] for other in left_out) > 1.02 * limit:
            continue
        smaller = _page(lesson, replace(form, without=frozenset(left_out)))
        if len(smaller) <= limit:
            order = [other for other in sizes if other in left_out]
            return smaller, order
    least = len(_page(lesson, replace(form, without=frozenset(sizes))))
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


def _data(lesson: Lesson, form: _Form) -> tuple[dict[str, Any], bytes]:
    """What the page's script reads: a JSON object in which [first, count] stands for bytes, and these bytes."""
    pack = _Pack()
    tables = {name: {**table, "data": pack.put(table["data"])} for name, table in lesson.tables.items()}
    pictures = [_picture_data(picture, form, pack) for picture in lesson.pictures]
    data = {
        "start": dict(lesson.start),
        "tables": tables,
        "compares": lesson.compares,
        "evidence": list(lesson.evidence),
        "names": {layer: _names_data(names, form, pack) for layer, names in lesson.names.items()},
        "pictures": pictures,
    }
    return data, pack.deflated()


def _names_data(names: Names, form: _Form, pack: _Pack) -> dict[str, Any]:
    sprites = {
        str(channel): {**sprite, "data": pack.put(sprite["data"]) if sprite["data"] else None}
        for channel, sprite in names.sprites.items()
        if form.patches
    }
    return {"message": dict(names.message), "sprites": sprites}


def _picture_data(picture: Picture, form: _Form, pack: _Pack) -> dict[str, Any]:
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
        "targets": [
            _target_data(scenes, picture, form, pack) | _said(picture, number)
            for number, scenes in enumerate(picture.answers)
        ],
    }


def _said(picture: Picture, number: int) -> dict[str, Any]:
    """The words about a target, where there are some: {"said": for each layer {evidence: words}}."""
    if not picture.words or not picture.words[number]:
        return {}
    words = picture.words[number]
    sides = {evidence for _, evidence in words}
    return {
        "said": [
            {side: dict(words[name, side]) for side in sides if (name, side) in words} for name in picture.layers
        ]
    }


def _target_data(
    scenes: Mapping[tuple[str, str], Scene], picture: Picture, form: _Form, pack: _Pack
) -> dict[str, Any]:
    names = list(picture.layers)
    answers = []
    for name in names:
        positive, signed = scenes[name, "positive"], scenes[name, "signed"]
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
                "words": _words_about(scenes, name, picture),
                **_against(scenes, name, form, pack),
            }
        )
    strips = {}
    for evidence in EVIDENCE:
        if (names[0], evidence) not in scenes:
            continue
        thumbnails = [
            Thumbnail(name, "", scenes[name, evidence].layer["shape"], _shown(scenes[name, evidence]))
            for name in names
        ]
        strip = strip_message(thumbnails, evidence, 0)
        tiles = [{key: tile[key] for key in ("cells", "max", "signed")} for tile in strip["layers"]]
        strips[evidence] = {"data": pack.put(strip["data"]), "tiles": tiles}
    target = scenes[names[0], "positive"].target
    return {**wire.plain(target), "answers": answers, "strips": strips}


def _against(scenes: Mapping[tuple[str, str], Scene], name: str, form: _Form, pack: _Pack) -> dict[str, Any]:
    """The counterfactual answer, {"against": ...}, where it is not the plain one with its signs turned."""
    scene = scenes.get((name, "counterfactual"))
    positive, signed = scenes[name, "positive"], scenes[name, "signed"]
    if scene is None or all(
        np.array_equal(one.astype("<f4"), -other.astype("<f4"))
        for one, other in (
            (scene.alpha, positive.alpha),
            (scene.contribution, positive.contribution),
            (scene.cam, signed.cam),
        )
    ):
        return {}
    array = wire.encode(scene.cam, "f32" if scene.cam.size <= _SMALL else form.maps)
    return {
        "against": {
            "alpha": pack.put(scene.alpha.astype("<f4").tobytes()),
            "contribution": pack.put(scene.contribution.astype("<f4").tobytes()),
            "cam": {**array, "data": pack.put(array["data"])},
        }
    }


def _shown(scene: Scene) -> NDArray[Any]:
    """The map as it is drawn: counterfactual ones are here before the ReLU."""
    return np.maximum(scene.cam, 0) if scene.evidence == "counterfactual" else scene.cam


def _words_about(
    scenes: Mapping[tuple[str, str], Scene], name: str, picture: Picture
) -> dict[str, dict[str, Any]]:
    """What is said about the maps of a layer, and what helps: {evidence: {"diagnosis", "cures"}}."""
    sides = {side for _, side in scenes}
    words = {}
    for evidence in EVIDENCE:
        scene = scenes.get((name, evidence))
        if scene is not None and scene.diagnosis is not None:
            cures = [can for cure in scene.cures if (can := _cure(cure, picture, sides)) is not None]
            words[evidence] = {"diagnosis": wire.shorten(scene.diagnosis, 600), "cures": cures}
    return words


def _cure(cure: Cure, picture: Picture, sides: Set[str]) -> dict[str, Any] | None:
    """What helps, {"id", "label", "changes"}; None where the page cannot do it."""
    changes = dict(cure.changes)
    if changes.get("layer", "") is None:
        changes["layer"] = picture.default
    can = changes.get("evidence", "positive") in sides and changes.get("layer", "") is not None
    if not can or not set(changes) <= {"evidence", "layer"}:
        return None
    return {"id": cure.id, "label": cure.label, "changes": changes}


# -- the page ----------------------------------------------------------------------------------------------------


def _page(lesson: Lesson, form: _Form) -> bytes:
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


def _foot(lesson: Lesson, form: _Form) -> list[str]:
    """What was computed, and what is not here."""
    first = lesson.pictures[0]
    method = "Grad-CAM" if lesson.method == "GradCAM" else lesson.method
    day = datetime.date.today().isoformat()
    count = _counted(len(lesson.pictures), "picture")
    held = f"{count}, {_counted(len(first.layers), 'layer')}, {_counted(len(first.answers), 'class', 'classes')}"
    missing = f"; the activation maps of {listed(sorted(form.without))} are left out" if form.without else ""
    fineness = "1/65535" if form.bytes == 2 else "1/255"
    most = max(
        picture.answers[0][name, "signed"].cam.size for picture in lesson.pictures for name in picture.layers
    )
    maps = _MAP_WORDS["f32" if most <= _SMALL else form.maps]
    if lesson.names:
        which = f"patches of the {SPRITES} strongest channels of each class, and of those in words, are here"
        named = f"Channels have names at {listed(list(lesson.names))}; "
        named += f"{which}." if form.patches else "their patches are left out."
    else:
        named = ""
    lines = [
        f"{method} of {lesson.model}, computed on {day} with gradcam_widget {__version__}: {held}. "
        f"Weights are exact to float32, {maps}, activations to {fineness} of their channel's range{missing}. "
        "Other layers, classes and methods, and what the model says to a changed picture, need the live widget.",
        *([named] if named else []),
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


def listed(names: Sequence[str], most: int = 4) -> str:
    """The first of some names, and how many more there are."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
