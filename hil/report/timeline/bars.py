"""What the timeline draws: things that lasted and things that happened at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

Span = tuple[float, float]
"""Start and end in seconds since the run started."""


@dataclass(frozen=True)
class Bar:
    """Something that lasted, in seconds since the run started."""

    start_s: float
    end_s: float
    category: str
    label: str
    detail: str = ""
    ended: bool = True
    gaps: tuple[Interruption, ...] = ()
    resumed_at: tuple[int, ...] = ()  # offsets in bytes at which a transfer went on

    def within(self, start_s: float, end_s: float) -> bool:
        """Whether any of it lies between these moments."""
        return self.end_s > start_s and self.start_s < end_s


@dataclass(frozen=True)
class Interruption:
    """A part of a bar in which what it shows stood still."""

    start_s: float
    end_s: float
    why: str


@dataclass(frozen=True)
class Mark:
    """Something that happened at once."""

    t_s: float
    kind: str  # boot | stage | trouble | command | fault | route
    label: str
    detail: str = ""


def merged(spans: Iterable[Span]) -> list[Span]:
    """Return the union of spans, in order; spans that touch become one."""
    out: list[Span] = []
    for start, end in sorted(spans):
        if out and start <= out[-1][1]:
            out[-1] = (out[-1][0], max(out[-1][1], end))
        elif end > start:
            out.append((start, end))
    return out


def clipped(spans: Iterable[Span], start_s: float, end_s: float) -> list[Span]:
    """Return the parts of spans between two moments."""
    return [(max(a, start_s), min(b, end_s)) for a, b in spans if b > start_s and a < end_s]
