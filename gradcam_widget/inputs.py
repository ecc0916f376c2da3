"""What a picture is to the engine: any accepted input -> the tensor that the model sees, and back to pixels."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from PIL import Image  # costs more than the rest of the engine, so it is imported where a picture comes in

__all__ = [
    "IMAGENET",
    "Preprocess",
    "as_inputs",
    "blank",
    "load_picture",
    "own_transform",
    "pixels",
    "repaint",
]

Transform = Callable[["Image.Image"], Tensor]

_ACCEPTED = (
    "a float tensor (C, H, W) or (1, C, H, W), a PIL image, a uint8 array (H, W, 3), a path, "
    "or a tuple of tensors for a model with several inputs"
)


@dataclass(frozen=True)
class Preprocess:
    """The usual way from a photograph to a classifier: resize, crop the centre, normalise.

    Args:
        resize: length of the picture's shorter side after resizing, in pixels.
        crop: height and width of the centre crop in pixels; one number for a square.
        mean: per channel, subtracted from the values in [0, 1].
        std: per channel, what the difference is divided by.
        interpolation: of the resizing; PIL's antialiased filters.
    """

    resize: int
    crop: int | tuple[int, int]
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"

    def __call__(self, image: Image.Image) -> Tensor:
        """The picture as a float32 tensor (3, height, width), normalised."""
        from PIL import Image

        height, width = (self.crop, self.crop) if isinstance(self.crop, int) else self.crop
        scale = max(self.resize / min(image.size), width / image.width, height / image.height)
        size = (max(width, round(image.width * scale)), max(height, round(image.height * scale)))
        image = image.convert("RGB").resize(size, Image.Resampling[self.interpolation.upper()])
        left, top = round((size[0] - width) / 2), round((size[1] - height) / 2)
        image = image.crop((left, top, left + width, top + height))
        values = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
        mean, std = map(_column, (self.mean, self.std))
        return ((values - mean) / std).contiguous()

    def denormalise(self, tensor: Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """The uint8 picture (H, W, 3) that a normalised tensor (3, H, W) or (1, 3, H, W) stands for."""
        return _denormalise(tensor.reshape(tensor.shape[-3:]), self.mean, self.std)


IMAGENET = Preprocess(resize=256, crop=224)


def own_transform(model: nn.Module) -> Transform | None:
    """The transform that the model itself names, or None.

    Known are a callable attribute ``transform`` (the models of `gradcam_widget.models` have one) and timm's
    ``pretrained_cfg`` (input size, crop, mean, std).
    """
    transform = getattr(model, "transform", None)
    if callable(transform) and not isinstance(transform, nn.Module):
        return transform  # type: ignore[no-any-return]
    config = getattr(model, "pretrained_cfg", None) or getattr(model, "default_cfg", None)
    if isinstance(config, Mapping) and "input_size" in config:
        _, height, width = config["input_size"]
        fraction = float(config.get("crop_pct") or 0.875)
        return Preprocess(
            resize=int(min(height, width) / fraction),
            crop=(int(height), int(width)),
            mean=tuple(config.get("mean", IMAGENET.mean)),
            std=tuple(config.get("std", IMAGENET.std)),
            interpolation="bicubic" if config.get("interpolation") == "bicubic" else "bilinear",
        )
    return None


def load_picture(image: object) -> Image.Image:
    """An RGB picture from a PIL image, a uint8 array (H, W), (H, W, 3) or (H, W, 4), or a path.

    The orientation in EXIF data is applied; transparency is laid over white; 16-bit grey is scaled to 8 bits.

    Raises:
        TypeError: for anything else.
        ValueError: for an array of the wrong shape or dtype, a picture without pixels or too large to be safe,
            and a file that is not a picture.
        FileNotFoundError: for a missing file.
    """
    from PIL import Image

    if isinstance(image, (str, Path)):
        return _open(Path(image))
    if isinstance(image, np.ndarray):
        return _from_array(image)
    if isinstance(image, Image.Image):
        try:
            return _rgb(image, "image")
        except (OSError, SyntaxError) as error:  # PIL reads the pixels of a file only when they are asked for
            raise ValueError(f"image: its pixels cannot be read ({error}); the file may be cut short") from error
    raise TypeError(f"image: expected {_ACCEPTED}; got {type(image).__name__}")


def _open(path: Path) -> Image.Image:
    from PIL import Image, UnidentifiedImageError

    if not path.is_file():
        raise FileNotFoundError(f"image: there is no file {str(path)!r}; check the path")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as opened:
                return _rgb(opened, f"image {path.name!r}")
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ValueError(
            f"image: {path.name!r} has more pixels than is safe to unpack ({error}); scale it down first"
        ) from error
    except UnidentifiedImageError as error:
        raise ValueError(
            f"image: {path.name!r} is not a picture that Pillow can read; give a PNG, JPEG or WebP file"
        ) from error
    except (OSError, SyntaxError) as error:
        raise ValueError(f"image: {path.name!r} cannot be read ({error}); the file may be cut short") from error


def _from_array(array: np.ndarray[Any, Any]) -> Image.Image:
    from PIL import Image

    if array.dtype != np.uint8:
        raise ValueError(
            f"image: an array is taken as a photograph and must have dtype uint8 (0 to 255); "
            f"got {array.dtype}. For values that are already normalised give a float torch tensor (C, H, W)"
        )
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))) or 0 in array.shape:
        raise ValueError(
            f"image: a uint8 array must be (H, W), (H, W, 3) or (H, W, 4) and not empty; got {array.shape}"
        )
    return _rgb(Image.fromarray(array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array), "image")


def _rgb(image: Image.Image, what: str) -> Image.Image:
    from PIL import Image, ImageOps

    if 0 in image.size:
        raise ValueError(f"{what}: expected a picture with pixels; got {image.width} x {image.height}")
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16") or image.mode == "I":
        values = np.asarray(image, dtype=np.float64)
        image = Image.fromarray((values / 257).clip(0, 255).round().astype(np.uint8))
    if image.mode == "F":
        raise ValueError(f"{what}: a picture of floating-point values has no known range; convert it to 8 bits")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layered = image.convert("RGBA")
        white = Image.new("RGBA", layered.size, "white")
        image = Image.alpha_composite(white, layered)
    try:
        return image.convert("RGB")
    except ValueError as error:
        raise ValueError(f"{what}: its mode {image.mode!r} cannot be turned into RGB; convert it first") from error


def as_inputs(image: object, transform: Transform, spatial: int = 2) -> tuple[Tensor, ...]:
    """The tensors that go into the model, each with a batch dimension of 1; not yet moved or cast.

    Args:
        image: see `gradcam_widget.GradCAM`.
        transform: applied to whatever is not a tensor.
        spatial: spatial dimensions of the model's input: 2 for pictures, 1 for signals, 3 for volumes.

    Raises:
        TypeError: for what is no picture, tensor or tuple of tensors.
        ValueError: for one of the wrong shape or without values, and where the transform fails.
        RuntimeError: inside of a transform of functions, such as ``torch.func.vmap``.
    """
    if torch._C._functorch.peek_interpreter_stack() is not None:
        raise RuntimeError(
            "image: it cannot be explained inside of a torch.func transform (vmap, grad, jacrev, ...), where no "
            "graph of the layers can be kept; ask outside of it, one picture at a time"
        )
    if isinstance(image, tuple):
        if not image or not all(isinstance(part, Tensor) for part in image):
            kinds = ", ".join(type(part).__name__ for part in image) or "nothing"
            raise TypeError(f"image: a tuple must hold the model's input tensors; got ({kinds})")
        for part in image:
            _check_dense(part)
        return (_batched(image[0], spatial), *image[1:])
    if isinstance(image, Tensor):
        _check_dense(image)
        return (_batched(image, spatial),)
    picture = load_picture(image)
    try:
        tensor = transform(picture)
    except Exception as error:
        raise ValueError(
            f"transform: it failed on a PIL image of {picture.width} x {picture.height} pixels "
            f"({type(error).__name__}: {error}); it must take a PIL image and return a float tensor (C, H, W)"
        ) from error
    if not isinstance(tensor, Tensor):
        raise TypeError(
            f"transform: expected it to return a float tensor (C, H, W); got {type(tensor).__name__}. "
            "Add ToTensor() or the like at its end"
        )
    one = tensor.ndim == 3 or (tensor.ndim == 4 and tensor.shape[0] == 1)
    if not tensor.is_floating_point() or not one or 0 in tensor.shape:
        raise ValueError(
            f"transform: expected it to return a float tensor (C, H, W); got {tensor.dtype} {tuple(tensor.shape)}"
        )
    return (_batched(tensor, spatial),)


def _check_dense(tensor: Tensor) -> None:
    """Raise ValueError for a tensor whose values do not lie in memory one by one."""
    if tensor.layout != torch.strided:
        raise ValueError(f"image: expected a dense tensor; got {tensor.layout}. Give image.to_dense()")
    if tensor.is_meta:
        raise ValueError(
            "image: it is on the device 'meta', where tensors have no values; make it on the device 'cpu'"
        )


def _batched(tensor: Tensor, spatial: int) -> Tensor:
    axes = {1: "L", 2: "H, W", 3: "D, H, W"}[spatial]
    if not tensor.is_floating_point():
        raise TypeError(
            f"image: a tensor goes to the model as it is and must be floating point, ({'C, ' + axes}); got "
            f"{tensor.dtype}. For 8-bit pixels give a uint8 array (H, W, 3) or a PIL image"
        )
    if tensor.ndim == spatial + 1:
        tensor = tensor.unsqueeze(0)
    if tensor.ndim != spatial + 2:
        raise ValueError(
            f"image: expected a tensor (C, {axes}) or (1, C, {axes}); got shape {tuple(tensor.shape)}"
        )
    if tensor.shape[0] != 1:
        raise ValueError(
            f"image: expected one picture, (1, C, {axes}); got a batch of {tensor.shape[0]}, "
            f"shape {tuple(tensor.shape)}. Use explain_batch(images) for several"
        )
    if 0 in tensor.shape:
        raise ValueError(f"image: expected a picture with pixels; got shape {tuple(tensor.shape)}")
    return tensor


def pixels(tensor: Tensor, transform: object) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The uint8 picture (H, W, 3) of what the model saw.

    The normalisation is undone with the transform's own mean and std where they can be read off it. Else
    values in [0, 1] are shown as they are, and any others are stretched from their minimum to their maximum.

    Args:
        tensor: (1, C, H, W) or (C, H, W), as given to the model.
        transform: what produced it, or what the model's inputs are usually made with.
    """
    values = _shown(tensor)
    statistics = _statistics_of(values, transform)
    if statistics:
        return _denormalise(values, *statistics)
    low, span = _stretch(values)
    return _to_uint8((values - low) / span)


