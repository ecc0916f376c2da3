"""JupyterLab: a step to a kept scene is drawn without a message; the kernel hears of the last one at rest."""

from __future__ import annotations

import json

import numpy as np
import pytest
from pages import PATIENCE, show
from playwright.sync_api import expect

NUMBERS = """import json
e = w.explanation
print(json.dumps([e.layer.name, w.layer, w._class_of(w.target), e.alpha.tolist()]))"""


@pytest.fixture
def opened(open_explorer):
    return open_explorer(show())


def agrees(notebook, explorer, layer, target="Egyptian cat"):
    """The bars are those of the engine, which has the layer that is on show."""
    explorer.wait(target, layer)
    engine_layer, widget_layer, _, alpha = json.loads(notebook.execute(NUMBERS))
    assert (engine_layer, widget_layer) == (layer, layer)
    alpha = np.asarray(alpha)
    bars = explorer.bars()
    assert list(bars) == list(np.argsort(-np.abs(alpha), kind="stable")[: len(bars)])
    np.testing.assert_allclose(list(bars.values()), alpha[list(bars)], rtol=1e-5)


def test_two_steps_send_nothing_and_rest_sends_one_message(opened, page, messages):
    notebook, explorer = opened
    explorer.wait_for_scenes_ahead(messages)
    names = page.locator(".gcw-layer").evaluate_all("tiles => tiles.map((tile) => tile.dataset.name)")
    page.locator('.gcw-layer[aria-selected="true"]').focus()
    before = explorer.revision()
    messages.clear()
    # both steps and what they have drawn, before the hand can rest
    shown = page.evaluate(
        """() => ["ArrowLeft", "ArrowLeft"].map((key) => {
            document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
            const text = (selector) => document.querySelector(selector).textContent;
            const first = document.querySelector(".gcw-bar");
            return [text(".gcw-title"), first.dataset.channel, document.querySelector(".gcw-which").ariaBusy];
        })"""
    )
    assert [title for title, _, _ in shown] == [
        f"αk for Egyptian cat at {name}" for name in (names[-2], names[-3])
    ]
    assert [busy for _, _, busy in shown] == ["false", "false"]
    assert messages.sent == []
    page.wait_for_function(
        "before => Number(document.querySelector('.gcw').dataset.revision) > before", arg=before
    )
    agrees(notebook, explorer, names[-3])
    # one of ours, besides the code that this test runs
    assert [message.data["content"]["name"] for message in messages.sent] == [names[-3]]
    assert len(messages.carrying("scene")) == 1
    expect(explorer.control("Layer").locator("option:checked")).to_contain_text(names[-3])


def test_the_list_and_the_arrows_beside_it_step_as_the_strip_does(opened, page, messages):
    notebook, explorer = opened
    explorer.wait_for_scenes_ahead(messages)
    names = page.locator(".gcw-layer").evaluate_all("tiles => tiles.map((tile) => tile.dataset.name)")
    messages.clear()
    titles = page.evaluate(
        """() => {
            const list = document.querySelector(".gradcam-layer select"), titles = [];
            const seen = () => titles.push([document.querySelector(".gcw-title").textContent, list.selectedIndex]);
            list.selectedIndex -= 3;
            list.dispatchEvent(new Event("change", { bubbles: true }));
            seen();
            for (const arrow of ["previous", "previous", "next"]) {
                document.querySelector(`button.gradcam-${arrow}`).click();
                seen();
            }
            return titles;
        }"""
    )
    last = len(names) - 1
    wanted = [last - 3, last - 4, last - 5, last - 4]
    assert titles == [[f"αk for Egyptian cat at {names[at]}", at] for at in wanted]
    assert messages.sent == []
    page.wait_for_timeout(1500)
    sent = [message.data["content"] for message in messages.sent]
    assert [(content["type"], content["name"]) for content in sent] == [("layer", names[last - 4])]
    agrees(notebook, explorer, names[last - 4])


def test_a_class_seen_before_is_back_at_once_and_the_strip_with_it(opened, page, messages):
    notebook, explorer = opened
    cat = page.locator(".gcw-prediction.gcw-explained")
    cat_index = cat.get_attribute("data-index")
    page.locator(".gcw-prediction").nth(1).click()
    expect(explorer.title).not_to_contain_text("Egyptian cat", timeout=PATIENCE)
    page.wait_for_timeout(1500)
    messages.clear()
    title = page.evaluate(
        """(index) => {
            document.querySelector(`.gcw-prediction[data-index="${index}"]`).click();
            return document.querySelector(".gcw-title").textContent;
        }""",
        cat_index,
    )
    assert title == "αk for Egyptian cat at _swish:2"
    page.wait_for_timeout(1500)
    assert len(messages.sent) == 1
    assert json.loads(notebook.execute(NUMBERS))[2] == int(cat_index)


def test_a_painted_picture_is_never_shown_with_a_scene_of_the_one_before(opened, page, messages):
    notebook, explorer = opened
    explorer.wait_for_scenes_ahead(messages)
    code = "import numpy as np\n_ = w.put_picture('chelsea', np.full((224, 224, 3), 128, np.uint8))"
    assert notebook.execute(code) == ""
    page.wait_for_function("!document.querySelector('.gcw-title').textContent.includes('Egyptian cat')")
    messages.clear()
    page.locator(".gcw-layer").nth(3).click()
    name = page.locator(".gcw-layer").nth(3).get_attribute("data-name")
    expect(explorer.title).to_contain_text(f"at {name}", timeout=PATIENCE)
    alpha = np.asarray(json.loads(notebook.execute(NUMBERS))[3])
    bars = explorer.bars()
    np.testing.assert_allclose(list(bars.values()), alpha[list(bars)], rtol=1e-3, atol=1e-4 * np.abs(alpha).max())
