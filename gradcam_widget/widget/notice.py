"""Notices and tasks: what the view says in words in the place of a map, or before there is one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gradcam_widget.widget import wire
from gradcam_widget.widget.cures import Cure, as_message

__all__ = ["Notice", "Task"]


@dataclass(frozen=True)
class Notice:
    """An error in words, or news.

    Attributes:
        title: in a few words.
        message: in one or more sentences, with what to do.
        stale: whether the picture and bars on show do not belong to the selection, or are out of date.
        cures: what helps, as in `gradcam_widget.widget.scene.Scene`.
        news: whether nothing went wrong.
        mark: what stands on a picture that is stale, where that is not because of the selection.
    """

    title: str
    message: str
    stale: bool
    cures: Sequence[Cure] = ()
    news: bool = False
    mark: str = ""

    def as_message(self) -> dict[str, Any]:
        """The notice as the view takes it."""
        return {
            "title": wire.shorten(self.title),
            "message": wire.shorten(self.message, 1200),
            "stale": self.stale,
            **({"cures": as_message(self.cures)} if self.cures else {}),
            **({"news": True} if self.news else {}),
            **({"mark": self.mark} if self.mark else {}),
        }


@dataclass(frozen=True)
class Task:
    """Many passes of the model that a map needs: told before they run, and while they do.

    Attributes:
        method: which method needs them.
        cost: in words, such as "one forward pass per channel".
        total: how many passes.
        done: how many of them; None before they have been asked for.
    """

    method: str
    cost: str
    total: int
    done: int | None = None

    def as_message(self) -> dict[str, Any]:
        """The task as the view takes it."""
        return {
            "method": wire.shorten(self.method),
            "cost": wire.shorten(self.cost),
            "total": self.total,
            "done": self.done,
        }
