"""The archive: the numbers of an explanation in one file, with the manifest from which they come again.

An archive is an .npz file that numpy reads with ``allow_pickle=False``. Its member ``manifest`` is JSON text and
says what was explained and how; `replay` computes the same again. Nothing in it is ever unpickled or run.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gradcam_widget import __version__
from gradcam_widget.comparison import Comparison
from gradcam_widget.engine import GradCAM
from gradcam_widget.explanation import Explanation
from gradcam_widget.layers import nearest_names
from gradcam_widget.methods import METHODS, find_method
from gradcam_widget.perturbation import Progress
from gradcam_widget.smoothing import Smoothing
from gradcam_widget.targets import ClassLogit, Finer, Target, name_target
from gradcam_widget.written_targets import OwnTargetError, read_target, write_target

__all__ = [
    "asked_target",
    "encode_archive",
    "manifest_of",
    "read_manifest",
    "replay",
    "tensor_hash",
    "weights_hash",
]

FORMAT = "gradcam_widget manifest"
_VERSION = 1
_MOST_BYTES = 64_000_000  # of a manifest: a mask of a region may be large, a file that claims more is none of ours


def manifest_of(
    explanation: Explanation,
    engine: GradCAM,
    image: object,
    *,
    evidence: str = "positive",
    channels_off: tuple[int, ...] = (),
    name: str = "",
) -> dict[str, Any]:
    """What an explanation was made of, as plain JSON values: enough to make it again, and to tell what differs.

    Args:
        explanation: what was found.
        engine: which found it.
        image: the picture, as in `GradCAM.explain`.
        evidence: what was on show of it.
        channels_off: channels that were left out on show; the numbers are those of all channels.
        name: of the picture.
    """
    weight = next(iter(engine.model.parameters()), None)
    model = type(engine.model)
    inputs = _inputs(engine, image)
    return {
        "format": FORMAT,
        "version": _VERSION,
        "model": {
            "class": model.__qualname__,
            "module": model.__module__,
            "weights": weights_hash(engine.model),
            "device": str(engine.device),
            "dtype": None if weight is None else _dtype(weight),
        },
        "input": {
            "name": name,
            "hash": tensor_hash(*inputs),
            "shape": [list(tensor.shape) for tensor in inputs],
            "dtype": [_dtype(tensor) for tensor in inputs],
        },
        "layer": {
            "name": explanation.layer.name,
            "kind": explanation.layer.kind,
            "shape": list(explanation.layer.shape),
        },
        "target": write_target(asked_target(explanation)) | {"label": name_target(explanation.target)},
        "method": {
            "name": explanation.method,
            "smooth": None if explanation.smooth is None else asdict(explanation.smooth),
        },
        "evidence": evidence,
        "channels_off": list(channels_off),
        "score": explanation.score,
        "probability": explanation.probability,
        "versions": {
            "gradcam_widget": __version__,
            "torch": str(torch.__version__),
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }


def asked_target(explanation: Explanation) -> Target:
    """The target that was asked for, of which the method may have made another."""
    target = explanation.target
    if METHODS[explanation.method].target is not None and isinstance(target, Finer):
        return ClassLogit(target.index, target.name)
    return target


def encode_archive(
    explanation: Explanation,
    manifest: Mapping[str, Any],
    comparison: Comparison | None = None,
    *,
    activations: bool = True,
) -> bytes:
    """The numbers of an explanation and its manifest as an .npz file.

    Its members: alpha (K,), contribution (K,), mean_activations (K,), cam (h, w), signed_cam (h, w), activations
    (K, h, w), guided (C, H, W) where the method has it, and manifest, JSON text. A comparison adds second_alpha,
    second_signed_cam, contrast_alpha and contrast_signed_cam.

    Args:
        explanation: what was found.
        manifest: of `manifest_of`.
        comparison: of which it is the first part.
        activations: whether they are in it; they are most of its bytes.
    """
    members = {
        "manifest": np.array(json.dumps(manifest, ensure_ascii=True, allow_nan=True)),
        "alpha": _array(explanation.alpha),
        "contribution": _array(explanation.contribution),
        "mean_activations": _array(explanation.mean_activations),
        "cam": _array(explanation.cam),
        "signed_cam": _array(explanation.signed_cam),
    }
    if activations:
        members["activations"] = _array(explanation.activations)
    if explanation.guided is not None:
        members["guided"] = _array(explanation.guided)
    if comparison is not None:
        for part, other in (("second", comparison.second), ("contrast", comparison.contrast)):
            members[f"{part}_alpha"] = _array(other.alpha)
            members[f"{part}_signed_cam"] = _array(other.signed_cam)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **members)  # type: ignore[arg-type] # its annotation takes the names for its own
    return buffer.getvalue()


def replay(
    manifest: Mapping[str, Any] | str | PathLike[str],
    model: nn.Module | GradCAM,
    image: object,
    *,
    target: object = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Explanation:
    """The explanation that a manifest tells of, computed again: the same numbers, on the same kind of machine.

    Args:
        manifest: an .npz file that `GradCAMWidget.save` wrote, a .json file with its manifest, or the manifest as
            a dict.
        model: the model, or a `GradCAM` of it with its own transform.
        image: the picture, as in `GradCAM.explain`.
        target: only where the manifest cannot hold it, because it was a function of yours.
        force: compute although the weights, the picture or the layer's shape are not those of the manifest.
        progress: as in `GradCAM.explain`, for methods of many passes.

    Raises:
        FileNotFoundError: for a missing file.
        TypeError, ValueError: for what is no manifest, for a target that must be given, and, unless ``force`` is
            set, with all that differs in words; a layer that the model does not have is an error in any case.
    """
    found = read_manifest(manifest)
    engine = model if isinstance(model, GradCAM) else GradCAM(model)
    try:
        wanted = _wanted(found, engine, target)
        place, row = _text(found, "layer", "name"), find_method(_text(found, "method", "name"))
        smooth = _smoothing(found["method"].get("smooth"))
        layers = {layer.name: layer for layer in engine.layers(image)}
        if place not in layers:
            raise ValueError(
                f"layer: the manifest is of {place!r}, and {type(engine.model).__name__} has no such feature map "
                f"for this picture; {nearest_names(place, list(layers))}"
            )
        differences = _differences(found, engine, image, layers[place].shape)
        if differences and not force:
            raise ValueError(
                f"replay: this is not what the manifest tells of: {'; '.join(differences)}. Give the model and "
                "the picture of then, or compute nevertheless with replay(..., force=True)"
            )
        return engine.explain(image, wanted, place, row.name, smooth=smooth, progress=progress)
    finally:
        if engine is not model:
            engine.close()


def read_manifest(manifest: Mapping[str, Any] | str | PathLike[str]) -> dict[str, Any]:
    """A manifest from an .npz or .json file, or from a dict, checked for what every manifest has.

    Raises:
        FileNotFoundError: for a missing file. TypeError, ValueError: for what is no manifest.
    """
    if isinstance(manifest, Mapping):
        found: Any = dict(manifest)
    elif isinstance(manifest, (str, PathLike)):
        found = _read_file(Path(manifest))
    else:
        raise TypeError(
            f"manifest: expected a path to an .npz or .json file, or a dict; got {type(manifest).__name__}"
        )
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ValueError("manifest: this is no manifest of gradcam_widget; widget.save('name.npz') writes one")
    if found.get("version") != _VERSION:
        raise ValueError(
            f"manifest: it has the version {found.get('version')!r}, and this is gradcam_widget "
            f"{__version__}, which reads version {_VERSION}"
        )
    missing = [
        part for part in ("model", "input", "layer", "target", "method") if not isinstance(found.get(part), dict)
    ]
    if missing:
        raise ValueError(f"manifest: it says nothing about {missing[0]!r}; the file may be damaged")
    return found


def tensor_hash(*tensors: Tensor) -> str:
    """The hash "sha256:..." of tensors: shape, dtype and bytes of each."""
    digest = hashlib.sha256()
    for tensor in tensors:
        _digest(digest, tensor)
    return f"sha256:{digest.hexdigest()}"


def weights_hash(model: nn.Module) -> str:
    """The hash "sha256:..." of parameters and buffers: name, shape, dtype and bytes of each, sorted by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted([*model.named_parameters(), *model.named_buffers()], key=lambda pair: pair[0]):
        digest.update(f"{name}\0".encode("utf-8", "surrogatepass"))
        _digest(digest, tensor)
    return f"sha256:{digest.hexdigest()}"


