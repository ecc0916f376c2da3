"""What selections cost, side by side with the peers, in one interleaved run: ``make bench``.

Five tasks on a fresh picture each time: ten random (layer, class) selections; all convolutions for one class;
twenty classes at the last convolution; twenty classes at a middle one; all convolutions for twenty classes; and
the five after one another on one picture, as a session at the explorer. Each peer is used as its documentation
recommends (one extractor per layer, one pass per call) and, torchcam, as an expert would (the layers of a task in
one extractor, one forward pass, the graph kept). The floor is a bare ``torch.autograd.grad``. The methods of many
passes are compared with grad-cam's.

Prints tables, and writes them to ``docs/benchmarks.md`` and the numbers to ``benchmarks/selections.json``.
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
from typing import Any

import torch
from torch import Tensor, nn

from gradcam_widget import GradCAM
from gradcam_widget.models import demo_model, sample_images

MODELS = (
    "resnet18",
    "resnet50",
    "vgg16",
    "mobilenet_v3_large",
    "efficientnet_b0",
    "convnext_tiny",
    "densenet121",
)
CLOCK = time.perf_counter
Selection = tuple[str, int]
Tool = Callable[..., None]


def ours(model: nn.Module, picture: Tensor, selections: list[Selection]) -> None:
    """One engine for the picture."""
    cam = GradCAM(model, memory_budget="8GB")
    for layer, target in selections:
        cam.explain(picture, target, layer)


def ours_together(model: nn.Module, picture: Tensor, *tasks: list[Selection]) -> None:
    """One engine; of each task the classes of one layer, or else the layers of a class, in one call."""
    cam = GradCAM(model, memory_budget="8GB")
    for selections in tasks:
        if len({layer for layer, _ in selections}) == 1:
            cam.explain_targets(picture, [target for _, target in selections], selections[0][0])
            continue
        by_target: dict[int, list[str]] = {}
        for layer, target in selections:
            by_target.setdefault(target, []).append(layer)
        for target, layers in by_target.items():
            cam.explain_layers(picture, target, layers)


def bare(model: nn.Module, picture: Tensor, selections: list[Selection]) -> None:
    """What cannot be gone below pass by pass: one forward pass, and for each class one bare torch.autograd.grad to
    the deepest of its layers. No map is made.
    """
    kept, output = kept_outputs(model, picture, [layer for layer, _ in selections])
    order = list(kept)
    for target in dict.fromkeys(target for _, target in selections):
        layer = min((layer for layer, other in selections if other == target), key=order.index)
        torch.autograd.grad(output[0, target], kept[layer], retain_graph=True)


def kept_outputs(model: nn.Module, picture: Tensor, layers: list[str]) -> tuple[dict[str, Tensor], Tensor]:
    """The outputs of some layers, in the order in which they ran, and the scores, with their graph."""
    kept: dict[str, Tensor] = {}
    modules = dict(model.named_modules())
    handles = [
        modules[layer].register_forward_hook(lambda _, __, output, layer=layer: kept.setdefault(layer, output))
        for layer in dict.fromkeys(layers)
    ]
    try:
        return kept, model(picture.clone().requires_grad_())
    finally:
        for handle in handles:
            handle.remove()


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
    "gradcam_widget, one call": ours_together,
    "torchcam, expert": torchcam_expert,
    "bare passes": bare,
    "grad-cam": grad_cam,
    "captum": captum,
    "torchcam": torchcam,
}


OURS = ("gradcam_widget", "gradcam_widget, one call")
DOCUMENTED = ("grad-cam", "captum", "torchcam")
EXPERT = "torchcam, expert"
ON_ONE_PICTURE = (*OURS, "bare passes")
"""Those of which a session is one run: the others keep nothing from task to task."""


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


def measure(name: str, rounds: int, slow_rounds: int, tools: list[str]) -> dict[str, Any]:
    """Medians in milliseconds by task and tool, all tools taking turns."""
    model = network(name)
    layers = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    jobs = tasks(layers)
    jobs["session"] = [selection for selections in jobs.values() for selection in selections]
    times: dict[str, dict[str, list[float]]] = {task: {tool: [] for tool in tools} for task in jobs}
    forward: list[float] = []
    for task, selections in jobs.items():
        for turn in range(rounds):
            forward.append(timed(lambda: model(torch.randn(1, 3, 224, 224))))
            for tool in tools:
                slow = tool in DOCUMENTED
                # A peer keeps nothing from task to task, so that its session is the sum of its tasks.
                if turn >= (slow_rounds if slow else rounds) or (slow and task == "all x 20"):
                    continue
                if task == "session" and tool not in ON_ONE_PICTURE:
                    continue
                parts = [selections]
                if task == "session" and TOOLS[tool] is ours_together:
                    parts = [part for other, part in jobs.items() if other != "session"]
                picture = torch.randn(1, 3, 224, 224)
                times[task][tool].append(timed(lambda: TOOLS[tool](model, picture, *parts)))  # noqa: B023
    medians = {task: {t: statistics.median(v) for t, v in row.items() if v} for task, row in times.items()}
    if EXPERT in tools and "gradcam_widget" in tools:
        # Generously, as if it could keep its forward pass.
        spent = sum(medians[task][EXPERT] for task in jobs if task != "session")
        medians["session"][EXPERT] = spent - 4 * statistics.median(forward)
    return {
        "forward pass": statistics.median(forward),
        "tasks": medians,
        "selection to floor": floors(model, layers, rounds),
        "look-ups": look_ups(model, layers),
    }


def network(name: str) -> nn.Module:
    """A model with random weights, as the peers need it."""
    import torchvision

    model: nn.Module = torchvision.models.get_model(name, weights=None).eval()
    for module in model.modules():
        if hasattr(module, "inplace"):
            module.inplace = False  # the peers fail or err on in-place operations
    return model


def timed(work: Callable[[], object]) -> float:
    """Milliseconds of one run, with nothing to collect before it."""
    gc.collect()
    started = CLOCK()
    work()
    return 1000 * (CLOCK() - started)


def floors(model: nn.Module, layers: list[str], rounds: int) -> dict[str, float]:
    """How many times a bare autograd.grad a selection of a new class costs, at three depths, the picture known to
    both, taking turns.
    """
    picture = torch.randn(1, 3, 224, 224)
    found = {}
    for where, layer in (("last", layers[-1]), ("middle", layers[len(layers) // 2]), ("first", layers[0])):
        cam = GradCAM(model, memory_budget="8GB")
        cam.explain(picture, 999, layer)
        kept, output = kept_outputs(model, picture, [layer])

        def ours(target: int, cam: GradCAM = cam, layer: str = layer) -> None:
            cam.explain(picture, target, layer)

        def theirs(target: int, output: Tensor = output, kept: Tensor = kept[layer]) -> None:
            torch.autograd.grad(output[0, target], kept, retain_graph=True)

        gc.collect()
        pairs = []
        for target in range(400 if where == "last" else 4 * rounds + 8):
            started = CLOCK()
            ours(target)
            between = CLOCK()
            theirs(target)
            pairs.append((between - started, CLOCK() - between))
        found[where] = statistics.median(a for a, _ in pairs) / statistics.median(b for _, b in pairs)
    return found


def look_ups(model: nn.Module, layers: list[str]) -> dict[str, float]:
    """Milliseconds of a cached map, and of a layer change with a known class."""
    cam = GradCAM(model, memory_budget="8GB")
    picture = torch.randn(1, 3, 224, 224)
    cam.explain_layers(picture, 0, layers)
    cached = []
    for _ in range(200):
        started = CLOCK()
        cam.explain(picture, 0, layers[-1])
        cached.append(1000 * (CLOCK() - started))
    changes = []
    for target in range(1, 4):
        cam.explain(picture, target, layers[0])
        for layer in layers[1:]:
            started = CLOCK()
            cam.explain(picture, target, layer)
            changes.append(1000 * (CLOCK() - started))
    return {"cached map": statistics.median(cached), "layer change": statistics.median(changes)}


class Apart(nn.Module):
    """The demo model with its last activation as a module of its own, as grad-cam needs it: the model's is called
    once more before.
    """

    def __init__(self) -> None:
        super().__init__()
        self.model = demo_model()
        self.last = nn.ReLU6()

    def forward(self, x: Tensor) -> Tensor:
        """Scores (N, 1000)."""
        stem = self.model._swish(self.model._bn0(self.model._conv_stem(x)))
        for block in self.model._blocks:
            stem = block(stem)
        found = self.last(self.model._bn1(self.model._conv_head(stem)))
        return self.model._fc(found.mean((2, 3)))


def many_passes(rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds of the methods that need many passes, ours and grad-cam's: on resnet18's last stage with random
    weights, and on the last activation of a model with weights of ImageNet, where many channels are zero.
    """
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    trained = Apart().eval()
    cat = GradCAM(trained).prepare(sample_images()["chelsea"])
    cases: list[tuple[str, nn.Module, str, Callable[[], Tensor], int]] = [
        ("resnet18, random weights", network("resnet18"), "layer4", lambda: torch.randn(1, 3, 224, 224), 5),
        ("efficientnet_lite0, ImageNet, a cat", trained, "last", lambda: cat.clone(), 285),
    ]
    found: dict[str, dict[str, list[float]]] = {}
    for _ in range(rounds):
        for name, model, layer, draw, index in cases:
            target = [ClassifierOutputTarget(index)]
            for method in ("AblationCAM", "ScoreCAM"):
                picture = draw()

                def ours(
                    model: nn.Module = model, picture: Tensor = picture, layer: str = layer, method: str = method
                ) -> None:
                    GradCAM(model).explain(picture, index, layer, method)  # noqa: B023 # called at once

                def theirs(
                    model: nn.Module = model, picture: Tensor = picture, layer: str = layer, method: str = method
                ) -> None:
                    kind = getattr(pytorch_grad_cam, method)
                    with kind(model=model, target_layers=[model.get_submodule(layer)]) as cam:
                        cam(input_tensor=picture, targets=target)  # noqa: B023 # called at once

                row = found.setdefault(f"{method} ({name})", {"gradcam_widget": [], "grad-cam": []})
                row["gradcam_widget"].append(timed(ours))
                row["grad-cam"].append(timed(theirs))
    return {case: {tool: statistics.median(v) for tool, v in row.items()} for case, row in found.items()}


