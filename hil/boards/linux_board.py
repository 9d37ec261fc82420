"""What container boards and Jetsons have in common: a Linux behind SSH, and a console that shows its boot."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from hil.boards.console.log_console import LogConsole
from hil.boards.protocol import Board, Identity, Shell, Via
from hil.boards.ssh.shell import SshShell, Target
from hil.core import netns
from hil.core.wait import SYSTEM_CLOCK, Clock, wait_until
from hil.errors import BenchError, DeviceError, HilError

T = TypeVar("T")

PROBE_S = 0.3
"""An sshd that is there takes a connection within this; one probe of many while a board boots."""


class LinuxBoard:
    """Part of ``hil.boards.protocol.Board``; a driver adds power, slots and identity."""

    def __init__(
        self, name: str, targets: Mapping[Via, Target], console: LogConsole, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self.name = name
        self.console = console
        self._targets = targets
        self._clock = clock

    def target(self, via: Via = Via.MANAGEMENT) -> Target:
        """Return how an SSH client gets to it: address, namespace to connect from, keys."""
        try:
            return self._targets[via]
        except KeyError:
            raise BenchError(f"board {self.name} has no {via.value} address on this bench") from None

    def address(self, via: Via = Via.MANAGEMENT) -> tuple[str, str]:
        """Return (network namespace to connect from, IPv4 address of the board)."""
        target = self.target(via)
        return target.namespace, target.address

    def shell(self, via: Via = Via.MANAGEMENT) -> SshShell:
        """Open a new SSH session. BenchError when there is no route, DeviceError when sshd does not answer."""
        return SshShell(self.target(via))

    def sensors(self) -> dict[str, float]:
        """Return the latest readings by name, with the unit in it."""
        with self.shell() as shell:
            return self.sensors_over(shell)

    def sensors_over(self, shell: Shell) -> dict[str, float]:
        """Return the same over a session that is open already: for repeated readings."""
        raise NotImplementedError

    def _wait_answer(self, ask: Callable[[], T | None], deadline_s: float) -> T:
        """Ask until it answers over SSH; DeviceError at the deadline with the console's last lines."""
        target = self.target()

        def answer() -> T | None:
            if target.jump is None:
                address = (target.address, target.port)
                netns.connect(target.namespace, address, timeout_s=PROBE_S).close()
            return ask()

        try:
            return wait_until(
                answer,
                what=f"board {self.name} to boot",
                deadline_s=deadline_s,
                every_s=0.03 if target.jump is None else 0.5,
                error=DeviceError,
                clock=self._clock,
            )
        except DeviceError as exc:
            raise DeviceError(
                f"{exc.message}; its console last said:\n{self.console.tail()}", remedy=f"see {self.console.log}"
            ) from exc


class KeptShell:
    """A session that stays open between uses; one that broke meanwhile is replaced."""

    def __init__(self, opener: Callable[[], Shell]) -> None:
        """Open sessions with ``opener``, e.g. ``board.shell``; the first one at the first use."""
        self._open = opener
        self._shell: Shell | None = None
        self._closed = False

    def use(self, command: Callable[[Shell], T]) -> T:
        """Return what ``command`` returns on the session; tried once more on a new one when the kept one fails."""
        kept = self._shell
        if kept is not None:
            try:
                return command(kept)
            except HilError:
                self.drop()
        self._shell = fresh = self._open()
        if self._closed:  # while the session was being opened
            self.drop()
        try:
            return command(fresh)
        except HilError:
            self.drop()
            raise

    def drop(self) -> None:
        """Close the session; the next use opens another one."""
        shell, self._shell = self._shell, None
        if shell is not None:
            shell.close()

    def close(self) -> None:
        """Close the session for good; a use that still runs meets that and ends."""
        self._closed = True
        self.drop()


def wait_rebooted(board: Board, boot_id: str, *, deadline_s: float) -> Identity:
    """Wait until the board answers from another boot than ``boot_id``; who it is then. DeviceError at the deadline.

    An answer over SSH alone may come from the boot before.
    """

    def again() -> Identity | None:
        now = board.identity()
        return now if now.boot_id != boot_id else None

    return wait_until(again, what=f"{board.name} to reboot", deadline_s=deadline_s, error=DeviceError)
