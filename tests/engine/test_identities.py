"""What must hold of any correct engine: identities of the maths, every order of asking, passes counted."""

from __future__ import annotations

import random

import pytest
import torch
import torchvision
from torch import Tensor, nn

from gradcam_widget.engine import GradCAM, Passes

from .nets import ALL, CLASSES, Head, build

X = torch.rand(1, 3, 12, 14, generator=torch.Generator().manual_seed(3))


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) <= tolerance * max(float(expected.abs().max()), 1e-12)


# -- CAM: global average pooling and one linear layer ----------


@pytest.mark.parametrize("name", ["resnet18", "squeeze", "densenet121", "mobilenet_v2"])
def test_alpha_is_the_heads_weight_over_z_where_the_head_is_gap_and_linear(name):
    torch.manual_seed(1)
    if name == "squeeze":
        features = nn.Sequential(nn.Conv2d(3, 16, 5, stride=2), nn.ReLU(True))
        model, layer, linear = nn.Sequential(features, Head(16)), "0", "1.fc"
    elif name == "resnet18":
        model, layer, linear = torchvision.models.resnet18(weights=None), "layer4", "fc"
    elif name == "densenet121":
        # the ReLU before its pooling is a function: with all its inputs positive it is the identity
        model, layer, linear = torchvision.models.densenet121(weights=None), "features.norm5", "classifier"
        nn.init.constant_(model.features.norm5.bias, 100)
    else:
        model, layer, linear = torchvision.models.mobilenet_v2(weights=None), "features.18", "classifier.1"
    model = model.double().eval()
    x = torch.rand(3, 48, 64, dtype=torch.float64)
    cam, weight = GradCAM(model), model.get_submodule(linear).weight.detach()
    for target in (0, 2, weight.shape[0] - 1 if weight.shape[0] < 50 else 40):
        found = cam.explain(x, target, layer)
        z = found.signed_cam.numel()
        close(found.alpha, weight[target] / z, 1e-12)
        # CAM (Zhou et al.): Z times the map is sum_k W[c, k] A^k, and its mean is the logit without its bias
        close(found.signed_cam * z, torch.einsum("k,khw->hw", weight[target], found.activations), 1e-12)
        bias = float(model.get_submodule(linear).bias[target].detach())
        assert float(found.signed_cam.sum()) + bias == pytest.approx(found.score, rel=1e-9)


# -- symmetry and linearity ----------


@pytest.mark.parametrize("axis", [2, 3])
def test_a_flipped_picture_gives_the_flipped_map(axis):
    torch.manual_seed(2)
    convs = [nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)]
    for conv in convs:
        conv.weight.data = (conv.weight.data + conv.weight.data.flip(axis)) / 2
    model = nn.Sequential(convs[0], nn.ReLU(True), convs[1], nn.Tanh(), Head(8)).double()
    x = X.double()
    straight, flipped = GradCAM(model).explain(x, 1, "2"), GradCAM(model).explain(x.flip(axis), 1, "2")
    close(flipped.signed_cam, straight.signed_cam.flip(axis - 2), 1e-12)
    close(flipped.alpha, straight.alpha, 1e-12)
    assert float((flipped.signed_cam - straight.signed_cam).abs().max()) > 1e-6


def test_alpha_is_linear_in_the_target():
    cam = GradCAM(build("residual").double())
    x = X.double()
    mixed = cam.explain(x, lambda scores: 2 * scores[0] - 3 * scores[4], "blocks.1")
    first, last = cam.explain(x, 0, "blocks.1"), cam.explain(x, 4, "blocks.1")
    close(mixed.alpha, 2 * first.alpha - 3 * last.alpha, 1e-12)
    close(mixed.signed_cam, 2 * first.signed_cam - 3 * last.signed_cam, 1e-12)


def test_minus_the_target_is_minus_the_map():
    cam = GradCAM(build("dense"))
    for_it, against = cam.explain(X, 2, "convs.1"), cam.explain(X, lambda scores: -scores[2], "convs.1")
    assert torch.equal(against.alpha, -for_it.alpha)
    assert torch.equal(against.signed_cam, -for_it.signed_cam)


def test_the_sum_of_contributions_is_the_mean_of_the_signed_map():
    for explanation in GradCAM(build("residual").double()).explain_layers(X.double(), 3).values():
        assert float(explanation.contribution.sum()) == pytest.approx(
            float(explanation.signed_cam.mean()), rel=1e-9
        )


# -- every order of asking ----------


Maps = tuple[Tensor, Tensor]


def directly(model: nn.Module, x: Tensor, targets: list[int]) -> dict[tuple[str, int], Maps]:
    """Every layer for every target, each by an engine of its own: one whole backward pass, nothing resumed."""
    expected = {}
    for layer in GradCAM(model).layers(x):
        for target in targets:
            try:
                found = GradCAM(model).explain(x, target, layer)
            except ValueError as error:
                assert "has no influence" in str(error)  # noqa: PT017 # it says nothing else that may be ignored
                continue
            expected[layer.name, target] = found.alpha, found.signed_cam
    return expected


