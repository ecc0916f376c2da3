"""The paint pad under an explorer: scores, heatmap and pictures follow while painting, and the other way round."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from messages import browser_says, browser_sets, click, counted, decode, open_widgets
from patience import PATIENCE, eventually
from PIL import Image
from tiny import Tiny
from torch import Tensor, nn

from gradcam_widget.inputs import Preprocess
from gradcam_widget.painting import Stroke
from gradcam_widget.widget.explorer import GradCAMWidget

PLAIN = Preprocess(4, 4, mean=(0, 0, 0), std=(1, 1, 1))  # values are pixels / 255


class Watched(Tiny):
    """Counts its passes; each of them waits at the gate, if there is one.

    logits = 4 * (mean red, mean green); alpha at "pool" is (1, 0) for "red", with 4 cells.
    """

    class_names = ("red", "green")
    W = ((4.0, 0.0), (0.0, 4.0))

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0
        self.gate: threading.Event | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.seen += 1
        if self.gate is not None:
            assert self.gate.wait(PATIENCE)
        return super().forward(x)


def red_left() -> Tensor:
    image = torch.zeros(3, 4, 4)
    image[0, :, :2] = 1
    return image


def greenish() -> Tensor:
    image = torch.zeros(3, 4, 4)
    image[1] = 0.4
    return image


@pytest.fixture
def make(explore: Callable[..., GradCAMWidget]) -> Callable[..., GradCAMWidget]:
    def build(model: Any = None, images: Any = None, **arguments: Any) -> GradCAMWidget:
        images = {"left": red_left(), "greenish": greenish()} if images is None else images
        settings = {"transform": PLAIN, "layer": "pool", "target": "red"} | arguments
        return explore(Watched() if model is None else model, images, **settings)

    return build


def softmax(red: float, green: float) -> float:
    """The probability of the first of two logits."""
    return float(1 / (1 + np.exp(green - red)))


def cam(widget: GradCAMWidget) -> Any:
    return decode(widget._canvas.scene["cam"]).tolist()


# -- the pad leads ---------------------------------------------------------------------------------------------


def test_painting_by_hand(make):
    # Red in the left half: logits 4 * (0.5, 0) = (2, 0). The upper left quarter painted green: red stays in 4 of
    # 16 pixels, green comes into 4: logits (1, 1). The map at "pool" is the red channel: only the lower left cell.
    widget = make()
    pad = widget.paint()
    assert pad.wait(PATIENCE)
    assert pad.before["red"] == pytest.approx(softmax(2, 0))
    assert cam(widget) == [[1, 0], [1, 0]]
    pad.rectangle(0, 0, 2, 2, fill="colour", colour=(0, 255, 0))
    assert pad.wait(PATIENCE)
    assert pad.after == {"red": pytest.approx(0.5), "green": pytest.approx(0.5)}
    assert cam(widget) == [[0, 0], [1, 0]]
    assert widget._state.offer.pictures == ("left", "greenish", "left, edited")
    assert (widget.image_index, widget.explanation.score) == (2, pytest.approx(1))
    shown = np.asarray(Image.open(io.BytesIO(widget._canvas.picture["data"])))
    assert (shown == pad.picture).all()
    assert widget._canvas.picture["name"] == "left, edited"
    rows = pad._view.scores
    assert (rows["explained"], rows["rows"][0]["label"]) == ("red", "red")
    assert rows["rows"][0]["before"] == pytest.approx(softmax(2, 0))


def test_an_unpainted_pad_has_the_scores_of_the_original_and_changes_nothing(make):
    widget = make(images={"odd": torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(1))})
    scores = widget.engine.predict(widget.pictures["odd"])
    with counted() as sent:
        pad = widget.paint()
        assert pad.wait(PATIENCE)
    assert [message for message in sent if "scene" in message.state] == []
    assert widget._state.offer.pictures == ("odd",)
    assert torch.equal(torch.tensor(list(pad.before.values())), scores.softmax(0))
    pad.stroke((1, 1))
    pad.undo()
    assert pad.wait(PATIENCE)
    assert pad.after == pad.before


def test_one_computation_is_one_scene(make):
    widget = make()
    pad = widget.paint()
    pad.stroke((1, 1))
    assert pad.wait(PATIENCE)
    with counted() as sent:
        pad.stroke((3, 3), size=1)
        assert pad.wait(PATIENCE)
    scenes = [message for message in sent if "scene" in message.state]
    assert len(scenes) == 1
    assert "picture" in scenes[0].state
    assert scenes[0].state["scene"]["status"]["passes"] == "1 forward, 1 backward pass"


def test_sixty_strokes_with_a_slow_model_are_few_computations_and_the_last_is_shown(make):
    model = Watched()
    widget = make(model)
    pad = widget.paint()
    pad.size = 1
    pad.stroke((0.5, 0.5))
    assert pad.wait(PATIENCE)
    model.gate = threading.Event()
    before = model.seen
    pad.fill = "colour"
    pad.stroke((1.5, 0.5))
    eventually(lambda: model.seen > before)
    for i in range(60):
        pad.stroke((i % 4 + 0.5, i // 4 % 4 + 0.5))  # does not wait for the model, which waits at the gate
    assert model.seen == before + 1
    model.gate.set()
    assert pad.wait(PATIENCE)
    assert model.seen <= before + 3
    assert (pad.picture == 255).all()
    # All white: logits (4, 4).
    assert widget.explanation.score == pytest.approx(4)
    assert pad.after["red"] == pytest.approx(0.5)


def test_the_engine_keeps_no_version_that_was_painted_over(make):
    widget = make()
    pad = widget.paint()
    for i in range(5):
        pad.rectangle(0, 0, 1 + i % 4, 4, fill="colour", colour=(i, 0, 0))
        assert pad.wait(PATIENCE)
    assert widget.engine.memory().pictures == 2  # the original and the last version


def test_before_and_after_are_two_pictures_of_the_explorer(make):
    widget = make()
    pad = widget.paint()
    pad.rectangle(0, 0, 4, 4)
    assert pad.wait(PATIENCE)
    browser_sets(pad._controls.settings["showing"], index=0)
    assert pad.wait(PATIENCE)
    assert (pad.showing, widget.image_index) == ("before", 0)
    assert cam(widget) == [[1, 0], [1, 0]]
    pad.showing = "after"
    assert pad.wait(PATIENCE)
    assert widget.image_index == 2
    widget.image_index = 0
    assert pad.showing == "before"
    pad.stroke((0.5, 0.5))
    assert pad.wait(PATIENCE)
    assert (pad.showing, widget.image_index) == ("after", 2)


def test_a_picture_of_the_users_that_is_called_edited_is_left_alone(make):
    widget = make(images={"left": red_left(), "left, edited": greenish()})
    pad = widget.paint()
    pad.stroke((1, 1))
    assert pad.wait(PATIENCE)
    pad.stroke((3, 3))
    assert pad.wait(PATIENCE)
    assert list(widget.pictures) == ["left", "left, edited", "left, edited (2)"]
    assert torch.equal(widget.pictures["left, edited"], greenish())


@pytest.mark.parametrize("take_back", ["undo", "reset"])
def test_a_picture_of_which_all_was_taken_back_is_the_original_again(make, take_back):
    widget = make()
    pad = widget.paint()
    for _ in range(2):
        pad.stroke((1, 1))
        assert pad.wait(PATIENCE)
        assert widget.image_index == 2
        with counted() as sent:
            getattr(pad, take_back)()
            assert pad.wait(PATIENCE)
        assert (widget.image_index, pad.showing, widget._canvas.picture["name"]) == (0, "after", "left")
        assert len([message for message in sent if "scene" in message.state]) == 1
        assert cam(widget) == [[1, 0], [1, 0]]
        assert pad.after == pytest.approx(pad.before)
    # the edited picture, which stays in the list, is equal to it
    widget.image_index = 2
    assert pad.wait(PATIENCE)
    assert cam(widget) == [[1, 0], [1, 0]]
    assert pad.showing == "after"


def test_the_transform_is_not_run_for_each_stroke(make):
    class Counting(Preprocess):
        runs = 0

        def __call__(self, image):
            Counting.runs += 1
            return super().__call__(image)

    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8))
    widget = make(images={"photo": picture}, transform=Counting(4, 4, mean=(0, 0, 0), std=(1, 1, 1)))
    pad = widget.paint()
    pad.stroke((1, 1))
    assert pad.wait(PATIENCE)
    runs = Counting.runs
    for i in range(3):
        pad.stroke((i, 2))
        assert pad.wait(PATIENCE)
        widget.layer = ("conv", "pool")[i % 2]
    assert Counting.runs == runs


# -- the explorer leads ----------------------------------------------------------------------------------------


def test_another_picture_of_the_explorer_is_the_pads_with_its_own_strokes(make):
    widget = make()
    pad = widget.paint()
    pad.rectangle(0, 0, 2, 2)
    assert pad.wait(PATIENCE)
    widget.image_index = 1
    assert pad.wait(PATIENCE)
    assert (pad.strokes, pad.showing) == ((), "after")
    assert pad.before == pad.after
    assert pad.before["green"] == pytest.approx(softmax(1.6, 0), rel=1e-5)
    pad.rectangle(0, 0, 4, 4, fill="colour", colour=(0, 0, 0))
    assert pad.wait(PATIENCE)
    assert widget._state.offer.pictures == ("left", "greenish", "left, edited", "greenish, edited")
    assert widget.image_index == 3
    browser_sets(widget._controls.picture, index=2)
    assert pad.wait(PATIENCE)
    assert pad.strokes == (Stroke.rectangle(0, 0, 2, 2, size=pad.size),)
    assert pad.showing == "after"
    assert pad.before["red"] == pytest.approx(softmax(2, 0))


def test_another_class_of_the_explorer_is_marked(make):
    widget = make()
    pad = widget.paint()
    assert pad.wait(PATIENCE)
    assert pad._view.scores["explained"] == "red"
    widget.target = "green"
    assert pad._view.scores["explained"] == "green"


def test_an_edited_picture_has_the_true_class_of_its_original_and_another_picture_has_none(make):
    widget = make(labels="green")
    assert widget._canvas.scene["truth"]["label"] == "green"
    pad = widget.paint()
    pad.stroke((1, 1))
    assert pad.wait(PATIENCE)
    assert widget.image_index == 2
    assert widget._canvas.scene["truth"]["label"] == "green"
    widget.put_picture("left", greenish())
    assert "truth" not in widget._canvas.scene


def test_a_picture_can_be_put_in_the_place_of_another(make):
    widget = make()
    assert widget.put_picture("greenish", red_left()) == 1
    assert (widget.image_index, widget.explanation.score) == (1, pytest.approx(2))
    with counted() as sent:
        assert widget.put_picture("greenish", greenish()) == 1
    assert len([message for message in sent if "scene" in message.state]) == 1
    assert widget.explanation.score == 0
    assert widget.put_picture("new", red_left(), show=False) == 2
    assert (widget.image_index, list(widget.pictures)) == (1, ["left", "greenish", "new"])
    assert [name for name, _ in widget._controls.picture.options] == ["left", "greenish", "new"]
    with pytest.raises(TypeError, match="image: expected a PIL image"):
        widget.put_picture("new", 3)


# -- drawing on a blank pad ------------------------------------------------------------------------------------


class Digit(nn.Module):
    """One channel in; logits: the mean of the left half, and of the right half, times 10."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 1, bias=False)
        nn.init.ones_(self.conv.weight)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        halves = self.conv(x).unflatten(3, (2, -1)).mean((1, 2, 4))
        return halves * 10


