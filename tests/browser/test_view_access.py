"""Keyboard, focus and colours: an order that makes sense, a focus that is seen, no need of colours or motion."""

from __future__ import annotations

import numpy as np
import pytest
from playwright.sync_api import expect
from view_page import ALPHA, CAM, CONTRIBUTION, PASSES, many, next_frame, pixels, scene, small, strip

CELLS = np.full((4, 3), 200, np.uint8)
STRIP = strip({"stem": CELLS, "blocks.0": CELLS, "conv_head": CELLS}, question=1)
HERE = small(scene=scene(CAM, ALPHA, CONTRIBUTION, question=1), strip=STRIP)
CONTROLS = """<div class="gradcam-controls"><button id="before">before</button></div>"""
FOCUSED = """() => { const at = document.activeElement; return at.id || at.getAttribute('aria-label')
    || at.textContent.trim() || at.className; }"""


def test_the_focus_goes_from_the_question_to_where_which_and_how_deep(view_open):
    page = view_open({**HERE, "task": PASSES}, controls=CONTROLS)
    expect(page.locator(".gcw-layer")).to_have_count(3)
    page.evaluate("() => document.body.append(Object.assign(document.createElement('button'), { id: 'after' }))")
    page.locator("#before").focus()
    names = []
    while (page.keyboard.press("Tab") or page.evaluate("document.activeElement.id")) != "after":
        names.append(page.evaluate(FOCUSED))
        assert len(names) < 25
    order = [
        "Compute 1280 passes",  # what stands above the picture
        "chelsea: Grad-CAM for Egyptian cat at conv_head",
        "Sort",
        "channel 1, alpha −0.00450",  # one stop for all bars
        "Channels shown",
        "Bars as a table",
        "Egyptian cat",
        "Play through the layers",
        "conv_head · conv",  # one stop for all layers: the one on show
    ]
    at = [next(i for i, name in enumerate(names) if name.startswith(wanted)) for wanted in order]
    assert at == sorted(at)
    assert sum(name.startswith("channel ") for name in names) == 1
    assert sum("· conv ·" in name for name in names) == 1
    back = []
    while (page.keyboard.press("Shift+Tab") or page.evaluate("document.activeElement.id")) != "before":
        back.append(page.evaluate(FOCUSED))
        assert len(back) < 25
    assert back == names[::-1]


@pytest.mark.parametrize("body", ['data-jp-theme-light="true"', 'data-jp-theme-light="false"'])
def test_what_has_the_focus_is_outlined_in_the_accent(view_open, body):
    page = view_open(HERE, body=body)
    expect(page.locator(".gcw-layer")).to_have_count(3)
    page.locator(".gcw-picture").focus()
    accent = page.locator(".gcw").evaluate(
        "root => { const mark = document.createElement('i'); mark.style.color = 'var(--gcw-accent)';"
        " root.append(mark); const { color } = getComputedStyle(mark); mark.remove(); return color; }"
    )
    tried = 0
    for element in page.locator(".gcw :is(button, select, input, summary, [tabindex='0'])").element_handles():
        if not element.is_visible() or not element.is_enabled():
            continue
        element.focus()
        page.keyboard.press("Shift")  # the keyboard is in use
        seen = element.evaluate(
            "e => { const s = getComputedStyle(e); return [s.outlineStyle, s.outlineWidth, s.outlineColor]; }"
        )
        assert seen[0] == "solid", element.evaluate("e => e.outerHTML")
        assert float(seen[1].removesuffix("px")) >= 1
        assert seen[2] == accent
        tried += 1
    assert tried >= 12


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_in_high_contrast_everything_is_still_told_apart(view_open, scheme):
    page = view_open(HERE, scheme=scheme)
    page.emulate_media(forced_colors="active", color_scheme=scheme)
    next_frame(page)
    next_frame(page)
    # The picture and its heat keep their own colours ...
    assert len(np.unique(pixels(page)[..., :3].reshape(-1, 3), axis=0)) > 50
    # ... each bar is seen on its ground, and the sides differ by where they stand, not by colour alone
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    sides = {}
    for bar in page.locator(".gcw-bar").all()[:5]:
        style = bar.locator(".gcw-fill").evaluate(
            "e => { const s = getComputedStyle(e); return [s.backgroundColor, parseFloat(s.left)]; }"
        )
        assert style[0] != ground
        sides.setdefault(bar.get_attribute("data-alpha").startswith("-"), []).append(style[1])
    assert max(sides[True]) < min(sides[False])
    # what is chosen is marked by an outline
    chosen = page.locator('.gcw-layer[aria-selected="true"] .gcw-thumbnail')
    assert chosen.evaluate("e => getComputedStyle(e).outlineStyle") == "solid"


