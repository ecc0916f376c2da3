"""Parts: what is done to any widget of ipywidgets: a CSS class given, and all that it contains closed."""

from __future__ import annotations

from typing import Any

import ipywidgets  # type: ignore[import-untyped]  # it has no types

__all__ = ["classed", "close_all"]


def classed(widget: Any, name: str) -> Any:
    """The same widget, with a CSS class."""
    widget.add_class(name)
    return widget


def close_all(widget: ipywidgets.Widget) -> None:
    """Close a widget with all that it contains, its layouts and styles too; containers do not by themselves."""
    for child in getattr(widget, "children", ()):
        close_all(child)
    for name in ("style", "layout"):
        part = getattr(widget, name, None)
        if isinstance(part, ipywidgets.Widget):
            part.close()
    widget.close()
