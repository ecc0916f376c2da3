"""axe-core in a page: what would keep people from using what is shown."""

from __future__ import annotations

from importlib import resources
from typing import Any

from playwright.sync_api import Page


def violations(page: Page, within: str, impacts: tuple[str, ...] = ("serious", "critical")) -> list[str]:
    """What axe-core finds wrong inside of a selector, one line for each element, the worst kinds only."""
    if not page.evaluate("'axe' in window"):
        page.evaluate((resources.files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8"))
    found: dict[str, Any] = page.evaluate(
        "within => axe.run({ include: [[within]] }, { resultTypes: ['violations'], elementRef: false })", within
    )
    assert found["testEngine"]["name"] == "axe-core"
    return [
        f"{rule['impact']} {rule['id']}: {node['html'][:160]} — {' '.join(node['failureSummary'].split())[:240]}"
        for rule in found["violations"]
        if rule["impact"] in impacts
        for node in rule["nodes"]
    ]
