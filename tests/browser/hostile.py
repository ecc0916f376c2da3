"""An explorer whose classes, layers and pictures have names that are markup, and what must not come of them."""

from __future__ import annotations

from pathlib import Path

from pages import PATIENCE, STARTING, Explorer
from PIL import Image
from playwright.sync_api import Page, expect

BAIT = """"'><img src=x onerror="window.caught = 1"><script>window.caught = 2</script>"""
SHOW = f"""import numpy, torch
from gradcam_widget import GradCAMWidget

bait = {BAIT!r}
torch.manual_seed(0)
model = torch.nn.Sequential()
model.add_module("first", torch.nn.Conv2d(3, 8, 3))
model.add_module(bait.replace(".", ""), torch.nn.Conv2d(8, 8, 3))
model.add_module("pool", torch.nn.AdaptiveAvgPool2d(1))
model.add_module("flat", torch.nn.Flatten())
model.add_module("last", torch.nn.Linear(8, 5))
pixels = numpy.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=numpy.uint8)
names = [bait + str(k) for k in range(5)]
w = GradCAMWidget(model.eval(), {{bait: pixels, "second": pixels}}, class_names=names,
    transform=lambda picture: torch.from_numpy(numpy.asarray(picture).copy()).permute(2, 0, 1) / 255)
w.class_table = True
w"""


def assert_inert(page: Page, folder: Path) -> None:
    """The names are on the page as they were written, also after each is chosen, and none of them is markup."""
    page.wait_for_selector(".gcw[data-revision]", timeout=STARTING)
    explorer = Explorer(page)
    expect(explorer.title).to_contain_text(BAIT[:12], timeout=PATIENCE)
    expect(explorer.control("Picture").locator("option").first).to_have_text(BAIT)
    page.locator(".gcw-prediction").nth(3).click()
    expect(page.locator(".gcw-prediction").nth(3)).to_have_attribute("aria-pressed", "true", timeout=PATIENCE)
    explorer.control("Next layer").click()
    explorer.control("Previous layer").click()
    field = explorer.control("Class")
    assert BAIT[:12] in field.input_value()
    offered = field.evaluate("field => [...field.list.options].map((option) => option.value)")
    # with ipywidgets 7 the straight quotes are others, for its list is made of markup
    assert len([text for text in offered if BAIT in text.replace("”", '"')]) >= 5
    explorer.type_class(BAIT + " is no class")  # an error in words, with the text in it
    expect(explorer.notice).to_contain_text(BAIT[:12], timeout=PATIENCE)
    path = folder / "<img src=x onerror=window.caught=3>.png"
    Image.new("RGB", (40, 40), (200, 30, 60)).save(path)
    with page.expect_file_chooser() as chooser:
        explorer.control("Upload a picture").click()
    chooser.value.set_files(path)
    expect(page.locator(".gcw-caption").first).to_contain_text(
        "<img src=x onerror=window.caught=3>", timeout=PATIENCE
    )
    page.locator(".gcw-bar").first.hover()
    page.wait_for_timeout(300)  # an image that cannot be loaded says so a moment later
    assert page.evaluate("window.caught") is None
    assert page.locator(".gradcam-widget :is(img[src='x'], script)").count() == 0
