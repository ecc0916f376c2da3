"""What the sources never do: fetch, unpickle, write markup. A host page must offer a browser, and no more."""

from __future__ import annotations

import ast
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gradcam_widget.widget import pictures, view
from gradcam_widget.widget.pictures import read_upload

PACKAGE = Path(view.__file__).parents[2]
SOURCES = sorted(PACKAGE.rglob("*.py"))
SCRIPTS = sorted(PACKAGE.rglob("*.js"))
STYLES = sorted(PACKAGE.rglob("*.css"))

# no network, no module loader of a host, no markup out of text, no code out of text
SCRIPT_MUST_NOT = {
    "import": r"^\s*import\b|\bimport\s*\(",
    "a module loader": r"\brequire(js)?\b\s*[.(]|\bdefine\s*\(|\bimportScripts\b",
    "the classic notebook": r"\bnbextensions\b|\bIPython\.|\bJupyter\.notebook",
    "the network": r"\bfetch\s*\(|XMLHttpRequest|WebSocket|EventSource|sendBeacon",
    "an address": r"https?:|[\"'`]//\w",
    "markup": r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment",
    "code": r"\beval\s*\(|new Function\b|setTimeout\(\s*[\"'`]",
}
CALLS_MUST_NOT = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "pickle.load",
    "pickle.loads",
    "joblib.load",
    "os.system",
}


def code_of(script: str) -> str:
    """A script without its comments."""
    return re.sub(r"/\*.*?\*/|(?<![:\"'`\\])//[^\n]*", "", script, flags=re.DOTALL)


@pytest.mark.parametrize("what", SCRIPT_MUST_NOT)
@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_of_the_view_needs_nothing_of_its_host_but_the_browser(path, what):
    found = re.findall(SCRIPT_MUST_NOT[what], code_of(path.read_text(encoding="utf-8")), re.MULTILINE)
    assert found == []


def test_the_search_finds_what_it_looks_for():
    bad = {
        "import": "import x from './y.js';",
        "a module loader": "require(['@jupyter-widgets/base'])",
        "the classic notebook": "Jupyter.notebook.kernel",
        "the network": "await fetch(address)",
        "an address": 'const cdn = "https://example.org/x.js"',
        "markup": "label.innerHTML = name",
        "code": "eval(text)",
    }
    assert {what for what in SCRIPT_MUST_NOT if re.search(SCRIPT_MUST_NOT[what], code_of(bad[what]), re.M)} == set(
        bad
    )
    assert code_of("a(); // fetch(x)\n/* innerHTML */b('//c')").split() == ["a();", "b('//c')"]


@pytest.mark.parametrize("path", STYLES, ids=lambda path: path.stem)
def test_a_style_sheet_loads_nothing(path):
    text = re.sub(r"/\*.*?\*/", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert "@import" not in text
    assert [
        address for address in re.findall(r"url\(\s*[\"']?([^\"')]{0,20})", text) if address[:5] != "data:"
    ] == []


def calls(path: Path) -> list[tuple[str, dict[str, object]]]:
    """Every call of a source: its name, and those keywords that are constants."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            words = {k.arg: k.value.value for k in node.keywords if k.arg and isinstance(k.value, ast.Constant)}
            found.append((ast.unparse(node.func), words))
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_nothing_is_unpickled_and_no_text_is_run(path):
    for name, words in calls(path):
        assert name not in CALLS_MUST_NOT, name
        assert words.get("shell") is not True, name
        if name in ("torch.load", "torch.hub.load_state_dict_from_url"):
            assert words.get("weights_only") is True, name
        if name in ("np.load", "numpy.load"):
            assert words.get("allow_pickle") is False, name


def test_there_are_weights_that_are_loaded_so():
    assert [path.name for path in SOURCES if any(name == "torch.load" for name, _ in calls(path))]


def encoded(width: int, height: int, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(buffer, kind)
    return buffer.getvalue()


def test_an_upload_is_limited_in_bytes():
    assert read_upload("a.png", encoded(8, 8) + bytes(1000)).size == (8, 8)
    with pytest.raises(ValueError, match=r"'a\.png' has 21 MB; at most 20 MB can be uploaded"):
        read_upload("a.png", encoded(8, 8) + bytes(21_000_000))


def test_an_upload_is_limited_in_pixels_before_they_are_unpacked(monkeypatch):
    monkeypatch.setattr(pictures, "_UPLOAD_PIXELS", 99)
    content, unpacked = encoded(10, 10), []
    monkeypatch.setattr(Image.Image, "load", lambda self: unpacked.append(self))
    with pytest.raises(ValueError, match=r"'a\.png' has 10 × 10 pixels; at most"):
        read_upload("a.png", content)
    assert unpacked == []


def test_an_upload_of_another_kind_of_file_is_not_read():
    with pytest.raises(ValueError, match="cannot be read as a picture"):
        read_upload("model.png", b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix")  # a pickle
    with pytest.raises(ValueError, match="cannot be read as a picture"):
        read_upload("page.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")  # a program for a printer
