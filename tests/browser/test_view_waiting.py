"""While the kernel computes: the view shows what it has, says that it waits, and asks for the last wish only."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from playwright.sync_api import expect
from view_page import (
    ALPHA,
    CAM,
    CONTRIBUTION,
    CORNER,
    answer,
    halt,
    label,
    next_frame,
    pixels,
    receive,
    revision,
    scene,
    small,
    strip,
    tile,
)

# The map of "stem" is its own maximum in the lower right cell and nothing elsewhere.
MAPS = {
    "stem": CORNER,
    "blocks.0": np.full((28, 28), 255, np.uint8),
    "empty": np.zeros((2, 2), np.uint8),
    "unknown": None,
    "conv_head": np.full((4, 3), 128, np.uint8),
}
STRIP = strip(MAPS, question=7)
HERE = scene(CAM, ALPHA, CONTRIBUTION, question=7)


def there(layer: str = "stem", number: int = 2, **changes):
    """The kernel's answer for another layer: the same map as in the strip, and two channels."""
    return scene(
        CORNER / 255, np.array([0.5, 0.25]), np.array([1.0, 0.5]), layer=layer, revision=number, **changes
    )


@pytest.fixture
def opened(view_open):
    def start(**changes):
        page = view_open(small(scene=HERE, **{"strip": STRIP, **changes}))
        expect(page.locator(".gcw-layer")).to_have_count(5)
        halt(page)
        return page

    return start


def called(page, name):
    expect(page.locator(".gcw-picture")).to_have_attribute("aria-label", name)


def layers_asked(page):
    return page.evaluate("model.sent.filter(m => m.type === 'layer').map(m => m.name)")


def test_a_layer_of_the_strip_is_on_the_picture_before_the_kernel_answers_and_the_bars_are_marked(opened):
    page = opened()
    tile(page, "stem").click()
    called(page, "chelsea: Grad-CAM for Egyptian cat at stem")
    assert tile(page, "stem").get_attribute("aria-selected") == "true"
    seen = pixels(page)
    height, width = seen.shape[:2]
    # the first table at its top is (255, 0, 127), laid half over the picture, (5, 10, 15) in this corner
    assert np.abs(seen[height - 4, width - 4, :3] - (130, 5, 71)).max() <= 2
    assert (seen[4, 4, :3] == (200, 30, 60)).all()  # nothing here: the picture as it is
    # The bars are those of conv_head still, and say so.
    assert page.locator(".gcw-title").inner_text() == "αk for Egyptian cat at conv_head"
    which = page.locator(".gcw-which")
    assert which.get_attribute("aria-busy") == "true"
    expect(page.locator(".gcw-late")).to_have_count(1)
    expect(page.locator(".gcw-fill").first).to_have_css("opacity", "0.3")

    words = page.locator(".gcw-what")
    expect(words).to_be_visible()
    assert words.inner_text() == "Grad-CAM for Egyptian cat at stem"

    answer(page, scene=there(question=7))
    revision(page, 2)
    assert words.is_hidden()
    assert page.locator(".gcw-title").inner_text() == "αk for Egyptian cat at stem"
    called(page, "chelsea: Grad-CAM for Egyptian cat at stem")
    assert which.get_attribute("aria-busy") == "false"
    expect(page.locator(".gcw-late")).to_have_count(0)
    expect(page.locator(".gcw-fill").first).to_have_css("opacity", "1")
    assert np.abs(pixels(page) - seen).max() <= 1  # the strip's map was this one


def test_what_the_probe_and_the_colour_bar_read_is_what_is_on_the_picture(opened):
    page = opened()
    tile(page, "stem").click()
    called(page, "chelsea: Grad-CAM for Egyptian cat at stem")
    box = page.locator(".gcw-picture").bounding_box()
    page.mouse.move(box["x"] + 0.75 * box["width"], box["y"] + 0.75 * box["height"])
    expect(page.locator(".gcw-tip")).to_contain_text("cell (1, 1)")
    expect(page.locator(".gcw-tip")).to_contain_text("1.00 of max")
    assert page.locator(".gcw-most").inner_text().startswith("255")  # the strip says what its maximum is
    expect(page.locator(".gcw-caption")).to_have_text("chelsea · 2 × 2 cells")
    # a bar belongs to the other layer: it lays nothing on the picture
    seen = pixels(page)
    page.locator(".gcw-bar").first.hover()
    next_frame(page)
    assert (pixels(page) == seen).all()
    called(page, "chelsea: Grad-CAM for Egyptian cat at stem")


def test_a_large_map_is_said_to_be_drawn_from_fewer_cells(opened):
    large = strip({"blocks.0": MAPS["blocks.0"], "conv_head": MAPS["conv_head"]}, question=7)
    large["layers"][0]["shape"] = [8, 112, 112]
    page = opened(strip=strip(MAPS, question=7))
    receive(page, strip=large)
    expect(page.locator(".gcw-layer")).to_have_count(2)
    tile(page, "blocks.0").click()
    expect(page.locator(".gcw-caption")).to_have_text(
        "chelsea · 112 × 112 cells · drawn from 28 × 28 until all of it is here"
    )


