"""Terminals of a console: pseudo-terminals, each with its own copy of what the board says."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import tty
from collections.abc import Callable, Iterable

BACKLOG = 1 << 20
"""Bytes kept for a listener that is slow; beyond that it loses the oldest. The log never does."""
_CHUNK = 65536


class Terminal:
    """One pseudo-terminal; one person, or one program with pyserial, has its other end (``url``)."""

    def __init__(self) -> None:
        self.descriptor, slave = os.openpty()
        tty.setraw(slave)
        self.url = os.ttyname(slave)
        # Closed again: that nobody has it open is how we know that nobody listens.
        os.close(slave)
        os.set_blocking(self.descriptor, False)
        self._backlog = bytearray()
        self._lost = 0

    def taken(self) -> bool:
        """Tell whether somebody has the other end open."""
        poll = select.poll()
        poll.register(self.descriptor, select.POLLIN)
        return not any(event & select.POLLHUP for _, event in poll.poll(0))

    def tend(self, pass_on: Callable[[bytes], None]) -> bool:
        """Pass on what was typed, send what waits; tell whether somebody listens."""
        if typed := read_now(self.descriptor):  # also by somebody who has left again
            pass_on(typed)
        if self.taken():
            self.flush()
            return True
        self._backlog.clear()  # a later listener gets what comes from then on
        self._lost = 0
        return False

    def offer(self, data: bytes) -> None:
        """Send, or keep for later. Never blocks."""
        self._backlog += data
        if (over := len(self._backlog) - BACKLOG) > 0:
            del self._backlog[:over]
            self._lost += over
        self.flush()

    def flush(self) -> None:
        """Send what the pseudo-terminal takes now."""
        with contextlib.suppress(OSError):
            while self._backlog:
                if self._lost:
                    note = f"\r\n[{self._lost} bytes left out here; the log has them]\r\n".encode()
                    if os.write(self.descriptor, note) == len(note):
                        self._lost = 0
                sent = os.write(self.descriptor, self._backlog[:_CHUNK])
                del self._backlog[:sent]

    def close(self) -> None:
        os.close(self.descriptor)


def wait_readable(descriptors: Iterable[int], taken: Iterable[Terminal], timeout_s: float) -> set[int]:
    """Wait for something to read, a terminal with room for what waits, or a hang-up; return their descriptors.

    Only terminals that are ``taken``: one that nobody has open always reports a hang-up.
    """
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    for terminal in taken:
        poll.register(terminal.descriptor, select.POLLIN | (select.POLLOUT if terminal._backlog else 0))
    return {descriptor for descriptor, _ in poll.poll(timeout_s * 1000)}


def read_now(descriptor: int) -> bytes:
    """Return what can be read without waiting; empty when there is nothing, or nobody on the other side."""
    try:
        return os.read(descriptor, _CHUNK)
    except OSError as exc:
        if exc.errno in (errno.EAGAIN, errno.EIO):
            return b""
        raise
