"""A map that speaks against its class, in JupyterLab: its buttons lead to a map that shows what there is."""

from __future__ import annotations

import numpy as np
import torch
from pages import PATIENCE, pixels, show
from playwright.sync_api import expect


def test_a_negative_map_is_cured_by_its_button(open_explorer, page, demo, pictures):
    _, explorer = open_explorer(show(layer="_blocks.15._project_conv"), layer="_blocks.15._project_conv")
    expect(page.locator(".gcw-diagnosis")).to_contain_text("No positive evidence for Egyptian cat")
    page.get_by_role("button", name="Show signed").click()
    expect(page.locator(".gcw-diagnosis")).to_contain_text("All of this map speaks against", timeout=PATIENCE)

    # The colours are those of the map as plain autograd has it: all on the side of what speaks against.
    kept = {}
    layer = demo.get_submodule("_blocks.15._project_conv")
    hook = layer.register_forward_hook(lambda m, x, output: kept.update(A=output))
    score = demo(demo.transform(pictures["chelsea"])[None])[0, demo.class_names.index("Egyptian cat")]
    hook.remove()
    gradient = torch.autograd.grad(score, kept["A"])[0][0]
    cam = torch.einsum("k,khw->hw", gradient.mean((1, 2)), kept["A"][0])
    assert cam.max() < 0
    bar = page.locator(".gcw-scale").get_attribute("aria-label")
    limit = float(bar.rpartition(" ")[2])
    np.testing.assert_allclose(limit, -cam.min().item(), rtol=0.01)
    shown = pixels(explorer.picture).astype(int)
    row, column = divmod(int(cam.argmin()), cam.shape[1])
    y, x = (int((at + 0.5) * size / 7) for at, size in ((row, shown.shape[0]), (column, shown.shape[1])))
    assert shown[y, x, 2] > shown[y, x, 0]  # cool, not warm

    page.get_by_role("button", name="Go to the last layer").wait_for(state="hidden")
    page.get_by_role("button", name="Show what speaks against it").click()
    expect(page.locator(".gcw-diagnosis")).to_be_empty(timeout=PATIENCE)
