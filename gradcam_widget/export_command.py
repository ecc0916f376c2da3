"""The command ``gradcam-widget export``: writes a hand-out of some pictures, without a notebook."""

from __future__ import annotations

import argparse
import logging
import math
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["add_export_command"]

_GROUPS = ("blocks", "conv", "all")


def add_export_command(commands: Any) -> None:
    """Add ``export`` to the subcommands of a parser; what is parsed has a function ``run``."""
    export = commands.add_parser(
        "export",
        help="write pictures with their explanations into one HTML file",
        description="Explain pictures, and write the explorer with them into one HTML file, which opens in a "
        "browser without a network: layers, classes, channels, two classes side by side.",
    )
    export.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="a picture's file")
    export.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the .html file to write")
    export.add_argument(
        "--model",
        default="demo",
        metavar="NAME",
        help="a torchvision classifier, as resnet50, with its trained weights; default: demo, the embedded one",
    )
    export.add_argument(
        "--weights", type=Path, metavar="FILE", help="a state dict of that model, to be used instead"
    )
    export.add_argument(
        "--class-names",
        metavar="FILE",
        help="a text file with one name per line, or imagenet; default: the names that come with the weights",
    )
    export.add_argument(
        "--layers",
        nargs="+",
        metavar="LAYER",
        help="blocks, conv, all, or names of layers; default: the blocks, else the convolutions",
    )
    export.add_argument(
        "--classes", nargs="+", metavar="CLASS", help="names or numbers; default: the ten likeliest"
    )
    export.add_argument("--method", default="GradCAM", metavar="NAME", help="default: GradCAM")
    export.add_argument("--title", metavar="TEXT", help="the heading")
    export.add_argument("--text", default="", metavar="TEXT", help="an introduction; blank lines make paragraphs")
    export.add_argument(
        "--questions", nargs="+", default=[], metavar="TEXT", help="printed with lines to write on"
    )
    export.add_argument(
        "--max-mb",
        type=_megabytes,
        default=3.0,
        metavar="N",
        help="what the file may weigh, in megabytes; default: 3",
    )
    export.set_defaults(run=_export)


def _megabytes(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0; got {text!r}")
    return number


def _export(options: argparse.Namespace) -> int:
    try:
        with _quiet_log(), warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", UserWarning)
            path = _write(options)
    except (ImportError, OSError, RuntimeError, TypeError, ValueError) as error:
        print(f"gradcam-widget: {_in_flags(str(error)) or type(error).__name__}", file=sys.stderr)
        return 1
    for warning in said:
        if str(warning.message).startswith("to_html: "):
            print(f"gradcam-widget: {_in_flags(str(warning.message))}", file=sys.stderr)
    print(f"Wrote {path}, {path.stat().st_size / 1e6:.1f} MB")
    return 0


_FLAGS = {
    "class_names": "--class-names",
    "image": "IMAGE",
    "layer": "--layers",
    "layers": "--layers",
    "max_bytes": "--max-mb",
    "method": "--method",
    "model": "--model",
    "name": "--model",
    "path": "-o",
    "target": "--classes",
    "targets": "--classes",
}
"""What an argument's name, at the beginning of an error, is on the command line."""

_PHRASES = {
    "(layers=, targets=, images=)": "(--layers, --classes, IMAGE)",
    "larger max_bytes": "larger --max-mb",
    "Name the layers and the targets, or choose": "Name them with --layers and --classes, or choose",
    'another method first, such as widget.method = "GradCAM"': "another --method, such as GradCAM",
    "pass class_names=[...] or give the class as an int": "give --class-names, or the class as a number",
    "; see cam.class_names": "; give a name, or a number from 0",
}


def _in_flags(text: str) -> str:
    """An error's words on one line, in those of the command line."""
    words = " ".join(text.split()).removeprefix("to_html: ")
    name, colon, rest = words.partition(": ")
    if name in _FLAGS:
        words = f"{_FLAGS[name]}{colon}{rest}"
    for said, meant in _PHRASES.items():
        words = words.replace(said, meant)
    return words


def _write(options: argparse.Namespace) -> Path:
    """Load, explain and write; errors have words for the user."""
    missing = [path for path in options.images if not path.is_file()]
    if missing:
        raise FileNotFoundError(f"there is no picture {str(missing[0])!r}")
    if not options.output.parent.is_dir():
        raise FileNotFoundError(f"-o: there is no folder {str(options.output.parent)!r}; make it first")
    if options.output.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"-o: expected a name that ends in .html; got {options.output.name!r}")
    if options.output.is_dir():
        raise ValueError(f"-o: {str(options.output)!r} is a folder; give the name of a file in it")
    layers = options.layers
    if layers and len(layers) > 1 and (groups := [name for name in layers if name in _GROUPS]):
        raise ValueError(f"--layers: {groups[0]} stands alone; give {groups[0]}, or names of layers")
    from gradcam_widget.widget.explorer import GradCAMWidget

    model = _model(options.model, options.weights)
    names = _class_names(options.class_names)
    widget = GradCAMWidget(model, list(options.images), class_names=names, method=options.method)
    try:
        path: Path = widget.to_html(
            options.output,
            layers=layers[0] if layers and len(layers) == 1 and layers[0] in _GROUPS else layers,
            targets=options.classes and [_number_or_name(name) for name in options.classes],
            images="all",
            title=options.title,
            text=options.text,
            questions=options.questions,
            max_bytes=max(1, round(options.max_mb * 1e6)),
        )
    except OSError as error:
        if error.errno is None:  # told in words already
            raise
        raise OSError(
            f"-o: {str(options.output)!r} cannot be written ({error.strerror or error}); choose another place"
        ) from error
    finally:
        widget.close()
    return path


