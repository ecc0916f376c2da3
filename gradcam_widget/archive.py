"""The archive: the numbers of an explanation in one file, with the manifest from which they come again.

An archive is an .npz file that numpy reads with ``allow_pickle=False``. Its member ``manifest`` is JSON text and
says what was explained and how; `replay` computes the same again. Nothing in it is ever unpickled or run.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import platform
import zipfile
import zlib
from collections.abc import Callable, Mapping
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
from gradcam_widget.targets import (
    BinaryLogit,
    ClassLogit,
    ClassLogProbability,
    ClassProbability,
    Contrast,
    Counterfactual,
    Finer,
    Region,
    Similarity,
    Target,
    name_target,
)

__all__ = [
    "TARGETS",
    "encode_archive",
    "manifest_of",
    "read_manifest",
    "read_target",
    "replay",
    "tensor_hash",
    "weights_hash",
    "write_target",
]

FORMAT = "gradcam_widget manifest"
_VERSION = 1
_MOST_BYTES = 64_000_000  # of a manifest: a mask of a region may be large, a file that claims more is none of ours
_NESTED = 8  # targets within targets


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
    target = explanation.target
    if METHODS[explanation.method].target is not None and isinstance(target, Finer):
        target = ClassLogit(target.index, target.name)  # the method makes its own target of it
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
        "target": write_target(target) | {"label": name_target(explanation.target)},
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


# -- targets ---------------------------------------------------------------------------------------------------


def write_target(target: Target) -> dict[str, Any]:
    """A target as plain JSON values; {"kind": "own"} for a function of the user's."""
    write = {kind: pair[0] for kind, pair in TARGETS.items()}.get(type(target).__name__)
    known = type(target).__module__ == _HOME
    return {"kind": type(target).__name__} | write(target) if write and known else {"kind": "own"}


def read_target(written: object, depth: int = 0) -> Target:
    """The target that `write_target` wrote.

    Raises:
        ValueError: for one of the user's own, and for what is no target.
    """
    kind = written.get("kind") if isinstance(written, Mapping) else None
    if kind == "own":
        raise _OwnTargetError("target: the manifest holds only its name, because it was a function of yours")
    if not isinstance(written, Mapping) or kind not in TARGETS or depth > _NESTED:
        raise ValueError(f"manifest: its target is of an unknown kind, {kind!r}; the file may be damaged")
    try:
        return TARGETS[kind][1](written, depth)
    except _OwnTargetError:
        raise
    except (KeyError, TypeError, AttributeError, OverflowError, ValueError, zlib.error, RuntimeError) as error:
        raise ValueError(f"manifest: its target, a {kind}, cannot be read: {error}") from error


class _OwnTargetError(ValueError):
    """A target, or a part of it, is a function of the user's."""


_HOME = ClassLogit.__module__


def _class(written: Mapping[str, Any]) -> tuple[int, str | None]:
    index, name = written["index"], written.get("name")
    if not isinstance(index, int) or isinstance(index, bool) or not (name is None or isinstance(name, str)):
        raise TypeError("a class is an int and a name")
    return index, name


def _write_class(target: Any) -> dict[str, Any]:
    return {"index": target.index, "name": target.name}


def _write_region(target: Any) -> dict[str, Any]:
    if target.mask is None:
        return _write_class(target) | {"mask": None}
    packed = zlib.compress(np.packbits(target.mask.numpy()).tobytes(), 9)
    mask = {"shape": list(target.mask.shape), "bits": base64.b64encode(packed).decode("ascii")}
    return _write_class(target) | {"mask": mask}


def _read_region(written: Mapping[str, Any]) -> Region:
    index, name = _class(written)
    if (mask := written["mask"]) is None:
        return Region(index, None, name)
    height, width = (int(length) for length in mask["shape"])
    count = height * width
    if not 0 < count < 8 * _MOST_BYTES:
        raise TypeError(f"its mask has {count} pixels")
    packed = zlib.decompressobj().decompress(base64.b64decode(mask["bits"]), -(-count // 8))
    bits = np.unpackbits(np.frombuffer(packed, np.uint8), count=count)
    if bits.size != count:
        raise TypeError("its mask is cut short")
    return Region(index, torch.from_numpy(bits.reshape(height, width).astype(bool)), name)


def _read_similarity(written: Mapping[str, Any]) -> Similarity:
    data = np.frombuffer(base64.b64decode(written["embedding"]), "<f4").astype(np.float32)
    return Similarity(torch.from_numpy(data))


_Writer = Callable[[Any], dict[str, Any]]
_Reader = Callable[[Mapping[str, Any], int], Target]

TARGETS: dict[str, tuple[_Writer, _Reader]] = {
    "ClassLogit": (_write_class, lambda it, depth: ClassLogit(*_class(it))),
    "ClassProbability": (_write_class, lambda it, depth: ClassProbability(*_class(it))),
    "ClassLogProbability": (_write_class, lambda it, depth: ClassLogProbability(*_class(it))),
    "BinaryLogit": (
        lambda target: {"positive": bool(target.positive)},
        lambda it, depth: BinaryLogit(bool(it["positive"])),
    ),
    "Finer": (
        lambda target: _write_class(target) | {"against": list(target.against), "gamma": target.gamma},
        lambda it, depth: Finer(
            _class(it)[0], tuple(int(index) for index in it["against"]), float(it["gamma"]), _class(it)[1]
        ),
    ),
    "Region": (_write_region, lambda it, depth: _read_region(it)),
    "Similarity": (
        lambda target: {"embedding": base64.b64encode(target.embedding.numpy().astype("<f4").tobytes()).decode()},
        lambda it, depth: _read_similarity(it),
    ),
    "Contrast": (
        lambda target: {"first": write_target(target.first), "second": write_target(target.second)},
        lambda it, depth: Contrast(read_target(it["first"], depth + 1), read_target(it["second"], depth + 1)),
    ),
    "Counterfactual": (
        lambda target: {"target": write_target(target.target)},
        lambda it, depth: Counterfactual(read_target(it["target"], depth + 1)),
    ),
}
"""The targets that a manifest can hold: how each is written as plain JSON values, and read again."""


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
    except _OwnTargetError as error:
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
