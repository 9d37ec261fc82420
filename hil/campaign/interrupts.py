"""What happens beside the tests of a campaign: signals, and threads that end with an error."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def on_signal(number: signal.Signals, handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Handle a signal while the block runs."""
    try:
        before = signal.signal(number, handler)
    except ValueError:  # not the main thread: pytest is embedded in something that handles signals itself
        yield
        return
    try:
        yield
    finally:
        signal.signal(number, before)


@contextmanager
def on_dead_thread(note: Callable[[threading.ExceptHookArgs], None]) -> Iterator[None]:
    """Tell ``note`` of threads that end with an error while the block runs, before whoever was told until now."""
    before = threading.excepthook

    def noted(died: threading.ExceptHookArgs) -> None:
        note(died)
        before(died)

    threading.excepthook = noted
    try:
        yield
    finally:
        threading.excepthook = before
