"""What the tests of the widget share: explorers that are closed when the test ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gradcam_widget.widget.explorer import GradCAMWidget


@pytest.fixture
def explore() -> Iterator[Callable[..., GradCAMWidget]]:
    """`GradCAMWidget`, closed in the end. A module's own fixture ``make`` adds what its tests need."""
    made: list[GradCAMWidget] = []

    def build(*arguments: Any, **settings: Any) -> GradCAMWidget:
        made.append(GradCAMWidget(*arguments, **settings))
        return made[-1]

    yield build
    for widget in made:
        widget.close()


@pytest.fixture
def widget(make: Callable[..., GradCAMWidget]) -> GradCAMWidget:
    """What the module's fixture ``make`` makes without arguments."""
    return make()