TRIED = (
    "",
    "## Tried, and not adopted",
    "",
    "- *channels_last* for the traced pass: 1.02 to 1.13 times as fast with a copy of the weights in that order, "
    "0.81 to 1.11 with the input alone; a copy of every model is not worth it.",
    "- Convolutions folded with their batch norms for the traced pass, 1.2 to 1.5 times: the layers of the batch "
    "norms are gone. The passes of Score-CAM and occlusion, of which only the scores count, do run so, on copies "
    "of the weights with the channels last, in batches of four: 1.2 times (resnet18), 1.3 (mobilenet_v3_large) "
    "and 1.6 (efficientnet_b0) as fast as the model as it is (processor time, one thread). Packing the weights "
    "beforehand gained no more.",
    "- Backward passes through a second graph, recorded with the batch norms folded in and the channels last (all "
    "gradients agree to 1e-3): to the first convolution 1.02 times as fast (resnet18), 1.09 (densenet121), 1.13 "
    "(resnet50), 1.20 (efficientnet_b0) and 1.30 (mobilenet_v3_large), for one more forward pass of each picture.",
    "- Less work around the passes of Score-CAM: nine tenths of its time are its convolutions, which run near the "
    "processor's peak, at 100 to 110 GFLOP/s a thread. With Winograd's algorithm, F(4 x 4, 3 x 3), in torch "
    "operations the whole of resnet18 was 1.14 to 1.18 times as fast with one thread and 1.0 to 1.06 with two; "
    "with NNPACK's, slower. What is not computed is what gains: channels that are flat share one pass.",
    "- bfloat16, 1.7 times: the maps of middle layers are not those of float32 (rank correlation 0.31).",
    "- Mean gradients at batch norms from the gradient of the bias, which autograd computes anyway: 1 to 4 % of a "
    "pass, but the last bits of a weight then depended on what was asked before. Those before a batch norm from "
    "those behind it, a factor for each channel: no difference that could be told from noise.",
    "- Larger batches for `explain_targets`: past some 64 MB of gradients a batch gains nothing (resnet50 at "
    "14 x 14 cells: 0.91 of a loop's time with eight classes, 1.09 with twenty; processor time, one thread).",
)


