"""The explorer's links in JupyterLab: strip, method, evidence and channels, held against plain autograd."""

from __future__ import annotations

import re

import matplotlib
import numpy as np
import pytest
import torch
from pages import PATIENCE, pixels, show
from PIL import Image
from playwright.sync_api import expect
from test_lab import Reference

LAYER = "_blocks.14._project_conv"  # its map has both signs
HELD = """import threading, time
def hold():
    with w._lock:
        time.sleep(2)
threading.Thread(target=hold).start()"""


class Signed(Reference):
    """The same with the map before the ReLU, and the activations."""

    def __init__(self, model, picture, layer, label):
        super().__init__(model, picture, layer, label)
        kept = {}
        hook = model.get_submodule(layer).register_forward_hook(lambda m, x, output: kept.update(A=output))
        with torch.no_grad():
            model(model.transform(picture)[None])
        hook.remove()
        self.activations = kept["A"][0]
        self.map = torch.einsum("k,khw->hw", torch.tensor(self.alpha), self.activations)

    def away(self, shown, values, colormap, *, signed):
        """Mean difference, 0 to 255, between what is shown and a map of these values on the picture."""
        height, width = shown.shape[:2]
        under = np.asarray(Image.fromarray(self.seen).resize((width, height), Image.Resampling.BICUBIC), float)
        large = torch.nn.functional.interpolate(
            values[None, None].float(), size=(height, width), mode="bilinear", align_corners=False
        )
        share = (large[0, 0] / values.abs().max()).numpy()
        colour = 255 * matplotlib.colormaps[colormap]((share + 1) / 2 if signed else share)[..., :3]
        mix = (0.5 * np.minimum(1, 2 * np.abs(share)))[..., None]
        return np.abs(shown[..., :3] - (under * (1 - mix) + colour * mix)).mean()


@pytest.fixture
def opened(open_explorer):
    return open_explorer(show(layer="_conv_head"), layer="_conv_head")


def at_rest(explorer, page, layer):
    """Wait until picture and bars are those of a layer, from the kernel."""
    explorer.wait("Egyptian cat", layer)
    expect(page.locator(".gcw-which")).to_have_attribute("aria-busy", "false")


def test_the_strip_is_clicked_walked_and_played(opened, page, messages, demo, pictures):
    notebook, explorer = opened
    names = page.locator(".gcw-layer").evaluate_all("tiles => tiles.map((tile) => tile.dataset.name)")
    here = names.index("_conv_head")
    wanted = names[here - 3]
    messages.clear()
    page.locator(f'.gcw-layer[data-name="{wanted}"]').click()
    at_rest(explorer, page, wanted)
    reference = Reference(demo, pictures["chelsea"], wanted, "Egyptian cat")
    reference.assert_bars(explorer.bars())
    assert reference.distance(pixels(explorer.picture)) < 2
    (scene,) = messages.carrying("scene")
    assert scene.size <= 10_000
    assert messages.carrying("strip") == []
    assert notebook.execute("print(w.layer)").strip() == wanted

    page.keyboard.press("ArrowLeft")
    at_rest(explorer, page, names[here - 4])
    Reference(demo, pictures["chelsea"], names[here - 4], "Egyptian cat").assert_bars(explorer.bars())

    page.get_by_role("button", name="Play through the layers").click()
    played = re.compile(f" at {re.escape(names[here - 2])}$")
    expect(explorer.picture).to_have_attribute("aria-label", played, timeout=PATIENCE)
    page.get_by_role("button", name="Stop at this layer").click()
    label = explorer.picture.get_attribute("aria-label") or ""
    page.wait_for_timeout(1000)
    assert explorer.picture.get_attribute("aria-label") == label
    at_rest(explorer, page, label.rpartition(" at ")[2])
    assert notebook.execute("print(w.layer)").strip() == label.rpartition(" at ")[2]


def test_the_picture_of_the_strip_is_the_picture_of_the_kernel(opened, page, demo, pictures):
    notebook, explorer = opened
    name = "_blocks.15._depthwise_conv"
    notebook.execute(HELD)  # no answer can come meanwhile
    page.locator(f'.gcw-layer[data-name="{name}"]').click()
    expect(explorer.picture).to_have_attribute("aria-label", re.compile(f" at {re.escape(name)}$"))
    early = pixels(explorer.picture)
    at_rest(explorer, page, name)
    reference = Reference(demo, pictures["chelsea"], name, "Egyptian cat")
    assert reference.distance(early) < 2
    assert reference.distance(pixels(explorer.picture)) < 2


