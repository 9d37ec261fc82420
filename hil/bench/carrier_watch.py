"""The watch over what carries a campaign: keeper, link box, container engine, the boards' containers, this host.

One thread of the process that runs the campaign.  What it sees is evidence (``bench.pulse`` at a bounded rate,
``bench.differs`` when another hand changed something); :mod:`hil.evidence.carriers` judges by it.
"""

from __future__ import annotations

import json
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Protocol

from hil.bench.journal import POWER_OFF, Journal, JournalEntry
from hil.bench.link_read_back import LinkReadBack
from hil.bench.state import disk_dir, link_socket, pulse_file
from hil.boards.container.board import LABEL
from hil.core.command import Progress, silent
from hil.core.processes import current, identify
from hil.errors import BenchError, HarnessError, HilError
from hil.evidence.carriers import LATE_S, board_part, container
from hil.evidence.events import BenchDiffers, BenchPulse
from hil.evidence.record import Recorder
from hil.evidence.sink import Sink
from hil.host.engine import dockerd
from hil.host.engine.engine import find
from hil.text import one_line

if TYPE_CHECKING:
    from hil.bench.bench import Bench

_log = logging.getLogger(__name__)

TICK_S = 0.25
"""How often this process looks at its own clock."""
ROUND_S = 2.0
"""How often every part is asked."""
PULSE_S = 5.0
"""How often a pulse is recorded while nothing changes."""
ANSWER_S = 3.0
"""What a part has for its answer."""
FULL_B = 8 << 20
"""Less than this is free: a disk is full."""
JUMP_S = 1.0
"""From one look to the next: nobody slews a clock so fast."""
LOST_S = 12.0
"""A part that is silent for so long is given up, and the run with it."""
SETTLE_S = 30.0
CLOCKS_S = 1.0
"""The engine's clock may be so much apart from ours."""
DISTURBING = ("power", "slots", "mode", "push", "flash", "recovery", "qualify", "fault", "console", "reset")
"""Verbs of the journal that change what a run works with."""
ORDER_S = 60.0
"""So long after an order of this run may a board's container still be switched because of it."""


class Part(Protocol):
    """Something that carries a campaign."""

    @property
    def name(self) -> str: ...

    def look(self) -> float:
        """Return when it gave its last sign of life (CLOCK_MONOTONIC s). BenchError when it does not answer."""
        ...


class PartGone(BenchError):
    """A part that will not come back."""


class KeeperPart:
    """The bench's keeper, by its own pulse; it writes the consoles, serves the link box and plays the schedule."""

    name = "the keeper of the bench"

    def __init__(self, bench: str, pid: int) -> None:
        self._pulse = pulse_file(bench)
        self._process = identify(pid)
        self._stalled_at_s = math.inf

    def look(self) -> float:
        if self._process is None or not self._process.alive():
            raise PartGone("its process has ended", remedy="see its log, then `hil clean`")
        try:
            pulse = json.loads(self._pulse.read_text("utf-8"))
        except (OSError, ValueError) as exc:
            raise BenchError(f"it says nothing of itself: {exc}") from exc
        if pulse["problems"]:
            raise BenchError("; ".join(pulse["problems"]), remedy="bring the bench up again")
        stalled_s, at_s = pulse["stall"]
        news, self._stalled_at_s = at_s > self._stalled_at_s, at_s
        return float(pulse["mono_s"]) - (stalled_s if news else 0.0)


class JournalPart:
    """What others do to the bench meanwhile, by its journal: an order of somebody else, and power that is gone for it.

    Links are not looked at here: the link box itself tells who commanded them.
    """

    name = "the boards' power"

    def __init__(
        self, journal: Journal, differs: Callable[[str, str], None], foreign: frozenset[str] = frozenset()
    ) -> None:
        """``foreign``: boards of the bench that this run has nothing to do with: other tenants' boards."""
        self._differs = differs
        self._foreign = foreign
        self._news = journal.follow()
        self._me = str(current())
        self._off: dict[str, str] = {}

    def look(self) -> float:
        """Note what was done. BenchError while a board is off because somebody else switched it off."""
        while entry := next(self._news):
            if entry.about in self._foreign:
                continue
            if entry.process != self._me:
                self._note(entry)
            elif entry.verb == "power":
                self._off.pop(entry.about, None)
        if self._off:
            raise BenchError("; ".join(self._off.values()), remedy="switch it on")
        return time.monotonic()

    def _note(self, entry: JournalEntry) -> None:
        if entry.verb == "power" and not entry.forced:
            if entry.what in POWER_OFF:
                since = f"{entry.about} is off since {entry.clock_time}, switched off by {entry.who} ({entry.program})"
                self._off[entry.about] = since
            else:
                self._off.pop(entry.about, None)
        if entry.forced or entry.verb in DISTURBING:
            self._differs(
                board_part(entry.about) if entry.about else "the bench", f"was changed by another hand: {entry}"
            )


