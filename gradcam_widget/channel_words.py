"""An explanation in words: the channels that speak most for its target and against it, each with its evidence."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any

import numpy as np

from gradcam_widget.channel_names import Channel, ChannelNames
from gradcam_widget.explanation import Explanation
from gradcam_widget.targets import name_target

__all__ = ["ChannelWord", "ChannelWords", "explain_in_words", "fit"]

_SHORT = {"IoU": "IoU", "average precision": "AP"}


@dataclass(frozen=True)
class ChannelWord:
    """One channel in an explanation.

    Attributes:
        channel: with its places and its concept.
        alpha: its weight.
        pictures: names of the pictures that excite it most, the strongest first.
    """

    channel: Channel
    alpha: float
    pictures: tuple[str, ...]

    def __str__(self) -> str:
        number = f"#{self.channel.number}"
        if self.channel.name is not None:
            return f"{number} {self.channel.name}, {fit(self.channel)}"
        return f"{number}, most in {', '.join(self.pictures[:2])}" if self.pictures else f"{number}, never excited"


@dataclass(frozen=True, eq=False)
class ChannelWords:
    """The channels that speak most for a target, and those that speak most against it; ``str`` is the text.

    Attributes:
        target: what is explained, in words.
        layer: name of the layer.
        method: whose weights these are.
        for_it: the channels with the largest alpha, of those above zero.
        against_it: the channels with the smallest alpha, of those below zero.
    """

    target: str
    layer: str
    method: str
    for_it: tuple[ChannelWord, ...]
    against_it: tuple[ChannelWord, ...]
    _names: ChannelNames = field(repr=False)

    def __str__(self) -> str:
        return f"for *{self.target}*: {_in_words(self.for_it)}; against: {_in_words(self.against_it)}"

    def _repr_html_(self) -> str:
        """Two tables with the patches, for notebooks."""
        parts = []
        for title, words in ((f"For {self.target}", self.for_it), ("Against it", self.against_it)):
            rows = "".join(self._row(word) for word in words) or "<tr><td>no channel</td></tr>"
            parts.append(f"<p><b>{html.escape(title)}</b> at {html.escape(self.layer)}</p><table>{rows}</table>")
        return "".join(parts)

    def _row(self, word: ChannelWord) -> str:
        sprite = base64.b64encode(self._names.sprite(word.channel.number)).decode()
        alt = html.escape(
            f"what excites channel {word.channel.number} most: {', '.join(word.pictures)}", quote=True
        )
        patches = f'<img alt="{alt}" src="data:image/jpeg;base64,{sprite}">' if sprite else "never excited"
        name = f"{word.channel.name}, {fit(word.channel)}" if word.channel.name else "no name"
        return (
            f"<tr><td>#{word.channel.number}</td><td>{word.alpha:+.2g}</td><td>{html.escape(name)}</td>"
            f"<td>{patches}</td></tr>"
        )


def explain_in_words(
    explanation: Explanation, names: ChannelNames, *, count: int = 5, label: str | None = None
) -> ChannelWords:
    """Which channels speak most for a target and against it, by alpha, with their names where they have some.

    A name never stands without its measure; a channel that has none stands with its number and the pictures that
    excite it most. The patches are ``names.patches(channel)``, and shown where a notebook shows the result.

    Args:
        explanation: of the layer that the names are for.
        names: of `gradcam_widget.name_channels`.
        count: how many channels for the target, and how many against it.
        label: how the target is called; None for its own label.

    Raises:
        TypeError: for what is no explanation, or no names.
        ValueError: for names of another layer, and for a count below 1.
    """
    if not isinstance(explanation, Explanation):
        raise TypeError(f"explanation: expected that of GradCAM.explain; got {type(explanation).__name__}")
    if not isinstance(names, ChannelNames):
        raise TypeError(f"names: expected those of name_channels; got {type(names).__name__}")
    if isinstance(count, bool) or not isinstance(count, Integral) or count < 1:
        raise ValueError(f"count: expected an int, 1 or more; got {count!r}")
    alpha = explanation.alpha.double().numpy()
    if names.layer != explanation.layer.name or len(names) != len(alpha):
        raise ValueError(
            f"names: these are for {names.layer!r} with {len(names)} channels; the explanation is of "
            f"{explanation.layer.name!r} with {len(alpha)}. Use name_channels(cam, pictures, explanation.layer)"
        )
    return ChannelWords(
        target=name_target(explanation.target) if label is None else label,
        layer=names.layer,
        method=explanation.method,
        for_it=_words(np.argsort(-alpha, kind="stable")[:count], alpha, names, 1),
        against_it=_words(np.argsort(alpha, kind="stable")[:count], alpha, names, -1),
        _names=names,
    )


def fit(channel: Channel) -> str:
    """How well a channel's concept fits, with its measure: "IoU 0.07"; "" without one."""
    concept = channel.concept
    return "" if concept is None else f"{_SHORT[concept.measure]} {concept.score:.2f}"


def _words(order: Any, alpha: Any, names: ChannelNames, sign: int) -> tuple[ChannelWord, ...]:
    found = []
    for k in order.tolist():
        if sign * alpha[k] > 0:
            pictures = tuple(names.pictures[place.picture] for place in names[k].places)
            found.append(ChannelWord(names[k], float(alpha[k]), tuple(dict.fromkeys(pictures))))
    return tuple(found)


def _in_words(words: Sequence[ChannelWord]) -> str:
    if not words:
        return "no channel"
    named = [word for word in words if word.channel.name is not None]
    others = [word for word in words if word.channel.name is None]
    parts = []
    if named:
        concepts = ", ".join(dict.fromkeys(word.channel.name or "" for word in named))
        parts.append(f"{_channels(len(named))} like [{concepts}] ({'; '.join(map(str, named))})")
    if others:
        parts.append(f"{_channels(len(others))} without a name ({'; '.join(map(str, others))})")
    return ", ".join(parts)


def _channels(count: int) -> str:
    return f"{count} channel{'' if count == 1 else 's'}"
