"""Real architectures against an independent reference: float64, without hooks.

The network is cut by hand at the layer: `prefix` computes the activations A, `suffix` the scores from A; then
alpha and the map follow by the definition from `autograd.grad` of the suffix alone. Nothing of the engine is used,
and every ReLU of the reference makes a new tensor.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from itertools import pairwise

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from gradcam_widget.engine import GradCAM

Cut = tuple[Tensor, Callable[[Tensor], Tensor]]
"""Activations and the rest of the network, A -> scores."""


def picture(size: int | tuple[int, int] = 64, seed: int = 0) -> Tensor:
    height, width = (size, size) if isinstance(size, int) else size
    return torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@cache
def out_of_place(model: nn.Module) -> nn.Module:
    """A copy in which nothing works in place."""
    model = copy.deepcopy(model)
    for module in model.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
    return model


@cache
def network(name: str) -> nn.Module:
    """Random weights in float64; norms with statistics that are not trivial, so that they matter."""
    torch.manual_seed(7)
    model = getattr(torchvision.models, name)(weights=None).double().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.2)
    return model


def definition(cut: Cut, target: int) -> tuple[Tensor, Tensor, Tensor, float]:
    """A (K, h, w), alpha (K,), S (h, w) and the score, by REFERENCE: alpha_k = (1/Z) sum_ij dy/dA^k_ij."""
    activations, suffix = cut
    activations = activations.detach().clone().requires_grad_()
    score = suffix(activations)[0, target]
    (gradient,) = torch.autograd.grad(score, activations)
    maps = activations.detach()[0]
    alpha = torch.stack([channel.sum() / channel.numel() for channel in gradient[0]])
    signed = torch.zeros_like(maps[0])
    for weight, channel in zip(alpha, maps, strict=True):
        signed = signed + weight * channel
    return maps, alpha, signed, float(score.detach())


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-10, scale: Tensor | None = None) -> None:
    """Equal up to the tolerance times the largest absolute value of `scale`, by default of what is expected."""
    largest = float((expected if scale is None else scale).abs().max())
    assert found.shape == expected.shape
    assert largest > 0
    assert float((found.to(expected) - expected).abs().max()) <= tolerance * largest


def upsampled(signed: Tensor, size: tuple[int, int]) -> Tensor:
    """The cam over its maximum, bilinear; zeros where there is no positive evidence."""
    cam = signed.clamp(min=0)
    shown = cam / max(float(cam.max()), 1e-300)
    return F.interpolate(shown[None, None], size=size, mode="bilinear", align_corners=False)[0, 0]


@cache
def engine(model: nn.Module) -> GradCAM:
    """One engine for all layers of a model: most maps come from a resumed pass, in the order of the tests."""
    return GradCAM(model)


def check(model: nn.Module, x: Tensor, layer: str, cut: Cut, target: int, tolerance: float = 1e-10) -> None:
    maps, alpha, signed, score = definition(cut, target)
    found = engine(model).explain(x, target, layer)
    assert found.layer.shape == tuple(maps.shape)
    close(found.activations, maps, tolerance)
    close(found.alpha, alpha, tolerance)
    close(found.signed_cam, signed, tolerance)
    close(found.cam, signed.clamp(min=0), tolerance, scale=signed)
    close(found.contribution, alpha * maps.mean((1, 2)), tolerance)
    assert found.score == pytest.approx(score, rel=tolerance)
    expected = upsampled(signed, tuple(x.shape[2:]))
    close(found.heatmap(), expected, tolerance, scale=torch.ones(()))
    assert (float(found.heatmap().max()) > 0) == (float(signed.max()) > 0)


# -- ResNet-18 -------------------------------------------------------------------------------------------------


def resnet_block(block: nn.Module, x: Tensor) -> Tensor:
    y = block.bn2(block.conv2(F.relu(block.bn1(block.conv1(x)))))
    return F.relu(y + (block.downsample(x) if block.downsample is not None else x))


def resnet_head(m: nn.Module, x: Tensor) -> Tensor:
    return m.fc(x.mean((2, 3)))


def cut_resnet(m: nn.Module, x: Tensor, layer: str) -> Cut:
    names = [f"layer{i}.{j}" for i in (1, 2, 3, 4) for j in (0, 1)]
    blocks = [m.get_submodule(name) for name in names]
    x = F.relu(m.bn1(m.conv1(x)))
    if layer == "relu":
        return x, lambda a: _resnet_rest(m, blocks, F.max_pool2d(a, 3, 2, 1))
    x = F.max_pool2d(x, 3, 2, 1)
    if layer == "maxpool":
        return x, lambda a: _resnet_rest(m, blocks, a)
    for index, (name, block) in enumerate(zip(names, blocks, strict=True)):
        rest = blocks[index + 1 :]
        if layer == name:
            return resnet_block(block, x), lambda a, rest=rest: _resnet_rest(m, rest, a)
        if layer.startswith(name + "."):
            part = layer.removeprefix(name + ".")
            return _cut_resnet_block(block, x, part, lambda a, rest=rest: _resnet_rest(m, rest, a))
        x = resnet_block(block, x)
    raise AssertionError(layer)


def _resnet_rest(m: nn.Module, blocks: list[nn.Module], x: Tensor) -> Tensor:
    for block in blocks:
        x = resnet_block(block, x)
    return resnet_head(m, x)


def _cut_resnet_block(block: nn.Module, x: Tensor, part: str, rest: Callable[[Tensor], Tensor]) -> Cut:
    shortcut = block.downsample(x) if block.downsample is not None else x
    steps = {
        "conv1": block.conv1,
        "bn1": block.bn1,
        "relu": F.relu,
        "conv2": block.conv2,
        "bn2": block.bn2,
        "relu:2": lambda y: F.relu(y + shortcut),
    }
    names = list(steps)
    at = names.index(part) + 1
    for name in names[:at]:
        x = steps[name](x)

    def suffix(a: Tensor) -> Tensor:
        for name in names[at:]:
            a = steps[name](a)
        return rest(a)

    return x, suffix


RESNET_LAYERS = [
    "relu",
    "maxpool",
    "layer1.0",
    "layer2.1",
    "layer3.0",
    "layer4.0",
    "layer4.1",
    "layer1.1.conv2",  # batch norm follows
    "layer2.0.conv1",  # in a block with a projection
    "layer4.1.bn1",  # an in-place ReLU follows
    "layer4.1.bn2",  # an in-place addition follows
    "layer4.1.relu",  # the first of two calls
    "layer4.1.relu:2",
]


@pytest.mark.parametrize("layer", RESNET_LAYERS)
def test_resnet18(layer):
    model, x = network("resnet18"), picture()
    check(model, x, layer, cut_resnet(out_of_place(model), x, layer), target=281)


def test_resnet18_on_a_picture_that_is_not_square():
    model, x = network("resnet18"), picture((64, 100))
    check(model, x, "layer3.1", cut_resnet(out_of_place(model), x, "layer3.1"), target=3)


# -- VGG-11: every layer of the features ----------


def cut_vgg(m: nn.Module, x: Tensor, index: int) -> Cut:
    steps = [F.relu if isinstance(step, nn.ReLU) else step for step in m.features]
    for step in steps[: index + 1]:
        x = step(x)

    def suffix(a: Tensor) -> Tensor:
        for step in steps[index + 1 :]:
            a = step(a)
        return m.classifier(F.adaptive_avg_pool2d(a, 7).flatten(1))

    return x, suffix


@pytest.fixture(scope="module")
def vgg11() -> nn.Module:
    # A small head in place of 120 million random numbers; the features are what is cut.
    torch.manual_seed(7)
    model = torchvision.models.vgg11(weights=None, init_weights=False)
    model.classifier = nn.Sequential(nn.Linear(512 * 49, 20), nn.ReLU(True), nn.Dropout(), nn.Linear(20, 10))
    return model.double().eval()


@pytest.mark.parametrize("index", range(21))
def test_vgg11(vgg11, index):
    x = picture(72)
    check(vgg11, x, f"features.{index}", cut_vgg(out_of_place(vgg11), x, index), target=4)


def test_vgg11_conv_differs_from_the_relu_that_follows_in_place(vgg11):
    # What goes wrong when a hook keeps the overwritten tensor: the two maps would be the same.
    x = picture(72)
    cam = GradCAM(vgg11)
    conv, relu = cam.explain(x, 4, "features.18"), cam.explain(x, 4, "features.19")
    assert float(conv.activations.min()) < 0
    assert float(relu.activations.min()) == 0
    assert float((conv.signed_cam - relu.signed_cam).abs().max()) > 0.1 * float(relu.signed_cam.abs().max())


# -- MobileNetV3-Small, DenseNet-121, EfficientNet-Lite0 ----------


def cut_sequence(steps: list[Callable[[Tensor], Tensor]], x: Tensor, count: int) -> Cut:
    """Cut after the first `count` steps."""
    for step in steps[:count]:
        x = step(x)

    def suffix(a: Tensor) -> Tensor:
        for step in steps[count:]:
            a = step(a)
        return a

    return x, suffix


@pytest.mark.parametrize("index", [0, 1, 3, 6, 9, 11, 12])
def test_mobilenet_v3_small(index):
    model, x = network("mobilenet_v3_small"), picture(48)
    m = out_of_place(model)
    steps = [*m.features, lambda a: m.classifier(a.mean((2, 3)))]
    check(model, x, f"features.{index}", cut_sequence(steps, x, index + 1), target=17)


@pytest.mark.parametrize("part", [0, 1, 2])
def test_mobilenet_v3_small_inside_a_block(part):
    # features.11.block: expand (conv, norm, in-place Hardswish), depthwise, squeeze-and-excitation, project
    model, x = network("mobilenet_v3_small"), picture(48)
    m = out_of_place(model)
    before = cut_sequence(list(m.features), x, 11)[0]
    assert m.features[11].use_res_connect
    steps = [
        *m.features[11].block,
        lambda a: a + before,
        m.features[12],
        lambda a: m.classifier(a.mean((2, 3))),
    ]
    check(model, x, f"features.11.block.{part}", cut_sequence(steps, before, part + 1), target=17)


def dense_layer(layer: nn.Module, features: list[Tensor]) -> Tensor:
    y = layer.conv1(F.relu(layer.norm1(torch.cat(features, 1))))
    return layer.conv2(F.relu(layer.norm2(y)))


def cut_densenet(m: nn.Module, x: Tensor, layer: str) -> Cut:
    """Cut at the last dense block's layers (or at a whole block or transition): all later ones read it."""

    def head(a: Tensor) -> Tensor:
        return m.classifier(F.relu(m.features.norm5(a)).mean((2, 3)))

    def block(name: str, a: Tensor) -> Tensor:
        features = [a]
        for part in m.features.get_submodule(name).children():
            features.append(dense_layer(part, features))
        return torch.cat(features, 1)

    def transition(name: str, a: Tensor) -> Tensor:
        t = m.features.get_submodule(name)
        return F.avg_pool2d(t.conv(F.relu(t.norm(a))), 2)

    stem = m.features
    steps: dict[str, Callable[[Tensor], Tensor]] = {
        "pool0": lambda a: F.max_pool2d(F.relu(stem.norm0(stem.conv0(a))), 3, 2, 1)
    }
    for index in (1, 2, 3, 4):
        steps[f"denseblock{index}"] = lambda a, name=f"denseblock{index}": block(name, a)
        if index < 4:
            steps[f"transition{index}"] = lambda a, name=f"transition{index}": transition(name, a)
    names = list(steps)
    if layer in names:
        return cut_sequence([*steps.values(), head], x, names.index(layer) + 1)
    name, _, rest = layer.partition(".")
    number = int(rest.removeprefix("denselayer").partition(".")[0])
    before = cut_sequence(list(steps.values()), x, names.index(name))[0]
    parts = list(m.features.get_submodule(name).children())
    features = [before]
    for part in parts[: number - 1]:
        features.append(dense_layer(part, features))
    here = dense_layer(parts[number - 1], features)

    def suffix(a: Tensor) -> Tensor:
        later = [*features, a]
        for part in parts[number:]:
            later.append(dense_layer(part, later))
        a = torch.cat(later, 1)
        for following in names[names.index(name) + 1 :]:
            a = steps[following](a)
        return head(a)

    return here, suffix


