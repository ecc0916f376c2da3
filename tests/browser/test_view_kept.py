"""What was shown before, in a page whose kernel is gone: it can be chosen again, and none of it is sent."""

from __future__ import annotations

import numpy as np
import pytest
from axe import violations
from playwright.sync_api import expect
from view_page import ALPHA, CAM, CONTRIBUTION, CORNER, pixels, receive, revision, scene, small, strip

TABBY = [(281, "tabby", 0.384), (285, "Egyptian cat", 0.2)]
CONTROLS = """<div class="gradcam-controls">
<div class="gradcam-layer"><label>Layer<select><option>conv_head · conv · 6 × 4 × 3</option>
<option>stem · conv · 6 × 4 × 3</option></select></label></div>
<div class="gradcam-class"><label>Class<input type="text" value="Egyptian cat · 0.38"></label></div></div>"""


def other(number, **changes):
    """A scene that differs in its numbers as well."""
    own = {"revision": number, "base": number} | changes
    return scene(CAM * number, ALPHA * number, CONTRIBUTION, **own)


def shown(**changes):
    return small(strip=strip({"stem": CORNER, "conv_head": CORNER.T}, question=1), **changes)


@pytest.fixture
def opened(view_open):
    """A view that has been shown four scenes, of two classes at two layers, one of these with a second class."""

    def start(apart=True, **options):
        state = shown()
        state["scene"] = other(1, question=1)
        page = view_open(state, controls=CONTROLS, **options)
        page.evaluate(
            """() => { cleanup(); const acts = new Set();
            const [on, off] = [(_, act) => acts.add(act), (_, act) => acts.delete(act)];
            model.state.layout = { comm_live: true, on, off };
            window.live = (now) => { model.state.layout.comm_live = now; for (const act of [...acts]) act(); };
            window.cleanup = show(); }"""
        )
        revision(page, 1)
        receive(page, scene=other(2, question=1, layer="stem"))
        revision(page, 2)
        receive(page, scene=other(3, question=2, layer="stem", index=281, label="tabby", predictions=TABBY))
        revision(page, 3)
        receive(page, strip=strip({"stem": CORNER[::-1], "conv_head": CORNER}, question=2))
        expect(page.locator(".gcw-layer")).to_have_count(2)
        receive(page, scene=other(4, question=3, layer="stem", index=281, label="tabby", evidence="signed"))
        revision(page, 4)
        if apart:
            page.evaluate("live(false)")
            expect(page.locator(".gcw-connection")).to_be_visible()
        return page

    return start


def options(page, name):
    return page.get_by_label(name, exact=True).evaluate(
        "select => [...select.options].map((option) => [option.value, option.disabled])"
    )


def weights(page):
    """alpha as the bars have it, by channel."""
    return page.locator(".gcw-bar").evaluate_all(
        "all => Object.fromEntries(all.map((bar) => [bar.dataset.channel, Number(bar.dataset.alpha)]))"
    )


def test_while_there_is_a_kernel_the_row_is_not_there(opened):
    page = opened(apart=False)
    expect(page.locator(".gcw-keptrow")).to_be_hidden()
    page.locator(".gcw-prediction").nth(1).click()
    assert page.evaluate("model.sent.at(-1).type") == "target"


def test_classes_layers_and_maps_that_were_shown_can_be_chosen_and_others_cannot(opened):
    page = opened()
    row = page.get_by_role("group", name="Shown before")
    expect(row).to_be_visible()
    sent = page.evaluate("model.sent.length")
    assert options(page, "Class shown before") == [["Egyptian cat", False], ["tabby", False]]
    # signed, tabby was shown at the stem only; Egyptian cat never
    assert options(page, "Layer shown before") == [["conv_head", True], ["stem", False]]
    assert options(page, "Map shown before") == [["Grad-CAM", False], ["signed Grad-CAM", False]]
    before = pixels(page)

    page.get_by_label("Class shown before").select_option("Egyptian cat")
    revision(page, 2)
    picture = page.locator(".gcw-picture")
    expect(picture).to_have_attribute("aria-label", "chelsea: Grad-CAM for Egyptian cat at stem")
    assert weights(page) == pytest.approx({str(k): 2 * value for k, value in enumerate(ALPHA)}, rel=1e-6)
    assert (pixels(page) != before).any()
    assert options(page, "Layer shown before") == [["conv_head", False], ["stem", False]]
    assert options(page, "Map shown before") == [["Grad-CAM", False], ["signed Grad-CAM", True]]
    expect(page.locator(".gcw-layer")).to_have_count(2)  # the strip of that class is here as well

    page.get_by_label("Layer shown before").select_option("conv_head")
    revision(page, 1)
    assert weights(page) == pytest.approx({str(k): value for k, value in enumerate(ALPHA)}, rel=1e-6)
    # the controls of the notebook, which are off, say the same
    expect(page.locator(".gradcam-layer select")).to_have_value("conv_head · conv · 6 × 4 × 3")
    expect(page.locator(".gradcam-class input")).to_have_value("Egyptian cat")
    assert page.evaluate("model.sent.length") == sent


