"""The embedded model sees what is in the pictures, and loading a model is safe, quiet and says what went wrong."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import urllib.error
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from gradcam_widget.inputs import Preprocess
from gradcam_widget.models import demo_model, imagenet_class_names, load_model, sample_images, sample_tiles

SMALL = "squeezenet1_1"  # 5 MB of weights


def top(model, picture, count=5):
    with torch.no_grad():
        probabilities = model(model.transform(picture)[None]).softmax(1)[0]
    values, indices = probabilities.topk(count)
    return {model.class_names[i]: v for i, v in zip(indices.tolist(), values.tolist(), strict=True)}


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Path:
    """An empty torch cache, and no network."""

    def offline(*args, **kwargs):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "urlopen", offline)
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def cached_weights(hub: Path) -> Path:
    return hub / torchvision.models.get_model_weights(SMALL).DEFAULT.url.rsplit("/", 1)[-1]


@pytest.mark.parametrize(
    ("picture", "first"),
    [("chelsea", {"Egyptian cat"}), ("coffee", {"espresso"}), ("china", {"bell cote", "palace"})],
)
def test_the_demo_model_recognises_the_sample_pictures(demo, pictures, picture, first):
    assert next(iter(top(demo, pictures[picture]))) in first


def test_the_china_picture_has_palace_and_bell_cote_on_top(demo, pictures):
    assert set(top(demo, pictures["china"], 2)) == {"bell cote", "palace"}


def test_both_objects_of_the_collage_are_among_the_top_five(demo, pictures):
    found = top(demo, pictures["cat and espresso"])
    assert {"Egyptian cat", "espresso"} <= set(found)
    assert min(found["Egyptian cat"], found["espresso"]) > 0.1


def test_the_demo_model_is_ready_to_use(demo):
    assert not any(module.training for module in demo.modules())
    assert {parameter.device.type for parameter in demo.parameters()} == {"cpu"}
    assert demo.class_names == imagenet_class_names()
    assert isinstance(demo.transform, Preprocess)


def test_the_demo_transform_is_the_one_of_the_lite_models(demo):
    # (x - 127) / 128: black and white by hand
    for value, expected in [(0, -127 / 128), (127, 0.0), (255, 1.0)]:
        tensor = demo.transform(Image.new("RGB", (300, 260), (value,) * 3))
        assert tensor.shape == (3, 224, 224)
        torch.testing.assert_close(tensor, torch.full_like(tensor, expected), atol=1e-6, rtol=0)


def test_the_class_names_are_imagenets():
    names = imagenet_class_names()
    assert len(names) == 1000
    assert (names[0], names[281], names[285], names[967], names[999]) == (
        "tench",
        "tabby",
        "Egyptian cat",
        "espresso",
        "toilet tissue",
    )


def test_loading_the_demo_model_is_silent_even_when_it_is_compiled_anew(tmp_path):
    code = "from gradcam_widget.models import demo_model, sample_images; demo_model(); sample_images()"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPYCACHEPREFIX": str(tmp_path)},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_importing_the_module_loads_nothing_heavy():
    code = (
        "import sys, gradcam_widget.models; "
        "print(sorted({'torch', 'torchvision', 'PIL', 'numpy', 'skimage', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_sample_pictures_come_in_order_with_their_credits(pictures):
    assert list(pictures) == ["chelsea", "coffee", "cat and espresso", "astronaut", "rocket", "china", "flower"]
    for picture in pictures.values():
        assert picture.mode == "RGB"
        assert set(picture.info) == {"title", "author", "licence", "source"}
        assert all(isinstance(text, str) and text for text in picture.info.values())
    assert pictures["china"].info["licence"] == "CC BY 2.0"
    assert "Rachel Michetti" in pictures["cat and espresso"].info["author"]


def test_sample_pictures_are_the_packages_own_pixels(pictures):
    from skimage.data import chelsea

    np.testing.assert_array_equal(np.asarray(pictures["chelsea"]), chelsea())


def test_sample_pictures_are_read_without_importing_their_packages():
    code = (
        "import sys; from gradcam_widget.models import sample_images; sample_images(); "
        "print(sorted({'skimage', 'sklearn', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_missing_demo_package_is_named_with_the_cure(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(ImportError, match=r'efficientnet_lite_pytorch.*pip install "gradcam-widget\[demo\]"'):
        demo_model()


def test_a_missing_picture_package_is_named_with_the_cure(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r'skimage.*pip install "gradcam-widget\[demo\]"'):
        sample_images()


@pytest.mark.parametrize("name", ["demo", "efficientnet_lite0"])
def test_the_demo_model_can_be_loaded_by_name(name, demo):
    model = load_model(name)
    assert type(model) is type(demo)
    torch.testing.assert_close(model.state_dict(), demo.state_dict(), atol=0, rtol=0)


def test_the_demo_model_has_no_other_weights():
    with pytest.raises(ValueError, match="has only its own"):
        load_model("demo", weights=None)


def test_random_weights_need_no_network(hub):
    model = load_model("resnet18", weights=None)
    assert not model.training
    assert not hasattr(model, "class_names")
    assert model.transform(Image.new("RGB", (300, 300))).shape == (3, 224, 224)
    assert list(hub.iterdir()) == []


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_random_weights_of_models_that_would_warn(name):
    assert not load_model(name, weights=None).training


def test_weights_in_the_cache_are_loaded_with_names_and_transform(hub, pictures, capfd):
    source = torchvision.models.get_model(SMALL, weights=None)
    torch.save(source.state_dict(), cached_weights(hub))
    model = load_model(SMALL)
    torch.testing.assert_close(model.state_dict(), source.state_dict(), atol=0, rtol=0)
    assert model.class_names == imagenet_class_names()
    preset = torchvision.models.get_model_weights(SMALL).DEFAULT.transforms()
    torch.testing.assert_close(model.transform(pictures["coffee"]), preset(pictures["coffee"]), atol=0, rtol=0)
    assert model.transform.mean == (0.485, 0.456, 0.406)
    assert capfd.readouterr().out == ""


def test_the_transform_is_no_part_of_the_model(hub):
    model = load_model(SMALL, weights=None)
    assert set(dict(model.named_modules())) == set(
        dict(torchvision.models.get_model(SMALL, weights=None).named_modules())
    )


class Hostile:
    """Unpickling it creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_weights_file_that_holds_code_is_refused_and_not_run(hub, tmp_path):
    trace = tmp_path / "was_run"
    torch.save({"weight": Hostile(trace)}, cached_weights(hub))
    with pytest.raises(RuntimeError, match="holds more than weights, and was not loaded"):
        load_model(SMALL)
    assert not trace.exists()


