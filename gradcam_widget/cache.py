"""What is kept: values by key, bounded by their bytes, least recently used first to go."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

__all__ = ["Cache", "parse_bytes"]

_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def parse_bytes(amount: int | str) -> int:
    """Bytes of "2GB", "500 MB" or an int.

    Raises:
        TypeError, ValueError: for anything else, or less than zero.
    """
    if isinstance(amount, str):
        text = amount.strip().upper()
        unit = next((unit for unit in ("KB", "MB", "GB", "TB", "B") if text.endswith(unit)), None)
        try:
            value: float = float(text[: -len(unit)]) * _UNITS[unit] if unit else float(text)
        except ValueError:
            value = -1.0
    elif isinstance(amount, int) and not isinstance(amount, bool):
        value = amount
    else:
        raise TypeError(f"memory_budget: expected bytes or text such as '2GB'; got {type(amount).__name__}")
    if not 0 <= value < float("inf"):
        raise ValueError(f"memory_budget: expected bytes or text such as '2GB' or '500MB'; got {amount!r}")
    return int(value)


class Cache:
    """Values by key within a budget of bytes; a value may depend on another key and goes when that one goes."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.bytes = 0
        self._values: OrderedDict[Hashable, tuple[Any, int, Hashable]] = OrderedDict()
        self._roots: dict[Any, Any] = {}  # values that depend on no other, oldest first
        self._dependants: dict[Hashable, set[Hashable]] = {}

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: Hashable) -> Any:
        """The value, now the most recently used, or None."""
        entry = self._values.get(key)
        if entry is None:
            return None
        self._values.move_to_end(key)
        if entry[2] is not None:
            self._values.move_to_end(entry[2])
        return entry[0]

    def peek(self, key: Hashable) -> Any:
        """The value, or None, without marking it as used."""
        entry = self._values.get(key)
        return None if entry is None else entry[0]

    def size(self, key: Hashable) -> int:
        """Bytes of a value; 0 where there is none."""
        entry = self._values.get(key)
        return 0 if entry is None else entry[1]

    def put(self, key: Hashable, value: Any, size: int, parent: Hashable = None) -> None:
        """Keep a value of ``size`` bytes; the least recently used others go until all fit.

        A value is not kept when it is larger than the budget, alone or with its parent, or its parent is gone.
        """
        self.drop(key)
        if size > self.budget or (parent is not None and parent not in self._values):
            return
        self._values[key] = (value, size, parent)
        self.bytes += size
        if parent is None:
            self._roots[key] = value
        else:
            self._dependants.setdefault(parent, set()).add(key)
            self._values.move_to_end(parent)
        while self.bytes > self.budget:
            # Where the value and its parent alone are too much, the value goes: the parent may serve others.
            self.drop(next((other for other in self._values if other not in (key, parent)), key))

    def dependants(self, key: Hashable) -> list[tuple[Any, Any, int]]:
        """(key, value, bytes) of all that depend on a value."""
        return [(other, *self._values[other][:2]) for other in self._dependants.get(key, ())]

    def drop(self, key: Hashable) -> None:
        """Forget a value and all that depend on it."""
        entry = self._values.pop(key, None)
        if entry is None:
            return
        self.bytes -= entry[1]
        self._roots.pop(key, None)
        if entry[2] is not None:
            self._dependants.get(entry[2], set()).discard(key)
        for dependant in self._dependants.pop(key, ()):
            self.drop(dependant)

    def clear(self) -> None:
        """Forget everything."""
        self._values.clear()
        self._roots.clear()
        self._dependants.clear()
        self.bytes = 0

    def keys(self) -> list[Hashable]:
        """All keys, least recently used first."""
        return list(self._values)

    def roots(self) -> list[tuple[Any, Any]]:
        """Keys and values that depend on no other, newest first."""
        return list(self._roots.items())[::-1]

    def sizes(self) -> dict[Hashable, int]:
        """Bytes by key, least recently used first."""
        return {key: entry[1] for key, entry in self._values.items()}
