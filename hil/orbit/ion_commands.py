"""ION's contact plans (``.ionrc``), read as ``ionadmin`` reads them: command by command, each on what is there then.

Sources: ionrc(5); how ION 4.1 behaves (``ionadmin.c``, ``rfx.c``, ``libcgr.c``).  What a reader of the manual would
miss: ``+ss`` counts from the moment ionadmin starts until an ``@`` says otherwise, and ``@ +ss`` moves on from the
reference before it; of two contacts that overlap, or only touch, the later line is ignored; a range from the lower
node number to the higher holds both ways, until a line from the higher to the lower says otherwise; numbers with a
leading zero are octal; in a file for ionstart only the sections of ionadmin count.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from hil.orbit.plan_draft import MAX_SECONDS, Draft, Leg

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DATE = re.compile(r"(\d{4})/(\d{1,2})/(\d{1,2})-(\d{1,2}):(\d{1,2}):(\d{1,2})", re.ASCII)
_SECTION = re.compile(r"##\s*(begin|end)\s+ionadmin\b")
_TAKES = {
    "a contact": ((7, 8), "start, stop, two node numbers and a rate in bytes per second"),
    "a range": ((7, 8), "start, stop, two node numbers and a light time in whole seconds"),
    "c contact": ((6, 7), "start, two node numbers and a rate in bytes per second"),
    "d contact": ((5,), "start (or *) and two node numbers"),
    "d range": ((5,), "start (or *) and two node numbers"),
}
_UNSIGNED = 2**32
_VALUE = {"contact": "a rate in bytes per second", "range": "a light time in whole seconds"}


@dataclass(frozen=True)
class _Moment:
    """A time: since 1970 where it is dated, else since ionadmin started."""

    dated: bool
    seconds: int


@dataclass(frozen=True)
class _Command:
    """One command on the plan; without ``start`` it means all of the pair."""

    line: int
    verb: str
    kind: str
    start: _Moment | None
    end: _Moment | None
    source: int
    destination: int
    value: int = 0


def read_ion(text: str) -> Draft:
    """Return the plan that is there once ionadmin has carried out ``text``."""
    draft = Draft()
    first_date, commands = _commands(draft, text)
    moments = [(c.line, m) for c in commands for m in (c.start, c.end) if m is not None]
    dated, counted = (next((line for line, m in moments if m.dated is kind), 0) for kind in (True, False))
    if dated and counted:
        other = "the other" if dated == counted else f"that of line {dated}"
        draft.error(
            counted,
            f"this time counts from the moment ionadmin starts, and {other} is a date: nothing says when 0 "
            "is; begin the file with @ yyyy/mm/dd-hh:mm:ss",
        )
        return draft
    ledger = _Ledger(draft)
    for command in commands:
        ledger.carry_out(command)
    draft.contacts = sorted((leg for legs in ledger.contacts.values() for leg in legs), key=lambda leg: leg.line)
    ledger.light_times()
    if dated and draft.contacts:
        # Seconds count from the reference time, as in the file; nothing begins before 0.
        zero = min(first_date or draft.contacts[0].start_s, *(leg.start_s for leg in draft.contacts))
        draft.start = _EPOCH + timedelta(seconds=zero)
        for leg in draft.contacts:
            leg.start_s, leg.end_s = leg.start_s - zero, leg.end_s - zero
    return draft


# -- from lines to commands --------------------------------------------------------------------------------------


def _commands(draft: Draft, text: str) -> tuple[int | None, list[_Command]]:
    """Return the first dated reference time (seconds since 1970), and the commands that touch contacts and ranges."""
    commands: list[_Command] = []
    lines = text.lstrip("\ufeff").splitlines()
    listening = not any(_SECTION.match(raw) for raw in lines)
    reference, first_date = _Moment(False, 0), None
    for line, raw in enumerate(lines, 1):
        if section := _SECTION.match(raw):
            listening, reference = section[1] == "begin", _Moment(False, 0)
        elif name := re.match(r"#\s*node\s+([0-9]+)\s*=\s*(\S+)", raw):
            draft.names[int(name[1])] = name[2]
        words = raw.split()
        if not listening or not words or words[0].startswith("#"):
            continue
        verb = words[0][0]  # ionadmin looks at no more of it
        if verb in "qt":
            listening = False  # it ends here
        elif verb == "@":
            try:
                reference = _Moment(False, 0) if words[1:] == ["0"] else _moment(" ".join(words[1:]), reference)
            except ValueError as exc:
                draft.error(line, f"the reference time {exc}")
            if reference.dated and first_date is None:
                first_date = reference.seconds
        elif verb in "acd" and (command := _command(draft, line, verb, words, reference)):
            commands.append(command)
        elif verb not in "acd?hv1sx^!ilbmre":
            draft.warn(line, f"ionadmin knows no command {words[0][:20]!r}: this line is left out", kind="unknown")
    return first_date, commands


def _command(draft: Draft, line: int, verb: str, words: Sequence[str], reference: _Moment) -> _Command | None:
    kind = words[1] if len(words) > 1 else ""
    if f"{verb} {kind}" not in _TAKES:
        draft.warn(line, f"ionadmin knows no {' '.join(words[:2])!r}: this line is left out", kind="unknown")
        return None
    counts, takes = _TAKES[f"{verb} {kind}"]
    times, rest = (words[2:4], words[4:]) if verb == "a" else (words[2:3], words[3:])
    try:
        if len(words) not in counts:
            raise ValueError(f"{words[0]} {kind} takes {takes}")
        if kind == "contact" and times[0] in ("0", "-1"):
            return _unscheduled(draft, line, verb, words)
        moments = [None if verb == "d" and word[0] == "*" else _moment(word, reference) for word in times]
        source, destination = (_number(word, "a node number", least=1) for word in rest[:2])
        value = _number(rest[2], _VALUE[kind], least=int(kind == "contact")) if verb != "d" else 0
        if rest[3:] and not re.fullmatch(r"[01](\.0*)?|0?\.[0-9]+", rest[3]):
            raise ValueError(f"the confidence {rest[3]} is not between 0.0 and 1.0")
    except ValueError as exc:
        draft.error(line, str(exc))
        return None
    if value >= _UNSIGNED:
        draft.warn(line, f"{value:,} does not fit in 32 bits: ION reads {value % _UNSIGNED:,}", kind="wraps")
        value %= _UNSIGNED
    if kind == "contact":
        value *= 8
    return _Command(line, verb, kind, moments[0], moments[-1], source, destination, value)


def _unscheduled(draft: Draft, line: int, verb: str, words: Sequence[str]) -> _Command | None:
    """Note a registration (start -1) or a hypothetical contact (start 0): neither has a time.  Raises ValueError."""
    if verb == "c":
        raise ValueError("ION changes scheduled contacts only")
    if verb == "a" and words[2] == "-1" and words[4] != words[5]:
        raise ValueError("a registration (start -1) names one node twice")
    if verb == "a":
        what = "registers a node" if words[2] == "-1" else "is hypothetical"
        draft.warn(line, f"this contact {what} (start {words[2]}): it schedules nothing and is left out", kind=what)
    if words[2] == "-1":
        return None
    ends = (_number(word, "a node number", least=1) for word in (words[4:6] if verb == "a" else words[3:5]))
    return _Command(line, verb, "hypothetical", None, None, *ends)


def _moment(word: str, reference: _Moment) -> _Moment:
    """Return the time of ``+ss`` or ``yyyy/mm/dd-hh:mm:ss`` (UTC).  Raises ValueError."""
    if word.startswith("+"):
        moment = replace(reference, seconds=reference.seconds + _number(word[1:], "a number of seconds"))
    elif date := _DATE.fullmatch(word):
        year, month, day, *clock = map(int, date.groups())
        hours, minutes, seconds = clock
        try:
            since = datetime(year, month, day, tzinfo=UTC) - _EPOCH
        except ValueError as exc:
            raise ValueError(f"{word!r} is not a time: {exc}") from exc
        moment = _Moment(True, int(since.total_seconds()) + hours * 3600 + minutes * 60 + seconds)
    else:
        raise ValueError(f"{word!r} is not a time: +seconds (whole), or yyyy/mm/dd-hh:mm:ss")
    if not 0 <= moment.seconds <= MAX_SECONDS:
        raise ValueError(f"{word!r} is not a time that ION knows: it ends on 19 January 2038")
    return moment


def _number(word: str, what: str, *, least: int = 0) -> int:
    """Return a whole number as it is written.  Raises ValueError where ION would read another."""
    if not re.fullmatch(r"[0-9]{1,18}", word):
        raise ValueError(f"{word!r} is not {what}: whole numbers only")
    if word != "0" and word.startswith("0"):
        raise ValueError(f"{word!r} begins with 0: ION reads that as an octal number")
    if int(word) < least:
        raise ValueError(f"{word!r} is not {what}: at least {least}")
    return int(word)


# -- what ION keeps ----------------------------------------------------------------------------------------------


class _Ledger:
    """Contacts and ranges by (source, destination), kept as ION's ``rfx.c`` keeps them."""

    def __init__(self, draft: Draft) -> None:
        self.contacts: dict[tuple[int, int], list[Leg]] = {}
        self._ranges: dict[tuple[int, int], list[Leg]] = {}
        self._hypothetical: dict[tuple[int, int], int] = {}  # its line
        self._draft = draft

    def carry_out(self, command: _Command) -> None:
        ends = (command.source, command.destination)
        if command.kind == "hypothetical":
            self._hypothetical.pop(ends, None)
            if command.verb == "a":
                self._hypothetical[ends] = command.line
            return
        book = self.contacts if command.kind == "contact" else self._ranges
        legs = book.setdefault(ends, [])
        if command.verb == "a" and command.start and command.end:
            leg = Leg(command.line, command.start.seconds, command.end.seconds, *ends, command.value)
            if leg.end_s <= leg.start_s:
                self._draft.error(leg.line, f"the end of this {command.kind} is not after its start")
            elif command.kind == "contact" and ends in self._hypothetical:
                self._draft.error(
                    leg.line,
                    f"overlaps the hypothetical contact of line {self._hypothetical[ends]} ({ends[0]} to {ends[1]}), "
                    "which holds for ever: ION ignores this line; give the hypothetical one after it",
                )
            elif command.kind == "contact":
                self._add(leg, legs, "contact", touching=True)
            else:
                self._add_range(leg, legs)
            return
        same = [leg for leg in legs if not command.start or leg.start_s == command.start.seconds]
        if command.verb == "c":
            for leg in same:
                leg.value = command.value
        else:
            book[ends] = [leg for leg in legs if leg not in same]
            if command.kind == "range" and command.source < command.destination:
                back = self._ranges.get(ends[::-1], [])
                starts = {leg.start_s for leg in same}
                back[:] = [leg for leg in back if not leg.imputed or leg.start_s not in starts]
        if not same and command.start:
            self._draft.warn(
                command.line,
                f"no {command.kind} of {ends[0]} to {ends[1]} in this file begins then: ION changes nothing",
                kind="no such",
            )

    def _add(self, leg: Leg, legs: list[Leg], what: str, *, touching: bool = False) -> bool:
        """Add a leg unless it overlaps another one, or touches it; tell whether it was added."""
        gap_s = int(touching)
        other = next((o for o in legs if leg.start_s < o.end_s + gap_s and o.start_s < leg.end_s + gap_s), None)
        if other is None:
            legs.append(leg)
            return True
        pair = f"the {what} of line {other.line} ({leg.source} to {leg.destination})"
        if (leg.start_s, leg.end_s, leg.value) == (other.start_s, other.end_s, other.value):
            self._draft.warn(leg.line, f"says {pair} again: ION ignores this line", kind="again")
        elif leg.meets([other]):
            self._draft.error(leg.line, f"overlaps {pair}: ION ignores this line")
        else:
            self._draft.error(
                leg.line,
                f"touches {pair}: ION takes that for an overlap and ignores this line; end the earlier one a second "
                "before the later one begins",
            )
        return False

    def _add_range(self, leg: Leg, legs: list[Leg]) -> None:
        """Add a range, and the same the other way round where that is not given.  It may replace an imputed one."""
        legs[:] = [other for other in legs if not other.imputed or other.start_s != leg.start_s]
        if self._add(leg, legs, "range") and leg.source < leg.destination:
            back = self._ranges.setdefault(leg.ends[::-1], [])
            if all(other.start_s != leg.start_s for other in back):
                back.append(replace(leg, source=leg.destination, destination=leg.source, imputed=True))

    def light_times(self) -> None:
        """Give every contact the range that holds when it begins; without one ION routes nothing over it."""
        for ends, contacts in self.contacts.items():
            ranges = sorted(self._ranges.get(ends, ()), key=lambda leg: leg.start_s)
            for leg in contacts:
                here = next((r for r in ranges if r.start_s <= leg.start_s <= r.end_s), None)
                if here is not None:
                    leg.light_time_s = here.value
                    if here.end_s < leg.end_s:
                        what = f"the range of line {here.line} ends before this contact does"
                        self._draft.warn(leg.line, what, kind="range ends")
                elif not leg.is_loopback:
                    what = f"no range between {ends[0]} and {ends[1]} when this contact begins: ION will not use it"
                    back = [r.line for r in self._ranges.get(ends[::-1], ()) if leg.meets([r]) and not r.imputed]
                    if back:
                        what += (
                            f"; line {back[0]} gives it from {ends[1]} to {ends[0]}, which holds that way only: write "
                            "the lower node number first"
                        )
                    elif not any(self._ranges.values()):
                        what += "; ranges in another file? Put them together, and give that"
                    self._draft.error(leg.line, what, kind=f"no range {ends if any(self._ranges.values()) else ''}")
        for ends, ranges in self._ranges.items():
            for leg in ranges:
                way_back = self._ranges.get(ends[::-1], ())
                if leg.source > leg.destination and not leg.imputed and not leg.meets(way_back):
                    self._draft.warn(
                        leg.line,
                        f"a range from {leg.source} to {leg.destination} holds one way only; written from the "
                        "lower node number to the higher it holds both ways",
                        kind="one way",
                    )
