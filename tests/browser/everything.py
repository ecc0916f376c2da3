"""One walk through everything that an explorer of the demo network offers, for any front end that shows it."""

from __future__ import annotations

import re
from pathlib import Path

from pages import PATIENCE, Explorer, pixels
from PIL import Image
from playwright.sync_api import expect

HEAD = "_conv_head"


def says(explorer: Explorer, words: str) -> None:
    """The picture's description ends so."""
    expect(explorer.picture).to_have_attribute("aria-label", re.compile(f"{words}$"), timeout=PATIENCE)


def controls_answer(explorer: Explorer, upload: Path) -> None:
    """Each control above the view changes what is shown; begins and ends at the class Egyptian cat."""
    page = explorer.page
    explorer.wait("Egyptian cat", "_swish:2", "chelsea")
    explorer.choose("Layer", f"{HEAD} ·")
    explorer.wait("Egyptian cat", HEAD)
    explorer.control("Previous layer").click()
    explorer.wait("Egyptian cat", "_blocks.15._project_conv")
    explorer.control("Next layer").click()
    explorer.wait("Egyptian cat", HEAD)
    layers = page.locator(".gcw-layer")
    before = layers.count()
    explorer.choose("Show", "all")
    expect(layers).not_to_have_count(before, timeout=PATIENCE)
    explorer.choose("Show", "conv")
    expect(layers).to_have_count(before - 1, timeout=PATIENCE)  # _swish:2 was in it while it was on show

    bars, seen = explorer.bars(), pixels(explorer.picture)
    explorer.type_class("tabby")
    explorer.wait("tabby", HEAD)
    assert explorer.bars() != bars
    assert (pixels(explorer.picture) != seen).mean() > 0.1
    explorer.root.get_by_role("button", name=re.compile("^Egyptian cat")).click()
    explorer.wait("Egyptian cat", HEAD)
    assert explorer.bars() == bars

    explorer.choose("Method", "HiResCAM")
    says(explorer, f"HiResCAM for Egyptian cat at {HEAD}")
    explorer.choose("Method", "GuidedGradCAM")
    expect(page.locator("canvas.gcw-pixels")).to_be_visible(timeout=PATIENCE)
    page.get_by_role("button", name="Zoom in").click()
    expect(page.locator(".gcw-zoomed")).to_have_text("2×")
    explorer.control("Method").select_option(label="GradCAM")
    says(explorer, f": Grad-CAM for Egyptian cat at {HEAD}")

    evidence = explorer.root.get_by_role("group", name="Evidence")
    evidence.get_by_role("button", name="signed").click()
    says(explorer, f"signed Grad-CAM for Egyptian cat at {HEAD}")
    evidence.get_by_role("button", name="counterfactual").click()
    says(explorer, f"Grad-CAM against Egyptian cat at {HEAD}")
    evidence.get_by_role("button", name="positive").click()
    says(explorer, f"chelsea.*: Grad-CAM for Egyptian cat at {HEAD}")

    explorer.control("Compare with").click()
    explorer.control("Compare with").fill("espresso")
    explorer.control("Compare with").press("Enter")
    expect(page.locator(".gcw-plate-second .gcw-platename")).to_have_text("espresso", timeout=PATIENCE)
    explorer.control("End the comparison").click()
    expect(page.locator(".gcw-plate")).to_have_count(0, timeout=PATIENCE)

    seen = pixels(explorer.picture)
    explorer.choose("Colour map", "inferno")
    assert (pixels(explorer.picture) != seen).mean() > 0.1
    seen = pixels(explorer.picture)
    explorer.root.get_by_role("slider", name="Opacity").press("End")
    assert (pixels(explorer.picture) != seen).mean() > 0.1

    explorer.choose("Picture", "coffee")
    explorer.wait("Egyptian cat", HEAD, "coffee")
    explorer.type_class("predicted class")
    explorer.wait("espresso", HEAD, "coffee")
    with page.expect_file_chooser() as chooser:
        explorer.control("Upload a picture").click()
    chooser.value.set_files(upload)
    explorer.wait("Egyptian cat", HEAD, upload.name)


