"""The user's model and process are bit for bit as they were, after every public call, normal or failing."""

from __future__ import annotations

import contextlib
import copy
import gc
import random
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from gradcam_widget.engine import GradCAM
from gradcam_widget.harmless import ModelState
from gradcam_widget.methods import METHODS

from .nets import build

X = torch.rand(1, 3, 12, 14, generator=torch.Generator().manual_seed(3))


# -- a picture of everything ----------


def bits(tensor: Tensor) -> bytes:
    return tensor.detach().clone().contiguous().flatten().view(torch.uint8).numpy().tobytes()


def of_module(module: nn.Module) -> dict[str, Any]:
    """Every attribute of a module: identities, and what dictionaries hold (hooks, parameters, buffers, ...)."""
    seen: dict[str, Any] = {"class": type(module)}
    for name, value in vars(module).items():
        if isinstance(value, dict):
            seen[name] = (id(value), [(key, id(item)) for key, item in value.items()])
        elif isinstance(value, (bool, int, float, str, tuple, type(None))):
            seen[name] = value  # training and inplace among them
        else:
            seen[name] = id(value)
    return seen


def of_tensor(tensor: Tensor) -> dict[str, Any]:
    return {
        "bits": bits(tensor),
        "place": tensor.data_ptr(),
        "requires_grad": tensor.requires_grad,
        "leaf": tensor.is_leaf,
        "hooks": repr(tensor._backward_hooks),
        "gradient": None if tensor.grad is None else (id(tensor.grad), bits(tensor.grad)),
    }


