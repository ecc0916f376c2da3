"""The wire format: values survive within their step, zero survives exactly, and a scene stays within 10 kB."""

from __future__ import annotations

import io
import json
import zlib
from typing import Any

import numpy as np
import pytest
from messages import browser_says, counted, decode
from PIL import Image

from gradcam_widget.widget import wire
from gradcam_widget.widget.canvas import Canvas
from gradcam_widget.widget.notice import Notice
from gradcam_widget.widget.scene import Scene, encode_picture


def test_float32_values_are_themselves() -> None:
    values = np.array([[0.0, 1.5], [-2.25, 1e-30]])
    array = wire.encode(values, "f32")
    assert (array["dtype"], array["shape"], array["scale"], array["offset"]) == ("f32", [2, 2], 1.0, 0.0)
    assert array["data"] == b"\x00\x00\x00\x00\x00\x00\xc0?\x00\x00\x10\xc0" + np.float32(1e-30).tobytes()


def test_i16_by_hand() -> None:
    # The largest magnitude, 2, is step 32767; 1 lies half way: 16383.5, which rounds to the even 16384.
    array = wire.encode(np.array([2.0, -2.0, 0.0, 1.0]), "i16")
    assert array["scale"] == 2 / 32767
    assert np.frombuffer(array["data"], "<i2").tolist() == [32767, -32767, 0, 16384]


def test_u8z_by_hand() -> None:
    # Without negative values there are 255 steps from 0 to the maximum.
    array = wire.encode(np.array([0.0, 51.0, 255.0]), "u8z")
    assert (array["scale"], array["offset"]) == (1.0, 0.0)
    assert list(zlib.decompress(array["data"])) == [0, 51, 255]
    # With both signs 254 steps span 381 - (-127) = 508, so a step is 2; -127 needs 63.5, so zero lies on step 64.
    array = wire.encode(np.array([-127.0, 0.0, 381.0]), "u8z")
    assert (array["scale"], array["offset"]) == (2.0, -128.0)
    assert list(zlib.decompress(array["data"])) == [0, 64, 254]


@pytest.mark.parametrize("dtype", ["f32", "i16", "u8z", "u8z/127", "u8z/15"])
@pytest.mark.parametrize("values", ["mixed", "positive", "negative", "zero", "one", "tiny", "empty"])
def test_every_form_keeps_values_within_half_a_step_and_zero_exactly(dtype: str, values: str) -> None:
    random = np.random.default_rng(3).normal(size=(9, 11)) * 1e-4
    array = {
        "mixed": random,
        "positive": np.maximum(random, 0),
        "negative": np.minimum(random, 0),
        "zero": np.zeros((3, 4)),
        "one": np.array([[2.5]]),
        "tiny": np.array([[1e-40, 0.0, 3e-40]], dtype=np.float32),
        "empty": np.zeros((0, 4)),
    }[values].copy()
    array.flat[:1] = 0
    coded = wire.encode(array, dtype)
    back = decode(coded)
    assert back.shape == array.shape
    step = 1.2e-7 * max(np.abs(array).max(initial=0), 1e-38) if dtype == "f32" else coded["scale"]
    assert np.abs(back - array).max(initial=0) <= step / 2 * (1 + 1e-6) + 1e-45
    assert (back[array == 0] == 0).all()


def test_an_unknown_form_is_refused() -> None:
    with pytest.raises(ValueError, match="dtype: expected f32, i16, u8 or u8z; got 'f64'"):
        wire.encode(np.zeros(1), "f64")


@pytest.mark.parametrize("bad", ["alpha", "contribution", "cam"])
def test_what_is_not_finite_is_refused_in_words(bad: str) -> None:
    arrays = {"alpha": np.zeros(4), "contribution": np.zeros(4), "cam": np.zeros((2, 2))}
    arrays[bad].flat[1] = np.nan
    with pytest.raises(ValueError, match=rf"{bad}: 1 of 4 values are NaN or infinite; .*overflow"):
        wire.fit(**arrays, room=9000)


