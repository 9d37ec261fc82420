"""Verdicts, limits and measurements: the words evidence is written in.

Standard library only, so that the plugin, the drivers and the report can all import it for nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Limit:
    """What a value must satisfy; prints itself.  Make one with the functions below, not directly."""

    def holds(self, value: Value | None) -> bool:
        """Whether ``value`` satisfies the limit.  None and NaN never do."""
        raise NotImplementedError

    def text(self, unit: str = "") -> str:
        """Return the limit for people, e.g. ``<= 0.5 ms``."""
        raise NotImplementedError

    def __str__(self) -> str:
        return self.text()


def _number(value: Value | None) -> float | None:
    """Return the value as a number; None for what is not one (a bool is not: ``True <= 3`` holds by accident)."""
    if isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value):
        return float(value)
    return None


@dataclass(frozen=True)
class Range(Limit):
    """``low <= value <= high``; either end may be absent."""

    low: float | None = None
    high: float | None = None

    def holds(self, value: Value | None) -> bool:
        number = _number(value)
        if number is None:
            return False
        return (self.low is None or number >= self.low) and (self.high is None or number <= self.high)

    def text(self, unit: str = "") -> str:
        if self.low is None:
            return f"<= {format_value(self.high, unit)}"
        if self.high is None:
            return f">= {format_value(self.low, unit)}"
        return f"{format_value(self.low)} to {format_value(self.high, unit)}"


@dataclass(frozen=True)
class Equal(Limit):
    """``value == wanted``, of the same kind (a number, a truth, a word)."""

    wanted: Value

    def holds(self, value: Value | None) -> bool:
        return isinstance(value, bool) == isinstance(self.wanted, bool) and value == self.wanted

    def text(self, unit: str = "") -> str:
        return f"= {format_value(self.wanted, unit)}"


@dataclass(frozen=True)
class Near(Limit):
    """``of`` within plus or minus ``tolerance`` (in ``of``'s unit, or percent of it)."""

    tolerance: float
    of: float
    percent: bool

    def holds(self, value: Value | None) -> bool:
        number = _number(value)
        allowed = abs(self.of) * self.tolerance / 100 if self.percent else self.tolerance
        # A hair of slack for binary fractions: 0.3 is within 0.1 of 0.2.
        return number is not None and abs(number - self.of) <= allowed * (1 + 1e-12) + 1e-15

    def text(self, unit: str = "") -> str:
        span = f"{format_value(self.tolerance)} %" if self.percent else format_value(self.tolerance, unit)
        return f"within {span} of {format_value(self.of, unit)}"


@dataclass(frozen=True)
class OneOf(Limit):
    """``value`` is one of those allowed."""

    allowed: tuple[Value, ...]

    def holds(self, value: Value | None) -> bool:
        return any(Equal(a).holds(value) for a in self.allowed)

    def text(self, unit: str = "") -> str:
        words = ", ".join(format_value(a) for a in self.allowed)
        return f"one of {words} {unit}".rstrip()


def at_most(bound: float) -> Limit:
    """Return the limit ``<= bound``."""
    return Range(high=bound)


def at_least(bound: float) -> Limit:
    """Return the limit ``>= bound``."""
    return Range(low=bound)


def between(low: float, high: float) -> Limit:
    """Return the limit ``low <= value <= high``."""
    if low > high:
        raise ValueError(f"between({low}, {high}): the lower end is above the upper")
    return Range(low=low, high=high)


def equals(wanted: Value) -> Limit:
    """Return the limit ``= wanted``; for counts, truths and digests (for measured floats use :func:`within`)."""
    return Equal(wanted)


def within(tolerance: float, *, of: float) -> Limit:
    """Return the limit ``of`` plus or minus ``tolerance``, both in the measurement's unit."""
    return Near(tolerance, of, percent=False)


def within_percent(percent: float, *, of: float) -> Limit:
    """Return the limit ``of`` plus or minus ``percent`` per cent of it."""
    return Near(percent, of, percent=True)


def one_of(allowed: Iterable[Value]) -> Limit:
    """Return the limit that allows one of these values."""
    return OneOf(tuple(allowed))


@dataclass(frozen=True)
class Dimensions:
    """What a value was measured of: a board, a link, a direction of it, a slot; blank where it does not apply.

    The name of a measurement says what was measured, and never of what, so that values can be grouped and compared.
    """

    board: str = ""
    link: str = ""
    direction: str = ""  # a_to_b | b_to_a
    slot: str = ""

    def as_dict(self) -> dict[str, str]:
        """Return those that apply."""
        named = {"board": self.board, "link": self.link, "direction": self.direction, "slot": self.slot}
        return {name: value for name, value in named.items() if value}

    def __str__(self) -> str:
        slot = f"slot {self.slot}" if self.slot else ""
        parts = (self.board, self.link, self.direction.replace("_", " "), slot)
        return " ".join(part for part in parts if part)


def label_of(name: str, dimensions: Dimensions) -> str:
    """Return the name of a measurement for people, e.g. ``delay p50 of isl-ab a to b``."""
    return name.replace("_", " ") + (f" of {dimensions}" if dimensions.as_dict() else "")