def test_a_prediction_and_a_tile_of_the_strip_lead_to_what_is_here(opened):
    page = opened()
    enabled = page.locator(".gcw-prediction:not(:disabled)")
    expect(enabled).to_have_count(2)
    enabled.filter(has_text="Egyptian cat").click()
    revision(page, 2)
    page.locator(".gcw-layer[data-name='conv_head']").click()
    revision(page, 1)
    expect(page.locator(".gcw-which.gcw-behind")).to_have_count(0)  # the bars as well, not the map alone
    page.locator(".gcw-prediction:not(:disabled)").filter(has_text="tabby").click()
    revision(page, 3)  # at the stem, the only layer that is here of it


def test_what_the_kernel_shows_comes_back_with_it(opened):
    page = opened()
    page.get_by_label("Class shown before").select_option("Egyptian cat")
    revision(page, 2)
    page.evaluate("live(true)")
    revision(page, 4)
    expect(page.locator(".gcw-keptrow")).to_be_hidden()


def test_the_record_is_that_of_one_picture_in_the_order_shown_and_no_message(opened):
    page = opened(apart=False)
    kept = "Object.values(model.get('kept').scenes).map((scene) => scene.revision)"
    page.wait_for_function(f"{kept}.length === 4")
    receive(page, scene=other(5, base=2, question=1, layer="stem"))  # shown again: in the place of the first
    revision(page, 5)
    page.wait_for_function(f"{kept}.sort().join() === '1,3,4,5'")
    receive(page, scene=other(6, base=2, question=1, layer="stem", off="01"))  # no scene of its own
    revision(page, 6)
    page.wait_for_timeout(100)
    assert sorted(page.evaluate(kept)) == [1, 3, 4, 5]
    state = small()
    state["picture"]["name"] = "another"
    receive(page, picture=state["picture"], scene=other(7, question=5))
    revision(page, 7)
    page.wait_for_function(f"{kept}.join() === '7'")
    assert [message["type"] for message in page.evaluate("model.sent")] == ["ready"] * 2


def test_what_the_model_said_before_it_changed_goes(opened):
    page = opened(apart=False)
    kept = "Object.values(model.get('kept').scenes).map((scene) => scene.revision)"
    page.wait_for_function(f"{kept}.length === 4")
    receive(page, scene=other(5, trace=8, question=4, layer="stem"))
    revision(page, 5)
    page.wait_for_function(f"{kept}.join() === '5'")
    assert page.evaluate("Object.keys(model.get('kept').strips)") == []
    page.evaluate("live(false)")
    expect(page.locator(".gcw-connection")).to_be_visible()
    expect(page.locator(".gcw-keptrow")).to_be_hidden()


def test_the_oldest_make_room(view_open):
    page = view_open(shown())
    alpha, contribution = np.linspace(-1, 1, 8000), np.linspace(0, 1, 8000)
    for number in range(2, 12):
        big = scene(
            CAM, alpha, contribution, revision=number, question=number, index=number, label=f"class {number}"
        )
        receive(page, scene=big)
        revision(page, number)
    kept = page.evaluate("Object.values(model.get('kept').scenes).map((scene) => scene.revision)")
    # each weighs 50 kB: alpha is float32 (32 kB), the contribution 16 bits
    assert sorted(kept) == [7, 8, 9, 10, 11]


def test_a_saved_state_with_places_that_are_empty_is_shown(view_open):
    state = small(layout={"comm_live": False})
    state["kept"] = {
        "picture": "another",
        "scenes": {
            "0": other(1, question=1),
            "1": other(2, question=2, index=281, label="tabby"),
            "2": {"cam": {}},
        },
        "strips": {"0": {"data": b"left over"}},
    }
    page = view_open(state)
    # the state is that of another picture: nothing of it may be shown on this one
    expect(page.locator(".gcw-connection")).to_be_visible()
    expect(page.locator(".gcw-keptrow")).to_be_hidden()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_serious_is_found_in_the_row(opened, theme):
    dark = theme == "dark"
    ground = ' style="background: #111111; color: #eeeeee"' if dark else ""
    page = opened(body=f'data-jp-theme-light="{str(not dark).lower()}"{ground}')
    page.get_by_label("Class shown before").select_option("Egyptian cat")
    revision(page, 2)
    assert violations(page, ".gcw") == []


def test_names_in_the_row_are_text(view_open):
    bad = "<img src=x onerror=\"document.body.dataset.hacked='yes'\">"
    page = view_open(small(layout={"comm_live": True}))
    receive(page, scene=other(2, question=2, layer=bad, label=bad))
    revision(page, 2)
    page.evaluate("() => { cleanup(); model.state.layout.comm_live = false; window.cleanup = show(); }")
    expect(page.get_by_label("Class shown before")).to_have_value(bad)
    assert page.locator(".gcw-keptrow img").count() == 0
    assert page.evaluate("document.body.dataset.hacked") is None
