"""Exports in JupyterLab: the buttons give files that can be opened, and code that is copied."""

from __future__ import annotations

import io
import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from pages import PATIENCE, Explorer, Messages, show, write_notebook
from PIL import Image
from playwright.sync_api import expect

SHOW = show(layer="_conv_head")


def test_the_buttons_save_files_and_copy_code(lab, lab_page, page, context, console):
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    messages = Messages(page)
    write_notebook(lab.root / "exports.ipynb", SHOW)
    notebook = lab_page("exports.ipynb").run_all()
    explorer = Explorer(page)
    explorer.wait("Egyptian cat", "_conv_head", "chelsea")
    note = page.locator(".gcw-exports .gcw-note")

    def saved(name: str) -> bytes:
        with page.expect_download(timeout=PATIENCE) as download:
            page.get_by_role("button", name=name, exact=True).click()
        file = download.value
        assert file.suggested_filename.startswith("chelsea_Egyptian-cat_conv_head_GradCAM.")
        expect(note).to_contain_text(file.suggested_filename)
        return Path(file.path()).read_bytes()

    with Image.open(io.BytesIO(saved("Save PNG"))) as image:
        assert image.width == 1400
    page.get_by_label("Sort").select_option("contribution")
    words = " ".join(ElementTree.fromstring(saved("Save SVG")).itertext())
    assert "Grad-CAM for Egyptian cat" in words
    assert "|contribution|" in words
    with np.load(io.BytesIO(saved("Save data (NPZ)")), allow_pickle=False) as arrays:
        assert arrays["activations"].shape == (1280, 7, 7)
        assert json.loads(str(arrays["manifest"]))["layer"]["name"] == "_conv_head"
    assert b"Egyptian cat" in saved("Save HTML")
    assert messages.carrying("scene") == messages.carrying("scene")[:1]  # nothing was drawn again for it

    page.get_by_role("button", name="Copy code").click()
    expect(note).to_contain_text("lines copied")
    code = page.evaluate("navigator.clipboard.readText()")
    assert code == notebook.execute("print(w.code(), end='')")
    same = "picture, model = sample_images()['chelsea'], demo_model()\nexec(w.code())\n"
    same += "print(bool((explanation.cam == w.explanation.cam).all()))"
    assert notebook.execute(same) == "True\n"
    assert console.errors() == []
