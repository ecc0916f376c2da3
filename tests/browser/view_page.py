"""A page of its own for the view: the module and style sheet with a stand-in model, no notebook, no network."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import numpy as np

from gradcam_widget.widget import view

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>view</title>
<style>body { margin: 24px; } %(style)s</style><style>%(css)s</style></head>
<body %(body)s><div class="gradcam-widget">%(controls)s<div id="place" class="gradcam-canvas"></div></div>
<script type="module">
const SOURCE = %(source)s;
const revive = (key, value) => {
  if (value === null || typeof value !== "object" || !("$base64" in value)) return value;
  const bytes = Uint8Array.from(atob(value.$base64), (c) => c.charCodeAt(0));
  // An odd offset into a larger buffer: this is how a notebook's messages deliver binary traits.
  const whole = new Uint8Array(bytes.length + 3);
  whole.set(bytes, 3);
  return new DataView(whole.buffer, 3, bytes.length);
};
class Model {
  constructor(state) {
    this.state = JSON.parse(state, revive);
    Object.assign(this, { listeners: [], sent: [], requests: [], answers: true });
  }
  get(name) { return this.state[name]; }
  set(name, value) {
    const changes = typeof name === "string" ? { [name]: value } : name;
    Object.assign(this.state, changes);
    for (const key of Object.keys(changes)) {
      for (const [event, act] of [...this.listeners]) if (event === `change:${key}`) act();
    }
  }
  receive(state) { this.set(JSON.parse(state, revive)); }
  on(name, act) { this.listeners.push([name, act]); }
  off(name, act) { this.listeners = this.listeners.filter(([n, a]) => n !== name || a !== act); }
  save_changes() {}
  send({ request, ...message }) {
    this.sent.push(message);
    if (!request) return;
    this.requests.push(request);
    if (this.answers) queueMicrotask(() => this.answer());
  }
  answer(state = "{}") { this.set({ ...JSON.parse(state, revive), answered: this.requests.at(-1) }); }
}
const url = URL.createObjectURL(new Blob([SOURCE], { type: "text/javascript" }));
const view = (await import(url)).default;
window.model = new Model(%(state)s);
window.forget = view.initialize?.({ model: window.model });
window.show = () => view.render({ model: window.model, el: document.getElementById("place") });
window.cleanup = window.show();
</script></body></html>
"""


def wire(value: Any) -> str:
    """JSON in which bytes are {"$base64": ...}: what the page's stand-in model takes."""

    def pack(item: object) -> dict[str, str]:
        assert isinstance(item, bytes)
        return {"$base64": base64.b64encode(item).decode()}

    return json.dumps(value, default=pack)


def page_html(state: dict[str, Any], *, controls: str = "", style: str = "", body: str = "") -> str:
    """The whole page as one string; `window.model` is the stand-in, `window.cleanup` what render returned."""

    def script(text: str) -> str:
        return text.replace("</", "<\\/")

    return PAGE % {
        "css": view.style(),
        "source": script(json.dumps(view.script())),
        "state": script(json.dumps(wire(state))),
        "controls": controls,
        "style": style,
        "body": body,
    }


def png(pixels: np.ndarray) -> bytes:
    """uint8 (H, W, 3) as an unfiltered PNG: exact pixels without an image library."""
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\0\0\0"
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def encode(values: np.ndarray, dtype: str) -> dict[str, Any]:
    """One ARRAY of the wire format in the encoding named."""
    values = np.asarray(values, dtype=np.float64)
    scale, offset = 1.0, 0.0
    if dtype == "f32":
        data = values.astype("<f4").tobytes()
    elif dtype == "i16":
        scale = float(np.abs(values).max() / 32767) or 1.0
        data = np.round(values / scale).astype("<i2").tobytes()
    else:
        offset = float(values.min())
        scale = float((values.max() - offset) / 255) or 1.0
        data = zlib.compress(np.round((values - offset) / scale).astype(np.uint8).tobytes())
    return {"dtype": dtype, "shape": list(values.shape), "scale": scale, "offset": offset, "data": data}


