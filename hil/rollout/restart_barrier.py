"""Holds back the boards of a rollout until it is safe for them to restart."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from hil.errors import DeviceError, HilError


class HeldBack(DeviceError):
    """This board was not touched because another one failed."""


class RestartBarrier:
    """Opens when all boards have installed and the canary is confirmed; shuts for good when any board fails."""

    def __init__(self, boards: Iterable[str]) -> None:
        self._changed = threading.Condition()
        self._waiting = set(boards)
        self._open = False
        self._failure = ""

    def installed(self, board: str) -> None:
        """This board has the bundle in its other slot."""
        with self._changed:
            self._waiting.discard(board)
            self._changed.notify_all()

    def yield_to(self, board: str, head_start_s: float) -> None:
        """Wait until that board has installed, but no longer than ``head_start_s``."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._failure) or board not in self._waiting, head_start_s)

    def open(self) -> None:
        """The canary is confirmed."""
        with self._changed:
            self._open = True
            self._changed.notify_all()

    def wait(self, deadline_s: float) -> None:
        """Until the others may restart. HeldBack when a board failed; DeviceError at the deadline."""
        with self._changed:
            free = self._changed.wait_for(lambda: bool(self._failure) or (self._open and not self._waiting), deadline_s)
            if self._failure:
                raise HeldBack(f"held back: {self._failure}")
            if not free:
                missing = ", ".join(sorted(self._waiting)) or "the canary"
                raise DeviceError(f"waited {deadline_s:g} s for {missing} before the other boards may restart")

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Shut the barrier when the body fails."""
        try:
            yield
        except HeldBack:
            raise
        except BaseException as exc:
            self.fail(exc.message if isinstance(exc, HilError) else repr(exc))
            raise

    def fail(self, reason: str) -> None:
        """A board failed: nobody else restarts."""
        with self._changed:
            self._failure = self._failure or reason
            self._changed.notify_all()
