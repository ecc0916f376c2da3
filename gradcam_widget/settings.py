"""The settings of a model's modules: attributes such as a scale, a stride or a switch, which its passes read."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from operator import itemgetter
from typing import Any

from torch import Tensor, nn

__all__ = ["Settings", "written_apart"]

_OF_EVERY_MODULE = frozenset(vars(nn.Module()))
_INERT = frozenset(
    {
        *("affine", "elementwise_affine", "eps", "groups", "in_channels", "in_features", "inplace", "momentum"),
        *("normalized_shape", "num_features", "out_channels", "out_features", "output_padding", "p"),
        *("track_running_stats", "transposed"),
    }
)
"""Attributes of torch's own layers that change nothing in eval mode, or that nobody changes in a finished layer:
to prove at each look-up that they are as they were would take time for nothing.
"""

_OF_COMPILING = ("_is_torch_compile", "_compiled_call_impl")
"""What torch.compile leaves in a module: its passes are those of the module as written, all the same."""


class _Written:
    """Attributes that passes have been seen to write: what a model remembers, and no setting of it."""

    def __init__(self) -> None:
        self.names: weakref.WeakKeyDictionary[nn.Module, set[str]] = weakref.WeakKeyDictionary()
        self.count = 0

    def add(self, module: nn.Module, names: set[str]) -> None:
        """Names of attributes that a pass has written."""
        known = self.names.setdefault(module, set())
        if not names <= known:
            known |= names
            self.count += 1


_WRITTEN = _Written()


class Settings:
    """Tells whether the settings of modules are what they were: every attribute but parameters, buffers, children,
    hooks, training flags and what passes write themselves. Seen is what is assigned, added or deleted; not what is
    changed inside of a list, a configuration or a tensor that is kept there.

    Args:
        modules: of a model.
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self._modules = modules
        self._places = list(map(vars, modules))
        self._values = list(map(_settings, modules))
        self._length = self._settings_length = 0
        self._groups: list[tuple[Any, list[dict[str, Any]], list[Any]]] = []
        self._look()

    def hold(self) -> bool:
        """Whether all are what they were."""
        # Runs at every look-up over hundreds of modules, hence loops in C.
        if self._count != _WRITTEN.count:
            self._look()
        if (length := sum(map(len, self._places))) != self._length:
            if self._length_of_settings() != self._settings_length:
                return False
            self._length = length
        try:
            return all(list(map(getter, places)) == values for getter, places, values in self._groups)
        except Exception:  # one was deleted, or says whatever comparing it with another says
            return False

    def _length_of_settings(self) -> int:
        compiled = sum(name in place for place in self._places for name in _OF_COMPILING)
        return sum(map(len, self._places)) - compiled

    def _look(self) -> None:
        """Leave out what passes have written, and sort the others by their names."""
        self._count = _WRITTEN.count
        self._length = sum(map(len, self._places))
        self._settings_length = self._length_of_settings()
        groups: dict[tuple[str, ...], tuple[list[dict[str, Any]], list[Any]]] = {}
        for module, place, values in zip(self._modules, self._places, self._values, strict=True):
            for name in _WRITTEN.names.get(module, ()):
                values.pop(name, None)
            if names := tuple(values):
                places, found = groups.setdefault(names, ([], []))
                places.append(place)
                found.append(itemgetter(*names)(values))
        self._groups = [(itemgetter(*names), *group) for names, group in groups.items()]


def _settings(module: nn.Module) -> dict[str, Any]:
    kind: type = type(module)
    of_torch = kind.__module__.startswith("torch.nn.modules.")
    return {
        name: value
        for name, value in vars(module).items()
        if name not in _OF_EVERY_MODULE
        and name not in _OF_COMPILING
        and not (of_torch and (name in _INERT or name[0] == "_"))
        # A weight that a hook computes before each pass, as `torch.nn.utils.weight_norm` does.
        and not (isinstance(value, Tensor) and module._forward_pre_hooks)
    }


@contextmanager
def written_apart(modules: Sequence[nn.Module]) -> Iterator[None]:
    """What a pass inside writes into attributes of modules is from now on no setting of theirs."""
    before = list(map(dict, map(vars, modules)))
    try:
        yield
    finally:
        for module, old in zip(modules, before, strict=True):
            if not _are_equal(new := vars(module), old):
                names = {name for name in {*old, *new} if old.get(name, old) is not new.get(name, old)}
                _WRITTEN.add(module, names)


def _are_equal(new: dict[str, Any], old: dict[str, Any]) -> bool:
    try:
        return new == old  # of what is the same object nothing is compared
    except Exception:  # whatever comparing a tensor or an array with another says
        return False
