"""What the user wants to see: `State`, which changes and validates, and `View`, its frozen snapshot."""

from __future__ import annotations

import difflib
import operator
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any

from traitlets import Any as AnyTrait
from traitlets import HasTraits, TraitError, validate

from gradcam_widget.spelling import did_you_mean

__all__ = ["EVIDENCE", "NAMES", "SCALES", "Offer", "SettingError", "State", "View", "nearest"]

NAMES = ("image_index", "layer", "target", "method", "evidence", "colormap", "opacity", "compare_target", "scale")
"""The traits of `State`, and of the widget, that a user sets."""

EVIDENCE = ("positive", "signed", "counterfactual")
"""What the map shows: what speaks for the target, what speaks for and against it, or what speaks against it."""


SCALES = ("picture", "shared")
"""Which value has the strongest colour: the largest one of the pictures on show, or the largest of these and of
the strip of layers. A number fixes it."""


class SettingError(TraitError, ValueError):
    """A value that a setting cannot have. What the setting was, it still is."""


@dataclass(frozen=True)
class View:
    """One question to the engine: which picture, layer, class, method and evidence, and which class beside it.

    How the answer is coloured (colour map, opacity) is no part of it: the browser changes that on its own, and
    it must never lead to a new computation. ``edition`` counts how often the picture has been replaced by another
    of the same name.
    """

    image_index: int
    layer: str | None
    target: object
    method: str
    evidence: str = "positive"
    edition: int = 0
    compare_target: object = None

    @property
    def picture(self) -> tuple[int, int]:
        """Which picture it is about: index and edition."""
        return self.image_index, self.edition


@dataclass(frozen=True)
class Offer:
    """What may be chosen.

    Attributes:
        pictures: their names, in order.
        methods: names of the methods.
        colormaps: names of the colour tables from none to most.
        diverging: names of the colour tables with two sides, for signed evidence.
        editions: how often the picture with this index has been replaced, where it has been.
        layers: the layer names of the picture with this index; () where they cannot be known.
        check_target: raises ValueError or TypeError, in words, for a target that the picture with this index
            does not have.
    """

    pictures: tuple[str, ...]
    methods: tuple[str, ...]
    colormaps: tuple[str, ...]
    layers: Callable[[int], Sequence[str]]
    check_target: Callable[[object, int], None]
    diverging: tuple[str, ...] = ("RdBu_r",)
    editions: Mapping[int, int] = field(default_factory=dict)

    def tables(self, evidence: str) -> tuple[str, ...]:
        """The colour tables that can show this evidence: signed evidence has two sides, the other kinds one."""
        return self.diverging if evidence == "signed" else self.colormaps


