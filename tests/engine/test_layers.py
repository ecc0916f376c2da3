"""Which outputs are feature maps, of which kind, and how a tensor is read as maps."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gradcam_widget.engine import GradCAM
from gradcam_widget.layers import Layer, Layout, find_layout, kind_of, nearest_names, spatial_dimensions

from .nets import Head

X = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(3))


class GlobalResponseNorm(nn.Module):
    pass


class WindowAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(2, 2)


@pytest.mark.parametrize(
    ("module", "kind"),
    [
        (nn.Conv2d(1, 1, 1), "conv"),
        (nn.Conv1d(1, 1, 1), "conv"),
        (nn.ConvTranspose3d(1, 1, 1), "conv"),
        (nn.BatchNorm2d(1), "norm"),
        (nn.SyncBatchNorm(1), "norm"),
        (nn.GroupNorm(1, 1), "norm"),
        (nn.LayerNorm(1), "norm"),
        (nn.InstanceNorm2d(1), "norm"),
        (nn.LocalResponseNorm(1), "norm"),
        (nn.RMSNorm(1), "norm"),
        (GlobalResponseNorm(), "norm"),
        (nn.MaxPool2d(2), "pool"),
        (nn.AdaptiveAvgPool1d(1), "pool"),
        (nn.LPPool2d(2, 2), "pool"),
        (nn.ReLU(), "activation"),
        (nn.Hardswish(), "activation"),
        (nn.PReLU(), "activation"),
        (nn.Softmax(1), "activation"),
        (nn.MultiheadAttention(2, 1), "attention"),
        (WindowAttention(), "attention"),
        (nn.Sequential(nn.Conv2d(1, 1, 1)), "block"),
        (nn.Upsample(scale_factor=2), "block"),
        (nn.Linear(1, 1), "conv"),  # on tokens it is a 1 × 1 convolution
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_kinds(module, kind):
    assert kind_of(module) == kind


@pytest.mark.parametrize(
    ("shape", "picture", "expected"),
    [
        ((1, 64, 56, 56), (224, 224), ("channels first", (56, 56), 0)),
        ((1, 512, 1, 1), (224, 224), ("channels first", (1, 1), 0)),
        ((1, 2048, 7, 10), (224, 320), ("channels first", (7, 10), 0)),
        ((1, 96, 54, 54), (224, 224), ("channels first", (54, 54), 0)),  # unpadded
        ((1, 56, 56, 96), (224, 224), ("channels last", (56, 56), 0)),
        ((1, 7, 10, 768), (224, 320), ("channels last", (7, 10), 0)),
        ((1, 3, 448, 448), (224, 224), ("channels first", (448, 448), 0)),  # upsampled
        ((1, 197, 768), (224, 224), ("tokens", (14, 14), 1)),
        ((1, 198, 192), (224, 224), ("tokens", (14, 14), 2)),
        ((1, 201, 384), (224, 224), ("tokens", (14, 14), 5)),
        ((1, 196, 512), (224, 224), ("tokens", (14, 14), 0)),
        ((1, 49, 768), (224, 224), ("tokens", (7, 7), 0)),
        ((1, 1 + 14 * 28, 768), (224, 448), ("tokens", (14, 28), 1)),
    ],
)
def test_shapes_that_are_maps(shape, picture, expected):
    found = find_layout(shape, picture)
    assert found is not None
    assert (found.order, found.grid, found.prefix) == expected


@pytest.mark.parametrize(
    ("shape", "picture"),
    [
        ((1, 1000), (224, 224)),
        ((2, 64, 56, 56), (224, 224)),
        ((), (224, 224)),
        ((1,), (224, 224)),
        ((1, 0, 7, 7), (224, 224)),
        ((1, 12, 197, 64), (224, 224)),  # heads x tokens x d
        ((1, 3, 1000, 1000), (224, 224)),
        ((1, 163, 768), (224, 224)),  # 163 to 147 tokens form no square grid
        ((1, 2, 768), (224, 224)),
        ((1, 4, 8, 8, 8), (224, 224)),
    ],
)
def test_shapes_that_are_none(shape, picture):
    assert find_layout(shape, picture) is None


def test_what_the_shape_leaves_open_is_settled_by_the_module():
    assert find_layout((1, 7, 7, 7), (224, 224)).order == "channels first"
    assert find_layout((1, 7, 7, 7), (224, 224), last=True).order == "channels last"


def test_tokens_are_matched_to_the_grids_seen():
    # 65 tokens of a wide picture: by themselves 8 x 8 and one class token, or what was seen
    assert find_layout((1, 65, 32), (64, 64)).grid == (8, 8)
    assert find_layout((1, 65, 32), (64, 128), [(4, 16)]).grid == (4, 16)
    assert find_layout((1, 65, 32), (64, 64), [(8, 8), (4, 4)]).grid == (8, 8)


def test_other_dimensions():
    assert find_layout((1, 8, 40), (80,)) == Layout("channels first", (40,))
    assert find_layout((1, 8, 4, 5, 6), (8, 10, 12)) == Layout("channels first", (4, 5, 6))
    assert find_layout((1, 8, 4, 5), (80,)) is None
    assert spatial_dimensions(nn.Sequential(nn.Linear(1, 1), nn.Conv3d(1, 1, 1), nn.Conv2d(1, 1, 1))) == 3
    assert spatial_dimensions(nn.Linear(1, 1)) == 2


def test_reading_maps():
    maps = torch.rand(5, 3, 4)
    assert torch.equal(Layout("channels first", (3, 4)).maps(maps[None]), maps)
    assert torch.equal(Layout("channels last", (3, 4)).maps(maps.permute(1, 2, 0)[None]), maps)
    tokens = torch.cat([torch.rand(2, 5), maps.flatten(1).T])[None]
    assert torch.equal(Layout("tokens", (3, 4), 2).maps(tokens), maps)


def test_a_layer_says_what_it_is():
    layer = Layer("layer4.1", "block", (512, 7, 7), (224, 224), why="because")
    assert (layer.label, str(layer), layer.cells) == ("layer4.1 · block · 512 × 7 × 7", "layer4.1", 49)
    assert layer == Layer("layer4.1", "block", (512, 7, 7), (224, 224))
    assert hash(layer) == hash(Layer("layer4.1", "block", (512, 7, 7), (224, 224)))


def test_hints():
    assert nearest_names("layer4.1.conv3", ["layer4.1.conv1", "fc"]) == "did you mean 'layer4.1.conv1'?"
    assert nearest_names("zzz", ["a", "b", "c", "d"]) == "the last ones are 'b', 'c', 'd'"
    assert nearest_names("zzz", []) == "there is none"


# -- the engine's list ----------


class Kinds(nn.Module):
    """Modules that run, run twice, hand their input on, or never run."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Conv2d(3, 3, 3)
        self.pad = nn.ZeroPad2d(1)
        self.conv = nn.Conv2d(3, 6, 3)
        self.norm = nn.BatchNorm2d(6)
        self.act = nn.ReLU(True)
        self.drop = nn.Dropout(0.5)
        self.identity = nn.Identity()
        self.block = nn.Sequential(nn.Conv2d(6, 6, 1), nn.Identity(), nn.Tanh())
        self.pool = nn.MaxPool2d(2)
        self.gap = nn.AdaptiveAvgPool2d(1)
        self.flat = nn.Flatten()
        self.fc = nn.Linear(6, 5)

    def forward(self, x):
        x = self.act(self.norm(self.conv(self.pad(x))))
        x = self.block(self.identity(self.drop(x)))
        x = self.act(self.pool(x))
        return self.fc(self.flat(self.gap(x)))


