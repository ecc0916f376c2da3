"""GradCAM: one forward pass per picture, one resumed backward pass per target, everything else looked up."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from gradcam_widget.cache import Cache, parse_bytes
from gradcam_widget.explanation import Explanation
from gradcam_widget.inputs import IMAGENET, Transform, as_inputs, own_transform, pixels
from gradcam_widget.layers import Layer, nearest_names, spatial_dimensions
from gradcam_widget.methods import Method, find_method
from gradcam_widget.targets import ClassLogit, Target, class_index, name_target, probabilities
from gradcam_widget.trace import Record, Trace, Tracer

__all__ = ["GradCAM", "Passes"]


@dataclass(frozen=True)
class Passes:
    """How many passes of the model an engine has run."""

    forward: int = 0
    backward: int = 0

    def __sub__(self, other: Passes) -> Passes:
        return Passes(self.forward - other.forward, self.backward - other.backward)


@dataclass(frozen=True)
class _Map:
    """What is kept of one explanation, on the CPU."""

    alpha: Tensor
    mean_activations: Tensor
    signed_cam: Tensor
    score: float
    probability: float | None
    diagnosis: str | None

    def bytes(self) -> int:
        return sum(t.numel() * t.element_size() for t in (self.alpha, self.mean_activations, self.signed_cam))


class _Latest:
    """The picture asked about last, so that asking again costs no comparison of its values."""

    def __init__(self, image: object, number: int) -> None:
        self.number = number
        self._image = image
        self._version = image._version if _sees_writes(image) else None

    def is_of(self, image: object) -> bool:
        """Whether it is the same tensor, for certain not written to since."""
        return image is self._image and _sees_writes(image) and image._version == self._version


def _sees_writes(image: object) -> TypeGuard[Tensor]:
    # Memory shared with numpy can be written to behind torch's back; torch marks it as not resizable.
    return isinstance(image, Tensor) and not image.is_inference() and image.untyped_storage().resizable()


class GradCAM:
    """Grad-CAM of any PyTorch model, exact for the layer as named, without a trace on the model.

    A picture costs one forward pass, whose graph is kept. A target costs one backward pass down to the deepest
    layer asked for; a deeper layer later goes on from there, any other layer is a look-up. The model runs in
    eval mode and is left bit for bit as it was: flags, gradients, buffers, hooks and random state.

    Args:
        model: a differentiable ``nn.Module`` whose output for one picture is (1, num_classes) scores, or any
            output with a target of the user's own.
        transform: PIL image -> float tensor (C, H, W); None for the model's own where it can be known (an
            attribute ``transform``, timm's ``pretrained_cfg``), else ImageNet's 224 px.
        device: None leaves the model where it is. "cuda", "mps", "cpu" or a torch device **moves the model**
            there; "auto" moves it to a GPU where there is one.
        memory_budget: bytes, or text such as "500MB", for what is kept between calls: graphs, activations,
            gradients and maps; the least recently used go first.
        class_names: names of the classes in the order of the scores; None for the model's ``class_names``.
        output: where the scores are in what the model returns: a key, a position, or a function; None finds a
            tensor, the first of a tuple, or the field ``logits`` or ``out``.

    The images of all methods: a float tensor (C, H, W) or (1, C, H, W) goes to the model as it is (moved to its
    device, cast to its dtype); a PIL image, a uint8 array (H, W, 3) or a path goes through the transform; a tuple
    of tensors is for a model with several inputs.

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
    ) -> None:
        _check_model(model)
        if transform is not None and not callable(transform):
            raise TypeError(
                "transform: expected a function PIL image -> float tensor (C, H, W); "
                f"got {type(transform).__name__}"
            )
        self.class_names = _check_class_names(class_names, model)
        self._cache = Cache(parse_bytes(memory_budget))
        target_device = None if device is None else _find_device(device)
        self.model = _unwrap(model)
        if target_device is not None:
            self.model.to(target_device)
        self.transform: Transform = transform or own_transform(model) or own_transform(self.model) or IMAGENET
        self._tracer = Tracer(self.model, output)
        self._spatial = spatial_dimensions(self.model)
        self._lock = threading.RLock()
        self._numbers = itertools.count()
        self._passes = Passes()
        self._latest: _Latest | None = None

    def __enter__(self) -> GradCAM:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Forget all that is kept. The engine works on afterwards, from scratch."""
        with self._lock:
            self._cache.clear()
            self._latest = None

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return _first_tensor(self.model).device

    @property
    def passes(self) -> Passes:
        """Passes of the model run so far."""
        return self._passes

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

    def predict(self, image: object) -> Tensor:
        """The model's scores for one picture, without the batch dimension: (num_classes,) logits on the CPU."""
        with self._lock:
            _, trace = self._trace(image)
            return trace.output[0].detach().float().cpu().clone()

    def layers(self, image: object) -> tuple[Layer, ...]:
        """Every module call whose output is a feature map, in the order in which they ran."""
        with self._lock:
            return self._trace(image)[1].layers

    def default_layer(self, image: object, target: object = None) -> Layer:
        """The layer that ``layer=None`` stands for, with the reason in its ``why``."""
        wanted = self._early_target(target)
        with self._lock, _gradients_on():
            key, trace = self._trace(image)
            return self._default(key, trace, self._target(wanted, trace))[1]

    def explain(
        self, image: object, target: object = None, layer: object = None, *, method: str = "GradCAM"
    ) -> Explanation:
        """Where and through which channels one layer speaks for one target.

        Args:
            image: see the class.
            target: None for the predicted class; an int; a class name; or a target, a function from the output
                for one picture to a scalar.
            layer: None for the last feature map with more than one cell that the target depends on; a name of
                `layers`; a module; or a `Layer`.
            method: a key of `gradcam_widget.methods.METHODS`.

        Raises:
            TypeError, ValueError: for an argument that cannot be used, with what to do instead; before the
            model runs where that can be told before.
        """
        row = find_method(method)
        wanted, place = self._early_target(target), self._early_layer(layer)
        with self._lock:
            key, trace = self._trace(image)
            what = self._target(wanted, trace)
            if place is None:
                with _gradients_on():
                    record, described = self._default(key, trace, what)
            else:
                record = self._record(place, trace)
                described = trace.layer(record)
            return self._explanation(key, trace, what, record, described, row)

    def explain_layers(
        self,
        image: object,
        target: object = None,
        layers: Iterable[object] | None = None,
        *,
        method: str = "GradCAM",
    ) -> dict[str, Explanation]:
        """One target at several layers, by name in the order given, from one backward pass.

        Args:
            image: as in `explain`.
            target: as in `explain`.
            layers: names, modules or `Layer` objects; None for every feature map that the target depends on.
            method: as in `explain`.
        """
        row = find_method(method)
        wanted = self._early_target(target)
        places = None if layers is None else [self._early_layer(layer) for layer in _several(layers, "layers")]
        with self._lock:
            key, trace = self._trace(image)
            what = self._target(wanted, trace)
            if places is None:
                known = self._backward(key, trace, what, trace.records)
                records = [record for record in trace.records if known.get(record.index) is not None]
            else:
                records = [self._record(place, trace) for place in places if place is not None]
                self._backward(key, trace, what, records)
            return {
                record.name: self._explanation(key, trace, what, record, trace.layer(record), row)
                for record in records
            }

    def explain_targets(
        self, image: object, targets: Iterable[object], layer: object = None, *, method: str = "GradCAM"
    ) -> list[Explanation]:
        """One layer for several targets, in their order; the forward pass is shared.

        Args:
            image: as in `explain`.
            targets: each as in `explain`.
            layer: as in `explain`; None is chosen once, for the first target.
            method: as in `explain`.
        """
        wanted = _several(targets, "targets")
        for target in wanted:
            self._early_target(target)
        explanations: list[Explanation] = []
        for target in wanted:
            place = layer if layer is not None or not explanations else explanations[0].layer
            explanations.append(self.explain(image, target, place, method=method))
        return explanations

    def explain_batch(
        self,
        images: Iterable[object],
        targets: Sequence[object] | None = None,
        layer: object = None,
        *,
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
        pictures = list(images.unbind()) if isinstance(images, Tensor) else _several(images, "images")
        if not pictures:
            raise ValueError("images: expected at least one picture; got none")
        wanted = [None] * len(pictures) if targets is None else _several(targets, "targets")
        if len(wanted) != len(pictures):
            raise ValueError(
                f"targets: expected one for each of the {len(pictures)} pictures; got {len(wanted)}. "
                "Repeat one target with targets=[target] * len(images)"
            )
        return [
            self.explain(picture, target, layer, method=method)
            for picture, target in zip(pictures, wanted, strict=True)
        ]

    def resolve_target(self, target: object) -> Target | None:
        """The target object that ``target=`` stands for, checked without running the model; None for None.

        Raises:
            TypeError: for a kind that is no target. ValueError: for an unknown class.
        """
        return self._early_target(target)

    # -- arguments ---------------------------------------------------------------------------------------------

    def _early_target(self, target: object) -> Target | None:
        if target is None:
            return None
        if isinstance(target, str):
            return self._class(class_index(target, self.class_names))
        index = _as_int(target)
        if index is not None:
            count = len(self.class_names) if self.class_names else None
            _check_class(index, count)
            return self._class(index)
        if callable(target) and not isinstance(target, (nn.Module, type)):
            return target
        raise TypeError(
            "target: expected None (the predicted class), an int, a class name, or a function from the model's "
            f"output to a scalar; got {type(target).__name__}"
        )

    def _class(self, index: int) -> ClassLogit:
        return ClassLogit(index, self.class_names[index] if self.class_names else None)

    def _target(self, target: Target | None, trace: Trace) -> Target:
        """The target once the output is known."""
        output = trace.output[0]
        if target is None or isinstance(target, ClassLogit):
            if output.ndim != 1:
                raise ValueError(
                    f"target: the model's output for one picture is {tuple(output.shape)}, not (num_classes,); "
                    "give a target of your own: a function from that output to a scalar"
                )
            if target is None:
                best = int(output.argmax())
                return (
                    self._class(best) if not self.class_names or best < len(self.class_names) else ClassLogit(best)
                )
            _check_class(target.index, output.shape[0])
        return target

    def _early_layer(self, layer: object) -> str | nn.Module | None:
        """What can be checked of ``layer=`` before the model runs: a module's name, or a module of the model."""
        if layer is None:
            return None
        if isinstance(layer, Layer):
            layer = layer.name
        if isinstance(layer, str) and self._latest is not None:
            trace: Trace | None = self._cache.get(self._latest.number)
            if trace is not None and layer in trace.by_name:
                return layer
        if isinstance(layer, nn.Module):
            if not any(layer is module for module in self.model.modules()):
                raise ValueError(
                    f"layer: this {type(layer).__name__} is not a module of the model; take one from "
                    "model.named_modules() of the very model that is explained"
                )
            return layer
        if not isinstance(layer, str):
            raise TypeError(
                f"layer: expected None, a module's name, a module or a Layer; got {type(layer).__name__}"
            )
        path, _, call = layer.partition(":")
        modules = dict(self.model.named_modules(remove_duplicate=False))
        if path not in modules or (call and not call.isdigit()):
            names = [name for name in modules if name]
            raise ValueError(f"layer: the model has no module {layer!r}; {nearest_names(path, names)}")
        return layer

    def _record(self, place: str | nn.Module | None, trace: Trace) -> Record:
        if isinstance(place, str) and place in trace.by_name:
            return trace.by_name[place]
        if isinstance(place, str):
            path, _, call = place.partition(":")
            module = dict(self.model.named_modules(remove_duplicate=False))[path]
            calls = [record for record in trace.records if record.module is module]
            for record in calls:
                if record.call == int(call or 1):
                    return record
            if calls:
                raise ValueError(
                    f"layer: {path!r} gave a feature map in {len(calls)} call(s) for this picture; got {place!r}. "
                    f"Use one of {', '.join(repr(record.name) for record in calls[:4])}"
                )
            name = place
        else:
            for record in trace.records:
                if record.module is place:
                    return record
            name = next(name for name, module in self.model.named_modules() if module is place)
        if not trace.records:
            raise ValueError(_NO_MAPS)
        offered = [record.name for record in trace.records]
        raise ValueError(
            f"layer: {name or 'the model itself'!r} gave no feature map for this picture: it did not run, or its "
            "output is no (1, K, h, w) tensor with a gradient. cam.layers(image) lists what there is; "
            f"{nearest_names(name, offered)}"
        )

    # -- passes ------------------------------------------------------------------------------------------------

    def _trace(self, image: object) -> tuple[int, Trace]:
        """The kept or new trace of a picture, and its number."""
        if self._latest is not None and self._latest.is_of(image):
            number = self._latest.number
            trace: Trace | None = self._cache.get(number)
            if trace is not None and trace.state.holds():
                return number, trace
        inputs = as_inputs(image, self.transform, self._spatial)
        for key in reversed(self._cache.keys()):
            if isinstance(key, int) and self._is_current(self._cache.get(key), inputs):
                trace = self._cache.get(key)
                self._latest = _Latest(image, key)
                return key, trace
        first = _first_tensor(self.model)
        for tensor in inputs:
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                raise ValueError(
                    "image: it contains NaN or infinite values, for which no map can be computed; "
                    "check the transform and the file"
                )
        placed = tuple(_place(tensor, first) for tensor in inputs)
        for key in self._cache.keys():  # noqa: SIM118 # a copy, since values are dropped
            if isinstance(key, int) and not self._cache.get(key).state.holds():
                self._cache.drop(key)
        trace = self._run(placed)
        number = next(self._numbers)
        self._cache.put(number, trace, trace.bytes())
        self._latest = _Latest(image, number)
        return number, trace

    def _is_current(self, trace: Trace, inputs: tuple[object, ...]) -> bool:
        """Whether a trace is of these inputs, value for value, and the model has not changed since."""
        if len(inputs) != len(trace.inputs):
            return False
        for kept, given in zip(trace.inputs, inputs, strict=True):
            if not isinstance(given, Tensor):
                return False
            if given.ndim == kept.ndim - 1:
                given = given.unsqueeze(0)
            if given.shape != kept.shape:
                return False
            if not torch.equal(_place(given.detach(), kept), kept.detach()):
                return False
        return trace.state.holds()

    def _run(self, inputs: tuple[Tensor, ...]) -> Trace:
        try:
            trace = self._tracer(inputs)
        except torch.OutOfMemoryError:
            # What is kept for other pictures may be all that is in the way.
            self._cache.clear()
            self._latest = None
            trace = self._tracer(inputs)
        self._passes = replace(self._passes, forward=self._passes.forward + 1)
        return trace

    def _backward(
        self, key: int, trace: Trace, target: Target, records: Sequence[Record]
    ) -> Mapping[int, Tensor | None]:
        """Gradients of the target by record index, at least for these records; None where there is no path.

        The pass starts at the nearest gradient already known that cuts the records off from the output, and
        keeps the gradient of every feature map on its way.
        """
        place = (key, target)
        known: dict[int, Tensor | None] = self._cache.get(place) or {}
        missing = [record for record in records if record.index not in known]
        if not missing:
            return known
        start = None
        if known:
            start = self._common_start(trace, missing, known)
        lowest = min(record.index for record in missing)
        wanted = [
            record
            for record in trace.records[lowest : start.index if start else None]
            if record.index not in known
        ]
        with _gradients_on():
            if start is None:
                root, seed = self._scalar(target, trace), None
            else:
                root, seed = start.output, known[start.index]
            gradients = torch.autograd.grad(
                root, [record.output for record in wanted], seed, retain_graph=True, allow_unused=True
            )
        self._passes = replace(self._passes, backward=self._passes.backward + 1)
        known = {**known, **{record.index: g for record, g in zip(wanted, gradients, strict=True)}}
        storages = {
            g.untyped_storage().data_ptr(): g.untyped_storage().nbytes() for g in known.values() if g is not None
        }
        self._cache.put(place, known, sum(storages.values()), parent=key)
        return known

    def _common_start(
        self, trace: Trace, missing: Sequence[Record], known: Mapping[int, Tensor | None]
    ) -> Record | None:
        """The nearest known record that cuts all the missing ones off from the output, or None."""
        starts = {
            trace.resume_point(record, lambda other: known.get(other.index) is not None) for record in missing
        }
        return starts.pop() if len(starts) == 1 else None

    def _scalar(self, target: Target, trace: Trace) -> Tensor:
        value = target(trace.output[0])
        if not isinstance(value, Tensor) or value.numel() != 1:
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(
                f"target: {name_target(target)} must return a tensor with one value for an output of shape "
                f"{tuple(trace.output.shape[1:])}; got {got}"
            )
        if not value.requires_grad:
            raise ValueError(
                f"target: {name_target(target)} returned a value without a gradient; compute it from the output "
                "with torch operations, without detach() or item()"
            )
        return value.reshape(())

    # -- maps --------------------------------------------------------------------------------------------------

    def _default(self, key: int, trace: Trace, target: Target) -> tuple[Record, Layer]:
        """The last feature map with more than one cell whose gradient is not zero everywhere."""
        if not trace.records:
            raise ValueError(_NO_MAPS)
        skipped = 0
        for record in reversed(trace.records):
            cells = record.maps()[0].numel()
            if cells < 2:
                continue
            gradient = self._backward(key, trace, target, [record])[record.index]
            if gradient is not None and bool(gradient.any()):
                grid = " × ".join(map(str, record.shape[1:]))
                why = f"the last feature map with more than one cell ({grid})"
                if skipped:
                    why += f" whose gradient is not zero everywhere ({skipped} later one(s) have none)"
                return record, trace.layer(record, why)
            skipped += 1
        raise ValueError(
            "layer: no feature map with more than one cell has a gradient for this target; "
            "name a layer of cam.layers(image), or explain another target"
        )

    def _explanation(
        self, key: int, trace: Trace, target: Target, record: Record, layer: Layer, method: Method
    ) -> Explanation:
        place = (key, target, record.index, method.name)
        kept: _Map | None = self._cache.get(place)
        if kept is None:
            kept = self._map(key, trace, target, record, method)
            self._cache.put(place, kept, kept.bytes(), parent=key)
        return Explanation(
            layer=layer,
            target=target,
            method=method.name,
            score=kept.score,
            probability=kept.probability,
            alpha=kept.alpha.clone(),
            mean_activations=kept.mean_activations.clone(),
            signed_cam=kept.signed_cam.clone(),
            picture=trace.picture,
            diagnosis=kept.diagnosis,
            _maps=record.maps(),
        )

    def _map(self, key: int, trace: Trace, target: Target, record: Record, method: Method) -> _Map:
        gradient = self._backward(key, trace, target, [record])[record.index]
        if gradient is None:
            raise ValueError(
                f"layer: {record.name!r} has no influence on the target {name_target(target)}: no path leads from "
                "it to that output. Choose another layer of cam.layers(image)"
            )
        with torch.no_grad():
            activations, gradients = _exact(record.maps()), _exact(record.maps(gradient))
            alpha, signed = method.function(activations, gradients)
            mean = activations.flatten(1).mean(1)
            output = trace.output[0].detach()
            probability = None
            if isinstance(target, ClassLogit):
                score = float(output[target.index])
                probability = float(probabilities(output)[target.index])
            else:
                score = float(target(output))
            return _Map(
                alpha=alpha.cpu(),
                mean_activations=mean.cpu(),
                signed_cam=signed.cpu(),
                score=score,
                probability=probability,
                diagnosis=_diagnose(signed, gradients, name_target(target)),
            )


_NO_MAPS = (
    "model: no module's output is a feature map with a gradient, (1, K, h, w) or tokens that form a grid, for "
    "this picture; Grad-CAM needs at least one, such as the output of a convolution"
)


def _diagnose(signed: Tensor, gradients: Tensor, target: str) -> str | None:
    """One sentence where a map needs one, else None."""
    if not bool(torch.isfinite(signed).all()):
        return "The map has NaN or infinite values: the activations or gradients overflow at this layer."
    if not bool(gradients.any()):
        return (
            f"The gradient of {target} is zero everywhere at this layer: nothing here changes the score. "
            "Choose another layer."
        )
    highest, lowest = float(signed.max()), float(signed.min())
    if highest <= 0:
        return (
            f"No positive evidence for {target} at this layer: the map is negative or zero everywhere. "
            "Its signed form shows what speaks against, a later layer what speaks for it."
        )
    if signed.numel() == 1:
        return "This layer has a single cell, so its map cannot show places; choose an earlier layer."
    if highest == lowest:
        return "The map has the same value everywhere, so it points to no place."
    return None


def _exact(tensor: Tensor) -> Tensor:
    """In float32 at least: half precision is for the model, not for sums over its maps."""
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()


class _gradients_on:  # noqa: N801 # used as a statement, like torch.enable_grad
    """Gradients are recorded inside, also under the caller's no_grad or inference_mode."""

    def __enter__(self) -> None:
        self._inference = torch.inference_mode(False)
        self._inference.__enter__()
        self._grad = torch.enable_grad()
        self._grad.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._grad.__exit__(*error)
        self._inference.__exit__(*error)


def _place(tensor: Tensor, like: Tensor) -> Tensor:
    """A tensor on the device of another, and of its dtype if both are floating point."""
    if tensor.device == like.device and tensor.dtype == like.dtype:
        return tensor
    if tensor.is_floating_point() and like.is_floating_point():
        return tensor.to(like.device, like.dtype)
    return tensor.to(like.device)


def _first_tensor(model: nn.Module) -> Tensor:
    """A floating-point parameter or buffer that tells the model's device and dtype."""
    for tensor in itertools.chain(model.parameters(), model.buffers()):
        if tensor.is_floating_point():
            return tensor
    return torch.zeros(())


def _unwrap(model: nn.Module) -> nn.Module:
    """The user's own module inside torch.compile's, DataParallel's and DistributedDataParallel's wrappers."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if inner is None and isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            inner = model.module
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def _check_model(model: object) -> None:
    if isinstance(model, type):
        raise TypeError(f"model: expected a torch.nn.Module; got the class {model.__name__}, so call it first")
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module; got {type(model).__name__}")
    if isinstance(model, torch.jit.ScriptModule):
        raise TypeError(
            "model: a ScriptModule does not let feature maps be kept for their gradients; "
            "give the nn.Module that it was scripted or traced from"
        )


def _check_class_names(names: Sequence[str] | None, model: nn.Module) -> tuple[str, ...] | None:
    if names is None:
        names = getattr(model, "class_names", None) or getattr(_unwrap(model), "class_names", None)
    if names is None:
        return None
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise TypeError(f"class_names: expected a list of names; got {type(names).__name__}")
    if not names:
        raise ValueError("class_names: expected at least one name; got an empty list. Leave it out for numbers")
    wrong = next((name for name in names if not isinstance(name, str)), None)
    if wrong is not None:
        raise TypeError(f"class_names: expected strings; got {wrong!r} among them")
    return tuple(names)


def _find_device(device: str | torch.device) -> torch.device:
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device: expected 'auto', 'cpu', 'cuda' or 'mps'; got {device!r}") from error
    there = {
        "cuda": torch.cuda.is_available() and (found.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not there.get(found.type, True):
        raise ValueError(
            f"device: {str(found)!r} is not there on this machine; use device='auto' for a GPU where there is "
            "one, or leave device out"
        )
    return found


def _as_int(value: object) -> int | None:
    """An int from an int, a numpy integer or a 0-d integer tensor; None for anything else, bool included."""
    if isinstance(value, bool):
        return None
    if isinstance(value, Tensor):
        return int(value) if value.ndim == 0 and not value.is_floating_point() else None
    try:
        return value.__index__()  # type: ignore[attr-defined, no-any-return] # whatever has it
    except (AttributeError, TypeError):
        return None


def _check_class(index: int, count: int | None) -> None:
    if index < 0 or (count is not None and index >= count):
        top = f"0 to {count - 1}" if count is not None else "0 or more"
        raise ValueError(f"target: expected a class from {top}; got {index}")


def _several(values: Iterable[object], what: str) -> list[object]:
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise TypeError(f"{what}: expected a list; got {type(values).__name__}. Put a single one into a list")
    return list(values)
