"""Many passes run with the channels last where a processor is faster so, and only where the model agrees."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from gradcam_widget import GradCAM

PICTURE = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))


class Watching(nn.Module):
    """Tells in which order its batches come; ``view`` makes it refuse the channels last."""

    def __init__(self, view: bool) -> None:
        super().__init__()
        self.conv, self.view, self.seen = nn.Conv2d(3, 6, 3, padding=1), view, set()
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > 1:
            self.seen.add("usual" if x.is_contiguous() else "last")
        if self.view:
            x = x.view(len(x), -1).view(x.shape)
        return self.head(self.conv(x).relu().mean((2, 3)))


@pytest.mark.parametrize("view", [False, True], ids=["takes any order", "takes the usual one"])
def test_the_order_is_the_one_that_the_model_takes(view):
    torch.manual_seed(0)
    model = Watching(view).eval()
    found = GradCAM(model).explain(PICTURE, 1, "conv", "ScoreCAM")
    assert ("last" in model.seen) != view or model.seen == {"last", "usual"}
    alone = GradCAM(model, memory_budget=30_000).explain(PICTURE, 1, "conv", "ScoreCAM")
    torch.testing.assert_close(found.signed_cam, alone.signed_cam, rtol=1e-5, atol=1e-6)
    expected = []
    with torch.no_grad():
        maps = model.conv(PICTURE)[0]
        for channel in maps:
            mask = (channel - channel.min()) / (channel.max() - channel.min())
            expected.append(model(PICTURE * mask)[0, 1])
    torch.testing.assert_close(found.alpha, torch.softmax(torch.stack(expected), 0), rtol=1e-4, atol=1e-6)
    drop = GradCAM(model).occlude(PICTURE, 1, patch=8, stride=8).drop
    assert drop.shape == (2, 2)
