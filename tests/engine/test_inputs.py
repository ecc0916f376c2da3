"""Every kind of picture is taken as it should be, and anything else is refused in words before the model runs."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch import nn

from gradcam_widget.engine import GradCAM, Passes
from gradcam_widget.inputs import (
    IMAGENET,
    Preprocess,
    as_inputs,
    blank,
    load_picture,
    own_transform,
    pixels,
    repaint,
)

from .nets import build

RNG = np.random.default_rng(0)
PHOTO = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)
X = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(3))


def same(picture: Image.Image, expected: np.ndarray[Any, Any]) -> None:
    assert picture.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(picture), expected)


# -- accepted pictures ----------


def test_arrays():
    same(load_picture(PHOTO), PHOTO)
    grey = PHOTO[..., 0]
    same(load_picture(grey), np.stack([grey] * 3, 2))
    same(load_picture(grey[..., None]), np.stack([grey] * 3, 2))
    same(load_picture(np.asfortranarray(PHOTO)), PHOTO)
    same(load_picture(PHOTO[::-1, ::2]), PHOTO[::-1, ::2])


def test_transparency_is_laid_over_white():
    alpha = np.zeros((20, 30), dtype=np.uint8)
    alpha[:10] = 255
    expected = PHOTO.copy()
    expected[10:] = 255
    layered = np.dstack([PHOTO, alpha])
    same(load_picture(layered), expected)
    same(load_picture(Image.fromarray(layered)), expected)
    grey = Image.merge("LA", (Image.fromarray(PHOTO[..., 0]), Image.fromarray(alpha)))
    same(load_picture(grey), np.where(alpha[..., None] > 0, PHOTO[..., :1], 255).repeat(3, 2))


def test_half_transparency():
    layered = np.full((4, 4, 4), 128, dtype=np.uint8)
    layered[..., :3] = (200, 100, 0)
    found = np.asarray(load_picture(layered)).astype(int)
    expected = np.array([200, 100, 0]) * 128 / 255 + 255 * 127 / 255
    assert np.abs(found - expected).max() <= 1


def test_palettes():
    image = Image.fromarray(PHOTO).quantize(16)
    same(load_picture(image), np.asarray(image.convert("RGB")))
    file = io.BytesIO()
    first = np.asarray(image)[0, 0]
    image.save(file, "PNG", transparency=int(first))
    reopened = Image.open(file)
    assert "transparency" in reopened.info
    expected = np.asarray(image.convert("RGB")).copy()
    expected[np.asarray(image) == first] = 255
    same(load_picture(reopened), expected)


def test_one_bit_and_cmyk():
    bits = Image.fromarray(PHOTO[..., 0]).convert("1")
    same(load_picture(bits), np.asarray(bits).astype(np.uint8)[..., None].repeat(3, 2) * 255)
    cmyk = Image.fromarray(PHOTO).convert("CMYK")
    same(load_picture(cmyk), np.asarray(cmyk.convert("RGB")))


@pytest.mark.parametrize("where", ["file", "array in memory", "32 bit"])
def test_sixteen_bits_are_scaled_to_eight(where, tmp_path):
    values = (np.arange(600, dtype=np.uint32).reshape(20, 30) * 109).clip(0, 65535).astype(np.uint16)
    image = Image.fromarray(values)
    assert image.mode.startswith("I;16")
    if where == "file":
        image.save(tmp_path / "deep.png")
        image = Image.open(tmp_path / "deep.png")
    elif where == "32 bit":
        image = image.convert("I")
    same(load_picture(image), np.rint(values / 257).astype(np.uint8)[..., None].repeat(3, 2))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_in_exif_is_honoured(orientation, tmp_path):
    # What each asks for, written with numpy: 2 mirror, 3 half turn, 4 flip, 5 transpose, 6 quarter turn clockwise,
    # 7 the other transpose, 8 quarter turn counterclockwise.
    upright: dict[int, Callable[[Any], Any]] = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
        8: lambda a: np.rot90(a, 1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(PHOTO).save(tmp_path / "turned.png", exif=exif)
    expected = upright[orientation](PHOTO)
    same(load_picture(tmp_path / "turned.png"), expected)
    same(load_picture(Image.open(tmp_path / "turned.png")), expected)


@pytest.mark.parametrize("name", ["photo.png", "photo.jpg", "photo.webp", "photo.gif", "photo.bmp", "photo.tiff"])
def test_files(name, tmp_path):
    Image.fromarray(PHOTO).save(tmp_path / name)
    with Image.open(tmp_path / name) as opened:
        expected = np.asarray(opened.convert("RGB"))
    same(load_picture(tmp_path / name), expected)
    same(load_picture(str(tmp_path / name)), expected)


def test_the_given_picture_is_not_changed():
    image = Image.fromarray(np.dstack([PHOTO, PHOTO[..., 0]]))
    array = PHOTO.copy()
    image.info["title"] = "kept"
    load_picture(image)
    load_picture(array)
    assert (image.mode, image.info["title"]) == ("RGBA", "kept")
    np.testing.assert_array_equal(array, PHOTO)


def test_tensors_go_to_the_model_as_they_are():
    (batched,) = as_inputs(X, IMAGENET)
    (single,) = as_inputs(X[0], IMAGENET)
    assert torch.equal(batched, X)
    assert torch.equal(single, X)
    first, second = as_inputs((X[0], torch.arange(3)), IMAGENET)
    assert torch.equal(first, X)
    assert torch.equal(second, torch.arange(3))


def test_half_and_double_tensors_are_cast_to_the_models_dtype():
    cam = GradCAM(build("plain"))
    expected = cam.predict(X)
    assert torch.equal(cam.predict(X.double()), expected)
    assert cam.passes == Passes(1, 0)
    torch.testing.assert_close(cam.predict(X.half()), expected, rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(cam.predict(X.bfloat16()), expected, rtol=1e-1, atol=1e-1)


# -- the transform ----------


def test_preprocess_is_torchvisions():
    reference = torchvision.transforms.Compose(
        [
            torchvision.transforms.Resize(64),
            torchvision.transforms.CenterCrop(48),
            torchvision.transforms.ToTensor(),
            torchvision.transforms.Normalize(IMAGENET.mean, IMAGENET.std),
        ]
    )
    for size in ((80, 80), (100, 70), (70, 131)):
        smooth = Image.fromarray(RNG.integers(0, 256, (5, 5, 3), dtype=np.uint8)).resize(
            size, Image.Resampling.BICUBIC
        )
        found, expected = Preprocess(resize=64, crop=48)(smooth), reference(smooth)
        # torchvision cuts the longer side to whole pixels, we round it, so the crop may lie one pixel further
        assert found.shape == expected.shape
        assert float((found - expected).abs().mean()) < 0.1
    square = Image.fromarray(RNG.integers(0, 256, (80, 80, 3), dtype=np.uint8))
    torch.testing.assert_close(Preprocess(resize=64, crop=48)(square), reference(square), rtol=0, atol=1e-6)


def test_a_crop_larger_than_the_resized_picture_is_filled():
    found = Preprocess(resize=20, crop=(40, 50))(Image.fromarray(PHOTO))
    assert found.shape == (3, 40, 50)
    assert IMAGENET(Image.fromarray(PHOTO[:1, :1])).shape == (3, 224, 224)


def test_the_models_own_transform_is_found():
    class Timm(nn.Module):
        pretrained_cfg: ClassVar = {
            "input_size": (3, 160, 192),
            "crop_pct": 0.8,
            "mean": (0.5,) * 3,
            "std": (0.25,) * 3,
        }

    found = own_transform(Timm())
    assert found == Preprocess(resize=200, crop=(160, 192), mean=(0.5,) * 3, std=(0.25,) * 3)
    model = build("plain")
    model.transform = Preprocess(resize=16, crop=16)
    assert own_transform(model) is model.transform
    assert GradCAM(model).prepare(PHOTO).shape == (1, 3, 16, 16)
    assert GradCAM(model, transform=Preprocess(resize=24, crop=24)).prepare(PHOTO).shape == (1, 3, 24, 24)
    assert own_transform(nn.Linear(1, 1)) is None
    assert GradCAM(build("plain")).prepare(PHOTO).shape == (1, 3, 224, 224)


class Scalar:
    """A transform that says its mean and std as single numbers."""

    mean, std = 0.5, 0.25

    def __call__(self, image):
        return (torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255 - 0.5) / 0.25


@pytest.mark.parametrize(
    "transform",
    [
        Preprocess(resize=20, crop=20),
        torchvision.transforms.Compose(
            [torchvision.transforms.ToTensor(), torchvision.transforms.Normalize((0.4, 0.5, 0.6), (0.2, 0.3, 0.1))]
        ),
        torchvision.transforms.ToTensor(),
        Scalar(),
    ],
    ids=["preprocess", "torchvision", "not normalised", "single numbers"],
)
def test_the_picture_shown_is_the_picture_seen(transform):
    photo = PHOTO[:20, :20]
    cam = GradCAM(build("plain"), transform=transform)
    np.testing.assert_array_equal(cam.picture(photo), photo)
    np.testing.assert_array_equal(cam.picture(cam.prepare(photo)), photo)


def test_pictures_of_tensors_with_unknown_normalisation_are_stretched():
    found = pixels(torch.linspace(-9, 3, 48).view(1, 3, 4, 4), None)
    assert (found.dtype, found.shape, found.min(), found.max()) == (np.uint8, (4, 4, 3), 0, 255)
    assert pixels(torch.full((1, 1, 2, 2), 7.0), None).shape == (2, 2, 3)
    assert pixels(torch.full((1, 9, 2, 2), 0.5), None).tolist() == [[[128] * 3] * 2] * 2


# -- refused: each with its kind of error, and a message that names argument, expectation, what came, what to do


def png(width: int, height: int) -> bytes:
    """A picture file that claims a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.fixture
