"""Planted histories of trials, good and bad."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from hil.evidence.event import Event
from hil.evidence.events import BenchPulse, BoardSeen, RolloutStep, WatchClaim, WatchSummary
from hil.trials.history import BoardRead, History, Struck, Wanted
from hil.trials.schedule import Strike

E = TypeVar("E", bound=Event)
WANTED = Wanted("2.0.0", "new", "sc-a")
BOARDS = {"a1": "sc-a", "b1": "sc-b"}


def at(t_s: float, event: E) -> E:
    """Return the event as it is read back ``t_s`` seconds into the trial."""
    object.__setattr__(event, "t_s", t_s)
    return event


def strike(fault: str = "link-cut", target: str = "isl-ab") -> Strike:
    """Return a fault of a schedule."""
    return Strike(0, fault, target, {}, "start", 0.5, 1.0)


def good() -> History:
    """Return the history of a trial in which all went well."""
    events: list[Event] = [at(0.5, BenchPulse(5.0))]
    for board in BOARDS:
        events += [
            at(1.0, BoardSeen(board, "boot-1", True, 1.0, "A")),
            at(5.0, RolloutStep(board, "install", "start")),
            at(7.5, RolloutStep(board, "confirm", "start")),
            at(9.0, WatchClaim(board, 1)),
        ]
    claims = {board: ((9.0, 20.0, 1),) for board in BOARDS}
    events.append(at(21.0, WatchSummary(21.0, 100, 90, 0.2, "a1", claims=claims, started_mono_s=0.0)))
    reads = [
        BoardRead(board, craft, True, "B", "B", "2.0.0", "new", True, True, 1, (True, True), True)
        for board, craft in BOARDS.items()
    ]
    struck = [Struck(strike(), 2.0, 3.0, "confirmed", "the kernel says so")]
    return History(WANTED, sorted(events, key=lambda e: e.t_s), struck, reads, 1, 9.5, "", {"a1": "A", "b1": "A"})


def with_events(history: History, *more: Event) -> History:
    """Return the same with more events, in time order."""
    return replace(history, events=sorted([*history.events, *more], key=lambda e: e.t_s))


def with_read(history: History, board: str, **changes: object) -> History:
    """Return the same with another final read of one board."""
    reads = [replace(r, **changes) if r.board == board else r for r in history.reads]  # type: ignore[arg-type]
    return replace(history, reads=reads)
