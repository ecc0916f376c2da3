"""What an engine keeps, in bytes, and how an error says that there is no more to be had."""

from __future__ import annotations

from dataclasses import dataclass

import torch

__all__ = ["Memory", "is_out_of_memory"]


@dataclass(frozen=True)
class Memory:
    """Bytes that an engine keeps between calls.

    Attributes:
        traces: activations of forward passes; their graphs share this memory for the most part.
        gradients: at the feature maps.
        maps: channel weights and maps.
        pictures: how many forward passes are kept.
        budget: what the sum may not exceed.
    """

    traces: int
    gradients: int
    maps: int
    pictures: int
    budget: int

    @property
    def total(self) -> int:
        """The sum of what is kept."""
        return self.traces + self.gradients + self.maps


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory, of the processor or a GPU, has run out."""
    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)):
        return True
    text = str(error)
    return "DefaultCPUAllocator" in text or "out of memory" in text.lower()
