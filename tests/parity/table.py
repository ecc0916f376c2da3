"""The comparison with the peers as a page: ``python -m tests.parity.table --write docs/parity.md``."""

from __future__ import annotations

import argparse
import importlib.metadata
import sys
from pathlib import Path

import torch

from .compare import DIFFERENT, EQUAL, Row, measure, rows
from .networks import LAYERS, TINY
from .peers import PEERS
from .special import in_place_relu, reused_module

PACKAGES = {"grad-cam": "grad-cam", "captum": "captum", "torchcam": "torchcam"}

HEAD = """# Parity

What [grad-cam](https://github.com/jacobgil/pytorch-grad-cam), [captum](https://captum.ai) and
[torchcam](https://github.com/frgfm/torch-cam) say of the same model, picture, layer and class, and where they
differ from us and from each other. Written by `python -m tests.parity.table --write docs/parity.md`; the tests in
`tests/parity` demand what it says.
"""

EQUAL_HEAD = """## Where all agree

Pooling layers, activations and the outputs of blocks, where nothing works in place behind the layer.
Each number is the largest difference over the map as a share of its maximum, at the worst of the layers,
after each library's own normalisation. Random weights, pictures of 64 px. **=** means equal to
{equal:g}.
"""

NOTES = """EigenCAM and EigenGradCAM are compared up to the sign, which a principal component leaves open: ours is
the one that correlates with the mean of the maps, grad-cam's is the one that the decomposition happens
to give, so its picture can be the negative. ShapleyCAM has no value where torch has no second derivative
(the hard sigmoid of MobileNetV3). FinerCAM of torchcam is asked with `gamma=1`, the paper's, where its
own default is 0.6. CAM is compared where the head is global average pooling and one linear layer. Where
a LayerNorm reads the layer directly (ConvNeXt's last block of a stage), the sum over the channels of
gradient times activation is zero by the invariance of the norm, and what HiResCAM shows there is
rounding, in every library."""

IN_PLACE = """## A convolution with an in-place ReLU behind it

`features.18` of VGG-11. The ReLU overwrites the convolution's output, so it matters when a hook reads
the activations A and the gradients g. The definition is A and g of the layer as named: both before the
ReLU. Difference of each library's map from three candidates computed in float64 without hooks:
"""

IN_PLACE_AFTER = """Ours and captum's are the definition. grad-cam multiplies the gradients of one tensor with the
activations of another; torchcam answers for the ReLU, whichever of the two was named. The same happens
after a batch norm (`bn1` of a residual block) and before an in-place addition.
"""

REUSED = """## A module that runs several times

`layer4.1.relu` of ResNet-18 runs twice in each pass. Difference from the map of either call:
"""

REUSED_AFTER = """Here every call is a layer of its own, `relu` and `relu:2`.
"""

CONVENTIONS = """## Conventions

| | gradcam_widget | grad-cam | captum | torchcam |
|---|---|---|---|---|
| ReLU | yes (`cam`), and the signed map is kept (`signed_cam`) | yes | no, unless `relu_attributions=True` | yes |
| normalisation | divided by the maximum: 0 is no evidence | minimum to 0, maximum to 1, twice | none \
| minimum to 0, maximum to 1 |
| a flat positive map | 1 everywhere, and a diagnosis | 0 everywhere | as it is | 0 everywhere |
| upsampling | bilinear, `align_corners=False` | the same | `nearest`, unless told | left to the overlay |
| ScoreCAM's masks | upsampled, then scaled | upsampled with `align_corners=True`, then scaled | | scaled, then \
upsampled |
| AblationCAM at a layer with negative values | the channel is set to 0 | to 10,000,000 below the batch's \
minimum, which falls with each channel | | |
| the model afterwards | as it was | in eval mode, with `.grad` filled | as it was | as it was |

## For people who migrate

`gradcam_widget.presets` gives an explanation in each library's own form, equal to it wherever **=** stands above:

```python
from gradcam_widget import GradCAM
from gradcam_widget.presets import as_captum, as_grad_cam, as_torchcam

found = GradCAM(model).explain(image, target, layer)
as_grad_cam(found)   # (H, W) in [0, 1]: cam(input_tensor, targets)[0]
as_captum(found)     # (1, 1, h, w) signed: LayerGradCam(model, layer).attribute(image, target)
as_torchcam(found)   # (1, h, w) in [0, 1]: one of the maps of extractor(target, scores)
```
"""


def cell(row: Row) -> str:
    worst = max(measure(row).values())
    return "**=**" if worst <= EQUAL else f"{worst:.1g}"


def main_table(peer: str) -> str:
    names = (*LAYERS, "tiny")
    wanted = {(row.method, row.network): row for row in rows() if row.peer == peer}
    lines = [f"| method | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    for method in PEERS[peer][0]:
        cells = [cell(wanted[method, name]) if (method, name) in wanted else "" for name in names]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    reasons = [f"- {method} {reason}." for (other, method), reason in DIFFERENT.items() if other == peer]
    return "\n".join([*lines, *([""] if reasons else []), *reasons])


def side_table(found: dict[str, dict[str, float]]) -> str:
    columns = list(next(iter(found.values())))
    lines = [f"| | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
    for name, differences in found.items():
        cells = ["**=**" if value <= EQUAL else f"{value:.2f}" for value in differences.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def page() -> str:
    versions = ", ".join(f"{name} {importlib.metadata.version(package)}" for name, package in PACKAGES.items())
    torch_version = torch.__version__.partition("+")[0]
    layers = [f"- {name}: {', '.join(f'`{layer}`' for layer in found)}" for name, found in LAYERS.items()]
    layers.append(
        f"- tiny (three convolutions, for the methods of many passes): {', '.join(f'`{x}`' for x in TINY)}"
    )
    parts = [
        HEAD,
        f"Compared: {versions}, with torch {torch_version} on the CPU.\n",
        EQUAL_HEAD.format(equal=EQUAL),
        "\n".join(layers) + "\n",
        *(f"### {peer}\n\n{main_table(peer)}\n" for peer in PEERS),
        NOTES + "\n",
        IN_PLACE,
        side_table(in_place_relu()) + "\n",
        IN_PLACE_AFTER,
        REUSED,
        side_table(reused_module()) + "\n",
        REUSED_AFTER,
        CONVENTIONS,
    ]
    return "\n".join(parts)


def main() -> int:
    """Compare, and write the page or print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, help="Markdown file for the page")
    arguments = parser.parse_args()
    text = page()
    if arguments.write:
        arguments.write.parent.mkdir(parents=True, exist_ok=True)
        arguments.write.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
