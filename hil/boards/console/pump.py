"""Serial consoles of container boards: a pump in one process, readers in any.

The pump holds the masters of two pseudo-terminals per board.  The slave of the first is bind-mounted into the
container as ``/dev/ttyTCU0``; every byte that comes out of it goes to a log file, whoever listens or not.  The slave
of the second is what a person or pyserial opens.  Both live as long as the pump, so they survive power cycles.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from pathlib import Path

from hil.boards.console.log_console import ConsoleLine
from hil.boards.console.log_file import LogFile
from hil.boards.console.terminals import Terminal, read_now
from hil.errors import HarnessError

_IDLE_POLL_S = 0.05


class _Line:
    """One board's two pseudo-terminals and its log files."""

    def __init__(self, directory: Path, name: str) -> None:
        self.board_master, self._board_slave = os.openpty()
        self.terminal = Terminal()
        self._file = LogFile(directory, name)
        self.facts = ConsoleLine(os.ttyname(self._board_slave), self.terminal.url, self._file.path)
        # Our own descriptor on the board's slave keeps the master readable while no board is powered.
        os.set_blocking(self.board_master, False)
        self.watched = False

    def from_board(self) -> None:
        if data := read_now(self.board_master):
            self._file.append(data)
            if self.terminal.taken():
                self.terminal.offer(data)

    def from_user(self) -> None:
        if data := self.terminal.typed():
            with contextlib.suppress(OSError):
                os.write(self.board_master, data)

    def close(self) -> None:
        os.close(self.board_master)
        os.close(self._board_slave)
        self.terminal.close()
        self._file.close()


class ConsolePump:
    """Owns the terminals of all boards of a bench; one thread; survives power cycles; never waits for a reader."""

    def __init__(self, directory: Path) -> None:
        """Write ``<board>.console.log`` and ``<board>.console.idx`` (lines: offset, unix time) into ``directory``."""
        self._directory = directory
        self._lines: dict[str, _Line] = {}
        self._by_descriptor: dict[int, _Line] = {}
        self._epoll = select.epoll()
        self._wakeup_read, self._wakeup_write = os.pipe()
        self._epoll.register(self._wakeup_read, select.EPOLLIN)
        self._thread: threading.Thread | None = None
        self._stop = False

    def add(self, name: str) -> ConsoleLine:
        """Make the console of one board; may be called before or after :meth:`start`."""
        if name in self._lines:
            raise HarnessError(f"console {name} exists already")
        line = _Line(self._directory, name)
        self._lines[name] = line
        self._by_descriptor[line.board_master] = line
        self._epoll.register(line.board_master, select.EPOLLIN)
        return line.facts

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="console-pump", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop the thread and let go of the terminals; a board's console then reads end-of-file."""
        if self._stop:
            return
        self._stop = True
        os.write(self._wakeup_write, b".")
        if self._thread:
            self._thread.join(timeout=5.0)
        for line in self._lines.values():
            line.close()
        self._epoll.close()
        os.close(self._wakeup_read)
        os.close(self._wakeup_write)

    def __enter__(self) -> ConsolePump:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _run(self) -> None:
        next_look = 0.0
        while not self._stop:
            for descriptor, event in self._epoll.poll(_IDLE_POLL_S):
                if descriptor == self._wakeup_read:
                    continue
                line = self._by_descriptor[descriptor]
                if descriptor == line.board_master:
                    line.from_board()
                    continue
                line.from_user()
                if event & select.EPOLLHUP:
                    self._watch(line, False)
            if (now := time.monotonic()) >= next_look:
                next_look = now + _IDLE_POLL_S
                for line in list(self._lines.values()):
                    self._look_after(line)

    def _look_after(self, line: _Line) -> None:
        """Send a listener what it did not take yet; notice a new one, and what was typed by one that left at once."""
        if line.watched:
            line.terminal.flush()
            return
        line.from_user()
        # A terminal without a listener is always "hung up": it must not sit in the epoll set.
        if line.terminal.taken():
            self._watch(line, True)
        else:
            line.terminal.forget()

    def _watch(self, line: _Line, watch: bool) -> None:
        line.watched = watch
        descriptor = line.terminal.descriptor
        if watch:
            self._by_descriptor[descriptor] = line
            self._epoll.register(descriptor, select.EPOLLIN)
        else:
            self._epoll.unregister(descriptor)
            del self._by_descriptor[descriptor]
