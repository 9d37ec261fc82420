"""Serial consoles of container boards: a pump in one process, readers in any.

The pump holds the masters of two pseudo-terminals per board.  The slave of the first is bind-mounted into the
container as ``/dev/ttyTCU0``; every byte that comes out of it goes to a log file, whoever listens or not.  The slave
of the second is what a person or pyserial opens.  Both live as long as the pump, so they survive power cycles.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import select
import threading
import time
import tty
from dataclasses import dataclass
from pathlib import Path

from hil.boards.console.line_log import LineLog
from hil.core.wait import SYSTEM_CLOCK, Clock, wait_until
from hil.errors import DeviceError, HarnessError

ANSI = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|[@-Z\\-_])")
_IDLE_POLL_S = 0.05
_CHUNK = 65536


@dataclass(frozen=True)
class ConsoleLine:
    """Where one board's console is. Plain paths, so that any process on this host can use them."""

    board_tty: str  # bind-mounted into the container as /dev/ttyTCU0
    url: str  # what pyserial opens
    log: Path


class _Line:
    """One board's two ptys and its log files."""

    def __init__(self, directory: Path, name: str) -> None:
        self.board_master, self._board_slave = os.openpty()
        self.user_master, user_slave = os.openpty()
        tty.setraw(user_slave)
        self.facts = ConsoleLine(
            board_tty=os.ttyname(self._board_slave),
            url=os.ttyname(user_slave),
            log=directory / f"{name}.console.log",
        )
        # Our own descriptor on the board's slave keeps the master readable while no board is powered. The user's
        # slave is closed again: that nobody has it open is how the pump knows that nobody listens.
        os.close(user_slave)
        os.set_blocking(self.board_master, False)
        os.set_blocking(self.user_master, False)
        self._log = self.facts.log.open("ab", buffering=0)
        self._index = self.facts.log.with_suffix(".idx").open("a", buffering=1)
        self._line_log = LineLog(name)
        self.watched = False

    def listener(self) -> bool:
        """Whether somebody has the user's side open."""
        poll = select.poll()
        poll.register(self.user_master, select.POLLIN)
        return not any(event & select.POLLHUP for _, event in poll.poll(0))

    def from_board(self) -> None:
        data = _read(self.board_master)
        if not data:
            return
        self._index.write(f"{self._log.tell()} {time.time():.3f}\n")
        self._log.write(data)
        self._line_log.feed(data)
        if self.listener():
            # A listener that does not read loses bytes, never stops the board; the log has them all.
            with contextlib.suppress(OSError):
                os.write(self.user_master, data)

    def from_user(self) -> None:
        data = _read(self.user_master)
        if data:
            with contextlib.suppress(OSError):
                os.write(self.board_master, data)

    def close(self) -> None:
        for descriptor in (self.board_master, self._board_slave, self.user_master):
            os.close(descriptor)
        self._log.close()
        self._index.close()


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, _CHUNK)
    except OSError as exc:
        if exc.errno in (errno.EAGAIN, errno.EIO):  # nothing there; nobody on the other side
            return b""
        raise


class ConsolePump:
    """Owns the ptys of all boards of a bench; one thread; survives power cycles; never waits for a reader."""

    def __init__(self, directory: Path) -> None:
        """``directory`` gets ``<board>.console.log`` and ``<board>.console.idx`` (lines: offset, unix time)."""
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
        self._directory.mkdir(parents=True, exist_ok=True)
        line = _Line(self._directory, name)
        self._lines[name] = line
        self._by_descriptor[line.board_master] = line
        self._epoll.register(line.board_master, select.EPOLLIN)
        return line.facts

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="console-pump", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop the thread and let go of the ptys; a board's console then reads end-of-file."""
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
                elif event & select.EPOLLHUP:
                    self._watch(line, False)
                else:
                    line.from_user()
            if (now := time.monotonic()) >= next_look:
                next_look = now + _IDLE_POLL_S
                for line in list(self._lines.values()):
                    # A pty without a listener is always "hung up": it must not sit in the epoll set.
                    if not line.watched and line.listener():
                        self._watch(line, True)

    def _watch(self, line: _Line, watch: bool) -> None:
        line.watched = watch
        if watch:
            self._by_descriptor[line.user_master] = line
            self._epoll.register(line.user_master, select.EPOLLIN)
        else:
            self._epoll.unregister(line.user_master)
            del self._by_descriptor[line.user_master]


class FileConsole:
    """``hil.boards.protocol.Console`` on the pump's log file."""

    def __init__(self, url: str, log: Path, clock: Clock = SYSTEM_CLOCK) -> None:
        self._url = url
        self._log = log
        self._clock = clock

    @property
    def url(self) -> str:
        return self._url

    @property
    def log(self) -> Path:
        return self._log

    def size(self) -> int:
        """Bytes so far: the offset from which only new text is seen."""
        try:
            return self._log.stat().st_size
        except FileNotFoundError:
            return 0

    def text(self, since: int = 0) -> str:
        """What came from the board since that byte offset, without escape sequences and carriage returns."""
        try:
            with self._log.open("rb") as file:
                file.seek(since)
                raw = file.read()
        except FileNotFoundError:
            return ""
        return ANSI.sub(b"", raw).replace(b"\r", b"").decode("utf-8", "replace")

    def wait_for(self, pattern: str, *, deadline_s: float, since: int = 0) -> str:
        """Wait until the log, from byte offset ``since``, matches the regex; the matched text.

        DeviceError at the deadline, with the last lines of the console.
        """
        wanted = re.compile(pattern, re.MULTILINE)

        def look() -> re.Match[str] | None:
            return wanted.search(self.text(since))

        try:
            match = wait_until(
                look,
                what=f"{pattern!r} on the console",
                deadline_s=deadline_s,
                every_s=0.02,
                error=DeviceError,
                clock=self._clock,
            )
        except DeviceError as exc:
            raise DeviceError(
                f"{exc.message}; it last said:\n{self.tail()}", remedy=f"see {self._log}"
            ) from exc
        return match.group(0)

    def tail(self, lines: int = 8) -> str:
        """The last lines, indented, for messages."""
        end = self.text(max(0, self.size() - 4096)).strip().splitlines()[-lines:]
        return "\n".join(f"    {line}" for line in end) or "    (nothing)"
