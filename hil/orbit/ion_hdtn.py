"""Contact plans as DTN stacks keep them, ION and HDTN: written, read, and what is wrong with them (file, line, reason).

Both hold one-way contacts in whole seconds between numbered nodes, and both round: times to whole seconds (inwards, so
that no contact is promised that is not there), light time to whole light seconds (0 for every crosslink in low orbit).
What a round trip keeps is exactly a `WirePlan`.  The linter's traps are those that bite users of both stacks: bytes
against bits, contacts one way only, whole light seconds, overlaps, ranges that nobody gave.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hil.errors import ConfigurationError
from hil.orbit.contacts import ContactPlan

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
        json.dumps(dict(zip(_HDTN_KEYS, (number, *astuple(leg)), strict=True)))
        for number, leg in enumerate(plan.contacts)
    ]
    return '{"contacts": [\n' + ",\n".join(rows) + "\n]}\n"


@dataclass(frozen=True, order=True)
class Finding:
    """Something wrong in a plan file.  An error keeps it from meaning what it says; a warning is suspicious."""

    line: int
    error: bool
    reason: str

    def show(self, file: str) -> str:
        return f"{file}:{self.line}: {'error' if self.error else 'warning'}: {self.reason}"


@dataclass
class _Leg:
    line: int
    start_s: int
    end_s: int
    source: int
    destination: int
    value: int  # rate in bit/s, or light seconds
    light_time_s: int = 0

    def meets(self, others: Iterable[_Leg]) -> bool:
        """Return whether one of the others holds at some moment of this one."""
        return any(self.start_s < other.end_s and other.start_s < self.end_s for other in others)


@dataclass
class _Draft:
    contacts: list[_Leg] = field(default_factory=list)
    ranges: list[_Leg] = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)
    start: datetime | None = None
    findings: list[Finding] = field(default_factory=list)

    def error(self, line: int, reason: str) -> None:
        self.findings.append(Finding(line, True, reason))

    def warn(self, line: int, reason: str) -> None:
        self.findings.append(Finding(line, False, reason))


def lint(text: str) -> list[Finding]:
    """Return everything wrong with a plan file's text, in order of lines; the format is told by how it begins."""
    return sorted(_read(text).findings)


def read_wire(path: Path) -> WirePlan:
    """Read an ION or HDTN plan.  Raises ConfigurationError with one ``file:line: reason`` per error."""
    draft = _read(read_text(path))
    if errors := [found for found in sorted(draft.findings) if found.error]:
        raise ConfigurationError(
            "\n".join(found.show(str(path)) for found in errors), remedy="correct the lines named above"
        )
    legs = [WireContact(*astuple(leg)[1:]) for leg in draft.contacts]
    return WirePlan(tuple(sorted(legs)), draft.names, draft.start)


