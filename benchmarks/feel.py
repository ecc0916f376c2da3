"""How the explorer feels in JupyterLab: from a choice to its pixels, in milliseconds, bytes and messages.

``make feel`` drives the real page with Chromium and prints medians and 95th percentiles. The server's websocket
has TCP_NODELAY on; as Jupyter comes it is off, and some 40 ms of every other round trip are the network's.

*drawn* is the time from the browser's event to the finished canvas and bars; *beyond the engine* leaves out what
the foot says that the engine took. What needs no kernel is timed to the end of its own work in the page; the next
frame of the screen comes at most 17 ms later.

First nothing is sent ahead, so that each choice goes to the kernel. Then the scenes of all layers are in the page,
and the steps among them are counted apart from the message that follows when the hand rests.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "browser"))

import chromium  # noqa: E402 # it lives with the tests
from pages import Explorer, Messages, Notebook, write_notebook  # noqa: E402
from playwright.sync_api import sync_playwright  # noqa: E402
from servers import Server  # noqa: E402

SHOW = """from gradcam_widget import GradCAMWidget
from gradcam_widget.models import demo_model, sample_images
from gradcam_widget.widget import ahead

usual, ahead.AHEAD_BYTES = ahead.AHEAD_BYTES, 0
w = GradCAMWidget(demo_model(), sample_images())
w"""
SEND_AHEAD = "ahead.AHEAD_BYTES = usual; w.set(image_index=0, target='lynx', layer=None)"
NODELAY = """from jupyter_server.services.kernels.websocket import KernelWebsocketHandler

plain = KernelWebsocketHandler.open

async def open_without_delay(self, kernel_id):
    self.set_nodelay(True)
    await plain(self, kernel_id)

