"""Panels: the table of those that the explorer has, and how others are built beside it."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ipywidgets  # type: ignore[import-untyped]  # it has no types
import traitlets

from gradcam_widget.widget.parts import close_all
from gradcam_widget.widget.state import SettingError, nearest

__all__ = ["DEFAULT_PANELS", "PANELS", "Builder", "Panel", "PanelShelf", "Panels", "checked_panels"]

_log = logging.getLogger("gradcam_widget")

Builder = Callable[[Any], ipywidgets.Widget]
"""What makes a panel: ``panel(widget) -> ipywidgets.Widget``."""


@dataclass(frozen=True)
class Panel:
    """One panel that the explorer has.

    Attributes:
        name: by which it is asked for.
        shows: what one sees in it, in words.
        build: what makes it, as a panel of a user's own; None for a section of the view, whose script has the same
            name in the table of `view/render.js`.
        default: whether it is on show where nothing else is asked for.
    """

    name: str
    shows: str
    build: Builder | None = None
    default: bool = True


def _paint(explorer: Any) -> ipywidgets.Widget:
    # Read when it is asked for: it is the only part that needs ipycanvas.
    built: ipywidgets.Widget = importlib.import_module("gradcam_widget.widget.easel").panel(explorer)
    return built


def _checks(explorer: Any) -> ipywidgets.Widget:
    built: ipywidgets.Widget = importlib.import_module("gradcam_widget.widget.checks").panel(explorer)
    return built


PANELS: dict[str, Panel] = {
    row.name: row
    for row in (
        Panel("heatmap", "where: the picture with the heatmap on it"),
        Panel("alpha", "through which channels: the channel weights as bars"),
        Panel("predictions", "what the model says: its likeliest classes"),
        Panel("layers", "at which depth: the map at every layer"),
        Panel(
            "words",
            "in words: which channels speak for the class and against it, where they have names",
            default=False,
        ),
        Panel("classes", "which classes share a channel: a table of their weights, to be opened"),
        Panel("export", "to be kept: the figure, its numbers and the code as files"),
        Panel("checks", "is it true: checks of the map on show, to be opened and run", build=_checks),
        Panel("paint", "what if: the picture, to be painted on", build=_paint, default=False),
    )
}
"""The panels by name. Sections of the view have their places; what is built stands below it."""

DEFAULT_PANELS: tuple[str | Builder, ...] = tuple(row.name for row in PANELS.values() if row.default)


def checked_panels(value: object) -> tuple[str | Builder, ...]:
    """A list of panels as a tuple of names and functions, each once.

    Raises:
        SettingError: for something else than a list, or an entry that is no panel.
    """
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise SettingError(
            f"panels: expected a list of names ({', '.join(PANELS)}) and functions widget -> ipywidgets.Widget; "
            f"got {value!r}, a {type(value).__name__}"
        )
    for entry in value:
        if isinstance(entry, str) and entry not in PANELS:
            known = tuple(PANELS)
            raise SettingError(
                f"panels: expected names out of {', '.join(known)}; got {entry!r}. {nearest(entry, known)}"
            )
        if not isinstance(entry, str) and (not callable(entry) or isinstance(entry, ipywidgets.Widget)):
            raise SettingError(
                "panels: expected a name or a function widget -> ipywidgets.Widget, which is called with this "
                f"explorer; got {entry!r}, a {type(entry).__name__}"
            )
    return tuple(entry for at, entry in enumerate(value) if entry not in value[:at])


class Panels(traitlets.TraitType[Any, Any]):
    """A trait that holds panels; see `checked_panels`."""

    default_value = DEFAULT_PANELS

    def validate(self, obj: object, value: object) -> tuple[str | Builder, ...]:
        """The panels as they are kept."""
        return checked_panels(value)


class PanelShelf:
    """The panels of one explorer that are widgets of their own.

    Each is built when it is first shown and kept until `close`: one that comes back is as it was.
    """

    def __init__(self) -> None:
        self._built: dict[Builder, ipywidgets.Widget] = {}

    def boxes(self, panels: Sequence[str | Builder], explorer: Any) -> list[ipywidgets.Widget]:
        """The widgets of those panels that are no section of the view, in their order."""
        builders = [PANELS[entry].build if isinstance(entry, str) else entry for entry in panels]
        return [self._box(build, explorer) for build in builders if build is not None]

    def content(self, name: str) -> ipywidgets.Widget | None:
        """What the function of a panel of the table returned; None where it has not been called."""
        build = PANELS[name].build
        return self._built[build].children[0] if build in self._built else None

    def close(self) -> None:
        """Forget the panels; they are closed already where they are on show, and here where they are not."""
        for box in self._built.values():
            close_all(box)
        self._built.clear()

    def _box(self, build: Builder, explorer: Any) -> ipywidgets.Widget:
        if build not in self._built:
            box = ipywidgets.VBox([_content(build, explorer)])
            box.add_class("gradcam-panel")
            self._built[build] = box
        return self._built[build]


def title_of(build: Builder) -> str:
    """How a panel of a user's own is called: by its function."""
    return getattr(build, "__qualname__", type(build).__qualname__)


def _content(build: Builder, explorer: Any) -> ipywidgets.Widget:
    """What a panel's function returns, or in its place why there is nothing to show."""
    try:
        content = build(explorer)
        if not isinstance(content, ipywidgets.Widget):
            raise TypeError(
                f"a panel is a function widget -> ipywidgets.Widget; this one returned {content!r}, "
                f"a {type(content).__name__}"
            )
    except Exception as error:
        _log.exception("The panel %s cannot be shown", title_of(build))
        words = ipywidgets.Label(
            f"The panel {title_of(build)} cannot be shown: {type(error).__name__}: {error}. The traceback is in "
            'the log "gradcam_widget".'
        )
        words.add_class("gradcam-panel-error")
        return words
    return content
