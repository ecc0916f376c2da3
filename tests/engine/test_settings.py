"""A setting of the model that has changed is noticed; what its passes remember is none."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import weight_norm

from gradcam_widget import GradCAM

PICTURE = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))


class Block(nn.Module):
    """A convolution with settings of every kind."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.bend = nn.LeakyReLU(0.1)
        self.scale = 1.0
        self.switch = False
        self.act: Callable[[Tensor], Tensor] = torch.tanh
        self.mask = torch.ones(4, 1, 1)
        self.table = np.ones(4)
        self.unused = [1, 2]

    def forward(self, x: Tensor) -> Tensor:
        table = torch.tensor(self.table, dtype=x.dtype).view(4, 1, 1)
        x = self.bend(self.conv(x)) * self.scale * self.mask * table
        return self.act(-x if self.switch else x)


class Net(nn.Module):
    """Two of them would be the same."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.block, self.head = Block(), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(x).mean((2, 3)))


def assign(path: str, value: Any) -> Callable[[nn.Module], None]:
    *above, name = path.split(".")

    def change(model: nn.Module) -> None:
        setattr(model.get_submodule(".".join(above)), name, value)

    change.__name__ = path
    return change


def patched(model: nn.Module) -> None:
    model.head.forward = lambda x: x[:, :3] * 2


def deleted(model: nn.Module) -> None:
    model.block.scale = 3.0
    del model.block.unused


CHANGES = [
    assign("block.scale", 3.0),
    assign("block.switch", True),
    assign("block.act", torch.sigmoid),
    assign("block.mask", torch.tensor([0.0, 1, 1, 1]).view(4, 1, 1)),
    assign("block.table", np.array([1.0, 0, 1, 1])),
    assign("block.conv.stride", (2, 2)),
    assign("block.conv.padding", (0, 0)),
    assign("block.bend.negative_slope", 0.9),
    patched,
    deleted,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_setting_that_has_changed_is_noticed(change):
    model = Net().eval()
    cam = GradCAM(model)
    before = cam.explain(PICTURE, 1, "block.conv")
    number = cam.trace_number
    change(model)
    found, fresh = cam.explain(PICTURE, 1, "block.conv"), GradCAM(model).explain(PICTURE, 1, "block.conv")
    assert torch.equal(found.signed_cam, fresh.signed_cam)
    assert found.score == fresh.score != before.score
    assert cam.trace_number > number
    assert cam.passes.forward == 2
    cam.explain(PICTURE, 1, "block.conv")
    assert cam.passes.forward == 2


def test_what_compiling_leaves_in_a_model_is_no_setting():
    model = Net().eval()
    cam = GradCAM(model)
    cam.explain(PICTURE, 1, "block.conv")
    torch.compile(model, backend="eager")
    model.block.conv.compile(backend="eager")
    cam.explain(PICTURE, 1, "block.conv")
    assert cam.passes.forward == 1
    model.block.scale = 2.0  # what is a setting is noticed as before
    cam.explain(PICTURE, 1, "block.conv")
    model.block.another = 1
    cam.explain(PICTURE, 1, "block.conv")
    assert cam.passes.forward == 3


class Remembering(Net):
    """Keeps what it has seen, as many models do."""

    def __init__(self) -> None:
        super().__init__()
        self.size: tuple[int, ...] = ()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.size = tuple(x.shape)
        self.calls += 1
        self.block.seen = self.block(x)  # new at the first pass, and with its graph
        self.share = 1 / len(x)  # of equal value, and another object each time
        return self.head(self.block.seen.mean((2, 3)))


@pytest.mark.parametrize("method", ["GradCAM", "ScoreCAM", "AblationCAM"])
def test_what_passes_remember_is_no_setting(method):
    cam = GradCAM(Remembering().eval())
    first = cam.explain(PICTURE, 1, "block.conv", method)
    passes = cam.passes
    again = cam.explain(PICTURE, 1, "block.conv", method)
    assert torch.equal(first.alpha, again.alpha)
    assert cam.passes == passes


def test_what_the_users_own_passes_remember_costs_one_pass_at_most():
    model = Remembering().eval()
    model(PICTURE)  # so that the first trace finds the size that it leaves
    cam = GradCAM(model)
    cam.explain(PICTURE, 1, "block.conv")
    for count in (2, 3, 4):
        model(PICTURE.expand(count, -1, -1, -1))
        cam.explain(PICTURE, 1, "block.conv")
        assert cam.passes.forward <= 2
    model.block.scale = 2.0  # what is no memory is noticed as before
    passes = cam.passes.forward
    cam.explain(PICTURE, 1, "block.conv")
    assert cam.passes.forward == passes + 1


def test_training_flags_and_what_does_nothing_in_eval_mode_are_no_settings():
    model = Net().eval()
    cam = GradCAM(model)
    cam.explain(PICTURE, 1, "block.conv")
    model.train()
    model.block.bend.inplace = True
    cam.explain(PICTURE, 1, "block.conv")
    assert cam.passes.forward == 1


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
def test_a_weight_that_a_hook_computes_is_no_setting():
    model = Net().eval()
    weight_norm(model.block.conv)
    cam = GradCAM(model)
    cam.explain(PICTURE, 1, "block.conv")
    with torch.no_grad():
        model(PICTURE)
    cam.explain(PICTURE, 1, "block.conv")
    assert cam.passes.forward == 1


def test_settings_keep_neither_the_model_nor_what_it_remembers_alive():
    model = Remembering().eval()
    model.own = model.forward  # leads back to the model
    cam = GradCAM(model)
    cam.explain(PICTURE, 1, "block.conv")
    model(PICTURE)
    seen, gone = weakref.ref(model.block.seen), weakref.ref(model)
    cam.explain(PICTURE, 1, "block.conv")
    model.block.seen = None
    cam.explain(PICTURE, 1, "block.conv")
    gc.collect()
    assert seen() is None
    del model, cam
    gc.collect()
    assert gone() is None