def repaint(tensor: Tensor, picture: np.ndarray[Any, np.dtype[np.uint8]], transform: object) -> Tensor:
    """The input of the model (1, C, H, W) that looks like a painted picture: the way back from `pixels`.

    Where the picture is that of `pixels`, pixel by pixel, the values stay as they are, bit for bit; an unpainted
    picture is the input itself. Nothing is resized. For one channel the mean of red, green and blue counts; for
    other numbers of channels than 1 and 3, which are shown as their mean, it is the value of every channel.

    Args:
        tensor: (1, C, H, W), as given to the model.
        picture: uint8 (H, W, 3), or (H, W) for grey.
        transform: as in `pixels`.

    Raises:
        ValueError: for a picture of another size or dtype.
    """
    height, width = tensor.shape[-2:]
    if picture.ndim == 2:
        picture = np.repeat(picture[..., None], 3, axis=2)
    if picture.dtype != np.uint8 or picture.shape != (height, width, 3):
        raise ValueError(
            f"picture: expected the pixels that the model sees, uint8 {(height, width, 3)}; got {picture.dtype} "
            f"{picture.shape}. cam.picture(image) gives them"
        )
    painted = torch.from_numpy((picture != pixels(tensor, transform)).any(-1))
    values = _shown(tensor)
    colours = torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255
    if values.shape[0] == 1:
        colours = colours.mean(0, keepdim=True)
    statistics = _statistics_of(values, transform)
    if statistics:
        colours = (colours - _column(statistics[0])) / _column(statistics[1])
    else:
        low, span = _stretch(values)
        colours = colours * span + low
    return torch.where(painted.to(tensor.device), colours.to(tensor), tensor.detach())


