"""The pictures that an explorer is given, or that are uploaded into it."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from gradcam_widget.widget.wire import shorten

__all__ = ["named_pictures", "read_upload", "unique"]

_UPLOAD_BYTES = 20_000_000
_UPLOAD_PIXELS = 50_000_000
_UPLOAD_FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP")


def named_pictures(images: object, what: str = "images") -> tuple[tuple[str, ...], list[Any]]:
    """Names, all different, and pictures.

    Args:
        images: one picture, a list or a tensor (N, C, H, W) of them, or a dict name -> picture.
        what: the argument that errors name.

    Raises:
        TypeError, ValueError: for anything else, and for no picture at all. FileNotFoundError: for a missing file.
    """
    if isinstance(images, Tensor) and images.ndim == 4 and images.shape[0] != 1:
        images = list(images)
    if isinstance(images, Mapping):
        names, pictures = [str(name) for name in images], list(images.values())
    else:
        pictures = list(images) if isinstance(images, list) else [images]
        names = [_picture_name(picture, number) for number, picture in enumerate(pictures, 1)]
    if not pictures:
        raise ValueError(f"{what}: expected at least one picture; got none")
    for position, picture in enumerate(pictures):
        if isinstance(picture, os.PathLike | str):
            pictures[position] = path = Path(picture)
            if not path.is_file():
                there = "a folder, not a file, at" if path.is_dir() else "no file"
                raise FileNotFoundError(f"{what}: there is {there} {str(picture)!r}; check the path")
        elif not isinstance(picture, Image.Image | np.ndarray | Tensor | tuple):
            forms = "a PIL image, a uint8 array (H, W, 3), a path or a float tensor (C, H, W)"
            several = "a picture, a list of pictures or a dict name -> picture, each " if what == "images" else ""
            advice = ". Put several pictures into a list: list(...)" if isinstance(picture, Iterable) else ""
            raise TypeError(f"{what}: expected {several}{forms}; got {type(picture).__name__}{advice}")
    return unique(names), pictures


def _picture_name(picture: object, number: int) -> str:
    path = picture if isinstance(picture, os.PathLike | str) else getattr(picture, "filename", None)
    name = Path(path).name if isinstance(path, os.PathLike | str) else ""
    return name or f"picture {number}"


def unique(names: Sequence[str]) -> tuple[str, ...]:
    """The names, fit to travel; one that came before gets a number."""
    taken: dict[str, None] = {}
    for name in names:
        label = short = shorten(name)
        number = 2
        while label in taken:
            label, number = f"{short} ({number})", number + 1
        taken[label] = None
    return tuple(taken)


def read_upload(name: str, content: bytes) -> Image.Image:
    """The picture in an uploaded file, read to its end.

    Raises:
        ValueError: where it is too large, or no picture.
    """
    shown = repr(shorten(name, 60))
    if len(content) > _UPLOAD_BYTES:
        raise ValueError(
            f"{shown} has {len(content) / 1e6:.0f} MB; at most {_UPLOAD_BYTES / 1e6:.0f} MB can be uploaded. "
            "Scale it down, or give its path: GradCAMWidget(model, [path])"
        )
    try:
        picture = Image.open(io.BytesIO(content), formats=_UPLOAD_FORMATS)
        if picture.width * picture.height <= _UPLOAD_PIXELS:
            picture.load()
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"{shown} has more pixels than can be unpacked safely; scale it down") from error
    except (OSError, SyntaxError, ValueError, EOFError, zlib.error, struct.error) as error:
        raise ValueError(
            f"{shown} cannot be read as a picture; upload a whole {', '.join(_UPLOAD_FORMATS)} file"
        ) from error
    if picture.width * picture.height > _UPLOAD_PIXELS:
        raise ValueError(
            f"{shown} has {picture.width} × {picture.height} pixels; at most {_UPLOAD_PIXELS / 1e6:.0f} million "
            "can be uploaded. Scale it down"
        )
    return picture