def tables(found: dict[str, Any]) -> str:
    """The numbers as Markdown."""
    lines = [
        "# Benchmarks",
        "",
        f"Generated by `make bench` (torch {found['torch']}, CPU, {found['clock']}, 224 x 224 pixels, "
        "medians in ms). All tools take turns in one run on the same machine: ratios carry over, absolute "
        "times do not.",
        "",
        "The tasks: ten random (layer, class) selections; all convolutions for one class; twenty classes at the "
        "last and at a middle convolution; all convolutions for twenty classes; and the five after one another on "
        "one picture. *One call* is the engine with `explain_layers` and `explain_targets`, which prove once for "
        "a call, not once for each map, that the model has not changed. *As documented* is one extractor per "
        "layer and one pass per call; *expert* is torchcam with all layers of a task in one extractor, one "
        "forward pass and the graph kept (its session is the sum of its tasks less four forward passes). *Bare "
        "passes* is what no tool can go below that takes a pass for each class: one forward pass, and a bare "
        "`torch.autograd.grad` to the deepest layer asked for, with no map made. A dash is a task that would have "
        "taken minutes.",
    ]
    for name, row in found["ms"].items():
        columns = list(row["tasks"])
        lines += [
            "",
            f"## {name} (forward pass {row['forward pass']:.0f} ms)",
            "",
            "| | " + " | ".join(columns) + " |",
            "|---|" + "---:|" * len(columns),
        ]
        for tool in dict.fromkeys(tool for cells in row["tasks"].values() for tool in cells):
            cells = (row["tasks"][task].get(tool) for task in columns)
            lines.append(f"| {tool} | " + " | ".join("-" if c is None else f"{c:.0f}" for c in cells) + " |")
        ratios = row["selection to floor"]
        lines += [
            "",
            "One selection of a new class takes "
            + ", ".join(f"{ratio:.2f} times ({where})" for where, ratio in ratios.items())
            + " what a bare `torch.autograd.grad` to the same layer takes; another layer of a known class "
            f"{row['look-ups']['layer change']:.2f} ms; a known map {row['look-ups']['cached map']:.3f} ms.",
        ]
    if found["many passes"]:
        lines += [
            "",
            "## Methods of many passes (the last stage)",
            "",
            "| | gradcam_widget | grad-cam | times |",
        ]
        lines.append("|---|---:|---:|---:|")
        for method, row in found["many passes"].items():
            times = row["grad-cam"] / row["gradcam_widget"]
            lines.append(f"| {method} | {row['gradcam_widget']:.0f} | {row['grad-cam']:.0f} | {times:.1f} |")
    return "\n".join([*lines, *TRIED]) + "\n"


