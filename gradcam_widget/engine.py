"""GradCAM: one forward pass per picture, one resumed backward pass per target, everything else looked up."""

from __future__ import annotations

import functools
import inspect
import math
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from types import TracebackType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from gradcam_widget.ablation import Ablation
from gradcam_widget.arguments import (
    check_channels,
    check_class_names,
    check_function,
    check_layer,
    check_layers,
    check_model,
    check_modules,
    check_target,
    find_device,
    several,
    unwrap,
)
from gradcam_widget.cache import Cache, parse_bytes
from gradcam_widget.cuda_graphs import Replays
from gradcam_widget.evidence import exact
from gradcam_widget.explanation import Explanation
from gradcam_widget.forward_graphs import ForwardGraphs
from gradcam_widget.gradients import Gradients, Passes
from gradcam_widget.harmless import plain_arithmetic
from gradcam_widget.inputs import IMAGENET, Transform, as_inputs, blank, own_transform, pixels, repaint
from gradcam_widget.last_picture import placed
from gradcam_widget.layers import Layer, spatial_dimensions
from gradcam_widget.maps import Map, Maps
from gradcam_widget.memory import Memory, is_out_of_memory
from gradcam_widget.methods import Method, find_method
from gradcam_widget.occlusion import Occlusion, patches
from gradcam_widget.painting import fill_colours
from gradcam_widget.perturbation import Progress, VersionScores, ablated_output, batch_size, covered, report
from gradcam_widget.reading import Reader, Reading
from gradcam_widget.recorder import CudaRecorder
from gradcam_widget.resolution import NO_MAPS, find_record, is_side_head, settle_target
from gradcam_widget.smoothing import Smoothing
from gradcam_widget.tail import Tail
from gradcam_widget.targets import Target, class_probability
from gradcam_widget.trace import Record, Trace
from gradcam_widget.tracer import Tracer
from gradcam_widget.traces import Traces, tensor_of
from gradcam_widget.watch import Watch

__all__ = ["GradCAM", "Memory", "Passes"]

_Result = TypeVar("_Result")

_FIXED = {
    "model": "GradCAM(other)",
    "transform": "GradCAM(model, transform=...)",
    "class_names": "GradCAM(model, class_names=...)",
}


