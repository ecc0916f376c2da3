"""Answers: the explorer's part that asks the engine what is asked of it, and makes a scene of what it says."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor

from gradcam_widget.comparison import Comparison, compare_targets, no_comparison
from gradcam_widget.engine import GradCAM, Passes
from gradcam_widget.explanation import Explanation
from gradcam_widget.layers import Layer
from gradcam_widget.methods import METHODS
from gradcam_widget.perturbation import Cancelled, refuse
from gradcam_widget.targets import ClassLogit, Counterfactual
from gradcam_widget.watch import Watch
from gradcam_widget.widget.choices import Choices, Prediction
from gradcam_widget.widget.cures import Cure, cures_of, is_cured_by_layer
from gradcam_widget.widget.notice import Task
from gradcam_widget.widget.numbers import Numbers
from gradcam_widget.widget.scene import Pair, Scene
from gradcam_widget.widget.selection import coverage
from gradcam_widget.widget.state import View
from gradcam_widget.widget.words import (
    classes_of,
    diagnosis_of,
    idle_gpu,
    in_passes,
    layer_of,
    method_of,
    name_of,
    predictions_of,
    target_of,
    truth_of,
)

__all__ = ["Answer", "Answers", "Unpaid", "as_array", "map_of"]

_log = logging.getLogger("gradcam_widget")


@dataclass(frozen=True, eq=False)
class Answer:
    """What there is to draw for a question, and what goes with it.

    Attributes:
        view: the question.
        asked: the target as the engine was asked for it.
        whole: the scene with all channels.
        explanation: what it was made of.
        status: one line: device, passes of the model, time.
        choices: what the controls show with it.
        comparison: the one of its two classes; None where there is one class.
        scene: the message that was sent, without the channels in ``off``; {} before it is made.
        picture: the message of the picture, where that is another one.
        pixels: the message of a map at the picture's pixels, where the method makes one.
        off: the channels that are left out of ``scene``.
        watch: tells whether picture and model are still those that the answer is of.
    """

    view: View
    asked: object
    whole: Scene
    explanation: Explanation
    status: str
    choices: Choices
    watch: Watch
    comparison: Comparison | None = None
    scene: dict[str, Any] = field(default_factory=dict)
    picture: dict[str, Any] | None = None
    pixels: dict[str, Any] | None = None
    off: tuple[int, ...] = ()


class Unpaid(Exception):  # noqa: N818 # no error: a map that waits to be asked for
    """A map needs many passes, which nobody has asked for."""

    def __init__(self, task: Task, choices: Choices) -> None:
        super().__init__(task)
        self.task, self.choices = task, choices


class Answers:
    """The part of the explorer that turns a question (`View`) into an `Answer`. It draws nothing.

    It holds the pictures as the model takes them, their layers, and the passes that were spent on the way.
    """

    # The explorer's own, of which this is a part.
    engine: GradCAM
    _drawn: Answer | None
    _lock: threading.RLock

    def _begin_answers(self, images: Sequence[object], truths: Sequence[int | None]) -> None:
        """Prepare to answer.

        Args:
            images: the pictures, as they were given.
            truths: the true class of each; None where that is not known.
        """
        self._images = list(images)
        self._truths = dict(enumerate(truths))
        self._prepared: tuple[int, object] | None = None  # the last picture, as the model takes it
        self._layers: dict[int, tuple[Layer, ...]] = {}
        self._spent = Passes()  # passes run since the last answer
        self._job_seconds = 0.0  # that many passes have taken since then
        self._paid: set[View] = set()  # the questions for which many passes were run
        self._idle_gpu = idle_gpu(self.engine.device)
        self._questions, self._grounds, self._bases = Numbers(), Numbers(), Numbers()

    def _found(self, view: View) -> Answer:
        """The answer to a question, with all channels; nothing is encoded yet.

        Raises:
            Unpaid: where it needs many passes that have not been asked for.
            ValueError: for a layer that is no picture, a map that is not finite, a wrong label.
        """
        started = time.perf_counter()
        reply = self._ask(view)
        choices = self._choices(reply)
        if reply.explanation is None:
            raise Unpaid(Task(view.method, METHODS[view.method].passes, reply.layer.shape[0]), choices)
        pair, comparison = self._compared(reply, reply.explanation)
        scene = self._scene(reply, reply.explanation, pair, started)
        status = scene.status
        return Answer(
            view=view,
            asked=Counterfactual(reply.own.target) if view.evidence == "counterfactual" else view.target,
            whole=scene,
            explanation=reply.explanation,
            status=f"{status['device']} · {status['passes']} · {status['milliseconds']:.1f} ms",
            choices=choices,
            watch=reply.watch,
            comparison=comparison,
        )

    # -- what the engine says ----------------------------------------------------------------------------------

    def _ask(self, view: View) -> _Reply:
        """Ask the engine, and check that its reply can be shown."""
        image, layers = self._input(view.image_index), self._layers_of(view.image_index)
        with self._counted():
            watch = self.engine.watch(image)  # first, lest a change meanwhile be missed
            explanation, own = self._explain(image, view)
            scores = self.engine.predict(image)
        if len(own.layer.shape) != 3:
            raise ValueError(
                f"layer: the widget shows pictures, whose feature maps are (K, h, w); {own.layer.name!r} has the "
                f"shape {own.layer.shape}. Use the engine, GradCAM, for signals and volumes"
            )
        seen = explanation or own
        if not (torch.isfinite(scores).all() and torch.isfinite(seen.signed_cam).all()):
            raise _NotFiniteError(
                seen.diagnosis or "model: its scores are NaN or infinite for this picture; check its input",
                self._cures(image, view, seen, seen.diagnosis_code),
            )
        labels = classes_of(scores, self.engine.class_names)
        return _Reply(
            view=view,
            image=image,
            layers=layers,
            explanation=explanation,
            own=own,
            watch=watch,
            labels=labels,
            predictions=predictions_of(scores, labels),
            target=target_of(own, labels),
            truth=truth_of(self._truths.get(view.image_index), scores, labels),
        )

    def _explain(
        self, image: object, view: View, progress: Callable[[int, int], bool] | None = None
    ) -> tuple[Explanation | None, Explanation]:
        """The explanation that a question asks for, and one that tells its target and layer.

        They differ for counterfactual evidence, which is that of the negative of the target, and for methods of
        many passes: without ``progress`` the first is None then, unless it has been computed before.
        """
        many = METHODS[view.method].many_passes
        if view.evidence != "counterfactual" and not many:
            explanation = self.engine.explain(image, view.target, view.layer, method=view.method)
            return explanation, explanation
        # Only an explanation tells which class, side and layer are meant where the choice is the engine's.
        own = self.engine.explain(image, view.target, view.layer)
        if many and progress is None:
            if view not in self._paid:
                return None, own
            progress = refuse  # what was computed is kept by the engine, but not for ever
        target = Counterfactual(own.target) if view.evidence == "counterfactual" else own.target
        try:
            return self.engine.explain(image, target, own.layer, method=view.method, progress=progress), own
        except Cancelled:
            if progress is not refuse:
                raise
            self._paid.discard(view)
            return None, own

    def _compared(self, reply: _Reply, first: Explanation) -> tuple[Pair | str | None, Comparison | None]:
        """The second class as the view takes it, or why there is none; and the comparison itself."""
        view = reply.view
        if view.compare_target is None:
            return None, None
        if (why := no_comparison(view.method)) is not None:
            return why, None
        with self._counted():
            found = compare_targets(self.engine, reply.image, reply.own, first, view.compare_target, view.evidence)
        second = found.second
        pair = Pair(
            target=target_of(second, reply.labels) | {"label": self._called(view.compare_target, reply.labels)},
            alpha=as_array(second.alpha),
            cam=map_of(second, view.evidence),
            contrast=as_array(found.contrast.signed_cam),
        )
        return pair, found

    def _cures(self, image: object, view: View, explanation: Explanation, code: str | None) -> tuple[Cure, ...]:
        """What helps where a map has a diagnosis. Another layer is looked at before it is offered."""
        target = getattr(explanation.target, "index", None)
        # A map at the pixels has no form that shows what speaks against.
        lowest = float(explanation.signed_cam.min()) if explanation.guided is None else 0.0
        return cures_of(
            code,
            lowest=lowest,
            target=target if isinstance(target, int) else None,
            last_layer_is_well=is_cured_by_layer(code) and self._is_well_at_the_last(image, view, explanation),
        )

    def _is_well_at_the_last(self, image: object, view: View, explanation: Explanation) -> bool:
        """Whether the layer that the engine chooses is another one, at which the map lacks nothing."""
        if view.layer is None or METHODS[view.method].many_passes:
            return False
        try:
            with self._counted():
                last, _ = self._explain(image, replace(view, layer=None))
        except Exception:
            _log.debug("There is no other layer to go to", exc_info=True)
            return False
        if last is None or last.layer.name == explanation.layer.name:
            return False
        return not is_cured_by_layer(last.diagnosis_code)

    # -- what is shown of it -----------------------------------------------------------------------------------

    def _scene(self, reply: _Reply, explanation: Explanation, pair: Pair | str | None, started: float) -> Scene:
        """The scene with all channels. ``started`` is when the question was asked, of `time.perf_counter`."""
        view, own = reply.view, reply.own
        # A method that weighs every cell by itself has no weights: its alpha is each channel's share already.
        share = METHODS[view.method].alpha == "share"
        contribution = as_array(explanation.alpha if share else explanation.contribution)
        found = diagnosis_of(explanation, view.evidence, reply.target["label"])
        place = self._numbered(view, own)
        passes = in_passes(self._spent)
        milliseconds = 1000 * (time.perf_counter() - started + self._job_seconds)
        return Scene(
            layer=layer_of(reply.layer),
            target=reply.target,
            method=method_of(view.method, at_pixels=explanation.guided is not None),
            cam=map_of(explanation, view.evidence),
            alpha=as_array(explanation.alpha),
            contribution=contribution,
            coverage=coverage(contribution),
            predictions=[vars(prediction) for prediction in reply.predictions],
            status={
                "device": str(self.engine.device),
                "note": self._idle_gpu,
                "milliseconds": round(milliseconds, 2),
                "passes": passes,
            },
            diagnosis=None if found is None else found.sentence,
            cures=self._cures(reply.image, view, explanation, None if found is None else found.code),
            evidence=view.evidence,
            trace=place.trace,
            question=place.question,
            ground=place.ground,
            base=place.base,
            chosen=place.chosen,
            pair=pair,
            truth=reply.truth,
        )

    def _numbered(self, view: View, own: Explanation) -> _Place:
        """The numbers of a scene. ``own`` tells target and layer that are meant where the engine chose them."""
        trace = self.engine.trace_number
        of = (trace, view.image_index, view.edition, view.method, view.evidence)
        beside = None if view.compare_target is None else self._class_of(view.compare_target)
        question = self._questions.of(of, own.target)
        ground = self._grounds.of(of, view.compare_target if beside is None else beside)
        index = getattr(own.target, "index", None)
        return _Place(
            trace=trace,
            question=question,
            ground=ground,
            base=self._bases.of(question, ground, own.layer.name),
            chosen=index if not callable(view.target) and isinstance(index, int) else None,
        )

    def _choices(self, reply: _Reply) -> Choices:
        """What the controls show with an answer."""
        view = reply.view
        return Choices(
            picture=view.image_index,
            layers=tuple((layer.name, layer.kind, layer.label) for layer in reply.layers),
            layer=reply.layer.name,
            classes=reply.labels,
            predictions=reply.predictions,
            target=None if callable(view.target) else reply.target["index"],
            target_label=reply.target["label"],
            method=view.method,
            evidence=view.evidence,
            compare="" if view.compare_target is None else self._called(view.compare_target, reply.labels),
        )

    def _called(self, target: object, labels: Sequence[str]) -> str:
        """How a target of the state is called among the classes."""
        index = self._class_of(target)
        return labels[index] if index is not None and index < len(labels) else name_of(target)

    def _class_of(self, target: object) -> int | None:
        """The class index of a target of the state, where it is a class."""
        if target is None:
            return None
        resolved = self.engine.resolve_target(target)
        return resolved.index if isinstance(resolved, ClassLogit) else None

    # -- what is known of a picture ----------------------------------------------------------------------------

    def _input(self, image_index: int) -> object:
        """A picture as the engine takes it at no cost: read, resized and normalised once."""
        if self._prepared is None or self._prepared[0] != image_index:
            image = self._images[image_index]
            # Several input tensors are handed over as they are.
            self._prepared = (image_index, image if isinstance(image, tuple) else self.engine.prepare(image))
        return self._prepared[1]

    def _replace_image(self, index: int, image: object) -> None:
        """Put another picture in the place of one, of which all is forgotten."""
        self.engine.forget(self._images[index])
        self._images[index] = image
        self._layers.pop(index, None)
        if self._prepared is not None and self._prepared[0] == index:
            self._prepared = None

    def _layers_of(self, image_index: int) -> tuple[Layer, ...]:
        """The layers of the model for a picture, in the order of the network."""
        with self._lock:
            if image_index not in self._layers:
                with self._counted():
                    self._layers[image_index] = self.engine.layers(self._input(image_index))
            return self._layers[image_index]

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """Passes of the model inside belong to the next answer."""
        before = self.engine.passes
        try:
            yield
        finally:
            spent = self.engine.passes - before
            self._spent = self._spent + spent


@dataclass(frozen=True, eq=False)
class _Reply:
    """What the engine says to a question, and the names of its classes."""

    view: View
    image: object
    layers: tuple[Layer, ...]
    explanation: Explanation | None  # None where many passes have not been asked for
    own: Explanation  # that tells target and layer
    watch: Watch
    labels: tuple[str, ...]
    predictions: tuple[Prediction, ...]
    target: Mapping[str, Any]
    truth: Mapping[str, Any] | None

    @property
    def layer(self) -> Layer:
        return self.own.layer


class _Place(NamedTuple):
    """What tells a scene from others; see `Scene`."""

    trace: int
    question: int
    ground: int
    base: int
    chosen: int | None


class _NotFiniteError(ValueError):
    """A map that cannot be shown, with what may help."""

    def __init__(self, message: str, cures: Sequence[Cure]) -> None:
        super().__init__(message)
        self.cures = cures


def map_of(explanation: Explanation, evidence: str) -> NDArray[Any]:
    """(h, w) the map that shows the evidence: the signed one, or what is positive of it."""
    return as_array(explanation.signed_cam if evidence == "signed" else explanation.cam)


def as_array(tensor: Tensor) -> NDArray[Any]:
    """A tensor as a float64 array of the same shape, in the memory of the CPU."""
    array: NDArray[Any] = tensor.detach().cpu().double().numpy()
    return array
