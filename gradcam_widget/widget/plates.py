"""The plate of what is on show: the explorer's picture, maps, bars and words, as a figure has them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from gradcam_widget import captions
from gradcam_widget.comparison import Comparison
from gradcam_widget.engine import GradCAM
from gradcam_widget.explanation import Explanation
from gradcam_widget.plate import Pane, Plate, at_pixels, plate_of
from gradcam_widget.widget.canvas import Canvas
from gradcam_widget.widget.scene import Pair, Scene

__all__ = ["Plates", "largest"]


class Plates:
    """The part of the explorer that says what is on a figure of it."""

    # The explorer's own, of which this is a part.
    engine: GradCAM
    image_index: int
    opacity: float
    scale: str | float
    evidence: str
    colormap: str
    threshold: float
    show_box: bool
    box: Any
    channel: int | None
    explanation: Explanation | None
    comparison: Comparison | None
    _canvas: Canvas
    _drawn: Any

    def _plate(self, channels: int, sort: str) -> Plate:
        """What is on the figure."""
        explanation = self._shown()
        drawn = self._drawn
        scene = self._without(drawn, drawn.off)
        limits = self._limits(scene)
        signed, label = scene.evidence == "signed", self._target_label()
        aim = "against" if scene.evidence == "counterfactual" else "for"
        method = captions.method_words(explanation.method)
        where = f"at {explanation.layer.name}"
        first = Pane(
            title=f"{'Signed ' if signed else ''}{method} {aim} {label}",
            note=f"{where} · {_cells(scene.cam)}",
            cam=np.asarray(scene.cam, np.float64),
            limit=limits[0],
            signed=signed,
            colormap=self.colormap,
            ends=("for", "against") if signed else ("max" if limits[0] == _most(scene) else "scale", ""),
            alpha=scene.alpha,
            bars=f"αₖ {aim} {label}",
        )
        base = plate_of(explanation, channels=channels, sort=sort)
        kept = self.channel
        if kept is not None:
            first = _lens(first, explanation, kept)
        elif explanation.guided is not None:
            first = at_pixels(first, explanation.guided.double().numpy())
        panes: tuple[Pane, ...] = (first,)
        if isinstance(scene.pair, Pair):
            panes = (first, *self._others(scene, scene.pair, first, limits))
        return replace(
            base,
            picture=self.engine.picture(self._input(self.image_index)),
            panes=panes,
            contribution=scene.contribution,
            caption=self._caption(),
            opacity=self.opacity,
            off=frozenset(drawn.off),
            kept=kept,
            box=self.box if self.show_box else None,
        )

    def _others(self, scene: Scene, pair: Pair, first: Pane, limits: tuple[float, float]) -> tuple[Pane, Pane]:
        """The second class beside the first, and the contrast of both."""
        label, other = self._target_label(), str(pair.target["label"])
        method = captions.method_words(str(scene.method["name"]))
        aim = "against" if scene.evidence == "counterfactual" else "for"
        second = replace(
            first,
            title=f"{'Signed ' if first.signed else ''}{method} {aim} {other}",
            cam=np.asarray(pair.cam, np.float64),
            limit=limits[0],
            alpha=pair.alpha,
            bars=f"αₖ {aim} {other}",
            pixels=None,
        )
        contrast = Pane(
            title=f"{label} rather than {other}",
            note=first.note,
            cam=np.asarray(pair.contrast, np.float64),
            limit=limits[1],
            signed=True,
            colormap=self.colormap if first.signed else "RdBu_r",
            ends=("for", "against"),
            alpha=scene.alpha - pair.alpha,
            bars="their difference",
        )
        return second, contrast

    def _limits(self, scene: Scene) -> tuple[float, float]:
        """The values with the strongest colour: of the maps, and of a contrast; as `view/scale.js` has them."""
        own, contrast = _most(scene), 0.0
        if isinstance(scene.pair, Pair):
            contrast = largest(scene.pair.contrast)
        if isinstance(self.scale, (int, float)):
            limit = float(self.scale)
            return (limit if own else 0.0, limit if contrast else 0.0)
        signed = scene.evidence == "signed"
        own = max(own, contrast) if signed else own
        if self.scale == "shared":
            layers = self._canvas.strip.get("layers", ())
            shared = max([own, contrast, *(float(layer["max"]) for layer in layers)])
            return (shared if own else 0.0, shared if contrast else 0.0)
        return own, own if signed else contrast

    def _caption(self) -> str:
        """Model, layer, class, score and coverage, in one or more sentences."""
        explanation = self._shown()
        drawn = self._drawn
        scene = self._without(drawn, drawn.off)
        label = self._target_label()
        evidence = {"signed": "signed evidence", "counterfactual": "evidence against the class"}.get(
            scene.evidence, "positive evidence"
        )
        target = scene.target
        parts = [
            type(self.engine.model).__name__,
            captions.layer_words(explanation.layer.label),
            f"{label}: {captions.score_words(target['score'], target['probability'])}",
            f"{captions.method_words(explanation.method)}, {evidence}",
            self._picture_name(),
        ]
        sentences = [" · ".join(part for part in parts if part) + "."]
        if isinstance(scene.pair, Pair):
            other = scene.pair.target
            words = captions.score_words(other["score"], other["probability"])
            sentences.append(f"Compared with {other['label']}: {words}.")
        if (found := scene.coverage) is not None:
            count, share = found["channels"], found["share"]
            on = " that are on" if drawn.off else ""
            some = "half" if share == 0.5 else f"{share:.0%}"
            which = "evidence against the class" if scene.evidence == "counterfactual" else "positive evidence"
            sentences.append(
                f"{count} of {found['of']} channel{'s' if found['of'] != 1 else ''}{on} "
                f"give{'s' if count == 1 else ''} {some} of the {which}."
            )
        if drawn.off:
            count = len(drawn.off)
            sentences.append(f"{count} channel{' is' if count == 1 else 's are'} left out of the sum.")
        if self.show_box and self.box is not None:
            left, top, right, bottom = self.box
            sentences.append(f"Box ({left}, {top})–({right}, {bottom}) at {self.threshold:.0%} of the maximum.")
        if scene.diagnosis:
            sentences.append(scene.diagnosis)
        return " ".join(sentences)

    def _check_open(self) -> None:
        raise NotImplementedError

    def _input(self, image_index: int) -> object:
        raise NotImplementedError

    def _without(self, drawn: Any, off: Any) -> Scene:
        raise NotImplementedError

    def _shown(self) -> Explanation:
        self._check_open()
        if self.explanation is None:
            raise RuntimeError(
                "There is no map on show for what is asked, so there is nothing to give away; the widget says why"
            )
        return self.explanation

    def _picture_name(self) -> str:
        return str(self._canvas.picture.get("name", ""))

    def _target_label(self) -> str:
        return str(self._drawn.whole.target["label"])


def _lens(pane: Pane, explanation: Explanation, channel: int) -> Pane:
    """A pane with the activation map of a channel in place of the heatmap."""
    values = explanation.activations[channel].detach().cpu().double().numpy()
    signed = bool((values < 0).any())
    return replace(
        pane,
        title=f"Activation of channel #{channel}",
        note=f"at {explanation.layer.name} · {_cells(values)}",
        cam=values,
        limit=largest(values),
        signed=signed,
        colormap="RdBu_r" if signed and pane.colormap not in ("RdBu_r", "PuOr_r", "coolwarm") else pane.colormap,
        ends=("", "") if signed else ("max", ""),
    )


def _cells(cam: Any) -> str:
    return f"{cam.shape[0]} × {cam.shape[1]} cells"


def _most(scene: Scene) -> float:
    """The largest magnitude of the maps on show: that of the class, and of the one compared with it."""
    both = (scene.cam, scene.pair.cam) if isinstance(scene.pair, Pair) else (scene.cam,)
    return max(largest(cam) for cam in both)


def largest(values: Any) -> float:
    """The largest magnitude; 0 where there are no values."""
    return float(np.abs(values).max(initial=0.0))
