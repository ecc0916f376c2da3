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
        starts: where the pass begins, with the gradients known there; none for the output.
        wanted: the records on its way, from there to the deepest asked for, of which nothing is known yet.
        bits: the same as bits.
        ends: of these the ones whose gradients the pass must take: a pass runs only through what lies above one of
            its inputs, and later ones go on from the deepest that cuts what is below off from the output.
        led_on: of the ends the bits of those that have feature maps below them, towards the input.
        gradient_bytes: of the gradients of all the records on the way.
        mean_bytes: of their means.
    """

    starts: tuple[Record, ...]
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
    starts = _starts(trace, missing, begun)
    deepest = min(record.index for record in missing)
    there = trace.records[deepest : max(record.index for record in starts) if starts else None]
    if len(starts) == 1:
        there = [record for record in there if trace.is_cut_off(record, starts[0])]
    elif starts:
        there = list(trace.cut_off_together(there, starts))
    wanted = tuple(record for record in there if not done >> record.index & 1)
    lowest, cut = trace.lowest(wanted), trace.cut(wanted)
    ends = tuple(record for record in wanted if record.index in lowest or record is cut)
    return Route(
        starts,
        wanted,
        sum(1 << record.index for record in wanted),
        ends,
        sum(1 << record.index for record in ends if trace.leads_on(record)),
        sum(record.output.nbytes for record in wanted),
        sum(record.shape[0] * max(4, record.output.element_size()) for record in wanted),
    )


def _starts(trace: Trace, missing: Sequence[Record], begun: int) -> tuple[Record, ...]:
    """Where a pass to some records can go on: the nearest of those whose gradient is known, one or several."""
    begun &= trace.resumable
    if not begun:
        return ()
    several = trace.resume_points(missing, begun)
    start = None if several else trace.resume_point(missing, begun)
    return several if start is None else (start,)
