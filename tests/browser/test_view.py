"""The view alone: its module and style sheet in a bare page, fed by a stand-in model. No notebook, no kernel."""

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
    TABLES,
    answer,
    bars,
    encode,
    halt,
    many,
    next_frame,
    pixels,
    quarters,
    receive,
    revision,
    scene,
    small,
    state,
    strip,
)

pytestmark = pytest.mark.browser

# What the view must show, written out for one pixel at a time and with no code shared with it.


def value_at(cam: np.ndarray, y: int, x: int, height: int, width: int) -> float:
    def neighbours(target: int, count: int, size: int) -> tuple[int, int, float]:
        source = min(max((target + 0.5) * count / size - 0.5, 0.0), count - 1.0)
        low = int(source)
        return low, min(low + 1, count - 1), source - low

    top, bottom, down = neighbours(y, cam.shape[0], height)
    left, right, across = neighbours(x, cam.shape[1], width)
    upper = cam[top, left] * (1 - across) + cam[top, right] * across
    lower = cam[bottom, left] * (1 - across) + cam[bottom, right] * across
    return float(upper * (1 - down) + lower * down)


def expected(cam: np.ndarray, table: np.ndarray, under: np.ndarray, opacity: float, *at: int) -> np.ndarray:
    share = value_at(cam, *at) / cam.max()
    heat = table[int(share * 255 + 0.5)].astype(float)
    mix = opacity * min(1.0, 2 * share)
    return under * (1 - mix) + heat * mix


@pytest.mark.parametrize("ratio", [1, 2])
@pytest.mark.parametrize("opacity", [1.0, 0.5])
@pytest.mark.parametrize("dtype", ["f32", "i16", "u8z"])
def test_each_pixel_is_the_picture_with_the_enlarged_map_blended_by_value(view_open, dtype, opacity, ratio):
    picture = quarters()
    page = view_open(
        state(picture, scene(CAM, ALPHA, CONTRIBUTION, dtype=dtype), TABLES, opacity=opacity), ratio=ratio
    )
    seen = pixels(page)
    height, width, _ = seen.shape
    assert (height, width) == (448 * ratio, 448 * ratio)
    for down, across in [
        (0.02, 0.02),
        (0.1, 0.3),
        (0.2, 0.9),
        (0.35, 0.7),
        (0.6, 0.97),
        (0.63, 0.6),
        (0.9, 0.2),
        (0.99, 0.99),
    ]:
        y, x = int(down * height), int(across * width)
        under = picture[int(down * 64), int(across * 64)].astype(float)
        want = expected(CAM, TABLES["first"], under, opacity, y, x, height, width)
        assert np.abs(seen[y, x, :3] - want).max() <= 2, (y, x, seen[y, x], want)
        assert seen[y, x, 3] == 255


def test_opacity_and_colour_map_redraw_the_picture_and_nothing_else(view_open):
    page = view_open(small())
    page.evaluate(
        "() => { window.scenes = 0; new MutationObserver(all => { window.scenes += all.length; })"
        ".observe(document.querySelector('.gcw'), { attributes: true }); }"
    )
    page.evaluate("() => model.set({ opacity: 1, colormap: 'second' })")
    y, x = 300, 400
    want = expected(CAM, TABLES["second"], quarters()[43, 57].astype(float), 1.0, y, x, 448, 448)
    assert np.abs(pixels(page)[y, x, :3] - want).max() <= 2
    page.evaluate("() => model.set('opacity', 0)")
    assert pixels(page)[y, x, :3].tolist() == quarters()[43, 57].tolist()
    assert page.evaluate("window.scenes") == 0


def test_the_colour_bar_shows_the_table_unblended_and_its_limits(view_open):
    page = view_open(small(opacity=0.1))
    ramp = pixels(page, ".gcw-ramp")[:, 0]
    assert ramp[::-1, :3].tolist() == TABLES["first"].tolist()
    assert page.locator(".gcw-most").inner_text().split() == ["1.70", "max"]
    assert page.locator(".gcw-least").inner_text() == "0"


def test_a_diverging_table_keeps_its_neutral_colour_at_zero(view_open):
    page = view_open(small(colormap="cool-warm", opacity=1.0))
    ramp = pixels(page, ".gcw-ramp")[:, 0]
    assert ramp[0, :3].tolist() == TABLES["cool-warm"][255].tolist()
    assert abs(ramp[-1, 0] - 127.5) <= 1


SIGNED = np.array([[-1.7, 0.1, 0.4], [0.05, -0.9, 0.6], [0.0, 0.3, 0.85], [-0.2, 0.0, -1.1]])


