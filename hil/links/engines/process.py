"""A child process on the other end of a socket pair."""

from __future__ import annotations

import logging
import os
import shlex
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from hil.errors import BenchError

_log = logging.getLogger(__name__)


class RelayProcess:
    """Runs a command whose control line is one end of a socket pair; ``sock`` is the other end.

    With ``argv_for`` the command is told two descriptors, ``(line, lifeline)``, else the line is its stdin and
    stdout.  The lifeline is a pipe that ends when this process does, however it ends, and does
    not depend on which thread started the child, as a parent-death signal would.  ``env`` is added to ours.
    """

    def __init__(
        self,
        argv: Sequence[str] = (),
        *,
        name: str,
        argv_for: Callable[[int, int], Sequence[str]] | None = None,
        log: Path | None = None,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.sock, theirs = socket.socketpair()
        lifeline, self._lifeline = os.pipe()
        keep: tuple[int, ...]
        output: int | IO[bytes] = log.open("ab") if log else subprocess.DEVNULL
        try:
            if argv_for:
                command = argv_for(theirs.fileno(), lifeline)
                keep, stdin, stdout = (theirs.fileno(), lifeline), subprocess.DEVNULL, output
            else:
                command, keep, stdin, stdout = argv, (), theirs.fileno(), theirs.fileno()
            # a session of its own: Ctrl-C in a terminal is for the owner, who takes this down in order
            _log.debug("start %.500r", shlex.join(command))
            self._child = subprocess.Popen(
                list(command),
                stdin=stdin,
                stdout=stdout,
                stderr=output,
                pass_fds=keep,
                start_new_session=True,
                cwd=cwd,
                env={**os.environ, **(env or {})},
            )
        except OSError as exc:
            self.sock.close()
            os.close(self._lifeline)
            raise BenchError(f"cannot start {name}: {exc}", remedy="run `hil doctor`") from exc
        finally:
            theirs.close()
            os.close(lifeline)
            if not isinstance(output, int):
                output.close()

    @property
    def pid(self) -> int:
        return self._child.pid

    def signal_ready(self) -> None:
        """Write one byte into the lifeline, which tells the launcher that the child's NICs are up."""
        os.write(self._lifeline, b"\1")

    def exit_status(self) -> int | None:
        """Return the exit status; None while it runs."""
        return self._child.poll()

    def close(self) -> None:
        """Close line and lifeline, which end the child; kill it after 3 s. Safe to call twice."""
        self.sock.close()
        if self._lifeline >= 0:
            with suppress(OSError):
                os.close(self._lifeline)
            self._lifeline = -1
        try:
            self._child.wait(timeout=3)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait(timeout=3)
