"""What the channels of a layer look for: the places that excite each one most, and the concept that fits best."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gradcam_widget.cache import parse_bytes
from gradcam_widget.channel_names import Channel, ChannelNames, Concept, Place, as_png
from gradcam_widget.engine import GradCAM
from gradcam_widget.layers import Layer
from gradcam_widget.perturbation import Progress, report
from gradcam_widget.reading import Reading

__all__ = ["THRESHOLD", "fingerprint", "name_channels"]

THRESHOLD = 0.04
"""The IoU above which a channel is called by a concept: Network Dissection, section 2.2."""

Masks = Mapping[str, NDArray[np.bool_]]
"""What is where in one picture: concept -> bool (H, W)."""


def name_channels(
    model_or_cam: nn.Module | GradCAM,
    images: Iterable[object] | Mapping[str, object],
    layer: object = None,
    *,
    masks: Sequence[Masks | None] | Callable[[NDArray[np.uint8]], Masks] | None = None,
    labels: Sequence[str | None] | None = None,
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
            not known, which is then left out of every IoU. A concept that a dict lacks is nowhere in that picture.
            Masks lie over what the model saw (`GradCAM.picture`) and may have any resolution, one per picture. A
            function makes them of that picture instead, uint8 (H, W, 3).
        labels: for each picture what it shows, or None where that is not known; these are left out.
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
    cam = model_or_cam if isinstance(model_or_cam, GradCAM) else GradCAM(model_or_cam)
    names, pictures = _named(images)
    _check_numbers(threshold, label_threshold, top, per_picture, around, quantile)
    if masks is not None and not callable(masks):
        masks = _one_each(masks, len(names), "masks")
        for number, given in enumerate(masks):
            _check_masks(given, names[number])
    if labels is not None:
        labels = _one_each(labels, len(names), "labels")
        wrong = next((label for label in labels if label is not None and not isinstance(label, str)), None)
        if wrong is not None:
            raise TypeError(f"labels: expected names or None; got {wrong!r}, a {type(wrong).__name__}")
    budget = parse_bytes(memory_budget)
    try:
        look = _Look(cam, pictures, layer, budget, _Progress(progress, len(pictures), masks is not None))
        found = _Strongest(look, top, per_picture, quantile if masks is not None else None, labels is not None)
        look.read(found.take)
        if not found.count:
            raise ValueError("images: no picture gave activations")
        thresholds = found.thresholds(quantile) if masks is not None else None
        concepts: list[Concept | None] = [None] * len(found.highest)
        named = [False] * len(concepts)
        if labels is not None:
            for k, concept in enumerate(_by_labels(found.of_pictures(), labels)):
                concepts[k], named[k] = concept, concept is not None and concept.score > label_threshold
        if masks is not None and thresholds is not None:
            overlap = _Overlap(look, names, masks, thresholds, found.lowest, found.highest)
            look.read(overlap.take)
            for k, concept in enumerate(overlap.concepts()):
                if concept is not None and (concept.score > threshold or not named[k]):
                    concepts[k], named[k] = concept, concept.score > threshold
        layer_read, approximate = found.layer, found.is_approximate()
        channels = tuple(
            Channel(
                number=k,
                places=places,
                concept=concepts[k],
                named=named[k],
                threshold=None if thresholds is None else float(thresholds[k]),
            )
            for k, places in enumerate(found.places(around, approximate))
        )
        seen = sorted({place.picture for channel in channels for place in channel.places})
        return ChannelNames(
            layer=layer_read.name,
            shape=layer_read.shape,
            channels=channels,
            pictures=names,
            approximate=approximate,
            quantile=quantile,
            threshold=threshold,
            label_threshold=label_threshold,
            read_for_threshold=found.read_for_threshold,
            model=fingerprint(cam.model),
            files={number: as_png(look.picture(number)) for number in seen},
        )
    finally:
        if cam is not model_or_cam:
            cam.close()


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
    elif isinstance(images, str) or not (isinstance(images, Iterable) or hasattr(images, "__getitem__")):
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


def _one_each(values: Any, count: int, what: str) -> list[Any]:
    if isinstance(values, (str, Mapping)) or not isinstance(values, Iterable):
        raise TypeError(f"{what}: expected a list with one entry for each picture; got {type(values).__name__}")
    listed = list(values)
    if len(listed) != count:
        raise ValueError(
            f"{what}: expected one entry for each of the {count} pictures; got {len(listed)}. "
            "Give None for a picture without"
        )
    return listed


def _check_masks(masks: object, picture: str) -> None:
    if masks is None:
        return
    if not isinstance(masks, Mapping):
        raise TypeError(
            f"masks: expected a dict concept -> bool (H, W), or None, for {picture!r}; got {type(masks).__name__}"
        )
    shapes = set()
    for concept, mask in masks.items():
        array = np.asarray(mask)
        if not isinstance(concept, str):
            raise TypeError(f"masks: expected the names of concepts as strings; got {concept!r} for {picture!r}")
        if array.dtype != np.bool_ or array.ndim != 2 or not array.size:
            raise ValueError(
                f"masks: expected bool (H, W) for {concept!r} in {picture!r}; got {array.dtype} {array.shape}. "
                "A mask of numbers becomes one by mask > 0"
            )
        shapes.add(array.shape)
    if len(shapes) > 1:
        raise ValueError(f"masks: expected all of {picture!r} to have one size; got {sorted(shapes)}")


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


class _Progress:
    """One count over two looks at the pictures."""

    def __init__(self, progress: Progress | None, pictures: int, twice: bool) -> None:
        if progress is not None and not callable(progress):
            raise TypeError(f"progress: expected a function (done, in all); got {type(progress).__name__}")
        self._progress, self._pictures = progress, pictures
        self.total = pictures * (2 if twice else 1)
        self.looks = 0

    def __call__(self, done: int, _: int) -> None:
        """Tell how many pictures of this look are done; raise Cancelled where the answer is False."""
        report(self._progress, self.looks * self._pictures + done, self.total)


# -- looking at all pictures -----------------------------------------------------------------------------------


class _Look:
    """All pictures with their activations, more than once: kept where they fit the budget, else computed again."""

    def __init__(
        self, cam: GradCAM, pictures: Sequence[object], layer: object, budget: int, progress: _Progress
    ) -> None:
        self.budget = budget
        self.pictures = pictures
        self._cam, self._layer, self._progress = cam, layer, progress
        self._kept: list[Reading] | None = []
        self._bytes = 0

    def picture(self, number: int) -> NDArray[np.uint8]:
        """uint8 (H, W, 3) what the model saw of a picture."""
        at_hand = (
            reading.input[number - reading.first]
            for reading in self._kept or ()
            if reading.first <= number < reading.first + len(reading.maps)
        )
        image = next(at_hand, None)
        seen: NDArray[np.uint8] = self._cam.picture(self.pictures[number] if image is None else image)
        return seen

    def read(self, take: Callable[[Reading], None]) -> None:
        """Hand all readings to a function, in order."""
        again = self._progress.looks > 0
        for reading in self._kept if again and self._kept is not None else self._readings():
            take(reading)
            if again and self._kept is not None:
                self._progress(reading.first + len(reading.maps), 0)
        self._progress.looks += 1

    def _readings(self) -> Iterator[Reading]:
        for reading in self._cam.read(self.pictures, self._layer, progress=self._progress):
            if len(reading.layer.shape) != 3:
                raise ValueError(
                    f"layer: expected maps (K, h, w), which have places in a picture; {reading.layer.name!r} has "
                    f"the shape {reading.layer.shape}"
                )
            if not bool(torch.isfinite(reading.maps).all()):
                raise ValueError(
                    f"images: the activations of {reading.layer.name!r} are NaN or infinite for one of the "
                    f"pictures {reading.first} to {reading.first + len(reading.maps) - 1}; check these, or use "
                    "float32"
                )
            self._layer = reading.layer  # the one that was chosen for the first picture, for all of them
            if self._kept is not None and self._progress.looks == 0:
                self._bytes += reading.maps.nbytes + reading.input.nbytes
                self._kept = None if self._bytes > self.budget // 2 else [*self._kept, reading]
            yield reading


class _Strongest:
    """The largest activations of each channel: its best places, and the values from which T_k is read."""

    def __init__(self, look: _Look, top: int, per_picture: int, quantile: float | None, of_pictures: bool) -> None:
        self.count = 0  # cells read
        self.read_for_threshold: int | None = None
        self.highest = self.lowest = torch.zeros(0)
        self._look, self._top, self._per_picture, self._quantile = look, top, per_picture, quantile
        self._values = torch.zeros(0, 0)
        self._where = torch.zeros(0, 0, dtype=torch.int64)  # picture and cell of each, in one number
        self._tail = torch.zeros(0, 0)
        self._room, self._every, self._cells = 0, 1, 0
        self._maxima: list[Tensor] | None = [] if of_pictures else None
        self._sizes: dict[int, tuple[Layer, tuple[int, ...]]] = {}  # of the pictures that follow, by the first one

    def take(self, reading: Reading) -> None:
        """Take the readings one after the other."""
        maps = reading.maps.flatten(2)  # (n, K, cells)
        n, channels, cells = maps.shape
        if not self.count:
            self.highest = torch.full((channels,), -math.inf, dtype=maps.dtype)
            self.lowest = torch.full((channels,), math.inf, dtype=maps.dtype)
            self._values, self._tail = (torch.zeros(channels, 0, dtype=maps.dtype) for _ in range(2))
            self._where = torch.zeros(channels, 0, dtype=torch.int64)
            self._begin(channels, cells, maps.element_size())
        elif channels != len(self.highest):
            raise ValueError(
                f"layer: expected {len(self.highest)} channels for every picture; got {channels} for picture "
                f"{reading.first}"
            )
        size = reading.layer, reading.picture
        if not self._sizes or next(reversed(self._sizes.values())) != size:
            self._sizes[reading.first] = size
        self.count += n * cells
        self.highest = torch.maximum(self.highest, maps.amax((0, 2)))
        self.lowest = torch.minimum(self.lowest, maps.amin((0, 2)))
        if self._maxima is not None:
            self._maxima.append(maps.amax(2))
        # Stable, so that of equal values the first picture's, and its first cell's, comes first.
        best, at = maps.sort(dim=2, descending=True, stable=True) if self._per_picture > 1 else _largest(maps)
        best, at = best[:, :, : self._per_picture], at[:, :, : self._per_picture]
        number = torch.arange(reading.first, reading.first + n)[:, None, None]
        where = number * _MOST_CELLS + at
        self._values = torch.cat([self._values, best.permute(1, 0, 2).flatten(1)], 1)
        self._where = torch.cat([self._where, where.permute(1, 0, 2).flatten(1)], 1)
        self._values, order = self._values.sort(dim=1, descending=True, stable=True)
        self._values, order = self._values[:, : self._top], order[:, : self._top]
        self._where = self._where.gather(1, order)
        if self._quantile is not None:
            self._take_tail(maps, reading.first)

    def _begin(self, channels: int, cells: int, size: int) -> None:
        """Decide how many pictures the thresholds are read from, so that the largest values fit the budget."""
        if self._quantile is None:
            return
        pictures = len(self._look.pictures)
        need = self._quantile * pictures * cells * channels * size
        self._every = max(1, math.ceil(need / max(1, self._look.budget // 2)))
        self._room = math.floor(self._quantile * math.ceil(pictures / self._every) * cells) + 1
        self.read_for_threshold = 0

    def _take_tail(self, maps: Tensor, first: int) -> None:
        """Keep the largest values of each channel: as many as may exceed its threshold, and one more."""
        wanted = [row for row in range(len(maps)) if (first + row) % self._every == 0]
        if not wanted:
            return
        self.read_for_threshold = (self.read_for_threshold or 0) + len(wanted)
        self._cells += len(wanted) * maps.shape[2]
        # Pictures of several sizes have other numbers of cells than the first one told.
        self._room = max(self._room, math.floor((self._quantile or 0.0) * self._cells) + 1)
        rows = maps[wanted].permute(1, 0, 2).flatten(1)
        both = torch.cat([self._tail, rows], 1)
        self._tail = both.topk(min(self._room, both.shape[1]), dim=1).values

    def thresholds(self, quantile: float) -> Tensor:
        """(K,) T_k: the smallest of the channel's values that no more than this share of its cells exceed."""
        above = math.floor(quantile * self._cells)
        if not above:
            raise ValueError(
                f"quantile: of {self._cells} cells none is the highest {quantile:g}; give more pictures, or a "
                f"larger quantile than {1 / self._cells:.2g}"
            )
        return self._tail[:, above]

    def of_pictures(self) -> NDArray[Any]:
        """(N, K) the largest activation of each channel in each picture."""
        found: NDArray[Any] = torch.cat(self._maxima or []).numpy()
        return found

    @property
    def layer(self) -> Layer:
        """As it is for the first picture."""
        return self._sizes[0][0]

    def is_approximate(self) -> bool:
        """Whether patches are the regions of cells, for there is a picture that the receptive field exceeds."""
        return any(_window(layer, (0, 0), picture) is None for layer, picture in self._sizes.values())

    def places(self, around: int, approximate: bool) -> Iterator[tuple[Place, ...]]:
        """For each channel its places, the strongest first; none where it is no stronger than at its weakest."""
        starts = np.array(list(self._sizes))
        values, where, lowest = self._values.tolist(), self._where.tolist(), self.lowest.tolist()
        for k in range(len(values)):
            places = []
            for value, at in zip(values[k], where[k], strict=True):
                if value <= lowest[k]:
                    break
                number, index = divmod(at, _MOST_CELLS)
                layer, picture = self._sizes[int(starts[np.searchsorted(starts, number, "right") - 1])]
                cell = divmod(index, layer.shape[2])
                box = None if approximate else _window(layer, cell, picture)
                places.append(Place(number, cell, value, box or _region(layer, cell, picture, around)))
            yield tuple(places)