@pytest.mark.parametrize("opacity", [1.0, 0.5])
def test_signed_evidence_fades_to_both_sides_of_zero_in_a_diverging_table(view_open, opacity):
    picture = quarters()
    page = view_open(
        state(picture, scene(SIGNED, ALPHA, CONTRIBUTION, evidence="signed"), TABLES, opacity=opacity)
    )
    seen = pixels(page)
    for y, x in [(10, 10), (60, 130), (150, 300), (250, 250), (300, 430), (440, 20), (440, 440)]:
        share = value_at(SIGNED, y, x, 448, 448) / 1.7
        heat = TABLES["cool-warm"][int((0.5 + share / 2) * 255 + 0.5)].astype(float)
        mix = opacity * min(1.0, 2 * abs(share))
        want = picture[y // 7, x // 7] * (1 - mix) + heat * mix
        assert np.abs(seen[y, x, :3] - want).max() <= 2, (y, x, seen[y, x], want)
    ramp = pixels(page, ".gcw-ramp")[:, 0]
    assert ramp[::-1, :3].tolist() == TABLES["cool-warm"].tolist()
    assert page.locator(".gcw-most").inner_text().split() == ["1.70", "for"]
    assert page.locator(".gcw-least").inner_text().split() == ["against", "−1.70"]
    assert page.locator(".gcw-middle").inner_text() == "0"
    assert "for the class and against it" in page.locator(".gcw-caption").inner_text()
    label = page.locator(".gcw-picture").get_attribute("aria-label")
    assert label == "chelsea: signed Grad-CAM for Egyptian cat at conv_head"
    page.locator(".gcw-picture").focus()
    page.keyboard.press("ArrowUp")  # the first key finds the strongest cell, whichever its sign
    assert page.locator(".gcw-tip").inner_text().split("\n")[:2] == ["cell (0, 0)", "−1.00 of max"]
    mark, scale = page.locator(".gcw-mark").bounding_box(), page.locator(".gcw-scale").bounding_box()
    assert abs(mark["y"] + mark["height"] / 2 - scale["y"] - scale["height"]) <= 2


def test_the_table_in_use_has_the_chosen_index_among_those_that_fit_the_map(view_open):
    sent = small(opacity=1.0, colormap="first", colormap_index=1)
    for index, name in enumerate(["first", "second"]):
        sent["tables"][name]["index"] = index
    sent["tables"]["cool-warm"]["index"] = 0
    page = view_open(sent)
    ramp = pixels(page, ".gcw-ramp")[::-1, 0, :3]
    assert ramp.tolist() == TABLES["second"].tolist()
    page.evaluate("() => model.set('colormap_index', 0)")
    assert pixels(page, ".gcw-ramp")[::-1, 0, :3].tolist() == TABLES["first"].tolist()
    receive(page, scene=scene(SIGNED, ALPHA, CONTRIBUTION, evidence="signed", revision=2))
    revision(page, 2)
    assert pixels(page, ".gcw-ramp")[::-1, 0, :3].tolist() == TABLES["cool-warm"].tolist()
    receive(page, scene=scene(CAM, ALPHA, CONTRIBUTION, revision=3))
    revision(page, 3)
    assert pixels(page, ".gcw-ramp")[::-1, 0, :3].tolist() == TABLES["first"].tolist()


def test_counterfactual_evidence_is_said_wherever_the_class_is_named(view_open):
    page = view_open(small(scene=scene(CAM, ALPHA, CONTRIBUTION, evidence="counterfactual")))
    assert page.locator(".gcw-title").inner_text().replace("\n", "") == "αk against Egyptian cat at conv_head"
    label = page.locator(".gcw-picture").get_attribute("aria-label")
    assert label == "chelsea: Grad-CAM against Egyptian cat at conv_head"
    assert page.locator(".gcw-coverage").inner_text().endswith("half of the evidence against the class")
    assert "counterfactual" in page.locator(".gcw-caption").inner_text()


def test_an_empty_map_leaves_the_picture_alone_and_is_explained(view_open):
    said = "No positive evidence at this layer."
    empty = scene(np.zeros((4, 3)), ALPHA, CONTRIBUTION, diagnosis=said, coverage=None)
    page = view_open(small(scene=empty, opacity=1.0))
    seen = pixels(page)
    assert seen[100, 100].tolist() == [200, 30, 60, 255]
    assert seen[400, 400].tolist() == [5, 10, 15, 255]
    assert page.locator(".gcw-diagnosis").inner_text() == said
    assert page.locator(".gcw-scale").is_hidden()
    assert page.locator(".gcw-coverage").is_hidden()


def test_the_bars_are_the_channels_largest_first_with_their_signs(view_open):
    page = view_open(small())
    assert bars(page) == [1, 5, 0, 4, 2, 3]
    drawn = page.locator(".gcw-bar").evaluate_all(
        """all => { const zero = document.querySelector('.gcw-zero').getBoundingClientRect().left;
        return all.map(bar => { const box = bar.querySelector('.gcw-fill').getBoundingClientRect();
          return [Number(bar.dataset.alpha), bar.querySelector('.gcw-value').textContent,
                  box.left - zero, box.right - zero]; }); }"""
    )
    assert [text for _, text, _, _ in drawn] == ["−0.0045", "+0.0030", "+0.0020", "−0.0011", "+0.0001", "+0.0000"]
    assert np.allclose([alpha for alpha, *_ in drawn], ALPHA[[1, 5, 0, 4, 2, 3]], atol=1e-9)
    scale = -drawn[0][2] / 0.0045
    assert scale > 30000
    for alpha, _, left, right in drawn:
        assert abs(min(left, right, key=abs)) <= 1
        assert abs((left if alpha < 0 else right) - alpha * scale) <= 1.5
    title = page.locator(".gcw-title")
    assert title.inner_text().replace("\n", "") == "αk for Egyptian cat at conv_head"
    assert title.locator("sub").inner_text() == "k"
    assert "K = 6" in page.locator(".gcw-weights").inner_text()
    assert page.locator(".gcw-coverage").inner_text() == "12 of 6 channels give half of the positive evidence"
    assert page.locator(".gcw-status").inner_text().strip() == "cpu · 1 backward pass, 0.9 ms"


def test_one_channel_is_singular(view_open):
    one = scene(CAM, ALPHA[:1], CONTRIBUTION[:1], coverage={"channels": 1, "of": 1, "share": 0.5})
    page = view_open(small(scene=one))
    assert page.locator(".gcw-coverage").inner_text() == "1 of 1 channel gives half of the positive evidence"


@pytest.mark.parametrize(
    ("order", "key"),
    [
        ("|α|", lambda alpha, contribution: -np.abs(alpha)),
        ("α", lambda alpha, contribution: -alpha),
        ("contribution", lambda alpha, contribution: -np.abs(contribution)),
        ("channel", lambda alpha, contribution: np.arange(len(alpha))),
    ],
)
def test_the_bars_can_be_sorted(view_open, order, key):
    page = view_open(small())
    page.get_by_label("Sort", exact=True).select_option(order)
    assert bars(page) == np.argsort(key(ALPHA, CONTRIBUTION), kind="stable").tolist()


def test_the_overview_scrolls_the_bars_through_all_channels(view_open):
    alpha, contribution = many(2048)
    page = view_open(small(scene=scene(CAM, alpha, contribution)))
    order = np.argsort(-np.abs(alpha)).tolist()
    count = len(bars(page))
    assert count == 18
    overview = page.locator(".gcw-overview")
    box = overview.bounding_box()
    page.evaluate("() => { window.rows = new Set(document.querySelectorAll('.gcw-bar')); }")
    same = "() => [...document.querySelectorAll('.gcw-bar')].every(bar => window.rows.has(bar))"

    overview.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert bars(page) == order[2 : 2 + count]
    page.keyboard.press("ArrowLeft")
    assert bars(page) == order[1 : 1 + count]
    page.keyboard.press("End")
    assert bars(page) == order[-count:]
    page.keyboard.press("Home")
    page.keyboard.press("PageDown")
    assert bars(page) == order[count : 2 * count]
    assert overview.get_attribute("aria-valuetext") == f"ranks {count + 1} to {2 * count} of 2048"

    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + 20)
    middle = order.index(bars(page)[0])
    assert abs(middle - (2048 - count) / 2) < 20
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] + 50, box["y"] + 20, steps=5)
    page.mouse.up()
    assert bars(page) == order[-count:]
    page.mouse.move(box["x"] + 5, box["y"] + 20)
    assert bars(page) == order[-count:]
    assert page.evaluate(same)


def test_the_keyboard_walks_the_bars_and_tells_their_facts(view_open):
    alpha, contribution = many(100)
    page = view_open(small(scene=scene(CAM, alpha, contribution)))
    order = np.argsort(-np.abs(alpha)).tolist()
    page.locator(".gcw-bar").first.focus()
    for _ in range(20):
        page.keyboard.press("ArrowDown")
    focused = page.evaluate("document.activeElement.dataset.channel")
    assert int(focused) == order[20]
    assert bars(page)[-1] == order[20]
    assert page.locator('.gcw-bar[tabindex="0"]').count() == 1
    label = page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert label.startswith(f"channel {focused}, alpha ")
    assert label.endswith("rank 21 of 100")
    page.keyboard.press("End")
    assert int(page.evaluate("document.activeElement.dataset.channel")) == order[-1]


