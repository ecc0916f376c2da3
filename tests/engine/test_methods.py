"""Every row of METHODS against a slow reference: plain Python loops over numbers, from the papers' formulas.

A reference sees the activations A (K, h, w) as nested lists and, where the method asks for them, the gradients g
of the part of the network after the layer, cut by hand, in float64, without hooks. Nothing of the engine is used.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gradcam_widget import methods
from gradcam_widget.engine import GradCAM
from gradcam_widget.evidence import Evidence
from gradcam_widget.methods import METHODS, Method, find_method
from gradcam_widget.perturbation import Cancelled
from gradcam_widget.targets import ClassLogit, Finer

from .nets import CLASSES, Gap, build

X = torch.rand(1, 3, 9, 10, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

Map = list[list[float]]
Maps = list[Map]


# -- networks, cut by hand ----------


def pooled() -> nn.Sequential:
    """Piecewise linear, and a head of global average pooling and one linear layer."""
    return nn.Sequential(
        nn.Conv2d(3, 5, 3, padding=1),
        nn.BatchNorm2d(5),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(5, 6, 3, padding=1),
        nn.ReLU(inplace=True),
        Gap(),
        nn.Linear(6, CLASSES),
    )


def curved() -> nn.Sequential:
    """Second derivatives everywhere, and a head of two layers over all cells."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.Softplus(),
        nn.Conv2d(4, 5, 3, stride=2),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(5 * 4 * 4, 6),
        nn.Softplus(),
        nn.Linear(6, CLASSES),
    )


def dead() -> nn.Sequential:
    """Channels that are 0 everywhere, channels without a gradient, and a class (4) without any."""
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(6, 6, 3, padding=1, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        Gap(),
        nn.Linear(6, CLASSES),
    )
    with torch.no_grad():
        model[0].bias[:2] = -100
        model[6].weight[:, 3:5] = 0
        model[6].weight[4] = 0
        model[6].bias[4] = 0
    return model


NETS: dict[str, Callable[[], nn.Sequential]] = {"pooled": pooled, "curved": curved, "dead": dead}
HEAD = {"pooled": 5, "dead": 4}  # the layer that CAM is defined for
LAYERS = [("pooled", i) for i in (0, 1, 2, 3, 4, 5)] + [("curved", i) for i in (0, 1, 2, 3)]
LAYERS += [("dead", i) for i in (0, 1, 2, 4)]


@cache
def network(name: str) -> nn.Sequential:
    torch.manual_seed(11)
    model = NETS[name]()
    for module in model:
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
    return model.double().eval()


@dataclass(frozen=True)
class Cut:
    """A network cut after a layer."""

    model: nn.Sequential
    index: int
    target: Callable[[Tensor], Tensor]

    @property
    def activations(self) -> Tensor:
        with torch.no_grad():
            return self._run(X, range(self.index + 1))[0]

    def score(self, activations: Tensor) -> Tensor:
        """y from A (K, h, w)."""
        return self.target(self._run(activations[None], range(self.index + 1, len(self.model)))[0])

    def whole(self, x: Tensor) -> float:
        """y from a picture (1, C, H, W)."""
        with torch.no_grad():
            return float(self.target(self._run(x, range(len(self.model)))[0]))

    def gradients(self) -> Tensor:
        own = self.activations.requires_grad_()
        (found,) = torch.autograd.grad(self.score(own), own)
        return found

    def _run(self, x: Tensor, steps: range) -> Tensor:
        for step in steps:
            module = self.model[step]
            x = F.relu(x) if isinstance(module, nn.ReLU) else module(x)  # never in place
        return x


def cut(name: str, index: int, target: Callable[[Tensor], Tensor]) -> Cut:
    return Cut(copy.deepcopy(network(name)), index, target)


# -- the references: loops over numbers ----------


def cells(maps: Maps) -> list[tuple[int, int, int]]:
    return [(k, i, j) for k in range(len(maps)) for i in range(len(maps[0])) for j in range(len(maps[0][0]))]


def zeros(like: Maps) -> Map:
    return [[0.0] * len(like[0][0]) for _ in like[0]]


def mean(one: Map) -> float:
    return sum(map(sum, one)) / (len(one) * len(one[0]))