def files(tmp_path) -> Path:
    Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(tmp_path / "whole.png")
    whole = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(tmp_path / "whole.jpg")
    whole = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "bomb.png").write_bytes(png(20_000, 20_000))
    (tmp_path / "large.png").write_bytes(png(10_000, 10_000))
    (tmp_path / "folder.png").mkdir()
    return tmp_path


BAD_FILES = [
    ("absent.png", FileNotFoundError, r"image: there is no file '.*absent.png'; check the path"),
    ("folder.png", FileNotFoundError, r"image: there is no file '.*folder.png'"),
    ("cut.png", ValueError, r"image: 'cut.png' cannot be read .*; the file may be cut short"),
    ("cut.jpg", ValueError, r"image: 'cut.jpg' cannot be read .*; the file may be cut short"),
    ("text.png", ValueError, r"image: 'text.png' is not a picture that Pillow can read; give a PNG, JPEG or WebP"),
    ("empty.png", ValueError, r"image: 'empty.png' is not a picture"),
    ("bomb.png", ValueError, r"image: 'bomb.png' has more pixels than is safe .*; scale it down first"),
    ("large.png", ValueError, r"image: 'large.png' has more pixels than is safe"),
]


@pytest.mark.parametrize(("name", "error", "message"), BAD_FILES)
def test_bad_files(files, name, error, message):
    cam = GradCAM(build("plain"))
    with pytest.raises(error, match=message):
        cam.explain(files / name, 1)
    with pytest.raises(error, match=message):
        cam.picture(str(files / name))
    assert cam.passes == Passes()


