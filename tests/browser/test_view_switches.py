"""Channels in the sum and out of it: switches, the range in the overview, the buttons, the model's own score."""

from __future__ import annotations

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
    pixels,
    receive,
    revision,
    scene,
    small,
)

from gradcam_widget.widget import wire

OFF = "() => model.sent.filter(m => m.type === 'off')"
ORDER = [1, 5, 0, 4, 2, 3]  # of ALPHA by magnitude


def masks(page: Any) -> list[tuple[int, ...]]:
    """What the kernel has been asked to leave out, one message after the other."""
    return [wire.unmask(message["mask"], 6) for message in page.evaluate(OFF)]


def off(page: Any) -> list[int]:
    """The channels whose bars are hollow."""
    return page.locator(".gcw-bar.gcw-off").evaluate_all("all => all.map(bar => Number(bar.dataset.channel))")


def answer(page: Any, number: int, *channels: int, cam: np.ndarray = CAM, **changes: Any) -> None:
    """The kernel's scene without some channels."""
    sent = scene(cam, ALPHA, CONTRIBUTION, revision=number, base=1, off=wire.mask(channels, 6), **changes)
    receive(page, scene=sent)
    revision(page, number)


def test_shift_click_check_box_and_keys_take_a_channel_out_of_the_sum(view_open):
    page = view_open(small())
    page.locator(".gcw-bar").nth(0).click(modifiers=["Shift"])
    assert masks(page) == [(1,)]
    assert off(page) == [1]  # at once, before the kernel's map is there
    assert page.evaluate("model.get('channel')") is None  # a click without the key keeps a channel
    page.locator(".gcw-bar").nth(2).locator(".gcw-switch").click()
    assert masks(page)[-1] == (0, 1)
    assert page.locator(".gcw-live").text_content() == "channel 0 off, 2 of 6 off"
    page.locator(".gcw-bar").nth(1).focus()
    page.keyboard.press("Shift+Enter")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Shift+Space")
    assert masks(page)[-2:] == [(0, 1, 5), (1, 5)]
    assert sorted(off(page)) == [1, 5]
    checked = page.locator(".gcw-bar").evaluate_all("all => all.map(bar => bar.getAttribute('aria-checked'))")
    assert checked == ["false", "false", "true", "true", "true", "true"]
    assert page.evaluate(OFF)[0] == {"type": "off", "base": 1, "mask": "02"}


def test_a_bar_that_is_off_is_hollow_and_keeps_its_length(view_open):
    page = view_open(small())
    fill = page.locator(".gcw-fill").nth(0)
    before, ground = fill.bounding_box(), fill.evaluate("f => getComputedStyle(f).backgroundColor")
    page.locator(".gcw-bar").nth(0).locator(".gcw-switch").click()
    assert fill.bounding_box() == before
    style = fill.evaluate("f => [getComputedStyle(f).backgroundColor, getComputedStyle(f).boxShadow]")
    assert style[0] == "rgba(0, 0, 0, 0)" != ground
    assert ground in style[1]  # its outline has its colour
    box = page.locator(".gcw-switch").nth(0)
    assert box.evaluate("b => getComputedStyle(b).backgroundColor") == "rgba(0, 0, 0, 0)"
    assert box.get_attribute("title") == "Bring channel 1 back into the sum"


def test_the_map_the_sentences_and_the_overview_follow_the_kernels_answer(view_open):
    page = view_open(small())
    words = page.locator(".gcw-switchwords")
    before = pixels(page, ".gcw-overview")
    page.locator(".gcw-bar").nth(0).click(modifiers=["Shift"])
    expect(words).to_have_text("1 of 6 channels off")
    left = np.zeros((4, 3))
    left[0, 0] = 0.5
    answer(page, 2, 1, cam=left, coverage={"channels": 2, "of": 5, "share": 0.5})
    assert (
        page.locator(".gcw-coverage").inner_text()
        == "2 of 5 channels that are on give half of the positive evidence"
    )
    spoken = "1 of 6 channels off: 2 of 5 channels that are on give half of the positive evidence"
    assert page.locator(".gcw-live").text_content() == spoken
    assert page.locator(".gcw-most").inner_text().split() == ["0.500", "max"]
    assert pixels(page)[440, 440, :3].tolist() == [5, 10, 15]  # no evidence is left there
    after = pixels(page, ".gcw-overview")
    # The overview's first sixth was channel 1; only the zero line is left of it.
    width = after.shape[1] // 6 - 2
    assert (before[:, 2:width, 3] > 0).sum() > 5 * (after[:, 2:width, 3] > 0).sum() > 0
    assert (after[:, width + 4 :] == before[:, width + 4 :]).all()
    # Other channels off: the order, the place and the bars' elements stay.
    assert bars(page) == ORDER


