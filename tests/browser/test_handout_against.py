"""A hand-out in the browser: what speaks against a class, and the channels by their names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect
from test_handout_page import Lesson, alphas, choose, number, show

from gradcam_widget.comparison import compare_targets
from gradcam_widget.neurons import name_channels
from gradcam_widget.targets import Counterfactual

__all__ = ["show"]


@pytest.fixture(scope="module")
def lesson(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lesson]:
    made = Lesson(tmp_path_factory.mktemp("lesson"))
    made.widget.names = name_channels(made.engine, made.pictures, "third")
    made.path = made.widget.to_html(made.path, layers=["second", "third"])
    yield made
    made.widget.close()


def against(lesson: Lesson, label: str, layer: str) -> Any:
    picture = next(iter(lesson.pictures.values()))
    plain = lesson.engine.explain(picture, label, layer)
    return lesson.engine.explain(picture, Counterfactual(plain.target), layer)


def test_what_speaks_against_a_class_is_that_of_the_engine(show: Any, lesson: Lesson) -> None:
    page = show(lesson.path)
    choose(page, "Evidence", "counterfactual")
    for layer in ("second", "third"):
        choose(page, "Layer", layer) if layer != "third" else None
        label = page.locator(".gcw-picture").get_attribute("aria-label") or ""
        assert "Grad-CAM against" in label
        target = page.get_by_label("Class", exact=True).locator("option:checked").inner_text().split(" · ")[0]
        shown_at = label.rsplit(" at ", 1)[1]
        found = against(lesson, target, shown_at)
        shown = alphas(page)
        assert shown == pytest.approx({k: float(found.alpha[k]) for k in shown}, rel=1e-5, abs=1e-9)
        most = page.locator(".gcw-where .gcw-most").first.inner_text().split("max")[0]
        assert number(most) == pytest.approx(float(found.cam.max()), rel=5e-3, abs=1e-9)


def test_a_second_class_beside_it_has_the_contrast_of_the_engine(show: Any, lesson: Lesson) -> None:
    page = show(lesson.path)
    choose(page, "Evidence", "counterfactual")
    classes = page.get_by_label("Class", exact=True).locator("option")
    first = classes.locator("xpath=self::option").nth(0).text_content().split(" · ")[0]
    other = classes.nth(1).text_content().split(" · ")[0]
    choose(page, "Class", first) if page.get_by_label("Class", exact=True).input_value() != "0" else None
    choose(page, "Compare with", other)
    expect(page.locator(".gcw-plate")).to_have_count(2)
    picture = next(iter(lesson.pictures.values()))
    own = lesson.engine.explain(picture, first, "third")
    found = compare_targets(lesson.engine, picture, own, against(lesson, first, "third"), other, "counterfactual")
    most = page.locator(".gcw-plate").nth(1).locator(".gcw-most").first.inner_text().split("\n")[0]
    assert number(most) == pytest.approx(float(found.contrast.signed_cam.abs().max()), rel=5e-3)


def test_channels_have_their_names_patches_and_words(show: Any, lesson: Lesson, tmp_path: Path) -> None:
    page = show(lesson.path)
    expect(page.get_by_role("heading", name="In words")).to_be_visible()
    rows = page.locator(".gcw-saidrow")
    expect(rows.first).to_be_visible()
    # the patches are in the page, as pictures that it made itself
    page.wait_for_function(
        "() => document.querySelector('.gcw-saidrow .gcw-patch')?.style.backgroundImage.includes('blob:')"
    )
    page.locator(".gcw-bar").first.hover()
    expect(page.locator(".gcw-tip")).to_contain_text("no name")  # there were no concepts to name them by
    choose(page, "Layer", "second")  # which has none
    expect(page.get_by_role("heading", name="In words")).to_be_hidden()
