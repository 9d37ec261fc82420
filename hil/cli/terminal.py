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
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from hil import netns
from hil.boards.protocol import Via
from hil.errors import BenchError, ConfigurationError

if TYPE_CHECKING:
    from hil.boards.protocol import Board
    from hil.boards.ssh import Target

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


@runtime_checkable
class Reached(Protocol):
    """A board that says how an SSH client gets to it."""

    def target(self, via: Via = ...) -> Target: ...


def ssh(board: Board, via: Via) -> int:
    """An interactive shell with the host's OpenSSH client, from inside the namespace that reaches the board.

    ConfigurationError when there is no client; else its exit code.
    """
    if not isinstance(board, Reached):
        raise ConfigurationError(f"board {board.name} has no way in for an SSH client")
    target = board.target(via)
    with tempfile.TemporaryDirectory(prefix="hil-ssh-") as directory:
        argv = ssh_argv(target, Path(directory))
        try:
            return subprocess.run(netns.argv_inside(target.namespace, argv)).returncode
        except FileNotFoundError as exc:
            raise ConfigurationError(
                f"{exc.filename} is not installed",
                remedy="`hil setup` installs openssh-client and util-linux",
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


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
