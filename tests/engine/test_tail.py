"""Running only what follows a layer gives the same scores as the whole model with that layer's output replaced."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from gradcam_widget.tail import Tail
from gradcam_widget.trace import Trace
from gradcam_widget.tracer import Tracer

from .nets import ALL, Head, build


def picture(size: int) -> Tensor:
    return torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(1))


def replaced(model: nn.Module, x: Tensor, path: str, call: int, outputs: Tensor) -> Tensor:
    """Scores of whole forward passes, one for each output, in which a hook of ours replaces the layer's output."""
    scores = []
    for output in outputs:
        calls = 0

        def hook(module: nn.Module, args: Any, own: Any, output: Tensor = output) -> Any:
            nonlocal calls
            calls += 1
            if calls != call:
                return None
            return (output[None].clone(), *own[1:]) if isinstance(own, tuple) else output[None].clone()

        handle = model.get_submodule(path).register_forward_hook(hook)
        try:
            with torch.no_grad():
                found = model(x.clone())
        finally:
            handle.remove()
        scores.append(found if isinstance(found, Tensor) else found[0])
    return torch.cat(scores)


def variations(own: Tensor, count: int = 3) -> Tensor:
    """Versions of an output: as it is, scaled, with noise."""
    noise = torch.randn((count, *own.shape[1:]), generator=torch.Generator().manual_seed(2), dtype=own.dtype)
    factors = torch.linspace(0, 1, count, dtype=own.dtype).view(-1, *[1] * (own.ndim - 1))
    return own + factors * noise * own.std()


