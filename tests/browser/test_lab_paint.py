"""The paint pad in JupyterLab and Voila: a stroke of the mouse, its scores, undo, a reload, keys and wheel.

The scores that the page must show are worked out here with the bare model, from the pixels that the canvas holds.
"""

from __future__ import annotations

import re
import time

import numpy as np
import pytest
import torch
from pages import PATIENCE, RESTART, STARTING, Explorer, pixels, write_notebook
from playwright.sync_api import expect

SHOW = """from gradcam_widget import GradCAMWidget
from gradcam_widget.models import demo_model, sample_images

w = GradCAMWidget(demo_model(), sample_images(), panels=["heatmap", "predictions", "paint"])
w"""
OTHER = """import ipycanvas
other = ipycanvas.Canvas(width=40, height=40)
other.add_class("other-canvas")
def draw():
    other._canvas_manager._current_canvas = None  # a page that was loaded again knows no canvas
    other.fill_rect(0, 0, 40, 40)
other.on_client_ready(draw)
other"""
GREY = [128, 128, 128, 255]


class Pad:
    """The pad on a page, as a user finds it."""

    def __init__(self, page):
        self.page = page
        self.root = page.locator(".gradcam-pad")
        self.canvas = page.locator("canvas.gradcam-paint")
        self.table = self.root.get_by_role("table", name="Scores before and after painting")

    def wait(self):
        expect(self.table.locator("tbody tr")).to_have_count(6, timeout=PATIENCE)
        self.page.wait_for_function(
            "() => document.querySelector('canvas.gradcam-paint')?.getAttribute('aria-label')", timeout=PATIENCE
        )
        return self

    def named(self, strokes):
        words = f"{strokes} stroke{'' if strokes == 1 else 's'}"
        expect(self.canvas).to_have_attribute(
            "aria-label", re.compile(f"^Paint pad: .*, {words}$"), timeout=PATIENCE
        )

    def drag(self, *points):
        """Press, move and release at places given as shares of the canvas."""
        self.canvas.scroll_into_view_if_needed()
        box = self.canvas.bounding_box()
        places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
        self.page.mouse.move(*places[0])
        self.page.mouse.down()
        for place in places[1:]:
            self.page.mouse.move(*place, steps=12)
        self.page.mouse.up()

    def scores(self):
        """{class: (before, after)} as the table holds them."""
        rows = self.table.locator("tbody tr").evaluate_all(
            "rows => rows.map((r) => [r.querySelector('th').textContent, r.dataset.before, r.dataset.after])"
        )
        return {label: (float(before), float(after)) for label, before, after in rows}

    def wait_pixels(self, wanted, what):
        for _ in range(200):
            shown = pixels(self.canvas)
            if wanted(shown):
                return shown
            self.page.wait_for_timeout(50)
        raise AssertionError(f"the canvas never showed {what}")


def expected(demo, tensor, shown):
    """Probabilities of the model for a picture whose grey pixels were painted."""
    painted = torch.from_numpy((shown == GREY).all(-1))
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (demo.transform.mean, demo.transform.std))
    grey = (torch.full((3, 1, 1), 128 / 255) - mean) / std
    with torch.no_grad():
        scores = demo(torch.where(painted, grey, tensor)[None])[0]
    values = scores.softmax(0).tolist()
    return dict(zip(demo.class_names, values, strict=True))


@pytest.fixture
def tensor(demo, pictures):
    return demo.transform(pictures["chelsea"])


@pytest.fixture
def open_pad(lab, lab_page, page, console):
    def start(name):
        # A name of its own, and so a kernel of its own, for each test.
        write_notebook(lab.root / name, SHOW, OTHER, *["pass"] * 12)
        notebook = lab_page(name).run_all()
        assert notebook.errors() == []
        return notebook, Pad(page).wait()

    yield start
    assert console.errors() == []


def other_is_drawn(page):
    shown = pixels(page.locator("canvas.other-canvas"))
    return bool((shown == [0, 0, 0, 255]).all())


