"""Counts what the kernel sends to the browser, and plays the browser's part in tests."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ipywidgets
import numpy as np

OLD = int(ipywidgets.__version__.split(".")[0]) < 8
"""Whether these are the ipywidgets of Colab."""


old_comms: dict[str, Any] = {}
"""The comms of ipywidgets 7, as a stand-in for a kernel's manager keeps them; see conftest.py."""


def open_comms() -> dict[str, Any]:
    """The comms that are open, by their ids."""
    if OLD:
        return old_comms
    import comm

    return comm.get_comm_manager().comms


def open_widgets() -> dict[str, Any]:
    """The widgets that are open, by their ids."""
    return ipywidgets.Widget.widgets if OLD else ipywidgets.widgets.widget._instances


@dataclass(frozen=True)
class Message:
    widget: ipywidgets.Widget
    method: str
    state: dict[str, Any]
    size: int  # bytes of the JSON and of the buffers


@contextmanager
def counted() -> Iterator[list[Message]]:
    """All that widgets send inside, without the echoes of what the browser sent itself."""
    sent: list[Message] = []
    original = ipywidgets.Widget._send

    def send(self: ipywidgets.Widget, msg: dict[str, Any], buffers: Any = None) -> Any:
        if self.comm is not None and msg["method"] != "echo_update":
            size = len(json.dumps(msg, ensure_ascii=False, allow_nan=False).encode())
            size += sum(memoryview(buffer).nbytes for buffer in buffers or ())
            sent.append(Message(self, msg["method"], msg.get("state", {}), size))
        return original(self, msg, buffers)

    ipywidgets.Widget._send = send
    try:
        yield sent
    finally:
        ipywidgets.Widget._send = original


def browser_sets(widget: ipywidgets.Widget, **state: Any) -> None:
    """What arrives when the user moves a control."""
    widget._handle_msg(
        {"content": {"data": {"method": "update", "state": state, "buffer_paths": []}}, "buffers": []}
    )


def browser_says(widget: ipywidgets.Widget, **content: Any) -> None:
    """A custom message from a view."""
    _arrives(widget, {"method": "custom", "content": content})


def _arrives(widget: ipywidgets.Widget, data: dict[str, Any]) -> None:
    widget._handle_msg({"content": {"data": data}, "buffers": []})


def click(button: ipywidgets.Button) -> None:
    browser_says(button, event="click")


def choose(dropdown: ipywidgets.Dropdown, label: str) -> None:
    """The user picks an entry by the text that is seen."""
    browser_sets(dropdown, index=list(dropdown._options_labels).index(label))


def decode(array: dict[str, Any]) -> np.ndarray[Any, Any]:
    """What the contract says of an array, written down a second time."""
    data = array["data"]
    if array["dtype"] == "f32":
        values = np.frombuffer(data, "<f4").astype(float)
    elif array["dtype"] == "i16":
        values = np.frombuffer(data, "<i2") * array["scale"]
    else:
        assert array["dtype"] == "u8z"
        values = array["offset"] + np.frombuffer(zlib.decompress(data), np.uint8) * array["scale"]
    return values.reshape(array["shape"])
