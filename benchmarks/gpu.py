"""What selections cost on a GPU, beside the peers and beside the bare replay of a CUDA graph: ``make bench-gpu``.

The selections: another class at a known picture, at the last, a middle and the first convolution; another picture
and its first map at the last convolution; and the five tasks of ``benchmarks/selections.py``. All tools take turns
in one run, each waits for the GPU when it is done, and every map ends on the host. The floor of a class is the
replay of a recorded backward pass to the layer, of a picture that of a recorded forward pass, with no map made and
nothing copied.

Prints tables, and writes them to ``docs/benchmarks-gpu.md`` and the numbers to ``benchmarks/gpu.json``. Without a
GPU it ends with a sentence; ``--device cpu`` tries it there, with no graphs.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import torch
from selections import MODELS, Selection, kept_outputs, network, tasks
from torch import Tensor, nn

from gradcam_widget import GradCAM
from gradcam_widget.recorder import CudaRecorder

Explain = Callable[[Tensor, int, str], object]
EAGER, GRAPHS, FLOOR = "gradcam_widget", "gradcam_widget, cuda_graphs", "graph replay"
PEERS = ("torchcam, expert", "grad-cam", "captum", "torchcam")
ROWS = (GRAPHS, EAGER, FLOOR, "bare autograd", *PEERS)
SLOW = ("grad-cam", "captum", "torchcam")
"""As documented, they need minutes for the tasks of many layers and classes."""


def engine(model: nn.Module, *, cuda_graphs: bool) -> GradCAM:
    """An engine that has seen as many pictures as are needed before a pass is recorded."""
    cam = GradCAM(model, memory_budget="16GB", cuda_graphs=cuda_graphs)
    for _ in range(3):
        cam.predict(fresh(model))
    return cam


def fresh(model: nn.Module) -> Tensor:
    """A picture that nobody has seen, where the model is."""
    return torch.randn(1, 3, 224, 224, device=next(model.parameters()).device)


def documented(name: str, model: nn.Module) -> Explain:
    """A peer as its documentation recommends: one extractor for a layer, one forward pass for a call."""
    modules = dict(model.named_modules())

    def grad_cam(picture: Tensor, target: int, layer: str) -> object:
        import pytorch_grad_cam
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

        with pytorch_grad_cam.GradCAM(model=model, target_layers=[modules[layer]]) as cam:
            return cam(input_tensor=picture, targets=[ClassifierOutputTarget(target)])

    def captum(picture: Tensor, target: int, layer: str) -> object:
        from captum.attr import LayerGradCam

        return LayerGradCam(model, modules[layer]).attribute(picture, target=target, relu_attributions=True).cpu()

    def torchcam(picture: Tensor, target: int, layer: str) -> object:
        from torchcam.methods import GradCAM as TorchCAM

        with TorchCAM(model, layer) as cam:
            return cam(target, model(picture))[0].cpu()

    return {"grad-cam": grad_cam, "captum": captum, "torchcam": torchcam}[name]


@contextmanager
def expert(model: nn.Module, layers: list[str], picture: Tensor) -> Iterator[Callable[[int], object]]:
    """Torchcam with some layers in one extractor and one forward pass: what gives their maps for a class. No other
    tool may run the model meanwhile, to whose last pass the extractor holds.
    """
    from torchcam.methods import GradCAM as TorchCAM

    with TorchCAM(model, layers) as cam:
        scores = model(picture)
        yield lambda target: [found.cpu() for found in cam(target, scores, retain_graph=True)]


def replays(model: nn.Module, layer: str) -> tuple[Callable[[int], None], Callable[[Tensor], None]]:
    """Bare replays of recorded passes: backward to a layer for a class, and forward for a picture."""
    device = next(model.parameters()).device
    recorder, picture = CudaRecorder(device), fresh(model)
    with recorder.beside():
        for _ in range(2):
            kept, output = kept_outputs(model, picture, [layer])
    seed = torch.zeros_like(output)
    inputs = [kept[layer]]
    _, back, _ = recorder.record(lambda: torch.autograd.grad([output], inputs, [seed], retain_graph=True))
    _, forth, _ = recorder.record(lambda: model(picture))

    def to_class(target: int) -> None:
        seed.zero_()
        seed[0, target] = 1
        back()

    def to_picture(other: Tensor) -> None:
        picture.copy_(other)
        forth()

    return to_class, to_picture


def timed(work: Callable[[], object]) -> float:
    """Milliseconds of one run, until the GPU has done all of it."""
    wait()
    started = time.perf_counter()
    work()
    wait()
    return 1000 * (time.perf_counter() - started)


def wait() -> None:
    """For the GPU, where there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def classes(model: nn.Module, layer: str, rounds: int, *, graphs: bool) -> dict[str, float]:
    """Milliseconds of another class at a layer of a known picture, by tool: medians of runs that take turns."""
    picture = fresh(model)
    cams = {EAGER: engine(model, cuda_graphs=False)}
    if graphs:
        cams[GRAPHS] = engine(model, cuda_graphs=True)
    work: dict[str, Callable[[int], object]] = {
        name: partial(cam.explain, picture, layer=layer) for name, cam in cams.items()
    }
    kept, output = kept_outputs(model, picture, [layer])
    work["bare autograd"] = lambda target: torch.autograd.grad(output[0, target], kept[layer], retain_graph=True)
    if graphs:
        work[FLOOR] = replays(model, layer)[0]
    for name in SLOW:
        work[name] = partial(documented(name, model), picture, layer=layer)
    with expert(deepcopy(model), [layer], picture) as extracted:
        work[PEERS[0]] = extracted
        times: dict[str, list[float]] = {name: [] for name in ROWS if name in work}
        for target in range(rounds + 5):  # the first ones warm up, and are recorded
            for name, spent in times.items():
                spent.append(timed(lambda: work[name](target)))  # noqa: B023 # called now
    return {name: statistics.median(spent[5:]) for name, spent in times.items()}


