"""What is expected of each peer and method: the same map, or another one for a reason that is known."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cache

from gradcam_widget.engine import GradCAM
from gradcam_widget.explanation import Explanation

from .networks import LAYERS, layers, network, picture, target
from .peers import PEERS, difference

EQUAL = 1e-5
MANY_PASSES = ("AblationCAM", "ScoreCAM")
DIFFERENT: dict[tuple[str, str], str] = {
    (
        "grad-cam",
        "GradCAM++",
    ): "adds 1e-6 to the denominator 2g² + ΣA·g³, which is not small beside squared gradients; "
    "equal where the gradients are large",
    ("grad-cam", "FinerCAM"): "weighs the other classes by their probabilities instead of the mean of the paper's "
    "equation 4",
    ("grad-cam", "ScoreCAM"): "upsamples the masks with align_corners=True; equal where nothing is upsampled",
    ("torchcam", "GradCAM++"): "divides a copy, so that its weight is Σ g²·relu(g)",
    (
        "torchcam",
        "ScoreCAM",
    ): "scales the masks to [0, 1] before upsampling instead of after; equal where nothing is upsampled",
}


@dataclass(frozen=True)
class Row:
    """One method of one peer on one architecture."""

    peer: str
    method: str
    network: str

    def __str__(self) -> str:
        return f"{self.peer}-{self.method}-{self.network}"

    @property
    def expected_equal(self) -> bool:
        return (self.peer, self.method) not in DIFFERENT


def rows() -> list[Row]:
    """All that are compared: the methods of many passes on the tiny network alone."""
    return [
        Row(peer, method, name)
        for peer, (methods, _, _) in PEERS.items()
        for method in methods
        for name in (*LAYERS, "tiny")
        if layers(name, method) and (method not in MANY_PASSES or name == "tiny")
    ]


@cache
def measure(row: Row) -> dict[str, float]:
    """By layer, the largest difference as a share of the map's maximum, each normalised in the peer's own way."""
    _, ask, convention = PEERS[row.peer]
    model, index = network(row.network), target(row.network)
    found = {}
    for layer in layers(row.network, row.method):
        theirs = ask(model, layer, picture(), index, row.method)
        ours = engine(row.network).explain(picture(), index, layer, row.method)
        found[layer] = min(difference(theirs, convention(one)) for one in either_sign(ours))
    return found


@cache
def engine(name: str) -> GradCAM:
    return GradCAM(network(name), memory_budget="500MB")


def either_sign(explanation: Explanation) -> list[Explanation]:
    """A principal component has no sign of its own; grad-cam takes the one that comes out."""
    if not explanation.method.startswith("Eigen"):
        return [explanation]
    return [explanation, negated(explanation)]


def negated(explanation: Explanation) -> Explanation:
    return dataclasses.replace(explanation, signed_cam=-explanation.signed_cam, alpha=-explanation.alpha)
