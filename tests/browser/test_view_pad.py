"""The paint pad's view on a page of its own: whose keys and wheel are whose, the table, the occlusion map."""

from __future__ import annotations

import json

import numpy as np
import pytest
from playwright.sync_api import expect
from view_page import PAGE, png, wire

from gradcam_widget.widget import view

CANVAS = """<canvas class="gradcam-paint" width="28" height="28" style="width: 280px; height: 280px"
 tabindex="0"></canvas><button id="next">next</button>"""

# What ipycanvas's own script does to its canvas, as far as it concerns the page around it.
IPYCANVAS = """
const canvas = document.querySelector("canvas.gradcam-paint");
window.heard = [];
for (const name of ["mousedown", "mousemove", "mouseup", "mouseout"]) {
  canvas.addEventListener(name, () => { window.heard.push(name); if (name === "mousedown") canvas.focus(); });
}
for (const name of ["touchstart", "touchmove", "touchend"]) {
  const touch = (event) => {
    window.heard.push(`${name} ${event.touches.length}`);
    event.preventDefault();
    event.stopImmediatePropagation();
  };
  canvas.addEventListener(name, touch, { passive: false });
}
const turn = (event) => { window.heard.push("wheel"); event.preventDefault(); };
canvas.addEventListener("wheel", turn, { passive: false });
canvas.addEventListener("keydown", (event) => {
  window.heard.push(`key ${event.key}`); event.preventDefault(); event.stopPropagation();
});
window.leaked = [];
document.body.addEventListener("keydown", (event) => window.leaked.push(event.key));
"""


def row(label, before, after):
    return {"label": label, "before": before, "after": after}


def state(**changes):
    return {
        "canvas": {"label": "Paint pad: chelsea, 28 × 28 pixels, 0 strokes"},
        "scores": {},
        "task": {},
        "occlusion": {},
        "notice": {},
    } | changes


@pytest.fixture
def pad_open(browser):
    pages, errors = [], []

    def open_page(sent=None, *, width=1100, scheme="light", touch=False, around="gradcam-widget gradcam-pad"):
        page = browser.new_page(viewport={"width": width, "height": 700}, color_scheme=scheme, has_touch=touch)
        pages.append(page)
        page.on("pageerror", lambda error: errors.append(str(error)))
        html = PAGE.replace('class="gradcam-widget"', f'class="{around}"') % {
            "css": view.style(view.PAD_STYLES),
            "source": json.dumps(view.script(view.PAD_SCRIPTS)).replace("</", "<\\/"),
            "state": json.dumps(wire(sent or state())).replace("</", "<\\/"),
            "controls": CANVAS,
            "style": "body { min-height: 3000px }",
            "body": "",
        }
        page.goto("about:blank")
        page.set_content(html)
        page.wait_for_function("'cleanup' in window")
        page.evaluate(IPYCANVAS)
        page.wait_for_selector("canvas.gradcam-paint[role=img]")
        return page

    yield open_page
    for page in pages:
        page.close()
    assert errors == []


def sent(page):
    return page.evaluate("model.sent")


def receive(page, **changes):
    page.evaluate("state => model.receive(state)", wire(changes))


def middle(page):
    box = page.locator("canvas.gradcam-paint").bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


# -- whose events ----------


def test_the_canvas_hears_what_paints_and_nothing_else(pad_open):
    page = pad_open()
    x, y = middle(page)
    page.mouse.move(x, y)
    page.mouse.move(x + 20, y)
    assert page.evaluate("heard") == []
    page.mouse.down(button="right")
    page.mouse.up(button="right")
    assert "mousedown" not in page.evaluate("heard")
    page.evaluate("heard.length = 0")
    page.mouse.down()
    page.mouse.move(x + 30, y)
    # A stroke goes on beside the canvas, and its end is heard there.
    page.mouse.move(x + 400, y)
    page.mouse.up()
    heard = page.evaluate("heard")
    assert heard[0] == "mousedown"
    assert heard.count("mousemove") >= 2
    assert "mouseup" in heard


def test_the_wheel_scrolls_the_page(pad_open):
    page = pad_open()
    page.mouse.move(*middle(page))
    page.mouse.wheel(0, 150)
    page.wait_for_function("scrollY > 100")
    assert "wheel" not in page.evaluate("heard")


