"""The peers are extras of the tests: without them these tests are skipped, except where nothing may be."""

from __future__ import annotations

import importlib.util
import os

import pytest

MISSING = [name for name in ("pytorch_grad_cam", "captum", "torchcam") if importlib.util.find_spec(name) is None]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if MISSING and not os.environ.get("CI"):
        reason = f"{', '.join(MISSING)} not installed: pip install -e '.[test]'"
        for item in items:
            if "parity" in item.path.parts and item.path.name != "test_presets.py":
                item.add_marker(pytest.mark.skip(reason=reason))
