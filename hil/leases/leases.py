"""Leases: the right to use boards, all of a bench at once or none, in the order of asking.

    with Leases().take(["six/a1", "six/a2"], holder="anna", purpose="thermal run") as lease:
        ...                      # renewed by a thread; lease.lost when somebody freed it by force

A lease is freed when its block ends, when its holder dies (the next who looks sees that its process is gone), and at
the end of its term otherwise.  :mod:`hil.leases.rules` says who comes first and which clock counts,
:mod:`hil.leases.store` where it is kept.
"""

from __future__ import annotations

import logging
import math
import os
import pwd
import random
import re
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from hil.core import paths
from hil.core.command import Progress
from hil.core.processes import current
from hil.core.wait import SYSTEM_CLOCK, Clock
from hil.database.connection import BUSY_S, Server, ServerAway, shared
from hil.errors import ConfigurationError, HilError
from hil.leases.lease import LEASE_ENV, STORE_ENV, Lease, LeaseLost, LeaseTaken, outer_is_gone
from hil.leases.marks import Marks
from hil.leases.rules import (
    PERSON_TTL_S,
    PROCESS_TTL_S,
    LeaseEntry,
    Origin,
    blockers,
    boards_text,
    has_ended,
    left_s,
    sentence,
)
from hil.leases.rules import position as position_in_queue
from hil.leases.store import Session, Store, presented
from hil.text import clean

_log = logging.getLogger(__name__)

__all__ = ["Lease", "LeaseEntry", "LeaseLost", "LeaseTaken", "Leases", "default_holder", "default_store"]

MIN_TTL_S, MAX_TTL_S = 1.0, 30 * 86400.0

_KEY = re.compile(r"[a-z0-9][a-z0-9-]*/[a-z0-9][a-z0-9-]*")
_SOONEST_S, _LATEST_S = 0.1, 3.0
_AGAIN_S = 0.5


