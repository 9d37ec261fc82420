"""A look that may hang, in a thread of its own, so that one board that does not answer delays nobody."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Looker(Generic[T]):
    """Repeats one look, never twice at a time: a look that hangs is waited for again instead of being doubled.

    Its threads are daemons, because nothing is lost when a process ends in the middle of a look.
    """

    def __init__(self, name: str, look: Callable[[], T]) -> None:
        self._name = name
        self._look = look
        self._thread: threading.Thread | None = None
        self._found: T | None = None
        self._error: Exception | None = None

    @property
    def busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def begin(self) -> None:
        """Start a look, unless the last one still goes on."""
        if not self.busy:
            self._found, self._error = None, None
            self._thread = threading.Thread(target=self._run, name=f"look-{self._name}", daemon=True)
            self._thread.start()

    def wait(self, timeout_s: float) -> T | None:
        """What the look found; None when it has not ended after ``timeout_s``.  Raises what the look raised."""
        if self._thread is not None:
            self._thread.join(max(0.0, timeout_s))
        if self.busy:
            return None
        if self._error is not None:
            raise self._error
        return self._found

    def _run(self) -> None:
        try:
            self._found = self._look()
        except Exception as exc:  # raised where somebody waits for it
            self._error = exc


def told(error: Exception) -> str:
    """An error as one line of a page: our own errors speak for themselves."""
    from hil.errors import HilError

    text = error.message if isinstance(error, HilError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())[:300]
