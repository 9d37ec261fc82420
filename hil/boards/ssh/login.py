"""The way in over SSH: a connection from a given namespace, host keys pinned, over a jump host where there is one."""

from __future__ import annotations

import base64
import contextlib
import logging
import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hil.core import netns
from hil.core.netns import connect
from hil.errors import BenchError, ConfigurationError, DeviceError, HilError

if TYPE_CHECKING:
    import paramiko

    from hil.lab.real_board import SshSpec

PORT = 22
LOG_CHANNEL = "paramiko.hil"
"""Not below ``hil``: paramiko notes 40 lines per connection.  ``HIL_LOG=paramiko=DEBUG`` shows them."""
WINDOW = 32 * 1024 * 1024
PACKET = 256 * 1024
KEEPALIVE_S = 15
LOGIN_S = 5.0
SHAPER_LOGIN_S = 10.0  # with a connection through a laboratory's network
_CIPHERS = ("aes128-gcm@openssh.com", "aes128-ctr")


@dataclass(frozen=True)
class Target:
    """A machine to log in to: its address, the namespace to connect from, the keys of both sides."""

    name: str
    namespace: str
    address: str
    key: Path | None  # private key; None: only what the SSH agent offers
    host_key: str  # "ssh-ed25519 AAAA..."
    port: int = PORT
    user: str = "root"  # anybody else gets root through sudo
    jump: Target | None = None  # a host that the way leads through; the login there uses the same key
    under_test: bool = True  # False: a machine of the bench, whose faults are the bench's

    @classmethod
    def of(cls, name: str, ssh: SshSpec, *, under_test: bool = True) -> Target:
        """Return the target that a lab file's ``ssh`` section describes, reached from this host."""
        key = Path(ssh.key_file).expanduser() if ssh.key_file else None
        way = cls(name, netns.HOST, ssh.address, key, ssh.host_key, ssh.port, ssh.user, under_test=under_test)
        if ssh.jump is None:
            return way
        jump = replace(way, name=f"{name}: jump host {ssh.jump.address}", under_test=False)
        return replace(way, jump=replace(jump, **ssh.jump.model_dump()))

    def error(self, message: str, *, remedy: str = "") -> HilError:
        """Return the error that blames this machine: DeviceError under test, else BenchError."""
        kind = DeviceError if self.under_test else BenchError
        return kind(f"{self.name}: {message}", remedy=remedy)


class WrongHostKeyError(DeviceError):
    """Another machine than the board answers. Nothing was sent to it."""


class Connection:
    """A transport that is logged in, and the one to the jump host under it."""

    def __init__(self, transport: paramiko.Transport, under: Connection | None = None) -> None:
        self.transport = transport
        self._under = under

    def close(self) -> None:
        self.transport.close()
        if self._under is not None:
            self._under.close()


def log_in(target: Target, timeout_s: float) -> Connection:
    """Connect and log in; every step may take ``timeout_s`` seconds.

    BenchError when there is no route or the jump host is at fault.  When nothing answers or the login fails,
    DeviceError for a machine under test, else BenchError, or ConfigurationError for a key that is refused.
    WrongHostKeyError (else BenchError) when the host key is not the pinned one.
    """
    if target.jump is None:
        return Connection(_session(target, _dial(target, timeout_s), timeout_s))
    under = log_in(target.jump, timeout_s)
    try:
        sock = _through(target, target.jump, under.transport, timeout_s)
        return Connection(_session(target, sock, timeout_s), under)
    except BaseException:
        under.close()
        raise


def sudo_failed(target: Target, stderr: str) -> ConfigurationError | None:
    """Return the error behind sudo's own words; None when it is not sudo that failed."""
    if target.user == "root" or "sudo: " not in stderr:
        return None
    if "password is required" not in stderr and "not allowed" not in stderr:
        return None
    return ConfigurationError(
        f"{target.name}: {target.user} is not root and sudo wants a password",
        remedy=f"there: echo '{target.user} ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/testbed",
    )


def _dial(target: Target, timeout_s: float) -> socket.socket:
    try:
        return connect(target.namespace, (target.address, target.port), timeout_s=timeout_s)
    except (ConnectionRefusedError, ConnectionResetError, TimeoutError) as exc:
        raise target.error(
            f"no answer from sshd at {target.address} port {target.port}: {exc}",
            remedy="" if target.under_test else "is it up, and does `ssh` to it work?",
        ) from exc
    except OSError as exc:
        here = target.namespace or "this machine"
        raise BenchError(
            f"{target.name}: no way from {here} to {target.address}: {exc}",
            remedy="is the bench up, and is the link to this machine up?",
        ) from exc


