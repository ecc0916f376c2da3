"""WHAT is explained: frozen, hashable callables from a model's output to the scalar whose gradient is taken."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "BinaryLogit",
    "ClassLogProbability",
    "ClassLogit",
    "ClassProbability",
    "Contrast",
    "Counterfactual",
    "Finer",
    "Region",
    "Similarity",
    "Target",
    "class_index",
    "class_probability",
    "finer",
    "name_target",
    "probabilities",
    "select_output",
]

Target = Callable[[Tensor], Tensor]
"""A target takes the model's output for one picture, without the batch dimension ((num_classes,) for a
classifier), and returns a scalar tensor. Two targets that explain the same thing are equal and hash alike,
because the engine keeps what it has computed by target."""


@dataclass(frozen=True)
class _OfClass:
    index: int
    name: str | None = field(default=None, compare=False)

    def _scores(self, output: Tensor) -> Tensor:
        if output.ndim != 1 or not 0 <= self.index < output.shape[0]:
            raise ValueError(
                f"target: {self!r} needs a model output of shape (num_classes,) with class {self.index} for one "
                f"picture; got {tuple(output.shape)}. Give a target of your own, a function output -> scalar"
            )
        return output

    @property
    def label(self) -> str:
        """How the target is called where people read it."""
        return self.name if self.name is not None else f"class {self.index}"


@dataclass(frozen=True)
class ClassLogit(_OfClass):
    """The logit y^c of one class, before any softmax: what Grad-CAM explains (arXiv 1610.02391, eq. 1)."""

    def __call__(self, output: Tensor) -> Tensor:
        """The scalar y^c of an output (num_classes,)."""
        return self._scores(output)[self.index]


@dataclass(frozen=True)
class ClassProbability(_OfClass):
    """The probability of one class, softmax(y)_c. Its gradient vanishes where the softmax is saturated."""

    def __call__(self, output: Tensor) -> Tensor:
        """The scalar p^c of an output (num_classes,)."""
        return torch.softmax(self._scores(output), 0)[self.index]

    @property
    def label(self) -> str:
        """How the target is called where people read it."""
        return f"probability of {super().label}"


@dataclass(frozen=True)
class ClassLogProbability(_OfClass):
    """The log-probability of one class, log softmax(y)_c: the logit against all others."""

    def __call__(self, output: Tensor) -> Tensor:
        """The scalar log p^c of an output (num_classes,)."""
        return torch.log_softmax(self._scores(output), 0)[self.index]

    @property
    def label(self) -> str:
        """How the target is called where people read it."""
        return f"log-probability of {super().label}"


@dataclass(frozen=True)
class Contrast:
    """One target less another: y_a - y_b for two classes, what speaks for the one and against the other."""

    first: Target
    second: Target

    def __call__(self, output: Tensor) -> Tensor:
        """The difference of the two scalars."""
        return self.first(output) - self.second(output)

    @property
    def label(self) -> str:
        """How the target is called where people read it."""
        return f"{name_target(self.first)} rather than {name_target(self.second)}"


@dataclass(frozen=True)
class Counterfactual:
    """The negative of a target: its map shows what, if it were removed, would raise the target (Grad-CAM, 3.4)."""

    target: Target

    def __call__(self, output: Tensor) -> Tensor:
        """Minus the target's scalar."""
        return -self.target(output)

    @property
    def label(self) -> str:
        """How the target is called where people read it."""
        return f"against {name_target(self.target)}"


@dataclass(frozen=True)
class BinaryLogit:
    """Either side of a head with one logit: y for the positive side, -y for the negative one."""

    positive: bool = True

    def __call__(self, output: Tensor) -> Tensor:
        """The signed logit of an output (1,) or ()."""
        if output.numel() != 1:
            raise ValueError(
                f"target: {self!r} needs a model with one logit; got an output of {tuple(output.shape)}. "
                "Give a class for a model with several"
            )
        logit = output.reshape(())
        return logit if self.positive else -logit

    @property
    def label(self) -> str:
        """How the target is called where people read it."""
        return "positive" if self.positive else "negative"


@dataclass(frozen=True)
class Finer:
    """FinerCAM's target (arXiv 2501.11309, eq. 4): y_c - gamma * mean of the scores of the classes most like c."""

    index: int
    against: tuple[int, ...]
    gamma: float = 1.0
    name: str | None = field(default=None, compare=False)

    def __call__(self, output: Tensor) -> Tensor:
        """The scalar for an output (num_classes,)."""
        for index in (self.index, *self.against):
            ClassLogit(index)(output)  # says in words what does not fit
        return output[self.index] - self.gamma * output[list(self.against)].mean()

    @property
    def label(self) -> str:
        """How the target is called where people read it."""
        return f"{self.name or f'class {self.index}'} against the {len(self.against)} classes most like it"


