"""A view that begins with what was saved, and has no kernel to ask for more."""

from __future__ import annotations

import numpy as np
from playwright.sync_api import expect
from view_page import ALPHA, CAM, pixels, small

from gradcam_widget.widget import wire


def test_activations_that_were_saved_are_shown_and_not_asked_for(view_open):
    maps = np.zeros((len(ALPHA), *CAM.shape))
    maps[:, 0, 0] = 1 + np.arange(len(ALPHA))
    page = view_open(small(activations={"revision": 1, "first": 0, **wire.channels(maps)}))
    before = pixels(page)
    page.locator(".gcw-bar").first.hover()
    channel = page.locator(".gcw-bar").first.get_attribute("data-channel")
    expect(page.locator(".gcw-picture")).to_have_attribute(
        "aria-label", f"chelsea: activation of channel {channel} at conv_head"
    )
    assert np.abs(pixels(page) - before).max() > 20
    assert [message["type"] for message in page.evaluate("model.sent")] == ["ready"]
