"""The explorer: builds controls and view around an engine, and keeps what is shown equal to what is asked."""

from __future__ import annotations

import functools
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from numbers import Integral
from pathlib import Path
from typing import Any

import ipywidgets  # type: ignore[import-untyped]  # it has no types
import numpy as np
import torch
import traitlets
from numpy.typing import NDArray
from torch import nn

from gradcam_widget import render
from gradcam_widget.channel_names import ChannelNames
from gradcam_widget.comparison import Comparison
from gradcam_widget.engine import GradCAM, Passes
from gradcam_widget.explanation import Explanation
from gradcam_widget.layers import Layer
from gradcam_widget.localise import THRESHOLD
from gradcam_widget.methods import METHODS
from gradcam_widget.widget.ahead import Ahead
from gradcam_widget.widget.answers import Answer, Answers, Unpaid, as_array
from gradcam_widget.widget.canvas import Canvas
from gradcam_widget.widget.changes import Changes
from gradcam_widget.widget.choices import Choices
from gradcam_widget.widget.class_channels import ClassChannels, strongest
from gradcam_widget.widget.controls import Controls
from gradcam_widget.widget.export import Exports
from gradcam_widget.widget.handout import HandOut
from gradcam_widget.widget.labels import true_classes
from gradcam_widget.widget.layer_maps import LayerMaps
from gradcam_widget.widget.many_passes import ManyPasses
from gradcam_widget.widget.naming import Naming, checked_names, panels_with_words
from gradcam_widget.widget.notice import Notice
from gradcam_widget.widget.panels import (
    DEFAULT_PANELS,
    PANELS,
    Builder,
    Panels,
    PanelShelf,
    checked_panels,
)
from gradcam_widget.widget.parts import close_all
from gradcam_widget.widget.picks import OF_LAYER, PICKS, Ground, checked
from gradcam_widget.widget.pictures import named_pictures, read_upload, unique
from gradcam_widget.widget.pixels import encode_pixels
from gradcam_widget.widget.scene import encode_picture
from gradcam_widget.widget.selection import Selection, coverage
from gradcam_widget.widget.state import NAMES, Offer, SettingError, State, View
from gradcam_widget.widget.words import (
    classes_of,
    in_words,
    name_of,
    predictions_of,
    terms_of,
)

__all__ = ["GradCAMWidget", "coverage"]

_log = logging.getLogger("gradcam_widget")

_ACTIVATIONS = 262_144  # values of a layer that are sent together; of a larger one, channel by channel
_TURN_SECONDS = 0.0003  # another thread's turn with the interpreter

_Setting = traitlets.TraitType[Any, Any]  # as traitlets.Any, but None is validated as any other value


