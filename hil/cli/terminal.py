"""Consoles and shells in the user's terminal."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import tempfile
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hil import netns
from hil.boards.protocol import Via
from hil.errors import BenchError, ConfigurationError

if TYPE_CHECKING:
    from hil.boards.protocol import Board

ESCAPE = b"\x1d"
"""Ctrl-], as telnet and virsh have it."""
CHUNK = 4096


def interact(url: str, stdin: int | None = None, stdout: int | None = None, *, greeting: str = "") -> None:
    """Join the terminal and a serial port until Ctrl-] or until the port is gone.

    ``greeting`` is shown once everything typed reaches the port.  BenchError when the port cannot be opened or breaks.
    """
    import serial

    stdin = sys.stdin.fileno() if stdin is None else stdin
    stdout = sys.stdout.fileno() if stdout is None else stdout
    try:
        port = serial.serial_for_url(url, baudrate=115200, timeout=0, exclusive=False)
    except (serial.SerialException, ValueError) as exc:
        raise BenchError(f"console {url}: {exc}", remedy="is the bench still up? `hil bench status`") from exc
    with port, raw(stdin):
        _write_all(stdout, greeting.encode())
        while True:
            ready, _, _ = select.select([stdin, port.fileno()], [], [])
            try:
                if port.fileno() in ready and (said := port.read(CHUNK)):
                    _write_all(stdout, said)
                if stdin in ready:
                    typed = os.read(stdin, CHUNK)
                    before, escaped, _ = typed.partition(ESCAPE)
                    port.write(before)
                    if escaped or not typed:
                        return
            except (serial.SerialException, OSError) as exc:
                raise BenchError(
                    f"console {url} is gone: {exc}", remedy="is the bench still up? `hil bench status`"
                ) from exc


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


def print_log(log: Path, *, follow: bool, every_s: float = 0.1) -> None:
    """A console's log to stdout; ``follow`` goes on until Ctrl-C or until the file is gone."""
    stdout = sys.stdout.fileno()
    try:
        stream = log.open("rb")
    except OSError as exc:
        raise BenchError(f"console log {log}: {exc.strerror}", remedy="`hil bench status`") from exc
    with stream:
        while True:
            while part := stream.read(65536):
                _write_all(stdout, part)
            if not follow or not log.exists():
                return
            time.sleep(every_s)


def ssh(board: Board, via: Via) -> int:
    """An interactive shell with the host's OpenSSH client, from inside the namespace that reaches the board.

    ConfigurationError when there is no client; else its exit code.
    """
    namespace, address = board.address(via)
    with tempfile.TemporaryDirectory(prefix="hil-ssh-") as directory:
        argv = ssh_argv(board, address, Path(directory))
        try:
            return subprocess.run(netns.argv_inside(namespace, argv)).returncode
        except FileNotFoundError as exc:
            raise ConfigurationError(
                f"{exc.filename} is not installed",
                remedy="`hil setup` installs openssh-client and util-linux",
            ) from exc


def ssh_argv(board: Board, address: str, directory: Path) -> list[str]:
    """Command line of a client that trusts this board's own key and nothing else."""
    from hil.twin.pki import ensure_pki

    pki = ensure_pki()
    known = directory / "known_hosts"
    known.write_text(f"{address} {pki.host_key(board.name).public_line}\n", encoding="ascii")
    options = {
        "UserKnownHostsFile": known,
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "IdentitiesOnly": "yes",
        "PasswordAuthentication": "no",
        "ConnectTimeout": 10,
        "ServerAliveInterval": 5,
        "LogLevel": "ERROR",
    }
    flags = [text for key, value in options.items() for text in ("-o", f"{key}={value}")]
    return ["ssh", "-F", "/dev/null", "-i", str(pki.ssh_key), *flags, "-t", f"root@{address}"]


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