def test_a_layer_without_evidence_is_said_to_have_none_and_one_without_map_waits(opened):
    page = opened()
    tile(page, "empty").click()
    expect(page.locator(".gcw-diagnosis")).to_have_text("No positive evidence at this layer.")
    seen = pixels(page)
    page.evaluate("model.set('opacity', 0)")
    next_frame(page)
    assert (pixels(page) == seen).all()  # the picture, and nothing on it
    answer(page, scene=there("empty", question=7))
    revision(page, 2)
    tile(page, "unknown").click()
    page.wait_for_timeout(100)
    called(page, "chelsea: Grad-CAM for Egyptian cat at empty")
    assert tile(page, "empty").get_attribute("aria-selected") == "true"
    assert page.locator(".gcw-which").get_attribute("aria-busy") == "false"
    assert layers_asked(page) == ["empty", "unknown"]
    tile(page, "stem").click()
    tile(page, "unknown").click()  # what is on the picture stays, under its own name
    called(page, "chelsea: Grad-CAM for Egyptian cat at stem")
    assert page.locator(".gcw-which").get_attribute("aria-busy") == "true"


@pytest.mark.parametrize(
    "why",
    [
        {"scene": scene(CAM, ALPHA, CONTRIBUTION, question=8, revision=2, label="tabby", index=281)},
        {"notice": {"title": "No.", "message": "It failed.", "stale": True}},
        {"task": {"method": "ScoreCAM", "cost": "one pass per channel", "total": 5, "done": None}},
    ],
    ids=["another class", "stale", "passes to run"],
)
def test_a_map_of_another_question_is_not_shown(opened, why):
    page = opened()
    receive(page, **why)
    next_frame(page)
    before = label(page)
    tile(page, "stem").click()
    page.wait_for_timeout(100)
    called(page, before)
    assert layers_asked(page) == ["stem"]


def test_a_scene_of_another_class_takes_the_preview_away(opened):
    page = opened()
    tile(page, "stem").click()
    next_frame(page)
    receive(page, scene=scene(CAM, ALPHA, CONTRIBUTION, question=8, revision=2, label="tabby", index=281))
    revision(page, 2)
    called(page, "chelsea: Grad-CAM for tabby at conv_head")
    assert page.locator(".gcw-which").get_attribute("aria-busy") == "false"


def test_a_choice_that_is_refused_brings_back_what_was_there(opened):
    page = opened()
    before = pixels(page)
    tile(page, "stem").click()
    called(page, "chelsea: Grad-CAM for Egyptian cat at stem")
    assert (pixels(page) != before).any()
    answer(page, notice={"title": "That is not possible", "message": "layer: no.", "stale": False})
    expect(page.locator(".gcw-notice")).to_contain_text("layer: no.")
    called(page, "chelsea: Grad-CAM for Egyptian cat at conv_head")
    assert (pixels(page) == before).all()
    assert tile(page, "conv_head").get_attribute("aria-selected") == "true"


def test_a_kept_channel_makes_room_for_the_layer_and_comes_back_where_that_is_refused(opened):
    page = opened(channel=1, activations={})
    maps = {"revision": 1, "first": 0, "shape": [6, 4, 3]}
    lows, steps = np.zeros(6, "<f4").tobytes(), np.ones(6, "<f4").tobytes()
    data = zlib.compress(np.tile(np.arange(12, dtype=np.uint8), 6).tobytes())
    receive(page, activations={**maps, "low": lows, "step": steps, "data": data})
    expect(page.locator(".gcw-picture")).to_have_attribute(
        "aria-label", "chelsea: activation of channel 1 at conv_head"
    )
    tile(page, "stem").click()
    called(page, "chelsea: Grad-CAM for Egyptian cat at stem")
    answer(page)
    expect(page.locator(".gcw-picture")).to_have_attribute(
        "aria-label", "chelsea: activation of channel 1 at conv_head"
    )


def test_of_sixty_steps_the_kernel_is_asked_for_the_first_and_the_last(opened):
    page = opened()
    tile(page, "empty").click()
    for step in range(60):
        page.keyboard.press("ArrowLeft" if step % 4 < 2 else "ArrowRight")
    page.keyboard.press("Home")
    assert layers_asked(page) == ["empty"]
    called(page, "chelsea: Grad-CAM for Egyptian cat at stem")  # the picture follows the hand
    answer(page, scene=there("empty", question=7))
    revision(page, 2)
    assert layers_asked(page) == ["empty", "stem"]
    # The bars are those of the layer that came, the picture is already that of the one asked for.
    assert page.locator(".gcw-title").inner_text() == "αk for Egyptian cat at empty"
    called(page, "chelsea: Grad-CAM for Egyptian cat at stem")
    assert page.locator(".gcw-which").get_attribute("aria-busy") == "true"
    answer(page, scene=there("stem", 3, question=7))
    revision(page, 3)
    assert page.locator(".gcw-title").inner_text() == "αk for Egyptian cat at stem"
    assert page.locator(".gcw-which").get_attribute("aria-busy") == "false"
    assert layers_asked(page) == ["empty", "stem"]


