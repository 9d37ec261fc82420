"""Lock files: who holds one is decided by flock(2), which the kernel frees when its holder dies."""

from __future__ import annotations

import fcntl
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from hil.core.wait import SYSTEM_CLOCK, Clock, poll_until
from hil.errors import BenchError, HilError

LOOK_S = 1.0
"""A look at whether a lock is held has ended by then, also on a busy host."""


@contextmanager
def locked(
    path: Path,
    *,
    deadline_s: float = math.inf,
    what: str = "a lock",
    remedy: str = "",
    error: HilError | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> Iterator[None]:
    """Hold the lock file ``path`` while the block runs; the file is made where there is none, its directory is not.

    Raises BenchError "waited 3 s for ``what``" when another process holds it for ``deadline_s`` seconds; without a
    deadline it waits for as long as it takes.  ``error`` is raised in place of that one.
    """
    with path.open("a") as file:
        if deadline_s == math.inf:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
            return
        for _ in poll_until(deadline_s, every_s=0.005, clock=clock):
            if _try(file):
                break
        else:
            remedy = remedy or f"see which process holds it: `fuser -v {path}`"
            raise error or BenchError(f"waited {deadline_s:g} s for {what}", remedy=remedy)
        yield


def is_locked(path: Path) -> bool:
    """Return whether a process holds the lock file ``path``.

    To find out it is taken for an instant, as one of many: two that look at once do not take each other for a holder.
    Who wants to hold it should wait longer than that instant: :data:`LOOK_S`.
    """
    if not path.exists():
        return False
    with path.open("rb") as file:  # who only looks need not be able to write
        return not _try(file, fcntl.LOCK_SH)


def _try(file: IO[str] | IO[bytes], kind: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
