"""A real browser and real Jupyter servers for the tests in this folder."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import chromium
import pytest
from pages import PATIENCE, Console, Explorer, Messages, Notebook, write_notebook
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, expect, sync_playwright
from servers import Server
from view_page import next_frame, page_html

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test here as one that needs a browser; in CI, on whatever machine, it may fail once.

    A second failure counts, and the report's last line says how many were run again.
    """
    here = Path(__file__).parent
    in_ci = os.environ.get("CI", "").lower() in ("true", "1")
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)
            if in_ci:
                item.add_marker(pytest.mark.flaky(reruns=1))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Leave the outcome of the test's body where the page's teardown finds it."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.when == "call":
        item.stash[_FAILED] = report.failed


_FAILED = pytest.StashKey[bool]()


# The scope is a file, not the session: playwright keeps an event loop running in the main thread, and tests
# elsewhere may want to run one of their own.
@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="module")
def browser(playwright: Playwright) -> Iterator[Browser]:
    path = chromium.find()
    if path is None:
        if os.environ.get("CI", "").lower() in ("true", "1"):
            pytest.fail(chromium.ADVICE, pytrace=False)
        pytest.skip(chromium.ADVICE)
    started = playwright.chromium.launch(executable_path=path, args=chromium.FLAGS)
    yield started
    started.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    fresh = browser.new_context(viewport={"width": 1280, "height": 1000}, device_scale_factor=2)
    fresh.set_default_timeout(PATIENCE)
    yield fresh
    fresh.close()


@pytest.fixture
def page(context: BrowserContext, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Page]:
    """A page at two device pixels per CSS pixel; what it showed last is kept when the test fails."""
    fresh = context.new_page()
    yield fresh
    if request.node.stash.get(_FAILED, False):
        name = re.sub(r"\W+", "_", request.node.name)
        fresh.screenshot(path=tmp_path / f"{name}.png", full_page=True)
        request.node.add_report_section("teardown", "screenshot", str(tmp_path / f"{name}.png"))


@pytest.fixture
def console(page: Page) -> Console:
    """The errors that the page reports."""
    return Console(page)


@pytest.fixture
def messages(page: Page) -> Messages:
    """The widget messages to and from the page."""
    return Messages(page)


@pytest.fixture(scope="package")
def servers() -> dict[str, Server]:
    """The servers that have been started, by kind."""
    return {}


@pytest.fixture(autouse=True)
def no_kernels_left(servers: dict[str, Server]) -> Iterator[None]:
    """End the kernels of a test when its page has gone."""
    yield
    for server in servers.values():
        server.end_kernels()


@pytest.fixture(scope="package")
def serve(
    tmp_path_factory: pytest.TempPathFactory, servers: dict[str, Server]
) -> Iterator[Callable[[str], Server]]:
    """Start a front end by its kind, once for all tests; its root holds a copy of the notebooks."""
    running = servers

    def start(kind: str) -> Server:
        if kind not in running:
            folder = tmp_path_factory.mktemp(kind)
            root = folder / "notebooks"
            root.mkdir()
            for notebook in NOTEBOOKS.glob("*.ipynb"):
                shutil.copy(notebook, root)
            running[kind] = Server(kind, root, folder / "home").start()
        return running[kind]

    yield start
    for server in running.values():
        server.stop()


@pytest.fixture(scope="package")
def lab(serve: Callable[[str], Server]) -> Server:
    """A running JupyterLab."""
    return serve("lab")


@pytest.fixture
def lab_page(page: Page, lab: Server) -> Callable[[str], Notebook]:
    """Open a notebook below the server's root in JupyterLab."""
    return lambda name: Notebook(page, lab, name).open()


@pytest.fixture
def open_explorer(
    request: pytest.FixtureRequest,
    lab: Server,
    lab_page: Callable[[str], Notebook],
    page: Page,
    console: Console,
    messages: Messages,
) -> Iterator[Callable[..., tuple[Notebook, Explorer]]]:
    """Run cells in JupyterLab, one of which shows an explorer of the demo model, and wait for what it shows first.

    Its messages are kept from the beginning. Neither the cells nor, to the end of the test, the page may report an
    error.
    """

    def start(*cells: str, layer: str = "_swish:2") -> tuple[Notebook, Explorer]:
        name = f"{request.path.stem}.ipynb"
        write_notebook(lab.root / name, *cells)
        notebook = lab_page(name).run_all()
        assert notebook.errors() == []
        explorer = Explorer(page)
        explorer.wait("Egyptian cat", layer, "chelsea")
        expect(page.locator(".gcw-layer").first).to_be_visible(timeout=PATIENCE)
        return notebook, explorer

    yield start
    assert console.errors() == []


@pytest.fixture
def view_open(browser: Browser) -> Iterator[Callable[..., Any]]:
    """A function that opens a page around a state and waits for the first drawing; pages must raise no error."""
    pages, errors = [], []

    def open_page(
        sent: dict[str, Any],
        *,
        width: int = 1172,
        ratio: float = 1,
        scheme: str = "light",
        before: str = "",
        drawn: bool = True,
        **page_parts: str,
    ) -> Any:
        page = browser.new_page(
            viewport={"width": width, "height": 900}, device_scale_factor=ratio, color_scheme=scheme
        )
        pages.append(page)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("requestfailed", lambda request: errors.append(request.url))
        if before:
            page.add_init_script(before)
        page.goto("about:blank")
        page.set_content(page_html(sent, **page_parts))
        page.wait_for_function("'cleanup' in window")  # the module has run to its end
        if drawn:
            page.wait_for_selector(".gcw[data-revision]")
            page.wait_for_selector(".gradcam-widget[data-gcw-theme]")
            next_frame(page)
        return page

    yield open_page
    for page in pages:
        page.close()
    assert errors == []