def test_no_key_is_swallowed_and_none_leaks(pad_open):
    page = pad_open()
    page.mouse.click(*middle(page))
    assert page.evaluate("document.activeElement === document.querySelector('canvas.gradcam-paint')")
    for key in ("b", "ArrowDown", "Control+z", "Control+Shift+z"):
        page.keyboard.press(key)
    assert [word for word in page.evaluate("heard") if word.startswith("key")] == []
    assert page.evaluate("leaked") == []
    assert [message for message in sent(page) if message["type"] == "undo"] == [{"type": "undo"}]
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "next"
    page.keyboard.press("Shift+Tab")
    assert page.evaluate("document.activeElement !== document.querySelector('canvas.gradcam-paint')")


def test_one_finger_paints_and_two_fingers_are_the_pages(pad_open):
    page = pad_open(touch=True)
    x, y = middle(page)
    fingers = page.context.new_cdp_session(page)

    def touch(kind, *places):
        points = [{"x": px, "y": py, "id": number} for number, (px, py) in enumerate(places)]
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", (x, y))
    touch("touchMove", (x + 30, y))
    touch("touchEnd")
    heard = page.evaluate("heard")
    assert heard[0] == "touchstart 1"
    assert "touchmove 1" in heard
    assert heard[-1] == "touchend 0"
    page.evaluate("heard.length = 0")
    touch("touchStart", (x, y), (x + 40, y))
    assert "touchstart 2" not in page.evaluate("heard")
    touch("touchEnd")


def test_a_press_does_not_make_the_page_jump(pad_open):
    page = pad_open()
    page.evaluate("scrollTo(0, 180)")  # most of the canvas is above the window
    before = page.evaluate("scrollY")
    box = page.locator("canvas.gradcam-paint").bounding_box()
    page.mouse.click(box["x"] + 100, box["y"] + box["height"] - 20)
    page.wait_for_timeout(100)
    assert page.evaluate("scrollY") == before


def test_the_canvas_is_a_picture_with_a_name(pad_open):
    page = pad_open()
    canvas = page.get_by_role("img", name="Paint pad: chelsea, 28 × 28 pixels, 0 strokes")
    expect(canvas).to_have_attribute("tabindex", "-1")
    receive(page, canvas={"label": "Paint pad: chelsea, 28 × 28 pixels, 1 stroke"})
    expect(page.get_by_role("img", name="1 stroke")).to_be_visible()
    expect(page.locator("canvas.gradcam-paint")).to_have_attribute("data-lm-suppress-shortcuts", "true")


def test_after_the_view_has_gone_it_holds_nothing(pad_open):
    page = pad_open()
    page.evaluate("cleanup()")
    page.mouse.move(*middle(page))
    page.mouse.wheel(0, 50)
    page.wait_for_timeout(100)
    assert {"mousemove", "wheel"} <= set(page.evaluate("heard"))
    assert page.evaluate("model.listeners.length") == 0
    assert page.locator(".gcw").count() == 0


# -- the table ----------


def test_the_table_tells_before_after_and_the_change(pad_open):
    rows = [row("Egyptian cat", 0.383, 0.112), row("<b>tabby</b>", 0.1, 0.35), row("lynx", 0.0001, 0.0002)]
    page = pad_open(state(scores={"rows": rows, "explained": "<b>tabby</b>"}))
    table = page.get_by_role("table", name="Scores before and after painting")
    assert [row.split() for row in table.locator("tbody tr").all_inner_texts()] == [
        ["Egyptian", "cat", "0.383", "0.112", "−0.271"],
        ["<b>tabby</b>", "0.100", "0.350", "+0.250"],
        ["lynx", "<0.001", "<0.001", "0"],
    ]
    assert page.locator(".gcw-explained .gcw-label").inner_text() == "<b>tabby</b>"
    line = page.locator(".gcw-pad-line").first.bounding_box()
    now, was = page.locator(".gcw-pad-now").first.bounding_box(), page.locator(".gcw-pad-was").first.bounding_box()
    assert now["width"] == pytest.approx(0.112 * line["width"], abs=1)
    assert was["x"] + was["width"] / 2 - line["x"] == pytest.approx(0.383 * line["width"], abs=1.5)
    receive(page, scores={"rows": rows[:1], "explained": "Egyptian cat"})
    assert table.locator("tbody tr").count() == 1
    # Said once, when the hand rests.
    expect(page.locator(".gcw-live")).to_have_text("Egyptian cat: 0.112, before 0.383")


