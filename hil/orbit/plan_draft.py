"""A contact plan while it is read: legs between numbered nodes, and what is wrong, by line."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from hil.text import one_line

MAX_SECONDS = 2**31 - 1
"""The last second that ION (19 January 2038) and HDTN (a 32-bit number) know."""


@dataclass(frozen=True, order=True)
class Finding:
    """Something wrong in a plan file.  An error keeps it from meaning what it says; a warning is suspicious."""

    line: int
    error: bool
    reason: str

    def show(self, file: str) -> str:
        return f"{file}:{self.line}: {'error' if self.error else 'warning'}: {self.reason}"


@dataclass
class Leg:
    """One direction of a contact, or of ION's range."""

    line: int
    start_s: int
    end_s: int
    source: int
    destination: int
    value: int  # rate in bit/s, or light seconds
    light_time_s: int = 0
    imputed: bool = False  # a range of ION's that holds only because the way back was given

    @property
    def ends(self) -> tuple[int, int]:
        return self.source, self.destination

    @property
    def is_loopback(self) -> bool:
        return self.source == self.destination

    def meets(self, others: Iterable[Leg]) -> bool:
        """Return whether one of the others holds at some moment of this one."""
        return any(self.start_s < other.end_s and other.start_s < self.end_s for other in others)


@dataclass
class Draft:
    """What a reader has understood so far."""

    contacts: list[Leg] = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)
    start: datetime | None = None
    _notes: dict[tuple[bool, str], list[tuple[int, str]]] = field(default_factory=dict)

    def error(self, line: int, reason: str, *, kind: str = "") -> None:
        """Note what keeps the file from meaning what it says; errors of one ``kind`` are told as one."""
        self._notes.setdefault((True, kind or reason), []).append((line, reason))

    def warn(self, line: int, reason: str, *, kind: str = "") -> None:
        """Note what is suspicious; warnings of one ``kind`` (default: of one reason) are told as one."""
        self._notes.setdefault((False, kind or reason), []).append((line, reason))

    def findings(self) -> list[Finding]:
        """Return what was noted in order of lines: each kind once, with the numbers of its other lines."""
        findings = []
        for (is_error, _), rows in self._notes.items():
            (line, reason), *others = sorted(rows)
            if others:
                listed = ", ".join(str(number) for number, _ in others[:5])
                more = f" and {len(others) - 5:,} more" if len(others) > 5 else ""
                reason += f" (the same in line{'s' if others[1:] else ''} {listed}{more})"
            findings.append(Finding(line, is_error, one_line(reason, 400)))
        return sorted(findings)


def by_ends(legs: Iterable[Leg]) -> dict[tuple[int, int], list[Leg]]:
    """Sort legs by (source, destination)."""
    ways: dict[tuple[int, int], list[Leg]] = {}
    for leg in legs:
        ways.setdefault(leg.ends, []).append(leg)
    return ways
