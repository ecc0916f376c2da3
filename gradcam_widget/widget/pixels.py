"""A map at the picture's pixels as a picture: signed, grey where it is 0, as guided backpropagation is drawn."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gradcam_widget.render import grey_centred

__all__ = ["MOST_ZOOM", "encode_pixels", "grey_centred"]

MOST_ZOOM = 32
"""How much the view enlarges a map at most."""


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