def test_where_less_motion_is_wanted_nothing_moves(view_open):
    page = view_open(HERE)
    page.emulate_media(reduced_motion="reduce")
    moving = page.evaluate(
        """() => [...document.querySelectorAll('.gcw, .gcw *')].flatMap((element) =>
            [null, '::before', '::after'].map((part) => getComputedStyle(element, part))
                .filter((style) => style.animationName !== 'none' || parseFloat(style.transitionDuration) > 0)
                .map(() => element.className))"""
    )
    assert moving == []
    assert page.evaluate("document.getAnimations().length") == 0


@pytest.mark.parametrize("width", [480, 620, 800, 1120, 1600])
def test_nothing_is_cut_off_or_laid_over_at_any_width(view_open, width):
    alpha, contribution = many(512)
    long = "features.denseblock4.denselayer32.very_long_module_name.conv2"
    cells = {f"{long}.{i}": CELLS for i in range(40)}
    seen = scene(
        CAM, alpha, contribution, layer=long, label="black-and-tan coonhound", diagnosis="A sentence. " * 8
    )
    page = view_open(small(scene=seen, strip=strip(cells)), width=width, style="body { margin: 0; }")
    page.get_by_text("Bars as a table").click()
    next_frame(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    boxes = page.locator(".gcw-where, .gcw-which, .gcw-predictions, .gcw-strip, .gcw-status").evaluate_all(
        "all => all.map((e) => e.getBoundingClientRect()).map((b) => [b.left, b.top, b.right, b.bottom])"
    )
    assert len(boxes) == 5
    for one, (left, top, right, bottom) in enumerate(boxes):
        assert right > left >= 0
        assert right <= width + 0.5
        for other in boxes[one + 1 :]:
            apart = (
                right <= other[0] + 0.5
                or other[2] <= left + 0.5
                or bottom <= other[1] + 0.5
                or other[3] <= top + 0.5
            )
            assert apart, (boxes[one], other)


def test_a_name_says_what_each_thing_is(view_open):
    page = view_open(small())
    nameless = page.locator(".gcw").evaluate(
        """root => [...root.querySelectorAll('button, select, input, summary, [tabindex], [role]')]
            .filter((e) => e.role !== 'alert')
            .filter((e) => e.offsetParent && !e.getAttribute('aria-label') && !e.labels?.length)
            .filter((e) => !e.textContent.trim()).map((e) => e.outerHTML.slice(0, 120))"""
    )
    assert nameless == []


def test_a_ring_is_the_explorers_own_where_the_notebook_has_one_for_buttons(view_open):
    theirs = ".theirs button:focus-visible { outline: 1px dotted rgb(1, 2, 3); outline-offset: -9px; }"
    page = view_open(HERE, body='class="theirs"', style=theirs)
    rings = []
    for control in (page.get_by_label("Sort", exact=True), page.locator(".gcw-prediction").first):
        control.focus()
        page.keyboard.press("Shift")  # the keyboard is at work
        rings.append(
            control.evaluate("e => { const s = getComputedStyle(e); return [s.outline, s.outlineOffset]; }")
        )
    assert rings[0] == rings[1]


def test_the_ring_of_a_layer_at_the_end_of_the_strip_is_whole(view_open):
    many_layers = strip({**{f"layer{i}": CELLS for i in range(40)}, "conv_head": CELLS}, question=1)
    page = view_open({**HERE, "strip": many_layers})
    tile = page.locator('.gcw-layer[aria-selected="true"]')
    tile.focus()
    page.keyboard.press("Shift")
    ring = tile.evaluate(
        """e => { const s = getComputedStyle(e), b = e.getBoundingClientRect(), out = e.parentElement;
        const beyond = parseFloat(s.outlineWidth) + parseFloat(s.outlineOffset), o = out.getBoundingClientRect();
        return [parseFloat(s.outlineWidth), b.right + beyond <= o.right, b.left - beyond >= o.left]; }"""
    )
    assert ring == [2, True, True]
