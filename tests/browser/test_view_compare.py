"""Two classes side by side in the view: pictures, limits, bars, the true class and the scale."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import expect
from view_page import (
    ALPHA,
    CAM,
    CONTRIBUTION,
    TABLES,
    bars,
    encode,
    many,
    next_frame,
    pixels,
    receive,
    revision,
    scene,
    small,
    strip,
)

SECOND = np.array([[0.8, 0.0, 0.0], [0.4, 0.2, 0.0], [0.1, 0.0, 0.5], [3.4, 0.0, 0.0]])
CONTRAST = CAM - SECOND
OTHER = np.array([-0.001, -0.002, 0.0015, 0.0, 0.0022, -0.009])


def paired(evidence: str = "positive", *, alpha: Any = OTHER, cam: Any = SECOND, **changes: Any) -> dict[str, Any]:
    first = changes.pop("first", ALPHA)
    contrast = CAM - cam
    return scene(
        CAM,
        first,
        changes.pop("contribution", CONTRIBUTION),
        evidence=evidence,
        compare={
            "target": {"index": 282, "label": "tiger cat", "score": 8.1, "probability": 0.255},
            "max": float(np.abs(cam).max()),
            "contrast_max": float(np.abs(contrast).max()),
            "alpha": encode(np.asarray(alpha), "f32"),
            "cam": encode(cam, "f32"),
            "contrast": encode(contrast, "f32"),
        },
        **changes,
    )


def compared(**changes: Any) -> dict[str, Any]:
    return small(scene=paired(), **changes)


def centre(cam: np.ndarray, row: int, col: int, seen: np.ndarray) -> tuple[int, int]:
    """The pixel in the middle of a corner cell, where enlarging holds the cell's own value."""
    height, width = seen.shape[:2]
    y = 1 if row == 0 else height - 2
    x = 1 if col == 0 else width - 2
    assert row in (0, cam.shape[0] - 1)
    assert col in (0, cam.shape[1] - 1)
    return y, x


def blended(share: float, colour: np.ndarray, under: tuple[int, int, int], opacity: float) -> np.ndarray:
    mix = opacity * min(1.0, 2 * abs(share))
    return np.array(under) * (1 - mix) + colour.astype(float) * mix


CORNERS = {(0, 0): (200, 30, 60), (0, 2): (20, 90, 240), (3, 0): (250, 250, 245), (3, 2): (5, 10, 15)}


@pytest.mark.parametrize("opacity", [1.0, 0.5])
def test_both_classes_share_one_scale_and_the_contrast_has_its_own(view_open, opacity):
    page = view_open(compared(opacity=opacity))
    # The largest value of both, 3.4, has the last colour of the table; the contrast is largest at (3, 0): -3.2.
    for selector, cam, limit, signed in (
        (".gcw-picture", CAM, 3.4, False),
        (".gcw-plate-second .gcw-map", SECOND, 3.4, False),
        (".gcw-plate-contrast .gcw-map", CONTRAST, 3.2, True),
    ):
        seen = pixels(page, selector)
        table = TABLES["cool-warm" if signed else "first"]
        for (row, col), under in CORNERS.items():
            share = cam[row, col] / limit
            colour = table[int(((share + 1) / 2 if signed else share) * 255 + 0.5)]
            got = seen[(*centre(cam, row, col, seen), slice(0, 3))]
            np.testing.assert_allclose(got, blended(share, colour, under, opacity), atol=2.5)


def test_in_signed_evidence_one_value_has_one_colour_in_all_three(view_open):
    signed = small(scene=paired("signed"))
    page = view_open(signed)
    for selector, cam in (
        (".gcw-picture", CAM),
        (".gcw-plate-second .gcw-map", SECOND),
        (".gcw-plate-contrast .gcw-map", CONTRAST),
    ):
        seen = pixels(page, selector)
        for (row, col), under in CORNERS.items():
            share = cam[row, col] / 3.4
            colour = TABLES["cool-warm"][int((share + 1) / 2 * 255 + 0.5)]
            got = seen[(*centre(cam, row, col, seen), slice(0, 3))]
            np.testing.assert_allclose(got, blended(share, colour, under, 0.5), atol=2.5)
    bars_ = page.locator(".gcw-scale").evaluate_all("all => all.map(bar => bar.getAttribute('aria-label'))")
    assert bars_ == ["colour scale from −3.40 to 3.40"] * 3