def ask_in_any_order(model: nn.Module, x: Tensor, expected: dict[tuple[str, int], Maps], seeds: range) -> None:
    assert len(expected) >= 6
    for seed in seeds:
        order = list(expected)
        random.Random(seed).shuffle(order)
        cam = GradCAM(model)
        for layer, target in order:
            found = cam.explain(x, target, layer)
            close(found.alpha, expected[layer, target][0], 1e-12)
            close(found.signed_cam, expected[layer, target][1], 1e-12)


@pytest.mark.parametrize("name", ALL)
def test_any_order_of_layers_and_targets(name):
    model = build(name).double()
    ask_in_any_order(model, X.double(), directly(model, X.double(), [0, 3]), range(6))


def test_any_order_of_layers_on_resnet18():
    torch.manual_seed(0)
    model = torchvision.models.resnet18(weights=None).double().eval()
    x = torch.rand(1, 3, 32, 32, dtype=torch.float64)
    expected = {
        (name, target): (found.alpha, found.signed_cam)
        for target in (7, 8)
        for name, found in GradCAM(model).explain_layers(x, target).items()  # one whole pass, nothing resumed
    }
    ask_in_any_order(model, x, expected, range(2))


@pytest.mark.parametrize("name", ["inception_v3", "googlenet"])
def test_any_order_of_layers_on_branches(name):
    # concatenated branches that run one after another
    torch.manual_seed(0)
    model = getattr(torchvision.models, name)(weights=None, init_weights=False, aux_logits=False)
    model.transform_input = False
    x = torch.rand(1, 3, 96, 96, dtype=torch.float64)
    model = model.double().eval()
    picked = [layer for layer in GradCAM(model).layers(x) if layer.kind == "conv" and layer.cells > 1][-14:]
    whole = GradCAM(model).explain_layers(x, 5)
    for seed in range(2):
        cam = GradCAM(model)
        order = random.Random(seed).sample(picked, len(picked))
        for layer in order:
            close(cam.explain(x, 5, layer).alpha, whole[layer.name].alpha, 1e-12)


@pytest.mark.parametrize("name", ALL)
def test_explain_layers_is_explain_one_by_one(name):
    model = build(name).double()
    x = X.double()
    together = GradCAM(model).explain_layers(x, 1)
    assert len(together) >= 3
    for layer, found in together.items():
        alone = GradCAM(model).explain(x, 1, layer)
        close(found.alpha, alone.alpha, 1e-12)
        close(found.signed_cam, alone.signed_cam, 1e-12)
        assert torch.equal(found.activations, alone.activations)
        assert (found.layer.name, found.score, found.probability) == (layer, alone.score, alone.probability)


def test_explain_layers_keeps_the_order_asked_for():
    cam = GradCAM(build("plain"))
    assert list(cam.explain_layers(X, 1, ["4", "0", "3"])) == ["4", "0", "3"]


def test_explain_targets_and_batch_are_explain_one_by_one():
    model = build("residual").double()
    x = X.double()
    for found, target in zip(GradCAM(model).explain_targets(x, [3, 0, 1], "blocks.0"), (3, 0, 1), strict=True):
        close(found.alpha, GradCAM(model).explain(x, target, "blocks.0").alpha, 1e-12)
        assert found.target.index == target
    pictures = torch.cat([x, 1 - x, x * x])
    for row, (found, target) in enumerate(
        zip(GradCAM(model).explain_batch(pictures, [3, 0, 1], "blocks.0"), (3, 0, 1), strict=True)
    ):
        close(found.alpha, GradCAM(model).explain(pictures[row], target, "blocks.0").alpha, 1e-12)


def test_a_budget_of_nothing_changes_no_number():
    model = build("dense")
    poor, rich = GradCAM(model, memory_budget=0), GradCAM(model)
    for layer in rich.layers(X):
        close(poor.explain(X, 2, layer).signed_cam, rich.explain(X, 2, layer).signed_cam)
    assert list(poor.explain_layers(X, 2)) == list(rich.explain_layers(X, 2))


@pytest.mark.parametrize("budget", [1, 10_000, 50_000, 200_000])
def test_a_small_budget_changes_no_number(budget):
    model = build("dense")
    poor, rich = GradCAM(model, memory_budget=budget), GradCAM(model)
    pictures = [X, X.flip(2), X.flip(3)]
    for turn in range(12):
        layer = f"convs.{turn % 4}"
        picture = pictures[turn % 3]
        close(poor.explain(picture, turn % 5, layer).alpha, rich.explain(picture, turn % 5, layer).alpha)


# -- passes ----------


