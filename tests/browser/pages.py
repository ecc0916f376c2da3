"""What the tests do with a notebook in a browser: run it, wait for it, read its pixels, count its messages."""

from __future__ import annotations

import base64
import io
import itertools
import json
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import Locator, Page, WebSocket, expect
from servers import Server

# milliseconds on a busy machine of two cores; no measure of anything
PATIENCE = 60_000
STARTING = 240_000

# run in a page of JupyterLab or Notebook 7
RESTART = "() => { void window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart(); }"


class Notebook:
    """A notebook that is open in JupyterLab or Notebook 7.

    Args:
        page: the browser's page.
        server: of kind "lab" or "notebook".
        name: the notebook's file name below the server's root.
    """

    def __init__(self, page: Page, server: Server, name: str) -> None:
        self.page, self.server, self.name = page, server, name

    def open(self) -> Notebook:
        """Load the page and wait until the kernel is idle."""
        path = {"lab": f"lab/tree/{self.name}?reset", "notebook": f"notebooks/{self.name}"}[self.server.kind]
        self.page.goto(f"{self.server.url}/{path}")
        self.page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=STARTING)
        self.wait_idle()
        return self

    def wait_idle(self) -> None:
        """Wait until the kernel has nothing left to do."""
        self.page.wait_for_function(
            "() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'",
            timeout=STARTING,
        )

    def run_all(self) -> Notebook:
        """Run all cells and wait until the last one has its number, or one has failed, which stops them."""
        # without `void` playwright would wait for the promise, and the page for all cells
        self.command("notebook:run-all-cells")
        self.page.wait_for_function(
            """() => {
                const cells = window.jupyterapp.shell.currentWidget.content.widgets;
                const code = cells.map((cell) => cell.model)
                    .filter((cell) => cell.type === "code" && cell.sharedModel.source.trim());
                return code.every((cell) => cell.executionCount)
                    || code.some((cell) => cell.outputs.toJSON().some((one) => one.output_type === "error"));
            }""",
            timeout=STARTING,
        )
        self.wait_idle()
        return self

    def command(self, name: str, arguments: dict[str, Any] | None = None) -> None:
        """Start a command of the front end; its end is not waited for."""
        self.page.evaluate(
            "([name, args]) => { void window.jupyterapp.commands.execute(name, args); }", [name, arguments or {}]
        )

    def execute(self, code: str) -> str:
        """Run code in the notebook's kernel without a cell, wait for its end, and give what it printed."""
        return str(
            self.page.evaluate(
                """async (code) => {
                    const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
                    const future = kernel.requestExecute({ code });
                    const printed = [];
                    future.onIOPub = ({ header, content }) => {
                        if (header.msg_type === "stream") printed.push(content.text);
                        if (header.msg_type === "error") printed.push(...content.traceback);
                    };
                    await future.done;
                    return printed.join("");
                }""",
                code,
            )
        )

    def theme(self, dark: bool) -> None:
        """Switch between JupyterLab's light and dark theme."""
        name = "JupyterLab Dark" if dark else "JupyterLab Light"
        self.command("apputils:change-theme", {"theme": name})
        self.page.wait_for_selector(f'body[data-jp-theme-name="{name}"]', state="attached", timeout=PATIENCE)
        # JupyterLab has one splash for all changes of its theme, and each takes it off the page 200 ms after its
        # end: two in a row would do so twice, which is an error of the page
        self.page.wait_for_selector("#jupyterlab-splash", state="detached", timeout=PATIENCE)

    def cells(self) -> tuple[int, int]:
        """The number of cells and the index of the active one."""
        count, active = self.page.evaluate(
            """() => {
                const notebook = window.jupyterapp.shell.currentWidget.content;
                return [notebook.widgets.length, notebook.activeCellIndex];
            }"""
        )
        return int(count), int(active)

    def errors(self) -> list[str]:
        """What the cells wrote to stderr, and their exceptions."""
        shown = self.page.locator(
            '[data-mime-type="application/vnd.jupyter.stderr"], .jp-RenderedText[data-mime-type*="error"]'
        )
        return [text for text in shown.all_inner_texts() if text.strip()]


@dataclass(frozen=True)
class Message:
    """A widget message as it crossed the websocket.

    Args:
        size: content and binary parts, in bytes.
        data: the message's own data: method ("update", "custom", ...) and state.
        buffers: lengths of its binary parts.
    """

    size: int
    data: dict[str, Any]
    buffers: tuple[int, ...]


class Messages:
    """Every widget message that crosses the page's websockets, from its making on.

    Args:
        page: a page that has not yet loaded the notebook.
    """

    def __init__(self, page: Page) -> None:
        self.received: list[Message] = []
        self.sent: list[Message] = []
        page.on("websocket", self._watch)

    def _watch(self, socket: WebSocket) -> None:
        socket.on("framereceived", lambda frame: self._keep(self.received, frame))
        socket.on("framesent", lambda frame: self._keep(self.sent, frame))

    @staticmethod
    def _keep(into: list[Message], frame: bytes | str) -> None:
        if isinstance(frame, str):
            return
        # v1.kernel.websocket.jupyter.org: the number of offsets, the offsets, then channel, header, parent header,
        # metadata, content and buffers
        count = int.from_bytes(frame[:8], "little")
        offsets = struct.unpack_from(f"<{count}Q", frame, 8)
        parts = [frame[start:end] for start, end in itertools.pairwise(offsets)]
        if json.loads(parts[1])["msg_type"] == "comm_msg":
            lengths = tuple(len(part) for part in parts[5:])
            into.append(Message(len(parts[4]) + sum(lengths), json.loads(parts[4])["data"], lengths))

    def clear(self) -> None:
        """Forget what has been seen."""
        self.received.clear()
        self.sent.clear()

    def carrying(self, trait: str) -> list[Message]:
        """The received messages that set a trait of this name (not those that tell the browser its own change)."""
        updates = [message for message in self.received if message.data["method"] == "update"]
        return [message for message in updates if trait in message.data["state"]]


