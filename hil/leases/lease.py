"""A lease in the hands of the process that holds it, and what goes wrong with leases."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable
from contextlib import AbstractContextManager, suppress
from dataclasses import replace

from hil.core.processes import started
from hil.core.wait import Clock
from hil.database import connection as database
from hil.database.connection import Server, ServerAway
from hil.errors import BenchError, HilError
from hil.leases.rules import LeaseEntry, boards_text
from hil.leases.store import Store

_log = logging.getLogger(__name__)

STORE_ENV = "HIL_LEASES"
LEASE_ENV = "HIL_LEASE"
"""Name of a lease whose boards this process may use (``hil lease take ... -- COMMAND`` sets it)."""

LOOK_EVERY_S = 2.0
"""How often a holder looks whether its lease is still there."""


class LeaseTaken(BenchError):
    """Somebody else holds a board, or asked for it before; ``blockers`` are they."""

    def __init__(self, message: str, *, remedy: str, blockers: Iterable[LeaseEntry]) -> None:
        super().__init__(message, remedy=remedy)
        self.blockers = tuple(blockers)


class LeaseLost(BenchError):
    """A lease that this process held is not its own any more."""


class Lease(AbstractContextManager["Lease"]):
    """A lease that this process holds; a thread renews it until it is freed."""

    def __init__(self, store: Store, entry: LeaseEntry, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self.entry = entry
        self.id = entry.id
        self.boards = entry.boards
        self._pid = os.getpid()
        self._renewed_s = entry.renewed_s
        self._gone = threading.Event()
        self._stop = threading.Event()
        self._renewer = threading.Thread(target=self._keep, name=f"lease-{self.id}", daemon=True)
        self._renewer.start()

    @property
    def lost(self) -> bool:
        """Whether the boards are not ours (any more): freed by somebody, or not renewed for a whole term."""
        return self._gone.is_set() or self._clock.monotonic() >= self._renewed_s + self.entry.ttl_s

    def check(self) -> None:
        """Renew, and raise LeaseLost when the boards are not ours any more; for before something irreversible.

        A term that has run out begins again as long as nobody has taken the boards.
        """
        if not self._gone.is_set():
            with suppress(HilError):  # a store that cannot be read just now is no proof
                self.renew()
        if self.lost:
            raise LeaseLost(
                f"lease {self.id} on {boards_text(self.boards)} is lost: somebody freed it, or it could not be "
                f"renewed for {self.entry.ttl_s:g} s",
                remedy="stop using the boards; `hil lease list` says who has them now",
            )

    def renew(self) -> bool:
        """Begin the term again, now; False when the lease is gone (``lost`` from then on)."""
        with self._store.open() as db, db.write():
            if not db.holds(self.entry):
                self._gone.set()
                return False
            self._renewed_s = self._clock.monotonic()
            db.renew(self.id, self._renewed_s)
        return True

    def environment(self) -> dict[str, str]:
        """Return what a child process needs to use these boards: its own ``take`` is granted within this lease."""
        place = self._store.path
        where = {database.STORE_ENV: place.url, STORE_ENV: ""} if isinstance(place, Server) else {STORE_ENV: str(place)}
        return {**where, LEASE_ENV: self.entry.name}

    def hand_to(self, pid: int) -> None:
        """Make a child of this process the holder from now on; this process still renews."""
        status = started(pid)
        if status is not None:
            with self._store.open() as db, db.write():
                if db.has(self.entry):
                    db.hand(self.id, pid, status[0])
            self.entry = replace(self.entry, pid=pid, start_ticks=status[0])

    def free(self) -> None:
        """Give the boards back; nothing when that was done already.  In a forked child it does nothing."""
        if os.getpid() != self._pid:
            return
        self._stop.set()
        self._renewer.join()
        if not self._gone.is_set():
            self._gone.set()
            try:
                with self._store.open() as db, db.write():
                    db.drop([self.id] if db.has(self.entry) else [])  # may be another's number in a store made anew
            except ServerAway as exc:  # no reason for what was done on the boards to count less
                _log.warning("lease %d ends by itself in %g s: %s", self.id, self.entry.ttl_s, exc.message)
                return
            _log.info("lease %d: given back", self.id)

    def __exit__(self, *exc: object) -> None:
        self.free()

    def _keep(self) -> None:
        while not self._stop.wait(min(self.entry.ttl_s / 3, LOOK_EVERY_S)):
            # A store that cannot be used now is tried again; ``lost`` becomes true by itself when the term is over.
            with suppress(HilError):
                if self._clock.monotonic() >= self._renewed_s + self.entry.ttl_s / 3:
                    self.renew()
                else:
                    with self._store.open() as db:
                        if not db.holds(self.entry):
                            self._gone.set()
                if self._gone.is_set():
                    return


def outer_is_gone(what: str) -> LeaseLost:
    """Return the error of a process whose lease around it is over."""
    return LeaseLost(f"{what}: that lease has ended", remedy=f"take a new one; in your own shell, `unset {LEASE_ENV}`")
