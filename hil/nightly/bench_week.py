"""The week of a bench, for the lab's owner: which board, link or power strip wastes nights."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hil.errors import Blame, ConfigurationError
from hil.evidence.events import BenchDiffers, BenchLost, ConsolePort, Event, PowerAnswerLost, TestEnded
from hil.evidence.model import Verdict, plural
from hil.evidence.readback import RunRecord
from hil.evidence.store import RunStore
from hil.report.pages import render
from hil.text import one_line

BOARD, LINK, STRIP, HOST = "board", "link", "power strip", "host"
NOBODY = "nothing that is named"
"""The part of a bench fault whose message names no part."""


@dataclass
class Part:
    """One part of the bench and what it cost."""

    name: str
    kind: str
    runs: int = 0
    """Runs in which it took part."""
    bad_runs: int = 0
    """Of these the ones in which it had a fault."""
    faults: int = 0
    lost_s: float = 0.0
    """Time of tests that were repeated or ended without a verdict because of it."""
    last: str = ""
    """What was said of its last fault."""

    @property
    def availability(self) -> float:
        """Share of its runs in which it had no fault."""
        return 1 - self.bad_runs / self.runs if self.runs else 1.0


@dataclass
class Week:
    """What a bench's runs since a moment say of its parts, the worst first."""

    since_utc: str
    runs: int = 0
    inconclusive: int = 0
    seconds: float = 0.0
    parts: list[Part] = field(default_factory=list)

    @property
    def lost_s(self) -> float:
        return sum(part.lost_s for part in self.parts)

    @property
    def sentence(self) -> str:
        faults = sum(part.faults for part in self.parts)
        return (
            f"Since {self.since_utc[:10]}: {plural(self.runs, 'run')}, {self.inconclusive} without a verdict, "
            f"{plural(faults, 'bench fault')}; {self.lost_s / 60:.1f} of {self.seconds / 60:.1f} minutes lost."
        )

    def document(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        rows = [{**vars(part), "availability": round(part.availability, 4)} for part in self.parts]
        return {**vars(self), "parts": rows, "lost_s": self.lost_s}


@dataclass(frozen=True)
class Fault:
    """A fault of a part in a run."""

    part: str
    kind: str
    lost_s: float
    text: str


def week_of(out: Path, since: datetime) -> Week:
    """Read the runs of a reports folder since a moment; runs that cannot be read are left out."""
    moment = since.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    week, parts = Week(moment), dict[tuple[str, str], Part]()
    store = RunStore(out)
    store.rebuild()
    for kept in reversed(store.runs(brief=True)):
        if kept.started_utc < moment or kept.state == "running":
            continue
        try:
            run = RunRecord.load(kept.directory)
        except ConfigurationError:
            continue
        week.runs += 1
        week.seconds += run.duration_s
        week.inconclusive += kept.verdict == Verdict.INCONCLUSIVE.value
        faults = list(_faults(run))
        for name, kind in {**dict(_members(run)), **{fault.part: fault.kind for fault in faults}}.items():
            part = parts.setdefault((kind, name), Part(name, kind))
            own = [fault for fault in faults if fault.part == name]
            part.runs += 1
            part.bad_runs += bool(own)
            part.faults += len(own)
            part.lost_s += sum(fault.lost_s for fault in own)
            part.last = f"{kept.started_utc[:16]} {own[-1].text}" if own else part.last
    week.parts = sorted(parts.values(), key=lambda part: (-part.lost_s, -part.faults, part.kind, part.name))
    return week


def page(week: Week) -> str:
    """Return the page of a week, HTML."""
    return render("bench_week.html.j2", week=week)


def _members(run: RunRecord) -> Iterator[tuple[str, str]]:
    yield from ((str(name), BOARD) for name in run.meta.get("boards") or {})
    yield from ((str(name), LINK) for name in run.meta.get("links") or {})


def _faults(run: RunRecord) -> Iterator[Fault]:
    """Yield the bench's faults in a run.

    The time of an attempt at a test that the bench spoilt is shared by the parts that its message, or an event
    during it, names.
    """
    kinds = dict(_members(run))
    during: dict[str, list[Fault]] = {}
    for event in run.events:
        if (own := _of_event(event, kinds)) is not None:
            during.setdefault(event.test, []).append(own)
        elif isinstance(event, TestEnded) and (event.retried or event.blame == Blame.BENCH.value):
            seen = during.pop(event.test, [])
            named = [(f.part, f.kind) for f in seen] or [*_named(event.message, kinds)] or [(NOBODY, HOST)]
            for part, kind in dict(named).items():
                text = next((f.text for f in seen if f.part == part), one_line(event.message, 200))
                yield Fault(part, kind, event.duration_s / len(dict(named)), text)
    for left in during.values():  # faults that spoilt no test
        yield from left


def _of_event(event: Event, kinds: dict[str, str]) -> Fault | None:
    match event:
        case BenchDiffers() | BenchLost():
            part = next(iter(_named(event.part, kinds)), (one_line(event.part, 60), HOST))
            return Fault(*part, 0.0, one_line(event.what, 200))
        case ConsolePort(state="gone"):
            return Fault(event.board, BOARD, 0.0, one_line(f"console gone: {event.why}", 200))
        case PowerAnswerLost():
            return Fault(one_line(event.outlet, 60), STRIP, 0.0, one_line(f"did not answer: {event.error}", 200))
    return None


def _named(text: str, kinds: dict[str, str]) -> Iterable[tuple[str, str]]:
    """Yield the boards and links of the lab that a message names."""
    words = set(re.findall(r"[A-Za-z0-9_.-]*[A-Za-z0-9_]", text))
    return ((name, kind) for name, kind in kinds.items() if name in words)
