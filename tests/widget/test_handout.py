"""The hand-out as a file: its numbers, its size, whose strings are inert, and how it comes to the disk."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import stat
import zlib
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import Tiny, red_left
from torch import Tensor, nn

from gradcam_widget.engine import GradCAM
from gradcam_widget.models import demo_model, sample_images
from gradcam_widget.widget.explorer import GradCAMWidget

HOSTILE = (
    """</script><script>alert(1)</script><img src=x onerror=alert(2)> {{script}} <!-- & \u2028"'> javascript:"""
)


def green() -> Tensor:
    image = torch.zeros(3, 4, 4)
    image[1] = 1
    return image


@pytest.fixture
def make(explore: Callable[..., GradCAMWidget]) -> Callable[..., GradCAMWidget]:
    def build(model: Any = None, images: Any = None, **arguments: Any) -> GradCAMWidget:
        images = {"red": red_left(), "green": green()} if images is None else images
        return explore(Tiny() if model is None else model, images, **arguments)

    return build


class Page(HTMLParser):
    """What an HTML parser finds: the tags with their attributes, the text of scripts and the words elsewhere."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str, str] = {}
        self.styles: list[str] = []
        self.words: list[str] = []
        self._in = ""
        self.feed(file.read_bytes().decode("utf-8"))
        self.data = json.loads(self.scripts["handout-data"])
        self.numbers = zlib.decompress(base64.b64decode(self.scripts["handout-numbers"]))

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))
        self._in = tag
        if tag == "script":
            self._script = dict(attrs).get("id") or dict(attrs)["type"]
            self.scripts[self._script] = ""
        if tag == "style":
            self.styles.append("")

    def handle_endtag(self, tag: str) -> None:
        self._in = ""

    def handle_data(self, data: str) -> None:
        if self._in == "script":
            self.scripts[self._script] += data
        elif self._in == "style":
            self.styles[-1] += data
        else:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def bytes(self, place: list[int]) -> bytes:
        return self.numbers[place[0] : place[0] + place[1]]

    def array(self, array: dict[str, Any]) -> np.ndarray:
        assert array["dtype"] == "f32"
        return np.frombuffer(self.bytes(array["data"]), "<f4").reshape(array["shape"])

    def answer(self, layer: str, label: str, picture: int = 0) -> dict[str, Any]:
        found = self.data["pictures"][picture]
        at = [one["name"] for one in found["layers"]].index(layer)
        target = next(one for one in found["targets"] if one["label"] == label)
        answer = target["answers"][at]
        maps = found["layers"][at]["maps"]
        return {
            "alpha": np.frombuffer(self.bytes(answer["alpha"]), "<f4"),
            "cam": self.array(answer["cam"]),
            "score": target["score"],
            "answer": answer,
            "means": np.frombuffer(self.bytes(found["layers"][at]["means"]), "<f4"),
            "maps": maps,
        }


def test_the_numbers_are_those_worked_by_hand(make: Callable[..., GradCAMWidget], tmp_path: Path) -> None:
    path = make().to_html(tmp_path / "lesson.html", layers=["pool"])
    assert path == tmp_path / "lesson.html"
    page = Page(path)
    # W[crane] = (-4, 2), 4 cells: alpha = (-1, 0.5); the map is 0.5 * 0.25 - red
    crane = page.answer("pool", "crane")
    assert crane["alpha"].tolist() == [-1.0, 0.5]
    assert crane["cam"].tolist() == [[-0.875, 0.125], [-0.875, 0.125]]
    # score: -4 * mean(red) + 2 * mean(green) = -2 + 0.5
    assert crane["score"] == -1.5
    assert crane["means"].tolist() == [0.5, 0.25]
    assert crane["answer"]["contribution"] is None  # the page multiplies: alpha times mean
    low, step = (np.frombuffer(page.bytes(crane["maps"][key]), "<f4") for key in ("low", "step"))
    steps = np.frombuffer(page.bytes(crane["maps"]["data"]), "<u2").reshape(2, 4)
    np.testing.assert_allclose(low[:, None] + steps * step[:, None], [[1, 0, 1, 0], [0.25] * 4], atol=1e-6)
    assert [one["label"] for one in page.data["pictures"][0]["targets"]] == ["cat", "dog", "crane"]  # 2, 1, -1.5


def test_a_map_that_is_empty_is_told_in_the_words_of_its_evidence(
    make: Callable[..., GradCAMWidget], tmp_path: Path
) -> None:
    # crane on red alone: the map is -1 and 0, nowhere positive
    image = torch.zeros(3, 4, 4)
    image[0, :, :2] = 1
    page = Page(make(images=[image]).to_html(tmp_path / "a.html", layers=["pool"], targets=["crane"]))
    words = page.answer("pool", "crane")["answer"]["words"]
    assert "no positive" in words["positive"]["diagnosis"].lower()
    assert [cure["changes"] for cure in words["positive"]["cures"]] == [{"evidence": "signed"}]
    assert "nowhere positive" in words["signed"]["diagnosis"]
    assert [cure["changes"] for cure in words["signed"]["cures"]] == [{"evidence": "counterfactual"}]


def test_nothing_in_the_widget_changes(make: Callable[..., GradCAMWidget], tmp_path: Path) -> None:
    widget = make()
    before = {name: getattr(widget, name) for name in ("layer", "target", "status", "explanation", "image_index")}
    scene = widget._canvas.scene
    widget.to_html(tmp_path / "a.html", layers="all", images="all", targets=[2, 1])
    assert {name: getattr(widget, name) for name in before} == before
    assert widget._canvas.scene is scene
    widget.layer = "conv"
    assert widget.status.split(" · ")[1] == "no pass"  # those of the file are not counted here
    assert widget._canvas.strip["question"] == widget._canvas.scene["question"]


def test_what_is_named_is_in_it_and_nothing_else(make: Callable[..., GradCAMWidget], tmp_path: Path) -> None:
    widget = make()
    names = [one["name"] for one in widget.engine.layers(red_left()) for one in [{"name": one.name}]]
    page = Page(widget.to_html(tmp_path / "a.html", layers="all", targets=["dog", 0, "cat"], images=["green", 0]))
    assert [one["name"] for one in page.data["pictures"]] == ["green", "red"]
    assert page.data["start"]["picture"] == 1  # the one on show
    for picture in page.data["pictures"]:
        assert [one["name"] for one in picture["layers"]] == [name for name in names if name != "head"]
        assert [one["label"] for one in picture["targets"]] == ["dog", "cat"]
    assert "2 pictures, 2 layers, 2 classes" in page.text
    page = Page(widget.to_html(tmp_path / "a.html", layers=widget.engine.model.pool, targets=1))
    assert [one["name"] for one in page.data["pictures"][0]["layers"]] == ["pool"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layers": ["pol"]}, r"layers: 'pol' is no feature map of this model\. Nearest: pool\."),
        ({"layers": []}, "layers: expected at least one layer"),
        ({"layers": "blocks"}, "layers: this model has none of 'blocks'"),
        ({"targets": ["cow"]}, "targets: .*cow"),
        ({"targets": [3]}, "targets: expected a class from 0 to 2"),
        ({"targets": []}, "targets: expected at least one class"),
        ({"images": "blue"}, "images: there is no picture named 'blue'"),
        ({"images": 2}, "images: expected ints from 0 to 1"),
        ({"images": []}, "images: expected at least one picture"),
        ({"max_bytes": 1000}, "max_bytes: 1 × 1 × 3 pictures, layers and classes take [0-9]+ bytes"),
        ({"path": "lesson.pdf"}, "path: expected a name that ends in .html or .htm; got 'lesson.pdf'"),
    ],
)
def test_what_cannot_be_written_is_said(
    make: Callable[..., GradCAMWidget], tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    path = tmp_path / str(arguments.get("path", "lesson.html"))
    rest = {"layers": ["pool"]} | {name: value for name, value in arguments.items() if name != "path"}
    with pytest.raises(ValueError, match=message):
        make().to_html(path, **rest)
    assert list(tmp_path.iterdir()) == []


def test_wrong_kinds_of_arguments_are_said(make: Callable[..., GradCAMWidget], tmp_path: Path) -> None:
    widget = make()
    file = tmp_path / "a.html"
    before = widget.engine.passes
    with pytest.raises(TypeError, match="title: expected a text; got int"):
        widget.to_html(file, title=3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="questions: expected a list of texts"):
        widget.to_html(file, questions=[1])  # type: ignore[list-item]
    with pytest.raises(TypeError, match=r"questions: expected a list of texts; got .*\. Put them into a list"):
        widget.to_html(file, questions={"Where?"})  # type: ignore[arg-type]
    for given in ((one for one in [0]), np.array([0, 1]), {0: 1}):
        for name in ("images", "targets", "layers"):
            kind = type(given).__name__
            match = rf"{name}: expected one, or a list of them; got {kind}. Give list\({name}\)"
            with pytest.raises(TypeError, match=match):
                widget.to_html(file, **{name: given})
    with pytest.raises(TypeError, match=r"images: .* got set. Give list\(images\)"):
        widget.to_html(file, images={0})
    assert widget.engine.passes == before
    with pytest.raises(TypeError, match="path: expected the path"):
        widget.to_html(7)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="images: expected names or indices"):
        widget.to_html(file, images=[1.5])
    with pytest.raises(TypeError, match="max_bytes: expected an int or None; got 'big'"):
        widget.to_html(file, max_bytes="big")  # type: ignore[arg-type]
    widget.close()
    with pytest.raises(RuntimeError, match="closed"):
        widget.to_html(file)


@pytest.mark.parametrize("method", ["ScoreCAM", "AblationCAM", "GuidedGradCAM"])
def test_a_method_that_does_not_fit_into_a_page_is_said(
    make: Callable[..., GradCAMWidget], tmp_path: Path, method: str
) -> None:
    with pytest.raises(ValueError, match=f"to_html: {method} .*choose another method first"):
        make(method=method).to_html(tmp_path / "a.html")


@pytest.mark.parametrize("method", ["LayerCAM", "HiResCAM", "GradCAM++"])
def test_other_methods_have_their_own_numbers(
    make: Callable[..., GradCAMWidget], tmp_path: Path, method: str
) -> None:
    page = Page(make(method=method).to_html(tmp_path / "a.html", layers=["pool"]))
    found = GradCAM(Tiny()).explain(red_left(), "crane", "pool", method=method)
    answer = page.answer("pool", "crane")
    np.testing.assert_array_equal(answer["alpha"], found.alpha)
    np.testing.assert_array_equal(answer["cam"], found.signed_cam)
    share = method != "GradCAM++"  # their alpha is each channel's share already
    contribution = answer["answer"]["contribution"]
    if share:
        np.testing.assert_array_equal(np.frombuffer(page.bytes(contribution), "<f4"), found.alpha)
    else:
        assert contribution is None
    # Only where maps are linear in the class is the contrast of two classes the difference of their maps.
    assert page.data["compares"] is (method == "HiResCAM")


# -- size ----------


def test_the_demo_model_with_all_blocks_and_ten_classes_keeps_within_the_limit(tmp_path: Path) -> None:
    picture = sample_images()["chelsea"]
    model = demo_model()
    with_credit = GradCAMWidget(model, {"chelsea": picture}, layer="_blocks.15")
    try:
        path = with_credit.to_html(tmp_path / "lesson.html", layers="blocks")
    finally:
        with_credit.close()
    assert 500_000 < path.stat().st_size <= 3_000_000
    page = Page(path)
    (found,) = page.data["pictures"]
    assert (len(found["layers"]), len(found["targets"])) == (16, 10)
    assert all(one["maps"] is not None for one in found["layers"])
    assert "Stéfan van der Walt, CC0 1.0" in page.text
    explained = GradCAM(model).explain(picture, found["targets"][3]["index"], "_blocks.15")
    answer = page.answer("_blocks.15", found["targets"][3]["label"])
    np.testing.assert_allclose(answer["alpha"], explained.alpha, rtol=1e-4, atol=1e-8)
    np.testing.assert_allclose(answer["cam"], explained.signed_cam, rtol=1e-4, atol=1e-6)


class Wide(nn.Module):
    """A layer of 64 x 64 cells and one of 16 x 16, with noise for weights."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.large = nn.Conv2d(3, 24, 3, padding=1)
        self.pool = nn.AvgPool2d(4)
        self.small = nn.Conv2d(24, 24, 3, padding=1)
        self.head = nn.Linear(24, 4)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.small(self.pool(self.large(x))).mean((2, 3)))