def of_process() -> dict[str, Any]:
    kind, keys, *rest = np.random.get_state()
    return {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy": (kind, keys.tobytes(), *rest),
        "python": random.getstate(),
        "grad": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "dtype": torch.get_default_dtype(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "anomaly": torch.is_anomaly_enabled(),
        "threads": torch.get_num_threads(),
        "global hooks": (
            len(nn.modules.module._global_forward_hooks),
            len(nn.modules.module._global_forward_pre_hooks),
        ),
    }


def everything(model: nn.Module) -> dict[str, Any]:
    found = {f"module {name!r}": of_module(module) for name, module in model.named_modules()}
    found |= {f"parameter {name!r}": of_tensor(tensor) for name, tensor in model.named_parameters()}
    found |= {f"buffer {name!r}": of_tensor(tensor) for name, tensor in model.named_buffers()}
    return found | {"state_dict": list(model.state_dict()), "process": of_process()}


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return [
        f"{where}: {key}" if isinstance(before.get(where), dict) else where
        for where in before.keys() | after.keys()
        for key in (before[where].keys() | after[where].keys() if isinstance(before.get(where), dict) else [""])
        if (before[where].get(key) != after[where].get(key) if key else before.get(where) != after.get(where))
    ]


@contextlib.contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    before = everything(model)
    try:
        yield
    finally:
        assert differences(before, everything(model)) == []


def test_the_picture_of_everything_sees_changes():
    # The check itself can fail: each of these changes is seen.
    def hook(*args):
        return None

    changes: list[Callable[[nn.Module], object]] = [
        lambda m: m.conv.weight.data.mul_(1.0000001),
        lambda m: setattr(m.conv.weight, "grad", torch.zeros_like(m.conv.weight)),
        lambda m: m.conv.weight.requires_grad_(False),
        lambda m: m.bn.eval(),
        lambda m: setattr(m.relu, "inplace", False),
        lambda m: m.conv.register_forward_hook(hook),
        lambda m: setattr(m, "running", m.running.clone()),
        lambda m: m.register_buffer("new", torch.zeros(1)),
        lambda m: setattr(m, "relu", nn.ReLU(inplace=True)),
        lambda m: torch.rand(1),
        lambda m: np.random.rand(),
        lambda m: random.random(),
    ]
    for change in changes:
        model = build("stochastic").train()
        before = everything(model)
        change(model)
        assert differences(before, everything(model)) != []
    before = everything(model)
    assert differences(before, everything(model)) == []


# -- every public call, on models in every state ----------

QUESTIONS: dict[str, Callable[[GradCAM], object]] = {
    "predict": lambda cam: cam.predict(X),
    "layers": lambda cam: cam.layers(X),
    "default_layer": lambda cam: cam.default_layer(X),
    "explain the default": lambda cam: cam.explain(X),
    "explain": lambda cam: cam.explain(X, 1, "conv").heatmap(),
    "terms": lambda cam: cam.terms(X, 1, "conv", "LayerCAM"),
    "ablate": lambda cam: cam.ablate(X, [0, 2], 1, "conv"),
    "explain_layers": lambda cam: cam.explain_layers(X, 1),
    "explain_targets": lambda cam: cam.explain_targets(X, [0, 3], "bn"),
    "explain_batch": lambda cam: cam.explain_batch([X, 1 - X], [0, 3], "bn"),
    "prepare": lambda cam: cam.prepare(Image.new("RGB", (30, 40))),
    "picture": lambda cam: cam.picture(X),
    "resolve_target": lambda cam: cam.resolve_target(2),
    "a session": lambda cam: (
        cam.explain(X, 0, "relu"),
        cam.explain(X, 0, "conv"),
        cam.explain(1 - X),
        cam.close(),
    ),
}


def training(model: nn.Module) -> None:
    model.train()


def mixed(model: nn.Module) -> None:
    model.train()
    model.bn.eval()
    model.head.eval()


def frozen(model: nn.Module) -> None:
    model.requires_grad_(False)


def half_frozen(model: nn.Module) -> None:
    model.conv.weight.requires_grad_(False)


def with_gradients(model: nn.Module) -> None:
    model(X).sum().backward()
    model.conv.bias.grad = None


STATES = {"eval": lambda model: None} | {
    state.__name__: state for state in (training, mixed, frozen, half_frozen, with_gradients)
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("question", QUESTIONS)
def test_the_model_is_untouched(question, state):
    model = build("stochastic")
    STATES[state](model)
    with untouched(model):
        QUESTIONS[question](GradCAM(model))


@pytest.mark.parametrize("method", METHODS)
def test_the_model_is_untouched_by_every_method(method):
    model = build("plain").train()
    with untouched(model):
        cam = GradCAM(model)
        found = cam.explain(X, 1, "4", method=method)
        cam.explain_layers(X, 1, ["4"], method=method)
    assert bool(torch.isfinite(found.signed_cam).all())


MODES: dict[str, Callable[[], Any]] = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "enable_grad in inference_mode": lambda: _both(torch.inference_mode(), torch.enable_grad()),
    "set_grad_enabled(False)": lambda: torch.set_grad_enabled(False),
}


@contextlib.contextmanager
def _both(first: Any, second: Any) -> Iterator[None]:
    with first, second:
        yield


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("question", QUESTIONS)
def test_ambient_modes_are_kept_and_do_not_matter(question, mode):
    model = build("stochastic")
    with MODES[mode](), untouched(model):
        QUESTIONS[question](GradCAM(model))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["plain", "residual", "several outputs"])
def test_maps_are_the_same_under_any_ambient_mode(name, mode):
    expected = GradCAM(build(name)).explain_layers(X, 1)
    cam = GradCAM(build(name))
    with MODES[mode]():
        first = cam.explain(X, 1, list(expected)[-1])
        inside = cam.explain_layers(X.clone(), 1)
    outside = cam.explain_layers(X, 1)
    assert torch.equal(first.alpha, expected[first.layer.name].alpha)
    for layer, found in expected.items():
        torch.testing.assert_close(inside[layer].signed_cam, found.signed_cam, rtol=1e-5, atol=1e-8)
        assert torch.equal(outside[layer].signed_cam, inside[layer].signed_cam)


def test_answers_given_under_inference_mode_may_be_changed_freely():
    with torch.inference_mode():
        found = GradCAM(build("plain")).explain(X, 1, "3")
    found.alpha.add_(1)
    found.activations.add_(1)


