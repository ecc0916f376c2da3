"""The built site in a browser: nothing is fetched from elsewhere, nothing runs out of a phone's page."""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """The site on the loopback interface."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


def test_every_page_fits_a_phone_and_is_of_one_piece(site, address, browser):
    page = browser.new_page(viewport={"width": 390, "height": 900})
    fetched, errors = [], []
    page.on("request", lambda request: fetched.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("response", lambda response: errors.append(response.url) if response.status >= 400 else None)
    wide = {}
    pages = [file.relative_to(site).as_posix() for file in sorted(site.rglob("*.html")) if file.name != "404.html"]
    for name in pages:
        page.goto(address + name)
        page.wait_for_function("document.querySelector('h1') && document.readyState === 'complete'")
        beyond = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        if beyond > 0:
            wide[name] = beyond
    page.close()
    assert len(pages) > 20
    assert [url for url in fetched if not url.startswith(address)] == []
    assert errors == []
    assert wide == {}


def test_the_words_of_a_message_are_found(address, browser):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(address + "index.html")
    page.locator(".md-search__input").fill("not connected to its input by a gradient")
    found = page.locator(".md-search-result__link").first
    found.wait_for()
    assert re.search(r"/troubleshooting\.html", found.get_attribute("href") or "")
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_site_opens_from_the_disk_with_the_picture_of_its_colours(site, browser, scheme):
    page = browser.new_page(color_scheme=scheme)
    page.goto((site / "index.html").as_uri())
    page.wait_for_load_state()
    shown = page.evaluate("[...document.images].filter((i) => i.offsetWidth && i.naturalWidth).map((i) => i.src)")
    page.close()
    assert [Path(source.split("#")[0]).name for source in shown] == [f"explorer-{scheme}.png"]
