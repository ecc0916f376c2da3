"""What the model says with some channels of a layer set to zero: the answer of `GradCAM.ablate`, frozen."""

from __future__ import annotations

from dataclasses import dataclass

from gradcam_widget.layers import Layer
from gradcam_widget.targets import Target

__all__ = ["Ablation"]


@dataclass(frozen=True)
class Ablation:
    """A target's score with and without some channels of a layer.

    Attributes:
        layer: the layer.
        target: the scalar.
        channels: the channels that were set to zero, sorted.
        score: the target's value without them.
        probability: of the class without them, where the target is one.
        full_score: the target's value with all channels, y^c.
        full_probability: of the class with all channels, where the target is one.
    """

    layer: Layer
    target: Target
    channels: tuple[int, ...]
    score: float
    probability: float | None
    full_score: float
    full_probability: float | None

    @property
    def change(self) -> float:
        """What the score gains by the channels' absence: below 0 where they speak for the target."""
        return self.score - self.full_score