def blank(size: tuple[int, int], channels: int, transform: object) -> Tensor:
    """The input of the model (1, C, H, W) that is black all over, to be drawn on (`repaint`).

    Black is 0, normalised with the transform's mean and std where these fit the channels.

    Args:
        size: (H, W) in pixels.
        channels: C.
        transform: as in `pixels`.

    Raises:
        ValueError: for a size or a count that is not whole and positive.
    """
    numbers = (*size, channels) if isinstance(size, tuple) and len(size) == 2 else ()
    if not all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in numbers) or not numbers:
        raise ValueError(
            f"size, channels: expected (height, width) and a number of channels, whole and positive; got {size!r} "
            f"and {channels!r}"
        )
    black = torch.zeros(channels, *size, device="cpu")
    statistics = _statistics(transform)
    if statistics and len(statistics[0]) in (1, channels):
        black = (black - _column(statistics[0])) / _column(statistics[1])
    return black[None]


def _shown(tensor: Tensor) -> Tensor:
    """The values that a picture is made of, float32 (1 or 3, H, W)."""
    values = tensor.detach().float().cpu()
    values = values.reshape(values.shape[-3:]) if values.ndim >= 3 else values.reshape(1, *values.shape)
    return values if values.shape[0] in (1, 3) else values.mean(0, keepdim=True)


