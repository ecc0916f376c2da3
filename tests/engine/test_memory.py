"""What is kept stays within its budget, however long a session lasts."""

from __future__ import annotations

import os
import random

import psutil
import torch
from torch import nn

from gradcam_widget import GradCAM


def small_net() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 50)).eval()


def resident() -> float:
    """Megabytes of this process."""
    return psutil.Process(os.getpid()).memory_info().rss / 1e6


def test_ten_thousand_selections_stay_flat():
    cam = GradCAM(small_net(), memory_budget="3MB")
    pictures = [torch.randn(1, 3, 16, 16) for _ in range(12)]
    chance = random.Random(0)
    layers = ["0", "1", "2", "3", "4"]
    early = 0.0
    for turn in range(10_000):
        cam.explain(chance.choice(pictures), chance.randrange(50), chance.choice(layers))
        if turn % 500 == 0:
            assert cam.memory().total <= 3_000_000
        if turn == 2_000:
            early = resident()
    assert resident() - early < 25
    assert 1 <= cam.memory().pictures <= 12


def test_a_budget_of_nothing_keeps_nothing_and_gives_the_same_maps():
    picture, net = torch.randn(1, 3, 16, 16), small_net()
    free, full = GradCAM(net, memory_budget=0), GradCAM(net)
    for layer in ("4", "0", "2"):
        torch.testing.assert_close(free.explain(picture, 7, layer).alpha, full.explain(picture, 7, layer).alpha)
        assert free.memory().total == 0
    assert full.memory().traces > 0
    assert full.memory().gradients > 0
    full.close()
    assert full.memory().total == 0


def test_the_least_recently_used_pictures_go_first():
    cam = GradCAM(small_net(), memory_budget="200kB")
    pictures = [torch.randn(1, 3, 16, 16) for _ in range(30)]
    for picture in pictures:
        cam.predict(picture)
        assert cam.memory().total <= cam.memory().budget
    kept = cam.memory().pictures
    assert 0 < kept < 30
    before = cam.passes.forward
    for picture in reversed(pictures[30 - kept :]):
        cam.predict(picture)
    assert cam.passes.forward == before
    cam.predict(pictures[0])
    assert cam.passes.forward == before + 1