def test_a_stroke_of_the_mouse_its_scores_undo_and_a_reload(open_pad, page, demo, tensor):
    notebook, pad = open_pad("paint-stroke.ipynb")
    original = demo.transform.denormalise(tensor)
    assert (pixels(pad.canvas)[..., :3] == original).all()

    pad.drag((0.3, 0.3), (0.7, 0.5))
    pad.named(1)
    shown = pixels(pad.canvas)
    painted = (shown == GREY).all(-1)
    # The brush is a ninth of the side wide: at the points and half way, but nowhere far from the line.
    for x, y in ((0.3, 0.3), (0.5, 0.4), (0.7, 0.5)):
        assert painted[round(224 * y), round(224 * x)]
    assert 0.03 < painted.mean() < 0.1
    assert (shown[~painted][:, :3] == original[~painted]).all()

    Explorer(page).wait(winner(demo, tensor, shown), "_swish:2", picture="chelsea, edited")
    values = expected(demo, tensor, shown)
    before = expected(demo, tensor, np.zeros_like(shown))
    for _ in range(100):
        if all(abs(after - values[label]) < 2e-3 for label, (_, after) in pad.scores().items()):
            break
        page.wait_for_timeout(50)
    for label, (was, now) in pad.scores().items():
        assert was == pytest.approx(before[label], abs=2e-4)
        assert now == pytest.approx(values[label], abs=2e-3)
    assert max(abs(now - was) for was, now in pad.scores().values()) > 0.01

    # A page that is loaded again shows what was painted, and goes on.
    assert other_is_drawn(page)
    notebook.command("docmanager:save")
    notebook.wait_idle()
    page.wait_for_timeout(1000)
    page.reload()
    page.wait_for_selector("canvas.gradcam-paint", timeout=STARTING)
    notebook.wait_idle()
    pad.wait()
    again = pad.wait_pixels(lambda now: (now == shown).all(), "the stroke after the reload")
    assert (again == shown).all()
    pad.named(1)
    pad.drag((0.1, 0.9), (0.3, 0.9))
    pad.named(2)
    pad.wait_pixels(lambda now: (now[round(224 * 0.9), round(224 * 0.2)] == GREY).all(), "a second stroke")
    page.wait_for_function(
        "() => { const c = document.querySelector('canvas.other-canvas');"
        " return c && c.getContext('2d').getImageData(5, 5, 1, 1).data[3] === 255; }",
        timeout=PATIENCE,
    )
    assert other_is_drawn(page)

    undo = pad.root.get_by_role("button", name="Undo", exact=True)
    undo.click()
    pad.named(1)
    undo.click()
    pad.named(0)
    assert (pixels(pad.canvas)[..., :3] == original).all()
    for _ in range(100):
        if all(was == now for was, now in pad.scores().values()):
            break
        page.wait_for_timeout(50)
    assert all(was == now for was, now in pad.scores().values())


def winner(demo, tensor, shown):
    values = expected(demo, tensor, shown)
    return max(values, key=lambda label: values[label])


def test_without_a_kernel_the_buttons_of_the_pad_keep_their_words(open_pad, page):
    _, pad = open_pad("paint-gone.ipynb")
    page.evaluate(RESTART)
    words = pad.root.locator(".gradcam-words")
    for name in ("Fill rectangle", "Undo", "Reset"):
        expect(pad.root.get_by_role("button", name=name)).to_have_class(
            re.compile("disconnected"), timeout=PATIENCE
        )
    signs = words.evaluate_all("all => all.map((one) => getComputedStyle(one, '::before').content)")
    assert signs == ["none"] * 3  # ipywidgets' broken chain pushes the words out of the button


def test_keys_and_wheel_belong_to_the_page_and_hovering_costs_nothing(open_pad, page, messages):
    notebook, pad = open_pad("paint-keys.ipynb")
    pad.canvas.scroll_into_view_if_needed()
    # Hovering over the canvas tells the kernel nothing.
    box = pad.canvas.bounding_box()
    page.mouse.move(box["x"] + 20, box["y"] + 20)
    messages.clear()
    for step in range(20):
        page.mouse.move(box["x"] + 20 + 10 * step, box["y"] + 40)
    page.wait_for_timeout(300)
    assert messages.sent == []

    # The wheel over the canvas scrolls the notebook.
    before = pad.canvas.bounding_box()["y"]
    page.mouse.wheel(0, 120)
    page.wait_for_timeout(500)
    assert pad.canvas.bounding_box()["y"] < before - 60

    # No key that is pressed while the canvas has the focus reaches the notebook, and Tab goes on.
    pad.drag((0.5, 0.5), (0.6, 0.5))
    pad.named(1)
    assert page.evaluate("document.activeElement.matches('canvas.gradcam-paint')")
    cells = notebook.cells()
    for key in ("b", "d", "d", "ArrowDown", "x"):
        page.keyboard.press(key)
    page.wait_for_timeout(300)
    assert notebook.cells() == cells
    page.keyboard.press("Control+z")
    pad.named(0)
    assert notebook.cells() == cells
    page.keyboard.press("Tab")
    assert not page.evaluate("document.activeElement.matches('canvas.gradcam-paint')")
    assert page.evaluate("Boolean(document.activeElement.closest('.gradcam-pad'))")
    assert pad.canvas.get_attribute("tabindex") == "-1"
    assert pad.canvas.get_attribute("role") == "img"

    # All of it without a mouse: a rectangle in numbers.
    for name, value in (("x", "10"), ("y", "20"), ("width", "50"), ("height", "40")):
        field = pad.root.get_by_label(name, exact=True)
        field.fill(value)
        field.press("Enter")
    button = pad.root.get_by_role("button", name="Fill rectangle", exact=True)
    button.focus()
    page.keyboard.press("Enter")
    pad.named(1)
    painted = (pixels(pad.canvas) == GREY).all(-1)
    assert painted[20:60, 10:60].all()
    assert painted.sum() == 40 * 50
    assert notebook.cells() == cells


