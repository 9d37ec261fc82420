"""The relay on another machine, reached over SSH: a shaper host that shapes links on its physical ports.

The machine needs a Linux with netem, an SSH server and root.  The relay's static binary is copied there under its
content hash and run with its frames on stdin and stdout; it ends with the connection, and undoes what it did.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hil.core import netns
from hil.errors import BenchError, ConfigurationError
from hil.links.engines import ports
from hil.links.engines.agent import Agent, ClockOffset
from hil.links.engines.choose import EngineChoice, lacking
from hil.links.engines.ports import Port
from hil.links.engines.process import RelayProcess
from hil.links.engines.relay import Kind, RelayLine, compile_relay
from hil.links.engines.wiring import Profile

if TYPE_CHECKING:
    from hil.lab.shaper_host import ShaperHostSpec

SILENCE_S = 15
"""The relay ends and undoes when it heard nothing for so long: a cable was pulled, and no TCP connection ended."""
_HEARTBEAT_S = 2.0
_INSTALL_S = 60.0
_READY_S = 20.0
_ANSWER_S = 5.0
_SSH_FAILED = 255


@dataclass(frozen=True)
class ShaperTarget:
    """How to log in to a shaper host, from where, and how to know it is the right one."""

    address: str
    host_key: str  # "ssh-ed25519 AAAA..."
    key: Path | None = None  # private key without a passphrase; None: what the SSH agent offers
    user: str = "root"  # anybody else needs sudo without a password
    port: int = 22
    namespace: str = netns.HOST

    @property
    def name(self) -> str:
        return f"shaper host {self.user}@{self.address}"


class Login:
    """Commands on a shaper host with the OpenSSH client, which trusts the pinned host key and nothing else."""

    def __init__(self, host: ShaperTarget) -> None:
        self.host = host
        self._directory = tempfile.TemporaryDirectory(prefix="hil-shaper-")
        self.log = Path(self._directory.name) / "said"
        known = Path(self._directory.name) / "known_hosts"
        known.write_text(f"shaper-host {host.host_key}\n", encoding="ascii")
        options = {
            "HostKeyAlias": "shaper-host",
            "UserKnownHostsFile": known,
            "GlobalKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "yes",
            "BatchMode": "yes",
            "ConnectTimeout": 10,
            "ServerAliveInterval": 5,
            "ServerAliveCountMax": 3,
            "LogLevel": "ERROR",
        }
        if host.key is not None:
            options |= {
                "IdentityFile": host.key.expanduser(),
                "IdentitiesOnly": "yes",
                "IdentityAgent": "none",
            }
        argv = ["ssh", "-F", "none", "-T", "-p", str(host.port), "-l", host.user]
        for name, value in options.items():
            argv += ["-o", f"{name}={value}"]
        self._argv = netns.argv_inside(host.namespace, [*argv, host.address])

    def argv(self, command: Sequence[str], *, root: bool = False) -> list[str]:
        """The local command line that runs ``command`` there; ``root`` through sudo where the user is not."""
        sudo = ["sudo", "-n", "--"] if root and self.host.user != "root" else []
        return [*self._argv, shlex.join([*sudo, *command])]

    def run(self, script: str, *, data: bytes = b"", root: bool = False) -> str:
        """What a shell script there prints, with ``data`` on its stdin. BenchError when it fails or takes a minute."""
        argv = self.argv(["sh", "-c", script], root=root)
        try:
            done = subprocess.run(argv, input=data, capture_output=True, timeout=_INSTALL_S)
        except FileNotFoundError as exc:
            raise BenchError(
                f"{exc.filename} is not installed", remedy="`hil setup` installs openssh-client"
            ) from exc
        except subprocess.TimeoutExpired as exc:
            raise BenchError(
                f"{self.host.name} did not answer within {_INSTALL_S:g} s",
                remedy="is it overloaded or unreachable?",
            ) from exc
        if done.returncode != 0:
            raise self.failure(done.stderr.decode(errors="replace"), done.returncode)
        return done.stdout.decode(errors="replace")

    def failure(self, said: str, status: int = _SSH_FAILED) -> BenchError | ConfigurationError:
        """What the words of ssh, sudo or the relay mean, and what to do."""
        said = " ".join(said.split())
        where = f"{self.host.name} port {self.host.port}"
        if "Host key verification failed" in said or "no matching host key type" in said:
            return BenchError(
                f"{where}: another host key than the pinned one answers",
                remedy="is this address another machine's? Else pin its key: `ssh-keyscan -t ed25519 ADDRESS`",
            )
        if "Permission denied" in said and status == _SSH_FAILED:
            return ConfigurationError(
                f"{where}: the login is refused",
                remedy="put the public key into its authorized_keys; check user, key_file and agent in the lab file",
            )
        if "sudo: " in said:
            return ConfigurationError(
                f"{where}: {self.host.user} is not root and sudo wants a password",
                remedy=f"there: echo '{self.host.user} ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/testbed",
            )
        if "another bench has this shaper host" in said:
            return BenchError(
                f"{where}: another bench has this shaper host",
                remedy="wait until it is down; one bench uses it at a time",
            )
        if "Permission denied" in said:
            return BenchError(
                f"{where}: the relay cannot be run: {said[-200:]}",
                remedy="its home directory must not be mounted noexec",
            )
        return BenchError(
            f"{where}: {said[-300:] or f'ended with status {status}'}",
            remedy="is it up, and does `ssh` to it work?",
        )

    def close(self) -> None:
        """Forget the pinned key's file; commands that run go on."""
        self._directory.cleanup()


