"""The pictures of the README, taken from the running widget: ``make screenshots``.

The quickstart's widget in JupyterLab, light and dark, at 1120 px and two device pixels per CSS pixel.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import chromium
from pages import Notebook
from playwright.sync_api import Browser, sync_playwright
from servers import Server

ROOT = Path(__file__).resolve().parents[2]
MARGIN = 5


def main(target: Path, width: int = 1120) -> None:
    """Write explorer-light.png and explorer-dark.png into a folder."""
    target.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium.find(), args=chromium.FLAGS)
        take(browser, {target / "explorer-light.png": False, target / "explorer-dark.png": True}, width)
        browser.close()


def take(browser: Browser, pictures: dict[Path, bool], width: int) -> None:
    """Pictures of the quickstart's widget in JupyterLab: file -> whether in the dark theme."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "notebooks")
        root.mkdir()
        shutil.copy(ROOT / "notebooks" / "01_quickstart.ipynb", root)
        server = Server("lab", root, Path(folder, "home")).start()
        try:
            page = browser.new_page(viewport={"width": 1700, "height": 1400}, device_scale_factor=2)
            notebook = Notebook(page, server, "01_quickstart.ipynb").open()
            notebook.command("application:toggle-left-area")
            # The cell that shows it alone, so that the explorer is as a reader first meets it.
            page.locator(".jp-CodeCell").nth(1).click()
            notebook.command("notebook:run-cell")
            page.wait_for_selector(".gcw[data-revision]", timeout=240_000)
            widget = page.locator(".gradcam-widget").first
            widget.evaluate("(box, width) => { box.style.width = `${width}px`; }", width)
            for path, dark in pictures.items():
                notebook.theme(dark)
                page.wait_for_timeout(2500)
                # not at the edge, where the front end's own bar would be in the margin
                widget.evaluate("box => box.scrollIntoView({ block: 'center' })")
                page.mouse.move(5, 5)
                box = widget.bounding_box()
                assert box is not None
                clip = {
                    "x": box["x"] - MARGIN,
                    "y": box["y"] - MARGIN,
                    "width": box["width"] + 2 * MARGIN,
                    "height": box["height"] + 2 * MARGIN,
                }
                page.screenshot(path=path, clip=clip)
            page.close()
        finally:
            server.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images")
