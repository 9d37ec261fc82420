"""The serial console of a real board: every byte logged, nothing sent before the board listens.

One thread reads and does nothing slow; another writes.  What came is in ``<board>.console.log``, with lines
``offset unix_time`` in ``<board>.console.idx``, as for container boards, so ``LogConsole`` follows it from any
process.  A stray byte while UEFI runs drops a Jetson into its setup menu: until ``login:`` was seen, and again from
the next reset on, nothing is sent.  Another process that drives the board says so through
:mod:`hil.boards.console.mute`.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from hil.boards.console.boot_stages import Sighting, Stage, StageReader
from hil.boards.console.log_console import LogConsole
from hil.boards.console.log_file import LogFile
from hil.boards.console.mute import say_why_muted
from hil.boards.console.serial_port import SerialPort
from hil.boards.console.terminals import Terminal, wait_readable
from hil.boards.console.writer import Writer
from hil.core.wait import SYSTEM_CLOCK, Clock, wait_until
from hil.errors import BenchError, DeviceError, HilError
from hil.evidence.events import ConsolePort, ConsoleStage
from hil.evidence.sink import NullSink, Sink

SILENCING = frozenset(
    {Stage.RESTART, Stage.MB1, Stage.MB2, Stage.ATF, Stage.UEFI, Stage.UEFI_PROMPT, Stage.LAUNCHER, Stage.EFI_STUB}
)
"""What tells that firmware runs, or will at once. Not the kernel's own lines: ``dmesg`` prints those again."""
_LOOK_S = 0.05  # how soon a new listener is noticed
_RETRY_S = 0.3  # how often a port that went away is tried again
_REMEMBERED = 10_000