def test_evidence_is_positive_signed_or_against(opened, page, demo, pictures):
    notebook, explorer = opened
    explorer.choose("Layer", f"{LAYER} ·")
    at_rest(explorer, page, LAYER)
    reference = Signed(demo, pictures["chelsea"], LAYER, "Egyptian cat")
    assert reference.away(pixels(explorer.picture), reference.map.relu(), "viridis", signed=False) < 2
    evidence = explorer.root.get_by_role("group", name="Evidence")
    evidence.get_by_role("button", name="signed").click()
    expect(explorer.picture).to_have_attribute("aria-label", re.compile("signed Grad-CAM for Egyptian cat"))
    assert reference.away(pixels(explorer.picture), reference.map, "RdBu_r", signed=True) < 2
    reference.assert_bars(explorer.bars())
    evidence.get_by_role("button", name="counterfactual").click()
    expect(explorer.title).to_have_text("αk against Egyptian cat at _blocks.14._project_conv")
    assert reference.away(pixels(explorer.picture), (-reference.map).relu(), "viridis", signed=False) < 2
    assert notebook.execute("print(w.evidence)").strip() == "counterfactual"
    evidence.get_by_role("button", name="positive").click()
    explorer.wait("Egyptian cat", LAYER)
    assert reference.away(pixels(explorer.picture), reference.map.relu(), "viridis", signed=False) < 2


def test_a_bar_shows_its_channel_a_click_keeps_it_and_escape_lets_it_go(opened, page, demo, pictures):
    notebook, explorer = opened
    reference = Signed(demo, pictures["chelsea"], "_conv_head", "Egyptian cat")
    heat = pixels(explorer.picture)
    bar = page.locator(".gcw-bar").nth(2)
    channel = int(bar.get_attribute("data-channel"))
    values = reference.activations[channel]
    signed = bool((values < 0).any())
    colours = "RdBu_r" if signed else "viridis"
    bar.hover()
    label = re.compile(rf"activation of channel {channel} at _conv_head$")
    expect(explorer.picture).to_have_attribute("aria-label", label)
    assert reference.away(pixels(explorer.picture), values, colours, signed=signed) < 3
    bar.click()
    page.mouse.move(1, 1)
    expect(bar).to_have_attribute("aria-selected", "true")
    expect(explorer.picture).to_have_attribute("aria-label", label)
    assert notebook.execute("print(w.channel)").strip() == str(channel)
    bar.focus()
    page.keyboard.press("Escape")
    page.keyboard.press("Shift+Tab")  # the focus looks at a channel too
    expect(explorer.picture).to_have_attribute(
        "aria-label", re.compile("Grad-CAM for Egyptian cat at _conv_head$")
    )
    assert np.abs(pixels(explorer.picture).astype(int) - heat).max() <= 1
    assert notebook.execute("print(w.channel)").strip() == "None"


def test_a_method_of_many_passes_is_computed_when_asked_and_can_be_cancelled(opened, page):
    notebook, explorer = opened
    notebook.execute("w.layer = '_blocks.15._project_conv'")
    at_rest(explorer, page, "_blocks.15._project_conv")
    before = pixels(explorer.picture)
    explorer.choose("Method", "ScoreCAM")
    group = page.get_by_role("group", name="Many passes")
    begin = group.get_by_role("button", name="Compute 320 passes")
    expect(begin).to_be_visible(timeout=PATIENCE)
    expect(explorer.view).to_have_class(re.compile("gcw-stale"))
    begin.click()
    expect(group).to_contain_text(re.compile(r"ScoreCAM: \d+ of 320 passes"), timeout=PATIENCE)
    group.get_by_role("button", name="Cancel").click()
    expect(begin).to_be_visible(timeout=PATIENCE)
    assert notebook.execute("print(w.explanation)").strip() == "None"
    begin.click()
    expect(explorer.picture).to_have_attribute(
        "aria-label", re.compile("ScoreCAM for Egyptian cat"), timeout=4 * PATIENCE
    )
    expect(group).to_be_hidden()
    assert (pixels(explorer.picture) != before).mean() > 0.05
    # the map is the engine's
    code = "e = w.engine.explain(sample_images()['chelsea'], 285, '_blocks.15._project_conv', 'ScoreCAM')"
    assert notebook.execute(f"{code}; print((e.cam - w.explanation.cam).abs().max().item())").strip() == "0.0"