def test_numbers_get_coarser_and_then_activations_are_left_out_where_the_limit_asks_for_it(tmp_path: Path) -> None:
    torch.manual_seed(4)
    widget = GradCAMWidget(Wide(), {"noise": torch.rand(3, 64, 64)})
    file = tmp_path / "a.html"
    try:
        sizes, forms = [], []
        limit: int | None = None
        for _ in range(4):
            page = Page(widget.to_html(file, layers=["large", "small"], max_bytes=limit))
            answers = page.data["pictures"][0]["targets"][0]["answers"]
            count = page.data["pictures"][0]["layers"][0]["maps"]["bytes"]
            forms.append((*(answer["cam"]["dtype"] for answer in answers), count))
            sizes.append(file.stat().st_size)
            limit = sizes[-1] - 1
        assert forms == [("f32", "f32", 2), ("i16", "f32", 2), ("i16", "f32", 1), ("u8z", "f32", 1)]
        assert sizes == sorted(sizes, reverse=True)
        with pytest.warns(UserWarning, match="activation maps of large are left out, to keep a.html within"):
            widget.to_html(file, layers=["large", "small"], max_bytes=limit)
        page = Page(file)
        assert [one["maps"] is None for one in page.data["pictures"][0]["layers"]] == [True, False]
        assert file.stat().st_size <= limit
        assert "the activation maps of large are left out" in page.text
        assert "maps are exact to 1/255 of their range, activations to 1/255" in page.text
    finally:
        widget.close()