def main() -> None:
    """Measure, print, write."""
    global CLOCK
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="*", default=list(MODELS))
    parser.add_argument("--tools", nargs="+", default=list(TOOLS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--slow-rounds", type=int, default=1, help="of the peers as documented")
    parser.add_argument("--many-rounds", type=int, default=1, help="of the methods of many passes")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/selections.json"))
    parser.add_argument(
        "--tables", type=Path, default=None, help="write Markdown here, such as docs/benchmarks.md"
    )
    parser.add_argument("--cpu-time", action="store_true", help="of one thread, where other work goes on")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    threads = 1 if arguments.cpu_time else 2
    torch.set_num_threads(threads)
    if arguments.cpu_time:
        CLOCK = time.process_time
    found: dict[str, Any] = {
        "torch": torch.__version__,
        "clock": "processor time of 1 thread" if arguments.cpu_time else "2 threads",
        "ms": {},
        "many passes": {},
    }
    for name in arguments.models:
        found["ms"][name] = measure(name, arguments.rounds, arguments.slow_rounds, arguments.tools)
        print(tables({**found, "ms": {name: found["ms"][name]}}).split("\n\n", 3)[3], flush=True)
    if arguments.many_rounds:
        found["many passes"] = many_passes(arguments.many_rounds)
    text = tables(found)
    print(text)
    arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    if arguments.tables is not None:
        arguments.tables.write_text(text)


if __name__ == "__main__":
    main()