class DisksPart:
    """The file systems of this host on which the boards' disks and the evidence are."""

    name = "this host's disks"

    def __init__(self, *folders: Path) -> None:
        self._folders = folders

    def look(self) -> float:
        """BenchError when one is full: a board sees that as a disk that fails."""
        for folder in self._folders:
            with suppress(OSError):
                if (free_b := free_bytes(folder)) < FULL_B:
                    raise BenchError(f"{free_b:,} bytes are free below {folder}", remedy="make room")
        return time.monotonic()


def free_bytes(folder: Path) -> int:
    """Return the bytes that are free on the file system of a folder. Raises OSError."""
    state = os.statvfs(folder)
    return state.f_bavail * state.f_frsize


class ClockPart:
    """The time of day of this process: it must not jump (a suspended host looks the same)."""

    name = "this host's clock"

    def __init__(self, differs: Callable[[str, str], None], time_s: Callable[[], float] = time.time) -> None:
        self._differs = differs
        self._time_s = time_s
        self._apart_s = self._apart()

    def look(self) -> float:
        """Note a jump."""
        before, self._apart_s = self._apart_s, self._apart()
        if abs(jump_s := self._apart_s - before) >= JUMP_S:
            self._differs(self.name, f"jumped by {jump_s:+,.1f} s")
        return time.monotonic()

    def _apart(self) -> float:
        return self._time_s() - time.monotonic()


class EnginePart:
    """The container engine; it also tells who else switches the boards' containers."""

    name = "the container engine"

    def __init__(
        self,
        bench: str,
        socket: Path,
        differs: Callable[[str, str], None],
        ordered: Ordered,
        foreign: frozenset[str] = frozenset(),
    ) -> None:
        """``ordered`` returns when this run ordered something of a board (CLOCK_MONOTONIC s); ``foreign`` as above."""
        self._foreign = foreign
        self._label = f"{LABEL}={bench}"
        self._socket = socket
        self._differs = differs
        self._ordered = ordered
        self._seen_s = time.time()
        self.down: dict[str, tuple[float, str]] = {}
        """By board whose container another hand paused or ended: since when (CLOCK_MONOTONIC s), and how."""

    def look(self) -> float:
        until_s = time.time()
        for event in dockerd.container_events(self._socket, self._label, self._seen_s, until_s, ANSWER_S):
            self._note(event)
        self._seen_s = until_s
        return time.monotonic()

    def _note(self, event: Mapping[str, object]) -> None:
        actor = event.get("Actor")
        attributes = actor.get("Attributes", {}) if isinstance(actor, Mapping) else {}
        board, action = str(attributes.get("hil.board", "")), str(event.get("Action", ""))
        if not board or board in self._foreign:  # a guest is no board
            return
        at_s = float(str(event.get("timeNano", 0))) / 1e9 - time.time() + time.monotonic()
        mine = any(order_s - CLOCKS_S <= at_s <= order_s + ORDER_S for order_s in self._ordered(board))
        if action in ("start", "unpause"):
            self.down.pop(board, None)
            if action == "start" and not mine:
                self._differs(container(board), "was started, and not by this run")
        elif action == "pause" and not mine:
            self._put_down(board, at_s, "was paused, and not by this run")
        elif action == "kill" and attributes.get("signal") == "15" and not mine:  # the power button: it ends with 0
            self._put_down(board, at_s, "was stopped from outside, and not by this run")
        elif action == "die" and not mine and (code := str(attributes.get("exitCode"))) != "0":
            self._put_down(board, at_s, f"was ended from outside (exit code {code}), and not by this run")

    def _put_down(self, board: str, at_s: float, what: str) -> None:
        self.down[board] = at_s, what
        self._differs(container(board), what)


Ordered = Callable[[str], Sequence[float]]


