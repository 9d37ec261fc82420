"""Output into a pipe whose reader may go before the work is done: `hil campaign run … | head`."""

from __future__ import annotations

import io
import os
import stat
import sys
from typing import Any


class _Unread(io.FileIO):
    """A pipe that takes everything and drops it once nobody reads."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            return memoryview(data).nbytes


def go_on_unread() -> None:
    """Let this process go on quietly when who reads its stdout or stderr has gone; streams that are no pipes stay.

    For work that has a result of its own on disk: who looks at its first lines only must not end it, nor change its
    exit code.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not getattr(sys, f"__{name}__") or stream is None:
            continue  # captured
        mode = os.fstat(stream.fileno()).st_mode
        if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)) or isinstance(stream.buffer, _Pipe):
            continue
        stream.flush()
        raw = _Unread(stream.fileno(), "w", closefd=False)
        pipe = io.TextIOWrapper(_Pipe(raw), stream.encoding, stream.errors, line_buffering=True)
        setattr(sys, name, pipe)
        setattr(sys, f"__{name}__", pipe)


class _Pipe(io.BufferedWriter):
    """Marks a stream that is wrapped already."""
