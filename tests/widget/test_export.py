"""Exports: the figure of what is on show, files, code that gives the same numbers, a picture for notebooks."""

from __future__ import annotations

import ast
import base64
import io
import json
import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import IPython.display
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from gradcam_widget import GradCAMWidget, replay, targets
from gradcam_widget.archive import read_manifest
from gradcam_widget.heatmap import upsample
from gradcam_widget.widget import export

BAD = "<script>alert(1)</script>\"'\\ $x_1$ \n\u2028; import os #"
HOSTILE = (BAD, 'a" + __import__("os").system("x") + "', "'''\n1/0\n'''", "\\", "\ud800", "猫")


class Net(nn.Module):
    """Two convolutions, the second one under a name of its own; four classes."""

    def __init__(self, name: str = "second") -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 5, 3, padding=1)
        self.add_module(name, nn.Conv2d(5, 7, 3, stride=2, padding=1))
        self.head = nn.Linear(7, 4)
        self.own = name
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.first(x))
        return self.head(torch.relu(self.get_submodule(self.own)(x)).mean((2, 3)))


@pytest.fixture
def make(explore: Callable[..., GradCAMWidget]) -> Callable[..., GradCAMWidget]:
    def build(model: Any = None, images: Any = None, **arguments: Any) -> GradCAMWidget:
        images = {"one": torch.rand(3, 16, 16), "two": torch.rand(3, 16, 16)} if images is None else images
        arguments = {"class_names": ["cat", "dog", "crane", "bus"], **arguments}
        return explore(Net() if model is None else model, images, **arguments)

    return build


def texts(figure: Any) -> str:
    return " ".join(text.get_text() for text in figure.texts)


def bars(figure: Any) -> list[list[float]]:
    return [[patch.get_width() for patch in axes.patches] for axes in figure.axes if axes.get_label() == "bars"]


def run(widget: GradCAMWidget, **more: Any) -> dict[str, Any]:
    """What the widget's code leaves behind."""
    names = {"model": widget.engine.model, "picture": widget.pictures[list(widget.pictures)[widget.image_index]]}
    exec(compile(widget.code(), "code", "exec"), names | more, found := names | more)  # it is what is tested
    return found


# -- the figure ------------------------------------------------------------------------------------------------


def test_the_figure_is_what_is_on_show(make):
    widget = make(target="dog", layer="second", colormap="magma", opacity=0.3)
    figure = widget.figure(channels=3, sort="α")
    alpha = widget.explanation.alpha.double().numpy()
    assert bars(figure) == [np.sort(alpha)[::-1][:3].tolist()]
    words = texts(figure)
    assert "Grad-CAM for dog" in words
    assert "αₖ for dog" in words
    scene = widget._canvas.scene
    assert f"Net · second (conv, 7 × 8 × 8) · dog: score {widget.explanation.score:.3g}".replace("-", "−") in words
    channels = scene["coverage"]["channels"]
    assert f"{channels} of 7 channels give" in words or f"{channels} of 7 channels gives" in words
    plate = widget._plate(12, "|α|")
    assert plate.panes[0].colormap == "magma"
    assert plate.opacity == 0.3
    assert plate.panes[0].limit == pytest.approx(scene["max"])
    assert np.array_equal(plate.picture, widget.engine.picture(widget.pictures["one"]))


