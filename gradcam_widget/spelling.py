"""Names that were meant: the known ones nearest to one that is not known."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

__all__ = ["did_you_mean"]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of an error's text, a question that offers the nearest known names; "" where none is near.

    A name that differs in its case, blanks, hyphens or underscores only is offered alone.
    """
    folded: dict[str, list[str]] = {}
    for other in known:
        folded.setdefault(_folded(other), []).append(other)
    wanted = _folded(name)
    close = [wanted] if wanted in folded else difflib.get_close_matches(wanted, folded, n=3, cutoff=0.6)
    offered = [repr(other) for match in close for other in folded[match]][:3]
    return f". Did you mean {' or '.join(offered)}?" if offered else ""


def _folded(name: str) -> str:
    return re.sub(r"[\s_-]+", "", name).casefold()