class GradCAM:
    """Grad-CAM of any PyTorch model, exact for the layer as named, without a trace on the model.

    A picture costs one forward pass, whose graph is kept. A target costs one backward pass down to the deepest
    layer asked for; a deeper layer later goes on from there, any other layer is a look-up. The model runs in
    eval mode and is left bit for bit as it was: flags, gradients, parameters, buffers, hooks and random state.
    What a model's own code writes into its parameters in place, it writes in its first pass alone.

    Args:
        model: a differentiable ``nn.Module`` whose output for one picture is (1, num_classes) scores, or any
            output with a target of the user's own. Wrappers (torch.compile, DataParallel) are looked through.
        transform: PIL image -> float tensor (C, H, W); None for the model's own where it can be known (an
            attribute ``transform``, timm's ``pretrained_cfg``), else ImageNet's 224 px.
        device: None leaves the model where it is. "cuda", "mps", "cpu" or a torch device **moves the model**
            there; "auto" moves it to a GPU where there is one.
        memory_budget: bytes, or text such as "500MB", for what is kept between calls: graphs, activations,
            gradients and maps; the least recently used go first.
        class_names: names of the classes in the order of the scores; None for the model's ``class_names``.
        output: where the scores are in what the model returns: a key, a position, or a function; None finds a
            tensor, the first of a tuple, or the field ``logits`` or ``out``.
        layout: a module's output (1, ...) -> (1, K, h, w) by rearranging it, or None for one that is no feature
            map; needed only where shapes do not tell (`gradcam_widget.layers.find_layout`).
        cuda_graphs: on a GPU, record what is asked for again and again as CUDA graphs and replay it: the forward
            pass for other pictures of one size, of which the last one alone is kept then, and backward passes for
            other classes. `eager_because` tells why it is not done. What a model's own code does beside computing
            is not done again. Experimental.

    The images of all methods: a float tensor (C, H, W) or (1, C, H, W) goes to the model as it is (moved to its
    device, cast to its dtype); a PIL image, a uint8 array (H, W, 3) or a path goes through the transform; a tuple
    of tensors is for a model with several inputs. A picture or a model that has changed since is computed anew, as
    far as torch records the change or an attribute of a module was assigned; after writing through ``.data``, or
    inside of a list or configuration that a module keeps, call `close`.

    Source: R. Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
    Localization", arXiv 1610.02391.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        transform: Transform | None = None,
        device: str | torch.device | None = None,
        memory_budget: int | str = "2GB",
        class_names: Sequence[str] | None = None,
        output: Callable[[Any], Tensor] | str | int | None = None,
        layout: Callable[[Tensor], Tensor | None] | None = None,
        cuda_graphs: bool = False,
    ) -> None:
        check_model(model)
        check_function(transform, "transform", "PIL image -> float tensor (C, H, W)", 1)
        check_function(layout, "layout", "module's output -> tensor (1, K, h, w)", 1)
        self._class_names = check_class_names(class_names, model)
        self._cache = Cache(parse_bytes(memory_budget))
        place = None if device is None else find_device(device)
        self._model = unwrap(model)
        check_modules(self.model.modules())
        if place is not None:
            self.model.to(place)
        self._transform: Transform = transform or own_transform(model) or own_transform(self.model) or IMAGENET
        self._selector, self._layout = output, layout
        self._tracer = Tracer(self.model, output, layout)
        self._forward_graphs: ForwardGraphs | None = None
        self._replays: Replays | None = None
        if cuda_graphs and self.device.type == "cuda":
            recorder = CudaRecorder(self.device)
            self._forward_graphs = ForwardGraphs(recorder, self._cache, self._tracer)
            self._replays = Replays(recorder, self._cache)
        self._traces = Traces(self._tracer, self._cache, self._forward_graphs)
        self._gradients = Gradients(self._cache, replays=self._replays)
        self._maps = Maps(self.model, self._tracer, self._gradients, selector=output, budget=self._cache.budget)
        self._spatial = spatial_dimensions(self.model)
        self._lock = threading.RLock()
        self._depth = 0  # of calls, because a progress function or a target may call the engine
        self._other_passes = Passes()

    def __enter__(self) -> GradCAM:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Forget all that is kept. The engine works on afterwards, from scratch."""
        with self._lock:
            self._traces.clear()
            self._maps.forget()

    def forget(self, image: object) -> None:
        """Forget what is kept of one image, such as a version of a picture that nobody will ask for again."""
        inputs = as_inputs(image, self.transform, self._spatial)
        with self._lock:
            self._traces.forget(inputs)

    @property
    def model(self) -> nn.Module:
        """The network, out of its wrappers."""
        return self._model

    @property
    def transform(self) -> Transform:
        """What pictures that are no tensors go through."""
        return self._transform

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The names of the classes in the order of the scores, where there are any."""
        return self._class_names

    def __setattr__(self, name: str, value: object) -> None:
        if name in _FIXED:
            raise AttributeError(
                f"{name}: an engine keeps what it was made with, since what it has computed is of that; make "
                f"another one, {_FIXED[name]}"
            )
        super().__setattr__(name, value)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return tensor_of(self.model).device

    @property
    def trace_number(self) -> int:
        """Number of the forward pass that answered last: another one where picture or model have changed since."""
        return self._traces.number

    @property
    def passes(self) -> Passes:
        """Passes of the model run so far."""
        return (
            self._other_passes
            + self._maps.passes
            + Passes(forward=self._tracer.runs, backward=self._gradients.passes)
        )

    @property
    def eager_because(self) -> str | None:
        """Why passes are not replayed as CUDA graphs; None where they are, from the third picture or class on."""
        if self._replays is None or self._forward_graphs is None:
            return "it was not asked for with cuda_graphs=True, or the model was not on a GPU"
        reasons = {"backward": self._replays.reason, "forward": self._forward_graphs.reason}
        return "; ".join(f"{which} passes: {why}" for which, why in reasons.items() if why) or None

    def memory(self) -> Memory:
        """What is kept at present, in bytes."""
        with self._lock:
            sizes = {"traces": 0, "gradients": 0, "maps": 0}
            pictures = 0
            for key, size in self._cache.sizes().items():
                kind = "traces" if isinstance(key, int) else str(key[1])  # type: ignore[index] # our own keys
                sizes["gradients" if kind == "replays" else kind] += size
                pictures += kind == "traces"
            return Memory(**sizes, pictures=pictures, budget=self._cache.budget)

    def prepare(self, image: object) -> Tensor:
        """The tensor (1, C, H, W) that the model sees of an image, before it is moved to the model's device.

        Raises:
            TypeError, ValueError, FileNotFoundError: as `gradcam_widget.inputs.load_picture`, and for a
                transform that fails or returns no float tensor.
        """
        return as_inputs(image, self.transform, self._spatial)[0]

    def picture(self, image: object) -> Any:
        """The uint8 picture (H, W, 3) of exactly what the model sees, after resizing and cropping."""
        return pixels(self.prepare(image), self.transform)

    def repaint(self, image: object, picture: Any) -> Any:
        """The input that looks like ``picture``, painted pixels of `picture(image)`: an image for all methods.

        Nothing is resized; pixels that were not changed keep their values bit for bit (`inputs.repaint`).

        Args:
            image: as in `explain`.
            picture: uint8 (H, W, 3), of the size that the model sees.

        Returns:
            A tensor (1, C, H, W); for an image of several tensors, a tuple with that one first.
        """
        first, *others = as_inputs(image, self.transform, self._spatial)
        painted = repaint(first, picture, self.transform)
        return (painted, *others) if others else painted

    def blank(self, size: tuple[int, int], channels: int = 1) -> Tensor:
        """A black image (1, C, H, W) to draw on, normalised as the model's inputs are."""
        return blank(size, channels, self.transform)

    def predict(self, image: object) -> Tensor:
        """The model's scores for one picture, without the batch dimension: (num_classes,) logits on the CPU."""

        def run() -> Tensor:
            output = self._trace(image)[1].scores
            with plain_arithmetic(output):
                return exact(output).cpu().clone()

        return self._within_memory(run)

    def watch(self, image: object) -> Watch:
        """What tells later whether this picture and the model are still as they are now: ``changed()``."""
        return self._within_memory(lambda: Watch(self._trace(image)[1], image))

    def layers(self, image: object) -> tuple[Layer, ...]:
        """Every module call whose output is a feature map, in the order in which they ran."""
        return self._within_memory(lambda: self._trace(image)[1].layers)

    def default_layer(self, image: object, target: object = None) -> Layer:
        """The layer that ``layer=None`` stands for, with the reason in its ``why``."""
        wanted = check_target(target, self.class_names)

        def run() -> Layer:
            key, trace = self._trace(image)
            return self._default(key, trace, self._target(wanted, trace))[1]

        return self._within_memory(run)

    def resolve_target(self, target: object) -> Target | None:
        """The target object that ``target=`` stands for, checked without running the model; None for None.

        Raises:
            TypeError: for a kind that is no target. ValueError: for an unknown class.
        """
        return check_target(target, self.class_names)

    def explain(
        self,
        image: object,
        target: object = None,
        layer: object = None,
        method: str = "GradCAM",
        *,
        smooth: Smoothing | None = None,
        progress: Progress | None = None,
    ) -> Explanation:
        """Where and through which channels one layer speaks for one target.

        Args:
            image: see the class.
            target: None for the predicted class; an int; a class name; or a target of
                `gradcam_widget.targets` or the user's own: a function from the output for one picture to a scalar.
            layer: None for the last feature map with more than one cell that the target depends on; a name of
                `layers`; a module; or a `Layer`.
            method: a key of `gradcam_widget.methods.METHODS`.
            smooth: average the map over noisy or mirrored copies of the picture.
            progress: called with (done, in all) by what takes many passes; returning False cancels with
                `gradcam_widget.perturbation.Cancelled`.

        Raises:
            TypeError, ValueError: for an argument that cannot be used, with what to do instead; before the
                model runs where that can be told before.
        """
        row = find_method(method)
        wanted, place = check_target(target, self.class_names), self._check_layer(layer)
        _check_smooth(smooth, progress)

        def run() -> Explanation:
            key, trace = self._trace(image)
            what = self._target(wanted, trace)
            record, described = self._record_at(place, key, trace, what)
            return self._explanation(key, trace, what, record, described, row, smooth, progress)

        return self._within_memory(run)

    def terms(
        self,
        image: object,
        target: object = None,
        layer: object = None,
        method: str = "GradCAM",
        *,
        progress: Progress | None = None,
    ) -> Tensor:
        """(K, *grid) what each channel adds to the map: ``terms.sum(0)`` is the explanation's signed cam.

        For most methods these are alpha_k A^k; those that weigh every cell by itself have terms of their own, such
        as g^k A^k for HiResCAM. Float32 at least, on the CPU. Summed over some of the channels, with the weights
        that were found for all of them, they are the map of those channels. An explanation that is known costs no
        pass of the model.

        Args:
            image: as in `explain`.
            target: as in `explain`.
            layer: as in `explain`.
            method: as in `explain`.
            progress: as in `explain`.

        Raises:
            ValueError: for a method whose map is no sum over the channels, and as `explain`.
        """
        row = find_method(method)
        wanted, place = check_target(target, self.class_names), self._check_layer(layer)
        _check_smooth(None, progress)
        function = row.terms_function

        def run() -> Tensor:
            key, trace = self._trace(image)
            what = self._target(wanted, trace)
            record, described = self._record_at(place, key, trace, what)
            known = self._explanation(key, trace, what, record, described, row, None, progress)
            names = tuple(inspect.signature(function).parameters)
            # FinerCAM explains another target than the one asked for.
            evidence = self._maps.evidence(key, trace, known.target, record)
            quantities = dict(evidence.take(tuple(name for name in names if name != "alpha")))
            with plain_arithmetic(evidence.activations()):
                if "alpha" in names:
                    quantities["alpha"] = known.alpha.to(evidence.activations().device)
                found = function(**quantities)
                terms: Tensor = found.cpu()
                # Written so that NaN is no difference.
                differ = (terms.sum(0) - known.signed_cam).abs() > 1e-3 * terms.abs().sum(0).max()
            if terms.shape != (len(known.alpha), *known.signed_cam.shape) or bool(differ.any()):
                raise ValueError(
                    f"method: the map of {row.name} is not the sum over the channels of what its row of METHODS "
                    "gives as terms; give it a function terms= that is"
                )
            return terms

        return self._within_memory(run)

    def ablate(
        self, image: object, channels: Iterable[int], target: object = None, layer: object = None
    ) -> Ablation:
        """The target's score with some channels of a layer set to zero, beside the score with all of them.

        What the map says of channels is first order; this is the model's own word. Only what follows the layer
        runs again; where a model cannot be run in part, all of it does.

        Args:
            image: as in `explain`.
            channels: their numbers, from 0 to K - 1.
            target: as in `explain`. The class that ``None`` stands for is the one predicted with all channels.
            layer: as in `explain`.

        Raises:
            TypeError, ValueError: for channels that the layer does not have, and as `explain`.
        """
        wanted, place = check_target(target, self.class_names), self._check_layer(layer)
        numbers = several(channels, "channels", ordered=False)

        def run() -> Ablation:
            key, trace = self._trace(image)
            what = self._target(wanted, trace)
            record, described = self._record_at(place, key, trace, what)
            off = check_channels(numbers, record.shape[0])
            tail = Tail(self.model, trace, record, self._selector)
            without = ablated_output(tail, record, off)[0]
            self._other_passes += Passes(forward=tail.recorded + (not tail.partial), partial=int(tail.partial))
            full = trace.scores
            with plain_arithmetic(full):
                return Ablation(
                    layer=described,
                    target=what,
                    channels=off,
                    score=float(what(without.clone())),
                    probability=class_probability(what, without),
                    full_score=float(what(full.clone())),
                    full_probability=class_probability(what, full),
                )

        return self._within_memory(run)

    def explain_layers(
        self,
        image: object,
        target: object = None,
        layers: Iterable[object] | None = None,
        method: str = "GradCAM",
    ) -> dict[str, Explanation]:
        """One target at several layers, by name in the order given, from one backward pass.

        Args:
            image: as in `explain`.
            target: as in `explain`.
            layers: names, modules or `Layer` objects; None for every feature map that the target depends on.
            method: as in `explain`.

        Raises:
            TypeError, ValueError: as `explain`.
        """
        row = find_method(method)
        wanted = check_target(target, self.class_names)
        places = None if layers is None else self._check_layers(several(layers, "layers", ordered=False))

        def run() -> dict[str, Explanation]:
            key, trace = self._trace(image)
            what = self._target(wanted, trace)
            if places is None:
                if not trace.records:
                    raise ValueError(NO_MAPS)
                means = self._gradients.means(key, trace, what, trace.records)
                records = [record for record in trace.records if means.get(record.index) is not None]
            else:
                records = [
                    self._default(key, trace, what)[0] if place is None else find_record(place, trace)
                    for place in places
                ]
            if row.needs_gradient:
                # All in one pass, before the maps are made one by one.
                meant = row.target(what, trace.scores) if row.target else what
                take = self._gradients if row.needs_whole_gradient else self._gradients.means
                take(key, trace, meant, records)
            return {
                record.name: self._explanation(key, trace, what, record, trace.layer(record), row)
                for record in records
            }

        return self._within_memory(run)

    def explain_targets(
        self, image: object, targets: Iterable[object], layer: object = None, method: str = "GradCAM"
    ) -> list[Explanation]:
        """One layer for several targets, in their order. The forward pass is shared; the backward passes run in
        batches where that is faster, as batched vector-Jacobian products.

        Args:
            image: as in `explain`.
            targets: each as in `explain`.
            layer: as in `explain`; None is chosen once, for the first target.
            method: as in `explain`.
        """
        row = find_method(method)
        wanted = [check_target(target, self.class_names) for target in several(targets, "targets")]
        place = self._check_layer(layer)

        def run() -> list[Explanation]:
            key, trace = self._trace(image)
            resolved = [self._target(target, trace) for target in wanted]
            if not resolved:
                return []
            record, described = self._record_at(place, key, trace, resolved[0])
            if row.needs_gradient:
                output = trace.scores
                meant = [row.target(target, output) if row.target else target for target in resolved]
                self._gradients.together(key, trace, meant, record, whole=row.needs_whole_gradient)
            return [self._explanation(key, trace, target, record, described, row) for target in resolved]

        return self._within_memory(run)

    def explain_batch(
        self,
        images: Iterable[object],
        targets: Iterable[object] | None = None,
        layer: object = None,
        method: str = "GradCAM",
    ) -> list[Explanation]:
        """Several pictures, in their order; each runs by itself, so that no picture can change another's map.

        Args:
            images: pictures as in `explain`, or a float tensor (N, C, H, W).
            targets: one for each picture; None for the predicted classes.
            layer: as in `explain`.
            method: as in `explain`.

        Raises:
            ValueError: when there are not as many targets as pictures.
        """
        pictures = list(images.unbind()) if isinstance(images, Tensor) else several(images, "images")
        if not pictures:
            raise ValueError("images: expected at least one picture; got none")
        wanted = [None] * len(pictures) if targets is None else several(targets, "targets")
        if len(wanted) != len(pictures):
            raise ValueError(
                f"targets: expected one for each of the {len(pictures)} pictures; got {len(wanted)}. "
                "Repeat one target with targets=[target] * len(images)"
            )
        for target in wanted:
            check_target(target, self.class_names)
        return [
            self.explain(picture, target, layer, method) for picture, target in zip(pictures, wanted, strict=True)
        ]

    def occlude(
        self,
        image: object,
        target: object = None,
        *,
        patch: int | None = None,
        stride: int | None = None,
        fill: str = "mean",
        progress: Progress | None = None,
    ) -> Occlusion:
        """What each place of the picture is worth to a target: how much its value drops when a patch covers it.

        One forward pass for each place, in batches within the memory budget.

        Args:
            image: as in `explain`; a picture.
            target: as in `explain`.
            patch: side of the square patch in pixels; None for a seventh of the picture's shorter side.
            stride: pixels from one place to the next; None for half of the patch.
            fill: what the patch shows: "mean" (the picture's mean colour), "grey" or "blur".
            progress: as in `explain`.

        Raises:
            TypeError, ValueError: as `explain`, and for a patch, stride or fill that cannot be used.

        Source: Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014, section 4.2.
        """
        wanted = check_target(target, self.class_names)
        check_function(progress, "progress", "(done, in all)", 2)
        if fill not in ("mean", "grey", "blur"):
            raise ValueError(f"fill: expected mean, grey or blur; got {fill!r}")

        def begin() -> tuple[Trace, Target, Tensor, Tensor]:
            trace = self._traces.lasting(self._trace(image)[1])
            what = self._target(wanted, trace)
            first = _picture_of(trace)
            patches((first.shape[2], first.shape[3]), patch, stride)  # says what does not fit before anything runs
            cover = repaint(first, fill_colours(pixels(first, self.transform), fill), self.transform)
            return trace, what, first, cover

        trace, what, first, cover = self._within_memory(begin)
        height, width = first.shape[2:]
        grid, boxes = patches((height, width), patch, stride)
        values = self._scores(
            trace,
            what,
            lambda first, batch: covered(first, boxes[batch.start : batch.stop], cover),
            len(boxes),
            progress,
        )
        score = float(what(trace.output[0].detach().clone()))
        return Occlusion(what, score, (score - values).reshape(grid).numpy(), boxes, (height, width), fill)

    def score_versions(
        self,
        image: object,
        versions: Callable[[Tensor, range], Tensor],
        count: int,
        target: object = None,
        *,
        progress: Progress | None = None,
    ) -> Tensor:
        """(count,) a target's value for many versions of one picture, float64 on the CPU: one forward pass each,
        in batches within the memory budget. Between batches the engine answers others.

        Args:
            image: as in `explain`; a picture.
            versions: (the picture (1, C, H, W) as the model has it, a range of numbers below ``count``) -> these
                versions of it, (n, C, H, W).
            count: how many versions there are.
            target: as in `explain`; None for the class predicted for the picture itself.
            progress: as in `explain`.

        Raises:
            TypeError, ValueError: as `explain`, and for a count below 1.
        """
        wanted = check_target(target, self.class_names)
        check_function(versions, "versions", "(picture, range) -> tensor (n, C, H, W)", 2)
        if count < 1:
            raise ValueError(f"count: expected at least one version; got {count}")
        check_function(progress, "progress", "(done, in all)", 2)

        def begin() -> tuple[Trace, Target]:
            trace = self._traces.lasting(self._trace(image)[1])
            _picture_of(trace)
            return trace, self._target(wanted, trace)

        return self._scores(*self._within_memory(begin), versions, count, progress)

    def copy(self) -> GradCAM:
        """An engine like this one around a deep copy of its model, which may be changed as one likes.

        Raises:
            TypeError: for a model that cannot be copied.
        """
        with self._lock:
            try:
                twin = deepcopy(self.model)
            except Exception as error:
                raise TypeError(
                    f"model: {type(self.model).__name__} cannot be copied ({type(error).__name__}: {error}), "
                    "and weights are changed in a copy only. It must hold no locks, files, or tensors with a graph"
                ) from error
        return self._around()(twin)

    def __reduce__(self) -> tuple[Callable[[nn.Module], GradCAM], tuple[nn.Module]]:
        """How it is copied and pickled: without what it keeps, and with its model."""
        return self._around(), (self.model,)

    def _around(self) -> Callable[[nn.Module], GradCAM]:
        """What makes an engine like this one around another model."""
        return functools.partial(
            GradCAM,
            transform=self.transform,
            memory_budget=self._cache.budget,
            class_names=self.class_names,
            output=self._selector,
            layout=self._layout,
            cuda_graphs=self._replays is not None,
        )

    def _scores(
        self,
        trace: Trace,
        target: Target,
        versions: Callable[[Tensor, range], Tensor],
        count: int,
        progress: Progress | None,
    ) -> Tensor:
        """(count,) a target's values for versions of a traced picture. The lock is held for a batch at a time."""
        first = trace.inputs[0].detach()
        size = batch_size(trace.bytes(), self._cache.budget, first.device, whole=True)
        score = self._within_memory(lambda: VersionScores(self.model, trace, target, size, self._selector))
        values = []
        for start in range(0, count, score.size):
            batch = range(start, min(start + score.size, count))
            values.append(self._within_memory(functools.partial(_score_batch, score, versions, first, batch)))
            self._other_passes += Passes(forward=len(batch))
            report(progress, batch.stop, count)
        return torch.cat(values)

    def read(
        self, images: Sequence[object], layer: object = None, *, progress: Progress | None = None
    ) -> Iterator[Reading]:
        """The activations of one layer for many pictures, in batches and without gradients; none are kept here.

        Pictures of one size go through together, as far as the model takes batches and the memory budget allows.

        Args:
            images: each as in `explain`; looked at one by one.
            layer: as in `explain`; None is chosen once, for the first picture.
            progress: as in `explain`.
        """
        place = self._check_layer(layer)
        check_function(progress, "progress", "(done, in all)", 2)
        if not len(images):
            return iter(())
        return self._read(images, place or self.default_layer(images[0]).name, progress)

    def _read(
        self, images: Sequence[object], place: str | nn.Module, progress: Progress | None
    ) -> Iterator[Reading]:
        readers: dict[tuple[torch.Size, ...], tuple[Reader, Layer, int]] = {}  # by the sizes of the inputs
        waiting: list[tuple[Tensor, ...]] = []
        shape: tuple[torch.Size, ...] = ()

        def flush(done: int) -> Reading:
            reader, layer, _ = readers[shape]
            first = tensor_of(self.model)
            inputs = [torch.cat(parts) if len(parts) > 1 else parts[0] for parts in zip(*waiting, strict=True)]
            maps = self._within_memory(lambda: reader(tuple(placed(tensor, first) for tensor in inputs)))
            self._other_passes += Passes(forward=len(waiting))
            waiting.clear()
            return Reading(done - len(maps), layer, tuple(inputs[0].shape[2:]), inputs[0], maps)

        for number, image in enumerate(images):
            inputs = as_inputs(image, self.transform, self._spatial)
            if waiting and tuple(tensor.shape for tensor in inputs) != shape:
                yield flush(number)
                report(progress, number, len(images))
            shape = tuple(tensor.shape for tensor in inputs)
            if shape not in readers:
                readers[shape] = self._within_memory(lambda: self._reader(image, place))  # noqa: B023 # called now
            waiting.append(inputs)
            if len(waiting) == readers[shape][2] or number == len(images) - 1:
                yield flush(number + 1)
                report(progress, number + 1, len(images))

    def _reader(self, image: object, place: str | nn.Module) -> tuple[Reader, Layer, int]:
        """What reads a layer for pictures of this one's size, the layer there, and how many go through at once."""
        trace = self._trace(image)[1]
        record = find_record(place, trace)
        reader = Reader(self.model, record)
        size = batch_size(trace.bytes(), self._cache.budget, self.device, whole=True)
        inputs = [tensor.detach() for tensor in trace.inputs]
        if size > 1 and all(tensor.ndim and tensor.shape[0] == 1 for tensor in inputs):
            reader.check_batches(inputs)
            self._other_passes += Passes(forward=2)
        return reader, trace.layer(record), size if reader.takes_batches else 1

    # -- from arguments to a trace, a target and a record ------------------------------------------------------

    def _trace(self, image: object) -> tuple[int, Trace]:
        """The kept or new trace of a picture, and its number."""
        return self._traces(image, lambda: as_inputs(image, self.transform, self._spatial), alone=self._depth == 1)

    def _target(self, target: Target | None, trace: Trace) -> Target:
        # Where there are classes: on a GPU, a look at the scores would wait for it each time.
        scores = trace.scores if trace.scores.ndim > 1 else trace.scores_on_cpu
        return settle_target(target, scores, self.class_names)

    def _check_layer(self, layer: object) -> str | nn.Module | None:
        return layer if isinstance(layer, str) and layer in self._known_names() else check_layer(layer, self.model)

    def _check_layers(self, layers: list[object]) -> list[str | nn.Module | None]:
        known = self._known_names()
        names = [layer for layer in layers if isinstance(layer, str) and layer in known]
        return [*names] if len(names) == len(layers) else check_layers(layers, self.model)

    def _known_names(self) -> Collection[str]:
        """Names of layers that need no further check, which would walk through the whole model."""
        with self._lock:
            trace = self._traces.latest
            return () if trace is None else trace.by_name

    def _record_at(
        self, place: str | nn.Module | None, key: int, trace: Trace, target: Target
    ) -> tuple[Record, Layer]:
        """The record that an argument ``layer`` means, and its public description."""
        if place is None:
            return self._default(key, trace, target)
        record = find_record(place, trace)
        return record, trace.layer(record)

    def _default(self, key: int, trace: Trace, target: Target) -> tuple[Record, Layer]:
        """The last feature map with more than one cell whose gradient is not zero everywhere."""
        if not trace.records:
            raise ValueError(NO_MAPS)
        skipped = 0
        for record in reversed(trace.records):
            if math.prod(record.shape[1:]) < 2 or is_side_head(trace, record):
                continue
            if self._gradients.is_felt(key, trace, target, record):
                grid = " × ".join(map(str, record.shape[1:]))
                why = f"the last feature map with more than one cell ({grid})"
                if skipped:
                    why += f" whose gradient is not zero everywhere ({skipped} later without)"
                return record, trace.layer(record, why)
            skipped += 1
        raise ValueError(
            "layer: no feature map with more than one cell has a gradient for this target; "
            "name a layer of cam.layers(image), or explain another target"
        )

    # -- maps --------------------------------------------------------------------------------------------------

    def _explanation(
        self,
        key: int,
        trace: Trace,
        target: Target,
        record: Record,
        layer: Layer,
        method: Method,
        smooth: Smoothing | None = None,
        progress: Progress | None = None,
    ) -> Explanation:
        if method.target is not None:
            target = method.target(target, trace.scores)
        place = (key, "maps", target, record.index, method.name, smooth)
        kept: Map | None = self._cache.get(place)
        if kept is None:
            kept = self._maps(key, trace, target, record, method, progress, smooth)
            self._cache.put(place, kept, kept.bytes(), parent=key)
        # Under the caller's inference_mode the copies would be inference tensors, which cannot be changed.
        with torch.inference_mode(False) if torch.is_inference_mode_enabled() else nullcontext():
            alpha, signed = kept.alpha.clone(), kept.signed_cam.clone()
            guided = None if kept.guided is None else kept.guided.clone()
            maps = trace.lasting(record.maps())
        return Explanation(
            layer=layer,
            target=target,
            method=method.name,
            score=kept.score,
            probability=kept.probability,
            alpha=alpha,
            signed_cam=signed,
            guided=guided,
            smooth=smooth,
            picture=trace.picture,
            diagnosis=None if kept.diagnosis is None else kept.diagnosis.sentence,
            diagnosis_code=None if kept.diagnosis is None else kept.diagnosis.code,
            _maps=maps,
        )

    @contextmanager
    def _entered(self) -> Iterator[None]:
        with self._lock:
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1

    def _within_memory(self, work: Callable[[], _Result]) -> _Result:
        """The result of some work under the lock. If memory runs out, what is kept is freed and the work is tried
        once more, since that may be all that was in the way; then the error is said in words.
        """
        with self._entered():
            try:
                return work()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            freed = self.memory().total
            self.close()
            try:
                return work()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self.close()
                size = " × ".join(map(str, self._tracer.size))
                raise MemoryError(
                    f"memory: the {self.device.type} has not enough for an input of {size} with all feature maps "
                    f"of {type(self.model).__name__} kept; {freed / 1e6:.0f} MB kept for other pictures were "
                    "freed first. Use a smaller picture, a smaller model, half precision or device='cpu'"
                ) from error


def _score_batch(
    score: VersionScores, versions: Callable[[Tensor, range], Tensor], first: Tensor, batch: range
) -> Tensor:
    with plain_arithmetic(first):
        return score(versions(first, batch)).double().cpu()


def _picture_of(trace: Trace) -> Tensor:
    """The picture that was traced; ValueError where the input is none."""
    first = trace.inputs[0].detach()
    if first.ndim != 4:
        raise ValueError(f"image: expected a picture (1, C, H, W); got shape {tuple(first.shape)}")
    return first


def _check_smooth(smooth: object, progress: object) -> None:
    if smooth is not None and not isinstance(smooth, Smoothing):
        raise TypeError(f"smooth: expected a gradcam_widget.smoothing.Smoothing; got {type(smooth).__name__}")
    check_function(progress, "progress", "(done, in all)", 2)