class GradCAMWidget(
    Changes,
    Answers,
    ManyPasses,
    LayerMaps,
    Selection,
    Naming,
    HandOut,
    Exports,
    Ahead,
    ipywidgets.VBox,  # type: ignore[misc]  # without types
):
    """A microscope for a network: choose a picture, a layer and a class; see where and through which channels.

    Args:
        model: the network, or a `gradcam_widget.GradCAM` that is ready. It is left as it is.
        images: one picture, a list of pictures, or a dict name -> picture. A picture is a PIL image, a uint8
            array (H, W, 3), a path, or a float tensor (C, H, W) that goes to the model as it is.
        class_names: one name per class; by default ``model.class_names``, where it has some.
        transform: PIL image -> tensor (C, H, W); by default the model's own, else ImageNet's.
        layer: name of a layer, a module or a `Layer`; None for the last feature map with more than one cell.
        target: None for the predicted class, an int, a class name, or a function output -> scalar.
        method: name of a method. One that needs many passes tells their number and waits for `compute`.
        evidence: "positive" for what speaks for the target, "signed" for what speaks for and against it,
            "counterfactual" for what speaks against it (Grad-CAM of the negative target).
        device: where to compute, such as "cuda"; by default where the model is.
        colormap: name of a colour table; signed evidence takes a diverging one, "RdBu_r" unless another is named.
        opacity: of the heatmap, 0 to 1.
        panels: what is on show: names out of `gradcam_widget.widget.panels.PANELS`, and functions of your own,
            widget -> ipywidgets.Widget, whose widgets stand below the view.
        scale: which value has the strongest colour: "picture" for the largest one of the pictures on show (those
            of a comparison share it), "shared" for the largest of these and of the strip of layers, or a number.
        compare_target: a second class beside the first, given like ``target``; None for none.
        labels: the true class of the pictures, an int or a name: one for all, a list with one for each, or a dict
            picture name -> class; None where it is not known. The predictions mark it.
        channel, channels_off, probe, threshold, show_box, zoom: as the attributes of these names.
        names: what the channels of some layers look for: a `ChannelNames` of `gradcam_widget.name_channels`, or a
            list or dict of them. A bar then shows the patches that excite its channel and its name, and the panel
            "words" says which channels speak for the class and against it.

    Attributes:
        image_index, layer, target, method, evidence, colormap, opacity, scale, compare_target: what is asked.
            Setting one redraws; each can be observed. A wrong value raises `traitlets.TraitError` and changes
            nothing. ``layer`` and ``target`` stay None where the choice is left to the engine; ``explanation``
            tells what it chose.
        channel: number of the channel whose activation map is kept on the picture; None for the heatmap. It is
            None again when another layer is shown.
        channels_off: numbers of the channels that are left out of the map, sorted; () for the whole map. It is ()
            again when another layer is shown. ``ablate()`` asks the model itself.
        probe: (row, column) of the cell of the map that is kept under the probe, or None; the bars are then in the
            order of what the channels add there. It is None again when another layer is shown.
        threshold, show_box, box: where the evidence lies; see `gradcam_widget.widget.selection.Selection`.
        zoom: how much a map at the picture's pixels (GuidedGradCAM, GuidedBackprop) is enlarged, 1 to 32.
        class_table: whether the table "Classes and channels" is open; ``class_channels()`` gives its numbers.
        names: {layer: `ChannelNames`}; can be set. Those of another model, or of other weights, are refused.
        panels: what is on show; can be set. A panel of your own is built once, and closed with the explorer.
        explanation: the `Explanation` on show; None where there is none. Read-only.
        comparison: the `Comparison` on show: ``first``, ``second`` and ``contrast``, an `Explanation` each; None
            where nothing is compared. Read-only.
        status: one line: device, passes of the model, time. Read-only.
        engine: the `GradCAM` that computes.

    Raises:
        TypeError: if the model is no module, or a picture of an unknown kind.
        ValueError: for no picture at all, or an argument with a wrong value.
        FileNotFoundError: for a path without a file.

    A model that fails does not make the constructor fail: the widget shows the error in words, the traceback
    goes to the log "gradcam_widget", and the next valid selection works.
    """

    image_index = _Setting(0)
    layer = traitlets.Any(None, allow_none=True)
    target = traitlets.Any(None, allow_none=True)
    method = _Setting("GradCAM")
    evidence = _Setting("positive")
    colormap = _Setting("viridis")
    opacity = _Setting(0.5)
    children: tuple[ipywidgets.Widget, ...]
    panels = Panels()
    scale = _Setting("picture")
    class_table = _Setting(False)
    compare_target = traitlets.Any(None, allow_none=True)
    comparison = traitlets.Instance(Comparison, allow_none=True, read_only=True)
    explanation = traitlets.Instance(Explanation, allow_none=True, read_only=True)
    status = traitlets.Unicode("", read_only=True)

    _closed = True  # until the constructor has come to its end

    def __init__(
        self,
        model: nn.Module | GradCAM,
        images: object,
        *,
        class_names: Sequence[str] | None = None,
        transform: Any = None,
        layer: str | nn.Module | Layer | None = None,
        target: Any = None,
        method: str = "GradCAM",
        evidence: str = "positive",
        device: str | torch.device | None = None,
        colormap: str = "viridis",
        opacity: float = 0.5,
        panels: Sequence[str | Builder] = DEFAULT_PANELS,
        scale: str | float = "picture",
        compare_target: Any = None,
        labels: Any = None,
        channel: int | None = None,
        channels_off: Sequence[int] = (),
        probe: Sequence[int] | None = None,
        threshold: float = THRESHOLD,
        show_box: bool = False,
        zoom: float = 1.0,
        names: ChannelNames | Sequence[ChannelNames] | Mapping[str, ChannelNames] | None = None,
    ) -> None:
        panels = panels_with_words(checked_panels(panels), names)
        _enable_colab()
        called, given = named_pictures(images)
        self._owns_engine = not isinstance(model, GradCAM)
        self.engine = _engine(model, class_names=class_names, transform=transform, device=device)
        names = checked_names(names, self.engine)
        truths = true_classes(labels, called, self.engine.class_names)
        self._lock = threading.RLock()
        self._mirroring = threading.local()
        self._answered: View | None = None  # the last question, whether it could be answered or not
        self._failure: Notice | None = None  # where it could not
        self._unpaid: Unpaid | None = None  # where that needs many passes, which have not been asked for
        self._drawn: Answer | None = None
        self._outdated: Callable[[], bool] = _never  # whether a newer picture is on its way
        self._begin_answers(given, truths)
        self._begin_passes()

        tables = _tables()
        self._state = self._new_state(called, tables)
        self._begin_with(
            layer=layer,
            target=target,
            method=method,
            evidence=evidence,
            colormap=colormap,
            opacity=opacity,
            scale=scale,
            compare_target=compare_target,
        )
        self._shelf = PanelShelf()
        self._canvas = Canvas(
            tables, colormap=self._state.colormap, opacity=self._state.opacity, panels=_sections(panels)
        )
        self._controls = Controls(self._state, upload=self._on_controls_upload, reject=self._on_controls_reject)
        followed = ("opacity", "colormap", "layer", "previous", "next", "target")
        self._canvas.controls = {name: getattr(self._controls, name) for name in followed}
        super().__init__([self._controls.box, self._canvas])
        self._closed = False
        self.add_class("gradcam-widget")
        self._link(names)
        self._state.on_update(self._follow_state)
        self.refresh()
        self.panels = panels
        self._show_panels()
        picks = {"channel": channel, "channels_off": channels_off, "probe": probe}
        if self._failure is not None:
            picks = {}  # there is nothing to pick from, as the widget says
        self.set(**picks, threshold=threshold, show_box=show_box, zoom=zoom)

    def _new_state(self, pictures: tuple[str, ...], tables: Mapping[str, tuple[str, Any]]) -> State:
        """The state that offers these pictures, what the engine has, and these colour tables, by their kinds."""
        sequential, diverging = (
            tuple(name for name, (kind, _) in tables.items() if kind == wanted)
            for wanted in ("sequential", "diverging")
        )
        return State(
            Offer(
                pictures=pictures,
                methods=tuple(METHODS),
                colormaps=sequential,
                diverging=diverging,
                layers=self._layer_names,
                check_target=self._check_target,
            )
        )

    def _begin_with(self, **settings: Any) -> None:
        """Let the state hold the first settings."""
        wanted = self._plain(**settings)
        if wanted["evidence"] == "signed" and wanted["colormap"] in self._state.offer.colormaps:
            self._state.update(colormap=wanted.pop("colormap"))  # for when the evidence has one side again
        self._state.update(**wanted)

    def _link(self, names: Mapping[str, ChannelNames]) -> None:
        """Link traits, state, controls and view."""
        self._canvas.on_target(self._on_canvas_target)
        self._canvas.on_task(self._on_canvas_task)
        self._canvas.on_layer(self._on_canvas_layer)
        self._canvas.on_go(self._on_canvas_go)
        self._canvas.on_truth(self._on_canvas_truth)
        self._canvas.on_cure(self._on_canvas_cure)
        self._canvas.on_activations(self._on_canvas_activations)
        self._canvas.observe(self._on_canvas_scale, names="scale")
        self._canvas.observe(self._on_canvas_class_table, names="class_table")
        self.observe(self._on_own_class_table, names="class_table")
        self.observe(self._on_own_panels, names="panels")
        self._begin_selection()
        self._begin_exports()
        self._begin_naming(names)
        self._begin_ahead()
        self._begin_changes()
        self._controls.filter.observe(self._on_controls_filter, names="value")
        self.observe(self._on_own_trait, names=list(NAMES))

    def set(self, **changes: Any) -> None:
        """Set several of the traits at once, with one computation and one redraw.

        All are checked before any is set: after a TraitError everything is as it was. What belongs to a layer
        (``channel``, ``channels_off``, ``probe``) is checked against the layer that is set with it.
        """
        self._check_open()
        known = (*NAMES, *PICKS, "class_table")
        unknown = sorted(set(changes) - set(known))
        if unknown:
            raise SettingError(f"{unknown[0]}: there is no such setting; the settings are {', '.join(known)}")
        settings = self._state.check(**self._plain(**{n: v for n, v in changes.items() if n in NAMES}))
        picks = {name: changes[name] for name in PICKS if name in changes}
        ground = self._ground_of(settings) if set(OF_LAYER) & set(picks) else None
        picks = {name: checked(name, value, ground) for name, value in picks.items()}
        if "class_table" in changes:
            _checked_class_table(changes["class_table"])
        self._wanted = self._state.question(**settings), {name: picks[name] for name in OF_LAYER if name in picks}
        self._state.update(**settings)
        self._pick(picks)
        if "class_table" in changes:
            self.class_table = changes["class_table"]

    def _asked(self) -> View:
        return self._state.snapshot()

    def _ground_of(self, settings: Mapping[str, Any]) -> Ground | None:
        """What there would be to pick from with other settings; None where the model fails."""
        view = self._state.question(**settings)
        if self._drawn is not None and self._drawn.view == view:
            return self._ground()
        try:
            with self._lock, self._counted():
                layers = {layer.name: layer for layer in self._layers_of(view.image_index)}
                default = self.engine.default_layer(self._input(view.image_index)) if view.layer is None else None
        except Exception:
            _log.debug("The layer is not known", exc_info=True)
            return None
        channels, rows, columns = (default or layers[str(view.layer)]).shape
        return Ground(channels, (rows, columns), view.method, terms_of(view.method) is not None)

    def compare(self, a: Any, b: Any = None) -> Comparison | None:
        """The comparison of two classes, which is then on show; each is given as ``target`` is.

        Args:
            a: compared with the target on show, or, where ``b`` is given, with that. None ends the comparison.
            b: the other one. ``compare(a, b)`` sets ``target`` to ``a`` and ``compare_target`` to ``b``.

        Returns:
            `comparison`: None where there is none, which the widget tells in words.
        """
        if b is None:
            self.set(compare_target=a)
        else:
            self.set(target=a, compare_target=b)
        found: Comparison | None = self.comparison
        return found

    def refresh(self) -> None:
        """Compute and draw what is asked, where that is not what is shown, or the model or the picture has changed
        since; called after each epoch of a training, it shows what the network has learnt so far.

        Choices that come in while an answer is computed are answered together, by the last of them.
        """
        self._follow_state(wait=True)

    def _follow_state(self, *, wait: bool = False) -> None:
        """The same. ``wait``: also for a pass that runs at the moment, to know whether the model has changed."""
        with self._lock, self._follows():
            self._forget_changed(wait=wait)
            while not self._closed:
                view = self._state.snapshot()
                if view == self._answered:
                    break
                self._drop_other_job(view)
                failure, unpaid = None, None
                try:
                    drawn = self._drawn
                    if drawn is None or view != drawn.view or drawn.watch.changed(wait=False):
                        drawn = self._answer(view)
                except Unpaid as cost:
                    unpaid = cost
                except Exception as error:
                    _log.exception("No explanation for %s", view)
                    failure = in_words(error, self.engine.device, stale=self._drawn is not None)
                    failure = replace(failure, cures=getattr(error, "cures", ()))
                if view != self._state.snapshot():
                    continue  # the user has moved on
                if failure is None and unpaid is None and drawn is not None:
                    self._draw(drawn)
                self._answered, self._failure, self._unpaid = view, failure, unpaid
            if self._closed:
                return
            self._follow()
            if not self._outdated():
                self._reach_all_layers()
                self._fill_strip()
                self._fill_classes()
                self._fill_names()
                self._look_ahead()

    @contextmanager
    def _follows(self) -> Iterator[None]:
        """What is set inside follows an answer, so that nobody need ask whether that still holds."""
        before, self._following = self._following, True
        try:
            yield
        finally:
            self._following = before

    def class_channels(self, classes: int = 5, channels: int = 12) -> ClassChannels:
        """The channel weights of the likeliest classes at the layer on show, where they are strongest.

        The numbers of the table "Classes and channels", whether it is open or not.

        Args:
            classes: how many; the class on show is added where it is not among them.
            channels: how many: those with the largest weight of any of these classes.

        Raises:
            ValueError: where the model gives no classes, or the method needs many passes for each of them.
            RuntimeError: while no map is on show.
        """
        self._check_open()
        for name, value in {"classes": classes, "channels": channels}.items():
            if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name}: expected a positive int; got {value!r}")
        with self._lock:
            drawn = self._drawn if self._renew() else None
            if drawn is None:
                raise RuntimeError("There is no map, so that there are no classes to compare at its layer")
            row = METHODS[drawn.view.method]
            if row.many_passes:
                raise ValueError(f"{row.name} needs {row.passes}, for each class. Choose GradCAM.")
            image, layer = self._input(drawn.view.image_index), drawn.explanation.layer
            labels = drawn.choices.classes
            if not labels:
                raise ValueError("The model's output is no list of classes.")
            shown = predictions_of(self.engine.predict(image), labels, int(classes))
            wanted = [prediction.index for prediction in shown]
            if drawn.choices.target is not None and drawn.choices.target not in wanted:
                wanted.append(drawn.choices.target)
            method = "GradCAM" if "guided" in row.needs else row.name  # whose weights those are
            found = self.engine.explain_targets(image, wanted, layer, method)
            alphas = np.stack([as_array(explanation.alpha) for explanation in found])
            columns = strongest(alphas, int(channels))
            return ClassChannels(
                layer=layer.name,
                method=drawn.view.method,
                classes=tuple(wanted),
                labels=tuple(labels[index] for index in wanted),
                channels=columns,
                alpha=alphas[:, list(columns)],
            )

    def compute(self) -> None:
        """Run the many passes that the chosen method needs, wait for them, and draw the map.

        What the button of the same name does in the background. Nothing happens where no map waits for passes.
        """
        self._check_open()
        if (job := self._begin_job()) is not None:
            self._run_job(job)

    @property
    def pictures(self) -> dict[str, object]:
        """The pictures on offer by name, as they were given.

        Raises:
            RuntimeError: after `close`, when the widget holds none any more.
        """
        self._check_open()
        return dict(zip(self._state.offer.pictures, self._images, strict=True))

    def put_picture(
        self,
        name: str,
        image: object,
        *,
        like: int | None = None,
        show: bool = True,
        outdated: Callable[[], bool] | None = None,
    ) -> int:
        """Offer a picture under a name, in the place of the one that has it already.

        Args:
            name: of the picture.
            image: as in the class.
            like: index of the picture that this one is a version of: its true class is the same. Else it has none.
            show: choose it, too, with one computation and one redraw.
            outdated: tells whether a newer picture waits already: what comes after the heatmap, which is the maps
                at all other layers, is then left for that one.

        Returns:
            Its index.
        """
        self._check_open()
        (given,), (image,) = named_pictures({name: image}, "image")
        with self._lock:
            offer = self._state.offer
            _check_like(like, len(offer.pictures))
            if given in offer.pictures:
                index = offer.pictures.index(given)
                self._replace_image(index, image)
                editions = {**offer.editions, index: offer.editions.get(index, 0) + 1}
                self._state.offer = replace(offer, editions=editions)
            else:
                index = len(offer.pictures)
                self._images.append(image)
                self._state.offer = replace(offer, pictures=(*offer.pictures, given))
            self._truths[index] = None if like is None else self._truths.get(like)
            self._outdated = outdated or _never
            try:
                if show and index != self.image_index:
                    self._state.update(image_index=index)
                else:
                    self._follow_state()
            finally:
                self._outdated = _never
        return index

    def paint(self, blank: tuple[int, int] | None = None, *, channels: int = 1) -> Any:
        """Open the paint pad under the explorer: edit the picture on show, and see scores and heatmap follow.

        Args:
            blank: (H, W) of a black picture to draw on instead, for models of digits and doodles.
            channels: of the blank picture.

        Returns:
            The `gradcam_widget.widget.paint.PaintPad`.

        Raises:
            TypeError: for anything but two numbers. ValueError: for a size or number of channels that cannot be.
        """
        self._check_open()
        if blank is not None:
            if not isinstance(blank, (tuple, list)) or len(blank) != 2:
                raise TypeError(f"blank: expected (height, width) in pixels, such as (28, 28); got {blank!r}")
            self.put_picture("drawing", self.engine.blank(blank, channels))
        if "paint" not in self.panels:
            self.panels = (*self.panels, "paint")
        return self._shelf.content("paint")

    def check(self, name: str | None = None) -> Any:
        """Open the panel "Is it true?", run a check of the map on show, wait for it, and show what it found.

        Args:
            name: a key of `gradcam_widget.evaluate.checks.CHECKS`; None for the one that is chosen there.

        Returns:
            The result: ``verdict``, ``numbers``, ``figure()``; None where there is none, and the panel says why.
            One that runs already is waited for.
        """
        self._check_open()
        if "checks" not in self.panels:
            self.panels = (*self.panels, "checks")
        panel: Any = self._shelf.content("checks")
        return panel.check_now(name)

    def close(self) -> None:
        """Close the widget with all its parts, and empty the engine where the widget made it."""
        if self._closed:
            return
        self._drop_job(wait=True)
        self._end_ahead()
        self._end_changes()
        with self._lock:
            self._closed = True
            for part in [*self.children, self.layout]:
                close_all(part)
            self._shelf.close()
            if self._owns_engine:
                self.engine.close()
            self._images, self._prepared, self._drawn, self._terms = [], None, None, None
            super().close()

    # -- from the question to the view -------------------------------------------------------------------------

    def _answer(self, view: View) -> Answer:
        """Everything there is to draw for a question; nothing is drawn yet."""
        drawn = self._found(view)
        explanation, layer = drawn.explanation, drawn.explanation.layer
        before = self._drawn
        if before is None or before.view.picture != view.picture or self._picture_changed:
            drawn = replace(drawn, picture=self._encoded(view.image_index))
        if explanation.guided is not None:
            pixels = encode_pixels(as_array(explanation.guided), self._canvas.revision + 1)
            drawn = replace(drawn, pixels=pixels)
        off = self._off_at(layer, drawn.whole)
        message = self._without(drawn, off).message(self._canvas.revision + 1)
        return replace(drawn, scene=message, off=off)

    def _encoded(self, image_index: int) -> dict[str, Any]:
        """A picture as the view takes it: what the model saw."""
        name = self._state.offer.pictures[image_index]
        return encode_picture(self.engine.picture(self._input(image_index)), name)

    def _draw(self, drawn: Answer) -> None:
        """Send an answer to the view, unless it is the one it holds."""
        if drawn is not self._drawn:
            # Signed evidence needs a table of another kind, which must come with it.
            new = self._drawn is None or self._drawn.view.evidence != drawn.view.evidence
            with self._canvas.hold_sync():
                self._canvas.show(drawn.scene, drawn.picture, self._state.colormap if new else None, drawn.pixels)
                # The picture has gone; the widget need not keep a second copy.
                self._drawn = drawn = replace(drawn, picture=None, pixels=None)
                self._aged = None
                self._pick_anew(drawn)
            # The kernel sends from a thread of its own, which would wait until this one has done all the rest.
            time.sleep(_TURN_SECONDS)
            self._spent, self._job_seconds = Passes(), 0.0

    def _follow(self) -> None:
        """Let notice, controls and traits follow what was asked and answered."""
        failed, unpaid, drawn = self._failure, self._unpaid, self._drawn
        if self._job is None:
            self._canvas.say(failed or self._aged, None if unpaid is None else unpaid.task)
        if unpaid is not None:
            choices = unpaid.choices
        else:
            choices = drawn.choices if failed is None and drawn is not None else self._failed_choices()
        self._controls.show(replace(choices, pictures=self._state.offer.pictures))
        colormap, opacity = self._state.colormap, self._state.opacity
        if self._controls.show_look(colormap, opacity):
            self._canvas.look(colormap, opacity, self._state.scale)
        else:
            self._canvas.has_look(colormap, opacity)
        shown = None if failed is not None or unpaid is not None else drawn
        self._measure_box(shown is not None)
        with self._as_mirror():
            self.set_trait("comparison", shown and shown.comparison)
            self.set_trait("explanation", shown and shown.explanation)
            self.set_trait("status", shown.status if shown else f"{self.engine.device} · no explanation")
            for name in NAMES:
                if getattr(self, name) is not (value := getattr(self._state, name)):
                    setattr(self, name, value)

    def _failed_choices(self) -> Choices:
        """What the controls show of a question that has no answer."""
        view = self._state.snapshot()
        before = self._drawn.choices if self._drawn else Choices()
        same_picture = before.picture == view.image_index
        compare = "" if view.compare_target is None else self._called(view.compare_target, before.classes)
        layers = self._layers.get(view.image_index, ())
        if self._drawn is not None and self._drawn.view == replace(
            self._drawn.view,
            image_index=view.image_index,
            edition=view.edition,
            layer=view.layer,
            target=view.target,
        ):
            # Only the method or the evidence is another, so what the engine chose for the rest still holds.
            return replace(before, method=view.method, evidence=view.evidence, compare=compare)
        named = self._class_of(view.target)
        return replace(
            before,
            picture=view.image_index,
            layers=tuple((layer.name, layer.kind, layer.label) for layer in layers),
            layer=view.layer if view.layer in {layer.name for layer in layers} else None,
            predictions=before.predictions if same_picture else (),
            target=named,
            target_label=before.classes[named]
            if named is not None and named < len(before.classes)
            else ("" if view.target is None else name_of(view.target)),
            method=view.method,
            evidence=view.evidence,
            compare=compare,
        )

    def _fill_classes(self) -> None:
        """Show the table of classes and channels, where it is open and not on show. The scene is drawn already."""
        revision = self._canvas.base
        waits = self._drawn is None or self._failure or self._unpaid or not self.class_table
        if waits or self._canvas.classes.get("revision") == revision:
            return
        try:
            self._canvas.classes = self.class_channels().message(revision)
        except Exception as error:
            # Nothing that was asked for has failed; the table says why it is empty.
            _log.debug("There is no table of classes", exc_info=True)
            self._canvas.classes = {"revision": revision, "note": str(error)}

    # -- what the state may hold -------------------------------------------------------------------------------

    def _layer_names(self, image_index: int) -> tuple[str, ...]:
        """The names that ``layer`` may have; none where the model fails, which the answer will tell."""
        try:
            # Without the lock where they are known: a choice must not wait for an answer that it outdates.
            return tuple(layer.name for layer in self._layers.get(image_index) or self._layers_of(image_index))
        except Exception:
            _log.debug("The layers are not known", exc_info=True)
            return ()

    def _check_target(self, target: object, image_index: int) -> None:
        self.engine.resolve_target(target)
        if isinstance(target, int) and (count := self._class_count(image_index)) and not 0 <= target < count:
            raise ValueError(
                f"target: expected a class from 0 to {count - 1}, one per output of the model; got {target}"
            )

    def _class_count(self, image_index: int) -> int | None:
        """How many classes can be named by a number; None where that cannot be known."""
        if self._drawn is not None:
            return len(self._drawn.choices.classes) or None
        try:
            with self._lock, self._counted():
                return (
                    len(classes_of(self.engine.predict(self._input(image_index)), self.engine.class_names)) or None
                )
        except Exception:
            _log.debug("The number of classes is not known", exc_info=True)
            return None

    def _plain(self, **changes: Any) -> dict[str, Any]:
        """The changes in the words of the state: a layer by its name."""
        layer = changes.get("layer")
        if isinstance(layer, Layer):
            changes["layer"] = layer.name
        elif isinstance(layer, nn.Module):
            names = [name for name, module in self.engine.model.named_modules() if module is layer]
            if not names:
                raise SettingError(
                    f"layer: this {type(layer).__name__} is not a module of the model; give one of "
                    "model.named_modules(), or its name"
                )
            changes["layer"] = names[0]
        return changes

    # -- what comes in -----------------------------------------------------------------------------------------

    @traitlets.validate(*NAMES)
    def _validate_own(self, proposal: Any) -> Any:
        name, value = proposal["trait"].name, proposal["value"]
        if getattr(self._mirroring, "now", False):
            return value
        self._check_open()
        return self._state.check(**self._plain(**{name: value}))[name]

    def _on_own_trait(self, change: Any) -> None:
        if not getattr(self._mirroring, "now", False):
            self._state.update(**{change["name"]: change["new"]})

    def _on_canvas_target(self, index: int) -> None:
        try:
            self._state.update(target=index)
        except Exception as error:
            self._on_controls_reject(error)

    @traitlets.validate("panels")
    def _validate_panels(self, proposal: Any) -> Any:
        self._check_open()
        return proposal["value"]

    def _on_own_panels(self, _: object) -> None:
        with self._lock:
            if not self._closed:
                self._show_panels()

    def _show_panels(self) -> None:
        """Show the panels that are asked for: sections of the view, and below it those that are built."""
        self._canvas.panels = _sections(self.panels)
        self._fill_names()
        shown = (self._controls.box, self._canvas, *self._shelf.boxes(self.panels, self))
        if shown != self.children:
            self.children = shown

    @traitlets.validate("class_table")
    def _validate_class_table(self, proposal: Any) -> bool:
        self._check_open()
        return _checked_class_table(proposal["value"])

    def _on_own_class_table(self, change: Any) -> None:
        self._canvas.class_table = change["new"]
        with self._lock:
            if not self._closed:
                self._renew()
                self._fill_classes()

    def _on_canvas_class_table(self, change: Any) -> None:
        self.class_table = change["new"]

    def _on_canvas_scale(self, change: Any) -> None:
        if change["new"] == self._state.scale:
            return
        try:
            self._state.update(scale=change["new"])
        except Exception as error:
            self._canvas.scale = self._state.scale
            self._on_controls_reject(error)

    def _on_canvas_activations(self, revision: int, channel: int) -> None:
        with self._lock:
            if self._drawn is None or revision != self._canvas.base:
                return  # of a scene that is no longer on show
            maps = self._drawn.explanation.activations
            whole = maps.numel() <= _ACTIVATIONS
            first = 0 if whole else max(0, min(channel, len(maps) - 1))
            wanted = maps if whole else maps[first : first + 1]
            if torch.isfinite(wanted).all():
                self._canvas.show_activations(as_array(wanted), first)

    def _on_canvas_layer(self, name: str) -> None:
        try:
            self._state.update(layer=name)
        except Exception as error:
            self._on_controls_reject(error)

    def _on_canvas_go(self, wish: Mapping[str, Any]) -> None:
        try:
            self._state.update(**wish)
        except Exception as error:
            self._on_controls_reject(error)

    def _on_canvas_cure(self, name: str) -> None:
        """Do what was offered; what is no longer on offer is not heard."""
        with self._lock:
            said, drawn = self._failure or self._aged, self._drawn
            offered = said.cures if said is not None else drawn.whole.cures if drawn is not None else ()
        for cure in offered:
            if cure.id == name:
                try:
                    if cure.changes:
                        self._state.update(**cure.changes)
                    else:
                        self.refresh()
                except Exception as error:
                    self._on_controls_reject(error)

    def _on_canvas_truth(self) -> None:
        """Compare the prediction with the truth, or, where that is what is on show, end the comparison."""
        truth = self._truths.get(self._state.image_index)
        if truth is None:
            return
        met = self._state.target is None and self._class_of(self._state.compare_target) == truth
        try:
            self._state.update(target=None, compare_target=None if met else truth)
        except Exception as error:
            self._on_controls_reject(error)

    def _on_controls_filter(self, _: object) -> None:
        with self._lock:
            self._renew()
            if not self._closed:
                self._fill_strip()
                self._look_ahead()

    def _on_controls_reject(self, error: Exception) -> None:
        """Show why a choice was not taken. What is on show still belongs to what is selected."""
        if isinstance(error, (traitlets.TraitError, ValueError)):
            _log.info("Not taken: %s", error)
            notice = Notice("That is not possible", str(error), stale=False)
        else:
            _log.error("A choice could not be taken", exc_info=error)
            notice = in_words(error, self.engine.device, stale=False)
        with self._lock:
            if not self._closed:
                said = self._failure or self._aged
                stale = said is not None and said.stale
                self._canvas.say(replace(notice, stale=stale, mark="" if said is None else said.mark))

    def _on_controls_upload(self, name: str, content: bytes) -> None:
        picture = read_upload(name, content)
        with self._lock:
            offer = self._state.offer
            pictures = unique([*offer.pictures, Path(name.replace("\\", "/")).name or "uploaded picture"])
            self._images.append(picture)
            self._state.offer = replace(offer, pictures=pictures)
        self._state.update(image_index=len(pictures) - 1)

    @contextmanager
    def _as_mirror(self) -> Iterator[None]:
        """Traits set inside follow the state; they are no wish of the user's."""
        before = getattr(self._mirroring, "now", False)
        self._mirroring.now = True
        try:
            yield
        finally:
            self._mirroring.now = before

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("This GradCAMWidget is closed; make a new one")


