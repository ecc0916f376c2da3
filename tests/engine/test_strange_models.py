"""Models that break other engines: each is explained exactly, by a reference without hooks, or refused."""

from __future__ import annotations

import copy
import gc
import weakref
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gradcam_widget.engine import GradCAM

from .nets import Head, build
from .test_harmless import untouched

X = torch.rand(1, 3, 12, 16, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def check(
    model: nn.Module, layer: str, activations: Tensor, suffix: Callable[[Tensor], Tensor], x: Any = X
) -> None:
    """Two pictures, so that also what the engine learned from the first one is put to the test."""
    with untouched(model):
        cam = GradCAM(model)
        cam.explain(x, 0, layer)
        found = cam.explain(x, 1, layer)
    leaf = activations.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(suffix(leaf)[0, 1], leaf)
    alpha = gradient[0].flatten(1).mean(1)
    assert float(alpha.abs().max()) > 0
    torch.testing.assert_close(found.activations, leaf.detach()[0], rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(found.alpha, alpha, rtol=1e-10, atol=1e-14)
    signed = torch.einsum("k,k...->...", alpha, leaf.detach()[0])
    torch.testing.assert_close(found.signed_cam, signed, rtol=1e-10, atol=1e-14)


class Net(nn.Module):
    """conv, a middle of one's own, conv, head."""

    def __init__(self, middle: Callable[[Net, Tensor], Tensor], **modules: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), Head(4)
        for name, module in modules.items():
            self.add_module(name, module)
        self.middle = middle
        self.double()

    def tail(self, y: Tensor) -> Tensor:
        return self.head(torch.tanh(self.second(y)))

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(self.middle(self, self.first(x)))


def written_to(change: Callable[[Tensor], Any]) -> Callable[[Net, Tensor], Tensor]:
    def middle(net: Net, y: Tensor) -> Tensor:
        change(y)
        return y

    return middle


WRITES: dict[str, Callable[[Tensor], Any]] = {
    "relu_": lambda y: torch.relu_(y),
    "add_": lambda y: y.add_(1),
    "mul_ by itself": lambda y: y.mul_(y.detach().clone()),
    "a slice": lambda y: y[:, :2].mul_(3),
    "an index": lambda y: y.__setitem__((0, 1), 0.5),
    "a view": lambda y: y.view(1, -1).sin_(),
    "masked": lambda y: y.masked_fill_(y > 0, 0.3),
    "twice": lambda y: (y.mul_(0.5), y.add_(2), y.sin_()),
    "transposed and back": lambda y: y.transpose_(2, 3).transpose_(2, 3).mul_(2),
}


@pytest.mark.parametrize("change", WRITES)
def test_outputs_that_are_written_to(change):
    model = Net(written_to(WRITES[change]))

    def suffix(a: Tensor) -> Tensor:
        a = a.clone()
        WRITES[change](a)
        return model.tail(a)

    check(model, "first", model.first(X), suffix)


def test_an_in_place_residual():
    model = Net(
        lambda net, y: net.act(net.inner(y)).__iadd__(y), inner=nn.Conv2d(4, 4, 3, padding=1), act=nn.Tanh()
    )
    inner = model.inner(model.first(X)).detach()
    short = model.first(X).detach()
    check(model, "inner", inner, lambda a: model.tail(torch.tanh(a) + short))
    check(model, "act", torch.tanh(inner), lambda a: model.tail(a + short))
    check(model, "first", short, lambda a: model.tail(torch.tanh(model.inner(a)) + a))


def test_a_module_that_writes_to_its_input_and_returns_something_else():
    class Writes(nn.Module):
        def forward(self, y: Tensor) -> Tensor:
            y.relu_()
            return y * 2

    model = Net(lambda net, y: net.writes(y) + y, writes=Writes())
    check(model, "first", model.first(X), lambda a: model.tail(3 * torch.relu(a)))
    check(
        model,
        "writes",
        2 * torch.relu(model.first(X)),
        lambda a: model.tail(a + torch.relu(model.first(X).detach())),
    )


def test_control_flow_that_writes_for_some_pictures_only():
    def middle(net: Net, y: Tensor) -> Tensor:
        return y.relu_() if float(y.detach().mean()) > net.threshold else y.tanh()

    model = Net(middle)
    bright, dark = X, -5 * X
    means = sorted(float(model.first(x).detach().mean()) for x in (bright, dark))
    model.threshold = sum(means) / 2
    cam = GradCAM(model)
    for x in (bright, dark, bright * 0.99, dark * 0.99, bright * 0.98, dark):
        found = cam.explain(x, 1, "first")
        leaf = model.first(x).detach().requires_grad_()
        acted = torch.relu(leaf) if float(leaf.detach().mean()) > model.threshold else leaf.tanh()
        (gradient,) = torch.autograd.grad(model.tail(acted)[0, 1], leaf)
        torch.testing.assert_close(found.activations, leaf.detach()[0], rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(found.alpha, gradient[0].mean((1, 2)), rtol=1e-10, atol=1e-14)


def test_a_view_of_what_is_written_to_later_is_right_or_refused():
    class Half(nn.Module):
        def forward(self, y: Tensor) -> Tensor:
            return y[:, :2]

    def middle(net: Net, y: Tensor) -> Tensor:
        total = net.front(y).sum()
        y.relu_()
        return y * total

    model = Net(middle, front=Half())
    check(model, "first", model.first(X), lambda a: model.tail(torch.relu(a) * a[:, :2].sum()))
    with pytest.raises(ValueError, match="layer: 'front' gave no feature map"):
        GradCAM(model).explain(X, 1, "front")


# -- modules used in strange ways ----------


def test_a_reused_block():
    model = Net(
        lambda net, y: net.block(net.block(net.block(y))), block=nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(True))
    )
    first = model.first(X).detach()
    block = lambda a: torch.relu(model.block[0](a))  # noqa: E731 # a shorthand of this test
    assert [layer.name for layer in GradCAM(model).layers(X) if layer.name.startswith("block")] == [
        name for call in ("", ":2", ":3") for name in (f"block.0{call}", f"block.1{call}", f"block{call}")
    ]
    check(model, "block:2", block(block(first)), lambda a: model.tail(block(a)))
    check(model, "block.0:2", model.block[0](block(first)), lambda a: model.tail(block(torch.relu(a))))
    check(model, "block.0", model.block[0](first), lambda a: model.tail(block(block(torch.relu(a)))))


def test_a_module_under_two_names_and_modules_never_called():
    shared = nn.Conv2d(4, 4, 1)
    model = Net(lambda net, y: net.two(net.one(y).tanh()), one=shared, two=shared, never=nn.Conv2d(4, 4, 1))
    first = model.first(X)
    cam = GradCAM(model)
    assert [layer.name for layer in cam.layers(X)] == ["first", "one", "one:2", "second"]
    check(model, "one:2", shared(shared(first).tanh()), model.tail)
    check(model, "one", shared(first), lambda a: model.tail(shared(a.tanh())))
    check(model, "two", shared(first), lambda a: model.tail(shared(a.tanh())))
    check(model, "two:2", shared(shared(first).tanh()), model.tail)
    with pytest.raises(ValueError, match="layer: 'never' gave no feature map for this picture: it did not run"):
        cam.explain(X, 1, "never")


def test_a_name_with_a_colon():
    model = Net(
        lambda net, y: net.parts["a:2"](y),
        parts=nn.ModuleDict({"a:2": nn.Conv2d(4, 4, 1), "a": nn.Conv2d(4, 4, 1)}),
    )
    check(model, "parts.a:2", model.parts["a:2"](model.first(X)), model.tail)


class Pair(tuple):
    """A tuple that cannot be made from a list."""

    __slots__ = ()

    def __new__(cls, a, b):
        return super().__new__(cls, (a, b))


Named = namedtuple("Named", ["a", "b"])


class Wraps(nn.Module):
    def __init__(self, kind: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, y: Tensor) -> Any:
        return self.kind(torch.sin(y), torch.cos(y))


@pytest.mark.parametrize(
    "kind",
    [lambda a, b: (a, b), lambda a, b: [a, b], Named, Pair],
    ids=["tuple", "list", "named tuple", "tuple of its own"],
)
def test_modules_that_return_several_tensors(kind):
    def middle(net: Net, y: Tensor) -> Tensor:
        wrapped = net.wraps(y)
        assert type(wrapped) is type(kind(y, y))
        return wrapped[0] * wrapped[1]

    model = Net(middle, wraps=Wraps(kind))
    cosine = torch.cos(model.first(X)).detach()
    check(model, "wraps", torch.sin(model.first(X)), lambda a: model.tail(a * cosine))
    check(model, "first", model.first(X), lambda a: model.tail(torch.sin(a) * torch.cos(a)))


def test_modules_that_return_no_tensor_first():
    kinds: list[Callable[[Tensor, Tensor], Any]] = [
        lambda a, b: {"a": a, "b": b},
        lambda a, b: (None, a, b),
        lambda a, b: None,
    ]
    for kind in kinds:
        model = Net(lambda net, y: (net.wraps(y), y)[1].sin(), wraps=Wraps(kind))
        assert [layer.name for layer in GradCAM(model).layers(X)] == ["first", "second"]
        check(model, "first", model.first(X), lambda a, model=model: model.tail(a.sin()))


def test_complex_numbers_inside():
    class Spectrum(nn.Module):
        def forward(self, y: Tensor) -> Tensor:
            return torch.fft.fft2(y)

    model = Net(lambda net, y: torch.fft.ifft2(net.spectrum(y) * 1.5).real, spectrum=Spectrum())
    assert [layer.name for layer in GradCAM(model).layers(X)] == ["first", "second"]
    check(model, "first", model.first(X), lambda a: model.tail(torch.fft.ifft2(torch.fft.fft2(a) * 1.5).real))


def test_nested_identities_and_empty_sequences():
    nothing = nn.Sequential(nn.Sequential(), nn.Identity(), nn.Sequential(nn.Identity(), nn.Dropout(0.5)))
    model = Net(lambda net, y: net.nothing(y).relu_(), nothing=nothing)
    check(model, "first", model.first(X), lambda a: model.tail(torch.relu(a)))


# -- outputs ----------


class Output(OrderedDict):
    """What Hugging Face's models return: a dictionary with attributes."""

    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(name) from error


@dataclass
class Plain:
    loss: None
    logits: Tensor


OUTPUTS: dict[str, tuple[Callable[[Tensor], Any], Any]] = {
    "tuple": (lambda s: (s, s * 2), None),
    "list": (lambda s: [s, 3], None),
    "tuple with None first": (lambda s: (None, s), None),
    "dict with logits": (lambda s: {"loss": None, "logits": s}, None),
    "dict with out": (lambda s: OrderedDict(out=s, aux=s * 2), None),
    "model output": (lambda s: Output(logits=s, hidden_states=(s,)), None),
    "dataclass": (lambda s: Plain(None, s), None),
    "key": (lambda s: {"a": s * 2, "scores": s}, "scores"),
    "position": (lambda s: (s * 2, s), 1),
    "function": (lambda s: {"deep": [s * 2, (s,)]}, lambda output: output["deep"][1][0]),
    "a view": (lambda s: torch.cat([s, s * 2], 1)[:, :5], None),
    "a chunk": (lambda s: torch.cat([s * 2, s], 1).chunk(2, 1)[1], None),
    "expanded": (lambda s: s.T.contiguous().T, None),
}


@pytest.mark.parametrize("kind", OUTPUTS)
def test_outputs(kind):
    function, selector = OUTPUTS[kind]

    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = build("plain").double()

        def forward(self, x):
            return function(self.body(x))

    cam = GradCAM(Wrapped(), output=selector)
    expected = GradCAM(build("plain").double())
    assert torch.equal(cam.predict(X), expected.predict(X))
    for layer in ("4", "0", "3"):
        found = cam.explain(X, 1, f"body.{layer}")
        torch.testing.assert_close(found.alpha, expected.explain(X, 1, layer).alpha, rtol=1e-12, atol=1e-15)
        assert found.probability == pytest.approx(expected.explain(X, 1, layer).probability, rel=1e-6)


def test_several_inputs():
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(1, 4, 3), Head(4)

        def forward(self, x, y, number):
            return self.head(torch.tanh(self.one(x) * self.two(y) + number.sum()))

    torch.manual_seed(0)
    model = Two().double()
    y, number = torch.rand(1, 1, 12, 16, dtype=torch.float64), torch.tensor([[1, 2]])
    other = model.two(y).detach()
    check(model, "one", model.one(X), lambda a: model.head(torch.tanh(a * other + 3)), (X, y, number))
    cam = GradCAM(model)
    first = cam.explain((X, y, number), 1, "one")
    assert torch.equal(cam.explain((X, y, number.clone()), 1, "one").alpha, first.alpha)
    assert cam.passes.forward == 1
    assert not torch.equal(cam.explain((X, y, number + 1), 1, "one").alpha, first.alpha)
    assert cam.passes.forward == 2


# -- checkpointing, wrappers, compilation ----------


class Checkpointed(nn.Module):
    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.head, self.reentrant = nn.Conv2d(3, 4, 3), Head(4), reentrant
        self.body = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU(True), nn.Dropout(0.5))
        self.double()

    def forward(self, x):
        return self.head(checkpoint(self.body, self.first(x), use_reentrant=self.reentrant).tanh())


@pytest.mark.parametrize("training", [False, True])
def test_checkpoints(training):
    model = Checkpointed(False).train(training)
    still = copy.deepcopy(model).eval()
    check(model, "first", model.first(X), lambda a: still.head(torch.relu(still.body[1](still.body[0](a))).tanh()))
    with untouched(model):
        assert len(GradCAM(model).layers(X)) >= 2


def test_reentrant_checkpoints_are_refused_in_words():
    model = Checkpointed(True)
    with (
        untouched(model),
        pytest.raises(ValueError, match="model: it uses activation checkpointing with use_reentrant=True"),
    ):
        GradCAM(model).explain(X, 1, "first")


def test_densenet_that_saves_memory():
    torch.manual_seed(0)
    saving = torchvision.models.DenseNet(8, (2, 2), 16, num_classes=5, memory_efficient=True).double().train()
    usual = torchvision.models.DenseNet(8, (2, 2), 16, num_classes=5).double()
    usual.load_state_dict(saving.state_dict())
    x = torch.rand(1, 3, 64, 64, dtype=torch.float64)
    with untouched(saving):
        found = GradCAM(saving).explain_layers(
            x, 1, ["features.denseblock1", "features.transition1", "features.pool0"]
        )
    for layer, expected in GradCAM(usual).explain_layers(x, 1, list(found)).items():
        torch.testing.assert_close(found[layer].alpha, expected.alpha, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(
    "wrap",
    [
        "compiled",
        "parallel",
        "compiled in place",
        "compiled part",
        "compiled part in place",
    ],
)
@pytest.mark.parametrize("warm", [False, True])
def test_wrappers(wrap, warm):
    inner = build("residual").double()
    expected = GradCAM(build("residual").double()).explain_layers(X, 1, ["stem", "relu:2", "relu:4"])
    torch.compiler.reset()
    model: nn.Module = inner
    if wrap == "compiled":
        model = torch.compile(inner, backend="eager")
    elif wrap == "compiled in place":
        inner.compile(backend="eager")
    elif wrap == "compiled part":
        inner.head = torch.compile(inner.head, backend="eager")
    elif wrap == "compiled part in place":
        inner.head.compile(backend="eager")
    else:
        model = nn.DataParallel(inner)
    with torch.no_grad():
        scores = model(X) if warm else None
    cam = GradCAM(model)
    found = cam.explain_layers(X, 1, list(expected))
    for layer, right in expected.items():
        torch.testing.assert_close(found[layer].alpha, right.alpha, rtol=1e-10, atol=1e-14)
    output = weakref.ref(cam._trace(X)[1].output)
    cam.close()
    gc.collect()
    assert output() is None  # what was compiled meanwhile holds nothing of the pass
    with torch.no_grad():
        after = model(X)
    torch.testing.assert_close(after, build("residual").double()(X), rtol=1e-12, atol=1e-14)
    assert scores is None or torch.equal(scores, after)


# -- dtypes, dimensions, memory formats ----------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    exact = GradCAM(build("residual")).explain(X.float(), 1, "relu:4")
    model = build("residual").to(dtype)
    with untouched(model):
        found = GradCAM(model).explain(X, 1, "relu:4")
    assert (found.alpha.dtype, found.signed_cam.dtype, found.activations.dtype) == (
        torch.float32,
        torch.float32,
        dtype,
    )
    torch.testing.assert_close(found.alpha, exact.alpha, rtol=0.05, atol=0.02 * float(exact.alpha.abs().max()))
    assert found.diagnosis is not None
    assert str(dtype).removeprefix("torch.") in found.diagnosis


def test_channels_last_memory():
    model = build("residual").double()
    expected = GradCAM(model).explain_layers(X, 1)
    turned = build("residual").double().to(memory_format=torch.channels_last)
    found = GradCAM(turned).explain_layers(X.contiguous(memory_format=torch.channels_last), 1)
    for layer, right in expected.items():
        torch.testing.assert_close(found[layer].signed_cam, right.signed_cam, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(("axes", "size"), [(1, (24,)), (3, (8, 10, 12))])
def test_signals_and_volumes(axes, size):
    torch.manual_seed(0)
    conv, pool = {1: (nn.Conv1d, nn.MaxPool1d), 3: (nn.Conv3d, nn.MaxPool3d)}[axes]
    model = nn.Sequential(
        conv(2, 4, 3, padding=1), nn.ReLU(True), pool(2), conv(4, 4, 3, padding=1), nn.Tanh(), Head(4)
    )
    model = model.double()
    x = torch.rand(1, 2, *size, dtype=torch.float64)
    check(model, "0", model[0](x), lambda a: model[2:](torch.relu(a)), x)
    check(model, "3", model[:4](x), model[4:], x)
    assert GradCAM(model).explain(x[0], 1).heatmap().shape == size


def test_a_model_made_under_inference_mode():
    with torch.inference_mode():
        model = build("residual")
    found = GradCAM(model).explain(X.float(), 1, "relu:2")
    assert torch.equal(found.alpha, GradCAM(build("residual")).explain(X.float(), 1, "relu:2").alpha)
    assert all(parameter.is_inference() for parameter in model.parameters())


def test_shared_weights_and_parametrisations():
    model = Net(lambda net, y: net.other(y), other=nn.Conv2d(4, 4, 3))
    model.other.weight = model.second.weight
    nn.utils.parametrizations.weight_norm(model.first)
    model.double()
    check(model, "first", model.first(X), lambda a: model.tail(model.other(a)))
    check(model, "other", model.other(model.first(X)), model.tail)


def test_an_overflow_is_said():
    model = build("plain")
    model[3].weight.data.fill_(1e30)
    model[4] = nn.Identity()
    model[7].weight.data.fill_(1e30)
    found = GradCAM(model).explain(X.float(), 1, "0")
    assert found.diagnosis is not None
    assert "NaN or infinite" in found.diagnosis
    assert bool((found.heatmap() == 0).all())


def test_large_and_tiny_pictures():
    cam = GradCAM(build("residual"))
    assert cam.explain(torch.rand(3, 1, 1), 1, "stem").heatmap().tolist()[0][0] in (0.0, 1.0)
    assert cam.explain(torch.rand(3, 2, 301), 1, "stem").heatmap().shape == (2, 301)