def test_a_truncated_picture_that_was_opened_lazily(files):
    with (
        Image.open(files / "cut.png") as image,
        pytest.raises(ValueError, match=r"image: its pixels cannot be read .*; the file may be cut short"),
    ):
        load_picture(image)


BAD_IMAGES: dict[str, tuple[Any, type[Exception], str]] = {
    "None": (None, TypeError, r"image: expected a float tensor .* a PIL image, a uint8 array .*; got NoneType"),
    "int": (7, TypeError, r"image: expected .*; got int"),
    "list": ([[1.0]], TypeError, r"image: expected .*; got list"),
    "list of tensors": ([X], TypeError, r"image: expected .*; got list"),
    "dict": ({"image": X}, TypeError, r"image: expected .*; got dict"),
    "bytes": (b"\x89PNG", TypeError, r"image: expected .*; got bytes"),
    "empty tuple": ((), TypeError, r"image: a tuple must hold the model's input tensors; got \(nothing\)"),
    "tuple of arrays": ((PHOTO,), TypeError, r"image: a tuple must hold .* tensors; got \(ndarray\)"),
    "no such path": ("https://x.org/a.png", FileNotFoundError, r"image: there is no file .*; check the path"),
    "empty path": ("", FileNotFoundError, r"image: there is no file"),
    "uint8 tensor": (
        torch.zeros(3, 8, 8, dtype=torch.uint8),
        TypeError,
        r"image: a tensor goes to the model as it is and must be floating point, .*; got torch.uint8. For 8-bit",
    ),
    "int64 tensor": (torch.zeros(3, 8, 8, dtype=torch.int64), TypeError, r"image: a tensor .* got torch.int64"),
    "bool tensor": (torch.zeros(3, 8, 8, dtype=torch.bool), TypeError, r"image: a tensor .* got torch.bool"),
    "complex tensor": (
        torch.zeros(3, 8, 8, dtype=torch.cfloat),
        TypeError,
        r"image: a tensor .*got torch.complex64",
    ),
    "one axis": (
        torch.rand(8),
        ValueError,
        r"image: expected a tensor \(C, H, W\) or \(1, C, H, W\); got shape \(8,\)",
    ),
    "two axes": (torch.rand(8, 8), ValueError, r"image: expected a tensor .*; got shape \(8, 8\)"),
    "five axes": (
        torch.rand(1, 1, 3, 8, 8),
        ValueError,
        r"image: expected a tensor .*; got shape \(1, 1, 3, 8, 8\)",
    ),
    "a batch": (
        torch.rand(4, 3, 8, 8),
        ValueError,
        r"image: expected one picture, .*got a batch of 4.*explain_batch",
    ),
    "empty batch": (torch.rand(0, 3, 8, 8), ValueError, r"image: expected one picture, .* got a batch of 0"),
    "no rows": (
        torch.rand(3, 0, 8),
        ValueError,
        r"image: expected a picture with pixels; got shape \(1, 3, 0, 8\)",
    ),
    "no channels": (torch.rand(1, 0, 8, 8), ValueError, r"image: expected a picture with pixels"),
    "NaN": (
        torch.full((3, 8, 8), torch.nan),
        ValueError,
        r"image: it contains NaN or infinite values.*; check the tr",
    ),
    "infinite": (torch.full((3, 8, 8), torch.inf), ValueError, r"image: it contains NaN or infinite values"),
    "one NaN": (
        torch.where(torch.arange(64).view(8, 8) == 9, torch.nan, X[:, :, :8, :8]),
        ValueError,
        r"image: .*NaN",
    ),
    "float array": (
        PHOTO / 255,
        ValueError,
        r"image: an array .* must have dtype uint8 .*; got float64. For values",
    ),
    "float32 array": ((PHOTO / 255).astype(np.float32), ValueError, r"image: an array .* uint8 .*; got float32"),
    "uint16 array": (PHOTO.astype(np.uint16), ValueError, r"image: an array .* uint8 .*; got uint16"),
    "bool array": (PHOTO > 9, ValueError, r"image: an array .* uint8 .*; got bool"),
    "channels first": (
        PHOTO.transpose(2, 0, 1),
        ValueError,
        r"image: a uint8 array must be \(H, W\).*\(3, 20, 30\)",
    ),
    "two channels": (PHOTO[..., :2], ValueError, r"image: a uint8 array must be .*; got \(20, 30, 2\)"),
    "one-axis array": (PHOTO[0, 0], ValueError, r"image: a uint8 array must be .*; got \(3,\)"),
    "a stack of pictures": (PHOTO[None], ValueError, r"image: a uint8 array must be .*; got \(1, 20, 30, 3\)"),
    "empty array": (PHOTO[:0], ValueError, r"image: a uint8 array must be .* not empty; got \(0, 30, 3\)"),
    "object array": (np.array([None]), ValueError, r"image: an array .* uint8 .*; got object"),
    "zero-size picture": (
        Image.new("RGB", (0, 5)),
        ValueError,
        r"image: expected a picture with pixels; got 0 x 5",
    ),
    "floating-point picture": (
        Image.new("F", (5, 5)),
        ValueError,
        r"image: a picture of floating-point values has no",
    ),
    "a mode without RGB": (
        Image.new("La", (5, 5)),
        ValueError,
        r"image: its mode 'La' cannot be turned into RGB; conv",
    ),
}


