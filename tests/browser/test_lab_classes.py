"""The table of classes and channels in JupyterLab: its numbers are those of plain autograd."""

from __future__ import annotations

import numpy as np
import torch
from pages import PATIENCE, show
from playwright.sync_api import expect


def test_the_table_has_the_weights_of_the_likeliest_classes(open_explorer, page, messages, demo, pictures):
    _, explorer = open_explorer(show(layer="_conv_head"), layer="_conv_head")
    assert messages.carrying("classes") == []
    page.get_by_role("button", name="Classes and channels").click()
    cells = page.locator(".gcw-classcell")
    expect(cells).to_have_count(60, timeout=PATIENCE)

    kept = {}
    hook = demo.get_submodule("_conv_head").register_forward_hook(lambda m, x, output: kept.update(A=output))
    scores = demo(demo.transform(pictures["chelsea"])[None])[0]
    hook.remove()
    best = scores.topk(5).indices.tolist()
    gradients = [torch.autograd.grad(scores[i], kept["A"], retain_graph=True)[0][0] for i in best]
    alphas = np.stack([gradient.mean((1, 2)).numpy() for gradient in gradients])

    labels = page.locator(".gcw-classes tbody th").all_inner_texts()
    assert labels == [demo.class_names[i] for i in best]
    channels = [int(text[1:]) for text in page.locator(".gcw-classes thead th").all_inner_texts()[1:]]
    assert set(channels) == set(np.argsort(-np.abs(alphas).max(0))[:12].tolist())
    shown = [float(text.replace("\u2212", "-")) for text in cells.all_inner_texts()]
    np.testing.assert_allclose(np.reshape(shown, (5, 12)), alphas[:, channels], atol=6e-5)

    cells.nth(12 + 2).click()
    explorer.wait(labels[1], "_conv_head")
    expect(page.locator('.gcw-classcell[aria-pressed="true"]')).to_have_count(1, timeout=PATIENCE)
    expect(page.locator(f'.gcw-bar[data-channel="{channels[2]}"][aria-selected="true"]')).to_have_count(1)
