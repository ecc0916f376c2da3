"""Selection: what the user picks out of the map on show, and what the map is without what was left out."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import numpy as np
import traitlets
from numpy.typing import NDArray

from gradcam_widget.ablation import Ablation
from gradcam_widget.comparison import terms_of
from gradcam_widget.engine import GradCAM
from gradcam_widget.layers import Layer
from gradcam_widget.localise import THRESHOLD, enlarge, find_box
from gradcam_widget.perturbation import refuse
from gradcam_widget.widget import wire
from gradcam_widget.widget.canvas import Canvas
from gradcam_widget.widget.picks import PICKS, Ground, checked
from gradcam_widget.widget.scene import Pair, Scene

__all__ = ["Selection", "coverage", "without"]

_TERMS = 131_072  # values that are sent together, when the view asks what the channels add at a cell


class _Checked(traitlets.Any):
    """A trait whose validator below sees every value; of others traitlets lets None pass."""

    allow_none = False


class Selection(traitlets.HasTraits):
    """The part of the explorer that holds what is picked out of a map, both ways between Python and the view.

    Attributes:
        channel: number of the channel whose activation map is kept on the picture; None for the heatmap.
        channels_off: numbers of the channels that are left out of the map on show, sorted. The map is then the sum
            of the other channels' terms (`GradCAM.terms`), with the weights that were found for all of them.
        probe: (row, column) of the cell of the map that is kept under the probe; None for none.
        threshold: share of the map's maximum, 0 to 1, at which `box` cuts it.
        show_box: whether the box is drawn on the picture.
        zoom: how much a map at the picture's pixels is enlarged, 1 for the whole picture.
        box: (left, top, right, bottom) in pixels of the picture, right and bottom being the first ones outside:
            round the largest connected segment of the heatmap that reaches the threshold
            (`gradcam_widget.localise.find_box`), of the map as it is drawn. None without positive evidence.
    """

    channel = traitlets.Any(None, allow_none=True)
    channels_off = _Checked(())
    probe = traitlets.Any(None, allow_none=True)
    threshold = _Checked(THRESHOLD)
    show_box = _Checked(False)
    zoom = _Checked(1.0)
    box = traitlets.Any(None, allow_none=True, read_only=True)

    # The explorer's own, of which this is a part.
    engine: GradCAM
    _canvas: Canvas
    _drawn: Any
    _lock: threading.RLock
    _terms: tuple[object, NDArray[Any]] | None = None  # of the explanation that was asked about last
    _wanted: tuple[object, Mapping[str, Any]] = (None, {})  # picks that come with the answer to a question
    _map_shown = False  # whether the map in the view answers what is asked

    def _begin_selection(self) -> None:
        """Link the traits with the view."""
        for name in set(PICKS) - {"channels_off"}:
            self._canvas.observe(self._on_canvas_pick, names=name)
        self.observe(self._on_own_probe, names="probe")
        self._canvas.on_pick(self._on_canvas_message)
        self.observe(self._on_own_channels_off, names="channels_off")
        self.observe(self._on_own_look, names=["channel", "threshold", "show_box", "zoom"])

    def _pick(self, picks: Mapping[str, Any]) -> None:
        """Set what has been picked, and has not come with an answer. What needs a map waits for one."""
        with self._lock, self._canvas.hold_sync():
            if self._drawn is not None and self._drawn.view == self._asked():
                self._wanted = None, {}
            for name, value in picks.items():
                if name not in self._wanted[1]:
                    setattr(self, name, value)

    def ablate(self) -> Ablation:
        """What the model itself says without the channels that are off; the view shows it, too.

        Only what follows the layer runs again. The score is that of the class, also where the map shows what
        speaks against it.

        Raises:
            RuntimeError: while no map is on show.
        """
        self._check_open()
        with self._lock:
            if not self._renew() or self._drawn is None:
                raise RuntimeError("There is no map, so that no channel can be left out of it")
            view, layer = self._drawn.view, self._drawn.explanation.layer
            found = self.engine.ablate(self._input(view.image_index), self.channels_off, view.target, layer)
            values = (found.score, found.full_score, found.probability, found.full_probability)
            if not all(value is None or np.isfinite(value) for value in values):
                raise ValueError("channels_off: without these channels the model's score is NaN or infinite")
            names = ("score", "full_score", "probability", "full_probability")
            self._canvas.show_ablation(dict(zip(names, values, strict=True)))
            return found

    # What the explorer gives.

    def _on_controls_reject(self, error: Exception) -> None:
        raise NotImplementedError

    def _check_open(self) -> None:
        raise NotImplementedError

    def _input(self, image_index: int) -> object:
        raise NotImplementedError

    def _asked(self) -> object:
        raise NotImplementedError

    def _renew(self, *, wait: bool = True) -> bool:
        raise NotImplementedError

    def _as_mirror(self) -> AbstractContextManager[None]:
        raise NotImplementedError

    @traitlets.validate(*PICKS)
    def _validate_pick(self, proposal: Any) -> Any:
        self._check_open()
        return checked(proposal["trait"].name, proposal["value"], self._ground())

    def _ground(self) -> Ground | None:
        """What there is to pick from on show."""
        if self._drawn is None:
            return None
        whole = self._drawn.whole
        rows, columns = whole.cam.shape
        return Ground(
            len(whole.alpha), (rows, columns), self._drawn.view.method, whole.method["terms"] is not None
        )

    # -- channels that are off ---------------------------------------------------------------------------------

    def _on_own_channels_off(self, _: object) -> None:
        with self._lock:
            drawn = self._drawn
            if drawn is None or tuple(drawn.off) == self.channels_off:
                return
            known = self._knows_terms(drawn)
            if not self._renew(wait=not known) and not known:
                return  # there is no answer any more, so that it tells nothing
            drawn = self._drawn
            if tuple(drawn.off) == self.channels_off:
                return
            scene = self._without(drawn, self.channels_off)
            message = scene.message(self._canvas.revision + 1)
            self._canvas.switch(message)
            self._drawn = replace(drawn, scene=message, off=self.channels_off)
            self._measure_box()

    def _off_at(self, layer: Layer, scene: Scene) -> tuple[int, ...]:
        """The channels that stay off in an answer: all of them at the same layer, none at another."""
        before = self._drawn
        view, picks = self._wanted
        if view == self._asked() and "channels_off" in picks:
            chosen: tuple[int, ...] = picks["channels_off"]
            return chosen
        same = before is not None and before.explanation.layer.name == layer.name
        if not same or scene.method["terms"] is None or max(self.channels_off, default=0) >= len(scene.alpha):
            return ()
        off: tuple[int, ...] = self.channels_off
        return off

    def _without(self, drawn: Any, off: Sequence[int]) -> Scene:
        """The scene of an answer without some of its channels."""
        if not off:
            whole: Scene = drawn.whole
            return whole
        scene = without(drawn.whole, self._terms_of(drawn), off)
        if drawn.comparison is None or not isinstance(scene.pair, Pair):
            return scene
        on = np.ones(len(scene.alpha), bool)
        on[list(off)] = False
        image = self._input(drawn.view.image_index)
        maps = [terms.numpy()[on].sum(0) for terms in terms_of(self.engine, image, drawn.comparison)]
        cam = maps[0] if scene.evidence == "signed" else np.maximum(maps[0], 0)
        return replace(scene, pair=replace(scene.pair, cam=cam, contrast=maps[1]))

    def _terms_of(self, drawn: Any) -> NDArray[Any]:
        """(K, h, w) what each channel adds to the signed map of an answer."""
        if self._terms is None or self._terms[0] is not drawn.explanation:
            view = drawn.view
            terms = self.engine.terms(
                self._input(view.image_index), drawn.asked, drawn.explanation.layer, view.method, progress=refuse
            )
            self._terms = drawn.explanation, terms.numpy()
        return self._terms[1]

    def _knows_terms(self, drawn: Any) -> bool:
        """Whether the engine need not be asked for what the channels of an answer add."""
        return drawn.comparison is None and self._terms is not None and self._terms[0] is drawn.explanation

    def _pick_anew(self, drawn: Any) -> None:
        """Let the traits follow an answer that has just been drawn: what belongs to another layer is gone."""
        with self._as_mirror():
            self.channels_off = drawn.off
            rows, columns = drawn.whole.cam.shape
            if self.probe is not None and not (self.probe[0] < rows and self.probe[1] < columns):
                self.probe = None
        wanted, self._wanted = self._wanted, (None, {})
        for name, value in wanted[1].items() if wanted[0] == drawn.view else ():
            if name != "channels_off":
                setattr(self, name, value)

    # -- the probe ---------------------------------------------------------------------------------------------

    def _on_own_probe(self, change: Any) -> None:
        self._canvas.probe = None if change["new"] is None else list(change["new"])

    def _give_terms(self, cell: int) -> None:
        """Give the view what the channels add at a cell: with all other cells, with its row, or alone."""
        terms = self._terms_of(self._drawn)
        count, rows, columns = terms.shape
        flat = terms.reshape(count, -1)
        first, many = 0, rows * columns
        if many * count > _TERMS:
            first, many = cell - cell % columns, columns
        if many * count > _TERMS:
            first, many = cell, 1
        wanted = flat[:, first : first + many].T
        if 0 <= cell < flat.shape[1] and np.isfinite(wanted).all():
            self._canvas.show_terms(wanted, first)

    # -- the box -----------------------------------------------------------------------------------------------

    def _on_own_look(self, change: Any) -> None:
        setattr(self._canvas, change["name"], change["new"])
        if change["name"] == "threshold":
            with self._lock:
                self._measure_box()

    def _measure_box(self, shown: bool | None = None) -> None:
        """Let ``box`` follow the map in the view, and be None where that answers nothing (``shown`` is False)."""
        self._map_shown = self._map_shown if shown is None else shown
        scene, picture = self._canvas.scene, self._canvas.picture
        box = None
        if self._map_shown and scene and picture:
            # What the view draws, which for large maps is rounded.
            cam = np.maximum(wire.decode(scene["cam"]), 0)
            box = find_box(enlarge(cam, (picture["height"], picture["width"])), self.threshold)
        self.set_trait("box", box)

    # -- what comes from the view ------------------------------------------------------------------------------

    def _on_canvas_message(self, message: Mapping[str, Any]) -> None:
        """Channels to leave out, or a question. What is about an earlier scene is not heard."""
        try:
            with self._lock:
                known = self._drawn is not None and self._knows_terms(self._drawn)
                holds = self._renew(wait=not known) or known
                if message["type"] == "ablate":
                    self.ablate()
                elif not holds or self._drawn is None or message.get("base") != self._canvas.base:
                    return
                elif message["type"] == "terms":
                    self._give_terms(int(message["cell"]))
                else:
                    self.channels_off = wire.unmask(str(message.get("mask")), len(self._drawn.explanation.alpha))
        except Exception as error:
            self._on_controls_reject(error)

    def _on_canvas_pick(self, change: Any) -> None:
        """A trait that the view has set; one that is not valid there is put back."""
        name = change["name"]
        try:
            setattr(self, name, change["new"])
        except Exception as error:
            setattr(self._canvas, name, getattr(self, name))
            self._on_controls_reject(error)


def without(scene: Scene, terms: NDArray[Any], off: Sequence[int]) -> Scene:
    """A scene whose map and coverage leave some channels out.

    Args:
        scene: with all channels.
        terms: (K, h, w) what each channel adds to the signed map.
        off: the channels to leave out.
    """
    on = np.ones(len(terms), bool)
    on[list(off)] = False
    # The sum of those that are on, not the whole less the others: with all off it must be 0 to the last bit.
    signed = terms[on].sum(0, dtype=np.float64)
    cam = signed if scene.evidence == "signed" else np.maximum(signed, 0)
    what = {"positive": "positive evidence", "counterfactual": "evidence against the class"}
    nothing = f"The channels that are on add up to no {what.get(scene.evidence, 'evidence')} anywhere."
    return replace(
        scene,
        cam=cam,
        coverage=coverage(scene.contribution[on]),
        diagnosis=None if cam.any() else nothing,
        cures=(),
        off=tuple(off),
    )


def coverage(contribution: NDArray[Any], share: float = 0.5) -> dict[str, Any] | None:
    """How few channels carry the positive evidence: {"channels", "of", "share"}, or None where there is none.

    Each channel k adds alpha_k A^k to the signed map; summed over its cells that is Z times its contribution.
    ``channels`` is the smallest number of channels whose positive contributions together make at least
    ``share`` of the sum of all positive contributions. Negative contributions are left out of both.

    Args:
        contribution: (K,) alpha_k times the mean activation.
        share: in (0, 1].
    """
    positive = np.sort(contribution[contribution > 0].astype(np.float64))[::-1]
    if not positive.size:
        return None
    reached = np.cumsum(positive)
    # Rounding of the running sum must not ask for one more channel.
    channels = int(np.searchsorted(reached, share * reached[-1] * (1 - 1e-12))) + 1
    return {"channels": channels, "of": int(contribution.size), "share": share}
