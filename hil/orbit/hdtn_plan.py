"""HDTN's contact plans (JSON), read as HDTN reads them.

Source: how HDTN 2 behaves (``router.cpp``, ``libcgr.cpp``): numbers may be strings; what is missing is 0; times and
node numbers are 32-bit; without ``rateBitsPerSec`` the older ``rate`` counts in Mbit/s; a rate of 0 is a link without a
limit, which it takes for 1 Gbit/s when it looks for routes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence

from hil.orbit.plan_draft import MAX_SECONDS, Draft, Leg

UNLIMITED_BPS = 1_000_000_000


def read_hdtn(text: str) -> Draft:
    """Return the contacts of a plan."""
    draft = Draft()
    try:
        document = json.loads(text.lstrip("\ufeff"))
    except (ValueError, RecursionError) as exc:
        draft.error(getattr(exc, "lineno", 1), f"not valid JSON: {getattr(exc, 'msg', exc)}")
        return draft
    if not isinstance(document, dict) or not isinstance(document.get("contacts"), list):
        draft.error(1, 'expected {"contacts": [...]}')
        return draft
    first_with: dict[int, int] = {}
    last: dict[tuple[int, int], Leg] = {}
    for line, entry in _entries(text, document["contacts"]):
        try:
            leg, number = _leg(draft, line, entry)
        except ValueError as exc:
            draft.error(line, str(exc))
            continue
        if number in first_with:
            what = f"contact {number} is given twice (first in line {first_with[number]})"
            draft.warn(line, what, kind="twice")
        first_with.setdefault(number, line)
        draft.contacts.append(leg)
    for leg in sorted(draft.contacts, key=lambda leg: (leg.start_s, leg.line)):
        before = last.get(leg.ends)
        if before is not None and leg.meets([before]):
            late, early = max(leg.line, before.line), min(leg.line, before.line)
            pair = f"{leg.source} to {leg.destination}"
            draft.error(
                late,
                f"overlaps the contact of line {early} ({pair}): the link goes down when one of them ends",
                kind=pair,
            )
        if before is None or leg.end_s > before.end_s:
            last[leg.ends] = leg
    return draft


def _leg(draft: Draft, line: int, entry: object) -> tuple[Leg, int]:
    """Return a contact and its number.  Raises ValueError."""
    if not isinstance(entry, dict):
        raise ValueError("a contact is an object with keys and values")
    start_s, end_s = (_number(entry, key, most=MAX_SECONDS) for key in ("startTime", "endTime"))
    source, destination = (_number(entry, key, most=MAX_SECONDS) for key in ("source", "dest"))
    if not source or not destination:
        raise ValueError("source and dest are node numbers from 1; HDTN takes 0 for what is missing")
    if end_s <= start_s:
        raise ValueError("the end of this contact is not after its start")
    rate_bps = _number(entry, "rateBitsPerSec")
    if "rateBitsPerSec" not in entry and "rate" in entry:
        rate_bps = 1_000_000 * _number(entry, "rate")
        draft.warn(line, f"rate {entry['rate']}: HDTN takes Mbit/s; its newer key is rateBitsPerSec", kind="rate")
    if not rate_bps:
        draft.warn(
            line, "no limit of the rate (rateBitsPerSec 0 or missing): HDTN finds routes with 1 Gbit/s", kind="0"
        )
    leg = Leg(line, start_s, end_s, source, destination, rate_bps or UNLIMITED_BPS, _number(entry, "owlt"))
    return leg, _number(entry, "contact")


def _number(entry: Mapping[str, object], key: str, *, most: int = 2**63 - 1) -> int:
    """Return a number, 0 where there is none.  Raises ValueError where HDTN would silently take 0 instead."""
    value = entry.get(key, 0)
    number = int(value) if isinstance(value, str) and re.fullmatch(r"\s*[0-9]{1,19}\s*", value) else value
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= most:
        what = "whole light seconds (low orbit: 0)" if key == "owlt" else f"a whole number up to {most:,}"
        raise ValueError(f"{key} is {str(value)[:40]!r}: HDTN takes {what}")
    return number


def _entries(text: str, contacts: Sequence[object]) -> Iterator[tuple[int, object]]:
    """Return the contacts with the line each begins in (the text is known to be valid); 1 where that is not found."""
    decoder = json.JSONDecoder()
    openings = (found.end() for found in re.finditer(r'"contacts"\s*:\s*\[', text))
    place = next((at for at in openings if decoder.raw_decode(text, at - 1)[0] == contacts), 0)
    line, counted = 1, 0
    for entry in contacts:
        if place:
            while text[place] in " \t\r\n,":
                place += 1
            line, counted = line + text.count("\n", counted, place), place
            _, place = decoder.raw_decode(text, place)
        yield line, entry