def test_a_later_wish_is_not_undone_by_the_answer_to_an_earlier_one(view_open):
    page = view_open(small())
    for index in (0, 1):
        page.locator(".gcw-bar").nth(index).click(modifiers=["Shift"])
    answer(page, 2, 1)
    assert sorted(off(page)) == [1, 5]
    answer(page, 3, 1, 5)
    assert sorted(off(page)) == [1, 5]
    answer(page, 4, 2)  # from Python
    assert off(page) == [2]
    # What the kernel refuses is taken back.
    page.locator(".gcw-bar").nth(0).click(modifiers=["Shift"])
    assert sorted(off(page)) == [1, 2]
    receive(page, notice={"title": "That is not possible", "message": "No.", "stale": False})
    expect(page.locator(".gcw-notice")).to_contain_text("No.")
    assert off(page) == [2]
    # Another question ends the wish as well.
    page.locator(".gcw-bar").nth(0).click(modifiers=["Shift"])
    receive(page, scene=scene(CAM, ALPHA, CONTRIBUTION, revision=9, layer="stem"), notice={})
    revision(page, 9)
    assert off(page) == []


def test_an_answer_that_takes_long_is_said(view_open):
    page = view_open(small())
    page.locator(".gcw-bar").nth(0).click(modifiers=["Shift"])
    expect(page.locator(".gcw-switchwords")).to_have_text("1 of 6 channels off, waiting for the kernel")
    answer(page, 2, 1)
    expect(page.locator(".gcw-switchwords")).to_have_text("1 of 6 channels off")


def test_a_kept_channel_can_be_soloed_or_left_out_by_buttons_and_all_come_back(view_open):
    page = view_open(small())
    tools = page.get_by_role("group", name="Channels in the sum")
    assert tools.get_by_role("button").count() == 0
    page.locator(".gcw-bar").nth(1).click()
    tools.get_by_role("button", name="Only #5").click()
    assert masks(page)[-1] == (0, 1, 2, 3, 4)
    expect(page.locator(".gcw-switchwords")).to_have_text("only channel 5 on")
    answer(page, 2, 0, 1, 2, 3, 4)
    tools.get_by_role("button", name="Without #5").focus()
    page.keyboard.press("Enter")
    assert masks(page)[-1] == (0, 1, 2, 3, 4, 5)
    answer(page, 3, 0, 1, 2, 3, 4, 5)
    expect(tools.get_by_role("button", name="With #5")).to_be_focused()
    tools.get_by_role("button", name="All on").focus()
    page.keyboard.press("Enter")
    assert masks(page)[-1] == ()
    answer(page, 4)
    assert off(page) == []
    assert page.evaluate("document.activeElement.tagName") == "BUTTON"  # not lost with the button that has gone


def test_the_focus_is_not_lost_with_the_last_button(view_open):
    page = view_open(small())
    page.locator(".gcw-bar").nth(0).click(modifiers=["Shift"])
    page.get_by_role("button", name="All on").focus()
    page.keyboard.press("Space")
    assert page.evaluate("document.activeElement.className") == "gcw-overview"


def test_a_range_in_the_overview_picks_channels_of_the_order(view_open):
    alpha, contribution = many(300)
    page = view_open(small(scene=scene(CAM, alpha, contribution)))
    order = np.argsort(-np.abs(alpha)).tolist()
    box = page.locator(".gcw-overview").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.9001, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.8001, box["y"] + 20, steps=3)
    page.mouse.up()
    picked = order[240:271]
    assert page.locator(".gcw-live").text_content() == "31 channels picked"
    assert bars(page) == picked[: len(bars(page))]
    assert page.locator(".gcw-bar.gcw-picked").count() == len(bars(page))
    span = page.locator(".gcw-range").bounding_box()
    assert span["x"] == pytest.approx(box["x"] + box["width"] * 0.8, abs=1)
    assert span["width"] == pytest.approx(box["width"] * 31 / 300, abs=1)
    page.get_by_role("button", name="Only these 31").click()
    assert wire.unmask(page.evaluate(OFF)[-1]["mask"], 300) == tuple(sorted(set(range(300)) - set(picked)))
    page.get_by_role("button", name="Without these 31").click()
    assert wire.unmask(page.evaluate(OFF)[-1]["mask"], 300) == tuple(range(300))
    page.get_by_role("button", name="All on").click()
    # Another order, other channels: the range is gone. A press alone brings the window and picks nothing.
    page.get_by_label("Sort").select_option("channel")
    expect(page.locator(".gcw-range")).to_be_hidden()
    page.mouse.click(box["x"] + box["width"] * 0.5, box["y"] + 20)
    assert bars(page)[0] == pytest.approx(141, abs=2)
    expect(page.locator(".gcw-range")).to_be_hidden()
    assert page.evaluate(OFF)[-1]["mask"] == ""


