"""Verdicts, limits and measurements: the words evidence is written in.

Standard library only, so that the plugin, the drivers and the report can all import it for nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

Value = float | int | bool | str
"""What can be measured: a number (its unit beside it), a truth, or a word such as a digest."""


class Verdict(StrEnum):
    """What a test, a requirement or a campaign came to.  INCONCLUSIVE is never counted as PASS or as FAIL."""

    PASS = "PASS"
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"
    """The bench or this software was at fault, or a precondition was missing: nothing is known."""
    NOT_RUN = "NOT RUN"
    WAIVED = "WAIVED"
    """It failed, and a dated and signed non-conformance record accepts that."""


WORST_FIRST = (Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.NOT_RUN, Verdict.WAIVED, Verdict.PASS)
"""Of several verdicts the first of these decides."""

EXIT_CODE: dict[Verdict, int] = {
    Verdict.PASS: 0,
    Verdict.WAIVED: 0,
    Verdict.FAIL: 1,
    Verdict.INCONCLUSIVE: 3,
    Verdict.NOT_RUN: 3,
}
"""Exit status of a campaign run; 2 is a configuration error, which has no verdict."""

EXIT_CONFIGURATION = 2


def format_value(value: Value | None, unit: str = "") -> str:
    """Return ``value`` for people: six significant digits, thousands separated, the unit after a space."""
    if value is None:
        text = "nothing"
    elif isinstance(value, bool):
        text = "yes" if value else "no"
    elif isinstance(value, int):
        text = f"{value:,}"
    elif isinstance(value, float):
        big = math.isfinite(value) and abs(value) >= 1000
        text = f"{value:,.1f}".removesuffix(".0") if big else f"{value:.6g}"
    else:
        text = str(value)
    return f"{text} {unit}" if unit else text


def plural(count: int, noun: str) -> str:
    """Return a count with its noun: ``1 test``, ``2 tests``."""
    return f"{count} {noun}{'s' * (count != 1)}"


@dataclass(frozen=True)
class Limit:
    """What a value must satisfy; prints itself.  Make one with the functions below."""

    low: float | None = None
    high: float | None = None
    allowed: tuple[Value, ...] | None = None
    """The values that satisfy it, each of its own kind (a number, a truth, a word); None: numbers in the range."""
    words: Callable[[str], str] | None = field(default=None, repr=False, compare=False)
    """Makes the text of a unit, where the range or the values do not say it well."""

    def holds(self, value: Value | None) -> bool:
        """Whether ``value`` satisfies the limit.  None and NaN never do; a truth is no number."""
        if self.allowed is not None:
            return any(isinstance(value, bool) == isinstance(a, bool) and value == a for a in self.allowed)
        if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
            return False
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    def text(self, unit: str = "") -> str:
        """Return the limit for people, e.g. ``<= 0.5 ms``."""
        if self.words is not None:
            return self.words(unit)
        if self.allowed is not None:
            return f"one of {', '.join(map(format_value, self.allowed))} {unit}".rstrip()
        if self.low is None:
            return f"<= {format_value(self.high, unit)}"
        if self.high is None:
            return f">= {format_value(self.low, unit)}"
        return f"{format_value(self.low)} to {format_value(self.high, unit)}"

    def __str__(self) -> str:
        return self.text()


def at_most(bound: float) -> Limit:
    """Return the limit ``<= bound``."""
    return Limit(high=bound)


def at_least(bound: float) -> Limit:
    """Return the limit ``>= bound``."""
    return Limit(low=bound)


def between(low: float, high: float) -> Limit:
    """Return the limit ``low <= value <= high``."""
    if low > high:
        raise ValueError(f"between({low}, {high}): the lower end is above the upper")
    return Limit(low, high)


def equals(wanted: Value) -> Limit:
    """Return the limit ``= wanted``; for counts, truths and digests (for measured floats use :func:`within`)."""
    return Limit(allowed=(wanted,), words=lambda unit: f"= {format_value(wanted, unit)}")


def within(tolerance: float, *, of: float) -> Limit:
    """Return the limit ``of`` plus or minus ``tolerance``, both in the measurement's unit."""
    return _near(tolerance, of, lambda unit: format_value(tolerance, unit))


def within_percent(percent: float, *, of: float) -> Limit:
    """Return the limit ``of`` plus or minus ``percent`` per cent of it."""
    return _near(abs(of) * percent / 100, of, lambda unit: f"{format_value(percent)} %")


def _near(tolerance: float, of: float, span: Callable[[str], str]) -> Limit:
    # A hair of slack for binary fractions: 0.3 is within 0.1 of 0.2.
    slack = tolerance * 1e-12 + abs(of) * 1e-15 + 1e-15
    low, high = of - tolerance - slack, of + tolerance + slack
    return Limit(low, high, words=lambda unit: f"within {span(unit)} of {format_value(of, unit)}")


def one_of(allowed: Iterable[Value]) -> Limit:
    """Return the limit that allows one of these values."""
    return Limit(allowed=tuple(allowed))


def label_of(name: str, dimensions: Mapping[str, str]) -> str:
    """Return the name of a measurement for people, e.g. ``delay p50 of isl-ab a to b``.

    A name says what was measured, and never of what, so that values can be grouped and compared; the ``dimensions``
    (board, link, direction, slot) say that.
    """
    printed = {**dimensions, "direction": dimensions.get("direction", "").replace("_", " ")}
    if "slot" in printed:
        printed["slot"] = f"slot {printed['slot']}"
    of = " ".join(filter(None, printed.values()))
    return name.replace("_", " ") + (f" of {of}" if of else "")
