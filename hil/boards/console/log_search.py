"""Text of a log that grows, read once."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from hil.boards.console.boot_stages import EscapeStripper

MATCH_MAX = 4096
"""The longest match that is surely found, characters."""


class Follower:
    """The cleaned text of a log behind an offset, read as it grows."""

    def __init__(self, log: Path, since: int) -> None:
        self._file = log.open("rb")
        self._file.seek(since)
        self._escapes = EscapeStripper()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._text = ""

    def search(self, wanted: re.Pattern[str]) -> re.Match[str] | None:
        """A match that what is new may have completed."""
        fresh = self._decoder.decode(self._escapes.strip(self._file.read()).replace(b"\r", b""))
        # One character more than a match, so that ^ sees whether a line begins there.
        from_here = max(0, len(self._text) - MATCH_MAX)
        self._text = self._text[max(0, from_here - 1) :] + fresh
        return wanted.search(self._text, min(from_here, 1))

    def __enter__(self) -> Follower:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()
