"""WHAT is explained: frozen, hashable callables from a model's output to the scalar whose gradient is taken."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["ClassLogit", "Target", "class_index", "name_target", "probabilities", "select_output"]

Target = Callable[[Tensor], Tensor]
"""A target takes the model's output for one picture, without the batch dimension ((num_classes,) for a
classifier), and returns a scalar tensor. Two targets that explain the same thing are equal and hash alike,
because the engine keeps what it has computed by target."""


@dataclass(frozen=True)
class ClassLogit:
    """The logit y^c of one class, before any softmax: what Grad-CAM explains (arXiv 1610.02391, eq. 1)."""

    index: int
    name: str | None = None

    def __call__(self, output: Tensor) -> Tensor:
        """The scalar y^c of an output (num_classes,)."""
        if output.ndim != 1:
            raise ValueError(
                f"target: {self!r} needs a model output of shape (num_classes,) for one picture; "
                f"got {tuple(output.shape)}. Give a target of your own, a function output -> scalar"
            )
        return output[self.index]

    @property
    def label(self) -> str:
        """How the target is called where people read it."""
        return self.name if self.name is not None else f"class {self.index}"


def name_target(target: Target) -> str:
    """How a target is called where people read it: its ``label``, its name, or its ``repr``."""
    label = getattr(target, "label", None) or getattr(target, "__name__", None)
    return str(label) if label else repr(target)


def class_index(name: str, class_names: Sequence[str] | None) -> int:
    """The index of a class name, compared without regard to case.

    Raises:
        ValueError: when there are no class names, for an unknown name (the nearest ones are offered), and for a
            name that several classes share (their indices are given).
    """
    if class_names is None:
        raise ValueError(
            f"target: got the class name {name!r}, but the class names are not known; "
            "pass class_names=[...] or give the class as an int"
        )
    wanted = name.strip().casefold()
    found = [index for index, known in enumerate(class_names) if known.casefold() == wanted]
    exact = [index for index in found if class_names[index] == name]
    if len(found) == 1 or len(exact) == 1:
        return (exact or found)[0]
    if found:
        raise ValueError(f"target: {name!r} is the name of classes {found}; give the index of one of them")
    by_folded = {known.casefold(): known for known in class_names}
    close = [by_folded[match] for match in difflib.get_close_matches(wanted, by_folded, n=3, cutoff=0.5)]
    hint = f"did you mean {', '.join(map(repr, close))}?" if close else "see cam.class_names"
    raise ValueError(f"target: there is no class named {name!r} among {len(class_names)}; {hint}")


def probabilities(scores: Tensor) -> Tensor:
    """Class probabilities (num_classes,) from the scores of one picture (num_classes,).

    One score is a binary head: its sigmoid is the probability of the positive side. Several go through a
    softmax.
    """
    scores = scores.float()
    return torch.sigmoid(scores) if scores.numel() == 1 else torch.softmax(scores, -1)


def select_output(output: Any, selector: Callable[[Any], Tensor] | str | int | None) -> Tensor:
    """The tensor that targets see in whatever a model returns: (1, num_classes) for a classifier.

    Args:
        output: a tensor; a tuple or list (the first tensor in it: the main output of models with auxiliary
            ones); a mapping or an object with the field ``logits`` or ``out``.
        selector: a key, a position, or a function that picks another one.

    Raises:
        TypeError: when no tensor is found; the message lists what there is.
    """
    if selector is not None:
        try:
            chosen = selector(output) if callable(selector) else output[selector]
        except Exception as error:
            raise TypeError(
                f"output: the selector {selector!r} failed on the model's output "
                f"({_contents(output)}): {type(error).__name__}: {error}"
            ) from error
        if not isinstance(chosen, Tensor):
            raise TypeError(
                f"output: the selector {selector!r} must give a tensor; it gave {type(chosen).__name__}"
            )
        return chosen
    if isinstance(output, Tensor):
        return output
    for field in ("logits", "out"):
        value = output.get(field) if isinstance(output, Mapping) else getattr(output, field, None)
        if isinstance(value, Tensor):
            return value
    if isinstance(output, (tuple, list)):
        for value in output:
            if isinstance(value, Tensor):
                return value
    raise TypeError(
        f"model: its output has no tensor that could be the scores; it returned {_contents(output)}. "
        "Choose one with GradCAM(model, output=...): a key, a position or a function"
    )


def _contents(output: Any) -> str:
    if isinstance(output, Mapping):
        return f"{type(output).__name__} with the keys {list(output)}"
    if isinstance(output, (tuple, list)):
        return f"{type(output).__name__} of ({', '.join(type(value).__name__ for value in output)})"
    return type(output).__name__
