"""The easel: puts a paint pad under an explorer, so that each follows what is done in the other."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradcam_widget import render
from gradcam_widget.explanation import Explanation
from gradcam_widget.heatmap import upsample
from gradcam_widget.occlusion import Occlusion, patches
from gradcam_widget.painting import Painting, Picture
from gradcam_widget.perturbation import Cancelled
from gradcam_widget.watch import Watch
from gradcam_widget.widget.occluding import Occluded, Progress
from gradcam_widget.widget.paint import PaintPad
from gradcam_widget.widget.pictures import unique
from gradcam_widget.widget.words import classes_of, probabilities_of, target_of

__all__ = ["panel"]

_BLANK = "drawing"  # what `GradCAMWidget.paint(blank=...)` calls its picture


def panel(explorer: Any) -> PaintPad:
    """A paint pad on the picture that an explorer shows; the panel "paint".

    What is painted is offered by the explorer as one more picture, "<name>, edited", and shown while one paints.
    """
    return _Easel(explorer).pad


class _Easel:
    """Which painting belongs to which picture of the explorer, and what is computed when either changes.

    Args:
        explorer: a `GradCAMWidget`.
    """

    def __init__(self, explorer: Any) -> None:
        self._explorer = explorer
        self._lock = threading.Lock()
        self._sheets: dict[int, _Sheet] = {}  # by the index of the original
        self._edited: dict[int, int] = {}  # index of the original -> that of the edited picture
        self._labels: tuple[str, ...] = ()  # of the classes
        self._occlusion: _Shown | None = None
        self._watch: Watch | None = None  # of what the scores in the pad are of
        base = self._base_of(explorer.image_index)
        sheet = self._sheet(base)
        look: dict[str, Any] = {"grey": sheet.is_grey}
        if self._name(base) == _BLANK:
            side = min(sheet.painting.original.shape[:2])
            look |= {"fill": "colour", "soft": True, "size": max(1, round(side / 14))}
        self.pad = PaintPad(sheet.painting, name=self._name(base), **look)
        self.pad.remove_class("gradcam-widget")  # it is a part of one
        self._followed = sheet  # the one for which the pad's thread computes
        self.pad.on_change(self._on_pad_change)
        self.pad.connect(self._scores, self)
        explorer.observe(self._on_explorer_image, "image_index")
        explorer.observe(self._on_explorer_explanation, "explanation")

    # -- pictures ----------------------------------------------------------------------------------------------

    def _base_of(self, index: int) -> int:
        """The original of a picture of the explorer; itself, where it is no edited one."""
        return next((base for base, edited in self._edited.items() if edited == index), index)

    def _image(self, index: int) -> object:
        return list(self._explorer.pictures.values())[index]

    def _name(self, index: int) -> str:
        return str(list(self._explorer.pictures)[index])

    def _sheet(self, base: int) -> _Sheet:
        """What is painted on for a picture; a new one where the explorer has put another in its place."""
        image, engine = self._image(base), self._explorer.engine
        with self._lock:
            known = self._sheets.get(base)
            if known is None or known.image is not image:
                # Read, resized and normalised once: the model's input is all that is painted on.
                given = image if isinstance(image, tuple) else engine.prepare(image)
                self._sheets[base] = known = _Sheet(base, image, given, Painting(engine.picture(given)))
            return known

    def _sheet_of(self, painting: Painting) -> _Sheet | None:
        with self._lock:
            return next((sheet for sheet in self._sheets.values() if sheet.painting is painting), None)

    # -- from the pad to the explorer --------------------------------------------------------------------------

    def _on_pad_change(self, painting: Painting, picture: Picture) -> None:
        """Let the explorer show what was painted. In the pad's own thread, one picture at a time."""
        sheet = self._sheet_of(painting)
        if sheet is None:
            return  # the explorer has put another picture in its place
        self._followed = sheet
        explorer, base = self._explorer, sheet.base
        current = painting is self.pad.painting
        if base not in self._edited and not painting.strokes:
            return
        if current and self.pad.showing == "before":
            explorer.set(image_index=base)
            return
        image = self._repainted(sheet, picture)
        if base in self._edited:
            name = self._name(self._edited[base])
        else:
            *_, name = unique([*explorer.pictures, f"{self._name(base)}, edited"])
            # Known before the explorer shows it, so that it is not taken for one more original.
            self._edited[base] = len(explorer.pictures)
        if current and not painting.strokes:  # all is taken back: the picture is no edited one any more
            explorer.set(image_index=base)
            current = False
        explorer.put_picture(name, image, like=base, show=current, outdated=lambda: self.pad.outdated)

    def _repainted(self, sheet: _Sheet, picture: Picture) -> object:
        return self._explorer.engine.repaint(sheet.given, picture)

    def _scores(self, picture: Picture) -> dict[str, float]:
        """The classes' probabilities for a picture of the pad. In the pad's own thread, after `_on_pad_change`."""
        engine = self._explorer.engine
        image = self._repainted(self._followed, picture)
        scores, self._watch = engine.predict(image), engine.watch(image)
        self._labels = labels = classes_of(scores, engine.class_names)
        self._mark()
        if not labels:
            return {}
        return dict(zip(labels, probabilities_of(scores, labels).tolist(), strict=True))

    # -- from the explorer to the pad --------------------------------------------------------------------------

    def _on_explorer_image(self, change: Any) -> None:
        self._take_up()
        index = change["new"]
        is_before = index in self._edited and bool(self._sheet(index).painting.strokes)
        showing = "before" if is_before else "after"
        if self.pad.showing != showing:
            self.pad.showing = showing
        self._review_occlusion()

    def _on_explorer_explanation(self, _: object) -> None:
        self._take_up()
        if self._watch is not None and self._watch.changed(wait=False):
            self._watch = None
            self.pad.connect(self._scores, self)  # the scores are those of the model before
        self._mark()
        self._review_occlusion()

    def _take_up(self) -> None:
        """Let the pad have the picture that the explorer shows."""
        base = self._base_of(self._explorer.image_index)
        painting = self._sheet(base).painting
        if painting is not self.pad.painting:
            self.pad.load(painting, self._name(base))

    def _review_occlusion(self) -> None:
        """Take the occlusion map away where it is no longer of what is shown; else compare it anew."""
        shown, explanation = self._occlusion, self._explorer.explanation
        if shown is None or explanation is None:
            return
        if shown.asks != self._asks(explanation) or shown.watch.changed(wait=False):
            self._occlusion = None
            self.pad.cancel()
            self.pad.show_occlusion(None)
        else:
            self.pad.show_occlusion(shown.occluded(explanation, self._explorer.evidence))

    def _mark(self) -> None:
        """Tell the pad which class is explained."""
        explanation = self._explorer.explanation
        if explanation is not None and self._labels:
            self.pad.explain(target_of(explanation, self._labels)["label"])

    # -- the occlusion map -------------------------------------------------------------------------------------

    def passes(self) -> int:
        """How many passes an occlusion map takes."""
        height, width = self.pad.original.shape[:2]
        return len(patches((height, width))[1])

    def run(self, progress: Progress) -> Occluded | None:
        """The occlusion map of the picture on show, for the target that is explained there."""
        explorer = self._explorer
        explorer.refresh()  # the map is compared with one of the model as it is
        explanation = explorer.explanation
        if explanation is None:
            raise ValueError("occlusion: the explorer shows no map, so that there is nothing to compare with")
        asks = self._asks(explanation)

        def goes_on(done: int, total: int) -> bool:
            now = explorer.explanation
            return progress(done, total) and now is not None and self._asks(now) == asks

        image, watch = explorer.subject()
        try:
            found = explorer.engine.occlude(image, explanation.target, progress=goes_on)
        except Cancelled:
            return None
        now = explorer.explanation
        if now is None or self._asks(now) != asks or watch.changed():
            return None
        self._occlusion = _Shown(
            asks, found, self.pad.picture if asks[0] != self._base_of(asks[0]) else self.pad.original, watch
        )
        return self._occlusion.occluded(now, explorer.evidence)

    def _asks(self, explanation: Explanation) -> tuple[int, tuple[Any, ...], object]:
        """What an occlusion map is of: the picture, its strokes, the target."""
        index = self._explorer.image_index
        strokes = self.pad.painting.strokes if index != self._base_of(index) else ()
        return index, strokes, explanation.target