def test_the_list_is_what_ran_in_its_order():
    found = [(layer.name, layer.kind, layer.shape) for layer in GradCAM(Kinds()).layers(X)]
    assert found == [
        ("conv", "conv", (6, 16, 16)),
        ("norm", "norm", (6, 16, 16)),
        ("act", "activation", (6, 16, 16)),
        ("block.0", "conv", (6, 16, 16)),
        ("block.2", "activation", (6, 16, 16)),
        ("block", "block", (6, 16, 16)),
        ("pool", "pool", (6, 8, 8)),
        ("act:2", "activation", (6, 8, 8)),
        ("gap", "pool", (6, 1, 1)),
    ]


def test_the_default_is_the_last_with_more_than_one_cell():
    cam = GradCAM(Kinds())
    layer = cam.default_layer(X)
    assert layer.name == "act:2"
    assert "the last feature map with more than one cell (8 × 8)" in layer.why
    found = cam.explain(X)
    assert (found.layer, found.layer.why) == (layer, layer.why)


def test_the_default_has_a_gradient():
    class Late(nn.Module):
        """Its last maps do not reach the scores, or only times zero."""

        def __init__(self) -> None:
            super().__init__()
            self.conv, self.aside, self.zero, self.head = (
                nn.Conv2d(3, 4, 3),
                nn.Conv2d(4, 4, 3),
                nn.Conv2d(4, 4, 1),
                Head(4),
            )

        def forward(self, x):
            x = self.conv(x)
            nothing = self.zero(x) * 0
            self.aside(x)
            return self.head(x + nothing)

    cam = GradCAM(Late())
    layer = cam.default_layer(X, 1)
    assert layer.name == "conv"
    assert "2 later" in layer.why
    assert cam.explain(X, 1, "zero").diagnosis is not None
    assert "zero everywhere" in cam.explain(X, 1, "zero").diagnosis
    with pytest.raises(ValueError, match="layer: 'aside' has no influence on the target class 1"):
        cam.explain(X, 1, "aside")
    assert list(cam.explain_layers(X, 1)) == ["conv", "zero"]