class State(HasTraits):
    """The user's intention. It says nothing about what is shown: that is derived from its snapshot.

    Attributes:
        image_index: which picture, counted from zero.
        layer: name of a layer; None for the engine's choice.
        target: None for the predicted class, an int, a class name, or a target object.
        method: name of a method.
        evidence: one of `EVIDENCE`.
        colormap: name of a colour table that can show this evidence. A change of evidence that needs another kind
            of table brings back the one chosen last among those.
        opacity: of the heatmap, 0 to 1.
        compare_target: what is compared with the target: None for nothing, else as ``target``.
        scale: which value has the strongest colour: one of `SCALES`, or a positive number.

    Values are validated against ``offer``; a wrong one raises SettingError, a TraitError, and changes nothing.
    """

    image_index = AnyTrait(0)
    layer = AnyTrait(None, allow_none=True)
    target = AnyTrait(None, allow_none=True)
    method = AnyTrait("GradCAM")
    evidence = AnyTrait("positive")
    colormap = AnyTrait("viridis")
    opacity = AnyTrait(0.5)
    compare_target = AnyTrait(None, allow_none=True)
    scale = AnyTrait("picture")

    def __init__(self, offer: Offer) -> None:
        super().__init__()
        self.offer = offer
        self._writing = threading.RLock()
        self._inside = threading.local()
        self._listeners: list[Callable[[], None]] = []
        self._last_table = {offer.tables(evidence): offer.tables(evidence)[0] for evidence in EVIDENCE}
        self.observe(self._on_trait_change, names=list(NAMES))

    def snapshot(self) -> View:
        """The question that the state asks now."""
        with self._writing:
            return self.question()

    def question(self, **settings: Any) -> View:
        """The question that the state would ask with other settings, which have been checked."""
        asked = {
            name: settings.get(name, getattr(self, name))
            for name in View.__dataclass_fields__
            if name != "edition"
        }
        return View(**asked, edition=self.offer.editions.get(asked["image_index"], 0))

    def on_update(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` once after each update, also after one that changed nothing (the user chose again)."""
        self._listeners.append(listener)

    def update(self, **changes: object) -> None:
        """Set several traits at once: all are validated before any is set, and the listeners hear of it once.

        Raises:
            SettingError: for an unknown name or a wrong value; nothing is changed then.
        """
        checked = self.check(**changes)
        # The lock is not held while the listeners compute: a later choice must be able to overtake.
        with self._writing, self._quietly(), self.hold_trait_notifications():
            for name, value in checked.items():
                setattr(self, name, value)
            self._last_table[self.offer.tables(self.evidence)] = self.colormap
        self._tell()

    def check(self, **changes: object) -> dict[str, Any]:
        """The values as they would be set together.

        Raises:
            SettingError: for an unknown name or a wrong value.
        """
        unknown = sorted(set(changes) - set(NAMES))
        if unknown:
            raise SettingError(f"{unknown[0]}: there is no such setting; the settings are {', '.join(NAMES)}")
        checked: dict[str, Any] = {}
        index, evidence = self.image_index, self.evidence
        for name in (known for known in NAMES if known in changes):
            value = changes[name]
            if name == "image_index":
                checked[name] = index = self._checked_image_index(value)
            elif name == "layer":
                checked[name] = self._checked_layer(value, index)
            elif name in ("target", "compare_target"):
                checked[name] = self._checked_target(value, index, name)
            elif name == "opacity":
                checked[name] = _checked_opacity(value)
            elif name == "scale":
                checked[name] = _checked_scale(value)
            elif name == "evidence":
                checked[name] = evidence = _checked_name(name, value, EVIDENCE)
                tables = self.offer.tables(evidence)
                if self.colormap not in tables:
                    checked["colormap"] = self._last_table.get(tables, tables[0])
            else:
                offered = self.offer.methods if name == "method" else self.offer.tables(evidence)
                checked[name] = _checked_name(name, value, offered)
        return checked

    @validate(*NAMES)
    def _validate(self, proposal: Any) -> Any:
        name = proposal["trait"].name
        if getattr(self._inside, "depth", 0):
            return proposal["value"]  # checked by update(), together with the others
        return self.check(**{name: proposal["value"]})[name]

    def _on_trait_change(self, change: object) -> None:
        if not getattr(self._inside, "depth", 0):
            self._tell()

    def _tell(self) -> None:
        for listener in tuple(self._listeners):
            listener()

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        self._inside.depth = getattr(self._inside, "depth", 0) + 1
        try:
            yield
        finally:
            self._inside.depth -= 1

    def _checked_image_index(self, value: object) -> int:
        count = len(self.offer.pictures)
        if not isinstance(value, Integral) or isinstance(value, bool):
            raise SettingError(
                f"image_index: expected an int from 0 to {count - 1}; got {value!r}, a {type(value).__name__}"
                f"{self._index_of(value)}"
            )
        if not 0 <= int(value) < count:
            raise SettingError(f"image_index: expected an int from 0 to {count - 1}, one per picture; got {value}")
        return int(value)

    def _index_of(self, name: object) -> str:
        """The end of an error's text for a picture's name in place of its index: which index, or which name."""
        if not isinstance(name, str):
            return ""
        pictures = self.offer.pictures
        if name in pictures:
            return f". That picture is image_index={pictures.index(name)}"
        return did_you_mean(name, pictures)

    def _checked_layer(self, value: object, image_index: int) -> str | None:
        if value is None:
            return None
        if not isinstance(value, str):
            raise SettingError(
                f"layer: expected the name of a layer, or None for the default one; "
                f"got {value!r}, a {type(value).__name__}"
            )
        known = self.offer.layers(image_index)
        if known and value not in known:
            raise SettingError(
                f"layer: expected one of the {len(known)} feature maps of this model; "
                f"got {value!r}. {nearest(value, known)}"
            )
        return value

    def _checked_target(self, value: object, image_index: int, name: str) -> object:
        value = _as_int(value)
        if not (value is None or isinstance(value, (int, str)) or callable(value)) or isinstance(value, bool):
            none = "the predicted class" if name == "target" else "no comparison"
            raise SettingError(
                f"{name}: expected None ({none}), an int, a class name or a function "
                f"output -> scalar; got {value!r}, a {type(value).__name__}"
            )
        try:
            self.offer.check_target(value, image_index)
        except (TypeError, ValueError) as error:
            raise SettingError(str(error).replace("target:", f"{name}:", 1)) from error
        return value


def _as_int(value: Any) -> Any:
    """An int from what counts as one, such as a tensor with one integer; all else as it is."""
    try:
        return value if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return value


def _checked_name(trait: str, value: object, offered: Sequence[str]) -> str:
    if not isinstance(value, str):
        raise SettingError(f"{trait}: expected one of {', '.join(offered)}; got {value!r}")
    if value not in offered:
        hint = did_you_mean(value, offered)
        raise SettingError(f"{trait}: expected one of {', '.join(offered)}; got {value!r}{hint}")
    return value


def _checked_opacity(value: object) -> float:
    if not isinstance(value, Real) or isinstance(value, bool) or not 0 <= float(value) <= 1:
        raise SettingError(f"opacity: expected a number from 0 (picture only) to 1 (heatmap only); got {value!r}")
    return float(value)


def _checked_scale(value: object) -> str | float:
    if isinstance(value, str) and value in SCALES:
        return value
    if isinstance(value, Real) and not isinstance(value, bool) and 0 < float(value) < float("inf"):
        return float(value)
    raise SettingError(
        f"scale: expected {', '.join(map(repr, SCALES))}, or a positive number, the value with the strongest "
        f"colour; got {value!r}"
    )


def nearest(name: str, known: Sequence[str]) -> str:
    """A sentence that offers the known names nearest to an unknown one, or some of them."""
    folded = {other.casefold(): other for other in known}
    wanted = name.casefold()
    close = difflib.get_close_matches(wanted, folded, n=3, cutoff=0.5)
    close += [other for other in folded if wanted and wanted in other and other not in close][: 3 - len(close)]
    if close:
        return f"Nearest: {', '.join(folded[other] for other in close)}."
    return f"There are, for example, {', '.join(known[-3:])}." if known else ""