# -- what is in a manifest -------------------------------------------------------------------------------------


def _read_file(path: Path) -> object:
    if not path.is_file():
        raise FileNotFoundError(f"manifest: there is no file {str(path)!r}; check the path")
    if path.suffix.lower() == ".json":
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError(f"manifest: {path.name!r} is too large for a manifest")
        return _parsed(path.read_text("utf-8", "replace"), path)
    if path.suffix.lower() != ".npz":
        raise ValueError(f"manifest: expected an .npz or .json file; got {path.name!r}")
    try:
        with zipfile.ZipFile(path) as members:
            if members.getinfo("manifest.npy").file_size > 4 * _MOST_BYTES:
                raise ValueError(f"manifest: that of {path.name!r} is too large for a manifest")
        with np.load(path, allow_pickle=False) as arrays:
            text = arrays["manifest"]
    except ValueError as error:
        if "pickle" not in str(error):
            raise
        # Numpy's own words ask for the pickle to be allowed, which runs what is in it.
        raise ValueError(
            f"manifest: that of {path.name!r} is a pickled object, which is never read; it was not written by "
            "gradcam_widget"
        ) from error
    except KeyError as error:
        raise ValueError(
            f"manifest: {path.name!r} has none; widget.save('name.npz') writes one into its files"
        ) from error
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise ValueError(f"manifest: {path.name!r} cannot be read as an .npz file ({error})") from error
    if text.dtype.kind != "U" or text.ndim:
        raise ValueError(f"manifest: that of {path.name!r} is no text; it was not written by gradcam_widget")
    return _parsed(str(text), path)


