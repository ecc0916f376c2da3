"""gradcam_widget: a microscope for convolutional networks inside a notebook.

The public names are imported when they are first used, so that ``import gradcam_widget`` alone loads
neither torch nor any widget library.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradcam_widget import evaluate as evaluate
    from gradcam_widget.archive import replay
    from gradcam_widget.channel_names import ChannelNames
    from gradcam_widget.channel_words import explain_in_words
    from gradcam_widget.engine import GradCAM
    from gradcam_widget.explanation import Explanation
    from gradcam_widget.layers import Layer
    from gradcam_widget.neurons import name_channels
    from gradcam_widget.widget.explorer import GradCAMWidget

__version__ = "0.1.0"

_HOME = {
    "ChannelNames": "gradcam_widget.channel_names",
    "GradCAM": "gradcam_widget.engine",
    "Explanation": "gradcam_widget.explanation",
    "Layer": "gradcam_widget.layers",
    "GradCAMWidget": "gradcam_widget.widget.explorer",
    "explain_in_words": "gradcam_widget.channel_words",
    "name_channels": "gradcam_widget.neurons",
    "replay": "gradcam_widget.archive",
}

__all__ = [
    "ChannelNames",
    "Explanation",
    "GradCAM",
    "GradCAMWidget",
    "Layer",
    "__version__",
    "explain_in_words",
    "name_channels",
    "replay",
]


def __getattr__(name: str) -> object:
    """Import a public name from its module on first use (PEP 562)."""
    if name == "evaluate":
        return importlib.import_module("gradcam_widget.evaluate")
    if name in _HOME:
        value = getattr(importlib.import_module(_HOME[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME, "evaluate"})
