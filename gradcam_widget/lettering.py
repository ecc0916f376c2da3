"""Lettering: which characters can be drawn and in which font, how long a line is, and where it is broken."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["LONGEST", "MONO", "SANS", "boxed", "drawable", "families", "font", "wrapped"]

SANS, MONO = "DejaVu Sans", "DejaVu Sans Mono"  # they come with matplotlib
_OTHER_FONTS = (  # for what these have no letters for, where one is installed
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "Source Han Sans",
    "PingFang SC",
    "Hiragino Sans",
    "Microsoft YaHei",
    "Yu Gothic",
    "Malgun Gothic",
    "WenQuanYi Zen Hei",
    "Arial Unicode MS",
    "Noto Sans Devanagari",
    "Noto Sans Thai",
    "Noto Sans Hebrew",
    "Noto Sans Arabic",
)
LONGEST = 240
"""Characters of one name; of a longer one the middle is left out."""


def drawable(words: str, most: int = LONGEST) -> str:
    """Text without line breaks and control characters; what no font here has letters for becomes a box."""
    if len(words) > most:
        head = (most - 1) // 2
        words = f"{words[:head]}…{words[len(words) - (most - 1 - head) :]}"
    own = _letters(SANS)
    plain = (" " if character.isspace() else character for character in words)
    return "".join(
        character if character.isprintable() and (ord(character) in own or _font_for(character)) else "□"
        for character in plain
    )


def boxed(words: str) -> str:
    """The same for DejaVu Sans alone: a box for each letter that it lacks, also where another font has it."""
    own = _letters(SANS)
    return "".join(letter if ord(letter) in own else "□" for letter in drawable(words))


def families(words: str, mono: bool) -> list[str]:
    """The fonts that a text needs, the first one first."""
    first = MONO if mono else SANS
    own = _letters(first)
    others = [_font_for(character) for character in words if ord(character) not in own]
    return [first, *dict.fromkeys(name for name in others if name)]


@functools.lru_cache(maxsize=4096)
def _font_for(character: str) -> str | None:
    """An installed font that has a letter which DejaVu Sans lacks; None where there is none."""
    return next((name for name in (SANS, *_installed()) if ord(character) in _letters(name)), None)


@functools.cache
def _installed() -> tuple[str, ...]:
    from matplotlib import font_manager

    there = set(font_manager.get_font_names())
    return tuple(name for name in _OTHER_FONTS if name in there)


@functools.cache
def _letters(family: str) -> frozenset[int]:
    """The characters that a font has, both upright and bold."""
    from matplotlib.ft2font import FT2Font

    faces = [FT2Font(_file_of(family, bold)) for bold in (False, True)]
    return frozenset(faces[0].get_charmap()) & frozenset(faces[1].get_charmap())


@functools.cache
def _file_of(family: str, bold: bool) -> str:
    """Where a font is. Those that come with matplotlib are found without reading all fonts there are."""
    if family in (SANS, MONO):
        import matplotlib

        name = f"{family.replace(' ', '')}{'-Bold' if bold else ''}.ttf"
        return str(Path(matplotlib.get_data_path(), "fonts", "ttf", name))
    from matplotlib import font_manager

    wanted = font_manager.FontProperties(family=[family], weight="bold" if bold else "normal")
    return str(font_manager.findfont(wanted))


@functools.lru_cache(maxsize=32)
def font(family: str, size: float, bold: bool) -> Any:
    """A font of Pillow's, regular or bold; ``size`` in pixels."""
    from PIL import ImageFont

    return ImageFont.truetype(_file_of(family, bold), size, layout_engine=ImageFont.Layout.BASIC)


@functools.lru_cache(maxsize=2048)
def _length(words: str, size: float, bold: bool) -> float:
    """Of a line of text, in inches."""
    own = _letters(SANS)
    length = font(SANS, 100, bold).getlength(words) / 100
    wide = 0.4 * sum(ord(letter) not in own for letter in words)  # in another font they are a square wide
    return float(length + wide) * size / 72


def wrapped(words: str, width: float, size: float, bold: bool, most: int) -> list[str]:
    """A text in lines.

    Args:
        words: of `drawable`.
        width: of a line, in inches.
        size: of the letters, in points.
        bold: whether they are.
        most: lines; what is left is cut, with an ellipsis.
    """
    lines: list[str] = []
    space = _length("x x", size, bold) - 2 * _length("x", size, bold)
    used = 0.0
    for piece in _pieces(words, width, size, bold):
        length = _length(piece, size, bold)
        if lines and used + space + length <= width:
            lines[-1] += f" {piece}"
            used += space + length
        else:
            lines.append(piece)
            used = length
    if len(lines) > most:
        lines = lines[:most]
        while lines[-1] and _length(f"{lines[-1]}…", size, bold) > width:
            lines[-1] = lines[-1][:-1]
        lines[-1] += "…"
    return lines


def _pieces(words: str, width: float, size: float, bold: bool) -> Iterator[str]:
    """The words of a text; one that is longer than a line comes in pieces."""
    for word in words.split():
        while _length(word, size, bold) > width:
            fitting = max(1, int(len(word) * width / _length(word, size, bold)))
            while fitting > 1 and _length(word[:fitting], size, bold) > width:
                fitting -= 1
            yield word[:fitting]
            word = word[fitting:]
        yield word
