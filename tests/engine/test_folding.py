"""Batch norms folded into the convolutions before them: only where that is all they do, and without a trace."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from gradcam_widget import GradCAM
from gradcam_widget.folding import Folding

PICTURE = torch.rand(1, 3, 14, 14, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


class Net(nn.Module):
    """Convolutions and batch norms in every relation: the first three pairs can be folded, the others not."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.first_norm = nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8)
        self.grouped, self.plain_norm = (
            nn.Conv2d(8, 8, 3, padding="same", groups=4),
            nn.BatchNorm2d(8, affine=False),
        )
        self.strided, self.strided_norm = nn.Conv2d(8, 8, 3, stride=2, dilation=2), nn.BatchNorm2d(8)
        self.second, self.shared = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)
        self.forked, self.forked_norm = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)
        self.looked_at, self.looked_at_norm = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)
        self.mirrored = nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect")
        self.mirrored_norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu_(self.first_norm(self.first(x)))
        x = self.plain_norm(self.grouped(x)).tanh()
        x = self.strided_norm(self.strided(x)).sigmoid()
        x = self.shared(self.shared(self.second(x)))
        forked = self.forked(x)
        x = self.forked_norm(forked) + forked
        x = self.mirrored_norm(self.mirrored(self.looked_at_norm(self.looked_at(x))))
        return self.head(x.mean((2, 3)))


@pytest.fixture
def model() -> Net:
    torch.manual_seed(4)
    model = Net().double().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            if module.affine:
                nn.init.normal_(module.weight)
                nn.init.normal_(module.bias)
    model.looked_at.register_forward_hook(lambda module, args, output: output * 2)
    return model


def folding_of(model: nn.Module, most: int = 10**6) -> Folding:
    return Folding(GradCAM(model)._trace(PICTURE)[1], most)


@pytest.mark.parametrize("frozen", [False, True])
def test_the_scores_are_the_same_and_the_norms_of_three_pairs_do_not_run(model, frozen):
    model.requires_grad_(not frozen)
    for _ in range(2):  # the first pass of a model goes through clones
        folding = folding_of(model)
        ran = []
        with torch.no_grad():
            expected = model(PICTURE)
            with folding.used():
                changed = {name for name, module in model.named_modules() if "forward" in module.__dict__}
                ran.append(model(PICTURE))
        assert changed == {"first", "first_norm", "grouped", "plain_norm", "strided", "strided_norm"}
        torch.testing.assert_close(ran[0], expected, rtol=1e-12, atol=1e-12)
        assert not any("forward" in module.__dict__ for module in model.modules())


def test_the_modules_are_put_back_after_an_error(model):
    with pytest.raises(KeyError, match="stop"), folding_of(model).used():
        raise KeyError("stop")
    assert not any("forward" in module.__dict__ for module in model.modules())


def test_a_model_whose_weights_are_too_large_to_copy_is_not_folded(model):
    assert folding_of(model)
    assert not folding_of(model, most=100)


def test_score_cam_is_that_of_the_models_own_passes(model):
    found = GradCAM(model).explain(PICTURE, 2, "strided_norm", "ScoreCAM")
    kept = []
    handle = model.strided_norm.register_forward_hook(lambda *args: kept.append(args[2]))
    with torch.no_grad():
        model(PICTURE)
        handle.remove()
        masks = nn.functional.interpolate(kept[0], size=(14, 14), mode="bilinear", align_corners=False)[0]
        spans = masks.flatten(1).amax(1) - masks.flatten(1).amin(1)
        masks = (masks - masks.flatten(1).amin(1).view(-1, 1, 1)) / spans.view(-1, 1, 1)
        scores = torch.cat([model(PICTURE * mask)[:, 2] for mask in masks])
    torch.testing.assert_close(found.alpha, torch.softmax(scores, 0), rtol=1e-9, atol=1e-12)


def test_what_follows_a_change_of_the_weights_is_of_the_new_ones(model):
    cam = GradCAM(model)
    cam.explain(PICTURE, 2, "strided_norm", "ScoreCAM")
    with torch.no_grad():
        model.grouped.weight.mul_(-1)
    again = cam.explain(PICTURE, 2, "strided_norm", "ScoreCAM")
    assert torch.equal(again.alpha, GradCAM(model).explain(PICTURE, 2, "strided_norm", "ScoreCAM").alpha)