def test_drawing_for_a_small_model(make):
    widget = make(Digit(), images={"blank": torch.zeros(1, 28, 28)}, layer=None, target=None)
    pad = widget.paint(blank=(28, 28))
    assert pad.wait(PATIENCE)
    assert (pad.fill, pad.soft, pad.size, pad.picture.max()) == ("colour", True, 2, 0)
    pad.stroke((21, 5), (21, 22))
    assert pad.wait(PATIENCE)
    assert pad.after["class 1"] > 0.5 > pad.after["class 0"]
    assert list(widget.pictures) == ["blank", "drawing", "drawing, edited"]
    drawn = widget.pictures["drawing, edited"]
    assert drawn.shape == (1, 1, 28, 28)
    np.testing.assert_allclose(drawn[0, 0].numpy(), pad.picture[..., 0] / 255, atol=1e-6)
    assert widget.explanation.target.index == 1


def test_a_second_blank_pad_is_blank(make):
    widget = make(Digit(), images={"blank": torch.zeros(1, 28, 28)}, layer=None, target=None)
    pad = widget.paint(blank=(28, 28))
    pad.stroke((21, 5), (21, 22))
    assert pad.wait(PATIENCE)
    assert widget.paint(blank=(14, 20)) is pad
    assert pad.wait(PATIENCE)
    assert (pad.strokes, pad.picture.shape, pad.picture.max()) == ((), (14, 20, 3), 0)
    pad.stroke((3, 3), (3, 10))
    assert pad.wait(PATIENCE)
    assert pad.after["class 0"] > 0.5
    assert list(widget.pictures) == ["blank", "drawing", "drawing, edited"]
    assert widget.pictures["drawing, edited"].shape == (1, 1, 14, 20)