def test_the_figure_follows_evidence_scale_box_channels_and_comparison(make):
    widget = make(layer="second", target=0)
    widget.set(evidence="signed", scale=2.5, show_box=True, threshold=0.4)
    plate = widget._plate(12, "|α|")
    (pane,) = plate.panes
    assert (pane.signed, pane.limit, pane.ends) == (True, 2.5, ("for", "against"))
    assert np.allclose(pane.cam, widget.explanation.signed_cam)
    assert plate.box == widget.box
    widget.set(evidence="counterfactual", scale="picture", show_box=False)
    assert "Grad-CAM against cat" in texts(widget.figure())
    assert widget._plate(12, "|α|").box is None
    widget.set(evidence="positive", channels_off=[1, 4])
    plate = widget._plate(12, "|α|")
    assert plate.off == {1, 4}
    assert "2 channels are left out of the sum." in plate.caption
    terms = widget.engine.terms(widget.pictures["one"], 0, "second").double().numpy()
    assert np.allclose(plate.panes[0].cam, np.maximum(np.delete(terms, [1, 4], 0).sum(0), 0), atol=1e-6)
    widget.set(channels_off=[], channel=3)
    (pane,) = widget._plate(12, "|α|").panes
    assert pane.title == "Activation of channel #3"
    assert np.allclose(pane.cam, widget.explanation.activations[3])
    widget.channel = None
    compared = widget.compare("cat", "bus")
    plate = widget._plate(2, "difference")
    first, second, contrast = plate.panes
    assert [pane.title for pane in plate.panes][1:] == ["Grad-CAM for bus", "cat rather than bus"]
    assert first.limit == second.limit == max(float(compared.first.cam.max()), float(compared.second.cam.max()))
    assert contrast.signed
    assert np.allclose(contrast.cam, compared.contrast.signed_cam)
    difference = (compared.first.alpha - compared.second.alpha).abs()
    assert plate.order() == difference.argsort(descending=True, stable=True)[:2].tolist()
    assert len(bars(widget.figure())) == 3


def test_a_guided_map_is_drawn_at_the_pixels(make):
    widget = make(layer="second", method="GuidedGradCAM")
    (pane,) = widget._plate(12, "|α|").panes
    assert pane.pixels.shape == (16, 16, 3)
    assert widget.figure() is not None


def test_without_a_map_there_is_nothing_to_give_away(make, tmp_path, caplog):
    widget = make(method="ScoreCAM")  # waits for its passes
    for act in (widget.figure, widget.code, lambda: widget.save(tmp_path / "x.png")):
        with pytest.raises(RuntimeError, match="There is no map on show"):
            act()
    assert list(tmp_path.iterdir()) == []
    assert "image/png" not in widget._repr_mimebundle_()[0]
    widget.compute()
    assert "ScoreCAM for" in texts(widget.figure())
    widget.close()
    with pytest.raises(RuntimeError, match="This GradCAMWidget is closed"):
        widget.figure()


# -- files -----------------------------------------------------------------------------------------------------


def test_files_are_written_by_their_suffix(make, tmp_path):
    widget = make(layer="second", target="bus")
    with Image.open(widget.save(tmp_path / "a.PNG", dpi=100)) as image:
        assert image.width == 700
    with Image.open(widget.save(tmp_path / "b.png", dpi=200, width=3.5)) as image:
        assert image.width == 700
    root = ElementTree.parse(widget.save(str(tmp_path / "c.svg"))).getroot()
    assert "Grad-CAM for bus" in " ".join(root.itertext())
    assert widget.save(tmp_path / "d.pdf").read_bytes().startswith(b"%PDF")
    with np.load(widget.save(tmp_path / "e.npz"), allow_pickle=False) as arrays:
        assert np.array_equal(arrays["alpha"], widget.explanation.alpha.numpy())
        assert np.array_equal(arrays["cam"], widget.explanation.cam.numpy())
        assert np.array_equal(arrays["activations"], widget.explanation.activations.numpy())
        assert json.loads(str(arrays["manifest"]))["input"]["name"] == "one"
    assert json.loads(widget.save(tmp_path / "f.json").read_text()) == read_manifest(tmp_path / "e.npz")
    assert {path.name for path in tmp_path.iterdir()} == {"a.PNG", "b.png", "c.svg", "d.pdf", "e.npz", "f.json"}


def test_an_archive_gives_the_same_numbers_again(make, tmp_path):
    widget = make()
    for changes in (
        {"layer": "second", "target": "bus"},
        {"evidence": "counterfactual"},
        {"method": "LayerCAM", "evidence": "signed", "image_index": 1},
        {"method": "FinerCAM", "evidence": "positive", "target": None, "layer": None},
    ):
        widget.set(**changes)
        path = widget.save(tmp_path / "x.npz")
        again = replay(path, widget.engine.model, list(widget.pictures.values())[widget.image_index])
        assert torch.equal(again.alpha, widget.explanation.alpha), changes
        assert torch.equal(again.signed_cam, widget.explanation.signed_cam), changes
        assert read_manifest(path)["evidence"] == widget.evidence
    with pytest.raises(ValueError, match="the picture, as the model sees it, has other values"):
        replay(path, widget.engine.model, widget.pictures["one"])


