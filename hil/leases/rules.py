"""The rules of leases, pure: who is ahead of whom, when a term is over, how an entry reads in a sentence.

No wall clock decides anything here, so one that jumps neither ends nor doubles a lease.  Terms run on the
monotonic clock, which all processes of one boot share.  An entry made on another clock (before a restart of this
machine, or on another host) runs its whole term again from the moment it is first looked at from here, unless it
is renewed; a process of this very machine before its restart is certainly gone.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from hil.core.processes import PROC, boot_id, is_gone, started
from hil.core.sysfs import text_of
from hil.errors import BenchError

PROCESS_TTL_S = 60.0
PERSON_TTL_S = 2 * 3600.0
WAIT_TERM_S = 30.0
"""A waiter that gives no sign for so long leaves the queue (a stopped process would block it for ever)."""


@dataclass(frozen=True)
class Origin:
    """The machine, boot and namespaces of a process: what makes clocks and process numbers comparable."""

    host: str
    machine: str
    """/etc/machine-id; empty where there is none."""
    boot: str
    """The kernel's boot id."""
    clock: str
    """The time namespace: monotonic clocks and start ticks compare within one boot and one of these."""
    pids: str
    """The PID namespace: process numbers compare within one boot and one of these."""

    @classmethod
    def here(cls, proc: Path = PROC) -> Origin:
        """Return where this process runs. Raises BenchError when ``/proc`` does not show it."""
        if started(os.getpid(), proc) is None or (proc / "self").readlink() != Path(str(os.getpid())):
            raise BenchError(
                "/proc does not show this process, so nobody could see whether it still runs",
                remedy="mount /proc of this PID namespace",
            )
        return cls(
            host=socket.gethostname(),
            machine=text_of(Path("/etc/machine-id")),
            boot=boot_id(proc),
            clock=_namespace(proc, "time"),
            pids=_namespace(proc, "pid"),
        )

    def same_clock(self, other: Origin) -> bool:
        """Return whether monotonic times of both compare."""
        return (self.boot, self.clock) == (other.boot, other.clock)

    def sees_processes_of(self, other: Origin) -> bool:
        """Return whether a pid there means the same process here."""
        return self.same_clock(other) and self.pids == other.pids

    def is_after_restart_of(self, other: Origin) -> bool:
        """Return whether this is the same machine (or container), started again since."""
        same = self.machine != "" and (self.machine, self.host) == (other.machine, other.host)
        return same and self.boot != other.boot


@dataclass(frozen=True)
class LeaseEntry:
    """A lease (``taken`` set) or a position in the queue for one (``taken`` None).  Times are UTC, for people only."""

    id: int
    boards: frozenset[str]
    holder: str
    purpose: str
    by_person: bool
    """Nobody's process: it lasts until it is freed or its term is over."""
    within: int | None
    """The lease whose holder lets this one use its boards."""
    origin: Origin
    pid: int
    start_ticks: int
    ttl_s: float
    renewed_s: float
    """Monotonic clock of ``origin`` at the last sign of life."""
    renewals: int
    asked: datetime
    taken: datetime | None
    renewed: datetime
    seen_s: float | None = None
    """Looker's monotonic clock when it first saw this renewal; only for an entry made on another clock."""
    left_s: float = 0.0
    """Rest of the term at the time of reading."""
    expires: datetime | None = None
    """The end of the term, by the wall clock at the time of reading."""
    position: int = 0
    """Place in the queue for its boards: 1 is next; 0 holds them."""
    token: int = 0
    """Higher than that of every entry before it, also when the store was made anew meanwhile."""
    store: str = ""
    """The store that it is in, by what was drawn when that was made."""

    @property
    def identity(self) -> tuple[str, int, int]:
        """Which entry it is: numbers begin again in a store that is made anew."""
        return self.store, self.id, self.token

    @property
    def name(self) -> str:
        """Number and token: what ``HIL_LEASE`` holds."""
        return f"{self.id}:{self.token}"

    @property
    def holds(self) -> bool:
        """Whether it is a lease; else it waits in the queue."""
        return self.taken is not None

    @property
    def term_s(self) -> float:
        return self.ttl_s if self.holds else WAIT_TERM_S


def left_s(entry: LeaseEntry, here: Origin, now_s: float) -> float:
    """Return seconds until the term of ``entry`` is over; not above 0 when it is."""
    if entry.origin.same_clock(here):
        return entry.renewed_s + entry.term_s - now_s
    return entry.term_s if entry.seen_s is None else entry.seen_s + entry.term_s - now_s


def has_ended(entry: LeaseEntry, here: Origin, proc: Path = PROC) -> bool:
    """Return whether the process behind an entry is certainly gone; never true of a person's lease."""
    if entry.by_person and entry.holds:
        return False
    if here.sees_processes_of(entry.origin):
        return is_gone(entry.pid, entry.start_ticks, proc)
    return here.is_after_restart_of(entry.origin)


def blockers(entry: LeaseEntry, entries: Iterable[LeaseEntry]) -> list[LeaseEntry]:
    """Return who is in the way of ``entry``: the holders of its boards, and those who asked for one of them earlier.

    Because earlier askers count even while they wait for other boards, boards are reserved in the order of the
    queue, and nobody starves.  An entry within a lease meets only the other entries within that lease.
    """
    return [
        other
        for other in entries
        if other.id not in (entry.id, entry.within)
        and not entry.boards.isdisjoint(other.boards)
        and (other.holds or other.id < entry.id)
        and (entry.within is None or other.within == entry.within)
    ]


def position(entry: LeaseEntry, entries: Iterable[LeaseEntry]) -> int:
    """Return the place in the queue: 1 when only holders are in the way; 0 for a holder."""
    if entry.holds:
        return 0
    return 1 + sum(not other.holds for other in blockers(entry, entries))


def boards_text(boards: Iterable[str]) -> str:
    """``six/a1, six/a2``."""
    return ", ".join(sorted(boards))


def sentence(entry: LeaseEntry, boards: Iterable[str] = (), here: Origin | None = None) -> str:
    """Return who holds (or waits for) ``boards`` since when, until when, where, for what."""
    shared = entry.boards & frozenset(boards) or entry.boards
    names = boards_text(shared)
    who = f"{entry.holder} on {entry.origin.host}"
    what = f'for "{entry.purpose}"' if entry.purpose else "without a stated purpose"
    if not entry.holds:
        return f"{who} waits for {names} since {utc(entry.asked)} {what} (place {entry.position} in the queue)"
    verb = "are" if len(shared) > 1 else "is"
    text = f"{names} {verb} held by {who} since {utc(entry.taken)} {what}"
    if entry.by_person:
        return f"{text}, until {utc(entry.expires)} ({span(entry.left_s)} left; lease {entry.id})"
    mine = entry.pid == os.getpid() and here is not None and here.sees_processes_of(entry.origin)
    process = "this process" if mine else f"process {entry.pid}"
    return f"{text}, while {process} lives and renews it, now until {utc(entry.expires)} (lease {entry.id})"


def utc(moment: datetime | None) -> str:
    """``2026-03-01 12:00:05 UTC``."""
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC" if moment else "-"


def span(seconds: float) -> str:
    """``1 h 23 min``, ``4 min 10 s``, ``12 s``."""
    minutes, secs = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {secs} s" if minutes else f"{secs} s"


def _namespace(proc: Path, kind: str) -> str:
    try:
        return str((proc / "self/ns" / kind).readlink())
    except OSError:  # kernels before 5.6 have no time namespaces
        return ""
