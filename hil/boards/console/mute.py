"""Keep keystrokes from a board while its firmware runs, across processes.

A stray byte while UEFI runs opens its set-up menu.  Two small files beside a console's log carry the word: the process
that is about to take a board's power writes that the console is mute, the one that has seen its OS answer that it is
open.  The process that has the serial port reads that, and writes why keys would go nowhere now.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from hil.core.files import write_atomic
from hil.errors import BenchError

SUFFIX = ".mute"
WHY_SUFFIX = ".muted"


def why_muted(log: Path) -> str:
    """Return why keys typed at this console are not sent now; empty when they are, as always to a container board."""
    try:
        return log.with_suffix(WHY_SUFFIX).read_text("utf-8")
    except OSError:
        return ""


def say_why_muted(log: Path, why: str) -> None:
    """Write why keys are not sent, or "" when they are; a directory that is gone is no error."""
    with contextlib.suppress(OSError):
        write_atomic(log.with_suffix(WHY_SUFFIX), why, durable=False)


class MuteFlag:
    """The file that opens or mutes a console. ``changed`` is cheap enough to be asked twenty times a second."""

    def __init__(self, log: Path) -> None:
        self._path = log.with_suffix(SUFFIX)
        self._seen_ns = self._mtime_ns()

    def set(self, is_open: bool) -> None:
        """Write it for the process that has the port. BenchError when the file cannot be written."""
        try:
            write_atomic(self._path, "open" if is_open else "mute", durable=False)
        except OSError as exc:
            raise BenchError(f"cannot mute or open the console: {exc}", remedy="is the bench up?") from exc

    def changed(self) -> bool | None:
        """Return what was written since the last call: True for open, False for mute; None for nothing new."""
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
