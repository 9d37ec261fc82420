"""Text of a log that grows, read once."""

from __future__ import annotations

import codecs
import re
from pathlib import Path
from typing import BinaryIO

from hil.boards.console.boot_stages import EscapeStripper

MATCH_MAX = 4096
"""The longest match that is surely found, characters."""


class LogSearch:
    """The text of a log behind an offset, without escape sequences, read as it grows; use it as a context manager."""

    def __init__(self, log: Path, since: int) -> None:
        self._log = log
        self._since = since
        self._file: BinaryIO | None = None  # opened when the log is there
        self._escapes = EscapeStripper()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._text = ""
        self._start = 0  # a match begins here or later; one character before it says whether a line begins
        self._wanted = ""

    def search(self, wanted: re.Pattern[str]) -> re.Match[str] | None:
        """Return a match that the new text may have completed; None when there is none yet."""
        fresh = self._read()
        if not fresh and wanted.pattern == self._wanted:
            return None
        self._wanted = wanted.pattern
        match = wanted.search(self._text + fresh, self._start)
        self._text += fresh
        if not match and len(self._text) > MATCH_MAX + 1:
            self._text, self._start = self._text[-MATCH_MAX - 1 :], 1
        return match

    def take(self, match: re.Match[str]) -> None:
        """Search only behind this match from now on."""
        if match.end():
            self._text, self._start = self._text[match.end() - 1 :], 1
        self._wanted = ""

    def _read(self) -> str:
        if self._file is None:
            try:
                self._file = self._log.open("rb")
            except FileNotFoundError:
                return ""
            self._file.seek(self._since)
        return self._decoder.decode(self._escapes.strip(self._file.read()).replace(b"\r", b""))

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> LogSearch:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
