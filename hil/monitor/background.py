"""A poll in a thread of its own, so that one board that does not answer delays nothing else."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from hil.core.log import printable
from hil.errors import HilError

T = TypeVar("T")


class BackgroundPoll(Generic[T]):
    """Repeats one poll, never twice at a time: a poll that hangs is awaited again instead of being doubled.

    Its threads are daemons, because nothing is lost when a process ends in the middle of a poll.
    """

    def __init__(self, name: str, poll: Callable[[], T]) -> None:
        self._name = name
        self._poll = poll
        self._thread: threading.Thread | None = None
        self._result: T | None = None
        self._error: Exception | None = None

    @property
    def busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def begin(self) -> None:
        """Start a poll, unless the last one still runs."""
        if not self.busy:
            self._result, self._error = None, None
            self._thread = threading.Thread(target=self._run, name=f"poll-{self._name}", daemon=True)
            self._thread.start()

    def wait(self, timeout_s: float) -> T | None:
        """Return the poll's result; None when it has not ended after ``timeout_s``.  Raises what the poll raised."""
        if self._thread is not None:
            self._thread.join(max(0.0, timeout_s))
        if self.busy:
            return None
        if self._error is not None:
            raise self._error
        return self._result

    def _run(self) -> None:
        try:
            self._result = self._poll()
        except Exception as exc:  # raised by wait()
            self._error = exc


def one_line(error: Exception) -> str:
    """Return an error as one line of a page; a HilError without its class, because its message says enough."""
    text = error.message if isinstance(error, HilError) else f"{type(error).__name__}: {error}"
    return printable(" ".join(text.split()), 300)
