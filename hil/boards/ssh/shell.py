"""Shell and files of a machine over SSH (paramiko), from a given network namespace, with a pinned host key.

Files travel through ``cat`` on the board: its exit code and its words tell of a full disk, a missing folder or a
refused permission, for the last byte too, and it needs no SFTP subsystem.
"""

from __future__ import annotations

import logging
import math
import shlex
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hil.boards.protocol import Completed
from hil.boards.ssh.login import LOGIN_S, PACKET, PORT, WINDOW, Target, WrongHostKeyError, log_in
from hil.boards.ssh.stream import END, TELL_PID, PidFirst, Sink, Source, communicate
from hil.core.activity import doing
from hil.core.files import on_this_machine
from hil.core.wait import poll_until
from hil.errors import ConfigurationError, HilError
from hil.text import one_line

if TYPE_CHECKING:
    import paramiko

_log = logging.getLogger(__name__)

__all__ = ["PORT", "SshShell", "Target", "WrongHostKeyError"]

BLOCK = 1 << 20
LONGEST_OUTPUT = 16 << 20
"""Bytes that a command of :meth:`SshShell.run` may say on stdout and stderr together, and a file for ``read`` has."""
MARK = b"@@hil\n"
"""What a command that moves a file prints first: before it comes what a start-up file of the login prints."""
SESSION_S = 1.0
"""An sshd with few sessions (MaxSessions) may need so long to end the last one."""
SESSION_OPENS_S = 30.0
PATIENCE_S = 2.0
"""How long a command that was interrupted may take for its own end."""
FILE_S = 300.0
"""How long a board may take for what the network still holds of a file, after the last byte was sent."""
_PROBE_S = 10.0
_SHOWN_B = 80
_NOTHING_THERE = 44