def test_wrong_paths_are_told_in_words_and_nothing_is_left_behind(make, tmp_path, monkeypatch):
    widget = make()
    with pytest.raises(ValueError, match=r"ends in .png, .svg, .pdf, .npz or .json; got 'x.gif'"):
        widget.save(tmp_path / "x.gif")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        widget.save(tmp_path / "none" / "x.png")
    with pytest.raises(TypeError, match="expected the path of a file; got int"):
        widget.save(3)
    with pytest.raises(ValueError, match="dpi: expected a number"):
        widget.save(tmp_path / "x.png", dpi=0)
    with pytest.raises(ValueError, match=r"width is about figures; 'x.npz' holds numbers"):
        widget.save(tmp_path / "x.npz", width=3)
    for name in ("x.npz", "x.json"):
        with pytest.raises(
            ValueError, match=rf"save: dpi is about figures; '{name}' holds numbers. Leave it out, or"
        ):
            widget.save(tmp_path / name, dpi=300)
    with pytest.raises(ValueError, match="save: dpi, sort are about figures"):
        widget.save(tmp_path / "x.npz", dpi=200, sort="channel")
    (tmp_path / "x.svg").write_text("before")
    monkeypatch.setattr("pathlib.Path.replace", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError, match="division by zero"):
        widget.save(tmp_path / "x.svg")
    assert [path.name for path in tmp_path.iterdir()] == ["x.svg"]
    assert (tmp_path / "x.svg").read_text() == "before"


# -- code ------------------------------------------------------------------------------------------------------


def drawn(widget: GradCAMWidget) -> Tensor:
    """What lies on the picture by the scene that was sent for it."""
    plate = widget._plate(12, "|α|")
    pane = plate.panes[0]
    return upsample(torch.from_numpy(pane.cam)[None], widget.explanation.picture)[0] / pane.limit


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"target": "bus", "layer": "first", "method": "HiResCAM"},
        {"evidence": "signed"},
        {"evidence": "counterfactual", "target": 2},
        {"scale": 0.75},
        {"scale": 0.75, "evidence": "signed", "channels_off": [0, 6]},
        {"channels_off": [2, 3]},
        {"channels_off": [0, 1, 2, 3, 4, 5, 6]},
        {"method": "FinerCAM", "target": "dog"},
        {"target": targets.Contrast(targets.ClassLogit(0), targets.ClassProbability(1))},
        {"target": targets.Similarity(torch.tensor([1.0, -2.5, 1e-7, 3.0]))},
    ],
    ids=str,
)
def test_the_code_gives_the_numbers_on_the_screen(make, changes):
    widget = make(layer="second")
    widget.set(**changes)
    found = run(widget)
    assert torch.equal(found["explanation"].alpha, widget.explanation.alpha)
    assert torch.equal(found["explanation"].signed_cam, widget.explanation.signed_cam)
    assert found["explanation"].layer.name == widget.explanation.layer.name
    if not float(widget._plate(12, "|α|").panes[0].limit):
        assert not found["heatmap"].any()
        return
    assert torch.allclose(found["heatmap"].double(), drawn(widget), atol=1e-5)


@pytest.mark.parametrize("method", ["GradCAM", "LayerCAM", "FinerCAM"])
@pytest.mark.parametrize("off", [(), (1, 2)])
def test_the_code_of_a_comparison(make, method, off):
    widget = make(layer="second", target="cat", compare_target="dog", method=method)
    widget.channels_off = off
    found = run(widget)
    first, second, contrast = widget._plate(12, "|α|").panes
    for name, pane in (("heatmap", first), ("second_heatmap", second), ("contrast_heatmap", contrast)):
        values = upsample(torch.from_numpy(pane.cam)[None], (16, 16))[0] / pane.limit
        assert torch.allclose(found[name].double(), values, atol=1e-5), name
    assert torch.equal(found["second"].alpha, widget.comparison.second.alpha)