def pictures(model: nn.Module, layer: str, rounds: int, *, graphs: bool) -> dict[str, float]:
    """Milliseconds of another picture with its first map, by tool."""
    work: dict[str, Callable[[Tensor], object]] = {}
    for name, cuda_graphs in ((EAGER, False), (GRAPHS, True)):
        if graphs or not cuda_graphs:
            work[name] = partial(engine(model, cuda_graphs=cuda_graphs).explain, target=7, layer=layer)
    if graphs:
        work[FLOOR] = replays(model, layer)[1]
    for name in SLOW:
        work[name] = partial(documented(name, model), target=7, layer=layer)
    times: dict[str, list[float]] = {name: [] for name in ROWS if name in work}
    for _ in range(rounds + 5):
        picture = fresh(model)
        for name, spent in times.items():
            spent.append(timed(lambda: work[name](picture)))  # noqa: B023 # called now
    return {name: statistics.median(spent[5:]) for name, spent in times.items()}


def one_by_one(explain: Explain, selections: list[Selection], picture: Tensor) -> None:
    """A task as a person does it: one selection after another."""
    for layer, target in selections:
        explain(picture, target, layer)


def by_expert(model: nn.Module, selections: list[Selection], picture: Tensor) -> None:
    """A task with all its layers in one extractor, one forward pass, and a pass for each class."""
    with expert(model, list(dict.fromkeys(layer for layer, _ in selections)), picture) as extracted:
        for target in dict.fromkeys(target for _, target in selections):
            extracted(target)


