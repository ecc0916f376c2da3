"""Every classifier of torchvision and one model of every timm family, each explained without configuration.

``python -m tests.zoo.zoo --write docs/zoo.md`` checks them all (``make zoo``) and writes the table.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from gradcam_widget import GradCAM

FAMILIES = Path(__file__).with_name("timm_families.txt")
_MOST_PARAMETERS = 60e6


@dataclass(frozen=True)
class Entry:
    """A model of the zoo: how to make it and what it takes."""

    source: str
    name: str
    size: int = 224

    def __str__(self) -> str:
        return f"{self.source}:{self.name}"

    def make(self) -> nn.Module:
        """The model with random weights, in eval mode."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # their constructors warn about their own deprecated parts
            if self.source == "timm":
                import timm

                return timm.create_model(self.name).eval()
            import torchvision

            options = {"init_weights": False} if self.name in ("googlenet", "inception_v3") else {}
            return torchvision.models.get_model(self.name, weights=None, **options).eval()


@dataclass(frozen=True)
class Row:
    """What was seen of a model."""

    entry: Entry
    parameters: int
    layers: int
    default: str
    grid: str
    seconds: float


def entries(*, everything: bool) -> Iterator[Entry]:
    """All models of the zoo; without ``everything`` those of torchvision stay below 60 million parameters too."""
    import torchvision

    for name in torchvision.models.list_models(torchvision.models):
        weights = torchvision.models.get_model_weights(name).DEFAULT
        if everything or weights.meta["num_params"] <= _MOST_PARAMETERS:
            size = 299 if name == "inception_v3" else max(224, *weights.meta.get("min_size", (1, 1)))
            fixed = name.startswith(("vit_", "maxvit"))  # whatever size their best weights were trained at
            yield Entry("torchvision", name, 224 if fixed else size)
    for line in FAMILIES.read_text().splitlines():
        if line and not line.startswith("#"):
            _, name, size = line.split()
            yield Entry("timm", name, int(size))


def check(entry: Entry) -> Row:
    """Explain a model at its default layer and at every layer; AssertionError where a promise is broken."""
    started = time.perf_counter()
    torch.manual_seed(0)
    model = entry.make()
    _make_lively(model)
    picture = torch.randn(1, 3, entry.size, entry.size)
    before = _fingerprint(model)
    cam = GradCAM(model, memory_budget="8GB")
    found = cam.explain(picture)
    heatmap = found.heatmap()
    assert heatmap.shape == (entry.size, entry.size), heatmap.shape
    assert torch.isfinite(heatmap).all()
    assert torch.isfinite(found.alpha).all()
    assert found.cam.ndim == 2, found.cam.shape
    assert found.cam.numel() > 1, "the default layer has a single cell"
    assert found.alpha.abs().max() > 0, "the default layer has no gradient"
    every = cam.explain_layers(picture)
    assert every, "no layer leads to the output"
    for name, one in every.items():
        assert one.cam.ndim == 2, (name, one.cam.shape)
        assert torch.isfinite(one.signed_cam).all(), name
        assert one.heatmap().shape == heatmap.shape, name
    after = _fingerprint(model)
    assert before == after, "the model was changed"
    grid = "×".join(map(str, found.layer.shape[1:]))
    count = sum(tensor.numel() for tensor in model.parameters())
    return Row(entry, count, len(every), found.layer.name, grid, time.perf_counter() - started)


def _make_lively(model: nn.Module) -> None:
    """Random weights leave some networks dead: zero gammas and layer scales make every residual branch vanish."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim <= 1 or not parameter.any():
                parameter.add_(torch.rand(parameter.shape, generator=generator) * 0.1 + 0.01)


def _fingerprint(model: nn.Module) -> tuple[object, ...]:
    tensors = [*model.named_parameters(), *model.named_buffers()]
    return (
        tuple(
            (name, id(tensor), tensor._version, tensor.requires_grad, tensor.grad is None)
            for name, tensor in tensors
        ),
        tuple(float(tensor.detach().double().sum()) for _, tensor in tensors),
        tuple(
            (module.training, len(module._forward_hooks), "forward" in vars(module)) for module in model.modules()
        ),
        tuple(type(module) for module in model.modules()),
    )


def table(rows: list[Row]) -> str:
    """The rows as a Markdown table."""
    lines = [
        "| source | model | parameters (M) | feature maps | default layer | cells |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.entry.source} | `{row.entry.name}` | {row.parameters / 1e6:.1f} | {row.layers} | "
        f"`{row.default}` | {row.grid} |"
        for row in rows
    ]
    return "\n".join(lines)


def main() -> int:
    """Check all models, print one line for each, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, help="Markdown file for the table")
    parser.add_argument("--all", action="store_true", help="torchvision's models beyond 60 million parameters too")
    parser.add_argument("--only", default="", help="part of the names to check")
    arguments = parser.parse_args()
    rows, failed = [], []
    for entry in entries(everything=arguments.all):
        if arguments.only not in str(entry):
            continue
        try:
            rows.append(check(entry))
            sys.stdout.write(
                f"ok   {entry} {rows[-1].layers} {rows[-1].default} {rows[-1].grid} {rows[-1].seconds:.1f} s\n"
            )
        except Exception as error:
            failed.append(entry)
            sys.stdout.write(f"FAIL {entry} {type(error).__name__}: {error}\n")
        sys.stdout.flush()
    if arguments.write:
        head = f"# The zoo\n\n{len(rows)} models explained without configuration, {len(failed)} failed.\n\n"
        arguments.write.write_text(head + table(rows) + "\n", encoding="utf-8")
    return bool(failed)


if __name__ == "__main__":
    raise SystemExit(main())