def _number_or_name(text: str) -> int | str:
    """A class as it stands on the command line."""
    try:
        return int(text)
    except ValueError:
        return text


def _model(name: str, weights: Path | None) -> nn.Module:
    """The model by its name, with its own weights, or those of a file."""
    from gradcam_widget.models import load_model

    if weights is None:
        return load_model(name)
    state = _state_dict(weights)
    if name in ("demo", "efficientnet_lite0"):
        model = load_model(name)
    else:
        model = load_model(name, weights=None)
        model = _with_outputs(name, model, state)
    if "class_names" in vars(model):
        del model.class_names  # they are those of other weights
    try:
        model.load_state_dict(dict(state))
    except RuntimeError as error:
        first = str(error).splitlines()[1:2] or [str(error)]
        raise ValueError(f"--weights: {weights.name} does not fit {name}: {first[0].strip()}") from error
    return model.eval()


def _state_dict(file: Path) -> Mapping[str, Tensor]:
    """The tensors of a file, which is read as data only."""
    import pickle

    import torch

    if not file.is_file():
        raise FileNotFoundError(f"--weights: there is no file {str(file)!r}")
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, EOFError, RuntimeError) as error:
        raise ValueError(
            f"--weights: {file.name} cannot be read as weights; it is damaged, or holds more than tensors. Save "
            "them with torch.save(model.state_dict(), file)"
        ) from error
    for key in ("state_dict", "model", "model_state_dict"):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ValueError(f"--weights: {file.name} holds no state dict; expected a mapping of names to tensors")
    # As saved from a model that was wrapped for several GPUs.
    return {str(key).removeprefix("module."): value for key, value in state.items()}


def _with_outputs(name: str, model: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    """The model with as many classes as the weights have, where that is all in which they differ from it."""
    own = model.state_dict()
    other = [key for key, value in state.items() if key in own and value.shape != own[key].shape]
    counts = {
        state[key].shape[0] for key in other if state[key].ndim and state[key].shape[1:] == own[key].shape[1:]
    }
    if not other or len(counts) != 1:
        return model
    import torchvision

    made: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=counts.pop())
    made.transform = model.transform
    return made


def _class_names(given: str | None) -> Sequence[str] | None:
    """The names of the classes, where some are given."""
    if given is None:
        return None
    if given == "imagenet":
        from gradcam_widget.models import imagenet_class_names

        return imagenet_class_names()
    file = Path(given)
    if not file.is_file():
        raise FileNotFoundError(
            f"--class-names: there is no file {given!r}; expected one name per line, or imagenet"
        )
    try:
        names = [line.strip() for line in file.read_text("utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise ValueError(f"--class-names: {file.name} is no UTF-8 text") from error
    if not names:
        raise ValueError(f"--class-names: {file.name} is empty; expected one name per line")
    return names


@contextmanager
def _quiet_log() -> Iterator[None]:
    """What fails is told in one line, without the traceback that a notebook's user finds in the log."""
    log = logging.getLogger("gradcam_widget")
    before = log.disabled
    log.disabled = True
    try:
        yield
    finally:
        log.disabled = before
