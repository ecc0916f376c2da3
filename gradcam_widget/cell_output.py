"""A figure as the output of a notebook's cell: matplotlib shows only those that pyplot knows of."""

from __future__ import annotations

import functools
import io
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["show_itself"]

_Shown = TypeVar("_Shown", bound="Figure")

DPI = 110


def show_itself(figure: _Shown) -> _Shown:
    """The figure, which from now on a notebook shows as a picture where it is the value of a cell.

    Where pyplot has been imported, matplotlib's own way of showing figures goes first.
    """
    figure._repr_png_ = functools.partial(_png, figure)  # type: ignore[attr-defined]  # IPython asks for it
    return figure


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()