def weighted(alpha: list[float], activations: Maps) -> Map:
    signed = zeros(activations)
    for k, i, j in cells(activations):
        signed[i][j] += alpha[k] * activations[k][i][j]
    return signed


Answer = tuple[list[float], Map]


def gradcam(at: Cut) -> Answer:
    A, g = at.activations.tolist(), at.gradients().tolist()
    alpha = [mean(channel) for channel in g]
    return alpha, weighted(alpha, A)


def gradcam_plus_plus(at: Cut) -> Answer:
    A, g = at.activations.tolist(), at.gradients().tolist()
    alpha = [0.0] * len(A)
    for k, i, j in cells(A):
        gradient, total = g[k][i][j], sum(map(sum, A[k]))
        if gradient != 0:
            a = gradient**2 / (2 * gradient**2 + total * gradient**3)
            alpha[k] += a * max(gradient, 0.0)
    return alpha, weighted(alpha, A)


def xgradcam(at: Cut) -> Answer:
    A, g = at.activations.tolist(), at.gradients().tolist()
    alpha = []
    for a, b in zip(A, g, strict=True):
        above = sum(p * q for row, other in zip(a, b, strict=True) for p, q in zip(row, other, strict=True))
        below = sum(map(sum, a))
        alpha.append(above / below if below != 0 else 0.0)
    return alpha, weighted(alpha, A)


def of_terms(at: Cut, term: Callable[[float, float], float]) -> Answer:
    """The elementwise methods: alpha is the sum over the cells of each channel's term."""
    A, g = at.activations.tolist(), at.gradients().tolist()
    share, signed = [0.0] * len(A), zeros(A)
    for k, i, j in cells(A):
        value = term(A[k][i][j], g[k][i][j])
        share[k] += value
        signed[i][j] += value
    return share, signed


def hirescam(at: Cut) -> Answer:
    return of_terms(at, lambda a, g: g * a)


def layercam(at: Cut) -> Answer:
    return of_terms(at, lambda a, g: max(g, 0.0) * a)


def gradcam_elementwise(at: Cut) -> Answer:
    return of_terms(at, lambda a, g: max(g * a, 0.0))


def principal(values: Maps) -> Answer:
    """The eigenvector of the covariance of the channels over the cells with the largest eigenvalue."""
    channels, rows, columns = len(values), len(values[0]), len(values[0][0])
    centred = [[[v - mean(one) for v in row] for row in one] for one in values]
    covariance = torch.zeros(channels, channels, dtype=torch.float64)
    for k in range(channels):
        for m in range(channels):
            for i in range(rows):
                for j in range(columns):
                    covariance[k, m] += centred[k][i][j] * centred[m][i][j]
    direction = torch.linalg.eigh(covariance).eigenvectors[:, -1].tolist()
    projection = weighted(direction, centred)
    average = [
        [sum(values[k][i][j] for k in range(channels)) / channels for j in range(columns)] for i in range(rows)
    ]
    middle = mean(average)
    together = sum(projection[i][j] * (average[i][j] - middle) for i in range(rows) for j in range(columns))
    sign = -1 if together < 0 else 1
    return [sign * v for v in direction], [[sign * v for v in row] for row in projection]


def eigencam(at: Cut) -> Answer:
    return principal(at.activations.tolist())


def eigengradcam(at: Cut) -> Answer:
    A, g = at.activations.tolist(), at.gradients().tolist()
    terms = [
        [[p * q for p, q in zip(row, other, strict=True)] for row, other in zip(a, b, strict=True)]
        for a, b in zip(A, g, strict=True)
    ]
    return principal(terms)


def shapleycam(at: Cut) -> Answer:
    """With the full matrix of second derivatives, one row for each number of A."""
    A, g = at.activations, at.gradients().tolist()
    flat = A.flatten()
    hessian = torch.autograd.functional.hessian(lambda a: at.score(a.view_as(A)), flat)
    product = [sum(h * a for h, a in zip(row, flat.tolist(), strict=True)) for row in hessian.tolist()]
    maps = A.tolist()
    alpha, size = [0.0] * len(maps), len(maps[0]) * len(maps[0][0])
    for position, (k, i, j) in enumerate(cells(maps)):
        alpha[k] += (g[k][i][j] - product[position] / 2) / size
    return alpha, weighted(alpha, maps)


