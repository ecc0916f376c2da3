"""A network whose maps are worked out by hand, and pictures for it."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Tiny(nn.Module):
    """conv (1x1: the first channels of the picture as they are), pool (2x2), the mean of the cells, a linear head.

    So logits = W @ mean over the cells, and alpha at "pool" is W[c] / Z: Z = 4 cells for a picture of 4 x 4. A
    test with other classes or weights has a subclass; W has a row for each class and a column for each channel.
    """

    class_names: tuple[str, ...] = ("cat", "dog", "crane")
    W: tuple[tuple[float, ...], ...] = ((4.0, 0.0), (0.0, 4.0), (-4.0, 2.0))

    def __init__(self) -> None:
        super().__init__()
        channels = len(self.W[0])
        self.conv = nn.Conv2d(3, channels, 1, bias=False)
        self.pool = nn.AvgPool2d(2)
        self.head = nn.Linear(channels, len(self.W), bias=False)
        with torch.no_grad():
            self.conv.weight.copy_(torch.eye(3)[:channels].view(channels, 3, 1, 1))
            self.head.weight.copy_(torch.tensor(self.W))
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(self.conv(x)).mean((2, 3)))


class Four(Tiny):
    """With two classes of one name, and a layer that is never run."""

    class_names = ("cat", "dog", "crane", "crane")
    W = ((4.0, 0.0), (0.0, 4.0), (-1.0, -1.0), (0.5, 0.25))

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Conv2d(3, 1, 1)


def red_left(size: int = 4) -> Tensor:
    """Red 1 in the left half, green 0.25 everywhere: of size 4 the cells are red [[1, 0], [1, 0]], green 0.25."""
    image = torch.zeros(3, size, size)
    image[0, :, : size // 2] = 1
    image[1] = 0.25
    return image


def green_right(size: int = 4) -> Tensor:
    """Green 1 in the right half."""
    image = torch.zeros(3, size, size)
    image[1, :, size // 2 :] = 1
    return image