@contextmanager
def counted(model: nn.Module) -> Iterator[Counter[str]]:
    """How often each module's own class runs its forward, below all wrappers on the instance."""
    calls: Counter[str] = Counter()
    names = {module: name for name, module in model.named_modules()}
    classes = {type(module) for module in names}
    kept = {kind: kind.forward for kind in classes}

    def counting(forward: Callable[..., Any]) -> Callable[..., Any]:
        def run(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
            if self in names:
                calls[names[self]] += 1
            return forward(self, *args, **kwargs)

        return run

    own = {kind: "forward" in vars(kind) for kind in classes}
    try:
        for kind in classes:
            kind.forward = counting(kept[kind])
        yield calls
    finally:
        for kind in classes:
            if own[kind]:
                kind.forward = kept[kind]
            else:
                del kind.forward


NETS: dict[str, tuple[int, list[str]]] = {
    # input size, and a layer that is early, in the middle and late
    "resnet18": (32, ["conv1", "layer2.0.conv1", "layer2.0", "layer3.1.relu:2", "layer4.1.bn2"]),
    "densenet121": (32, ["features.conv0", "features.denseblock3.denselayer4", "features.norm5"]),
    "googlenet": (32, ["conv1", "inception3b.branch2", "inception4c", "inception5b"]),
    "mobilenet_v2": (32, ["features.0", "features.7.conv.1", "features.18"]),
    "mobilenet_v3_small": (32, ["features.1.block.0", "features.5", "features.12"]),
    "shufflenet_v2_x0_5": (32, ["conv1", "stage3.0.branch1", "stage4.2", "conv5"]),
    "squeezenet1_1": (32, ["features.0", "features.6.expand1x1", "features.12"]),
    "efficientnet_b0": (32, ["features.0", "features.4.1", "features.8"]),
    "regnet_y_400mf": (32, ["stem", "trunk_output.block2", "trunk_output.block4"]),
    "convnext_tiny": (32, ["features.0", "features.3.1", "features.7.2"]),
    "swin_t": (32, ["features.0", "features.3.0.attn", "features.5.2", "features.7.1"]),
    "vit_ti_16": (224, ["conv_proj", "encoder.layers.encoder_layer_5", "encoder.layers.encoder_layer_10.mlp"]),
}


@cache
def traced(name: str) -> tuple[nn.Module, Trace]:
    torch.manual_seed(3)
    if name == "vit_ti_16":
        model = torchvision.models.VisionTransformer(224, 16, 12, 3, 192, 768, num_classes=7).eval()
    else:
        options = {"init_weights": False} if name == "googlenet" else {}
        model = getattr(torchvision.models, name)(weights=None, num_classes=7, **options).eval()
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():  # zero gammas and layer scales make branches vanish
        for parameter in model.parameters():
            if parameter.ndim <= 1 or not parameter.any():
                parameter.add_(torch.rand(parameter.shape, generator=generator) * 0.2 + 0.05)
    # in float64, since the scores of networks with random weights hardly depend on the picture
    return model.double(), Tracer(model)((picture(NETS[name][0]).double(),))


ROWS = [(name, layer) for name, (_, layers) in NETS.items() for layer in layers]
FEWER = [(name, layers[len(layers) // 2]) for name, (_, layers) in NETS.items() if len(layers) > 1]


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-3) -> None:
    """Equal up to a share of what the versions of the output differ by."""
    spread = float((expected - expected[:1]).abs().max())
    assert found.shape == expected.shape
    assert torch.isfinite(expected).all()
    assert spread > 1e-12 * float(expected.abs().max())
    assert float((found - expected).abs().max()) <= tolerance * spread


@pytest.mark.parametrize(("name", "layer"), ROWS)
def test_a_tail_is_the_whole_model_with_another_output(name, layer):
    model, trace = traced(name)
    record = trace.by_name[layer]
    tail = Tail(model, trace, record)
    outputs = variations(record.output.detach())
    expected = replaced(model, trace.inputs[0].detach(), record.path, record.call, outputs)
    close(tail(outputs), expected)
    # in another order and number it is the same
    close(tail(outputs[[1, 0]]), expected[[1, 0]])


@pytest.mark.parametrize(("name", "layer"), FEWER)
def test_what_comes_before_the_layer_is_not_run(name, layer):
    model, trace = traced(name)
    record = trace.by_name[layer]
    order: list[str] = []
    handles = [
        module.register_forward_hook(lambda module, args, output, path=path: order.append(path))
        for path, module in model.named_modules()
    ]
    with torch.no_grad():
        model(trace.inputs[0].detach().clone())
    for handle in handles:
        handle.remove()
    at = [index for index, path in enumerate(order) if path == record.path][record.call - 1]
    before, after = Counter(order[:at]), Counter(order[at + 1 :])
    tail = Tail(model, trace, record)
    assert tail.partial
    with counted(model) as calls:
        tail(variations(record.output.detach()))
    ran = {path: number for path, number in calls.items() if path}
    assert before
    assert after
    # what ran is what ends after the layer; nothing that ended before it, the layer itself and its parts included
    assert {path: n for path, n in ran.items() if n} == {path: n for path, n in after.items() if path}
    assert record.path not in ran or after[record.path]


def test_counting_counts():
    model, trace = traced("resnet18")
    with counted(model) as calls, torch.no_grad():
        model(trace.inputs[0].detach())
    assert calls["layer1.0.relu"] == 2
    assert calls["conv1"] == calls[""] == 1
    before = dict(calls)
    with torch.no_grad():
        model(trace.inputs[0].detach())
    assert dict(calls) == before


SMALL = [(name, record) for name in ALL for record in Tracer(build(name))((picture(12),)).by_name]


@pytest.mark.parametrize(("name", "layer"), SMALL)
def test_small_networks_at_every_layer(name, layer):
    model = build(name).double()
    trace = Tracer(model)((picture(12).double(),))
    record = trace.by_name[layer]
    outputs = variations(record.output.detach())
    plain = build(name).double()
    expected = replaced(plain, picture(12).double(), record.path, record.call, outputs)
    close(Tail(model, trace, record)(outputs), expected, 1e-9)


class Overwrites(nn.Module):
    """Reads a module's output, overwrites it, and needs what it read after a later layer."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), Head(4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        early = y * 2
        y.relu_()
        return self.head((self.b(y) + early).tanh())


def test_what_is_kept_is_the_output_before_it_was_overwritten():
    torch.manual_seed(0)
    model = Overwrites().double().eval()
    trace = Tracer(model)((picture(12).double(),))
    record = trace.by_name["b"]
    tail = Tail(model, trace, record)
    assert tail.partial
    outputs = variations(record.output.detach())
    close(tail(outputs), replaced(model, picture(12).double(), "b", 1, outputs), 1e-9)


def test_many_versions_at_once_are_told_apart():
    model, trace = traced("resnet18")
    record = trace.by_name["layer3.0"]
    outputs = variations(record.output.detach(), 33)
    found = Tail(model, trace, record)(outputs)
    rows = [0, 7, 32]
    close(found[rows], replaced(model, trace.inputs[0].detach(), "layer3.0", 1, outputs[rows]))


def test_the_outputs_given_are_not_written_to():
    # an in-place ReLU and an in-place addition follow
    model, trace = traced("resnet18")
    for layer in ("layer2.0.bn1", "layer2.0.bn2"):
        record = trace.by_name[layer]
        outputs = variations(record.output.detach())
        before = outputs.clone()
        tail = Tail(model, trace, record)
        first = tail(outputs)
        assert torch.equal(outputs, before)
        assert torch.equal(tail(outputs), first)


class Reads(nn.Module):
    """A network whose part after the layer reads the picture and an earlier layer again."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.mix, self.head = nn.Conv2d(7, 4, 1), Head(4)

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x)
        b = self.b(a.relu())
        return self.head(self.mix(torch.cat([a * b, x], 1)).tanh())


class FixedBatch(nn.Module):
    """A network that only takes one picture at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.a(x).tanh().view(1, 4, -1).mean(2))


class BatchMean(nn.Module):
    """A network whose score of one picture depends on the others in the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.head = nn.Conv2d(3, 4, 3), Head(4)

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x).tanh()
        return self.head(a - a.mean(0, keepdim=True) + a.sum(0, keepdim=True) / 2)


def test_what_follows_may_read_earlier_layers_and_the_picture():
    torch.manual_seed(0)
    model = Reads().eval()
    trace = Tracer(model)((picture(12),))
    for layer in ("a", "b", "mix"):
        record = trace.by_name[layer]
        outputs = variations(record.output.detach())
        close(Tail(model, trace, record)(outputs), replaced(model, picture(12), layer, 1, outputs), 1e-3)


@pytest.mark.parametrize("make", [FixedBatch, BatchMean])
def test_models_that_take_no_batches_are_run_one_at_a_time(make):
    torch.manual_seed(0)
    model = make().eval()
    trace = Tracer(model)((picture(12),))
    record = trace.by_name["a"]
    tail = Tail(model, trace, record)
    assert not tail.batched
    output = variations(record.output.detach())[1:2]
    with torch.no_grad():
        first = make.forward(model, picture(12))
    found = torch.cat([tail(record.output.detach()), tail(output)])
    close(found, torch.cat([first, replaced(model, picture(12), "a", 1, output)]), 1e-3)
    assert "forward" not in vars(model.a)


class OneSided(nn.Module):
    """A network that fails when the part after the layer is run again."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.head, self.runs = nn.Conv2d(3, 4, 3), Head(4), 0

    def forward(self, x: Tensor) -> Tensor:
        self.runs += 1
        if self.runs not in (1, 3):  # the trace, and the recording pass
            raise RuntimeError("no more")
        return self.head(self.a(x).tanh())


def test_models_that_cannot_be_replayed_are_refused_in_words():
    model = OneSided().eval()
    trace = Tracer(model)((picture(12),))
    with pytest.raises(ValueError, match="the part of the model after 'a' cannot be run by itself"):
        Tail(model, trace, trace.by_name["a"])


def test_the_model_is_left_alone_also_when_it_raises():
    class Fussy(Reads):
        limit = float("inf")

        def forward(self, x: Tensor) -> Tensor:
            y = super().forward(x)
            if float(y.detach().abs().max()) > self.limit:
                raise KeyError("too much")
            return y

    torch.manual_seed(0)
    model = Fussy().eval()
    own = model.b.forward  # an attribute on the instance, as some libraries set
    model.b.forward = own
    trace = Tracer(model)((picture(12),))
    record = trace.by_name["b"]
    tail = Tail(model, trace, record)
    model.limit = 0
    before = [dict(vars(module)) for module in model.modules()]
    with pytest.raises(KeyError, match="too much"):
        tail(variations(record.output.detach()))
    assert [dict(vars(module)) for module in model.modules()] == before
    assert model.b.__dict__["forward"] is own
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_scores_are_selected_as_in_the_engine():
    class Wrapped(Reads):
        def forward(self, x: Tensor) -> Any:
            return {"aux": x.flatten(1), "deep": [super().forward(x)]}

    torch.manual_seed(0)
    model = Wrapped().eval()

    def selector(output: Any) -> Tensor:
        return output["deep"][0]

    trace = Tracer(model, selector)((picture(12),))
    record = trace.by_name["b"]
    outputs = variations(record.output.detach())
    found = Tail(model, trace, record, selector)(outputs)
    plain = Reads().eval()
    plain.load_state_dict(model.state_dict())
    close(found, replaced(plain, picture(12), "b", 1, outputs), 1e-3)


def test_one_version_alone_leaves_what_the_trace_keeps_as_it_is():
    torch.manual_seed(0)
    model = Overwrites().double().eval()
    trace = Tracer(model)((picture(12).double(),))
    before = [record.output.detach().clone() for record in trace.records]
    tail = Tail(model, trace, trace.by_name["b"])
    output = variations(trace.by_name["b"].output.detach())[1:2]
    expected = replaced(model, picture(12).double(), "b", 1, output)
    torch.testing.assert_close(tail(output), expected, rtol=1e-9, atol=1e-12)
    for record, kept in zip(trace.records, before, strict=True):
        assert torch.equal(record.output, kept), record.name


def test_where_all_before_the_layer_gave_feature_maps_there_is_no_recording_pass():
    before, after = [nn.Conv2d(3, 4, 3), nn.Tanh()], [nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    model = nn.Sequential(*before, nn.Conv2d(4, 4, 3), *after, nn.Linear(4, 5)).eval()
    trace = Tracer(model)((picture(12),))
    tail = Tail(model, trace, trace.by_name["2"])
    assert (tail.recorded, tail.partial, tail.batched) == (0, True, True)