class SerialConsole(LogConsole):
    """``hil.boards.protocol.Console`` on anything pyserial opens. Use as a ``with`` block, or start and close."""

    def __init__(
        self,
        board: str,
        port: str,
        directory: Path,
        *,
        baudrate: int = 115200,
        terminals: int = 2,
        sink: Sink | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """Log ``port``, which pyserial opens, to ``directory``; ``terminals`` people can sit at the console."""
        self._file = LogFile(directory, board)
        super().__init__("", self._file.path, clock)
        self.board = board
        self.port = port
        self._baudrate = baudrate
        self._sink = sink or NullSink()
        self._next_look = 0.0
        self._terminals = [Terminal() for _ in range(terminals)]
        self._taken: set[Terminal] = set()
        self._notified: set[Terminal] = set()
        self._why_muted: str | None = None
        self._stages = StageReader()
        self._seen: deque[tuple[int, Sighting]] = deque(maxlen=_REMEMBERED)  # with the log's size behind its chunk
        self._serial: SerialPort | None = None
        self._gone = "it was never opened"
        self._writer = Writer(board, self._port_now)
        self._stop = threading.Event()
        self._wake_read, self._wake_write = os.pipe()
        self._reader = threading.Thread(target=self._read_forever, name=f"console-{board}", daemon=True)

    # -- for the driver

    @property
    def url(self) -> str:
        """The first terminal: what ``serial.serial_for_url`` opens."""
        return self._terminals[0].url

    @property
    def urls(self) -> tuple[str, ...]:
        """All terminals. Each gets everything; what is typed at any of them reaches the board."""
        return tuple(terminal.url for terminal in self._terminals)

    @property
    def connected(self) -> bool:
        """Whether the port is there now."""
        return self._serial is not None

    @property
    def listening(self) -> bool:
        """Whether the board may be written to: ``login:`` was seen and no firmware since."""
        return self._writer.open

    def start(self) -> None:
        """Open the port and read. BenchError when it is not there; ConfigurationError when its name is no port."""
        self._serial = SerialPort(self.port, baudrate=self._baudrate)
        self._reader.start()

    def close(self) -> None:
        """Stop reading, let go of the port and of the terminals. Idempotent."""
        if self._stop.is_set():
            return
        self._stop.set()
        os.write(self._wake_write, b".")
        if self._reader.ident:
            self._reader.join(timeout=10.0)
        self._writer.close()
        if self._serial:
            self._serial.close()
            self._serial = None
        for terminal in self._terminals:
            terminal.close()
        os.close(self._wake_read)
        os.close(self._wake_write)
        self._file.close()
        super().close()

    def __enter__(self) -> SerialConsole:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def release(self) -> None:
        """Send keys without a ``login:``: the board is known to run its OS, it answered over SSH."""
        self._writer.open = True

    def silence(self) -> None:
        """Send nothing until ``login:`` comes again: the board is about to be reset."""
        self._writer.open = False

    def write(self, data: bytes, *, force: bool = False, deadline_s: float = 5.0) -> None:
        """Send to the board.

        BenchError before ``login:`` was seen unless ``force``, when the port is gone, and when the bytes have not
        left by ``deadline_s``.
        """
        self._writer.send(data, force=force, deadline_s=deadline_s)

    def seen(self, *, since: int = 0) -> list[Sighting]:
        """Return stages completed behind byte offset ``since`` of the log, in order."""
        return [sighting for offset, sighting in list(self._seen) if offset > since]

    def wait_for_stage(self, *stages: Stage, deadline_s: float, since: int = 0) -> Sighting:
        """Wait for the first of these stages behind ``since``.

        DeviceError with the console's last lines at the deadline, and at once when something bad is seen that was
        not asked for; BenchError when the port is gone.
        """
        words = " or ".join(stages)

        def look() -> Sighting | None:
            for sighting in self.seen(since=since):
                if sighting.stage in stages or sighting.bad:
                    return sighting
            return None

        with self._blamed():
            sighting = wait_until(
                look,
                what=f"{self.board} to show {words} on its console",
                deadline_s=deadline_s,
                every_s=0.02,
                error=DeviceError,
                clock=self._clock,
            )
            if sighting.stage not in stages:
                raise DeviceError(f"{self.board} showed {sighting.stage} instead of {words}")
        return sighting

    @contextmanager
    def _blamed(self) -> Iterator[None]:
        """Blame the bench for a board's silence while its serial port is not there."""
        try:
            with super()._blamed():
                yield
        except DeviceError as exc:
            if self._serial:
                raise
            raise BenchError(
                f"{exc.message.partition('; it last said:')[0]}, but {self._gone}", remedy=self._replug
            ) from exc

    def _port_now(self) -> SerialPort:
        if port := self._serial:
            return port
        raise BenchError(f"console of {self.board}: {self._gone}", remedy=self._replug)

    @property
    def _replug(self) -> str:
        return f"plug the adapter of {self.board} in again, or see to its console server"

    # -- the reader's thread

    def _read_forever(self) -> None:
        try:
            while not self._stop.is_set():
                self._read_or_reopen()
        finally:
            if not self._stop.is_set():  # a bug, here or in the sink: no longer seem to listen
                self._serial, self._gone = None, "its reader has died; the reason is on stderr"

    def _read_or_reopen(self) -> None:
        port = self._serial
        try:
            if port is None:
                self._reopen()
            else:
                self._read_once(port)
        except BenchError as exc:
            self._lose(port, exc)
        except OSError as exc:
            self._lose(port, BenchError(f"the log {self.log} cannot be written: {exc}"))

    def _read_once(self, port: SerialPort) -> None:
        own = [] if port.descriptor is None else [port.descriptor]  # one without: its read waits itself
        readable = wait_readable([*own, self._wake_read], self._taken, _LOOK_S if own else 0.0)
        # People first: what they typed before the board said login: was typed too early.
        now = time.monotonic()
        if now >= self._next_look or any(terminal.descriptor in readable for terminal in self._taken):
            self._next_look = now + _LOOK_S
            self._look_at_terminals()
        if (port.descriptor is None or port.descriptor in readable) and (data := port.read()):
            self._take(data)

    def _take(self, data: bytes) -> None:
        now = self._file.append(data)
        for terminal in self._taken:
            terminal.offer(data)
        for sighting in self._stages.feed(data, now):
            self._notice(sighting)
        self._say_why_muted()

    def _notice(self, sighting: Sighting) -> None:
        if sighting.stage is Stage.LOGIN:
            self._writer.open = True
            self._notified.clear()
        elif sighting.stage in SILENCING:
            self._writer.open = False
        self._seen.append((self._file.end, sighting))
        self._sink.emit(
            ConsoleStage(self.board, sighting.stage.value, tuple(sighting.groups), sighting.bad, sighting.mended)
        )

    def _look_at_terminals(self) -> None:
        if (is_open := self._mute_flag.changed()) is not None:  # by another process, which drives the board
            self._writer.open = is_open
        self._say_why_muted()
        self._taken = {terminal for terminal in self._terminals if terminal.tend(partial(self._pass_on, terminal))}

    def _say_why_muted(self) -> None:
        if (why := self._muted_because()) != self._why_muted:
            self._why_muted = why
            say_why_muted(self.log, why)

    def _muted_because(self) -> str:
        if self._writer.open:
            return ""
        if self._serial is None:
            return f"no key reaches {self.board}: {self._gone}"
        return f"{self.board} gets no keys before login: was seen"

    def _pass_on(self, terminal: Terminal, typed: bytes) -> None:
        if self._writer.open:
            self._writer.post(typed)
        elif terminal not in self._notified:
            self._notified.add(terminal)
            terminal.offer(f"\r\n[{self._muted_because()}]\r\n".encode())

    def _reopen(self) -> None:
        self._look_at_terminals()
        if self._stop.wait(_RETRY_S):
            return
        try:
            self._serial = SerialPort(self.port, baudrate=self._baudrate)
        except HilError as exc:
            self._gone = exc.message
            return
        self._sink.emit(ConsolePort(self.board, self.port, "back"))

    def _lose(self, port: SerialPort | None, exc: BenchError) -> None:
        # An on-board adapter goes with the board's power: what the board does now is unknown.
        self._serial, self._gone, self._writer.open = None, exc.message, False
        if port:
            port.close()
        self._sink.emit(ConsolePort(self.board, self.port, "gone", exc.message))
