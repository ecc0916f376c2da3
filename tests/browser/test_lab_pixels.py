"""Guided Grad-CAM in JupyterLab: each pixel on the page is that of plain hooks."""

from __future__ import annotations

import numpy as np
import torch
from pages import PATIENCE, pixels, show
from playwright.sync_api import expect


def guided_gradcam(model, picture, layer, label):
    """(3, H, W): the gradient at the pixels with every negative gradient at a ReLU cut, times the heatmap."""
    kept = {}
    handles = [model.get_submodule(layer).register_forward_hook(lambda m, x, output: kept.update(A=output))]
    for module in model.modules():
        if isinstance(module, (torch.nn.ReLU, torch.nn.ReLU6)):
            handles.append(module.register_full_backward_hook(lambda m, given, got: (given[0].clamp(min=0),)))
    pixels_in = model.transform(picture)[None].requires_grad_()
    clean = model(pixels_in)[0, model.class_names.index(label)]
    (at_pixels,) = torch.autograd.grad(clean, pixels_in, retain_graph=True)
    for handle in handles[1:]:
        handle.remove()
    plain = model(model.transform(picture)[None])[0, model.class_names.index(label)]
    gradient = torch.autograd.grad(plain, kept["A"])[0][0]
    handles[0].remove()
    cam = torch.einsum("k,khw->hw", gradient.mean((1, 2)), kept["A"][0]).relu()
    size = at_pixels.shape[-2:]
    heat = torch.nn.functional.interpolate((cam / cam.max())[None, None], size=size, mode="bilinear")
    return (at_pixels * heat)[0].detach().numpy()


def test_guided_grad_cam_is_shown_pixel_by_pixel(open_explorer, page, messages, demo, pictures):
    _, explorer = open_explorer(show(layer="_conv_head"), layer="_conv_head")
    messages.clear()
    explorer.choose("Method", "GuidedGradCAM")
    canvas = page.locator("canvas.gcw-pixels")
    expect(canvas).to_be_visible(timeout=PATIENCE)
    (sent,) = messages.carrying("scene")
    assert "pixels" in sent.data["state"]
    assert sent.size < 250_000

    wanted = guided_gradcam(demo, pictures["chelsea"], "_conv_head", "Egyptian cat")
    limit = float(np.quantile(np.abs(wanted), 0.995))
    colours = 128 + 127 * np.clip(wanted / limit, -1, 1)
    shown = pixels(canvas)[..., :3].astype(float)
    size = wanted.shape[1]
    rows = ((np.arange(size) + 0.5) * shown.shape[0] / size).astype(int)
    found = shown[rows][:, rows]
    assert np.abs(found - colours.transpose(1, 2, 0)).mean() < 1.5
    assert np.abs(found - 128).mean() > 3  # not grey all over

    messages.clear()
    page.get_by_role("button", name="Zoom in").click()
    expect(page.locator(".gcw-zoomed")).to_have_text("2×")
    assert messages.carrying("scene") == messages.carrying("pixels") == []
    explorer.control("Method").select_option(index=0)
    expect(canvas).to_be_hidden(timeout=PATIENCE)
    expect(explorer.picture).to_be_visible()
