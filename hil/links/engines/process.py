"""A child process on the other end of a socket pair."""

from __future__ import annotations

import logging
import os
import shlex
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

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
        read_end, write_end = os.pipe()
        self._lifeline = os.fdopen(write_end, "wb", buffering=0)
        output_path = log or Path(os.devnull)
        with theirs, os.fdopen(read_end, "rb") as lifeline, output_path.open("ab") as output:
            line, keep = theirs.fileno(), (theirs.fileno(), lifeline.fileno())
            command = argv_for(*keep) if argv_for else argv
            _log.debug("start %.500r", shlex.join(command))
            try:
                # a session of its own: Ctrl-C in a terminal is for the owner, who takes this down in order
                self._child = subprocess.Popen(
                    list(command),
                    stdin=subprocess.DEVNULL if argv_for else line,
                    stdout=output if argv_for else line,
                    stderr=output,
                    pass_fds=keep if argv_for else (),
                    start_new_session=True,
                    cwd=cwd,
                    env={**os.environ, **(env or {})},
                )
            except OSError as exc:
                self.sock.close()
                self._lifeline.close()
                raise BenchError(f"cannot start {name}: {exc}", remedy="run `hil doctor`") from exc

    @property
    def pid(self) -> int:
        return self._child.pid

    def signal_ready(self) -> None:
        """Write one byte into the lifeline, which tells the launcher that the child's NICs are up."""
        self._lifeline.write(b"\1")

    def exit_status(self) -> int | None:
        """Return the exit status; None while it runs."""
        return self._child.poll()

    def close(self) -> None:
        """Close line and lifeline, which end the child; kill it after 3 s. Safe to call twice."""
        self.sock.close()
        self._lifeline.close()
        try:
            self._child.wait(timeout=3)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait(timeout=3)