def test_a_bar_tells_alpha_contribution_and_rank_in_a_tip(view_open):
    page = view_open(small())
    page.locator(".gcw-bar").nth(0).hover()
    tip = page.locator(".gcw-tip")
    assert tip.inner_text().split("\n") == [
        *["#1", "rank 1 of 6", "α", "−0.00450", "contribution", "−0.500"],
        *["share", "96.2 % of the negative"],  # 0.5 of 0.52
    ]
    drawn, told = page.locator(".gcw-fill").nth(0).bounding_box(), tip.bounding_box()
    assert told["x"] >= drawn["x"] + drawn["width"] or told["y"] >= drawn["y"] + drawn["height"]
    page.mouse.move(5, 5)
    assert tip.is_hidden()


LOOK = np.array([[0.0, 1.0, 3.0], [0.5, 0.0, 2.0], [0.0, 0.0, 4.0], [1.0, 1.0, 0.0]])  # A of channel 1


def activations(revision: int, maps: dict[int, np.ndarray]) -> dict[str, Any]:
    """An activations message for neighbouring channels: value = low + step * data, for each channel by itself."""
    stacked = np.stack(list(maps.values()))
    low, high = stacked.min((1, 2)), stacked.max((1, 2))
    step = (high - low) / 255
    data = np.rint((stacked - low[:, None, None]) / np.where(step > 0, step, 1)[:, None, None]).astype(np.uint8)
    return {
        "revision": revision,
        "first": min(maps),
        "shape": list(stacked.shape),
        "low": low.astype("<f4").tobytes(),
        "step": step.astype("<f4").tobytes(),
        "data": zlib.compress(data.tobytes()),
    }


def heat_at(page: Any, cam: np.ndarray, table: str, y: int, x: int) -> float:
    """How far a pixel is from what this map would give it there."""
    want = expected(cam, TABLES[table], quarters()[y // 7, x // 7].astype(float), 0.5, y, x, 448, 448)
    return float(np.abs(pixels(page)[y, x, :3] - want).max())


def test_a_bar_under_the_pointer_lays_its_activation_on_the_picture(view_open):
    page = view_open(small())
    asked = "() => model.sent.filter(m => m.type === 'activations')"
    page.locator(".gcw-bar").nth(0).hover()
    page.locator(".gcw-bar").nth(1).hover()
    assert page.evaluate(asked) == [{"type": "activations", "revision": 1, "channel": 1}]  # once
    assert heat_at(page, CAM, "first", 300, 400) <= 2  # until it comes, the heatmap stays
    page.locator(".gcw-bar").nth(0).hover()
    receive(page, activations=activations(1, {1: LOOK}))
    caption = page.locator(".gcw-caption")
    expect(caption).to_have_text("chelsea · 4 × 3 cells · activation A of channel #1")
    assert heat_at(page, LOOK, "first", 300, 400) <= 2
    assert heat_at(page, LOOK, "first", 60, 300) <= 2
    label = page.locator(".gcw-picture").get_attribute("aria-label")
    assert label == "chelsea: activation of channel 1 at conv_head"
    assert page.locator(".gcw-most").inner_text().split() == ["4.00", "max"]
    words = page.locator(".gcw-tip").inner_text().split("\n")
    assert words[words.index("mean activation") + 1] == "1.04"  # 12.5 / 12
    page.mouse.move(5, 5)
    assert heat_at(page, CAM, "first", 300, 400) <= 2
    assert page.locator(".gcw-most").inner_text().split() == ["1.70", "max"]


def test_a_click_or_enter_keeps_a_channel_and_escape_lets_it_go(view_open):
    page = view_open(small(activations=activations(1, {1: LOOK, 2: LOOK - 2})))
    bar = page.locator(".gcw-bar").nth(0)
    bar.click()
    page.mouse.move(5, 5)
    assert page.evaluate("model.get('channel')") == 1
    assert page.locator('.gcw-bar[aria-selected="true"]').get_attribute("data-channel") == "1"
    receive(page, activations=activations(1, {1: LOOK, 2: LOOK - 2}))
    expect(page.locator(".gcw-caption")).to_contain_text("channel #1")
    page.locator(".gcw-picture").focus()
    page.keyboard.press("ArrowDown")
    assert page.locator(".gcw-tip").inner_text().split("\n") == ["cell (2, 2)", "1.00 of max", "A of #1", "4.00"]
    page.locator(".gcw-bar").nth(0).focus()
    page.keyboard.press("Escape")
    assert page.evaluate("model.get('channel')") is None
    page.mouse.click(5, 5)
    page.evaluate("() => document.activeElement.blur()")
    expect(page.locator(".gcw-caption")).to_have_text("chelsea · 4 × 3 cells")
    # From the kernel; a map with negative values has two sides.
    receive(page, channel=2)
    expect(page.locator(".gcw-caption")).to_contain_text("channel #2")
    assert pixels(page, ".gcw-ramp")[0, 0, :3].tolist() == TABLES["cool-warm"][255].tolist()
    assert page.locator(".gcw-least").inner_text().split() == ["−2.00"]
    # One that is silent is not a picture without explanation.
    receive(page, channel=3, activations=activations(1, {3: LOOK * 0}))
    expect(page.locator(".gcw-caption")).to_contain_text("channel #3: 0 everywhere, so it adds nothing")
    assert page.locator(".gcw-scale").is_hidden()
    assert pixels(page)[400, 400, :3].tolist() == [5, 10, 15]
    receive(page, channel=None, scene=scene(CAM, ALPHA, CONTRIBUTION, revision=2))
    revision(page, 2)
    assert heat_at(page, CAM, "first", 300, 400) <= 2


def overlap(a: dict[str, float], b: dict[str, float]) -> bool:
    apart = a["x"] + a["width"] <= b["x"] or b["x"] + b["width"] <= a["x"]
    return not (apart or a["y"] + a["height"] <= b["y"] or b["y"] + b["height"] <= a["y"])


@pytest.mark.parametrize(("row", "col"), [(0, 0), (1, 1), (3, 2), (0, 2), (3, 0)])
def test_the_pointer_reads_a_cell_and_the_tip_stays_beside_it(view_open, row, col):
    page = view_open(small())
    box = page.locator(".gcw-picture").bounding_box()
    page.mouse.move(box["x"] + (col + 0.4) * box["width"] / 3, box["y"] + (row + 0.6) * box["height"] / 4)
    words = page.locator(".gcw-tip").inner_text().split("\n")
    assert words[:2] == [f"cell ({row}, {col})", f"{CAM[row, col] / 1.7:.2f} of max"]
    assert abs(float(words[3]) - CAM[row, col]) < 1e-3
    cell = page.locator(".gcw-probe").bounding_box()
    assert abs(cell["x"] - box["x"] - col * box["width"] / 3) <= 1
    assert abs(cell["y"] - box["y"] - row * box["height"] / 4) <= 1
    tip, view = page.locator(".gcw-tip").bounding_box(), page.locator(".gcw").bounding_box()
    assert not overlap(cell, tip)
    assert tip["x"] >= box["x"]
    assert tip["x"] + tip["width"] <= box["x"] + box["width"] or col == 1
    assert view["y"] <= tip["y"]
    page.mouse.move(2, 2)
    assert page.locator(".gcw-probe").is_hidden()
    assert page.locator(".gcw-tip").is_hidden()


def test_the_probe_stays_on_its_cell_when_the_map_changes(view_open):
    page = view_open(small())
    box = page.locator(".gcw-picture").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] * 0.3)
    receive(page, scene=scene(CAM[::-1], ALPHA, CONTRIBUTION, revision=2))
    revision(page, 2)
    assert page.locator(".gcw-tip").inner_text().split("\n") == ["cell (1, 1)", "0.18 of max", "value", "0.300"]
    receive(page, scene=scene(CAM[:2], ALPHA, CONTRIBUTION, revision=3))
    revision(page, 3)
    assert page.locator(".gcw-probe").is_hidden()
    assert page.locator(".gcw-tip").is_hidden()