def test_a_blank_pad_for_a_model_of_three_channels(make):
    widget = make()
    pad = widget.paint(blank=(4, 4), channels=3)
    pad.rectangle(0, 0, 4, 4, fill="colour", colour=(255, 0, 0))
    assert pad.wait(PATIENCE)
    # All red: logits (4, 0).
    assert widget.pictures["drawing, edited"].shape == (1, 3, 4, 4)
    assert widget.explanation.score == pytest.approx(4)


# -- the occlusion map -----------------------------------------------------------------------------------------


def test_the_occlusion_map_and_its_agreement_with_the_heatmap_by_hand(make):
    # A side of round(4 / 7) = 1 pixel: 16 passes. Covering a red pixel with the mean colour, (128, 0, 0), costs
    # (1 - 128/255) / 16 * 4; covering a black one gives as much red: -128/255 / 16 * 4. The heatmap, [[1, 0],
    # [1, 0]] at layer size, falls from left to right, 1, 0.75, 0.25, 0: among 16 places, ranks 14.5, 10.5, 6.5 and
    # 2.5 for its columns, against 12.5 and 4.5 for the drops. Deviations from 8.5: (6, 2, -2, -6), (4, 4, -4, -4):
    # rho = 64 / sqrt(80 * 64) = 0.894.
    widget = make()
    pad = widget.paint()
    assert pad.wait(PATIENCE)
    assert pad._view.task == {"total": 16, "done": None}
    occluded = pad.occlusion()
    assert occluded.sentences[0].startswith(f"warm: the score drops where this is covered, by {128 / 255 / 4:.3g}")
    assert occluded.sentences[1] == "Spearman's rank correlation with the heatmap at pool: +0.89"
    assert pad._view.occlusion["sentences"] == list(occluded.sentences)
    red, blue = occluded.picture[0, 0].astype(int), occluded.picture[0, 3].astype(int)
    assert red[0] > red[2]
    assert blue[2] > blue[0]