class Leases:
    """The leases of one store."""

    def __init__(
        self, path: Path | Server | None = None, *, clock: Clock = SYSTEM_CLOCK, here: Origin | None = None
    ) -> None:
        """``path``: the store, by default :func:`default_store`; made when it is not there."""
        place, here = path or default_store(), here or Origin.here()
        self.path = place if isinstance(place, Server) else place.absolute()
        self.clock = clock
        # Hosts that were copied from one image have one machine-id, and often one name: neither says that a process
        # there was before a restart of this very host.
        self.here = replace(here, machine="") if isinstance(place, Server) else here
        self._store = Store(self.path, self.here)
        self._store.check_disk()
        self.marks = Marks(self._store)

    def take(
        self,
        boards: Iterable[str],
        *,
        holder: str = "",
        purpose: str,
        ttl_s: float = PROCESS_TTL_S,
        wait_s: float | None = None,
        progress: Progress | None = None,
        within: str = "",
        out_of_service: bool = False,
        one_of: bool = False,
    ) -> Lease:
        """Lease all of ``boards`` (``<lab>/<board>``), or none: LeaseTaken says who has them.

        ``wait_s``: None refuses at once when one is taken; else queue for at most so many seconds (``math.inf``:
        for ever), first come first served, and tell ``progress`` who is ahead.  ``ttl_s``: how long the lease
        outlives a holder of which nobody can see whether it died.  A process that was started with another
        lease's ``environment()`` gets its boards within that lease; ``within`` (its name) says the same.
        ``one_of``: one of the boards is enough, whichever is free first; it waits in the queue of each.
        """
        asked = []
        for wanted in _choices(boards, one_of=one_of):
            outer = self._around(wanted, within or os.environ.get(LEASE_ENV, ""))
            if outer is None and not out_of_service:
                self.marks.refuse(wanted)
            asked.append(self._asked(wanted, holder, purpose, ttl_s, within=outer))
        entry = self._acquire(asked, wait_s, progress)
        _log.info("lease %d: taken on %s", entry.id, boards_text(entry.boards))
        return Lease(self._store, entry, self.clock)

    def reserve(
        self,
        boards: Iterable[str],
        *,
        holder: str = "",
        purpose: str,
        ttl_s: float = PERSON_TTL_S,
        wait_s: float | None = None,
        progress: Progress | None = None,
        out_of_service: bool = False,
        one_of: bool = False,
    ) -> LeaseEntry:
        """As ``take``, for a person: held until ``free`` or for ``ttl_s`` seconds, also after this process ended."""
        asked = []
        for wanted in _choices(boards, one_of=one_of):
            if not out_of_service:
                self.marks.refuse(wanted)
            asked.append(self._asked(wanted, holder, purpose, ttl_s, by_person=True))
        entry = self._acquire(asked, wait_s, progress)
        _log.info("lease %d: taken on %s for %g s", entry.id, boards_text(entry.boards), entry.ttl_s)
        return next((each for each in self.list() if each.id == entry.id), entry)

    def list(self) -> tuple[LeaseEntry, ...]:
        """Return the leases that hold now, oldest first."""
        return tuple(entry for entry in self._present() if entry.holds)

    def queue(self) -> tuple[LeaseEntry, ...]:
        """Return who waits, in the order of the queue."""
        return tuple(entry for entry in self._present() if not entry.holds)

    def wait_free(self, boards: Iterable[str], *, wait_s: float = math.inf, progress: Progress | None = None) -> None:
        """Wait until nobody holds or waits for any of ``boards``; takes nothing.  LeaseTaken when it takes longer."""
        wanted = _checked(boards)
        shown: list[int] | None = None
        begin = self.clock.monotonic()
        while busy := [entry for entry in self._tidied() if not wanted.isdisjoint(entry.boards)]:
            waited = self.clock.monotonic() - begin
            if waited >= wait_s:
                raise self._taken(wanted, busy, waited)
            if progress and shown != (shown := [entry.id for entry in busy]):
                progress("; ".join(sentence(entry, wanted, self.here) for entry in busy))
            self.clock.sleep(min(_pause(len(busy), waited), max(0.0, wait_s - waited)))

    def free(self, which: int | str, *, by: str = "", force: bool = False) -> tuple[LeaseEntry, ...]:
        """End a lease or a wait by its number, or the lease of a board (``<lab>/<board>``); return what was ended.

        ConfigurationError when it is another's or its process still runs, unless ``force``d, and when there is none.
        """
        by = by or default_holder()
        present = self._tidied()
        ended = tuple(e for e in present if e.id == which or (e.holds and which in e.boards))
        if not ended:
            known = ", ".join(f"{e.id} ({boards_text(e.boards)})" for e in present) or "none"
            what = f"lease {which}" if isinstance(which, int) else f"lease on {which}"
            raise ConfigurationError(f"there is no {what}", remedy=f"leases: {known}")
        for entry in ended if not force else ():
            if entry.holder != by:
                raise ConfigurationError(
                    f"not yours ({by}): {sentence(entry, here=self.here)}",
                    remedy=f"ask {entry.holder}, or free it all the same with --force",
                )
            if not entry.by_person:
                raise ConfigurationError(
                    f"its process still runs: {sentence(entry, here=self.here)}",
                    remedy=f"end process {entry.pid} on {entry.origin.host} (that frees it), or use --force",
                )
        with self._store.open() as db, db.write(durable=True):
            db.drop(entry.id for entry in ended)
        for entry in ended:
            boards = boards_text(entry.boards)
            _log.info("lease %d of %.80r on %s: freed by %.80r", entry.id, entry.holder, boards, by)
        return ended

    def extend(self, lease_id: int, *, ttl_s: float | None = None, by: str = "") -> LeaseEntry:
        """Begin a person's term again, now, with a new length if one is given.

        ConfigurationError when it is over or another's.
        """
        by = by or default_holder()
        self._tidied()
        with self._store.open() as db, db.write(durable=True):
            present = presented(db.entries(), self.here, self.clock.monotonic())
            entry = next((e for e in present if e.id == lease_id and e.holds and e.by_person), None)
            if entry is None:
                raise ConfigurationError(
                    f"there is no person's lease {lease_id}", remedy="`hil lease list` has those that hold"
                )
            if entry.holder != by:
                raise ConfigurationError(
                    f"not yours ({by}): {sentence(entry, here=self.here)}", remedy=f"ask {entry.holder}"
                )
            db.renew(lease_id, self.clock.monotonic(), ttl_s=None if ttl_s is None else _ttl(ttl_s))
        return next(entry for entry in self.list() if entry.id == lease_id)

    def _asked(
        self,
        wanted: frozenset[str],
        holder: str,
        purpose: str,
        ttl_s: float,
        *,
        by_person: bool = False,
        within: int | None = None,
    ) -> LeaseEntry:
        """Return the entry with which this process asks now."""
        process = current()
        now = datetime.now(UTC)
        return LeaseEntry(
            id=0,
            boards=wanted,
            holder=" ".join(clean(holder).split()) or default_holder(),
            purpose=" ".join(clean(purpose).split()),
            by_person=by_person,
            within=within,
            origin=self.here,
            pid=process.pid,
            start_ticks=process.start_ticks,
            ttl_s=_ttl(ttl_s),
            renewed_s=self.clock.monotonic(),
            renewals=0,
            asked=now,
            taken=None,
            renewed=now,
        )

    def _acquire(self, asked: Sequence[LeaseEntry], wait_s: float | None, progress: Progress | None) -> LeaseEntry:
        """Queue with each of ``asked``, wait for at most ``wait_s``, and return the first that becomes a lease."""
        self._tidied()
        first, wanted = asked[0], frozenset(board for each in asked for board in each.boards)
        with self._store.open() as db, db.write(durable=first.by_person):
            ids = [db.enter(each) for each in asked]
            mine = [db.entry(each) for each in ids]
            granted = self._grant_first(db, ids)
            if granted is None and wait_s is None:
                present = presented(db.entries(), self.here, first.renewed_s)
                # The roll-back takes it out of the queue again, and the next one gets its number.
                raise self._taken(wanted, _ahead(mine, present), None)
        if granted:
            return granted
        try:
            granted = self._wait(mine, first.renewed_s, wait_s or 0.0, progress)
            with self._store.open() as db:
                if db.has(granted):
                    return granted
            raise self._made_anew()
        except BaseException:
            with suppress(sqlite3.Error, HilError), self._store.open() as db, db.write():
                db.drop(each.id for each in mine if db.has(each))
            raise

    def _made_anew(self) -> LeaseLost:
        return LeaseLost(f"the lease store {self.path} was made anew while this process waited", remedy="ask again")

    def _wait(self, mine: Sequence[LeaseEntry], begin: float, wait_s: float, progress: Progress | None) -> LeaseEntry:
        """Wait in the queue until a lease is granted; a server may be away for a while meanwhile."""
        away_s: float | None = None
        while True:
            try:
                with self._store.open() as db:
                    away_s = None
                    return self._queue(db, mine, begin, wait_s, progress)
            except ServerAway:
                now_s = self.clock.monotonic()
                away_s = now_s if away_s is None else away_s
                if now_s >= away_s + BUSY_S:
                    raise
                self.clock.sleep(_AGAIN_S)

    def _queue(
        self, db: Session, asked: Sequence[LeaseEntry], begin: float, wait_s: float, progress: Progress | None
    ) -> LeaseEntry:
        """Wait in the queue until a lease is granted: mostly reading, with a sign of life now and then."""
        ids, known = [each.id for each in asked], {each.identity for each in asked}
        shown: list[int] | None = None
        while True:
            entries = db.entries()
            if held := next((each for each in entries if each.holds and each.identity in known), None):
                return held  # the server went away before it said so
            mine = [db.entry(entry_id) for entry_id in ids]
            if any(each.identity not in known for each in mine):
                raise self._made_anew()
            now_s = self.clock.monotonic()
            first, wanted = mine[0], frozenset(board for each in mine for board in each.boards)
            if now_s >= min(each.renewed_s + each.term_s / 3 for each in mine):
                with db.write():
                    for entry_id in ids:
                        db.renew(entry_id, now_s)
            queues = [blockers(each, entries) for each in mine]
            if any(all(self._is_over(entry, now_s) for entry in ahead) or self._unseen(ahead) for ahead in queues):
                with db.write(durable=first.by_person):
                    granted = self._grant_first(db, ids)
                if granted:
                    return granted
                continue
            waited = now_s - begin
            if waited >= wait_s:
                raise self._taken(wanted, _ahead(mine, presented(entries, self.here, now_s)), waited)
            ahead = _ahead(mine, entries)
            if progress and shown != (shown := [entry.id for entry in ahead]):
                reasons = "; ".join(
                    sentence(entry, wanted, self.here) for entry in _ahead(mine, presented(entries, self.here, now_s))
                )
                place = min(position_in_queue(each, entries) for each in mine)
                which = "one of " if len(mine) > 1 else ""
                progress(f"place {place} in the queue for {which}{boards_text(wanted)}: {reasons}")
            longest = min(first.term_s / 3, max(0.0, wait_s - waited))
            self.clock.sleep(min(_pause(min(map(len, queues)), waited), longest))

    def _grant_first(self, db: Session, ids: Sequence[int]) -> LeaseEntry | None:
        """Within a transaction: grant the first that can be, and take the others out of the queue."""
        for entry_id in ids:
            if granted := self._grant(db, entry_id):
                db.drop(each for each in ids if each != entry_id)
                return granted
        return None

    def _grant(self, db: Session, entry_id: int) -> LeaseEntry | None:
        """Within a transaction: remove entries ahead that are over, and take the boards if they are free then."""
        now_s = self.clock.monotonic()
        mine, entries = db.entry(entry_id), db.entries()
        if mine.within is not None and all(entry.id != mine.within for entry in entries):
            raise outer_is_gone(f"lease {mine.within}")
        ahead = blockers(mine, entries)
        db.note_sightings(self._unseen(ahead), now_s)
        over = [entry for entry in ahead if self._is_over(entry, now_s)]
        db.drop(entry.id for entry in over)
        if len(over) < len(ahead):
            return None
        db.grant(mine, now_s)
        return db.entry(entry_id)

    def _present(self) -> tuple[LeaseEntry, ...]:
        """Return every entry that is not over, as people read it.

        Looking writes nothing but when a lease of another clock (of before a restart, of another host) was first seen:
        its term ends a term after that.
        """
        with self._store.open() as db:
            now_s = self.clock.monotonic()
            if self._unseen(db.entries()):
                with db.write():
                    db.note_sightings(self._unseen(db.entries()), now_s)
            entries = [entry for entry in db.entries() if not self._is_over(entry, now_s)]
        return tuple(presented(entries, self.here, now_s))

    def _tidied(self) -> tuple[LeaseEntry, ...]:
        """Return the same; entries that are over are removed on the way, which also notes when they ended."""
        with self._store.open() as db:
            now_s = self.clock.monotonic()
            if self._unseen(db.entries()) or any(self._is_over(entry, now_s) for entry in db.entries()):
                with db.write():
                    db.note_sightings(self._unseen(db.entries()), now_s)
                    db.drop([e.id for e in db.entries() if self._is_over(e, self.clock.monotonic())])
            return tuple(presented(db.entries(), self.here, self.clock.monotonic()))

    def _is_over(self, entry: LeaseEntry, now_s: float) -> bool:
        return left_s(entry, self.here, now_s) <= 0 or has_ended(entry, self.here)

    def _unseen(self, entries: Iterable[LeaseEntry]) -> tuple[LeaseEntry, ...]:
        return tuple(e for e in entries if e.seen_s is None and not e.origin.same_clock(self.here))

    def _around(self, wanted: frozenset[str], text: str) -> int | None:
        """Return the number of the lease within which to take boards, if it is about these."""
        if not text:
            return None
        outer = next((entry for entry in self.list() if text in (entry.name, str(entry.id))), None)
        if outer is None:
            raise outer_is_gone(f"lease {text}")
        if missing := wanted - outer.boards if wanted & outer.boards else frozenset():
            raise ConfigurationError(
                f"lease {outer.id}, within which this runs, has not got {boards_text(missing)}",
                remedy="take all boards in one lease: part by part, two benches would wait for each other for ever",
            )
        return outer.id if wanted & outer.boards else None

    def _taken(self, wanted: frozenset[str], ahead: Iterable[LeaseEntry], waited_s: float | None) -> LeaseTaken:
        ahead = sorted(ahead, key=lambda entry: (not entry.holds, entry.id))
        waited = "" if waited_s is None else f" after {waited_s:.0f} s of waiting"
        lines = [sentence(entry, wanted, self.here) for entry in ahead]
        advice = "" if waited_s is not None else "; --wait 10m queues for them"
        return LeaseTaken(
            f"{boards_text(wanted)}: not free{waited}\n  " + "\n  ".join(lines),
            remedy=f"ask them, or see `hil lease list`{advice}",
            blockers=ahead,
        )


