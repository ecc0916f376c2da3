"""Archives: the same numbers again, what differs in words, and nothing that is run."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import gradcam_widget
from gradcam_widget import GradCAM, replay
from gradcam_widget.archive import (
    encode_archive,
    manifest_of,
    read_manifest,
    tensor_hash,
    weights_hash,
)
from gradcam_widget.comparison import compare_targets
from gradcam_widget.smoothing import Smoothing
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
)
from gradcam_widget.written_targets import TARGETS, read_target, write_target

from .nets import plain


@pytest.fixture
def image() -> torch.Tensor:
    return torch.rand(1, 3, 12, 12)


@pytest.fixture
def cam() -> GradCAM:
    torch.manual_seed(3)
    return GradCAM(plain(), class_names=("a", "b", "c", "d", "e"))


def saved(folder: Path, cam: GradCAM, image: object, name: str = "e.npz", **arguments: object) -> Path:
    explanation = cam.explain(image, **arguments)
    path = folder / name
    path.write_bytes(encode_archive(explanation, manifest_of(explanation, cam, image)))
    return path


# -- round trips -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"target": "d", "layer": "0"},
        {"target": ClassProbability(1), "method": "LayerCAM"},
        {"target": Contrast(ClassLogit(0), ClassLogit(4)), "layer": "3"},
        {"target": Counterfactual(ClassLogit(2)), "method": "HiResCAM"},
        {"target": 1, "method": "FinerCAM"},
        {"target": 1, "method": "GuidedGradCAM"},
        {"target": 3, "smooth": Smoothing(samples=2, flips=True, seed=5)},
        {"target": Similarity(torch.arange(5.0))},
    ],
    ids=str,
)
def test_what_was_saved_comes_again_to_the_last_bit(cam, image, tmp_path, arguments):
    first = cam.explain(image, **arguments)
    path = saved(tmp_path, cam, image, **arguments)
    model = plain()
    model.load_state_dict(cam.model.state_dict())
    again = replay(path, model, image.clone())
    assert again.layer.name == first.layer.name
    assert again.method == first.method
    assert again.smooth == first.smooth
    for part in ("alpha", "cam", "signed_cam", "activations", "mean_activations"):
        assert torch.equal(getattr(again, part), getattr(first, part)), part
    assert (again.score, again.probability) == (first.score, first.probability)
    with np.load(path, allow_pickle=False) as arrays:
        for part in ("alpha", "cam", "signed_cam", "activations", "contribution"):
            assert np.array_equal(arrays[part], getattr(first, part).numpy()), part
        assert ("guided" in arrays) == (first.guided is not None)


def test_the_manifest_says_what_was_explained_and_how(cam, image, tmp_path):
    path = saved(tmp_path, cam, image, target="d", layer="3")
    manifest = read_manifest(path)
    assert manifest["model"]["class"] == "Sequential"
    assert manifest["model"]["device"] == "cpu"
    assert manifest["model"]["dtype"] == "float32"
    assert manifest["layer"] == {"name": "3", "kind": "conv", "shape": [6, 5, 5]}
    assert manifest["target"] == {"kind": "ClassLogit", "index": 3, "name": "d", "label": "d"}
    assert manifest["method"] == {"name": "GradCAM", "smooth": None}
    assert manifest["evidence"] == "positive"
    assert manifest["input"]["shape"] == [[1, 3, 12, 12]]
    assert set(manifest["versions"]) == {"gradcam_widget", "torch", "numpy", "python"}
    assert manifest["versions"]["gradcam_widget"] == gradcam_widget.__version__
    # the same as a file of its own, and as a dict
    (tmp_path / "m.json").write_text(json.dumps(manifest))
    assert read_manifest(str(tmp_path / "m.json")) == manifest == read_manifest(manifest)
    assert torch.equal(replay(manifest, cam, image).cam, cam.explain(image, "d", "3").cam)


def test_a_comparison_is_kept_with_its_three_parts(cam, image):
    first = cam.explain(image, 0)
    compared = compare_targets(cam, image, first, first, 1, "positive")
    data = encode_archive(first, manifest_of(first, cam, image), compared)
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        # the map is linear in the target
        assert np.allclose(
            arrays["signed_cam"] - arrays["second_signed_cam"], arrays["contrast_signed_cam"], atol=1e-6
        )
        assert np.allclose(arrays["alpha"] - arrays["second_alpha"], arrays["contrast_alpha"], atol=1e-6)


def test_numbers_that_numpy_has_no_kind_for(image):
    cam = GradCAM(plain().bfloat16())
    explanation = cam.explain(image, 1)
    with np.load(io.BytesIO(encode_archive(explanation, manifest_of(explanation, cam, image)))) as arrays:
        assert arrays["activations"].dtype == np.float32
        assert json.loads(str(arrays["manifest"]))["model"]["dtype"] == "bfloat16"


TARGETS_TO_KEEP = [
    ClassLogit(3, "crane"),
    ClassProbability(3),
    ClassLogProbability(0, "<b>"),
    BinaryLogit(False),
    Finer(2, (1, 4), 0.6, "x"),
    Region(1),
    Region(1, torch.eye(5, 7).bool(), "region"),
    Similarity(torch.tensor([0.25, -3.0])),
    Contrast(ClassLogit(1), Counterfactual(ClassProbability(2))),
    Counterfactual(ClassLogit(4, "e")),
]


@pytest.mark.parametrize("target", TARGETS_TO_KEEP, ids=repr)
def test_targets_are_written_and_read(target):
    written = json.loads(json.dumps(write_target(target)))
    again = read_target(written)
    assert again == target
    assert type(again) is type(target)
    assert getattr(again, "name", None) == getattr(target, "name", None)


def test_every_target_of_the_package_can_be_kept():
    assert {type(target).__name__ for target in TARGETS_TO_KEEP} == set(TARGETS)


# -- hashes ----------------------------------------------------------------------------------------------------


def test_hashes_by_hand():
    values = torch.tensor([1.0, -2.0])
    expected = hashlib.sha256(b"float32 (2,)\0" + np.array([1, -2], "<f4").tobytes()).hexdigest()
    assert tensor_hash(values) == f"sha256:{expected}"
    assert tensor_hash(values[None]) != tensor_hash(values)
    assert tensor_hash(values.double()) != tensor_hash(values)
    model = nn.Linear(1, 1)
    with torch.no_grad():
        model.weight.fill_(3)
        model.bias.fill_(4)
    parts = [(b"bias", b"(1,)", 4.0), (b"weight", b"(1, 1)", 3.0)]
    text = b"".join(
        name + b"\0float32 " + shape + b"\0" + np.array([value], "<f4").tobytes() for name, shape, value in parts
    )
    assert weights_hash(model) == f"sha256:{hashlib.sha256(text).hexdigest()}"
    assert weights_hash(nn.BatchNorm2d(2).bfloat16()) != weights_hash(nn.BatchNorm2d(2))


# -- what differs ----------------------------------------------------------------------------------------------


def test_other_weights_and_other_pictures_are_told_in_words(cam, image, tmp_path):
    path = saved(tmp_path, cam, image, target=1)
    other = plain()
    with pytest.raises(ValueError, match="the weights are not those of the Sequential of then") as told:
        replay(path, other, image + 0.5)
    assert "the picture, as the model sees it, has other values" in str(told.value)
    assert "force=True" in str(told.value)
    forced = replay(path, other, image + 0.5, force=True)
    assert torch.equal(forced.cam, GradCAM(other).explain(image + 0.5, 1, forced.layer.name).cam)
    with pytest.raises(ValueError, match="shape 1 × 3 × 14 × 14, then it was 1 × 3 × 12 × 12"):
        replay(path, cam, torch.rand(1, 3, 14, 14))
    with pytest.raises(ValueError, match="input is float64, then it was"):
        replay(path, cam, image.double())


def test_a_layer_that_is_not_there_is_an_error_in_any_case(cam, image, tmp_path):
    manifest = read_manifest(saved(tmp_path, cam, image))
    manifest["layer"]["name"] = "features.9"
    with pytest.raises(ValueError, match=r"of 'features.9', and Sequential has no such feature map"):
        replay(manifest, cam, image, force=True)
    manifest["layer"] = {"name": "3", "shape": [64, 5, 5]}
    with pytest.raises(ValueError, match=r"the layer has the shape \[6, 5, 5\], then it was \[64, 5, 5\]"):
        replay(manifest, cam, image)


def test_a_target_of_ones_own_must_be_given_again(cam, image, tmp_path):
    def most(output):
        return output.max()

    path = saved(tmp_path, cam, image, target=most)
    with pytest.raises(
        ValueError, match=r"it was a function of yours, 'most'; give it again: replay\(..., target="
    ):
        replay(path, cam, image)
    assert torch.equal(replay(path, cam, image, target=most).alpha, cam.explain(image, most).alpha)
    nested = saved(tmp_path, cam, image, "n.npz", target=Contrast(ClassLogit(0), most))
    with pytest.raises(ValueError, match="give it again"):
        replay(nested, cam, image)
    known = saved(tmp_path, cam, image, "k.npz", target=2)
    assert replay(known, cam, image, target="c").target == ClassLogit(2)
    with pytest.raises(ValueError, match="the manifest has its own, c; leave target out"):
        replay(known, cam, image, target=3)


# -- files that are none of ours -------------------------------------------------------------------------------


def test_nothing_is_unpickled(tmp_path):
    target = tmp_path / "sprung"

    class Own:
        def __reduce__(self):
            return (Path.touch, (target,))

    np.savez(tmp_path / "trap.npz", manifest=np.array([Own()], dtype=object))
    with pytest.raises(ValueError, match=r"manifest: that of .* is a pickled object, which is never read"):
        read_manifest(tmp_path / "trap.npz")
    (tmp_path / "raw.npz").write_bytes(pickle.dumps(Own()))
    with pytest.raises(ValueError, match=r"cannot be read as an .npz file"):
        read_manifest(tmp_path / "raw.npz")
    assert not target.exists()


def test_damaged_and_foreign_files_are_told_in_words(cam, image, tmp_path):
    whole = saved(tmp_path, cam, image).read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"cannot be read as an .npz file"):
        read_manifest(tmp_path / "cut.npz")
    np.savez(tmp_path / "other.npz", alpha=np.zeros(3))
    with pytest.raises(ValueError, match=r"'other.npz' has none; widget.save"):
        read_manifest(tmp_path / "other.npz")
    np.savez(tmp_path / "number.npz", manifest=np.zeros(3))
    with pytest.raises(ValueError, match="is no text"):
        read_manifest(tmp_path / "number.npz")
    (tmp_path / "x.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match="no JSON"):
        read_manifest(tmp_path / "x.json")
    (tmp_path / "y.json").write_text("{}")
    with pytest.raises(ValueError, match="this is no manifest of gradcam_widget"):
        read_manifest(tmp_path / "y.json")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_manifest(tmp_path / "missing.npz")
    (tmp_path / "a.pkl").write_bytes(b"")
    with pytest.raises(ValueError, match=r"expected an .npz or .json file; got 'a.pkl'"):
        read_manifest(tmp_path / "a.pkl")
    with pytest.raises(TypeError, match=r"expected a path to an .npz or .json file, or a dict; got int"):
        read_manifest(3)
    manifest = manifest_of(cam.explain(image), cam, image)
    with pytest.raises(ValueError, match="it has the version 9"):
        read_manifest({**manifest, "version": 9})
    with pytest.raises(ValueError, match="says nothing about 'layer'"):
        read_manifest({**manifest, "layer": None})


def test_a_file_that_claims_to_be_huge_is_not_read(tmp_path):
    with (
        zipfile.ZipFile(tmp_path / "huge.npz", "w", zipfile.ZIP_DEFLATED) as members,
        members.open("manifest.npy", "w", force_zip64=True) as member,
    ):
        for _ in range(300):
            member.write(bytes(1_000_000))
    with pytest.raises(ValueError, match="too large for a manifest"):
        read_manifest(tmp_path / "huge.npz")


@pytest.mark.parametrize(
    "written",
    [
        {"kind": "__import__"},
        {"kind": "ClassLogit", "index": "0"},
        {"kind": "ClassLogit", "index": True},
        {"kind": "Region", "index": 0, "mask": {"shape": [10**9, 10**9], "bits": ""}},
        {"kind": "Region", "index": 0, "mask": {"shape": [4, 4], "bits": "AAAA"}},
        {"kind": "Similarity", "embedding": "AAA"},
        {"kind": "Finer", "index": 0, "against": 3, "gamma": 1},
        "ClassLogit",
    ],
    ids=str,
)
def test_targets_that_are_none_are_told(written):
    with pytest.raises(ValueError, match="manifest: its target"):
        read_target(written)


def test_targets_within_targets_have_an_end():
    deep: dict = {"kind": "ClassLogit", "index": 0, "name": None}
    for _ in range(30):
        deep = {"kind": "Counterfactual", "target": deep}
    with pytest.raises(ValueError, match="its target is of an unknown kind"):
        read_target(deep)
