"""Reads a run directory back: also one whose writer was killed in the middle of a line."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hil.core.process_id import is_alive
from hil.errors import Blame, ConfigurationError
from hil.evidence.model import Verdict
from hil.evidence.record import EVIDENCE, META

if TYPE_CHECKING:
    from hil.evidence.test_plan import Plan


@dataclass(frozen=True)
class Event:
    """One line of evidence; ``t_s`` is seconds since the run started."""

    t_s: float
    t_utc: str
    kind: str
    fields: Mapping[str, Any]

    def text(self, key: str, default: str = "") -> str:
        """A field as text, ``default`` when absent or null."""
        value = self.fields.get(key)
        return default if value is None else str(value)

    def number(self, key: str) -> float | None:
        """A field as a number, None when it is not one."""
        value = self.fields.get(key)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


@dataclass(frozen=True)
class TestOutcome:
    """What became of one test of the campaign."""

    __test__ = False  # for pytest: this is not a test class

    id: str
    title: str
    verdict: Verdict
    requirements: tuple[str, ...] = ()
    step: str = ""
    description: str = ""
    blame: str = ""
    message: str = ""
    remedy: str = ""
    start_s: float | None = None
    duration_s: float = 0.0
    retries: int = 0
    measurements: tuple[Mapping[str, Any], ...] = ()
    absent: str = ""
    """Why this lab cannot show it, known before the run: it was not run, and that counts for nothing."""

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
    history: tuple[Mapping[str, Any], ...] = field(default=())

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
        return cls(directory, meta, tuple(events), unreadable, _history(directory))

    @property
    def run_id(self) -> str:
        return self.directory.name

    @cached_property
    def plan(self) -> Plan | None:
        """The plan as it was when the run started; None when the run has none."""
        path = self.directory / "plan.json"
        if not path.is_file():
            return None
        from hil.evidence.test_plan import Plan

        return Plan.model_validate_json(path.read_text("utf-8"))

    @cached_property
    def end(self) -> Event | None:
        """The last ``run.end`` event; None when the run did not get that far."""
        return next((e for e in reversed(self.events) if e.kind == "run.end"), None)

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

    def of_kind(self, *kinds: str) -> list[Event]:
        """Events of these kinds, in order."""
        return [e for e in self.events if e.kind in kinds]

    @cached_property
    def outcomes(self) -> tuple[TestOutcome, ...]:
        """Every collected test in order, with what became of it; also those never reached."""
        return tuple(_outcomes(self))


def read_events(path: Path, mono_start_s: float) -> tuple[list[Event], int]:
    """All complete lines of an evidence file, and how many lines could not be read."""
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
            fields = json.loads(line)
            event = Event(
                float(fields.pop("mono_s")) - mono_start_s, fields.pop("t_utc"), fields.pop("kind"), fields
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            unreadable += 1
            continue
        events.append(event)
    return events, unreadable


def _history(directory: Path) -> tuple[Mapping[str, Any], ...]:
    try:
        runs = json.loads((directory / "history.json").read_text("utf-8"))["runs"]
    except (OSError, ValueError, KeyError, TypeError):
        return ()
    return tuple(r for r in runs if isinstance(r, dict))


def _outcomes(run: RunRecord) -> list[TestOutcome]:
    collected: dict[str, Mapping[str, Any]] = {}
    for event in run.of_kind("run.collected"):
        for test in event.fields.get("tests", []):
            collected[test["test"]] = test
    starts: dict[str, Event] = {}
    ends: dict[str, Event] = {}
    retries: dict[str, int] = {}
    measured: dict[str, list[Mapping[str, Any]]] = {}
    for event in run.events:
        test = event.text("test")
        if not test:
            continue
        if event.kind == "test.start":
            starts[test] = event
            ends.pop(test, None)
            # Values taken in an attempt that was abandoned for a bench fault are not results of the test.
            measured.pop(test, None)
        elif event.kind == "test.end":
            ends[test] = event
            retries[test] = retries.get(test, 0) + bool(event.fields.get("retried"))
        elif event.kind == "measurement":
            measured.setdefault(test, []).append({**event.fields, "t_s": event.t_s})
    return [
        _outcome(run, fact, starts.get(name), ends.get(name), retries.get(name, 0), measured.get(name, ()))
        for name, fact in collected.items()
    ]


def _outcome(
    run: RunRecord,
    fact: Mapping[str, Any],
    start: Event | None,
    end: Event | None,
    retries: int,
    measurements: Sequence[Mapping[str, Any]],
) -> TestOutcome:
    verdict, blame, message, remedy = Verdict.NOT_RUN, "", "", ""
    duration = 0.0
    if end is not None:
        verdict = Verdict(end.fields["verdict"])
        blame, message, remedy = end.text("blame"), end.text("message"), end.text("remedy")
        duration = end.number("duration_s") or 0.0
    elif start is not None and run.state == "running":
        message = "this test is running"
    elif start is not None:
        verdict, blame = Verdict.INCONCLUSIVE, Blame.HARNESS.value
        message = "the run was killed during this test"
        duration = max(0.0, run.duration_s - start.t_s)
    elif not fact.get("selected", True):
        message = "not selected in this run"
    else:
        message = "the run ended before this test" if run.state != "running" else "not reached yet"
    return TestOutcome(
        id=fact["test"],
        title=fact.get("title") or fact["test"],
        verdict=verdict,
        requirements=tuple(fact.get("requirements", ())),
        step=fact.get("step") or "",
        description=fact.get("description") or "",
        blame=blame,
        message=message,
        remedy=remedy,
        start_s=start.t_s if start else None,
        duration_s=duration,
        retries=retries,
        measurements=tuple(measurements),
        absent=str(fact.get("absent") or ""),
    )