def test_each_colour_bar_tells_its_limits(view_open):
    page = view_open(compared())
    labels = page.locator(".gcw-scale").evaluate_all("all => all.map(bar => bar.getAttribute('aria-label'))")
    assert labels == ["colour scale from 0 to 3.40"] * 2 + ["colour scale from −3.20 to 3.20"]
    expect(page.locator(".gcw-plate-contrast .gcw-most")).to_have_text("3.20first")
    expect(page.locator(".gcw-plate-contrast .gcw-least")).to_have_text("second−3.20")


def test_the_pictures_are_named_for_those_who_do_not_see_them(view_open):
    page = view_open(compared())
    names = page.locator("canvas:is(.gcw-picture, .gcw-map)").evaluate_all(
        "all => all.map(c => c.getAttribute('aria-label'))"
    )
    assert names == [
        "chelsea: Grad-CAM for Egyptian cat at conv_head",
        "chelsea: Grad-CAM for tiger cat at conv_head",
        "chelsea: contrast, Egyptian cat rather than tiger cat, at conv_head",
    ]
    heads = page.locator(".gcw-platehead").all_inner_texts()
    assert [head.split("\n") for head in heads] == [
        ["Egyptian cat", "y = 8.30 · 0.384"],
        ["tiger cat", "y = 8.10 · 0.255"],
        ["Egyptian cat − tiger cat", "Δy = +0.200"],
    ]


def test_each_row_has_both_alphas_and_their_difference_at_one_length_per_value(view_open):
    page = view_open(compared())
    # The largest of all bars is the difference of channel 5: 0.003 + 0.009.
    rows = page.locator(".gcw-bar").evaluate_all(
        """bars => bars.map((bar) => [Number(bar.dataset.channel), Number(bar.dataset.alpha),
            Number(bar.dataset.second), Number(bar.dataset.difference),
            ...[...bar.querySelectorAll('.gcw-fill')].map((fill) => {
                const inside = fill.getBoundingClientRect(), track = fill.parentElement.getBoundingClientRect();
                const middle = (track.left + track.right) / 2;
                return (inside.left >= middle - 1.5 ? 1 : -1) * inside.width / track.width * 2;
            })])"""
    )
    assert len(rows) == 6
    for channel, alpha, second, difference, *lengths in rows:
        assert alpha == pytest.approx(ALPHA[channel], abs=1e-9)
        assert second == pytest.approx(OTHER[channel], abs=1e-9)
        assert difference == pytest.approx(ALPHA[channel] - OTHER[channel], abs=1e-9)
        for value, length in zip((alpha, second, difference), lengths, strict=True):
            assert abs(length) == pytest.approx(abs(value) / 0.012, abs=0.03)
            assert value == 0 or np.sign(length) == np.sign(value)


@pytest.mark.parametrize("width", [480, 700, 860, 1120, 1600])
def test_one_value_has_one_length_in_all_three_columns(view_open, width):
    page = view_open(compared())
    page.set_viewport_size({"width": width + 48, "height": 1000})
    next_frame(page)
    tracks = page.locator(".gcw-bar").first.locator(".gcw-track")
    widths = [tracks.nth(i).bounding_box()["width"] for i in range(3)]
    assert max(widths) - min(widths) <= 1, widths