# -- words and policy ----------


def test_hostile_strings_are_text(make: Callable[..., GradCAMWidget], tmp_path: Path) -> None:
    model = Tiny()
    model.class_names = (HOSTILE, HOSTILE + "2", "crane")
    plain = Page(
        make().to_html(tmp_path / "plain.html", layers=["pool"], text="a\n\nb", questions=["c", "d"], title="e")
    )
    widget = make(model, {HOSTILE: red_left()})
    page = Page(
        widget.to_html(
            tmp_path / "hostile.html",
            layers=["pool"],
            title=HOSTILE,
            text=f"{HOSTILE}\n\n{HOSTILE}",
            questions=[HOSTILE, HOSTILE],
        )
    )
    # The same elements with the same attributes as of a page with harmless words.
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in plain.tags]
    assert [sorted(attributes) for _, attributes in page.tags] == [
        sorted(attributes) for _, attributes in plain.tags
    ]
    assert page.scripts["module"] == plain.scripts["module"]
    assert page.text.count(" ".join(HOSTILE.split())) == 6  # two titles, two paragraphs, two questions
    shown = page.data["pictures"][0]
    assert HOSTILE[:40] in shown["name"]
    assert HOSTILE[:40] in shown["targets"][0]["label"]
    raw = (tmp_path / "hostile.html").read_text("utf-8")
    block = raw[raw.index('id="handout-data">') + 18 :]
    block = block[: block.index("</script>")]
    assert re.search("[<>&\u2028\u2029]", block) is None


