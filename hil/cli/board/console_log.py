"""A console's log on stdout, as it came or with the time before each line."""

from __future__ import annotations

import os
import sys
import time
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from hil.errors import BenchError

IS_IT_UP = "is the bench still up? `hil bench status`"
_CHUNK = 65536


@contextmanager
def open_log(log: Path) -> Iterator[BinaryIO]:
    """BenchError when there is no such log."""
    try:
        stream = log.open("rb")
    except OSError as exc:
        raise BenchError(f"console log {log}: {exc.strerror}", remedy=IS_IT_UP) from exc
    with stream:
        yield stream


def print_log(log: Path, *, follow: bool, stamps: bool = False, every_s: float = 0.1) -> None:
    """A console's log to stdout; ``follow`` goes on until Ctrl-C or until the file is gone.

    ``stamps``: before each line, when its first byte came, from the index beside the log.
    """
    stdout = sys.stdout.fileno()
    with open_log(log) as stream:
        stamped = Stamped(log.with_suffix(".idx")) if stamps else None
        while True:
            while part := stream.read(_CHUNK):
                write_all(stdout, stamped.add(part) if stamped else part)
            if not follow or not log.exists():
                return
            time.sleep(every_s)


class Stamped:
    """Puts the time before each line of a log that is read from its beginning."""

    def __init__(self, index: Path) -> None:
        """``index`` has lines ``offset unix_time``: bytes from there on came then (docs/jetson.md, Log)."""
        self._index = index
        self._read = 0
        self._offsets: list[int] = []
        self._times: list[float] = []
        self._offset = 0
        self._begins = True

    def add(self, part: bytes) -> bytes:
        """The same bytes with times between them."""
        self._catch_up()
        out = bytearray()
        for line in part.splitlines(keepends=True):
            if self._begins:
                out += self._stamp().encode()
            out += line
            self._offset += len(line)
            self._begins = line.endswith(b"\n")
        return bytes(out)

    def _stamp(self) -> str:
        place = bisect_right(self._offsets, self._offset) - 1
        if place < 0:
            return " " * 25
        return f"{datetime.fromtimestamp(self._times[place], UTC):%Y-%m-%d %H:%M:%S.%f}"[:23] + "  "

    def _catch_up(self) -> None:
        try:
            with self._index.open("rb") as file:
                file.seek(self._read)
                fresh = file.read()
        except OSError:
            return  # then no time is known
        whole = fresh[: fresh.rfind(b"\n") + 1]
        self._read += len(whole)
        for row in whole.splitlines():
            offset, when = row.split()
            self._offsets.append(int(offset))
            self._times.append(float(when))


def write_all(fd: int, data: bytes) -> None:
    """All of it, however little the other side takes at a time."""
    while data:
        data = data[os.write(fd, data) :]
