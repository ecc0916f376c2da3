"""The view as it runs in the browser: plain scripts and styles, no build step, no network."""

from __future__ import annotations

from pathlib import Path

__all__ = [
    "CHECK_SCRIPTS",
    "CHECK_STYLES",
    "HANDOUT_SCRIPTS",
    "HANDOUT_STYLES",
    "PAD_SCRIPTS",
    "PAD_STYLES",
    "SCRIPTS",
    "STYLES",
    "script",
    "shell",
    "style",
]

SCRIPTS = (
    "decode",
    "maths",
    "localise",
    "words",
    "drawing",
    "dom",
    "probe",
    "picture",
    "box",
    "switches",
    "names",
    "table",
    "channels",
    "compare",
    "scale",
    "truth",
    "cures",
    "pixels",
    "classes",
    "export",
    "saying",
    "predictions",
    "strip",
    "status",
    "panels",
    "preview",
    "requests",
    "rest",
    "scenes",
    "hand",
    "follow",
    "connection",
    "kept",
    "page",
    "render",
)
"""Parts of one ES module, in order: later ones use what earlier ones declare, and the last one exports."""

STYLES = (
    "look",
    "panels",
    "box",
    "switches",
    "requests",
    "stale",
    "table",
    "compare",
    "cures",
    "pixels",
    "classes",
    "export",
    "probe",
    "connection",
    "kept",
    "names",
)

PAD_SCRIPTS = ("decode", "maths", "words", "dom", "status", "connection", "page", "pad")
"""The same for the view of the paint pad, which can stand alone."""

PAD_STYLES = ("look", "pad", "connection")

HANDOUT_SCRIPTS = ("handout",)
"""What a hand-out has in addition, in the same module: the kernel's part, and the controls."""

HANDOUT_STYLES = ("handout",)

CHECK_SCRIPTS = ("decode", "maths", "words", "dom", "status", "page", "checks")
"""The same for the panel "Is it true?"."""

CHECK_STYLES = ("look", "classes", "checks")

_HERE = Path(__file__).parent


def script(names: tuple[str, ...] = SCRIPTS) -> str:
    """The ES module that notebooks and hand-outs load."""
    return _joined(names, ".js")


def style(names: tuple[str, ...] = STYLES) -> str:
    """The style sheet that goes with it."""
    return _joined(names, ".css")


def shell() -> str:
    """The page of a hand-out, with {{names}} of what is to be put in."""
    return (_HERE / "handout.html").read_text("utf-8")


def _joined(names: tuple[str, ...], suffix: str) -> str:
    return "\n".join((_HERE / f"{name}{suffix}").read_text("utf-8") for name in names)