_MOST_CELLS = 1 << 32


def _largest(maps: Tensor) -> tuple[Tensor, Tensor]:
    at = maps.argmax(2, keepdim=True)  # of equal ones the first
    return maps.gather(2, at), at


def _window(layer: Layer, cell: tuple[int, int], picture: tuple[int, ...]) -> tuple[int, int, int, int] | None:
    """(left, top, right, bottom) of what a cell sees; None where that is not known, or larger than the picture."""
    seen = layer.seen_by(cell)
    if seen is None or any(stop - start > size for (start, stop), size in zip(seen, picture, strict=True)):
        return None
    (top, bottom), (left, right) = seen
    return left, top, right, bottom


def _region(
    layer: Layer, cell: tuple[int, int], picture: tuple[int, ...], around: int
) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of a cell with its neighbours, in whole pixels; it may exceed the picture."""
    edges = [
        (math.floor((at - around) * size / cells), math.ceil((at + 1 + around) * size / cells))
        for at, cells, size in zip(cell, layer.shape[1:], picture, strict=True)
    ]
    (top, bottom), (left, right) = edges
    return left, top, right, bottom


# -- the concept that fits -------------------------------------------------------------------------------------


class _Overlap:
    """How many pixels each channel's region shares with each concept, over all pictures that have masks."""

    def __init__(
        self,
        look: _Look,
        names: Sequence[str],
        masks: Sequence[Masks | None] | Callable[[NDArray[np.uint8]], Masks],
        thresholds: Tensor,
        lowest: Tensor,
        highest: Tensor,
    ) -> None:
        self._look, self._names, self._masks = look, names, masks
        # What is between two equal values may differ from them by rounding.
        near = 16 * torch.finfo(thresholds.dtype).eps * torch.maximum(highest.abs(), lowest.abs())
        self._thresholds = thresholds + torch.where(thresholds > lowest, -near, near)
        self._concepts: dict[str, int] = {}
        self._shared = np.zeros((len(thresholds), 0))  # pixels: channel, concept
        self._own = np.zeros(len(thresholds))  # of each channel's regions
        self._there: list[float] = []  # of each concept
        self._seen: list[int] = []  # pictures with each concept

    def take(self, reading: Reading) -> None:
        """Take the readings one after the other."""
        for row, maps in enumerate(reading.maps):
            masks = self._masks_of(reading.first + row)
            if masks is not None:
                self._add(maps, masks, reading.picture)

    def _masks_of(self, number: int) -> Masks | None:
        if not callable(self._masks):
            return self._masks[number]
        made = self._masks(self._look.picture(number))
        _check_masks(made, self._names[number])
        return made

    def _add(self, maps: Tensor, masks: Masks, picture: tuple[int, ...]) -> None:
        for concept in masks:
            if concept not in self._concepts:
                self._concepts[concept] = len(self._concepts)
                self._there.append(0.0)
                self._seen.append(0)
        missing = len(self._concepts) - self._shared.shape[1]
        self._shared = np.pad(self._shared, ((0, 0), (0, missing)))
        planes = np.array([np.asarray(mask) for mask in masks.values()] or np.zeros((0, *picture), np.bool_))
        columns = [self._concepts[concept] for concept in masks]
        for column, pixels in zip(columns, planes.sum((1, 2)), strict=True):
            self._there[column] += float(pixels)
            self._seen[column] += bool(pixels)
        # What lies between values is never above all of them: only these channels can have a region here.
        active = torch.nonzero(maps.amax((1, 2)) > self._thresholds).flatten()
        flat = torch.from_numpy(
            np.ascontiguousarray(planes.reshape(len(planes), math.prod(planes.shape[1:])).T)
        ).float()
        rows, columns_of = (
            _linear(n, size).to(maps) for n, size in zip(maps.shape[1:], planes.shape[1:], strict=True)
        )
        step = max(1, _MOST_PIXELS // flat.shape[0])
        for start in range(0, len(active), step):
            some = active[start : start + step]
            enlarged = rows @ maps[some] @ columns_of.T
            region = (enlarged > self._thresholds[some][:, None, None]).flatten(1).float()
            self._own[some.numpy()] += region.sum(1, dtype=torch.float64).numpy()
            self._shared[np.ix_(some.numpy(), np.array(columns, np.int64))] += (region @ flat).double().numpy()

    def concepts(self) -> list[Concept | None]:
        """For each channel the concept with the largest IoU, of equal ones the first; None where all are 0."""
        names = list(self._concepts)
        if not names:
            return [None] * len(self._own)
        union = self._own[:, None] + np.array(self._there)[None] - self._shared
        iou = np.divide(self._shared, union, out=np.zeros_like(union), where=union > 0)
        best = iou.argmax(1)
        return [
            Concept(names[c], float(iou[k, c]), "IoU", self._seen[c]) if iou[k, c] > 0 else None
            for k, c in enumerate(best)
        ]


_MOST_PIXELS = 1 << 23


def _linear(cells: int, pixels: int) -> Tensor:
    """(pixels, cells) the weights of linear enlargement along one axis, align_corners=False."""
    at = ((torch.arange(pixels, dtype=torch.float64) + 0.5) * cells / pixels - 0.5).clamp(0, cells - 1)
    low = at.floor().long()
    high = (low + 1).clamp(max=cells - 1)
    weights = torch.zeros(pixels, cells, dtype=torch.float64)
    rows = torch.arange(pixels)
    weights[rows, low] += 1 - (at - low)
    weights[rows, high] += at - low
    return weights


def _by_labels(strongest: NDArray[Any], labels: Sequence[str | None]) -> list[Concept | None]:
    """For each channel the label with the largest average precision.

    Args:
        strongest: (N, K), each channel's largest activation in each picture.
        labels: of the pictures.
    """
    known = [number for number, label in enumerate(labels) if label is not None]
    counts = Counter(label for label in labels if label is not None)
    names = [label for label, count in counts.items() if 2 <= count < len(known)]
    if not names:
        return [None] * strongest.shape[1]
    is_of = np.array([[labels[number] == name for name in names] for number in known], dtype=np.float64)
    found: list[Concept | None] = []
    for scores in strongest[known].T:
        precision = _average_precision(scores, is_of)
        best = int(precision.argmax())
        found.append(Concept(names[best], float(precision[best]), "average precision", counts[names[best]]))
    return found


def _average_precision(scores: NDArray[Any], is_of: NDArray[np.float64]) -> NDArray[np.float64]:
    """(C,) the sum over the ranks of precision times the recall gained, pictures of equal score counted together.

    Args:
        scores: (N,).
        is_of: (N, C) 1.0 where a picture has the label.
    """
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    hits = is_of[order].cumsum(0)[ends]
    recall = hits / is_of.sum(0)
    gained = np.diff(recall, axis=0, prepend=0.0)
    precision: NDArray[np.float64] = (gained * hits / (ends + 1)[:, None]).sum(0)
    return precision
