"""The command writes a hand-out from files, and says in one line why it cannot."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import resnet18

from gradcam_widget import cli, models


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "noise.png"
    shades = np.random.default_rng(2).integers(0, 255, (16, 16, 3)).astype(np.uint8)
    Image.fromarray(shades).resize((240, 240)).save(path)
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Those of a classifier of three classes, as saved from a model that was wrapped for several GPUs."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("weights") / "mine.pth"
    state = resnet18(weights=None, num_classes=3).state_dict()
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}, "epoch": 3}, path)
    return path


def data_of(path: Path) -> dict:
    found = re.search(r'id="handout-data">(.*?)</script>', path.read_text("utf-8"), re.DOTALL)
    assert found
    return json.loads(found[1])


def test_it_writes_pictures_with_weights_of_ones_own(picture, weights, tmp_path, capsys):
    names = tmp_path / "names.txt"
    names.write_text("ant\nbee\nwasp\n", "utf-8")
    file = tmp_path / "lesson.html"
    arguments = ["export", str(picture), str(picture), "-o", str(file), "--model", "resnet18"]
    arguments += ["--weights", str(weights), "--class-names", str(names), "--layers", "layer3.1", "layer4.1"]
    assert cli.main([*arguments, "--title", "A <lesson>", "--questions", "One?", "Two?"]) == 0
    assert capsys.readouterr().out == f"Wrote {file}, {file.stat().st_size / 1e6:.1f} MB\n"
    data = data_of(file)
    assert [one["name"] for one in data["pictures"]] == ["noise.png", "noise.png (2)"]
    assert [one["name"] for one in data["pictures"][0]["layers"]] == ["layer3.1", "layer4.1"]
    assert {one["label"] for one in data["pictures"][1]["targets"]} == {"ant", "bee", "wasp"}
    assert "A &lt;lesson&gt;" in file.read_text("utf-8")


def test_names_of_other_weights_are_not_taken_over(picture, weights, tmp_path):
    file = tmp_path / "lesson.html"
    arguments = ["export", str(picture), "-o", str(file), "--model", "resnet18", "--weights", str(weights)]
    assert cli.main([*arguments, "--classes", "2", "0", "--layers", "layer4.1"]) == 0
    (found,) = data_of(file)["pictures"]
    assert [one["label"] for one in found["targets"]] == ["class 2", "class 0"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.png"], "there is no picture 'nowhere.png'"),
        (["text.png"], "IMAGE: 'text.png' is not a picture that Pillow can read"),
        (["noise.png", "-o", "lesson.pdf"], "-o: expected a name that ends in .html; got 'lesson.pdf'"),
        (["noise.png", "-o", "nowhere/lesson.html"], "-o: there is no folder 'nowhere'; make it first"),
        (["noise.png", "--model", "resnet51"], "--model: 'resnet51' is not a torchvision classifier"),
        (["noise.png", "-o", "folder.html"], "-o: 'folder.html' is a folder; give the name of a file in it"),
        (["noise.png", "--weights", "nowhere.pth"], "--weights: there is no file 'nowhere.pth'"),
        (["noise.png", "--weights", "text.png"], "--weights: text.png cannot be read as weights"),
        (["noise.png", "--weights", "evil.pth"], "--weights: evil.pth cannot be read as weights"),
        (["noise.png", "--weights", "list.pth"], "--weights: list.pth holds no state dict"),
        (
            ["noise.png", "--model", "vgg11", "--weights", "mine.pth"],
            "--weights: mine.pth does not fit vgg11: Missing",
        ),
        (["noise.png", "--class-names", "nowhere.txt"], "--class-names: there is no file 'nowhere.txt'"),
        (["noise.png", "--class-names", "empty.txt"], "--class-names: empty.txt is empty"),
        (["noise.png", "--layers", "layer9"], "--layers: 'layer9' is no feature map of this model"),
        (["noise.png", "--layers", "layer4.1", "conv"], "--layers: conv stands alone; give conv, or names of"),
        (
            ["noise.png", "--classes", "cow"],
            "--classes: got the class name 'cow', but the class names are not known",
        ),
        (["noise.png", "--classes", "-1"], "--classes: expected a class from 0"),
        (["noise.png", "--class-names", "two.txt"], "--class-names: got 2 names for a model with"),
        (["noise.png", "--method", "GradCam"], "--method: expected one of"),
        (["noise.png", "--method", "ScoreCAM"], "ScoreCAM needs"),
        (["noise.png", "--method", "GuidedGradCAM"], "GuidedGradCAM draws at the pixels"),
        (["noise.png", "--max-mb", "0.1"], "--max-mb: 1 × 2 × 3 pictures, layers and classes take"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    picture, weights, tmp_path, monkeypatch, capsys, arguments, message
):
    class Evil:
        def __reduce__(self):
            return print, ("unpickled",)

    monkeypatch.chdir(tmp_path)
    for path in (picture, weights):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "two.txt").write_text("cat\ndog\n")
    (tmp_path / "folder.html").mkdir()
    torch.save(Evil(), "evil.pth")
    torch.save([1, 2], "list.pth")
    before = set(tmp_path.iterdir())
    defaults = [] if "-o" in arguments else ["-o", "lesson.html"]
    if "--model" not in arguments:
        defaults += ["--model", "resnet18"]
    if "--weights" not in arguments:
        defaults += ["--weights", "mine.pth"]
    if "--layers" not in arguments:
        defaults += ["--layers", "layer3.1", "layer4.1"]
    assert cli.main(["export", *arguments, *defaults]) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith(f"gradcam-widget: {message}")
    assert printed.err.count("\n") == 1
    assert "widget" not in printed.err.removeprefix("gradcam-widget")
    assert "=" not in printed.err
    assert printed.out == ""
    assert set(tmp_path.iterdir()) == before


def test_a_file_that_cannot_be_written_is_said(picture, weights, tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gradcam_widget.widget.handout.write_file", full)
    arguments = ["export", str(picture), "-o", str(tmp_path / "a.html"), "--model", "resnet18"]
    assert cli.main([*arguments, "--weights", str(weights), "--layers", "layer4.1"]) == 1
    assert capsys.readouterr().err.endswith(
        "a.html' cannot be written (No space left on device); choose another place\n"
    )


def test_the_models_own_weights_are_the_default(picture, tmp_path, monkeypatch, capsys):
    asked = []

    def load(name: str, *, weights: str | None = "DEFAULT"):
        asked.append((name, weights))
        raise RuntimeError("load_model('resnet50'): its weights could not be fetched (no network).\nSecond line")

    monkeypatch.setattr(models, "load_model", load)
    for more in ([], ["--model", "resnet50"]):
        assert cli.main(["export", str(picture), "-o", str(tmp_path / "a.html"), *more]) == 1
    assert asked == [("demo", "DEFAULT"), ("resnet50", "DEFAULT")]
    assert "could not be fetched (no network). Second line" in capsys.readouterr().err


def test_what_is_left_out_is_said(picture, weights, tmp_path, capsys):
    file = tmp_path / "lesson.html"
    arguments = ["export", str(picture), "-o", str(file), "--model", "resnet18", "--weights", str(weights)]
    assert cli.main([*arguments, "--layers", "layer1.0", "layer4.1", "--max-mb", "0.5"]) == 0
    printed = capsys.readouterr()
    assert printed.err.startswith(
        "gradcam-widget: the activation maps of layer1.0 are left out, to keep lesson.html"
    )
    assert "a larger --max-mb" in printed.err
    assert file.stat().st_size <= 500_000


@pytest.mark.parametrize("number", ["inf", "nan", "-1", "0", "x"])
def test_what_the_file_may_weigh_is_a_number_above_0(picture, tmp_path, number, capsys):
    with pytest.raises(SystemExit):
        cli.main(["export", str(picture), "-o", str(tmp_path / "a.html"), f"--max-mb={number}"])
    assert f"argument --max-mb: expected a number above 0; got '{number}'" in capsys.readouterr().err


def test_a_folder_that_is_not_there_is_told_before_anything_is_loaded(picture, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(models, "load_model", None)
    assert cli.main(["export", str(picture), "-o", str(tmp_path / "none" / "a.html")]) == 1
    assert "-o: there is no folder" in capsys.readouterr().err


def test_names_for_another_number_of_classes_are_told_as_that(picture, weights, tmp_path, capsys):
    names = tmp_path / "names.txt"
    names.write_text("ant\nbee\n", "utf-8")
    arguments = ["export", str(picture), "-o", str(tmp_path / "a.html"), "--model", "resnet18"]
    assert cli.main([*arguments, "--weights", str(weights), "--class-names", str(names)]) == 1
    assert "--class-names: got 2 names for a model with 3 classes; give one for each" in capsys.readouterr().err
