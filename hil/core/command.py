"""Commands of this host behind one seam, so that what needs root can be tested without it."""

from __future__ import annotations

import logging
import os
import shlex
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from hil.errors import BenchError

_log = logging.getLogger(__name__)

Progress = Callable[[str], None]
"""Called with one line of text that says what is going on now."""


def silent(_line: str) -> None:
    """A :data:`Progress` that forgets."""


class StepView(Protocol):
    """The place where the steps of a long action and their time are shown; ``hil.cli.output.Progress`` is one."""

    def begin(self, step: str) -> None: ...
    def say(self, line: str) -> None: ...
    def note(self, line: str) -> None: ...
    def end(self, summary: str, seconds: float) -> None: ...


@dataclass(frozen=True)
class Result:
    """A finished command of this host."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str

    @property
    def ok(self) -> bool:
        return self.returncode == 0

    def tail(self, lines: int = 8) -> str:
        """Return the last lines of what it said, for an error message."""
        return "\n".join((self.stdout + self.stderr).strip().splitlines()[-lines:])


class Runner(Protocol):
    """The one verb: run a command of this host to its end."""

    def __call__(self, argv: Sequence[str], *, timeout_s: float = 30.0, env: Mapping[str, str] | None = None) -> Result:
        """Run ``argv``; ``env`` is added to this process's environment.

        A command that is not there has return code 127.  BenchError when it runs past ``timeout_s``.
        """
        ...


def run(argv: Sequence[str], *, timeout_s: float = 30.0, env: Mapping[str, str] | None = None) -> Result:
    """Return the :class:`Runner` that really runs: no shell, no stdin, messages in English."""
    _log.debug("run %.500r", shlex.join(argv))
    done = run_unlogged(argv, timeout_s=timeout_s, env=env)
    _log.debug("%s: exit code %d%s", argv[0], done.returncode, "" if done.ok else f": {done.tail(3)[-300:]!r}")
    return done


def run_unlogged(argv: Sequence[str], *, timeout_s: float = 30.0, env: Mapping[str, str] | None = None) -> Result:
    """As :func:`run`, for commands whose arguments hold a password."""
    try:
        done = subprocess.run(
            list(argv),
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=timeout_s,
            env={**os.environ, "LC_ALL": "C.UTF-8", **(env or {})},
        )
    except (FileNotFoundError, PermissionError):  # the latter when PATH leads through a closed directory
        return Result(tuple(argv), 127, "", f"{argv[0]}: not found")
    except subprocess.TimeoutExpired as exc:
        raise BenchError(f"`{' '.join(argv)}` did not end within {timeout_s:g} s") from exc
    return Result(tuple(argv), done.returncode, done.stdout, done.stderr)
