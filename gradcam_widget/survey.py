"""A survey: many pictures with their activations at one layer, read more than once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from gradcam_widget.arguments import check_function
from gradcam_widget.engine import GradCAM
from gradcam_widget.perturbation import Progress, report
from gradcam_widget.reading import Reading

__all__ = ["Count", "Survey"]


class Count:
    """One count over all looks at the pictures.

    Args:
        progress: as in `gradcam_widget.name_channels`.
        pictures: how many there are.
        twice: whether they will be looked at a second time.

    Raises:
        TypeError: for a progress that cannot be called.
    """

    def __init__(self, progress: Progress | None, pictures: int, twice: bool) -> None:
        check_function(progress, "progress", "(done, in all)", 2)
        self._progress, self._pictures = progress, pictures
        self.total = pictures * (2 if twice else 1)
        self.looks = 0

    def __call__(self, done: int, _: int) -> None:
        """Tell how many pictures of this look are done; raise Cancelled where the answer is False."""
        report(self._progress, self.looks * self._pictures + done, self.total)


class Survey:
    """All pictures with their activations, more than once: kept where they fit the budget, else computed again.

    Args:
        cam: reads them.
        pictures: as in `GradCAM.explain`.
        layer: as in `GradCAM.explain`; it must have maps (K, h, w).
        budget: bytes; the readings are kept while they fit into half of it.
        progress: what is told of it.
    """

    def __init__(
        self, cam: GradCAM, pictures: Sequence[object], layer: object, budget: int, progress: Count
    ) -> None:
        self._cam, self._pictures, self._layer, self._budget = cam, pictures, layer, budget
        self._progress = progress
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
        seen: NDArray[np.uint8] = self._cam.picture(self._pictures[number] if image is None else image)
        return seen

    def read(self, take: Callable[[Reading], None]) -> None:
        """Hand all readings to a function, in order.

        Raises:
            ValueError: for a layer without maps (K, h, w), and for activations that are not finite.
            Cancelled: where the progress asks for it.
        """
        again = self._progress.looks > 0
        for reading in self._kept if again and self._kept is not None else self._readings():
            take(reading)
            if again and self._kept is not None:
                self._progress(reading.first + len(reading.maps), 0)
        self._progress.looks += 1

    def _readings(self) -> Iterator[Reading]:
        for reading in self._cam.read(self._pictures, self._layer, progress=self._progress):
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
                self._kept = None if self._bytes > self._budget // 2 else [*self._kept, reading]
            yield reading