def test_before_there_are_scores_it_says_so(pad_open):
    page = pad_open()
    expect(page.get_by_text("scores are being computed")).to_be_visible()
    expect(page.locator(".gcw-pad-scores")).to_be_hidden()
    expect(page.get_by_role("group", name="Occlusion map")).to_be_hidden()


def test_an_error_is_said(pad_open):
    page = pad_open()
    receive(page, notice={"title": "RuntimeError while painting", "message": "<i>no model</i>"})
    expect(page.get_by_role("alert")).to_have_text("RuntimeError while painting<i>no model</i>")
    receive(page, notice={})
    expect(page.get_by_role("alert")).to_have_text("")


# -- the occlusion map ----------


def test_an_occlusion_map_is_asked_for_counted_stopped_and_shown(pad_open):
    page = pad_open(state(task={"total": 169, "done": None}))
    group = page.get_by_role("group", name="Occlusion map")
    expect(group).to_contain_text("169 passes")
    group.get_by_role("button", name="Occlusion map").click()
    receive(page, task={"total": 169, "done": 40})
    expect(group).to_contain_text("40 of 169 passes")
    assert group.get_by_role("progressbar").evaluate("bar => bar.value / bar.max") == pytest.approx(40 / 169)
    group.get_by_role("button", name="Cancel").click()
    assert [message["type"] for message in sent(page)] == ["ready", "occlude", "cancel"]
    colours = np.zeros((7, 7, 3), np.uint8)
    colours[2, 3] = (255, 0, 0)
    shown = {
        "data": png(colours),
        "width": 7,
        "height": 7,
        "sentences": ["warm: it drops", "rank correlation: +0.62"],
    }
    receive(page, task={"total": 169, "done": None}, occlusion=shown)
    picture = page.get_by_role("img", name="Occlusion map. warm: it drops. rank correlation: +0.62")
    expect(picture).to_be_visible()
    page.wait_for_function("document.querySelector('.gcw-pad-occlusion').naturalWidth === 7")
    expect(group).to_contain_text("rank correlation: +0.62")
    receive(page, occlusion={})
    expect(picture).to_be_hidden()


def test_lost_binary_parts_are_asked_for_again(pad_open):
    lost = {"data": b"", "width": 7, "height": 7, "sentences": []}
    page = pad_open(state(task={"total": 9, "done": None}, occlusion=lost))
    assert sent(page) == [{"type": "ready", "complete": False}]
    assert sent(pad_open()) == [{"type": "ready", "complete": True}]


# -- the look ----------


@pytest.mark.parametrize("width", [480, 700, 1600])
def test_nothing_sticks_out(pad_open, width):
    rows = [row("a class with a name that is far too long for its column", 0.383, 0.112)] * 6
    page = pad_open(state(scores={"rows": rows, "explained": ""}, task={"total": 169, "done": 3}), width=width)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_it_follows_the_theme(pad_open):
    colours = {}
    for scheme in ("light", "dark"):
        page = pad_open(state(scores={"rows": [row("a", 0.2, 0.3)], "explained": ""}), scheme=scheme)
        assert page.locator(".gcw").get_attribute("data-gcw-theme") == scheme
        colours[scheme] = page.locator(".gcw-label").evaluate("label => getComputedStyle(label).color")
    assert colours["light"] != colours["dark"]


def test_the_pad_of_an_explorer_that_is_shown_by_itself_looks_as_it_does_there(pad_open):
    page = pad_open(around="gradcam-pad")
    pad = page.locator(".gradcam-pad")
    expect(pad).to_have_class("gradcam-pad gradcam-widget")
    expect(pad).to_have_attribute("data-gcw-theme", "light")
    assert pad.evaluate("e => getComputedStyle(e).getPropertyValue('--gcw-accent')") != ""