@pytest.mark.parametrize("width", [1172, 480])
def test_the_tip_does_not_cover_a_cell_as_large_as_the_picture(view_open, width):
    page = view_open(small(scene=scene(np.array([[2.0]]), ALPHA, CONTRIBUTION)), width=width)
    page.locator(".gcw-picture").hover()
    tip = page.locator(".gcw-tip").bounding_box()
    assert not overlap(page.locator(".gcw-probe").bounding_box(), tip)
    assert tip["x"] >= 0
    assert tip["x"] + tip["width"] <= width
    expect(page.locator(".gcw-caption")).to_have_text("chelsea · 1 × 1 cell")


LISTEN = "() => { window.heard = []; document.addEventListener('keydown', e => window.heard.push(e.key)); }"


def test_arrow_keys_move_the_probe_and_no_key_reaches_the_page(view_open):
    page = view_open(small())
    page.evaluate(LISTEN)
    page.locator(".gcw-picture").focus()
    tip = page.locator(".gcw-tip")
    page.keyboard.press("ArrowDown")
    assert tip.inner_text().startswith("cell (2, 2)")  # the first key finds the largest value
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowUp")
    assert tip.inner_text().startswith("cell (1, 1)")
    assert "cell 1, 1" in page.locator(".gcw-live").text_content()
    for _ in range(5):
        page.keyboard.press("ArrowUp")
    assert tip.inner_text().startswith("cell (0, 1)")
    page.keyboard.press("Escape")
    assert tip.is_hidden()
    for place in (".gcw-bar", ".gcw-overview", "button.gcw-prediction", ".gcw-sort select"):
        page.locator(place).first.focus()
        for key in ("d", "b", "ArrowDown", "Home"):
            page.keyboard.press(key)
    assert page.evaluate("window.heard") == []


def test_tab_goes_through_the_view_and_out_of_it(view_open):
    page = view_open(small(), controls="<button id=before>before</button>")
    page.evaluate("() => document.body.append(Object.assign(document.createElement('button'), { id: 'after' }))")
    page.locator("#before").focus()
    seen = []
    while (page.keyboard.press("Tab") or page.evaluate("document.activeElement.id")) != "after":
        seen.append(page.evaluate("document.activeElement.className || document.activeElement.tagName"))
        assert len(seen) < 20
    assert seen == [
        "gcw-picture",
        "gcw-check",
        "SELECT",  # Scale
        "SELECT",  # Sort
        "gcw-bar gcw-con",
        "gcw-overview",
        "SUMMARY",
        "gcw-explained gcw-prediction",
        *["gcw-prediction"] * 4,
        "gcw-disclose",  # Classes and channels
        *["gcw-export"] * 5,
    ]


def test_the_wheel_scrolls_the_page(view_open):
    page = view_open(small(), style="body { height: 4000px; }")
    page.locator(".gcw-bar").nth(2).hover()
    page.mouse.wheel(0, 200)
    page.wait_for_function("window.scrollY > 0")


def test_a_prediction_is_a_button_that_asks_for_its_class(view_open):
    page = view_open(small())
    buttons = page.locator("button.gcw-prediction")
    assert buttons.count() == 5
    assert buttons.nth(0).get_attribute("aria-pressed") == "true"
    assert buttons.nth(1).get_attribute("aria-pressed") == "false"
    buttons.nth(1).click()
    buttons.nth(2).focus()
    page.keyboard.press("Enter")
    sent = page.evaluate("model.sent")
    assert sent == [
        {"type": "ready", "complete": True},
        {"type": "target", "index": 282},
        {"type": "target", "index": 281},
    ]


def test_a_class_beyond_the_first_five_is_shown_with_its_probability(view_open):
    target = {"index": 504, "label": "coffee mug", "score": -3.0, "probability": 0.00001}
    page = view_open(small(scene=scene(CAM, ALPHA, CONTRIBUTION, target=target)))
    assert page.locator("button.gcw-prediction[aria-pressed=true]").count() == 0
    assert page.locator(".gcw-explained").inner_text().split("\n") == ["coffee mug", "<0.001"]


def test_a_notice_is_an_alert_and_marks_what_is_stale(view_open):
    page = view_open(small())
    alert = page.get_by_role("alert")
    assert alert.inner_text() == ""
    receive(page, notice={"title": "There is no such layer.", "message": "Nearest: conv_head.", "stale": True})
    page.wait_for_selector(".gcw.gcw-stale")
    assert alert.inner_text().split("\n") == ["There is no such layer.", "Nearest: conv_head."]
    assert page.get_by_text("not this selection").is_visible()
    assert "grayscale" in page.locator(".gcw-picture").evaluate("c => getComputedStyle(c).filter")
    receive(page, notice={})
    page.wait_for_selector(".gcw:not(.gcw-stale)")
    assert alert.inner_text() == ""
    assert page.get_by_text("not this selection").is_hidden()


STRIP = {
    "features.stem": np.array([[0, 255, 60], [10, 20, 30], [0, 0, 128]], np.uint8),
    "blocks.0._project_conv": np.array([[255, 1, 2], [3, 4, 5], [6, 7, 8]], np.uint8),
    "blocks.1._project_conv": np.zeros((2, 2), np.uint8),
    "conv_head": np.array([[255, 40], [0, 9]], np.uint8),
    "tail": None,
}


def chosen_layers(page: Any) -> list[str]:
    return page.locator('.gcw-layer[aria-selected="true"]').evaluate_all("all => all.map(t => t.dataset.name)")


