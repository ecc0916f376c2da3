"""Numbers worked by hand: what the engine says of tiny networks is what the definition says, to the last digit.

The network with a linear head over all cells (`LinearHead`)
-----------------------------------------------------------
Input x, 4 × 4:            two convolutions, kernel 2 × 2, stride 2 (each cell sees one block of four pixels):
     1  0  2  0            channel 0 takes the pixel at the top left of the block,
     0  3  0  1            channel 1 the one at the bottom right, minus 2 (its bias).
     4  0 -1  0
     0  1  0  2
conv:  A0 =  1  2     A1 =  1 -1        ReLU:  A0 = 1 2    A1 = 1 0
             4 -1          -1  0                    4 0         0 0
The head is linear in all 8 cells after the ReLU, with these weights (and biases 0.5 and -0.25):
  class 0:  1  2     4  5               class 1:  -1 -1     0  0
           -1  3     6  7                         -1 -1     0  2
y0 = 1·1 + 2·2 - 1·4 + 3·0 + 4·1 + 0.5 = 5.5          y1 = -(1 + 2 + 4 + 0) + 0 - 0.25 = -7.25

At the ReLU the gradient is the head's weight, so alpha = its mean over the Z = 4 cells:
  class 0: alpha = (1+2-1+3)/4, (4+5+6+7)/4 = 5/4, 11/2
           S = 1.25·A0 + 5.5·A1 =  6.75 2.5     contribution = 1.25 · 7/4, 5.5 · 1/4 = 2.1875, 1.375
                                   5    0       whose sum, 3.5625, is the mean of S
  class 1: alpha = -1, 1/2;  S = -0.5 -2        nothing positive: an empty map, with a diagnosis
                                 -4    0
At the convolution the gradient is that weight where A > 0 and 0 elsewhere (the derivative of ReLU at 0 is 0):
  class 0: g0 = 1 2   g1 = 4 0   alpha = 1/2, 1     S = 0.5·A0 + A1 = 1.5  0      cam = 1.5 0
               -1 0        0 0                                        1   -0.5          1   0
  class 1: g0 = -1 -1  g1 = 0    alpha = -3/4, 0    S = -0.75·A0 = -0.75 -1.5     cam = 0 0
                -1  0                                              -3     0.75          0 0.75
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from gradcam_widget.engine import GradCAM, Passes

X = torch.tensor([[[1.0, 0, 2, 0], [0, 3, 0, 1], [4, 0, -1, 0], [0, 1, 0, 2]]])
Y0, Y1 = 5.5, -7.25


class LinearHead(nn.Module):
    def __init__(self, inplace: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 2, stride=2)
        self.relu = nn.ReLU(inplace=inplace)
        self.head = nn.Linear(8, 2)
        with torch.no_grad():
            self.conv.weight.copy_(torch.tensor([[[[1.0, 0], [0, 0]]], [[[0, 0], [0, 1]]]]))
            self.conv.bias.copy_(torch.tensor([0.0, -2]))
            self.head.weight.copy_(torch.tensor([[1.0, 2, -1, 3, 4, 5, 6, 7], [-1, -1, -1, -1, 0, 0, 0, 2]]))
            self.head.bias.copy_(torch.tensor([0.5, -0.25]))

    def forward(self, x):
        return self.head(self.relu(self.conv(x)).flatten(1))


@pytest.fixture(params=[False, True], ids=["relu", "in-place relu"])
def cam(request) -> GradCAM:
    return GradCAM(LinearHead(request.param))


def equal(tensor, values) -> None:
    assert tensor.tolist() == values


def test_scores_are_the_logits(cam):
    equal(cam.predict(X), [Y0, Y1])


def test_at_the_activation(cam):
    found = cam.explain(X, 0, "relu")
    equal(found.activations, [[[1, 2], [4, 0]], [[1, 0], [0, 0]]])
    equal(found.alpha, [1.25, 5.5])
    equal(found.signed_cam, [[6.75, 2.5], [5, 0]])
    equal(found.cam, [[6.75, 2.5], [5, 0]])
    equal(found.contribution, [2.1875, 1.375])
    equal(found.mean_activations, [1.75, 0.25])
    assert found.score == Y0
    assert found.diagnosis is None


def test_at_the_convolution_before_it(cam):
    # Activations and gradient both belong to the convolution, also where the ReLU overwrites its output.
    found = cam.explain(X, 0, "conv")
    equal(found.activations, [[[1, 2], [4, -1]], [[1, -1], [-1, 0]]])
    equal(found.alpha, [0.5, 1])
    equal(found.signed_cam, [[1.5, 0], [1, -0.5]])
    equal(found.cam, [[1.5, 0], [1, 0]])
    equal(found.contribution, [0.5 * 6 / 4, 1 * -1 / 4])


def test_negative_weights(cam):
    found = cam.explain(X, 1, "conv")
    equal(found.alpha, [-0.75, 0])
    equal(found.signed_cam, [[-0.75, -1.5], [-3, 0.75]])
    equal(found.cam, [[0, 0], [0, 0.75]])
    assert found.score == Y1


def test_no_positive_evidence_is_an_empty_map_and_is_said(cam):
    found = cam.explain(X, 1, "relu")
    equal(found.alpha, [-1, 0.5])
    equal(found.signed_cam, [[-0.5, -2], [-4, 0]])
    equal(found.cam, [[0, 0], [0, 0]])
    equal(found.heatmap(), [[0] * 4] * 4)
    assert found.diagnosis is not None
    assert "No positive evidence for class 1" in found.diagnosis


def test_the_predicted_class_is_the_default(cam):
    found = cam.explain(X)
    assert (found.target.index, found.layer.name) == (0, "relu")
    equal(found.alpha, [1.25, 5.5])


def test_probability_is_the_softmax(cam):
    assert cam.explain(X, 0, "conv").probability == pytest.approx(1 / (1 + math.exp(Y1 - Y0)), rel=1e-6)
    assert cam.explain(X, 1, "conv").probability == pytest.approx(1 / (1 + math.exp(Y0 - Y1)), rel=1e-6)


def test_heatmap_is_bilinear_with_aligned_pixel_centres(cam):
    # cam / 1.5 = [[1, 0], [2/3, 0]]; from 2 to 4 cells the weights are (1, 0), (3/4, 1/4), (1/4, 3/4), (0, 1),
    # so that the rows are 1, 11/12, 3/4, 2/3 and the columns 1, 3/4, 1/4, 0.
    expected = [[row * column for column in (1, 3 / 4, 1 / 4, 0)] for row in (1, 11 / 12, 3 / 4, 2 / 3)]
    torch.testing.assert_close(cam.explain(X, 0, "conv").heatmap(), torch.tensor(expected), rtol=0, atol=1e-7)


def test_heatmap_at_another_size(cam):
    found = cam.explain(X, 0, "conv")
    torch.testing.assert_close(found.heatmap((2, 2)), torch.tensor([[1, 0], [2 / 3, 0]]), rtol=0, atol=1e-7)
    torch.testing.assert_close(found.heatmap((1, 1)), torch.tensor([[5 / 12]]), rtol=0, atol=1e-7)


def test_a_target_of_the_users_own(cam):
    # d(y0²) = 2·y0·dy0 = 11·dy0
    found = cam.explain(X, lambda scores: scores[0] ** 2, "conv")
    equal(found.alpha, [5.5, 11])
    equal(found.cam, [[16.5, 0], [11, 0]])
    assert found.score == Y0**2
    assert found.probability is None


def test_the_difference_of_two_classes(cam):
    # Gradients are linear: alpha of y0 - y1 is the difference of the alphas.
    found = cam.explain(X, lambda scores: scores[0] - scores[1], "relu")
    equal(found.alpha, [1.25 + 1, 5.5 - 0.5])
    assert found.score == Y0 - Y1


def test_passes_of_the_whole_table(cam):
    for target in (0, 1):
        for layer in ("relu", "conv"):
            cam.explain(X, target, layer)
    assert cam.passes == Passes(forward=1, backward=4)
    for target in (1, 0):
        for layer in ("conv", "relu"):
            cam.explain(X, target, layer)
    assert cam.passes == Passes(forward=1, backward=4)


class OneRelu(nn.Module):
    """Two 1 × 1 convolutions and one ReLU module that is called after each.

    x = 1 -2   conv1 = 2x - 1:  1 -5   relu: 1 0   conv2: A - 2 = -1 -2, 3 - A = 2  3   relu:2: 0 0   2 3
        3  4                    5  7         5 7                   3  5         -2 -4           3 5   0 0
    Head, weights of the cells:  1 1    1 -3        y = 2·3 + 4·5 + 1·2 - 3·3 = 19
                                 2 4    1  1
    relu:2: alpha = 8/4, 0/4 = 2, 0;  S = 0  0
                                          6 10
    relu:   g = where the first channel lives, its weights; where the second lives, minus its weights:
            -1 3    alpha = 8/4 = 2;  S = 2  0
             2 4                         10 14
    """

    def __init__(self, inplace: bool) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 1, 1), nn.Conv2d(1, 2, 1)
        self.relu = nn.ReLU(inplace=inplace)
        self.head = nn.Linear(8, 1)
        with torch.no_grad():
            self.conv1.weight.fill_(2)
            self.conv1.bias.fill_(-1)
            self.conv2.weight.copy_(torch.tensor([1.0, -1]).view(2, 1, 1, 1))
            self.conv2.bias.copy_(torch.tensor([-2.0, 3]))
            self.head.weight.copy_(torch.tensor([[1.0, 1, 2, 4, 1, -3, 1, 1]]))
            self.head.bias.zero_()

    def forward(self, x):
        return self.head(self.relu(self.conv2(self.relu(self.conv1(x)))).flatten(1))


@pytest.mark.parametrize("inplace", [False, True])
def test_every_call_of_a_reused_module_is_a_layer(inplace):
    cam = GradCAM(OneRelu(inplace))
    x = torch.tensor([[[1.0, -2], [3, 4]]])
    assert [layer.name for layer in cam.layers(x)] == ["conv1", "relu", "conv2", "relu:2"]
    second, first = cam.explain(x, 0, "relu:2"), cam.explain(x, 0, "relu")
    assert (first.layer.call, second.layer.call) == (1, 2)
    equal(second.activations, [[[0, 0], [3, 5]], [[2, 3], [0, 0]]])
    equal(second.alpha, [2, 0])
    equal(second.signed_cam, [[0, 0], [6, 10]])
    equal(first.activations, [[[1, 0], [5, 7]]])
    equal(first.alpha, [2])
    equal(first.signed_cam, [[2, 0], [10, 14]])
    # conv1: the same gradient where conv1 > 0: [[-1, 0], [2, 4]], so alpha = 5/4
    equal(cam.explain(x, 0, "conv1").alpha, [1.25])
    equal(cam.explain(x, 0, "conv1").signed_cam, [[1.25, -6.25], [6.25, 8.75]])


def test_one_logit_is_a_binary_head():
    cam = GradCAM(OneRelu(False))
    found = cam.explain(torch.tensor([[[1.0, -2], [3, 4]]]))
    assert (found.target.label, found.score) == ("positive", 19)
    assert found.probability == pytest.approx(1 / (1 + math.exp(-19)), rel=1e-6)