def _parsed(text: str, path: Path) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"manifest: that of {path.name!r} is no JSON ({error})") from error


def _text(manifest: Mapping[str, Any], part: str, key: str) -> str:
    value = manifest[part].get(key)
    if not isinstance(value, str):
        raise ValueError(f"manifest: its {part} has no {key!r}; the file may be damaged")
    return value


def _wanted(manifest: Mapping[str, Any], engine: GradCAM, target: object) -> object:
    """The target to explain: that of the manifest, or the one given in its place."""
    written = manifest["target"]
    try:
        known = read_target(written)
    except OwnTargetError as error:
        if target is None:
            raise ValueError(
                f"{error}, {written.get('label')!r}; give it again: replay(..., target=...)"
            ) from error
        return target
    if target is not None and engine.resolve_target(target) != known:
        raise ValueError(
            f"target: the manifest has its own, {name_target(known)}; leave target out, or explain another one "
            "with GradCAM(model).explain"
        )
    return known


def _smoothing(written: object) -> Smoothing | None:
    if written is None:
        return None
    if not isinstance(written, Mapping) or set(written) != {"samples", "noise", "flips", "seed"}:
        raise ValueError("manifest: its smoothing cannot be read; the file may be damaged")
    return Smoothing(**written)


def _differences(manifest: Mapping[str, Any], engine: GradCAM, image: object, shape: tuple[int, ...]) -> list[str]:
    """What is not as the manifest says, each in words."""
    told: list[str] = []
    model, before = type(engine.model).__qualname__, manifest["model"]
    if before.get("weights") != weights_hash(engine.model):
        other = f", a {model}" if before.get("class") != model else ""
        told.append(f"the weights are not those of the {before.get('class')} of then{other}")
    inputs, seen = _inputs(engine, image), manifest["input"]
    shapes, dtypes = [list(tensor.shape) for tensor in inputs], [_dtype(tensor) for tensor in inputs]
    if seen.get("shape") != shapes:
        told.append(f"the model's input has the shape {_sizes(shapes)}, then it was {_sizes(seen.get('shape'))}")
    elif seen.get("dtype") != dtypes:
        told.append(f"the model's input is {', '.join(dtypes)}, then it was {seen.get('dtype')}")
    elif seen.get("hash") != tensor_hash(*inputs):
        told.append("the picture, as the model sees it, has other values (another picture, or another transform)")
    if manifest["layer"].get("shape") != list(shape):
        told.append(f"the layer has the shape {list(shape)}, then it was {manifest['layer'].get('shape')}")
    return told


def _sizes(shapes: object) -> str:
    if not isinstance(shapes, list):
        return repr(shapes)
    return ", ".join(" × ".join(map(str, shape)) if isinstance(shape, list) else repr(shape) for shape in shapes)


def _inputs(engine: GradCAM, image: object) -> tuple[Tensor, ...]:
    """The tensors that go into the model, before they are moved there."""
    first = engine.prepare(image)
    others = image[1:] if isinstance(image, tuple) else ()
    return (first, *others)


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _array(tensor: Tensor) -> NDArray[Any]:
    """A tensor as numpy has it; bfloat16, which it has not, as float32."""
    tensor = tensor.detach().cpu()
    array: NDArray[Any] = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    return array


def _digest(digest: Any, tensor: Tensor) -> None:
    digest.update(f"{_dtype(tensor)} {tuple(tensor.shape)}\0".encode())
    plain = tensor.detach()
    if plain.layout != torch.strided:
        plain = plain.to_dense()
    if plain.is_quantized:
        plain = plain.int_repr()
    digest.update(plain.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
