"""Two hundred processes want six boards, and many are killed: who holds a board is judged without asking the store.

    python -m tests.benchmarks.leases [--processes 200] [--seconds 60] [--seed 1] [--out FILE]

Every contender takes one board, some or all six, again and again; one in five tries waits not at all, or not for
long.  Meanwhile holders and waiters are killed with SIGKILL at random and replaced.  One in forty cannot be seen to
die (it claims from a PID namespace of its own, as a container would), so its lease must run out.  After the time is
up nobody asks any more, and everybody who still waits must be served.  Two judges that know nothing of the store: a
holder flocks a file per board without waiting (the kernel frees it when it dies), and every holder writes into a log
that only grows; afterwards intervals of the same board must not overlap, and lease numbers must grow, because the
queue is served in order.  Exit code 1 when a figure is outside its limit.
"""

from __future__ import annotations

import argparse
import fcntl
import math
import os
import random
import signal
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

from hil.database.connection import Server, ServerAway
from hil.leases.leases import Leases, LeaseTaken
from hil.leases.rules import PROCESS_TTL_S, Origin
from tests.benchmarks.figures import Figure, write

BOARDS = tuple(f"six/{name}" for name in ("a1", "a2", "a3", "b1", "b2", "b3"))
TTL_S = 3.0
KILL_EVERY_S = 0.2
SERVED_WITHIN_S = 90.0
HIDDEN_EVERY = 40
SHARED_TTL_S = 10.0
"""In a store that hosts share: what a server granted just before it was killed, and nobody heard of, must run out."""
LOOK_S = 2.0
"""Who is next looks ten times a second, and later a little less often; the rest is for a busy machine."""


@dataclass(frozen=True)
class Turn:
    """One try of one contender, from its log; times are of the wall clock, which all namespaces share."""

    pid: int
    boards: frozenset[str]
    asked_s: float
    held_s: float | None = None
    ended_s: float | None = None
    number: int = 0


@dataclass
class Judged:
    """What the judges found."""

    served: int = 0
    refused: int = 0
    waits_s: list[float] = field(default_factory=list)
    doubles: list[str] = field(default_factory=list)
    unserved: int = 0
    outlived_visible_s: list[float] = field(default_factory=list)
    outlived_hidden_s: list[float] = field(default_factory=list)
    kills: int = 0
    killed_holding: int = 0