def test_a_layer_by_name_module_or_layer_is_the_same():
    model = Kinds()
    cam = GradCAM(model)
    by_name = cam.explain(X, 1, "block.0")
    for layer in (model.block[0], next(layer for layer in cam.layers(X) if layer.name == "block.0")):
        assert torch.equal(cam.explain(X, 1, layer).alpha, by_name.alpha)
        assert torch.equal(GradCAM(model).explain(X, 1, layer).alpha, by_name.alpha)
    assert cam.explain(X, 1, model.act).layer.name == "act"
    assert cam.explain(X, 1, "act:1").layer.name == "act"


@pytest.mark.parametrize("order", ["channels last", "tokens"])
def test_maps_in_other_layouts_are_turned(order):
    class Turned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, 6, 4, stride=4)
            self.norm, self.fc = nn.LayerNorm(6), nn.Linear(6, 5)
            self.token = nn.Parameter(torch.rand(1, 1, 6))

        def forward(self, x):
            x = self.patches(x)
            if order == "channels last":
                return self.fc(self.norm(x.permute(0, 2, 3, 1)).square().mean((1, 2)))
            x = torch.cat([self.token, x.flatten(2).transpose(1, 2)], 1)
            return self.fc(self.norm(x).square().mean(1))

    torch.manual_seed(0)
    model = Turned().double()
    x = torch.rand(1, 3, 16, 24, dtype=torch.float64)
    found = GradCAM(model).explain(x, 1, "norm")
    assert found.layer.shape == (6, 4, 6)
    # y = sum_k W[1, k] mean_cells(A^2): dy/dA = 2 W A / cells, over 24 cells, or 25 with the class token
    patches = model.norm(model.patches(x).permute(0, 2, 3, 1))[0].permute(2, 0, 1).detach()
    gradient = 2 * model.fc.weight[1].detach().view(-1, 1, 1) * patches / (24 if order == "channels last" else 25)
    torch.testing.assert_close(found.activations, patches, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.alpha, gradient.mean((1, 2)), rtol=1e-12, atol=1e-12)
    expected = torch.einsum("k,khw->hw", gradient.mean((1, 2)), patches)
    torch.testing.assert_close(found.signed_cam, expected, rtol=1e-12, atol=1e-12)


def test_different_strides_along_the_axes():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, stride=(1, 4)), nn.Tanh(), Head(4))
    assert [layer.shape for layer in GradCAM(model).layers(torch.rand(3, 32, 32))] == [(4, 30, 8)] * 2