@pytest.mark.parametrize("case", BAD_IMAGES)
def test_bad_images(case):
    image, error, message = BAD_IMAGES[case]
    cam = GradCAM(build("plain"))
    for question in (cam.explain, cam.predict, cam.layers, cam.default_layer, cam.explain_layers):
        with pytest.raises(error, match=message):
            question(image)
    with pytest.raises(error, match=message):
        cam.explain_batch([image])
    assert cam.passes == Passes()


BAD_TRANSFORMS: dict[str, tuple[Callable[[Image.Image], Any], type[Exception], str]] = {
    "raises": (
        lambda image: 1 / 0,
        ValueError,
        r"transform: it failed on a PIL image of 30 x 20 pixels \(ZeroDivisionError: .*\); it must take",
    ),
    "takes tensors": (lambda image: image.unsqueeze(0), ValueError, r"transform: it failed .*AttributeError"),
    "nothing": (
        lambda image: None,
        TypeError,
        r"transform: expected it to return a float tensor .*; got NoneType",
    ),
    "picture": (
        lambda image: image,
        TypeError,
        r"transform: .* got Image. Add ToTensor\(\) or the like at its end",
    ),
    "array": (np.asarray, TypeError, r"transform: expected it to return a float tensor .*; got ndarray"),
    "crops": (lambda image: (X, X), TypeError, r"transform: expected it to return .*; got tuple"),
    "uint8": (
        lambda image: torch.zeros(3, 8, 8, dtype=torch.uint8),
        ValueError,
        r"transform: expected it to return a float tensor \(C, H, W\); got torch.uint8 \(3, 8, 8\)",
    ),
    "two axes": (
        lambda image: torch.rand(8, 8),
        ValueError,
        r"transform: expected .*; got torch.float32 \(8, 8\)",
    ),
    "five axes": (lambda image: torch.rand(1, 1, 3, 8, 8), ValueError, r"transform: expected .*\(1, 1, 3, 8, 8\)"),
    "a batch": (lambda image: torch.rand(5, 3, 8, 8), ValueError, r"transform: .*; got .*\(5, 3, 8, 8\)"),
    "empty": (lambda image: torch.rand(3, 0, 8), ValueError, r"transform: .*; got .*\(3, 0, 8\)"),
    "NaN": (
        lambda image: torch.full((3, 8, 8), torch.nan),
        ValueError,
        r"image: it contains NaN .* check the transform",
    ),
}