def test_the_strip_shows_each_layer_in_its_own_cells_with_its_state(view_open):
    page = view_open(small(strip=strip(STRIP)))
    tiles = page.get_by_role("listbox", name="Layers").get_by_role("option")
    expect(tiles).to_have_count(5)
    for index, values in enumerate(list(STRIP.values())[:4]):
        shown = pixels(page, f".gcw-layer:nth-child({index + 1}) canvas")
        assert shown[..., :3].tolist() == TABLES["first"][values].tolist()
    assert chosen_layers(page) == ["conv_head"]
    labels = tiles.evaluate_all("all => all.map(tile => tile.getAttribute('aria-label'))")
    assert labels == [
        "features.stem · conv · 8 × 3 × 3",
        "blocks.0._project_conv · conv · 8 × 3 × 3",
        "blocks.1._project_conv · conv · 8 × 2 × 2: no positive evidence",
        "conv_head · conv · 8 × 2 × 2",
        "tail · conv · 8 × 0 × 0: no map yet",
    ]
    assert tiles.nth(1).get_attribute("title") == labels[1]
    assert tiles.nth(1).inner_text().split() == ["_pro…conv", "b.0", "3²"]
    faded = "all => all.map(tile => Number(getComputedStyle(tile.firstChild).opacity) < 0.5)"
    assert tiles.evaluate_all(faded) == [False, False, True, False, False]
    stages = "all => all.map(tile => tile.classList.contains('gcw-stage-start'))"
    assert tiles.evaluate_all(stages) == [False, False, True, False, True]
    assert "faded: no positive evidence" in page.locator(".gcw-strip").inner_text()


def test_the_strip_does_not_redraw_the_scene_and_follows_the_colour_map(view_open):
    page = view_open(small())
    assert page.locator(".gcw-strip").is_hidden()
    page.evaluate(COUNT)
    receive(page, strip=strip(STRIP))
    expect(page.locator(".gcw-layer")).to_have_count(5)
    page.evaluate("() => model.set('colormap', 'second')")
    shown = pixels(page, ".gcw-layer:nth-child(1) canvas")
    assert shown[..., :3].tolist() == TABLES["second"][STRIP["features.stem"]].tolist()
    assert page.evaluate("window.drawn") == []
    signed = np.array([[1, 128, 255]], np.uint8)
    receive(page, strip=strip({"a": signed, "b": signed}, "signed"))
    expect(page.locator(".gcw-layer")).to_have_count(2)
    shown = pixels(page, ".gcw-layer:nth-child(1) canvas")[0, :, :3]
    assert shown.tolist() == TABLES["cool-warm"][[0, 128, 255]].tolist()


def test_a_click_and_the_arrow_keys_choose_a_layer_of_the_strip(view_open):
    page = view_open(small(strip=strip(STRIP)))
    tiles = page.locator(".gcw-layer")
    expect(tiles).to_have_count(5)
    page.evaluate(LISTEN)
    assert page.locator('.gcw-layer[tabindex="0"]').get_attribute("data-name") == "conv_head"
    tiles.nth(0).click()
    tiles.nth(0).focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft", "End", "Home", "b"):
        page.keyboard.press(key)
    sent = [message["name"] for message in page.evaluate("model.sent") if message["type"] == "layer"]
    names = list(STRIP)
    assert sent == [names[0], names[1], names[2], names[1], names[4], names[0]]
    assert page.evaluate("window.heard") == []
    assert page.evaluate("document.activeElement.dataset.name") == names[0]
    # The outline follows the map that is shown, not the wish.
    assert chosen_layers(page) == ["conv_head"]
    receive(page, scene=scene(CAM, ALPHA, CONTRIBUTION, layer="features.stem", revision=2))
    revision(page, 2)
    assert chosen_layers(page) == ["features.stem"]


def test_the_strip_plays_one_layer_at_a_time_and_stops(view_open):
    page = view_open(small(strip=strip(STRIP)))
    expect(page.locator(".gcw-layer")).to_have_count(5)
    receive(page, scene=scene(CAM, ALPHA, CONTRIBUTION, layer="features.stem", revision=2))
    revision(page, 2)
    halt(page)
    wanted = "() => model.sent.filter(m => m.type === 'layer').map(m => m.name)"
    page.get_by_role("button", name="Play through the layers").click()
    assert page.evaluate(wanted) == ["blocks.0._project_conv"]
    page.wait_for_timeout(900)
    assert page.evaluate(wanted) == ["blocks.0._project_conv"]  # it waits for the map
    answer(page, scene=scene(CAM, ALPHA, CONTRIBUTION, layer="blocks.0._project_conv", revision=3))
    page.wait_for_function("model.sent.filter(m => m.type === 'layer').length === 2")
    page.get_by_role("button", name="Stop at this layer").click()
    answer(page, scene=scene(CAM, ALPHA, CONTRIBUTION, layer="blocks.1._project_conv", revision=4))
    page.wait_for_timeout(900)
    assert page.evaluate(wanted)[1:] == ["blocks.1._project_conv"]


def test_a_long_strip_scrolls_by_itself_and_keeps_the_chosen_layer_in_sight(view_open):
    cells = STRIP["conv_head"]
    many_layers = strip({**{f"layer{i}": cells for i in range(80)}, "conv_head": cells})
    page = view_open(small(strip=many_layers), width=480, style="body { margin: 0; }")
    expect(page.locator(".gcw-layer")).to_have_count(81)
    assert page.evaluate("document.documentElement.scrollWidth") <= 480
    tile = page.locator('.gcw-layer[aria-selected="true"]').bounding_box()
    assert tile["x"] >= 0
    assert tile["x"] + tile["width"] <= 480
    assert page.evaluate("window.scrollY") == 0


def test_many_passes_are_asked_for_then_counted_and_can_be_cancelled(view_open):
    page = view_open(small())
    group = page.get_by_role("group", name="Many passes")
    assert group.count() == 0
    waiting = {"method": "ScoreCAM", "cost": "one forward pass per channel", "total": 1280, "done": None}
    receive(page, task=waiting)
    expect(group).to_contain_text("ScoreCAM needs one forward pass per channel.")
    assert page.locator(".gcw.gcw-stale").count() == 1
    assert group.get_by_role("progressbar").count() == 0
    group.get_by_role("button", name="Compute 1280 passes").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("model.sent.at(-1)") == {"type": "compute"}
    receive(page, task={**waiting, "done": 320})
    expect(group).to_contain_text("ScoreCAM: 320 of 1280 passes")
    bar = group.get_by_role("progressbar")
    assert bar.evaluate("bar => [bar.value, bar.max]") == [320, 1280]
    page.keyboard.press("Enter")  # the focus has stayed on the button, which now stops
    assert page.evaluate("model.sent.at(-1)") == {"type": "cancel"}
    receive(page, task={}, scene=scene(CAM, ALPHA, CONTRIBUTION, revision=2))
    revision(page, 2)
    assert group.count() == 0
    assert page.locator(".gcw.gcw-stale").count() == 0


