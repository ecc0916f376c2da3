"""The row of exports: what it asks of the kernel, files that are saved, code that is copied, errors in words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect
from view_page import small, wire

NAMES = ["Save PNG", "Save SVG", "Save data (NPZ)", "Save HTML", "Copy code"]
CLIPBOARD = """Object.defineProperty(navigator, 'clipboard', { value: {
    writeText: async (text) => { if (window.refuses) throw new DOMException('no'); window.copied = text; } } });"""


def asked(page) -> dict:
    """The last message for an export."""
    return page.evaluate("model.sent.filter((message) => message.type === 'export').at(-1)")


def answer(page, content: dict, data: bytes | None = None) -> None:
    """The kernel's answer to all views, with the bytes at an odd place of a larger buffer."""
    page.evaluate(
        """([content, data]) => {
            const bytes = data && Uint8Array.from(data);
            const whole = new Uint8Array((bytes?.length ?? 0) + 3);
            if (bytes) whole.set(bytes, 3);
            const buffers = bytes ? [new DataView(whole.buffer, 3, bytes.length)] : [];
            for (const [name, act] of [...model.listeners]) if (name === "msg:custom") act(content, buffers);
        }""",
        [{"type": "export", "ticket": asked(page)["ticket"], **content}, None if data is None else list(data)],
    )


def note(page):
    return page.locator(".gcw-exports .gcw-note")


def test_each_button_has_a_name_and_asks_for_its_file_with_the_order_of_the_bars(view_open):
    page = view_open(small())
    group = page.get_by_role("group", name="Export")
    assert group.get_by_role("button").evaluate_all("all => all.map(b => b.getAttribute('aria-label'))") == NAMES
    page.get_by_label("Sort").select_option("contribution")
    for name, what in zip(NAMES, ["png", "svg", "npz", "html", "code"], strict=True):
        button = group.get_by_role("button", name=name, exact=True)
        button.click()
        message = asked(page)
        assert message.pop("ticket")
        assert message == {"type": "export", "what": what, "sort": "contribution"}
        expect(button).to_have_attribute("aria-busy", "true")
    assert page.locator(".gcw-export[aria-busy]").count() == 1  # the last one alone is waited for
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    assert asked(page)["what"] == "npz"


def test_a_file_is_saved_under_its_name_byte_by_byte(view_open):
    page = view_open(small())
    data = bytes(range(256)) * 20
    page.get_by_role("button", name="Save data (NPZ)").click()
    with page.expect_download() as saved:
        answer(
            page,
            {"name": "chelsea_cat.npz", "mime": "application/octet-stream", "note": "without the activations"},
            data,
        )
    assert saved.value.suggested_filename == "chelsea_cat.npz"
    assert Path(saved.value.path()).read_bytes() == data
    expect(note(page)).to_have_text("chelsea_cat.npz, 5 kB · without the activations")
    expect(page.locator(".gcw-live")).to_have_text("chelsea_cat.npz, 5 kB · without the activations")
    assert page.locator(".gcw-export[aria-busy]").count() == 0
    assert page.locator(".gcw a").count() == 0  # nothing stays behind


def test_code_is_copied_or_offered_where_the_browser_does_not_let_it(view_open):
    code = "cam = GradCAM(model)\n# '</textarea><b>not markup</b>'\n"
    page = view_open(small(), before=CLIPBOARD)
    button = page.get_by_role("button", name="Copy code")
    button.click()
    answer(page, {"code": code})
    expect(note(page)).to_have_text("2 lines copied")
    assert page.evaluate("window.copied") == code
    expect(page.locator(".gcw-codebox")).to_be_hidden()

    page.evaluate("window.refuses = true")
    button.click()
    answer(page, {"code": code})
    field = page.get_by_role("textbox", name="Code")
    expect(field).to_be_focused()
    expect(field).to_have_value(code)
    assert field.evaluate("f => f.value.slice(f.selectionStart, f.selectionEnd)") == code
    assert field.evaluate("f => f.readOnly")
    expect(note(page)).to_contain_text("copy it with Ctrl+C")
    page.keyboard.press("Escape")
    expect(field).to_be_hidden()
    expect(button).to_be_focused()


def test_an_error_comes_in_words_and_hostile_words_stay_text(view_open):
    page = view_open(small())
    bad = "<img src=x onerror=\"document.body.dataset.hacked='yes'\">"
    page.get_by_role("button", name="Save PNG").click()
    answer(page, {"error": f"There is no map on show {bad}"})
    expect(note(page)).to_have_text(f"There is no map on show {bad}")
    expect(note(page)).to_have_class(re.compile("gcw-wrong"))
    assert page.locator(".gcw img").count() == 0
    page.get_by_role("button", name="Save SVG").click()
    expect(note(page)).not_to_have_class(re.compile("gcw-wrong"))
    # an answer to another view, or to an earlier question, is none of ours
    page.evaluate(
        """() => { for (const [name, act] of [...model.listeners]) if (name === "msg:custom") {
            act({ type: "export", ticket: "other", error: "not yours" }, []);
            act({ type: "other" }, []);
            act(null);
        } }"""
    )
    expect(note(page)).to_have_text("drawing …")


def test_a_hand_out_has_no_exports_and_a_view_without_a_kernel_asks_nothing(view_open):
    page = view_open(small(kernel=False))
    expect(page.locator(".gcw-exports")).to_be_hidden()
    page = view_open(small())
    page.evaluate(
        """() => {
            cleanup();
            model.state.layout = { comm_live: false, on() {}, off() {} };
            window.cleanup = show();
        }"""
    )
    button = page.get_by_role("button", name="Save PNG")
    expect(button).to_be_disabled()
    expect(button).to_have_accessible_description(re.compile("Not connected to the kernel"))
    assert asked(page) is None


@pytest.mark.parametrize("width", [480, 1172])
def test_the_row_fits_the_page(view_open, width):
    page = view_open(small(panels=["heatmap", "alpha", "export"]), width=width)
    page.get_by_role("button", name="Save PNG").click()
    answer(page, {"error": "x" * 300})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.evaluate("text => model.receive(text)", wire({"panels": ["heatmap", "alpha"]}))
    expect(page.locator(".gcw-exports")).to_be_hidden()
