"""The recipe: the lines of Python that compute what is on the screen, whatever strings are in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gradcam_widget.archive import asked_target
from gradcam_widget.explanation import Explanation
from gradcam_widget.methods import METHODS
from gradcam_widget.targets import Target, name_target
from gradcam_widget.written_targets import TARGETS, code_of, parts_of, write_target

__all__ = ["Recipe"]


@dataclass(frozen=True)
class Recipe:
    """What is on the screen, as far as lines of code tell it.

    Attributes:
        model: class of the model, for a comment.
        picture: its name, for a comment.
        explanation: on show; for counterfactual evidence that of the negative.
        signed: whether the map before the ReLU is on show.
        off: channels that are left out of the map.
        limit: the value with the strongest colour; None for the map's own maximum.
        contrast_limit: that of the contrast.
        own_transform: whether the engine has a transform that the model does not name itself.
        second: the explanation of the class beside it, or None.
        contrast: that of the first less the second, or None.
    """

    model: str
    picture: str
    explanation: Explanation
    signed: bool = False
    off: Sequence[int] = ()
    limit: float | None = None
    contrast_limit: float | None = None
    own_transform: bool = False
    second: Explanation | None = None
    contrast: Explanation | None = None

    def lines(self) -> str:
        """Python code. It takes ``model`` and ``picture`` (and ``transform`` and ``target`` where only their owner
        has them), and leaves an Explanation in ``explanation`` and what lies over the picture in ``heatmap``.
        """
        body = self._body()
        names = sorted(name for name in TARGETS if any(f"{name}(" in line for line in body))
        imports = ["import torch"] if any("torch." in line for line in body) else []
        imports += ["from gradcam_widget import GradCAM"]
        if any("upsample(" in line for line in body):
            imports.append("from gradcam_widget.heatmap import upsample")
        if names:
            imports.append(f"from gradcam_widget.targets import {', '.join(names)}")
        given = [f"# model: {_comment(self.model)}, picture: {_comment(self.picture)}"]
        if self.own_transform:
            given.append("# transform: the one that was given to the widget")
        for number, target in enumerate(self._own()):
            given.append(f"# {_variable(number)}: your own, {_comment(name_target(target))}")
        return "\n".join([*imports, "", *given, *body, ""])

    def _body(self) -> list[str]:
        transform = ", transform=transform" if self.own_transform else ""
        made = [f"cam = GradCAM(model{transform})", *self._explained("explanation", self.explanation)]
        made += self._drawn("heatmap", "explanation", self.explanation, self.signed)
        if self.second is not None and self.contrast is not None:
            made += self._explained("second", self.second)
            made += self._drawn("second_heatmap", "second", self.second, self.signed)
            made += self._contrasted(self.contrast)
        return made

    def _contrasted(self, contrast: Explanation) -> list[str]:
        limit = self.contrast_limit
        if contrast.method == self.explanation.method and "head_weights" in METHODS[contrast.method].needs:
            # The head's weights are those of one class.
            parts = ["explanation", "second"] if not self.off else ["explanation_cam", "second_cam"]
            signed = [part if self.off else f"{part}.signed_cam" for part in parts]
            line = f"contrast_cam = {signed[0]} - {signed[1]}"
            return [line, *_scaled("contrast_heatmap", "contrast_cam", "explanation", limit)]
        made = self._explained("contrast", contrast)
        return made + self._drawn("contrast_heatmap", "contrast", contrast, True, limit)

    def _explained(self, name: str, explanation: Explanation) -> list[str]:
        arguments = [
            f"target={self._code(explanation)}",
            f"layer={explanation.layer.name!r}",
            f"method={explanation.method!r}",
        ]
        return [f"{name} = cam.explain(picture, {', '.join(arguments)})"]

    def _drawn(
        self, name: str, of: str, explanation: Explanation, signed: bool, limit: float | None = None
    ) -> list[str]:
        """What lies on the picture: the map at its size, its limit being 1."""
        limit = self.limit if limit is None else limit
        if explanation.guided is not None:
            return [f"{name} = {of}.guided  # at the pixels, (C, H, W)"]
        if self.off:
            arguments = f"{self._code(explanation)}, {explanation.layer.name!r}, {explanation.method!r}"
            on = f"on = [k for k in range(len(terms)) if k not in {sorted(self.off)!r}]"
            total = f"{of}_cam = terms[on].sum(0){'' if signed else '.clamp(min=0)'}"
            terms = [f"terms = cam.terms(picture, {arguments})", on, total]
            return [*terms, *_scaled(name, f"{of}_cam", of, limit)]
        if signed or limit is not None:
            return _scaled(name, f"{of}.{'signed_cam' if signed else 'cam'}", of, limit)
        return [f"{name} = {of}.heatmap()  # (H, W) in [0, 1]"]

    def _code(self, explanation: Explanation) -> str:
        own = self._own()
        return code_of(asked_target(explanation), lambda target: _variable(own.index(target)))

    def _own(self) -> list[Target]:
        """Functions of the user's among the targets, in the order of their variables."""
        found: list[Target] = []
        for explanation in (self.explanation, self.second):
            for part in () if explanation is None else parts_of(asked_target(explanation)):
                if write_target(part)["kind"] == "own" and part not in found:
                    found.append(part)
        return found


def _variable(number: int) -> str:
    return "target" if number == 0 else f"target_{number + 1}"


def _scaled(name: str, cam: str, of: str, limit: float | None) -> list[str]:
    divisor = repr(float(limit)) if limit is not None else f"({cam}.abs().max() or 1)"
    return [f"{name} = upsample({cam}[None], {of}.picture)[0] / {divisor}"]


def _comment(words: str) -> str:
    """Any text as part of a comment, on one line and in plain letters."""
    return ascii(words if len(words) <= 120 else f"{words[:118]}…")
