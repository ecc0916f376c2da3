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


class Dead(nn.Module):
    """Of six channels two are zero after the ReLU, two are constant where they are not zero."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu, self.head = nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Linear(6, 4)
        with torch.no_grad():
            for channel, bias in ((1, -3.0), (2, 0.1), (4, -1.0), (5, 1 / 3)):
                self.conv.weight[channel] = 0
                self.conv.bias[channel] = bias

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.relu(self.conv(x)).mean((2, 3)))


@pytest.mark.parametrize("method", ["ScoreCAM", "AblationCAM"])
def test_channels_that_have_nothing_to_say_take_no_pass_of_their_own(method):
    torch.manual_seed(0)
    model = Dead().eval()
    cam = GradCAM(model)
    done = []
    found = cam.explain(PICTURE, 1, "relu", method, progress=lambda at, total: done.append((at, total)))
    with torch.no_grad():
        maps = model.relu(model.conv(PICTURE))
        score = model.head(maps.mean((2, 3)))[0, 1]
        expected = []
        for channel in range(6):
            if method == "AblationCAM":
                without = maps.clone()
                without[:, channel] = 0
                expected.append((score - model.head(without.mean((2, 3)))[0, 1]) / score)
                continue
            map_ = maps[0, channel]
            span = map_.max() - map_.min()
            mask = (map_ - map_.min()) / span if channel in (0, 3) else torch.zeros_like(map_)
            expected.append(model(PICTURE * mask)[0, 1])
    weights = torch.stack(expected)
    weights = weights if method == "AblationCAM" else torch.softmax(weights, 0)
    torch.testing.assert_close(found.alpha, weights, rtol=1e-4, atol=1e-6)
    if method == "AblationCAM":
        assert done[-1] == (4, 4)
        assert cam.passes.partial == 4
        assert found.alpha[1] == found.alpha[4] == 0  # not a rounding away from it
    else:
        assert done[-1] == (3, 3)  # two with a map, and one for the four that are flat
        assert cam.passes.forward == 4  # and the one that was traced
        assert len(set(found.alpha[[1, 2, 4, 5]].tolist())) == 1


def test_a_constant_channel_upsampled_is_no_mask():
    # 7 cells of 1/3 on 16 pixels: bilinear weights that do not add up to 1 in float32 leave 1/3 and its neighbours
    class Constant(Dead):
        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.relu(self.conv(x)[..., ::2, ::2][..., :7, :7]).mean((2, 3)))

    torch.manual_seed(0)
    model = Constant().eval()
    alpha = GradCAM(model).explain(PICTURE, 1, "relu", "ScoreCAM").alpha
    assert len(set(alpha[[1, 2, 4, 5]].tolist())) == 1


@pytest.mark.parametrize("method", ["ScoreCAM", "AblationCAM"])
def test_a_layer_of_which_no_channel_says_anything(method):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 14 * 14, 3)).eval()
    with torch.no_grad():
        model[0].weight.zero_()
        model[0].bias.fill_(-1)
    cam = GradCAM(model)
    found = cam.explain(PICTURE, 1, "1", method)
    assert found.alpha.tolist() == ([0.25] * 4 if method == "ScoreCAM" else [0] * 4)
    assert not found.signed_cam.any()
