"""Names of channels in JupyterLab: what excites a channel is what plain torch finds, and is sent once."""

from __future__ import annotations

import numpy as np
import torch
from pages import PATIENCE, Explorer, write_notebook
from playwright.sync_api import expect

SHOW = """from gradcam_widget import GradCAM, GradCAMWidget, name_channels
from gradcam_widget.models import demo_model, sample_images

cam = GradCAM(demo_model())
names = name_channels(cam, sample_images(), "_conv_head", labels=["cat", None, "cat", None, None, None, None])
w = GradCAMWidget(cam, sample_images(), layer="_conv_head", names=names)
w"""
MIDDLES = """all => all.map(patch => {
  const image = new Image();
  image.src = getComputedStyle(patch).backgroundImage.slice(5, -2);
  return image.decode().then(() => {
    const canvas = document.createElement('canvas');
    [canvas.width, canvas.height] = [image.width, image.height];
    const context = canvas.getContext('2d');
    context.drawImage(image, 0, 0);
    const { data } = context.getImageData(0, 0, image.height, image.height);
    const mean = [0, 0, 0];
    for (let i = 0; i < data.length; i += 4) for (const c of [0, 1, 2]) mean[c] += data[i + c];
    return mean.map(sum => sum / (data.length / 4));
  });
})[0]"""


def test_a_bar_shows_what_excites_its_channel_most(lab, lab_page, page, console, messages, demo, pictures):
    write_notebook(lab.root / "names.ipynb", SHOW)
    assert lab_page("names.ipynb").run_all().errors() == []
    explorer = Explorer(page)
    explorer.wait("Egyptian cat", "_conv_head", "chelsea")
    expect(page.locator(".gcw-saidrow")).to_have_count(10, timeout=PATIENCE)
    expect(page.locator(".gcw-saying .gcw-coming")).to_have_count(0, timeout=PATIENCE)
    assert len(messages.carrying("names")) == 1

    channel = int(page.locator(".gcw-bar").nth(3).get_attribute("data-channel"))
    assert page.locator(f'.gcw-saidrow[data-channel="{channel}"]').count() in (0, 1)
    page.locator(".gcw-bar").nth(3).hover()
    expect(page.locator(".gcw-tip .gcw-patch")).to_have_count(5, timeout=PATIENCE)
    expect(page.locator(".gcw-tip .gcw-coming")).to_have_count(0, timeout=PATIENCE)

    kept = []
    hook = demo.get_submodule("_conv_head").register_forward_hook(lambda m, x, output: kept.append(output[0]))
    inputs = {name: demo.transform(picture) for name, picture in pictures.items()}
    with torch.no_grad():
        for values in inputs.values():
            demo(values[None])
    hook.remove()
    best = int(np.argmax([float(maps[channel].max()) for maps in kept]))
    row, column = divmod(int(kept[best][channel].argmax()), 7)
    # The cell sees more than the picture: its 32 pixels, with a cell on each side, grey outside.
    seen = demo.transform.denormalise(list(inputs.values())[best])
    padded = np.pad(seen, ((32, 32), (32, 32), (0, 0)), constant_values=128)
    expected = padded[32 * row : 32 * row + 96, 32 * column : 32 * column + 96].mean((0, 1))
    found = page.locator(".gcw-tip .gcw-patch").evaluate_all(MIDDLES)
    np.testing.assert_allclose(found, expected, atol=4)

    sent = len(messages.carrying("patches"))
    page.mouse.move(2, 2)
    page.locator(".gcw-bar").nth(3).hover()
    expect(page.locator(".gcw-tip .gcw-patch")).to_have_count(5)
    page.wait_for_timeout(300)
    assert len(messages.carrying("patches")) == sent
    assert console.errors() == []
