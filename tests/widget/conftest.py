"""What the tests of the widget share: explorers that are closed when the test ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from messages import OLD, old_comms

from gradcam_widget.widget.explorer import GradCAMWidget


@pytest.fixture(scope="session", autouse=True)
def heard() -> None:
    """Widgets of ipywidgets 7 say nothing without a kernel: here is one that does not listen."""
    if not OLD:
        return
    from ipykernel.comm import Comm

    manager = SimpleNamespace(
        register_comm=lambda comm: old_comms.update({comm.comm_id: comm}),
        unregister_comm=lambda comm: old_comms.pop(comm.comm_id, None),
    )
    Comm.kernel = SimpleNamespace(comm_manager=manager)
    Comm._publish_msg = lambda *arguments, **keys: None


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