class Console:
    """The page's console errors and uncaught exceptions, without those known to be the front end's own."""

    KNOWN = (
        # Voila asks a content delivery network for an icon font; there may be no network
        r"Failed to load resource: net::ERR_(NAME_NOT_RESOLVED|INTERNET_DISCONNECTED|PROXY_CONNECTION_FAILED)",
        # Voila loads Notebook 7's own front-end extension, which needs a module that Voila does not share
        r"The getter for the shared module is not a function.*@jupyterlab/docregistry",
        # Notebook 7 looks for the settings of a plugin that it does not load
        r"TypeError: Cannot read properties of undefined \(reading 'schema'\)",
    )

    def __init__(self, page: Page) -> None:
        self._seen: list[str] = []
        page.on("console", lambda message: self._seen.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self._seen.append(f"{error.name}: {error.message}"))

    def errors(self) -> list[str]:
        """What was reported and is not known."""
        return [text for text in self._seen if not any(re.search(known, text, re.DOTALL) for known in self.KNOWN)]


class Explorer:
    """The widget on a page, found as a user or a screen reader finds it: by its labels.

    Args:
        page: holds exactly one widget.
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        self.root = page.locator(".gradcam-widget")
        self.view = page.locator(".gcw:not(.gcw-checks)")
        self.title = page.locator(".gcw-title")
        self.notice = page.locator(".gcw-notice[role=alert]")
        self.picture = page.locator("canvas.gcw-picture")
        self.tip = page.locator(".gcw-tip")

    def control(self, label: str) -> Locator:
        """A control by its accessible name."""
        return self.root.get_by_label(label, exact=True)

    def choose(self, label: str, beginning: str) -> None:
        """Choose the entry of a dropdown that begins so."""
        control = self.control(label)
        # ipywidgets writes the spaces of an entry as spaces that do not break; what is scrolled out of sight has
        # text, but no inner text
        entries = [entry.replace("\xa0", " ") for entry in control.locator("option").all_text_contents()]
        fitting = [index for index, entry in enumerate(entries) if entry.startswith(beginning)]
        assert len(fitting) == 1, f"{beginning!r} fits {len(fitting)} of {entries}"
        control.select_option(index=fitting[0])

    def type_class(self, text: str) -> None:
        """Type a class name and press Enter."""
        self.control("Class").click()
        self.control("Class").fill(text)
        self.control("Class").press("Enter")

    def wait(self, target: str, layer: str, picture: str = "") -> None:
        """Wait until picture and bars are drawn for this class and layer, and the kernel has come to them."""
        expect(self.title).to_have_text(f"αk for {target} at {layer}", timeout=PATIENCE)
        label = re.compile(rf"^{re.escape(picture)}.*: Grad-CAM for {re.escape(target)} at {re.escape(layer)}$")
        expect(self.picture).to_have_attribute("aria-label", label, timeout=PATIENCE)
        self.page.wait_for_selector(".gcw[data-revision]:not([data-ahead])", timeout=PATIENCE)

    def wait_for_scenes_ahead(self, messages: Messages) -> None:
        """Wait until the scenes of all layers of the strip are in the browser."""
        wanted = self.page.locator(".gcw-layer").count() - 1

        def count() -> int:
            sent = [message.data["content"] for message in messages.received if message.data["method"] == "custom"]
            return sum(len(content["scenes"]) for content in sent if content.get("type") == "scenes")

        for _ in range(PATIENCE // 100):
            if count() >= wanted:
                break
            self.page.wait_for_timeout(100)
        assert count() >= wanted
        self.page.wait_for_timeout(500)  # they are unpacked

    def bars(self) -> dict[int, float]:
        """The bars from top to bottom: channel -> alpha."""
        rows = self.page.locator(".gcw-bar").evaluate_all(
            "bars => bars.map((bar) => [bar.dataset.channel, bar.dataset.alpha])"
        )
        return {int(channel): float(alpha) for channel, alpha in rows}

    def revision(self) -> int:
        """Of the scene on show."""
        return int(self.view.get_attribute("data-revision") or 0)


def pixels(canvas: Locator) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """What a canvas holds, (H, W, 4) uint8 in device pixels."""
    address = canvas.evaluate("canvas => canvas.toDataURL('image/png')")
    with Image.open(io.BytesIO(base64.b64decode(address.split(",", 1)[1]))) as image:
        return np.asarray(image.convert("RGBA"))


def show(**arguments: object) -> str:
    """The source of a cell that shows an explorer ``w`` of the demo model and the sample pictures."""
    given = "".join(f", {name}={value!r}" for name, value in arguments.items())
    return f"""from gradcam_widget import GradCAMWidget
from gradcam_widget.models import demo_model, sample_images

w = GradCAMWidget(demo_model(), sample_images(){given})
w"""


def write_notebook(path: Path, *cells: str) -> None:
    """A notebook with these code cells."""
    import nbformat

    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in cells],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}},
    )
    path.write_text(nbformat.writes(notebook))
