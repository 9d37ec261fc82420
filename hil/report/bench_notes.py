"""What the bench had to do beside its work: repeats, lost consoles and answers, leftovers of killed runs."""

from __future__ import annotations

from collections.abc import Iterator

from hil.evidence.events import BenchRetried, ConsolePort, Event, LeftoverFound, PowerAnswerLost
from hil.evidence.readback import RunRecord


def bench_notes(run: RunRecord) -> list[tuple[float, str]]:
    """Return (seconds since the run started, sentence) of each, in order."""
    return [(event.t_s, text) for event in run.events for text in _sentences(event)]


def _sentences(event: Event) -> Iterator[str]:
    if isinstance(event, BenchRetried):
        yield f"Repeated {event.what}: {event.error}"
    elif isinstance(event, ConsolePort):
        lost = f"The console of {event.board} was lost: {event.why}"
        yield lost if event.state == "gone" else f"The console of {event.board} is there again ({event.port})"
    elif isinstance(event, PowerAnswerLost):
        yield f"Outlet {event.outlet} did not answer when turned {event.wanted}; its state was read: {event.error}"
    elif isinstance(event, LeftoverFound):
        kept = f"could not be removed: {event.error}" if event.error else "was removed"
        yield f"Left by a killed run, {event.what} {kept}"
