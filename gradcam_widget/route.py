"""Which way a backward pass takes: where it begins, what it runs through, and where later ones can go on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gradcam_widget.trace import Record, Trace

__all__ = ["Route", "find_route"]

_MOST = 512
"""Routes that are kept of a trace; each is a plan of a few kilobytes."""


class Route(NamedTuple):
    """The plan of one pass. Sets of records are the bits of a number, by index.

    Attributes:
        start: where the pass begins, with the gradient known there; None for the output.
        wanted: the records on its way, from there to the deepest asked for, of which nothing is known yet.
        bits: the same as bits.
        ends: of these the ones whose gradients the pass must take: a pass runs only through what lies above one of
            its inputs, and later ones go on from the deepest that cuts what is below off from the output.
        led_on: of the ends the bits of those that have feature maps below them, towards the input.
        gradient_bytes: of the gradients of all the records on the way.
        mean_bytes: of their means.
    """

    start: Record | None
    wanted: tuple[Record, ...]
    bits: int
    ends: tuple[Record, ...]
    led_on: int
    gradient_bytes: int
    mean_bytes: int


def find_route(trace: Trace, missing: Sequence[Record], begun: int, done: int) -> Route:
    """The way to some records; of a trace it is planned once for each state of knowledge.

    Args:
        trace: the forward pass.
        missing: feature maps of it, at least one.
        begun: bits of those whose gradient is known and not None.
        done: bits of those of which nothing need be found.
    """
    key = (tuple([record.index for record in missing]), begun, done)
    route: Route | None = trace.routes.get(key)
    if route is None:
        if len(trace.routes) >= _MOST:
            trace.routes.clear()
        route = trace.routes[key] = _plan(trace, missing, begun, done)
    return route


def _plan(trace: Trace, missing: Sequence[Record], begun: int, done: int) -> Route:
    start = trace.resume_point(missing, begun)
    deepest = min(record.index for record in missing)
    wanted = tuple(
        record
        for record in trace.records[deepest : None if start is None else start.index]
        if not done >> record.index & 1 and (start is None or trace.is_cut_off(record, start))
    )
    lowest, cut = trace.lowest(wanted), trace.cut(wanted)
    ends = tuple(record for record in wanted if record.index in lowest or record is cut)
    return Route(
        start,
        wanted,
        sum(1 << record.index for record in wanted),
        ends,
        sum(1 << record.index for record in ends if trace.leads_on(record)),
        sum(record.output.nbytes for record in wanted),
        sum(record.shape[0] * max(4, record.output.element_size()) for record in wanted),
    )
