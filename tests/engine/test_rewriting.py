"""Models that write to their own parameters in a forward pass, as max-norm constraints do."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from gradcam_widget import GradCAM

PICTURE = torch.rand(1, 3, 12, 12, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


class Constrained(nn.Module):
    """Limits the norm of its filters before it uses them."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(3, 5, 3), nn.Conv2d(5, 6, 3), nn.Linear(6, 4)
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).tanh()
        weight = self.second.weight
        if self.how == "data replaced":
            weight.data = torch.renorm(weight.data, 2, 0, 0.1)
        elif self.how == "in place":
            with torch.no_grad():
                weight.renorm_(2, 0, 0.1)
        elif self.how == "shrinks":
            with torch.no_grad():
                weight.mul_(0.5)
        return self.head(self.second(x).relu().mean((2, 3)))


def build(how: str) -> Constrained:
    torch.manual_seed(6)
    return Constrained(how).double().eval()


def expected(how: str, layer: str, target: int) -> Tensor:
    model, kept = build(how), {}
    model.get_submodule(layer).register_forward_hook(lambda *args: kept.update(out=args[2]))
    scores = model(PICTURE.clone().requires_grad_())
    (gradient,) = torch.autograd.grad(scores[0, target], kept["out"])
    return gradient[0].flatten(1).mean(1)


METHODS = ("GradCAM", "LayerCAM", "ShapleyCAM", "AblationCAM", "ScoreCAM", "GuidedBackprop")


@pytest.mark.parametrize("layer", ["first", "second"])
def test_parameters_that_are_replaced_are_put_back_and_the_map_is_of_those_that_ran(layer):
    model = build("data replaced")
    before, address = model.second.weight.detach().clone(), model.second.weight.data_ptr()
    cam = GradCAM(model)
    for target in range(4):
        found = cam.explain(PICTURE, target, layer)
        torch.testing.assert_close(found.alpha, expected("data replaced", layer, target), rtol=1e-9, atol=1e-14)
    for method in METHODS:
        cam.explain(PICTURE, 1, layer, method)
    assert torch.equal(model.second.weight, before)
    assert model.second.weight.data_ptr() == address


@pytest.mark.parametrize("how", ["in place", "shrinks"])
def test_what_is_written_in_place_is_put_back_from_the_second_pass_on(how):
    model = build(how)
    cam = GradCAM(model)
    cam.predict(PICTURE)  # does once what the model's own forward pass does
    after = model.second.weight.detach().clone()
    reference = build(how)
    reference(PICTURE)
    assert torch.equal(after, reference.second.weight)
    for other in (PICTURE, PICTURE * 0.5):
        for method in METHODS:
            cam.explain(other, 1, "first", method)
        cam.occlude(other, 1)
    assert torch.equal(model.second.weight, after)
    GradCAM(model).explain(PICTURE, 2, "second")
    assert torch.equal(model.second.weight, after)
    assert all(parameter.grad is None for parameter in model.parameters())
