"""A live page in a terminal: drawn again with every sample, until q."""

from __future__ import annotations

import os
import select
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from hil.monitor.watch_loop import Sample

T = TypeVar("T")
POLL_S = 0.1
"""Interval between two checks for keys, new samples and the terminal's size."""

Key = Callable[[float], str]
"""Waits at most so many seconds for a key; returns the key, or an empty string."""


def show(
    latest: Callable[[], Sample[T] | None],
    page: Callable[[Sample[T]], RenderableType | None],
    console: Console,
    key: Key,
) -> bool:
    """Draw the page of every new sample until q (False), or until ``page`` returns None (True)."""
    from rich.live import Live
    from rich.text import Text

    drawn: tuple[int, object] | None = None
    # The other screen of the terminal: its earlier content comes back, and a page is drawn over the last one.
    with Live(Text("waiting for the first answer ..."), console=console, screen=True, auto_refresh=False) as live:
        live.refresh()
        while True:
            sample = latest()
            if sample is not None and (sample.number, console.size) != drawn:
                content = page(sample)
                if content is None:
                    return True
                live.update(content, refresh=True)
                drawn = (sample.number, console.size)
            if key(POLL_S) in ("q", "Q"):
                return False


@contextmanager
def keys() -> Iterator[Key]:
    """Read single keys from the terminal, without Enter and without an echo; none when stdin is no terminal."""
    if not sys.stdin.isatty():
        yield _no_key
        return
    fd = sys.stdin.fileno()
    settings = termios.tcgetattr(fd)
    tty.setcbreak(fd)  # unlike raw mode it leaves Ctrl-C a signal

    def key(timeout_s: float) -> str:
        ready, _, _ = select.select([fd], [], [], timeout_s)
        typed = os.read(fd, 64) if ready else b""
        if ready and not typed:  # the terminal was closed
            raise KeyboardInterrupt
        return typed[:1].decode("ascii", "replace")

    try:
        yield key
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, settings)


def _no_key(timeout_s: float) -> str:
    select.select([], [], [], timeout_s)
    return ""