SLOW = """import time, torch
from gradcam_widget import GradCAMWidget
from gradcam_widget.inputs import Preprocess

class Slow(torch.nn.Module):
    class_names = ("red", "green", "blue")
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 3, 1, bias=False)
        with torch.no_grad():
            self.conv.weight.copy_(torch.eye(3).view(3, 3, 1, 1))
    def forward(self, x):
        time.sleep(0.4)
        return self.conv(x).mean((2, 3)) * 9

w = GradCAMWidget(Slow().eval(), {"black": torch.zeros(3, 64, 64)}, panels=["heatmap", "paint"],
                  transform=Preprocess(64, 64, mean=(0, 0, 0), std=(1, 1, 1)), target="red")
pad = w.paint()
pad.fill, pad.colour, pad.size = "colour", "#ff0000", 3
w"""


def test_with_a_slow_model_strokes_appear_at_once_and_the_last_picture_wins(
    lab, lab_page, page, messages, console
):
    write_notebook(lab.root / "paint-slow.ipynb", SLOW, *["pass"] * 8)
    notebook = lab_page("paint-slow.ipynb").run_all()
    assert notebook.errors() == []
    pad = Pad(page)
    expect(pad.table.locator("tbody tr")).to_have_count(3, timeout=PATIENCE)
    pad.canvas.scroll_into_view_if_needed()
    messages.clear()
    box = pad.canvas.bounding_box()
    page.mouse.move(box["x"] + 20, box["y"] + 100)
    begun = time.monotonic()
    page.mouse.down()
    for step in range(1, 41):
        page.mouse.move(box["x"] + 20 + 10 * step, box["y"] + 100)
        page.wait_for_timeout(20)
    page.mouse.up()
    drawn = time.monotonic() - begun
    pad.named(1)
    red = (pixels(pad.canvas) == [255, 0, 0, 255]).all(-1)
    row = round(100 / box["height"] * 64)
    # Red makes the map, which was empty, tell something: a sentence goes, and what stands below it would jump.
    assert red[row, 4 : int((20 + 400) / box["width"] * 64) - 1].all(), "the line has gaps, or a step"
    assert pad.canvas.bounding_box()["y"] == pytest.approx(box["y"], abs=1)
    share = red.mean()
    # logits (9 share, 0, 0)
    wanted = np.exp(9 * share) / (np.exp(9 * share) + 2)
    for _ in range(200):
        if abs(pad.scores()["red"][1] - wanted) < 1e-4:
            break
        page.wait_for_timeout(50)
    assert pad.scores()["red"][1] == pytest.approx(wanted, abs=1e-4)
    page.wait_for_timeout(500)
    computed = [message for message in messages.carrying("scene") if message.data["state"]["scene"]]
    fit_in = drawn / 0.4  # of a model that takes 0.4 s
    assert 1 <= len(computed) <= fit_in + 3, "one after the other while it is drawn, then the last"

    # An occlusion map counts its passes, and Cancel works at once.
    group = pad.root.get_by_role("group", name="Occlusion map")
    group.get_by_role("button", name="Occlusion map").click()
    group.get_by_role("button", name="Cancel").click()
    expect(group.get_by_role("button", name="Occlusion map")).to_be_visible(timeout=PATIENCE)
    expect(group).to_contain_text(re.compile(r"^Occlusion map\d+ passes$"))
    pad.root.get_by_role("button", name="Reset", exact=True).click()
    pad.named(0)
    assert (pixels(pad.canvas) == [0, 0, 0, 255]).all()
    assert console.errors() == []


def test_in_voila_a_stroke_changes_canvas_scores_and_heatmap(serve, page, console, demo, tensor):
    server = serve("voila")
    write_notebook(server.root / "paint.ipynb", SHOW, OTHER)
    page.goto(f"{server.url}/voila/render/paint.ipynb", timeout=STARTING)
    page.wait_for_selector(".gcw[data-revision]", timeout=STARTING)
    pad = Pad(page).wait()
    original = demo.transform.denormalise(tensor)
    pad.wait_pixels(lambda now: (now[..., :3] == original).all(), "the picture")
    assert other_is_drawn(page)
    before = pad.scores()
    pad.drag((0.3, 0.3), (0.7, 0.5))
    pad.named(1)
    painted = (pixels(pad.canvas) == GREY).all(-1)
    assert painted[round(224 * 0.4), round(224 * 0.5)]
    page.wait_for_function(
        "() => [...document.querySelectorAll('.gcw-pad-scores tbody tr')].some("
        "(row) => Math.abs(row.dataset.after - row.dataset.before) > 0.01)",
        timeout=PATIENCE,
    )
    assert {label: was for label, (was, _) in before.items()}.items() >= {
        label: was for label, (was, _) in list(pad.scores().items())[:4]
    }.items()
    Explorer(page).wait(winner(demo, tensor, pixels(pad.canvas)), "_swish:2", picture="chelsea, edited")
    assert console.errors() == []