def finercam(at: Cut) -> Answer:
    """y_c less the mean of the three other classes whose scores are nearest to y_c."""
    assert isinstance(at.target, ClassLogit)
    own = at.target.index
    scores = [Cut(at.model, at.index, ClassLogit(c)).whole(X) for c in range(CLASSES)]
    others = sorted((c for c in range(CLASSES) if c != own), key=lambda c: abs(scores[c] - scores[own]))[:3]
    return gradcam(Cut(at.model, at.index, lambda y: y[own] - (y[others[0]] + y[others[1]] + y[others[2]]) / 3))


def cam(at: Cut) -> Answer:
    assert isinstance(at.target, ClassLogit)
    head = at.model[-1]
    assert isinstance(head, nn.Linear)
    weight = head.weight[at.target.index].tolist()
    return weight, weighted(weight, at.activations.tolist())


def ablationcam(at: Cut) -> Answer:
    A = at.activations
    with torch.no_grad():
        score = float(at.score(A))
        alpha = []
        for k in range(A.shape[0]):
            without = A.clone()
            without[k] = 0
            alpha.append((score - float(at.score(without))) / score)
    return alpha, weighted(alpha, A.tolist())


def bilinear(one: Map, height: int, width: int) -> Map:
    """Upsampled with cell centres kept in place (align_corners=False)."""

    def at(position: int, length: int, cells: int) -> tuple[int, int, float]:
        where = max((position + 0.5) * cells / length - 0.5, 0.0)
        low = min(math.floor(where), cells - 1)
        return low, min(low + 1, cells - 1), where - low

    found = []
    for i in range(height):
        top, bottom, down = at(i, height, len(one))
        row = []
        for j in range(width):
            left, right, across = at(j, width, len(one[0]))
            above = one[top][left] * (1 - across) + one[top][right] * across
            below = one[bottom][left] * (1 - across) + one[bottom][right] * across
            row.append(above * (1 - down) + below * down)
        found.append(row)
    return found


def scorecam(at: Cut) -> Answer:
    A = at.activations.tolist()
    baseline, rises = at.whole(torch.zeros_like(X)), []
    for one in A:
        mask = bilinear(one, X.shape[2], X.shape[3])
        low, high = min(map(min, mask)), max(map(max, mask))
        scaled = [[(v - low) / (high - low) if high > low else 0.0 for v in row] for row in mask]
        rises.append(at.whole(X * torch.tensor(scaled, dtype=torch.float64)) - baseline)
    powers = [math.exp(rise) for rise in rises]
    alpha = [power / sum(powers) for power in powers]
    return alpha, weighted(alpha, A)


REFERENCES: dict[str, Callable[[Cut], Answer]] = {
    "GradCAM": gradcam,
    "GradCAM++": gradcam_plus_plus,
    "XGradCAM": xgradcam,
    "HiResCAM": hirescam,
    "LayerCAM": layercam,
    "GradCAMElementWise": gradcam_elementwise,
    "EigenCAM": eigencam,
    "EigenGradCAM": eigengradcam,
    "ShapleyCAM": shapleycam,
    "FinerCAM": finercam,
    "CAM": cam,
    "AblationCAM": ablationcam,
    "ScoreCAM": scorecam,
    "GuidedGradCAM": gradcam,  # their pixels are tested in test_guided.py
    "GuidedBackprop": gradcam,
}


def close(found: Tensor, expected: list[Any], tolerance: float = 1e-9) -> None:
    wanted = torch.tensor(expected, dtype=torch.float64)
    assert found.dtype == torch.float64
    assert found.shape == wanted.shape
    assert bool(torch.isfinite(wanted).all())
    assert float((found - wanted).abs().max()) <= tolerance * max(1.0, float(wanted.abs().max()))


@cache
def engine(name: str) -> GradCAM:
    return GradCAM(network(name))


def rows() -> list[tuple[str, int, str]]:
    found = [(name, index, method) for name, index in LAYERS for method in REFERENCES if method != "CAM"]
    guided = [(name, i, m) for name, i, m in found if not (m.startswith("Guided") and name == "curved")]
    return guided + [(name, index, "CAM") for name, index in HEAD.items()]


def test_every_row_has_a_reference():
    assert list(REFERENCES) == list(METHODS)


