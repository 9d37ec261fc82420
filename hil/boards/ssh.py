"""Shell and files of a board over SSH (paramiko), from a given network namespace, with a pinned host key."""

from __future__ import annotations

import base64
import logging
import select
import shlex
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hil.boards.protocol import Completed
from hil.errors import BenchError, DeviceError
from hil.netns import connect

if TYPE_CHECKING:
    import paramiko

PORT = 22
LOG_CHANNEL = "hil.ssh"
_WINDOW = 32 * 1024 * 1024
_PACKET = 256 * 1024
_CIPHERS = ("aes128-gcm@openssh.com", "aes128-ctr")
_UNREACHABLE = "is the bench up, and is the link to this board up?"


@dataclass(frozen=True)
class Target:
    """Whom to talk to, from where, and how to know it is the right one."""

    board: str
    namespace: str
    address: str
    key: Path
    host_key: str  # "ssh-ed25519 AAAA..."


class SshShell:
    """``hil.boards.protocol.Shell``: one SSH connection, one channel per command."""

    def __init__(self, target: Target, *, connect_timeout_s: float = 5.0) -> None:
        """Connect and log in as root.

        BenchError when there is no route; DeviceError when nothing answers, the login fails or the host key is not
        the pinned one.
        """
        self.target = target
        self._transport = _open(target, connect_timeout_s)
        self._sftp: paramiko.SFTPClient | None = None
        self._sftp_lock = threading.Lock()

    def run(
        self, argv: Sequence[str], *, timeout_s: float = 30.0, stdin: bytes = b"", check: bool = True
    ) -> Completed:
        """Run one command as root; DeviceError on a non-zero exit when ``check``, and after ``timeout_s``."""
        import paramiko

        command = shlex.join(argv)
        deadline = time.monotonic() + timeout_s
        try:
            channel = self._transport.open_session(window_size=_WINDOW, timeout=timeout_s)
            try:
                channel.settimeout(max(0.1, timeout_s))
                channel.exec_command(command)
                out, err = _communicate(channel, stdin, deadline)
                code = channel.recv_exit_status()
            finally:
                channel.close()
        except TimeoutError as exc:
            raise DeviceError(f"{self.target.board}: `{command}` did not end within {timeout_s:g} s") from exc
        except (paramiko.SSHException, OSError, EOFError) as exc:
            raise DeviceError(
                f"{self.target.board}: the connection broke during `{command}`: {exc!r}"
            ) from exc
        done = Completed(tuple(argv), code, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"))
        if check and code != 0:
            tail = "\n".join((done.stderr or done.stdout).strip().splitlines()[-5:])
            raise DeviceError(f"{self.target.board}: `{command}` ended with {code}: {tail}")
        return done

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

    def alive(self) -> bool:
        """Whether the connection still stands, as far as this side knows."""
        return bool(self._transport.is_active())

    def close(self) -> None:
        self._transport.close()

    def __enter__(self) -> SshShell:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @contextmanager
    def _files(self, what: str) -> Iterator[paramiko.SFTPClient]:
        """The SFTP channel of this connection; one file operation at a time."""
        import paramiko

        with self._sftp_lock:
            try:
                if self._sftp is None:
                    self._sftp = paramiko.SFTPClient.from_transport(
                        self._transport, window_size=_WINDOW, max_packet_size=_PACKET
                    )
                if self._sftp is None:
                    raise DeviceError(f"{self.target.board}: no SFTP")
                yield self._sftp
            except (paramiko.SSHException, OSError, EOFError) as exc:
                raise DeviceError(f"{self.target.board}: cannot {what}: {exc}") from exc


def _open(target: Target, timeout_s: float) -> paramiko.Transport:
    import paramiko

    try:
        sock = connect(target.namespace, (target.address, PORT), timeout_s=timeout_s)
    except (ConnectionRefusedError, ConnectionResetError, TimeoutError) as exc:
        raise DeviceError(f"{target.board}: no answer from sshd at {target.address}: {exc}") from exc
    except OSError as exc:
        raise BenchError(
            f"{target.board}: no way from {target.namespace} to {target.address}: {exc}", remedy=_UNREACHABLE
        ) from exc
    transport: paramiko.Transport | None = None
    try:
        sock.settimeout(None)
        transport = paramiko.Transport(sock, default_window_size=_WINDOW, default_max_packet_size=_PACKET)
        # What goes wrong is raised here with its context; paramiko's own logging would print a second traceback.
        if not (logger := logging.getLogger(LOG_CHANNEL)).handlers:
            logger.addHandler(logging.NullHandler())
        transport.set_log_channel(LOG_CHANNEL)
        transport.banner_timeout = transport.auth_timeout = transport.handshake_timeout = timeout_s
        options = transport.get_security_options()
        options.ciphers = [name for name in _CIPHERS if name in options.ciphers]
        options.key_types = [target.host_key.split()[0]]
        transport.start_client(timeout=timeout_s)
        _check_host_key(target, transport)
        transport.auth_publickey("root", paramiko.Ed25519Key.from_private_key_file(str(target.key)))
        transport.set_keepalive(15)
    except BaseException as exc:
        if transport is not None:
            transport.close()
        sock.close()
        if isinstance(exc, paramiko.SSHException | OSError | EOFError):
            raise DeviceError(f"{target.board}: no SSH session: {exc!r}") from exc
        raise
    return transport


def _check_host_key(target: Target, transport: paramiko.Transport) -> None:
    offered = transport.get_remote_server_key()
    kind, pinned = target.host_key.split()[:2]
    if offered.get_name() != kind or offered.asbytes() != base64.b64decode(pinned):
        raise DeviceError(
            f"{target.board}: another host key than the pinned one answers at {target.address}",
            remedy="is this address another board's, or was the board's data partition replaced?",
        )


def _communicate(channel: paramiko.Channel, stdin: bytes, deadline: float) -> tuple[bytes, bytes]:
    """Feed stdin and collect both outputs until the command ends. TimeoutError at the deadline."""
    out, err = bytearray(), bytearray()
    pending = memoryview(stdin)
    if not pending:
        channel.shutdown_write()
    poll = select.poll()
    poll.register(channel.fileno(), select.POLLIN)
    while True:
        progressed = False
        if pending and channel.send_ready():
            sent = channel.send(bytes(pending[:_PACKET]))
            pending = pending[sent:]
            progressed = True
            if not pending:
                channel.shutdown_write()
        while channel.recv_ready():
            out += channel.recv(_PACKET)
            progressed = True
        while channel.recv_stderr_ready():
            err += channel.recv_stderr(_PACKET)
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
