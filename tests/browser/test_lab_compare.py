"""Two classes side by side in JupyterLab: pictures and bars against autograd, one small message, one click."""

from __future__ import annotations

import numpy as np
import torch
from pages import PATIENCE, pixels, show
from playwright.sync_api import expect
from test_lab import Reference


def drawn(cam, limit, seen, height, width, table):
    """As `Reference.drawn`, within limits that are given; `table` is matplotlib's name."""
    import matplotlib
    from PIL import Image

    picture = np.asarray(Image.fromarray(seen).resize((width, height), Image.Resampling.BICUBIC), float)
    enlarge = torch.nn.functional.interpolate
    heat = enlarge(torch.tensor(cam)[None, None], size=(height, width), mode="bilinear", align_corners=False)
    share = (heat[0, 0] / limit).numpy()
    signed = table == "RdBu_r"
    colour = 255 * matplotlib.colormaps[table]((share + 1) / 2 if signed else share)[..., :3]
    mix = (0.5 * np.minimum(1, 2 * np.abs(share)))[..., None]
    return picture * (1 - mix) + colour * mix


def test_a_second_class_stands_beside_the_first_with_the_engine_s_numbers(
    open_explorer, page, messages, demo, pictures
):
    _, explorer = open_explorer(show(layer="_conv_head", labels={"chelsea": "tabby"}), layer="_conv_head")
    messages.clear()
    field = explorer.control("Compare with")
    field.click()
    field.fill("espresso")
    field.press("Enter")
    expect(page.locator(".gcw-plate-second .gcw-platename")).to_have_text("espresso", timeout=PATIENCE)
    page.mouse.move(2, 2)
    (sent,) = messages.carrying("scene")
    assert sent.size <= 10_000
    assert "picture" not in sent.data["state"]

    first, second = (
        Reference(demo, pictures["chelsea"], "_conv_head", label) for label in ("Egyptian cat", "espresso")
    )
    rows = page.locator(".gcw-bar").evaluate_all(
        """all => all.map(({ dataset }) =>
            [dataset.channel, dataset.alpha, dataset.second, dataset.difference])"""
    )
    channels = [int(row[0]) for row in rows]
    assert len(channels) >= 14
    numbers = np.array([[float(value) for value in row[1:]] for row in rows]).T
    wanted = [first.alpha[channels], second.alpha[channels], (first.alpha - second.alpha)[channels]]
    np.testing.assert_allclose(numbers, wanted, atol=2e-4 * np.abs(first.alpha).max())

    # Both positive maps within one limit; the contrast, from its own definition, within its own.
    kept = {}
    hook = demo.get_submodule("_conv_head").register_forward_hook(lambda m, x, output: kept.update(A=output))
    scores = demo(demo.transform(pictures["chelsea"])[None])[0]
    hook.remove()
    a, b = (demo.class_names.index(label) for label in ("Egyptian cat", "espresso"))
    gradient = torch.autograd.grad(scores[a] - scores[b], kept["A"])[0][0]
    contrast = torch.einsum("k,khw->hw", gradient.mean((1, 2)), kept["A"][0]).detach().numpy()
    limit = max(first.cam.max(), second.cam.max())
    for selector, cam, most, table in (
        ("canvas.gcw-picture", first.cam, limit, "viridis"),
        (".gcw-plate-second canvas.gcw-map", second.cam, limit, "viridis"),
        (".gcw-plate-contrast canvas.gcw-map", contrast, np.abs(contrast).max(), "RdBu_r"),
    ):
        shown = pixels(page.locator(selector))
        expected = drawn(cam, most, first.seen, *shown.shape[:2], table)
        assert np.abs(shown[..., :3] - expected).mean() < 2, selector

    messages.clear()
    explorer.control("Scale").select_option(label="shared")
    explorer.control("Sort").select_option("difference")
    assert explorer.bars().keys() != dict.fromkeys(channels).keys()
    assert messages.carrying("scene") == messages.carrying("scale") == []

    explorer.control("End the comparison").click()
    expect(page.locator(".gcw-plate")).to_have_count(0)
    page.get_by_role("button", name="Compare prediction with truth").click()
    expect(page.locator(".gcw-plate-second .gcw-platename")).to_have_text("tabby", timeout=PATIENCE)
    expect(field).to_have_value("tabby")
