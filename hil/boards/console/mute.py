"""Keeping a serial console quiet from any process: one file beside its log, read by the process that has the port.

Whoever is about to take a board's power writes "quiet"; whoever has seen its OS answer writes "open".  A second file
goes the other way: the process that has the port says there why keys would go nowhere now.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from hil.boards.console.pump import FileConsole
from hil.core.files import write_atomic
from hil.core.wait import SYSTEM_CLOCK, Clock
from hil.errors import BenchError

SUFFIX = ".way"
DEAF_SUFFIX = ".deaf"


def deaf(log: Path) -> str:
    """Why what is typed at this console goes nowhere now; empty when it is sent, as always to a container board."""
    try:
        return log.with_suffix(DEAF_SUFFIX).read_text("utf-8")
    except OSError:
        return ""


def say_deaf(log: Path, why: str) -> None:
    """Tell whoever sits at this console; a directory that is gone is nobody's concern any more."""
    with contextlib.suppress(OSError):
        write_atomic(log.with_suffix(DEAF_SUFFIX), why, durable=False)


class Way:
    """The file. ``changed`` is cheap enough to be asked twenty times a second."""

    def __init__(self, log: Path) -> None:
        self._path = log.with_suffix(SUFFIX)
        self._seen_ns = self._mtime_ns()

    def set(self, is_open: bool) -> None:
        """Tell whoever has the port. BenchError when the file cannot be written."""
        try:
            write_atomic(self._path, "open" if is_open else "quiet", durable=False)
        except OSError as exc:
            raise BenchError(f"cannot tell the console's owner: {exc}", remedy="is the bench up?") from exc

    def changed(self) -> bool | None:
        """What somebody wrote since the last question: True for open, False for quiet; None for nothing new."""
        now = self._mtime_ns()
        if now == self._seen_ns:
            return None
        self._seen_ns = now
        try:
            return self._path.read_text() == "open"
        except OSError:
            return None

    def _mtime_ns(self) -> int:
        try:
            return self._path.stat().st_mtime_ns
        except OSError:
            return 0


class FollowedConsole(FileConsole):
    """The console of a Jetson whose serial port another process has: its log, and the way to it shut and opened."""

    def __init__(self, url: str, log: Path, clock: Clock = SYSTEM_CLOCK) -> None:
        super().__init__(url, log, clock)
        self._way = Way(log)

    def silence(self) -> None:
        """The board is about to be reset: nothing is sent until ``login:`` comes again."""
        self._way.set(False)

    def release(self) -> None:
        """The board is known to run its OS: it may be written to."""
        self._way.set(True)
