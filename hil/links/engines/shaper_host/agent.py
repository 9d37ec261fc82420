"""The relay on a shaper host: another machine, reached over SSH, that shapes links on its physical ports.

The machine needs a Linux with netem, an SSH server and root.  The relay's static binary is copied there under its
content hash and run with its frames on stdin and stdout; it ends with the connection, and undoes what it did.
"""

from __future__ import annotations

import hashlib
import platform
import shlex
import threading
from contextlib import suppress

from hil.boards.ssh.login import SHAPER_LOGIN_S, Target
from hil.boards.ssh.shell import SshShell
from hil.errors import BenchError, HilError
from hil.links.engines.agent import Agent
from hil.links.engines.relay import Kind, RelayLine, compile_relay

SILENCE_S = 15
"""Seconds without a frame after which the relay ends and undoes: a cable was pulled, and no TCP connection ended."""
_HEARTBEAT_S = 2.0
_INSTALL_S = 60.0
_READY_S = 20.0
_ANSWER_S = 5.0
_UNDO_S = 3.0


def log_in(target: Target) -> SshShell:
    """Log in to a shaper host.

    BenchError when there is no way to it or another machine answers, ConfigurationError when the login is refused.
    """
    return SshShell(target, connect_timeout_s=SHAPER_LOGIN_S)


def install(shell: SshShell) -> str:
    """Copy the relay to the shaper host unless it is there; return its path. BenchError when it could not run there."""
    binary = compile_relay().read_bytes()
    digest = hashlib.sha256(binary).hexdigest()
    name = f"relay-{digest[:16]}"
    look = f'echo "$HOME"; uname -m; sha256sum "$HOME/.cache/hil/{name}" 2>/dev/null || true'
    home, machine, *copied = shell.run(["sh", "-c", look], timeout_s=_INSTALL_S).stdout.splitlines()
    if machine != platform.machine():
        raise BenchError(
            f"{shell.target.name} is {machine}; the relay is built for {platform.machine()}",
            remedy="use a shaper host with this machine's kind of processor",
        )
    path = f"{home}/.cache/hil/{name}"
    if copied and copied[0].split()[0] == digest:
        return path
    quoted = shlex.quote(path)
    # by way of a name of its own: two benches may copy at once, and a running binary cannot be written to
    copy = (
        f"set -e; umask 077; mkdir -p {shlex.quote(home)}/.cache/hil; cat > {quoted}.$$; "
        f"chmod 700 {quoted}.$$; mv -f {quoted}.$$ {quoted}"
    )
    shell.run(["sh", "-c", copy], stdin=binary, timeout_s=_INSTALL_S)
    return path


class ShaperHostAgent(Agent):
    """The kernel of a shaper host, over one channel of ``shell``; ``relay`` is the path that :func:`install` returned.

    ``scratch``: in an empty namespace of its own there, to ask what the kernel can do.  A thread asks for its
    clock every two seconds, which tells the relay that we are there.  BenchError when the relay does not start.
    """

    own_clock = True

    def __init__(self, shell: SshShell, relay: str, *, scratch: bool = False) -> None:
        self._target = shell.target
        self._ended = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="shaper-host-heartbeat", daemon=True)
        command = [relay, "shaper", str(SILENCE_S), *(["scratch"] if scratch else [])]
        self._channel = shell.start(command, timeout_s=_READY_S)
        self._line = RelayLine(self._channel, name=self._target.name)
        self._deadline_s = _READY_S
        self._greet()
        self._deadline_s = _ANSWER_S
        self._heart.start()

    def ask(self, kind: Kind, payload: bytes = b"") -> bytes:
        try:
            return self._line.ask(kind, payload, deadline_s=self._deadline_s)
        except BenchError as exc:
            raise self._failure() or BenchError(
                f"{exc.message}; what it did there it undoes by itself within {SILENCE_S} s",
                remedy="is the shaper host up, and the way to it? Then bring the bench up again",
            ) from exc

    def close(self) -> None:
        """End the relay there and wait up to 3 s until it has undone what it did."""
        self._ended.set()
        with suppress(OSError, EOFError):
            self._channel.shutdown_write()
            self._channel.settimeout(_UNDO_S)
            while self._channel.recv(4096):
                continue
        self._line.close()
        if self._heart.is_alive():
            self._heart.join(timeout=_ANSWER_S + 1)

    def _beat(self) -> None:
        with suppress(HilError):  # the next request finds the same, and says it
            while not self._ended.wait(_HEARTBEAT_S):
                self.clock()

    def _failure(self) -> HilError | None:
        said = b""
        self._channel.settimeout(0.2)
        with suppress(OSError, EOFError):
            while piece := self._channel.recv_stderr(4096):
                said += piece
        return failure(self._target, said.decode(errors="replace")) if said else None


def failure(target: Target, said: str) -> HilError:
    """Return the error that the words of the shell or the relay stand for."""
    said = " ".join(said.split())
    message, remedy = said[-300:], "`hil doctor --lab FILE` says what it lacks"
    if "another bench has this shaper host" in said:
        message = "another bench has this shaper host"
        remedy = "wait until it is down; one bench uses it at a time"
    elif "Permission denied" in said:
        message = f"the relay cannot be run: {said[-200:]}"
        remedy = "its home directory must not be mounted noexec"
    return target.error(message, remedy=remedy)
