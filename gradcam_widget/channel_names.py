"""Channels with their patches and names: what `gradcam_widget.name_channels` found, frozen, and a file of it."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Integral
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["Channel", "ChannelNames", "Concept", "Place", "as_png"]

_FORMAT = 1
_OUTSIDE = 128  # grey, in a patch that reaches beyond the picture
_DAMAGED = (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError, EOFError)
_MEASURES = ("IoU", "average precision")


@dataclass(frozen=True)
class Place:
    """A place that excites a channel.

    Attributes:
        picture: number of the picture.
        cell: (row, column) of the layer's map.
        value: the activation there.
        box: (left, top, right, bottom) of the patch in pixels of what the model saw, half open. It reaches beyond
            the picture where the receptive field does.
    """

    picture: int
    cell: tuple[int, int]
    value: float
    box: tuple[int, int, int, int]


@dataclass(frozen=True)
class Concept:
    """What fits a channel best.

    Attributes:
        name: of the concept.
        score: how well, from 0 to 1.
        measure: "IoU" with its masks, or "average precision" with which the channel finds its pictures.
        pictures: how many pictures have it.
    """

    name: str
    score: float
    measure: str
    pictures: int

    def __str__(self) -> str:
        return f"{self.name} ({self.measure} {self.score:.2f})"


@dataclass(frozen=True)
class Channel:
    """What one channel looks for.

    Attributes:
        number: of the channel.
        places: those that excite it most, the strongest first; () for a channel that is the same everywhere.
        concept: the one that fits best, whether it is a name or not; None where none fits at all.
        named: whether the concept fits well enough to be a name.
        threshold: T_k, above which the channel marks a region; None where there were no masks.
    """

    number: int
    places: tuple[Place, ...]
    concept: Concept | None = None
    named: bool = False
    threshold: float | None = None

    @property
    def score(self) -> float:
        """How well the best concept fits; 0 where none does."""
        return 0.0 if self.concept is None else self.concept.score

    @property
    def name(self) -> str | None:
        """The concept's name; None for a channel that no concept fits well enough."""
        return self.concept.name if self.named and self.concept is not None else None