def scene(
    cam: np.ndarray,
    alpha: np.ndarray,
    contribution: np.ndarray,
    *,
    dtype: str = "f32",
    layer: str = "conv_head",
    label: str = "Egyptian cat",
    index: int | None = 285,
    predictions: list[tuple[int, str, float]] | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """A scene message around three arrays."""
    shape = [len(alpha), *cam.shape]
    size = " × ".join(map(str, shape))
    best = [(285, "Egyptian cat", 0.384), (282, "tiger cat", 0.255), (281, "tabby", 0.205), (287, "lynx", 0.059)]
    chosen = [*best, (728, "plastic bag", 0.003)] if predictions is None else predictions
    return {
        "revision": 1,
        "base": changes.get("revision", 1),
        "trace": 7,
        "layer": {"name": layer, "label": f"{layer} · conv · {size}", "kind": "conv", "shape": shape},
        "target": {"index": index, "label": label, "score": 8.3, "probability": 0.384},
        "method": {"name": "GradCAM", "weights": "mean gradient of the logit per channel", "terms": "weight"},
        "cam": encode(cam, dtype),
        "evidence": "positive",
        "max": float(np.abs(cam).max()),
        "alpha": encode(alpha, dtype if dtype == "i16" else "f32"),
        "contribution": encode(contribution, "i16"),
        "coverage": {"channels": 12, "of": len(alpha), "share": 0.5},
        "predictions": [{"index": i, "label": name, "probability": p} for i, name, p in chosen],
        "status": {"device": "cpu", "note": None, "milliseconds": 0.94, "passes": "1 backward pass"},
        "diagnosis": None,
        **changes,
    }


def strip(
    maps: dict[str, np.ndarray | None], evidence: str = "positive", question: int | None = None
) -> dict[str, Any]:
    """A strip message: layer name -> uint8 (h, w), or None for a layer without map."""
    layers, parts = [], []
    for name, values in maps.items():
        cells = np.zeros((0, 0), np.uint8) if values is None else values
        signed = evidence == "signed"
        layers.append(
            {
                "name": name,
                "label": f"{name} · conv · 8 × {cells.shape[0]} × {cells.shape[1]}",
                "shape": [8, *cells.shape],
                "cells": list(cells.shape),
                "max": float(np.abs(cells.astype(int) - (128 if signed else 0)).max(initial=0)),
                "signed": signed,
            }
        )
        parts.append(cells.tobytes())
    data = zlib.compress(b"".join(parts))
    return {"evidence": evidence, "question": question, "layers": layers, "data": data}


def state(
    picture: np.ndarray | None, first: dict[str, Any], tables: dict[str, np.ndarray], **changes: Any
) -> dict[str, Any]:
    """All synced traits of the view; `tables` are uint8 (256, 3), the ones named *-* diverging."""
    sent = {}
    if picture is not None:
        height, width, _ = picture.shape
        sent = {"data": png(picture), "width": width, "height": height, "name": "chelsea"}
    kinds = {name: "diverging" if "-" in name else "sequential" for name in tables}
    return {
        "picture": sent,
        "scene": first,
        "notice": {},
        "task": {},
        "strip": {},
        "activations": {},
        "kept": {},
        "channel": None,
        "opacity": 0.5,
        "colormap": next(iter(tables), ""),
        "tables": {name: {"kind": kinds[name], "data": tables[name].tobytes()} for name in tables},
        **changes,
    }


# -- one view to try, and how to work with it

STEP = np.arange(256)
TABLES = {
    "first": np.stack([STEP, 255 - STEP, STEP // 2], axis=1).astype(np.uint8),
    "second": np.stack([255 - STEP, STEP, 255 - STEP // 3], axis=1).astype(np.uint8),
    "cool-warm": np.stack([STEP, np.full(256, 40), 255 - STEP], axis=1).astype(np.uint8),
}
CAM = np.array([[0.0, 0.1, 0.4], [0.05, 0.9, 0.6], [0.0, 0.3, 1.7], [0.2, 0.0, 1.1]])
ALPHA = np.array([0.002, -0.0045, 0.0001, 0.0, -0.0011, 0.003])
PASSES = {"method": "ScoreCAM", "cost": "one forward pass per channel", "total": 1280, "done": None}
CORNER = np.array([[0, 0], [0, 255]], np.uint8)  # a map of the strip that has its maximum in one cell
CONTRIBUTION = np.array([0.01, -0.5, 0.3, 0.0, -0.02, 0.04])


def quarters(height: int = 64, width: int = 64) -> np.ndarray:
    """A picture of four flat colours, so that enlarging it changes no colour inside of a quarter."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = 200, 30, 60
    pixels[: height // 2, width // 2 :] = 20, 90, 240
    pixels[height // 2 :, : width // 2] = 250, 250, 245
    pixels[height // 2 :, width // 2 :] = 5, 10, 15
    return pixels


def many(channels: int) -> tuple[np.ndarray, np.ndarray]:
    """alpha and contribution of many channels, all |alpha| different."""
    random = np.random.default_rng(7)
    alpha = random.permutation(np.linspace(-0.9, 1.1, channels)) / 100
    return alpha, alpha * random.random(channels)


def next_frame(page: Any) -> None:
    """What was to be drawn in the next frame is drawn."""
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def small(**changes: Any) -> dict[str, Any]:
    """All traits around a scene of six channels, or that which ``changes`` name."""
    return state(quarters(), scene(CAM, ALPHA, CONTRIBUTION), TABLES, **changes)


def receive(page: Any, **changes: Any) -> None:
    page.evaluate("text => model.receive(text)", wire(changes))


def halt(page: Any) -> None:
    """From now on the kernel answers by `answer` only; else it does at once, with nothing."""
    page.evaluate("model.answers = false")


def answer(page: Any, **changes: Any) -> None:
    """The kernel answers the last request, in one message with these changes."""
    page.evaluate("text => model.answer(text)", wire(changes))


def revision(page: Any, number: int) -> None:
    page.wait_for_selector(f'.gcw[data-revision="{number}"]')


def pixels(page: Any, selector: str = ".gcw-picture") -> np.ndarray:
    """What a canvas holds, uint8 as int (H, W, 4)."""
    text, width, height = page.locator(selector).evaluate(
        """c => { const data = c.getContext('2d').getImageData(0, 0, c.width, c.height).data, parts = [];
        for (let i = 0; i < data.length; i += 8192) parts.push(String.fromCharCode(...data.subarray(i, i + 8192)));
        return [btoa(parts.join('')), c.width, c.height]; }"""
    )
    return np.frombuffer(base64.b64decode(text), np.uint8).astype(int).reshape(height, width, 4)


def bars(page: Any) -> list[int]:
    return page.locator(".gcw-bar").evaluate_all("all => all.map(bar => Number(bar.dataset.channel))")


def tile(page: Any, name: str) -> Any:
    """A layer of the strip."""
    return page.locator(f'.gcw-layer[data-name="{name}"]')


def label(page: Any) -> str | None:
    """What the picture is called for those who do not see it."""
    return page.locator(".gcw-picture").get_attribute("aria-label")


def sent(page: Any) -> list[Any]:
    """The messages to the kernel."""
    return page.evaluate("model.sent")
