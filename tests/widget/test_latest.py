"""Work of which only the latest counts: never two at a time, never an old state last, no thread left."""

from __future__ import annotations

import logging
import threading

from patience import PATIENCE, eventually

from gradcam_widget.widget.latest import Latest


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "gradcam_widget latest"]


def test_many_wishes_while_it_works_are_one_more_run_with_the_last_state():
    state, seen = [0], []
    begun, go_on = threading.Event(), threading.Event()

    def work():
        seen.append(state[0])
        begun.set()
        assert go_on.wait(PATIENCE)

    latest = Latest(work)
    latest.ask()
    assert begun.wait(PATIENCE)
    assert not latest.pending
    for value in range(1, 61):
        state[0] = value
        latest.ask()
    assert latest.pending
    go_on.set()
    assert latest.wait(PATIENCE)
    assert seen == [0, 60]
    eventually(lambda: threads() == [])  # it is done a moment before its thread ends


def test_waiting_can_be_given_up():
    go_on = threading.Event()
    latest = Latest(lambda: go_on.wait(PATIENCE) and None)
    assert latest.wait(0)
    latest.ask()
    assert not latest.wait(0.01)
    go_on.set()
    assert latest.wait(PATIENCE)


def test_waiting_inside_of_the_work_does_not_wait_for_itself():
    inside = []
    latest = Latest(lambda: inside.append(latest.wait(PATIENCE)))
    latest.ask()
    assert latest.wait(PATIENCE)
    assert inside == [True]


def test_after_a_failure_it_goes_on(caplog):
    runs = []

    def work():
        runs.append(1)
        if len(runs) == 1:
            raise ArithmeticError("once")

    latest = Latest(work)
    with caplog.at_level(logging.ERROR, "gradcam_widget"):
        latest.ask()
        assert latest.wait(PATIENCE)
    assert "ArithmeticError: once" in caplog.text
    latest.ask()
    assert latest.wait(PATIENCE)
    assert len(runs) == 2


def test_stopped_it_begins_nothing_more():
    runs, begun, go_on = [], threading.Event(), threading.Event()

    def work():
        runs.append(1)
        begun.set()
        go_on.wait(PATIENCE)

    latest = Latest(work)
    latest.ask()
    assert begun.wait(PATIENCE)
    latest.ask()
    latest.stop()
    go_on.set()
    assert latest.wait(PATIENCE)
    latest.ask()
    assert latest.wait(PATIENCE)
    assert len(runs) == 1
    eventually(lambda: threads() == [])  # it is done a moment before its thread ends
