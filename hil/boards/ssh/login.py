"""The way in over SSH: a connection from a given namespace, host keys pinned, over a jump host where there is one."""

from __future__ import annotations

import base64
import contextlib
import logging
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hil.core.netns import connect
from hil.errors import BenchError, ConfigurationError, DeviceError, HilError

if TYPE_CHECKING:
    import paramiko

PORT = 22
LOG_CHANNEL = "hil.ssh"
WINDOW = 32 * 1024 * 1024
PACKET = 256 * 1024
KEEPALIVE_S = 15
_CIPHERS = ("aes128-gcm@openssh.com", "aes128-ctr")
_UNREACHABLE = "is the bench up, and is the link to this board up?"


@dataclass(frozen=True)
class Jump:
    """A host that the way to the board leads through; logged in to as to the board."""

    address: str
    user: str
    host_key: str
    port: int = PORT


@dataclass(frozen=True)
class Target:
    """Whom to talk to, from where, and how to know it is the right one."""

    board: str
    namespace: str
    address: str
    key: Path | None  # private key; None: only what the SSH agent offers
    host_key: str  # "ssh-ed25519 AAAA..."
    port: int = PORT
    user: str = "root"  # anybody else gets root through sudo
    jump: Jump | None = None


class WrongHostKeyError(DeviceError):
    """Somebody else than the board answers. Nothing was sent to it."""


class Connection:
    """A transport that is logged in, and the one to the jump host under it."""

    def __init__(self, transport: paramiko.Transport, under: paramiko.Transport | None = None) -> None:
        self.transport = transport
        self._under = under

    def close(self) -> None:
        self.transport.close()
        if self._under is not None:
            self._under.close()


def log_in(target: Target, timeout_s: float) -> Connection:
    """Connect and log in.

    BenchError when there is no route or the jump host is at fault; DeviceError when nothing answers or the login
    fails; WrongHostKeyError when the host key is not the pinned one.  Every step has ``timeout_s``.
    """
    if target.jump is None:
        sock = _dial(target, target.address, target.port, timeout_s)
        return Connection(_session(target, sock, target.user, target.host_key, target.address, timeout_s))
    under = _to_jump(target, target.jump, timeout_s)
    try:
        channel = _through(target, target.jump, under, timeout_s)
        there = f"{target.address} (through {target.jump.address})"
        return Connection(_session(target, channel, target.user, target.host_key, there, timeout_s), under)
    except BaseException:
        under.close()
        raise


def _dial(target: Target, address: str, port: int, timeout_s: float) -> socket.socket:
    try:
        return connect(target.namespace, (address, port), timeout_s=timeout_s)
    except (ConnectionRefusedError, ConnectionResetError, TimeoutError) as exc:
        raise DeviceError(f"{target.board}: no answer from sshd at {address}: {exc}") from exc
    except OSError as exc:
        here = target.namespace or "this machine"
        raise BenchError(
            f"{target.board}: no way from {here} to {address}: {exc}", remedy=_UNREACHABLE
        ) from exc


def _to_jump(target: Target, jump: Jump, timeout_s: float) -> paramiko.Transport:
    try:
        sock = _dial(target, jump.address, jump.port, timeout_s)
        return _session(target, sock, jump.user, jump.host_key, jump.address, timeout_s)
    except DeviceError as exc:  # the jump host is not the device under test
        raise BenchError(
            f"jump host {jump.address}: {exc.message}",
            remedy=exc.remedy or "is it up, and does it know this key?",
        ) from exc


def _through(target: Target, jump: Jump, under: paramiko.Transport, timeout_s: float) -> paramiko.Channel:
    import paramiko

    try:
        return under.open_channel(
            "direct-tcpip",
            (target.address, target.port),
            ("127.0.0.1", 0),
            window_size=WINDOW,
            max_packet_size=PACKET,
            timeout=timeout_s,
        )
    except paramiko.ChannelException as exc:
        if exc.code == 1:  # administratively prohibited
            raise BenchError(
                f"jump host {jump.address} forbids the way to {target.address}:{target.port}",
                remedy="set AllowTcpForwarding (and PermitOpen) in its sshd_config",
            ) from exc
        raise DeviceError(f"{target.board}: no answer from sshd at {target.address}: {exc.text}") from exc
    except (paramiko.SSHException, OSError, EOFError) as exc:
        raise DeviceError(
            f"{target.board}: no answer through jump host {jump.address} within {timeout_s:g} s: {exc!r}"
        ) from exc


