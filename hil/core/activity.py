"""What this process does at this moment, for whoever waits for it: said where the work is, shown elsewhere.

A thread says it with :func:`doing` for as long as a block runs.  What was said innermost counts, and there is one
activity of each thread.  Waits of :mod:`hil.core.wait` say by themselves until when they wait.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

STARTING = "HIL_STARTING"
"""Variable with the number of the descriptor that a program closes once it shows by itself what it does."""


@dataclass
class Activity:
    """One thing that a thread does."""

    what: str  # "" for a wait that says only its deadline
    deadline_s: float | None = None
    """Seconds after the start at which it is given up."""
    whole: int = 0
    """Bytes to move; 0 when it moves none."""
    done: int = 0
    detail: str = ""
    minor: bool = False
    """Shown only when the thread says nothing else."""
    began_s: float = field(default_factory=time.monotonic)

    def text(self, now_s: float) -> str:
        """Return e.g. ``b1: relay: 12.5 of 31.0 MB, 3 of 180 s``."""
        words = f"{self.what}: {self.detail}" if self.detail else self.what
        if self.whole:
            words += f": {self.done / 1e6:.1f} of {self.whole / 1e6:.1f} MB"
        if self.deadline_s is not None:
            words += f", {now_s - self.began_s:.0f} of {self.deadline_s:g} s"
        return words


_of_thread: dict[int, list[Activity]] = {}
_lock = threading.Lock()


@contextmanager
def doing(what: str, *, deadline_s: float | None = None, whole: int = 0, minor: bool = False) -> Iterator[Activity]:
    """Say what the calling thread does while the block runs; how far it is may be set on what this yields."""
    activity, thread = Activity(what, deadline_s, whole, minor=minor), threading.get_ident()
    with _lock:
        _of_thread.setdefault(thread, []).append(activity)
    try:
        yield activity
    finally:
        with _lock:
            mine = _of_thread[thread]
            mine[:] = [each for each in mine if each is not activity]
            if not mine:
                del _of_thread[thread]


def now() -> list[str]:
    """Return what every thread does, what began last first."""
    with _lock:
        threads = [list(activities) for activities in _of_thread.values()]
    innermost = [shown for activities in threads if (shown := _shown(activities)) is not None]
    innermost.sort(key=lambda activity: -activity.began_s)
    at_s = time.monotonic()
    return [activity.text(at_s) for activity in innermost]


def _shown(activities: list[Activity]) -> Activity | None:
    """Return the innermost activity that has a name, with the deadline of a wait inside of it."""
    named = [activity for activity in activities if activity.what]
    shown = next((activity for activity in reversed(named) if not activity.minor), named[-1] if named else None)
    if shown is None or shown.deadline_s is not None:
        return shown
    waits = [each for each in activities[activities.index(shown) :] if each.deadline_s is not None]
    return replace(shown, deadline_s=waits[-1].deadline_s, began_s=waits[-1].began_s) if waits else shown