def install(login: Login) -> str:
    """Copy the relay there unless it is there already; its path. BenchError when it could not run there."""
    binary = compile_relay().read_bytes()
    digest = hashlib.sha256(binary).hexdigest()
    name = f"relay-{digest[:16]}"
    there = login.run(
        f'echo "$HOME"; uname -m; sha256sum "$HOME/.cache/hil/{name}" 2>/dev/null || true'
    ).splitlines()
    home, machine = there[0], there[1]
    ours = os.uname().machine
    if machine != ours:
        raise BenchError(
            f"{login.host.name} is {machine}; the relay is built for {ours}",
            remedy="use a shaper host with this machine's kind of processor",
        )
    path = f"{home}/.cache/hil/{name}"
    if len(there) > 2 and there[2].split()[0] == digest:
        return path
    quoted = shlex.quote(path)
    # by way of a name of its own: two benches may copy at once, and a running binary cannot be written to
    login.run(
        f"set -e; umask 077; mkdir -p {shlex.quote(home)}/.cache/hil; cat > {quoted}.$$; "
        f"chmod 700 {quoted}.$$; mv -f {quoted}.$$ {quoted}",
        data=binary,
    )
    return path


@dataclass(frozen=True)
class ShaperHost:
    """A shaper host and the two ports of it, of ends a and b, that each link is cabled to."""

    host: ShaperTarget
    ports: Mapping[str, tuple[Port, Port]]

    @classmethod
    def of(cls, section: ShaperHostSpec) -> ShaperHost:
        """The shaper host of a lab file."""
        ssh = section.ssh
        key = Path(ssh.key_file) if ssh.key_file else None
        host = ShaperTarget(ssh.address, ssh.host_key, key=key, user=ssh.user, port=ssh.port)
        ends = {
            name: (Port(link.a.port, link.a.vlan), Port(link.b.port, link.b.vlan))
            for name, link in section.links.items()
        }
        return cls(host, ends)

    def open(self, mtus: Mapping[str, int], profile: Profile) -> tuple[EngineChoice, Agent, list[str]]:
        """Its ports made ready for these links, of these MTUs, and the names of their NICs, link by link, a then b.

        Raises ConfigurationError for ports that are not there or somebody else's, BenchError for a kernel that
        lacks something; the shaper host is then as it was.
        """
        with SshAgent(self.host, scratch=True) as probe:
            missing = [*lacking(probe), *ports.lacking_vlan(probe, self._ends(mtus))]
            release, relay = probe.kernel_release, probe.relay
        if missing:
            raise BenchError(
                f"{self.host.name}: its kernel {release} lacks {' and '.join(missing)}",
                remedy="`hil doctor --lab FILE` says what to load or to change",
            )
        agent = SshAgent(self.host, relay=relay)
        try:
            mtu_of = [mtu for mtu in mtus.values() for _ in range(2)]
            nics = ports.lay(agent, self._ends(mtus), mtus=mtu_of, profile=profile)
        except BaseException:
            agent.close()
            raise
        return EngineChoice("shaper_host", f"the lab file names {self.host.name}", release), agent, nics

    def _ends(self, links: Iterable[str]) -> list[Port]:
        try:
            return [port for name in links for port in self.ports[name]]
        except KeyError as exc:
            raise ConfigurationError(f"link {exc} has no ports on {self.host.name}") from exc