def test_an_ambient_autocast_does_not_matter():
    cam = GradCAM(build("plain"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = cam.explain(X, 1, "0")
    assert torch.equal(inside.alpha, GradCAM(build("plain")).explain(X, 1, "0").alpha)


def test_the_default_dtype_does_not_matter():
    expected = GradCAM(build("plain")).explain(X, 1, "0")
    model = build("plain")
    torch.set_default_dtype(torch.float64)
    try:
        with untouched(model):
            found = GradCAM(model).explain(X, 1, "0")
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(found.alpha, expected.alpha)


def test_maps_are_the_same_whatever_the_models_flags():
    expected = GradCAM(build("stochastic")).explain_layers(X, 1)
    for state in STATES.values():
        model = build("stochastic")
        state(model)
        model.load_state_dict(build("stochastic").state_dict())
        for layer, found in GradCAM(model).explain_layers(X, 1).items():
            assert torch.equal(found.signed_cam, expected[layer].signed_cam)


# -- hooks of the user's own ----------


def test_the_users_hooks_stay_and_fire():
    model = build("residual")
    fired: list[str] = []
    model.stem.register_forward_pre_hook(lambda *args: fired.append("pre"))
    model.stem.register_forward_hook(lambda *args: fired.append("forward"))
    model.stem.register_full_backward_hook(lambda *args: fired.append("backward"))
    model.bn.weight.register_hook(lambda gradient: fired.append("tensor"))
    model.relu.register_forward_hook(lambda module, args, output: None, always_call=True)
    with untouched(model):
        GradCAM(model).explain_layers(X, 1)
    fired.clear()
    model(X.clone().requires_grad_()).sum().backward()
    assert fired == ["pre", "forward", "tensor", "backward"]


def test_what_a_users_hook_returns_is_what_is_explained():
    model = build("residual")
    model.blocks[0].register_forward_hook(lambda module, args, output: output * 2)
    found = GradCAM(model).explain(X, 1, "blocks.0")
    plain = build("residual")
    stem = torch.relu(plain.bn(plain.stem(X)))
    torch.testing.assert_close(found.activations, 2 * plain.blocks[0](stem)[0].detach())
    plain.blocks[0].weight.data *= 2
    plain.blocks[0].bias.data *= 2
    torch.testing.assert_close(found.alpha, GradCAM(plain).explain(X, 1, "blocks.0").alpha)


def test_a_model_runs_and_trains_as_before_afterwards():
    model, twin = build("residual"), build("residual")
    cam = GradCAM(model)
    cam.explain_layers(X, 1)
    for network in (model, twin):
        network.train()
        optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
        for _ in range(2):
            optimiser.zero_grad()
            network(X).square().sum().backward()
            optimiser.step()
    for (name, found), expected in zip(model.state_dict().items(), twin.state_dict().values(), strict=True):
        assert torch.equal(found, expected), name


def test_a_model_can_be_copied_and_saved_afterwards(tmp_path):
    model = build("residual")
    GradCAM(model).explain_layers(X, 1)
    assert torch.equal(copy.deepcopy(model)(X), model(X))
    torch.save(model.state_dict(), tmp_path / "model.pt")
    assert torch.equal(torch.load(tmp_path / "model.pt", weights_only=True)["stem.weight"], model.stem.weight)


def test_nothing_holds_the_model_or_the_graph_once_the_engine_is_gone():
    model = build("residual")
    cam = GradCAM(model)
    found = cam.explain(X, 1, "blocks.1")
    trace = weakref.ref(cam._trace(X)[1])
    gone = weakref.ref(model)
    assert trace() is not None
    cam.close()
    gc.collect()
    assert trace() is None
    del cam, model
    gc.collect()
    assert gone() is None
    assert found.alpha.shape == (6,)


# -- a model that raises ----------


class _FailsBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, error):
        ctx.error = error
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        raise ctx.error


class Failing(nn.Module):
    """Raises where it is told to, until it is mended."""

    def __init__(self, where: str, error: BaseException) -> None:
        super().__init__()
        self.body = build("stochastic").train()
        self.where, self.error = where, error

    def forward(self, x):
        torch.rand(1), np.random.rand(), random.random()
        scores = self.body(x)
        if self.where == "forward":
            raise self.error
        return _FailsBackward.apply(scores, self.error) if self.where == "backward" else scores


class TroubleError(Exception):
    pass


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, TroubleError, SystemExit, GeneratorExit])
@pytest.mark.parametrize("question", ["explain the default", "explain", "explain_layers", "explain_batch"])
def test_untouched_after_an_error_in_the_forward_pass(error, question):
    model = Failing("forward", error("in the model"))
    cam = GradCAM(model)
    with untouched(model), pytest.raises(error, match="in the model"):
        FAILING_QUESTIONS[question](cam)
    model.where = "nowhere"
    assert torch.equal(cam.explain(X, 1, "body.conv").alpha, GradCAM(model).explain(X, 1, "body.conv").alpha)


