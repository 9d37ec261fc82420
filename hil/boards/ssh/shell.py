"""Shell and files of a machine over SSH (paramiko), from a given network namespace, with a pinned host key."""

from __future__ import annotations

import logging
import select
import shlex
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hil.boards.protocol import Completed
from hil.boards.ssh.login import LOGIN_S, PACKET, PORT, WINDOW, Target, WrongHostKeyError, log_in, sudo_failed

if TYPE_CHECKING:
    import paramiko

_log = logging.getLogger(__name__)

__all__ = ["PORT", "SshShell", "Target", "WrongHostKeyError"]

BLOCK = 1 << 20
SFTP_SERVER = "/usr/lib/openssh/sftp-server"
"""Where Debian and Ubuntu have it; asked for by path only when it must run under sudo."""


class SshShell:
    """``hil.boards.protocol.Shell``: one SSH connection, one channel per command.

    Every method raises :meth:`Target.error` (DeviceError for a machine under test) when the connection breaks.
    """

    def __init__(self, target: Target, *, connect_timeout_s: float = LOGIN_S) -> None:
        """Connect and log in; raises what :func:`log_in` raises."""
        self.target = target
        self._connection = log_in(target, connect_timeout_s)
        self._transport = self._connection.transport
        self._sftp: paramiko.SFTPClient | None = None
        self._sftp_lock = threading.Lock()

    def run(self, argv: Sequence[str], *, timeout_s: float = 30.0, stdin: bytes = b"", check: bool = True) -> Completed:
        """Run one command as root; raises also on a non-zero exit when ``check``, and after ``timeout_s``."""
        command = shlex.join(argv)
        deadline = time.monotonic() + timeout_s
        with self._errors(f"`{command}`", timeout_s):
            channel = self._execute(command, timeout_s)
            try:
                out, err = _communicate(channel, stdin, deadline)
                code = channel.recv_exit_status()
            finally:
                channel.close()
        done = Completed(tuple(argv), code, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"))
        name, said = self.target.name, f", stderr {done.stderr[-200:]!r}" if done.stderr else ""
        _log.debug("%s: exit code %d, %d bytes%s", name, code, len(out), said)
        if code != 0 and (refused := sudo_failed(self.target, done.stderr)):
            raise refused
        if check and code != 0:
            tail = "\n".join((done.stderr or done.stdout).strip().splitlines()[-5:])
            raise self.target.error(f"`{command}` ended with {code}: {tail}")
        return done

    def start(self, argv: Sequence[str], *, timeout_s: float = 30.0) -> paramiko.Channel:
        """Start a command as root and return the channel of its stdin, stdout and stderr; the caller closes it."""
        command = shlex.join(argv)
        with self._errors(f"`{command}`", timeout_s):
            return self._execute(command, timeout_s)

    def _execute(self, command: str, timeout_s: float) -> paramiko.Channel:
        channel = self._transport.open_session(window_size=WINDOW, timeout=timeout_s)
        try:
            channel.settimeout(max(0.1, timeout_s))
            order = command if self.target.user == "root" else f"sudo -n -- {command}"
            _log.debug("%s: ssh %.500r", self.target.name, order)
            channel.exec_command(order)
        except BaseException:
            channel.close()
            raise
        return channel

    @contextmanager
    def _errors(self, what: str, timeout_s: float) -> Iterator[None]:
        import paramiko

        try:
            yield
        except TimeoutError as exc:
            raise self.target.error(f"{what} did not end within {timeout_s:g} s") from exc
        except (paramiko.SSHException, OSError, EOFError) as exc:
            raise self.target.error(f"the connection broke during {what}: {exc!r}") from exc

    def push(self, local: Path, remote: str) -> None:
        with self._files(f"write {remote}") as sftp:
            sftp.put(str(local), remote)

    def pull(self, remote: str, local: Path) -> None:
        with self._files(f"read {remote}") as sftp:
            sftp.get(remote, str(local))

    def read(self, remote: str) -> bytes:
        with self._files(f"read {remote}") as sftp, sftp.open(remote, "rb") as file:
            return bytes(file.read())

    def write(self, remote: str, content: bytes) -> None:
        with self._files(f"write {remote}") as sftp, sftp.open(remote, "wb") as file:
            file.set_pipelined(True)
            file.write(content)

    def file_size(self, remote: str) -> int:
        """Return the bytes of a file on the board; -1 when it is not there."""
        with self._files(f"look at {remote}") as sftp:
            try:
                return int(sftp.stat(remote).st_size or 0)
            except FileNotFoundError:
                return -1

    def send_from(self, local: Path, remote: str, offset: int) -> Iterator[int]:
        """Write ``local`` from ``offset`` on into ``remote``, which keeps what it has before; yields bytes there."""
        with (
            self._files(f"write {remote}") as sftp,
            local.open("rb") as source,
            sftp.open(remote, "r+b" if offset else "wb") as file,
        ):
            file.set_pipelined(True)
            file.seek(offset)
            source.seek(offset)
            while block := source.read(BLOCK):
                file.write(block)
                offset += len(block)
                yield offset

    def receive_from(self, remote: str, local: Path, offset: int) -> Iterator[int]:
        """Read ``remote`` from ``offset`` on onto the end of ``local``, cut to ``offset`` first; yields bytes here."""
        with self._files(f"read {remote}") as sftp, sftp.open(remote, "rb") as file:
            file.seek(offset)
            file.prefetch()
            with local.open("r+b" if offset else "wb") as sink:
                sink.truncate(offset)
                sink.seek(offset)
                while block := file.read(BLOCK):
                    sink.write(block)
                    offset += len(block)
                    yield offset

    def alive(self) -> bool:
        """Return whether the connection still stands, as far as this side knows."""
        return bool(self._transport.is_active())

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> SshShell:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _open_sftp(self) -> paramiko.SFTPClient:
        import paramiko

        channel = self._transport.open_session(window_size=WINDOW, max_packet_size=PACKET)
        if self.target.user == "root":
            channel.invoke_subsystem("sftp")
        else:
            channel.exec_command(f"sudo -n -- {SFTP_SERVER}")
        return paramiko.SFTPClient(channel)

    @contextmanager
    def _files(self, what: str) -> Iterator[paramiko.SFTPClient]:
        """Open the SFTP channel of this connection for one file operation at a time."""
        import paramiko

        _log.debug("%s: sftp: %s", self.target.name, what)
        with self._sftp_lock:
            try:
                if self._sftp is None:
                    self._sftp = self._open_sftp()
                yield self._sftp
            except (paramiko.SSHException, OSError, EOFError) as exc:
                raise self.target.error(f"cannot {what}: {exc}") from exc


def _communicate(channel: paramiko.Channel, stdin: bytes, deadline: float) -> tuple[bytes, bytes]:
    """Send stdin and collect both outputs until the command ends. TimeoutError at the deadline."""
    out, err = bytearray(), bytearray()
    pending = memoryview(stdin)
    if not pending:
        channel.shutdown_write()
    poll = select.poll()
    poll.register(channel.fileno(), select.POLLIN)
    while True:
        progressed = False
        if pending and channel.send_ready():
            sent = channel.send(bytes(pending[:PACKET]))
            pending = pending[sent:]
            progressed = True
            if not pending:
                channel.shutdown_write()
        while channel.recv_ready():
            out += channel.recv(PACKET)
            progressed = True
        while channel.recv_stderr_ready():
            err += channel.recv_stderr(PACKET)
            progressed = True
        if channel.exit_status_ready() and channel.eof_received and not progressed:
            break
        if channel.closed and not progressed:
            break
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        if not progressed:
            poll.poll(min(left, 0.02 if pending or channel.exit_status_ready() else 0.2) * 1000)
    return bytes(out), bytes(err)
