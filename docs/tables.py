"""Tables of the site that the package itself fills: a page names one by a comment, ``<!-- table: methods -->``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from gradcam_widget.methods import METHODS
from gradcam_widget.widget.panels import PANELS

TABLES: dict[str, tuple[tuple[str, ...], Iterable[tuple[str, ...]]]] = {
    "methods": (
        ("name", "alpha", "cost", "source"),
        [(f"`{row.name}`", row.meaning, row.passes, row.source) for row in METHODS.values()],
    ),
    "panels": (
        ("name", "what one sees in it", "on show unless others are named"),
        [(f"`{row.name}`", row.shows, "yes" if row.default else "no") for row in PANELS.values()],
    ),
}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page with its tables; mkdocs calls it."""
    return re.sub(r"<!-- table: (\w+) -->", lambda found: table(found[1]), markdown)


def table(name: str) -> str:
    """A table in Markdown."""
    head, rows = TABLES[name]
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