def _session(
    target: Target,
    sock: socket.socket | paramiko.Channel,
    user: str,
    host_key: str,
    where: str,
    timeout_s: float,
) -> paramiko.Transport:
    import paramiko

    transport: paramiko.Transport | None = None
    try:
        sock.settimeout(None)
        transport = paramiko.Transport(sock, default_window_size=WINDOW, default_max_packet_size=PACKET)
        # What goes wrong is raised here with its context; paramiko's own logging would print a second traceback.
        if not (logger := logging.getLogger(LOG_CHANNEL)).handlers:
            logger.addHandler(logging.NullHandler())
        transport.set_log_channel(LOG_CHANNEL)
        transport.banner_timeout = transport.auth_timeout = transport.handshake_timeout = timeout_s
        options = transport.get_security_options()
        options.ciphers = [name for name in _CIPHERS if name in options.ciphers]
        options.key_types = [host_key.split()[0]]
        transport.start_client(timeout=timeout_s)
        _check_host_key(target.board, host_key, where, transport)
        _authenticate(target, user, transport)
        transport.set_keepalive(KEEPALIVE_S)
    except BaseException as exc:
        if transport is not None:
            transport.close()
        sock.close()
        if isinstance(exc, paramiko.ssh_exception.IncompatiblePeer):
            raise WrongHostKeyError(
                f"{target.board}: what answers at {where} has no host key of the pinned type: {exc}",
                remedy="is this address another machine's?",
            ) from exc
        if isinstance(exc, paramiko.SSHException | OSError | EOFError):
            raise DeviceError(f"{target.board}: no SSH session: {exc!r}") from exc
        raise
    return transport


def _check_host_key(board: str, host_key: str, where: str, transport: paramiko.Transport) -> None:
    offered = transport.get_remote_server_key()
    kind, pinned = host_key.split()[:2]
    if offered.get_name() != kind or offered.asbytes() != base64.b64decode(pinned):
        raise WrongHostKeyError(
            f"{board}: another host key than the pinned one answers at {where}",
            remedy="is this address another board's? After a flash, or with a new data partition, pin the new key",
        )


def _authenticate(target: Target, user: str, transport: paramiko.Transport) -> None:
    import paramiko

    if target.key is not None:
        transport.auth_publickey(user, _private_key(target.key))
        return
    agent = paramiko.Agent()
    try:
        keys = agent.get_keys()
        if not keys:
            raise ConfigurationError(
                f"{target.board}: the lab file says to log in with the SSH agent, which offers no key",
                remedy="ssh-add the key, and see that SSH_AUTH_SOCK reaches this program",
            )
        for key in keys:
            with contextlib.suppress(paramiko.AuthenticationException):
                transport.auth_publickey(user, key)
                return
    finally:
        agent.close()
    raise DeviceError(
        f"{target.board}: none of the {len(keys)} keys of the SSH agent lets {user} in",
        remedy=f"put the public key into ~{user}/.ssh/authorized_keys on the board",
    )


def _private_key(path: Path) -> paramiko.PKey:
    import paramiko

    try:
        return paramiko.PKey.from_path(path.expanduser())
    except (OSError, ValueError, TypeError, paramiko.SSHException) as exc:
        raise ConfigurationError(
            f"{path}: cannot be used as a private key: {exc}",
            remedy="it must be readable by you and have no passphrase; keys with one belong into the SSH agent",
        ) from exc


def sudo_failed(board: str, user: str, stderr: str) -> HilError | None:
    """The error behind sudo's own words; None when it is not sudo that failed."""
    if "sudo: " in stderr and ("password is required" in stderr or "not allowed" in stderr):
        return ConfigurationError(
            f"{board}: {user} is not root and sudo wants a password",
            remedy=f"on the board: echo '{user} ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/testbed",
        )
    return None