def test_what_only_its_owner_has_is_named(make):
    def most(output):
        return output.max()

    def least(output):
        return output.min()

    image = Image.fromarray(np.arange(768, dtype=np.uint8).reshape(16, 16, 3))

    def transform(picture):
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 99

    widget = make(images={"one": image}, transform=transform, target=most, layer="second")
    code = widget.code()
    assert "# transform: the one that was given to the widget" in code
    assert "# target: your own, 'most'" in code
    found = run(widget, target=most, transform=transform)
    assert torch.equal(found["explanation"].signed_cam, widget.explanation.signed_cam)
    widget.set(compare_target=least, evidence="counterfactual")
    found = run(widget, target=most, target_2=least, transform=transform)
    assert "# target_2: your own, 'least'" in widget.code()
    assert torch.equal(found["second"].signed_cam, widget.comparison.second.signed_cam)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_strings_mean_nothing_in_code_files_and_notebooks(make, name, tmp_path):
    layer = name.replace(".", "") or "x"  # torch allows no dot in a module's name
    widget = make(Net(layer), {name: torch.rand(3, 16, 16)}, class_names=[name, "b", "c", "d"], target=0)
    widget.layer = next(
        row.name for row in widget.engine.layers(torch.rand(3, 16, 16)) if row.name.startswith(layer)
    )
    found = run(widget)
    assert torch.equal(found["explanation"].alpha, widget.explanation.alpha)
    calls = [ast.unparse(node.func) for node in ast.walk(ast.parse(widget.code())) if isinstance(node, ast.Call)]
    assert calls == ["GradCAM", "cam.explain", "explanation.heatmap"]
    root = ElementTree.fromstring(widget.save(tmp_path / "x.svg").read_bytes())
    assert not [element for element in root.iter() if element.tag.endswith("script")]
    manifest = read_manifest(widget.save(tmp_path / "x.npz"))
    assert manifest["target"]["name"] == name
    again = replay(manifest, widget.engine.model, next(iter(widget.pictures.values())))
    assert torch.equal(again.alpha, widget.explanation.alpha)
    bundle, metadata = widget._repr_mimebundle_()
    assert metadata == {"image/png": {"alt": bundle["text/plain"]}}
    assert set(bundle) == {"text/plain", "image/png", "application/vnd.jupyter.widget-view+json"}
    json.dumps(bundle, ensure_ascii=False).encode("utf-8")  # as Jupyter sends it
    file = widget._file_name()
    assert not set(file) & set("/\\:*?\"'<>|\n$ ;.")
    assert len(file) <= 170


# -- what the view asks for ------------------------------------------------------------------------------------


@pytest.fixture
def asked(monkeypatch) -> Callable[..., tuple[dict[str, Any], list[bytes]]]:
    def ask(widget: GradCAMWidget, what: Any, **more: Any) -> tuple[dict[str, Any], list[bytes]]:
        sent: list[tuple[dict[str, Any], list[bytes]]] = []
        monkeypatch.setattr(
            type(widget._canvas), "send", lambda self, content, buffers=None: sent.append((content, buffers or []))
        )
        widget._canvas._on_view_message(None, {"type": "export", "what": what, "ticket": "t-1", **more}, [])
        assert len(sent) == 1
        assert sent[0][0]["type"] == "export"
        assert sent[0][0]["ticket"] == "t-1"
        return sent[0]

    return ask


def test_the_view_gets_files_and_code(make, asked):
    widget = make(layer="second", target="bus")
    for what, kind, start in (
        ("png", "image/png", b"\x89PNG"),
        ("svg", "image/svg+xml", b"<?xml"),
        ("npz", "application/octet-stream", b"PK"),
    ):
        answer, (content,) = asked(widget, what, sort="contribution")
        assert answer["mime"] == kind
        assert answer["name"] == f"one_bus_second_GradCAM.{what}"
        assert answer["note"] == ""
        assert content.startswith(start)
        assert b"|contribution|" in content or what != "svg"
    answer, buffers = asked(widget, "code")
    assert (answer["code"], buffers) == (widget.code(), [])
    assert "sort" not in widget._canvas.keys


