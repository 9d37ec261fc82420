"""Bugs planted in a board's OS on purpose: what a series must find.  The canary of every series has one of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

from hil.boards.protocol import Board
from hil.faults.os_kinds import on_board
from hil.images.planted import BUGS
from hil.rollout.fleet import Fleet


@dataclass(frozen=True)
class Plant:
    """A bug, planted in the running OS of one board right after it was put back."""

    description: str
    plant: Callable[[Board], object]


_LOSES = "sleep 4; rm -f /data/hil-trial-mark; sync"
_RESTARTS = "sleep 6; busybox reboot -f"


def _later(script: str) -> Callable[[Board], object]:
    """Return what leaves a script running on a board."""
    return lambda board: on_board(board, f"({script}) >/dev/null 2>&1 &")


PLANTS: Mapping[str, Plant] = {
    "loses-data": Plant("removes a file that was synced", _later(_LOSES)),
    "restarts": Plant("restarts by itself while it runs a confirmed slot", _later(_RESTARTS)),
    "canary": Plant(
        "removes a file that was synced, and restarts by itself before the rollout does it",
        _later("sleep 3; rm -f /data/hil-trial-mark; sync; busybox reboot -f"),
    ),
}
CANARY = "canary"
CANARY_CHECKERS = ("data survives", "no restart of its own")
"""What must find the canary's bug: one of them reads the boards at the end, the other one needs the whole watch."""


def known_bugs() -> dict[str, str]:
    """Return every bug that can be planted with what it does: in one board, or in the OS that is uploaded."""
    return {name: each.description for name, each in PLANTS.items()} | {n: b.description for n, b in BUGS.items()}


def plant(name: str, fleet: Fleet, seed: int) -> str:
    """Plant a bug in one board that the seed draws; its name. Empty for one of the OS that is uploaded."""
    if name in BUGS:
        return ""
    board = Random(f"plant {seed}").choice(fleet.members)
    PLANTS[name].plant(board)
    return board.name
