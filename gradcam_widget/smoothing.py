"""Averaging a map over noisy and mirrored copies of the picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Smoothing"]


@dataclass(frozen=True)
class Smoothing:
    """Which copies of a picture a map is averaged over.

    Args:
        samples: noisy copies; 0 for none (the picture itself is then taken once).
        noise: standard deviation of the Gaussian noise, as a share of the input's range (max - min).
        flips: whether each copy is also taken mirrored from left to right, its map mirrored back.
        seed: of the noise; the same seed gives the same map. The user's random state is not touched.

    Source: Smilkov et al., "SmoothGrad", arXiv 1706.03825; mirroring as in pytorch-grad-cam's aug_smooth.
    """

    samples: int = 8
    noise: float = 0.15
    flips: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.samples, int) or self.samples < 0 or (self.samples == 0 and not self.flips):
            raise ValueError(f"samples: expected 1 or more noisy copies, or 0 with flips=True; got {self.samples}")
        if not 0 <= self.noise < float("inf"):
            raise ValueError(f"noise: expected a share of the input's range, 0 or more; got {self.noise}")

    @property
    def passes(self) -> int:
        """Copies in all."""
        return max(1, self.samples) * (2 if self.flips else 1)

    def copies(self, picture: Tensor) -> Iterator[tuple[Tensor, bool]]:
        """Copies of the input (1, C, *size), and whether each is mirrored along its last axis."""
        generator = torch.Generator().manual_seed(self.seed)
        spread = float(picture.max() - picture.min()) * self.noise
        for _ in range(max(1, self.samples)):
            copy = picture
            if self.samples:
                noise = torch.randn(picture.shape, generator=generator) * spread
                copy = picture + noise.to(picture)
            yield copy, False
            if self.flips:
                yield copy.flip(-1), True