def _statistics_of(values: Tensor, transform: object) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and std that turn these values (C, H, W) into a picture in [0, 1]; None where there are none."""
    statistics = _statistics(transform)
    if statistics and len(statistics[0]) in (1, values.shape[0]):
        inside = values * _column(statistics[1]) + _column(statistics[0])
        if float(inside.min()) >= -0.02 and float(inside.max()) <= 1.02:
            return statistics
    return None


def _stretch(values: Tensor) -> tuple[float, float]:
    """(low, span) of what is shown from black to white where no statistics are known."""
    low, high = float(values.min()), float(values.max())
    if low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    return low, high - low or 1.0


def _statistics(transform: object) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and std of a transform, read off it or off the last step that has them."""
    steps = getattr(transform, "transforms", None) or [transform]
    for step in reversed(list(steps)):
        mean, std = getattr(step, "mean", None), getattr(step, "std", None)
        if mean is not None and std is not None and not callable(mean):
            return _numbers(mean), _numbers(std)
    return None


def _numbers(values: Any) -> tuple[float, ...]:
    """One number per channel, from a sequence, an array, a tensor of any shape, or a single number."""
    return tuple(torch.as_tensor(values, dtype=torch.float64, device="cpu").flatten().tolist())


def _column(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values, device="cpu").view(-1, 1, 1)  # whatever the caller's default device


def _denormalise(
    tensor: Tensor, mean: tuple[float, ...], std: tuple[float, ...]
) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return _to_uint8(tensor.detach().float().cpu() * _column(std) + _column(mean))


def _to_uint8(values: Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    if values.shape[0] == 1:
        values = values.expand(3, *values.shape[1:])
    array: np.ndarray[Any, np.dtype[np.uint8]] = (
        (values.nan_to_num().clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    )
    return array
