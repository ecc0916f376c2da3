"""The three peers behind one signature, on a copy of the model, because they do not leave it as it was."""

from __future__ import annotations

import copy
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from gradcam_widget.explanation import Explanation
from gradcam_widget.presets import as_captum, as_grad_cam, as_torchcam

GRAD_CAM = {
    "GradCAM": "GradCAM",
    "GradCAM++": "GradCAMPlusPlus",
    "XGradCAM": "XGradCAM",
    "HiResCAM": "HiResCAM",
    "LayerCAM": "LayerCAM",
    "GradCAMElementWise": "GradCAMElementWise",
    "EigenCAM": "EigenCAM",
    "EigenGradCAM": "EigenGradCAM",
    "ShapleyCAM": "ShapleyCAM",
    "FinerCAM": "FinerCAM",
    "AblationCAM": "AblationCAM",
    "ScoreCAM": "ScoreCAM",
}
TORCHCAM = {
    "GradCAM": "GradCAM",
    "GradCAM++": "GradCAMpp",
    "XGradCAM": "XGradCAM",
    "LayerCAM": "LayerCAM",
    "FinerCAM": "FinerCAM",
    "CAM": "CAM",
    "ScoreCAM": "ScoreCAM",
}
CAPTUM = {"GradCAM": "LayerGradCam"}


_COPIES: weakref.WeakKeyDictionary[nn.Module, nn.Module] = weakref.WeakKeyDictionary()


def _scratch(model: nn.Module) -> nn.Module:
    if model not in _COPIES:
        _COPIES[model] = copy.deepcopy(model)
    return _COPIES[model]


@contextmanager
def quiet() -> Iterator[None]:
    """Their own warnings (deprecated calls, hooks on the first layer) are not ours to answer for."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def grad_cam(model: nn.Module, layer: str, x: Tensor, target: Any, method: str) -> Tensor:
    """(H, W) over the picture, normalised. The target is a class, or a function of the scores."""
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    model = _scratch(model)
    with quiet(), _no_bars(pytorch_grad_cam):
        extractor = getattr(pytorch_grad_cam, GRAD_CAM[method])(model, [model.get_submodule(layer)])
        if method == "FinerCAM":
            found = extractor(x.clone(), target_idx=target)
        else:
            found = extractor(x.clone(), [ClassifierOutputTarget(target) if isinstance(target, int) else target])
        kept = getattr(extractor, "base_cam", extractor).activations_and_grads
        kept.gradients, kept.activations = [], []  # its destructor fails on some of them
    return torch.from_numpy(found[0])


@contextmanager
def _no_bars(package: object) -> Iterator[None]:
    """Without the progress bars of two of its methods."""
    modules = [package.ablation_cam.tqdm, package.score_cam.tqdm]  # type: ignore[attr-defined]
    kept = [module.tqdm for module in modules]
    try:
        for module in modules:
            module.tqdm = lambda items: items
        yield
    finally:
        for module, bar in zip(modules, kept, strict=True):
            module.tqdm = bar


def captum(model: nn.Module, layer: str, x: Tensor, target: int, method: str) -> Tensor:
    """(1, 1, h, w), signed."""
    from captum.attr import LayerGradCam

    model = _scratch(model)
    with quiet():
        return LayerGradCam(model, model.get_submodule(layer)).attribute(x.clone(), target=target).detach()


def torchcam(model: nn.Module, layer: str, x: Tensor, target: int, method: str, **options: Any) -> Tensor:
    """(1, h, w), normalised."""
    from torchcam import methods

    model = _scratch(model)
    if method == "FinerCAM":
        options.setdefault("gamma", 1.0)  # 0.6 there by default
    if method == "CAM":
        options["fc_layer"] = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)][-1]
    with quiet(), getattr(methods, TORCHCAM[method])(model, layer, **options) as extractor:
        scores = model(x.clone())
        return extractor(target, scores)[0]


Peer = Callable[[nn.Module, str, Tensor, int, str], Tensor]
PEERS: dict[str, tuple[dict[str, str], Peer, Callable[[Explanation], Tensor]]] = {
    # name: (methods, how it is asked, what of ours it is to be compared with)
    "grad-cam": (GRAD_CAM, grad_cam, as_grad_cam),
    "captum": (CAPTUM, captum, as_captum),
    "torchcam": (TORCHCAM, torchcam, as_torchcam),
}


def difference(theirs: Tensor, ours: Tensor) -> float:
    """The largest difference, as a share of the largest absolute value."""
    assert theirs.shape == ours.shape, (theirs.shape, ours.shape)
    largest = max(float(theirs.abs().max()), float(ours.abs().max()))
    return float((theirs.double() - ours.double()).abs().max()) / largest if largest else 0.0


def grad_cam_raw(model: nn.Module, layer: str, x: Tensor, target: int) -> Tensor:
    """(h, w) grad-cam's GradCAM at the layer's size with ReLU, before it is normalised."""
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    model = _scratch(model)
    kept: list[Tensor] = []

    class Extractor(pytorch_grad_cam.GradCAM):
        def get_cam_image(self, *args: Any, **kwargs: Any) -> Any:
            cam = super().get_cam_image(*args, **kwargs)
            kept.append(torch.from_numpy(cam[0]).clamp(min=0).double())
            return cam

    with quiet():
        extractor = Extractor(model, [model.get_submodule(layer)])
        extractor(x.clone(), [ClassifierOutputTarget(target)])
        extractor.activations_and_grads.gradients, extractor.activations_and_grads.activations = [], []
    return kept[0]
