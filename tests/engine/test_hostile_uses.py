"""Strange but realistic surroundings: what an engine is asked from, and what it is given, that few think of."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.utils import spectral_norm

from gradcam_widget import GradCAM
from gradcam_widget.inputs import IMAGENET

from .nets import PLAIN, plain
from .test_harmless import untouched

IMAGE = Image.linear_gradient("L")
PICTURE = torch.rand(1, 3, 12, 16, generator=torch.Generator().manual_seed(3))


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return plain()


def by_hand(model: nn.Sequential, picture: Tensor = PICTURE) -> Tensor:
    """Weights of the second convolution for class 1."""
    below = model[:4](picture).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(model[4:](below)[0, 1], below)
    return gradient[0].mean((1, 2))


@pytest.mark.parametrize("ask", ["explain", "picture", "occlude", "blank", "transform"])
def test_another_default_device_does_not_matter(ask):
    model = network()
    cam = GradCAM(model, transform=PLAIN)
    asked: dict[str, Callable[[], Any]] = {
        "explain": lambda: cam.explain(PICTURE, 1, "3").alpha,
        "picture": lambda: torch.from_numpy(cam.picture(PICTURE)),
        "occlude": lambda: torch.from_numpy(cam.occlude(PICTURE, 1, patch=4).drop),
        "blank": lambda: cam.blank((8, 8), 3),
        "transform": lambda: IMAGENET(IMAGE),
    }
    expected = asked[ask]()
    cam.close()
    with untouched(model), torch.device("meta"):
        found = asked[ask]()
    assert torch.equal(found, expected)


def test_old_weight_norms_are_left_as_found():
    # They compute the weight before each pass, and keep it with its graph, which cannot be copied.
    model = network()
    model[3] = spectral_norm(model[3])
    before = model[3].weight
    with untouched(model):
        found = GradCAM(model).explain(PICTURE, 1, "3")
    assert model[3].weight is before
    torch.testing.assert_close(found.alpha, by_hand(copy.deepcopy(model)))


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda cam: pickle.loads(pickle.dumps(cam))])
def test_an_engine_can_be_copied_and_pickled(again):
    cam = GradCAM(network(), class_names=["a", "b", "c", "d", "e"], transform=PLAIN, memory_budget="7MB")
    expected = cam.explain(PICTURE, "b", "3")
    other = again(cam)
    assert (other.class_names, other.transform) == (cam.class_names, cam.transform)
    assert other.memory().budget == 7_000_000
    assert other.memory().total == 0
    assert torch.equal(other.explain(PICTURE, "b", "3").alpha, expected.alpha)
    assert (other.model is cam.model) == (again is copy.copy)


@pytest.mark.parametrize(
    ("picture", "said"),
    [
        (PICTURE.to_sparse(), "image: expected a dense tensor; got torch.sparse_coo"),
        (PICTURE.to("meta"), "image: it is on the device 'meta', where tensors have no values"),
    ],
    ids=["sparse", "meta"],
)
@pytest.mark.parametrize("several", [False, True])
def test_pictures_without_values_are_refused_in_words(picture, said, several):
    model = network()
    cam = GradCAM(model)
    with untouched(model), pytest.raises(ValueError, match=said):
        cam.explain((PICTURE, picture) if several else picture, 1)
    assert cam.passes.forward == 0


def test_models_without_values_are_refused_in_words():
    with pytest.raises(ValueError, match="model: it has parameters or buffers on the device 'meta'"):
        GradCAM(network().to("meta"))
    model = network()
    with untouched(model), pytest.raises(ValueError, match="device: expected one that computes; got 'meta'"):
        GradCAM(model, device="meta")


@pytest.mark.parametrize("transform", [torch.func.grad, torch.func.vmap])
def test_asking_inside_of_a_transform_of_functions_is_refused_in_words(transform):
    model = network()
    cam = GradCAM(model)

    def asked(factor: Tensor) -> Tensor:
        cam.explain(PICTURE, 1, "3")
        return factor.sum()

    with untouched(model), pytest.raises(RuntimeError, match=r"image: .* inside of a torch\.func transform"):
        transform(asked)(torch.ones(2, 2))
    torch.testing.assert_close(cam.explain(PICTURE, 1, "3").alpha, by_hand(model))
