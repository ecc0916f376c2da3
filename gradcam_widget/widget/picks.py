"""What may be picked out of a map: the checks of the explorer's traits that depend on the layer on show."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np

from gradcam_widget.widget.pixels import MOST_ZOOM
from gradcam_widget.widget.state import SettingError

__all__ = ["OF_LAYER", "PICKS", "Ground", "checked"]


@dataclass(frozen=True)
class Ground:
    """What there is to pick from: a map.

    Attributes:
        channels: how many its layer has.
        grid: (rows, columns) of its cells.
        method: that made it.
        is_sum: whether the method says what a single channel adds to it.
    """

    channels: int
    grid: tuple[int, int]
    method: str
    is_sum: bool


def checked(name: str, value: object, ground: Ground | None) -> Any:
    """The value of one of `PICKS`, as the trait holds it.

    Args:
        name: one of `PICKS`.
        value: to be checked.
        ground: what there is to pick from; None while no map is on show.

    Raises:
        SettingError: for a wrong value.
    """
    return PICKS[name](value, ground)


def _channel(value: object, ground: Ground | None) -> int | None:
    if value is None:
        return None
    if ground is None:
        raise SettingError(f"channel: no layer is on show, so that there is no channel to look at; got {value!r}")
    if isinstance(value, Integral) and _is_int(value) and 0 <= int(value) < ground.channels:
        return int(value)
    raise SettingError(
        f"channel: expected None or an int from 0 to {ground.channels - 1}, one per channel of the layer; "
        f"got {value!r}"
    )


def _channels_off(value: object, ground: Ground | None) -> tuple[int, ...]:
    many = isinstance(value, Iterable) and not isinstance(value, (str, bytes, Mapping))
    numbers: list[Any] = list(value) if many and isinstance(value, Iterable) else [value]
    if not all(_is_int(n) for n in numbers) or not many:
        raise SettingError(
            f"channels_off: expected channel numbers, such as (3, 12), or () for the whole map; got {value!r}"
        )
    chosen = tuple(sorted({int(n) for n in numbers}))
    if not chosen:
        return ()
    if ground is None:
        raise SettingError(
            f"channels_off: no layer is on show, so that there is no channel to leave out; got {value!r}"
        )
    if not (chosen[0] >= 0 and chosen[-1] < ground.channels):
        wrong = chosen[0] if chosen[0] < 0 else chosen[-1]
        raise SettingError(
            f"channels_off: expected ints from 0 to {ground.channels - 1}, one per channel of the layer; "
            f"got {wrong}"
        )
    if not ground.is_sum:
        raise SettingError(
            f"channels_off: {ground.method} does not say what a single channel adds to its map, so "
            "that none can be left out; use another method"
        )
    return chosen


def _probe(value: object, ground: Ground | None) -> tuple[int, int] | None:
    if value is None:
        return None
    pair: list[Any] = (
        list(value) if isinstance(value, (Sequence, np.ndarray)) and not isinstance(value, str) else []
    )
    if len(pair) != 2 or not all(_is_int(n) for n in pair):
        raise SettingError(f"probe: expected None or (row, column) of a cell of the map; got {value!r}")
    if ground is None:
        raise SettingError(f"probe: no layer is on show, so that there is no cell to look at; got {value!r}")
    cell = int(pair[0]), int(pair[1])
    rows, columns = ground.grid
    if not (0 <= cell[0] < rows and 0 <= cell[1] < columns):
        raise SettingError(
            f"probe: expected a row from 0 to {rows - 1} and a column from 0 to {columns - 1}; got {value!r}"
        )
    return cell


def _threshold(value: object, _: Ground | None) -> float:
    if not isinstance(value, Real) or isinstance(value, bool) or not 0 <= float(value) <= 1:
        raise SettingError(f"threshold: expected a share of the map's maximum, from 0 to 1; got {value!r}")
    return float(value)


def _show_box(value: object, _: Ground | None) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise SettingError(f"show_box: expected True or False; got {value!r}")
    return bool(value)


def _zoom(value: object, _: Ground | None) -> float:
    if isinstance(value, Real) and not isinstance(value, bool) and 1 <= float(value) <= MOST_ZOOM:
        return float(value)
    raise SettingError(f"zoom: expected a number from 1 (the whole picture) to {MOST_ZOOM}; got {value!r}")


def _is_int(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


PICKS: Mapping[str, Callable[[object, Ground | None], Any]] = {
    "channel": _channel,
    "channels_off": _channels_off,
    "probe": _probe,
    "threshold": _threshold,
    "show_box": _show_box,
    "zoom": _zoom,
}
"""The traits of the explorer that are picked out of a map, each with its check."""

OF_LAYER = ("channel", "channels_off", "probe")
"""Those that another layer takes away."""