def test_before_the_first_scene_it_waits_quietly(view_open):
    page = view_open({**small(), "scene": {}, "picture": {}}, drawn=False)
    page.get_by_text("waiting for the first map").wait_for()
    assert page.locator(".gcw-bar").count() == 0
    receive(page, notice={"title": "The model failed.", "message": "It raised an error.", "stale": True})
    page.get_by_text("The model failed.").wait_for()
    assert page.get_by_text("not this selection").is_hidden()
    assert page.evaluate(
        "document.querySelector('.gcw').scrollWidth <= document.querySelector('.gcw').clientWidth"
    )
    receive(page, **{**small(), "notice": {}})
    revision(page, 1)
    assert page.get_by_text("waiting for the first map").is_hidden()
    assert len(bars(page)) == 6


HOSTILE = (
    "<img src=x onerror=\"document.body.dataset.hacked='yes'\"><script>document.body.dataset.hacked='yes'</script>"
)


def test_hostile_names_stay_text(view_open):
    bad = scene(
        CAM,
        ALPHA,
        CONTRIBUTION,
        layer=HOSTILE,
        label=HOSTILE,
        predictions=[(285, HOSTILE, 0.4)],
        diagnosis=HOSTILE,
        method={"name": HOSTILE, "weights": HOSTILE},
        status={"device": HOSTILE, "note": HOSTILE, "milliseconds": 1.0, "passes": HOSTILE},
    )
    sent = small(scene=bad, notice={"title": HOSTILE, "message": HOSTILE, "stale": True})
    sent["picture"]["name"] = HOSTILE
    page = view_open(sent)
    page.locator(".gcw-bar").first.hover()
    assert page.locator(".gcw img, .gcw script").count() == 0
    assert page.evaluate("document.body.dataset.hacked") is None
    assert page.locator(".gcw-label").first.inner_text() == HOSTILE
    assert page.locator(".gcw-diagnosis").inner_text() == HOSTILE
    assert HOSTILE in page.locator(".gcw-picture").get_attribute("aria-label")


SPY = """window.open = { observers: 0, bitmaps: [] };
for (const name of ['MutationObserver', 'ResizeObserver']) {
  const kind = window[name];
  window[name] = class extends kind {
    observe(...all) {
      const ours = new Error().stack.includes('blob:');  // the view's module; the test driver has observers too
      if (ours && !this.counted) { this.counted = true; window.open.observers += 1; }
      super.observe(...all);
    }
    disconnect() { window.open.observers -= this.counted ? 1 : 0; this.counted = false; super.disconnect(); }
  };
}
const decode = createImageBitmap;
window.createImageBitmap = async (...all) => {
  const made = await decode(...all);
  window.open.bitmaps.push(made);
  return made;
};
const listen = EventTarget.prototype.addEventListener;
window.unbound = 0;
EventTarget.prototype.addEventListener = function (name, act, options) {
  const outside = this === window || this === document || this === document.body || this instanceof MediaQueryList;
  if (outside && !options?.signal && new Error().stack.includes('blob:')) window.unbound += 1;
  return listen.call(this, name, act, options);
};"""

COUNT = """() => { window.drawn = []; const root = document.querySelector('.gcw');
  new MutationObserver(all => all.forEach(() => window.drawn.push(root.dataset.revision)))
    .observe(root, { attributes: true, attributeFilter: ['data-revision'] }); }"""


def test_one_message_is_one_redraw(view_open):
    page = view_open(small(), before=SPY)
    page.evaluate(COUNT)
    next_scene = scene(CAM * 2, -ALPHA, CONTRIBUTION, revision=2, label="lynx", index=287)
    receive(
        page, picture=small()["picture"], scene=next_scene, notice={"title": "", "message": "", "stale": False}
    )
    revision(page, 2)
    page.wait_for_timeout(100)
    assert page.evaluate("window.drawn") == ["2"]
    assert page.evaluate("window.open.bitmaps.length") == 2  # the picture, too, is unpacked once for a message
    assert bars(page) == [1, 5, 0, 4, 2, 3]
    assert float(page.locator(".gcw-bar").first.get_attribute("data-alpha")) == np.float32(0.0045)
    assert "lynx at conv_head" in page.locator(".gcw-live").text_content()


SLOW = """const whole = Response.prototype.arrayBuffer;
Response.prototype.arrayBuffer = async function () {
  const bytes = await whole.call(this);
  await new Promise(done => setTimeout(done, 300));
  return bytes;
};"""


def test_the_latest_scene_wins_over_one_that_takes_longer_to_unpack(view_open):
    page = view_open(small(), before=SLOW)
    page.evaluate(COUNT)
    receive(page, scene=scene(CAM, ALPHA, CONTRIBUTION, dtype="u8z", revision=2))
    page.wait_for_timeout(20)
    receive(page, scene=scene(CAM, ALPHA, CONTRIBUTION, revision=3))
    revision(page, 3)
    page.wait_for_timeout(600)
    assert page.evaluate("window.drawn") == ["3"]


def test_a_map_that_cannot_be_unpacked_is_said_and_the_next_one_drawn(view_open):
    page = view_open(small())
    broken = scene(CAM, ALPHA, CONTRIBUTION, revision=2)
    broken["cam"] = {**encode(CAM, "f32"), "shape": [9, 9]}
    receive(page, scene=broken)
    page.get_by_text("12 values instead of 81").wait_for()
    assert page.locator(".gcw.gcw-stale").count() == 1
    receive(page, scene=scene(CAM, ALPHA, CONTRIBUTION, revision=3))
    revision(page, 3)
    assert page.locator(".gcw.gcw-stale").count() == 0
    assert page.get_by_role("alert").inner_text() == ""


@pytest.mark.parametrize("lost", ["picture", "cam", "tables"])
def test_the_kernel_is_told_when_a_buffer_did_not_arrive(view_open, lost):
    sent = small()
    if lost == "picture":
        sent["picture"]["data"] = None
    elif lost == "cam":
        sent["scene"]["cam"]["data"] = None
    else:
        sent["tables"]["first"]["data"] = None
    page = view_open(sent, drawn=False)
    page.wait_for_function("window.model?.sent.length > 0")
    assert page.evaluate("model.sent") == [{"type": "ready", "complete": False}]
    receive(page, **small())
    revision(page, 1)
    assert page.get_by_role("alert").inner_text() == ""