KernelWebsocketHandler.open = open_without_delay
"""
MEASURE = """() => {
  const q = (selector) => document.querySelector(`.gradcam-widget ${selector}`);
  const pick = (select, index) => {
    select.selectedIndex = index;
    select.dispatchEvent(new Event("change", { bubbles: true }));
  };
  const engine = () => Number(q(".gcw-status").textContent.match(/([0-9.]+) ms/)[1]);
  const settle = async () => { for (let i = 0; i < 20; i++) await null; };
  window.feel = {
    pick,
    q,
    /** From an act to the scene that it leads to. */
    scene: (act) => new Promise((done) => {
      const root = q(".gcw");
      const watch = new MutationObserver(() => {
        const drawn = performance.now() - start;
        watch.disconnect();
        requestAnimationFrame(() => setTimeout(() => {
          done({ drawn, painted: performance.now() - start, engine: engine() });
        }));
      });
      watch.observe(root, { attributes: true, attributeFilter: ["data-revision"] });
      const start = performance.now();
      act();
    }),
    /** What an act costs that needs no kernel. */
    local: async (act) => {
      const start = performance.now();
      act();
      await settle();
      const drawn = performance.now() - start;
      await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
      return { drawn, painted: performance.now() - start };
    },
  };
}"""

SELECTIONS = {
    "a layer in the list (class known)": """i => {
        const list = feel.q(".gradcam-layer select"), last = list.options.length - 1;
        return feel.scene(() => feel.pick(list, last - 1 - i));
    }""",
    "a layer of the strip, its bars": """i => {
        const tiles = [...document.querySelectorAll(".gcw-layer")];
        return feel.scene(() => tiles.at(-26 - (i % 24)).click());
    }""",
    "a class": """i => {
        const field = feel.q(".gradcam-class:not(.gradcam-compare) input");
        return feel.scene(() => {
            field.value = String(100 + 7 * i);
            field.dispatchEvent(new Event("change", { bubbles: true }));
        });
    }""",
    "a picture": """i => {
        const list = feel.q(".gradcam-picture select");
        return feel.scene(() => feel.pick(list, (list.selectedIndex + 1) % list.options.length));
    }""",
}
STEPS = {
    "a step in the strip, its scene kept": """i => {
        const tiles = [...document.querySelectorAll(".gcw-layer")];
        return feel.local(() => tiles.at(-2 - (i % 12)).click());
    }""",
    "a step in the list, its scene kept": """i => {
        const list = feel.q(".gradcam-layer select"), last = list.options.length - 1;
        return feel.local(() => feel.pick(list, last - 1 - (i % 12)));
    }""",
    "a class shown before": """i => {
        const others = [...document.querySelectorAll(".gcw-prediction:not(.gcw-explained)")];
        return feel.local(() => others[0].click());
    }""",
}
LOCAL = {
    "opacity": """i => {
        const handle = feel.q(".gradcam-opacity .noUi-handle"), key = i % 2 ? "ArrowLeft" : "ArrowRight";
        return feel.local(() => handle.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true })));
    }""",
    "colour map": """i => {
        const list = feel.q(".gradcam-colormap select");
        return feel.local(() => feel.pick(list, (list.selectedIndex + 1) % list.options.length));
    }""",
    "hover the picture": """i => {
        const canvas = feel.q(".gcw-picture"), box = canvas.getBoundingClientRect();
        const at = { clientX: box.left + ((i % 7) + 0.5) * box.width / 7, clientY: box.top + box.height / 2 };
        return feel.local(() => canvas.dispatchEvent(new PointerEvent("pointermove", { ...at, bubbles: true })));
    }""",
    "hover a bar": """i => {
        const bars = document.querySelectorAll(".gcw-bar");
        const over = new PointerEvent("pointerover", { bubbles: true });
        return feel.local(() => bars[i % bars.length].dispatchEvent(over));
    }""",
    "sort": """i => {
        const list = feel.q(".gcw-sort select");
        return feel.local(() => feel.pick(list, i % 4));
    }""",
}


def summary(values: list[float]) -> dict[str, float]:
    """Median and 95th percentile."""
    ordered = sorted(values)
    at = min(len(ordered) - 1, round(0.95 * (len(ordered) - 1)))
    return {"median": round(statistics.median(ordered), 2), "p95": round(ordered[at], 2)}


def series(page: Any, messages: Messages, code: str, count: int, pause: int = 150) -> dict[str, Any]:
    """One kind of choice, made ``count`` times with a pause in milliseconds after each."""
    page.wait_for_timeout(400)
    runs, sizes = [], []
    messages.clear()
    for number in range(count):
        before = len(messages.received)
        runs.append(page.evaluate(code, number))
        page.wait_for_timeout(pause)
        sizes += [
            message.size
            for message in messages.received[before:]
            if message.data["method"] == "update" and "scene" in message.data["state"]
        ]
    moving = len(messages.sent)
    page.wait_for_timeout(700)
    found: dict[str, Any] = {name: summary([run[name] for run in runs]) for name in ("drawn", "painted")}
    if "engine" in runs[0]:
        found["beyond the engine"] = summary([run["drawn"] - run["engine"] for run in runs])
        found["bytes of the scene"] = summary([float(size) for size in sizes])
    found["messages to the kernel"] = round(moving / count, 2)
    found["messages at rest"] = len(messages.sent) - moving
    found["messages from the kernel"] = round(len(messages.received) / count, 2)
    return found


def measure(count: int) -> dict[str, Any]:
    """All series in one page."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        root, home = Path(folder, "notebooks"), Path(folder, "home")
        root.mkdir()
        (home / "config").mkdir(parents=True)
        (home / "config" / "jupyter_server_config.py").write_text(NODELAY)
        write_notebook(root / "feel.ipynb", SHOW)
        server = Server("lab", root, home).start()
        try:
            browser = playwright.chromium.launch(executable_path=chromium.find(), args=chromium.FLAGS)
            page = browser.new_page(viewport={"width": 1500, "height": 1100})
            messages = Messages(page)
            notebook = Notebook(page, server, "feel.ipynb").open().run_all()
            explorer = Explorer(page)
            explorer.wait("Egyptian cat", "_swish:2", "chelsea")
            page.wait_for_selector(".gcw-layer")
            page.evaluate(MEASURE)
            page.evaluate(next(iter(SELECTIONS.values())), 40)  # the first answer compiles what the later ones use
            found: dict[str, Any] = {
                name: series(page, messages, code, count) for name, code in SELECTIONS.items()
            }
            messages.clear()
            notebook.execute(SEND_AHEAD)
            explorer.wait("lynx", "_swish:2", "chelsea")
            explorer.wait_for_scenes_ahead(messages)
            for name, code in STEPS.items():
                if "class" in name:
                    for _ in range(3):
                        page.evaluate("document.querySelector('.gcw-prediction:not(.gcw-explained)').click()")
                        page.wait_for_timeout(1000)
                found[name] = series(page, messages, code, count, pause=20)
            found |= {name: series(page, messages, code, count) for name, code in LOCAL.items()}
            browser.close()
        finally:
            server.stop()
    return found


def main() -> None:
    """Measure, print, and write the figures where they are wanted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=24, help="how often each choice is made")
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "feel.json")
    options = parser.parse_args()
    found = measure(options.count)
    width = max(map(len, found))
    print(f"{'':{width}}   drawn ms       beyond the engine  bytes           messages")
    print(f"{'':{width}}   median   p95   median   p95        median    p95   to / from the kernel, at rest")
    for name, row in found.items():
        beyond, size = row.get("beyond the engine"), row.get("bytes of the scene")
        words = [f"{row['drawn']['median']:8.1f} {row['drawn']['p95']:6.1f}"]
        words.append(f"{beyond['median']:8.1f} {beyond['p95']:6.1f}" if beyond else " " * 15)
        words.append(f"{size['median']:13.0f} {size['p95']:6.0f}" if size else " " * 20)
        ways = [row[f"messages {way} the kernel"] for way in ("to", "from")]
        words.append(f"{ways[0]:8.1f} / {ways[1]:.1f}, {row['messages at rest']}")
        print(f"{name:{width}} {''.join(words)}")
    machine = {"cpus": os.cpu_count(), "system": platform.system(), "python": platform.python_version()}
    options.json.write_text(
        json.dumps({"count": options.count, "machine": machine, "figures": found}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
