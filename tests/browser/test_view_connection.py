"""A view whose kernel has gone: it says so, keeps what it can do by itself, and offers nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from axe import violations
from playwright.sync_api import expect
from view_page import (
    ALPHA,
    CAM,
    CONTRIBUTION,
    CORNER,
    answer,
    halt,
    next_frame,
    pixels,
    scene,
    small,
    strip,
)

MAPS = {"stem": CORNER, "unknown": None, "conv_head": np.full((4, 3), 128, np.uint8)}
HERE = small(scene=scene(CAM, ALPHA, CONTRIBUTION, question=7), strip=strip(MAPS, question=7))
CONTROLS = """<div class="gradcam-controls">
<div class="gradcam-picture"><label>Picture<select><option>chelsea</option></select></label></div>
<div class="gradcam-class"><label>Class<input type="text"></label></div>
<div class="gradcam-evidence"><button type="button">signed</button>
<button type="button" disabled>off</button></div>
<div class="gradcam-colormap"><label>Colour map<select><option>first</option></select></label></div>
<div class="gradcam-opacity"><label>Opacity<input type="range"></label></div></div>"""
# a layout as a front end gives it, and a manager that shows its kernel
HOST = """([live, managed]) => {
    cleanup();
    const listeners = new Set();
    const layout = { comm_live: live, on(event, act) { if (event === "comm_live_update") listeners.add(act); },
        off(event, act) { listeners.delete(act); } };
    const lists = { kernelChanged: new Set() };
    const signal = (list) => ({ connect: (act) => list.add(act), disconnect: (act) => list.delete(act) });
    window.host = { listeners, changed: lists.kernelChanged, told: 0,
        kernel: { status: "idle", isDisposed: false },
        live(value) { layout.comm_live = value; for (const act of [...listeners]) act(); },
        end() { host.kernel = null; for (const act of [...lists.kernelChanged]) act(); } };
    model.state.layout = layout;
    if (managed) model.widget_manager = {
        get kernel() { return host.kernel; }, disconnect() { host.told++; host.live(false); },
        context: { sessionContext: { kernelChanged: signal(lists.kernelChanged) } } };
    window.cleanup = show();
}"""


@pytest.fixture
def opened(view_open):
    def start(live=True, managed=False, **options):
        page = view_open(HERE, controls=CONTROLS, **options)
        page.evaluate(HOST, [live, managed])
        page.wait_for_selector(".gcw[data-revision]")
        expect(page.locator(".gcw-layer")).to_have_count(3)
        next_frame(page)
        return page

    return start


def words(page):
    return page.locator(".gcw-connection[role=status]")


def lose(page):
    page.evaluate("host.live(false)")
    expect(words(page)).to_be_visible()


def test_while_there_is_a_kernel_nothing_is_said_and_nothing_is_off(opened):
    page = opened()
    expect(words(page)).to_be_hidden()
    assert page.locator(".gradcam-widget :disabled").count() == 1


def test_a_page_that_says_nothing_of_its_kernel_has_one(view_open):
    page = view_open(HERE, controls=CONTROLS)
    expect(words(page)).to_be_hidden()
    expect(page.get_by_role("combobox", name="Picture")).to_be_enabled()


def test_when_the_kernel_goes_it_is_said_and_what_needs_it_is_off(opened):
    page = opened()
    before = pixels(page)
    lose(page)
    expect(words(page)).to_have_text(
        "Not connected to the kernel.What you see stays; what needs the model does not answer. Run the cell again."
    )
    expect(page.get_by_role("combobox", name="Picture")).to_be_disabled()
    expect(page.get_by_role("textbox", name="Class")).to_be_disabled()
    expect(page.get_by_role("button", name="signed")).to_be_disabled()
    assert page.locator(".gcw-prediction:not(:disabled)").count() == 0
    for label in ("Colour map", "Opacity"):
        expect(page.get_by_label(label)).to_be_enabled()
    assert (pixels(page) == before).all()


def test_in_voila_where_there_are_no_cells_it_is_the_page_that_is_loaded_again(opened):
    page = opened(body='data-voila="voila"')
    lose(page)
    expect(words(page)).to_contain_text("Load the page again.")


def test_when_the_kernel_is_back_everything_is_as_it_was(opened):
    page = opened()
    lose(page)
    page.evaluate("host.live(true)")
    expect(words(page)).to_be_hidden()
    expect(page.get_by_role("combobox", name="Picture")).to_be_enabled()
    expect(page.get_by_role("button", name="off")).to_be_disabled()  # that it was before
    page.locator(".gcw-prediction").nth(2).click()
    assert page.evaluate("model.sent.at(-1)") == {"type": "target", "index": 281}


def test_hover_colours_opacity_order_and_layers_go_on_working(opened):
    page = opened()
    lose(page)
    page.locator(".gcw-picture").hover(position={"x": 20, "y": 20})
    expect(page.locator(".gcw-tip")).to_contain_text("cell (0, 0)")
    page.mouse.move(0, 0)
    seen = pixels(page)
    page.evaluate("model.set('opacity', 1)")
    next_frame(page)
    assert (pixels(page) != seen).any()
    seen = pixels(page)
    page.evaluate("model.set('colormap', 'second')")
    next_frame(page)
    assert (pixels(page) != seen).any()
    page.get_by_label("Sort").select_option(index=1)
    page.locator('.gcw-layer[data-name="stem"]').click()
    picture = page.locator(".gcw-picture")
    expect(picture).to_have_attribute("aria-label", "chelsea: Grad-CAM for Egyptian cat at stem")
    # the bars are still those of the other layer: faint, and not busy
    behind = page.locator(".gcw-which.gcw-behind")
    expect(behind).to_have_attribute("aria-busy", "false")
    assert float(behind.locator(".gcw-fill").first.evaluate("bar => getComputedStyle(bar).opacity")) < 0.5
    expect(page.locator(".gcw-waiting")).to_be_hidden()
    page.locator('.gcw-layer[data-name="conv_head"]').click()
    expect(picture).to_have_attribute("aria-label", "chelsea: Grad-CAM for Egyptian cat at conv_head")
    expect(page.locator(".gcw-which.gcw-behind")).to_have_count(0)


def test_what_cannot_be_had_is_said_and_nothing_pretends_to_wait(opened):
    page = opened()
    lose(page)
    sent = page.evaluate("model.sent.length")
    page.locator('.gcw-layer[data-name="unknown"]').click()
    expect(words(page)).to_contain_text("There is no map of unknown here.")
    page.locator(".gcw-switch").first.click()
    expect(words(page)).to_contain_text("A map without some of its channels needs the model.")
    assert page.locator(".gcw-off").count() == 0
    page.get_by_role("button", name="Classes and channels").click()
    expect(words(page)).to_contain_text("The table of classes and channels needs the model.")
    page.wait_for_timeout(400)
    expect(page.locator(".gcw-late")).to_have_count(0)
    assert page.evaluate("model.sent.length") == sent


def test_a_wish_that_was_on_its_way_is_given_up(opened):
    page = opened()
    halt(page)
    page.locator(".gcw-switch").first.click()
    page.locator(".gcw-prediction").nth(1).click()
    expect(page.locator(".gcw-late")).to_have_count(1)
    assert page.locator(".gcw-off").count() == 1
    lose(page)
    expect(page.locator(".gcw-late")).to_have_count(0)
    assert page.locator(".gcw-off").count() == 0


def test_a_saved_notebook_says_that_it_is_one(opened):
    page = opened(live=False)
    expect(words(page)).to_contain_text("What you see is as it was saved")
    expect(page.get_by_role("combobox", name="Picture")).to_be_disabled()
    expect(page.get_by_label("Opacity")).to_be_enabled()


def test_a_kernel_that_was_shut_down_is_told_by_the_manager(opened):
    page = opened(managed=True)
    page.evaluate("host.end()")
    expect(words(page)).to_contain_text("Run the cell again.")
    assert page.evaluate("host.told") == 1
    # a new kernel knows nothing of this widget
    page.evaluate("host.kernel = { status: 'idle', isDisposed: false }")
    page.evaluate("for (const act of [...host.changed]) act()")
    expect(words(page)).to_be_visible()


def test_a_message_that_cannot_be_sent_is_no_error_of_the_page_but_a_sentence(opened):
    page = opened()
    page.evaluate("void (model.send = () => { throw new Error('Cannot send'); })")
    page.locator(".gcw-prediction").nth(2).click()
    expect(words(page)).to_be_visible()
    expect(page.locator(".gcw-late")).to_have_count(0)


def test_a_kernel_that_works_a_request_off_and_does_not_answer_does_not_know_the_widget(opened):
    page = opened()
    halt(page)
    page.evaluate("void (model.send = (content, callbacks) => { window.callbacks = callbacks; })")
    page.locator(".gcw-prediction").nth(2).click()
    idle = "callbacks.iopub.status({ content: { execution_state: 'idle' } })"
    page.evaluate("callbacks.iopub.status({ content: { execution_state: 'busy' } })")
    page.wait_for_timeout(1700)
    expect(words(page)).to_be_hidden()  # it may take as long as it likes
    page.evaluate(idle)
    expect(words(page)).to_be_visible()
    page.evaluate("model.set('notice', { title: 'here', message: '', stale: false })")
    expect(words(page)).to_be_hidden()  # it does after all


def test_an_answer_that_comes_after_the_kernel_is_done_is_an_answer(opened):
    page = opened()
    halt(page)
    page.evaluate(
        """() => { const { send } = model;
        model.send = (content, callbacks) => { window.callbacks = callbacks; send.call(model, content); }; }"""
    )
    page.locator(".gcw-prediction").nth(2).click()
    page.evaluate("callbacks.iopub.status({ content: { execution_state: 'idle' } })")
    page.wait_for_timeout(300)
    answer(page)
    page.wait_for_timeout(1700)
    expect(words(page)).to_be_hidden()


def test_a_view_that_is_gone_listens_no_more(opened):
    page = opened(managed=True)
    assert page.evaluate("host.listeners.size + host.changed.size") == 2
    page.evaluate("cleanup()")
    assert page.evaluate("host.listeners.size + host.changed.size") == 0


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_serious_is_found_without_a_kernel(opened, theme):
    dark = theme == "dark"
    ground = ' style="background: #111111; color: #eeeeee"' if dark else ""
    page = opened(body=f'data-jp-theme-light="{str(not dark).lower()}"{ground}')
    lose(page)
    page.locator('.gcw-layer[data-name="stem"]').click()
    assert violations(page, ".gradcam-widget") == []