def scene(K: int, size: int, label: str = "Egyptian cat") -> Scene:
    """A scene of noise, which deflates worse than any real map."""
    random = np.random.default_rng(K + size)
    alpha = random.normal(size=K) * 1e-3
    return Scene(
        layer={
            "name": "features.denseblock4.denselayer16.conv2",
            "label": f"features.denseblock4.denselayer16.conv2 · conv · {K} × {size} × {size}",
            "kind": "conv",
            "shape": [K, size, size],
        },
        target={"index": 285, "label": label, "score": 9.123456789012345, "probability": 0.4321234567},
        method={"name": "GradCAM", "weights": "mean gradient of the logit per channel"},
        cam=np.maximum(random.normal(size=(size, size)), 0),
        alpha=alpha,
        contribution=alpha * random.random(K),
        coverage={"channels": 12, "of": K, "share": 0.5},
        predictions=[{"index": i, "label": label, "probability": 0.123456789012 / (i + 1)} for i in range(5)],
        status={"device": "cpu", "note": None, "milliseconds": 1.23, "passes": "1 forward, 1 backward pass"},
        diagnosis=None,
    )


def weight(message: dict[str, Any]) -> int:
    arrays = ("cam", "alpha", "contribution")
    text = {key: ({**value, "data": None} if key in arrays else value) for key, value in message.items()}
    return len(json.dumps(text, ensure_ascii=False).encode()) + sum(len(message[name]["data"]) for name in arrays)


@pytest.mark.parametrize("size", [7, 14, 28, 56, 112])
@pytest.mark.parametrize("K", [1, 32, 96, 512, 1280, 2048])
def test_a_scene_stays_within_10_kb(K: int, size: int) -> None:
    message = scene(K, size).message(1)
    assert weight(message) <= 9_800
    alpha = np.abs(scene(K, size).alpha).max()
    error = np.abs(decode(message["alpha"]) - scene(K, size).alpha).max()
    # 8 bits at the worst, which no layer of the usual networks needs; 16 bits and more else.
    assert error <= alpha * (1 / 254 if (K, size) == (2048, 112) else 1 / 65000)
    # Noise at 112 x 112 does not deflate; beside many channels it is left fewer steps.
    cam = scene(K, size).cam
    steps = 126 if size < 112 or K < 512 else 30 if K == 512 else 14
    assert np.abs(decode(message["cam"]) - cam).max() <= cam.max() / steps / 2 * 1.02
    assert message["max"] == pytest.approx(cam.max(), rel=1e-8)


def test_small_layers_travel_as_float32_and_the_usual_heads_keep_at_least_16_bits() -> None:
    small = scene(256, 14).message(1)
    assert [small[name]["dtype"] for name in ("alpha", "contribution", "cam")] == ["f32"] * 3
    lite0 = scene(1280, 7).message(1)
    assert [lite0[name]["dtype"] for name in ("alpha", "contribution", "cam")] == ["f32", "i16", "f32"]
    resnet50 = scene(2048, 7).message(1)
    assert [resnet50[name]["dtype"] for name in ("alpha", "contribution")] == ["i16", "i16"]


def test_an_empty_map_has_maximum_zero() -> None:
    empty = scene(8, 7)
    object.__setattr__(empty, "cam", np.zeros((7, 7)))
    message = empty.message(1)
    assert message["max"] == 0
    assert (decode(message["cam"]) == 0).all()


def test_hostile_and_endless_names_travel_as_short_text() -> None:
    label = "<img src=x onerror=alert(1)>\ud800" + "ü" * 20_000
    message = scene(2048, 7, label).message(1)
    assert weight(message) <= 12_000  # six such labels; the arrays give way, the message cannot run away
    assert message["target"]["label"].startswith("<img src=x onerror=alert(1)>?")
    assert len(message["target"]["label"]) == 160
    json.dumps(message["target"], ensure_ascii=False).encode()  # a lone surrogate would raise here


def test_a_thumbnail_keeps_the_strongest_of_the_cells_it_stands_for() -> None:
    values = np.zeros((4, 6))
    values[0, 1], values[3, 5], values[2, 0] = 2.0, 1.0, 0.5
    # Two by two cells each, the last column of the 6 alone: ceil(6 / 5) = 2, so three columns.
    assert wire.thumbnail(values, most=3).tolist() == [[255, 0, 0], [64, 0, 128]]
    values[1, 0] = -4.0
    assert wire.thumbnail(values, most=3).tolist() == [[1, 128, 128], [144, 128, 160]]
    assert wire.thumbnail(np.zeros((2, 3))).tolist() == [[0, 0, 0], [0, 0, 0]]
    assert wire.thumbnail(np.ones((112, 111))).shape == (28, 28)


