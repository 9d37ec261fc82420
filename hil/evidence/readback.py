"""Reads a run directory back: also one whose writer was killed in the middle of a line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from hil.core.processes import is_alive
from hil.errors import Blame, ConfigurationError
from hil.evidence.events import (
    CollectedTest,
    Event,
    LinkFigure,
    Measurement,
    RunCollected,
    RunEnded,
    TestEnded,
    TestStarted,
    from_record,
)
from hil.evidence.model import Verdict
from hil.evidence.record import EVIDENCE, META, read_json
from hil.evidence.test_plan import Plan

E = TypeVar("E", bound=Event)


@dataclass(frozen=True)
class TestOutcome(CollectedTest):
    """One test of the campaign with its verdict, measurements and times."""

    __test__ = False  # for pytest: this is not a test class

    verdict: Verdict = Verdict.NOT_RUN
    blame: str = ""
    message: str = ""
    remedy: str = ""
    detail: str = ""
    start_s: float | None = None
    duration_s: float = 0.0
    retries: int = 0
    measurements: tuple[Measurement, ...] = ()

    @property
    def reason(self) -> str:
        """First line of the message."""
        return self.message.strip().splitlines()[0] if self.message.strip() else ""


@dataclass(frozen=True)
class RunRecord:
    """Everything that a run directory says."""

    directory: Path
    meta: Mapping[str, Any]
    events: tuple[Event, ...]
    unreadable_lines: int = 0

    @classmethod
    def load(cls, directory: Path) -> RunRecord:
        """Read ``directory``; ConfigurationError when it is not a run.  Torn lines are counted, not fatal."""
        try:
            meta = json.loads((directory / META).read_text("utf-8"))
        except (OSError, ValueError) as exc:
            raise ConfigurationError(
                f"{directory} is not a run directory: {META}: {exc}", remedy="`hil runs list` names the runs"
            ) from exc
        start = float(meta.get("mono_start_s", 0.0))
        events, unreadable = read_events(directory / EVIDENCE, start)
        return cls(directory, meta, tuple(events), unreadable)

    @property
    def run_id(self) -> str:
        return self.directory.name

    @cached_property
    def plan(self) -> Plan | None:
        """The plan as it was when the run started; None when the run has none."""
        path = self.directory / "plan.json"
        return Plan.model_validate_json(path.read_text("utf-8")) if path.is_file() else None

    @cached_property
    def history(self) -> tuple[Mapping[str, Any], ...]:
        """Earlier runs of the same plan and lab, the last one first."""
        runs = read_json(self.directory / "history.json").get("runs")
        return tuple(r for r in runs if isinstance(r, dict)) if isinstance(runs, list) else ()

    @cached_property
    def end(self) -> RunEnded | None:
        """The end of the run; None when the run did not get that far."""
        return self.last(RunEnded)

    @property
    def state(self) -> str:
        """``finished``, ``running`` or ``crashed`` (no end and the process is gone)."""
        if self.end is not None:
            return "finished"
        return "running" if is_alive(self.meta.get("process") or {}) else "crashed"

    @property
    def duration_s(self) -> float:
        """From the start to the last evidence."""
        last = self.end or (self.events[-1] if self.events else None)
        return max(0.0, last.t_s) if last else 0.0

    def of(self, kind: type[E]) -> list[E]:
        """Return the events of one kind, in order."""
        return [e for e in self.events if isinstance(e, kind)]

    def last(self, kind: type[E]) -> E | None:
        """Return the last event of a kind; None when there is none."""
        return next((e for e in reversed(self.events) if isinstance(e, kind)), None)

    @cached_property
    def outcomes(self) -> tuple[TestOutcome, ...]:
        """Every collected test in order, also those never reached."""
        return tuple(_outcomes(self))


def read_events(path: Path, mono_start_s: float) -> tuple[list[Event], int]:
    """Return the events of an evidence file, and how many of its lines could not be read."""
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return [], 0
    events: list[Event] = []
    unreadable = 0
    for line in lines:
        if not line.strip():
            continue
        try:
            events.append(from_record(json.loads(line), mono_start_s))
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            unreadable += 1
    return events, unreadable


def _outcomes(run: RunRecord) -> list[TestOutcome]:
    events: dict[str, list[Event]] = {}
    for event in run.events:
        events.setdefault(event.test, []).append(event)
    collected = {test.test: test for event in run.of(RunCollected) for test in event.tests}
    return [_outcome(run, test, events.get(name, [])) for name, test in collected.items()]


def _outcome(run: RunRecord, test: CollectedTest, events: list[Event]) -> TestOutcome:
    """Return what was recorded during the attempts at one test; of values, only those of the last attempt."""
    start: TestStarted | None = None
    end: TestEnded | None = None
    retries = 0
    measurements: list[Measurement] = []
    for event in events:
        match event:
            case TestStarted():
                # Values taken in an attempt that was abandoned for a bench fault are not results of the test.
                start, end, measurements = event, None, []
            case TestEnded():
                end = event
                retries += event.retried
            case Measurement():
                measurements.append(event)
            case LinkFigure():
                measurements.append(event.measurement)
    facts: dict[str, Any] = {}
    if end is not None:
        facts = {name: getattr(end, name) for name in ("blame", "message", "remedy", "detail", "duration_s")}
        facts["verdict"] = Verdict(end.verdict) if end.verdict in set(Verdict) else Verdict.INCONCLUSIVE
    elif start is not None and run.state == "running":
        facts["message"] = "this test is running"
    elif start is not None:
        facts = {"verdict": Verdict.INCONCLUSIVE, "blame": Blame.HARNESS.value}
        facts["message"] = "the run was killed during this test"
        facts["duration_s"] = max(0.0, run.duration_s - start.t_s)
    elif not test.selected:
        facts["message"] = "not selected in this run"
    else:
        facts["message"] = "the run ended before this test" if run.state != "running" else "not reached yet"
    return TestOutcome(
        **{**vars(test), "title": test.title or test.test},
        start_s=start.t_s if start else None,
        retries=retries,
        measurements=tuple(measurements),
        **facts,
    )
