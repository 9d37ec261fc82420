"""The invariant watcher: do two boards ever claim different configuration epochs at the same time?

It also notes under which boot id each board answers, so that a restart that nobody ordered is seen, and whether a
board answers what it may not.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from hil.boards.protocol import Via
from hil.errors import HilError
from hil.evidence.events import BoardSeen, WatchClaim, WatchSummary, WatchViolation
from hil.evidence.sink import NullSink, Sink
from hil.onboard.node.answers import Health
from hil.rollout.epoch_claims import Ledger, definite, oddity
from hil.rollout.fleet import Fleet
from hil.rollout.node_client import NodeClient, NodeRefused
from hil.text import one_line

ANSWER_S = 0.5
CONNECT_S = 0.3
GAP_LIMIT_S = 1.0
"""Between two questions to one board."""
ODD_CHARACTERS = 300
ODD_STATUS = 502
"""Of a :class:`NodeRefused`: the board answered, and not what the contract says."""


class InvariantWatcher:
    """``with InvariantWatcher(fleet, sink) as watcher: ...; watcher.report()``.

    Asks every board for ``/health`` through the management network every ``every_s`` seconds, from one thread per
    board.  Emits ``watch.claim`` when a board begins or ends a claim, ``board.seen`` when it answers under another
    boot id, ``watch.violation`` at once, and ``watch.summary`` at the end.
    """

    def __init__(
        self,
        fleet: Fleet,
        sink: Sink | None = None,
        *,
        every_s: float = 0.1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.fleet = fleet
        self._sink = sink or NullSink()
        self._every_s = every_s
        self._clock = clock
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._ledger = Ledger()
        self._asked: dict[str, float] = {}
        self._booted: dict[str, tuple[str, bool]] = {}
        self._odd: dict[str, str] = {}
        self._ended_early: dict[str, str] = {}
        self._claiming: dict[str, int | None] = {}
        self._samples = self._answers = 0
        self._gap, self._gap_board = 0.0, ""
        self._started = clock()
        self._ended: float | None = None

    def start(self) -> InvariantWatcher:
        self._started = self._clock()
        self._asked = dict.fromkeys(self.fleet.names, self._started)
        for name in self.fleet.names:
            thread = threading.Thread(target=self._watch, args=(name,), name=f"watch-{name}", daemon=True)
            self._threads.append(thread)
            thread.start()
        return self

    def stop(self) -> WatchSummary:
        """End the sampling; the report. Idempotent."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(ANSWER_S + CONNECT_S + 2.0)
        if self._ended is None:
            self._ended = self._clock()
            self._sink.emit(self.report())
        return self.report()

    def report(self) -> WatchSummary:
        """Return what was seen until now.

        It is not conclusive when a board was not watched until the end, or when a gap in the sampling was so long
        that a violation could have gone unseen.
        """
        with self._lock:
            now = self._ended if self._ended is not None else self._clock()
            gap, board = self._gap, self._gap_board
            for name, asked in self._asked.items():  # a gap that has not ended yet
                if now - asked > max(gap, ANSWER_S + CONNECT_S + self._every_s):
                    gap, board = now - asked, name
            start_s = self._started
            return WatchSummary(
                duration_s=round(now - start_s, 3),
                samples=self._samples,  # questions asked, all boards; a board that does not answer does not claim
                answers=self._answers,
                max_gap_s=round(gap, 3),
                max_gap_board=board,
                conclusive=self._samples > 0 and gap <= GAP_LIMIT_S and not self._ended_early,
                ended_early=tuple(f"{name}: {error}" for name, error in sorted(self._ended_early.items())),
                violations=(
                    *(str(violation) for violation in self._ledger.violations),
                    *(f"odd answer: {name}: {odd}" for name, odd in sorted(self._odd.items())),
                ),
                claims={
                    name: tuple((round(i.start_s - start_s, 3), round(i.end_s - start_s, 3), i.epoch) for i in spans)
                    for name, spans in sorted(self._ledger.intervals.items())
                },
                started_mono_s=start_s,
            )

    def __enter__(self) -> InvariantWatcher:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def _watch(self, name: str) -> None:
        try:
            with NodeClient(self.fleet, name, Via.MANAGEMENT, timeout_s=ANSWER_S, connect_s=CONNECT_S) as client:
                due = self._clock()
                while not self._stopping.wait(max(0.0, due - self._clock())):
                    sent = self._clock()
                    due = max(due + self._every_s, sent)
                    health, odd = _asked(client)
                    if odd:
                        self._note_odd(name, odd)
                    self._note(name, sent, self._clock(), health)
        except BaseException as exc:  # whatever it was: what this board does from now on goes unseen
            with self._lock:
                self._ended_early[name] = repr(exc)[:ODD_CHARACTERS]
            raise

    def _note(self, name: str, sent: float, received: float, health: Health | None) -> None:
        interval = definite(health, sent, received) if health is not None else None
        with self._lock:
            before = self._asked.get(name, self._started)
            if sent - before > self._gap:
                self._gap, self._gap_board = sent - before, name
            self._asked[name] = sent
            self._samples += 1
            self._answers += health is not None
            found = self._ledger.add(interval) if interval is not None else []
            epoch = health.claim.epoch if health is not None else None
            changed = self._claiming.get(name) != epoch
            self._claiming[name] = epoch
        if health is not None and self._booted.get(name) != (health.boot_id, health.confirmed):
            self._booted[name] = health.boot_id, health.confirmed
            seen = (health.confirmed, health.uptime_s, health.slot or "", health.epoch_at_start)
            self._sink.emit(BoardSeen(name, health.boot_id, *seen))
        if changed:
            self._sink.emit(WatchClaim(name, epoch, health is not None))
        for violation in found:
            self._sink.emit(WatchViolation(violation.kind, str(violation)))

    def _note_odd(self, name: str, odd: str) -> None:
        """Record the first answer of a board that it may not give."""
        with self._lock:
            if name in self._odd:
                return
            self._odd[name] = odd = one_line(odd, ODD_CHARACTERS)
        self._sink.emit(WatchViolation("odd-answer", f"{name}: {odd}"))


def _asked(client: NodeClient) -> tuple[Health | None, str]:
    """Return a board's answer, None without one, and what is odd about it."""
    try:
        health = client.health()
    except NodeRefused as exc:
        return None, exc.message if exc.status == ODD_STATUS else ""
    except HilError:
        return None, ""
    odd = oddity(health)
    return None if odd else health, odd