FAILING_QUESTIONS: dict[str, Callable[[GradCAM], object]] = {
    "explain the default": lambda cam: cam.explain(X),
    "explain": lambda cam: cam.explain(X, 1, "body.conv"),
    "explain_layers": lambda cam: cam.explain_layers(X, 1),
    "explain_batch": lambda cam: cam.explain_batch([X, 1 - X], [0, 3], "body.bn"),
}


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, TroubleError])
@pytest.mark.parametrize("question", FAILING_QUESTIONS)
def test_untouched_after_an_error_in_the_backward_pass(error, question):
    model = Failing("backward", error("in the model"))
    cam = GradCAM(model)
    with untouched(model), pytest.raises(error, match="in the model"):
        FAILING_QUESTIONS[question](cam)
    assert cam.predict(X).shape == (5,)
    model.where = "nowhere"
    cam.close()
    assert torch.equal(cam.explain(X, 1, "body.conv").alpha, GradCAM(model).explain(X, 1, "body.conv").alpha)


@pytest.mark.parametrize("error", [MemoryError, torch.OutOfMemoryError])
@pytest.mark.parametrize("where", ["forward", "backward"])
@pytest.mark.parametrize("question", FAILING_QUESTIONS)
def test_untouched_and_said_when_memory_runs_out(question, where, error):
    model = Failing(where, error("in the model"))
    cam = GradCAM(model)
    with (
        untouched(model),
        pytest.raises(MemoryError, match=r"memory: the cpu has not enough .* Use a smaller picture"),
    ):
        FAILING_QUESTIONS[question](cam)
    cam.close()
    model.where = "nowhere"
    assert torch.equal(cam.explain(X, 1, "body.conv").alpha, GradCAM(model).explain(X, 1, "body.conv").alpha)


def test_untouched_after_an_error_under_no_grad():
    model = Failing("forward", TroubleError("in the model"))
    with torch.no_grad(), untouched(model), pytest.raises(TroubleError, match="in the model"):
        GradCAM(model).explain(X)


def test_untouched_after_an_error_in_the_target():
    def target(scores):
        raise TroubleError("in the target")

    model = build("stochastic").train()
    cam = GradCAM(model)
    with untouched(model), pytest.raises(TroubleError, match="in the target"):
        cam.explain(X, target, "conv")
    assert torch.equal(cam.explain(X, 1, "conv").alpha, GradCAM(model).explain(X, 1, "conv").alpha)


def test_a_model_that_cannot_take_the_picture_is_untouched():
    model = build("stochastic").train()
    wrong = torch.rand(1, 4, 12, 12)
    with untouched(model), pytest.raises(RuntimeError, match="channels"):
        GradCAM(model).explain(wrong)


# -- models with side effects ----------


