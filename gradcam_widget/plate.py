"""The plate: everything that is on a figure, with nothing said of how it is drawn."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from gradcam_widget import render
from gradcam_widget.captions import layer_words, method_words, score_words
from gradcam_widget.localise import Box
from gradcam_widget.methods import METHODS
from gradcam_widget.targets import name_target

if TYPE_CHECKING:
    from gradcam_widget.explanation import Explanation

__all__ = ["SORTS", "Pane", "Plate", "at_pixels", "check_sort", "plate_of"]

SORTS: dict[str, Callable[[NDArray[Any], NDArray[Any], NDArray[Any]], NDArray[Any]]] = {
    "|α|": lambda alpha, contribution, other: np.abs(alpha),
    "α": lambda alpha, contribution, other: alpha,
    "contribution": lambda alpha, contribution, other: np.abs(contribution),
    "difference": lambda alpha, contribution, other: np.abs(alpha - other),
    "channel": lambda alpha, contribution, other: -np.arange(len(alpha)),
}
"""The orders of the bars, as the view has them: what each sorts by, the largest first."""
_ALIASES = {"|alpha|": "|α|", "alpha": "α", "abs": "|α|"}


@dataclass(frozen=True, eq=False)
class Pane:
    """One picture with a map on it, and the weights that made the map.

    Attributes:
        title: above it, in bold.
        cam: (h, w) the map, in its own unit.
        limit: the value with the strongest colour; 0 for a map that is 0 everywhere.
        signed: whether the colours have two sides, from -limit to limit.
        colormap: a name in `gradcam_widget.render.COLORMAPS`.
        ends: words at the limits of the colour bar: (upper, lower).
        alpha: (K,) the bars that go with it.
        bars: title of these bars.
        pixels: uint8 (H, W, 3), drawn in place of picture and map: a map at the pixels, grey where it is 0.
        note: below the title, in small letters.
    """

    title: str
    cam: NDArray[Any]
    limit: float
    alpha: NDArray[Any]
    bars: str
    signed: bool = False
    colormap: str = "viridis"
    ends: tuple[str, str] = ("max", "")
    pixels: NDArray[np.uint8] | None = None
    note: str = ""


@dataclass(frozen=True, eq=False)
class Plate:
    """Everything that is on a figure.

    Attributes:
        picture: uint8 (H, W, 3), what the model saw; None for the map alone.
        panes: one, or several to be compared, side by side.
        contribution: (K,) of the first pane.
        caption: below all of it: a list of sentences.
        weights: what alpha is, in words.
        opacity: of the map, 0 to 1.
        sort: one of `SORTS`.
        channels: how many bars.
        off: channels that are left out of the maps; their bars are hollow.
        kept: the channel whose bar is marked.
        box: (left, top, right, bottom) in pixels of the picture, drawn on the first pane.
    """

    picture: NDArray[np.uint8] | None
    panes: tuple[Pane, ...]
    contribution: NDArray[Any]
    caption: str
    weights: str = ""
    opacity: float = 0.5
    sort: str = "|α|"
    channels: int = 12
    off: frozenset[int] = field(default_factory=frozenset)
    kept: int | None = None
    box: Box | None = None

    def order(self) -> list[int]:
        """The channels that have a bar, from the top to the bottom."""
        alpha = self.panes[0].alpha
        other = self.panes[1].alpha if len(self.panes) > 1 else np.zeros_like(alpha)
        keys = SORTS[self.sort](alpha, self.contribution, other)
        chosen: list[int] = np.argsort(-keys, kind="stable")[: self.channels].tolist()
        return chosen


def plate_of(
    explanation: Explanation,
    picture: NDArray[np.uint8] | None = None,
    *,
    evidence: Literal["positive", "signed"] = "positive",
    limit: float | None = None,
    colormap: str | None = None,
    opacity: float = 0.5,
    sort: str = "|α|",
    channels: int = 12,
    box: Box | None = None,
    model: str = "",
) -> Plate:
    """What is on the figure of one explanation.

    Args:
        explanation: of pictures, (K, h, w).
        picture: uint8 (H, W, 3) that the model saw, `GradCAM.picture(image)`; None for the map alone.
        evidence: "positive" for the cam, "signed" for the map before the ReLU.
        limit: the value with the strongest colour; None for the map's own maximum.
        colormap: a name in `gradcam_widget.render.COLORMAPS`; None for viridis, or RdBu_r where it is signed.
        opacity: of the heatmap, 0 to 1.
        sort: the order of the bars: "|α|" (or "abs"), "α" ("alpha"), "contribution" or "channel".
        channels: how many bars, at least 1.
        box: (left, top, right, bottom) in pixels of the picture, to be drawn.
        model: its name, for the caption.

    Raises:
        TypeError: for a picture of another kind.
        ValueError: for an argument with a wrong value.
    """
    _check_look(explanation, evidence, limit, opacity, channels)
    pane = _pane(explanation, evidence == "signed", limit, colormap)
    return Plate(
        picture=_checked_picture(picture, explanation.picture),
        panes=(pane,),
        contribution=_numbers(explanation.contribution),
        caption=_caption(explanation, model, signed=evidence == "signed"),
        weights=METHODS[explanation.method].meaning,
        opacity=float(opacity),
        sort=check_sort(sort),
        channels=channels,
        box=box,
    )


def _pane(explanation: Explanation, signed: bool, limit: float | None, colormap: str | None) -> Pane:
    """The map of an explanation, with its bars."""
    cam = _numbers(explanation.signed_cam if signed else explanation.cam)
    if not np.isfinite(cam).all():
        raise ValueError(f"explanation: {explanation.diagnosis or 'the map has NaN or infinite values'}")
    most = float(np.abs(cam).max(initial=0.0))
    where = f"at {explanation.layer.name}"
    label = name_target(explanation.target)
    pane = Pane(
        title=f"{'Signed ' if signed else ''}{method_words(explanation.method)} for {label}",
        note=f"{where} · {' × '.join(map(str, cam.shape))} cells",
        cam=cam,
        limit=float(limit or most) if most else 0.0,
        signed=signed,
        colormap=colormap or ("RdBu_r" if signed else "viridis"),
        ends=("for", "against") if signed else ("max" if limit is None else "scale", ""),
        alpha=_numbers(explanation.alpha),
        bars=f"αₖ {where}",
    )
    if explanation.guided is not None:
        pane = at_pixels(pane, _numbers(explanation.guided))
    if pane.colormap not in render.COLORMAPS:
        raise ValueError(f"colormap: expected one of {list(render.COLORMAPS)}; got {colormap!r}")
    return pane


def _caption(explanation: Explanation, model: str, *, signed: bool) -> str:
    """What is shown, in one line, and what is wrong with it."""
    score = score_words(explanation.score, explanation.probability)
    words = [
        model,
        layer_words(explanation.layer.label),
        f"{name_target(explanation.target)}: {score}",
        f"{method_words(explanation.method)}{', signed' if signed else ''}",
    ]
    caption = " · ".join(word for word in words if word) + "."
    return caption if explanation.diagnosis is None else f"{caption} {explanation.diagnosis}"


def _check_look(
    explanation: Explanation, evidence: object, limit: float | None, opacity: float, channels: object
) -> None:
    if evidence not in ("positive", "signed"):
        raise ValueError(
            f"evidence: expected 'positive' or 'signed'; got {evidence!r}. What speaks against a class is the "
            "explanation of gradcam_widget.targets.Counterfactual(target)"
        )
    if explanation.signed_cam.ndim != 2:
        raise ValueError(f"explanation: figures show maps (h, w); got {tuple(explanation.signed_cam.shape)}")
    if limit is not None and not (0 < float(limit) < math.inf):
        raise ValueError(f"limit: expected a positive number, or None for the map's maximum; got {limit!r}")
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity: expected a number from 0 to 1; got {opacity!r}")
    if not isinstance(channels, int) or isinstance(channels, bool) or channels < 1:
        raise ValueError(f"channels: expected a positive int, the number of bars; got {channels!r}")


def check_sort(sort: object) -> str:
    """The name of an order of the bars, as `SORTS` has it.

    Raises:
        ValueError: for one that there is not.
    """
    name = _ALIASES.get(sort, sort) if isinstance(sort, str) else None
    if name not in SORTS:
        raise ValueError(f"sort: expected one of {', '.join(SORTS)}; got {sort!r}")
    return str(name)


def at_pixels(pane: Pane, guided: NDArray[Any]) -> Pane:
    """A pane that shows a map at the pixels (C, H, W) in place of the heatmap."""
    pixels, limit = render.grey_centred(guided)
    rows, columns = pixels.shape[:2]
    note = f"{rows} × {columns} pixels, grey where it is 0"
    return replace(pane, pixels=pixels, limit=limit, signed=True, colormap="gray", ends=("", ""), note=note)


def _numbers(tensor: Any) -> NDArray[Any]:
    array: NDArray[Any] = tensor.detach().cpu().double().numpy()
    return array


def _checked_picture(picture: object, size: tuple[int, ...]) -> NDArray[np.uint8] | None:
    if picture is None:
        return None
    array = np.asarray(picture)
    if array.dtype != np.uint8 or array.shape != (*size, 3):
        raise ValueError(
            f"picture: expected what the model saw, uint8 {(*size, 3)}: GradCAM.picture(image); got {array.dtype} "
            f"{array.shape}"
        )
    return array
