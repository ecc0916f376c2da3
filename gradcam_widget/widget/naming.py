"""Naming: the explorer's part that shows what its channels look for, by patches, by name and in words."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import traitlets

from gradcam_widget.channel_names import ChannelNames
from gradcam_widget.channel_words import ChannelWord, explain_in_words, fit
from gradcam_widget.engine import GradCAM
from gradcam_widget.neurons import fingerprint
from gradcam_widget.widget import wire
from gradcam_widget.widget.canvas import Canvas
from gradcam_widget.widget.panels import DEFAULT_PANELS
from gradcam_widget.widget.state import SettingError

__all__ = ["Naming", "checked_names", "names_message", "panels_with_words", "sprite_of"]

_TOGETHER = 12  # channels whose patches are sent in one message
_WITH_WORDS = (*DEFAULT_PANELS, "words")


_Setting = traitlets.TraitType[Any, Any]  # as traitlets.Any, but None is validated as any other value


class Naming(traitlets.HasTraits):
    """The part of the explorer that holds names of channels and gives the view their patches.

    Attributes:
        names: {layer: `ChannelNames`}. May be set to such a dict, to one `ChannelNames`, a list of them, or None;
            those of another model, or of other weights, are refused.
    """

    names = _Setting({})

    # The explorer's own, of which this is a part.
    engine: GradCAM
    panels: Any
    _canvas: Canvas
    _closed: bool
    _drawn: Any
    _failure: Any
    _unpaid: Any
    _lock: threading.RLock
    _check_open: Any
    _renew: Any
    _edition = 0  # counts how often the names have been set, since the view keeps patches

    @traitlets.validate("names")
    def _validate_names(self, proposal: Any) -> dict[str, ChannelNames]:
        self._check_open()
        return checked_names(proposal["value"], self.engine)

    def _begin_naming(self, names: object) -> None:
        """Take the first names, and link the trait with the view."""
        self.names = names
        self._edition = 1
        self._canvas.on_patches(self._on_canvas_patches)
        self.observe(self._on_own_names, names="names")

    def _on_own_names(self, change: Any) -> None:
        with self._lock:
            if self._closed:
                return
            self._renew()  # they are names of the model as it is
            self._edition += 1
            # The words come and go with the names, unless the user has chosen panels.
            if change["new"] and self.panels == DEFAULT_PANELS:
                self.panels = _WITH_WORDS
            elif not change["new"] and self.panels == _WITH_WORDS:
                self.panels = DEFAULT_PANELS
            self._fill_names()

    def _fill_names(self) -> None:
        """Give the view the names of the layer on show, where it has none of them, and the words of its scene."""
        drawn = self._drawn
        if self._closed or drawn is None or self._failure or self._unpaid:
            return
        explanation = drawn.explanation
        found = self.names.get(explanation.layer.name)
        if found is None or len(found) != len(explanation.alpha):
            if self._canvas.names or self._canvas.words:
                with self._canvas.hold_sync():
                    self._canvas.names = self._canvas.words = self._canvas.patches = {}
            return
        words: dict[str, Any] = {}
        if "words" in self.panels:
            words = {"revision": self._canvas.base, "edition": self._edition}
        at_hand = self._canvas.words
        with self._canvas.hold_sync():
            if (self._canvas.names.get("layer"), self._canvas.names.get("edition")) != (
                found.layer,
                self._edition,
            ):
                self._canvas.names = names_message(found, self._edition)
                self._canvas.patches = {}
            if {key: at_hand[key] for key in ("revision", "edition") if key in at_hand} != words:
                self._canvas.words = words and words | self._words(drawn, found)

    def _words(self, drawn: Any, found: ChannelNames) -> dict[str, Any]:
        label = drawn.choices.target_label
        said = explain_in_words(drawn.explanation, found)
        return {
            "layer": found.layer,
            "label": wire.shorten(label),
            "against": drawn.view.evidence == "counterfactual",
            "for_it": [_word(word) for word in said.for_it],
            "against_it": [_word(word) for word in said.against_it],
        }

    def _on_canvas_patches(self, content: Mapping[str, Any]) -> None:
        """Send the patches of some channels, of the names that are on show."""
        found = self.names.get(content.get("layer"))
        channels = content.get("channels")
        if found is None or content.get("edition") != self._edition or not isinstance(channels, Sequence):
            return
        wanted = [k for k in channels if isinstance(k, int) and not isinstance(k, bool) and 0 <= k < len(found)]
        self._canvas.patches = {
            "layer": found.layer,
            "edition": self._edition,
            "sprites": [sprite_of(found, k) for k in wanted[:_TOGETHER]],
        }


def checked_names(value: object, engine: GradCAM) -> dict[str, ChannelNames]:
    """Names by their layers.

    Raises:
        SettingError: for anything else, for two of one layer, and for those of another model.
    """
    if value is None:
        return {}
    listed: list[object] = (
        [value]
        if isinstance(value, ChannelNames)
        else list(value.values())
        if isinstance(value, Mapping)
        else list(value)
        if isinstance(value, Sequence) and not isinstance(value, str)
        else [value]
    )
    found: dict[str, ChannelNames] = {}
    for names in listed:
        if not isinstance(names, ChannelNames):
            raise SettingError(
                "names: expected a ChannelNames (of name_channels, or ChannelNames.load), or a list or dict of "
                f"them, one for each layer; got {names!r}, a {type(names).__name__}"
            )
        if names.layer in found:
            raise SettingError(f"names: expected one for each layer; got two for {names.layer!r}")
        found[names.layer] = names
    if isinstance(value, Mapping):
        wrong = next((key for key, layer in zip(value, found, strict=True) if key != layer), None)
        if wrong is not None:
            raise SettingError(f"names: expected the layer of each as its key; {wrong!r} is not")
    own = fingerprint(engine.model) if found else ""
    for names in found.values():
        if names.model != own:
            raise SettingError(
                f"names: those of {names.layer!r} were found with another model, or other weights, and may be "
                "wrong for this one; find them anew with name_channels(widget.engine, pictures, layer)"
            )
    return found


def panels_with_words(panels: tuple[Any, ...], names: object) -> tuple[Any, ...]:
    """The panels to begin with: the usual ones with the words, where there are names."""
    return _WITH_WORDS if names and panels == DEFAULT_PANELS else panels


def names_message(found: ChannelNames, edition: int) -> dict[str, Any]:
    """Names as the view takes them: {"layer", "edition", "channels", "pictures", "approximate", "concepts",
    "named": {channel: [number of the concept, how well it fits, in words]}}; concepts and fits of named ones only.
    """
    concepts: dict[str, int] = {}
    named = {}
    for channel in found.channels:
        if channel.name is not None:
            number = concepts.setdefault(channel.name, len(concepts))
            named[str(channel.number)] = [number, fit(channel)]
    return {
        "layer": wire.shorten(found.layer),
        "edition": edition,
        "channels": len(found),
        "pictures": len(found.pictures),
        "approximate": found.approximate,
        "concepts": [wire.shorten(concept, 60) for concept in concepts],
        "named": named,
    }


def _word(word: ChannelWord) -> dict[str, Any]:
    return {
        "channel": word.channel.number,
        "alpha": float(np.float32(word.alpha)),
        "pictures": [wire.shorten(picture, 40) for picture in word.pictures[:3]],
    }


def sprite_of(found: ChannelNames, number: int) -> dict[str, Any]:
    """The patches of a channel as the view takes them, and what fits it best where that is no name."""
    channel = found[number]
    near = f"{channel.concept.name}, {fit(channel)}" if channel.concept is not None and not channel.named else ""
    return {
        "channel": number,
        "count": min(9, len(channel.places)),
        "data": found.sprite(number),
        "pictures": [wire.shorten(found.pictures[place.picture], 40) for place in channel.places[:3]],
        "near": wire.shorten(near, 80),
    }
