"""The serial console of a real board: every byte logged, nothing sent before the board listens.

One thread reads and does nothing slow; another writes.  What came is in ``<board>.console.log``, with lines
``offset unix_time`` in ``<board>.console.idx``, as for container boards, so ``FileConsole`` follows it from any
process.  A stray byte while UEFI runs drops a Jetson into its setup menu: until ``login:`` was seen, and again from
the next reset on, nothing is sent.  Another process that drives the board says so through :mod:`.quiet`.
"""

from __future__ import annotations

import os
import re
import select
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hil.boards.console.boot_stages import Sighting, Stage, StageReader
from hil.boards.console.line_log import LineLog
from hil.boards.console.log_search import Follower
from hil.boards.console.mute import Way, say_deaf
from hil.boards.console.pump import FileConsole
from hil.boards.console.serial_port import SerialPort
from hil.boards.console.terminals import Seat
from hil.boards.console.writer import Sender
from hil.core.wait import SYSTEM_CLOCK, Clock, wait_until
from hil.errors import BenchError, DeviceError, HilError
from hil.evidence.events import ConsolePort, ConsoleStage
from hil.evidence.sink import NullSink, Sink

SILENCING = frozenset(
    {
        Stage.RESTART,
        Stage.MB1,
        Stage.MB2,
        Stage.ATF,
        Stage.UEFI,
        Stage.UEFI_PROMPT,
        Stage.LAUNCHER,
        Stage.EFI_STUB,
    }
)
"""What tells that firmware runs, or will at once. Not the kernel's own lines: ``dmesg`` prints those again."""
_LOOK_S = 0.05  # how soon a new listener is noticed
_RETRY_S = 0.3  # how often a port that went away is tried again
_INDEX_STEP_S = 0.005  # rows of the index are at least this far apart
_REMEMBERED = 10_000


@dataclass(frozen=True)
class Seen:
    """A stage, and the offset in the log behind the chunk that completed it."""

    offset: int
    sighting: Sighting


