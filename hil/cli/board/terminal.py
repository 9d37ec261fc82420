"""Consoles, their logs and shells in the user's terminal."""

from __future__ import annotations

import fcntl
import os
import select
import subprocess
import sys
import tempfile
import termios
import time
import tty
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from hil.boards.console.boot_stages import ESCAPE as ESCAPE_SEQUENCE
from hil.boards.console.mute import why_muted
from hil.boards.protocol import Via
from hil.core import netns
from hil.errors import BenchError, ConfigurationError

if TYPE_CHECKING:
    from hil.boards.protocol import Board
    from hil.boards.ssh.shell import Target

ESCAPE = b"\x1d"
"""Ctrl-], as telnet and virsh have it."""
CHUNK = 4096
IS_IT_UP = "is the bench still up? `hil bench status`"
_LOG_CHUNK = 65536
_LOOK_MS = 20  # how soon new text is shown
_REPLAY_LINES, _REPLAY_B = 8, 2000
_UNREAD_B = 3000  # of the 4096 that a pseudo-terminal holds
_NOTED_S = 0.1


def interact(url: str, log: Path, stdin: int | None = None, stdout: int | None = None, *, greeting: str = "") -> None:
    """Connect the terminal to a board's console until Ctrl-] or until the console is gone.

    What the board says is read from its log, so any number of people see every byte; what is typed goes to the
    pseudo-terminal at ``url``.  The last lines of the log come first, then ``greeting``: from then on keys count.
    BenchError when there is no such console, or when it goes.
    """
    stdin = sys.stdin.fileno() if stdin is None else stdin
    stdout = sys.stdout.fileno() if stdout is None else stdout
    with _line(url) as line, open_log(log) as said, raw(stdin):
        write_all(stdout, _last_words(said) + greeting.encode())
        events = select.poll()
        events.register(stdin, select.POLLIN)
        events.register(line, 0)  # only its end is of interest
        shown = ""
        while True:
            ready = {descriptor for descriptor, _ in events.poll(_LOOK_MS)}
            while part := said.read(CHUNK):
                write_all(stdout, part)
            if line in ready or not log.exists():
                raise BenchError(f"console {url} is gone", remedy=IS_IT_UP)
            _leave_room(line)
            if stdin not in ready:
                continue
            typed = os.read(stdin, CHUNK)
            before, escaped, _ = typed.partition(ESCAPE)
            why = _why_not(log) if before else ""
            if before and not why:
                write_all(line, before)
            elif why and why != shown:
                write_all(stdout, f"\r\n[{why}]\r\n".encode())
            shown = why
            if escaped or not typed:
                return


def _why_not(log: Path) -> str:
    """Why keys go nowhere; a ``login:`` that is on the screen already counts, although it is noted a moment later."""
    if why_muted(log):
        time.sleep(_NOTED_S)
    return why_muted(log)


