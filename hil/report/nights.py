"""Runs of a plan on a lab beside each other: the class of every test and measurement, and two runs compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from hil.errors import ConfigurationError
from hil.evidence.model import Verdict, format_value
from hil.evidence.points import Point, Series
from hil.evidence.store import Run, RunStore, counted
from hil.report.history_classes import URGENT, Class, Finding, Night, State, class_of

NIGHTS = 40
LEAST_S = 1.0
"""Durations of tests are compared from so many seconds on: shorter ones are this machine's noise."""
MARKS = {State.PASS: "·", State.FAIL: "F", State.BENCH: "b", State.NOT_RUN: "-", State.ABSENT: " "}
RECENT = 7
"""Nights for which something that passes again is still told."""
NOTABLE_CHANGE = 0.25
"""A measured number is listed when it moved by more than this share."""


@dataclass(frozen=True)
class History:
    """The nights of a test or a measurement, the latest last, and what they show."""

    series: Series
    nights: tuple[Night, ...]
    finding: Finding

    @property
    def strip(self) -> str:
        """One mark for each night: passed ``·``, failed ``F``, bench fault ``b``, not run ``-``."""
        return "".join(MARKS[night.state] for night in self.nights)


@dataclass(frozen=True)
class Change:
    """A test or a measurement that is not as it was in another run."""

    label: str
    before: str
    now: str
    what: str


def histories(
    store: RunStore, plan: str, lab: str, *, nights: int = NIGHTS, until: str = "", test: str | None = None
) -> tuple[list[Run], list[History]]:
    """Return the last runs of a plan on a lab, and the history of everything in them, the most urgent first."""
    runs, found = store.history(plan, lab, nights=nights, until=until, test=test)
    tests = {series.test: points for series, points in found.items() if not series.name}
    every = []
    for series, points in found.items():
        states = [_night(run, points.get(run.run_id), tests.get(series.test, {}).get(run.run_id)) for run in runs]
        if not series.name and all((night.value or 0.0) < LEAST_S for night in states):
            states = [Night(night.state) for night in states]
        first = next(n for n, run in enumerate(runs) if run.run_id in points)
        every.append(History(series, tuple(states[first:]), class_of(states[first:])))
    every.sort(key=lambda each: (URGENT.index(each.finding.kind), each.finding.nights, bool(each.series.name)))
    return runs, every


def plan_and_lab(plan: str, lab: str) -> str:
    """Return for people which runs are beside each other: a plan may need no lab."""
    return f"{plan} on {lab}" if lab else plan


def _night(run: Run, point: Point | None, test: Point | None) -> Night:
    """Return the state of a series in a run.

    A measurement is missing only where its test passed without it, a test only where a run went to its end.
    """
    inconclusive = run.verdict == Verdict.INCONCLUSIVE.value
    if point is not None and point.verdict in (Verdict.PASS.value, Verdict.WAIVED.value):
        return Night(State.PASS, point.value)
    if point is not None and point.verdict == Verdict.FAIL.value:
        return Night(State.FAIL, point.value)
    if point is not None and point.verdict == Verdict.INCONCLUSIVE.value:
        return Night(State.BENCH, point.value)
    if inconclusive:
        return Night(State.BENCH)
    if point is not None or (test is not None and test.verdict != Verdict.PASS.value):
        return Night(State.NOT_RUN)
    return Night(State.ABSENT)


def baseline_of(store: RunStore, run: Run) -> Run:
    """Return what a run is compared with: the last release of its plan and lab before it, else the run before.

    Partial runs and copies are none.  ConfigurationError when there is none.
    """
    earlier = (each for each in store.runs(plan=run.plan, lab=run.lab) if each.started_utc < run.started_utc)
    before = counted(earlier)[0]
    conclusive = [each for each in before if each.verdict in (Verdict.PASS.value, Verdict.FAIL.value)]
    releases = store.releases()
    for each in (*(each for each in before if each.run_id in releases), *conclusive):
        return each
    raise ConfigurationError(
        f"there is no run of plan {run.plan} on lab {run.lab} before {run.run_id}", remedy="name the other run, too"
    )


def changes(store: RunStore, before: Run, now: Run) -> list[Change]:
    """Return what is not as it was: verdicts first, then measurements that moved, the most first.

    ConfigurationError: one of them is partial, so that the store has no tests of it.
    """
    for run in (before, now):
        if why := run.summary.get("partial"):
            raise ConfigurationError(f"run {run.run_id} is partial: {why}", remedy="compare whole runs")
    was, is_ = (_found(store, run) for run in (before, now))
    words = [
        (series.label, *(found[series].verdict if series in found else "absent" for found in (was, is_)))
        for series in dict.fromkeys([*is_, *was])
    ]
    verdicts = [Change(label, then, point, "verdict") for label, then, point in words if then != point]
    moved = sorted(_moved(was, is_), key=lambda pair: -pair[0])
    return [*verdicts, *(change for _, change in moved)]


def _moved(was: Mapping[Series, Point], is_: Mapping[Series, Point]) -> Iterator[tuple[float, Change]]:
    for series, point in is_.items():
        then = was.get(series)
        if then is None or then.value is None or point.value is None or then.value == point.value:
            continue
        if not series.name and abs(point.value - then.value) < LEAST_S:
            continue
        share = (point.value - then.value) / abs(then.value) if then.value else float("inf")
        if abs(share) >= NOTABLE_CHANGE:
            label = series.label if series.name else f"{series.label}: duration"
            shown = [format_value(value, series.unit) for value in (then.value, point.value)]
            yield abs(share), Change(label, shown[0], shown[1], f"{share:+.0%}" if then.value else "from zero")


def _found(store: RunStore, run: Run) -> dict[Series, Point]:
    found = store.history(run.plan, run.lab, nights=1, until=run.run_id)[1]
    return {series: points[run.run_id] for series, points in found.items() if run.run_id in points}


def inputs_that_differ(before: Run, now: Run) -> list[str]:
    """Return what of the inputs is not the same, in words."""
    pairs = {
        "plan": (before.plan, now.plan),
        "lab": (before.lab, now.lab),
        "plan file": (before.plan_sha256[:10], now.plan_sha256[:10]),
        "lab file": (before.lab_sha256[:10], now.lab_sha256[:10]),
        "commit": (before.commit[:10], now.commit[:10]),
        "engine": (before.engine, now.engine),
        "fidelity": (before.fidelity, now.fidelity),
        "boards": tuple(", ".join(run.summary.get("boards") or ()) for run in (before, now)),
    }
    return [f"{name} {was or 'unknown'} → {is_ or 'unknown'}" for name, (was, is_) in pairs.items() if was != is_]


def noteworthy(every: Sequence[History]) -> list[History]:
    """Return what is not steady, without what was fixed or spiked so long ago that nobody needs to hear of it."""
    passing = (Class.FIXED, Class.SPIKE)
    return [
        each
        for each in every
        if each.finding.kind is not Class.STEADY and not (each.finding.kind in passing and each.finding.nights > RECENT)
    ]
