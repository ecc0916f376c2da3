"""A pass goes on from several places at once, where it takes several to cut off what is asked for."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from gradcam_widget import GradCAM, gradients
from gradcam_widget.graph import frontier

PICTURE = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
LAYERS = ("0", "1.first", "1.second", "1.short", "1", "2.first", "2.second", "2.short", "2", "3", "4")


class Down(nn.Module):
    """A block whose branches, both with weights, make the maps smaller; the short one may have been bent."""

    def __init__(self, factor: float | None = None) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(6, 6, 3, 2, 1), nn.Conv2d(6, 6, 3, padding=1)
        self.short = nn.Conv2d(6, 6, 1, 2)
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        long = self.second(torch.tanh(self.first(x)))
        short = self.short(x)
        if self.factor is not None and short.requires_grad:
            short.register_hook(lambda gradient: self.factor * gradient)
        return torch.tanh(long + short)


def network(factor: float | None = None) -> nn.Module:
    torch.manual_seed(2)
    body = [nn.Conv2d(3, 6, 3, padding=1), Down(), Down(factor), nn.Conv2d(6, 5, 1), nn.Tanh()]
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 8)).double().eval()


@pytest.fixture
def lean(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small networks too are treated as large ones."""
    monkeypatch.setattr(gradients, "_LITTLE", 0)


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """From how many places each pass from now on begins."""
    counts: list[int] = []
    grad = torch.autograd.grad

    def watched(outputs, *args, **kwargs):
        counts.append(len(outputs) if isinstance(outputs, (list, tuple)) else 1)
        return grad(outputs, *args, **kwargs)

    monkeypatch.setattr(torch.autograd, "grad", watched)
    return counts


def whole(model: nn.Module, target: int, layer: str, method: str = "GradCAM") -> tuple[Tensor, Tensor]:
    """Weights and map of a pass that went all the way at once."""
    own = GradCAM(model)
    own.explain(PICTURE, target, "0", "LayerCAM")
    found = own.explain(PICTURE, target, layer, method)
    assert own.passes.backward == 1
    return found.alpha, found.signed_cam


def agree(model: nn.Module, cam: GradCAM, target: int, method: str) -> None:
    for layer in LAYERS:
        found = cam.explain(PICTURE, target, layer, method)
        alpha, signed = whole(model, target, layer, method)
        torch.testing.assert_close(found.alpha, alpha, rtol=1e-9, atol=1e-15)
        torch.testing.assert_close(found.signed_cam, signed, rtol=1e-9, atol=1e-15)


@pytest.mark.usefixtures("lean")
@pytest.mark.parametrize("method", ["GradCAM", "LayerCAM"])
@pytest.mark.parametrize("inside", ["2.first", "2.second"])
def test_it_goes_on_from_both_branches_of_a_block(begun, inside, method):
    model = network()
    cam = GradCAM(model)
    cam.explain(PICTURE, 2, inside, method)
    begun.clear()
    cam.explain(PICTURE, 2, "0", method)
    assert begun == [2]
    assert cam.passes.backward == 2
    agree(model, cam, 2, method)
    assert begun.count(2) == 1  # all that was asked for after that had been on the way


@pytest.mark.usefixtures("lean")
def test_several_classes_go_on_from_both_branches_together(begun):
    model = network()
    cam = GradCAM(model)
    classes = range(7)
    cam.explain_targets(PICTURE, classes, "2.first")
    begun.clear()
    cam.explain_targets(PICTURE, classes, "1.first")
    assert begun == [2]  # one batch
    for target in classes:
        cam.explain(PICTURE, target, "0")
    assert begun == [2] * 8
    for target in (0, 6):
        agree(model, cam, target, "GradCAM")


@pytest.mark.usefixtures("lean")
def test_a_place_where_the_model_bends_its_gradient_is_none_to_go_on_from(begun):
    model = network(factor=3.0)
    GradCAM(model).predict(PICTURE)  # passes clones on, which have the hooks then; the next pass does not
    cam = GradCAM(model)
    cam.explain(PICTURE, 2, "2.first")
    begun.clear()
    cam.explain(PICTURE, 2, "0")
    assert begun == [1]
    agree(model, cam, 2, "GradCAM")


def ways(node: int, users: dict[int, list[int]], root: int) -> Iterator[list[int]]:
    """All ways from a node up to the root."""
    if node == root:
        yield [node]
    for user in users.get(node, []):
        for way in ways(user, users, root):
            yield [node, *way]


def test_a_frontier_is_what_all_ways_meet_first():
    chance = random.Random(5)
    cut = 0
    for _ in range(400):
        size = chance.randint(3, 9)  # the root is 0; who reads a node comes before it
        users: dict[int, list[int]] = {0: []}
        for node in range(1, size):
            reading = [other for other in range(node) if other in users]
            users[node] = chance.choices(reading, k=chance.randint(1, 2))
        stops = {node for node in range(1, size) if chance.random() < 0.5}
        nodes = chance.sample(range(1, size), k=min(2, size - 1))
        found = frontier(nodes, stops, users)
        first = [next((at for at in way if at in stops), None) for node in nodes for way in ways(node, users, 0)]
        if None in first:
            assert found is None
            continue
        cut += 1
        assert found is not None
        assert found[0] == set(first)
        before = {
            at
            for node in nodes
            for way in ways(node, users, 0)
            for at in way[: next(i for i, other in enumerate(way) if other in stops)]
        }
        assert found[1] == before
    assert cut > 50
    assert frontier([9], {1}, {0: [], 1: [0]}) is None  # no way leads from there to the root
