"""The panel "Is it true?" on a page of its own: what is asked, run, stopped and shown, in both themes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from axe import violations
from playwright.sync_api import expect
from view_page import PAGE, png, wire

from gradcam_widget.widget import view

CHECKS = [
    {
        "name": "noise",
        "title": "Noise",
        "question": "Does the map stay?",
        "cost": "10 forward passes, roughly 2 s",
    },
    {"name": "mosaic", "title": "<b>Mosaic</b>", "question": "Whose map?", "cost": "7 forward passes"},
]


def result(**changes):
    grey = {"light": 200, "dark": 40}
    pictures = {name: png(np.full((40, 124, 3), value, np.uint8)) for name, value in grey.items()}
    return (
        {
            "about": "GradCAM at <i>layer</i> for cat",
            "verdict": "The map is stable.",
            "columns": ["the map", "random maps"],
            "rows": [["area", "0.40", "−0.32"], ["other", "none", "0.10"]],
            "width": 124,
            "height": 40,
        }
        | pictures
        | changes
    )


def state(**changes):
    closed = {"opened": True, "check": "noise", "checks": CHECKS, "task": {}, "result": {}, "notice": {}}
    return closed | changes


@pytest.fixture
def checks_open(browser):
    pages, errors = [], []

    def open_page(sent=None, *, width=1120, scheme="light", forced="none"):
        page = browser.new_page(
            viewport={"width": width, "height": 700}, color_scheme=scheme, forced_colors=forced
        )
        pages.append(page)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto("about:blank")
        page.set_content(
            PAGE
            % {
                "css": view.style(view.CHECK_STYLES),
                "source": json.dumps(view.script(view.CHECK_SCRIPTS)).replace("</", "<\\/"),
                "state": json.dumps(wire(sent or state())).replace("</", "<\\/"),
                "controls": "",
                "style": "",
                "body": "",
            }
        )
        page.wait_for_function("'cleanup' in window")
        page.wait_for_selector(".gcw-checks[data-layout]")
        return page

    yield open_page
    for page in pages:
        page.close()
    assert errors == []


def receive(page, **changes):
    page.evaluate("(state) => model.receive(state)", wire(changes))


def test_it_opens_by_the_keyboard_and_tells_the_cost_before_anything_runs(checks_open):
    page = checks_open(state(opened=False))
    toggle = page.get_by_role("button", name="Is it true?")
    expect(toggle).to_have_attribute("aria-expanded", "false")
    expect(page.get_by_role("group", name="Checks of the map")).to_be_hidden()
    toggle.focus()
    page.keyboard.press("Enter")
    expect(toggle).to_have_attribute("aria-expanded", "true")
    assert page.evaluate("model.get('opened')") is True
    page.keyboard.press("Tab")
    expect(page.get_by_label("Check", exact=True)).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Run")).to_be_focused()
    expect(page.locator(".gcw-check-cost")).to_have_text("10 forward passes, roughly 2 s")
    expect(page.locator(".gcw-unchecked")).to_have_text("Not run for the map on show.")
    assert page.evaluate("model.sent.map(({ type }) => type)") == ["ready"]


def test_a_check_is_chosen_run_counted_and_stopped(checks_open):
    page = checks_open()
    page.get_by_label("Check", exact=True).select_option(label="<b>Mosaic</b>")
    assert page.evaluate("model.get('check')") == "mosaic"
    expect(page.locator(".gcw-question")).to_have_text("Whose map?")
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_role("button", name="Cancel")).to_be_visible()
    receive(page, task={"done": 3, "total": 8})
    expect(page.locator(".gcw-check-cost")).to_have_text("3 of 8")
    assert page.get_by_role("progressbar", name="done of the check").evaluate("(bar) => bar.position") == 3 / 8
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("button", name="Run")).to_be_visible()  # at once; the kernel follows
    receive(page, task={"done": 4, "total": 8})
    expect(page.get_by_role("button", name="Run")).to_be_visible()
    receive(page, task={})
    assert page.evaluate("model.sent.map(({ type }) => type)") == ["ready", "run", "cancel"]
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_role("button", name="Cancel")).to_be_visible()


@pytest.mark.parametrize(("scheme", "shown"), [("light", "light"), ("dark", "dark")])
def test_what_was_found_is_words_numbers_and_the_figure_of_the_theme(checks_open, scheme, shown):
    page = checks_open(scheme=scheme)
    receive(page, result=result())
    expect(page.locator(".gcw-verdict")).to_have_text("The map is stable.")
    expect(page.locator(".gcw-check-live")).to_have_text("The map is stable.")
    expect(page.locator(".gcw-about")).to_have_text("GradCAM at <i>layer</i> for cat")
    table = page.get_by_role("table", name="What was measured")
    assert table.get_by_role("columnheader").all_inner_texts() == ["the map", "random maps"]
    assert table.get_by_role("row").nth(1).get_by_role("cell").all_inner_texts() == ["0.40", "−0.32"]
    figure = page.get_by_role("img", name="Figure of the check. The map is stable.")
    expect(figure).to_have_count(1)
    expect(figure).to_have_class(f"gcw-figure gcw-figure-{shown}")
    assert violations(page, ".gradcam-widget") == []
    page.wait_for_function("[...document.images].every((image) => image.complete && image.naturalWidth === 124)")
    receive(page, result={})
    expect(page.locator(".gcw-found")).to_be_hidden()
    expect(page.locator(".gcw-unchecked")).to_be_visible()


def test_what_went_wrong_is_said_and_without_a_map_nothing_can_be_asked(checks_open):
    page = checks_open()
    receive(page, notice={"title": "ValueError", "message": "pictures: a <b>mosaic</b> needs four"})
    expect(page.get_by_role("alert")).to_contain_text("pictures: a <b>mosaic</b> needs four")
    expect(page.locator(".gcw-unchecked")).to_be_hidden()
    receive(page, notice={}, checks=[row | {"cost": ""} for row in CHECKS])
    expect(page.get_by_role("button", name="Run")).to_be_disabled()
    expect(page.locator(".gcw-unchecked")).to_have_text("There is no map on show.")


@pytest.mark.parametrize("width", [480, 960, 1600])
def test_it_fits_the_page(checks_open, width):
    page = checks_open(state(result=result(width=595, height=250)), width=width)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    words, figure = (page.locator(name).bounding_box() for name in (".gcw-found-words", ".gcw-found-figure"))
    if width < 900:
        assert figure["y"] >= words["y"] + words["height"]
    else:
        assert figure["x"] >= words["x"] + words["width"]


def test_what_is_lost_on_the_way_is_asked_for_again(checks_open):
    page = checks_open(state(result=result(light={}, dark={})))
    assert page.evaluate("model.sent") == [{"type": "ready", "complete": False}]
