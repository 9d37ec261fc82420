"""Boards that take no part: are they left alone?"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from hil.boards.protocol import Board, Via
from hil.errors import HilError
from hil.rollout.fleet import Fleet
from hil.rollout.node_client import NodeClient

AT_ONCE = 8
ANSWER_S = 3.0


@dataclass(frozen=True)
class UninvolvedBoard:
    """What a board that takes no part says, through the management network; None: it does not answer."""

    boot_id: str | None = None
    holds: tuple[str, ...] = ()
    """Ids of the artefacts asked for that it has, wholly or in part."""
    epoch: int | None = None
    """The configuration epoch that it claims."""


class UninvolvedBoards:
    """The boards that take no part: as they are, and ``before``, as they were when this was made."""

    def __init__(self, fleet: Fleet | None) -> None:
        self._fleet = fleet
        self.before = self.look()

    def answer(self) -> bool:
        """Whether all of them have answered once; those that had not are asked again (they may still be booting)."""
        if any(state.boot_id is None for state in self.before.values()):
            self.before = self.look()
        return all(state.boot_id is not None for state in self.before.values())

    @classmethod
    def of(cls, boards: Mapping[str, Board], names: Collection[str]) -> UninvolvedBoards:
        """Return those of a bench's boards that are in ``names``; there may be none."""
        rest = {name: board for name, board in boards.items() if name in names}
        return cls(Fleet.of(rest, next(iter(rest))) if rest else None)

    def look(self, artefacts: Collection[str] = ()) -> dict[str, UninvolvedBoard]:
        """Ask all of them."""
        if self._fleet is None:
            return {}
        fleet = self._fleet

        def ask(name: str) -> UninvolvedBoard:
            try:
                with NodeClient(fleet, name, Via.MANAGEMENT, timeout_s=ANSWER_S) as client:
                    health = client.health()
                    held = tuple(a for a in artefacts if client.artefact(a) is not None)
            except HilError:
                return UninvolvedBoard()
            return UninvolvedBoard(health.boot_id, held, health.claim.epoch)

        with ThreadPoolExecutor(min(AT_ONCE, len(fleet)), "bystanders") as pool:
            return dict(zip(fleet.names, pool.map(ask, fleet.names), strict=True))

    def touched(self, artefacts: Collection[str]) -> dict[str, str]:
        """By board, what happened to it that should not have; boards that were left alone are not in it."""
        found: dict[str, str] = {}
        for name, now in self.look(artefacts).items():
            faults = []
            if now.boot_id is None:
                faults.append("does not answer")
            elif now.boot_id != self.before[name].boot_id:
                faults.append("has restarted")
            if now.holds:
                faults.append(f"holds {len(now.holds)} of the artefacts")
            if now.epoch is not None:
                faults.append(f"claims epoch {now.epoch}")
            if faults:
                found[name] = " and ".join(faults)
        return found
