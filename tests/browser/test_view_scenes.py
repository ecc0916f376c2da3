"""Scenes that the browser keeps: steps among them need no kernel, which hears of the last one at rest."""

from __future__ import annotations

import numpy as np
import pytest
from playwright.sync_api import expect
from view_page import (
    ALPHA,
    CAM,
    CORNER,
    answer,
    bars,
    halt,
    label,
    next_frame,
    pixels,
    quarters,
    receive,
    revision,
    scene,
    sent,
    small,
    state,
    strip,
    tile,
    wire,
)

from gradcam_widget.widget import view
from gradcam_widget.widget.ahead import scenes_message
from gradcam_widget.widget.scene import Pair, Scene

NAMES = ("stem", "blocks.0", "conv_head")
# In each layer another channel is the first, and another cell is hot.
WEIGHTS = {
    "stem": np.array([0.5, 0.25, -0.125]),
    "blocks.0": np.array([0.1, -0.9, 0.3, 0.2]),
    "conv_head": ALPHA,
}
MAPS = {
    "stem": np.array([[1.0, 0.0], [0.0, 0.0]]),
    "blocks.0": np.array([[0.0, 2.0], [0.0, 0.0]]),
    "conv_head": CAM,
}
CLASSES = {285: "Egyptian cat", 282: "tiger cat"}


def kept(layer="conv_head", target=285, number=1, *, ground=9, **changes):
    """A scene as the kernel sends it, with the numbers by which the view keeps it."""
    place = NAMES.index(layer)
    return scene(
        MAPS[layer] * (1 if target == 285 else 0.5),
        WEIGHTS[layer] * (1 if target == 285 else -1),
        WEIGHTS[layer],
        layer=layer,
        label=CLASSES[target],
        index=target,
        **{
            "revision": number,
            "base": 1000 * ground + 10 * target + place,
            "question": 1000 * ground + target,
            "ground": ground,
            "chosen": target,
            "off": "",
        }
        | changes,
    )


def strip_of(target=285, ground=9):
    return strip(dict.fromkeys(NAMES, CORNER), question=1000 * ground + target)


@pytest.fixture
def opened(view_open):
    """A view that has been shown all three layers of the cat, and the last one of the tiger cat."""
    page = view_open(small(scene=kept("stem"), strip=strip_of()))
    revision(page, 1)
    for number, (layer, target) in enumerate([("blocks.0", 285), ("conv_head", 282), ("conv_head", 285)], 2):
        receive(page, scene=kept(layer, target, number))
        revision(page, number)
    expect(page.locator(".gcw-layer")).to_have_count(3)
    halt(page)
    page.evaluate("model.sent = []")
    return page


def title(page):
    return page.locator(".gcw-title").inner_text()


def at_once(page, *acts):
    """What the page shows after each of these, all done before a hand could rest: selectors to click, or keys."""
    return page.evaluate(
        """(acts) => acts.map((act) => {
            if (!act.startsWith(".")) {
                const event = new KeyboardEvent("keydown", { key: act, bubbles: true, cancelable: true });
                document.activeElement.dispatchEvent(event);
            } else {
                document.querySelector(act).focus();
                document.querySelector(act).click();
            }
            const q = (selector) => document.querySelector(selector);
            return { title: q(".gcw-title").innerText, label: q(".gcw-picture").ariaLabel, sent: [...model.sent],
                bars: [...document.querySelectorAll(".gcw-bar")].map((bar) => Number(bar.dataset.channel)),
                busy: q(".gcw-which").ariaBusy, chosen: q('.gcw-layer[aria-selected="true"]').dataset.name };
        })""",
        list(acts),
    )


def of(name):
    return f'.gcw-layer[data-name="{name}"]'


def at_rest(page, count=1):
    """Waits for so many messages, and a moment longer for one too many."""
    page.wait_for_function("count => model.sent.length >= count", arg=count)
    page.wait_for_timeout(300)
    return sent(page)


def test_a_step_to_a_kept_scene_draws_all_of_it_and_sends_one_message_at_rest(opened):
    page = opened
    before = pixels(page)
    assert at_once(page, of("stem"), "ArrowRight") == [
        {
            "title": f"αk for Egyptian cat at {name}",
            "label": f"chelsea: Grad-CAM for Egyptian cat at {name}",
            "bars": ranks,
            "chosen": name,
            "busy": "false",
            "sent": [],
        }
        for name, ranks in {"stem": [0, 1, 2], "blocks.0": [1, 2, 3, 0]}.items()
    ]
    assert (pixels(page) != before).any()
    assert at_rest(page) == [{"type": "layer", "name": "blocks.0"}]
    drawn = pixels(page)
    answer(page, scene=kept("blocks.0", 285, 7))
    revision(page, 7)
    assert bars(page) == [1, 2, 3, 0]
    assert (pixels(page) == drawn).all()
    assert len(sent(page)) == 1


