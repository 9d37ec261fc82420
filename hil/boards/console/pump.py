"""Serial consoles of container boards: a pump in one process, readers in any.

The pump holds the masters of two pseudo-terminals per board.  The slave of the first is bind-mounted into the
container as ``/dev/ttyTCU0``; every byte that comes out of it goes to a log file, whoever listens or not.  The slave
of the second is what a person or pyserial opens.  Both live as long as the pump, so they survive power cycles.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path

from hil.boards.console.log_console import ConsoleLine
from hil.boards.console.log_file import LogFile
from hil.boards.console.terminals import Terminal, read_now, wait_readable
from hil.errors import HarnessError

_LOOK_S = 0.05  # how soon a new listener is noticed


class _Line:
    """One board's two pseudo-terminals and its log files."""

    def __init__(self, directory: Path, name: str) -> None:
        self.board_master, self._board_slave = os.openpty()
        self.terminal = Terminal()
        self._file = LogFile(directory, name)
        self.facts = ConsoleLine(os.ttyname(self._board_slave), self.terminal.url, self._file.path)
        # Our own descriptor on the board's slave keeps the master readable while no board is powered.
        os.set_blocking(self.board_master, False)
        self.taken = False
        self._lost = 0

    def from_board(self) -> None:
        if data := read_now(self.board_master):
            self._keep(data)
            if self.terminal.taken():
                self.terminal.offer(data)

    def _keep(self, data: bytes) -> None:
        """Write to the log; what a full disk does not take is counted, and told there when it has room again."""
        note = f"\n[hil: {self._lost} bytes left out here: this log could not be written]\n" if self._lost else ""
        left, end = note.encode() + data, self._file.end
        try:
            self._file.append(left)
            self._lost = 0
        except OSError:
            written = self._file.end - end
            self._lost = self._lost + len(data) if written < len(note) else len(left) - written

    def to_board(self, typed: bytes) -> None:
        with contextlib.suppress(OSError):
            os.write(self.board_master, typed)

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
        self._wakeup_read, self._wakeup_write = os.pipe()
        self._thread: threading.Thread | None = None
        self._stop = False

    def add(self, name: str) -> ConsoleLine:
        """Make the console of one board; may be called before or after :meth:`start`."""
        if name in self._lines:
            raise HarnessError(f"console {name} exists already")
        self._lines[name] = _Line(self._directory, name)
        return self._lines[name].facts

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
            lines = list(self._lines.values())
            masters = [self._wakeup_read, *(line.board_master for line in lines)]
            readable = wait_readable(masters, [line.terminal for line in lines if line.taken], _LOOK_S)
            if look := (now := time.monotonic()) >= next_look:
                next_look = now + _LOOK_S
            for line in lines:
                if line.board_master in readable:
                    line.from_board()
                if look or line.terminal.descriptor in readable:
                    line.taken = line.terminal.tend(line.to_board)
