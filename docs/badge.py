"""The link "Open in Colab" of the site and the README, written from one place: ``Repository`` in pyproject.toml.

While there is no public address there is no link. A page has it where it says ``<!-- open in colab -->``; ``python
docs/badge.py`` writes it into the README, between that and ``<!-- /open in colab -->``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
NOTEBOOK = "notebooks/01_quickstart.ipynb"
PLACE = "<!-- open in colab -->"


def repository(pyproject: str) -> str | None:
    """OWNER/NAME on GitHub, where the project says that it is there; None else."""
    urls = re.search(r"^\[project\.urls\]\n(.*?)(?=^\[|\Z)", pyproject, re.MULTILINE | re.DOTALL)
    found = re.search(
        r'^Repository = "https://github\.com/([\w-]+/[\w.-]+?)(?:\.git)?/?"$',
        urls[1] if urls else "",
        re.MULTILINE,
    )
    return found[1] if found else None


def badge(repository: str | None) -> str:
    """The link, in Markdown; "" without a repository."""
    if repository is None:
        return ""
    return f"[Open in Colab](https://colab.research.google.com/github/{repository}/blob/main/{NOTEBOOK})"


def with_badge(readme: str, repository: str | None) -> str:
    """The README with the link between its two marks."""
    written = badge(repository)
    inside = f"\n{written}\n" if written else ""
    return re.sub(rf"({PLACE}).*?(<!-- /open in colab -->)", rf"\g<1>{inside}\g<2>", readme, flags=re.DOTALL)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page with the link; mkdocs calls it."""
    return markdown.replace(PLACE, badge(repository((ROOT / "pyproject.toml").read_text("utf-8"))))


if __name__ == "__main__":
    page = ROOT / "README.md"
    text = with_badge(page.read_text("utf-8"), repository((ROOT / "pyproject.toml").read_text("utf-8")))
    page.write_text(text, "utf-8")