class Random(nn.Module):
    """Draws from every generator in its forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 5)

    def forward(self, x):
        x = self.conv(x) + torch.rand(()) + float(np.random.rand()) + random.random()
        return self.head(x.sin().mean((2, 3)))


def test_a_model_that_draws_random_numbers():
    torch.manual_seed(4)
    model = Random()
    with untouched(model):
        first = GradCAM(model).explain(X, 1, "conv")
        second = GradCAM(model).explain(X, 1, "conv")
    assert torch.equal(first.alpha, second.alpha)
    torch.rand(1)
    assert not torch.equal(GradCAM(model).explain(X, 1, "conv").alpha, first.alpha)


class Writes(nn.Module):
    """Writes to its own buffers in one of several ways."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.conv, self.head, self.how = nn.Conv2d(3, 4, 3), nn.Linear(4, 5), how
        self.register_buffer("state", torch.zeros(4))
        self.register_buffer("hidden", torch.full((4,), torch.nan), persistent=False)
        self.register_buffer("none", None)

    def forward(self, x):
        y = self.conv(x)
        mean = y.detach().mean((0, 2, 3))
        if self.how == "in place":
            self.state.add_(mean)
            self.hidden.copy_(mean)
        elif self.how == "replaced":
            self.state, self.hidden = self.state + mean, mean
        elif self.how == "from None":
            self.none = mean
        elif self.how == "to None":
            self.state = None
        elif self.how == "data":
            self.state.data += mean
        elif self.how == "data replaced":
            self.state.data = mean
        elif self.how == "registered":
            self.register_buffer("fresh", mean)
        elif self.how == "deleted":
            del self.state
        return self.head(y.tanh().mean((2, 3)))


@pytest.mark.parametrize(
    "how",
    [
        "in place",
        "replaced",
        "to None",
        "deleted",
        "from None",
        "data",
        "data replaced",
        "registered",
    ],
)
def test_a_model_that_writes_to_its_buffers(how):
    torch.manual_seed(4)
    model = Writes(how)
    with untouched(model):
        GradCAM(model).explain_layers(X, 1)


# -- changes between two calls ----------


class Weighted(nn.Module):
    """What is changed between two calls in the tests below."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.conv, self.bn = nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6)
        self.body = nn.Sequential(nn.Tanh(), nn.Conv2d(6, 6, 3), nn.Tanh())
        self.fc = nn.Linear(6, 5)

    def forward(self, x):
        return self.fc(self.body(self.bn(self.conv(x))).mean((2, 3)))


def step(model: nn.Module) -> None:
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.05)
    model(X).square().sum().backward()
    optimiser.step()


def running_statistics(model: nn.Module) -> None:
    model.train()
    with torch.no_grad():
        model(X * 5)
    model.eval()


def to_vector(model: nn.Module) -> None:
    vector = nn.utils.parameters_to_vector(model.parameters())
    nn.utils.vector_to_parameters(vector * 1.5, model.parameters())


def hooked(model: nn.Module) -> None:
    model.body[1].register_forward_hook(lambda module, args, output: output * torch.arange(6.0).view(1, -1, 1, 1))


CHANGES: dict[str, Callable[[nn.Module], object]] = {
    "optimiser step": step,
    "load_state_dict": lambda m: m.load_state_dict({k: v * 2 for k, v in m.state_dict().items()}),
    "in place": lambda m: nn.init.normal_(m.body[1].weight),
    "replaced parameter": lambda m: setattr(m.fc, "weight", nn.Parameter(torch.randn(5, 6))),
    "replaced module": lambda m: setattr(m, "fc", nn.Linear(6, 5)),
    "replaced in a sequence": lambda m: m.body.__setitem__(2, nn.ReLU()),
    "running statistics": running_statistics,
    "a parameter where None was": lambda m: setattr(m.conv, "bias", nn.Parameter(torch.randn(6))),
    "a module more": lambda m: m.body.append(nn.Softplus()),
    "new data": lambda m: setattr(m.fc.weight, "data", torch.randn(5, 6)),
    "vector_to_parameters": to_vector,
    "a hook": hooked,
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_model_is_explained_anew(change):
    model = Weighted().eval()
    cam = GradCAM(model)
    before = cam.explain(X, 1, "body.1")
    CHANGES[change](model)
    after = cam.explain(X, 1, "body.1")
    with torch.no_grad():
        assert torch.allclose(cam.predict(X), model.eval()(X)[0], rtol=1e-5, atol=1e-6)
    expected = GradCAM(model).explain(X, 1, "body.1")
    assert torch.equal(after.alpha, expected.alpha)
    assert not torch.equal(after.alpha, before.alpha)


def test_a_model_of_another_dtype_is_explained_anew():
    model = Weighted().eval()
    cam = GradCAM(model)
    assert cam.explain(X, 1, "body.1").alpha.dtype == torch.float32
    model.double()
    found = cam.explain(X, 1, "body.1")
    assert found.alpha.dtype == torch.float64
    assert torch.equal(found.alpha, GradCAM(model).explain(X, 1, "body.1").alpha)


class OwnFlag(nn.Module):
    """Keeps its training flag elsewhere than torch's modules do."""

    @property
    def training(self):
        return self.__dict__["mode"]

    @training.setter
    def training(self, mode):
        self.__dict__["mode"] = mode


