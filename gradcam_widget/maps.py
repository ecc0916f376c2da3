"""What is computed for one layer and target of a picture: the weights and the map, with score and diagnosis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gradcam_widget.cache import Cache
from gradcam_widget.diagnosis import Diagnosis, diagnose
from gradcam_widget.evidence import Evidence
from gradcam_widget.gradients import Gradients, Passes
from gradcam_widget.harmless import plain_arithmetic
from gradcam_widget.methods import Method
from gradcam_widget.perturbation import Progress, report
from gradcam_widget.smoothing import Smoothing
from gradcam_widget.tail import Selector
from gradcam_widget.targets import (
    ClassLogit,
    ClassLogProbability,
    ClassProbability,
    Target,
    class_probability,
    name_target,
)
from gradcam_widget.trace import Record, Trace
from gradcam_widget.tracer import Tracer

__all__ = ["Map", "Maps", "in_one_copy"]


@dataclass(frozen=True)
class Map:
    """One map with what belongs to it, on the CPU."""

    alpha: Tensor
    signed_cam: Tensor
    guided: Tensor | None
    score: float
    probability: float | None
    diagnosis: Diagnosis | None

    def bytes(self) -> int:
        """What it takes to keep it."""
        tensors = (self.alpha, self.signed_cam, self.guided)
        return sum(tensor.nbytes for tensor in tensors if tensor is not None)


class Maps:
    """Makes maps from the traces of a model; it keeps none.

    Args:
        model: the model.
        tracer: makes the traces of altered pictures.
        gradients: where those of a trace come from.
        selector: of the scores in the model's output.
        budget: bytes that a batch of many passes may take.

    Attributes:
        passes: of the model, beside those that the tracer and the gradients count.
    """

    def __init__(
        self, model: nn.Module, tracer: Tracer, gradients: Gradients, *, selector: Selector, budget: int
    ) -> None:
        self.passes = Passes()
        self._model, self._tracer, self._gradients = model, tracer, gradients
        self._selector, self._budget = selector, budget
        self._scored: tuple[int, Target, float, float | None] | None = None  # picture, target, score, probability

    def forget(self) -> None:
        """Forget the target that was scored last."""
        self._scored = None

    def __call__(
        self,
        key: int,
        trace: Trace,
        target: Target,
        record: Record,
        method: Method,
        progress: Progress | None,
        smooth: Smoothing | None,
    ) -> Map:
        """The map of a method at one layer.

        Args:
            key: under which the trace is cached.
            trace: a forward pass.
            target: the scalar.
            record: the layer.
            method: a row of `gradcam_widget.methods.METHODS`; its own target has been taken.
            progress: of many passes.
            smooth: copies of the picture to average over, or None.
        """
        if smooth is None:
            own = self.evidence(key, trace, target, record, progress=progress)
            alpha, signed, *guided = self._apply(method, own)
        else:
            alpha, signed, *guided = self._average(trace, target, record, method, smooth, progress)

        def is_felt() -> bool | None:
            return self._gradients.is_felt(key, trace, target, record) if method.needs_gradient else None

        with plain_arithmetic(signed):
            alpha, signed, *guided = _on_cpu(alpha, signed, *guided)
            score, probability = self._score(key, trace, target)
            return Map(
                alpha=alpha,
                signed_cam=signed,
                guided=guided[0] if guided else None,
                score=score,
                probability=probability,
                diagnosis=diagnose(
                    signed,
                    is_felt,
                    name_target(target),
                    record.output.dtype,
                    saturated=_is_saturated(target, score),
                    cancelled=method.cancels and smooth is None and _cancels(own),
                ),
            )

    def _score(self, key: int, trace: Trace, target: Target) -> tuple[float, float | None]:
        """A target's value and, where it is a class, its probability: the same at every layer."""
        if self._scored is None or self._scored[:2] != (key, target):
            if type(target) is ClassLogit and trace.scores.ndim == 1:
                index = target.index
                self._scored = key, target, float(trace.scores_on_cpu[index]), float(trace.probabilities[index])
            else:
                output = trace.scores
                # A clone, because a user's target may work in place.
                self._scored = key, target, float(target(output.clone())), class_probability(target, output)
        return self._scored[2:]

    def evidence(
        self,
        key: int,
        trace: Trace,
        target: Target,
        record: Record,
        gradients: Gradients | None = None,
        progress: Progress | None = None,
    ) -> Evidence:
        """What a method may ask for. The gradients are those that are kept, unless others are given."""
        return Evidence(
            self._model,
            trace,
            record,
            target,
            self._gradients if gradients is None else gradients,
            key,
            selector=self._selector,
            budget=self._budget,
            progress=progress,
        )

    def _apply(self, method: Method, evidence: Evidence) -> tuple[Tensor, ...]:
        quantities = evidence.take(method.needs)
        if evidence.passes is not Evidence.passes:
            self.passes += evidence.passes
        with plain_arithmetic(evidence.activations()):
            return method.function(**quantities)

    def _average(
        self,
        trace: Trace,
        target: Target,
        record: Record,
        method: Method,
        smooth: Smoothing,
        progress: Progress | None,
    ) -> tuple[Tensor, ...]:
        """(alpha, signed cam, ...) averaged over copies of the picture, none of which is kept."""
        first, *others = (tensor.detach() for tensor in trace.inputs)
        sums: list[Tensor] = []
        for done, (copy, mirrored) in enumerate(smooth.copies(first), start=1):
            other = self._tracer((copy, *others))
            alone = Gradients(Cache(0), slopes=False)
            evidence = self.evidence(0, other, target, other.by_name[record.name], alone)
            alpha, *maps = self._apply(method, evidence)
            self.passes += Passes(backward=alone.passes)
            parts = [alpha, *(values.flip(-1) if mirrored else values for values in maps)]
            sums = [a + b for a, b in zip(sums, parts, strict=True)] if sums else parts
            report(progress, done, smooth.passes)
        return tuple(total / smooth.passes for total in sums)


def _on_cpu(*tensors: Tensor) -> list[Tensor]:
    """Tensors of one dtype and device on the CPU: from a GPU in one copy, because each waits for the GPU."""
    return list(tensors) if tensors[0].device.type == "cpu" else in_one_copy(tensors)


def in_one_copy(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The same tensors on the CPU, as views of one."""
    together = torch.cat([tensor.flatten() for tensor in tensors]).cpu()
    parts = torch.split(together, [tensor.numel() for tensor in tensors])
    return [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]


_SATURATED = 1e-4  # of the logit's gradient that a probability keeps

_ROUNDING = 1e-4


def _is_saturated(target: Target, score: float) -> bool:
    """Whether a probability is so near to 0 or 1 that it has hardly any gradient."""
    if isinstance(target, ClassLogProbability):
        return -score < _SATURATED
    return isinstance(target, ClassProbability) and min(score, 1 - score) < _SATURATED


def _cancels(evidence: Evidence) -> bool:
    """Whether sum_k g^k A^k is nothing but rounding beside its terms."""
    terms = evidence.gradients() * evidence.activations()
    return bool((terms.sum(0).abs().max() <= _ROUNDING * terms.abs().sum(0).max()) & terms.any())
