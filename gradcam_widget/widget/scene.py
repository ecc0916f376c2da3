"""The scene: everything that the view draws for one selection, and the picture under it."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gradcam_widget.widget import wire
from gradcam_widget.widget.cures import Cure, as_message

__all__ = ["Pair", "Scene", "encode_picture"]


@dataclass(frozen=True)
class Pair:
    """A second class beside that of a scene.

    Attributes:
        target: as in `Scene`.
        alpha: float (K,), its channel weights.
        cam: float (h, w), its map, of the same evidence.
        contrast: float (h, w), the signed map of the first target less the second.
    """

    target: Mapping[str, Any]
    alpha: NDArray[Any]
    cam: NDArray[Any]
    contrast: NDArray[Any]

    def text(self) -> dict[str, Any]:
        """All but the arrays, as the view takes it; each limit is the largest magnitude of its map."""
        return {
            "target": wire.plain(self.target),
            "max": float(np.max(np.abs(self.cam), initial=0.0)),
            "contrast_max": float(np.max(np.abs(self.contrast), initial=0.0)),
        }

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays by the names under which `wire.fit` packs them."""
        return {"alpha.compare": self.alpha, "cam.compare": self.cam, "cam.contrast": self.contrast}


@dataclass(frozen=True)
class Scene:
    """Everything the view draws for one selection, as plain Python and numpy values.

    Attributes:
        layer: {"name", "label", "kind", "shape": [K, h, w], "receptive_field": [h, w] in pixels of the input, or
            None where it is not known}.
        target: {"index": int | None, "label", "score", "probability": float | None}.
        method: {"name", "weights": what the bars are, in words, "terms": what a channel adds at a cell: "weight"
            for alpha_k A^k, "own" for something else, None where the method cannot say}.
        cam: float (h, w): the map, >= 0; for signed evidence the map before the ReLU.
        evidence: "positive", "signed" or "counterfactual": what the map shows of the target.
        trace: number of the forward pass that it is of: another one where the model or the picture has changed.
        question: a number that is the same for all layers of one picture, target, method and evidence; the strip
            that has the same number shows their maps.
        ground: a number that is the same for all layers and targets of one picture, method, evidence and class
            beside it; None where the view is to keep nothing.
        base: a number that is the same each time this scene is shown, with whichever channels; None for that of
            the message. ``scenes.js`` says what the view makes of these three.
        chosen: index of the class, where the target is one that can be chosen by its index.
        alpha: float (K,), the channel weights.
        contribution: float (K,), alpha times the mean activation.
        coverage: {"channels", "of", "share"} or None.
        predictions: up to five of {"index", "label", "probability"}, the most probable first.
        status: {"device", "note": str | None, "milliseconds", "passes"}.
        diagnosis: a sentence about the map, or None.
        cures: what helps; the view offers each as a button, and answers {"type": "cure", "id": ...}.
        off: the channels that are left out of the map and of the coverage, sorted.
        pair: a second class to compare with, or None; a sentence where there cannot be one. The message has it as
            "compare": {"target", "max", "contrast_max", "alpha", "cam", "contrast"}, or {"note"}.
        truth: {"index", "label", "probability"} of the true class of the picture, or None where it is not known.
    """

    layer: Mapping[str, Any]
    target: Mapping[str, Any]
    method: Mapping[str, Any]
    cam: NDArray[Any]
    alpha: NDArray[Any]
    contribution: NDArray[Any]
    coverage: Mapping[str, Any] | None
    predictions: Sequence[Mapping[str, Any]]
    status: Mapping[str, Any]
    diagnosis: str | None
    evidence: str = "positive"
    cures: Sequence[Cure] = ()
    off: Sequence[int] = ()
    trace: int = 0
    question: int = 0
    ground: int | None = None
    base: int | None = None
    chosen: int | None = None
    pair: Pair | str | None = None
    truth: Mapping[str, Any] | None = None

    def message(self, revision: int, most: int = wire.SCENE_BYTES, *, plain: bool = False) -> dict[str, Any]:
        """The scene as the view takes it.

        Args:
            revision: its number.
            most: bytes.
            plain: nothing is deflated.

        Raises:
            ValueError: where the map or the weights are not finite.
        """
        text: dict[str, Any] = {
            "revision": revision,
            "base": revision if self.base is None else self.base,
            "trace": self.trace,
            "question": self.question,
            "ground": self.ground,
            "chosen": self.chosen,
            "layer": wire.plain(self.layer),
            "target": wire.plain(self.target),
            "method": wire.plain(self.method),
            "evidence": self.evidence,
            "off": wire.mask(self.off, len(self.alpha)),
            # The limit of the colour bar, which begins at 0, or at -max for signed evidence.
            "max": float(np.max(np.abs(self.cam), initial=0.0)),
            "coverage": None if self.coverage is None else dict(self.coverage),
            "predictions": [wire.plain(prediction) for prediction in self.predictions],
            "status": wire.plain(self.status),
            "diagnosis": None if self.diagnosis is None else wire.shorten(self.diagnosis, 600),
            **({"cures": as_message(self.cures)} if self.cures else {}),
        }
        if self.truth is not None:
            text["truth"] = wire.plain(self.truth)
        if isinstance(self.pair, str):
            text["compare"] = {"note": wire.shorten(self.pair, 300)}
        if not isinstance(self.pair, Pair):
            room = most - wire.json_bytes(text)
            return text | wire.fit(self.alpha, self.contribution, self.cam, room, plain=plain)
        text["compare"] = self.pair.text()
        room = most - wire.json_bytes(text)
        packed = wire.fit(self.alpha, self.contribution, self.cam, room, self.pair.arrays(), plain=plain)
        text["compare"] |= {
            "alpha": packed.pop("alpha.compare"),
            "cam": packed.pop("cam.compare"),
            "contrast": packed.pop("cam.contrast"),
        }
        return text | packed


def encode_picture(pixels: NDArray[np.uint8], name: str) -> dict[str, Any]:
    """The picture as the view takes it, losslessly.

    Args:
        pixels: uint8 (H, W, 3), exactly what the model saw.
        name: shown with it.
    """
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG")
    height, width = pixels.shape[:2]
    return {"data": buffer.getvalue(), "width": width, "height": height, "name": wire.shorten(name)}
