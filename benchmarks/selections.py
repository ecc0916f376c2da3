"""What selections cost, side by side with the peers, in one interleaved run: ``make bench``.

Five tasks on a fresh picture each time: ten random (layer, class) selections; all convolutions for one class;
twenty classes at the last convolution; twenty classes at a middle one; all convolutions for twenty classes. Each
peer is used as its documentation recommends (one extractor per layer, one pass per call) and, torchcam, as an
expert would (all layers in one extractor, the graph kept). The floor is a bare ``torch.autograd.grad``.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from gradcam_widget import GradCAM

MODELS = (
    "resnet18",
    "resnet50",
    "vgg16",
    "mobilenet_v3_large",
    "efficientnet_b0",
    "convnext_tiny",
    "densenet121",
)
Selection = tuple[str, int]
Tool = Callable[[nn.Module, Tensor, list[Selection]], None]


def ours(model: nn.Module, picture: Tensor, selections: list[Selection]) -> None:
    """One engine for the picture."""
    cam = GradCAM(model, memory_budget="8GB")
    for layer, target in selections:
        cam.explain(picture, target, layer)


def ours_all_layers(model: nn.Module, picture: Tensor, selections: list[Selection]) -> None:
    """One engine; the layers of a class in one call, as the widget's strip asks for them."""
    cam = GradCAM(model, memory_budget="8GB")
    by_target: dict[int, list[str]] = {}
    for layer, target in selections:
        by_target.setdefault(target, []).append(layer)
    for target, layers in by_target.items():
        cam.explain_layers(picture, target, layers)


def grad_cam(model: nn.Module, picture: Tensor, selections: list[Selection]) -> None:
    """pytorch-grad-cam as documented."""
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    modules = dict(model.named_modules())
    for layer, target in selections:
        with pytorch_grad_cam.GradCAM(model=model, target_layers=[modules[layer]]) as cam:
            cam(input_tensor=picture, targets=[ClassifierOutputTarget(target)])


def captum(model: nn.Module, picture: Tensor, selections: list[Selection]) -> None:
    """Captum as documented."""
    from captum.attr import LayerGradCam

    modules = dict(model.named_modules())
    for layer, target in selections:
        LayerGradCam(model, modules[layer]).attribute(picture, target=target, relu_attributions=True)


def torchcam(model: nn.Module, picture: Tensor, selections: list[Selection]) -> None:
    """Torchcam as documented."""
    from torchcam.methods import GradCAM as TorchCAM

    for layer, target in selections:
        with TorchCAM(model, layer) as cam:
            cam(target, model(picture))


def torchcam_expert(model: nn.Module, picture: Tensor, selections: list[Selection]) -> None:
    """Torchcam with every layer in one extractor, one forward pass, and maps kept by class."""
    from torchcam.methods import GradCAM as TorchCAM

    layers = list(dict.fromkeys(layer for layer, _ in selections))
    with TorchCAM(model, layers) as cam:
        scores = model(picture)
        for target in dict.fromkeys(target for _, target in selections):
            cam(target, scores, retain_graph=True)


TOOLS: dict[str, Tool] = {
    "gradcam_widget": ours,
    "gradcam_widget, by class": ours_all_layers,
    "torchcam, expert": torchcam_expert,
    "grad-cam": grad_cam,
    "captum": captum,
    "torchcam": torchcam,
}


