"""A map at the picture's pixels as a picture: signed, grey where it is 0, as guided backpropagation is drawn."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["MOST_ZOOM", "encode_pixels", "grey_centred"]

MOST_ZOOM = 32
"""How much the view enlarges a map at most."""

_SHARE = 0.995  # of the values lie within the limits: a few extreme ones would leave the rest grey


def grey_centred(values: NDArray[Any]) -> tuple[NDArray[np.uint8], float]:
    """Signed values as a picture, and the limit at which its colours end.

    Args:
        values: (C, H, W). Three channels are red, green and blue; any other number is summed to grey.

    Returns:
        uint8 (H, W, 3): 128 for 0, 1 for minus the limit and below, 255 for the limit and above; and the limit,
        within which 99.5 % of the magnitudes lie, or 0 where all values are 0.

    Raises:
        ValueError: for values that are not finite.
    """
    signed = np.asarray(values, dtype=np.float64)
    if not np.isfinite(signed).all():
        raise ValueError(
            "method: the gradient at the picture's pixels is NaN or infinite somewhere; choose another method"
        )
    if len(signed) != 3:
        signed = np.repeat(signed.sum(0, keepdims=True), 3, 0)
    magnitudes = np.abs(signed)
    limit = float(np.quantile(magnitudes, _SHARE)) or float(magnitudes.max(initial=0.0))
    share = np.clip(signed / (limit or 1.0), -1, 1)
    return np.rint(128 + 127 * share).astype(np.uint8).transpose(1, 2, 0), limit


def encode_pixels(values: NDArray[Any], revision: int) -> dict[str, Any]:
    """A map at the pixels as the view takes it: {"revision", "width", "height", "limit", "data": PNG}.

    Args:
        values: (C, H, W), as in `grey_centred`.
        revision: of the scene that it belongs to.
    """
    pixels, limit = grey_centred(values)
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG")
    height, width = pixels.shape[:2]
    return {"revision": revision, "width": width, "height": height, "limit": limit, "data": buffer.getvalue()}
