"""The way out of a serial console: one thread that may block, so that the reader never does."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from hil.boards.console.serial_port import SerialPort
from hil.errors import BenchError, HilError


@dataclass
class _Order:
    """Bytes to send, and what became of them."""

    data: bytes
    force: bool = False
    dropped: bool = False  # nobody waits for it any more
    done: threading.Event = field(default_factory=threading.Event)
    error: HilError | None = None


class Writer:
    """Sends while the way is ``open``; what is forced goes out in any case."""

    def __init__(self, board: str, port: Callable[[], SerialPort]) -> None:
        """Write to what ``port`` returns at that moment; it may raise BenchError."""
        self.open = False
        """Whether the board listens: set at ``login:``, unset while its firmware runs."""
        self._board = board
        self._port = port
        self._orders: queue.Queue[_Order | None] = queue.Queue()
        self._thread = threading.Thread(target=self._run, name=f"console-{board}-out", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """End the thread; what was not sent is not."""
        self._orders.put(None)
        if self._thread.ident:
            self._thread.join(timeout=10.0)

    def post(self, data: bytes) -> None:
        """Send when the way is open, else forget. Never blocks."""
        self._orders.put(_Order(data))

    def send(self, data: bytes, *, force: bool, deadline_s: float) -> None:
        """Send, and wait until it has left.

        BenchError when the way is shut and it is not forced, when the port is gone, and at the deadline.
        """
        if not (self.open or force):
            raise self._too_early()
        order = _Order(bytes(data), force)
        self._orders.put(order)
        if not order.done.wait(deadline_s):
            order.dropped = True
            raise BenchError(
                f"console of {self._board}: {len(data)} bytes did not leave within {deadline_s:g} s",
                remedy="is flow control on at the adapter or the console server? it must be off",
            )
        if order.error:
            raise order.error

    def _run(self) -> None:
        while (order := self._orders.get()) is not None:
            if not order.dropped:
                order.error = self._send_now(order)
            order.done.set()

    def _send_now(self, order: _Order) -> HilError | None:
        try:
            if not (self.open or order.force):  # the board was reset while this waited
                raise self._too_early()
            self._port().write(order.data)
        except HilError as exc:
            return exc
        return None

    def _too_early(self) -> BenchError:
        return BenchError(
            f"console of {self._board}: nothing is sent before `login:` was seen; a byte while the firmware runs "
            "opens its setup menu",
            remedy="wait for the board to boot, or force it where the setup menu is what you want",
        )
