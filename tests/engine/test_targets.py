"""Every target: its value by hand, equality and hash, its names, its errors, and what its map must be."""

from __future__ import annotations

import copy
import math
import re
from dataclasses import FrozenInstanceError
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from gradcam_widget.engine import GradCAM
from gradcam_widget.targets import (
    BinaryLogit,
    ClassLogit,
    ClassLogProbability,
    ClassProbability,
    Contrast,
    Counterfactual,
    Finer,
    Region,
    Similarity,
    class_index,
    finer,
    name_target,
    probabilities,
    select_output,
)

from .nets import CLASSES, Head, build

X = torch.rand(1, 3, 12, 14, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
SCORES = torch.tensor([1.0, 3.0, 2.0], dtype=torch.float64)
SUM = math.exp(1) + math.exp(3) + math.exp(2)
IMAGE = torch.tensor(
    [[[1.0, 2.0], [3.0, 4.0]], [[5.0, 1.0], [0.0, 6.0]]], dtype=torch.float64
)  # argmax: 1 0 / 0 1
CORNER = torch.tensor([[True, False], [True, False]])


# -- values ----------


@pytest.mark.parametrize(
    ("target", "output", "value"),
    [
        (ClassLogit(1), SCORES, 3),
        (ClassProbability(1), SCORES, math.exp(3) / SUM),
        (ClassLogProbability(2), SCORES, 2 - math.log(SUM)),
        (Contrast(ClassLogit(1), ClassLogit(0)), SCORES, 2),
        (Contrast(ClassProbability(1), ClassLogit(0)), SCORES, math.exp(3) / SUM - 1),
        (Counterfactual(ClassLogit(2)), SCORES, -2),
        (Counterfactual(Contrast(ClassLogit(1), ClassLogit(0))), SCORES, -2),
        (BinaryLogit(), torch.tensor([0.7]), 0.7),
        (BinaryLogit(False), torch.tensor([0.7]), -0.7),
        (BinaryLogit(False), torch.tensor(-2.0), 2),
        (BinaryLogit(), torch.tensor([[-2.0]]), -2),
        (Finer(1, (0, 2)), SCORES, 3 - 1.5),
        (Finer(1, (2,), gamma=0.5), SCORES, 3 - 0.5 * 2),
        (Region(0), IMAGE, (2 + 3) / 2),
        (Region(1), IMAGE, (5 + 6) / 2),
        (Region(0, CORNER), IMAGE, (1 + 3) / 2),
        (Region(1, CORNER.int()), IMAGE, (5 + 0) / 2),
        (Similarity(torch.tensor([3.0, 4.0])), torch.tensor([4.0, 3.0]), 24 / 25),
        (Similarity(torch.tensor([3.0, 4.0])), torch.tensor([-3.0, -4.0]), -1),
        (Similarity(torch.tensor([[1.0], [0.0]])), torch.tensor([[0.0, 2.0]]), 0),
    ],
    ids=repr,
)
def test_values(target, output, value):
    before = output.clone()
    found = target(output)
    assert found.shape == ()
    assert float(found) == pytest.approx(value, rel=1e-6, abs=1e-12)
    assert torch.equal(output, before)


def test_log_probabilities_of_unlikely_classes_are_finite():
    scores = torch.tensor([0.0, 500.0])
    assert float(ClassLogProbability(0)(scores)) == -500
    assert float(ClassProbability(0)(scores)) == 0


# -- equality, hash, names ----------

SAME = [
    (lambda: ClassLogit(3), lambda: ClassLogit(3)),
    (lambda: ClassLogit(3, "cat"), lambda: ClassLogit(3, "dog")),  # what is explained is the class, not its name
    (lambda: ClassProbability(3), lambda: ClassProbability(3)),
    (lambda: ClassLogProbability(3), lambda: ClassLogProbability(3, "x")),
    (lambda: Contrast(ClassLogit(1), ClassLogit(2)), lambda: Contrast(ClassLogit(1), ClassLogit(2, "x"))),
    (lambda: Counterfactual(ClassLogit(1)), lambda: Counterfactual(ClassLogit(1))),
    (lambda: BinaryLogit(), lambda: BinaryLogit(True)),
    (lambda: Finer(1, (2, 3)), lambda: Finer(1, (2, 3), name="x")),
    (lambda: Region(1), lambda: Region(1, name="x")),
    (lambda: Region(1, CORNER), lambda: Region(1, CORNER.clone())),
    (lambda: Similarity(torch.tensor([1.0, 2.0])), lambda: Similarity(torch.tensor([[1.0], [2.0]]))),
]
DIFFERENT = [
    (ClassLogit(3), ClassLogit(4)),
    (ClassLogit(3), ClassProbability(3)),
    (ClassProbability(3), ClassLogProbability(3)),
    (Contrast(ClassLogit(1), ClassLogit(2)), Contrast(ClassLogit(2), ClassLogit(1))),
    (Counterfactual(ClassLogit(1)), ClassLogit(1)),
    (BinaryLogit(True), BinaryLogit(False)),
    (Finer(1, (2, 3)), Finer(1, (2, 3), gamma=0.5)),
    (Finer(1, (2, 3)), Finer(1, (2, 4))),
    (Region(1), Region(1, CORNER)),
    (Region(1), Region(2)),
    (Region(1, CORNER), Region(1, ~CORNER)),
    (Region(1, torch.ones(2, 3)), Region(1, torch.ones(3, 2))),  # the same bytes in another shape
    (Similarity(torch.tensor([1.0, 2.0])), Similarity(torch.tensor([1.0, 3.0]))),
    (Region(1), "region"),
    (Similarity(torch.tensor([1.0])), 1.0),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_the_same_target_is_equal_and_hashes_alike(one, other):
    assert one() == other()
    assert hash(one()) == hash(other())
    assert len({one(), other()}) == 1


@pytest.mark.parametrize(("one", "other"), DIFFERENT, ids=repr)
def test_other_targets_are_not(one, other):
    assert one != other
    assert other != one


@pytest.mark.parametrize(
    ("target", "label", "shown"),
    [
        (ClassLogit(3), "class 3", "ClassLogit(index=3, name=None)"),
        (ClassLogit(3, "cat"), "cat", "ClassLogit(index=3, name='cat')"),
        (ClassProbability(3, "cat"), "probability of cat", "ClassProbability(index=3, name='cat')"),
        (ClassLogProbability(3), "log-probability of class 3", "ClassLogProbability(index=3, name=None)"),
        (Contrast(ClassLogit(1, "cat"), ClassLogit(2)), "cat rather than class 2", r"Contrast("),
        (Counterfactual(ClassLogit(1, "cat")), "against cat", "Counterfactual("),
        (BinaryLogit(), "positive", "BinaryLogit(positive=True)"),
        (BinaryLogit(False), "negative", "BinaryLogit(positive=False)"),
        (Finer(1, (2, 3), name="cat"), "cat against the 2 classes most like it", "Finer(index=1, against=(2, 3)"),
        (Region(1, name="cat"), "region of cat", "Region(index=1, predicted pixels)"),
        (Region(1, CORNER), "region of class 1", "Region(index=1, 2 pixels)"),
        (Similarity(torch.zeros(7)), "similarity", "Similarity(embedding of 7 values)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_names(target, label, shown):
    assert target.label == label
    assert name_target(target) == label
    assert shown in repr(target)


def test_a_users_function_is_called_by_its_name():
    def redness(scores: Tensor) -> Tensor:
        return scores[0]

    assert name_target(redness) == "redness"
    assert name_target(SimpleNamespace(label="mine")) == "mine"
    assert name_target(3) == "3"


@pytest.mark.parametrize(
    ("target", "name"),
    [(ClassLogit(1), "index"), (Contrast(ClassLogit(1), ClassLogit(2)), "first"), (Region(1, CORNER), "mask")],
    ids=repr,
)
def test_targets_are_frozen(target, name):
    with pytest.raises(FrozenInstanceError, match=f"cannot assign to field '{name}'"):
        setattr(target, name, 0)


def test_targets_keep_copies_of_tensors():
    mask, embedding = CORNER.clone(), torch.tensor([1.0, 2.0])
    region, similarity = Region(0, mask), Similarity(embedding)
    before = hash(region), hash(similarity)
    mask.fill_(True)
    embedding.fill_(0)
    assert (hash(region), hash(similarity)) == before
    assert float(region(IMAGE)) == 2


# -- errors ----------


@pytest.mark.parametrize(
    ("target", "output", "message"),
    [
        (ClassLogit(3), SCORES, r"class 3 for one picture; got \(3,\)"),
        (ClassLogit(-1), SCORES, "needs a model output of shape"),
        (ClassProbability(0), IMAGE, r"needs a model output of shape \(num_classes,\)"),
        (ClassLogProbability(7), SCORES, "with class 7"),
        (Contrast(ClassLogit(0), ClassLogit(9)), SCORES, "with class 9"),
        (Counterfactual(ClassLogit(9)), SCORES, "with class 9"),
        (BinaryLogit(), SCORES, r"needs a model with one logit; got an output of \(3,\)"),
        (Region(0), SCORES, r"needs an output \(num_classes, H, W\) with class 0; got \(3,\)"),
        (Region(2), IMAGE, "with class 2"),
        (Region(0, torch.ones(3, 2)), IMAGE, r"mask must have the output's size \(2, 2\); got \(3, 2\)"),
        (Region(0, torch.zeros(2, 2)), IMAGE, "the region of class 0 has no pixel"),
        (
            Region(0, name="cat"),
            IMAGE.flip(0) - torch.tensor([9.0, 0.0]).view(2, 1, 1),
            "the region of cat has no",
        ),
        (Similarity(torch.ones(2)), SCORES, "the embedding has 2 values, the model's output 3"),
        (Finer(7, (0, 1)), SCORES, "class 7"),
        (Finer(0, (0, 8)), SCORES, "class 8"),
    ],
    ids=lambda value: repr(value) if not isinstance(value, Tensor | str) else "",
)
def test_outputs_that_do_not_fit(target, output, message):
    with pytest.raises(ValueError, match=message):
        target(output)


@pytest.mark.parametrize(
    ("target", "scores"),
    [
        (ClassProbability(0), SCORES),
        (Contrast(ClassLogit(0), ClassLogit(1)), SCORES),
        (ClassLogit(0), IMAGE),
        (ClassLogit(0), torch.ones(1)),
    ],
    ids=repr,
)
def test_finer_needs_a_class_and_another(target, scores):
    with pytest.raises(ValueError, match="FinerCAM compares a class with others and needs a class as target"):
        finer(target, scores)


def test_finer_takes_the_nearest_scores_on_either_side():
    scores = torch.tensor([0.0, 5.0, 4.0, 9.0, 5.5])
    assert finer(ClassLogit(1, "cat"), scores) == Finer(1, (4, 2, 3))
    assert finer(ClassLogit(1, "cat"), scores).name == "cat"
    assert finer(ClassLogit(0), scores, classes=1).against == (2,)
    assert finer(ClassLogit(0), torch.tensor([1.0, 2.0])).against == (1,)
    # equal scores: in the order of the classes
    assert finer(ClassLogit(2), torch.ones(5)).against == (0, 1, 3)


# -- maps ----------


@pytest.fixture(scope="module")
def cam() -> GradCAM:
    return GradCAM(build("residual").double())


def explained(cam: GradCAM, target: object) -> tuple[Tensor, Tensor]:
    found = cam.explain(X, target, "blocks.1")
    return found.alpha, found.signed_cam


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-12) -> None:
    assert float((found - expected).abs().max()) <= tolerance * float(expected.abs().max())
    assert float(expected.abs().max()) > 0


def test_a_contrast_is_the_difference_of_the_maps(cam):
    contrast, first, second = (explained(cam, t) for t in (Contrast(ClassLogit(1), ClassLogit(3)), 1, 3))
    for found, a, b in zip(contrast, first, second, strict=True):
        close(found, a - b)
    score = cam.explain(X, Contrast(ClassLogit(1), ClassLogit(3)), "blocks.1").score
    assert score == pytest.approx(float(cam.predict(X)[1] - cam.predict(X)[3]))


def test_a_counterfactual_is_minus_the_map(cam):
    for target in (ClassLogit(2), ClassProbability(2)):
        for found, plain in zip(explained(cam, Counterfactual(target)), explained(cam, target), strict=True):
            close(found, -plain)
    found, plain = cam.explain(X, Counterfactual(ClassLogit(2)), "blocks.1"), cam.explain(X, 2, "blocks.1")
    assert torch.equal(found.cam, (-plain.signed_cam).clamp(min=0))


def test_a_probability_follows_the_chain_rule(cam):
    # dp_c/dA = p_c (dy_c/dA - sum_j p_j dy_j/dA)
    p = torch.softmax(cam.predict(X), 0)
    logits = [explained(cam, c)[0] for c in range(CLASSES)]
    average = sum(p[j] * logits[j] for j in range(CLASSES))
    close(explained(cam, ClassProbability(1))[0], p[1] * (logits[1] - average), 1e-11)
    close(explained(cam, ClassLogProbability(1))[0], logits[1] - average, 1e-11)


def test_a_saturated_softmax_blanks_the_probability_and_not_the_logit():
    model = build("residual")
    with torch.no_grad():
        model.head.fc.bias[1] += 500
    cam, x = GradCAM(model), X.float()
    logit, probability = cam.explain(x, 1, "blocks.1"), cam.explain(x, ClassProbability(1), "blocks.1")
    assert logit.probability == probability.score == 1
    assert float(logit.signed_cam.abs().max()) > 1e-5
    assert not probability.signed_cam.any()
    assert "The gradient of probability of class 1 is zero everywhere" in probability.diagnosis


def one_logit() -> nn.Module:
    torch.manual_seed(4)
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.Tanh(), Head(6, 1)).double()


def test_either_side_of_one_logit():
    cam = GradCAM(one_logit())
    positive, negative = cam.explain(X, BinaryLogit(), "1"), cam.explain(X, BinaryLogit(False), "1")
    close(negative.signed_cam, -positive.signed_cam)
    assert positive.score == -negative.score == float(cam.predict(X)[0])
    assert positive.probability == pytest.approx(1 / (1 + math.exp(-positive.score)))
    assert positive.probability + negative.probability == pytest.approx(1)
    assert cam.explain(X, None, "1").target == BinaryLogit(positive.score >= 0)


class Segmenter(nn.Module):
    """Scores for three classes at every pixel, in a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 6, 3, padding=1)
        self.classifier = nn.Conv2d(6, 3, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = self.features(x).tanh()
        return {"aux": y, "out": self.classifier(y)}


def test_a_region_of_a_segmentation():
    torch.manual_seed(5)
    model = Segmenter().double().eval()
    mask = torch.zeros(12, 14, dtype=torch.bool)
    mask[2:5, 3:9] = True
    # y = mean over the mask of sum_k W[c,k] tanh(A^k): the gradient is W[c,k] (1 - tanh^2) / 18 inside, 0 outside
    with torch.no_grad():
        A = model.features(X)[0]
        weight = model.classifier.weight.detach()[1, :, 0, 0]
    gradient = weight.view(-1, 1, 1) * (1 - A.tanh() ** 2) * mask / 18
    found = GradCAM(model).explain(X, Region(1, mask), "features")
    close(found.alpha, gradient.mean((1, 2)))
    close(found.signed_cam, torch.einsum("k,khw->hw", gradient.mean((1, 2)), A))
    hires = GradCAM(model).explain(X, Region(1, mask), "features", "HiResCAM")
    close(hires.signed_cam, (gradient * A).sum(0))
    assert not hires.signed_cam[~mask].any()
    predicted = GradCAM(model).explain(X, Region(1), "features")
    with torch.no_grad():
        scores = model(X)["out"][0]
    assert predicted.score == pytest.approx(float(scores[1][scores.argmax(0) == 1].mean()))
    with pytest.raises(ValueError, match=r"target: the model's output for one picture is \(3, 12, 14\)"):
        GradCAM(model).explain(X, 1, "features")


def test_the_similarity_of_an_embedding():
    torch.manual_seed(6)
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.Tanh(), Head(6, 4)).double()
    cam = GradCAM(model)
    own, other = cam.predict(X), cam.predict(1 - X)
    found = cam.explain(X, Similarity(other), "1")
    cosine = float((own * other).sum() / own.norm() / other.norm())
    assert found.score == pytest.approx(cosine, rel=1e-6)  # the embedding is kept in float32
    # the same by a function of one's own
    mine = cam.explain(X, lambda e: (e * other).sum() / (e.norm() * other.norm()), "1")
    close(found.alpha, mine.alpha, 1e-5)
    # of a picture with itself: the maximum, where the gradient vanishes
    itself = cam.explain(X, Similarity(own), "1")
    assert itself.score == pytest.approx(1)
    assert float(itself.alpha.abs().max()) < 1e-5 * float(found.alpha.abs().max())


def test_a_function_of_ones_own(cam):
    def margin(scores: Tensor) -> Tensor:
        return scores[1] - scores[3]

    for found, expected in zip(
        explained(cam, margin), explained(cam, Contrast(ClassLogit(1), ClassLogit(3))), strict=True
    ):
        close(found, expected)
    shaped = cam.explain(X, lambda scores: scores[1:2] * 2, "blocks.1")  # one value of any shape
    close(shaped.alpha, 2 * explained(cam, 1)[0])
    assert shaped.probability is None


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (lambda scores: scores, r"must return a tensor with one value for an output of shape \(5,\); got \(5,\)"),
        (lambda scores: scores[0].item(), "got float"),
        (lambda scores: None, "got NoneType"),
        (lambda scores: scores[0].detach(), "a value without a gradient"),
        (lambda scores: torch.tensor(1.0), "a value without a gradient"),
    ],
)
def test_functions_that_are_no_targets(cam, target, message):
    with pytest.raises(ValueError, match=message):
        cam.explain(X, target, "blocks.1")


# -- names, probabilities, outputs ----------


def test_classes_by_name():
    names = ["cat", "Dog", "dog", "bird", "crane", "crane"]
    assert class_index("CAT ", names) == 0
    assert class_index("Dog", names) == 1  # as written, where several differ in case alone
    assert class_index("dog", names) == 2
    with pytest.raises(ValueError, match=r"'DOG' is the name of classes \[1, 2\]"):
        class_index("DOG", names)
    with pytest.raises(ValueError, match=r"'crane' is the name of classes \[4, 5\]"):
        class_index("crane", names)
    with pytest.raises(ValueError, match=r"no class named 'brid' among 6; did you mean 'bird'"):
        class_index("brid", names)
    with pytest.raises(ValueError, match=r"no class named 'zzz' among 6; see cam.class_names"):
        class_index("zzz", names)
    with pytest.raises(ValueError, match="the class names are not known"):
        class_index("cat", None)


def test_probabilities_by_hand():
    assert probabilities(torch.tensor([0.0])).tolist() == [0.5]
    assert probabilities(SCORES)[1] == pytest.approx(math.exp(3) / SUM)
    assert probabilities(SCORES).dtype == torch.float64
    assert probabilities(SCORES.bfloat16()).dtype == torch.float32


ONE, TWO = torch.zeros(1, 2), torch.ones(1, 3)


@pytest.mark.parametrize(
    ("output", "selector", "expected"),
    [
        (ONE, None, ONE),
        ((ONE, TWO), None, ONE),
        ([None, TWO], None, TWO),
        ({"aux": TWO, "out": ONE}, None, ONE),
        ({"logits": ONE, "out": TWO}, None, ONE),
        (SimpleNamespace(logits=TWO), None, TWO),
        ((ONE, TWO), 1, TWO),
        ({"a": {"b": TWO}}, lambda output: output["a"]["b"], TWO),
        ({"aux": TWO, "out": ONE}, "aux", TWO),
    ],
)
def test_the_scores_are_found_in_what_a_model_returns(output, selector, expected):
    assert select_output(output, selector) is expected


@pytest.mark.parametrize(
    ("output", "selector", "message"),
    [
        (None, None, "its output has no tensor that could be the scores; it returned NoneType"),
        ({"a": ONE}, None, re.escape("dict with the keys ['a']")),
        ((None, "x"), None, re.escape("tuple of (NoneType, str)")),
        ({"a": ONE}, "b", r"the selector 'b' failed .* KeyError"),
        ((ONE,), 4, "the selector 4 failed .* IndexError"),
        ({"a": 3}, "a", "the selector 'a' must give a tensor; it gave int"),
    ],
)
def test_outputs_without_scores(output, selector, message):
    with pytest.raises(TypeError, match=message):
        select_output(output, selector)


def test_targets_survive_a_copy():
    for target in (Region(1, CORNER), Similarity(torch.ones(3)), Contrast(ClassLogit(1), ClassLogit(2))):
        assert copy.deepcopy(target) == target
        assert hash(copy.deepcopy(target)) == hash(target)
