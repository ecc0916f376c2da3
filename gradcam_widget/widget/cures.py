"""What helps where a map needs a word: for each diagnosis the settings that lead to a map without it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Cure", "as_message", "cures_of", "is_cured_by_layer"]

_ELSEWHERE = ("not_finite", "no_gradient", "no_positive", "single_cell", "flat", "rounding")
_LAST = {
    "single_cell": "Go to the last layer with several cells",
    "no_positive": "Go to the last layer, which has some",
}


@dataclass(frozen=True)
class Cure:
    """A choice that is offered as a button.

    Attributes:
        id: by which the view names it.
        label: what stands on the button.
        changes: settings of the explorer, as its user would set them.
    """

    id: str
    label: str
    changes: Mapping[str, Any]


def is_cured_by_layer(code: str | None) -> bool:
    """Whether another layer may have a map without this diagnosis."""
    return code in _ELSEWHERE


def cures_of(code: str | None, *, lowest: float, target: int | None, last_layer_is_well: bool) -> tuple[Cure, ...]:
    """What to offer for a diagnosis; each leads to a map that does not have it.

    Args:
        code: of `gradcam_widget.diagnosis.Diagnosis`; "all_against" for a signed map that is nowhere positive,
            "nothing_against" for a counterfactual one; None where there is no diagnosis.
        lowest: of the signed map.
        target: the class that it is about, None where there is none.
        last_layer_is_well: whether the default layer is another one, and its map has no such diagnosis.
    """
    cures = []
    if code == "no_positive" and lowest < 0:
        cures.append(Cure("signed", "Show signed", {"evidence": "signed"}))
    if code == "all_against":
        cures.append(Cure("counterfactual", "Show what speaks against it", {"evidence": "counterfactual"}))
    if code == "nothing_against":
        cures.append(Cure("positive", "Show what speaks for it", {"evidence": "positive"}))
    if code == "saturated" and target is not None:
        cures.append(Cure("logit", "Use the logit", {"target": target}))
    if is_cured_by_layer(code) and last_layer_is_well:
        cures.append(Cure("last_layer", _LAST.get(str(code), "Go to the last layer"), {"layer": None}))
    return tuple(cures)


def as_message(cures: Sequence[Cure]) -> list[dict[str, str]]:
    """The buttons as the view takes them."""
    return [{"id": cure.id, "label": cure.label} for cure in cures]
