"""The paint pad without a browser: strokes, what is sent to the canvas, scores, controls, errors, the end."""

from __future__ import annotations

import io
import json
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import ipycanvas
import ipywidgets
import numpy as np
import pytest
import traitlets
from ipycanvas.canvas import _CANVAS_MANAGER, COMMANDS, hold_canvas
from messages import browser_says, browser_sets, choose, click, open_widgets
from patience import PATIENCE
from PIL import Image

from gradcam_widget.painting import Painting, Stroke
from gradcam_widget.widget.occluding import Occluded
from gradcam_widget.widget.pad_view import changes
from gradcam_widget.widget.paint import PaintPad


def noise(height: int = 20, width: int = 30) -> np.ndarray[Any, Any]:
    return np.random.default_rng(3).integers(0, 256, (height, width, 3), np.uint8)


def red_share(picture: np.ndarray[Any, Any]) -> dict[str, float]:
    share = float(picture[..., 0].mean() / 255)
    return {"red": share, "other": 1 - share}


@pytest.fixture
def make() -> Iterator[Callable[..., PaintPad]]:
    made: list[PaintPad] = []

    def build(picture: Any = None, **arguments: Any) -> PaintPad:
        made.append(PaintPad(noise() if picture is None else picture, **arguments))
        return made[-1]

    yield build
    for pad in made:
        pad.close()
        assert pad.wait(PATIENCE)


@pytest.fixture
def pad(make: Callable[..., PaintPad]) -> PaintPad:
    return make(size=5)


