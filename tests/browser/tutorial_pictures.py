"""The tutorial's pictures, taken from hand-outs, which draw with the explorer's own view: ``make screenshots``."""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

import chromium
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from gradcam_widget import GradCAMWidget
from gradcam_widget.models import demo_model, sample_images

ROOT = Path(__file__).resolve().parents[2]
PAPER = {"light": "#fff", "dark": "#111"}  # of the site
CLASSES = ["Egyptian cat", "espresso"]
LAYERS = ["_blocks.10", "_blocks.15", "_conv_head"]
MARGIN = 5


def main(target: Path) -> None:
    """Write compare-light.webp, probe-light.webp and the dark ones into a folder."""
    target.mkdir(parents=True, exist_ok=True)
    explorer = GradCAMWidget(demo_model(), sample_images())
    explorer.set(image_index=2, target="espresso", layer="_blocks.15")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        probe = explorer.to_html(Path(folder, "probe.html"), targets=CLASSES, layers=LAYERS)
        explorer.set(target="Egyptian cat", compare_target="espresso")
        compare = explorer.to_html(Path(folder, "compare.html"), targets=CLASSES, layers=LAYERS)
        browser = playwright.chromium.launch(executable_path=chromium.find(), args=chromium.FLAGS)
        for scheme in PAPER:
            page = opened(browser, probe, scheme)
            picture = page.locator("canvas.gcw-picture").first
            box = picture.bounding_box()
            assert box is not None
            # a cell in the row of the cup's rim
            picture.click(position={"x": box["width"] * 4.5 / 7, "y": box["height"] * 1.5 / 7})
            take(page, target / f"probe-{scheme}.webp", ".gcw-predictions")
            page.close()
            page = opened(browser, compare, scheme)
            take(page, target / f"compare-{scheme}.webp", ".gcw-overview")
            page.close()
        browser.close()


def opened(browser: Browser, file: Path, scheme: str) -> Page:
    """A hand-out on the site's own paper."""
    page = browser.new_page(
        viewport={"width": 1180, "height": 1600},
        device_scale_factor=2,
        color_scheme=scheme,
        bypass_csp=True,  # a hand-out lets no style in from outside
    )
    page.goto(file.as_uri())
    page.wait_for_selector(".gcw[data-revision]")
    page.add_style_tag(content=f"html, body {{ background: {PAPER[scheme]} !important; }}")
    return page


def take(page: Page, path: Path, last: str) -> None:
    """Write the view from its upper edge down to the lower edge of a part of it."""
    page.mouse.move(5, 5)
    page.wait_for_timeout(1500)
    view, end = page.locator(".gcw").bounding_box(), page.locator(last).first.bounding_box()
    assert view is not None
    assert end is not None
    clip = {
        "x": view["x"] - MARGIN,
        "y": view["y"] - MARGIN,
        "width": view["width"] + 2 * MARGIN,
        "height": end["y"] + end["height"] - view["y"] + 2 * MARGIN,
    }
    Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB").save(path, quality=88, method=6)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images")