def test_training_mode_is_seen_wherever_a_module_keeps_its_flag():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), OwnFlag()).eval()
    state = ModelState(model)
    assert not state.any_training()
    for module in (model[0], model[1]):
        module.train()
        assert state.any_training()
        module.eval()
        assert not state.any_training()


def test_switching_between_train_and_eval_runs_nothing():
    model = build("stochastic")
    cam = GradCAM(model)
    first = cam.explain(X, 1, "conv")
    passes = cam.passes
    model.train()
    assert torch.equal(cam.explain(X, 1, "conv").alpha, first.alpha)
    assert cam.passes == passes


WRITES: dict[str, Callable[[Tensor], object]] = {
    "torch": lambda image: image.mul_(0.3),
    "a view": lambda image: image[0, 0, :3].fill_(1),
    "detached": lambda image: image.detach().mul_(0.3),
    "numpy": lambda image: np.multiply(image.numpy(), 0.3, out=image.numpy()),
    "transposed": lambda image: image.transpose_(2, 3),
    "data": lambda image: image.data.mul_(0.3),
    "new data": lambda image: setattr(image, "data", image * 0.3),
    "dlpack": lambda image: np.multiply(np.from_dlpack(image), 0.3, out=np.from_dlpack(image)),
}
if not np.from_dlpack(torch.zeros(1)).flags.writeable:
    del WRITES["dlpack"]  # older versions of numpy only read there


@pytest.mark.parametrize("write", WRITES)
def test_a_changed_tensor_is_a_new_picture(write):
    image = torch.rand(1, 3, 12, 12, generator=torch.Generator().manual_seed(6))
    model = Weighted().eval()
    cam = GradCAM(model)
    before = cam.explain(image, 1, "body.1")
    WRITES[write](image)
    after = cam.explain(image, 1, "body.1")
    assert torch.equal(after.alpha, GradCAM(model).explain(image.clone(), 1, "body.1").alpha)
    assert not torch.equal(after.alpha, before.alpha)


@pytest.mark.parametrize("when", ["before", "after"])
def test_memory_shared_with_numpy(when):
    array = np.random.default_rng(0).random((1, 3, 12, 12), dtype=np.float32)
    image = torch.from_numpy(array) if when == "before" else torch.from_numpy(array).clone()
    shared = array if when == "before" else image.numpy()
    model = Weighted().eval()
    cam = GradCAM(model)
    before = cam.explain(image, 1, "body.1")
    shared *= 0.3
    after = cam.explain(image, 1, "body.1")
    assert torch.equal(after.alpha, GradCAM(model).explain(image.clone(), 1, "body.1").alpha)
    assert not torch.equal(after.alpha, before.alpha)


def test_changed_pixels_of_arrays_pictures_and_files_are_new_pictures(tmp_path):
    rng = np.random.default_rng(0)
    array = rng.integers(0, 256, (30, 30, 3), dtype=np.uint8)
    image, path = Image.fromarray(array.copy()), tmp_path / "picture.png"
    image.save(path)
    cam = GradCAM(build("plain"))
    before = cam.explain(array, 1, "3").alpha
    assert torch.equal(cam.explain(image, 1, "3").alpha, before)
    assert torch.equal(cam.explain(path, 1, "3").alpha, before)
    assert torch.equal(cam.explain(str(path), 1, "3").alpha, before)
    assert cam.passes.forward == 1
    array[:15] = 0
    image.paste((0, 0, 0), (0, 0, 30, 15))
    image.save(path)
    after = cam.explain(array, 1, "3").alpha
    assert not torch.equal(after, before)
    assert torch.equal(cam.explain(image, 1, "3").alpha, after)
    assert torch.equal(cam.explain(path, 1, "3").alpha, after)
    assert cam.passes.forward == 2


