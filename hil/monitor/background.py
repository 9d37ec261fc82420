"""A poll in a thread of its own, so that one board that does not answer delays nothing else."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent import futures
from concurrent.futures import Future
from typing import Generic, TypeVar

from hil.errors import HilError
from hil.text import one_line

T = TypeVar("T")


class BackgroundPoll(Generic[T]):
    """Repeats one poll, never twice at a time: a poll that hangs is awaited again instead of being doubled.

    Its threads are daemons, because nothing is lost when a process ends in the middle of a poll.
    """

    def __init__(self, name: str, poll: Callable[[], T]) -> None:
        self._name = name
        self._poll = poll
        self._future: Future[T] | None = None

    def begin(self) -> None:
        """Start a poll, unless the last one still runs."""
        if self._future is None or self._future.done():
            self._future = Future()
            threading.Thread(target=self._run, args=(self._future,), name=f"poll-{self._name}", daemon=True).start()

    def wait(self, timeout_s: float) -> T | None:
        """Return the result of the poll that was begun; None when it has not ended after ``timeout_s``.

        Raises what the poll raised.
        """
        assert self._future is not None
        futures.wait([self._future], max(0.0, timeout_s))
        return self._future.result() if self._future.done() else None

    def _run(self, future: Future[T]) -> None:
        try:
            future.set_result(self._poll())
        except Exception as exc:
            future.set_exception(exc)


def error_line(error: Exception) -> str:
    """Return an error as one line of a page; a HilError without its class, because its message says enough."""
    text = error.message if isinstance(error, HilError) else f"{type(error).__name__}: {error}"
    return one_line(text, 300)
