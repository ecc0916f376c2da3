"""How numbers travel to the view: each array in the most precise form that keeps the whole scene small."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "SCENE_BYTES",
    "channels",
    "decode",
    "encode",
    "fit",
    "json_bytes",
    "mask",
    "plain",
    "shorten",
    "terms",
    "thumbnail",
    "unmask",
]

SCENE_BYTES = 9_760
"""What a scene may weigh, text and arrays together: 10 kB less what ipywidgets and a notice put around it."""

_ARRAY_BYTES = 110  # the JSON around one array: dtype, shape, scale, offset, its path among the buffers
_TEXT = 160  # characters; a name or label longer than this is cut

# From the most precise to the smallest: (alpha, contribution, cam). The bars are read as numbers, so alpha keeps
# its bits longest; the map goes through a table of 256 colours, so it gives way first.
_LADDER: tuple[tuple[str, str, str], ...] = (
    ("f32", "f32", "f32"),
    ("f32", "i16", "f32"),
    ("f32", "i16", "i16"),
    ("f32", "i16", "u8z"),
    ("i16", "i16", "f32"),
    ("i16", "i16", "i16"),
    *(("i16", "i16", f"u8z/{steps}") for steps in (255, 180, 127, 90, 63, 45, 31)),
    ("i16", "u8z", "f32"),
    ("i16", "u8z", "i16"),
    *(("i16", "u8z", f"u8z/{steps}") for steps in (255, 127, 63, 31, 15)),
    *(("u8z", "u8z", f"u8z/{steps}") for steps in (31, 15, 14)),
)

_PLAIN_LADDER: tuple[tuple[str, str, str], ...] = (
    ("f32", "f32", "f32"),
    ("f32", "i16", "i16"),
    ("f32", "i16", "u8"),
    ("i16", "i16", "i16"),
    ("i16", "i16", "u8"),
)


def encode(values: NDArray[Any], dtype: str) -> dict[str, Any]:
    """The wire form of an array: {"dtype", "shape", "scale", "offset", "data"}, little endian, in C order.

    Args:
        values: finite real numbers, any shape.
        dtype: "f32": the value itself; "i16": value = data * scale; "u8z": uint8, deflated by zlib,
            value = offset + data * scale. "u8z/31" uses 31 steps instead of 255, so that it deflates better.
            Zero is always met exactly. "u8": as "u8z", not deflated.

    Raises:
        ValueError: for another dtype.
    """
    name, _, steps = dtype.partition("/")
    array = np.ascontiguousarray(values, dtype=np.float64)
    scale, offset = 1.0, 0.0
    if name == "f32":
        data = array.astype("<f4").tobytes()
    elif name == "i16":
        scale = float(np.abs(array).max(initial=0.0)) / 32767 or 1.0
        data = np.rint(array / scale).astype("<i2").tobytes()
    elif name in ("u8", "u8z"):
        low, high = float(array.min(initial=0.0)), float(array.max(initial=0.0))
        levels = int(steps or 255)
        # A whole step is set aside where there are two signs, so that zero can lie on one.
        scale = (high - low) / (levels - 1 if low < 0 < high else levels) or 1.0
        below = math.ceil(-low / scale - 1e-9)
        offset = -below * scale
        data = np.rint(array / scale + below).clip(0, 255).astype(np.uint8).tobytes()
        data = zlib.compress(data, 6) if name == "u8z" else data
    else:
        raise ValueError(f"dtype: expected f32, i16, u8 or u8z; got {dtype!r}")
    return {"dtype": name, "shape": list(array.shape), "scale": scale, "offset": offset, "data": data}


def decode(array: Mapping[str, Any]) -> NDArray[Any]:
    """The values of an array as the view has them: float32, rounded as `encode` had to."""
    data = array["data"]
    if array["dtype"] == "f32":
        values = np.frombuffer(data, "<f4")
    elif array["dtype"] == "i16":
        values = (np.frombuffer(data, "<i2") * array["scale"]).astype("<f4")
    else:
        steps = np.frombuffer(zlib.decompress(data) if array["dtype"] == "u8z" else data, np.uint8)
        values = (array["offset"] + steps * array["scale"]).astype("<f4")
    return values.reshape(array["shape"])


def fit(
    alpha: NDArray[Any],
    contribution: NDArray[Any],
    cam: NDArray[Any],
    room: int,
    more: Mapping[str, NDArray[Any]] | None = None,
    *,
    plain: bool = False,
) -> dict[str, dict[str, Any]]:
    """The three arrays of a scene, {"alpha", "contribution", "cam"}, in the most precise form within ``room``.

    Args:
        alpha: channel weights (K,).
        contribution: what each channel adds to the map (K,).
        cam: the map at layer size (h, w).
        room: bytes. Where nothing fits (a layer of more than some 3000 channels) the smallest form is taken.
        more: further arrays, which take the form of the one that their name begins with: "alpha.second" is as
            precise as "alpha".
        plain: nothing is deflated.

    Raises:
        ValueError: where a value is not finite.
    """
    arrays = {"alpha": alpha, "contribution": contribution, "cam": cam, **(more or {})}
    for name, values in arrays.items():
        if not np.isfinite(values).all():
            raise ValueError(
                f"{name}: {int((~np.isfinite(values)).sum())} of {values.size} values are NaN or infinite; "
                "the model's activations or gradients overflow at this layer. Try a deeper layer, or float32"
            )
    made: dict[tuple[str, str], dict[str, Any]] = {}
    encoded: dict[str, dict[str, Any]] = {}
    for forms in _PLAIN_LADDER if plain else _LADDER:
        kinds = dict(zip(("alpha", "contribution", "cam"), forms, strict=True))
        for name in arrays:
            form = kinds[name.partition(".")[0]]
            if (name, form) not in made:
                made[name, form] = encode(arrays[name], form)
            encoded[name] = made[name, form]
        if sum(len(array["data"]) + _ARRAY_BYTES for array in encoded.values()) <= room:
            break
    return encoded


def channels(maps: NDArray[Any]) -> dict[str, Any]:
    """Activation maps in uint8 steps, each channel with its own: value = low + step * data.

    Args:
        maps: finite (n, h, w).

    Returns:
        {"shape", "low": n float32, "step": n float32, "data": n x h x w bytes, deflated}, little endian.
    """
    flat = np.ascontiguousarray(maps, dtype=np.float64).reshape(len(maps), -1)
    low = flat.min(1, keepdims=True).astype("<f4")
    step = ((flat.max(1, keepdims=True) - low) / 255).astype("<f4")
    data = np.rint((flat - low) / np.where(step > 0, step, 1)).clip(0, 255).astype(np.uint8)
    return {
        "shape": list(maps.shape),
        "low": low.tobytes(),
        "step": step.tobytes(),
        "data": zlib.compress(data.tobytes(), 6),
    }


def terms(values: NDArray[Any]) -> dict[str, Any]:
    """What each channel adds at some cells, in int16 steps, each cell with its own: value = scale * data.

    Args:
        values: finite (n, K): cells, channels.

    Returns:
        {"shape", "scale": n float32, "data": n x K int16, deflated}, little endian.
    """
    array = np.ascontiguousarray(values, dtype=np.float64)
    scale = (np.abs(array).max(1, initial=0.0, keepdims=True) / 32767).astype("<f4")
    data = np.rint(array / np.where(scale > 0, scale, 1)).clip(-32767, 32767).astype("<i2")
    # The quickest level: a pointer waits for it, and such numbers hardly deflate.
    return {"shape": list(array.shape), "scale": scale.tobytes(), "data": zlib.compress(data.tobytes(), 1)}


def mask(channels: Sequence[int], count: int) -> str:
    """Some of ``count`` channels as hexadecimal bytes: channel k is bit k % 8 of byte k // 8. "" for none."""
    if not channels:
        return ""
    bits = np.zeros(count, np.uint8)
    bits[list(channels)] = 1
    return np.packbits(bits, bitorder="little").tobytes().hex()