def read_text(path: Path) -> str:
    """Return a plan file's text.  Raises ConfigurationError."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigurationError(
            f"{path}: cannot be read: {exc}", remedy="give an ION .ionrc or an HDTN JSON contact plan"
        ) from exc


def _read(text: str) -> _Draft:
    is_hdtn = text.lstrip("\ufeff \t\r\n").startswith(("{", "["))
    draft = _hdtn(text) if is_hdtn else _ion(text)
    _check_intervals(draft, draft.contacts, "contact")
    _check_both_ways(draft)
    unit = "rateBitsPerSec is bits per second" if is_hdtn else "ION's rates are bytes per second"
    for leg in draft.contacts:
        if not SLOWEST_BPS <= leg.value <= FASTEST_BPS:
            draft.warn(leg.line, f"the rate is {leg.value:,} bit/s: {unit}; was another unit meant?")
        if leg.light_time_s > FARTHEST_LIGHT_S:
            draft.warn(leg.line, f"light time {leg.light_time_s} s: whole light seconds, not milliseconds")
    if not draft.contacts and not any(found.error for found in draft.findings):
        draft.error(1, "holds no contact")
    return draft


# -- ION ---------------------------------------------------------------------------------------------------------


def _ion(text: str) -> _Draft:
    draft = _Draft()
    reference: datetime | None = None
    for line, raw in enumerate(text.splitlines(), 1):
        words = raw.split()
        if name := re.match(r"#\s*node\s+(\d+)\s*=\s*(\S+)", raw):
            draft.names[int(name[1])] = name[2]
        elif words[:1] == ["@"]:
            try:
                reference = _ion_time(" ".join(words[1:]))
            except ValueError:
                draft.error(line, f"{raw.strip()!r}: the reference time is yyyy/mm/dd-hh:mm:ss")
            else:
                draft.start = draft.start or reference
        elif words[:2] in (["a", "contact"], ["a", "range"]):
            leg = _ion_leg(draft, line, words, reference)
            if leg is not None:
                (draft.contacts if words[1] == "contact" else draft.ranges).append(leg)
    _check_intervals(draft, draft.ranges, "range")
    ranges = _by_ends(draft.ranges)
    for leg in draft.ranges:
        mirrored = ranges.get((leg.destination, leg.source), ())
        if leg.source > leg.destination and not leg.meets(mirrored):
            draft.warn(
                leg.line,
                f"a range from {leg.source} to {leg.destination} holds one way only; written from the lower node "
                "number to the higher it holds both ways",
            )
        if leg.value > FARTHEST_LIGHT_S:
            draft.warn(leg.line, f"range {leg.value}: ION's ranges are whole light seconds, not milliseconds or km")
    for leg in draft.contacts:
        _ion_light_time(draft, leg, ranges)
    return draft


def _ion_leg(draft: _Draft, line: int, words: Sequence[str], reference: datetime | None) -> _Leg | None:
    kind = words[1]
    if len(words) not in ((7, 8) if kind == "contact" else (7,)):
        draft.error(line, f"a {kind} takes start, stop, two node numbers and a {_MEANING[kind]}")
        return None
    if words[2] == "-1" or words[3] == "0":
        what = "registers a node" if words[2] == "-1" else "is hypothetical"
        draft.warn(line, f"this contact {what} (start -1, stop 0): it schedules nothing and is left out")
        return None
    numbers: list[int] = []
    for word in words[2:4]:
        try:
            numbers.append(_ion_seconds(draft, word, reference))
        except ValueError:
            draft.error(line, f"{word!r} is not a time: +seconds (whole), or yyyy/mm/dd-hh:mm:ss")
            return None
    for word, what in zip(words[4:7], ("a node number", "a node number", f"a {_MEANING[kind]}"), strict=True):
        if not word.isdecimal():
            draft.error(line, f"{word!r} is not {what}: whole numbers only")
            return None
        numbers.append(int(word))
    start_s, end_s, source, destination, value = numbers
    return _Leg(line, start_s, end_s, source, destination, value * 8 if kind == "contact" else value)


def _ion_seconds(draft: _Draft, word: str, reference: datetime | None) -> int:
    """Return the seconds from the plan's start, which the first absolute time sets.  Raises ValueError."""
    relative = word.startswith("+")
    moment = reference if relative else _ion_time(word)
    draft.start = draft.start or moment
    base_s = (moment - draft.start) // timedelta(seconds=1) if moment and draft.start else 0
    return base_s + (int(word[1:]) if relative else 0)


def _ion_time(text: str) -> datetime:
    """``yyyy/mm/dd-hh:mm:ss``, UTC.  Raises ValueError."""
    return datetime.strptime(text, ION_TIME).replace(tzinfo=UTC)


_MEANING = {"contact": "rate in bytes per second", "range": "light time in whole seconds"}


def _ion_light_time(draft: _Draft, leg: _Leg, ranges: Mapping[tuple[int, int], Sequence[_Leg]]) -> None:
    """Light time from the range lines; one from the lower node to the higher holds both ways."""
    ends = (leg.source, leg.destination)
    for wanted in (ends, (min(ends), max(ends))):
        for found in ranges.get(wanted, ()):
            if found.start_s <= leg.start_s < found.end_s:
                leg.light_time_s = found.value
                if found.end_s < leg.end_s:
                    draft.warn(leg.line, f"the range of line {found.line} ends before this contact does")
                return
    draft.error(leg.line, f"no range between {ends[0]} and {ends[1]} when this contact begins: ION will not use it")


