"""The site is built without a warning, loads nothing from another host, and says what is so: its examples run and
print what stands below them, and every message that it explains is one that the package can give.
"""

from __future__ import annotations

import ast
import contextlib
import io
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from gradcam_widget.cli import main
from gradcam_widget.methods import METHODS
from gradcam_widget.widget.panels import PANELS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(
    path
    for path in [*DOCS.glob("*.md"), *DOCS.glob("how-to/*.md")]
    # written by programs, or tested where they are written
    if path.name not in ("parity.md", "benchmarks.md", "zoo.md", "evaluation.md", "teachers.md", "hosts.md")
)
WIDTH = 84  # characters of an example that fit beside both menus at 1280 pixels
MEASURED = re.compile(r"(?<![\w.])-?\d+\.\d+(?![\w.]*\w)|\b\d+(?=%)")
HOLE = "…"  # in what is printed, and in messages: anything


class Loads(HTMLParser):
    """What a page has the browser fetch; a link that only leads elsewhere is none of it."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "link" and values.get("rel") not in ("canonical", "next", "prev"):
            self.found.append(values["href"])
        self.found += [values[name] for name in ("src", "srcset", "poster", "data") if name in values]


def test_the_site_loads_nothing_from_another_host(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 15
    loads = {(page.name, address) for page in pages for address in Loads(page).found}
    assert any(address.endswith(".css") for _, address in loads)
    assert {(page, address) for page, address in loads if re.match(r"(\w+:)?//", address)} == set()
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*['\"]?(https?:)?//", sheet.read_text(encoding="utf-8")), sheet


def test_every_public_name_is_in_the_reference(site):
    import gradcam_widget

    said = "".join(page.read_text(encoding="utf-8") for page in (site / "reference").glob("*.html"))
    missing = [name for name in gradcam_widget.__all__ if f'id="gradcam_widget.{name}"' not in said]
    assert missing == ["__version__"]


@pytest.mark.parametrize(("page", "names"), [("methods", METHODS), ("panels", PANELS)])
def test_a_table_of_the_site_has_every_row_of_the_package(site, page, names):
    text = (site / "reference" / f"{page}.html").read_text(encoding="utf-8")
    assert re.findall(r"<tr>\s*<td><code>(.+?)</code></td>", text) == list(names)


# --- examples

FENCE = re.compile(
    r"(?P<skip><!-- not run: [^\n]+ -->\n)?^```python\n(?P<code>.*?)^```\n(?:\n```text\n(?P<printed>.*?)^```\n)?",
    re.MULTILINE | re.DOTALL,
)


def agrees(printed: str, expected: str) -> bool:
    """Whether it is what the page says: words on any line, holes, decimals and per cents about right."""
    printed, expected = in_one_line(printed), in_one_line(expected)
    parts = [".*?".join(map(re.escape, part.split(HOLE))) for part in MEASURED.split(expected)]
    found = re.fullmatch(rf"({MEASURED.pattern})".join(parts), printed, re.DOTALL)
    if found is None:
        return False
    pairs = zip(found.groups(), MEASURED.findall(expected), strict=True)
    return all(math.isclose(float(one), float(other), rel_tol=0.25, abs_tol=0.05) for one, other in pairs)


def in_one_line(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.filterwarnings("default")  # what a reader's program would show goes to its output, as everywhere
@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_the_examples_of_a_page_run(page, tmp_path, monkeypatch):
    """All in order in one namespace; a text block right behind one is what it prints."""
    monkeypatch.chdir(tmp_path)
    text = page.read_text(encoding="utf-8")
    blocks = list(FENCE.finditer(text))
    assert len(blocks) == text.count("```python\n"), "a block is not closed, or begins in a list"
    namespace: dict[str, object] = {"__name__": "__main__"}
    for block in blocks:
        too_long = [line for line in block["code"].splitlines() if len(line) > WIDTH]
        assert too_long == [], f"lines of examples have at most {WIDTH} characters"
        if block["skip"]:
            continue
        line = text.count("\n", 0, block.start("code"))
        code = compile("\n" * line + block["code"], str(page), "exec")
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(code, namespace)
        if block["printed"] is not None:
            assert agrees(printed.getvalue(), block["printed"]), printed.getvalue()


def test_what_an_example_prints_is_compared():
    said = "areas 0.20 and 0.70; 83% of\n4 maps"
    assert agrees("areas 0.21 and 0.69; 80% of 4 maps", said)
    assert agrees("areas 0.21 and 0.69; 80% of 4 maps", "areas … and …; 83% … maps")
    assert not agrees("areas 0.21 and 0.31; 80% of 4 maps", said)
    assert not agrees("areas 0.21 and 0.69; 30% of 4 maps", said)
    assert not agrees("areas 0.21 and 0.69; 80% of 5 maps", said)


@pytest.mark.parametrize("page", [*PAGES, DOCS / "reference" / "commands.md"], ids=lambda path: path.stem)
def test_the_commands_of_a_page_are_known(page, capsys):
    for words in re.findall(r"^gradcam-widget +(.+)$", page.read_text(encoding="utf-8"), re.MULTILINE):
        with pytest.raises(SystemExit) as ended:
            main([*words.split("#")[0].split(), "--help"])
        assert ended.value.code == 0, (words, capsys.readouterr().err)


# --- troubleshooting


def messages_of(path: Path) -> set[str]:
    """The string literals of a file; what an f-string fills in is a hole."""

    def text_of(node: ast.AST) -> str | None:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return node.value
        if isinstance(node, ast.JoinedStr):
            return "".join(part.value if isinstance(part, ast.Constant) else HOLE for part in node.values)
        return None

    return {text for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if (text := text_of(node))}


def squeezed(text: str) -> str:
    """Without the difference between one hole and several beside one another."""
    return re.sub(rf"{HOLE}+", HOLE, text)


def explained_messages() -> list[str]:
    text = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    return re.findall(r"^### `(.+)`$", text, re.MULTILINE)


def test_every_message_explained_is_one_of_ours():
    package = ROOT / "gradcam_widget"
    ours = [squeezed(text) for path in package.rglob("*.py") for text in messages_of(path)]
    ours += [path.read_text(encoding="utf-8") for path in (package / "widget" / "view").glob("*.js")]
    explained = explained_messages()
    assert len(explained) >= 30
    assert len(set(explained)) == len(explained)
    unknown = [text for text in explained if not any(text in known for known in ours)]
    assert unknown == []


def test_a_message_that_is_not_ours_would_be_found():
    ours = {squeezed(text) for text in messages_of(ROOT / "gradcam_widget" / "arguments.py")}
    assert any("model: expected a torch.nn.Module; got the class …, so call it first" in text for text in ours)
    assert not any("model: expected a torch.nn.Module; got the moon" in text for text in ours)
