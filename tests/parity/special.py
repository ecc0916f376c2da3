"""Where the peers differ: what the definition says, in float64 and without hooks, and what each of them does."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradcam_widget.engine import GradCAM

from . import peers
from .networks import network, picture

X = picture(128)


@dataclass(frozen=True)
class Cut:
    """A network cut by hand after one call of a module: A (1, K, h, w), and the rest of it."""

    activations: Tensor
    rest: Callable[[Tensor], Tensor]

    def gradients(self, index: int) -> Tensor:
        own = self.activations.detach().clone().requires_grad_()
        (found,) = torch.autograd.grad(self.rest(own)[0, index], own)
        return found

    def gradcam(self, index: int) -> Tensor:
        """The signed map (h, w) by the definition."""
        return combined(self.activations, self.gradients(index))


def combined(activations: Tensor, gradients: Tensor) -> Tensor:
    """sum_k mean(g^k) A^k."""
    return (gradients.mean((2, 3), keepdim=True) * activations).sum(1)[0].detach()


@cache
def exact(name: str) -> nn.Module:
    """A copy in float64 in which nothing works in place."""
    model = copy.deepcopy(network(name)).double()
    for module in model.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
    return model


def vgg(index: int) -> Cut:
    """VGG-11 after `features.index`."""
    m = exact("vgg11")
    with torch.no_grad():
        x = m.features[: index + 1](X.double())

    def rest(a: Tensor) -> Tensor:
        return m.classifier(F.adaptive_avg_pool2d(m.features[index + 1 :](a), 7).flatten(1))

    return Cut(x, rest)


def resnet(call: int) -> Cut:
    """ResNet-18 after the first or second call of `layer4.1.relu`."""
    m = exact("resnet18")
    block = m.layer4[1]
    with torch.no_grad():
        x = m.maxpool(F.relu(m.bn1(m.conv1(X.double()))))
        x = m.layer4[0](m.layer3(m.layer2(m.layer1(x))))
        inner = F.relu(block.bn1(block.conv1(x)))

    def head(a: Tensor) -> Tensor:
        return m.fc(a.mean((2, 3)))

    def second(a: Tensor) -> Tensor:
        return F.relu(block.bn2(block.conv2(a)) + x)

    if call == 1:
        return Cut(inner, lambda a: head(second(a)))
    with torch.no_grad():
        return Cut(second(inner), head)


def raw(peer: str, name: str, layer: str, index: int) -> Tensor:
    """A peer's map (h, w) at the layer's size with ReLU, before any normalisation, in float64."""
    model = network(name)
    if peer == "captum":
        return peers.captum(model, layer, X, index, "GradCAM")[0, 0].clamp(min=0).double()
    if peer == "torchcam":
        return peers.torchcam(model, layer, X, index, "GradCAM")[0].double()
    return peers.grad_cam_raw(model, layer, X, index)


def ours(name: str, layer: str, index: int) -> Tensor:
    return GradCAM(network(name)).explain(X, index, layer).cam.double()


def spread(values: Tensor) -> Tensor:
    """A map from 0 to 1 by its minimum and maximum, so that maps can be compared that differ in scale alone."""
    cam = values.clamp(min=0)
    cam = cam - cam.min()
    return cam / cam.max()


def _first_with_evidence(candidates_of: Callable[[int], dict[str, Tensor]]) -> tuple[int, dict[str, Tensor]]:
    """The first class whose maps all have several cells with positive evidence."""
    for index in range(7):
        candidates = candidates_of(index)
        if all(int((one > 0).sum()) > 3 for one in candidates.values()):
            return index, candidates
    raise AssertionError("every class has an empty map somewhere")


def in_place_relu() -> dict[str, dict[str, float]]:
    """`features.18` of VGG-11, a convolution with an in-place ReLU behind it: what each map is nearest to.

    For each library the difference from three candidates: the definition (A and g before the ReLU), A after and g
    before, and both after.
    """
    before, after = vgg(18), vgg(19)

    def candidates_of(index: int) -> dict[str, Tensor]:
        return {
            "A before, g before": before.gradcam(index),
            "A after, g before": combined(after.activations, before.gradients(index)),
            "A after, g after": after.gradcam(index),
        }

    index, candidates = _first_with_evidence(candidates_of)
    found = {"gradcam_widget": ours("vgg11", "features.18", index)}
    found |= {peer: raw(peer, "vgg11", "features.18", index) for peer in peers.PEERS}
    return {
        name: {key: float((spread(one) - spread(value)).abs().max()) for key, value in candidates.items()}
        for name, one in found.items()
    }


def reused_module() -> dict[str, dict[str, float]]:
    """`layer4.1.relu` of ResNet-18, which runs twice: the difference from the map of either call."""
    first, second = resnet(1), resnet(2)

    def candidates_of(index: int) -> dict[str, Tensor]:
        return {"first call": first.gradcam(index), "last call": second.gradcam(index)}

    index, candidates = _first_with_evidence(candidates_of)
    found = {"gradcam_widget `layer4.1.relu`": ours("resnet18", "layer4.1.relu", index)}
    found["gradcam_widget `layer4.1.relu:2`"] = ours("resnet18", "layer4.1.relu:2", index)
    found |= {peer: raw(peer, "resnet18", "layer4.1.relu", index) for peer in peers.PEERS}
    return {
        name: {key: float((spread(one) - spread(value)).abs().max()) for key, value in candidates.items()}
        for name, one in found.items()
    }