def test_play_goes_on_by_what_is_in_the_strip(opened):
    page = opened()
    receive(page, scene=there("stem", question=7))
    revision(page, 2)
    page.get_by_role("button", name="Play through the layers").click()
    for name in ("blocks.0", "empty"):
        expect(page.locator(".gcw-picture")).to_have_attribute(
            "aria-label", f"chelsea: Grad-CAM for Egyptian cat at {name}"
        )
    assert layers_asked(page) == ["blocks.0"]
    answer(page)  # both are refused
    answer(page)
    assert layers_asked(page) == ["blocks.0", "empty"]
    expect(page.get_by_role("button", name="Play through the layers")).to_be_visible()


def test_that_it_waits_is_said_after_a_moment_and_only_while_it_does(opened):
    page = opened()
    page.evaluate(
        """() => { window.late = []; const root = document.querySelector('.gcw');
        new MutationObserver(() => window.late.push(root.classList.contains('gcw-late')))
            .observe(root, { attributes: true, attributeFilter: ['class'] }); }"""
    )
    prediction = page.locator(".gcw-prediction").nth(1)
    prediction.click()
    answer(page, scene=scene(CAM, ALPHA, CONTRIBUTION, question=8, revision=2))
    revision(page, 2)
    page.wait_for_timeout(300)
    assert True not in page.evaluate("window.late")
    words = page.get_by_text("waiting for the kernel", exact=True).first
    assert words.is_hidden()
    prediction.click()
    expect(words).to_be_visible()
    assert page.locator(".gcw-live").inner_text() == "waiting for the kernel"
    # Nothing is blocked meanwhile: hover, blend, colours, sorting.
    before = pixels(page)
    page.locator(".gcw-picture").hover(position={"x": 10, "y": 10})
    expect(page.locator(".gcw-tip")).to_contain_text("cell (0, 0)")
    page.evaluate("model.set('opacity', 1)")
    next_frame(page)
    assert (pixels(page) != before).any()
    page.get_by_label("Sort").select_option("channel")
    assert page.locator(".gcw-bar").first.get_attribute("data-channel") == "0"
    receive(page, scene=scene(CAM, ALPHA, CONTRIBUTION, question=9, revision=3))  # somebody else's doing
    revision(page, 3)
    assert words.is_visible()
    answer(page)
    expect(words).to_be_hidden()


@pytest.mark.parametrize("motion", ["reduce", "no-preference"])
def test_the_line_moves_unless_motion_is_not_wanted(opened, motion):
    page = opened()
    page.emulate_media(reduced_motion=motion)
    page.locator(".gcw-prediction").nth(1).click()
    expect(page.locator(".gcw-late")).to_have_count(1)
    line = page.locator(".gcw-status").evaluate("foot => getComputedStyle(foot, '::before').animationName")
    assert line == ("none" if motion == "reduce" else "gcw-late")


CONTROLS = """<div class="gradcam-controls"><div class="gradcam-method"><select id="asks"><option>a</option>
<option>b</option></select></div><div class="gradcam-colormap"><select id="browser"><option>a</option>
<option>b</option></select></div></div>"""


def test_a_control_that_asks_the_kernel_is_waited_for_too_and_the_others_are_not(view_open):
    page = view_open(small(scene=HERE), controls=CONTROLS)
    page.wait_for_selector("#asks[data-lm-suppress-shortcuts]")
    waits = "model.sent.filter(m => m.type === 'wait').length"
    halt(page)
    page.locator("#browser").select_option("b")
    page.wait_for_timeout(400)
    assert page.evaluate(waits) == 0
    page.locator("#asks").select_option("b")
    receive(page, scene=scene(CAM, ALPHA, CONTRIBUTION, revision=2))  # the kernel is quick: nothing to ask
    page.wait_for_timeout(400)
    assert page.evaluate(waits) == 0
    page.locator("#asks").select_option("a")
    expect(page.locator(".gcw-late")).to_have_count(1)
    assert page.evaluate(waits) == 1
    answer(page)  # its turn has come after a long wait, and nothing has come of it: there may be more
    page.wait_for_function(f"{waits} === 2")
    answer(page)  # now at once: the choice changed nothing
    expect(page.locator(".gcw-late")).to_have_count(0)
    page.wait_for_timeout(400)
    assert page.evaluate(waits) == 2


def test_views_side_by_side_do_not_take_each_others_answers(opened):
    page = opened()
    tile(page, "stem").click()
    page.evaluate("model.set('answered', 'somebody-1')")
    expect(page.locator(".gcw-late")).to_have_count(1)
    assert page.locator(".gcw-which").get_attribute("aria-busy") == "true"


def test_a_view_that_is_taken_away_leaves_no_timer(view_open):
    page = view_open(small())
    halt(page)
    page.locator(".gcw-prediction").nth(1).click()
    page.evaluate("cleanup()")
    page.wait_for_timeout(300)  # an error would be seen by the fixture
    assert page.locator(".gcw").count() == 0
