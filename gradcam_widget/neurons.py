"""What the channels of a layer look for: the places that excite each one most, and the concept that fits best."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gradcam_widget.cache import parse_bytes
from gradcam_widget.channel_names import Channel, ChannelNames, Concept, as_png
from gradcam_widget.dissection import Masks, Overlap, by_labels, check_aspect, check_masks
from gradcam_widget.engine import GradCAM
from gradcam_widget.perturbation import Progress
from gradcam_widget.strongest import Strongest
from gradcam_widget.survey import Count, Survey

__all__ = ["THRESHOLD", "fingerprint", "name_channels"]

THRESHOLD = 0.04
"""The IoU above which a channel is called by a concept: Network Dissection, section 2.2."""


def name_channels(
    model_or_cam: nn.Module | GradCAM,
    images: Iterable[object] | Mapping[str, object],
    layer: object = None,
    *,
    masks: Sequence[Masks | None]
    | Mapping[str, Masks | None]
    | Callable[[NDArray[np.uint8]], Masks]
    | None = None,
    labels: Sequence[str | None] | Mapping[str, str | None] | None = None,
    threshold: float = THRESHOLD,
    label_threshold: float = 0.5,
    top: int = 9,
    per_picture: int = 1,
    around: int = 1,
    quantile: float = 0.005,
    memory_budget: int | str = "1GB",
    progress: Progress | None = None,
) -> ChannelNames:
    """For each channel of a layer the places in some pictures that excite it most, and the concept that fits it.

    A channel is called by a concept only where that is measured. With ``masks`` the measure is the IoU of Network
    Dissection: T_k is the value that the channel exceeds at a share ``quantile`` of all cells of all pictures; its
    maps, enlarged linearly to the size of the masks, reach T_k in a region M_k; over all pictures together
    IoU = |M_k and concept| / |M_k or concept|. The concept with the largest IoU is the name if that is above
    ``threshold``.

    With ``labels``, which tell of a picture as a whole, the measure is the average precision with which the
    channel's largest activation in a picture finds the pictures of the label. It is not the IoU with masks that
    cover whole pictures: M_k covers about a share ``quantile`` of the pixels, so that this could not exceed
    quantile / (share of pictures with the label), however well the channel knows them. A label names a channel if
    no mask does, and its precision is above ``label_threshold``; it must be that of two pictures at least.

    Args:
        model_or_cam: the network, or its `GradCAM`. It is left as it is.
        images: pictures as in `GradCAM.explain`, or a dict name -> picture. They are looked at more than once;
            a sequence that reads them from a disk is not held in memory.
        layer: as in `GradCAM.explain`; of maps (K, h, w).
        masks: for each picture, in their order, a dict concept -> bool (H, W), or None for one whose concepts are
            not known, which is then left out of every IoU; or a dict of these by the pictures' names. A concept
            that a picture's dict lacks is nowhere in it.
            Masks lie over what the model saw (`GradCAM.picture`) and may have any resolution of its aspect, one
            per picture. A function makes them of that picture instead, uint8 (H, W, 3).
        labels: for each picture what it shows, in a list or a dict by the pictures' names; None, or no entry in a
            dict, where that is not known, and these are left out.
        threshold: IoU above which a concept is a name.
        label_threshold: average precision above which a label is a name.
        top: how many places are kept for each channel.
        per_picture: how many of them may be of one picture.
        around: where the receptive field is not known, or larger than the picture, a patch is the region of its
            cell with so many cells around it, and the result is marked ``approximate``.
        quantile: share of the cells that exceed T_k.
        memory_budget: for the activations. Within it they are kept between the two looks that masks need; above
            it the model runs twice. T_k is exact as long as the largest values, a share ``quantile`` of all, fit
            into half of it; else it is found on every n-th picture, and the result says on how many.
        progress: called with (done, in all), counted in pictures; returning False cancels with
            `gradcam_widget.perturbation.Cancelled`.

    Raises:
        TypeError, ValueError: for an argument that cannot be used, with what to do instead.

    Places of equal strength are in the order of the pictures. Where activations saturate, as those of a ReLU6,
    many are equal: what a channel prefers is seen better at the layer before.

    Source: Bau, Zhou, Khosla, Oliva and Torralba, "Network Dissection: Quantifying Interpretability of Deep Visual
    Representations", CVPR 2017 (arXiv 1704.05796), section 2.2. Departures: maps are enlarged as everywhere here
    (align_corners=False) and not from the centres of the receptive fields; where T_k is the channel's smallest
    value, such as the zeros of a ReLU, M_k is where the map exceeds it, so that they do not all count.
    """
    names, pictures = _named(images)
    _check_numbers(threshold, label_threshold, top, per_picture, around, quantile)
    masks, labels = _checked_masks(masks, names), _checked_labels(labels, names)
    budget = parse_bytes(memory_budget)
    cam = model_or_cam if isinstance(model_or_cam, GradCAM) else GradCAM(model_or_cam)
    if masks is not None and not callable(masks):
        first = next((number for number, of_one in enumerate(masks) if of_one), None)
        if first is not None:  # the others when they are looked at: what is wrong is wrong with all, as a rule
            check_aspect(masks[first] or {}, names[first], cam.prepare(pictures[first]).shape[-2:])
    try:
        survey = Survey(cam, pictures, layer, budget, Count(progress, len(pictures), twice=masks is not None))
        found = Strongest(
            len(pictures),
            top=top,
            per_picture=per_picture,
            quantile=quantile if masks is not None else None,
            budget=budget,
            of_pictures=labels is not None,
        )
        survey.read(found.take)
        if not found.count:
            raise ValueError("images: no picture gave activations")
        thresholds: Tensor | None = None
        fits: list[_Fit] = [(None, False)] * len(found.highest)
        if labels is not None:
            fits = _fits(by_labels(found.of_pictures(), labels), label_threshold)
        if masks is not None:
            thresholds = found.thresholds(quantile)
            overlap = Overlap(masks, names, survey.picture, thresholds, found.lowest, found.highest)
            survey.read(overlap.take)
            fits = list(map(_better, _fits(overlap.concepts(), threshold), fits))
        channels = _channels(found, around, fits, thresholds)
        seen = sorted({place.picture for channel in channels for place in channel.places})
        return ChannelNames(
            layer=found.layer.name,
            shape=found.layer.shape,
            channels=channels,
            pictures=names,
            approximate=found.is_approximate(),
            quantile=quantile,
            threshold=threshold,
            label_threshold=label_threshold,
            read_for_threshold=found.read_for_threshold,
            model=fingerprint(cam.model),
            files={number: as_png(survey.picture(number)) for number in seen},
        )
    finally:
        if cam is not model_or_cam:
            cam.close()


_Fit = tuple[Concept | None, bool]
"""The concept that fits a channel best, and whether it fits so well that it is its name."""


def _channels(
    found: Strongest, around: int, fits: Sequence[_Fit], thresholds: Tensor | None
) -> tuple[Channel, ...]:
    limits = [None] * len(fits) if thresholds is None else thresholds.tolist()
    places = found.places(around, found.is_approximate())
    return tuple(
        Channel(number=k, places=those, concept=concept, named=named, threshold=limit)
        for k, (those, (concept, named), limit) in enumerate(zip(places, fits, limits, strict=True))
    )


def _fits(concepts: Sequence[Concept | None], threshold: float) -> list[_Fit]:
    return [(concept, concept is not None and concept.score > threshold) for concept in concepts]


def _better(of_masks: _Fit, of_labels: _Fit) -> _Fit:
    """What masks tell, unless that is no name and what labels tell is one."""
    concept, is_name = of_masks
    return of_masks if concept is not None and (is_name or not of_labels[1]) else of_labels


def fingerprint(model: nn.Module) -> str:
    """Letters that tell a model with its weights from another: of names, shapes and some values of each tensor."""
    digest = hashlib.sha256()
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        if tensor.is_floating_point():
            flat = tensor.detach().reshape(-1)
            few = flat[:: max(1, flat.numel() // 64)]
            digest.update(few.to("cpu", torch.float32).numpy().tobytes())
    return digest.hexdigest()[:16]


# -- what may be said ------------------------------------------------------------------------------------------


def _named(images: object) -> tuple[tuple[str, ...], Sequence[object]]:
    """Names and pictures; a sequence that reads its pictures on demand stays one."""
    if isinstance(images, Mapping):
        wrong = next((name for name in images if not isinstance(name, str)), None)
        if wrong is not None:
            raise TypeError(f"images: expected names as strings; got {wrong!r} among them")
        names, pictures = tuple(images), list(images.values())
    elif isinstance(images, Tensor):
        raise TypeError(
            "images: expected several pictures; got one tensor. Use list(images) for a batch (N, C, H, W)"
        )
    elif _is_single(images) or not (isinstance(images, Iterable) or hasattr(images, "__getitem__")):
        raise TypeError(
            f"images: expected a list of pictures, or a dict name -> picture; got {type(images).__name__}"
        )
    else:
        lazy: Any = images
        pictures = lazy if hasattr(images, "__getitem__") and hasattr(images, "__len__") else list(lazy)
        names = tuple(f"picture {number}" for number in range(len(pictures)))
    if not len(pictures):
        raise ValueError("images: expected at least one picture; got none")
    return names, pictures


def _is_single(values: object) -> bool:
    """Whether it is one value, though it may look like several: text, or an array without axes."""
    return isinstance(values, (str, bytes)) or getattr(values, "ndim", 1) == 0


def _one_each(values: Any, names: Sequence[str], what: str) -> list[Any]:
    """What is given for each picture, in their order, by a list or by a dict; None where a dict has nothing."""
    expected = f"{what}: expected a list with one entry for each picture, or a dict by the pictures' names"
    if isinstance(values, Mapping):
        given = {str(name): value for name, value in values.items()}
        unknown = [name for name in given if name not in names]
        if unknown:
            raise TypeError(f"{expected}; there is no picture named {unknown[0]!r}")
        return [given.get(name) for name in names]
    if _is_single(values) or not isinstance(values, Iterable):
        raise TypeError(f"{expected}; got {type(values).__name__}")
    listed = list(values)
    if len(listed) != len(names):
        raise ValueError(
            f"{what}: expected one entry for each of the {len(names)} pictures; got {len(listed)}. "
            "Give None for a picture without"
        )
    return listed


def _checked_masks(
    masks: object, names: Sequence[str]
) -> Sequence[Masks | None] | Callable[[NDArray[np.uint8]], Masks] | None:
    if masks is None or callable(masks):
        return masks  # what a function makes is checked when it has been made
    listed = _one_each(masks, names, "masks")
    for of_one, name in zip(listed, names, strict=True):
        check_masks(of_one, name)
    return listed


def _checked_labels(labels: object, names: Sequence[str]) -> list[str | None] | None:
    if labels is None:
        return None
    listed = _one_each(labels, names, "labels")
    wrong = next((label for label in listed if label is not None and not isinstance(label, str)), None)
    if wrong is not None:
        raise TypeError(f"labels: expected names or None; got {wrong!r}, a {type(wrong).__name__}")
    return listed


def _check_numbers(
    threshold: object, label_threshold: object, top: object, per_picture: object, around: object, quantile: object
) -> None:
    for name, value in {"threshold": threshold, "label_threshold": label_threshold}.items():
        if not isinstance(value, Real) or isinstance(value, bool) or not 0 <= float(value) < 1:
            raise ValueError(f"{name}: expected a number from 0 up to below 1; got {value!r}")
    for name, value, least in (("top", top, 1), ("per_picture", per_picture, 1), ("around", around, 0)):
        if not isinstance(value, Integral) or isinstance(value, bool) or int(value) < least:
            raise ValueError(f"{name}: expected an int, {least} or more; got {value!r}")
    if not isinstance(quantile, Real) or isinstance(quantile, bool) or not 0 < float(quantile) < 1:
        raise ValueError(
            f"quantile: expected a number between 0 and 1, the share of the cells above a channel's threshold; "
            f"got {quantile!r}"
        )
