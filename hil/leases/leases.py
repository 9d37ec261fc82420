"""Leases: the right to use boards, all of a bench at once or none, in the order of asking.

    with Leases().take(["six/a1", "six/a2"], holder="anna", purpose="thermal run") as lease:
        ...                      # renewed by a thread; lease.lost when somebody freed it by force

A lease is freed when its block ends, when its holder dies (whoever looks next sees that its process is gone), and
at the end of its term otherwise.  :mod:`hil.leases.rules` says who comes first and which clock counts,
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
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from hil.core import paths
from hil.core.command import Progress
from hil.core.process_id import started
from hil.core.wait import SYSTEM_CLOCK, Clock
from hil.errors import BenchError, ConfigurationError
from hil.leases.lease import LEASE_ENV, STORE_ENV, Lease, LeaseLost, LeaseTaken, outer_is_gone
from hil.leases.rules import Claim, Place, blockers, boards_text, has_ended, left_s, sentence
from hil.leases.rules import position as place_in_queue
from hil.leases.store import Session, Store, presented
from hil.leases.wakeup import Bell, ring, sweep

_log = logging.getLogger(__name__)

__all__ = ["Claim", "Lease", "LeaseLost", "LeaseTaken", "Leases", "default_holder", "default_store"]

PROCESS_TTL_S = 60.0
PERSON_TTL_S = 2 * 3600.0
MIN_TTL_S, MAX_TTL_S = 1.0, 30 * 86400.0

_KEY = re.compile(r"[a-z0-9][a-z0-9-]*/[a-z0-9][a-z0-9-]*")
_SOONEST_S, _LATEST_S = 0.1, 3.0


class Leases:
    """The leases of one store."""

    def __init__(
        self, path: Path | None = None, *, clock: Clock = SYSTEM_CLOCK, here: Place | None = None
    ) -> None:
        """``path``: the store, by default ``HIL_LEASES`` or ``<home>/leases.db``; made when it is not there."""
        self.path = (path or default_store()).absolute()
        self.clock = clock
        self.here = here or Place.here()
        self._store = Store(self.path, self.here)
        self._store.check_disk()

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
    ) -> Lease:
        """All of ``boards`` (``<lab>/<board>``), or none: LeaseTaken says who has them.

        ``wait_s``: None refuses at once when one is taken; else queue for at most so many seconds (``math.inf``:
        for ever), first come first served, and tell ``progress`` who is ahead.  ``ttl_s``: how long the lease
        outlives a holder of which nobody can see whether it died.  A process that was started with another
        lease's ``environment()`` gets its boards within that lease; ``within`` (``<id>:<token>``) says the same.
        """
        outer = self._around(_checked(boards), within or os.environ.get(LEASE_ENV, ""))
        claim = self._acquire(boards, holder, purpose, ttl_s, wait_s, progress, within=outer)
        _log.info("lease %d: taken on %s", claim.id, boards_text(claim.boards))
        return Lease(self, claim)

    def reserve(
        self,
        boards: Iterable[str],
        *,
        holder: str = "",
        purpose: str,
        ttl_s: float = PERSON_TTL_S,
        wait_s: float | None = None,
        progress: Progress | None = None,
    ) -> Claim:
        """As ``take``, for a person: held until ``free`` or for ``ttl_s`` seconds, whatever becomes of this process."""
        claim = self._acquire(boards, holder, purpose, ttl_s, wait_s, progress, by_person=True)
        _log.info("lease %d: taken on %s for %g s", claim.id, boards_text(claim.boards), claim.ttl_s)
        return next((c for c in self.list() if c.id == claim.id), claim)

    def list(self) -> tuple[Claim, ...]:
        """Leases that hold now, oldest first."""
        return tuple(claim for claim in self._look() if claim.token is not None)

    def queue(self) -> tuple[Claim, ...]:
        """Who waits, in the order of the queue."""
        return tuple(claim for claim in self._look() if claim.token is None)

    def token(self, board: str) -> int | None:
        """The fencing token of whoever holds ``board`` now; None when nobody does."""
        return max((c.token or 0 for c in self.list() if board in c.boards), default=None)

    def wait_free(
        self, boards: Iterable[str], *, wait_s: float = math.inf, progress: Progress | None = None
    ) -> None:
        """Wait until nobody holds or waits for any of ``boards``; takes nothing.  LeaseTaken when it takes longer."""
        wanted = _checked(boards)
        told: list[int] | None = None
        begin = self.clock.monotonic()
        while busy := [c for c in self._look() if not wanted.isdisjoint(c.boards)]:
            waited = self.clock.monotonic() - begin
            if waited >= wait_s:
                raise self._taken(wanted, busy, waited)
            if progress and told != (told := [c.id for c in busy]):
                progress("; ".join(sentence(c, wanted, self.here) for c in busy))
            self.clock.sleep(min(_pause(len(busy), waited), max(0.0, wait_s - waited)))

    def free(self, which: int | str, *, by: str = "", force: bool = False) -> tuple[Claim, ...]:
        """End a lease or a wait by its id, or whatever holds a board (``<lab>/<board>``); what was ended.

        ConfigurationError when it is another's or its process still runs, unless ``force``d, and when there is none.
        """
        by = by or default_holder()
        found = tuple(c for c in self._look() if c.id == which or (c.token is not None and which in c.boards))
        if not found:
            known = ", ".join(f"{c.id} ({boards_text(c.boards)})" for c in self._look()) or "none"
            what = f"lease {which}" if isinstance(which, int) else f"lease on {which}"
            raise ConfigurationError(f"there is no {what}", remedy=f"leases: {known}")
        for claim in found if not force else ():
            if claim.holder != by:
                raise ConfigurationError(
                    f"not yours ({by}): {sentence(claim, here=self.here)}",
                    remedy=f"ask {claim.holder}, or free it all the same with --force",
                )
            if not claim.by_person:
                raise ConfigurationError(
                    f"its process still runs: {sentence(claim, here=self.here)}",
                    remedy=f"end process {claim.pid} on {claim.place.host} (that frees it), or use --force",
                )
        with self._store.open() as db:
            self._drop(db, [claim.id for claim in found], durable=True)
        for claim in found:
            _log.info(
                "lease %d of %.80r on %s: freed by %.80r",
                claim.id,
                claim.holder,
                boards_text(claim.boards),
                by,
            )
        return found

    def extend(self, lease_id: int, *, ttl_s: float | None = None) -> Claim:
        """Begin a person's term again, now, with a new length if one is given.  ConfigurationError when it is over."""
        self._look()
        with self._store.open() as db, db.write(durable=True):
            claim = next((c for c in db.claims() if c.id == lease_id and c.token and c.by_person), None)
            if claim is None:
                raise ConfigurationError(
                    f"there is no person's lease {lease_id}", remedy="`hil lease list` has those that hold"
                )
            db.renew(lease_id, self.clock.monotonic(), ttl_s=None if ttl_s is None else _ttl(ttl_s))
        return next(c for c in self.list() if c.id == lease_id)

    def is_held(self, claim: Claim) -> bool:
        """Whether that lease is still in the store (and the one around it, if any)."""
        with self._store.open() as db:
            return _holds(db, claim)

    def renew_held(self, claim: Claim) -> float | None:
        """Begin the term of a lease again; the clock then, or None when it is gone."""
        with self._store.open() as db, db.write():
            if not _holds(db, claim):
                return None
            now_s = self.clock.monotonic()
            db.renew(claim.id, now_s)
            return now_s

    def drop_held(self, claim: Claim) -> None:
        """Remove a lease; nothing when it is gone."""
        with self._store.open() as db:
            self._drop(db, [claim.id])
        _log.info("lease %d: given back", claim.id)

    def hand_held(self, claim: Claim, pid: int) -> Claim:
        """Make another process of this host the one that holds a lease; unchanged when it has ended already."""
        found = started(pid)
        if found is None:
            return claim
        with self._store.open() as db, db.write():
            db.hand(claim.id, pid, found[0])
        return replace(claim, pid=pid, start_ticks=found[0])

    def _acquire(
        self,
        boards: Iterable[str],
        holder: str,
        purpose: str,
        ttl_s: float,
        wait_s: float | None,
        progress: Progress | None,
        *,
        by_person: bool = False,
        within: int | None = None,
    ) -> Claim:
        wanted = _checked(boards)
        mine = started(os.getpid())
        begin = self.clock.monotonic()
        wall = datetime.now(UTC)
        asked = Claim(
            id=0,
            token=None,
            boards=wanted,
            holder=" ".join(holder.split()) or default_holder(),
            purpose=" ".join(purpose.split()),
            by_person=by_person,
            within=within,
            place=self.here,
            pid=os.getpid(),
            start_ticks=mine[0] if mine else 0,
            ttl_s=_ttl(ttl_s),
            renewed_s=begin,
            renewals=0,
            asked=wall,
            taken=None,
            renewed=wall,
        )
        with self._store.open() as db:
            with db.write(durable=by_person):
                claim_id = db.enter(asked)
                granted = self._grant(db, claim_id)
                if granted is None and wait_s is None:
                    ahead = blockers(_mine(db, claim_id), presented(db.claims(), self.here, begin))
                    # The roll-back takes it out of the queue again, and the next one gets its number.
                    raise self._taken(wanted, ahead, None)
            try:
                if granted:
                    return granted
                with Bell(self.path, claim_id) as bell:
                    sweep(self.path, db.claims())
                    return self._queue(db, claim_id, bell, begin, wait_s or 0.0, progress)
            except BaseException:
                with suppress(sqlite3.Error):
                    self._drop(db, [claim_id])
                raise

    def _queue(
        self,
        db: Session,
        claim_id: int,
        bell: Bell,
        begin: float,
        wait_s: float,
        progress: Progress | None,
    ) -> Claim:
        """Wait in the queue until the lease is granted: mostly reading, with a sign of life now and then."""
        told: list[int] | None = None
        while True:
            claims = db.claims()
            me = _mine(db, claim_id)
            ahead = blockers(me, claims)
            now_s = self.clock.monotonic()
            over = [c for c in ahead if self._is_over(c, now_s)]
            if now_s >= me.renewed_s + me.term_s / 3:
                with db.write():
                    db.renew(claim_id, now_s)
            if len(over) == len(ahead) or self._unseen(ahead):
                with db.write(durable=me.by_person):
                    granted = self._grant(db, claim_id)
                if over:
                    ring(self.path, db.claims())
                if granted:
                    return granted
                continue
            waited = now_s - begin
            if waited >= wait_s:
                raise self._taken(me.boards, blockers(me, presented(claims, self.here, now_s)), waited)
            if progress and told != (told := [c.id for c in ahead]):
                ahead = blockers(me, presented(claims, self.here, now_s))
                behind = "; ".join(sentence(c, me.boards, self.here) for c in ahead)
                place = place_in_queue(me, claims)
                progress(f"place {place} in the queue for {boards_text(me.boards)}: {behind}")
            longest = min(me.term_s / 3, max(0.0, wait_s - waited))
            bell.wait(min(_pause(len(ahead), waited), longest), self.clock)

    def _grant(self, db: Session, claim_id: int) -> Claim | None:
        """In a transaction: remove who is over and in the way, and take the boards if they are free then."""
        now_s = self.clock.monotonic()
        me = _mine(db, claim_id)
        claims = db.claims()
        if me.within is not None and all(c.id != me.within for c in claims):
            raise outer_is_gone(f"lease {me.within}")
        ahead = blockers(me, claims)
        db.note_sightings(self._unseen(ahead), now_s)
        over = [c for c in ahead if self._is_over(c, now_s)]
        db.drop(c.id for c in over)
        if len(over) < len(ahead):
            return None
        db.grant(me, now_s)
        return _mine(db, claim_id)

    def _drop(self, db: Session, ids: Iterable[int], *, durable: bool = False) -> None:
        """Remove claims and wake whoever is next."""
        with db.write(durable=durable):
            db.drop(ids)
        ring(self.path, db.claims())

    def _look(self) -> tuple[Claim, ...]:
        """Every claim that is not over, as people read it; those that are over are removed on the way."""
        with self._store.open() as db:
            now_s = self.clock.monotonic()
            if self._unseen(db.claims()) or any(self._is_over(c, now_s) for c in db.claims()):
                with db.write():
                    db.note_sightings(self._unseen(db.claims()), now_s)
                    db.drop([c.id for c in db.claims() if self._is_over(c, self.clock.monotonic())])
                ring(self.path, db.claims())
            return tuple(presented(db.claims(), self.here, self.clock.monotonic()))

    def _is_over(self, claim: Claim, now_s: float) -> bool:
        return left_s(claim, self.here, now_s) <= 0 or has_ended(claim, self.here)

    def _unseen(self, claims: Iterable[Claim]) -> tuple[Claim, ...]:
        return tuple(c for c in claims if c.seen_s is None and not c.place.same_clock(self.here))

    def _around(self, wanted: frozenset[str], text: str) -> int | None:
        """The lease (``<id>:<token>``) within which to take boards, if it is about these."""
        if not text:
            return None
        outer = next((c for c in self.list() if f"{c.id}:{c.token}" == text), None)
        if outer is None:
            raise outer_is_gone(f"lease {text}")
        if missing := wanted - outer.boards if wanted & outer.boards else frozenset():
            raise ConfigurationError(
                f"lease {outer.id}, within which this runs, has not got {boards_text(missing)}",
                remedy="take all boards in one lease: part by part, two benches would wait for each other for ever",
            )
        return outer.id if wanted & outer.boards else None

    def _taken(self, wanted: frozenset[str], ahead: Iterable[Claim], waited_s: float | None) -> LeaseTaken:
        ahead = sorted(ahead, key=lambda c: (c.token is None, c.id))
        waited = "" if waited_s is None else f" after {waited_s:.0f} s of waiting"
        lines = [sentence(c, wanted, self.here) for c in ahead]
        advice = "" if waited_s is not None else "; --wait 10m queues for them"
        return LeaseTaken(
            f"{boards_text(wanted)}: not free{waited}\n  " + "\n  ".join(lines),
            remedy=f"ask them, or see `hil lease list`{advice}",
            blockers=ahead,
        )


def default_store() -> Path:
    """``HIL_LEASES``, else ``leases.db`` in the home of this program."""
    return Path(os.environ.get(STORE_ENV) or paths.home() / "leases.db")


def default_holder() -> str:
    """Who asks: the user who ran sudo, else the user of this process."""
    if name := os.environ.get("SUDO_USER"):
        return name
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return f"uid{os.geteuid()}"


def _holds(db: Session, claim: Claim) -> bool:
    ids = {c.id for c in db.claims() if c.token is not None}
    return claim.id in ids and (claim.within is None or claim.within in ids)


def _mine(db: Session, claim_id: int) -> Claim:
    for claim in db.claims():
        if claim.id == claim_id:
            return claim
    raise BenchError(
        "this process is not in the queue any more: somebody ended its wait, or it stood still for too long",
        remedy="ask again; `hil lease list` shows leases and queue",
    )


def _pause(ahead: int, waited_s: float) -> float:
    """Seconds until the next look: short for who is next, long for who is far back or has waited for long."""
    return min(_LATEST_S, _SOONEST_S * ahead**2 * (1 + waited_s / 60)) * random.uniform(0.75, 1.25)


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
