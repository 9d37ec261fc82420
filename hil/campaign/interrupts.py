"""What happens beside the tests of a campaign: signals, and threads that end with an error."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

from hil.core.wait import SYSTEM_CLOCK
from hil.errors import Abandoned, BenchError

ABANDON = signal.SIGUSR2
"""Wakes the main thread of a run whose bench is lost."""


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
def one_interrupt(say: Callable[[str], None]) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the block once, as KeyboardInterrupt; the next ones only say that it is ending.

    They stay so after the block when there was one: then the process is ending.  Where they were ignored or somebody
    else's (an embedded pytest), SIGINT stays as it was.
    """
    seen: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        seen.append(number)
        if len(seen) > 1:
            say("the run is ending already: bench and report are seen to; Ctrl-\\ ends it at once")
            return
        raise KeyboardInterrupt("" if number == signal.SIGINT else f"terminated by signal {number}")

    numbers = [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        numbers.append(signal.SIGINT)
    with ExitStack() as handlers:
        for number in numbers:
            handlers.enter_context(on_signal(number, interrupt))
        yield
        if seen:
            handlers.pop_all()


class Loss:
    """The end of a run whose bench is lost: its main thread is woken, wherever it waits for the bench."""

    def __init__(self) -> None:
        self.error: BenchError | None = None
        self._may_end = False

    def strike(self, error: BenchError) -> None:
        """Give the bench up.  Called from the watch's thread."""
        self.error = error
        SYSTEM_CLOCK.abandon(error)
        os.kill(os.getpid(), ABANDON)

    def woken(self, number: int, frame: FrameType | None) -> None:
        """Handle the signal that wakes the main thread."""
        if self._may_end and self.error is not None:
            self._may_end = False
            raise Abandoned(self.error)

    @contextmanager
    def may_end(self) -> Iterator[None]:
        """Let the loss of the bench end the block, also one from before it."""
        self._may_end = True
        try:
            if self.error is not None:
                raise Abandoned(self.error)
            yield
        finally:
            self._may_end = False


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