def whole_tasks(model: nn.Module, layers: list[str], rounds: int, *, graphs: bool) -> dict[str, dict[str, float]]:
    """Milliseconds of the tasks of ``selections.py`` by tool, each on a picture that it has not seen."""
    found: dict[str, dict[str, float]] = {}
    for task, selections in tasks(layers).items():
        work: dict[str, Callable[[Tensor], object]] = {PEERS[0]: partial(by_expert, model, selections)}
        for name, cuda_graphs in ((EAGER, False), (GRAPHS, True)):
            if graphs or not cuda_graphs:
                explain = engine(model, cuda_graphs=cuda_graphs).explain
                work[name] = partial(one_by_one, explain, selections)
        for name in SLOW if task != "all x 20" else ():
            work[name] = partial(one_by_one, documented(name, model), selections)
        times: dict[str, list[float]] = {name: [] for name in ROWS if name in work}
        for _ in range(rounds + 1):
            for name, spent in times.items():
                picture = fresh(model)
                spent.append(timed(lambda: work[name](picture)))  # noqa: B023 # called now
        found[task] = {name: statistics.median(spent[1:]) for name, spent in times.items()}
    return found


def measure(name: str, device: str, rounds: int) -> dict[str, dict[str, float]]:
    """Medians in milliseconds by selection and tool."""
    gc.collect()
    model = network(name).to(device)
    graphs = device.startswith("cuda")
    layers = [path for path, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    depths = {"last": layers[-1], "middle": layers[len(layers) // 2], "first": layers[0]}
    found = {f"class, {where}": classes(model, layer, rounds, graphs=graphs) for where, layer in depths.items()}
    found["picture"] = pictures(model, layers[-1], rounds, graphs=graphs)
    return {**found, **whole_tasks(model, layers, max(1, rounds // 4), graphs=graphs)}


def table(name: str, found: dict[str, dict[str, float]]) -> str:
    """The numbers of a model as Markdown, with what they mean beside the goals."""
    columns = list(found)
    lines = [f"## {name}", "", "| | " + " | ".join(columns) + " |", "|---|" + "---:|" * len(columns)]
    for tool in ROWS:
        cells = [found[column].get(tool) for column in columns]
        if any(cell is not None for cell in cells):
            lines.append(f"| {tool} | " + " | ".join("-" if c is None else f"{c:.2f}" for c in cells) + " |")
    of_replay = [
        f"{cells[GRAPHS] / cells[FLOOR]:.2f} ({column})"
        for column, cells in found.items()
        if GRAPHS in cells and FLOOR in cells
    ]
    of_peers = [
        f"{min(cells[peer] for peer in SLOW) / cells[GRAPHS]:.1f} ({column})"
        for column, cells in found.items()
        if GRAPHS in cells and SLOW[0] in cells
    ]
    if of_replay:
        lines += ["", "With graphs, times the bare replay: " + ", ".join(of_replay) + "."]
    if of_peers:
        lines += ["", "The fastest peer as documented takes so many times as long: " + ", ".join(of_peers) + "."]
    return "\n".join(lines)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="*", default=list(MODELS))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/gpu.json"))
    parser.add_argument("--tables", type=Path, default=None, help="write Markdown here: docs/benchmarks-gpu.md")
    arguments = parser.parse_args()
    if arguments.device.startswith("cuda") and not torch.cuda.is_available():
        parser.exit(1, "There is no NVIDIA GPU here. --device cpu tries the benchmark on the processor.\n")
    warnings.simplefilter("ignore")
    machine = torch.cuda.get_device_name() if arguments.device.startswith("cuda") else "a processor: no graphs"
    found: dict[str, Any] = {"torch": torch.__version__, "machine": machine, "ms": {}}
    parts = [
        "# Benchmarks on a GPU",
        f"Generated by `make bench-gpu` (torch {torch.__version__}, {machine}, 224 x 224 pixels, medians in ms). "
        "All tools take turns in one run. *Class* is another class at a convolution of a known picture, *picture* "
        "another picture and its first map at the last convolution; the other columns are the tasks of "
        "[the benchmarks on a processor](benchmarks.md). *Graph replay* is a recorded backward or forward pass "
        "replayed, with no map made; a dash is what a tool does not do, or would need minutes for.",
    ]
    for name in arguments.models:
        found["ms"][name] = measure(name, arguments.device, arguments.rounds)
        parts.append(table(name, found["ms"][name]))
        print(parts[-1], flush=True)
    arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    if arguments.tables is not None:
        arguments.tables.write_text("\n\n".join(parts) + "\n")


if __name__ == "__main__":
    main()
