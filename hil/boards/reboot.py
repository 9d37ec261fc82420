"""Proof that a board rebooted: another boot id. An answer over SSH alone may come from the boot before."""

from __future__ import annotations

from hil.boards.protocol import Board, Identity
from hil.core.wait import wait_until
from hil.errors import DeviceError


def wait_rebooted(board: Board, boot_id: str, *, deadline_s: float) -> Identity:
    """Wait until the board answers from another boot than ``boot_id``; who it is then. DeviceError at the deadline."""

    def again() -> Identity | None:
        now = board.identity()
        return now if now.boot_id != boot_id else None

    return wait_until(again, what=f"{board.name} to reboot", deadline_s=deadline_s, error=DeviceError)
