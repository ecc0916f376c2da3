"""The pad's own view: the table of scores, the occlusion map and notices, as the browser takes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import anywidget
import traitlets

from gradcam_widget.widget import view

__all__ = ["PadView", "changes"]

_ROWS = 6  # classes in the table


def changes(before: Mapping[str, float], after: Mapping[str, float], rows: int = _ROWS) -> list[dict[str, Any]]:
    """What painting did to the scores: [{"label", "before", "after"}], at most ``rows``.

    First the classes that were likeliest before, in that order, so that rows keep their places while one paints;
    then, for a third of the rows, those that have become likeliest and are not among them.
    """
    by_before = sorted(before, key=lambda label: -before[label])
    by_after = sorted(after, key=lambda label: -after[label])
    kept = by_before[: rows - rows // 3]
    labels = [*kept, *[label for label in by_after if label not in kept][: rows - len(kept)]]
    return [
        {"label": label, "before": float(before.get(label, 0)), "after": float(after.get(label, 0))}
        for label in labels
    ]


class PadView(anywidget.AnyWidget):
    """The pad's own view: the scores, the occlusion map, a notice; and it keeps the page's keys and wheel free.

    Attributes:
        canvas: {"label"}: how the canvas is called for those who do not see it.
        scores: {"rows": [{"label", "before", "after"}], "explained": label}, or {} where there are none.
        task: {"total", "done"}: passes of an occlusion map; ``done`` is None before they were asked for.
        occlusion: {"data": PNG, "width", "height", "sentences"}, or {}.
        notice: {"title", "message"}, or {}.

    The view says {"type": "undo"}, {"type": "occlude"}, {"type": "cancel"}, and {"type": "ready", "complete"}.
    """

    _esm: ClassVar[str] = view.script(view.PAD_SCRIPTS)
    _css: ClassVar[str] = view.style(view.PAD_STYLES)

    canvas = traitlets.Dict().tag(sync=True)
    scores = traitlets.Dict().tag(sync=True)
    task = traitlets.Dict().tag(sync=True)
    occlusion = traitlets.Dict().tag(sync=True)
    notice = traitlets.Dict().tag(sync=True)
