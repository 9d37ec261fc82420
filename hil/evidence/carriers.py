"""The judge of the bench: was it able to carry a test, or is it at fault?  Pure functions over events.

A test may fail the device only when everything that carried it was alive and on time throughout.  What counts as
late, and as too slow a host, stands here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from hil.errors import Blame
from hil.evidence.blame import Judgement
from hil.evidence.event import Event
from hil.evidence.events import BenchDiffers, BenchPulse, BoardSeen, RestartOrdered, ThreadDied
from hil.evidence.model import Verdict

LATE_S = 3.0
"""A part that gave no sign of life for so long did not carry the test."""
CLOCK_LATE_S = 1.0
"""A host on which this process wakes so late lets a board's lease of one second lapse."""
STEAL = 0.3
"""Share of the processors' time that the machine below took away, in the mean of STEAL_S seconds."""
STEAL_S = 1.0
CROWD = 4.0
"""Programs for each core, in the mean of CROWD_S seconds: what takes 2 s elsewhere takes more than 8 s here."""
CROWD_S = 30.0

NOTICED_S = 10.0
"""Within this time it is noticed that somebody else switched a board's container."""

JUDGED = (BenchPulse, BenchDiffers, BoardSeen, RestartOrdered, ThreadDied)
"""Kinds of events that this module judges by."""


def silences(events: Iterable[Event]) -> list[str]:
    """Return the parts that did not carry the test, with the reason or the figure; the worst of each."""
    worst: dict[str, float] = {}
    reasons: dict[str, str] = {}
    for pulse in (e for e in events if isinstance(e, BenchPulse)):
        for part, late_s in pulse.late_s.items():
            if late_s >= LATE_S:
                worst[part] = max(late_s, worst.get(part, 0.0))
        reasons |= pulse.silent
    parts = dict.fromkeys([*reasons, *worst])
    return [f"{part} {_silent(worst.get(part), reasons.get(part, ''))}" for part in parts]


def _silent(late_s: float | None, reason: str) -> str:
    because = f" ({reason})" if reason else ""
    return (f"gave no sign of life for {late_s:.1f} s" if late_s is not None else "does not answer") + because


def slowness(events: Iterable[Event]) -> str:
    """Return why this host was too slow to judge by, with the figures; empty when it was not."""
    pulses = [e for e in events if isinstance(e, BenchPulse)]
    late_s = max((pulse.clock_late_s for pulse in pulses), default=0.0)
    steal = _worst_mean([(pulse.cpu_steal, pulse.window_s) for pulse in pulses], STEAL_S)
    crowd = crowdedness(pulses)
    if late_s < CLOCK_LATE_S and steal < STEAL and crowd < CROWD:
        return ""
    busy = max(pulse.cpu_busy for pulse in pulses)
    return (
        f"this host was too slow to judge by: its clock was {late_s:.1f} s late (limit {CLOCK_LATE_S:g} s), "
        f"{steal:.0%} of its processors' time was taken away (limit {STEAL:.0%}), {crowd:.1f} programs shared each "
        f"core (limit {CROWD:g}, for {CROWD_S:g} s), {busy:.0%} was busy"
    )


def crowdedness(pulses: Sequence[BenchPulse]) -> float:
    """Return the programs for each core in the worst CROWD_S seconds on end (or all there are); 0 when unknown."""
    return _worst_mean([(p.runnable_per_core, p.window_s) for p in pulses if p.runnable_per_core is not None], CROWD_S)


def _worst_mean(figures: Sequence[tuple[float, float]], span_s: float) -> float:
    """Return the highest mean over ``span_s`` seconds on end (or all there are) of figures with their seconds."""
    known = [(figure, window_s) for figure, window_s in figures if window_s > 0]
    worst = 0.0
    for start in range(len(known)):
        total = seconds = 0.0
        for figure, window_s in known[start:]:
            total, seconds = total + figure * window_s, seconds + window_s
            if seconds >= span_s:
                break
        if seconds >= span_s or start == 0:
            worst = max(worst, total / seconds)
    return worst


def differences(events: Iterable[Event]) -> list[str]:
    """Return what was not as the run commanded it, each part once."""
    found = {e.part: e.what for e in reversed(list(events)) if isinstance(e, BenchDiffers)}
    return [f"{part} {what}" for part, what in reversed(found.items())]


def dead_threads(events: Iterable[Event]) -> list[str]:
    """Return the threads of the harness that ended early, each with its error."""
    return [f"thread {e.thread} ended early: {e.error}" for e in events if isinstance(e, ThreadDied)]


def judged_with_bench(judgement: Judgement, events: Iterable[Event], harmed: str = "") -> Judgement:
    """Return what a test came to, given the events since it began.

    ``harmed`` names an earlier test that a fault of the bench ended, and which may have left the device in any state:
    then no test fails the device any more.

    A test in which the bench was changed by another hand, or a thread of the harness died, is INCONCLUSIVE whatever
    it came to; one that did not pass is INCONCLUSIVE also when a part of the bench was silent or the host too slow.
    """
    if judgement.verdict is Verdict.NOT_RUN:
        return judgement
    events = list(events)
    faults, blame = differences(events), Blame.BENCH
    if not faults and (faults := dead_threads(events)):
        blame = Blame.HARNESS
    if judgement.verdict is not Verdict.PASS:
        faults += [fault for fault in (*silences(events), slowness(events)) if fault]
    if judgement.verdict is Verdict.FAIL and harmed:
        faults.append(f"the bench was at fault in an earlier test, {harmed}, and nothing is known of the state it left")
    if not faults:
        return judgement
    message = "; ".join(faults)
    if judgement.message:
        message += f". The test ended with: {judgement.message}"
    return replace(judgement, verdict=Verdict.INCONCLUSIVE, blame=blame, message=message)


def unordered_restarts(events: Iterable[Event]) -> list[str]:
    """Return every restart of a confirmed board that neither this run ordered nor another hand at its container.

    A board whose new slot is not confirmed yet may restart by itself: that is how it falls back.
    """
    events = list(events)
    last: dict[str, BoardSeen] = {}
    booted_s: dict[str, float] = {}
    found = []
    for seen in (e for e in events if isinstance(e, BoardSeen)):
        before, since_s = last.get(seen.board), booted_s.get(seen.board, 0.0)
        last[seen.board] = seen
        if before is not None and before.boot_id == seen.boot_id:
            continue
        booted_s[seen.board] = seen.t_s - (seen.uptime_s or 0.0)
        if before is None or not before.confirmed or _was_ordered(events, seen, since_s):
            continue
        found.append(
            f"{seen.board} restarted by itself {booted_s[seen.board]:.1f} s into the run: its boot id "
            f"{before.boot_id} became {seen.boot_id}, and nobody had ordered that"
        )
    return found


def _was_ordered(events: Iterable[Event], seen: BoardSeen, since_s: float) -> bool:
    """Return whether something since the boot before, at ``since_s``, explains the boot that was seen."""
    for event in events:
        match event:
            case RestartOrdered(board=seen.board) if since_s <= event.t_s <= seen.t_s:
                return True
            case BenchDiffers() if event.part in _parts_of(seen.board) and since_s <= event.t_s <= seen.t_s + NOTICED_S:
                return True
    return False


def _parts_of(board: str) -> tuple[str, str]:
    return container(board), board_part(board)


def board_part(board: str) -> str:
    """Return the ``part`` of a ``BenchDiffers`` about a board, whatever kind of board it is."""
    return f"board {board}"


def container(board: str) -> str:
    """Return the ``part`` of a ``BenchDiffers`` about the container of a board."""
    return f"the container of {board}"
