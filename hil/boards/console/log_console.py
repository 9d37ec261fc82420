"""A board's console as any process has it: its log to read, its terminal to type into."""

from __future__ import annotations

import codecs
import os
import re
import termios
import tty
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from hil.boards.console.boot_stages import ESCAPE, EscapeStripper
from hil.boards.console.mute import MuteFlag, why_muted
from hil.core.wait import SYSTEM_CLOCK, Clock, poll_until, wait_until
from hil.errors import BenchError, DeviceError

_EVERY_S = 0.02
TEXT_MAX = 16 << 20
"""Bytes of a console that are read at once; a board may say anything, for ever."""
MATCH_MAX = 4096
"""The longest match that is surely found, characters."""


@dataclass(frozen=True)
class ConsoleLine:
    """Where one board's console is. Plain paths, so that any process on this host can use them."""

    board_tty: str  # bind-mounted into the container as /dev/ttyTCU0; empty for a real board
    url: str  # what pyserial opens
    log: Path


def plain(raw: bytes) -> str:
    """Return console output without escape sequences and carriage returns."""
    return ESCAPE.sub(b"", raw).replace(b"\r", b"").decode("utf-8", "replace")


class LogConsole:
    """``hil.boards.protocol.Console`` on the log and the terminal of the process that owns the console."""

    def __init__(self, url: str, log: Path, clock: Clock = SYSTEM_CLOCK) -> None:
        """Follow ``log``, which may be made later, and type into the terminal ``url``."""
        self._url = url
        self._log = log
        self._clock = clock
        self._mute_flag = MuteFlag(log)
        self._expected: LogSearch | None = None

    @property
    def url(self) -> str:
        return self._url

    @property
    def log(self) -> Path:
        return self._log

    def size(self) -> int:
        try:
            return self._log.stat().st_size
        except FileNotFoundError:
            return 0

    def text(self, since: int = 0) -> str:
        """Return what came from the board since that byte offset, without escape sequences and carriage returns.

        Of more than ``TEXT_MAX`` bytes the last ones.
        """
        try:
            with self._log.open("rb") as file:
                file.seek(max(since, self.size() - TEXT_MAX))
                return plain(file.read(TEXT_MAX))
        except FileNotFoundError:
            return ""

    def tail(self, lines: int = 8) -> str:
        end = self.text(max(0, self.size() - 4096)).strip().splitlines()[-lines:]
        return "\n".join(f"    {line}" for line in end) or "    (nothing)"

    def wait_for(self, pattern: str, *, deadline_s: float, since: int = 0) -> str:
        """Wait until the log, from byte offset ``since``, matches the regex; return the matched text.

        A match may be 4096 characters long.  DeviceError at the deadline, with the last lines of the console.
        """
        with closing(LogSearch(self._log, since)) as search:
            return self._wait(search, pattern, deadline_s).group(0)

    def write(self, data: bytes, *, deadline_s: float = 5.0) -> None:
        """Type ``data``; return once the console's owner has room for it.

        BenchError when keys are muted (the board's firmware runs), when there is no console, and at the deadline.
        """
        if why := why_muted(self._log):
            raise BenchError(f"console {self._url}: {why}", remedy="wait until the board has booted")
        try:
            terminal = os.open(self._url, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as exc:
            raise BenchError(f"console {self._url}: {exc.strerror}", remedy="is the bench up?") from exc
        try:
            tty.setraw(terminal, termios.TCSANOW)
            for _ in poll_until(deadline_s, every_s=_EVERY_S, clock=self._clock):
                with suppress(BlockingIOError):
                    data = data[os.write(terminal, data) :]
                if not data:
                    return
        except OSError as exc:
            raise BenchError(f"console {self._url} is gone: {exc.strerror}", remedy="is the bench up?") from exc
        finally:
            os.close(terminal)
        raise BenchError(
            f"console {self._url}: {len(data)} bytes did not leave within {deadline_s:g} s",
            remedy="does the bench's keeper still run? `hil bench status`",
        )

    def sendline(self, text: str, *, deadline_s: float = 5.0) -> None:
        """Type a line; :meth:`expect` then looks at what comes from here on. Raises what :meth:`write` raises."""
        self._expect_from_here()
        self.write(text.encode() + b"\n", deadline_s=deadline_s)

    def expect(self, pattern: str, *, deadline_s: float) -> str:
        """Wait until what came since the last ``sendline`` or ``expect`` matches the regex; return the matched text.

        The next call looks behind the match.  DeviceError at the deadline, with what was waited for and the last
        lines of the console.
        """
        search = self._expected or self._expect_from_here()
        match = self._wait(search, pattern, deadline_s)
        search.take(match)
        return match.group(0)

    def silence(self) -> None:
        """Mute the console until ``login:`` comes again: the board is about to be reset."""
        self._mute_flag.set(False)

    def release(self) -> None:
        """Open the console without a ``login:``: the board is known to run its OS, it answered over SSH."""
        self._mute_flag.set(True)

    def close(self) -> None:
        """Close the log. Idempotent."""
        if self._expected:
            self._expected.close()

    def _expect_from_here(self) -> LogSearch:
        if self._expected:
            self._expected.close()
        self._expected = LogSearch(self._log, self.size())
        return self._expected

    def _wait(self, search: LogSearch, pattern: str, deadline_s: float) -> re.Match[str]:
        wanted = re.compile(pattern, re.MULTILINE)
        with self._blamed():
            return wait_until(
                lambda: search.search(wanted),
                what=f"{pattern!r} on the console",
                deadline_s=deadline_s,
                every_s=_EVERY_S,
                error=DeviceError,
                clock=self._clock,
            )

    @contextmanager
    def _blamed(self) -> Iterator[None]:
        """Put the console's last lines behind an error of the board."""
        try:
            yield
        except DeviceError as exc:
            message = f"{exc.message}; it last said:\n{self.tail()}"
            raise DeviceError(message, remedy=f"see {self._log}") from exc


class LogSearch:
    """The text of a log behind an offset, without escape sequences, read as it grows."""

    def __init__(self, log: Path, since: int) -> None:
        self._log = log
        self._since = since
        self._file: BinaryIO | None = None  # opened when the log is there
        self._escapes = EscapeStripper()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._text = ""
        self._start = 0  # a match begins here or later; one character before it says whether a line begins
        self._wanted = ""

    def search(self, wanted: re.Pattern[str]) -> re.Match[str] | None:
        """Return a match that the new text may have completed; None when there is none yet."""
        fresh = self._read()
        if not fresh and wanted.pattern == self._wanted:
            return None
        self._wanted = wanted.pattern
        match = wanted.search(self._text + fresh, self._start)
        self._text += fresh
        if not match and len(self._text) > MATCH_MAX + 1:
            self._text, self._start = self._text[-MATCH_MAX - 1 :], 1
        return match

    def take(self, match: re.Match[str]) -> None:
        """Search only behind this match from now on."""
        if match.end():
            self._text, self._start = self._text[match.end() - 1 :], 1
        self._wanted = ""

    def _read(self) -> str:
        if self._file is None:
            try:
                self._file = self._log.open("rb")
            except FileNotFoundError:
                return ""
            self._file.seek(self._since)
        return self._decoder.decode(self._escapes.strip(self._file.read(TEXT_MAX)).replace(b"\r", b""))

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
