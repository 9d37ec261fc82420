"""The board's watchdog: a FIFO that the OS feeds, a deadline that the firmware keeps.

Armed at the hand-over, as the Tegra watchdog is by the boot loader.  ``V`` disarms (the magic close of Linux
watchdogs); any other byte feeds.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

FIFO_BYTES = 1 << 20
"""A FIFO holds so much at most (``fs.pipe-max-size``)."""


class Watchdog:
    """One deadline; infinite while disarmed."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._deadline = float("inf")
        if not path.exists():
            os.mkfifo(path, 0o600)
        # Read-write, so that the FIFO never reports "no writer" while the OS is not up yet.
        self.descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def arm(self, seconds: float) -> None:
        """A new boot: forget old feeds and bite in ``seconds`` unless fed."""
        self._read()
        self._deadline = self._clock() + seconds

    def drain(self, timeout_s: float) -> None:
        """Take in what the OS wrote since the last call."""
        data = self._read()
        if data.endswith(b"V"):
            self._deadline = float("inf")
        elif data:
            self._deadline = self._clock() + timeout_s

    def extend(self, seconds: float) -> None:
        self._deadline += seconds

    def left(self) -> float:
        return max(0.0, self._deadline - self._clock())

    def expired(self) -> bool:
        return self._clock() >= self._deadline

    def _read(self) -> bytes:
        """Return what is there now, and no more: an OS that never stops writing must not hold PID 1 here."""
        try:
            return os.read(self.descriptor, FIFO_BYTES)
        except BlockingIOError:
            return b""