@pytest.mark.parametrize(("name", "index", "method"), rows())
def test_alpha_and_map_are_the_formulas(name, index, method):
    alpha, signed = REFERENCES[method](cut(name, index, ClassLogit(2)))
    found = engine(name).explain(X, 2, str(index), method)
    close(found.alpha, alpha)
    close(found.signed_cam, signed)
    assert max(map(abs, alpha)) > 0
    cells = found.signed_cam.numel()
    # what each channel adds to the mean of the map; EigenCAM's is centred, so its mean is 0
    assert method.startswith("Eigen") == (not found.contribution.any())
    assert float(found.contribution.sum()) == pytest.approx(mean(signed), abs=1e-9 * max(1.0, cells))


def test_the_networks_have_what_they_are_for():
    at = cut("dead", 1, ClassLogit(2))
    assert not at.activations[:2].any()
    assert at.activations[2:].flatten(1).any(1).all()
    assert not cut("dead", 4, ClassLogit(2)).gradients()[3:5].any()
    assert not cut("dead", 4, ClassLogit(4)).gradients().any()
    A = cut("curved", 1, ClassLogit(2))
    alpha, plain = shapleycam(A)[0], gradcam(A)[0]
    assert max(abs(a - b) for a, b in zip(alpha, plain, strict=True)) > 0.01 * max(map(abs, plain))


WITHOUT_GRADIENT = [name for name in METHODS if not name.startswith(("Eigen", "Score", "Guided", "Finer"))]


@pytest.mark.parametrize("method", WITHOUT_GRADIENT)
def test_a_class_without_a_gradient_has_zeros_and_a_diagnosis(method):
    # class 4 of "dead": its weights and its bias are 0, so y is 0 and the drop of y relative to y is 0/0
    found = engine("dead").explain(X, 4, "4", method)
    assert found.score == 0
    assert not found.alpha.any()
    assert not found.signed_cam.any()
    assert "zero everywhere" in found.diagnosis


def test_a_class_without_a_gradient_still_differs_from_those_like_it():
    found = engine("dead").explain(X, 4, "4", "FinerCAM")
    alpha, signed = finercam(cut("dead", 4, ClassLogit(4)))
    assert max(map(abs, alpha)) > 0
    close(found.alpha, alpha)
    close(found.signed_cam, signed)


def test_without_a_gradient_the_principal_component_of_nothing_is_a_map_of_zeros():
    found = engine("dead").explain(X, 4, "4", "EigenGradCAM")
    assert torch.isfinite(found.alpha).all()
    assert not found.signed_cam.any()
    assert "zero everywhere" in found.diagnosis


def test_scores_that_do_not_depend_on_the_picture_weigh_every_channel_alike():
    found = engine("dead").explain(X, 4, "4", "ScoreCAM")
    close(found.alpha, [1 / 6] * 6)
    close(found.signed_cam, weighted([1 / 6] * 6, cut("dead", 4, ClassLogit(4)).activations.tolist()))


def test_channels_whose_sum_is_zero_weigh_nothing_in_xgradcam():
    A = torch.tensor([[[1.0, -1.0]], [[2.0, 2.0]]], dtype=torch.float64)
    g = torch.tensor([[[3.0, 5.0]], [[1.0, 2.0]]], dtype=torch.float64)
    # channel 0: sum g A = -2 over sum A = 0; channel 1: (2 + 4) / 4
    alpha, signed = methods.xgradcam(A, g)
    assert alpha.tolist() == [0, 1.5]
    assert signed.tolist() == [[3, 3]]


def test_a_denominator_of_zero_in_gradcam_plus_plus_counts_nothing():
    # 2 g^2 + (sum A) g^3 with sum A = -2 and g = 1 is 0; with g = 0.5: 0.5 - 0.25, a = 1, weight 0.5
    A = torch.tensor([[[-1.0, -1.0]]], dtype=torch.float64)
    alpha, signed = methods.gradcam_plus_plus(A, torch.tensor([[[1.0, 0.5]]], dtype=torch.float64))
    assert alpha.tolist() == [0.5]
    assert signed.tolist() == [[-0.5, -0.5]]


def test_the_sign_of_a_principal_component_follows_the_mean():
    torch.manual_seed(1)
    A = torch.rand(4, 5, 6, dtype=torch.float64)
    for values in (A, -A, A - 10):
        direction, projection = methods.eigencam(values)
        average = values.mean(0)
        assert float((projection * (average - average.mean())).sum()) > 0
        assert float(direction.norm()) == pytest.approx(1)
    alpha, flipped = methods.eigencam(-A)
    assert torch.allclose(alpha, methods.eigencam(A)[0])
    assert torch.allclose(flipped, -methods.eigencam(A)[1])


