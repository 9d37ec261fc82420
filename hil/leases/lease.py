"""A lease in the hands of the process that holds it, and what goes wrong with leases."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Protocol

from hil.core.wait import Clock
from hil.errors import BenchError, HilError
from hil.leases.rules import Claim, boards_text

STORE_ENV = "HIL_LEASES"
LEASE_ENV = "HIL_LEASE"
"""``<id>:<token>`` of a lease whose boards this process may use (``hil lease take ... -- COMMAND`` sets it)."""

LOOK_EVERY_S = 2.0
"""How often a holder looks whether its lease is still there."""


class Keeping(Protocol):
    """What a held lease needs of ``hil.leases.leases.Leases``."""

    path: Path
    clock: Clock

    def is_held(self, claim: Claim) -> bool: ...

    def renew_held(self, claim: Claim) -> float | None: ...

    def drop_held(self, claim: Claim) -> None: ...

    def hand_held(self, claim: Claim, pid: int) -> Claim: ...


class LeaseTaken(BenchError):
    """Somebody else holds a board, or asked for it before; ``blockers`` are they."""

    def __init__(self, message: str, *, remedy: str, blockers: Iterable[Claim]) -> None:
        super().__init__(message, remedy=remedy)
        self.blockers = tuple(blockers)


class LeaseLost(BenchError):
    """A lease that this process thought it held is not its own any more."""


class Lease(AbstractContextManager["Lease"]):
    """A lease that this process holds; a thread renews it until it is freed.

    ``token`` grows with every lease of the store: what a late holder writes can be told from what the present
    one writes by its lower token.
    """

    def __init__(self, leases: Keeping, claim: Claim) -> None:
        self._leases = leases
        self.claim = claim
        self.id = claim.id
        self.token = claim.token or 0
        self.boards = claim.boards
        self._pid = os.getpid()
        self._renewed_s = claim.renewed_s
        self._gone = threading.Event()
        self._stop = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name=f"lease-{self.id}", daemon=True)
        self._keeper.start()

    @property
    def lost(self) -> bool:
        """Whether the boards are not ours (any more): freed by somebody, or not renewed for a whole term."""
        return self._gone.is_set() or self._leases.clock.monotonic() >= self._renewed_s + self.claim.ttl_s

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
                f"renewed for {self.claim.ttl_s:g} s",
                remedy="stop using the boards; `hil lease list` says who has them now",
            )

    def renew(self) -> bool:
        """Begin the term again, now; False when the lease is gone (``lost`` from then on)."""
        now_s = self._leases.renew_held(self.claim)
        if now_s is None:
            self._gone.set()
            return False
        self._renewed_s = now_s
        return True

    def environment(self) -> dict[str, str]:
        """What a child process needs to use these boards: its own ``take`` of them is granted within this lease."""
        return {STORE_ENV: str(self._leases.path), LEASE_ENV: f"{self.id}:{self.token}"}

    def hand_to(self, pid: int) -> None:
        """From now on that process counts as the holder, a child of ours; we still renew."""
        self.claim = self._leases.hand_held(self.claim, pid)

    def free(self) -> None:
        """Give the boards back; nothing when that was done already.  In a forked child it does nothing."""
        if os.getpid() != self._pid:
            return
        self._stop.set()
        self._keeper.join()
        if not self._gone.is_set():
            self._leases.drop_held(self.claim)
            self._gone.set()

    def __exit__(self, *exc: object) -> None:
        self.free()

    def _keep(self) -> None:
        while not self._stop.wait(min(self.claim.ttl_s / 3, LOOK_EVERY_S)):
            # A store that cannot be used now is tried again; ``lost`` tells by itself when the term is over.
            with suppress(HilError):
                due = self._leases.clock.monotonic() >= self._renewed_s + self.claim.ttl_s / 3
                if not (self.renew() if due else self._leases.is_held(self.claim)):
                    self._gone.set()
                    return


def outer_is_gone(what: str) -> LeaseLost:
    """The lease within which this process runs is over."""
    return LeaseLost(
        f"{what}: that lease has ended",
        remedy=f"take a new one; in your own shell, `unset {LEASE_ENV}`",
    )