@pytest.mark.parametrize("before", [None, "0"])
def test_safe_unpickling_leaves_the_environment_as_it_was(hub, monkeypatch, before):
    monkeypatch.delenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", raising=False)
    if before is not None:
        monkeypatch.setenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", before)
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    with pytest.raises(RuntimeError, match="could not be fetched"):
        load_model(SMALL)
    assert os.environ.get("TORCH_FORCE_WEIGHTS_ONLY_LOAD") == before
    assert os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] == "1"


def test_without_a_network_the_error_says_what_to_do(hub, capfd):
    with pytest.raises(
        RuntimeError, match=r"could not be fetched from https://.*put that file at.*demo_model"
    ) as e:
        load_model(SMALL)
    assert str(cached_weights(hub)) in str(e.value)
    assert isinstance(e.value.__cause__, urllib.error.URLError)
    assert capfd.readouterr().out == ""


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"'resnet5O' is not a torchvision classifier\. Did you mean 'resnet50'"):
        load_model("resnet5O")


def test_a_name_like_no_other_is_answered_with_where_to_look():
    with pytest.raises(ValueError, match="list_models"):
        load_model("§§§§")


def test_a_segmentation_model_is_no_classifier():
    with pytest.raises(ValueError, match="not a torchvision classifier"):
        load_model("fcn_resnet50")


def test_unknown_weights_are_answered_with_the_known():
    with pytest.raises(ValueError, match="'IMAGENET1K_V1', 'IMAGENET1K_V2', 'DEFAULT', or None"):
        load_model("resnet50", weights="imagenet")


def test_a_model_instead_of_a_name_is_a_type_error():
    with pytest.raises(TypeError, match="expected a torchvision model's name as a string; got Identity"):
        load_model(torch.nn.Identity())


def test_sample_tiles_are_square_pieces_of_the_photographs_with_their_credits(pictures):
    tiles = sample_tiles()
    assert 120 <= len(tiles) <= 200
    names = {tile.info["picture"] for tile in tiles.values()}
    assert names == {*pictures, "brick", "grass", "gravel"} - {"cat and espresso"}
    assert all(tile.mode == "RGB" and tile.width == tile.height for tile in tiles.values())
    assert all(name.startswith(tile.info["picture"]) and tile.info["licence"] for name, tile in tiles.items())
    # coffee is 600 x 400: a half of the shorter side is 200, the second piece begins there.
    np.testing.assert_array_equal(np.asarray(tiles["coffee 2/18"]), np.asarray(pictures["coffee"])[:200, 200:400])
