"""The table of classes and channels in the view: its cells, their colours, keys and clicks."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import expect
from view_page import ALPHA, CAM, CONTRIBUTION, TABLES, encode, next_frame, receive, revision, scene, small

VALUES = np.array([[0.004, -0.001, 0.0], [-0.002, 0.003, 0.0005]])
ROWS = [{"index": 285, "label": "Egyptian cat"}, {"index": 282, "label": "tiger <b>cat</b>"}]


def table(number: int = 1, values: np.ndarray = VALUES, rows: Any = ROWS) -> dict[str, Any]:
    channels = [5, 1, 3, *range(10, 100)][: values.shape[1]]
    return {"revision": number, "classes": rows, "channels": channels, "alpha": encode(values, "f32")}


def opened(**changes: Any) -> dict[str, Any]:
    return small(class_table=True, classes=table(), **changes)


def test_it_is_closed_until_it_is_opened_by_keyboard(view_open):
    page = view_open(small(class_table=False, classes={}))
    head = page.get_by_role("button", name="Classes and channels")
    expect(head).to_have_attribute("aria-expanded", "false")
    expect(page.locator(".gcw-classes")).to_be_hidden()
    head.focus()
    page.keyboard.press("Enter")
    expect(head).to_have_attribute("aria-expanded", "true")
    assert page.evaluate("window.model.get('class_table')") is True
    expect(page.locator(".gcw-live")).to_have_text("table of classes and channels open")
    receive(page, classes=table())
    expect(page.locator(".gcw-classes")).to_be_visible()
    page.keyboard.press(" ")
    expect(page.locator(".gcw-classes")).to_be_hidden()


def test_it_is_a_table_with_heads_numbers_and_sums(view_open):
    page = view_open(opened())
    grid = page.locator(".gcw-classes tr").evaluate_all(
        "rows => rows.map(r => [...r.cells].map(c => c.textContent))"
    )
    assert grid == [
        ["class", "#5", "#1", "#3"],
        ["Egyptian cat", "+0.0040", "−0.0010", "+0.0000"],
        ["tiger <b>cat</b>", "−0.0020", "+0.0030", "+0.0005"],
        ["for / against", "1 / 1", "1 / 1", "1 / 0"],
    ]
    scopes = page.locator(".gcw-classes th").evaluate_all("all => all.map(head => head.scope)")
    assert scopes == ["col"] * 4 + ["row"] * 3
    cell = page.get_by_role("button", name="tiger <b>cat</b>, channel 1, alpha +0.00300")
    expect(cell).to_have_count(1)
    expect(page.locator(".gcw-classpanel .gcw-note")).to_have_text(
        "α at conv_head: the 3 channels with the largest |α|, for 2 classes"
    )


def test_on_a_narrow_page_the_channels_scroll_and_the_classes_stay(view_open):
    page = view_open(small(class_table=True, classes=table(values=np.full((2, 12), -0.001))), width=480)
    boxes = "all => all.map((cell) => cell.getBoundingClientRect()).map((box) => [box.left, box.right])"
    cells = page.locator('.gcw-classcell[data-row="0"]').evaluate_all(boxes)
    assert all(right <= left for (_, right), (left, _) in pairwise(cells))
    before = page.locator(".gcw-classes tbody th").evaluate_all(boxes)
    page.locator(".gcw-classbody").evaluate("body => { body.scrollLeft = 1000; }")
    assert page.locator(".gcw-classcell").nth(11).evaluate_all(boxes)[0][1] <= 480
    assert page.locator(".gcw-classes tbody th").evaluate_all(boxes) == pytest.approx(np.array(before), abs=3)
    head = page.get_by_role("button", name="Classes and channels").bounding_box()
    assert head["height"] <= 24  # its name keeps to one line
    note = page.locator(".gcw-classpanel .gcw-note").bounding_box()
    assert note["y"] >= head["y"] + head["height"] - 1


def test_each_cell_has_its_colour_of_the_diverging_table_and_ink_that_is_read(view_open):
    page = view_open(opened())
    cells = page.locator(".gcw-classcell").evaluate_all(
        """all => all.map((cell) => [getComputedStyle(cell).backgroundColor, getComputedStyle(cell).color]
            .map((text) => text.match(/[0-9]+/g).map(Number)))"""
    )

    def luminance(rgb: list[int]) -> float:
        linear = [v / 255 / 12.92 if v <= 10 else ((v / 255 + 0.055) / 1.055) ** 2.4 for v in rgb[:3]]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for value, (ground, ink) in zip(VALUES.ravel(), cells, strict=True):
        assert ground[:3] == TABLES["cool-warm"][round((value / 0.004 + 1) / 2 * 255)].tolist()
        low, high = sorted((luminance(ground), luminance(ink)))
        assert (high + 0.05) / (low + 0.05) >= 4.5


def test_a_click_explains_the_class_and_keeps_the_channel(view_open):
    page = view_open(opened())
    page.get_by_role("button", name="tiger <b>cat</b>, channel 1,").click()
    assert page.evaluate("window.model.get('channel')") == 1
    sent = page.evaluate("window.model.sent.filter(m => m.type === 'target')")
    assert [(message["type"], message["index"]) for message in sent] == [("target", 282)]
    receive(page, scene=scene(CAM, ALPHA, CONTRIBUTION, revision=2, index=282, label="tiger <b>cat</b>"))
    revision(page, 2)
    receive(page, classes=table(2))
    pressed = page.locator('.gcw-classcell[aria-pressed="true"]')
    expect(pressed).to_have_count(1)
    expect(pressed).to_have_attribute("aria-label", "tiger <b>cat</b>, channel 1, alpha +0.00300")
    # the class is explained already, and the channel kept: a second click lets it go
    pressed.click()
    assert page.evaluate("window.model.get('channel')") is None
    assert page.evaluate("window.model.sent.filter(m => m.type === 'target').length") == 1
    expect(page.locator('.gcw-classcell[aria-pressed="true"]')).to_have_count(0)


def test_arrow_keys_walk_the_cells_and_one_tab_leaves_them(view_open):
    page = view_open(opened())
    page.get_by_role("button", name="Classes and channels").focus()
    page.keyboard.press("Tab")

    def here() -> str:
        return str(page.evaluate("document.activeElement.getAttribute('aria-label')"))

    assert here().startswith("Egyptian cat, channel 5")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    assert here().startswith("tiger <b>cat</b>, channel 1")
    page.keyboard.press("End")
    assert here().startswith("tiger <b>cat</b>, channel 3")
    page.keyboard.press("ArrowRight")
    assert here().startswith("tiger <b>cat</b>, channel 3")
    page.keyboard.press("Enter")
    assert page.evaluate("window.model.get('channel')") == 3
    assert page.locator('.gcw-classcell[tabindex="0"]').count() == 1
    page.keyboard.press("Tab")
    assert "gcw-classcell" not in page.evaluate("document.activeElement.className")


def test_what_belongs_to_an_earlier_scene_is_marked_until_the_next_table_is_here(view_open):
    page = view_open(opened())
    body = page.locator(".gcw-classbody")
    expect(body).to_have_attribute("aria-busy", "false")
    receive(page, scene=scene(CAM, ALPHA, CONTRIBUTION, revision=2))
    revision(page, 2)
    expect(body).to_have_attribute("aria-busy", "true")
    receive(page, classes=table(2))
    expect(body).to_have_attribute("aria-busy", "false")


def test_why_there_is_none_is_said(view_open):
    note = "ScoreCAM needs one forward pass per channel, for each class. Choose GradCAM."
    page = view_open(small(class_table=True, classes={"revision": 1, "note": note}))
    expect(page.locator(".gcw-classbody")).to_contain_text(note)
    expect(page.locator(".gcw-classes")).to_be_hidden()


@pytest.mark.parametrize("width", [480, 1120, 1600])
def test_a_wide_table_scrolls_in_itself(view_open, width):
    values = np.linspace(-1, 1, 60).reshape(5, 12) / 100
    rows = [{"index": i, "label": f"a class with a long name {i}"} for i in range(5)]
    page = view_open(small(class_table=True, classes=table(1, values, rows)), width=width)
    next_frame(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator(".gcw-classcell").count() == 60
    page.locator(".gcw-classcell").first.focus()
    page.keyboard.press("End")
    next_frame(page)
    box, view = page.locator(".gcw-classcell").nth(11).bounding_box(), page.locator(".gcw").bounding_box()
    assert box["x"] + box["width"] <= view["x"] + view["width"] + 3
