"""The `hil` command as its users have it: a program whose output is read, or a command in a terminal.

A terminal runs `python -m hil.cli`; where output is read, the process is forked from one that has imported it
(:mod:`tests.kits.hil_starter`).
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hil.bench.leftovers import keepers
from hil.core import netns, paths
from tests.kits import hil_starter

HIL = (sys.executable, "-m", "hil.cli")
SOON_S = 30.0  # on a machine that others use too


@dataclass(frozen=True)
class Hil:
    """Runs `hil`, with a bench to use where the arguments name none."""

    bench: str = ""

    def __call__(self, *arguments: str, stdin: str = "", timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
        """What became of it, whatever its exit code."""
        chosen = {"HIL_BENCH": self.bench} if self.bench else {}
        with TemporaryDirectory() as folder:
            out, err = Path(folder, "out"), Path(folder, "err")
            out.touch()
            err.touch()
            env = {**os.environ, **chosen}
            code = hil_starter.run(arguments, stdin, env, out=out, err=err, timeout_s=timeout_s)
            return subprocess.CompletedProcess([*HIL, *arguments], code, out.read_text(), err.read_text())

    def good(self, *arguments: str, stdin: str = "") -> str:
        """What it prints; it must end with exit code 0."""
        done = self(*arguments, stdin=stdin)
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    def data(self, *arguments: str) -> Any:
        """What it prints with ``--json``."""
        return json.loads(self.good(*arguments, "--json"))


@contextmanager
def bench_from_the_command_line(name: str, lab: str) -> Iterator[None]:
    """`hil bench up`, and `hil bench down` unless the test has ended it; nothing of it is left."""
    hil = Hil()
    done = hil("bench", "up", "--lab", lab, "--name", name, timeout_s=900)
    assert done.returncode == 0, done.stderr
    yield
    if name in keepers():
        hil.good("bench", "down", name)
    left = netns.names(f"hil.{name}.")
    assert not left, f"left behind: {', '.join(left)}"


class Terminal:
    """A `hil` command in a terminal of its own, as a person has it; ended with the block if it still runs."""

    def __init__(self, *arguments: str, rows: int = 40, columns: int = 120) -> None:
        self._pid, self._fd = pty.fork()
        if self._pid == 0:
            os.chdir(paths.ROOT)
            os.environ["TERM"] = "xterm-256color"
            os.execv(HIL[0], [*HIL, *arguments])
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.said = b""
        self._seen = 0
        self._status: int | None = None

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._status is None:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        os.close(self._fd)

    def wait_for(self, pattern: bytes, deadline_s: float = SOON_S) -> None:
        """Until it has said this since the last time."""
        until = time.monotonic() + deadline_s
        while not (found := re.search(pattern, self.said[self._seen :])):
            assert self._read(until), f"no {pattern!r} in {self.said[self._seen :]!r}"
        self._seen += found.end()

    def type(self, text: bytes) -> None:
        os.write(self._fd, text)

    def exit_code(self, deadline_s: float = SOON_S) -> int:
        """Its exit code, once it has ended by itself."""
        until = time.monotonic() + deadline_s
        while self._read(until):
            pass  # what is still on the screen has to be read, or the command cannot end
        while self._status is None:
            ended, status = os.waitpid(self._pid, os.WNOHANG)
            if ended:
                self._status = status
            else:
                assert time.monotonic() < until, f"it still runs; it said {self.said[-500:]!r}"
                time.sleep(0.02)
        return os.waitstatus_to_exitcode(self._status)

    def _read(self, until: float) -> bool:
        """False when nothing came until then, or when it has closed its screen."""
        if not select.select([self._fd], [], [], max(0.0, until - time.monotonic()))[0]:
            return False
        try:
            piece = os.read(self._fd, 65536)
        except OSError:  # EIO: the other side is closed
            return False
        self.said += piece
        return bool(piece)