def test_back_where_the_kernel_is_nothing_is_told(opened):
    page = opened
    assert at_once(page, of("stem"), "End")[1]["title"] == "αk for Egyptian cat at conv_head"
    page.wait_for_timeout(500)
    assert sent(page) == []


def test_a_layer_that_is_not_kept_is_asked_for_at_once(opened):
    page = opened
    receive(page, scene=kept("conv_head", 282, 8), strip=strip_of(282))
    revision(page, 8)
    tile(page, "stem").click()
    assert sent(page) == [{"type": "layer", "name": "stem"}]
    expect(page.locator(".gcw-which")).to_have_attribute("aria-busy", "true")
    assert title(page) == "αk for tiger cat at conv_head"
    answer(page, scene=kept("stem", 282, 9))
    revision(page, 9)
    assert title(page) == "αk for tiger cat at stem"


def test_a_class_seen_before_comes_back_with_its_strip_and_both_choices_are_told_together(opened):
    page = opened
    receive(page, scene=kept("conv_head", 282, 8), strip=strip_of(282))
    revision(page, 8)
    first, second = at_once(page, '.gcw-prediction[data-index="285"]', of("stem"))
    assert first["title"] == "αk for Egyptian cat at conv_head"
    assert second["title"] == "αk for Egyptian cat at stem"
    assert page.locator('.gcw-prediction[data-index="285"]').get_attribute("aria-pressed") == "true"
    assert at_rest(page) == [{"type": "go", "layer": "stem", "target": 285}]
    answer(page, scene=kept("stem", 285, 9), strip=strip_of(285))
    revision(page, 9)
    assert title(page) == "αk for Egyptian cat at stem"


@pytest.mark.parametrize(
    "why",
    [
        {"ground": 10},  # another picture, a painted one, another method or evidence, another model
        {"ground": None},  # of a kernel that numbers nothing
        {"off": "01"},  # channels are off; for another class they would be too
    ],
    ids=["other ground", "no ground", "channels off"],
)
def test_what_was_kept_for_something_else_is_never_shown(opened, why):
    page = opened
    now = kept("conv_head", 285, 8, ground=why.get("ground") or 9) | why
    receive(page, scene=now, strip=strip_of(285, why.get("ground") or 9))
    revision(page, 8)
    page.locator('.gcw-prediction[data-index="282"]').click()
    assert sent(page) == [{"type": "target", "index": 282}]
    assert title(page) == "αk for Egyptian cat at conv_head"
    answer(page, scene=kept("conv_head", 282, 9, ground=10))
    revision(page, 9)
    page.evaluate("model.sent = []")
    tile(page, "stem").click()
    assert sent(page) == [{"type": "layer", "name": "stem"}]
    assert title(page) == "αk for tiger cat at conv_head"


def test_the_hand_wins_while_it_moves_and_the_kernels_last_word_counts(opened):
    page = opened
    tile(page, "stem").click()
    receive(page, scene=kept("blocks.0", 285, 8))  # somebody else's doing, meanwhile
    next_frame(page)
    assert title(page) == "αk for Egyptian cat at stem"
    assert at_rest(page) == [{"type": "layer", "name": "stem"}]
    assert title(page) == "αk for Egyptian cat at stem"
    answer(page, notice={"title": "That is not possible", "message": "layer: no.", "stale": False})
    expect(page.locator(".gcw-notice")).to_contain_text("layer: no.")
    assert title(page) == "αk for Egyptian cat at blocks.0"
    receive(page, scene=kept("conv_head", 285, 9), notice={})
    revision(page, 9)
    assert title(page) == "αk for Egyptian cat at conv_head"


def test_a_kept_scene_never_lies_on_another_picture(opened):
    page = opened
    tile(page, "stem").click()
    other = state(255 - quarters(), {}, {})["picture"] | {"name": "rocket"}
    receive(page, picture=other, scene=kept("conv_head", 285, 8, ground=10))
    revision(page, 8)
    assert label(page) == "rocket: Grad-CAM for Egyptian cat at conv_head"
    assert title(page) == "αk for Egyptian cat at conv_head"
    assert at_rest(page) == [{"type": "layer", "name": "stem"}]  # the layer is wanted of this picture, too


def test_what_is_asked_next_comes_after_what_was_stepped_to(opened):
    page = opened
    tile(page, "stem").click()
    page.locator(".gcw-bar").first.locator(".gcw-switch").click()
    told = sent(page)
    assert [message["type"] for message in told] == ["layer", "off"]
    assert told[1]["base"] == kept("stem")["base"]


def test_while_layers_are_played_nothing_is_told(opened):
    page = opened
    at_once(page, of("stem"), ".gcw-play")
    expect(page.locator(".gcw-title")).to_have_text("αk for Egyptian cat at conv_head")
    expect(page.get_by_role("button", name="Play through the layers")).to_be_visible()
    page.wait_for_timeout(600)
    assert sent(page) == []  # it ends where the kernel is


