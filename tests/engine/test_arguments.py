"""Whatever is said wrongly is refused before the model runs, in words that name the argument and the way out."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from gradcam_widget.arguments import takes
from gradcam_widget.engine import GradCAM, Passes
from gradcam_widget.inputs import Preprocess

from .nets import Head, build, plain

X = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(3))
NAMES = ("tabby cat", "tiger cat", "Egyptian cat", "crane", "crane")


def named() -> GradCAM:
    return GradCAM(build("residual"), class_names=NAMES)


class Unhashable:
    __hash__ = None  # type: ignore[assignment]

    def __call__(self, scores):
        return scores[0]


def quantised_linear() -> nn.Module:
    from torch.ao.nn.quantized.dynamic import Linear

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch moves its quantisation elsewhere and says so
        return Linear(4, 5)


@dataclass
class NotFrozen:
    index: int

    def __call__(self, scores):
        return scores[self.index]


BEFORE: dict[str, tuple[Callable[[GradCAM], object], type[Exception], str]] = {
    # target
    "class too large": (lambda c: c.explain(X, 5), ValueError, r"target: expected a class from 0 to 4; got 5"),
    "class negative": (lambda c: c.explain(X, -1), ValueError, r"target: expected a class from 0 to 4; got -1"),
    "numpy class": (
        lambda c: c.explain(X, np.int64(9)),
        ValueError,
        r"target: expected a class from 0 to 4; got 9",
    ),
    "tensor class": (lambda c: c.explain(X, torch.tensor(9)), ValueError, r"target: expected a class .*; got 9"),
    "misspelt": (
        lambda c: c.explain(X, "tigr cat"),
        ValueError,
        r"target: .*'tigr cat' among 5; did you mean 'tiger c",
    ),
    "unknown": (
        lambda c: c.explain(X, "zzzzzz"),
        ValueError,
        r"target: there is no class named 'zzzzzz' .*class_names",
    ),
    "shared name": (
        lambda c: c.explain(X, "crane"),
        ValueError,
        r"target: 'crane' is the name of classes \[3, 4\]; give",
    ),
    "bool": (
        lambda c: c.explain(X, True),
        TypeError,
        r"target: expected None .* an int, a class name.*; got bool",
    ),
    "float": (lambda c: c.explain(X, 1.0), TypeError, r"target: expected .*; got float"),
    "bool tensor": (lambda c: c.explain(X, torch.tensor(True)), TypeError, r"target: expected .*; got Tensor"),
    "float tensor": (lambda c: c.explain(X, torch.tensor(1.0)), TypeError, r"target: expected .*; got Tensor"),
    "several": (lambda c: c.explain(X, [1, 2]), TypeError, r"target: expected .*; got list"),
    "tensor of several": (
        lambda c: c.explain(X, torch.tensor([1])),
        TypeError,
        r"target: expected .*; got Tensor",
    ),
    "a module": (lambda c: c.explain(X, nn.ReLU()), TypeError, r"target: expected .*; got ReLU"),
    "a class": (lambda c: c.explain(X, NotFrozen), TypeError, r"target: expected .*; got type"),
    "unhashable": (
        lambda c: c.explain(X, Unhashable()),
        TypeError,
        r"target: Unhashable cannot be hashed.*frozen data",
    ),
    "not frozen": (
        lambda c: c.explain(X, NotFrozen(1)),
        TypeError,
        r"target: NotFrozen cannot be hashed.*frozen data",
    ),
    # layer
    "misspelt layer": (
        lambda c: c.explain(X, 1, "block.1"),
        ValueError,
        r"layer: the model has no module 'block.1'; d.*'bl",
    ),
    "unknown layer": (
        lambda c: c.explain(X, 1, "zzzz"),
        ValueError,
        r"layer: the model has no module 'zzzz'; the last ",
    ),
    "no call": (
        lambda c: c.explain(X, 1, "relu:x"),
        ValueError,
        r"layer: the model has no module 'relu:x'; did you mean",
    ),
    "foreign module": (
        lambda c: c.explain(X, 1, nn.ReLU()),
        ValueError,
        r"layer: this ReLU is not a module of the model",
    ),
    "layer index": (
        lambda c: c.explain(X, 1, -1),
        TypeError,
        r"layer: expected None, a module's name, a module .*got int",
    ),
    "several layers": (lambda c: c.explain(X, 1, ["stem"]), TypeError, r"layer: expected .*; got list"),
    "empty name": (lambda c: c.explain(X, 1, ""), ValueError, r"layer: the model has no module ''"),
    "one for layers": (
        lambda c: c.explain_layers(X, 1, "stem"),
        TypeError,
        r"layers: expected a list; got str. Put a sin",
    ),
    "module for layers": (
        lambda c: c.explain_layers(X, 1, c.model.stem),
        TypeError,
        r"layers: expected a list; got Conv2d",
    ),
    "one of layers": (
        lambda c: c.explain_layers(X, 1, ["stem", "x"]),
        ValueError,
        r"layer: the model has no module 'x'",
    ),
    # method
    "method": (
        lambda c: c.explain(X, method="gradcam"),
        ValueError,
        r"method: expected one of \['GradCAM'.*; got 'gradcam'. Did you mean 'GradCAM'\?",
    ),
    "method None": (lambda c: c.explain(X, method=None), TypeError, r"method: expected one of \[.*; got NoneType"),
    "method function": (lambda c: c.explain(X, method=print), TypeError, r"method: expected one of"),
    "method of layers": (
        lambda c: c.explain_layers(X, method="CAMM"),
        ValueError,
        r"method: expected one of .* got 'CAMM'",
    ),
    # several
    "one target": (
        lambda c: c.explain_targets(X, 1),
        TypeError,
        r"targets: expected a list; got int. Put a single one",
    ),
    "bad target inside": (
        lambda c: c.explain_targets(X, [0, 9]),
        ValueError,
        r"target: expected a class from 0 to 4; got 9",
    ),
    "lengths": (
        lambda c: c.explain_batch([X, X], [1]),
        ValueError,
        r"targets: expected one for each of the 2 pictures; g",
    ),
    "more targets": (
        lambda c: c.explain_batch(X, [1, 2]),
        ValueError,
        r"targets: .* 1 pictures; got 2. Repeat one target",
    ),
    "no pictures": (lambda c: c.explain_batch([]), ValueError, r"images: expected at least one picture; got none"),
    "no pictures in a tensor": (
        lambda c: c.explain_batch(X[:0]),
        ValueError,
        r"images: expected at least one picture",
    ),
    "one path": (
        lambda c: c.explain_batch("a.png"),
        TypeError,
        r"images: expected a list; got str. Put a single one into",
    ),
    "a target without an argument": (
        lambda c: c.explain(X, lambda: 3),
        TypeError,
        r"target: expected a function .* to a scalar; <lambda> cannot be called with that one argument",
    ),
    "a target of two arguments": (
        lambda c: c.explain_targets(X, [0, lambda scores, index: scores[index]]),
        TypeError,
        r"target: expected a function .*; <lambda> cannot be called with that one",
    ),
    "progress of one argument": (
        lambda c: c.explain(X, 0, progress=lambda done: None),
        TypeError,
        r"progress: expected a function \(done, in all\); <lambda> cannot be called with 2 arguments",
    ),
    "a dict of pictures": (
        lambda c: c.explain_batch({"a": X}),
        TypeError,
        r"images: expected a list; got dict. Give list\(images.values\(\)\)",
    ),
    "a set of targets": (
        lambda c: c.explain_targets(X, {0, 1}),
        TypeError,
        r"targets: expected a list; got set, which has no order",
    ),
    "a tensor with one target": (
        lambda c: c.explain_targets(X, torch.tensor(1)),
        TypeError,
        r"targets: expected a list; got Tensor. Put a single one into a list",
    ),
    "a dict of layers": (
        lambda c: c.explain_layers(X, 0, {"a": "b"}),
        TypeError,
        r"layers: expected a list; got dict",
    ),
    "bad target in a batch": (lambda c: c.explain_batch([X, X], [0, 9]), ValueError, r"target: .* 0 to 4; got 9"),
    "resolve": (lambda c: c.resolve_target("tigr cat"), ValueError, r"target: .*did you mean 'tiger cat'"),
}


@pytest.mark.parametrize("case", BEFORE)
def test_refused_before_the_model_runs(case):
    question, error, message = BEFORE[case]
    cam = named()
    with pytest.raises(error, match=message):
        question(cam)
    assert cam.passes == Passes()
    # and the same once a picture is known, after which the engine still works
    cam.explain(X, 0, "stem")
    with pytest.raises(error, match=message):
        question(cam)
    assert cam.explain(X, "tabby cat", "stem").score == float(cam.predict(X)[0])


AFTER: dict[str, tuple[Callable[[GradCAM], object], type[Exception], str]] = {
    "class too large": (lambda c: c.explain(X, 5), ValueError, r"target: expected a class from 0 to 4; got 5"),
    "not run": (
        lambda c: c.explain(X, 1, "relu:9"),
        ValueError,
        r"layer: .* in 4 call.*; got 'relu:9'. Use one of 'relu'",
    ),
    "no map": (
        lambda c: c.explain(X, 1, "head.fc"),
        ValueError,
        r"layer: 'head.fc' gave no feature map.*cam.layers\(image\)",
    ),
    "no map, module": (lambda c: c.explain(X, 1, c.model.head), ValueError, r"layer: 'head' gave no feature map"),
    "the model": (
        lambda c: c.explain(X, 1, c.model),
        ValueError,
        r"layer: 'the model itself' gave no feature map",
    ),
    "several values": (
        lambda c: c.explain(X, _all),
        ValueError,
        r"target: _all must return a tensor with one value .*\(5,\)",
    ),
    "a float": (
        lambda c: c.explain(X, _item),
        ValueError,
        r"target: _item must return a tensor with one value.*got float",
    ),
    "None": (lambda c: c.explain(X, _none), ValueError, r"target: _none must return a tensor .*got NoneType"),
    "detached": (
        lambda c: c.explain(X, _detached),
        ValueError,
        r"target: _detached returned a value without a gradient; co",
    ),
}


def _all(scores):
    return scores


def _item(scores):
    return float(scores[0].detach())


def _none(scores):
    return None


def _detached(scores):
    return scores[0].detach()


@pytest.mark.parametrize("case", AFTER)
def test_refused_once_the_output_is_known(case):
    question, error, message = AFTER[case]
    cam = GradCAM(build("residual"))
    with pytest.raises(error, match=message):
        question(cam)
    assert cam.explain(X, 1, "stem").alpha.shape == (6,)
    assert cam.passes.forward == 1


def test_a_name_without_class_names():
    cam = GradCAM(build("plain"))
    with pytest.raises(
        ValueError, match=r"target: got the class name 'cat', but the class names are not known; pass cl"
    ):
        cam.explain(X, "cat")
    assert cam.passes == Passes()


def test_names_are_compared_without_case_and_blanks():
    cam = named()
    assert cam.explain(X, " TIGER cat ").target.index == 1
    exact = GradCAM(build("plain"), class_names=("Cat", "cat", "a", "b", "c"))
    assert [exact.explain(X, name).target.index for name in ("Cat", "cat")] == [0, 1]
    with pytest.raises(ValueError, match=r"target: 'CAT' is the name of classes \[0, 1\]; give the index"):
        exact.explain(X, "CAT")


# -- the model and the other arguments of the engine ----------


class Returns(nn.Module):
    """conv, then whatever it is told to make of it."""

    def __init__(self, function: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.conv, self.function = nn.Conv2d(3, 4, 3), function

    def forward(self, x):
        return self.function(self.conv(x))


OUTPUTS: dict[str, tuple[Callable[[torch.Tensor], Any], type[Exception], str]] = {
    "None": (
        lambda y: None,
        TypeError,
        r"model: its output has no tensor .*returned NoneType. Choose one with GradCAM\(mod",
    ),
    "text": (lambda y: "cat", TypeError, r"model: its output has no tensor .* returned str"),
    "empty tuple": (lambda y: (), TypeError, r"model: its output has no tensor"),
    "dict": (
        lambda y: {"scores": y.mean((2, 3))},
        TypeError,
        r"model: .* dict with the keys \['scores'\]. Choose one",
    ),
    "detached": (
        lambda y: y.detach().mean((2, 3)),
        ValueError,
        r"model: its output is not connected to its input by a grad",
    ),
    "classes": (
        lambda y: y.mean((2, 3)).argmax(1),
        ValueError,
        r"model: its output is not connected to its input",
    ),
    "a scalar": (
        lambda y: y.sum(),
        ValueError,
        r"model: expected an output with a batch dimension of 1.*got \(\). Choose",
    ),
    "no batch": (
        lambda y: y.mean((2, 3))[0],
        ValueError,
        r"model: expected an output with a batch dimension .* \(4,\)",
    ),
    "a map": (
        lambda y: y,
        ValueError,
        r"target: the model's output for one picture is \(4, 14, 14\), not \(num_classes,\)",
    ),
}


@pytest.mark.parametrize("case", OUTPUTS)
def test_outputs_without_scores(case):
    function, error, message = OUTPUTS[case]
    with pytest.raises(error, match=message):
        GradCAM(Returns(function)).explain(X)


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        (
            "probs",
            r"output: the selector 'probs' failed on .* \(dict with the keys \['a', 'b'\]\): KeyError",
        ),
        (2, r"output: the selector 2 failed .*KeyError"),
        (len, r"output: the selector .* must give a tensor; it gave int"),
        ("b", r"output: the selector 'b' must give a tensor; it gave int"),
    ],
)
def test_selectors_that_select_nothing(selector, message):
    with pytest.raises(TypeError, match=message):
        GradCAM(Returns(lambda y: {"a": y.mean((2, 3)), "b": 3}), output=selector).explain(X)


ENGINES: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "a class": (
        lambda: GradCAM(nn.ReLU),
        TypeError,
        r"model: expected a torch.nn.Module; got the class ReLU, so call it fi",
    ),
    "a function": (
        lambda: GradCAM(torch.relu),
        TypeError,
        r"model: expected a torch.nn.Module; got builtin_function_or_m",
    ),
    "a state_dict": (
        lambda: GradCAM(plain().state_dict()),
        TypeError,
        r"model: expected a torch.nn.Module; got OrderedDict",
    ),
    "None": (lambda: GradCAM(None), TypeError, r"model: expected a torch.nn.Module; got NoneType"),
    "quantised": (
        lambda: GradCAM(nn.Sequential(nn.Conv2d(3, 4, 3), quantised_linear())),
        ValueError,
        r"model: it has quantised layers \(Linear\).*explain the floating-point model",
    ),
    "lazy": (
        lambda: GradCAM(nn.Sequential(nn.LazyConv2d(2, 3))),
        ValueError,
        r"model: it has lazy modules.*run the model on",
    ),
    "transform": (lambda: GradCAM(plain(), transform=3), TypeError, r"transform: expected a function .*; got int"),
    "transform of nothing": (
        lambda: GradCAM(plain(), transform=lambda: None),
        TypeError,
        r"transform: expected a function PIL image .*; <lambda> cannot be called with 1 argument$",
    ),
    "transform's class": (
        lambda: GradCAM(plain(), transform=Preprocess),
        TypeError,
        r"transform: expected a function PIL image .*; got the class Preprocess. Give .*, Preprocess\(\.\.\.\)$",
    ),
    "layout": (lambda: GradCAM(plain(), layout="tokens"), TypeError, r"layout: expected a function .*; got str"),
    "device": (
        lambda: GradCAM(plain(), device="gpu"),
        ValueError,
        r"device: expected 'auto', 'cpu', 'cuda' or 'mps'; got 'gp",
    ),
    "device number": (
        lambda: GradCAM(plain(), device="cuda:99"),
        ValueError,
        r"device: 'cuda:99' is not there on this mach",
    ),
    "names text": (
        lambda: GradCAM(plain(), class_names="cat"),
        TypeError,
        r"class_names: expected a list of names; got str",
    ),
    "names dict": (
        lambda: GradCAM(plain(), class_names={0: "cat"}),
        TypeError,
        r"class_names: expected a list .*got dict. Give \[class_names\[i\] for i in range\(1\)\]",
    ),
    "names to numbers": (
        lambda: GradCAM(plain(), class_names={"cat": 0, "dog": 1}),
        TypeError,
        r"got dict. Give sorted\(class_names, key=class_names.get\)",
    ),
    "names generator": (
        lambda: GradCAM(plain(), class_names=(name for name in "ab")),
        TypeError,
        r"class_names: expected a list of names; got generator. Give list\(class_names\)",
    ),
    "names set": (
        lambda: GradCAM(plain(), class_names={"cat", "dog"}),
        TypeError,
        r"got set. Put the names into a list, in the order of the scores",
    ),
    "no names": (
        lambda: GradCAM(plain(), class_names=[]),
        ValueError,
        r"class_names: expected at least one name; .*Leave it",
    ),
    "numbers": (
        lambda: GradCAM(plain(), class_names=[1, 2]),
        TypeError,
        r"class_names: expected strings; got 1 among them",
    ),
    "budget": (
        lambda: GradCAM(plain(), memory_budget="much"),
        ValueError,
        r"memory_budget: expected bytes or text .*'much'",
    ),
    "budget kind": (
        lambda: GradCAM(plain(), memory_budget=1.5),
        TypeError,
        r"memory_budget: expected bytes .*; got float",
    ),
}


@pytest.mark.parametrize("case", ENGINES)
def test_engines_that_cannot_be(case):
    make, error, message = ENGINES[case]
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("name", ["model", "transform", "class_names"])
def test_an_engine_keeps_what_it_was_made_with(name):
    cam = GradCAM(plain())
    before = getattr(cam, name)
    with pytest.raises(
        AttributeError, match=rf"{name}: an engine keeps what it was made with.*another one, GradCAM\("
    ):
        setattr(cam, name, plain())
    assert getattr(cam, name) is before


@pytest.mark.filterwarnings(
    "ignore:`torch.jit:FutureWarning", "ignore:`torch.jit:DeprecationWarning"
)  # what it is about
def test_script_modules():
    with pytest.raises(
        TypeError, match=r"model: a ScriptModule .*; give the nn.Module that it was scripted or traced from"
    ):
        GradCAM(torch.jit.script(nn.ReLU()))


def test_names_of_another_number_than_the_classes():
    with pytest.raises(ValueError, match="class_names: got 2 names for a model with 5 classes"):
        GradCAM(build("plain"), class_names=("a", "b")).explain(X)


def test_a_model_without_feature_maps():
    cam = GradCAM(nn.Sequential(nn.Flatten(), nn.Linear(768, 5)))
    for question in (cam.explain, cam.explain_layers, cam.default_layer, lambda x: cam.explain(x, 1, "1")):
        with pytest.raises(ValueError, match="model: no module's output is a feature map with a gradient"):
            question(X)
    assert cam.layers(X) == ()
    assert cam.predict(X).shape == (5,)


def test_only_single_cells():
    cam = GradCAM(nn.Sequential(nn.Conv2d(3, 4, 16), nn.Tanh(), Head(4)))
    with pytest.raises(
        ValueError, match=r"layer: no feature map with more than one cell has a gradient .*name a layer of"
    ):
        cam.explain(X, 1)
    found = cam.explain(X, 1, "1")
    assert found.layer.shape == (4, 1, 1)
    assert found.heatmap().shape == (16, 16)
    assert found.diagnosis is not None


SIZES: dict[str, tuple[Any, type[Exception]]] = {
    "one number": (5, TypeError),
    "text": ("ab", TypeError),
    "floats": ((5.0, 5.0), TypeError),
    "one axis": ((5,), ValueError),
    "three axes": ((5, 5, 5), ValueError),
    "zero": ((0, 5), ValueError),
    "negative": ((5, -5), ValueError),
}


@pytest.mark.parametrize("case", SIZES)
def test_sizes_of_heatmaps(case):
    size, error = SIZES[case]
    found = GradCAM(build("plain")).explain(X, 1)
    with pytest.raises(error, match=r"size: expected 2 positive ints, such as \(16, 16\); got"):
        found.heatmap(size)
    assert found.heatmap([np.int64(3), torch.tensor(4)]).shape == (3, 4)


def test_functions_that_do_not_tell_what_they_take_are_tried():
    cam = GradCAM(plain())
    found = cam.explain(X, max)  # Python's own, of which no signature can be had
    assert found.score == pytest.approx(float(cam.predict(X).max()))
    untold = type("Untold", (), {"__call__": lambda self, scores: scores[0], "__signature__": 3})()
    for function in (torch.sum, lambda scores, index=2: scores[index], lambda *_: 0, untold):
        assert takes(function, 1)