def finer(target: Target, output: Tensor, classes: int = 3) -> Finer:
    """FinerCAM's target for a class and an output (num_classes,): against those with the nearest scores.

    Args:
        target: a class's logit.
        output: (num_classes,), for the picture.
        classes: how many others.

    Raises:
        ValueError: for a target that is no class logit, or fewer than two classes.
    """
    if not isinstance(target, ClassLogit) or output.ndim != 1 or output.numel() < 2:
        raise ValueError(
            f"method: FinerCAM compares a class with others and needs a class as target; got {name_target(target)}"
        )
    order = (output - output[target.index]).abs().argsort(stable=True).tolist()
    nearest = [index for index in order if index != target.index][:classes]
    return Finer(target.index, tuple(nearest), name=target.name)


class _Valued:
    """Equality and hash by value for targets that hold a tensor."""

    def _value(self) -> tuple[Any, ...]:
        raise NotImplementedError

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and isinstance(other, _Valued) and other._value() == self._value()

    def __hash__(self) -> int:
        return hash(self._value())


@dataclass(frozen=True, eq=False)
class Region(_Valued):
    """One class over a region of a segmentation output (num_classes, H, W): the mean of its scores there.

    Args:
        index: the class.
        mask: bool (H, W), the output's size; None for the pixels that are predicted as the class.
        name: of the class.
    """

    index: int
    mask: Tensor | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        if self.mask is not None:
            object.__setattr__(self, "mask", torch.as_tensor(self.mask).bool().cpu().clone())

    def _value(self) -> tuple[Any, ...]:
        return (self.index, None if self.mask is None else (tuple(self.mask.shape), self.mask.numpy().tobytes()))

    def __call__(self, output: Tensor) -> Tensor:
        """The mean score over the region."""
        if output.ndim != 3 or not 0 <= self.index < output.shape[0]:
            raise ValueError(
                f"target: {self!r} needs an output (num_classes, H, W) with class {self.index}; "
                f"got {tuple(output.shape)}"
            )
        mask = output.detach().argmax(0) == self.index if self.mask is None else self.mask.to(output.device)
        if mask.shape != output.shape[1:]:
            raise ValueError(
                f"target: the mask must have the output's size {tuple(output.shape[1:])}; got {tuple(mask.shape)}"
            )
        if not bool(mask.any()):
            raise ValueError(f"target: the {self.label} has no pixel; give another mask or class")
        return output[self.index][mask].mean()

    @property
    def label(self) -> str:
        """How the target is called where people read it."""
        return f"region of {self.name or f'class {self.index}'}"

    def __repr__(self) -> str:
        size = "predicted pixels" if self.mask is None else f"{int(self.mask.sum())} pixels"
        return f"Region(index={self.index}, {size})"


@dataclass(frozen=True, eq=False)
class Similarity(_Valued):
    """Cosine similarity of an embedding output (D,) to another embedding, for models without classes.

    Args:
        embedding: (D,), such as ``cam.predict(other_image)``.
    """

    embedding: Tensor

    def __post_init__(self) -> None:
        value = torch.as_tensor(self.embedding).detach().float().cpu().flatten().clone()
        object.__setattr__(self, "embedding", value)

    def _value(self) -> tuple[Any, ...]:
        return (self.embedding.numpy().tobytes(),)

    def __call__(self, output: Tensor) -> Tensor:
        """The cosine of the angle between the two."""
        flat = output.flatten()
        if flat.shape != self.embedding.shape:
            raise ValueError(
                f"target: the embedding has {self.embedding.numel()} values, the model's output {flat.numel()}"
            )
        return torch.cosine_similarity(flat, self.embedding.to(flat), dim=0)

    @property
    def label(self) -> str:
        """How the target is called where people read it."""
        return "similarity"

    def __repr__(self) -> str:
        return f"Similarity(embedding of {self.embedding.numel()} values)"


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
    scores = scores if scores.dtype == torch.float64 else scores.float()
    return torch.sigmoid(scores) if scores.numel() == 1 else torch.softmax(scores, -1)


def class_probability(target: Target, output: Tensor) -> float | None:
    """The probability of the target's class, or side, where it has one; of an output for one picture."""
    if isinstance(target, BinaryLogit):
        positive = float(probabilities(output.reshape(1)))
        return positive if target.positive else 1 - positive
    index = getattr(target, "index", None)
    if isinstance(index, int) and output.ndim == 1:
        return float(probabilities(output)[index])
    return None


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
    for name in ("logits", "out"):
        value = output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)
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
