"""What a history shows: one class for the nights of a test or a measurement, the latest night last.

The classes of verdicts are those of Linaro's SQUAD.  A night on which the bench failed counts neither for nor against.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby

from hil.report.trend import Shape, trend_of

SHORT = 2
"""A failure of at most so many nights that ended by itself is one that comes and goes, not one that was fixed."""


class State(StrEnum):
    """What one night says."""

    PASS = "PASS"
    FAIL = "FAIL"
    BENCH = "bench fault"
    """Nothing is known: the bench failed."""
    NOT_RUN = "not run"
    """The run did not get to it."""
    ABSENT = "absent"
    """The run has no such test or measurement."""


class Class(StrEnum):
    """What the nights show together."""

    REGRESSION = "new regression"
    FAILING = "failing"
    INTERMITTENT = "intermittent"
    NEVER_PASSED = "never passed"
    FIXED = "fixed"
    MISSING = "missing"
    NOT_RUN = "not run"
    BENCH_FAULT = "bench fault"
    STEP = "step"
    DRIFT = "drift"
    SPIKE = "spike"
    STEADY = "steady"


URGENT = (
    *(Class.REGRESSION, Class.FAILING, Class.NEVER_PASSED, Class.INTERMITTENT, Class.STEP, Class.DRIFT),
    *(Class.MISSING, Class.BENCH_FAULT, Class.SPIKE, Class.NOT_RUN, Class.FIXED, Class.STEADY),
)
"""The order in which people read them."""


@dataclass(frozen=True)
class Night:
    """One night of a test or a measurement."""

    state: State
    value: float | None = None


@dataclass(frozen=True)
class Finding:
    """The class of a history, since how many nights, and a sentence."""

    kind: Class
    nights: int
    text: str


def class_of(nights: Sequence[Night]) -> Finding:
    """Return the class of a history.  ValueError when it is empty."""
    states = [night.state for night in nights]
    last = states[-1]
    streak = next((n for n, state in enumerate(reversed(states)) if state is not last), len(states))
    known = [state for state in states if state in (State.PASS, State.FAIL)]
    if last is State.ABSENT:
        return Finding(Class.MISSING, streak, f"missing for {_nights(streak)}")
    if last is State.NOT_RUN:
        return Finding(Class.NOT_RUN, streak, f"not run for {_nights(streak)}: the run did not get to it")
    if last is State.BENCH:
        return Finding(Class.BENCH_FAULT, streak, f"nothing known for {_nights(streak)}: the bench failed")
    runs = [(state, len(list(group))) for state, group in groupby(known)]
    failures = [length for state, length in runs if state is State.FAIL]
    if last is State.FAIL:
        return _failing(runs[-1][1], failures[:-1], len(known), passed=State.PASS in known)
    if not failures:
        return _shape(nights)
    many = f"failed in {sum(failures)} of {_nights(len(known))}"
    if max(failures) <= SHORT:
        return Finding(Class.INTERMITTENT, sum(failures), f"comes and goes: {many}")
    passing = runs[-1][1]
    return Finding(Class.FIXED, passing, f"fixed: passes for {_nights(passing)}, {many}")


def _failing(streak: int, before: Sequence[int], known: int, *, passed: bool) -> Finding:
    if not passed:
        return Finding(Class.NEVER_PASSED, streak, f"never passed in {_nights(streak)}")
    if streak <= SHORT and before and min(before) <= SHORT:
        total = streak + sum(before)
        return Finding(Class.INTERMITTENT, total, f"comes and goes: failed in {total} of {_nights(known)}")
    if streak == 1:
        return Finding(Class.REGRESSION, 1, "new regression")
    return Finding(Class.FAILING, streak, f"failing for {_nights(streak)}")


def _shape(nights: Sequence[Night]) -> Finding:
    """Return what the values of nights that all passed show."""
    good = [n for n, night in enumerate(nights) if night.state is State.PASS and night.value is not None]
    trend = trend_of([nights[n].value or 0.0 for n in good])
    if trend.shape is Shape.STEADY:
        return Finding(Class.STEADY, len(nights), f"steady for {_nights(len(nights))}")
    ago = len(nights) - good[trend.at]
    since = {
        Shape.STEP: f"moved by {trend.change:+.0%} in one step, {_nights(ago)} ago",
        Shape.DRIFT: f"drifts: {trend.change:+.0%} over {_nights(len(good))}",
        Shape.SPIKE: f"{trend.change:+.0%} for one night, {_nights(ago)} ago",
    }[trend.shape]
    return Finding(Class(trend.shape.value), ago, since)


def _nights(count: int) -> str:
    return f"{count} night{'s' * (count != 1)}"