@contextmanager
def _line(url: str) -> Iterator[int]:
    """Open the pseudo-terminal to type into; it changes no byte."""
    try:
        line = os.open(url, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as exc:
        raise BenchError(f"console {url}: {exc.strerror}", remedy=IS_IT_UP) from exc
    try:
        tty.setraw(line, termios.TCSANOW)
        yield line
    except OSError as exc:
        raise BenchError(f"console {url} is gone: {exc.strerror}", remedy=IS_IT_UP) from exc
    finally:
        os.close(line)


def _last_words(said: BinaryIO) -> bytes:
    """The last lines so far, without what would move the cursor; ``said`` is then at its end."""
    size = said.seek(0, os.SEEK_END)
    said.seek(max(0, size - _REPLAY_B))
    lines = ESCAPE_SEQUENCE.sub(b"", said.read()).replace(b"\r", b"").split(b"\n")[-_REPLAY_LINES:]
    return b"\r\n".join(lines) + b"\r\n" if any(lines) else b""


def _leave_room(line: int) -> None:
    """Empty the pseudo-terminal before it is full, unless a program reads it."""
    if int.from_bytes(fcntl.ioctl(line, termios.FIONREAD, bytes(4)), sys.byteorder) > _UNREAD_B:
        termios.tcflush(line, termios.TCIFLUSH)


@contextmanager
def raw(fd: int) -> Iterator[None]:
    """The terminal in raw mode, and back as it was; nothing happens when ``fd`` is not a terminal."""
    if not os.isatty(fd):
        yield
        return
    before = termios.tcgetattr(fd)
    try:
        tty.setraw(fd)
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def ssh(board: Board, via: Via) -> int:
    """An interactive shell with the host's OpenSSH client, from inside the namespace that reaches the board.

    ConfigurationError when there is no client; else its exit code.
    """
    from hil.boards.capabilities import Reachable

    if not isinstance(board, Reachable):
        raise ConfigurationError(f"board {board.name} has no way in for an SSH client")
    target = board.target(via)
    with tempfile.TemporaryDirectory(prefix="hil-ssh-") as directory:
        argv = ssh_argv(target, Path(directory))
        try:
            return subprocess.run(netns.argv_inside(target.namespace, argv)).returncode
        except FileNotFoundError as exc:
            raise ConfigurationError(
                f"{exc.filename} is not installed", remedy="`hil setup` installs openssh-client and util-linux"
            ) from exc


def ssh_argv(target: Target, directory: Path) -> list[str]:
    """Command line of a client that trusts this board's own key (and its jump host's) and nothing else."""
    known, config = directory / "known_hosts", directory / "config"
    pinned = [("board", target.host_key)] + ([("jump", target.jump.host_key)] if target.jump else [])
    known.write_text("".join(f"{alias} {key}\n" for alias, key in pinned), encoding="ascii")
    options = {
        "UserKnownHostsFile": known,
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "PasswordAuthentication": "no",
        "ConnectTimeout": 10,
        "ServerAliveInterval": 5,
        "LogLevel": "ERROR",
    }
    if target.key is not None:
        options |= {"IdentityFile": target.key, "IdentitiesOnly": "yes"}
    hosts = [("board", target.address, target.port, target.user)]
    if target.jump:
        hosts.append(("jump", target.jump.address, target.jump.port, target.jump.user))
    lines = [
        f"Host {alias}\n  HostKeyAlias {alias}\n  HostName {address}\n  Port {port}\n  User {user}"
        for alias, address, port, user in hosts
    ]
    if target.jump:
        lines.append("Host board\n  ProxyJump jump")
    lines += ["Host *", *(f"  {key} {value}" for key, value in options.items())]
    # A file, because a jump host gets its options from there and not from the command line.
    config.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return ["ssh", "-F", str(config), "-t", "board"]


@contextmanager
def open_log(log: Path) -> Iterator[BinaryIO]:
    """BenchError when there is no such log."""
    try:
        stream = log.open("rb")
    except OSError as exc:
        raise BenchError(f"console log {log}: {exc.strerror}", remedy=IS_IT_UP) from exc
    with stream:
        yield stream


def print_log(log: Path, *, follow: bool, stamps: bool = False, every_s: float = 0.1) -> None:
    """A console's log to stdout; ``follow`` goes on until Ctrl-C or until the file is gone.

    ``stamps``: before each line, when its first byte came, from the index beside the log.
    """
    stdout = sys.stdout.fileno()
    with open_log(log) as stream:
        stamped = Stamped(log.with_suffix(".idx")) if stamps else None
        while True:
            while part := stream.read(_LOG_CHUNK):
                write_all(stdout, stamped.add(part) if stamped else part)
            if not follow or not log.exists():
                return
            time.sleep(every_s)


class Stamped:
    """Puts the time before each line of a log."""

    def __init__(self, index: Path, *, offset: int = 0) -> None:
        """``index`` has lines ``offset unix_time``: bytes from there on came then (docs/jetson.md, Log).

        ``offset``: the log is read from this byte on, where a line begins.
        """
        self._index = index
        self._read = 0
        self._offsets: list[int] = []
        self._times: list[float] = []
        self._offset = offset
        self._begins = True

    def add(self, part: bytes) -> bytes:
        """The same bytes with times between them."""
        self._catch_up()
        out = bytearray()
        for line in part.splitlines(keepends=True):
            if self._begins:
                out += self._stamp().encode()
            out += line
            self._offset += len(line)
            self._begins = line.endswith(b"\n")
        return bytes(out)

    def _stamp(self) -> str:
        place = bisect_right(self._offsets, self._offset) - 1
        if place < 0:
            return " " * 25
        return f"{datetime.fromtimestamp(self._times[place], UTC):%Y-%m-%d %H:%M:%S.%f}"[:23] + "  "

    def _catch_up(self) -> None:
        try:
            with self._index.open("rb") as file:
                file.seek(self._read)
                fresh = file.read()
        except OSError:
            return  # then no time is known
        whole = fresh[: fresh.rfind(b"\n") + 1]
        self._read += len(whole)
        for row in whole.splitlines():
            offset, when = row.split()
            self._offsets.append(int(offset))
            self._times.append(float(when))


def write_all(fd: int, data: bytes) -> None:
    """All of it, however little the other side takes at a time."""
    while data:
        data = data[os.write(fd, data) :]