@pytest.mark.parametrize("case", BAD_TRANSFORMS)
def test_bad_transforms(case):
    transform, error, message = BAD_TRANSFORMS[case]
    cam = GradCAM(build("plain"), transform=transform)
    with pytest.raises(error, match=message):
        cam.explain(PHOTO)
    assert cam.passes == Passes()


def test_the_cause_of_a_failing_transform_is_kept():
    with pytest.raises(ValueError, match="transform: it failed") as caught:
        GradCAM(build("plain"), transform=lambda image: 1 / 0).prepare(PHOTO)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


# -- painted pixels, back to the model's input ----------


def test_a_painted_pixel_by_hand_and_all_others_bit_for_bit():
    transform = Preprocess(resize=4, crop=4, mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 1.0))
    tensor = transform(Image.fromarray(PHOTO))[None]
    picture = pixels(tensor, transform)
    assert torch.equal(repaint(tensor, picture, transform), tensor)
    picture[1, 2] = (255, 0, 51)
    painted = repaint(tensor, picture, transform)
    # (255/255 - 0.5) / 0.5 = 1, (0 - 0.25) / 0.25 = -1, 51/255 / 1 = 0.2
    torch.testing.assert_close(painted[0, :, 1, 2], torch.tensor([1.0, -1.0, 0.2]))
    painted[0, :, 1, 2] = tensor[0, :, 1, 2]
    assert torch.equal(painted, tensor)
    assert (pixels(repaint(tensor, picture, transform), transform) == picture).all()


