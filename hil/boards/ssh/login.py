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
_CIPHERS = ("aes128-gcm@openssh.com", "aes128-ctr", "aes256-gcm@openssh.com", "aes256-ctr", "aes192-ctr")
"""The fastest first; a hardened board may allow the last ones only."""


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
        with _handshake_errors(target, transport, timeout_s):
            transport.start_client(timeout=2 * timeout_s)  # its banner, then its keys
            offered = transport.get_remote_server_key()
        _check_host_key(target, offered)
        with _authentication_errors(target, transport):
            _authenticate(target, transport)
        transport.set_keepalive(KEEPALIVE_S)
        undo.pop_all()
    return transport


@contextlib.contextmanager
def _handshake_errors(target: Target, transport: paramiko.Transport, timeout_s: float) -> Iterator[None]:
    """Raise what goes wrong before the login, each with its own cause."""
    import paramiko

    where = f"{target.address} port {target.port}"
    try:
        yield
    except paramiko.ssh_exception.IncompatiblePeer as exc:
        if "host key" in str(exc):
            raise _wrong_host_key(target, f"no host key of the pinned type ({exc})") from exc
        raise target.error(
            f"sshd at {where} and this side have no algorithm in common: {exc}",
            remedy=f"allow one of these there: Ciphers {','.join(_CIPHERS)}; KexAlgorithms curve25519-sha256",
        ) from exc
    except (paramiko.SSHException, OSError, EOFError) as exc:
        if transport.remote_version:
            message, remedy = (
                f"no key exchange with sshd at {where} within {timeout_s:g} s: {exc!r}",
                "is it overloaded?",
            )
        elif isinstance(exc.__context__, EOFError | ConnectionError):
            message = f"{where} closes the connection without an SSH banner"
            remedy = "is it sshd at this port, still starting, or are there too many log-ins at once (MaxStartups)?"
        else:
            message = f"{where} takes the connection and gives no SSH banner within {timeout_s:g} s"
            remedy = "is it sshd at this port, and is that machine overloaded, or short of entropy after its start?"
        raise target.error(message, remedy=remedy) from exc


@contextlib.contextmanager
def _authentication_errors(target: Target, transport: paramiko.Transport) -> Iterator[None]:
    """Raise what paramiko says about the login as an error of this project, with the server's own words."""
    import paramiko

    who = f"the login as {target.user}"
    try:
        yield
    except paramiko.BadAuthenticationType as exc:
        raise _refused(
            target, f"{who} is refused: sshd takes {', '.join(exc.allowed_types)} and no keys (PubkeyAuthentication)"
        ) from exc
    except (paramiko.SSHException, OSError, EOFError) as exc:
        words = " ".join((transport.get_banner() or b"").decode("utf-8", "replace").split())[:200]
        said = f"{exc}; it says {words!r}" if words else str(exc)
        if transport.is_active() and isinstance(exc, paramiko.AuthenticationException) and "timeout" not in said:
            raise _refused(target, f"{who} is refused ({said})") from exc
        raise target.error(
            f"sshd ends the connection, or is silent, during {who}: {said}",
            remedy="is the account locked, expired or kept out (nologin)? too many tries (MaxAuthTries), or a slow DNS "
            "(UseDNS no)? sshd's log there says which",
        ) from exc


def _check_host_key(target: Target, offered: paramiko.PKey) -> None:
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


def _refused(target: Target, message: str, *, remedy: str = "") -> HilError:
    kind = DeviceError if target.under_test else ConfigurationError
    return kind(
        f"{target.name}: {message}",
        remedy=remedy
        or f"put the public key into ~{target.user}/.ssh/authorized_keys there; check user and key in the lab file",
    )


def _authenticate(target: Target, transport: paramiko.Transport) -> None:
    import paramiko

    if target.key is not None:
        _offer(target, transport, _private_key(target.key))
        return
    agent = paramiko.Agent()
    try:
        keys = agent.get_keys()
        if not keys:
            raise ConfigurationError(
                f"{target.name}: the lab file says to log in with the SSH agent, which offers no key",
                remedy="ssh-add the key, and see that SSH_AUTH_SOCK reaches this program",
            )
        for tried, key in enumerate(keys, 1):
            try:
                return _offer(target, transport, key)
            except paramiko.BadAuthenticationType:
                raise
            except (paramiko.SSHException, OSError, EOFError) as exc:
                if not transport.is_active():
                    raise ConfigurationError(
                        f"{target.name}: sshd ends the login after {tried} of the {len(keys)} keys of the SSH agent "
                        "(MaxAuthTries)",
                        remedy="name the key in the lab file (key_file), or leave only that one in the agent (ssh-add)",
                    ) from exc
    finally:
        agent.close()
    raise _refused(target, f"none of the {len(keys)} keys of the SSH agent lets {target.user} in")


def _offer(target: Target, transport: paramiko.Transport, key: paramiko.PKey) -> None:
    """Log in with a key; paramiko raises what it raises, and returns what sshd wants beside the key."""
    if more := transport.auth_publickey(target.user, key):
        raise _refused(
            target,
            f"sshd takes the key of {target.user} and wants {', '.join(more)} as well",
            remedy=f"there: Match User {target.user}, AuthenticationMethods publickey",
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
