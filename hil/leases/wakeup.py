"""Doorbells: whoever gives boards back wakes whoever is next, so that waiters need not look all the time.

One FIFO per waiter, in ``<store>.bells/``.  A bell is a courtesy: without one (no right to make it, its writer
killed) a waiter still looks by itself, only less often; nothing is ever decided by a bell.
"""

from __future__ import annotations

import os
import select
import stat
from collections.abc import Iterable
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from hil.core.wait import Clock, SystemClock
from hil.leases.rules import Claim


class Bell(AbstractContextManager["Bell"]):
    """One waiter's bell, there while the block lasts."""

    def __init__(self, store: Path, claim_id: int) -> None:
        self._path = _bells(store) / str(claim_id)
        self._fd: int | None = None
        with suppress(OSError):
            self._path.parent.mkdir(exist_ok=True)
            self._path.parent.chmod(
                stat.S_IMODE(store.parent.stat().st_mode)
            )  # whoever shares the store shares it
        with suppress(OSError):
            os.mkfifo(self._path)
            self._path.chmod(0o622)  # others may ring, only we listen
            self._fd = os.open(self._path, os.O_RDWR | os.O_NONBLOCK)

    def wait(self, seconds: float, clock: Clock) -> None:
        """Until somebody rings, for at most so long."""
        if self._fd is None or not isinstance(clock, SystemClock):
            clock.sleep(seconds)
        elif select.select([self._fd], [], [], seconds)[0]:
            with suppress(BlockingIOError):
                os.read(self._fd, 4096)

    def __exit__(self, *exc: object) -> None:
        with suppress(OSError):
            self._path.unlink()
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def ring(store: Path, claims: Iterable[Claim]) -> None:
    """Wake those whose turn it is now; ``claims`` is everything in the store, by id."""
    taken: set[str] = set()
    waiting: list[Claim] = []
    for claim in claims:
        if claim.token is not None:
            taken |= claim.boards
        else:
            waiting.append(claim)
    for claim in waiting:
        if claim.within is not None or taken.isdisjoint(claim.boards):
            with suppress(OSError):  # not there, or nobody listens: it looks by itself
                fd = os.open(_bells(store) / str(claim.id), os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
                try:
                    if stat.S_ISFIFO(os.fstat(fd).st_mode):
                        os.write(fd, b"!")
                finally:
                    os.close(fd)
        taken |= claim.boards


def sweep(store: Path, claims: Iterable[Claim]) -> None:
    """Remove the bells of waiters that were killed.

    Claims are numbered in the order in which they are written, so a number below the highest one seen that is not
    among them is certainly gone; a higher one may be a waiter that came since.
    """
    ids = {claim.id for claim in claims}
    with suppress(OSError):
        for bell in _bells(store).iterdir():
            if bell.name.isdecimal() and int(bell.name) < max(ids, default=0) and int(bell.name) not in ids:
                bell.unlink(missing_ok=True)


def _bells(store: Path) -> Path:
    return store.with_name(f"{store.name}.bells")
