"""The files that a console's owner writes: every byte, when it came, and lines for the program's own log."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from pathlib import Path

from hil.boards.console.log_console import plain

_log = logging.getLogger(__name__)

_INDEX_STEP_S = 0.005  # rows of the index are at least this far apart
LONGEST_LOG = 1 << 30
"""Bytes of one console that are kept; a serial line that never rests needs a day for so much."""
FULL = b"\n[hil: this board said more than its console log may hold; what came after this is not kept]\n"
_LONGEST = 4096  # bytes of a line that has not ended yet


class LogFile:
    """``<board>.console.log``, and ``<board>.console.idx`` with lines ``offset unix_time``."""

    def __init__(self, directory: Path, board: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.path = directory / f"{board}.console.log"
        self._file = self.path.open("ab", buffering=0)
        self._index = self.path.with_suffix(".idx").open("a", buffering=1)
        self.end = self._file.tell()
        self._indexed_at = 0.0
        self._lines = LineLog(board)

    def append(self, data: bytes) -> float:
        """Write what came from the board; return the Unix time that the index has for it. OSError.

        Behind ``LONGEST_LOG`` nothing is written: a board that floods must not fill the disk of the others.
        """
        now = time.time()
        self._lines.feed(data)
        if self.end >= LONGEST_LOG:
            return now
        if self.end + len(data) >= LONGEST_LOG:
            data = data[: LONGEST_LOG - self.end] + FULL
        if now - self._indexed_at >= _INDEX_STEP_S or now < self._indexed_at:
            self._index.write(f"{self.end} {now:.3f}\n")
            self._indexed_at = now
        left = memoryview(data)
        while left:
            written = self._file.write(left)
            self.end += written
            left = left[written:]
        return now

    def close(self) -> None:
        self._file.close()
        with suppress(OSError):  # the disk is full: rows that wait are lost
            self._index.close()


class LineLog:
    """Whole lines of one console at DEBUG; keeps nothing while that level is off."""

    def __init__(self, board: str) -> None:
        self._board = board
        self._begun = b""

    def feed(self, data: bytes) -> None:
        """Log the lines that ``data``, the next bytes of the console, completes."""
        if not _log.isEnabledFor(logging.DEBUG):
            self._begun = b""
            return
        *lines, self._begun = (self._begun + data).split(b"\n")
        self._begun = self._begun[-_LONGEST:]
        for line in lines:
            _log.debug("board %s: console: %.500r", self._board, plain(line))