def test_the_input_is_untouched():
    class InPlaceOnInput(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rest = build("plain")

        def forward(self, x):
            return self.rest(x.mul_(2).add_(1))

    image = torch.rand(1, 3, 12, 12, requires_grad=True)
    kept, version = image.detach().clone(), image._version
    found = GradCAM(InPlaceOnInput()).explain(image, 1, "rest.0")
    assert torch.equal(image, kept)
    assert (image._version, image.grad, image.requires_grad) == (version, None, True)
    assert torch.equal(found.alpha, GradCAM(build("plain")).explain(kept * 2 + 1, 1, "0").alpha)


def test_a_target_that_works_in_place_changes_no_later_answer():
    cam = GradCAM(build("plain"))
    scores = cam.predict(X)
    found = cam.explain(X, lambda output: output.mul_(2).sub_(1)[1], "3")
    assert found.score == pytest.approx(2 * float(scores[1]) - 1, rel=1e-6)
    assert torch.equal(cam.predict(X), scores)
    torch.testing.assert_close(found.alpha, 2 * cam.explain(X, 1, "3").alpha)
    assert cam.explain(X, 1, "3").score == float(scores[1])


# -- threads ----------


def test_threads_mixing_all_calls_get_the_right_answers():
    model = build("dense")
    pictures = [X, X.flip(2), X.flip(3)]
    expected = {
        (p, t): GradCAM(model).explain_layers(picture, t) for p, picture in enumerate(pictures) for t in range(5)
    }
    cam = GradCAM(model, memory_budget=400_000)
    wrong: list[object] = []
    start = threading.Barrier(8)

    def work(seed: int) -> None:
        rng = random.Random(seed)
        start.wait()
        try:
            for _ in range(25):
                p, t = rng.randrange(3), rng.randrange(5)
                layers = rng.sample(list(expected[p, t]), 2)
                found = [
                    cam.explain(pictures[p], t, layers[0]),
                    *cam.explain_layers(pictures[p], t, layers).values(),
                ]
                for answer in found:
                    right = expected[p, t][answer.layer.name]
                    if not torch.allclose(answer.signed_cam, right.signed_cam, rtol=1e-4, atol=1e-7):
                        wrong.append((p, t, answer.layer.name))
                if rng.random() < 0.1:
                    cam.close()
                if rng.random() < 0.2 and cam.predict(pictures[p]).shape != (5,):
                    wrong.append("predict")
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    with untouched(model):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_an_eviction_by_another_thread_between_two_looks():
    # Another thread closes the engine after this one saw that there is a latest picture.
    cam = GradCAM(build("plain"))
    cam.explain(X, 1, "3")

    class Latest:
        def __init__(self, latest):
            self.latest = latest

        @property
        def number(self):
            assert cam._lock._is_owned()
            return self.latest.number

        def is_of(self, image):
            return self.latest.is_of(image)

    cam._traces._latest = Latest(cam._traces._latest)
    assert cam.explain(X, 1, "3").alpha.shape == (6,)


def test_ablating_leaves_the_kept_activations_alone():
    torch.manual_seed(0)
    # 33 channels: the last batch has one, for which widening makes no copy by itself
    net = nn.Sequential(nn.Conv2d(3, 33, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(33, 4))
    cam, picture = GradCAM(net.eval()), torch.randn(1, 3, 12, 12)
    before = cam.explain(picture, 1, "0").activations
    cam.explain(picture, 1, "0", "AblationCAM")
    assert torch.equal(cam.explain(picture, 1, "0").activations, before)
