"""Contact plans as DTN stacks keep them, ION and HDTN: written, read, and what is wrong with them (file, line, reason).

Both hold one-way contacts in whole seconds between numbered nodes, and both round: times to whole seconds (inwards, so
that no contact is promised that is not there), light time to whole light seconds (0 for every crosslink in low orbit).
What a round trip keeps is exactly a `WirePlan`.  The linter's traps are those that bite users of both stacks: bytes
against bits, contacts one way only, whole light seconds, overlaps, ranges that nobody gave.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from hil.core.files import read_text
from hil.errors import ConfigurationError
from hil.orbit.contact_plan import ContactPlan
from hil.orbit.hdtn_plan import read_hdtn
from hil.orbit.ion_commands import read_ion
from hil.orbit.plan_draft import Draft, Finding, by_ends

ION_TIME = "%Y/%m/%d-%H:%M:%S"
_HDTN_KEYS = ("contact", "startTime", "endTime", "source", "dest", "rateBitsPerSec", "owlt")
FASTEST_BPS = 10_000_000_000
"""Faster than this and a unit was surely confused (terminals in orbit: 2.5 Gbit/s class)."""
SLOWEST_BPS = 1_000
FARTHEST_LIGHT_S = 5
"""Farther than this (five times the Moon) and milliseconds were surely taken for seconds."""


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
    """Return an ``.ionrc`` for ionadmin: rates in bytes per second, ranges in light seconds (ionrc(5)).

    A contact that touches the next one of its pair ends a second earlier: ION would ignore the next one.
    """
    lines = ["# Contact plan. Rates: bytes per second. Ranges: whole light seconds, one way."]
    lines += [f"# node {number} = {name}" for number, name in sorted(plan.names.items())]
    if plan.start is not None:
        lines.append(f"@ {plan.start:{ION_TIME}}")
    beginnings = {(leg.source, leg.destination, leg.start_s) for leg in plan.contacts}
    rows: list[tuple[int, str]] = []
    for leg in plan.contacts:
        end_s = leg.end_s - ((leg.source, leg.destination, leg.end_s) in beginnings)
        if end_s > leg.start_s:
            span = f"+{leg.start_s} +{end_s} {leg.source} {leg.destination}"
            rows.append((leg.start_s, f"a contact {span} {leg.rate_bps // 8}"))
    for start_s, end_s, source, destination, light_s in _ranges(plan.contacts):
        rows.append((start_s, f"a range +{start_s} +{end_s} {source} {destination} {light_s}"))
    return "\n".join([*lines, *(text for _, text in sorted(rows))]) + "\n"


def _ranges(contacts: Iterable[WireContact]) -> Iterator[tuple[int, int, int, int, int]]:
    """Yield start, end, two nodes and light seconds, none of a pair overlapping, so that every contact has its own.

    A range from the lower number to the higher holds both ways; where the ways differ, one back again follows it.
    """
    pairs: dict[tuple[int, int], list[WireContact]] = {}
    for leg in contacts:
        pairs.setdefault((min(leg.source, leg.destination), max(leg.source, leg.destination)), []).append(leg)
    for (low, high), legs in pairs.items():
        edges = sorted({leg.start_s for leg in legs} | {leg.end_s for leg in legs})
        pieces: list[tuple[int, int, int, int]] = []
        for first, last in pairwise(edges):
            here = {leg.source: leg.light_time_s for leg in legs if leg.start_s <= first < leg.end_s}
            if not here:
                continue
            there = here.get(low, here.get(high, 0))
            piece = (first, last, there, here.get(high, there))
            if pieces and pieces[-1][1:] == (first, *piece[2:]):
                piece = (pieces.pop()[0], *piece[1:])
            pieces.append(piece)
        for (first, last, there, back), following in zip(pieces, [*pieces[1:], None], strict=True):
            # Of two ranges that touch, ION takes the earlier one for a contact that begins there.
            last -= following is not None and following[0] == last and last > first + 1
            yield first, last, low, high, there
            if back != there:
                yield first, last, high, low, back


def to_hdtn(plan: WirePlan) -> str:
    """HDTN's contact plan JSON: rates in bits per second, seconds from start, one contact per line."""
    rows = [
        json.dumps(dict(zip(_HDTN_KEYS, (number, *astuple(leg)), strict=True)))
        for number, leg in enumerate(plan.contacts)
    ]
    return '{"contacts": [\n' + ",\n".join(rows) + "\n]}\n"


def lint(text: str) -> list[Finding]:
    """Return everything wrong with a plan file's text, in order of lines; the format is told by how it begins."""
    return _read(text).findings()


WANTED = "give an ION .ionrc or an HDTN JSON contact plan"


def read_wire(path: Path) -> WirePlan:
    """Read an ION or HDTN plan, without contacts of a node with itself: no link carries those.

    Raises ConfigurationError with one ``file:line: reason`` per error.
    """
    draft = _read(read_text(path, remedy=WANTED))
    if errors := [found for found in draft.findings() if found.error]:
        raise ConfigurationError(
            "\n".join(found.show(str(path)) for found in errors), remedy="correct the lines named above"
        )
    legs = [
        WireContact(leg.start_s, leg.end_s, leg.source, leg.destination, leg.value, leg.light_time_s)
        for leg in draft.contacts
        if not leg.is_loopback
    ]
    return WirePlan(tuple(sorted(legs)), draft.names, draft.start)


def _read(text: str) -> Draft:
    is_hdtn = text.lstrip("\ufeff \t\r\n").startswith(("{", "["))
    draft = read_hdtn(text) if is_hdtn else read_ion(text)
    unit = "rateBitsPerSec is bits per second" if is_hdtn else "ION's rates are bytes per second"
    ways = by_ends(draft.contacts)
    for leg in draft.contacts:
        if leg.is_loopback:
            continue
        if not SLOWEST_BPS <= leg.value <= FASTEST_BPS:
            draft.warn(leg.line, f"the rate is {leg.value:,} bit/s: {unit}; was another unit meant?", kind="unit")
        if leg.light_time_s > FARTHEST_LIGHT_S:
            draft.warn(
                leg.line, f"light time {leg.light_time_s} s: whole light seconds, not milliseconds or km", kind="far"
            )
        if not leg.meets(ways.get(leg.ends[::-1], ())):
            draft.warn(
                leg.line,
                f"contact from {leg.source} to {leg.destination} only: contacts are one-way, and nothing comes back "
                "while this one lasts",
                kind="only",
            )
    if not draft.contacts and not any(found.error for found in draft.findings()):
        draft.error(1, "holds no contact")
    return draft
