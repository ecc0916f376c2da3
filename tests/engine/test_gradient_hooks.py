"""Hooks of the model's own on gradients: every layer's gradient is what torch says of its output alone."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge

from gradcam_widget import GradCAM, gradients

from .tape import TapeRecorder, backward_replaying
from .test_harmless import untouched

PICTURE = torch.rand(1, 3, 10, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
TARGET = 2

Bend = Callable[[Tensor], Tensor | None]


def nothing(gradient: Tensor) -> None:
    return None


class Block(nn.Module):
    """Its last module returns the block's output, on whose gradient there may be a hook."""

    def __init__(self, bend: Bend = nothing) -> None:
        super().__init__()
        self.conv, self.relu, self.last = nn.Conv2d(6, 6, 3, padding=1), nn.ReLU(True), nn.Conv2d(6, 6, 1)
        self.bend = bend

    def forward(self, x: Tensor) -> Tensor:
        y = self.last(self.relu(self.conv(x)) + x)
        y.register_hook(self.bend)
        return y


class Net(nn.Module):
    """Hooks by place: on what is overwritten, on what is not, on outputs of blocks, pools and reused modules."""

    def __init__(self, **bends: Bend) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.stem, self.relu = nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(inplace=True)
        self.block, self.other = Block(bends.get("inside", nothing)), Block()
        self.tanh = nn.Tanh()
        self.side = nn.Conv2d(6, 6, 1)
        self.last, self.act = nn.Conv2d(6, 8, 3), nn.Softplus()
        self.pool, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(8, 9)
        self.bends = bends
        self.double().eval()

    def at(self, place: str, y: Tensor) -> Tensor:
        if place in self.bends:
            y.register_hook(self.bends[place])
        return y

    def forward(self, x: Tensor) -> Tensor:
        x = self.at("relu", self.relu(self.at("stem", self.stem(x))))
        x = self.at("block", self.block(x))
        x = self.at("tanh", self.tanh(x))
        x = torch.relu_(self.at("other", self.other(x))) + self.at("side", self.side(x)).sin()
        x = self.at("tanh2", self.tanh(x))
        x = self.at("act", self.act(self.at("last", self.last(x))))
        return self.head(self.at("pool", self.pool(x)).flatten(1))


def reference(model: nn.Module, target: int = TARGET) -> dict[str, Tensor]:
    """dy/dA by layer, each by a backward pass of its own to the place where the layer's output was made."""
    edges, calls, handles = {}, {}, []

    def keep(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: object, output: Tensor) -> None:
            calls[name] = calls.get(name, 0) + 1
            if isinstance(output, Tensor) and output.ndim == 4:
                edges[name if calls[name] == 1 else f"{name}:{calls[name]}"] = get_gradient_edge(output)

        return hook

    for name, module in model.named_modules():
        if name:
            handles.append(module.register_forward_hook(keep(name)))
    score = model(PICTURE.clone().requires_grad_())[0, target]
    for handle in handles:
        handle.remove()
    return {
        name: torch.autograd.grad(score, edge, retain_graph=True, allow_unused=True)[0][0]
        for name, edge in edges.items()
    }


def double(gradient: Tensor) -> Tensor:
    return 2 * gradient


def shift(gradient: Tensor) -> Tensor:
    return gradient + 0.01


def positive(gradient: Tensor) -> Tensor:
    return gradient.clamp(min=0)


def clip(gradient: Tensor) -> Tensor:
    return gradient.clamp(-1e-3, 1e-3)


def full(bend: Bend, *names: str) -> Net:
    model = Net()
    for name in names:
        model.get_submodule(name).register_full_backward_hook(
            lambda module, given, got: tuple(bend(g) + got[0].mean() for g in given)
        )
    return model


def pre(bend: Bend, *names: str) -> Net:
    model = Net()
    for name in names:
        model.get_submodule(name).register_full_backward_pre_hook(lambda module, got: (bend(got[0]),))
    return model


def old(bend: Bend, *names: str) -> Net:
    model = Net()
    for name in names:
        model.get_submodule(name).register_backward_hook(lambda module, given, got: (bend(given[0]), *given[1:]))
    return model


MODELS: dict[str, Callable[[], nn.Module]] = {
    "a convolution that is overwritten": lambda: Net(stem=double),
    "a convolution": lambda: Net(side=double, last=shift),
    "an in-place ReLU": lambda: Net(relu=positive),
    "a block": lambda: Net(block=double, other=shift),
    "inside of a block": lambda: Net(inside=double),
    "inside of a block and outside": lambda: Net(inside=shift, block=double),
    "an activation": lambda: Net(act=shift),
    "clipped near the pool": lambda: Net(act=clip, last=double),
    "the pool": lambda: Net(pool=positive),
    "both calls of a module": lambda: Net(tanh=shift, tanh2=double),
    "everywhere": lambda: Net(
        **dict.fromkeys(
            ("stem", "relu", "inside", "block", "tanh", "other", "side", "tanh2", "last", "act", "pool"), shift
        )
    ),
    "a module's full hook": lambda: full(double, "block"),
    "full hooks of nested modules": lambda: full(double, "block", "block.last", "last", "side"),
    "hooks before a module": lambda: pre(shift, "block", "block.last", "act"),
    "old hooks": lambda: old(positive, "tanh", "act"),
}