@dataclass
class _Load:
    """Counters of ``/proc/stat`` and ``/proc/pressure/cpu`` at one moment."""

    at_s: float = field(default_factory=time.monotonic)
    total: int = 0
    idle: int = 0
    steal: int = 0
    waited_us: int | None = None

    @classmethod
    def now(cls, proc: Path = Path("/proc")) -> _Load:
        load = cls()
        with suppress(OSError, ValueError, IndexError):
            ticks = [int(n) for n in (proc / "stat").read_text().split("\n", 1)[0].split()[1:9]]
            load.total, load.idle, load.steal = sum(ticks), ticks[3] + ticks[4], ticks[7]
        with suppress(OSError, ValueError, IndexError):
            load.waited_us = int((proc / "pressure/cpu").read_text().split("total=")[1].split()[0])
        return load

    def since(self, before: _Load) -> tuple[float, float, float | None]:
        """Return the shares of time since ``before``: busy, taken away, waited for a processor (None: not known)."""
        ticks = max(1, self.total - before.total)
        busy, steal = 1 - (self.idle - before.idle) / ticks, (self.steal - before.steal) / ticks
        if self.waited_us is None or before.waited_us is None:
            return round(busy, 3), round(steal, 3), None
        waited = (self.waited_us - before.waited_us) / 1e6 / max(1e-3, self.at_s - before.at_s)
        return round(busy, 3), round(steal, 3), round(waited, 3)


def runnable_per_core(proc: Path = Path("/proc")) -> float | None:
    """Return how many programs there are for each core of this host that run or could run now; None when unknown.

    The kernel's own count (``procs_running`` in ``/proc/stat``), without this program.
    """
    with suppress(OSError, ValueError, IndexError):
        count = int((proc / "stat").read_text().split("\nprocs_running ", 1)[1].split("\n", 1)[0])
        return max(0, count - 1) / (os.cpu_count() or 1)
    return None


