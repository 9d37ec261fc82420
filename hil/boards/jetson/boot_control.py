"""Slots of a Jetson as its running OS tells them, remembered for when it does not run."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from hil.boards.jetson.slots import NvBootControl
from hil.boards.protocol import BootState, PowerState, Slot
from hil.boards.ssh.shell import SshShell
from hil.errors import BenchError, DeviceError

if TYPE_CHECKING:
    from hil.boards.jetson.board import JetsonBoard


class JetsonBootControl:
    """``hil.boards.protocol.BootControl`` through the board's OS, over a session that stays open.

    A Jetson tells its slots only while its OS runs: at other times they are what they were when it last told, with
    no slot running.
    """

    def __init__(self, board: JetsonBoard) -> None:
        self._board = board
        self._last: BootState | None = None
        self._kept: SshShell | None = None
        self._lock = threading.Lock()

    def remember(self, state: BootState) -> None:
        self._last = state

    def drop(self) -> None:
        """Close the kept session: its boot is over."""
        with self._lock:
            kept, self._kept = self._kept, None
        if kept is not None:
            kept.close()

    def state(self) -> BootState:
        """Return the slots; BenchError when the board is down and this process has not read them before."""
        if self._board.supervisor.state() is PowerState.OFF:
            return self._remembered("is off")
        try:
            return self._ask()
        except DeviceError as exc:
            return self._remembered(f"does not answer ({exc.message})")

    def set_active(self, slot: Slot) -> None:
        """Try ``slot`` first at the next boot, and read that back. DeviceError when it did not take."""
        with self._board.open_shell() as shell:
            self._board.inspect_over(shell)
            control = NvBootControl(
                shell, board=self._board.name, timeout_s=self._board.facts.budgets.answer_s
            )
            control.set_active(slot)
            self.remember(control.state())

    def _ask(self) -> BootState:
        """Read over the kept session; one that broke since it was last used is replaced once."""
        with self._lock:
            kept = self._kept
        if kept is not None and kept.alive():
            with contextlib.suppress(DeviceError):
                return self._board.inspect_over(kept).boot
        self.drop()
        fresh = self._board.open_shell()
        try:
            state = self._board.inspect_over(fresh).boot
        except BaseException:
            fresh.close()
            raise
        with self._lock:
            old, self._kept = self._kept, fresh
        if old is not None:
            old.close()
        return state

    def _remembered(self, why: str) -> BootState:
        if self._last is None:
            raise BenchError(
                f"board {self._board.name} {why}: only its OS can tell its slots",
                remedy="power it on and wait until it has booted",
            )
        return replace(self._last, running=None)
