"""Reads a run directory back: also one whose writer was killed in the middle of a line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from hil.core.files import plain_bytes, sha256_of
from hil.core.processes import is_alive
from hil.errors import Blame, ConfigurationError
from hil.evidence.chain import MOST_EVIDENCE, NO_CHAIN, Chain, read_chain
from hil.evidence.events import (
    CollectedTest,
    Event,
    LinkFigure,
    Measurement,
    RunCollected,
    RunEnded,
    RunJudged,
    TestEnded,
    TestStarted,
    from_record,
)
from hil.evidence.json_fields import fitting
from hil.evidence.model import Verdict
from hil.evidence.record import EVIDENCE, HISTORY, META, PLAN, RECORDED, RESULT, read_json
from hil.evidence.test_plan import Plan

E = TypeVar("E", bound=Event)


@dataclass(frozen=True)
class LinkFacts:
    """What ``run.json`` says of a link of the lab."""

    kind: str = ""
    between: tuple[str, ...] = ()
    one_way_delay_us: float | None = None
    """None: it follows the orbit."""
    rate_bps: float | None = None
    nominal_rate_bps: float | None = None
    rate_scaled: bool = False
    loss_ppm: float | None = None
    loss_burst_packets: float | None = None
    jitter_us: float | None = None
    source: str = ""


_Plain = bool | float | str | None
_Facts = Mapping[str, _Plain]
_TEXTS = (
    *("run_id", "started_utc", "hil_version", "hil_commit", "python", "kernel", "machine", "os", "gateway", "bench"),
    *("fidelity", "plan", "plan_title", "plan_sha256", "lab", "lab_file", "lab_sha256", "lab_description", "partial"),
)
_META: Mapping[str, Any] = {
    **dict.fromkeys(_TEXTS, str | None),
    **dict.fromkeys(("mono_start_s", "cpus", "memory_mib", "seed"), float | None),
    **dict.fromkeys(("git", "packages", "board_packages", "process"), _Facts | None),
    "argv": tuple[str, ...] | None,
    "engine": _Facts | str | None,
    "boards": Mapping[str, _Facts] | None,
    "links": Mapping[str, LinkFacts] | None,
    "participants": Mapping[str, tuple[str, ...] | _Plain] | None,
    "fidelity_gaps": tuple[Mapping[str, str], ...] | None,
}
"""Types of what ``run.json`` says."""
_PAST: Mapping[str, Any] = {
    **dict.fromkeys(("run_id", "started_utc", "state", "verdict", "commit", "engine", "release"), str | None),
    "same_inputs": bool,
    "requirements": Mapping[str, str],
    "measurements": Mapping[str, Mapping[str, _Plain | Mapping[str, str]]],
}
"""Types of what ``history.json`` says of each earlier run."""


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
    taken_over: str = ""
    """The earlier run in which it passed; it did not run in this one."""
    measurements: tuple[Measurement, ...] = ()
    line: int = 0
    """Of its end in ``evidence.jsonl``; 0: it has none."""

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
    plan: Plan | None = None
    """The plan as it was when the run started; None when the run has none, or it cannot be read."""
    damage: tuple[str, ...] = ()
    """What of ``run.json`` and ``plan.json`` could not be read, a sentence each."""
    chain: Chain = NO_CHAIN
    """What the digests of the lines of evidence show."""

    @classmethod
    def load(cls, directory: Path) -> RunRecord:
        """Read ``directory``; what is damaged is left out and named.  ConfigurationError: it has no ``run.json``."""
        if not (directory / META).is_file():
            raise ConfigurationError(
                f"{directory} is not a run directory: it has no {META}", remedy="`hil runs list` names the runs"
            )
        meta, damage = read_meta(directory / META)
        plan: Plan | None = None
        if (path := directory / PLAN).is_file():
            try:
                plan = Plan.model_validate_json(plain_bytes(path))
            except (ValueError, OSError) as exc:
                damage.append(f"{PLAN} cannot be read: {str(exc).splitlines()[0]}")
        events: list[Event] = []
        unreadable, chain = 0, NO_CHAIN
        try:
            events, unreadable = read_events(directory / EVIDENCE, meta.get("mono_start_s") or 0.0)
            chain = read_chain(directory / EVIDENCE)
        except OSError as exc:
            damage.append(f"{EVIDENCE} cannot be read: {exc.strerror}")
        return cls(directory, meta, tuple(events), unreadable, plan, tuple(damage), chain)

    @property
    def run_id(self) -> str:
        return self.directory.name

    @cached_property
    def history(self) -> tuple[Mapping[str, Any], ...]:
        """Earlier runs of the same plan and lab, the last one first."""
        runs = read_json(self.directory / HISTORY).get("runs")
        return tuple(fitting(_PAST, run)[0] for run in runs if isinstance(run, dict)) if isinstance(runs, list) else ()

    @property
    def lines(self) -> tuple[str, ...]:
        """Digests of the lines that the run wrote: without those that reports added at the end."""
        return self.chain.lines[: len(self.chain.lines) - len(self.of(RunJudged))]

    @property
    def head(self) -> str:
        """Head of the run's chain, which stands for all that it recorded; empty when its lines carry no digests."""
        return self.lines[-1] if self.lines and self.chain.linked else ""

    @property
    def unverifiable(self) -> bool:
        """Whether its evidence carries no digests, as that of old versions: nothing shows whether it was changed."""
        return bool(self.chain.lines) and not self.chain.linked

    @cached_property
    def left_out(self) -> tuple[str, ...]:
        """Which earlier runs the history leaves out, and why: copies, partial runs."""
        found = fitting({"left_out": tuple[str, ...]}, read_json(self.directory / HISTORY))[0]
        return tuple(found.get("left_out", ()))

    @property
    def partial(self) -> str:
        """Why this run counts neither for nor against the plan; empty for one of the whole campaign."""
        return self.meta.get("partial") or ""

    def changes(self, *heads: str) -> list[str]:
        """Return what was changed in the run's files after it was written, a sentence each.

        ``heads`` of its chain are those that others have kept (the run store, ``result.json``).
        """
        found = [f"{EVIDENCE} was changed after the run: {self.chain.broken}"] if self.chain.broken else []
        if any(head and head not in self.chain.lines for head in heads):
            found.append(f"{EVIDENCE} is not what it was when the report was made: lines were changed or taken out")
        files = self.end.files if self.end else {}
        found += [
            f"{name} is not the file that was recorded at the end of the run"
            for name, digest in files.items()
            if name in RECORDED and not _has_digest(self.directory / name, digest)
        ]
        return found

    def result_is_written(self) -> bool:
        """Return whether ``result.json`` is what was written; True also where the run does not say."""
        judged = self.last(RunJudged)
        return judged is None or _has_digest(self.directory / RESULT, judged.result_sha256)

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


def _has_digest(path: Path, digest: str) -> bool:
    return path.is_file() and sha256_of(path) == digest


def read_meta(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Return what ``run.json`` says, without what has a wrong type, and a sentence for each part left out."""
    found = read_json(path)
    known, wrong = fitting(_META, found)
    meta = {name: value for name, value in found.items() if name not in _META} | known
    return meta, [f"{META}: {name} has a wrong type" for name in wrong] if found else [f"{META} cannot be read"]


def read_events(path: Path, mono_start_s: float) -> tuple[list[Event], int]:
    """Return the events of an evidence file, and how many of its lines could not be read.  OSError: none can."""
    try:
        lines = plain_bytes(path, most_bytes=MOST_EVIDENCE).split(b"\n")
    except FileNotFoundError:
        return [], 0
    events: list[Event] = []
    unreadable = 0
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            events.append(from_record(json.loads(line), mono_start_s, number))
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
        facts = {
            name: getattr(end, name) for name in ("blame", "message", "remedy", "detail", "duration_s", "taken_over")
        }
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
        line=end.line if end else 0,
        retries=retries,
        measurements=tuple(measurements),
        **facts,
    )