def test_cleanup_leaves_nothing_behind(view_open):
    page = view_open(small(), before=SPY)
    receive(page, picture={**small()["picture"], "name": "again"})
    page.get_by_text("again · 4 × 3 cells").wait_for()
    assert page.evaluate("window.open.bitmaps.map(b => b.width)") == [0, 64]
    assert page.evaluate("window.open.observers") > 0
    page.evaluate("window.cleanup(); window.forget()")
    assert page.evaluate("model.listeners.length") == 0
    assert page.evaluate("window.open.observers") == 0
    assert page.evaluate("window.open.bitmaps.map(b => b.width)") == [0, 0]
    assert page.evaluate("window.unbound") == 0
    assert page.locator("#place").evaluate("place => place.childElementCount") == 0
    receive(page, scene=scene(CAM, ALPHA, CONTRIBUTION, revision=2), opacity=0.1)
    page.evaluate("document.body.dataset.jpThemeLight = 'false'")
    page.wait_for_timeout(50)


def test_two_views_of_one_model_live_apart(view_open):
    page = view_open(small())
    page.evaluate("() => { window.second = window.show(); }")
    page.wait_for_function("document.querySelectorAll('.gcw[data-revision]').length === 2")
    page.evaluate("window.cleanup()")
    receive(page, scene=scene(CAM, ALPHA, CONTRIBUTION, revision=2))
    revision(page, 2)
    page.evaluate("model.set('opacity', 0)")
    assert pixels(page)[400, 400, :3].tolist() == [5, 10, 15]


@pytest.mark.parametrize(
    ("body", "style", "scheme", "theme", "own"),
    [
        ('data-jp-theme-light="true"', "", "dark", "light", False),
        ('data-jp-theme-light="false"', "", "light", "dark", False),
        ('class="vscode-dark"', "", "light", "dark", False),
        ("", "body { background: #fff; }", "dark", "light", False),
        ("", "body { background: #181818; }", "light", "dark", False),
        ("", "", "dark", "dark", True),
        ("", "", "light", "light", False),
    ],
)
def test_the_theme_is_the_hosts_and_the_systems_only_without_one(view_open, body, style, scheme, theme, own):
    page = view_open(small(), body=body, style=style, scheme=scheme)
    root = page.locator(".gcw")
    page.wait_for_selector(".gradcam-widget[data-gcw-theme]")
    assert root.get_attribute("data-gcw-theme") == theme
    assert page.locator(".gradcam-widget").get_attribute("data-gcw-theme") == theme
    assert (root.get_attribute("data-gcw-own-ground") is not None) is own


def test_the_theme_follows_the_notebook_also_on_the_canvases(view_open):
    page = view_open(small(), body='data-jp-theme-light="true"')
    light = pixels(page, ".gcw-overview")[2, 2].tolist()
    page.evaluate("document.body.dataset.jpThemeLight = 'false'")
    page.wait_for_selector('.gcw[data-gcw-theme="dark"]')
    next_frame(page)
    assert pixels(page, ".gcw-overview")[2, 2].tolist() != light or light[3] == 0
    assert [*pixels(page, ".gcw-overview")[40, 2, :3]] == [0x60, 0xA5, 0xFA]


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize(
    "body",
    [
        'data-jp-theme-light="true"',
        'data-jp-theme-light="false"',
        'class="vscode-dark"',
        'class="vscode-light"',
        "",
    ],
)
def test_text_and_bars_stand_out_from_the_ground(view_open, body):
    page = view_open(small(), body=body)

    def colour(name: str) -> str:
        return page.locator(".gcw").evaluate(
            f"root => getComputedStyle(root).getPropertyValue('--gcw-{name}').trim()"
        )

    for ground in ("ground", "wash"):
        for name, least in (("ink", 4.5), ("muted", 4.4), ("pro", 3), ("con", 3), ("accent", 3), ("bar", 3)):
            lighter, darker = sorted((luminance(colour(name)), luminance(colour(ground))), reverse=True)
            ratio = (lighter + 0.05) / (darker + 0.05)
            assert ratio >= (least if ground == "ground" else min(least, 3.5)), (name, ground, ratio)


@pytest.mark.parametrize(("width", "columns"), [(480, 1), (620, 1), (800, 2), (1120, 2), (1600, 2)])
def test_the_layout_fits_from_480_to_1600_pixels(view_open, width, columns):
    alpha, contribution = many(2048)
    long = "features.denseblock4.denselayer32.very_long_module_name.conv2"
    wide = scene(CAM, alpha, contribution, layer=long, label="black-and-tan coonhound, a dog of a long name")
    page = view_open(small(scene=wide), width=width, style="body { margin: 0; }")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    picture, title = page.locator(".gcw-picture").bounding_box(), page.locator(".gcw-title").bounding_box()
    beside = title["x"] >= picture["x"] + picture["width"]
    below = title["y"] >= picture["y"] + picture["height"]
    assert (beside, below) == (columns == 2, columns == 1)
    assert "…" in page.locator(".gcw-title").inner_text()
    assert long in page.locator(".gcw-title").get_attribute("title")
    page.set_viewport_size({"width": 520, "height": 900})
    page.wait_for_selector('.gcw[data-layout="narrow"]')
    # It may have been narrow before: the view follows its new width in the next frames.
    page.wait_for_function("document.documentElement.scrollWidth <= 520")


def test_a_picture_that_is_not_square_keeps_its_shape(view_open):
    page = view_open(state(quarters(32, 64), scene(CAM, ALPHA, CONTRIBUTION), TABLES), ratio=2)
    assert pixels(page).shape[:2] == (448, 896)


CONTROLS = """<div class="gradcam-controls">
<div class="jupyter-widgets widget-inline-hbox widget-dropdown"><label class="widget-label" for="p">Picture</label>
<select id="p"><option>chelsea</option></select></div>
<button class="jupyter-button" title="Next layer"></button>
<div class="jupyter-widgets widget-text gradcam-class"><label for="c">Class</label>
<input type="text" id="c" list="classes" value="tabby · 0.21" placeholder="class">
<datalist id="classes"><option value="tabby · 0.21"></option><option value="lynx"></option></datalist></div>
<div class="jupyter-widgets widget-toggle-buttons"><label>Evidence</label><div>
<button class="jupyter-button widget-toggle-button mod-active" title="for">positive</button>
<button class="jupyter-button widget-toggle-button" title="both">signed</button></div></div>
<div class="jupyter-widgets widget-slider"><label>Opacity</label>
<div class="noUi-handle" role="slider" tabindex="0"></div></div></div>"""


def test_the_controls_keep_their_keys_and_get_their_names(view_open):
    page = view_open(small(), controls=CONTROLS)
    page.wait_for_selector("#p[data-lm-suppress-shortcuts]")
    focusable = ":is(select, button, canvas, input, [tabindex])"
    bare = f"document.querySelectorAll('{focusable}:not([data-lm-suppress-shortcuts])').length"
    assert page.evaluate(bare) == 0
    assert page.get_by_role("button", name="Next layer").count() == 1
    assert page.get_by_role("slider", name="Opacity").count() == 1
    pressed = page.get_by_role("group", name="Evidence").get_by_role("button", pressed=True)
    assert pressed.all_inner_texts() == ["positive"]
    page.evaluate(
        "() => document.querySelectorAll('.widget-toggle-button').forEach(b => b.classList.toggle('mod-active'))"
    )
    expect(pressed).to_have_text("signed")
    page.evaluate("() => document.querySelector('.gradcam-controls').append(document.createElement('select'))")
    page.wait_for_function(f"{bare} === 0")