# -- CAM ----------


@pytest.mark.parametrize("name", HEAD)
def test_cam_is_the_heads_weights_and_gradcam_times_the_number_of_cells(name):
    layer = str(HEAD[name])
    found, plain = engine(name).explain(X, 1, layer, "CAM"), engine(name).explain(X, 1, layer)
    assert torch.allclose(found.alpha, network(name)[-1].weight[1].detach(), rtol=1e-12, atol=0)
    assert torch.allclose(found.signed_cam, plain.signed_cam * plain.signed_cam.numel(), rtol=1e-10, atol=1e-14)


class NoPooling(nn.Module):
    """A head that is linear in every cell, with weights of its own for each."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)
        self.head = nn.Linear(2 * 7 * 8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x).flatten(1))


def no_linear() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, CLASSES, 3), Gap())


def two_linear() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), Gap(), nn.Linear(4, 4), nn.Linear(4, CLASSES))


def max_pooled() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(4, CLASSES))


def relu_between() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), Gap(), nn.Linear(4, CLASSES))


@pytest.mark.parametrize(
    ("make", "layer", "reason"),
    [
        (NoPooling, "conv", "needs global average pooling and one linear layer"),
        (no_linear, "0", "needs global average pooling and one linear layer"),
        (two_linear, "0", "needs global average pooling and one linear layer"),
        (max_pooled, "0", "but there is AdaptiveMaxPool"),
        (relu_between, "0", "but there is Relu"),
    ],
)
def test_cam_says_why_where_it_is_not_defined(make, layer, reason):
    engine = GradCAM(make().double().eval())
    with pytest.raises(ValueError, match=reason):
        engine.explain(X, 1, layer, "CAM")
    # GradCAM, which the message names, works
    assert engine.explain(X, 1, layer).alpha.any()


def test_cam_refuses_targets_that_are_no_class():
    with pytest.raises(ValueError, match="needs global average pooling and one linear layer"):
        engine("pooled").explain(X, lambda y: y[0] * y[1], "5", "CAM")


# -- AblationCAM and ScoreCAM, against a loop over whole forward passes ----------


class Block(nn.Module):
    """Attention over tokens, with a residual."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(size)
        self.attention = nn.MultiheadAttention(size, 2, batch_first=True)
        self.mlp = nn.Linear(size, size)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return x + self.mlp(x).tanh()


