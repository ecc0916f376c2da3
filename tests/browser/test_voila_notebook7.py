"""The same explorer in Notebook 7 and in Voila: it is shown, and everything in it answers."""

from __future__ import annotations

from pathlib import Path

import everything
import pytest
from pages import PATIENCE, STARTING, Explorer, Notebook, pixels, show, write_notebook
from playwright.sync_api import expect

SHOW = show()


WITH_PAD = SHOW.replace("sample_images())", 'sample_images(), panels=["heatmap", "alpha", "paint"])')


def show(kind, source, serve, page):
    """The widget of a cell in one of the front ends."""
    server = serve(kind)
    write_notebook(server.root / "explorer.ipynb", source)
    if kind == "notebook":
        Notebook(page, server, "explorer.ipynb").open().run_all()
    else:
        # each load of this address starts a kernel: it is loaded once
        page.goto(f"{server.url}/voila/render/explorer.ipynb", timeout=STARTING)
    page.wait_for_selector(".gcw[data-revision]", timeout=STARTING)
    return Explorer(page)


@pytest.fixture(params=["notebook", "voila"])
def kind(request, console):
    """One of the front ends, with the console watched to the end."""
    yield request.param
    assert console.errors() == []


@pytest.fixture
def explorer(kind, serve, page):
    return show(kind, SHOW, serve, page)


def test_it_is_shown_and_answers_a_change_of_layer_and_class(explorer):
    explorer.wait("Egyptian cat", "_swish:2", "chelsea")
    first_bars, first_pixels = explorer.bars(), pixels(explorer.picture)
    assert first_pixels[..., 3].min() == 255
    assert first_pixels.std() > 10

    explorer.choose("Layer", "_blocks.9._project_conv ·")
    explorer.wait("Egyptian cat", "_blocks.9._project_conv")
    second_bars, second_pixels = explorer.bars(), pixels(explorer.picture)
    assert second_bars != first_bars
    assert (second_pixels != first_pixels).mean() > 0.1

    explorer.type_class("tabby")
    explorer.wait("tabby", "_blocks.9._project_conv")
    assert explorer.bars() != second_bars
    assert (pixels(explorer.picture) != second_pixels).mean() > 0.1

    with explorer.page.expect_download(timeout=PATIENCE) as download:
        explorer.page.get_by_role("button", name="Save SVG", exact=True).click()
    assert b"Grad-CAM for tabby" in Path(download.value.path()).read_bytes()


def test_an_impossible_choice_is_said_in_words(explorer):
    explorer.wait("Egyptian cat", "_swish:2", "chelsea")
    explorer.type_class("Egyptian dog")
    expect(explorer.notice).to_contain_text("Egyptian dog", timeout=PATIENCE)


def test_everything_in_it_answers(explorer, tmp_path, pictures):
    everything.controls_answer(explorer, everything.portrait(tmp_path / "my cat.png", pictures["chelsea"]))
    everything.view_answers(explorer)


def test_the_paint_pad_answers(kind, serve, page):
    everything.pad_answers(show(kind, WITH_PAD, serve, page))
