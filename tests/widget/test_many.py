"""Five hundred explorers, opened, used and closed in one kernel, leave nothing behind."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import ipywidgets
import psutil
import torch
from messages import browser_says, open_comms, open_widgets
from patience import eventually
from tiny import Four, green_right, red_left

from gradcam_widget.widget.explorer import GradCAMWidget

MEGABYTE = 2**20


def panel(widget: GradCAMWidget) -> ipywidgets.Widget:
    line = ipywidgets.Label()
    widget.observe(lambda change: setattr(line, "value", str(change["new"])), "layer")
    return line


def test_five_hundred_explorers_leave_no_comm_no_thread_and_no_memory_behind() -> None:
    comms = open_comms()
    model = Four()
    images = {"red": red_left(64), "green": green_right(64)}
    alive: list[weakref.ref[Any]] = []

    def live(number: int) -> None:
        widget = GradCAMWidget(model, images, panels=["heatmap", "alpha", "layers", panel])
        browser_says(widget._canvas, type="layer", name=("conv", "pool")[number % 2])
        widget.set(target=number % 4, image_index=number % 2)
        widget.channel = 1
        widget.close()
        alive[:] = [weakref.ref(widget), weakref.ref(widget.engine), weakref.ref(widget._canvas)]

    for number in range(30):  # what is made once and kept (colour tables, allocators, caches) has been made
        live(number)
    gc.collect()
    before, threads = (set(comms), set(open_widgets())), threading.active_count()
    process = psutil.Process()
    memory = process.memory_info().rss
    objects = len(gc.get_objects())
    for number in range(500):
        live(number)
    assert (set(comms), set(open_widgets())) == before
    eventually(lambda: threading.active_count() <= threads)
    gc.collect()
    assert [ref() for ref in alive] == [None, None, None]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert all(isinstance(parameter.grad, type(None)) for parameter in model.parameters())
    # Nothing is kept for each: a single number or name of each of them would be 500 objects.
    assert len(gc.get_objects()) - objects < 250
    assert process.memory_info().rss - memory < 20 * MEGABYTE
    assert torch.is_grad_enabled()