class Page:
    """The front end's part: it runs the commands that a canvas manager sends, as ipycanvas's script does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.canvases: dict[str, np.ndarray[Any, Any]] = {}
        self.batches: list[list[str]] = []
        self.sizes: list[tuple[int, int]] = []
        self.current: dict[int, str | None] = {}
        page = self

        def send(manager: Any, commands: Any, buffers: Any = ()) -> None:
            page.run(id(manager), json.loads(json.dumps(commands)), list(buffers))

        monkeypatch.setattr(type(_CANVAS_MANAGER), "_send_custom", send)

    def reload(self) -> None:
        """All pixels are gone, and no manager knows a canvas."""
        self.canvases.clear()
        self.current.clear()

    def run(self, manager: int, commands: Any, buffers: list[bytes]) -> None:
        names = {number: name for name, number in COMMANDS.items()}
        batch = commands if isinstance(commands[0], list) else [commands]
        self.batches.append([names[command[0]] for command in batch])
        for command in batch:
            name, arguments = names[command[0]], command[1]
            if name == "switchCanvas":
                self.current[manager] = arguments[0]
            elif name == "putImageData":
                self.put(self.current[manager], arguments, buffers.pop(0))

    def put(self, canvas: str | None, place: list[int], data: bytes) -> None:
        assert canvas is not None, "a page that was loaded again knows no canvas: nothing would be drawn"
        image = Image.open(io.BytesIO(data))
        assert (image.format, image.mode) == ("PNG", "RGBA"), "RGB would travel as JPEG"
        widget = open_widgets()[canvas.removeprefix("IPY_MODEL_")]
        shown = self.canvases.setdefault(canvas, np.zeros((widget.height, widget.width, 4), np.uint8))
        x, y = place
        self.sizes.append(image.size)
        shown[y : y + image.height, x : x + image.width] = np.asarray(image)

    def of(self, pad: PaintPad) -> np.ndarray[Any, Any]:
        return self.canvases[f"IPY_MODEL_{pad._canvas.model_id}"]


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Page:
    return Page(monkeypatch)


def mouse(pad: PaintPad, kind: str, x: float, y: float) -> None:
    browser_says(pad._canvas, event=f"mouse_{kind}", x=x, y=y)


def drag(pad: PaintPad, *points: tuple[float, float]) -> None:
    mouse(pad, "down", *points[0])
    for point in points[1:]:
        mouse(pad, "move", *point)
    mouse(pad, "up", *points[-1])


def ready(pad: PaintPad) -> None:
    browser_says(pad._canvas, event="client_ready")


# -- strokes and the canvas ------------------------------------------------------------------------------------


def test_a_drag_is_one_stroke_and_the_canvas_shows_the_picture(page, make):
    pad = make(size=5)
    drag(pad, (3.5, 4.0), (9.25, 4.0), (9.25, 12.5))
    assert pad.strokes == (Stroke([(3.5, 4.0), (9.25, 4.0), (9.25, 12.5)], size=5),)
    again = Painting(noise())
    again.repaint(pad.strokes)
    assert (pad.picture == again.picture).all()
    assert (pad.picture != noise()).any()
    assert (page.of(pad)[..., :3] == pad.picture).all()
    assert (page.of(pad)[..., 3] == 255).all()


def test_only_what_has_changed_is_sent(page, make):
    pad = make(size=2)
    page.sizes.clear()
    drag(pad, (10, 10), (12, 10))
    # The brush's radius, 1, and a pixel of room on each side: no more than 4 beyond the two points.
    assert len(page.sizes) == 2
    assert all(width <= 8 and height <= 6 for width, height in page.sizes)


def test_a_move_without_a_press_and_a_point_beside_the_picture_send_nothing(page, make):
    pad = make()
    sent = len(page.batches)
    mouse(pad, "move", 5, 5)
    drag(pad, (-200, -200), (-190, -200))
    assert len(page.batches) == sent
    assert (pad.picture == noise()).all()


def test_every_batch_begins_by_naming_its_canvas_so_that_it_survives_a_reload(page, make):
    pad = make(size=5)
    drag(pad, (3, 3), (9, 9))
    assert all(batch[0] == "switchCanvas" for batch in page.batches)
    page.reload()
    ready(pad)
    assert (page.of(pad)[..., :3] == pad.picture).all()
    page.reload()
    drag(pad, (12, 12), (13, 13))
    ready(pad)
    assert (page.of(pad)[..., :3] == pad.picture).all()


def test_a_reload_in_the_middle_of_a_stroke_loses_nothing(page, make):
    pad = make(size=5)
    mouse(pad, "down", 3, 3)
    mouse(pad, "move", 9, 9)
    page.reload()
    ready(pad)
    assert (page.of(pad)[..., :3] == pad.picture).all()
    assert len(pad.strokes) == 0 or pad.strokes[-1].points[-1] == (9, 9)
    mouse(pad, "down", 15, 15)  # the old stroke's end was never told
    mouse(pad, "up", 15, 15)
    assert [stroke.points for stroke in pad.strokes] == [((3, 3), (9, 9)), ((15, 15),)]


def test_an_error_inside_of_anothers_hold_canvas_does_not_hold_this_pad(page, make):
    pad = make(size=5)
    other = ipycanvas.Canvas(width=10, height=10)

    def fail() -> None:
        with hold_canvas():
            other.fill_rect(0, 0, 5, 5)
            raise ZeroDivisionError("it leaves buffering on for every canvas of ipycanvas's own manager")

    try:
        with pytest.raises(ZeroDivisionError, match="leaves buffering on"):
            fail()
        assert _CANVAS_MANAGER._caching
        drag(pad, (3, 3), (9, 9))
        assert (page.of(pad)[..., :3] == pad.picture).all()
    finally:
        _CANVAS_MANAGER._caching = False
        _CANVAS_MANAGER._commands_cache, _CANVAS_MANAGER._buffers_cache = [], []
        other.close()


def test_an_error_of_this_pad_holds_nobody_and_leaves_no_half_batch(page, make, monkeypatch, caplog):
    pad = make(size=5)
    other = ipycanvas.Canvas(width=10, height=10)
    failing = pad._canvas.put_image_data

    def fail(*arguments: Any) -> None:
        failing(*arguments)
        raise OSError("no more PNG")

    monkeypatch.setattr(pad._canvas, "put_image_data", fail)
    sent = len(page.batches)
    with caplog.at_level(logging.ERROR, "gradcam_widget"):
        mouse(pad, "down", 3, 3)
    assert "OSError: no more PNG" in caplog.text
    assert pad._view.notice == {"title": "OSError while painting", "message": "no more PNG"}
    assert len(page.batches) == sent
    assert not _CANVAS_MANAGER._caching
    other.fill_rect(0, 0, 5, 5)
    assert page.batches[-1] == ["fillRect"]
    monkeypatch.undo()
    other.close()


def test_what_others_draw_goes_where_it_went(page, make):
    other = ipycanvas.Canvas(width=10, height=10)
    with hold_canvas():
        other.put_image_data(np.full((2, 2, 4), 7, np.uint8), 0, 0)
        pad = make(size=5)
        drag(pad, (3, 3), (9, 9))
        other.put_image_data(np.full((2, 2, 4), 9, np.uint8), 4, 4)
    assert (page.of(pad)[..., :3] == pad.picture).all()
    shown = page.canvases[f"IPY_MODEL_{other.model_id}"]
    assert (shown[:2, :2] == 7).all()
    assert (shown[4:6, 4:6] == 9).all()
    other.close()


def test_threads_that_draw_at_once_mix_no_commands(page, make):
    pads = [make(noise(), size=3) for _ in range(2)]
    wrong = []

    def scribble(pad: PaintPad, seed: int) -> None:
        try:
            for point in np.random.default_rng(seed).uniform(0, 20, (25, 2)):
                pad.stroke(tuple(point))
        except Exception as error:
            wrong.append(error)

    workers = [threading.Thread(target=scribble, args=(pads[i % 2], i)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(PATIENCE)
    assert wrong == []
    for pad in pads:
        assert len(pad.strokes) == 50
        assert (page.of(pad)[..., :3] == pad.picture).all()


def test_a_touch_paints_like_the_mouse(pad):
    for event, touches in (("start", [(3, 3)]), ("move", [(9, 9)]), ("end", [])):
        browser_says(pad._canvas, event=f"touch_{event}", touches=[{"x": x, "y": y} for x, y in touches])
    assert [stroke.points for stroke in pad.strokes] == [((3, 3), (9, 9))]


def test_leaving_the_canvas_ends_a_stroke(pad):
    mouse(pad, "down", 3, 3)
    mouse(pad, "out", 0, 3)
    mouse(pad, "move", 9, 9)
    assert [stroke.points for stroke in pad.strokes] == [((3, 3),)]


@pytest.mark.parametrize(
    ("size", "pixels"),
    [((20, 30), ("420px", "280px")), ((28, 28), ("448px", "448px")), ((600, 900), ("448px", "299px"))],
)
def test_the_canvas_has_the_pictures_pixels_and_a_size_in_px(make, size, pixels):
    pad = make(np.zeros(size, np.uint8))
    assert (pad._canvas.height, pad._canvas.width) == size
    assert (pad._canvas.layout.width, pad._canvas.layout.height) == pixels


# -- scores ----------------------------------------------------------------------------------------------------


def test_scores_before_and_after_by_hand(make):
    # Half of a black picture painted red: the mean of the red channel goes from 0 to 0.5.
    pad = make(np.zeros((4, 4, 3), np.uint8), scores=red_share)
    assert pad.wait(PATIENCE)
    assert (pad.before, pad.after) == ({"red": 0, "other": 1}, {"red": 0, "other": 1})
    pad.rectangle(0, 0, 2, 4, fill="colour", colour=(255, 0, 0))
    assert pad.wait(PATIENCE)
    assert (pad.before, pad.after) == ({"red": 0, "other": 1}, {"red": 0.5, "other": 0.5})
    assert pad._view.scores["rows"] == [
        {"label": "other", "before": 1.0, "after": 0.5},
        {"label": "red", "before": 0.0, "after": 0.5},
    ]


def test_rows_keep_their_places_and_newcomers_get_the_last_third():
    before = {"a": 0.5, "b": 0.3, "c": 0.1, "d": 0.06, "e": 0.04, "f": 0.0, "g": 0.0}
    after = {"a": 0.0, "b": 0.3, "c": 0.0, "d": 0.1, "e": 0.0, "f": 0.4, "g": 0.2}
    rows = changes(before, after, 6)
    assert [row["label"] for row in rows] == ["a", "b", "c", "d", "f", "g"]
    assert rows[4] == {"label": "f", "before": 0.0, "after": 0.4}
    assert [row["label"] for row in changes({"a": 1.0}, {"a": 1.0})] == ["a"]
    assert changes({}, {}) == []


def test_strokes_appear_while_scores_are_computed_and_the_last_picture_wins(page, make):
    seen: list[int] = []
    begun, go_on = threading.Event(), threading.Event()

    def slow(picture: np.ndarray[Any, Any]) -> dict[str, float]:
        seen.append(int((picture == 128).all(-1).sum()))
        begun.set()
        assert go_on.wait(PATIENCE)
        return red_share(picture)

    pad = make(np.zeros((20, 30, 3), np.uint8), scores=slow, size=1)
    assert begun.wait(PATIENCE)
    mouse(pad, "down", 0.5, 0.5)
    for x in range(1, 30):
        mouse(pad, "move", x + 0.5, 0.5)
        # Drawn at once, although the scores of an older picture are still being computed.
        assert (page.of(pad)[0, : x + 1, :3] == 128).all()
    mouse(pad, "up", 29.5, 0.5)
    assert len(seen) == 1
    go_on.set()
    assert pad.wait(PATIENCE)
    # The original; for the first run perhaps the first pixels; then the whole line, last.
    assert len(seen) <= 3
    assert seen[-1] == 30
    assert pad.after == red_share(pad.picture)


def test_a_failing_model_is_said_in_words_and_the_next_stroke_works(make, caplog):
    broken = [True]

    def scores(picture: np.ndarray[Any, Any]) -> dict[str, float]:
        if broken[0]:
            raise RuntimeError("the model is not there")
        return red_share(picture)

    with caplog.at_level(logging.ERROR, "gradcam_widget"):
        pad = make(scores=scores)
        assert pad.wait(PATIENCE)
    assert pad._view.notice == {"title": "RuntimeError while painting", "message": "the model is not there"}
    assert "RuntimeError: the model is not there" in caplog.text
    broken[0] = False
    pad.stroke((3, 3))
    assert pad.wait(PATIENCE)
    assert pad._view.notice == {}
    assert pad.after == red_share(pad.picture)


def test_listeners_get_the_painting_and_its_picture(make):
    pad, heard = make(), []
    assert pad.wait(PATIENCE)
    pad.on_change(lambda painting, picture: heard.append((painting, picture)))
    pad.stroke((3, 3))
    assert pad.wait(PATIENCE)
    assert heard[-1][0] is pad.painting
    assert (heard[-1][1] == pad.picture).all()


# -- controls and traits ---------------------------------------------------------------------------------------


def test_the_controls_set_the_traits_and_follow_them(pad):
    settings = pad._controls.settings
    browser_sets(settings["tool"], index=1)
    choose(settings["fill"], "mean colour")
    browser_sets(settings["size"], value=7)
    assert (pad.tool, pad.fill, pad.size) == ("rectangle", "mean", 7)
    browser_sets(settings["colour"], value="#00ff80")
    assert (pad.colour, pad.fill) == ("#00ff80", "colour")  # who takes a colour wants to paint with it
    pad.tool, pad.fill, pad.size, pad.colour = "brush", "blur", 200, "#112233"
    assert [settings[name].value for name in ("tool", "fill", "size", "colour")] == [
        "brush",
        "blur",
        200,
        "#112233",
    ]
    assert pad.fill == "blur"


def test_a_stroke_is_painted_as_the_controls_say(pad):
    pad.fill, pad.colour, pad.size, pad.soft = "colour", "#0a141e", 7, True
    drag(pad, (3, 3))
    assert pad.strokes == (Stroke([(3, 3)], fill="colour", colour=(10, 20, 30), size=7, soft=True),)


def test_a_dragged_rectangle_stands_in_the_fields(pad):
    pad.tool = "rectangle"
    drag(pad, (4.2, 3.7), (20, 5), (11.5, 9.1))
    assert pad._controls.rectangle == (4, 3, 8, 7)
    assert pad.strokes[0].tool == "rectangle"


def test_a_rectangle_in_numbers_needs_no_mouse(pad):
    for field, value in zip(pad._controls._fields, (2, 3, 10, 5), strict=True):
        browser_sets(field, value=value)
    click(pad._controls.apply)
    assert pad.strokes == (Stroke.rectangle(2, 3, 10, 5, size=5),)
    assert (pad.picture[3:8, 2:12] == 128).all()
    assert [field.max for field in pad._controls._fields] == [29, 19, 30, 20]


def test_undo_and_reset_by_their_buttons_and_by_the_canvass_key(page, make):
    pad = make(size=5)
    drag(pad, (3, 3))
    drag(pad, (12, 12))
    browser_says(pad._view, type="undo")
    assert [stroke.points for stroke in pad.strokes] == [((3, 3),)]
    click(pad._controls.reset)
    assert pad.strokes == ()
    click(pad._controls.undo)
    assert len(pad.strokes) == 1
    click(pad._controls.undo)
    click(pad._controls.undo)  # nothing is left to take back
    assert pad.strokes == ()
    assert (page.of(pad)[..., :3] == noise()).all()
    assert pad._view.notice == {}


def test_before_and_after(page, make):
    pad = make(size=5)
    drag(pad, (3, 3))
    painted = pad.picture
    browser_sets(pad._controls.settings["showing"], index=0)
    assert pad.showing == "before"
    assert (page.of(pad)[..., :3] == noise()).all()
    assert (pad.picture == painted).all()
    drag(pad, (12, 12))
    assert pad.showing == "after"
    assert pad._controls.settings["showing"].value == "after"
    assert (page.of(pad)[..., :3] == pad.picture).all()


def test_strokes_can_be_read_observed_and_painted_again(page, make):
    first, second = make(size=5), make(size=5)
    told: list[int] = []
    first.observe(lambda change: told.append(len(change["new"])), "strokes")
    drag(first, (3, 3), (9, 9))
    drag(first, (12, 12))
    assert told == [1, 2]
    second.strokes = list(first.strokes)
    assert (second.picture == first.picture).all()
    assert (page.of(second)[..., :3] == first.picture).all()
    second.undo()
    assert second.strokes == ()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("colour", "red", r"colour: expected '#rrggbb', such as '#ff0000' for red; got 'red'"),
        ("size", 0, r"size: expected the diameter of the brush, a whole number of pixels from 1; got 0"),
        ("size", 2.5, r"size: expected .*; got 2.5"),
        ("strokes", ["line"], r"strokes: expected a list of gradcam_widget.painting.Stroke"),
        ("tool", "pencil", r"tool"),
        ("fill", "black", r"fill"),
    ],
)
def test_wrong_settings_are_refused_and_change_nothing(pad, name, value, message):
    before = getattr(pad, name)
    with pytest.raises(traitlets.TraitError, match=message):
        setattr(pad, name, value)
    assert getattr(pad, name) == before


def test_another_picture_brings_its_own_strokes(page, make):
    pad = make(size=5, name="first")
    drag(pad, (3, 3))
    first, other = pad.painting, Painting(noise(12, 16))
    pad.load(other, "second")
    assert (pad.strokes, pad._canvas.width, pad._canvas.height) == ((), 16, 12)
    assert pad._view.canvas == {"label": "Paint pad: second, 16 × 12 pixels, 0 strokes"}
    pad.load(first, "first")
    assert len(pad.strokes) == 1
    assert pad._view.canvas == {"label": "Paint pad: first, 30 × 20 pixels, 1 stroke"}
    page.reload()
    ready(pad)
    assert (page.of(pad)[..., :3] == pad.picture).all()


def test_a_blank_pad_draws_soft_white_on_black():
    pad = PaintPad.blank((28, 28), scores=red_share)
    assert (pad.picture == 0).all()
    pad.stroke((14, 5), (14, 20))
    assert pad.wait(PATIENCE)
    picture = pad.picture
    assert picture.max() == 255
    assert ((picture > 0) & (picture < 255)).any(), "the edge of the line is soft"
    assert (picture[..., 0] == picture[..., 2]).all()
    assert pad.after["red"] == pytest.approx(picture[..., 0].mean() / 255)
    pad.colour = "#ff0000"  # a grey pad paints the grey of a colour: 0.299 * 255 = 76
    pad.rectangle(0, 0, 2, 2)
    assert pad.picture[0, 0].tolist() == [76, 76, 76]
    pad.close()


# -- the occlusion map -----------------------------------------------------------------------------------------


class Slider:
    """Pretends to need three passes."""

    def __init__(self) -> None:
        self.told: list[bool] = []
        self.begun, self.go_on = threading.Event(), threading.Event()

    def passes(self) -> int:
        return 3

    def run(self, progress: Callable[[int, int], bool]) -> Occluded | None:
        for done in range(1, 4):
            self.told.append(progress(done, 3))
            if not self.told[-1]:
                return None
            self.begun.set()
            assert self.go_on.wait(PATIENCE)
        return Occluded(np.full((2, 3, 3), 9, np.uint8), ("a sentence",))


def settled(pad: PaintPad) -> None:
    for thread in threading.enumerate():
        if thread.name == "gradcam_widget occlusion":
            thread.join(PATIENCE)


def test_an_occlusion_map_is_offered_counted_and_shown(make):
    slider = Slider()
    pad = make(scores=red_share, occluder=slider)
    assert pad._view.task == {"total": 3, "done": None}
    browser_says(pad._view, type="occlude")
    assert slider.begun.wait(PATIENCE)
    assert pad._view.task == {"total": 3, "done": 1}
    browser_says(pad._view, type="occlude")  # one at a time
    slider.go_on.set()
    settled(pad)
    assert slider.told == [True, True, True]
    assert pad._view.task == {"total": 3, "done": None}
    shown = pad._view.occlusion
    assert (shown["width"], shown["height"], shown["sentences"]) == (3, 2, ["a sentence"])
    assert (np.asarray(Image.open(io.BytesIO(shown["data"]))) == 9).all()


def test_an_occlusion_map_can_be_cancelled(make):
    slider = Slider()
    pad = make(occluder=slider)
    browser_says(pad._view, type="occlude")
    assert slider.begun.wait(PATIENCE)
    browser_says(pad._view, type="cancel")
    assert pad._view.task == {"total": 3, "done": None}  # at once, before the batch has ended
    slider.go_on.set()
    settled(pad)
    assert slider.told == [True, False]
    assert pad._view.occlusion == {}


def test_an_occlusion_map_from_python(make):
    slider = Slider()
    slider.go_on.set()
    pad = make(occluder=slider)
    assert pad.occlusion().sentences == ("a sentence",)
    assert pad._view.occlusion["width"] == 3
    assert make().occlusion() is None


# -- the end ---------------------------------------------------------------------------------------------------


def test_closed_it_leaves_no_widget_and_no_thread():
    before = set(open_widgets())
    pad = PaintPad(noise(), scores=red_share)
    drag(pad, (3, 3))
    opened = set(open_widgets()) - before
    assert len(opened) > 20
    pad.close()
    pad.close()
    assert pad.wait(PATIENCE)
    assert set(open_widgets()) - before == set()
    with pytest.raises(RuntimeError, match="This PaintPad is closed; make a new one"):
        pad.stroke((1, 1))
    drag(pad, (5, 5))  # a late event of the page breaks nothing


def test_closed_by_its_container_it_is_closed_too():
    before = set(open_widgets())
    pad = PaintPad(noise())
    box = ipywidgets.VBox([pad])
    for part in pad._controls.rows:
        part.close()
    pad.close()
    box.layout.close()
    box.close()
    assert pad.wait(PATIENCE)
    assert set(open_widgets()) - before == set()