class SerialConsole(FileConsole):
    """``hil.boards.protocol.Console`` on anything pyserial opens. Use as a ``with`` block, or start and close."""

    def __init__(
        self,
        board: str,
        port: str,
        directory: Path,
        *,
        baudrate: int = 115200,
        seats: int = 2,
        sink: Sink | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """``port`` is what pyserial opens; ``directory`` gets the log; ``seats`` people can sit at the console."""
        super().__init__("", directory / f"{board}.console.log", clock)
        self.board = board
        self.port = port
        self._baudrate = baudrate
        self._sink = sink or NullSink()
        directory.mkdir(parents=True, exist_ok=True)
        self._file = self.log.open("ab", buffering=0)
        self._index = self.log.with_suffix(".idx").open("a", buffering=1)
        self._end = self._file.tell()
        self._way = Way(self.log)
        self._indexed_at = 0.0
        self._next_look = 0.0
        self._seats = [Seat() for _ in range(seats)]
        self._taken: set[Seat] = set()
        self._told: set[Seat] = set()
        self._deaf: str | None = None
        self._stages = StageReader()
        self._line_log = LineLog(board)
        self._seen: deque[Seen] = deque(maxlen=_REMEMBERED)
        self._serial: SerialPort | None = None
        self._gone = "it was never opened"
        self._sender = Sender(board, self._port_now)
        self._stop = threading.Event()
        self._wake_read, self._wake_write = os.pipe()
        self._reader = threading.Thread(target=self._read_forever, name=f"console-{board}", daemon=True)

    # -- for the driver

    @property
    def url(self) -> str:
        """The first seat: what ``serial.serial_for_url`` opens."""
        return self._seats[0].url

    @property
    def urls(self) -> tuple[str, ...]:
        """All seats. Each gets everything; what is typed at any of them reaches the board."""
        return tuple(seat.url for seat in self._seats)

    @property
    def connected(self) -> bool:
        """Whether the port is there now."""
        return self._serial is not None

    @property
    def listening(self) -> bool:
        """Whether the board may be written to: ``login:`` was seen and no firmware since."""
        return self._sender.open

    def start(self) -> None:
        """Open the port and read. BenchError when it is not there; ConfigurationError when its name is no port."""
        self._serial = SerialPort(self.port, baudrate=self._baudrate)
        self._reader.start()
        self._sender.start()

    def close(self) -> None:
        """Stop reading, let go of the port and of the seats. Idempotent."""
        if self._stop.is_set():
            return
        self._stop.set()
        os.write(self._wake_write, b".")
        if self._reader.ident:
            self._reader.join(timeout=10.0)
        self._sender.close()
        if self._serial:
            self._serial.close()
            self._serial = None
        for seat in self._seats:
            seat.close()
        os.close(self._wake_read)
        os.close(self._wake_write)
        self._file.close()
        self._index.close()

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
        """The board is known to run its OS (it answered over SSH): it may be written to without a ``login:``."""
        self._sender.open = True

    def silence(self) -> None:
        """The board is about to be reset: send nothing until ``login:`` comes again."""
        self._sender.open = False

    def write(self, data: bytes, *, force: bool = False, deadline_s: float = 5.0) -> None:
        """Send to the board.

        BenchError before ``login:`` was seen unless ``force``, when the port is gone, and when the bytes have not
        left by ``deadline_s``.
        """
        self._sender.send(data, force=force, deadline_s=deadline_s)

    def seen(self, *, since: int = 0) -> list[Sighting]:
        """Stages completed behind byte offset ``since`` of the log, in order."""
        return [seen.sighting for seen in list(self._seen) if seen.offset > since]

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

        with self._blame():
            found = wait_until(
                look,
                what=f"{self.board} to show {words} on its console",
                deadline_s=deadline_s,
                every_s=0.02,
                error=DeviceError,
                clock=self._clock,
            )
            if found.stage not in stages:
                raise DeviceError(f"{self.board} showed {found.stage} instead of {words}")
        return found

    def wait_for(self, pattern: str, *, deadline_s: float, since: int = 0) -> str:
        """Wait until the log, from byte offset ``since``, matches the regex; the matched text.

        A match may be 4096 characters long.  Each look reads only what is new, so waiting during a flood costs the
        reader nothing.  DeviceError at the deadline, with the last lines; BenchError when the port is gone.
        """
        wanted = re.compile(pattern, re.MULTILINE)
        with self._blame(), Follower(self.log, since) as follower:
            return wait_until(
                lambda: follower.search(wanted),
                what=f"{pattern!r} on the console",
                deadline_s=deadline_s,
                every_s=0.02,
                error=DeviceError,
                clock=self._clock,
            ).group(0)

    @contextmanager
    def _blame(self) -> Iterator[None]:
        """A board's silence is the bench's fault when its serial port is not there."""
        try:
            yield
        except DeviceError as exc:
            if not self._serial:
                raise BenchError(f"{exc.message}, but {self._gone}", remedy=self._replug) from exc
            message = f"{exc.message}; it last said:\n{self.tail()}"
            raise DeviceError(message, remedy=f"see {self.log}") from exc

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
        readable = self._wait([port.descriptor] if port.descriptor is not None else [])
        # People first: what they typed before the board said login: was typed too early.
        now = time.monotonic()
        if now >= self._next_look or any(seat.descriptor in readable for seat in self._taken):
            self._next_look = now + _LOOK_S
            self._look_at_seats(readable)
        if (port.descriptor is None or port.descriptor in readable) and (data := port.read()):
            self._take(data)

    def _wait(self, descriptors: Sequence[int]) -> set[int]:
        """Descriptors to read; returns at once when there are none of a port's (its read waits itself)."""
        poll = select.poll()
        for descriptor in (*descriptors, self._wake_read):
            poll.register(descriptor, select.POLLIN)
        for seat in self._taken:
            poll.register(seat.descriptor, select.POLLIN | (select.POLLOUT if seat.waiting else 0))
        return {descriptor for descriptor, _ in poll.poll(_LOOK_S * 1000 if descriptors else 0)}

    def _take(self, data: bytes) -> None:
        now = time.time()
        if now - self._indexed_at >= _INDEX_STEP_S or now < self._indexed_at:
            self._index.write(f"{self._end} {now:.3f}\n")
            self._indexed_at = now
        left = memoryview(data)
        while left:
            written = self._file.write(left)
            self._end += written
            left = left[written:]
        self._line_log.feed(data)
        for seat in self._taken:
            seat.offer(data)
        for sighting in self._stages.feed(data, now):
            self._notice(sighting)
        self._tell_who_sits_here()

    def _notice(self, sighting: Sighting) -> None:
        if sighting.stage is Stage.LOGIN:
            self._sender.open = True
            self._told.clear()
        elif sighting.stage in SILENCING:
            self._sender.open = False
        self._seen.append(Seen(self._end, sighting))
        self._sink.emit(
            ConsoleStage(
                self.board, sighting.stage.value, tuple(sighting.groups), sighting.bad, sighting.mended
            )
        )

    def _look_at_seats(self, readable: set[int]) -> None:
        if (told := self._way.changed()) is not None:  # by another process, which drives the board
            self._sender.open = told
        self._tell_who_sits_here()
        for seat in self._seats:
            if not seat.taken():
                # A terminal that nobody has open always reports a hang-up: it must not be waited on.
                seat.forget()
                self._taken.discard(seat)
                continue
            self._taken.add(seat)
            if seat.descriptor in readable:
                seat.flush()
                if typed := seat.typed():
                    self._typed(seat, typed)

    def _tell_who_sits_here(self) -> None:
        if (why := self._why_deaf()) != self._deaf:
            self._deaf = why
            say_deaf(self.log, why)

    def _why_deaf(self) -> str:
        if self._sender.open:
            return ""
        if self._serial is None:
            return f"no key reaches {self.board}: {self._gone}"
        return f"{self.board} gets no keys before login: was seen"

    def _typed(self, seat: Seat, data: bytes) -> None:
        if self._sender.open:
            self._sender.post(data)
        elif seat not in self._told:
            self._told.add(seat)
            seat.offer(f"\r\n[{self._why_deaf()}]\r\n".encode())

    def _reopen(self) -> None:
        self._look_at_seats(self._wait([]))
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
        self._serial, self._gone, self._sender.open = None, exc.message, False
        if port:
            port.close()
        self._sink.emit(ConsolePort(self.board, self.port, "gone", exc.message))
