"""The way out of a serial console: one thread that may block, so that the reader never does."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError

from hil.boards.console.serial_port import SerialPort
from hil.errors import BenchError


class Writer:
    """Sends while the way is ``open``; what is forced goes out in any case."""

    def __init__(self, board: str, port: Callable[[], SerialPort]) -> None:
        """Write to what ``port`` returns at that moment; it may raise BenchError."""
        self.open = False
        """Whether the board listens: set at ``login:``, unset while its firmware runs."""
        self._board = board
        self._port = port
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"console-{board}-out")

    def close(self) -> None:
        """End the thread; what was not sent is not."""
        self._thread.shutdown(cancel_futures=True)

    def post(self, data: bytes) -> None:
        """Send when the way is open, else forget. Never blocks."""
        self._thread.submit(self._send_now, data, False)

    def send(self, data: bytes, *, force: bool, deadline_s: float) -> None:
        """Send, and wait until it has left.

        BenchError when the way is shut and it is not forced, when the port is gone, and at the deadline.
        """
        if not (self.open or force):
            raise self._too_early()
        self._port()  # raises when it is gone
        order = self._thread.submit(self._send_now, bytes(data), force)
        try:
            order.result(deadline_s)
        except FutureTimeoutError:
            order.cancel()
            raise BenchError(
                f"console of {self._board}: {len(data)} bytes did not leave within {deadline_s:g} s",
                remedy="is flow control on at the adapter or the console server? it must be off",
            ) from None

    def _send_now(self, data: bytes, force: bool) -> None:
        if not (self.open or force):  # the board was reset while this waited
            raise self._too_early()
        self._port().write(data)

    def _too_early(self) -> BenchError:
        return BenchError(
            f"console of {self._board}: nothing is sent before `login:` was seen; a byte while the firmware runs "
            "opens its setup menu",
            remedy="wait for the board to boot, or force it where the setup menu is what you want",
        )
