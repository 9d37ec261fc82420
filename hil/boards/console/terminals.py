"""Terminals of a console: pseudo-terminals, each with its own copy of what the board says."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import tty

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

    @property
    def waiting(self) -> bool:
        """Whether there is more to send than the pseudo-terminal took."""
        return bool(self._backlog)

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

    def forget(self) -> None:
        """Drop what was not sent: a later listener gets what comes from then on."""
        self._backlog.clear()
        self._lost = 0

    def typed(self) -> bytes:
        """Return what was typed since the last call, also by somebody who has closed the other end again."""
        return read_now(self.descriptor)

    def close(self) -> None:
        os.close(self.descriptor)


def read_now(descriptor: int) -> bytes:
    """Return what can be read without waiting; empty when there is nothing, or nobody on the other side."""
    try:
        return os.read(descriptor, _CHUNK)
    except OSError as exc:
        if exc.errno in (errno.EAGAIN, errno.EIO):
            return b""
        raise
