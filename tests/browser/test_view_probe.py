"""The probe: a place of the picture, what it sees, what the channels add there, and the bars in that order."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import expect
from view_page import (
    ALPHA,
    CAM,
    CONTRIBUTION,
    bars,
    many,
    next_frame,
    receive,
    revision,
    scene,
    small,
)

from gradcam_widget.widget import wire

ASKED = "() => model.sent.filter(m => m.type === 'terms')"
ORDER = [1, 5, 0, 4, 2, 3]  # of ALPHA by magnitude

# What each of 6 channels adds at each of the 4 x 3 cells: at cell (1, 1) the channels 4, 0 and 2 are the largest.
TERMS = np.linspace(-1, 1, 72).reshape(12, 6) ** 3
TERMS[4] = [0.5, 0.01, -0.2, 0.0, -0.8, 0.1]


def terms(values: np.ndarray = TERMS, base: int = 1, first: int = 0) -> dict[str, Any]:
    """A message: value = scale * data, for each cell by itself."""
    scale = (np.abs(values).max(1) / 32767).astype("<f4")
    data = np.rint(values / np.where(scale > 0, scale, 1)[:, None]).astype("<i2")
    packed = zlib.compress(data.tobytes())
    return {
        "revision": base,
        "first": first,
        "shape": list(values.shape),
        "scale": scale.tobytes(),
        "data": packed,
    }


def over(page: Any, row: int, col: int, cam: np.ndarray = CAM) -> tuple[float, float]:
    """A point in a cell."""
    box = page.locator(".gcw-picture").bounding_box()
    return box["x"] + (col + 0.4) * box["width"] / cam.shape[1], box["y"] + (row + 0.6) * box[
        "height"
    ] / cam.shape[0]


def tip(page: Any) -> list[str]:
    return page.locator(".gcw-tip").inner_text().split("\n")


def values(page: Any) -> list[float]:
    """The terms of the bars from top to bottom."""
    return page.locator(".gcw-bar").evaluate_all("all => all.map(bar => Number(bar.dataset.term))")


def test_hovering_a_place_orders_the_bars_by_what_the_channels_add_there(view_open):
    page = view_open(small())
    page.mouse.move(*over(page, 1, 1))
    next_frame(page)
    assert page.evaluate(ASKED) == [{"type": "terms", "base": 1, "cell": 4}]
    assert tip(page) == ["cell (1, 1)", "0.53 of max", "value", "0.900"]
    assert bars(page) == ORDER  # until they are there
    receive(page, terms=terms())
    expect(page.locator(".gcw-title")).to_have_text("αkAk for Egyptian cat at cell (1, 1)")
    assert bars(page) == [4, 0, 2, 5, 1, 3]
    np.testing.assert_allclose(values(page), [-0.8, 0.5, -0.2, 0.1, 0.01, 0], atol=3e-5)
    assert page.locator(".gcw-bar .gcw-value").all_inner_texts()[:2] == ["−0.80", "+0.50"]
    assert page.locator(".gcw-bar").first.get_attribute("data-alpha") == str(float(np.float32(ALPHA[4])))
    label = page.locator(".gcw-bar").first.get_attribute("aria-label")
    assert label.startswith("channel 4, adds −0.800 at cell 1, 1, alpha −0.00110, contribution")
    assert page.get_by_role("listbox", name="What the channels add at cell 1, 1, by size").count() == 1
    # The tip is a sum: the three largest, the others, the value.
    rest = "3 more", "+0.110"
    added = ["#4", "−0.800", "#0", "+0.500", "#2", "−0.200", *rest]
    assert tip(page) == ["cell (1, 1)", "0.53 of max", *added, "value", "0.900"]
    assert "together −0.390" in page.locator(".gcw-weights").inner_text()
    # Another cell is there already; none brings the weights back.
    page.mouse.move(*over(page, 0, 2))
    next_frame(page)
    assert bars(page) == np.argsort(-np.abs(TERMS[2])).tolist()
    page.mouse.move(2, 2)
    next_frame(page)
    assert bars(page) == ORDER
    assert page.locator(".gcw-title").inner_text().replace("\n", "") == "αk for Egyptian cat at conv_head"
    assert page.locator(".gcw-bar[data-term]").count() == 0
    assert len(page.evaluate(ASKED)) == 1


def test_a_click_keeps_the_cell_and_the_bars_stay_with_it(view_open):
    page = view_open(small())
    page.mouse.move(*over(page, 1, 1))
    receive(page, terms=terms())
    page.mouse.click(*over(page, 1, 1))
    assert page.evaluate("model.get('probe')") == [1, 1]
    assert page.locator(".gcw-live").text_content() == "cell 1, 1 kept"
    page.mouse.move(*over(page, 3, 0))
    next_frame(page)
    assert tip(page)[0] == "cell (3, 0)"  # the tip reads what is under the pointer
    assert bars(page)[:3] == [4, 0, 2]  # the bars are about the cell that is kept
    page.mouse.move(2, 2)
    next_frame(page)
    expect(page.locator(".gcw-tip")).to_be_hidden()  # nothing covers the picture
    probe, box = page.locator(".gcw-probe.gcw-kept").bounding_box(), page.locator(".gcw-picture").bounding_box()
    assert probe["x"] == pytest.approx(box["x"] + box["width"] / 3, abs=1)
    assert probe["y"] == pytest.approx(box["y"] + box["height"] / 4, abs=1)
    assert bars(page)[:3] == [4, 0, 2]
    # The user can work in the bars, and sort them otherwise.
    page.locator(".gcw-bar").nth(1).hover()
    assert tip(page)[:4] == ["#0", "rank 2 of 6", "at (1, 1)", "+0.500"]
    page.get_by_label("Sort").select_option("channel")
    assert bars(page) == [0, 1, 2, 3, 4, 5]
    assert values(page)[0] == pytest.approx(0.5, abs=1e-4)
    page.get_by_label("Sort").select_option("cell")
    assert bars(page)[:3] == [4, 0, 2]
    page.mouse.click(*over(page, 1, 1))
    assert page.evaluate("model.get('probe')") is None
    page.mouse.move(2, 2)
    next_frame(page)
    assert bars(page) == ORDER
    assert page.get_by_label("Sort").input_value() == "|α|"


def test_the_table_of_the_bars_has_what_the_channels_add_there(view_open):
    page = view_open(small(probe=[1, 1]))
    page.get_by_text("Bars as a table").click()
    expect(page.locator(".gcw-table th[scope=col]")).to_have_text(["channel", "α", "contribution"])
    receive(page, terms=terms())
    expect(page.locator(".gcw-title")).to_contain_text("at cell (1, 1)")
    heads = ["channel", "adds at cell (1, 1)", "α", "contribution"]
    expect(page.locator(".gcw-table th[scope=col]")).to_have_text(heads)
    rows = page.locator(".gcw-table tbody tr").all_inner_texts()
    assert [row.split()[:2] for row in rows[:2]] == [["#4", "−0.800"], ["#0", "+0.500"]]
    assert "6 channels, by what they add at the cell" in page.locator(".gcw-table caption").inner_text()
    receive(page, probe=None)
    expect(page.locator(".gcw-table th[scope=col]")).to_have_text(["channel", "α", "contribution"])


def test_the_kernel_can_keep_and_free_a_cell(view_open):
    page = view_open(small(probe=[0, 2], terms={}))
    next_frame(page)
    assert page.evaluate(ASKED) == [{"type": "terms", "base": 1, "cell": 2}]
    receive(page, terms=terms())
    expect(page.locator(".gcw-title")).to_contain_text("at cell (0, 2)")
    receive(page, probe=[1, 1])
    expect(page.locator(".gcw-title")).to_contain_text("at cell (1, 1)")
    receive(page, probe=[9, 9])  # no cell of this map
    expect(page.locator(".gcw-title")).to_contain_text("conv_head")
    expect(page.locator(".gcw-probe")).to_be_hidden()
    receive(page, probe=[1, 1])
    expect(page.locator(".gcw-probe")).to_be_visible()
    receive(page, probe=None)
    expect(page.locator(".gcw-probe")).to_be_hidden()
    expect(page.locator(".gcw-title")).to_contain_text("conv_head")


def test_terms_that_came_with_the_page_are_not_asked_for_again(view_open):
    page = view_open(small(probe=[1, 1], terms=terms()))
    expect(page.locator(".gcw-title")).to_contain_text("at cell (1, 1)")
    assert bars(page)[:3] == [4, 0, 2]
    assert page.evaluate(ASKED) == []
    # Of a large layer only some have come.
    page = view_open(small(probe=[2, 0], terms=terms(TERMS[3:6], first=3)))
    page.wait_for_function("model.sent.filter(m => m.type === 'terms').length === 1")
    assert page.evaluate(ASKED) == [{"type": "terms", "base": 1, "cell": 6}]


def test_the_keys_move_the_kept_cell_and_escape_frees_it(view_open):
    page = view_open(small())
    picture = page.locator(".gcw-picture")
    picture.focus()
    page.keyboard.press("ArrowUp")
    assert page.evaluate("model.get('probe')") == [2, 2]  # the first key finds the largest value
    receive(page, terms=terms())
    live = page.locator(".gcw-live")
    order = np.argsort(-np.abs(TERMS[8]))
    expect(live).to_contain_text(f"cell 2, 2: 1.70, 1.00 of max; most by #{order[0]} ")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowUp")
    assert page.evaluate("model.get('probe')") == [1, 1]
    assert live.text_content() == "cell 1, 1: 0.900, 0.53 of max; most by #4 −0.800, #0 +0.500, #2 −0.200"
    next_frame(page)
    assert bars(page)[:3] == [4, 0, 2]
    page.locator(".gcw-overview").focus()  # the focus goes, the cell stays
    next_frame(page)
    assert page.evaluate("model.get('probe')") == [1, 1]
    assert bars(page)[:3] == [4, 0, 2]
    expect(page.locator(".gcw-tip")).to_be_hidden()
    picture.focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("model.get('probe')") == [1, 2]
    page.keyboard.press("Escape")
    assert page.evaluate("model.get('probe')") is None
    next_frame(page)
    assert bars(page) == ORDER
    expect(page.locator(".gcw-probe")).to_be_hidden()


def test_hovering_does_not_take_the_order_from_one_who_works_in_the_bars(view_open):
    page = view_open(small(terms=terms()))
    page.mouse.move(*over(page, 1, 1))
    receive(page, terms=terms())
    page.mouse.move(2, 2)
    page.locator(".gcw-picture").focus()
    page.keyboard.press("Tab")
    while page.evaluate("!document.activeElement.classList.contains('gcw-bar')"):
        page.keyboard.press("Tab")
    page.mouse.move(*over(page, 1, 1))
    next_frame(page)
    assert tip(page)[0] == "cell (1, 1)"
    assert bars(page) == ORDER
    page.mouse.click(*over(page, 1, 1))  # which is meant
    next_frame(page)
    assert bars(page)[:3] == [4, 0, 2]


def test_a_range_that_is_picked_is_kept_while_the_pointer_crosses_the_picture(view_open):
    page = view_open(small())
    page.mouse.move(*over(page, 1, 1))
    receive(page, terms=terms())
    page.mouse.move(2, 2)
    next_frame(page)
    box = page.locator(".gcw-overview").bounding_box()
    page.mouse.move(box["x"] + 5, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + 20)
    page.mouse.up()
    page.mouse.move(*over(page, 1, 1))
    next_frame(page)
    assert bars(page) == ORDER
    expect(page.get_by_role("button", name="Only these 3")).to_be_visible()


def test_one_question_is_on_its_way_at_a_time_and_the_last_cell_wins(view_open):
    page = view_open(small())
    for row, col in ((0, 0), (0, 1), (0, 2), (1, 2), (1, 1)):
        page.mouse.move(*over(page, row, col))
        next_frame(page)
    assert [message["cell"] for message in page.evaluate(ASKED)] == [0]
    receive(page, terms=terms(TERMS[:3], first=0))  # of a large layer: the row of the cell
    page.wait_for_function("model.sent.filter(m => m.type === 'terms').length === 2")
    assert [message["cell"] for message in page.evaluate(ASKED)] == [0, 4]
    assert bars(page) == ORDER
    receive(page, terms=terms(TERMS[3:6], first=3))
    expect(page.locator(".gcw-title")).to_contain_text("at cell (1, 1)")
    page.mouse.move(*over(page, 0, 1))
    next_frame(page)
    assert bars(page) == np.argsort(-np.abs(TERMS[1])).tolist()
    assert len(page.evaluate(ASKED)) == 2


def test_terms_belong_to_their_scene_and_survive_a_switch(view_open):
    page = view_open(small(probe=[1, 1]))
    receive(page, terms=terms())
    expect(page.locator(".gcw-title")).to_contain_text("at cell (1, 1)")
    page.locator(".gcw-bar").first.click(modifiers=["Shift"])
    switched = scene(CAM, ALPHA, CONTRIBUTION, revision=2, base=1, off=wire.mask((4,), 6))
    receive(page, scene=switched)
    revision(page, 2)
    next_frame(page)
    assert bars(page)[:3] == [4, 0, 2]
    assert page.locator(".gcw-bar").first.evaluate("bar => bar.classList.contains('gcw-off')")
    assert "together +0.410" in page.locator(".gcw-weights").inner_text()
    page.mouse.move(*over(page, 1, 1))
    assert tip(page)[2:8] == ["#0", "+0.500", "#2", "−0.200", "#5", "+0.100"]
    assert len(page.evaluate(ASKED)) == 1
    # Of another class they are asked anew; meanwhile the bars are its weights.
    receive(page, scene=scene(CAM, ALPHA[::-1], CONTRIBUTION, revision=3, label="tabby"), terms={})
    revision(page, 3)
    next_frame(page)
    assert page.evaluate(ASKED)[-1] == {"type": "terms", "base": 3, "cell": 4}
    assert page.locator(".gcw-title").inner_text().replace("\n", "") == "αk for tabby at conv_head"
    receive(page, terms=terms(base=1))  # too late, of the class before
    next_frame(page)
    assert "tabby at conv_head" in page.locator(".gcw-title").inner_text()
    receive(page, terms=terms(TERMS[::-1], base=3))
    expect(page.locator(".gcw-title")).to_contain_text("for tabby at cell (1, 1)")


def test_a_map_that_the_relu_cuts_off_says_so(view_open):
    page = view_open(small())
    page.mouse.move(*over(page, 0, 0))
    receive(page, terms=terms())
    expect(page.locator(".gcw-tip")).to_contain_text("more")
    assert CAM[0, 0] == 0 > TERMS[0].sum()
    words = tip(page)
    assert words[words.index("sum") + 1] == f"−{-TERMS[0].sum():.2f}"
    assert words[-2:] == ["value", "0"]


@pytest.mark.parametrize("own", ["own", None])
def test_other_methods_have_terms_of_their_own_or_none(view_open, own):
    method = {"name": "HiResCAM", "weights": "sum of gradient times activation", "terms": own}
    page = view_open(small(scene=scene(CAM, ALPHA, CONTRIBUTION, method=method)))
    page.mouse.move(*over(page, 1, 1))
    next_frame(page)
    if own is None:
        assert page.evaluate(ASKED) == []
        assert tip(page) == ["cell (1, 1)", "0.53 of max", "value", "0.900"]
    else:
        receive(page, terms=terms())
        expect(page.locator(".gcw-title")).to_have_text("Terms for Egyptian cat at cell (1, 1)")


# -- the receptive field --


def seeing(field: list[int] | None) -> dict[str, Any]:
    sent = scene(CAM, ALPHA, CONTRIBUTION)
    sent["layer"]["receptive_field"] = field
    return small(scene=sent)


def test_the_receptive_field_of_the_cell_is_outlined_and_told(view_open):
    page = view_open(seeing([20, 30]))
    expect(page.locator(".gcw-caption")).to_have_text("chelsea · 4 × 3 cells, each sees 20 × 30 px")
    page.mouse.move(*over(page, 1, 1))
    # 64 pixels: the middle of row 1 of 4 is at 24, of column 1 of 3 at 32, so the field is rows 14 to 34 and
    # columns 17 to 47; the picture is shown at 7 times its size.
    field, box = page.locator(".gcw-field").bounding_box(), page.locator(".gcw-picture").bounding_box()
    assert field["x"] - box["x"] == pytest.approx(17 * 7, abs=0.6)
    assert field["y"] - box["y"] == pytest.approx(14 * 7, abs=0.6)
    assert field["width"] == pytest.approx(30 * 7, abs=0.6)
    assert field["height"] == pytest.approx(20 * 7, abs=0.6)
    assert tip(page)[2:4] == ["sees", "20 × 30 px"]
    page.mouse.move(*over(page, 0, 0))  # cut at the edges: the middle is (8, 10.67)
    field = page.locator(".gcw-field").bounding_box()
    assert (field["x"], field["y"]) == (pytest.approx(box["x"], abs=0.6), pytest.approx(box["y"], abs=0.6))
    assert field["width"] == pytest.approx((64 / 6 + 15) * 7, abs=0.6)
    assert field["height"] == pytest.approx(18 * 7, abs=0.6)
    page.mouse.move(2, 2)
    expect(page.locator(".gcw-field")).to_be_hidden()


@pytest.mark.parametrize(
    ("field", "words"),
    [([64, 64], "chelsea · 4 × 3 cells, each sees the whole picture"), (None, "chelsea · 4 × 3 cells")],
)
def test_a_field_that_is_all_of_the_picture_or_not_known_is_not_outlined(view_open, field, words):
    page = view_open(seeing(field))
    expect(page.locator(".gcw-caption")).to_have_text(words)
    page.mouse.move(*over(page, 1, 1))
    expect(page.locator(".gcw-field")).to_be_hidden()
    expect(page.locator(".gcw-probe")).to_be_visible()


def test_the_tip_covers_neither_the_cell_nor_what_it_sees(view_open):
    page = view_open(seeing([20, 20]))
    for row, col in ((0, 0), (1, 1), (3, 2), (2, 0)):
        page.mouse.move(*over(page, row, col))
        field, tip_ = page.locator(".gcw-field").bounding_box(), page.locator(".gcw-tip").bounding_box()
        apart = tip_["x"] >= field["x"] + field["width"] or tip_["x"] + tip_["width"] <= field["x"]
        assert apart or tip_["y"] >= field["y"] + field["height"] or tip_["y"] + tip_["height"] <= field["y"]


# -- 2048 channels --


def test_with_2048_channels_the_bars_change_once_a_frame_and_keep_their_elements(view_open):
    alpha, contribution = many(2048)
    random = np.random.default_rng(2)
    page = view_open(small(scene=scene(np.ones((7, 7)), alpha, contribution)))
    page.mouse.move(*over(page, 0, 0, np.ones((7, 7))))
    next_frame(page)
    found = random.normal(size=(49, 2048))
    receive(page, terms=terms(found))
    expect(page.locator(".gcw-title")).to_contain_text("at cell (0, 0)")
    page.evaluate(
        """() => {
            window.rows = new Set(document.querySelectorAll('.gcw-bar'));
            window.orders = 0;
            window.frames = 0;
            const list = document.querySelector('.gcw-bars');
            const told = { attributes: true, attributeFilter: ['aria-label'] };
            new MutationObserver(() => { window.orders += 1; }).observe(list, told);
            const count = () => { window.frames += 1; requestAnimationFrame(count); };
            requestAnimationFrame(count);
        }"""
    )
    # Twelve moves within one task: what a quick pointer does between two frames.
    page.evaluate(
        """() => {
            const canvas = document.querySelector('.gcw-picture'), box = canvas.getBoundingClientRect();
            for (let i = 0; i < 12; i++) {
                const x = box.left + (i % 7 + 0.5) * box.width / 7;
                canvas.dispatchEvent(new PointerEvent('pointermove', { clientX: x, clientY: box.top + 200 }));
            }
        }"""
    )
    next_frame(page)
    assert page.evaluate("window.orders") == 1
    cell = 3 * 7 + 4
    assert bars(page) == np.argsort(-np.abs(found[cell]), kind="stable")[: len(bars(page))].tolist()
    assert page.evaluate("[...document.querySelectorAll('.gcw-bar')].every(bar => window.rows.has(bar))")