def test_the_keyboard_picks_a_range_and_lets_it_go(view_open):
    alpha, contribution = many(300)
    page = view_open(small(scene=scene(CAM, alpha, contribution)))
    order = np.argsort(-np.abs(alpha)).tolist()
    count = len(bars(page))
    page.locator(".gcw-overview").focus()
    page.keyboard.press("Shift+ArrowRight")  # those on show
    assert page.locator(".gcw-live").text_content() == f"ranks 1 to {count} of 300 picked"
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Shift+PageDown")
    assert page.locator(".gcw-live").text_content() == f"ranks 1 to {2 * count + 1} of 300 picked"
    page.get_by_role("button", name=f"Without these {2 * count + 1}").focus()
    page.keyboard.press("Enter")
    assert wire.unmask(page.evaluate(OFF)[-1]["mask"], 300) == tuple(sorted(order[: 2 * count + 1]))
    page.locator(".gcw-overview").focus()
    page.keyboard.press("Shift+Home")
    assert page.locator(".gcw-live").text_content() == "ranks 1 to 1 of 300 picked"
    page.keyboard.press("Shift+End")
    assert page.locator(".gcw-live").text_content() == "ranks 1 to 300 of 300 picked"
    page.keyboard.press("Escape")
    expect(page.locator(".gcw-range")).to_be_hidden()
    page.keyboard.press("ArrowRight")
    assert bars(page) == order[1 : 1 + count]


def test_the_models_own_score_is_asked_for_and_said(view_open):
    page = view_open(small())
    assert page.get_by_role("button", name="Score without them").count() == 0
    page.locator(".gcw-bar").nth(0).click(modifiers=["Shift"])
    ask = page.get_by_role("button", name="Score without them")
    expect(ask).to_be_disabled()  # until the map without them is there
    answer(page, 2, 1)
    ask.click()
    assert page.evaluate("model.sent.at(-1)") == {"type": "ablate"}
    expect(page.get_by_role("button", name="Asking the model")).to_be_disabled()
    found = {"score": 7.12, "full_score": 8.3, "probability": 0.211, "full_probability": 0.384}
    receive(page, ablation=found)
    score = page.locator(".gcw-score")
    expect(score).to_have_text(
        "Egyptian cat without them: score 7.12 (−1.18), probability 0.211; with all 8.30 and 0.384."
    )
    assert page.locator(".gcw-live").text_content() == score.inner_text()
    receive(page, ablation={})
    answer(page, 3, 1, 2)
    expect(score).to_have_text("")
    receive(page, ablation={**found, "probability": None, "full_probability": None})
    expect(score).to_have_text("Egyptian cat without them: score 7.12 (−1.18); with all 8.30.")


def test_a_method_that_cannot_say_what_a_channel_adds_offers_no_switches(view_open):
    method = {"name": "Strongest", "weights": "largest term", "terms": None}
    page = view_open(small(scene=scene(CAM, ALPHA, CONTRIBUTION, method=method)))
    assert page.locator(".gcw-switch").first.is_hidden()
    expect(page.get_by_role("group", name="Channels in the sum")).to_be_hidden()
    page.locator(".gcw-bar").nth(0).click(modifiers=["Shift"])
    assert page.evaluate(OFF) == []
    assert off(page) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [480, 1600])
def test_the_tools_fit_at_every_width(view_open, width, scheme):
    page = view_open(small(), width=width, scheme=scheme, style="body { margin: 0; }")
    page.locator(".gcw-bar").nth(1).click()
    page.locator(".gcw-bar").nth(0).click(modifiers=["Shift"])
    answer(page, 2, 1)
    next_frame(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for button in page.locator(".gcw-small").all():
        if button.is_visible():
            box = button.bounding_box()
            assert 0 <= box["x"] <= box["x"] + box["width"] <= width