def test_channels_for_one_and_against_the_other_are_marked_counted_and_said(view_open):
    page = view_open(compared())
    # 0: +, -; 2: +, +; 4: -, +; 5: +, -; 1: -, -; 3: 0, 0
    marked = page.locator(".gcw-bar:has(.gcw-split)").evaluate_all(
        "all => all.map(b => Number(b.dataset.channel))"
    )
    assert sorted(marked) == [0, 4, 5]
    expect(page.locator(".gcw-coverage")).to_have_text(
        "2 channels speak for Egyptian cat and against tiger cat ⇄, 1 the other way round"
    )
    label = page.locator('.gcw-bar[data-channel="5"]').get_attribute("aria-label")
    assert label.endswith("for tiger cat −0.00900, difference +0.0120, for one and against the other")


def test_the_bars_can_be_sorted_by_difference_and_only_then(view_open):
    page = view_open(compared())
    page.get_by_label("Sort", exact=True).select_option("difference")
    assert bars(page) == np.argsort(-np.abs(ALPHA - OTHER), kind="stable").tolist()
    receive(page, scene=scene(CAM, ALPHA, CONTRIBUTION, revision=2))
    revision(page, 2)
    assert page.locator("option[value=difference]").evaluate("option => option.hidden")


def test_the_pointer_and_the_arrow_keys_read_a_cell_in_all_three(view_open):
    page = view_open(compared())
    canvas = page.locator(".gcw-plate-second .gcw-map")
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 6, box["y"] + box["height"] * 7 / 8)
    told = page.locator(".gcw-tip span").all_inner_texts()
    assert told == ["cell (3, 0)", "", "Egyptian cat", "0.200", "tiger cat", "3.40", "contrast", "−3.20"]
    outlines = page.locator(".gcw-cell")
    assert outlines.count() == 2
    for plate in ("second", "contrast"):
        outline = page.locator(f".gcw-plate-{plate} .gcw-cell").bounding_box()
        inside = page.locator(f".gcw-plate-{plate} .gcw-map").bounding_box()
        assert outline["x"] == pytest.approx(inside["x"], abs=1)
        assert outline["y"] == pytest.approx(inside["y"] + inside["height"] * 3 / 4, abs=1)
        assert outline["width"] == pytest.approx(inside["width"] / 3, abs=1)
    page.mouse.move(2, 2)
    expect(page.locator(".gcw-tip")).to_be_hidden()

    page.locator(".gcw-plate-contrast .gcw-map").focus()
    page.keyboard.press("ArrowRight")  # the first key reads the strongest cell
    expect(page.locator(".gcw-live")).to_contain_text("cell (3, 0)")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowRight")
    expect(page.locator(".gcw-live")).to_contain_text("cell (2, 1)")
    page.keyboard.press("Escape")
    expect(page.locator(".gcw-tip")).to_be_hidden()
    assert page.evaluate("window.model.sent.filter(m => m.type !== 'ready').length") == 0


CELLS = """() => [".gcw-probe", ".gcw-plate-second .gcw-cell", ".gcw-plate-contrast .gcw-cell"].map((selector) => {
  const outline = document.querySelector(selector);
  if (outline.hidden) return null;
  const box = outline.getBoundingClientRect();
  const all = outline.parentElement.querySelector("canvas").getBoundingClientRect();
  return [Math.round(4 * (box.top - all.top) / all.height), Math.round(3 * (box.left - all.left) / all.width)];
})"""


def test_a_cell_is_outlined_in_all_three_wherever_it_is_read(view_open):
    page = view_open(compared())
    assert page.evaluate(CELLS) == [None, None, None]
    first = page.locator(".gcw-picture").bounding_box()
    page.mouse.move(first["x"] + first["width"] / 6, first["y"] + first["height"] * 7 / 8)
    page.wait_for_function(f"JSON.stringify(({CELLS})()) === '[[3,0],[3,0],[3,0]]'")
    # CAM and SECOND at (3, 0), and their difference
    expect(page.locator(".gcw-tip")).to_contain_text("tiger cat3.40")
    expect(page.locator(".gcw-tip")).to_contain_text(f"contrast−{3.4 - CAM[3, 0]:.2f}")
    second = page.locator(".gcw-plate-second .gcw-map").bounding_box()
    page.mouse.move(second["x"] + second["width"] / 2, second["y"] + second["height"] / 8)
    page.wait_for_function(f"JSON.stringify(({CELLS})()) === '[[0,1],[0,1],[0,1]]'")
    page.mouse.move(2, 2)
    page.wait_for_function(f"JSON.stringify(({CELLS})()) === '[null,null,null]'")