@pytest.fixture(params=["lean", "as it is"], autouse=True)
def lean(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small networks too are treated as large ones."""
    if request.param == "lean":
        monkeypatch.setattr(gradients, "_LITTLE", 0)
        monkeypatch.setattr(gradients, "_LEAST", 2)


@pytest.fixture(params=["first", "later"])
def seen(request: pytest.FixtureRequest) -> str:
    """Whether the model has been traced before, so that only what is overwritten is passed on as a clone."""
    return request.param


def built(kind: str, seen: str) -> tuple[nn.Module, dict[str, Tensor]]:
    model = MODELS[kind]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of old hooks
        expected = reference(model)
    if seen == "later":
        GradCAM(model).predict(PICTURE)
    return model, expected


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-14)


def check_weights(cam: GradCAM, layer: str, expected: dict[str, Tensor], target: int = TARGET) -> None:
    close(cam.explain(PICTURE, target, layer).alpha, expected[layer].mean((1, 2)))


def check_cells(cam: GradCAM, layer: str, expected: dict[str, Tensor]) -> None:
    """By HiResCAM, sum_k g^k A^k, which shows every cell of the gradient."""
    found = cam.explain(PICTURE, TARGET, layer, "HiResCAM")
    close(found.signed_cam, (expected[layer] * found.activations).sum(0))


ORDERS: dict[str, Callable[[list[str]], list[str]]] = {
    "first layer first": lambda names: names,
    "last layer first": lambda names: names[::-1],
    "from the middle": lambda names: names[len(names) // 2 :] + names[: len(names) // 2],
    "every other": lambda names: names[::-2] + names,
}


@pytest.mark.filterwarnings("ignore:Using a non-full backward hook")
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", MODELS)
def test_layer_by_layer(kind, order, seen):
    model, expected = built(kind, seen)
    names = ORDERS[order](list(expected))
    with untouched(model):
        both = [check_weights, check_cells]
        for methods in ([check_weights], [check_cells], both, both[::-1]):
            cam = GradCAM(model)
            for name in names:
                for check in methods:
                    check(cam, name, expected)
            for check in methods[::-1]:
                check(cam, names[0], expected)


@pytest.mark.filterwarnings("ignore:Using a non-full backward hook")
@pytest.mark.parametrize("kind", MODELS)
def test_all_layers_at_once_and_many_targets(kind, seen):
    model, expected = built(kind, seen)
    cam = GradCAM(model)
    found = cam.explain_layers(PICTURE, TARGET, list(expected))
    for name in expected:
        close(found[name].alpha, expected[name].mean((1, 2)))
    cam = GradCAM(model)
    found = cam.explain_layers(PICTURE, TARGET, list(expected), "HiResCAM")
    for name in expected:
        close(found[name].signed_cam, (expected[name] * found[name].activations).sum(0))
    cam = GradCAM(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        others = {target: reference(model, target) for target in range(9)}
    for name in ("act", "last", "tanh:2", "block", "stem"):
        for target, one in enumerate(cam.explain_targets(PICTURE, range(9), name)):
            close(one.alpha, others[target][name].mean((1, 2)))


@pytest.mark.filterwarnings("ignore:Using a non-full backward hook")
@pytest.mark.parametrize("kind", ["a convolution", "inside of a block", "a module's full hook", "old hooks"])
def test_recorded_backward_passes(kind):
    model, _ = built(kind, "later")
    cam, _ = backward_replaying(model, TapeRecorder())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        others = {target: reference(model, target) for target in range(6)}
    for target, expected in others.items():
        for name in ("stem", "block", "side", "last"):
            check_weights(cam, name, expected, target)


@pytest.mark.parametrize("place", ["stem", "relu", "inside", "block", "side", "last", "act", "pool"])
def test_a_hook_that_looks_is_called_once_in_a_pass_with_the_gradient(place, seen):
    looks: list[Tensor] = []
    model = Net(**{place: looks.append})
    if seen == "later":
        GradCAM(model).predict(PICTURE)
    assert looks == []
    cam = GradCAM(model)
    cam.explain_targets(PICTURE, range(9), "stem", "LayerCAM")
    assert len(looks) == cam.passes.backward == 9
    name = {"inside": "block"}.get(place, place)
    close(looks[TARGET][0], reference(Net(), TARGET)[name])


def test_a_hook_that_is_put_on_later_counts():
    model = Net()
    cam = GradCAM(model)
    check_weights(cam, "stem", reference(model))
    handle = model.block.register_full_backward_hook(lambda module, given, got: (3 * given[0],))
    check_weights(cam, "stem", reference(model))
    handle.remove()
    model.last.register_full_backward_pre_hook(lambda module, got: (3 * got[0],))
    check_weights(cam, "stem", reference(model))


def test_a_part_of_a_tuple_that_nothing_reads_has_no_influence():
    class Halves(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            return x.chunk(2, 1)

    model = nn.Sequential(nn.Conv2d(3, 8, 3), Halves(), Second(), nn.Conv2d(4, 5, 1), nn.Tanh(), nn.Flatten(2))
    model.append(nn.AdaptiveAvgPool1d(1)).append(nn.Flatten()).double().eval()
    GradCAM(model).predict(PICTURE)
    found = GradCAM(model).explain_layers(PICTURE, 1)
    assert "0" in found
    close(found["0"].alpha, reference(model, 1)["0"].mean((1, 2)))
    with pytest.raises(ValueError, match="'1' has no influence on the target"):
        GradCAM(model).explain(PICTURE, 1, "1")


class Second(nn.Module):
    """Hands on the second of two tensors."""

    def forward(self, parts: tuple[Tensor, ...]) -> Tensor:
        return parts[1]