@pytest.mark.parametrize(
    "layer",
    [
        "pool0",
        "denseblock2",
        "transition3",
        "denseblock4",
        "denseblock3.denselayer20",
        "denseblock4.denselayer1",
        "denseblock4.denselayer9.conv2",
    ],
)
def test_densenet121(layer):
    model, x = network("densenet121"), picture()
    check(model, x, f"features.{layer}", cut_densenet(out_of_place(model), x, layer), target=9)


@pytest.fixture(scope="module")
def demo64(demo) -> nn.Module:
    return copy.deepcopy(demo).double()


@pytest.mark.parametrize("layer", ["_blocks.4", "_blocks.9", "_blocks.15", "_conv_head", "_bn1", "_swish:2"])
def test_the_demo_model(demo64, layer):
    m, x = out_of_place(demo64), picture(64)
    steps = {
        "stem": lambda a: m._swish(m._bn0(m._conv_stem(a))),
        **{f"_blocks.{i}": block for i, block in enumerate(m._blocks)},
        "_conv_head": m._conv_head,
        "_bn1": m._bn1,
        "_swish:2": F.relu6,
        "head": lambda a: m._fc(a.mean((2, 3))),
    }
    check(demo64, x, layer, cut_sequence(list(steps.values()), x, list(steps).index(layer) + 1), target=285)


