"""The architectures of the comparison, small pictures, random weights, and the layers where all should agree."""

from __future__ import annotations

import copy
from functools import cache

import torch
import torchvision
from torch import Tensor, nn

from gradcam_widget.engine import GradCAM

LAYERS: dict[str, tuple[str, ...]] = {
    # pools, activations and outputs of blocks, after which nothing works in place
    "resnet18": ("relu", "maxpool", "layer2", "layer3.1"),
    "vgg11": ("features.1", "features.5", "features.10", "features.14", "features.15"),
    "mobilenet_v3_small": ("features.0.2", "features.1", "features.4", "features.8"),
    "densenet121": ("features.pool0", "features.transition2", "features.denseblock4"),
    "convnext_tiny": ("features.1.0", "features.3.1", "features.5.3"),
}
HEADS = {"resnet18": "layer4", "tiny": "act"}  # where CAM is defined
TINY = ("relu", "pool", "block", "act")


class Tiny(nn.Module):
    """Few channels, so that the methods of many passes are quick; `relu` and `act` are in place."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.relu = nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(2)
        self.block = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.conv, self.act = nn.Conv2d(8, 12, 3, padding=1), nn.ReLU(inplace=True)
        self.down, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(12, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.relu(self.stem(x)))
        x = x + self.block(x)
        return self.fc(self.down(self.act(self.conv(x))).flatten(1))


@cache
def network(name: str) -> nn.Module:
    """Random weights, scaled so that the gradients are not tiny; norms whose statistics matter."""
    torch.manual_seed(7)
    if name == "tiny":
        model: nn.Module = Tiny()
    elif name == "vgg11":
        model = torchvision.models.vgg11(weights=None, init_weights=False)
        model.classifier = nn.Sequential(nn.Linear(512 * 49, 20), nn.ReLU(True), nn.Dropout(), nn.Linear(20, 7))
    else:
        model = getattr(torchvision.models, name)(weights=None, num_classes=7)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
    for key, parameter in model.named_parameters():
        if "layer_scale" in key:  # 1e-6 at the start: every block would be the identity
            nn.init.uniform_(parameter, 0.5, 1.5)
    # the peers add small numbers to their denominators, which drown in maps that are not tiny
    return louder(model.eval(), 100)


def layers(name: str, method: str) -> tuple[str, ...]:
    """Where a method is compared; CAM only where the head allows it."""
    if method == "CAM":
        return (HEADS[name],) if name in HEADS else ()
    every = LAYERS.get(name, TINY)
    if method == "ShapleyCAM" and name == "mobilenet_v3_small":
        return ()  # torch has no second derivative of the hard sigmoid
    return every[1:] if method.startswith("Eigen") else every  # grad-cam's takes seconds over many cells


@cache
def target(name: str) -> int:
    """The first class with positive evidence at every layer, so that no map is empty."""
    cam = GradCAM(network(name))
    every = LAYERS.get(name, TINY)
    for index in range(7):
        if all(float(cam.explain(picture(), index, layer).signed_cam.max()) > 0 for layer in every):
            return index
    raise AssertionError(f"{name}: every class has an empty map somewhere")


def picture(size: int = 64) -> Tensor:
    return torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))


def louder(model: nn.Module, factor: float) -> nn.Module:
    """The same network with its scores, and so its gradients, multiplied."""
    model = copy.deepcopy(model)
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    with torch.no_grad():
        last.weight *= factor
        last.bias *= factor
    return model