def unmask(text: str, count: int) -> tuple[int, ...]:
    """The channels of a `mask`.

    Raises:
        ValueError: for a text that is no mask of ``count`` channels.
    """
    data = bytes.fromhex(text)
    if not data:
        return ()
    bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
    if len(data) != -(-count // 8) or bits[count:].any():
        raise ValueError(f"mask: expected {-(-count // 8)} bytes for {count} channels; got {len(data)}")
    return tuple(np.flatnonzero(bits).tolist())


def thumbnail(values: NDArray[Any], most: int = 28) -> NDArray[np.uint8]:
    """A map as a small picture: at most ``most`` cells each way, uint8.

    Each cell is the strongest of those that it stands for, so that a single strong cell is not lost among weak
    ones. A map without negative values goes from 0 to 255 at its maximum; any other from 1 to 255, with 0 at 128
    and its largest magnitude at either end.

    Args:
        values: finite (h, w).
        most: cells each way.
    """
    rows, columns = (np.arange(0, size, -(-size // most)) for size in values.shape)
    highest, lowest = (
        extreme.reduceat(extreme.reduceat(values, rows, 0), columns, 1) for extreme in (np.maximum, np.minimum)
    )
    strongest = np.where(highest >= -lowest, highest, lowest)
    limit = float(np.abs(strongest).max(initial=0.0)) or 1.0
    signed = bool((lowest < 0).any())
    steps = strongest / limit * (127 if signed else 255) + (128 if signed else 0)
    small: NDArray[np.uint8] = np.rint(steps).astype(np.uint8)
    return small


def json_bytes(text: Mapping[str, Any]) -> int:
    """How many bytes the JSON of a message part takes, as Jupyter writes it (UTF-8, not escaped)."""
    return len(json.dumps(text, ensure_ascii=False).encode("utf-8", "surrogatepass"))


def plain(part: Mapping[str, Any]) -> dict[str, Any]:
    """A part of a message with its texts cut (`shorten`) and its numbers rounded to 9 digits, as float32 has."""
    return {
        key: shorten(value)
        if isinstance(value, str)
        else float(f"{value:.9g}")
        if isinstance(value, float)
        else value
        for key, value in part.items()
    }


def shorten(text: object, length: int = _TEXT) -> str:
    """Text that is fit to travel: a string of at most ``length`` characters, cut in the middle, valid UTF-8."""
    string = str(text).encode("utf-8", "replace").decode("utf-8")
    if len(string) <= length:
        return string
    head = (length - 1) // 2
    return f"{string[:head]}…{string[len(string) - (length - 1 - head) :]}"