def contend(here: Path, number: int, stop_at: float, seed: int, hidden: bool, store: Path | Server) -> None:
    """One contender's life, in a forked child; its log is ``here/log/<pid>``."""
    chance = random.Random(seed)
    place = Origin.here()
    leases = Leases(store, here=replace(place, pids=f"{place.pids} {os.getpid()}") if hidden else place)
    log = os.open(here / "log" / str(os.getpid()), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    term_s = TTL_S if hidden else SHARED_TTL_S if isinstance(store, Server) else PROCESS_TTL_S
    locks = {board: os.open(here / f"{board.replace('/', '-')}.lock", os.O_RDWR | os.O_CREAT) for board in BOARDS}

    def note(*words: object) -> None:
        os.write(log, (" ".join(map(str, (*words, time.time()))) + "\n").encode())

    time.sleep(chance.uniform(0, 0.5))
    while time.monotonic() < stop_at:
        wanted = chance.sample(BOARDS, chance.choices((1, 2, 3, 6), (60, 15, 10, 15))[0])
        wait_s = chance.choices((math.inf, 0.5, None), (80, 10, 10))[0]
        note("ask", ",".join(wanted))
        try:
            lease = leases.take(wanted, purpose="contention", ttl_s=term_s, wait_s=wait_s)
        except (LeaseTaken, ServerAway) as exc:
            note("refused" if wait_s != math.inf or isinstance(exc, ServerAway) else "never", "-")
            time.sleep(chance.uniform(0, 1))
            continue
        with lease:
            note("held", lease.id)
            for board in wanted:
                try:
                    fcntl.flock(locks[board], fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    note("double", board)
            time.sleep(chance.uniform(0.005, 0.15))
            for board in wanted:
                fcntl.flock(locks[board], fcntl.LOCK_UN)
            note("lost" if lease.lost else "end", lease.id)
        time.sleep(chance.uniform(0, 0.2))


class Crowd:
    """Forks contenders from this one warm process, kills some, keeps their number, and waits for the rest."""

    def __init__(
        self,
        here: Path,
        processes: int,
        seconds: float,
        seed: int,
        hidden_every: int,
        store: Path | Server | None = None,
    ) -> None:
        self._here, self._processes, self._seed = here, processes, seed
        self.store = store or here / "leases.db"
        self._hidden_every = hidden_every
        self._chance = random.Random(seed)
        self._stop_at = time.monotonic() + seconds
        self._number = 0
        self.alive: set[int] = set()
        self.hidden: set[int] = set()
        self.killed_s: dict[int, float] = {}
        self.failed: list[str] = []
        self.last_seen_s: dict[int, float] = {}
        """Killed holders: when the store still had their lease."""

    def run(self) -> None:
        """Until nobody is left, or until whoever still waits has waited for too long."""
        (self._here / "log").mkdir()
        if isinstance(self.store, Path):
            Leases(self.store).list()
        try:
            next_kill = time.monotonic() + 1
            while time.monotonic() < self._stop_at:
                self._reap()
                while len(self.alive) < self._processes:
                    self._fork()
                self._watch()
                if time.monotonic() >= next_kill:
                    self._kill_one()
                    next_kill = time.monotonic() + self._chance.uniform(0, 2 * KILL_EVERY_S)
                time.sleep(0.05)
            while self.alive and time.monotonic() < self._stop_at + SERVED_WITHIN_S:
                self._reap()
                self._watch()
                time.sleep(0.1)
        finally:
            for pid in self.alive:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)

    def _fork(self) -> None:
        self._number += 1
        hidden = bool(self._hidden_every) and self._number % self._hidden_every == 0
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                seed = self._seed * 100_003 + self._number
                contend(self._here, self._number, self._stop_at, seed, hidden, self.store)
                code = 0
            except BaseException as exc:
                (self._here / f"{os.getpid()}.error").write_text(repr(exc))
            finally:
                os._exit(code)
        self.alive.add(pid)
        if hidden:
            self.hidden.add(pid)

    def _reap(self) -> None:
        for pid in sorted(self.alive):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                self.alive.discard(pid)
                if status and pid not in self.killed_s:
                    told = self._here / f"{pid}.error"
                    self.failed.append(f"contender {pid} failed: {told.read_text() if told.exists() else status}")

    def _kill_one(self) -> None:
        """A holder that cannot be seen to die, if there is one; else a holder or, half of the time, anybody."""
        holders = sorted(self.alive.intersection(self._holders()))
        half = holders if self._chance.random() < 0.5 else []
        pid = self._chance.choice(sorted(self.hidden.intersection(holders)) or half or sorted(self.alive))
        self.killed_s[pid] = time.time()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        self.alive.discard(pid)

    def _holders(self) -> list[int]:
        """Past the program under test: read straight from the file; of a server nothing, it may be away."""
        if isinstance(self.store, Server):
            return []
        with closing(sqlite3.connect(self._here / "leases.db", timeout=30)) as db:
            return [row[0] for row in db.execute("SELECT pid FROM claims WHERE taken_utc IS NOT NULL")]

    def _watch(self) -> None:
        now = time.time()
        for pid in self._holders():
            if pid in self.killed_s:
                self.last_seen_s[pid] = now


def judge(logs: dict[int, str], killed_s: dict[int, float]) -> tuple[Judged, list[Turn]]:
    """Overlaps, numbers that do not grow, tries that were never served: from the holders' own logs alone."""
    found = Judged(kills=len(killed_s))
    turns: list[Turn] = []
    for pid, text in logs.items():
        turn: Turn | None = None
        for line in text.splitlines():
            word, what, at = line.split()
            match word:
                case "ask":
                    turn = Turn(pid, frozenset(what.split(",")), float(at))
                case "held" if turn:
                    turn = replace(turn, held_s=float(at), number=int(what))
                case "double":
                    found.doubles.append(f"{what} was locked by another when {pid} got it at {at}")
                case "lost":
                    found.doubles.append(f"{pid} lost lease {what} while it lived, at {at}")
                    turn = None
                case "refused":
                    found.refused += 1
                    turn = None
                case "end" if turn:
                    turns.append(replace(turn, ended_s=float(at)))
                    turn = None
        if turn:  # the log stops in the middle: killed, or never served
            turns.append(replace(turn, ended_s=killed_s.get(pid)))
            found.unserved += pid not in killed_s
    for turn in turns:
        if turn.held_s is not None:
            found.served += 1
            found.waits_s.append(turn.held_s - turn.asked_s)
    for board in sorted({b for t in turns for b in t.boards}):
        held = sorted((t for t in turns if t.held_s and board in t.boards), key=lambda t: t.held_s or 0)
        for before, after in pairwise(held):
            if (after.held_s or 0) < (before.ended_s or math.inf):
                found.doubles.append(f"{board} held by {before.pid} and {after.pid} at {after.held_s}")
            if after.number <= before.number:
                found.doubles.append(f"{board}: lease {after.number} came after {before.number}")
    return found, turns


def contention(
    processes: int, seconds: float, seed: int, hidden_every: int = HIDDEN_EVERY
) -> tuple[Judged, list[Figure]]:
    """Run the crowd, judge it, and put it in figures."""
    with tempfile.TemporaryDirectory(prefix="hil-leases-") as name:
        here = Path(name)
        crowd = Crowd(here, processes, seconds, seed, hidden_every)
        begin, cpu = time.monotonic(), os.times()
        crowd.run()
        took, used = time.monotonic() - begin, os.times()
        logs = {int(p.name): p.read_text() for p in (here / "log").iterdir()}
        found, turns = judge(logs, crowd.killed_s)
        left = Leases(here / "leases.db").list()
    found.doubles += crowd.failed
    for turn in turns:
        if turn.pid in crowd.killed_s and turn.held_s is not None and turn.ended_s == crowd.killed_s[turn.pid]:
            found.killed_holding += 1
            outlived = crowd.last_seen_s.get(turn.pid, turn.ended_s) - turn.ended_s
            (found.outlived_hidden_s if turn.pid in crowd.hidden else found.outlived_visible_s).append(outlived)
    cores = (sum(used[2:4]) - sum(cpu[2:4]) + sum(used[:2]) - sum(cpu[:2])) / took
    return found, list(_figures(found, processes, seconds, len(left), cores))


def _figures(found: Judged, processes: int, seconds: float, left: int, cores: float) -> Iterator[Figure]:
    crowd = f"{processes} processes, {len(BOARDS)} boards, {seconds:g} s"
    waits = sorted(found.waits_s) or [math.inf]
    yield Figure("leases: boards held twice", len(found.doubles), "", "<= 0", f"{crowd}; flock and holders' logs")
    yield Figure("leases: survivors never served", found.unserved, "", "<= 0", f"within {SERVED_WITHIN_S:g} s")
    yield Figure("leases: left over at the end", left, "", "<= 0", "everybody is gone")
    yield Figure("leases: granted", found.served, "", ">= 1", crowd)
    yield Figure("leases: killed with SIGKILL", found.kills, "", ">= 1", f"{found.killed_holding} while holding")
    yield Figure("leases: longest wait", round(waits[-1], 2), "s", f"<= {SERVED_WITHIN_S:g}", "nobody starves")
    yield Figure("leases: median wait", round(statistics.median(waits), 2), "s", "", "")
    yield Figure(
        "leases: outlived a holder seen to die",
        round(max(found.outlived_visible_s, default=0.0), 2),
        "s",
        f"<= {LOOK_S:g}",
        f"worst of {len(found.outlived_visible_s)}",
    )
    yield Figure(
        "leases: outlived a holder not seen to die",
        round(max(found.outlived_hidden_s, default=0.0), 2),
        "s",
        f"<= {TTL_S + LOOK_S:g}",
        f"expiry of {TTL_S:g} s and the next look; worst of {len(found.outlived_hidden_s)}",
    )
    yield Figure("leases: CPU of all contenders", round(cores, 2), "cores", "", crowd)


def main() -> int:
    """Run the contention and print its figures."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.leases", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--processes", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    about = "every so many contenders, one cannot be seen to die; 0: none"
    parser.add_argument("--hidden-every", type=int, default=HIDDEN_EVERY, help=about)
    parser.add_argument("--out", type=Path, help="write the figures there as JSON")
    args = parser.parse_args()
    found, figures = contention(args.processes, args.seconds, args.seed, args.hidden_every)
    for figure in figures:
        verdict = "" if not figure.limit else "ok" if figure.ok else "OUTSIDE"
        print(
            f"{figure.name:44} {figure.value:>9g} {figure.unit:6} {figure.limit:8} {verdict:8} {figure.compared_with}"
        )
    for double in found.doubles[:20]:
        print(double, file=sys.stderr)
    if args.out:
        write(figures, args.out)
    return 0 if all(figure.ok for figure in figures) else 1


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        sys.exit(main())
