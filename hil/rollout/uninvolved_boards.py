"""Boards that take no part: are they left alone?"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from hil.boards.protocol import Board, Via
from hil.core.wait import SYSTEM_CLOCK, Clock, poll_until
from hil.errors import HilError
from hil.images.flight_pki import Operator
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
        """Return whether all of them have answered once; those that had not are asked again (they may be booting)."""
        self.before |= self.look(_silent(self.before))
        return not _silent(self.before)

    @classmethod
    def of(
        cls, boards: Mapping[str, Board], names: Collection[str], operator: Operator | None = None
    ) -> UninvolvedBoards:
        """Return those of a bench's boards that are in ``names``; there may be none."""
        rest = {name: board for name, board in boards.items() if name in names}
        return cls(Fleet.of(rest, next(iter(rest)), operator=operator) if rest else None)

    def look(self, names: Collection[str] | None = None, artefacts: Collection[str] = ()) -> dict[str, UninvolvedBoard]:
        """Ask those of ``names`` (default: all)."""
        if self._fleet is None or names == ():
            return {}
        fleet = self._fleet
        names = fleet.names if names is None else names

        def ask(name: str) -> UninvolvedBoard:
            try:
                with NodeClient(fleet, name, Via.MANAGEMENT, timeout_s=ANSWER_S) as client:
                    health = client.health()
                    held = tuple(a for a in artefacts if client.artefact(a) is not None)
            except HilError:
                return UninvolvedBoard()
            return UninvolvedBoard(health.boot_id, held, health.claim.epoch)

        with ThreadPoolExecutor(min(AT_ONCE, len(fleet)), "bystanders") as pool:
            return dict(zip(names, pool.map(ask, names), strict=True))

    def touched(
        self, artefacts: Collection[str], *, deadline_s: float = 30.0, clock: Clock = SYSTEM_CLOCK
    ) -> dict[str, str]:
        """By board, what happened to it that should not have; boards that were left alone are not in it.

        Boards that do not answer are asked again for ``deadline_s`` seconds: one answer that is late is no fault.
        """
        states = self.look(artefacts=artefacts)
        for _ in poll_until(deadline_s, every_s=0.5, clock=clock):
            if not (silent := _silent(states)):
                break
            states |= self.look(silent, artefacts)
        found: dict[str, str] = {}
        for name, now in states.items():
            faults = []
            if now.boot_id is None:
                faults.append(f"does not answer within {deadline_s:g} s")
            elif now.boot_id != self.before[name].boot_id:
                faults.append("has restarted")
            if now.holds:
                faults.append(f"holds {len(now.holds)} of the artefacts")
            if now.epoch is not None:
                faults.append(f"claims epoch {now.epoch}")
            if faults:
                found[name] = " and ".join(faults)
        return found


def _silent(states: Mapping[str, UninvolvedBoard]) -> tuple[str, ...]:
    return tuple(name for name, state in states.items() if state.boot_id is None)