def test_a_slow_kernel_is_waited_for_in_words_and_the_steps_go_on(opened):
    page = opened
    tile(page, "stem").click()
    at_rest(page)
    expect(page.locator(".gcw-late")).to_have_count(1)
    page.keyboard.press("ArrowRight")
    assert title(page) == "αk for Egyptian cat at blocks.0"
    page.wait_for_timeout(400)
    assert len(sent(page)) == 1  # one is on its way, the last one waits for its answer
    answer(page, scene=kept("stem", 285, 8))
    next_frame(page)
    assert title(page) == "αk for Egyptian cat at blocks.0"
    assert sent(page)[1:] == [{"type": "layer", "name": "blocks.0"}]
    answer(page, scene=kept("blocks.0", 285, 9))
    revision(page, 9)
    expect(page.locator(".gcw-late")).to_have_count(0)


def scene_ahead(layer, **changes):
    """The same scene as `kept`, as Python makes it."""
    message = kept(layer)
    names = ("target", "predictions", "coverage", "status", "diagnosis", "question", "ground", "base", "chosen")
    return Scene(
        layer=message["layer"],
        method=message["method"],
        cam=MAPS[layer],
        alpha=WEIGHTS[layer],
        contribution=WEIGHTS[layer],
        **{name: message[name] for name in names},
        **changes,
    )


def send_ahead(page, scenes):
    content, buffer = scenes_message(scenes, 5000)
    page.evaluate(
        """async ([content, buffer]) => {
            const data = Uint8Array.from(atob(JSON.parse(buffer).$base64), (c) => c.charCodeAt(0));
            for (const [name, act] of model.listeners) {
                if (name === "msg:custom") await act(content, [new DataView(data.buffer)]);
            }
        }""",
        [content, wire(buffer)],
    )


def test_scenes_that_were_sent_ahead_are_those_that_the_kernel_sends(view_open):
    page = view_open(small(scene=kept(), strip=strip_of()))
    expect(page.locator(".gcw-layer")).to_have_count(3)
    halt(page)
    send_ahead(page, [scene_ahead("stem"), scene_ahead("blocks.0")])
    page.evaluate("model.sent = []")
    (seen,) = at_once(page, of("blocks.0"))
    assert (seen["title"], seen["bars"]) == ("αk for Egyptian cat at blocks.0", [1, 2, 3, 0])
    assert seen["sent"] == []
    ahead = pixels(page)
    assert at_rest(page) == [{"type": "layer", "name": "blocks.0"}]
    answer(page, scene=kept("blocks.0", 285, 5))
    revision(page, 5)
    assert np.abs(pixels(page) - ahead).max() <= 1
    send_ahead(page, [scene_ahead("blocks.0")])  # does not take the place of the answer
    tile(page, "conv_head").click()
    tile(page, "blocks.0").click()
    assert page.locator(".gcw").get_attribute("data-revision") == "5"


def test_a_comparison_is_kept_with_both_classes(view_open):
    page = view_open(small(scene=kept(), strip=strip_of()))
    halt(page)
    other = Pair(
        target={"index": 282, "label": "tiger cat", "score": 1.0, "probability": 0.2},
        alpha=-WEIGHTS["stem"],
        cam=MAPS["stem"][::-1],
        contrast=MAPS["stem"] - MAPS["stem"][::-1],
    )
    send_ahead(page, [scene_ahead("stem", pair=other)])
    tile(page, "stem").click()
    expect(page.locator(".gcw-plate-second .gcw-platename")).to_have_text("tiger cat")
    assert [
        float(x) for x in page.locator(".gcw-bar").evaluate_all("all => all.map((bar) => bar.dataset.second)")
    ] == [pytest.approx(x, abs=1e-4) for x in (-0.5, -0.25, 0.125)]


def test_the_store_is_bounded_and_what_was_used_last_stays(view_open):
    page = view_open(small(scene=kept()))
    found = page.evaluate(
        "() => { "
        + view.script(("decode", "scenes"))
        + """
            const array = { dtype: "f32", shape: [4], scale: 1, offset: 0, data: new Uint8Array(16) };
            const at = (base, more = {}) => ({
                base, ground: 1, question: 2, chosen: null, off: "", layer: { name: `l${base}`, shape: [4, 2, 2] },
                cam: { ...array, shape: [2, 2] }, alpha: array, contribution: array, ...more });
            const few = sceneStore({ most: 3 }), light = sceneStore({ bytes: 5000 });
            for (const base of [1, 2, 3]) few.put(at(base));
            few.find(at(3), { layer: "l1" });
            few.put(at(4));
            for (const base of [1, 2, 3]) light.put(at(base));
            few.put(at(9, { off: "01" }));
            few.put(at(9, { ground: null }));
            return { few: few.messages().map((m) => m.base), light: light.messages().map((m) => m.base),
                other: few.find(at(3, { question: 5 }), { layer: "l4" }), size: few.size }; }"""
    )
    assert found == {"few": [3, 1, 4], "light": [2, 3], "other": None, "size": 3}