def test_each_channel_has_steps_of_its_own() -> None:
    maps = np.array([[[0.0, 255.0], [1.0, 2.0]], [[-1.0, 0.0], [1.0, 0.5]], [[3.0, 3.0], [3.0, 3.0]]])
    sent = wire.channels(maps)
    low, step = (np.frombuffer(sent[name], "<f4")[:, None, None] for name in ("low", "step"))
    values = low + step * np.frombuffer(zlib.decompress(sent["data"]), np.uint8).reshape(sent["shape"])
    assert np.abs(values - maps).max((1, 2)).tolist() == pytest.approx([0, 0, 0], abs=1 / 255)
    assert values[0].tolist() == [[0, 255], [1, 2]]
    assert values[2].tolist() == [[3, 3], [3, 3]]


def test_text_is_cut_in_the_middle() -> None:
    assert wire.shorten("abcdefghij", 5) == "ab…ij"
    assert wire.shorten("abcde", 5) == "abcde"
    assert wire.shorten(12) == "12"


def test_the_picture_travels_losslessly() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    message = encode_picture(pixels[:, ::-1], "cat.png")
    assert (message["width"], message["height"], message["name"]) == (7, 5, "cat.png")
    assert (np.asarray(Image.open(io.BytesIO(message["data"]))) == pixels[:, ::-1]).all()


@pytest.fixture
def canvas() -> Any:
    tables = {
        "viridis": ("sequential", np.zeros((256, 3), np.uint8)),
        "magma": ("sequential", np.full((256, 3), 7, np.uint8)),
    }
    canvas = Canvas(tables, colormap="magma", opacity=0.25)
    yield canvas
    canvas.layout.close()
    canvas.close()


def test_the_canvas_holds_its_tables_and_look(canvas: Canvas) -> None:
    assert [(name, t["index"], t["kind"]) for name, t in canvas.tables.items()] == [
        ("viridis", 0, "sequential"),
        ("magma", 1, "sequential"),
    ]
    assert canvas.tables["magma"]["data"] == b"\x07" * 768
    assert (canvas.colormap, canvas.colormap_index, canvas.opacity) == ("magma", 1, 0.25)
    canvas.look("viridis", 0.75)
    assert (canvas.colormap, canvas.colormap_index, canvas.opacity) == ("viridis", 0, 0.75)


def test_picture_scene_and_notice_are_one_message(canvas: Canvas) -> None:
    canvas.say(Notice("Title", "What happened. " * 500, stale=True))
    assert canvas.notice["stale"] is True
    assert len(canvas.notice["message"]) == 1200
    picture = encode_picture(np.zeros((2, 2, 3), np.uint8), "a")
    with counted() as sent:
        canvas.show(scene(8, 7).message(canvas.revision + 1), picture)
    assert [set(message.state) for message in sent] == [{"scene", "picture", "notice"}]
    assert (canvas.revision, canvas.notice) == (1, {})
    with counted() as sent:
        canvas.show(scene(8, 7).message(canvas.revision + 1))
    assert [set(message.state) for message in sent] == [{"scene"}]


def test_a_view_without_its_buffers_gets_everything_again(canvas: Canvas) -> None:
    canvas.show(scene(8, 7).message(1), encode_picture(np.zeros((2, 2, 3), np.uint8), "a"))
    with counted() as sent:
        browser_says(canvas, type="ready", complete=True)
        assert sent == []
        browser_says(canvas, type="ready", complete=False)
    assert [set(message.state) for message in sent] == [
        {"tables", "picture", "scene", "pixels", "classes", "names", "words", "notice", "task", "strip"}
    ]


def test_the_view_can_choose_a_target_and_say_nonsense(canvas: Canvas) -> None:
    chosen: list[int] = []
    canvas.on_target(chosen.append)
    browser_says(canvas, type="target", index=285)
    browser_says(canvas, type="target", index="285")
    browser_says(canvas, type="target")
    browser_says(canvas, type="no such thing")
    assert chosen == [285]
