"""Receptive fields against their known values and against the input gradient; dominators against a search."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
import torch
import torchvision
from torch import nn

from gradcam_widget.engine import GradCAM
from gradcam_widget.graph import Dominators

RESNET18 = {
    "conv1": 7,
    "maxpool": 11,
    "layer1.0": 27,
    "layer1": 43,
    "layer2.0": 67,
    "layer2": 99,
    "layer3": 211,
    "layer4": 435,
    "layer4.1.conv1": 371,
}


@pytest.mark.parametrize("size", [(64, 480), (448, 64)])
def test_resnet18(size):
    # Field = 1 + sum over the windows on the way of (kernel - 1) · stride of its input, clipped to the picture.
    model = torchvision.models.resnet18(weights=None)
    found = {layer.name: layer.receptive_field for layer in GradCAM(model).layers(torch.rand(3, *size))}
    for name, field in RESNET18.items():
        assert found[name] == tuple(min(field, length) for length in size), name
    assert found["avgpool"] in (size, None)


def test_vgg16():
    # 3 x 3 convolutions at strides 1, 2, 4, 8, 16, and 2 x 2 pools: Simonyan and Zisserman 2015
    model = torchvision.models.vgg16(weights=None, init_weights=False).features
    found = {
        layer.name: layer.receptive_field
        for layer in GradCAM(model).layers(
            torch.rand(3, 32, 256),
        )
    }
    known = {"0": 3, "2": 5, "4": 6, "9": 16, "16": 44, "23": 100, "28": 196, "29": 196, "30": 212}
    assert {name: found[name] for name in known} == {
        name: (32 if field > 32 else field, field) for name, field in known.items()
    }


@pytest.mark.parametrize(
    "layers",
    [
        [nn.Conv2d(1, 2, 3, dilation=3)],
        [nn.Conv2d(1, 2, (1, 5), stride=2), nn.Conv2d(2, 2, (3, 1), dilation=(2, 1))],
        [nn.MaxPool2d(3, 2), nn.Conv2d(1, 2, 3, stride=2), nn.AvgPool2d(2)],
        [nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.GELU(), nn.Conv2d(2, 2, 3), nn.Hardswish(), nn.Dropout()],
        [nn.Conv2d(1, 4, 3, groups=1), nn.Conv2d(4, 4, 5, groups=4), nn.PReLU()],
    ],
)
def test_against_the_gradient_at_the_input(layers):
    # Independent of the graph: pixels whose gradient is not zero for the cell in the middle.
    torch.manual_seed(0)
    body = nn.Sequential(*layers).double().eval()
    for parameter in body.parameters():
        parameter.data.uniform_(0.1, 1)
    x = torch.rand(1, 1, 40, 44, dtype=torch.float64, requires_grad=True)
    out = body(x)
    # max pooling picks one pixel of its window: many pictures together show all of them
    seen = torch.zeros(40, 44, dtype=torch.bool)
    for _ in range(60):
        x = torch.rand(1, 1, 40, 44, dtype=torch.float64, requires_grad=True)
        out = body(x)
        (gradient,) = torch.autograd.grad(out[0, :, out.shape[2] // 2, out.shape[3] // 2].sum(), x)
        seen |= gradient[0, 0] != 0
    rows, columns = seen.any(1).nonzero().flatten(), seen.any(0).nonzero().flatten()
    expected = (int(rows.max() - rows.min()) + 1, int(columns.max() - columns.min()) + 1)
    model = nn.Sequential(body, nn.Flatten(), nn.Linear(out.numel(), 2).double()).eval()
    found = GradCAM(model).layers(torch.rand(1, 40, 44))
    assert next(layer for layer in found if layer.name == "0").receptive_field == expected


def test_a_shortcut_does_not_shrink_the_field_and_a_mean_gives_everything():
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.join = (
                nn.Conv2d(3, 4, 5, padding=2),
                nn.Conv2d(4, 4, 7, padding=3),
                nn.Conv2d(8, 4, 1),
            )
            self.scale, self.fc = nn.Conv2d(4, 4, 1), nn.Linear(4, 2)

        def forward(self, x):
            a = self.a(x)
            joined = self.join(torch.cat([a, self.b(a)], 1))
            scaled = self.scale(joined * joined.mean((2, 3), keepdim=True))
            return self.fc(scaled.mean((2, 3)))

    found = {layer.name: layer.receptive_field for layer in GradCAM(Model()).layers(torch.rand(3, 30, 40))}
    assert found == {"a": (5, 5), "b": (11, 11), "join": (11, 11), "scale": (30, 40)}


def test_what_cannot_be_followed_is_unknown_and_breaks_nothing():
    class Attention(nn.Module):
        """Efficient channel attention: a one-dimensional convolution over the channels."""

        def __init__(self) -> None:
            super().__init__()
            self.stem, self.over_channels = nn.Conv2d(3, 8, 3), nn.Conv1d(1, 1, 3, padding=1)
            self.last, self.fc = nn.Conv2d(8, 4, 3), nn.Linear(4, 2)

        def forward(self, x):
            y = self.stem(x)
            weights = self.over_channels(y.mean((2, 3))[:, None]).sigmoid()
            return self.fc(self.last(y * weights.transpose(1, 2)[..., None]).mean((2, 3)))

    found = {layer.name: layer.receptive_field for layer in GradCAM(Attention()).layers(torch.rand(3, 20, 20))}
    assert found["stem"] == (3, 3)
    assert found["last"] is None


@pytest.mark.parametrize("pool", [nn.MaxPool1d(2), nn.AvgPool1d(2)])
def test_signals(pool):
    model = nn.Sequential(
        nn.Conv1d(2, 4, 5), pool, nn.ReLU(True), nn.Conv1d(4, 4, 3), nn.Flatten(), nn.LazyLinear(3)
    )
    x = torch.rand(1, 2, 40)
    model(x)
    found = {layer.name: (layer.receptive_field, layer.shape) for layer in GradCAM(model).layers(x)}
    assert found["0"] == ((5,), (4, 36))
    assert found["1"] == ((6,), (4, 18))
    assert found["3"] == ((10,), (4, 16))


def test_volumes():
    model = nn.Sequential(
        nn.Conv3d(1, 2, 3), nn.MaxPool3d(2), nn.Conv3d(2, 2, (1, 3, 3)), nn.Flatten(), nn.LazyLinear(3)
    )
    x = torch.rand(1, 1, 10, 12, 14)
    model(x)
    found = {layer.name: layer.receptive_field for layer in GradCAM(model).layers(x)}
    assert (found["0"], found["1"], found["2"]) == ((3, 3, 3), (4, 4, 4), (4, 8, 8))


# -- dominators ----------


class Node:
    """What an autograd function shows: its inputs, each with the number of that function's output."""

    def __init__(self) -> None:
        self.next_functions: tuple[tuple[Node | None, int], ...] = ()


