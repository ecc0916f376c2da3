"""The peers are extras of the tests: without them these tests are skipped, except where nothing may be.

torchcam cannot be installed on Python 3.10, so there they are skipped in any case.
"""

from __future__ import annotations

import importlib.util
import os
import sys

import pytest

MISSING = [name for name in ("pytorch_grad_cam", "captum", "torchcam") if importlib.util.find_spec(name) is None]
TOO_OLD = sys.version_info < (3, 11)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not MISSING or (os.environ.get("CI") and not TOO_OLD):
        return
    reason = "torchcam needs Python 3.11" if TOO_OLD else f"{', '.join(MISSING)} missing: pip install -e '.[test]'"
    for item in items:
        if "parity" in item.path.parts and item.path.name != "test_presets.py":
            item.add_marker(pytest.mark.skip(reason=reason))
