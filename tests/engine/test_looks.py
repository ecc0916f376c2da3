"""A look at a value of a GPU waits for all that it has to do: how often one is taken."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from gradcam_widget import GradCAM
from gradcam_widget import last_picture as comparing
from gradcam_widget.maps import in_one_copy

LOOKS = ("aten._local_scalar_dense", "aten.is_nonzero", "aten.equal", "aten.nonzero")


class Looks(TorchDispatchMode):
    """Counts the operations inside that take a value out of a tensor of several dimensions, or of a scalar."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if str(function).startswith(LOOKS):
            self.taken.append(str(function))
        return function(*args, **(kwargs or {}))


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(4)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3),
        nn.Tanh(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    ).eval()


def picture(seed: int) -> Tensor:
    return torch.rand(1, 3, 12, 12, generator=torch.Generator().manual_seed(seed))


def test_whether_a_layer_matters_is_looked_at_once_for_a_target(model, monkeypatch):
    cam, x = GradCAM(model), picture(0)
    looked: list[Tensor] = []
    own = Tensor.any
    monkeypatch.setattr(Tensor, "any", lambda self, *args: looked.append(self) or own(self, *args))
    layers = {cam.explain(x, 3).layer for _ in range(3)} | {cam.default_layer(x, 3)}
    cam.explain(x, 3, method="LayerCAM")
    assert [len(mean) for mean in looked] == [8]
    assert {layer.name for layer in layers} == {"3"}
    cam.explain(x, 4)
    assert len(looked) == 2


def test_a_class_that_nothing_matters_to_is_looked_at_once_too(model, monkeypatch):
    with torch.no_grad():
        model[6].weight[2] = 0
    cam, x = GradCAM(model), picture(0)
    looked: list[Tensor] = []
    own = Tensor.any
    monkeypatch.setattr(Tensor, "any", lambda self, *args: looked.append(self) or own(self, *args))
    for _ in range(2):
        for layer in ("0", "2"):
            for method in ("GradCAM", "XGradCAM"):
                assert cam.explain(x, 2, layer, method).diagnosis_code == "no_gradient"
    # Of each layer the means, and then every cell, for they might have cancelled out.
    assert [tuple(values.shape) for values in looked] == [(6,), (6, 10, 10), (8,), (8, 8, 8)]


def test_what_is_known_is_found_again_without_a_look_at_the_model(model):
    cam, x = GradCAM(model), picture(0)
    cam.explain(x, 3)
    with Looks() as looks:
        cam.explain(x, 3)
    assert looks.taken == ["aten.equal.default"]  # a sample of the picture; of one on a GPU all of it


def test_the_picture_that_was_asked_about_last_is_compared_first(model, monkeypatch):
    cam = GradCAM(model)
    arrays = [picture(seed).numpy().copy() for seed in range(4)]
    tensors = [torch.from_numpy(array) for array in arrays]  # which can be written to behind the back of torch
    for tensor in tensors:
        cam.explain(tensor, 1)
    compared: list[bool] = []
    own = comparing.is_trace_of
    monkeypatch.setattr(
        "gradcam_widget.traces.is_trace_of", lambda *args: compared.append(own(*args)) or compared[-1]
    )
    cam.explain(tensors[0], 1)
    assert compared == [False, False, False, True]
    compared.clear()
    cam.explain(tensors[0], 1)
    assert compared == [True]
    assert cam.passes.forward == 4
    arrays[0][:] = 0.5
    cam.explain(tensors[0], 1)
    assert cam.passes.forward == 5


def test_several_tensors_are_copied_as_one():
    values = [torch.rand(4), torch.rand(2, 3), torch.rand(3, 2, 2).transpose(0, 2)]
    found = in_one_copy(values)
    assert all(map(torch.equal, found, values))
    assert len({part.untyped_storage().data_ptr() for part in found}) == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="what waits for a GPU needs one, and there is none here")
def test_maps_from_a_gpu_are_those_of_the_cpu(model):
    x = picture(0)
    expected = GradCAM(model).explain(x, 3, "0")
    found = GradCAM(model, device="cuda").explain(x.cuda(), 3, "0")
    torch.testing.assert_close(found.alpha, expected.alpha, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(found.signed_cam, expected.signed_cam, rtol=1e-3, atol=1e-6)


def test_where_nothing_is_kept_it_is_looked_at_each_time(model):
    cam = GradCAM(model, memory_budget=0)
    first, second = cam.explain(picture(0), 3), cam.explain(picture(0), 3)
    assert first.layer.name == second.layer.name == "3"
    assert torch.equal(first.signed_cam, second.signed_cam)
    assert cam.passes.forward == 2