def test_painting_without_a_known_normalisation_uses_the_range_that_is_shown():
    # Shown from -3, black, to 5, white: 51 is a fifth of the way, -3 + 8 / 5 = -1.4.
    tensor = torch.zeros(1, 1, 2, 2)
    tensor[0, 0, 0, 0], tensor[0, 0, 1, 1] = -3, 5
    picture = pixels(tensor, lambda image: image)
    assert torch.equal(repaint(tensor, picture, None), tensor)
    picture[0, 1] = 51
    assert repaint(tensor, picture, None)[0, 0, 0, 1].item() == pytest.approx(-1.4)
    # Values in [0, 1] are shown as they are.
    assert repaint(torch.full((1, 3, 2, 2), 0.5), np.full((2, 2, 3), 51, np.uint8), None)[0, 0, 0, 0].item() == (
        pytest.approx(0.2)
    )


def test_a_grey_input_takes_the_mean_of_a_colour_and_grey_pictures_are_taken():
    tensor = torch.zeros(1, 1, 2, 3)
    picture = np.zeros((2, 3, 3), np.uint8)
    picture[0, 0] = (255, 0, 51)
    assert repaint(tensor, picture, None)[0, 0, 0, 0].item() == pytest.approx(0.4)
    grey = np.zeros((2, 3), np.uint8)
    grey[1, 2] = 102
    assert repaint(tensor, grey, None)[0, 0, 1, 2].item() == pytest.approx(0.4)


def test_the_engine_repaints_what_its_model_sees(demo, pictures):
    cam = GradCAM(demo)
    photo = pictures["chelsea"]
    assert torch.equal(cam.predict(cam.repaint(photo, cam.picture(photo))), cam.predict(photo))
    painted = cam.picture(photo)
    painted[50:150, 50:150] = 128
    again = cam.repaint(photo, painted)
    assert (cam.picture(again) == painted).all()
    assert (cam.predict(again) - cam.predict(photo)).abs().max() > 0.1
    kept = cam.prepare(photo).clone()
    kept[..., 50:150, 50:150] = again[..., 50:150, 50:150]
    assert torch.equal(kept, again)


def test_several_inputs_keep_the_others():
    other = torch.rand(1, 2)
    cam = GradCAM(build("plain"))
    painted = cam.repaint((X, other), cam.picture((X, other)))
    assert torch.equal(painted[0], X)
    assert painted[1] is other


def test_a_painted_picture_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"picture: expected the pixels that the model sees, uint8 \(16, 16, 3\)"):
        GradCAM(build("plain")).repaint(X, PHOTO)


def test_a_blank_input_is_black_as_the_model_takes_it():
    cam = GradCAM(build("plain"), transform=Preprocess(8, 8, mean=(0.5, 0.5, 0.25), std=(0.5, 0.25, 0.25)))
    assert cam.blank((2, 3), 3)[0, :, 1, 2].tolist() == [-1, -2, -1]
    assert (cam.picture(cam.blank((2, 3), 3)) == 0).all()
    assert torch.equal(blank((28, 28), 1, IMAGENET), torch.zeros(1, 1, 28, 28))
    with pytest.raises(ValueError, match=r"size, channels: expected \(height, width\)"):
        blank((28, 0), 1, None)