def _through(target: Target, jump: Target, under: paramiko.Transport, timeout_s: float) -> paramiko.Channel:
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
        raise target.error(f"no answer from sshd at {target.address}: {exc.text}") from exc
    except (paramiko.SSHException, OSError, EOFError) as exc:
        raise target.error(f"no answer through jump host {jump.address} within {timeout_s:g} s: {exc!r}") from exc


def _session(target: Target, sock: socket.socket | paramiko.Channel, timeout_s: float) -> paramiko.Transport:
    import paramiko

    with contextlib.ExitStack() as undo:
        undo.callback(sock.close)
        sock.settimeout(None)
        transport = paramiko.Transport(sock, default_window_size=WINDOW, default_max_packet_size=PACKET)
        undo.callback(transport.close)
        # What goes wrong is raised here with its context; paramiko's own logging would print a second traceback.
        if not (logger := logging.getLogger(LOG_CHANNEL)).handlers:
            logger.addHandler(logging.NullHandler())
        transport.set_log_channel(LOG_CHANNEL)
        transport.banner_timeout = transport.auth_timeout = transport.handshake_timeout = timeout_s
        options = transport.get_security_options()
        options.ciphers = [name for name in _CIPHERS if name in options.ciphers]
        options.key_types = [target.host_key.split()[0]]
        with _own_words(target):
            transport.start_client(timeout=timeout_s)
            _check_host_key(target, transport)
            _authenticate(target, transport)
        transport.set_keepalive(KEEPALIVE_S)
        undo.pop_all()
    return transport


@contextlib.contextmanager
def _own_words(target: Target) -> Iterator[None]:
    """Raise what paramiko says about a login as an error of this project."""
    import paramiko

    try:
        yield
    except paramiko.ssh_exception.IncompatiblePeer as exc:
        raise _wrong_host_key(target, f"no host key of the pinned type ({exc})") from exc
    except paramiko.AuthenticationException as exc:
        raise _refused(target, f"the login as {target.user} is refused ({exc})") from exc
    except (paramiko.SSHException, OSError, EOFError) as exc:
        raise target.error(f"no SSH session: {exc!r}") from exc


def _check_host_key(target: Target, transport: paramiko.Transport) -> None:
    offered = transport.get_remote_server_key()
    kind, pinned = target.host_key.split()[:2]
    if offered.get_name() != kind or offered.asbytes() != base64.b64decode(pinned):
        raise _wrong_host_key(target, "another host key than the pinned one")


def _wrong_host_key(target: Target, offered: str) -> HilError:
    where = f"{target.address} (through {target.jump.address})" if target.jump else target.address
    kind = WrongHostKeyError if target.under_test else BenchError
    return kind(
        f"{target.name}: {offered} answers at {where}",
        remedy="is this address another machine's? After a flash, or with a new data partition, pin the new key",
    )


def _refused(target: Target, message: str) -> HilError:
    kind = DeviceError if target.under_test else ConfigurationError
    return kind(
        f"{target.name}: {message}",
        remedy=f"put the public key into ~{target.user}/.ssh/authorized_keys there; check user and key in the lab file",
    )


def _authenticate(target: Target, transport: paramiko.Transport) -> None:
    import paramiko

    if target.key is not None:
        transport.auth_publickey(target.user, _private_key(target.key))
        return
    agent = paramiko.Agent()
    try:
        keys = agent.get_keys()
        if not keys:
            raise ConfigurationError(
                f"{target.name}: the lab file says to log in with the SSH agent, which offers no key",
                remedy="ssh-add the key, and see that SSH_AUTH_SOCK reaches this program",
            )
        for key in keys:
            with contextlib.suppress(paramiko.AuthenticationException):
                transport.auth_publickey(target.user, key)
                return
    finally:
        agent.close()
    raise _refused(target, f"none of the {len(keys)} keys of the SSH agent lets {target.user} in")


def _private_key(path: Path) -> paramiko.PKey:
    import paramiko

    try:
        return paramiko.PKey.from_path(path.expanduser())
    except (OSError, ValueError, TypeError, paramiko.SSHException) as exc:
        raise ConfigurationError(
            f"{path}: cannot be used as a private key: {exc}",
            remedy="it must be readable by you and have no passphrase; keys with one belong into the SSH agent",
        ) from exc
