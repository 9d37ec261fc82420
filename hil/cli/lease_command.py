"""The command of `hil lease take ... -- COMMAND`: it and the lease hold as long as each other."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from hil.core.processes import dies_with_us
from hil.errors import ConfigurationError

if TYPE_CHECKING:
    from types import FrameType

    from hil.leases.leases import Lease

TERM_S = 60.0
"""Patience with a command that was asked to end: a campaign takes its bench down meanwhile."""
LOOK_S = 1.0


def run_with(lease: Lease, argv: Sequence[str]) -> int:
    """Run ``argv`` and return its exit code (128 + number when a signal ended it).

    From its start the command itself counts as the holder: when this process is killed, the command is asked to
    end, and the boards are free once it has.  LeaseLost when the lease was freed by force: the command has ended then.
    ConfigurationError when it cannot be started.
    """
    try:
        child = subprocess.Popen(argv, env={**os.environ, **lease.environment()}, preexec_fn=dies_with_us())
    except OSError as exc:
        raise ConfigurationError(f"cannot run {argv[0]}: {exc.strerror}", remedy="check its name") from exc
    before = signal.getsignal(signal.SIGINT)
    try:
        lease.hand_to(child.pid)
        signal.signal(signal.SIGINT, _interrupt(child))
        ended = os.pidfd_open(child.pid)
        try:
            while not select.select([ended], [], [], LOOK_S)[0]:
                if lease.lost:
                    _stop_unless_renewed(lease, child)
        finally:
            os.close(ended)
    finally:
        _end(child)
        signal.signal(signal.SIGINT, before)
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def _stop_unless_renewed(lease: Lease, child: subprocess.Popen[bytes]) -> None:
    from hil.leases.leases import LeaseLost

    try:
        lease.check()  # this process may only have slept, and the boards were not taken meanwhile
    except LeaseLost:
        if child.poll() is None:  # else it is gone because the command has ended
            click.echo("hil: the lease is lost; the command is asked to end", err=True)
            _end(child)
            raise


def _interrupt(child: subprocess.Popen[bytes]) -> Callable[[int, FrameType | None], None]:
    """Pass Ctrl-C on to the command, unless the terminal has sent it to both processes."""

    def pass_on(number: int, frame: FrameType | None) -> None:
        if not sys.stdin.isatty() and child.returncode is None:
            child.send_signal(number)

    return pass_on


def _end(child: subprocess.Popen[bytes]) -> None:
    """SIGTERM, patience, SIGKILL; nothing when it has ended."""
    if child.poll() is not None:
        return
    child.terminate()
    with suppress(subprocess.TimeoutExpired):
        child.wait(TERM_S)
    child.kill()
    child.wait()