def reachable(node: Node, without: Node | None) -> set[Node]:
    if node is without:
        return set()
    seen, stack = {node}, [node]
    while stack:
        for child, _ in stack.pop().next_functions:
            if child is not None and child is not without and child not in seen:
                seen.add(child)
                stack.append(child)
    return seen


@pytest.mark.parametrize("seed", range(40))
def test_dominators_against_taking_each_node_away(seed):
    # A node dominates another if the other cannot be reached from the root once the first is taken away.
    rng = random.Random(seed)
    nodes = [Node() for _ in range(rng.randrange(2, 14))]
    for index, node in enumerate(nodes):
        later = nodes[index + 1 :]
        chosen = rng.sample(later, min(len(later), rng.choice([1, 1, 1, 2, 3])))
        node.next_functions = (*[(child, 0) for child in chosen], *[(None, 0)] * rng.randrange(2))
    root = nodes[0]
    found = Dominators(root, nodes)
    alive = reachable(root, None)
    for index, node in enumerate(nodes):
        expected = {
            other
            for other, via in enumerate(nodes)
            if node in alive and via in alive and node not in reachable(root, via)
        }
        answer = list(found.of(index))
        assert set(answer) == expected
        assert len(answer) == len(set(answer))
        # nearest first: each one is dominated by all that follow
        for place, other in enumerate(answer):
            assert set(answer[place:]) == set(found.of(other))


def test_functions_with_several_outputs_in_use_cut_nothing_off():
    # root -> (split, output 0), (split, output 1); split -> leaf: a path runs past either output
    root, split, leaf = Node(), Node(), Node()
    root.next_functions = ((split, 0), (split, 1))
    split.next_functions = ((leaf, 0),)
    found = Dominators(root, [root, split, leaf])
    assert list(found.of(2)) == [2, 0]
    assert list(found.of(0)) == [0]
    unknown = Dominators(root, [None, Node()])
    assert list(unknown.of(0)) == list(unknown.of(1)) == []


def test_long_chains_need_no_recursion():
    nodes = [Node() for _ in range(20_000)]
    for node, following in pairwise(nodes):
        node.next_functions = ((following, 0),)
    assert len(list(Dominators(nodes[0], nodes).of(19_999))) == 20_000


@pytest.mark.parametrize("cell", [(9, 5), (10, 6), (11, 7)])
def test_where_a_cell_looks_against_the_gradient_at_the_input(cell):
    # Uneven paddings and slices included; away from the edges, where cells that are cut off would be seen.
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Conv2d(1, 2, 3, stride=2, padding=1)
            self.b = nn.Conv2d(2, 2, (3, 5), padding="same")
            self.c = nn.Conv2d(2, 2, 3, dilation=2, padding=2)

        def forward(self, x):
            x = torch.nn.functional.pad(self.a(x), (2, 0, 1, 3))[:, :, 2:, ::2]
            return self.c(torch.nn.functional.avg_pool2d(self.b(x), 3, 2, 1)).flatten(2).mean(2)

    torch.manual_seed(0)
    model = Model().double().eval()
    for parameter in model.parameters():
        parameter.data.uniform_(0.1, 1)
    x = torch.rand(1, 1, 96, 112, dtype=torch.float64, requires_grad=True)
    kept = []
    handle = model.c.register_forward_hook(lambda module, args, output: kept.append(output))
    model(x)
    handle.remove()
    (gradient,) = torch.autograd.grad(kept[0][0, :, cell[0], cell[1]].sum(), x)
    found = next(layer for layer in GradCAM(model).layers(x.detach()) if layer.name == "c").seen_by(cell)
    for axis, (start, stop) in enumerate(found):
        lit = gradient[0, 0].any(1 - axis).nonzero().flatten()
        expected = max(start, 0), min(stop, x.shape[2 + axis])
        assert (int(lit.min()), int(lit.max()) + 1) == expected


def test_a_cell_that_sees_everything_or_nobody_knows_what_has_no_place():
    body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 2, 1), nn.Flatten())
    found = {layer.name: layer.seen_by((0, 0)) for layer in GradCAM(body.eval()).layers(torch.rand(3, 9, 9))}
    assert found == {"0": ((0, 3), (0, 3)), "1": None, "2": None}