class Tokens(nn.Module):
    """A small vision transformer with a class token."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 6, 3, stride=3)
        self.token = nn.Parameter(torch.randn(1, 1, 6))
        self.blocks = nn.Sequential(Block(6), Block(6))
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).mT
        x = self.blocks(torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1))
        return self.head(x.mean(1))


def made(name: str) -> nn.Module:
    torch.manual_seed(0)
    model = Tokens().eval() if name == "tokens" else build(name)
    return model.double()


def with_output(model: nn.Module, layer: str, x: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Scores of a whole forward pass in which the layer's output was changed (the first tensor, of a tuple)."""
    path, _, number = layer.partition(":")
    calls = 0

    def hook(module: nn.Module, args: Any, output: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls != int(number or 1):
            return None
        return (change(output[0].clone()), *output[1:]) if isinstance(output, tuple) else change(output.clone())

    handle = model.get_submodule(path).register_forward_hook(hook)
    try:
        with torch.no_grad():
            return model(x.clone())[0]
    finally:
        handle.remove()


def naive_ablation(model: nn.Module, layer: str, x: Tensor, c: int, tokens: bool) -> tuple[Tensor, Tensor]:
    own: list[Tensor] = []

    def keep(output: Tensor) -> Tensor:
        own.append(output.clone())
        return output

    score = with_output(model, layer, x, keep)[c]
    grid = (x.shape[2] // 3, x.shape[3] // 3)
    A = own[0][0, 1:].T.reshape(-1, *grid) if tokens else own[0][0]
    alpha = []
    for k in range(A.shape[0]):

        def change(output: Tensor, k: int = k) -> Tensor:
            if tokens:
                output[:, 1:, k] = 0  # the class token is no part of the map
            else:
                output[:, k] = 0
            return output

        alpha.append((score - with_output(model, layer, x, change)[c]) / score)
    weights = torch.stack(alpha)
    signed = torch.zeros_like(A[0])
    for weight, channel in zip(weights, A, strict=True):
        signed = signed + weight * channel
    return weights, signed


PERTURBED = [
    ("plain", "0"),
    ("plain", "1"),  # an in-place ReLU follows
    ("plain", "4"),
    ("side branches", "a"),
    ("side branches", "b"),
    ("side branches", "side"),
    ("side branches", "d"),
    ("dense", "convs.0"),  # every later layer reads it
    ("dense", "convs.2"),
    ("dense", "relu:2"),  # one module, four calls
    ("dense", "relu:4"),
    ("several outputs", "stem"),
    ("several outputs", "second"),  # picks one of a tuple
    ("several outputs", "split"),  # a tuple of its own
    ("several outputs", "mix"),
    ("residual", "stem"),
    ("residual", "bn"),
    ("residual", "blocks.0"),  # += is done on its output
    ("residual", "blocks.2"),
    ("residual", "relu:2"),
    ("residual", "relu:4"),
    ("stochastic", "bn"),
    ("tokens", "patches"),
    ("tokens", "blocks.0"),
    ("tokens", "blocks.0.norm"),
    ("tokens", "blocks.1.mlp"),
]


@pytest.mark.parametrize(("name", "layer"), PERTURBED)
def test_ablationcam_is_a_loop_over_whole_passes(name, layer):
    model = made(name)
    tokens = name == "tokens" and layer != "patches"
    x = X[:, :, :9, :9] if name == "tokens" else X
    weights, signed = naive_ablation(made(name), layer, x, 1, tokens)
    found = GradCAM(model).explain(x, 1, layer, "AblationCAM")
    close(found.alpha, weights.tolist())
    close(found.signed_cam, signed.tolist())
    assert float(weights.abs().max()) > 1e-6


@pytest.mark.parametrize(("name", "layer"), [row for row in PERTURBED if row[0] != "stochastic"])
def test_scorecam_is_a_loop_over_whole_passes(name, layer):
    model, plain = made(name), made(name)
    tokens = name == "tokens" and layer != "patches"
    x = X[:, :, :9, :9] if name == "tokens" else X
    own: list[Tensor] = []

    def keep(output: Tensor) -> Tensor:
        own.append(output.clone())
        return output

    with_output(plain, layer, x, keep)
    A = own[0][0, 1:].T.reshape(-1, 3, 3) if tokens else own[0][0]
    scores = []
    for channel in A:
        mask = F.interpolate(channel[None, None], x.shape[2:], mode="bilinear", align_corners=False)
        mask = (mask - mask.min()) / max(float(mask.max() - mask.min()), 1e-300)  # a flat channel masks everything
        with torch.no_grad():
            scores.append(plain(x * mask)[0, 1])
    weights = torch.softmax(torch.stack(scores), 0)
    found = GradCAM(model).explain(x, 1, layer, "ScoreCAM")
    close(found.alpha, weights.tolist())
    close(found.signed_cam, torch.einsum("k,khw->hw", weights, A).tolist())


class OneAtATime(nn.Module):
    """Takes no batches: it reads every value of the batch as one picture's."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.a(x).tanh().view(1, 4, -1).mean(2))


class Mixing(OneAtATime):
    """Mixes the pictures of a batch."""

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x).tanh()
        return self.head((a + a.sum(0, keepdim=True)).mean((2, 3)))


@pytest.mark.parametrize("make", [OneAtATime, Mixing])
def test_models_that_take_no_batches(make):
    torch.manual_seed(0)
    model = make().double().eval()
    weights, _ = naive_ablation(model, "a", X, 1, tokens=False)
    close(GradCAM(model).explain(X, 1, "a", "AblationCAM").alpha, weights.tolist())
    scores = []
    for channel in model.a(X).detach()[0]:
        mask = F.interpolate(channel[None, None], X.shape[2:], mode="bilinear", align_corners=False)
        with torch.no_grad():
            scores.append(model(X * (mask - mask.min()) / (mask.max() - mask.min()))[0, 1])
    close(GradCAM(model).explain(X, 1, "a", "ScoreCAM").alpha, torch.softmax(torch.stack(scores), 0).tolist())


@pytest.mark.parametrize("contiguous", [False, True], ids=["a view", "a copy"])
def test_ablation_through_a_layout_of_the_users_own(contiguous):
    # the maps may be a copy: writing zeros into them must still reach the layer's output
    def layout(output: Tensor) -> Tensor | None:
        if output.ndim != 3 or output.shape[1] != 10:
            return None
        maps = output[:, 1:].mT.unflatten(2, (3, 3))
        return maps.contiguous() if contiguous else maps

    x = X[:, :, :9, :9]
    weights, _ = naive_ablation(made("tokens"), "blocks.0", x, 1, tokens=True)
    found = GradCAM(made("tokens"), layout=layout).explain(x, 1, "blocks.0", "AblationCAM")
    close(found.alpha, weights.tolist())


@pytest.mark.parametrize("method", ["AblationCAM", "ScoreCAM"])
def test_progress_is_told_as_done_of_all(method):
    told: list[tuple[int, int]] = []
    wide = nn.Sequential(nn.Conv2d(3, 70, 3), nn.ReLU(), Gap(), nn.Linear(70, CLASSES)).double().eval()
    GradCAM(wide).explain(X, 1, "0", method, progress=lambda done, total: told.append((done, total)))
    assert len(told) > 2
    assert [total for _, total in told] == [70] * len(told)
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert told[-1] == (70, 70)


@pytest.mark.parametrize("method", ["AblationCAM", "ScoreCAM"])
def test_cancelling_keeps_nothing_and_leaves_the_model(method):
    wide = nn.Sequential(nn.Conv2d(3, 70, 3), nn.Dropout(), nn.ReLU(True), Gap(), nn.Linear(70, CLASSES))
    wide.double().train()
    state = copy.deepcopy(wide.state_dict())
    cam = GradCAM(wide)
    cam.predict(X)
    before = cam.memory()
    told: list[int] = []

    def stop(done: int, total: int) -> bool:
        told.append(done)
        return len(told) < 2

    with pytest.raises(Cancelled, match=r"cancelled after \d+ of 70 passes"):
        cam.explain(X, 1, "0", method, progress=stop)
    assert len(told) == 2
    assert told[-1] < 70
    assert cam.memory().maps == before.maps == 0
    assert all(module.training for module in wide.modules())
    assert all("forward" not in vars(module) for module in wide.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in wide.modules())
    assert all(torch.equal(value, wide.state_dict()[key]) for key, value in state.items())
    # and it can be asked again
    again = cam.explain(X, 1, "0", method)
    assert torch.equal(again.alpha, GradCAM(wide).explain(X, 1, "0", method).alpha)


@pytest.mark.parametrize("answer", [None, 0, "no", True])
def test_only_false_cancels(answer):
    found = engine("pooled").explain(X, 3, "0", "AblationCAM", progress=lambda done, total: answer)
    close(found.alpha, ablationcam(cut("pooled", 0, ClassLogit(3)))[0])


def test_cancelling_at_the_end_is_too_late():
    torch.manual_seed(0)
    cam = GradCAM(network("pooled"))
    assert cam.explain(X, 1, "0", "AblationCAM", progress=lambda done, total: False if done == total else None)


def test_a_float32_model_has_float32_answers():
    single = copy.deepcopy(network("curved")).float()
    for method in ("AblationCAM", "ScoreCAM", "ShapleyCAM", "EigenCAM"):
        found, exact = (
            GradCAM(single).explain(X.float(), 1, "1", method),
            engine("curved").explain(X, 1, "1", method),
        )
        assert found.alpha.dtype == found.signed_cam.dtype == torch.float32
        assert torch.allclose(
            found.alpha.double(), exact.alpha, rtol=1e-3, atol=1e-4 * float(exact.alpha.abs().max())
        )


# -- the table ----------


@pytest.mark.parametrize("row", METHODS.values(), ids=lambda row: row.name)
def test_every_row_is_documented_and_can_be_served(row):
    assert find_method(row.name) is row
    assert row.needs
    for name in row.needs:
        assert callable(getattr(Evidence, name))
        assert f"\n{name}\n" in methods.__doc__, "the module's docstring lists what can be asked for"
    assert row.alpha in ("weight", "share")
    assert row.meaning
    assert row.passes
    assert row.source
    assert row.function.__doc__
    assert row.many_passes == (row.name in ("AblationCAM", "ScoreCAM"))


def test_the_meaning_names_shares_and_weights_as_the_reference_does():
    shares = {name for name, row in METHODS.items() if row.alpha == "share"}
    assert shares == {"HiResCAM", "LayerCAM", "GradCAMElementWise"}


def test_a_method_of_ones_own_is_one_function_and_one_row(monkeypatch):
    def loudest(activations: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor]:
        """The channel with the largest gradient alone."""
        alpha = torch.zeros(activations.shape[0], dtype=activations.dtype)
        alpha[gradients.flatten(1).amax(1).argmax()] = 1
        return alpha, methods.weighted_sum(alpha, activations)

    row = Method("Loudest", loudest, "weight", "1 for the loudest channel", "one backward pass", "here")
    monkeypatch.setitem(METHODS, "Loudest", row)
    cam = GradCAM(network("curved"))
    found = cam.explain(X, 2, "1", "Loudest")
    at = cut("curved", 1, ClassLogit(2))
    loudest_channel = int(at.gradients().flatten(1).amax(1).argmax())
    assert found.alpha.tolist() == [float(k == loudest_channel) for k in range(4)]
    close(found.signed_cam, at.activations[loudest_channel].tolist())
    assert found.method == "Loudest"
    assert found.heatmap().shape == X.shape[2:]
    assert [e.method for e in cam.explain_layers(X, 2, ["0", "1"], "Loudest").values()] == ["Loudest"] * 2
    assert float(found.contribution.sum()) == pytest.approx(float(found.signed_cam.mean()))


def test_a_method_that_asks_for_what_does_not_exist_is_told_so(monkeypatch):
    row = Method("Odd", lambda activations, moonlight: None, "weight", "", "", "")
    monkeypatch.setitem(METHODS, "Odd", row)
    with pytest.raises(TypeError, match=r"asks for \['moonlight'\]"):
        GradCAM(network("curved")).explain(X, 2, "1", "Odd")


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        (
            "gradcam",
            ValueError,
            r"method: expected one of \['GradCAM', .*; got 'gradcam'. Did you mean 'GradCAM'\?$",
        ),
        ("grad-cam++", ValueError, r"got 'grad-cam\+\+'. Did you mean 'GradCAM\+\+'\?$"),
        ("Score-CAM", ValueError, r"got 'Score-CAM'. Did you mean 'ScoreCAM'\?$"),
        ("layer cam", ValueError, r"got 'layer cam'. Did you mean 'LayerCAM'\?$"),
        ("GradCAMpp", ValueError, r"Did you mean 'GradCAM(\+\+)?' or "),
        ("zzz", ValueError, r"got 'zzz'$"),
        (None, TypeError, "method: expected one of .*; got NoneType"),
        (3, TypeError, "method: expected one of .*; got int"),
    ],
)
def test_unknown_methods(name, kind, message):
    with pytest.raises(kind, match=message):
        find_method(name)


def test_finercam_needs_a_class():
    with pytest.raises(ValueError, match="FinerCAM compares a class with others"):
        engine("pooled").explain(X, lambda y: y.sum(), "0", "FinerCAM")


def test_finercam_says_which_classes_it_compared():
    found = engine("pooled").explain(X, 2, "0", "FinerCAM")
    assert isinstance(found.target, Finer)
    scores = engine("pooled").predict(X)
    distance = [abs(float(scores[c] - scores[2])) for c in range(CLASSES)]
    assert list(found.target.against) == sorted({0, 1, 3, 4}, key=distance.__getitem__)[:3]
    assert found.target.index == 2
    assert found.target.gamma == 1


def test_shapleycam_says_where_torch_has_no_second_derivative():
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.Hardsigmoid(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    )
    with pytest.raises(ValueError, match=r"method: ShapleyCAM needs second derivatives.*after '0'.*use GradCAM"):
        GradCAM(net.eval()).explain(torch.randn(1, 3, 8, 8), 1, "0", "ShapleyCAM")


def test_cam_of_signals():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv1d(2, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(5, 3))
    found = GradCAM(net.eval()).explain(torch.randn(1, 2, 20), 2, "1", "CAM")
    torch.testing.assert_close(found.alpha, net[4].weight[2].detach())
