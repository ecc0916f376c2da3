"""Small networks with one peculiarity each, shared by the tests of the engine."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from gradcam_widget.inputs import Preprocess

CLASSES = 5
PLAIN = Preprocess(4, 4, mean=(0, 0, 0), std=(1, 1, 1))  # values are pixels / 255


def plain() -> nn.Sequential:
    """conv, norm, in-place ReLU, conv, tanh, pool, head."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 6, 3, stride=2),
        nn.Tanh(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, CLASSES),
    ).eval()


class Gap(nn.Module):
    """Global average pooling."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


class Head(nn.Module):
    """Global mean, then a linear layer."""

    def __init__(self, channels: int, classes: int = CLASSES) -> None:
        super().__init__()
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.flatten(2).mean(2))


class SideBranches(nn.Module):
    """Two stems; the second one reaches the output both through the main road and past it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 3, padding=1)
        self.d, self.e = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.side = nn.Conv2d(3, 4, 1)
        self.head = Head(4)

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x)
        b = self.b(x)
        s = self.side(x).sigmoid()
        d = self.d(torch.tanh(a + b))
        return self.head(d.tanh() * s + self.e(b).tanh())


class Dense(nn.Module):
    """Every layer sees the outputs of all before it."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(3 + 4 * i, 4, 3, padding=1) for i in range(4))
        self.relu = nn.ReLU(inplace=True)
        self.head = Head(19)

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.convs:
            x = torch.cat([x, self.relu(conv(x)).tanh()], 1)
        return self.head(x)


class Part(nn.Module):
    """A module that returns a tuple of one function's outputs."""

    def __init__(self, function: Callable[[Tensor], tuple[Tensor, ...]]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return self.function(x)


class Pick(nn.Module):
    """A module that hands on one of several tensors."""

    def __init__(self, index: int) -> None:
        super().__init__()
        self.index = index

    def forward(self, parts: tuple[Tensor, ...]) -> Tensor:
        return parts[self.index]


class Several(nn.Module):
    """Functions with several outputs: chunk, split, unbind; some outputs used twice, one not at all."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3, padding=1)
        self.chunk = Part(lambda x: x.chunk(3, 1))
        self.second = Pick(1)
        self.left, self.right = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.split = Part(lambda x: x.split([2, 2], 1))
        self.last = Pick(1)
        self.unbind = Part(lambda x: tuple(part.clone() for part in x.unflatten(1, (2, 2)).unbind(2)))
        self.mix = nn.Conv2d(4, 4, 3, padding=1)
        self.head = Head(12)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.chunk(self.stem(x).tanh())
        left, right = self.left(parts[0]), self.right(self.second(parts))
        split = self.split(torch.tanh(left + right))
        mixed = self.mix(torch.cat(split, 1))
        first, second = self.unbind(mixed.tanh())
        return self.head(torch.cat([first * second, self.last(split), right.sin(), left[:, :2], second], 1))


class Residual(nn.Module):
    """In-place additions, and a module written to in place after its output was used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.blocks = nn.ModuleList(nn.Conv2d(6, 6, 3, padding=1) for _ in range(3))
        self.bn = nn.BatchNorm2d(6)
        self.relu = nn.ReLU(inplace=True)
        self.head = Head(6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn(self.stem(x)))
        for conv in self.blocks:
            y = conv(x)
            y += x
            x = self.relu(y)
        return self.head(x)


class Stochastic(nn.Module):
    """Norm, dropout, and a buffer that every pass writes to."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.bn = nn.BatchNorm2d(6)
        self.relu = nn.ReLU(inplace=True)
        self.drop = nn.Dropout2d(0.5)
        self.head = Head(6)
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))
        self.register_buffer("running", torch.zeros(6), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        x = self.relu(self.bn(self.conv(x)))
        self.running.mul_(0.9).add_(x.detach().mean((0, 2, 3)))
        self.running = self.running + 1
        return self.head(self.drop(x))


ALL: dict[str, Callable[[], nn.Module]] = {
    "plain": plain,
    "side branches": SideBranches,
    "dense": Dense,
    "several outputs": Several,
    "residual": Residual,
    "stochastic": Stochastic,
}


def build(name: str, seed: int = 0) -> nn.Module:
    """One of `ALL` with fixed random weights, in eval mode."""
    torch.manual_seed(seed)
    return ALL[name]().eval()
