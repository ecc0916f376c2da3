"""The buttons under the sentence about a map: what they say, what they send, where the focus goes."""

from __future__ import annotations

import numpy as np
import pytest
from playwright.sync_api import expect
from view_page import ALPHA, CAM, CONTRIBUTION, receive, revision, scene, small

CURES = [{"id": "signed", "label": "Show signed"}, {"id": "last_layer", "label": "Go to the <i>last</i> layer"}]
SAID = "No positive evidence for Egyptian cat at this layer."


def empty(**changes):
    return scene(np.zeros((4, 3)), ALPHA, CONTRIBUTION, coverage=None, diagnosis=SAID, cures=CURES, **changes)


def test_each_cure_is_a_button_under_the_sentence(view_open):
    page = view_open(small(scene=empty()))
    group = page.get_by_role("group", name="What helps")
    assert group.get_by_role("button").all_inner_texts() == ["Show signed", "Go to the <i>last</i> layer"]
    sentence, buttons = page.locator(".gcw-diagnosis").bounding_box(), group.bounding_box()
    assert buttons["y"] >= sentence["y"] + sentence["height"]
    assert buttons["height"] >= 24


@pytest.mark.parametrize("key", ["Enter", " "])
def test_a_cure_is_chosen_by_keyboard_and_the_focus_is_not_lost(view_open, key):
    page = view_open(small(scene=empty()))
    page.locator("canvas.gcw-picture").focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Show signed"
    page.keyboard.press(key)
    sent = page.evaluate("window.model.sent.at(-1)")
    assert (sent["type"], sent["id"]) == ("cure", "signed")
    expect(page.locator(".gcw-live")).to_have_text("Show signed")
    receive(page, scene=scene(CAM, ALPHA, CONTRIBUTION, revision=2))
    revision(page, 2)
    expect(page.locator(".gcw-cures").nth(1)).to_be_hidden()
    assert page.evaluate("document.activeElement.className") == "gcw-picture"


def test_an_error_can_be_cured_as_well(view_open):
    notice = {"title": "No explanation", "message": "The map has NaN values.", "stale": True, "cures": CURES[1:]}
    page = view_open(small(notice=notice))
    button = page.get_by_role("button", name="Go to the <i>last</i> layer")
    expect(button).to_be_visible()
    alert = page.locator(".gcw-notice").bounding_box()
    assert (
        alert["y"] + alert["height"] <= button.bounding_box()["y"] < page.locator(".gcw-body").bounding_box()["y"]
    )
    button.click()
    assert page.evaluate("window.model.sent.at(-1).id") == "last_layer"


def test_without_a_cure_there_is_no_room_for_one(view_open):
    page = view_open(small())
    for group in page.locator(".gcw-cures").all():
        expect(group).to_be_hidden()
