"""Names of channels in the view: patches asked for once, in the tip and in words, never those of another layer."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from axe import violations
from PIL import Image
from playwright.sync_api import expect
from view_page import ALPHA, CAM, CONTRIBUTION, encode, next_frame, receive, revision, scene, small

COLOURS = [(220, 30, 30), (30, 200, 60), (40, 60, 230)]


def names(layer: str = "conv_head", edition: int = 1, **changes: Any) -> dict[str, Any]:
    return {
        "layer": layer,
        "edition": edition,
        "channels": len(ALPHA),
        "pictures": 40,
        "approximate": True,
        "concepts": ["striped", "<b>dark</b>"],
        "named": {"1": [0, "IoU 0.21"], "5": [1, "IoU 0.05"]},
        **changes,
    }


def sprite(channel: int, count: int = 3, **changes: Any) -> dict[str, Any]:
    strip = np.concatenate([np.full((20, 20, 3), colour, np.uint8) for colour in COLOURS[:count]], 1)
    buffer = io.BytesIO()
    Image.fromarray(strip).save(buffer, "JPEG", quality=95)
    return {
        "channel": channel,
        "count": count,
        "data": buffer.getvalue(),
        "pictures": ["chelsea", "coffee", "chelsea"],
        "near": "",
        **changes,
    }


def patches(*sprites: dict[str, Any], layer: str = "conv_head", edition: int = 1) -> dict[str, Any]:
    return {"layer": layer, "edition": edition, "sprites": list(sprites)}


def words(number: int = 1, **changes: Any) -> dict[str, Any]:
    return {
        "revision": number,
        "edition": 1,
        "layer": "conv_head",
        "label": "Egyptian <i>cat</i>",
        "against": False,
        "for_it": [
            {"channel": 5, "alpha": 0.003, "pictures": ["chelsea"]},
            {"channel": 0, "alpha": 0.002, "pictures": ["coffee", "rocket"]},
        ],
        "against_it": [{"channel": 1, "alpha": -0.0045, "pictures": ["chelsea"]}],
        **changes,
    }


def opened(**changes: Any) -> dict[str, Any]:
    return small(**{"names": names(), **changes})


def asked(page: Any) -> list[dict[str, Any]]:
    return [message for message in page.evaluate("model.sent") if message["type"] == "patches"]


def bar(page: Any, channel: int) -> Any:
    return page.locator(f'.gcw-bar[data-channel="{channel}"]')


def tip_colours(page: Any) -> list[list[int]]:
    """The colour in the middle of each patch of the tip, as the screen has it."""
    found = []
    for patch in page.locator(".gcw-tip .gcw-patch").all():
        box = patch.bounding_box()
        shot = page.screenshot(
            clip={"x": box["x"] + box["width"] / 2 - 2, "y": box["y"] + 18, "width": 4, "height": 4}
        )
        found.append(np.asarray(Image.open(io.BytesIO(shot)).convert("RGB")).mean((0, 1)).astype(int).tolist())
    return found


def test_without_names_nothing_is_there_and_nothing_is_asked(view_open):
    page = view_open(small())
    bar(page, 1).hover()
    page.wait_for_timeout(250)
    assert asked(page) == []
    assert page.locator(".gcw-called, .gcw-patches").count() == 0
    expect(page.locator(".gcw-saying")).to_be_hidden()
    assert "name" not in bar(page, 1).get_attribute("aria-label")
    assert "name" not in page.locator(".gcw-tip").text_content()


def test_a_bar_has_its_name_and_on_hover_its_patches_which_are_asked_for_once(view_open):
    page = view_open(opened())
    expect(bar(page, 1).locator(".gcw-called")).to_have_text("striped")
    expect(bar(page, 5).locator(".gcw-called")).to_have_text("<b>dark</b>")
    expect(bar(page, 0).locator(".gcw-called")).to_have_count(0)
    assert ", named striped, IoU 0.21" in bar(page, 1).get_attribute("aria-label")
    assert bar(page, 0).get_attribute("aria-label").endswith(", no name")
    bar(page, 1).hover()
    tip = page.locator(".gcw-tip")
    expect(tip).to_contain_text("stripedIoU 0.21")
    expect(tip.locator(".gcw-coming")).to_have_count(1)
    page.wait_for_function("model.sent.some(m => m.type === 'patches')")
    assert asked(page) == [{"type": "patches", "layer": "conv_head", "edition": 1, "channels": [1]}]
    receive(page, patches=patches(sprite(1)))
    expect(tip.locator(".gcw-patch")).to_have_count(3)
    expect(tip.locator(".gcw-coming")).to_have_count(0)
    for found, expected in zip(tip_colours(page), COLOURS, strict=True):
        assert np.abs(np.array(found) - expected).max() < 12
    assert "most excited by chelsea, coffee" in bar(page, 1).get_attribute("aria-label")
    page.mouse.move(2, 2)
    expect(tip).to_be_hidden()
    bar(page, 1).hover()
    expect(tip.locator(".gcw-patch")).to_have_count(3)
    page.wait_for_timeout(250)
    assert len(asked(page)) == 1


def test_a_pointer_that_passes_asks_for_the_last_bar_alone(view_open):
    page = view_open(opened())
    page.evaluate(
        """() => {
          for (const channel of [1, 5, 0, 4]) {
            document.querySelector(`.gcw-bar[data-channel="${channel}"]`)
              .dispatchEvent(new PointerEvent('pointerover', { bubbles: true }));
          }
        }"""
    )
    page.wait_for_function("model.sent.some(m => m.type === 'patches')")
    page.wait_for_timeout(250)
    assert [message["channels"] for message in asked(page)] == [[4]]


def test_a_pointer_that_leaves_at_once_asks_for_nothing(view_open):
    page = view_open(opened())
    page.evaluate(
        """() => {
          const bar = document.querySelector('.gcw-bar[data-channel="1"]');
          bar.dispatchEvent(new PointerEvent('pointerover', { bubbles: true }));
          bar.parentElement.dispatchEvent(new PointerEvent('pointerleave'));
        }"""
    )
    page.wait_for_timeout(250)
    assert asked(page) == []


def test_the_keyboard_shows_the_same(view_open):
    page = view_open(opened())
    page.locator(".gcw-bar[tabindex='0']").focus()
    page.keyboard.press("ArrowDown")
    channel = int(page.evaluate("document.activeElement.dataset.channel"))
    page.wait_for_function("model.sent.some(m => m.type === 'patches')")
    receive(page, patches=patches(sprite(channel, data=b"", near="round, IoU 0.01")))
    expect(page.locator(".gcw-tip .gcw-never")).to_have_text("nothing excites it")


def test_what_is_near_is_said_of_a_channel_without_a_name(view_open):
    page = view_open(opened())
    bar(page, 0).hover()
    receive(page, patches=patches(sprite(0, near="round, IoU 0.01")))
    expect(page.locator(".gcw-tip")).to_contain_text("no namebest: round, IoU 0.01")


def test_patches_of_another_layer_never_show(view_open):
    page = view_open(opened())
    bar(page, 1).hover()
    page.wait_for_function("model.sent.some(m => m.type === 'patches')")
    other = scene(CAM, ALPHA, CONTRIBUTION, layer="conv_stem") | {"revision": 2}
    receive(page, scene=other)
    revision(page, 2)
    expect(page.locator(".gcw-called")).to_have_count(0)
    receive(page, patches=patches(sprite(1)))
    next_frame(page)
    page.mouse.move(2, 2)
    bar(page, 1).hover()
    assert page.locator(".gcw-tip .gcw-patches").count() == 0
    receive(page, names=names("conv_stem", named={}), patches={})
    bar(page, 5).hover()
    bar(page, 1).hover()
    expect(page.locator(".gcw-tip .gcw-coming")).to_have_count(1)
    receive(page, patches=patches(sprite(1)))  # late, of the layer before
    next_frame(page)
    expect(page.locator(".gcw-tip .gcw-coming")).to_have_count(1)
    # Back at the first layer its patches are still here.
    receive(page, scene=scene(CAM, ALPHA, CONTRIBUTION) | {"revision": 3}, names=names(), patches={})
    revision(page, 3)
    page.mouse.move(2, 2)
    bar(page, 1).hover()
    expect(page.locator(".gcw-tip .gcw-patch")).to_have_count(3)
    assert [message["layer"] for message in asked(page)].count("conv_head") == 1


def test_other_names_bring_other_patches(view_open):
    page = view_open(opened())
    bar(page, 1).hover()
    page.wait_for_function("model.sent.some(m => m.type === 'patches')")
    receive(page, patches=patches(sprite(1)))
    receive(page, names=names(edition=2), patches={})
    page.mouse.move(2, 2)
    bar(page, 1).hover()
    expect(page.locator(".gcw-tip .gcw-coming")).to_have_count(1)
    page.wait_for_function("model.sent.filter(m => m.type === 'patches').length === 2")
    assert asked(page)[-1]["edition"] == 2
    receive(page, names={}, patches={})
    expect(page.locator(".gcw-called")).to_have_count(0)


def test_the_table_of_bars_has_the_names(view_open):
    page = view_open(opened())
    page.get_by_text("Bars as a table").click()
    expect(page.locator(".gcw-table tr")).to_have_count(7)
    rows = page.locator(".gcw-table tr").evaluate_all("all => all.map(r => [...r.cells].map(c => c.textContent))")
    assert rows[0][-1] == "name"
    assert {row[0]: row[-1] for row in rows[1:]} == {
        "#1": "striped, IoU 0.21",
        "#5": "<b>dark</b>, IoU 0.05",
        "#0": "",
        "#2": "",
        "#3": "",
        "#4": "",
    }


def test_in_words_it_asks_for_its_patches_at_once_and_keeps_a_channel(view_open):
    page = view_open(opened(words=words()))
    panel = page.locator(".gcw-saying")
    expect(panel.get_by_role("heading", name="In words")).to_be_visible()
    heads = panel.locator(".gcw-saidhead").evaluate_all(
        "all => all.map(head => [...head.children].map(c => c.textContent))"
    )
    assert heads == [["For Egyptian <i>cat</i>", "like <b>dark</b>"], ["Against it", "like striped"]]
    rows = panel.locator(".gcw-saidrow")
    labels = rows.evaluate_all("all => all.map(row => row.getAttribute('aria-label'))")
    assert labels == [
        "channel 5, alpha +0.00300, named <b>dark</b>, IoU 0.05, most excited by chelsea",
        "channel 0, alpha +0.00200, no name, most excited by coffee, rocket",
        "channel 1, alpha −0.00450, named striped, IoU 0.21, most excited by chelsea",
    ]
    page.wait_for_function("model.sent.some(m => m.type === 'patches')")
    assert [message["channels"] for message in asked(page)] == [[5, 0, 1]]
    receive(page, patches=patches(sprite(5), sprite(0, 2), sprite(1)))
    expect(panel.locator(".gcw-patch")).to_have_count(8)
    expect(panel.locator(".gcw-note")).to_have_text(
        "what excites each channel most in 40 pictures, round the cell: a cell sees more"
    )
    rows.nth(2).focus()
    page.keyboard.press("Enter")
    assert page.evaluate("model.get('channel')") == 1
    receive(page, channel=1)
    expect(rows.nth(2)).to_have_attribute("aria-pressed", "true")
    expect(bar(page, 1)).to_have_attribute("aria-selected", "true")


def test_words_of_another_class_are_marked_until_the_new_ones_come(view_open):
    page = view_open(opened(words=words()))
    expect(page.locator(".gcw-saidrow")).to_have_count(3)
    receive(page, scene=scene(CAM, -ALPHA, CONTRIBUTION, label="lynx", index=287, revision=2))
    revision(page, 2)
    panel = page.locator(".gcw-saying")
    expect(panel).to_have_attribute("aria-busy", "true")
    expect(panel.locator("b").first).to_have_text("For Egyptian <i>cat</i>")
    receive(page, words=words(2, label="lynx", against=True, for_it=[], against_it=[]))
    expect(panel).to_have_attribute("aria-busy", "false")
    assert panel.locator("b").all_text_contents() == ["For what speaks against lynx", "Against that"]
    expect(panel.locator(".gcw-nobody")).to_have_count(2)
    receive(page, words={})
    expect(panel).to_be_hidden()


def test_a_panel_that_is_not_on_show_asks_for_nothing(view_open):
    page = view_open(opened(words=words(), panels=["heatmap", "alpha"]))
    page.wait_for_timeout(250)
    assert asked(page) == []
    receive(page, panels=["heatmap", "alpha", "words"])
    page.wait_for_function("model.sent.some(m => m.type === 'patches')")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(view_open, scheme):
    page = view_open(opened(words=words(), channel=1), scheme=scheme)
    receive(page, patches=patches(sprite(5), sprite(0), sprite(1)))
    expect(page.locator(".gcw-saying .gcw-patch")).to_have_count(9)
    assert violations(page, ".gcw") == []


@pytest.mark.parametrize(("width", "columns"), [(1120, 2), (860, 2), (640, 1)])
def test_in_words_stands_in_two_columns_beside_a_comparison_that_has_room(view_open, width, columns):
    compare = {
        "target": {"index": 282, "label": "tiger cat", "score": 8.1, "probability": 0.255},
        "max": 1.0,
        "contrast_max": 1.0,
        "alpha": encode(-ALPHA, "f32"),
        "cam": encode(CAM / 2, "f32"),
        "contrast": encode(CAM / 2, "f32"),
    }
    seen = scene(CAM, ALPHA, CONTRIBUTION, compare=compare)
    page = view_open(opened(scene=seen, words=words(), panels=["heatmap", "alpha", "words"]), width=width)
    lists = page.locator(".gcw-said")
    expect(lists).to_have_count(2)
    assert len({round(lists.nth(i).bounding_box()["y"]) for i in (0, 1)}) == 3 - columns
