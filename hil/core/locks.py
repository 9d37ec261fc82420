"""Lock files: who holds one is decided by flock(2), which the kernel frees when its holder dies."""

from __future__ import annotations

import fcntl
from pathlib import Path


def is_locked(path: Path) -> bool:
    """True while a process holds the lock file ``path``; the lock is taken for an instant to find out."""
    if not path.exists():
        return False
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
