"""A watch tells that the model or the picture has changed, exactly where the engine would compute anew."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gradcam_widget import GradCAM

from .nets import ALL, build
from .test_harmless import CHANGES, WRITES, Weighted


def picture() -> Tensor:
    return torch.rand(1, 3, 12, 12, generator=torch.Generator().manual_seed(6))


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_model(change):
    model, image = Weighted().eval(), picture()
    watch = GradCAM(model).watch(image)
    assert watch.changed() is None
    CHANGES[change](model)
    assert watch.changed() == "model"


@pytest.mark.parametrize("write", WRITES)
def test_a_changed_picture(write):
    image = picture()
    watch = GradCAM(Weighted().eval()).watch(image)
    assert watch.changed() is None
    WRITES[write](image)
    assert watch.changed() == "picture"


def test_memory_shared_with_numpy():
    array = np.random.default_rng(0).random((1, 3, 12, 12), dtype=np.float32)
    watch = GradCAM(Weighted().eval()).watch(torch.from_numpy(array))
    assert watch.changed() is None
    array[0, 1, 5, 5] += 0.5
    assert watch.changed() == "picture"


def test_one_of_several_inputs():
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 5)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return self.head((self.conv(x) * y).mean((2, 3)))

    image = (picture(), torch.ones(1))
    watch = GradCAM(Two().eval()).watch(image)
    assert watch.changed() is None
    image[1].add_(1)
    assert watch.changed() == "picture"


def has_relus(model: nn.Module) -> bool:
    return any(isinstance(module, nn.ReLU) for module in model.modules())


ASKED: dict[str, Callable[[GradCAM, Tensor], object]] = {
    "maps": lambda cam, x: [cam.explain(x, target) for target in (0, 1)],
    "all layers": lambda cam, x: cam.explain_layers(x, 1),
    "a method of many passes": lambda cam, x: cam.explain(x, 1, method="AblationCAM"),
    "guided": lambda cam, x: has_relus(cam.model) and cam.explain(x, 1, method="GuidedGradCAM"),
    "without a channel": lambda cam, x: cam.ablate(x, [0]),
    "occlusion": lambda cam, x: cam.occlude(x, 1, patch=6),
    "another picture": lambda cam, x: cam.explain(x + 1, 1),
    "the model itself": lambda cam, x: cam.model(x),
    "training mode": lambda cam, _: cam.model.train(),
    "all forgotten": lambda cam, _: cam.close(),
}


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("asked", ASKED)
def test_what_is_asked_changes_nothing(name, asked):
    image = picture()
    cam = GradCAM(build(name))
    watch = cam.watch(image)
    passes = cam.passes
    assert watch.changed() is None
    assert cam.passes == passes
    if (name, asked) == ("stochastic", "the model itself"):
        pytest.skip("a pass of the user's own writes to this model's buffers, which is a change")
    ASKED[asked](cam, image)
    assert watch.changed() is None


def test_a_part_of_a_batch_that_is_written_to_elsewhere():
    batch = torch.rand(4, 3, 12, 12, generator=torch.Generator().manual_seed(6))
    watch = GradCAM(Weighted().eval()).watch(batch[0])
    batch[2].mul_(0.5)
    assert watch.changed() is None
    batch[0].mul_(0.5)
    assert watch.changed() == "picture"


MOODS: dict[str, Callable[[nn.Module], object]] = {
    "a parameter": lambda m: m.get_parameter("conv.weight").data.mul_(2),
    "a buffer": lambda m: m.get_buffer("running").data.add_(1),
    "a module": lambda m: setattr(m, "relu", nn.Tanh()),
    "a setting": lambda m: setattr(m.conv, "stride", (2, 2)),
    "a type": lambda m: m.double(),
    "a hook": lambda m: m.conv.register_forward_hook(lambda module, args, output: output * 2),
}


@pytest.mark.parametrize("change", MOODS)
def test_a_model_whose_passes_write_to_it(change):
    image, model = picture(), build("stochastic")
    cam = GradCAM(model)
    watch = cam.watch(image)
    cam.explain(image + 1)
    assert watch.changed() is None
    MOODS[change](model)
    assert watch.changed() == "model"
    assert cam.watch(image).changed() is None


def test_no_pass_for_a_picture_that_is_known():
    image = picture()
    cam = GradCAM(build("plain"))
    cam.explain(image)
    passes = cam.passes
    cam.watch(image)
    assert cam.passes == passes


def test_a_pass_that_runs_elsewhere_is_no_change():
    begun, done = threading.Event(), threading.Event()

    class Slow(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 5)
            self.slowly = [False]

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            if self.slowly[0]:
                begun.set()
                done.wait(10)
            return self.head(x.mean((2, 3)))

    model = Slow().eval()
    watch = GradCAM(model).watch(picture())
    model.slowly[0] = True
    other = threading.Thread(target=GradCAM(model).explain, args=(picture(),))
    other.start()
    assert begun.wait(10)
    assert watch.changed(wait=False) is None  # nothing can be told
    threading.Timer(0.2, done.set).start()
    assert watch.changed() is None  # it waits, and does not take the other's hooks for the user's
    assert done.is_set()
    other.join()