class SshShell:
    """``hil.boards.protocol.Shell``: one SSH connection, one channel per command.

    Every method raises :meth:`Target.error` (DeviceError for a machine under test) when the connection breaks.
    """

    def __init__(self, target: Target, *, connect_timeout_s: float = LOGIN_S) -> None:
        """Connect and log in; raises what :func:`log_in` raises."""
        self.target = target
        self._connection = log_in(target, connect_timeout_s)
        self._transport = self._connection.transport
        self._runs_commands = False

    def run(self, argv: Sequence[str], *, timeout_s: float = 30.0, stdin: bytes = b"", check: bool = True) -> Completed:
        """Run one command as root; raises also on a non-zero exit when ``check``, after ``timeout_s``, and as soon as
        it has said more than ``LONGEST_OUTPUT``.

        ConfigurationError or DeviceError when this login runs no command at all.
        """
        done = self._run(argv, timeout_s, stdin)
        if done.returncode == 0:
            self._runs_commands = True
        elif why := self.why_no_command_runs():
            raise why
        if check and done.returncode != 0:
            raise self.target.error(f"`{shlex.join(argv)}` ended with {done.returncode}: {_last_words(done)}")
        return done

    def _run(self, argv: Sequence[str], timeout_s: float, stdin: bytes = b"", *, sudo: bool = True) -> Completed:
        deadline = time.monotonic() + timeout_s
        what = f"{self.target.name}: {one_line(shlex.join(argv), _SHOWN_B)}"
        with doing(what, deadline_s=timeout_s, minor=True), self._errors(f"`{shlex.join(argv)}`", timeout_s):
            channel = self._execute(argv, timeout_s, sudo=sudo)
            try:
                done = self._end(channel, argv, stdin, deadline)
            finally:
                channel.close()
        name, said = self.target.name, f", stderr {done.stderr[-200:]!r}" if done.stderr else ""
        _log.debug("%s: exit code %d, %d bytes%s", name, done.returncode, len(done.stdout), said)
        return done

    def _end(self, channel: paramiko.Channel, argv: Sequence[str], stdin: bytes, deadline: float) -> Completed:
        """Wait for a command's end. EOFError when the connection ends before the command."""
        out, err = bytearray(), bytearray()

        def keep(said: bytearray, data: bytes) -> None:
            said.extend(data)
            if len(out) + len(err) > LONGEST_OUTPUT:
                raise _TooMuchError(bytes(said[:_SHOWN_B]).decode("utf-8", "replace"))

        communicate(channel, stdin, deadline, partial(keep, out), partial(keep, err))
        code = channel.recv_exit_status()
        if code < 0 and not self._transport.is_active():
            raise EOFError("it ended before the command")
        return Completed(tuple(argv), code, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"))

    def why_no_command_runs(self) -> HilError | None:
        """Return why this login runs no command, by one that cannot fail; None once any has run.

        The exit codes decide, not the words, which a board says in its own language.
        """
        if self._runs_commands:
            return None
        try:
            probe = self._run(["true"], _PROBE_S)
            if probe.returncode == 0:
                self._runs_commands = True
                return None
            user, words = self.target.user, _last_words(probe)
            if user != "root" and ("sudo" in words or self._run(["true"], _PROBE_S, sudo=False).returncode == 0):
                return ConfigurationError(
                    f"{self.target.name}: {user} is not root and sudo wants a password or a terminal, or is not "
                    f"there: {words}",
                    remedy=f"there: echo '{user} ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/testbed, and no requiretty",
                )
        except HilError:
            return None  # nothing is known of it
        return self.target.error(
            f"the login as {user} runs no command, it ends with {probe.returncode}: {words}",
            remedy="an expired password (`chage -l`), a login shell such as nologin, or a ForceCommand in sshd_config?",
        )

    def stream(
        self,
        argv: Sequence[str],
        *,
        out: Sink,
        err: Sink,
        stdin: Source = b"",
        timeout_s: float = math.inf,
        stop: Callable[[], bool] = lambda: False,
    ) -> int | None:
        """Run one command as root and give its output to ``out`` and ``err`` as it comes; return its exit code.

        After ``timeout_s``, when ``stop`` says so (it is asked some times a second) and at an exception such as
        Ctrl-C, the command is ended there: SIGINT, then SIGKILL for one that does not mind.  None is returned then.
        """
        what, told = f"`{shlex.join(argv)}`", PidFirst(out)
        with self._errors(what, timeout_s):
            channel = self._execute(["sh", "-c", TELL_PID, "sh", *argv], SESSION_OPENS_S)
            ended = False
            try:
                with suppress(TimeoutError):
                    ended = communicate(channel, stdin, time.monotonic() + timeout_s, told, err, stop=stop)
            finally:
                if not ended:
                    self._end_there(channel, told, err)
                channel.close()
            told.end()
            if not ended:
                return None
            code = channel.recv_exit_status()
            if code < 0 and not self._transport.is_active():
                raise EOFError("it ended before the command")
        if code and (why := self.why_no_command_runs()):
            raise why
        return code

    def _end_there(self, channel: paramiko.Channel, told: PidFirst, err: Sink) -> None:
        """End a command on the board, as Ctrl-C would; what it says meanwhile still comes."""
        with suppress(HilError, OSError, EOFError, TimeoutError):
            for name, patience_s in (("INT", PATIENCE_S), ("KILL", PATIENCE_S)) if told.pid else ():
                self._run(["sh", "-c", END, "sh", name, str(told.pid)], _PROBE_S)
                with suppress(TimeoutError):
                    communicate(channel, b"", time.monotonic() + patience_s, told, err)
                    return

    def start(self, argv: Sequence[str], *, timeout_s: float = 30.0) -> paramiko.Channel:
        """Start a command as root and return the channel of its stdin, stdout and stderr; the caller closes it."""
        with self._errors(f"`{shlex.join(argv)}`", timeout_s):
            return self._execute(argv, timeout_s)

    def _execute(self, argv: Sequence[str], timeout_s: float, *, sudo: bool = True) -> paramiko.Channel:
        channel = self._open_session(timeout_s)
        try:
            channel.settimeout(max(0.1, timeout_s))
            root = ["sudo", "-n", "--"] if sudo and self.target.user != "root" else []
            order = shlex.join(["env", "LC_ALL=C", *root, *argv])  # what it says is read by programs
            _log.debug("%s: ssh %.500r", self.target.name, order)
            channel.exec_command(order)
        except BaseException:
            channel.close()
            raise
        return channel

    def _open_session(self, timeout_s: float) -> paramiko.Channel:
        """Open a session; ask again for ``SESSION_S`` when sshd has none left."""
        import paramiko

        last: paramiko.ChannelException | None = None
        for _ in poll_until(SESSION_S, every_s=0.1):
            try:
                return self._transport.open_session(window_size=WINDOW, timeout=timeout_s)
            except paramiko.ChannelException as exc:
                last = exc
        assert last is not None
        raise last

    @contextmanager
    def _errors(self, what: str, timeout_s: float) -> Iterator[None]:
        import paramiko

        try:
            yield
        except _TooMuchError as exc:
            raise self.target.error(
                f"{what} said more than {LONGEST_OUTPUT >> 20} MiB and was given up; it began {exc.args[0]!r}",
                remedy="let it write into a file there, and pull that",
            ) from exc
        except TimeoutError as exc:
            raise self.target.error(f"{what} did not end within {timeout_s:g} s") from exc
        except paramiko.ChannelException as exc:
            raise self.target.error(
                f"sshd opens no session for {what}: {exc.text}", remedy="raise MaxSessions in its sshd_config"
            ) from exc
        except (paramiko.SSHException, OSError, EOFError) as exc:
            how = "sshd does not run" if self._transport.is_active() else "the connection broke during"
            raise self.target.error(f"{how} {what}: {exc!r}") from exc

    def push(self, local: Path, remote: str) -> None:
        for _ in self.send_from(local, remote, 0):
            pass

    def pull(self, remote: str, local: Path) -> None:
        for _ in self.receive_from(remote, local, 0):
            pass

    def read(self, remote: str) -> bytes:
        """Return a file of ``LONGEST_OUTPUT`` at most."""
        content = bytearray()
        with closing(self._read(remote, 0)) as blocks:
            for block in blocks:
                content += block
                if len(content) > LONGEST_OUTPUT:
                    raise self.target.error(f"{remote} has more than {LONGEST_OUTPUT >> 20} MiB", remedy="pull it")
        return bytes(content)

    def write(self, remote: str, content: bytes) -> None:
        for _ in self._write(remote, [content], 0):
            pass

    def file_size(self, remote: str) -> int:
        """Return the bytes of a file on the board; -1 when it is not there."""
        size = f'[ -e "$1" ] || exit {_NOTHING_THERE}; stat -L -c %s "$1"'
        done = self.run(["sh", "-c", size, "sh", remote], check=False)
        if done.returncode == _NOTHING_THERE:
            return -1
        said = done.stdout.split()
        if done.returncode != 0 or not said or not said[-1].isdigit():
            raise self._cannot(f"look at {remote}", done)
        return int(said[-1])

    def send_from(self, local: Path, remote: str, offset: int) -> Iterator[int]:
        """Write ``local`` from ``offset`` on behind what ``remote`` has, from 0 on anew; yields bytes sent."""
        yield from self._write(remote, _blocks(local, offset), offset)

    def receive_from(self, remote: str, local: Path, offset: int, limit: int | None = None) -> Iterator[int]:
        """Read ``remote`` from ``offset`` on onto the end of ``local``, cut to ``offset`` first; yields bytes here.

        It ends when ``limit`` bytes are here, whatever more the board has.
        """
        with on_this_machine(local), local.open("r+b" if offset else "wb") as sink:
            sink.truncate(offset)
            sink.seek(offset)
            with closing(self._read(remote, offset)) as blocks:
                for block in blocks:
                    offset += sink.write(block if limit is None else block[: limit - offset])
                    yield offset
                    if offset == limit:
                        return

    def _write(self, remote: str, blocks: Iterable[bytes], offset: int) -> Iterator[int]:
        """Send blocks into a file and yield the bytes sent; DeviceError unless the board took them all."""
        script = f'exec 3{">>" if offset else ">"}"$1" && echo {MARK.decode().strip()} && exec cat >&3'
        argv, what = ["sh", "-c", script, "sh", remote], f"write {remote}"
        with self._errors(f"`{what}`", FILE_S):
            channel = self._execute(argv, FILE_S)
            try:
                for block in blocks:
                    try:
                        channel.sendall(block)
                    except OSError:  # it ended early: its exit code and words say why
                        break
                    offset += len(block)
                    yield offset
                done = self._end(channel, argv, b"", time.monotonic() + FILE_S)
            finally:
                channel.close()
        if done.returncode != 0 or done.stdout.encode() != MARK:
            raise self._cannot(what, done)

    def _read(self, remote: str, offset: int) -> Generator[bytes, None, None]:
        """Yield a file from ``offset`` on in blocks; DeviceError unless the board gave it to its end."""
        script = f'exec <"$1" && echo {MARK.decode().strip()} && exec {f"tail -c +{offset + 1}" if offset else "cat"}'
        argv, what = ["sh", "-c", script, "sh", remote], f"read {remote}"
        head, begun = b"", False
        with self._errors(f"`{what}`", FILE_S):
            channel = self._execute(argv, FILE_S)
            try:
                channel.shutdown_write()
                while block := channel.recv(PACKET):
                    if not begun:
                        head += block
                        begun, block = head.startswith(MARK), head[len(MARK) :]
                        head = head[:_SHOWN_B]
                    if begun and block:
                        yield block
                done = self._end(channel, argv, b"", time.monotonic() + _PROBE_S)
            finally:
                channel.close()
        if done.returncode != 0 or not begun:
            raise self._cannot(what, replace(done, stdout=head.decode("utf-8", "replace")))

    def _cannot(self, what: str, done: Completed) -> HilError:
        """Return the error of a file that was not moved."""
        if done.returncode != 0:
            return self.why_no_command_runs() or self.target.error(f"cannot {what}: {_last_words(done)}")
        if not done.stdout.strip():
            return self.target.error(f"cannot {what}: the command there ended without an answer, and not all was done")
        return self.target.error(
            f"cannot {what}: something prints at login, or runs in place of the command: {done.stdout[:_SHOWN_B]!r}",
            remedy="silence it there for sessions that are not interactive (~/.bashrc, ~/.ssh/rc), and no ForceCommand",
        )

    def alive(self) -> bool:
        """Return whether the connection still stands, as far as this side knows."""
        return bool(self._transport.is_active())

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> SshShell:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class _TooMuchError(Exception):
    """A command said more than ``LONGEST_OUTPUT``; the argument is how that began."""


def _blocks(local: Path, offset: int) -> Iterator[bytes]:
    with on_this_machine(local), local.open("rb") as source:
        source.seek(offset)
        while block := source.read(BLOCK):
            yield block


def _last_words(done: Completed) -> str:
    return "\n".join((done.stderr or done.stdout).strip().splitlines()[-5:])
