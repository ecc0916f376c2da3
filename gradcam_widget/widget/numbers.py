"""Numbers: equal things have equal numbers, and no two things share one."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable

__all__ = ["Numbers"]


class Numbers:
    """Counts things from 1 on. A number is never used again, also where its thing has been forgotten.

    Args:
        most: how many things are remembered. One that is met again later than that has a new number.
    """

    def __init__(self, most: int = 4096) -> None:
        self._most = most
        self._known: OrderedDict[Hashable, int] = OrderedDict()
        self._last = 0
        self._lock = threading.Lock()

    def of(self, *parts: Hashable) -> int:
        """The number of a thing, told by its parts."""
        with self._lock:
            if parts not in self._known:
                self._last += 1
                self._known[parts] = self._last
                while len(self._known) > self._most:
                    self._known.popitem(last=False)
            self._known.move_to_end(parts)
            return self._known[parts]
