"""The bars as a table: real cells with what the bars show, written only while it is open."""

from __future__ import annotations

import numpy as np
from playwright.sync_api import expect
from view_page import ALPHA, CAM, CONTRIBUTION, many, next_frame, receive, revision, scene, small


def cells(page):
    rows = page.get_by_role("table").get_by_role("row").all()
    return [row.locator("th, td").all_inner_texts() for row in rows]


def test_the_table_has_the_bars_in_their_order_with_heads_and_a_caption(view_open):
    page = view_open(small())
    assert page.get_by_role("table").count() == 0  # closed
    assert page.locator(".gcw-table tr td").count() == 0
    page.get_by_text("Bars as a table").click()
    expect(page.get_by_role("table")).to_have_accessible_name(
        "Channel weights α for Egyptian cat at conv_head: 6 channels, by |α|"
    )
    assert cells(page) == [
        ["channel", "α", "contribution"],
        ["#1", "−0.00450", "−0.500"],
        ["#5", "+0.00300", "+0.0400"],
        ["#0", "+0.00200", "+0.00999"],
        ["#4", "−0.00110", "−0.0200"],
        ["#2", "+1.00e−4", "+0.300"],
        ["#3", "0", "0"],
    ]
    assert page.get_by_role("columnheader").count() == 3
    assert page.get_by_role("rowheader").count() == 6
    page.get_by_label("Sort").select_option("contribution")
    next_frame(page)
    assert [row[0] for row in cells(page)[1:]] == ["#1", "#2", "#5", "#4", "#0", "#3"]
    receive(page, scene=scene(CAM, ALPHA[:2], CONTRIBUTION[:2], revision=2, base=2, off="02"))
    revision(page, 2)
    assert cells(page) == [
        ["channel", "α", "contribution", "in the sum"],
        ["#1", "−0.00450", "−0.500", "no"],
        ["#0", "+0.00200", "+0.00999", "yes"],
    ]


def test_of_many_channels_the_first_fifty_are_told_and_a_closed_table_costs_nothing(view_open):
    alpha, contribution = many(2048)
    page = view_open(small(scene=scene(CAM, alpha, contribution)), width=480)
    page.evaluate(
        """() => { window.written = 0;
        new MutationObserver(all => { window.written += all.length; })
            .observe(document.querySelector('.gcw-table'), { subtree: true, childList: true }); }"""
    )
    page.locator(".gcw-bar").nth(2).hover()
    page.get_by_label("Sort").select_option("channel")
    assert page.evaluate("window.written") == 0
    page.get_by_label("Sort").select_option("|α|")
    page.locator("summary").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("table")).to_have_accessible_name(
        "Channel weights α for Egyptian cat at conv_head: 50 of 2048 channels, by |α|"
    )
    strongest = np.argsort(-np.abs(alpha), kind="stable")[:50]
    assert [row[0] for row in cells(page)[1:]] == [f"#{k}" for k in strongest]
    written = page.evaluate("window.written")
    page.locator(".gcw-bar").nth(3).hover()
    page.locator(".gcw-bar").nth(4).hover()
    assert page.evaluate("window.written") == written  # hovering writes nothing
    assert page.evaluate("document.documentElement.scrollWidth") <= 480
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Table of the bars"


def test_hostile_names_stay_text_in_the_caption(view_open):
    bad = "<img src=x onerror=\"document.body.dataset.hacked='yes'\">"
    page = view_open(small(scene=scene(CAM, ALPHA, CONTRIBUTION, layer=bad, label=bad)))
    page.get_by_text("Bars as a table").click()
    expect(page.locator("caption")).to_contain_text(bad)  # it is written when the browser tells that it is open
    assert page.locator(".gcw img").count() == 0
