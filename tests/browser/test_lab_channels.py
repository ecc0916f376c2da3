"""Places, channels and the box in JupyterLab, against numbers worked out here with plain autograd and a hook."""

from __future__ import annotations

import os
import re
import signal
from collections import deque
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from pages import PATIENCE, pixels, show
from PIL import Image
from playwright.sync_api import expect
from torch import nn

LAYER = "_conv_head"


class Reference:
    """What each channel of a layer adds to the map of a class, (K, h, w), by the formula."""

    def __init__(self, model: nn.Module, picture: Any, label: str) -> None:
        self.model, self.input = model, model.transform(picture)[None]
        self.index = model.class_names.index(label)
        kept: dict[str, Any] = {}
        hook = model.get_submodule(LAYER).register_forward_hook(lambda m, x, output: kept.update(A=output))
        scores = model(self.input)
        hook.remove()
        (gradient,) = torch.autograd.grad(scores[0, self.index], kept["A"])
        self.terms = (gradient.mean((2, 3))[0, :, None, None] * kept["A"][0]).detach().numpy()
        self.seen = model.transform.denormalise(model.transform(picture))

    def cam(self, off: tuple[int, ...] = ()) -> np.ndarray:
        return np.maximum(np.delete(self.terms, off, axis=0).sum(0), 0)

    def without(self, off: tuple[int, ...]) -> tuple[float, float]:
        """Score and probability of a whole pass in which a hook sets the channels to zero."""

        def zero(module: nn.Module, args: Any, output: torch.Tensor) -> torch.Tensor:
            return output.index_fill(1, torch.tensor(off, dtype=torch.long), 0)

        handle = self.model.get_submodule(LAYER).register_forward_hook(zero)
        with torch.no_grad():
            scores = self.model(self.input)[0]
        handle.remove()
        return float(scores[self.index]), float(scores.softmax(0)[self.index])

    def enlarged(self, cam: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        values = torch.tensor(cam)[None, None]
        return torch.nn.functional.interpolate(values, size=size, mode="bilinear", align_corners=False)[
            0, 0
        ].numpy()

    def distance(self, shown: np.ndarray, off: tuple[int, ...] = ()) -> float:
        """How far the drawn picture is from the map without some channels, in grey levels on average."""
        height, width = shown.shape[:2]
        under = np.asarray(Image.fromarray(self.seen).resize((width, height), Image.Resampling.BICUBIC), float)
        cam = self.cam(off)
        share = self.enlarged(cam, (height, width)) / cam.max()
        mix = (0.5 * np.minimum(1, 2 * share))[..., None]
        wanted = under * (1 - mix) + 255 * matplotlib.colormaps["viridis"](share)[..., :3] * mix
        return float(np.abs(shown[..., :3] - wanted).mean())

    def box(self, threshold: float) -> tuple[int, int, int, int]:
        """Of the largest segment of the heatmap at the picture's size, found by walking from pixel to pixel."""
        heatmap = self.enlarged(self.cam(), self.seen.shape[:2])
        left = {(int(y), int(x)) for y, x in zip(*np.nonzero(heatmap >= threshold * heatmap.max()), strict=True)}
        best: list[tuple[int, int]] = []
        while left:
            segment, edge = [], deque([left.pop()])
            while edge:
                y, x = edge.popleft()
                segment.append((y, x))
                for near in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
                    if near in left:
                        left.remove(near)
                        edge.append(near)
            best = max(best, segment, key=len)
        rows, columns = np.array(best).T
        return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


@pytest.fixture
def opened(open_explorer, demo, pictures):
    opened = open_explorer(show(layer=LAYER), layer=LAYER)
    return *opened, Reference(demo, pictures["chelsea"], "Egyptian cat")


def terms_of_bars(page: Any) -> dict[int, float]:
    rows = page.locator(".gcw-bar").evaluate_all(
        "bars => bars.map((bar) => [bar.dataset.channel, bar.dataset.term])"
    )
    return {int(channel): float(term) for channel, term in rows}


def assert_terms(bars: dict[int, float], wanted: np.ndarray) -> None:
    """The bars are the largest terms, in their order."""
    channels, values = list(bars), np.array(list(bars.values()))
    slack = 2 * np.abs(wanted).max() / 32767
    np.testing.assert_allclose(values, wanted[channels], rtol=1e-3, atol=slack)
    assert len(channels) >= 14
    assert (np.diff(np.abs(values)) <= 0).all()
    assert np.abs(np.delete(wanted, channels)).max() <= np.abs(values).min() + slack


def test_a_place_is_the_sum_of_what_the_channels_add_there(opened, page, messages):
    notebook, explorer, reference = opened
    explorer.picture.scroll_into_view_if_needed()
    box = explorer.picture.bounding_box()
    messages.clear()
    page.mouse.move(box["x"] + 3.5 * box["width"] / 7, box["y"] + 2.5 * box["height"] / 7)
    expect(explorer.title).to_contain_text("at cell (2, 3)", timeout=PATIENCE)
    assert_terms(terms_of_bars(page), reference.terms[:, 2, 3])
    words = explorer.tip.inner_text().split("\n")
    assert float(words[-1]) == pytest.approx(reference.cam()[2, 3], rel=1e-2)
    # Another cell needs no message: those of a small layer come together.
    assert len(messages.carrying("terms")) == 1
    page.mouse.click(box["x"] + 5.5 * box["width"] / 7, box["y"] + 4.5 * box["height"] / 7)
    expect(explorer.title).to_contain_text("at cell (4, 5)")
    assert_terms(terms_of_bars(page), reference.terms[:, 4, 5])
    assert notebook.execute("print(w.probe)").strip() == "(4, 5)"
    assert len(messages.carrying("terms")) == 1
    assert messages.carrying("scene") == []
    # From Python; the keys go on from there, Escape frees it on both sides.
    notebook.execute("w.probe = (0, 6)")
    expect(explorer.title).to_contain_text("at cell (0, 6)")
    explorer.picture.focus()
    page.keyboard.press("ArrowDown")
    expect(explorer.title).to_contain_text("at cell (1, 6)")
    assert_terms(terms_of_bars(page), reference.terms[:, 1, 6])
    page.keyboard.press("Escape")
    page.mouse.move(0, 0)
    explorer.wait("Egyptian cat", LAYER, "chelsea")
    assert notebook.execute("print(w.probe)").strip() == "None"
    assert notebook.errors() == []


def test_channels_switched_off_leave_the_map_and_the_model_says_what_is_left(opened, page, messages):
    notebook, explorer, reference = opened
    assert reference.distance(pixels(explorer.picture)) < 2
    page.get_by_label("Sort").select_option("contribution")
    messages.clear()
    off: list[int] = []
    for _ in range(6):
        bar = page.locator(".gcw-bar:not(.gcw-off)").first
        off.append(int(bar.get_attribute("data-channel")))
        bar.click(modifiers=["Shift"])
    expect(page.locator(".gcw-switchwords")).to_have_text("6 of 1280 channels off")
    expect(page.get_by_role("button", name="Score without them")).to_be_enabled(timeout=PATIENCE)
    page.mouse.move(0, 0)
    gone = tuple(sorted(off))
    shown = pixels(explorer.picture)
    assert reference.distance(shown, gone) < 2
    assert reference.distance(shown) > reference.distance(shown, gone) + 1  # it is not the whole map
    most = float(page.locator(".gcw-most").first.inner_text().split()[0])
    assert most == pytest.approx(reference.cam(gone).max(), rel=1e-2)
    scenes = messages.carrying("scene")
    assert 1 <= len(scenes) <= 6
    assert max(message.size for message in scenes) <= 10_000
    assert notebook.execute("print(w.channels_off)").strip() == str(gone)

    page.get_by_role("button", name="Score without them").click()
    said = page.locator(".gcw-score")
    expect(said).to_contain_text("without them", timeout=PATIENCE)
    score, probability = reference.without(gone)
    full, likely = reference.without(())
    numbers = [float(n) for n in re.findall(r"\d+\.\d+", said.inner_text().replace("−", "-"))]
    assert numbers == pytest.approx([score, abs(score - full), probability, full, likely], abs=0.01)
    assert score < full  # they speak for the class
    assert float(notebook.execute("print(w.ablate().score)")) == pytest.approx(score, abs=1e-3)

    # One channel alone: kept by a click, and soloed by the button.
    page.locator(".gcw-bar").nth(7).click()
    alone = int(page.locator('.gcw-bar[aria-selected="true"]').get_attribute("data-channel"))
    page.get_by_role("button", name=f"Only #{alone}").click()
    expect(page.locator(".gcw-switchwords")).to_have_text(f"only channel {alone} on")
    expect(page.get_by_role("button", name="Score without them")).to_be_enabled(timeout=PATIENCE)
    notebook.execute("w.channel = None")
    expect(explorer.picture).to_have_attribute("aria-label", re.compile("Grad-CAM for Egyptian cat"))
    page.mouse.move(0, 0)
    rest = tuple(channel for channel in range(1280) if channel != alone)
    assert reference.distance(pixels(explorer.picture), rest) < 2
    assert reference.distance(pixels(explorer.picture)) > 8

    notebook.execute("w.channels_off = ()")
    expect(page.locator(".gcw-bar.gcw-off")).to_have_count(0)
    page.wait_for_function("!document.querySelector('.gcw-score').textContent")
    assert reference.distance(pixels(explorer.picture)) < 2
    # Another layer has other channels.
    notebook.execute("w.channels_off = (3,)")
    expect(page.locator(".gcw-switchwords")).to_have_text("1 of 1280 channels off")
    explorer.choose("Layer", "_blocks.15._project_conv")
    explorer.wait("Egyptian cat", "_blocks.15._project_conv")
    assert notebook.execute("print(w.channels_off)").strip() == "()"
    assert notebook.errors() == []


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="a process cannot be halted here")
def test_the_box_is_the_kernels_box_and_needs_no_kernel(opened, page):
    notebook, explorer, reference = opened
    kernel = int(notebook.execute("import os; print(os.getpid())"))
    os.kill(kernel, signal.SIGSTOP)
    try:
        explorer.root.get_by_role("checkbox", name="Box").check()
        slider = explorer.root.get_by_role("slider", name="Threshold")
        corners = page.locator(".gcw-corners")
        for threshold in (0.15, 0.7):
            slider.fill(str(threshold))
            expect(corners).to_have_text("({}, {})–({}, {})".format(*reference.box(threshold)))
        assert page.locator(".gcw-box").is_visible()
    finally:
        os.kill(kernel, signal.SIGCONT)
    wanted = f"True 0.7 {reference.box(0.7)}"
    for _ in range(20):  # what the browser has set is on its way
        if (told := notebook.execute("print(w.show_box, w.threshold, w.box)").strip()) == wanted:
            break
        page.wait_for_timeout(200)
    assert told == wanted
    notebook.execute("w.threshold = 0.85")
    expect(corners).to_have_text("({}, {})–({}, {})".format(*reference.box(0.85)))
    assert reference.box(0.85) != reference.box(0.7) != reference.box(0.15)
