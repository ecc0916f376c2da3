"""Captions: names and numbers as people write them, in figures and in words."""

from __future__ import annotations

import math
from collections.abc import Callable

__all__ = ["aligned", "chance", "layer_words", "method_words", "number", "score_words"]


def number(value: float, short: bool = False) -> str:
    """A number in three significant digits with a real minus sign, as the view writes it: 0.412, −0.000530."""
    if not math.isfinite(value):
        return "not a number"
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1e5 or size < (1e-2 if short else 1e-4):
        text = f"{value:.{1 if short else 2}e}"
        mantissa, _, power = text.partition("e")
        text = f"{mantissa}e{int(power)}"
    elif size >= 1e3:
        text = str(round(value))
    else:
        text = f"{value:.{max(0, 2 - math.floor(math.log10(float(f'{size:.2e}'))))}f}"
    return text.replace("-", "−")


def method_words(method: str) -> str:
    """How people write a method."""
    return "Grad-CAM" if method == "GradCAM" else method


def layer_words(label: str) -> str:
    """A layer's label, "name · kind · K × h × w", as a part of a caption: "name (kind, K × h × w)"."""
    name, separator, rest = label.partition(" · ")
    return f"{name} ({rest.replace(' · ', ', ')})" if separator else name


def score_words(score: float, probability: float | None) -> str:
    """A target's value in words."""
    beside = "" if probability is None else f", probability {chance(probability)}"
    return f"score {number(score)}{beside}"


def chance(value: float) -> str:
    """A probability; one that rounds to zero is not called zero."""
    return "<0.001" if 0 < value < 0.0005 else f"{value:.3f}"


def aligned(most: float) -> Callable[[float], str]:
    """Signed values with one count of decimals, enough for two digits of ``most``."""
    decimals = math.ceil(-math.log10(most)) + 1 if most > 0 else 1

    def write(value: float) -> str:
        text = f"{abs(value):.1e}" if decimals > 5 else f"{abs(value):.{min(max(decimals, 1), 5)}f}"
        return ("+" if value >= 0 else "−") + text

    return write