def test_the_class_field_offers_the_whole_list_and_takes_its_text_back(view_open):
    page = view_open(small(), controls=CONTROLS)
    page.wait_for_selector("#c[data-lm-suppress-shortcuts]")
    field = page.locator("#c")
    field.focus()
    assert (field.input_value(), field.get_attribute("placeholder")) == ("", "tabby · 0.21")
    field.blur()
    assert (field.input_value(), field.get_attribute("placeholder")) == ("tabby · 0.21", "class")
    field.fill("lynx")
    field.blur()
    assert field.input_value() == "lynx"


def test_the_name_of_a_class_is_whole_where_there_is_room(view_open):
    long = "a class with a name of forty-one letters"
    chosen = [(285, "Egyptian cat", 0.4), (282, long, 0.3)]
    page = view_open(state(quarters(), scene(CAM, ALPHA, CONTRIBUTION, predictions=chosen), TABLES))
    label = page.locator(".gcw-predictions .gcw-label").nth(1)
    assert label.evaluate("label => label.scrollWidth <= label.clientWidth")
    starts = page.locator(".gcw-predictions .gcw-share").evaluate_all(
        "all => all.map((bar) => bar.getBoundingClientRect().left)"
    )
    assert starts[0] == starts[1]  # and the bars begin below one another


def test_a_field_that_cuts_its_text_has_it_whole_in_its_title(view_open):
    page = view_open(small(), controls=CONTROLS)
    page.wait_for_selector("#p[data-lm-suppress-shortcuts]")
    page.evaluate("document.querySelector('#p option').text = 'conv_head\\u00a0· <b>1280</b> × 7 × 7'")
    page.locator("#p").hover()
    expect(page.locator("#p")).to_have_attribute("title", "conv_head · <b>1280</b> × 7 × 7")
    page.locator("#c").hover()
    expect(page.locator("#c")).to_have_attribute("title", "tabby · 0.21")
    page.locator("#c").fill("lynx")
    page.locator("#p").hover()
    page.locator("#c").hover()
    expect(page.locator("#c")).to_have_attribute("title", "lynx")


def test_a_layer_that_has_a_number_for_a_name_is_shown_with_the_word_before_it(view_open):
    page = view_open(small(strip=strip(dict.fromkeys(("layer4.1", "blocks.9.conv", "3"), STRIP["conv_head"]))))
    first = page.locator(".gcw-layer .gcw-short:nth-child(2)")
    expect(first).to_have_text(["layer4.1", "conv", "3"])


def whole_row() -> str:
    """The row of controls as ipywidgets writes it, in what decides how wide each is."""

    def labelled(name: str, kind: str, control: str) -> str:
        return f'<div class="jupyter-widgets {kind}"><label class="widget-label">{name}</label>{control}</div>'

    def listed(name: str, kind: str) -> str:
        control = f"<select><option>{name} of all</option></select>"
        return labelled(name, f"widget-dropdown {kind}", control)

    def typed(name: str, kind: str) -> str:
        return labelled(name, f"widget-text {kind}", f'<input type="text" value="{name}">')

    def button(kind: str) -> str:
        return f'<button class="jupyter-widgets jupyter-button {kind}"></button>'

    sides = "".join(
        f'<button class="jupyter-button widget-toggle-button">{side}</button>'
        for side in ("positive", "signed", "counterfactual")
    )
    return f"""<div class="jupyter-widgets widget-box gradcam-controls">{listed("Picture", "gradcam-picture")}
{button("gradcam-upload")}<div class="jupyter-widgets widget-box gradcam-layer-group">
{button("gradcam-previous")}{listed("Layer", "gradcam-layer")}{button("gradcam-next")}</div>
{listed("Show", "gradcam-show")}{typed("Class", "gradcam-class")}{listed("Method", "gradcam-method")}
<div class="jupyter-widgets widget-toggle-buttons gradcam-evidence"><label>Evidence</label><div>{sides}</div></div>
<div class="jupyter-widgets widget-box gradcam-pair">{typed("Compare with", "gradcam-class gradcam-compare")}
{button("gradcam-alone")}</div>{listed("Colour map", "gradcam-colormap")}
<div class="jupyter-widgets widget-slider gradcam-opacity"><label class="widget-label">Opacity</label>
<div class="slider-container"><div class="slider"></div></div></div></div>"""


@pytest.mark.parametrize("width", [326, 356, 386, 626, 666, 692, 716, 741, 766, 775, 816, 866, 966, 1138, 1246])
def test_the_controls_fill_their_lines_and_none_stands_alone_in_the_last(view_open, width):
    page = view_open(small(), controls=whole_row(), style=f".gradcam-controls {{ width: {width}px !important }}")
    lines: dict[int, list[dict[str, float]]] = {}
    for box in page.locator(".gradcam-controls > *").evaluate_all(
        "all => all.map(e => e.getBoundingClientRect())"
    ):
        lines.setdefault(round(box["bottom"]), []).append(box)
    assert len(list(lines.values())[-1]) >= 3
    left = page.locator(".gradcam-controls").bounding_box()["x"]
    assert all(line[-1]["right"] <= left + width + 0.5 for line in lines.values())
    if width >= 692:
        assert len(lines) == 2
    if 692 <= width <= 816:
        assert all(line[-1]["right"] >= left + width - 1 for line in lines.values())


def test_no_line_of_the_caption_begins_with_a_dot(view_open):
    remark = "the activation maps of this layer are not in this file"
    page = view_open(small(scene=scene(CAM, ALPHA, CONTRIBUTION, evidence="signed", remark=remark)))
    expect(page.locator(".gcw-caption")).to_have_text(
        f"chelsea · 4 × 3 cells · {remark} · signed: for the class and against it"
    )
    # The dots of the caption that stand lower than the end of the fact before them, at each of many widths.
    fallen = page.locator(".gcw-caption").evaluate(
        """caption => {
            const text = caption.firstChild, range = document.createRange(), fallen = [];
            const top = (at) => {
                range.setStart(text, at);
                range.setEnd(text, at + 1);
                return range.getBoundingClientRect().top;
            };
            for (let width = 120; width < 640; width += 3) {
                caption.style.width = `${width}px`;
                for (const { index } of text.data.matchAll(/·/g)) {
                    if (top(index) > top(index - 2)) fallen.push([width, index]);
                }
            }
            return fallen;
        }"""
    )
    assert fallen == []