def test_the_agreement_follows_the_layer_and_the_map_goes_with_its_picture_or_class(make):
    widget = make()
    pad = widget.paint()
    pad.occlusion()
    widget.layer = "conv"
    # At "conv" the heatmap is the red channel itself: both have two values, in the same places.
    assert pad._view.occlusion["sentences"][1] == "Spearman's rank correlation with the heatmap at conv: +1.00"
    widget.target = "green"
    assert pad._view.occlusion == {}
    pad.occlusion()
    assert pad._view.occlusion["sentences"][1].endswith("none, one of the two is flat")
    pad.stroke((1, 1))
    assert pad.wait(PATIENCE)
    assert pad._view.occlusion == {}


def test_a_new_question_cancels_an_occlusion_map(make):
    model = Watched()
    widget = make(model)
    pad = widget.paint()
    assert pad.wait(PATIENCE)
    model.gate = threading.Event()
    before = model.seen
    browser_says(pad._view, type="occlude")
    eventually(lambda: model.seen > before)
    pad.cancel()
    model.gate.set()
    for thread in threading.enumerate():
        if thread.name == "gradcam_widget occlusion":
            thread.join(PATIENCE)
    assert pad._view.occlusion == {}
    assert pad._view.task == {"total": 16, "done": None}
    widget.target = "green"
    assert widget.explanation.target.index == 1


# -- the panel, and the end ------------------------------------------------------------------------------------


def test_the_panel_is_asked_for_by_its_name(make):
    widget = make(panels=["heatmap", "paint"])
    pad = widget.paint()
    assert widget.panels == ("heatmap", "paint")
    assert pad in widget.children[2].children
    widget.panels = ["heatmap"]
    pad.stroke((1, 1))
    assert pad.wait(PATIENCE)
    assert widget.paint() is pad
    assert len(pad.strokes) == 1


def test_closed_with_its_explorer_it_leaves_nothing_behind():
    before = set(open_widgets())
    threads = threading.active_count()
    for _ in range(3):
        widget = GradCAMWidget(Watched(), {"left": red_left()}, transform=PLAIN, panels=["heatmap", "paint"])
        pad = widget.paint()
        pad.stroke((1, 1))
        click(pad._controls.undo)
        widget.close()
        assert pad.wait(PATIENCE)
    assert set(open_widgets()) - before == set()
    eventually(lambda: threading.active_count() <= threads)  # work is done a moment before its thread ends
