"""Layer maps: the explorer's part that shows the map at every layer, in the list of layers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from numpy.typing import NDArray

from gradcam_widget.engine import GradCAM
from gradcam_widget.layers import Layer
from gradcam_widget.methods import METHODS, Method
from gradcam_widget.widget.answers import Answer, map_of
from gradcam_widget.widget.canvas import Canvas
from gradcam_widget.widget.state import State, View
from gradcam_widget.widget.strip import Thumbnail

__all__ = ["LayerMaps"]

_log = logging.getLogger("gradcam_widget")


class LayerMaps:
    """The part of the explorer that computes the maps at all layers, once the one that was asked for is drawn.

    Where the user has moved on meanwhile it gives up: the next answer has maps of its own.
    """

    # The explorer's own, of which this is a part.
    engine: GradCAM
    _canvas: Canvas
    _controls: Any
    _drawn: Answer | None
    _failure: Any
    _outdated: Callable[[], bool]
    _state: State
    _unpaid: Any
    _strip_of: tuple[int, tuple[str, ...]] | None = None  # question and layers of the strip on show
    # picture and targets whose gradients are all known
    _reached: tuple[tuple[int, int], object] | None = None

    # What the explorer gives.

    def _explain(self, image: object, view: View) -> Any:
        raise NotImplementedError

    def _input(self, image_index: int) -> object:
        raise NotImplementedError

    def _layers_of(self, image_index: int) -> tuple[Layer, ...]:
        raise NotImplementedError

    def _reach_all_layers(self) -> None:
        """Go back through the rest of the network for the class on show, so that no other layer needs a pass.

        The answer for one layer stops there, and is already on its way to the browser. This goes on from it:
        both together are one backward pass.
        """
        drawn = self._drawn
        if drawn is None or self._failure or self._unpaid or not METHODS[drawn.view.method].needs_gradient:
            return
        question = drawn.view.picture, (drawn.view.target, drawn.view.compare_target)
        if question == self._reached:
            return
        self._reached = question
        try:
            image = self._input(drawn.view.image_index)
            first = self._layers_of(drawn.view.image_index)[0]
            self.engine.explain_layers(image, drawn.view.target, [first], drawn.view.method)
            if drawn.comparison is not None:
                for compared in (drawn.comparison.second, drawn.comparison.contrast):
                    self.engine.explain_layers(image, compared.target, [first])
        except Exception:
            # Nothing that was asked for has failed; the layer itself will tell when it is asked for.
            _log.debug("The gradients of all layers are not to be had at once", exc_info=True)

    def _fill_strip(self) -> None:
        """Show the maps of all layers in the list, where they are not on show. The scene is drawn already."""
        drawn = self._drawn
        if drawn is None or self._failure or self._unpaid:
            return
        listed = self._controls.listed
        question = drawn.whole.question, listed
        if question == self._strip_of:
            return
        layers = {layer.name: layer for layer in self._layers_of(drawn.view.image_index)}
        thumbnails = []
        for name in listed:
            if self._state.snapshot() != drawn.view or self._outdated():
                return  # the user has moved on; the next answer fills the strip
            layer = layers[name]
            thumbnails.append(Thumbnail(name, layer.label, layer.shape, self._map_at(layer, drawn)))
        self._canvas.show_strip(thumbnails, drawn.view.evidence, drawn.whole.question)
        self._strip_of = question

    def _map_at(self, layer: Layer, drawn: Answer) -> NDArray[Any] | None:
        """The map of the question on show at another layer; None where there is none, or only for more passes."""
        if not _is_quick(METHODS[drawn.view.method]) or len(layer.shape) != 3:
            return None
        view = replace(drawn.view, layer=layer.name)
        if "guided" in METHODS[view.method].needs:
            view = replace(view, method="GradCAM")  # the same map of the layer, without a pass to the pixels
        try:
            explanation, _ = self._explain(self._input(drawn.view.image_index), view)
        except Exception:
            # Nothing that was asked for has failed; the layer itself will tell when it is asked for.
            _log.debug("There is no map at %s", layer.name, exc_info=True)
            return None
        if explanation is None or not torch.isfinite(explanation.signed_cam).all():
            return None
        return map_of(explanation, drawn.view.evidence)


def _is_quick(method: Method) -> bool:
    """Whether the maps of all layers cost little more than that of one."""
    # One more backward pass for each layer, or a singular value decomposition of its activations, are not little.
    return not (method.many_passes or "curvature" in method.needs or method.name.startswith("Eigen"))