# -- other evidence ----------


@pytest.mark.parametrize(
    ("layer", "channels"), [("layer4.1", (0, 511)), ("layer3.0", (5, 100)), ("layer4.1.bn1", (7,))]
)
def test_finite_differences(layer, channels):
    # alpha_k · Z is the derivative of the score along "all cells of channel k": (y(A + h) - y(A - h)) / 2h
    model, x, step = network("resnet18"), picture(), 1e-6
    activations, suffix = cut_resnet(out_of_place(model), x, layer)
    alpha = GradCAM(model).explain(x, 281, layer).alpha
    cells = activations[0, 0].numel()
    with torch.no_grad():
        for channel in channels:
            up, down = activations.clone(), activations.clone()
            up[:, channel] += step
            down[:, channel] -= step
            slope = float(suffix(up)[0, 281] - suffix(down)[0, 281]) / (2 * step)
            assert float(alpha[channel]) * cells == pytest.approx(slope, rel=1e-5, abs=1e-9 * cells)


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("resnet18", "layer4.1"),
        ("resnet18", "layer3.1.bn2"),
        ("mobilenet_v3_small", "features.12"),
        ("densenet121", "features.denseblock4"),
    ],
)
def test_float32_agrees_with_float64(name, layer):
    exact, x = network(name), picture()
    single = copy.deepcopy(exact).float()
    wide, narrow = GradCAM(exact).explain(x, 3, layer), GradCAM(single).explain(x.float(), 3, layer)
    assert (wide.alpha.dtype, narrow.alpha.dtype) == (torch.float64, torch.float32)
    close(narrow.alpha.double(), wide.alpha, 1e-3)
    close(narrow.signed_cam.double(), wide.signed_cam, 1e-3)


def test_every_layer_by_the_definition_from_one_graph():
    # explain_layers against plain gradients of the untouched model's own graph, for layers whose output is kept:
    # block outputs are inputs of the next block, where a pre-hook of the test's own reads them.
    model, x = out_of_place(network("resnet18")), picture()
    names = [f"layer{i}.{j}" for i in (1, 2, 3, 4) for j in (0, 1)]
    kept: list[Tensor] = []
    handles = [
        model.get_submodule(following).register_forward_pre_hook(lambda module, args: kept.append(args[0]))
        for _, following in pairwise([*names, "avgpool"])
    ]
    try:
        score = model(x.clone().requires_grad_())[0, 8]
    finally:
        for handle in handles:
            handle.remove()
    gradients = torch.autograd.grad(score, kept)
    found = GradCAM(network("resnet18")).explain_layers(x, 8, names)
    assert list(found) == names
    for name, gradient, activations in zip(names, gradients, kept, strict=True):
        close(found[name].alpha, gradient[0].mean((1, 2)))
        close(found[name].activations, activations.detach()[0])
