"""The pad's canvas: one of ipycanvas's on which pixels are put, with a queue of commands of its own."""

from __future__ import annotations

import ipycanvas  # type: ignore[import-untyped]  # it has no types
import numpy as np
from ipycanvas.canvas import _CanvasManager  # type: ignore[import-untyped]

from gradcam_widget.painting import Picture

__all__ = ["PadCanvas"]

_SIDE = 448  # CSS pixels that the longer side may take, as the explorer's picture does


class PadCanvas(ipycanvas.Canvas):  # type: ignore[misc]  # ipycanvas has no types
    """A canvas of a picture's pixels. One thread at a time may use it."""

    def __init__(self) -> None:
        # A manager of our own: what others draw, or fail to, in whichever thread, is no concern of this canvas.
        self._manager = _CanvasManager(caching=True)
        super().__init__(_canvas_manager=self._manager, width=1, height=1)
        self.add_class("gradcam-paint")

    def fit(self, height: int, width: int) -> None:
        """Take the pixels of a picture, and a whole number of CSS pixels for each where there is room."""
        longest = max(height, width)
        factor = _SIDE // longest if longest <= _SIDE else _SIDE / longest
        with self.hold_sync():
            self.width, self.height = width, height
        self.layout.width = f"{round(width * factor)}px"
        self.layout.height = f"{round(height * factor)}px"

    def put(self, pixels: Picture, x: int, y: int) -> None:
        """Draw pixels, uint8 (h, w, 3), with their upper left corner at (x, y).

        The commands go out together, and none of them stays behind where one of them fails. They begin by naming
        their canvas: a page that was loaded again has forgotten it.
        """
        rgba = np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])
        self._manager._current_canvas = None
        try:
            self.put_image_data(rgba, x, y)
            self._manager.flush()
        finally:
            self._manager._commands_cache, self._manager._buffers_cache = [], []

    def close(self) -> None:
        """Close the canvas with its manager."""
        super().close()
        self._manager.close()
