"""The output of commands on boards, printed as it comes."""

from __future__ import annotations

import codecs
import threading
from typing import TextIO

from hil.text import ESCAPES, without_escapes

_HELD_BACK = 256
_LONGEST_LINE = 65_536
_LOCK = threading.Lock()


class Raw:
    """Prints bytes as they are: what a program reads."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __call__(self, data: bytes) -> None:
        self._stream.buffer.write(data)
        self._stream.buffer.flush()

    def end(self) -> None:
        """Nothing is kept back."""


class Cleaned:
    """Prints for people: at once, and without what would change the terminal."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._kept = ""

    def __call__(self, data: bytes) -> None:
        text = ESCAPES.sub("", self._kept + self._decoder.decode(data))
        cut = text.find("\x1b", max(0, len(text) - _HELD_BACK))  # a sequence that has not all come
        if cut < 0:
            cut = len(text) - text.endswith("\r")
        self._kept = text[cut:]
        self._print(text[:cut])

    def end(self) -> None:
        """Print what was kept back."""
        self._print(self._kept + self._decoder.decode(b"", True))
        self._kept = ""

    def _print(self, text: str) -> None:
        self._stream.write(without_escapes(text))
        self._stream.flush()


class Lines:
    """Prints whole lines, each with a name before it; several of them share a terminal."""

    def __init__(self, stream: TextIO, name: str) -> None:
        self._stream, self._name = stream, name
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._kept = ""

    def __call__(self, data: bytes) -> None:
        *lines, self._kept = (self._kept + self._decoder.decode(data)).split("\n")
        self._print([*lines, self._kept] if len(self._kept) > _LONGEST_LINE else lines)
        if len(self._kept) > _LONGEST_LINE:
            self._kept = ""

    def end(self) -> None:
        """Print a last line that has no end."""
        last = self._kept + self._decoder.decode(b"", True)
        self._print([last] if last else [])
        self._kept = ""

    def _print(self, lines: list[str]) -> None:
        whole = "".join(
            f"{self._name}: {part}\n" for line in lines for part in without_escapes(line.removesuffix("\r")).split("\n")
        )
        with _LOCK:
            self._stream.write(whole)
            self._stream.flush()