@dataclass(frozen=True, eq=False)
class _Sheet:
    """What is painted on for one picture of the explorer.

    Attributes:
        base: index of the picture.
        image: as the explorer has it.
        given: as the model takes it, a tensor or several.
        painting: of what the model sees.
    """

    base: int
    image: object
    given: Any
    painting: Painting

    @property
    def is_grey(self) -> bool:
        """Whether the model sees one channel."""
        first = self.given[0] if isinstance(self.given, tuple) else self.given
        return bool(first.shape[-3] == 1)


@dataclass(frozen=True, eq=False)
class _Shown:
    """An occlusion map on show, and what it is of."""

    asks: tuple[int, tuple[Any, ...], object]
    found: Occlusion
    picture: Picture
    watch: Watch

    def occluded(self, explanation: Explanation, evidence: str) -> Occluded:
        """The map over the picture, and how it agrees with the heatmap on show."""
        cam = explanation.signed_cam if evidence == "signed" else explanation.cam
        heat = upsample(cam[None].double(), self.found.picture)[0].numpy()
        rho = self.found.agreement(heat)
        limit = float(np.abs(self.found.drop).max())
        return Occluded(
            picture=_coloured(self.found.heatmap(), self.picture, limit),
            sentences=(
                f"warm: the score drops where this is covered, by {limit:.3g} at most; cool: it rises",
                f"Spearman's rank correlation with the heatmap at {explanation.layer.name}: {_signed(rho)}",
            ),
        )


def _signed(rho: float | None) -> str:
    return "none, one of the two is flat" if rho is None else f"{rho:+.2f}".replace("-", "−")


def _coloured(heat: NDArray[np.float64], picture: Picture, limit: float) -> Picture:
    """A signed map (H, W) over a picture: two-sided colours, mixed in by their strength."""
    value = heat / (limit or 1.0)
    mix = np.minimum(1, 0.25 + 2 * np.abs(value))[..., None] * 0.85
    grey = picture.mean(-1, keepdims=True)
    coloured: Picture = np.rint(grey * (1 - mix) + render.colour((value + 1) / 2, "RdBu_r") * mix).astype(np.uint8)
    return coloured
