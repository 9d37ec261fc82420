"""A board's console in the program's log, line by line."""

from __future__ import annotations

import logging
import re

_log = logging.getLogger(__name__)

_ESCAPE = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|[@-Z\\-_])")
_LONGEST = 4096  # bytes of a line that has not ended yet


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
            text = _ESCAPE.sub(b"", line).replace(b"\r", b"").decode("utf-8", "replace")
            _log.debug("board %s: console: %.500r", self._board, text)
