"""Contact plans as DTN stacks keep them: one-way contacts in whole seconds between numbered nodes.

Both formats round: times to whole seconds (inwards, so that no contact is promised that is not there), light time
to whole light seconds (0 for every crosslink in low orbit).  What a round trip keeps is exactly a `WirePlan`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from hil.orbit.contacts import ContactPlan

ION_TIME = "%Y/%m/%d-%H:%M:%S"


@dataclass(frozen=True, order=True)
class WireContact:
    """One direction of a contact.  ``light_time_s`` is the one-way light time in whole seconds."""

    start_s: int
    end_s: int
    source: int
    destination: int
    rate_bps: int
    light_time_s: int


@dataclass(frozen=True)
class WirePlan:
    """One-way contacts in order of time; names of the node numbers, and the start, where the file says them."""

    contacts: tuple[WireContact, ...]
    names: Mapping[int, str] = field(default_factory=dict)
    start: datetime | None = None


def to_wire(plan: ContactPlan) -> WirePlan:
    """Return both directions of every contact of at least one whole second; nodes are numbered from 1.

    Rates are rounded down to whole bytes per second (ION knows nothing finer).  A start with a fraction of a
    second moves to the whole second before it.
    """
    numbers = {name: number for number, name in enumerate(plan.nodes, 1)}
    start = plan.start.replace(microsecond=0)
    offset_s = (plan.start - start).total_seconds()
    legs: list[WireContact] = []
    for contact in plan.contacts:
        first = math.ceil(round(contact.start_s + offset_s, 6))
        last = math.floor(round(contact.end_s + offset_s, 6))
        if last <= first:
            continue
        light_s = round(contact.max_delay_us / 1e6)
        for a, b in ((contact.a, contact.b), (contact.b, contact.a)):
            rate_bps = contact.rate_bps // 8 * 8
            legs.append(WireContact(first, last, numbers[a], numbers[b], rate_bps, light_s))
    return WirePlan(tuple(sorted(legs)), {number: name for name, number in numbers.items()}, start)


def to_ion(plan: WirePlan) -> str:
    """Return an ``.ionrc`` for ionadmin: rates in bytes per second, ranges in light seconds (ionrc(5))."""
    lines = ["# Contact plan. Rates: bytes per second. Ranges: whole light seconds, one way."]
    lines += [f"# node {number} = {name}" for number, name in sorted(plan.names.items())]
    if plan.start is not None:
        lines.append(f"@ {plan.start:{ION_TIME}}")
    for leg in plan.contacts:
        span = f"+{leg.start_s} +{leg.end_s} {leg.source} {leg.destination}"
        lines.append(f"a contact {span} {leg.rate_bps // 8}")
        if leg.source < leg.destination:  # ION takes the range from the lower to the higher number both ways
            lines.append(f"a range {span} {leg.light_time_s}")
    return "\n".join(lines) + "\n"


def to_hdtn(plan: WirePlan) -> str:
    """HDTN's contact plan JSON: rates in bits per second, seconds from start, one contact per line."""
    rows = [
        json.dumps(
            {
                "contact": number,
                "source": leg.source,
                "dest": leg.destination,
                "startTime": leg.start_s,
                "endTime": leg.end_s,
                "rateBitsPerSec": leg.rate_bps,
                "owlt": leg.light_time_s,
            }
        )
        for number, leg in enumerate(plan.contacts)
    ]
    return '{"contacts": [\n' + ",\n".join(rows) + "\n]}\n"


def parse_ion_time(text: str) -> datetime:
    """``yyyy/mm/dd-hh:mm:ss``, UTC.  Raises ValueError."""
    return datetime.strptime(text, ION_TIME).replace(tzinfo=UTC)


def seconds_between(start: datetime, end: datetime) -> int:
    return (end - start) // timedelta(seconds=1)