class CarrierWatch:
    """``with CarrierWatch(...)``: watches until the block ends, with a last look at its end.

    ``on_lost`` is called once, from the watch's thread, with the part that is given up and the error that says so.
    """

    def __init__(
        self, parts: list[Part], sink: Sink, *, on_lost: Callable[[str, BenchError], None], tell: Progress = silent
    ) -> None:
        self.parts = parts
        self.ended_early = ""
        """The error with which the watch ended before it was stopped."""
        self._sink = sink
        self._tell = tell
        self._on_lost = on_lost
        self._stopping = False
        self._wake = threading.Event()
        self._rounds = self._wanted = 0
        self._round_ended = threading.Condition()
        self._late_s: dict[str, float] = {}
        self._silent: dict[str, str] = {}
        self._failing_since_s: dict[str, float] = {}
        self._is_lost = False
        self._clock_late_s = 0.0
        self._load = _Load.now()
        self._runnable: list[float] = []
        self._thread = threading.Thread(target=self._run, name="carrier-watch", daemon=True)

    @classmethod
    def of(
        cls,
        bench: Bench,
        sink: Sink,
        *,
        ordered: Ordered,
        on_lost: Callable[[str, BenchError], None],
        tell: Progress = silent,
    ) -> CarrierWatch:
        """Return the watch over a bench that is up; ``ordered`` as for :class:`EnginePart`."""

        def differs(part: str, what: str) -> None:
            tell(f"{part} {what}")
            sink.emit(BenchDiffers(part, what))

        foreign = frozenset(board.name for board in bench.whole_lab.boards) - bench.boards.keys()
        evidence = [sink.directory] if isinstance(sink, Recorder) else []
        parts: list[Part] = [JournalPart(bench.journal, differs, foreign), ClockPart(differs)]
        parts.append(DisksPart(disk_dir(bench.name), *evidence))
        if pulse_file(bench.name).exists():  # a keeper of an earlier version has none
            parts.append(KeeperPart(bench.name, bench.state.keeper_pid))
        parts.append(LinkReadBack(link_socket(bench.name), differs, timeout_s=ANSWER_S))
        if any(board.fidelity == "virtual" for board in bench.boards.values()) and (info := find()):
            socket = Path(info.url.removeprefix("unix://"))
            engine = EnginePart(bench.name, socket, differs, ordered, foreign)
            parts.append(engine)
            parts += [ContainerPart(name, engine) for name, b in bench.boards.items() if b.fidelity == "virtual"]
        return cls(parts, sink, on_lost=on_lost, tell=tell)

    def __enter__(self) -> CarrierWatch:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stopping = True
        self._wake.set()
        self._thread.join(SETTLE_S)

    def settle(self) -> None:
        """Wait until everything was looked at once more, so that what is wrong now is in the evidence."""
        with self._round_ended:
            self._wanted = self._rounds + 2  # the round that runs now may have passed a part already
            self._wake.set()
            self._round_ended.wait_for(
                lambda: self._rounds >= self._wanted or self.ended_early or not self._thread.is_alive(), SETTLE_S
            )

    def _run(self) -> None:
        try:
            self._watch()
        except Exception as exc:
            with self._round_ended:
                self.ended_early = f"{type(exc).__name__}: {exc}"
                self._round_ended.notify_all()
            raise

    def _watch(self) -> None:
        round_s = pulse_s = time.monotonic()
        while True:
            if (runnable := runnable_per_core()) is not None:
                self._runnable.append(runnable)
            last, asked = self._stopping, self._rounds < self._wanted
            self._wake.clear()
            if last or asked or time.monotonic() >= round_s:
                changed = self._look_around()
                round_s = time.monotonic() + ROUND_S
                if last or asked or changed or time.monotonic() >= pulse_s:
                    self._pulse()
                    pulse_s = time.monotonic() + PULSE_S
                with self._round_ended:
                    self._rounds += 1
                    self._round_ended.notify_all()
            if last:
                return
            due_s = time.monotonic() + TICK_S
            if self._rounds >= self._wanted and not self._wake.wait(TICK_S):
                self._clock_late_s = max(self._clock_late_s, time.monotonic() - due_s)

    def _look_around(self) -> bool:
        """Ask every part; return whether one fell silent or answers again."""
        before = dict(self._silent)
        for part in self.parts:
            asked_s = time.monotonic()
            try:
                sign_s = part.look()
                self._failing_since_s.pop(part.name, None)
                late_s = max(time.monotonic() - asked_s, time.monotonic() - sign_s)
                reason = "" if late_s < ANSWER_S else "its last sign of life is too old"
                lost: BenchError | None = None
            except (HilError, OSError) as exc:  # OSError: what it found could not be recorded
                late_s = time.monotonic() - self._failing_since_s.setdefault(part.name, asked_s)
                reason = one_line(exc.message if isinstance(exc, HilError) else str(exc), 300)
                lost = BenchError(exc.message, remedy=exc.remedy) if isinstance(exc, PartGone) else None
            self._late_s[part.name] = max(late_s, self._late_s.get(part.name, 0.0))
            if reason:
                self._silent[part.name] = reason
                if part.name not in before:
                    self._tell(f"bench: {part.name} is silent: {reason}")
            elif self._silent.pop(part.name, None):
                self._tell(f"bench: {part.name} answers again")
            if lost is not None or (reason and late_s >= LOST_S):
                self._give_up(part.name, lost or BenchError(reason, remedy="bring the bench up again"))
        return before.keys() != self._silent.keys()

    def _give_up(self, part: str, error: BenchError) -> None:
        if self._is_lost or self._stopping:
            return
        self._is_lost = True
        self._pulse()
        self._on_lost(part, error.with_context(f"{part} is lost: {error.message}"))

    def _pulse(self) -> None:
        load = _Load.now()
        busy, steal, pressure = load.since(self._load)
        late_s = {name: round(seconds, 3) for name, seconds in self._late_s.items() if seconds >= 0.001}
        window_s = round(load.at_s - self._load.at_s, 3)
        clock_late_s = round(self._clock_late_s, 3)
        runnable = round(mean(self._runnable), 2) if self._runnable else None
        pulse = BenchPulse(window_s, late_s, dict(self._silent), clock_late_s, busy, steal, pressure, runnable)
        try:
            self._sink.emit(pulse)
        except (OSError, HarnessError):  # a full disk: the next pulse says so, with these figures
            self._late_s["the evidence"] = LATE_S
            return
        self._load, self._late_s, self._clock_late_s, self._runnable = load, {}, 0.0, []


class ContainerPart:
    """The container of one board, as the engine tells of it."""

    def __init__(self, board: str, engine: EnginePart) -> None:
        self.name = container(board)
        self._board = board
        self._engine = engine

    def look(self) -> float:
        if self._board in self._engine.down:
            raise BenchError(self._engine.down[self._board][1])
        return time.monotonic()