def _checked_class_table(value: object) -> bool:
    if not isinstance(value, bool):
        raise SettingError(f"class_table: expected True or False; got {value!r}")
    return value


def _check_like(like: object, count: int) -> None:
    if like is None:
        return
    if isinstance(like, bool) or not isinstance(like, int):
        raise TypeError(f"like: expected the index of a picture, or None; got {like!r}")
    if not 0 <= like < count:
        raise ValueError(f"like: expected the index of a picture, 0 to {count - 1}; got {like}")


def _never() -> bool:
    return False


def _engine(model: nn.Module | GradCAM, **arguments: Any) -> GradCAM:
    """The model's engine; a ready one has its own settings."""
    if not isinstance(model, GradCAM):
        return GradCAM(model, **arguments)
    given = [name for name, value in arguments.items() if value is not None]
    if given:
        raise ValueError(
            f"{given[0]}: the model is a GradCAM, which has its own; give it there: GradCAM(model, {given[0]}=...)"
        )
    return model


def _tables() -> dict[str, tuple[str, NDArray[np.uint8]]]:
    """All colour tables: first the sequential ones, in the order of the colour map control."""
    ordered = sorted(render.COLORMAPS, key=lambda name: render.COLORMAPS[name] != "sequential")
    return {name: (render.COLORMAPS[name], render.table(name)) for name in ordered}


def _sections(panels: Sequence[str | Builder]) -> list[str]:
    """Those of the panels that are sections of the view."""
    return [name for name in panels if isinstance(name, str) and PANELS[name].build is None]


@functools.cache
def _enable_colab() -> None:
    """Let Colab show widgets that are not its own; elsewhere nothing happens."""
    output = sys.modules.get("google.colab.output")
    if output is not None:
        output.enable_custom_widget_manager()