def counted(cam: GradCAM, question) -> Passes:
    before = cam.passes
    question()
    return cam.passes - before


def test_passes():
    calls = []
    model = build("residual")
    model.stem.register_forward_hook(lambda *args: calls.append(1))
    cam = GradCAM(model)
    assert cam.passes == Passes(0, 0)
    assert counted(cam, lambda: cam.predict(X)) == Passes(1, 0)
    assert counted(cam, lambda: cam.layers(X)) == Passes(0, 0)
    assert counted(cam, lambda: cam.explain(X, 1, "blocks.1")) == Passes(0, 1)
    # up the network: the gradient went through here already
    assert counted(cam, lambda: cam.explain(X, 1, "blocks.2")) == Passes(0, 0)
    assert counted(cam, lambda: cam.explain(X, 1, "relu:4")) == Passes(0, 0)
    # again
    assert counted(cam, lambda: cam.explain(X, 1, "blocks.1")) == Passes(0, 0)
    # down the network: on from the deepest gradient known
    assert counted(cam, lambda: cam.explain(X, 1, "stem")) == Passes(0, 1)
    assert counted(cam, lambda: cam.explain_layers(X, 1)) == Passes(0, 0)
    # another class
    assert counted(cam, lambda: cam.explain_layers(X, 2)) == Passes(0, 1)
    assert counted(cam, lambda: cam.explain(X, 2, "blocks.0")) == Passes(0, 0)
    # the same values in another tensor are the same picture
    assert counted(cam, lambda: cam.explain(X.clone(), 2, "blocks.0")) == Passes(0, 0)
    assert counted(cam, lambda: cam.explain(X[0], 2, "blocks.0")) == Passes(0, 0)
    # another picture, and back
    assert counted(cam, lambda: cam.explain(1 - X, 2, "blocks.0")) == Passes(1, 1)
    assert counted(cam, lambda: cam.explain(X, 2, "blocks.0")) == Passes(0, 0)
    assert len(calls) == cam.passes.forward == 2


def test_the_default_layer_costs_one_forward_pass_and_none_back():
    cam = GradCAM(build("plain"))
    assert counted(cam, lambda: cam.explain(X)) == Passes(1, 0)
    assert counted(cam, lambda: cam.default_layer(X)) == Passes(0, 0)


def test_a_resumed_pass_runs_only_what_is_missing():
    # The hook of a tensor at the network's end counts how often the backward pass starts from the scores.
    starts = []
    model = build("residual")

    def tell(module, args, output):
        output.register_hook(lambda gradient: starts.append(1))

    model.head.register_forward_hook(tell)
    cam = GradCAM(model)
    for layer in ("relu:4", "blocks.2", "relu:2", "stem"):
        cam.explain(X, 1, layer)
    assert cam.passes == Passes(1, 4)
    assert len(starts) == 1


def test_closing_forgets():
    cam = GradCAM(build("plain"))
    first = cam.explain(X, 1, "0")
    cam.close()
    assert counted(cam, lambda: cam.explain(X, 1, "0")) == Passes(1, 1)
    assert torch.equal(first.alpha, cam.explain(X, 1, "0").alpha)
    with GradCAM(build("plain")) as managed:
        managed.explain(X, 1, "0")
    assert counted(managed, lambda: managed.explain(X, 1, "0")) == Passes(1, 1)


# -- answers are the user's own ----------


def test_changing_an_answer_changes_no_later_answer():
    cam = GradCAM(build("residual"))
    first = cam.explain(X, 1, "blocks.1")
    names = ("alpha", "signed_cam", "mean_activations", "activations")
    before = {name: getattr(first, name).clone() for name in names}
    for name in names:
        getattr(first, name).fill_(7)
    cam.predict(X).fill_(7)
    second = cam.explain(X, 1, "blocks.1")
    for name in names:
        assert torch.equal(getattr(second, name), before[name])
    assert float(cam.predict(X).max()) < 7
    deeper = cam.explain(X, 1, "stem")
    assert torch.equal(deeper.alpha, GradCAM(build("residual")).explain(X, 1, "stem").alpha)


def test_an_answer_outlives_the_engine_and_later_pictures():
    cam = GradCAM(build("residual"), memory_budget=1)
    found = cam.explain(X, 1, "blocks.1")
    activations = found.activations
    cam.explain(1 - X, 0, "blocks.1")
    cam.close()
    assert torch.equal(found.activations, activations)


def test_scores_are_the_models():
    model = build("several outputs")
    with torch.no_grad():
        scores = model(X)[0]
    cam = GradCAM(model)
    assert torch.equal(cam.predict(X), scores)
    for target in range(CLASSES):
        found = cam.explain(X, target, "mix")
        assert found.score == float(scores[target])
        assert found.probability == pytest.approx(float(scores.softmax(0)[target]), rel=1e-6)
    assert cam.explain(X).target.index == int(scores.argmax())