def test_the_kept_cell_stays_outlined_in_all_three(view_open):
    page = view_open(compared(probe=[2, 1]))
    page.wait_for_function(f"JSON.stringify(({CELLS})()) === '[[2,1],[2,1],[2,1]]'")
    contrast = page.locator(".gcw-plate-contrast .gcw-map").bounding_box()
    page.mouse.move(contrast["x"] + 2, contrast["y"] + 2)
    page.wait_for_function(f"JSON.stringify(({CELLS})()) === '[[0,0],[0,0],[0,0]]'")
    page.mouse.move(2, 2)
    page.wait_for_function(f"JSON.stringify(({CELLS})()) === '[[2,1],[2,1],[2,1]]'")


@pytest.mark.parametrize("width", [480, 640, 860, 1120, 1600])
def test_the_three_pictures_fit_every_width(view_open, width):
    alpha, contribution = many(200)
    sent = paired(first=alpha, alpha=alpha[::-1].copy(), contribution=contribution)
    page = view_open(small(scene=sent), width=width)
    next_frame(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    boxes = [box.bounding_box() for box in page.locator("canvas:is(.gcw-picture, .gcw-map)").all()]
    tops = [round(box["y"]) for box in boxes]
    if width >= 860:
        assert tops[0] == tops[1] == tops[2]
        assert boxes[0]["width"] == pytest.approx(boxes[1]["width"], abs=8)
    else:
        assert tops[0] < tops[1] == tops[2]
    assert boxes[1]["width"] == boxes[2]["width"]
    under = max(box["y"] + box["height"] for box in boxes)
    assert page.locator(".gcw-title").bounding_box()["y"] > under


def test_a_comparison_ends_without_a_trace(view_open):
    page = view_open(compared())
    receive(page, scene=scene(CAM, ALPHA, CONTRIBUTION, revision=2))
    revision(page, 2)
    next_frame(page)
    assert page.locator(".gcw-plate").count() == 0
    assert page.locator(".gcw-pairtrack").count() == 0
    expect(page.locator(".gcw-platehead")).to_be_hidden()
    expect(page.locator(".gcw-pairhead")).to_be_hidden()
    plain = view_open(small())
    for selector in (".gcw-picture", ".gcw-bar"):
        assert page.locator(selector).first.bounding_box() == plain.locator(selector).first.bounding_box()
    assert (pixels(page) == pixels(plain)).all()


def test_a_comparison_that_cannot_be_is_said(view_open):
    note = "ScoreCAM needs one forward pass per channel. <b>Choose</b> GradCAM."
    page = view_open(small(scene=scene(CAM, ALPHA, CONTRIBUTION, compare={"note": note})))
    expect(page.locator(".gcw-comparenote")).to_have_text(note)
    assert page.locator(".gcw-plate").count() == 0


def test_a_new_comparison_is_announced(view_open):
    page = view_open(small())
    receive(page, scene=paired(revision=2))
    revision(page, 2)
    expect(page.locator(".gcw-live")).to_contain_text("compared with tiger cat: Egyptian cat at conv_head")


def test_equal_maps_are_said_to_be_equal(view_open):
    page = view_open(small(scene=paired(cam=CAM, alpha=ALPHA)))
    expect(page.locator(".gcw-plate-contrast .gcw-caption")).to_have_text(
        "No difference: both maps are the same at this layer."
    )
    expect(page.locator(".gcw-plate-contrast .gcw-scale")).to_be_hidden()


# -- the true class ----------------------------------------------------------------------------------------------


def test_the_true_class_is_marked_and_one_click_compares(view_open):
    truth = {"index": 281, "label": "tabby", "probability": 0.205}
    page = view_open(small(scene=scene(CAM, ALPHA, CONTRIBUTION, truth=truth)))
    assert page.locator(".gcw-true").evaluate_all("all => all.map(row => row.dataset.index)") == ["281"]
    expect(page.locator(".gcw-truth")).to_contain_text("tabby (0.205) is the true class")
    button = page.get_by_role("button", name="Compare prediction with truth")
    expect(button).to_have_attribute("aria-pressed", "false")
    button.focus()
    page.keyboard.press("Enter")
    assert page.evaluate("window.model.sent.at(-1).type") == "truth"
    right = {"index": 285, "label": "Egyptian cat", "probability": 0.384}
    receive(page, scene=scene(CAM, ALPHA, CONTRIBUTION, truth=right, revision=2))
    revision(page, 2)
    expect(page.locator(".gcw-truth")).to_contain_text("is the true class, as predicted")
    expect(button).to_be_hidden()
    met = {"index": 282, "label": "tiger cat", "probability": 0.255}
    receive(page, scene=paired(truth=met, revision=3))
    revision(page, 3)
    expect(button).to_have_attribute("aria-pressed", "true")


def test_without_a_label_nothing_is_said_of_the_truth(view_open):
    page = view_open(small())
    expect(page.locator(".gcw-truth")).to_be_hidden()
    assert page.locator(".gcw-true").count() == 0


# -- the scale ---------------------------------------------------------------------------------------------------

STRIP = strip({"conv1": np.array([[255, 0]], np.uint8), "conv_head": np.array([[0, 255], [51, 0]], np.uint8)})
STRIP["layers"][0]["max"] = 6.8
STRIP["layers"][1]["max"] = 1.7


def corner(page: Any, selector: str = ".gcw-picture") -> list[int]:
    seen = pixels(page, selector)
    return seen[-2, -2, :3].tolist()


def test_the_scale_is_own_shared_or_fixed_and_needs_no_kernel(view_open):
    # At the lower right corner the map is 1.1; its own maximum is 1.7, the strip's 6.8.
    page = view_open(small(strip=STRIP, opacity=1.0))
    page.wait_for_selector(".gcw-layer")

    def assert_limit(limit: float) -> None:
        share = min(1.1 / limit, 1)
        colour = TABLES["first"][int(share * 255 + 0.5)]
        np.testing.assert_allclose(corner(page), blended(share, colour, (5, 10, 15), 1.0), atol=2.5)

    scale = page.get_by_label("Scale", exact=True)
    bar = page.locator(".gcw-scale")
    expect(bar).to_have_attribute("aria-label", "colour scale from 0 to 1.70")
    assert_limit(1.7)
    scale.select_option(label="shared")
    expect(bar).to_have_attribute("aria-label", "colour scale from 0 to 6.80")
    next_frame(page)
    assert_limit(6.8)
    # The second layer's largest cell is a quarter of the scale now, the first layer's is all of it.
    first, second = (pixels(page, f".gcw-layer:nth-child({i}) canvas") for i in (1, 2))
    assert first[0, 0, :3].tolist() == TABLES["first"][255].tolist()
    np.testing.assert_allclose(second[0, 1, :3], TABLES["first"][64], atol=1.5)

    scale.select_option(label="fixed")
    limit = page.get_by_label("Limit of the scale")
    expect(limit).to_have_value("6.8")
    limit.fill("1")
    limit.press("Enter")
    expect(bar).to_have_attribute("aria-label", "colour scale from 0 to 1.00")
    expect(page.locator(".gcw-live")).to_have_text("scale fixed, up to 1.00")
    next_frame(page)
    assert_limit(1.0)
    assert page.evaluate("window.model.get('scale')") == 1
    limit.fill("-3")
    limit.press("Enter")
    expect(limit).to_have_value("1")
    assert page.evaluate("window.model.get('scale')") == 1
    assert page.evaluate("window.model.sent.filter(m => m.type !== 'ready').length") == 0

    receive(page, scale="picture")
    expect(limit).to_be_hidden()
    expect(bar).to_have_attribute("aria-label", "colour scale from 0 to 1.70")


def test_a_fixed_scale_holds_for_all_pictures_of_a_comparison(view_open):
    page = view_open(compared(scale=2.0))
    labels = page.locator(".gcw-scale").evaluate_all("all => all.map(bar => bar.getAttribute('aria-label'))")
    assert labels == ["colour scale from 0 to 2.00"] * 2 + ["colour scale from −2.00 to 2.00"]


def test_a_view_that_knows_of_no_scale_draws_as_ever(view_open):
    page = view_open(small())
    expect(page.get_by_label("Scale", exact=True)).to_have_value("picture")
    expect(page.locator(".gcw-most")).to_have_text("1.70max")


@pytest.mark.parametrize(("scale", "word"), [("picture", "max"), (2.0, "scale")])
def test_the_colour_bars_of_both_classes_say_the_same_word(view_open, scale, word):
    page = view_open(compared(scale=scale))
    bars = page.locator(".gcw-where .gcw-most small, .gcw-plate-second .gcw-most small")
    assert bars.all_inner_texts() == [word, word]
    page.locator(".gcw-picture").hover()
    expect(page.locator(".gcw-tip")).to_contain_text(f"of {'max' if word == 'max' else 'the scale'}")


@pytest.mark.parametrize("width", [340, 480, 640])
def test_the_second_class_has_its_name_above_its_picture_on_a_phone(view_open, width):
    page = view_open(compared(), width=width)
    next_frame(page)
    name = page.locator(".gcw-plate-second .gcw-platename")
    assert name.evaluate("e => e.clientWidth > 0 && e.scrollWidth <= e.clientWidth")
    tops = [page.locator(f".gcw-plate-{kind} .gcw-map").bounding_box()["y"] for kind in ("second", "contrast")]
    assert tops[0] == tops[1]


@pytest.mark.parametrize("width", [326, 358, 388, 480])
def test_on_a_phone_the_bars_have_room_and_their_values_stand_below_them(view_open, width):
    alpha, contribution = many(200)
    sent = paired(first=alpha, alpha=alpha[::-1].copy(), contribution=contribution)
    page = view_open(small(scene=sent), width=width, style="body { margin: 0 !important }")
    next_frame(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    places = page.locator(".gcw-pairhead > span").evaluate_all("all => all.map(e => e.getBoundingClientRect())")
    rows = page.locator(".gcw-bar").evaluate_all(
        """bars => bars.map((bar) => {
            const parts = bar.querySelectorAll('.gcw-track, .gcw-value, .gcw-fill');
            return [bar, ...parts].map((part) => {
                const words = document.createRange();
                words.selectNodeContents(part);
                const across = part.matches('.gcw-value') ? words : part; // of a value, what is written of it
                const { left, right } = across.getBoundingClientRect();
                const { top, bottom } = part.getBoundingClientRect();
                return { kind: part.className.split(' ')[0], left, right, top, bottom };
            });
        })"""
    )
    assert len(rows) == 18
    for (bar, *parts), following in zip(rows, [row[0] for row in rows[1:]] + [None], strict=True):
        tracks, values, fills = (
            [part for part in parts if part["kind"] == kind] for kind in ("gcw-track", "gcw-value", "gcw-fill")
        )
        for track, value, fill, place in zip(tracks, values, fills, places, strict=True):
            assert track["right"] - track["left"] >= 68
            assert track["left"] - 1 <= fill["left"] <= fill["right"] <= track["right"] + 1
            assert value["top"] >= track["bottom"]
            assert value["bottom"] <= bar["bottom"]
            assert abs(place["left"] + place["right"] - track["left"] - track["right"]) <= 1
        for left, right in pairwise(values):
            assert left["right"] < right["left"]
        assert values[-1]["right"] <= bar["right"]
        assert following is None or bar["bottom"] <= following["top"]