def tasks(layers: list[str], seed: int = 0) -> dict[str, list[Selection]]:
    """The five tasks for a model's convolutions, in their order."""
    chance = random.Random(seed)
    classes = chance.sample(range(1000), 20)
    return {
        "10 random": [(chance.choice(layers), chance.choice(classes)) for _ in range(10)],
        "all x 1": [(layer, classes[0]) for layer in layers],
        "last x 20": [(layers[-1], target) for target in classes],
        "middle x 20": [(layers[len(layers) // 2], target) for target in classes],
        "all x 20": [(layer, target) for target in classes for layer in layers],
    }


def floor(model: nn.Module, picture: Tensor, selection: Selection) -> float:
    """Milliseconds of a bare autograd.grad from the logit to one layer, the forward pass not counted."""
    kept: dict[str, Tensor] = {}
    module = dict(model.named_modules())[selection[0]]
    handle = module.register_forward_hook(lambda _, __, output: kept.setdefault("output", output))
    output = model(picture.clone().requires_grad_())
    handle.remove()
    started = time.perf_counter()
    torch.autograd.grad(output[0, selection[1]], kept["output"], retain_graph=True)
    return 1000 * (time.perf_counter() - started)


def one_selection(model: nn.Module, picture: Tensor, selection: Selection) -> float:
    """Milliseconds of one selection of a new class, the picture known."""
    cam = GradCAM(model, memory_budget="8GB")
    cam.predict(picture)
    started = time.perf_counter()
    cam.explain(picture, selection[1], selection[0])
    return 1000 * (time.perf_counter() - started)


def measure(name: str, rounds: int, slow_rounds: int, tools: list[str]) -> dict[str, object]:
    """Medians in milliseconds by task and tool, all tools taking turns."""
    import torchvision

    model = torchvision.models.get_model(name, weights=None).eval()
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    for module in model.modules():
        if hasattr(module, "inplace"):
            module.inplace = False  # the peers fail or err on in-place operations
    layers = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    times: dict[str, dict[str, list[float]]] = {}
    for task, selections in tasks(layers).items():
        times[task] = {tool: [] for tool in tools}
        for turn in range(rounds):
            for tool in tools:
                slow = tool in ("grad-cam", "captum", "torchcam")
                if turn >= (slow_rounds if slow else rounds) or (slow and task == "all x 20"):
                    continue
                picture = torch.randn(1, 3, 224, 224)
                gc.collect()
                started = time.perf_counter()
                TOOLS[tool](model, picture, selections)
                times[task][tool].append(1000 * (time.perf_counter() - started))
    picture = torch.randn(1, 3, 224, 224)
    ratios = {}
    for where, layer in (("last", layers[-1]), ("middle", layers[len(layers) // 2]), ("first", layers[0])):
        pairs = [
            (one_selection(model, picture, (layer, k)), floor(model, picture, (layer, k)))
            for k in range(rounds + 4)
        ]
        ratios[where] = statistics.median(a for a, _ in pairs) / statistics.median(b for _, b in pairs)
    return {
        "tasks": {task: {t: statistics.median(v) for t, v in row.items() if v} for task, row in times.items()},
        "selection to floor": ratios,
        "look-ups": look_ups(model, layers),
    }


def look_ups(model: nn.Module, layers: list[str]) -> dict[str, float]:
    """Milliseconds of a cached map, and of a layer change with a known class."""
    cam = GradCAM(model, memory_budget="8GB")
    picture = torch.randn(1, 3, 224, 224)
    cam.explain_layers(picture, 0, layers)
    cached = []
    for _ in range(200):
        started = time.perf_counter()
        cam.explain(picture, 0, layers[-1])
        cached.append(1000 * (time.perf_counter() - started))
    cam.explain(picture, 1, layers[0])
    changes = []
    for layer in layers[1:]:
        started = time.perf_counter()
        cam.explain(picture, 1, layer)
        changes.append(1000 * (time.perf_counter() - started))
    return {"cached map": statistics.median(cached), "layer change": statistics.median(changes)}


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--tools", nargs="+", default=list(TOOLS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--slow-rounds", type=int, default=1, help="of the peers as documented")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/selections.json"))
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(2)
    found = {}
    for name in arguments.models:
        found[name] = measure(name, arguments.rounds, arguments.slow_rounds, arguments.tools)
        print(f"\n{name} (ms, medians)")
        print(f"{'':26}" + "".join(f"{task:>13}" for task in found[name]["tasks"]))
        for tool in arguments.tools:
            cells = (row.get(tool) for row in found[name]["tasks"].values())
            print(f"{tool:26}" + "".join(f"{'-' if cell is None else format(cell, '.1f'):>13}" for cell in cells))
        print(
            "selection / bare autograd.grad:",
            {k: round(v, 2) for k, v in found[name]["selection to floor"].items()},
        )
        print("look-ups:", {k: round(v, 4) for k, v in found[name]["look-ups"].items()}, flush=True)
    arguments.json.write_text(json.dumps({"torch": torch.__version__, "threads": 2, "ms": found}, indent=1))


if __name__ == "__main__":
    main()