def test_errors_come_in_words(make, asked, monkeypatch, caplog):
    widget = make()
    assert asked(widget, "exe")[0]["error"] == "there is no export of the kind 'exe'"
    assert "error" in asked(widget, None)[0]
    assert "error" not in asked(widget, "svg", sort="no order that there is")[0]
    monkeypatch.setattr(export, "MOST_BYTES", 1000)
    answer, buffers = asked(widget, "png")
    assert "more than a notebook sends at once" in answer["error"]
    assert buffers == []
    waiting = make(method="ScoreCAM")
    assert "There is no map on show" in asked(waiting, "svg")[0]["error"]
    monkeypatch.setattr(export.Exports, "code", lambda self: 1 / 0)
    assert asked(widget, "code")[0]["error"] == "division by zero"
    assert "No code" in caplog.text


def test_an_archive_that_is_too_heavy_for_a_notebook_goes_without_activations(make, asked, monkeypatch):
    widget = make(images={"one": torch.rand(3, 96, 96)}, layer="first")
    whole = len(asked(widget, "npz")[1][0])
    monkeypatch.setattr(export, "MOST_BYTES", whole - 1)
    answer, (content,) = asked(widget, "npz")
    assert "without the activations" in answer["note"]
    with np.load(io.BytesIO(content)) as arrays:
        assert "activations" not in arrays
        assert "alpha" in arrays


def test_what_is_left_out_of_a_page_is_said(make, asked, monkeypatch):
    widget = make(images={"one": torch.rand(3, 96, 96)})
    answer, (page,) = asked(widget, "html")
    assert answer["name"].endswith(".html")
    assert answer["note"] == ""
    assert page.startswith(b"<!doctype html>")

    def lesser(self, path, *, max_bytes):
        warnings.warn("to_html: the activation maps of 'first' are left out", stacklevel=2)
        warnings.warn("something else", stacklevel=2)
        path.write_bytes(b"page")
        return path

    monkeypatch.setattr(GradCAMWidget, "to_html", lesser)
    answer, (page,) = asked(widget, "html")
    assert (page, answer["note"]) == (b"page", "to_html: the activation maps of 'first' are left out")


# -- where there are no widgets --------------------------------------------------------------------------------


def test_the_bundle_has_a_picture_and_a_caption(make):
    widget = make(layer="second", target="dog", images={"one": torch.rand(3, 224, 224)})
    bundle, _ = widget._repr_mimebundle_()
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == widget.model_id
    assert bundle["text/plain"].startswith("gradcam_widget: Net · second (conv, 7 × 112 × 112) · dog: score ")
    data = base64.b64decode(bundle["image/png"])
    assert len(data) <= 150_000  # of noise, which hardly packs
    with Image.open(io.BytesIO(data)) as image:
        assert image.width == 630
    first = widget._repr_mimebundle_()[0]["image/png"]
    assert first is widget._repr_mimebundle_()[0]["image/png"]  # not drawn again
    widget.target = "cat"
    assert widget._repr_mimebundle_()[0]["image/png"] != first


def test_a_picture_that_fails_is_not_in_the_way(make, monkeypatch, caplog):
    widget = make()
    monkeypatch.setattr(export.figures, "encode_snapshot", lambda *_: 1 / 0)
    bundle, _ = widget._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert "image/png" not in bundle
    assert "There is no picture" in caplog.text


def test_ipywidgets_7_shows_the_same(make, monkeypatch):
    widget = make()
    shown: list[tuple[Any, Any]] = []
    monkeypatch.setattr(IPython.display, "display", lambda data, metadata, raw: shown.append((data, raw)))
    own = SimpleNamespace(
        _model_id="m-1",
        _handle_displayed=lambda **arguments: shown.append(("displayed", arguments)),
        _with_shot=widget._with_shot,
    )
    export.Exports._display_itself(own)
    ((bundle, raw), last) = shown
    assert raw is True
    assert set(bundle) == {"text/plain", "image/png", "application/vnd.jupyter.widget-view+json"}
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == "m-1"
    assert last == ("displayed", {})