@dataclass(frozen=True, eq=False)
class ChannelNames:
    """The channels of one layer, with the patches that excite them and, where a concept fits, a name.

    Attributes:
        layer: its name.
        shape: (K, h, w).
        channels: all K, by number.
        pictures: names of the pictures that were looked at.
        approximate: the receptive field is not known, or larger than the picture, so that patches are the regions
            of cells; else each is exactly what the cell sees.
        quantile: share of the cells above each channel's threshold.
        threshold: the IoU above which a concept is a name.
        label_threshold: the average precision above which a label is a name.
        read_for_threshold: on how many pictures the thresholds were found: all of them where they are exact; None
            where there were no masks.
        model: letters that tell the model with its weights (`gradcam_widget.neurons.fingerprint`).
        files: the pictures in which there are places, as the model saw them, by number: PNG or JPEG.
    """

    layer: str
    shape: tuple[int, ...]
    channels: tuple[Channel, ...]
    pictures: tuple[str, ...]
    approximate: bool
    quantile: float
    threshold: float
    label_threshold: float
    read_for_threshold: int | None
    model: str
    files: Mapping[int, bytes] = field(repr=False)

    def __getitem__(self, number: int) -> Channel:
        return self.channels[number]

    def __len__(self) -> int:
        return len(self.channels)

    @cached_property
    def named(self) -> Mapping[str, tuple[int, ...]]:
        """The channels of each name, the best first; the name with the most channels first."""
        found: dict[str, list[Channel]] = {}
        for channel in self.channels:
            if channel.name is not None:
                found.setdefault(channel.name, []).append(channel)
        ordered = sorted(found.items(), key=lambda item: -len(item[1]))
        return {
            name: tuple(one.number for one in sorted(those, key=lambda one: -one.score)) for name, those in ordered
        }

    def picture(self, number: int) -> NDArray[np.uint8]:
        """uint8 (H, W, 3) a picture as the model saw it, of those in which there are places.

        Raises:
            TypeError, ValueError: for a picture in which no channel has a place, or that cannot be read.
        """
        number = _whole("picture", number, 0, len(self.pictures) - 1)
        try:
            with Image.open(io.BytesIO(self.files[number]), formats=("PNG", "JPEG")) as opened:
                return np.array(opened.convert("RGB"))
        except KeyError:
            raise ValueError(
                f"picture: no channel has a place in picture {number!r}, so it was not kept"
            ) from None
        except OSError as error:
            raise ValueError(f"picture: picture {number} cannot be read ({error}); the file is damaged") from error

    def patch(self, channel: int, rank: int = 0) -> NDArray[np.uint8]:
        """uint8 (h, w, 3) what the model saw at one of a channel's places; grey outside of the picture.

        Args:
            channel: its number.
            rank: 0 for the place that excites it most.

        Raises:
            TypeError, ValueError: for a channel or a rank that there is not.
        """
        places = self._channel(channel).places
        if not 0 <= _whole("rank", rank) < len(places):
            raise ValueError(f"rank: channel {channel} has {len(places)} places, counted from 0; got {rank}")
        return _cut(self.picture(places[rank].picture), places[rank].box)

    def patches(self, channel: int) -> list[NDArray[np.uint8]]:
        """All patches of a channel, that of the strongest place first."""
        return [self.patch(channel, rank) for rank in range(len(self._channel(channel).places))]

    def sprite(self, channel: int, *, side: int = 56, most: int = 9, room: int = 10_000) -> bytes:
        """A JPEG with the patches of a channel side by side, each ``side`` pixels square; b"" without places.

        A patch that is not square is fitted in and centred on grey.

        Args:
            channel: its number.
            side: of a patch.
            most: how many patches.
            room: bytes that the file may take; the quality is lowered for it.

        Raises:
            TypeError, ValueError: for a channel that there is not, or a number that cannot be used.
        """
        side, most, room = _whole("side", side, 1, 1024), _whole("most", most, 1), _whole("room", room, 1)
        patches = [Image.fromarray(patch) for patch in self.patches(channel)[:most]]
        if not patches:
            return b""
        strip = Image.new("RGB", (side * len(patches), side), (_OUTSIDE,) * 3)
        for at, patch in enumerate(patches):
            scale = side / max(patch.size)
            size = (max(1, round(patch.width * scale)), max(1, round(patch.height * scale)))
            # Small patches are shown in their pixels, large ones are made smaller smoothly.
            kind = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
            corner = (at * side + (side - size[0]) // 2, (side - size[1]) // 2)
            strip.paste(patch.resize(size, kind), corner)
        for quality in (88, 80, 70, 55, 40, 25):
            data = _as_jpeg(strip, quality)
            if len(data) <= room:
                break
        return data

    def save(self, path: str | Path, *, quality: int | None = 90) -> None:
        """Write all of it into one file, an npz without pickled objects; `load` reads it.

        Args:
            path: of the file.
            quality: of the pictures, as JPEG from 1 to 95; None keeps every pixel, in some four times the room.

        Raises:
            TypeError, ValueError: for a quality that there is not, and a name that does not end in .npz.
            FileNotFoundError: where the folder does not exist. OSError: where the file cannot be written.
        """
        path = _path(path)
        if path.suffix.lower() != ".npz":
            raise ValueError(f"path: expected a name that ends in .npz; got {path.name!r}")
        if not path.parent.is_dir():
            raise FileNotFoundError(f"path: there is no folder {str(path.parent)!r}; make it first")
        if quality is not None:
            quality = _whole("quality", quality, 1, 95, ", or None for every pixel")
        files = {
            number: data if quality is None else _as_jpeg(Image.fromarray(self.picture(number)), quality)
            for number, data in self.files.items()
        }
        places = [place for channel in self.channels for place in channel.places]
        concepts = [channel.concept for channel in self.channels]
        names = list(dict.fromkeys(concept.name for concept in concepts if concept is not None))
        about = {
            "format": _FORMAT,
            "layer": self.layer,
            "shape": list(self.shape),
            "pictures": list(self.pictures),
            "concepts": names,
            "approximate": self.approximate,
            "quantile": self.quantile,
            "threshold": self.threshold,
            "label_threshold": self.label_threshold,
            "read_for_threshold": self.read_for_threshold,
            "model": self.model,
        }
        with path.open("wb") as file:
            np.savez_compressed(
                file,
                about=np.frombuffer(json.dumps(about).encode(), np.uint8),
                counts=np.array([len(channel.places) for channel in self.channels], np.int64),
                place=np.array([[place.picture, *place.cell, *place.box] for place in places], np.int64).reshape(
                    -1, 7
                ),
                value=np.array([place.value for place in places], np.float64),
                concept=np.array([-1 if one is None else names.index(one.name) for one in concepts], np.int64),
                score=np.array([0.0 if one is None else one.score for one in concepts], np.float64),
                measure=np.array(
                    [0 if one is None else _MEASURES.index(one.measure) for one in concepts], np.int64
                ),
                in_pictures=np.array([0 if one is None else one.pictures for one in concepts], np.int64),
                named=np.array([channel.named for channel in self.channels], np.bool_),
                marks=np.array(
                    [np.nan if one.threshold is None else one.threshold for one in self.channels], np.float64
                ),
                file_number=np.array(list(files), np.int64),
                file_size=np.array([len(data) for data in files.values()], np.int64),
                file_data=np.frombuffer(b"".join(files.values()), np.uint8),
            )

    @classmethod
    def load(cls, path: str | Path) -> ChannelNames:
        """Read what `save` wrote. No pickled object is read, so that a file from elsewhere can do no harm.

        Raises:
            FileNotFoundError: where there is no such file. ValueError: where it is something else.
        """
        path = _path(path)
        if not path.is_file():
            raise FileNotFoundError(f"path: there is no file {str(path)!r}; ChannelNames.save(path) writes one")
        try:
            with np.load(path, allow_pickle=False) as held:
                return cls._from(held)
        except (*_DAMAGED, zipfile.BadZipFile, zlib.error) as error:
            # Numpy's own words ask for pickled objects to be allowed, which runs what is in them.
            why = "it is no npz file, or holds pickled objects" if "pickle" in str(error) else error
            raise ValueError(
                f"path: {path.name!r} is no file of channel names, or is damaged ({why}); compute it anew "
                "with name_channels(...).save(path)"
            ) from error

    @classmethod
    def _from(cls, held: Mapping[str, NDArray[Any]]) -> ChannelNames:
        about = json.loads(held["about"].tobytes())
        if about.get("format") != _FORMAT:
            raise ValueError(f"its format is {about.get('format')!r}, and {_FORMAT} is read here")
        counts = held["counts"].tolist()
        rows, values = held["place"].tolist(), held["value"].tolist()
        columns = [
            held[name].tolist() for name in ("concept", "score", "measure", "in_pictures", "named", "marks")
        ]
        if not len(counts) == about["shape"][0] == len(columns[0]) or sum(counts) != len(rows):
            raise ValueError("its parts do not belong together")
        channels, at = [], 0
        for number, (count, concept, score, measure, pictures, named, mark) in enumerate(
            zip(counts, *columns, strict=True)
        ):
            places = tuple(
                Place(row[0], (row[1], row[2]), value, (row[3], row[4], row[5], row[6]))
                for row, value in zip(rows[at : at + count], values[at : at + count], strict=True)
            )
            at += count
            found = None
            if concept >= 0:
                found = Concept(about["concepts"][concept], score, _MEASURES[measure], pictures)
            channels.append(Channel(number, places, found, bool(named), None if np.isnan(mark) else mark))
        ends = np.cumsum(held["file_size"]).tolist()
        data = held["file_data"].tobytes()
        starts = [0, *ends[:-1]]
        numbers = held["file_number"].tolist()
        return cls(
            layer=about["layer"],
            shape=tuple(about["shape"]),
            channels=tuple(channels),
            pictures=tuple(about["pictures"]),
            approximate=about["approximate"],
            quantile=about["quantile"],
            threshold=about["threshold"],
            label_threshold=about["label_threshold"],
            read_for_threshold=about["read_for_threshold"],
            model=about["model"],
            files={n: data[start:end] for n, start, end in zip(numbers, starts, ends, strict=True)},
        )

    def _channel(self, number: int) -> Channel:
        return self.channels[_whole("channel", number, 0, len(self.channels) - 1, f" at {self.layer!r}")]


def _path(path: object) -> Path:
    if not isinstance(path, (str, PathLike)):
        raise TypeError(f"path: expected the path of a file; got {type(path).__name__}")
    return Path(path)


def _whole(name: str, value: object, least: int | None = None, most: int | None = None, more: str = "") -> int:
    """The value where it is a whole number of those that are allowed; TypeError or ValueError where it is not."""
    allowed = "an int" if least is None else f"{least} to {most}" if most is not None else f"{least} or more"
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name}: expected {allowed}{more}; got {value!r}, a {type(value).__name__}")
    number = int(value)
    if (least is not None and number < least) or (most is not None and number > most):
        raise ValueError(f"{name}: expected {allowed}{more}; got {number}")
    return number


def as_png(pixels: NDArray[np.uint8]) -> bytes:
    """uint8 (H, W, 3) as a PNG, quickly."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _as_jpeg(picture: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality, optimize=True)
    return buffer.getvalue()


def _cut(picture: NDArray[np.uint8], box: Sequence[int]) -> NDArray[np.uint8]:
    """uint8 (bottom - top, right - left, 3) a box of a picture, grey where it reaches beyond."""
    left, top, right, bottom = box
    patch = np.full((bottom - top, right - left, 3), _OUTSIDE, np.uint8)
    inner = picture[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    row, column = max(-top, 0), max(-left, 0)
    patch[row : row + inner.shape[0], column : column + inner.shape[1]] = inner
    return patch