def default_store() -> Path | Server:
    """Return ``HIL_LEASES``, else the server ``HIL_STORE``, else the file of this machine's users or of this home."""
    return (None if os.environ.get(STORE_ENV) else shared()) or paths.leases()


def default_holder() -> str:
    """Return who asks: the user who ran sudo, else the user of this process."""
    if name := os.environ.get("SUDO_USER"):
        return name
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return f"uid{os.geteuid()}"


def _pause(ahead: int, waited_s: float) -> float:
    """Return seconds until the next look: few for the next in turn, more far back or after a long wait."""
    return min(_LATEST_S, _SOONEST_S * ahead**2 * (1 + waited_s / 60)) * random.uniform(0.75, 1.25)


def _ahead(mine: Iterable[LeaseEntry], entries: Iterable[LeaseEntry]) -> list[LeaseEntry]:
    """Return who is ahead of any of ``mine``, each once."""
    entries = list(entries)
    found = {entry.id: entry for each in mine for entry in blockers(each, entries)}
    return list(found.values())


def _choices(boards: Iterable[str], *, one_of: bool) -> list[frozenset[str]]:
    """Return the sets of boards of which one is asked for."""
    named = list(boards)
    return [_checked([board]) for board in named] if one_of and named else [_checked(named)]


def _checked(boards: Iterable[str]) -> frozenset[str]:
    wanted = frozenset(boards)
    if not wanted:
        raise ConfigurationError("a lease of no boards", remedy="name at least one board, or a lab file")
    for board in sorted(wanted):
        if not _KEY.fullmatch(board):
            raise ConfigurationError(
                f"{board!r} is not the name of a board of a lab",
                remedy="write <lab>/<board>, such as six/a1, or give the lab file with --lab",
            )
    return wanted


def _ttl(ttl_s: float) -> float:
    if not MIN_TTL_S <= ttl_s <= MAX_TTL_S:
        raise ConfigurationError(
            f"a lease of {ttl_s:g} s", remedy=f"between {MIN_TTL_S:g} s and {MAX_TTL_S / 86400:g} days"
        )
    return ttl_s
