"""Exports: figures, numbers and code of what is on show, and a picture of it for saved notebooks."""

from __future__ import annotations

import base64
import io
import json
import logging
import re
import tempfile
import threading
import warnings
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets  # type: ignore[import-untyped]  # it has no types

from gradcam_widget import figures
from gradcam_widget.archive import encode_archive, manifest_of
from gradcam_widget.files import checked_path, write_file
from gradcam_widget.inputs import IMAGENET, own_transform
from gradcam_widget.plate import SORTS
from gradcam_widget.widget import wire
from gradcam_widget.widget.plates import Plates, largest
from gradcam_widget.widget.recipe import Recipe

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["MOST_BYTES", "Exports"]

_log = logging.getLogger("gradcam_widget")

_SUFFIXES = (".png", ".svg", ".pdf", ".npz", ".json")
_TYPES = {
    "png": "image/png",
    "svg": "image/svg+xml",
    "pdf": "application/pdf",
    "npz": "application/octet-stream",
    "html": "text/html",
}

MOST_BYTES = 2_500_000
"""Of a file that goes to the browser: Jupyter drops what a kernel sends beyond a million bytes a second, in three
seconds.
"""

_SHOT_BYTES = 150_000  # of the picture in a saved notebook


class Exports(Plates):
    """The part of the explorer that gives away what is on show."""

    _lock: threading.RLock  # the explorer's own
    _shot: tuple[object, str] | None = None  # the picture for saved notebooks, and what it shows

    def figure(self, *, width: float = 7.0, channels: int = 12, sort: str = "|α|") -> Figure:
        """What is on show as a matplotlib figure, fit for a paper.

        The picture with its heatmap, the colour bar, the bars of alpha and a caption, with the colours, the
        evidence, the scale, the box, the kept channel and the channels that are off as they are on the screen; a
        comparison is three pictures, each above its bars. Names are drawn as they are. It is made without pyplot.

        Args:
            width: in inches; the height follows. Less than 5 sets the bars below the picture, for one column.
            channels: how many bars.
            sort: their order: "|α|" (or "abs"), "α" ("alpha"), "contribution", "difference" or "channel".

        Raises:
            RuntimeError: while no map is on show.
            ValueError: for an argument with a wrong value.
        """
        with self._lock:
            self._renew()
            return figures.draw(self._plate(channels, sort), width=width)

    def save(self, path: str | PathLike[str], *, dpi: float | None = None, **look: Any) -> Path:
        """Write what is on show into a file; its name says of which kind.

        Args:
            path: ends in .png, .svg or .pdf for the figure; in .npz for the numbers (alpha, cam, activations and a
                manifest: `gradcam_widget.archive`), or in .json for their manifest alone. One that is there is
                replaced as a whole. For a page that can be explored there is `to_html`.
            dpi: pixels for each inch of a figure, in SVG and PDF those of the pictures inside; None for 200.
            look: width, channels and sort, as in `figure`.

        Returns:
            The path.

        Raises:
            RuntimeError: while no map is on show.
            TypeError, ValueError: for a wrong ending, or another argument with a wrong value.
            FileNotFoundError: where the folder does not exist.
        """
        file = checked_path(path, _SUFFIXES)
        kind = file.suffix[1:].lower()
        about = [*([] if dpi is None else ["dpi"]), *look]
        if kind in ("npz", "json") and about:
            raise ValueError(
                f"save: {', '.join(about)} {'is' if len(about) == 1 else 'are'} about figures; {file.name!r} "
                "holds numbers. Leave it out, or give a name that ends in .png, .svg or .pdf"
            )
        with self._lock:
            self._renew()
            if kind == "npz":
                content = self._archive()
            elif kind == "json":
                content = json.dumps(self._manifest(), indent=2).encode("ascii")
            else:
                content = figures.encode_figure(self.figure(**look), kind, 200 if dpi is None else dpi)
        write_file(file, content)
        return file

    def code(self) -> str:
        """Lines of Python that compute what is on show: an explanation and what lies over the picture.

        They need ``model`` and ``picture``, which stay yours, and nothing of the widget. Whatever strings your
        layers have, the lines are valid Python and mean no more than they say.

        Raises:
            RuntimeError: while no map is on show.
        """
        with self._lock:
            self._renew()
            explanation = self._shown()
            transform, model = self.engine.transform, self.engine.model
            compared, scene = self.comparison, self._without(self._drawn, self._drawn.off)
            limit, contrast_limit = self._limits(scene)
            return Recipe(
                model=type(model).__qualname__,
                picture=self._picture_name(),
                explanation=explanation,
                signed=scene.evidence == "signed",
                off=tuple(self._drawn.off),
                limit=None if limit in (0, largest(scene.cam)) else limit,
                contrast_limit=contrast_limit or None,
                own_transform=transform is not IMAGENET and transform != own_transform(model),
                second=None if compared is None else compared.second,
                contrast=None if compared is None else compared.contrast,
            ).lines()

    def _renew(self, *, wait: bool = True) -> bool:
        raise NotImplementedError

    # -- a picture for where there are no widgets --------------------------------------------------------------

    def _repr_mimebundle_(self, **arguments: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The widget with a caption and a picture for where no widget can be shown; and, as metadata, the
        text for those who do not see the picture.
        """
        if not hasattr(ipywidgets.Widget, "_repr_mimebundle_"):  # ipywidgets 7
            return self._with_shot(_as_view(self))
        bundle = super()._repr_mimebundle_(**arguments)  # type: ignore[misc] # of ipywidgets
        return self._with_shot(dict(bundle))

    def _display_itself(self, **arguments: Any) -> None:
        """The same for ipywidgets 7, whose widgets display themselves."""
        from IPython.display import display

        data, metadata = self._with_shot(_as_view(self))
        display(data, metadata=metadata, raw=True)  # type: ignore[no-untyped-call]
        self._handle_displayed(**arguments)  # type: ignore[attr-defined] # of ipywidgets

    if hasattr(ipywidgets.Widget, "_ipython_display_"):
        _ipython_display_ = _display_itself

    def _with_shot(self, bundle: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        metadata: dict[str, Any] = {}
        try:
            with self._lock:
                self._renew()
                self._canvas.send_kept()
                if self.explanation is not None:
                    caption = wire.shorten(f"gradcam_widget: {self._caption()}", 2000)
                    bundle = {**bundle, "text/plain": caption, "image/png": self._shot_png()}
                    metadata = {"image/png": {"alt": caption}}
        except Exception:
            # The widget itself can be shown, and what is wrong with its picture must not be in the way.
            _log.warning("There is no picture for where widgets are not shown", exc_info=True)
        return bundle, metadata

    def _shot_png(self) -> str:
        """What is on show as a PNG of 630 pixels, in base64; made once for each state."""
        state = (self._drawn, self.opacity, self.colormap, self.scale, self.channel, self.show_box, self.box)
        if self._shot is None or self._shot[0] != state:
            png = figures.encode_snapshot(self._plate(12, "|α|"))
            self._shot = state, base64.b64encode(_lighter(png)).decode("ascii")
        return self._shot[1]

    # -- what the view asks for --------------------------------------------------------------------------------

    def _begin_exports(self) -> None:
        self._canvas.on_export(self._on_canvas_export)

    def _on_canvas_export(self, message: Mapping[str, Any]) -> None:
        """Send a file, or lines of code, to the view that asked for it; or in words why there is none."""
        what, answer = message.get("what"), {"type": "export", "ticket": message.get("ticket")}
        try:
            if what == "code":
                self._canvas.send({**answer, "code": self.code()})
                return
            content, note = self._file(str(what), message.get("sort"))
            if len(content) > MOST_BYTES:
                raise ValueError(
                    f"the file has {len(content) / 1e6:.1f} MB, more than a notebook sends at once; from Python "
                    f"widget.save('name.{what}') writes it"
                )
            name = f"{self._file_name()}.{what}"
            self._canvas.send({**answer, "name": name, "mime": _TYPES[str(what)], "note": note}, [content])
        except Exception as error:
            if not isinstance(error, (ValueError, RuntimeError, FileNotFoundError)):
                _log.exception("No %s", what)
            words = str(error) or type(error).__name__
            self._canvas.send({**answer, "error": wire.shorten(words, 600)})

    def _file(self, kind: str, sort: object) -> tuple[bytes, str]:
        """A file of some kind, and what must be known of it."""
        if kind in figures.FORMATS:
            order = sort if sort in SORTS else "|α|"
            return figures.encode_figure(self.figure(sort=str(order)), kind), ""
        if kind == "npz":
            with self._lock:
                self._renew()
                whole = self._archive()
                if len(whole) <= MOST_BYTES:
                    return whole, ""
                note = f"without the activations, {len(whole) / 1e6:.0f} MB: widget.save('name.npz') has them"
                return self._archive(activations=False), note
        if kind == "html":
            with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                page = self.to_html(Path(folder, "page.html"), max_bytes=MOST_BYTES)  # type: ignore[attr-defined]
                note = "; ".join(str(warning.message) for warning in told if "to_html" in str(warning.message))
                return page.read_bytes(), wire.shorten(note, 400)
        raise ValueError(f"there is no export of the kind {kind!r}")

    def _file_name(self) -> str:
        """A name for a file, of letters that every system takes."""
        explanation = self._shown()
        words = [self._picture_name(), self._target_label(), explanation.layer.name, explanation.method]
        parts = [
            re.sub(r"[^\w]+", "-", Path(word).stem if i == 0 else word).strip("-_") for i, word in enumerate(words)
        ]
        return "_".join(part[:40] for part in parts if part) or "gradcam"

    def _archive(self, *, activations: bool = True) -> bytes:
        explanation = self._shown()
        return encode_archive(explanation, self._manifest(), self.comparison, activations=activations)

    def _manifest(self) -> dict[str, Any]:
        return manifest_of(
            self._shown(),
            self.engine,
            self._input(self.image_index),
            evidence=self.evidence,
            channels_off=tuple(self._drawn.off),
            name=self._picture_name(),
        )


def _lighter(png: bytes) -> bytes:
    """A PNG that a notebook can carry: with 256 colours where it is too heavy."""
    if len(png) <= _SHOT_BYTES:
        return png
    from PIL import Image

    buffer = io.BytesIO()
    with Image.open(io.BytesIO(png)) as opened:
        image = opened.convert("RGB")
    palette = image.quantize(256, method=Image.Quantize.FASTOCTREE)
    image.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).save(buffer, "PNG")
    return min(png, buffer.getvalue(), key=len)


def _as_view(widget: Any) -> dict[str, Any]:
    """What a front end shows as the widget itself, for ipywidgets 7."""
    return {
        "text/plain": repr(widget),
        "application/vnd.jupyter.widget-view+json": {
            "version_major": 2,
            "version_minor": 0,
            "model_id": widget._model_id,
        },
    }
