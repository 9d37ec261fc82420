"""Where a transfer stood still: measured if somebody measured it, else derived from the links."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hil.evidence.events import ContactGap
from hil.evidence.readback import RunRecord
from hil.report.timeline.bars import Interruption, Span
from hil.report.timeline.link_lanes import LinkLane, apart

CROSSING = frozenset({"upload", "relay"})
"""Kinds of steps whose bytes cross links."""
SHORTEST_S = 0.05


class Interruptions:
    """Answers for one run: in which parts of a transfer did no byte arrive?

    A ``contact.gap`` event says what was seen when a contact ended by plan.  Elsewhere these are the parts in which
    no chain of usable links joined the two ends: what was commanded, not what was seen.
    """

    def __init__(self, run: RunRecord, links: Sequence[LinkLane]) -> None:
        self._links = links
        self._seen = [seen for event in run.of(ContactGap) if (seen := _contact_gap(event, links))]
        boards = run.meta.get("boards") or {}
        self._craft = {name: str(facts.get("spacecraft", "")) for name, facts in boards.items()}
        chosen = run.meta.get("participants") or {}
        self._gateway = str(chosen.get("gateway") or run.meta.get("gateway") or "")
        crafts = set(self._craft.values())
        self._ground = {end for lane in links for end in lane.ends if lane.kind == "ground"} - crafts

    def of(self, board: str, category: str, source: str, span: Span) -> tuple[Interruption, ...]:
        """Return the interruptions of a step of ``board``, whose data came from ``source`` ("": the gateway)."""
        if category not in CROSSING:
            return ()
        seen = [gap for crossing, gap in self._seen if crossing == category and _strikes(gap, span)]
        if seen:
            return tuple(seen)
        far = self._craft.get(board, "")
        near_craft = self._craft.get(source or self._gateway, "")
        near = self._ground if category == "upload" else {near_craft}
        if not far or not near or "" in near:
            return ()
        whom = "the ground" if category == "upload" else near_craft
        why = f"no usable chain of links from {whom} to {far}"
        parts = apart(self._links, near, far, span)
        return tuple(Interruption(a, b, why) for a, b in parts if b - a >= SHORTEST_S)


def _contact_gap(event: ContactGap, links: Sequence[LinkLane]) -> tuple[str, Interruption] | None:
    """Which kind of transfer it interrupted and when; its times count from the plan's start, and it is written when
    the transfer has ended, which ties the two clocks."""
    closes, again, ended = event.closes_s, event.flowed_again_s, event.ended_s
    if not again > closes or math.isnan(ended):  # a time that is missing is NaN
        return None
    named = set(event.links)
    crossing = "upload" if any(lane.kind == "ground" and lane.name in named for lane in links) else "relay"
    why = f"contact ended by plan on {', '.join(sorted(named)) or 'its links'}"
    if event.bytes_held is not None:
        why += f", {event.bytes_held:,} bytes held"
    if event.opens_s is not None:
        why += f", bytes flowed again {max(0.0, again - event.opens_s):.2f} s after the contact returned"
    return crossing, Interruption(event.t_s - ended + closes, event.t_s - ended + again, why)


def _strikes(gap: Interruption, span: Span) -> bool:
    return span[0] < gap.start_s and gap.end_s <= span[1] + SHORTEST_S
