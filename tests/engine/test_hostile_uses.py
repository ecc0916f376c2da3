"""Strange but realistic surroundings: what an engine is asked from, and what it is given, that few think of."""

from __future__ import annotations

import contextlib
import copy
import pickle
import threading
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


def test_several_engines_of_one_model_in_threads():
    model = network().train()
    expected = [GradCAM(network()).explain(PICTURE, target, "3").alpha for target in range(5)]
    wrong: list[object] = []
    began = threading.Barrier(4)

    def ask(cam: GradCAM) -> None:
        began.wait()
        for turn in range(20):
            try:
                found = cam.explain(PICTURE, turn % 5, "3").alpha
                cam.ablate(PICTURE, [0], turn % 5, "3")
                if not torch.allclose(found, expected[turn % 5], rtol=1e-4, atol=1e-7):
                    wrong.append(found)
            except Exception as error:
                wrong.append(error)
            cam.close()

    with untouched(model):
        threads = [threading.Thread(target=ask, args=(GradCAM(model),)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_passes_of_another_thread_are_none_of_a_traces():
    # The other thread runs the same model while the trace is being made.
    class Meanwhile(nn.Module):
        other: threading.Thread | None = None

        def forward(self, x: Tensor) -> Tensor:
            if threading.current_thread() is threading.main_thread():
                self.other = threading.Thread(target=model[:4], args=(torch.zeros(1, 3, 12, 16),))
                self.other.start()
                self.other.join()
                del self.other
            return x * 1

    model = network()
    expected = by_hand(model)
    model.insert(0, Meanwhile())
    with untouched(model):
        cam = GradCAM(model)
        assert [layer.name for layer in cam.layers(PICTURE)] == ["0", "1", "2", "3", "4", "5", "6"]
        torch.testing.assert_close(cam.explain(PICTURE, 1, "4").alpha, expected)


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_a_model_that_leaves_gradients_switched_off(error):
    class Off(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            torch.set_grad_enabled(False)
            if error is not None:
                raise error("stopped")
            return x

    model = network()
    expected = by_hand(model)
    model.append(Off())
    try:
        with untouched(model), contextlib.suppress(ValueError, KeyboardInterrupt):
            torch.testing.assert_close(GradCAM(model).explain(PICTURE, 1, "3").alpha, expected)
    finally:
        torch.set_grad_enabled(True)


def test_hooks_of_all_modules_that_come_and_go_count():
    model = network()
    cam = GradCAM(model)
    expected = by_hand(model)
    torch.testing.assert_close(cam.explain(PICTURE, 1, "3").alpha, expected)
    handle = nn.modules.module.register_module_forward_hook(
        lambda module, given, output: 2 * output if isinstance(module, nn.Linear) else None
    )
    try:
        found = cam.explain(PICTURE, 1, "3").alpha
    finally:
        handle.remove()
    torch.testing.assert_close(found, 2 * expected)
    torch.testing.assert_close(cam.explain(PICTURE, 1, "3").alpha, expected)


def test_a_model_that_freezes_itself_in_its_pass():
    class Frozen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network()

        def forward(self, x: Tensor) -> Tensor:
            self.inner.requires_grad_(False)
            return self.inner(x)

    model = Frozen()
    with untouched(model):
        found = GradCAM(model).explain(PICTURE, 1, "inner.3").alpha
    torch.testing.assert_close(found, by_hand(model.inner))


def test_a_layer_that_is_overwritten_and_has_old_hooks_is_refused_in_words():
    # Its hooks go to the operation that made its output, which a clone would hide.
    model = network()
    model[1].register_backward_hook(lambda module, given, got: None)
    cam = GradCAM(model)
    with pytest.warns(FutureWarning, match="non-full backward hook"):
        layers = cam.layers(PICTURE)
    assert "1" not in [layer.name for layer in layers]
    with pytest.raises(ValueError, match="layer: '1'"), pytest.warns(FutureWarning, match="non-full"):
        GradCAM(model).explain(PICTURE, 1, "1")


@pytest.mark.filterwarnings(
    "ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"
)  # the compiler's
@pytest.mark.parametrize("method", ["GradCAM", "AblationCAM", "ScoreCAM", "GuidedBackprop"])
def test_layers_that_are_compiled_by_themselves(method):
    torch.manual_seed(0)
    body = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    net = nn.Sequential(*body, nn.Linear(5, 3)).eval()
    picture = torch.rand(1, 3, 16, 16)
    expected = GradCAM(net).explain(picture, 1, "0", method).signed_cam
    score = GradCAM(net).ablate(picture, [0], 1, "0").score
    for number in (0, 2):
        net[number].compile(backend="eager")
    net(picture)
    cam = GradCAM(net)
    torch.testing.assert_close(cam.explain(picture, 1, "0", method).signed_cam, expected)
    assert cam.ablate(picture, [0], 1, "0").score == pytest.approx(score, rel=1e-5)
    (read,) = cam.read([picture], "0")
    torch.testing.assert_close(read.maps[0], cam.explain(picture, 1, "0").activations)
