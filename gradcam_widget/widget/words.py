"""What the engine found or could not do, in the words and labels of the explorer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import gradcam_widget
from gradcam_widget.diagnosis import Diagnosis
from gradcam_widget.engine import Passes
from gradcam_widget.explanation import Explanation
from gradcam_widget.layers import Layer
from gradcam_widget.methods import METHODS
from gradcam_widget.targets import BinaryLogit, ClassLogit, name_target, probabilities
from gradcam_widget.widget.choices import Prediction, class_labels
from gradcam_widget.widget.notice import Notice

__all__ = [
    "classes_of",
    "diagnosis_of",
    "idle_gpu",
    "in_passes",
    "in_words",
    "layer_of",
    "method_of",
    "name_of",
    "predictions_of",
    "probabilities_of",
    "target_of",
    "terms_of",
    "truth_of",
]

_PREDICTIONS = 5
_PACKAGE = Path(gradcam_widget.__file__).parent


def classes_of(scores: Tensor, names: tuple[str, ...] | None) -> tuple[str, ...]:
    """One label per class that an int can name; none where the scores are no list of classes.

    A head with one score has a positive side, class 0; where both sides have names it is class 1.
    """
    if scores.numel() == 1:
        return class_labels(names or ("positive",), 2 if names and len(names) == 2 else 1)
    return class_labels(names, scores.numel() if scores.ndim == 1 else 0)


def probabilities_of(scores: Tensor, labels: Sequence[str]) -> Tensor:
    """(classes,) the probability of each class that has a label.

    Args:
        scores: the model's output for one picture.
        labels: of `classes_of`; two for a head with one score, whose sides are both named.
    """
    values = probabilities(scores.reshape(-1))
    return torch.cat([1 - values, values]) if scores.numel() == 1 and len(labels) == 2 else values


def predictions_of(scores: Tensor, labels: Sequence[str], count: int = _PREDICTIONS) -> tuple[Prediction, ...]:
    """The most probable classes, the most probable first."""
    if not labels:
        return ()
    values = probabilities_of(scores, labels)
    best, indices = values.topk(min(count, values.numel()))
    return tuple(
        Prediction(index, labels[index], value)
        for value, index in zip(best.tolist(), indices.tolist(), strict=True)
    )


def target_of(explanation: Explanation, labels: Sequence[str]) -> dict[str, Any]:
    """What is explained, as the view takes it; the index is that of the class it is about, if any."""
    target = explanation.target
    index = getattr(target, "index", None)
    if isinstance(target, BinaryLogit):
        index = int(target.positive) if len(labels) == 2 else 0 if target.positive else None
    index = index if isinstance(index, int) and index < len(labels) else None
    named = isinstance(target, ClassLogit | BinaryLogit) and index is not None
    return {
        "index": index,
        "label": labels[index] if named and index is not None else name_target(target),
        "score": explanation.score,
        "probability": explanation.probability,
    }


def truth_of(index: int | None, scores: Tensor, labels: Sequence[str]) -> dict[str, Any] | None:
    """The true class as the view takes it; None where it is not known.

    Raises:
        ValueError: where the model has no such class.
    """
    if index is None:
        return None
    if index >= len(labels):
        raise ValueError(
            f"labels: the true class of this picture is {index}, and the model "
            + (f"has the classes 0 to {len(labels) - 1}" if labels else "gives no classes")
        )
    values = probabilities_of(scores, labels)
    return {"index": index, "label": labels[index], "probability": float(values[index])}


def layer_of(layer: Layer) -> dict[str, Any]:
    """A layer as the view takes it."""
    return {
        "name": layer.name,
        "label": layer.label,
        "kind": layer.kind,
        "shape": list(layer.shape),
        "receptive_field": layer.receptive_field and list(layer.receptive_field),
    }


def method_of(name: str, *, at_pixels: bool) -> dict[str, Any]:
    """A method as the view takes it; ``at_pixels``: its map is drawn at the pixels of the picture."""
    row = METHODS[name]
    return {
        "name": name,
        "weights": row.meaning,
        "terms": terms_of(name),
        **({"pixels": True} if at_pixels else {}),
    }


def terms_of(name: str) -> str | None:
    """What a channel adds to the map of a method: see `gradcam_widget.widget.scene.Scene`."""
    row = METHODS[name]
    if "guided" in row.needs:
        return None  # the picture on show is not the sum of its channels
    if row.terms is not None:
        return "own"
    return "weight" if row.alpha == "weight" else None


def diagnosis_of(explanation: Explanation, evidence: str, label: str) -> Diagnosis | None:
    """What the engine says about a map, in the words of the evidence that is shown, which has codes of its own."""
    said, code = explanation.diagnosis, explanation.diagnosis_code
    if said is None or code is None:
        return None
    if evidence == "positive":
        return Diagnosis(code, said)
    if code == "no_positive" and float(explanation.signed_cam.min()) < 0:
        if evidence == "signed":
            return Diagnosis("all_against", f"All of this map speaks against {label}: it is nowhere positive.")
        return Diagnosis(
            "nothing_against", f"Nothing speaks against {label} at this layer: the evidence is all for it."
        )
    return Diagnosis(code, said.replace(name_target(explanation.target), label))


def name_of(target: object) -> str:
    """A target as a person says it, where the engine has not resolved it."""
    if callable(target):
        return name_target(target)
    return f"class {target}" if isinstance(target, int) else str(target)


def in_passes(passes: Passes) -> str:
    """The count in words: no pass, 1 backward pass, 1 forward, 2 backward passes."""
    counts = {"forward": passes.forward, "partial": passes.partial, "backward": passes.backward}
    parts = [f"{n} {kind}" for kind, n in counts.items() if n]
    if not parts:
        return "no pass"
    return f"{', '.join(parts)} pass{'es' if max(counts.values()) > 1 else ''}"


def in_words(error: Exception, device: torch.device, *, stale: bool) -> Notice:
    """What happened and what to do, for an error on the way to an explanation."""
    text = str(error).strip() or type(error).__name__
    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)) or "can't allocate memory" in text:
        advice = (
            f"The memory of {device} does not suffice for this selection. Choose a smaller picture, close other "
            'notebooks, or compute elsewhere: GradCAMWidget(..., device="cpu").'
        )
        said = text.removeprefix("memory: ") if text.startswith("memory: ") else ""  # by the engine, in words
        return Notice("Out of memory", f"{said[:1].upper()}{said[1:]}." if said else advice, stale)
    if isinstance(error, OSError) or (isinstance(error, (ValueError, TypeError)) and not _is_of_the_model(error)):
        return Notice("No explanation for this selection", text, stale)
    return Notice(
        f"{type(error).__name__} while explaining",
        f"{text}. Choose something else, or look into the model; the traceback is in the log 'gradcam_widget'.",
        stale,
    )


def _is_of_the_model(error: Exception) -> bool:
    """Whether an error came out of a model's own code: ours are raised here, after a look at what was asked."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    return at is not None and not Path(at.tb_frame.f_code.co_filename).is_relative_to(_PACKAGE)


def idle_gpu(device: torch.device) -> str | None:
    """How to use a GPU that is there while the model is on the CPU; None where there is nothing to gain."""
    if device.type != "cpu":
        return None
    kind = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else None
    return kind and f'a GPU is idle: GradCAMWidget(..., device="{kind}") uses it'