class SshAgent(Agent):
    """A shaper host's kernel. ``scratch``: in an empty namespace of its own there, for asking what the kernel can do.

    ``relay``: where :func:`install` has put it a moment ago; it saves a login.

    A thread reads its clock every two seconds, which also tells the relay that we are there; ``latest`` is the last
    measured offset.  Raises BenchError when there is no way in, ConfigurationError when the login is refused.
    """

    own_clock = True

    def __init__(self, host: ShaperTarget, *, scratch: bool = False, relay: str | None = None) -> None:
        self.host = host
        self.latest: ClockOffset | None = None
        self._login = Login(host)
        self._ended = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="shaper-host-heartbeat", daemon=True)
        self._process: RelayProcess | None = None
        try:
            self.relay = relay or install(self._login)
            command = [self.relay, "shaper", str(SILENCE_S), *(["scratch"] if scratch else [])]
            argv = self._login.argv(command, root=True)
            self._process = RelayProcess(argv, name="ssh", log=self._login.log)
            self._line = RelayLine(self._process.sock, name=host.name)
            self._deadline_s = _READY_S
            self._greet()
            self._deadline_s = _ANSWER_S
            self.latest = self.offset(time.monotonic_ns)
        except BaseException:
            self.close()
            raise
        self._heart.start()

    @property
    def pid(self) -> int:
        """Of the SSH client."""
        assert self._process is not None
        return self._process.pid

    def ask(self, kind: Kind, payload: bytes = b"") -> bytes:
        try:
            return self._line.ask(kind, payload, deadline_s=self._deadline_s)
        except BenchError as exc:
            raise self._why() or BenchError(
                f"{exc.message}; what it did there it undoes by itself within {SILENCE_S} s",
                remedy="is the shaper host up, and the way to it? Then bring the bench up again",
            ) from exc

    def offset(self, now_ns: Callable[[], int], *, readings: int = 5) -> ClockOffset:
        self.latest = super().offset(now_ns, readings=readings)
        return self.latest

    def ioctl(self, ifname: str, request: bytes) -> bytes:
        """SIOCETHTOOL on a NIC there: the request's buffer as the kernel leaves it. BenchError when it refuses."""
        answer = self.ask(Kind.IOCTL, struct.pack("16s", ifname.encode()) + request)
        _check(answer[:4], f"NIC {ifname} of {self.host.name}: ethtool")
        return answer[4:]

    def undo(self, message: bytes) -> None:
        """When the connection ends, however it does, the relay sends this netlink message; the last one first."""
        what = f"{self.host.name}: to note how to undo"
        _check(self.ask(Kind.UNDO, struct.pack("<I", Kind.NETLINK) + message), what)

    def undo_ioctl(self, ifname: str, request: bytes) -> None:
        """Like :meth:`undo`, of a SIOCETHTOOL request."""
        payload = struct.pack("<I16s", Kind.IOCTL, ifname.encode()) + request
        _check(self.ask(Kind.UNDO, payload), f"{self.host.name}: to note how to undo")

    def close(self) -> None:
        """End the relay there, which undoes what it did."""
        self._ended.set()
        if (
            self._heart.ident is not None
        ):  # first, or it would read from a descriptor that is somebody else's by then
            self._heart.join(timeout=_ANSWER_S + 1)
        if self._process is not None:
            self._process.close()
        self._login.close()

    def _beat(self) -> None:
        while not self._ended.wait(_HEARTBEAT_S):
            with suppress(BenchError):  # whoever asks for something next is told
                self.offset(time.monotonic_ns)
                continue
            return

    def _why(self) -> BenchError | ConfigurationError | None:
        """What ssh said, if it has ended."""
        assert self._process is not None
        for _ in range(20):  # it closes the line a moment before it ends
            if (status := self._process.exit_status()) is not None:
                said = self._login.log.read_text(errors="replace") if self._login.log.exists() else ""
                return self._login.failure(said, status) if said.strip() else None
            if self._ended.wait(0.01):
                return None
        return None


def _check(answer: bytes, what: str) -> None:
    (error,) = struct.unpack("<i", answer)
    if error:
        raise BenchError(f"{what}: {os.strerror(error)}")