def test_paragraphs_are_told_by_blank_lines(make: Callable[..., GradCAMWidget], tmp_path: Path) -> None:
    path = make().to_html(
        tmp_path / "a.html", text="One,\nstill one.\n\n \nTwo & <b>.", questions="Why?", title="A\x00 lesson\ud800"
    )
    html = path.read_text("utf-8")
    assert '<p dir="auto">One,\nstill one.</p><p dir="auto">Two &amp; &lt;b&gt;.</p>' in html
    assert '<h1 dir="auto">A  lesson?</h1>' in html
    assert html.count("<li>") == 1
    assert 'id="handout-questions">Question</h2>' in html


def test_the_policy_allows_the_one_script_and_the_one_style(
    make: Callable[..., GradCAMWidget], tmp_path: Path
) -> None:
    page = Page(make().to_html(tmp_path / "a.html", layers=["pool"]))
    policy = next(
        attributes["content"]
        for tag, attributes in page.tags
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    rules = dict(rule.strip().partition(" ")[::2] for rule in policy.split(";"))

    def hashed(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == hashed(page.scripts["module"])
    assert rules["style-src"] == hashed(page.styles[0])
    assert rules["img-src"] == "data: blob:"
    assert rules["base-uri"] == rules["form-action"] == "'none'"
    assert "unsafe" not in policy
    assert len(page.styles) == 1
    assert not any(
        "style" in attributes or "src" in attributes or "href" in attributes for _, attributes in page.tags
    )
    assert re.search(r"</script|<!--|\beval\(|new Function\(|innerHTML", page.scripts["module"]) is None


# -- the file ----------


def test_the_file_is_replaced_as_a_whole(
    make: Callable[..., GradCAMWidget], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    widget = make()
    file = tmp_path / "lesson.HTM"
    file.write_text("before")
    real = Path.write_bytes

    def breaks(self: Path, data: bytes) -> int:
        real(self, data[:100])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", breaks)
        with pytest.raises(OSError, match="No space left"):
            widget.to_html(file)
    assert [one.name for one in tmp_path.iterdir()] == ["lesson.HTM"]
    assert file.read_text() == "before"
    assert widget.to_html(str(file)) == file
    assert file.read_bytes().startswith(b"<!doctype html>")
    assert b"\r" not in file.read_bytes()  # the hashes of the policy are of these very bytes
    other = tmp_path / "other"
    other.touch()
    assert stat.S_IMODE(file.stat().st_mode) == stat.S_IMODE(other.stat().st_mode)


def test_a_folder_that_is_not_there_is_said(make: Callable[..., GradCAMWidget], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"path: there is no folder .*nowhere.*; make it first"):
        make().to_html(tmp_path / "nowhere" / "a.html")
    (tmp_path / "a.html").mkdir()
    with pytest.raises(ValueError, match="is a folder; give the name of a file in it"):
        make().to_html(tmp_path / "a.html")
