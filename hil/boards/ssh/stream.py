"""A command on a board as it runs: its output as it comes, its input, and its end when nobody wants it any more."""

from __future__ import annotations

import os
import re
import select
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from hil.boards.ssh.login import PACKET

if TYPE_CHECKING:
    import paramiko

Sink = Callable[[bytes], object]
Source = bytes | int
"""What a command reads: bytes, or a file descriptor that is read until its end."""

MARK = b"@@hil "
TELL_PID = f'echo "{MARK.decode()}$$" && exec "$@"'
"""For ``sh -c``: tell the process number first, then become the command."""
END = """
group() { stat=$(cat "/proc/$1/stat") 2>/dev/null && set -- ${stat##*) } && echo "$3"; }
its=$(group "$2") || exit 0
[ "$its" = "$(group $$)" ] && kill "-$1" "$2" || kill "-$1" "-$its"
"""
"""For ``sh -c``: send a signal to a process with its process group, if it is still there and the group is its own."""
_PID = re.compile(rb"@@hil (\d+)\n")
_HEAD_B = 64 << 10
_LOOK_S = 0.2


class _News(threading.Event):
    """Set when something came on a channel, or its end did.

    In place of ``Channel.fileno``: closing a channel closes that pipe under the thread which writes into it, and then
    the whole connection ends.
    """

    def clear(self) -> None:
        """Do nothing: paramiko calls it when one of the two buffers is empty."""

    def heard(self) -> None:
        """Wait for what comes from now on."""
        super().clear()


def communicate(
    channel: paramiko.Channel,
    source: Source,
    deadline: float,
    out: Sink,
    err: Sink,
    *,
    stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Feed a command and give on both outputs until it ends; False when ``stop`` said so first.

    TimeoutError at the ``deadline``, a monotonic time.
    """
    pending = memoryview(source if isinstance(source, bytes) else b"")
    more = not isinstance(source, bytes)
    news = _News()
    for buffer in (channel.in_buffer, channel.in_stderr_buffer):
        buffer.set_event(news)
    if not pending and not more:
        channel.shutdown_write()
    while not stop():
        progressed = False
        news.heard()
        if isinstance(source, int) and more and not pending and select.select([source], [], [], 0)[0]:
            block = os.read(source, PACKET)
            pending, more, progressed = memoryview(block), bool(block), True
            if not block:
                channel.shutdown_write()
        if pending and channel.send_ready():
            try:
                pending = pending[channel.send(bytes(pending[:PACKET])) :]
            except OSError:  # it has ended without reading all of it
                pending, more = memoryview(b""), False
            progressed = True
            if not pending and not more:
                channel.shutdown_write()
        if channel.recv_ready():  # not while: a flood must not hide the deadline
            out(channel.recv(PACKET))
            progressed = True
        if channel.recv_stderr_ready():
            err(channel.recv_stderr(PACKET))
            progressed = True
        if channel.exit_status_ready() and channel.eof_received and not progressed:
            return True
        if channel.closed and not progressed:
            return True
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        if not progressed:
            hurried = pending or more or channel.exit_status_ready()
            news.wait(min(left, 0.02 if hurried else _LOOK_S))
    return False


class PidFirst:
    """The stdout of a command that tells its process number first (:data:`TELL_PID`); that line is taken out."""

    def __init__(self, out: Sink) -> None:
        self.pid: int | None = None
        self._out = out
        self._head: bytes | None = b""

    def __call__(self, data: bytes) -> None:
        """Pass on what came; what a start-up file of the login prints before the number, too."""
        if self._head is None:
            self._out(data)
            return
        self._head += data
        if found := _PID.search(self._head):
            self.pid = int(found[1])
            self._pass(self._head[: found.start()] + self._head[found.end() :])
        elif len(self._head) > _HEAD_B:
            self._pass(self._head)

    def end(self) -> None:
        """Pass on what was kept back, of a command that has told no number."""
        self._pass(self._head or b"")

    def _pass(self, data: bytes) -> None:
        self._head = None
        if data:
            self._out(data)
