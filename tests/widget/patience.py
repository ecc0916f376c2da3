"""Waiting for other threads: as long as a busy machine may need, and no longer than they do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

PATIENCE = 60  # seconds; no test takes as long unless it fails


def eventually(condition: Callable[[], bool]) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def ended(name: str) -> None:
    """Wait until no thread of this name is left."""
    eventually(lambda: not any(thread.name == name for thread in threading.enumerate()))
