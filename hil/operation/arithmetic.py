"""The arithmetic of the preview: bytes through windows of contact, terms with margins, and the one that binds.  Pure.

Times in seconds from the operation's begin, rates in bit/s, sizes in bytes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import attrgetter, itemgetter

ENDLESS = 1e18
"""Bytes: more than any link carries in the time that is looked at."""
_BYTE = 1.0
_US = 1e-6


@dataclass(frozen=True)
class Window:
    """A time in which bytes pass from one node to another."""

    start_s: float
    end_s: float
    rate_bps: float

    @property
    def length_s(self) -> float:
        return self.end_s - self.start_s


Curve = Sequence[tuple[float, float]]
"""(moment, bytes that have arrived by then), rising: straight lines between points, nothing before the first one."""


def at(curve: Curve, moment_s: float) -> float:
    """Return the bytes that have arrived at a moment."""
    number = bisect_right(curve, moment_s, key=itemgetter(0))
    if number in (0, len(curve)):
        return curve[-1][1] if number else 0.0
    (start_s, low), (end_s, high) = curve[number - 1], curve[number]
    return low + (high - low) * (moment_s - start_s) / (end_s - start_s)


def reached_s(curve: Curve, size: float) -> float | None:
    """Return when so many bytes have arrived; None when they never do."""
    before: tuple[float, float] | None = None
    for moment_s, there in curve:
        if there >= size - _BYTE:
            if before is None or there <= before[1]:
                return moment_s
            share = min(1.0, max(0.0, (size - before[1]) / (there - before[1])))
            return before[0] + share * (moment_s - before[0])
        before = moment_s, there
    return None


def through(windows: Iterable[Window], arriving: Curve, efficiency: float) -> Curve:
    """Return what comes out behind a way that is there only in windows, and keeps what waits for it.

    Windows do not overlap.  A byte is forwarded as soon as it is there; in a window ``efficiency`` of the rate is for
    the file.
    """
    served = sorted(windows, key=lambda window: window.start_s)
    moments = {moment for moment, _ in arriving}
    moments |= {edge for window in served for edge in (window.start_s, window.end_s)}
    ordered = sorted(moments)
    done, out = 0.0, [(ordered[0], 0.0)] if ordered else []
    for begin_s, end_s in pairwise(ordered):
        number = bisect_right(served, begin_s, key=attrgetter("start_s"))
        is_open = number > 0 and served[number - 1].end_s >= end_s
        speed = efficiency / 8 * served[number - 1].rate_bps if is_open else 0.0
        there, will = at(arriving, begin_s), at(arriving, end_s - _US)
        waiting, coming = max(0.0, there - done), max(0.0, (will - there) / max(_US, end_s - _US - begin_s))
        if waiting > _BYTE and speed > coming:
            empty_s = begin_s + waiting / (speed - coming)
            if empty_s < end_s:
                out.append((empty_s, done + speed * (empty_s - begin_s)))
                done, begin_s = out[-1][1], empty_s
                waiting = 0.0
        done += (speed if waiting > _BYTE else min(speed, coming)) * (end_s - begin_s)
        out.append((end_s, done))
    return out


def contacts(windows: Iterable[Window], *, from_s: float, to_s: float) -> list[Window]:
    """Return the passes in a time: windows that touch are one; of several rates the highest."""
    found: list[Window] = []
    for window in sorted(windows, key=lambda window: window.start_s):
        start_s, end_s = max(window.start_s, from_s), min(window.end_s, to_s)
        if end_s - start_s <= _US:
            continue
        if found and start_s - found[-1].end_s <= _US:
            last = found[-1]
            found[-1] = Window(last.start_s, max(last.end_s, end_s), max(last.rate_bps, window.rate_bps))
        else:
            found.append(Window(start_s, end_s, window.rate_bps))
    return found


def after_contact_s(windows: Iterable[Window], seconds: float, *, from_s: float, to_s: float) -> float | None:
    """Return when so many seconds of contact have passed; None when there are fewer."""
    left = seconds
    if left <= 0:
        return from_s
    for one in contacts(windows, from_s=from_s, to_s=to_s):
        if one.length_s >= left - _US:
            return one.start_s + left
        left -= one.length_s
    return None


@dataclass(frozen=True)
class Term:
    """One thing that the operation needs and of which there is only so much."""

    name: str
    """E.g. ``upload: ground to sc-a``."""
    needs: float | None
    has: float | None
    """None where a figure is not known; ``source`` says why."""
    unit: str
    """B, s, W, Wh, or K."""
    source: str
    """Where the two figures come from."""
    reason: str = ""
    """What to say when it does not fit, after the two figures."""

    @property
    def known(self) -> bool:
        return self.needs is not None and self.has is not None

    @property
    def free(self) -> float | None:
        """Share of what there is that stays free, below 0 when it is not enough; None when it is not known."""
        if self.needs is None or self.has is None:
            return None
        if self.has <= 0:
            return 1.0 if self.needs <= 0 else -1.0
        return max(-1.0, 1 - self.needs / self.has)

    def fits(self, margin: float) -> bool:
        """Whether ``margin`` of what there is stays free; what is not known does not speak against it."""
        return self.free is None or self.free >= margin - 1e-9


@dataclass(frozen=True)
class Preview:
    """All terms, in the order of the steps."""

    terms: tuple[Term, ...]
    margin: float

    @property
    def binding(self) -> Term | None:
        """The term that leaves the least free; None when nothing is known."""
        known = [(term.free, number) for number, term in enumerate(self.terms) if term.free is not None]
        return self.terms[min(known)[1]] if known else None

    @property
    def feasible(self) -> bool:
        return all(term.fits(self.margin) for term in self.terms)

    @property
    def unknown(self) -> tuple[Term, ...]:
        return tuple(term for term in self.terms if not term.known)


def quantity(value: float | None, unit: str) -> str:
    """Return a figure for people, such as ``4.2 GB`` or ``1 h 30 min``."""
    if value is None:
        return "?"
    if unit == "s":
        hours, minutes = divmod(round(value), 3600)
        minutes, seconds = divmod(minutes, 60)
        words = [f"{n} {word}" for n, word in ((hours, "h"), (minutes, "min"), (seconds, "s")) if n]
        return " ".join(words[:2]) or "0 s"
    if unit == "B":
        for size, word in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
            if value >= size:
                return f"{value / size:.3g} {word}" if value < 1000 * size else f"{value / size:,.0f} {word}"
        return f"{value:.0f} B"
    return f"{value:.1f} {unit}"