# -- HDTN --------------------------------------------------------------------------------------------------------


def _hdtn(text: str) -> _Draft:
    draft = _Draft()
    try:
        document = json.loads(text)
    except json.JSONDecodeError as exc:
        draft.error(exc.lineno, f"not valid JSON: {exc.msg}")
        return draft
    if not isinstance(document, dict) or not isinstance(document.get("contacts"), list):
        draft.error(1, 'expected {"contacts": [...]}')
        return draft
    first_with: dict[int, int] = {}
    for line, entry in _entries(text):
        leg = _hdtn_leg(draft, line, entry)
        if leg is None:
            continue
        number = entry["contact"]
        if number in first_with:
            draft.error(line, f"contact {number} is given twice (first in line {first_with[number]})")
        first_with.setdefault(number, line)
        draft.contacts.append(leg)
    return draft


def _hdtn_leg(draft: _Draft, line: int, entry: object) -> _Leg | None:
    if not isinstance(entry, dict):
        draft.error(line, "a contact is an object with keys and values")
        return None
    if missing := [key for key in _HDTN_KEYS if key not in entry]:
        others = [key for key in entry if "rate" in key.lower() and key != "rateBitsPerSec"]
        hint = f" (found {others[0]}: HDTN reads rateBitsPerSec, bits per second)" if others else ""
        draft.error(line, f"missing {', '.join(missing)}{hint}")
        return None
    for key in _HDTN_KEYS:
        value = entry[key]
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            what = "whole light seconds (low orbit: 0)" if key == "owlt" else "a whole number"
            draft.error(line, f"{key} is {value!r}: HDTN takes {what}")
            return None
    return _Leg(line, *(entry[key] for key in _HDTN_KEYS[1:]))


def _entries(text: str) -> Iterable[tuple[int, dict[str, int]]]:
    """Return the objects of ``"contacts"`` with the line each begins in (the text is known to be valid)."""
    decoder = json.JSONDecoder()
    opening = re.search(r'"contacts"\s*:\s*\[', text)
    place = opening.end() if opening else len(text)
    between = re.compile(r"[ \t\r\n,]*")
    line, counted = 1, 0
    while True:
        gap = between.match(text, place)
        place = gap.end() if gap else place
        if text[place : place + 1] in ("", "]"):
            return
        line, counted = line + text.count("\n", counted, place), place
        entry, place = decoder.raw_decode(text, place)
        yield line, entry


# -- both --------------------------------------------------------------------------------------------------------


def _by_ends(legs: Iterable[_Leg]) -> dict[tuple[int, int], list[_Leg]]:
    """Sort legs by (source, destination)."""
    ways: dict[tuple[int, int], list[_Leg]] = {}
    for leg in legs:
        ways.setdefault((leg.source, leg.destination), []).append(leg)
    return ways


def _check_intervals(draft: _Draft, legs: Sequence[_Leg], what: str) -> None:
    """Ends after beginnings, no node to itself, and no two of one pair and direction at the same time."""
    last: dict[tuple[int, int], _Leg] = {}
    for leg in sorted(legs, key=lambda leg: (leg.start_s, leg.line)):
        if leg.end_s <= leg.start_s:
            draft.error(leg.line, f"the {what} ends at {leg.end_s} s, not after its start at {leg.start_s} s")
            continue
        if leg.source == leg.destination:
            draft.error(leg.line, f"a {what} of node {leg.source} with itself")
        pair = (leg.source, leg.destination)
        before = last.get(pair)
        if before is not None and leg.meets([before]):
            draft.error(
                max(leg.line, before.line),
                f"overlaps the {what} of line {min(leg.line, before.line)} ({pair[0]} to {pair[1]}): "
                "one pair's intervals may not overlap",
            )
        if before is None or leg.end_s > before.end_s:
            last[pair] = leg


def _check_both_ways(draft: _Draft) -> None:
    ways = _by_ends(draft.contacts)
    for leg in draft.contacts:
        if not leg.meets(ways.get((leg.destination, leg.source), ())):
            draft.warn(
                leg.line,
                f"contact from {leg.source} to {leg.destination} only: contacts are one-way, and nothing comes back "
                "while this one lasts",
            )