def view_answers(explorer: Explorer) -> None:
    """The parts of the view do what they are for: strip, probe, channels, box, scale, table."""
    page = explorer.page
    strip = page.locator(".gcw-layer")
    page.locator('.gcw-layer[data-name="_blocks.15._project_conv"]').click()
    explorer.wait("Egyptian cat", "_blocks.15._project_conv")
    page.keyboard.press("ArrowRight")
    explorer.wait("Egyptian cat", HEAD)
    expect(strip.and_(page.locator('[aria-selected="true"]'))).to_have_attribute("data-name", HEAD)

    bars = explorer.bars()
    explorer.picture.scroll_into_view_if_needed()
    box = explorer.picture.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 14, box["y"] + box["height"] / 14)
    expect(explorer.tip).to_contain_text("cell (0, 0)")
    moved = "first => document.querySelector('.gcw-bar').dataset.channel !== first"
    page.wait_for_function(moved, arg=str(next(iter(bars))))
    page.mouse.move(1, 1)
    assert explorer.bars() == bars
    explorer.control("Sort").select_option(index=1)
    assert list(explorer.bars()) != list(bars)
    explorer.control("Sort").select_option(index=0)

    first = page.locator(".gcw-bar").first
    channel = first.get_attribute("data-channel")
    first.click()
    page.mouse.move(1, 1)
    says(explorer, f"activation of channel {channel} at {HEAD}")
    page.get_by_role("button", name=f"Without #{channel}").click()
    expect(page.locator(f'.gcw-bar[data-channel="{channel}"].gcw-off')).to_have_count(1)
    page.get_by_role("button", name="Score without them").click()
    expect(page.locator(".gcw-score")).to_contain_text("without them: score", timeout=PATIENCE)
    page.get_by_role("button", name="All on").click()
    expect(page.locator(".gcw-off")).to_have_count(0, timeout=PATIENCE)
    page.locator(".gcw-bar").first.press("Escape")
    says(explorer, f"Grad-CAM for Egyptian cat at {HEAD}")

    explorer.control("Scale").select_option(label="shared")
    page.get_by_label("Box", exact=True).check()
    expect(page.get_by_role("slider", name="Threshold")).to_be_visible()
    page.get_by_role("button", name="Classes and channels").click()
    cells = page.locator(".gcw-classcell")
    expect(cells).to_have_count(60, timeout=PATIENCE)
    label = page.locator(".gcw-classes tbody th").nth(1).inner_text()
    kept = page.locator(".gcw-classes thead th").nth(1).get_attribute("data-channel")
    cells.nth(12).click()
    page.mouse.move(1, 1)
    expect(explorer.title).to_have_text(f"αk for {label} at {HEAD}", timeout=PATIENCE)
    says(explorer, f"activation of channel {kept} at {HEAD}")


def portrait(path: Path, picture: Image.Image) -> Path:
    """A file to be uploaded."""
    picture.convert("RGB").save(path)
    return path


def pad_answers(explorer: Explorer) -> None:
    """What is painted reaches scores and heatmap, and is undone again."""
    page = explorer.page
    pad = page.locator(".gradcam-pad")
    canvas = page.locator("canvas.gradcam-paint")
    table = pad.get_by_role("table", name="Scores before and after painting")
    expect(table.locator("tbody tr")).to_have_count(6, timeout=PATIENCE)
    expect(canvas).to_have_attribute("aria-label", re.compile("0 strokes$"), timeout=PATIENCE)
    before = explorer.bars()
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.4 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.7 * box["width"], box["y"] + 0.5 * box["height"], steps=10)
    page.mouse.up()
    expect(canvas).to_have_attribute("aria-label", re.compile("1 stroke$"), timeout=PATIENCE)
    changed = "rows => rows.some((row) => row.dataset.before !== row.dataset.after)"
    for _ in range(200):
        if table.locator("tbody tr").evaluate_all(changed) and explorer.bars() != before:
            break
        page.wait_for_timeout(50)
    assert table.locator("tbody tr").evaluate_all(changed)
    assert explorer.bars() != before
    pad.get_by_role("button", name="Undo").click()
    expect(canvas).to_have_attribute("aria-label", re.compile("0 strokes$"), timeout=PATIENCE)
