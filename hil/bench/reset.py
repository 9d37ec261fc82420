"""A bench put back as its lab file has it: links, power, slots, and container boards as they leave the factory."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hil.bench.equipment import PARALLEL
from hil.bench.state import disk_dir
from hil.bench.undo import note_put_back, power_on
from hil.boards.capabilities import Feature, lacks
from hil.boards.container.board import BoardFacts, ContainerSupervisor
from hil.boards.container.storage import prepare_nv_dir
from hil.boards.protocol import Board, PowerState, Slot
from hil.core.command import Progress, silent
from hil.errors import BenchError, HilError
from hil.images.pki import ensure_pki

if TYPE_CHECKING:
    from hil.bench.bench import Bench

FACTORY_SLOT: Slot = "A"


@dataclass(frozen=True)
class Difference:
    """A link or a board that is not as the lab file has it."""

    kind: str
    """``link``, ``power`` or ``slots``."""
    name: str
    was: str

    def __str__(self) -> str:
        return f"{self.name}: {self.was}"


def differences(bench: Bench) -> list[Difference]:
    """Compare links, power and slots with the lab file. BenchError when a board's power cannot be read."""
    found = [Difference("link", name, was) for name, was in bench.links.differences().items()]
    with ThreadPoolExecutor(PARALLEL) as pool:
        boards = [each for each in pool.map(lambda board: _of_board(bench, board), bench.boards.values()) if each]
    return found + boards


def _of_board(bench: Bench, board: Board) -> Difference | None:
    missing = lacks(board)
    if Feature.POWER not in missing and board.supervisor.state() is PowerState.OFF:
        entry = bench.journal.power_off(board.name)
        since = f" since {entry.clock_time}, switched off by {entry.who} ({entry.program})" if entry else ""
        return Difference("power", board.name, f"off{since}")
    if Feature.SLOTS in missing:
        return None
    try:
        state = board.boot.state()
    except HilError as exc:
        return Difference("slots", board.name, f"its slots cannot be read: {exc.message}")
    said = [f"slot {slot.slot} cannot be booted" for slot in state.slots if not slot.bootable]
    if state.running != FACTORY_SLOT:
        said.insert(0, f"runs slot {state.running}" if state.running else "runs no OS")
    if state.active != FACTORY_SLOT:
        said.append(f"starts slot {state.active} next")
    return Difference("slots", board.name, ", ".join(said)) if said else None


def put_back(bench: Bench, found: Iterable[Difference], tell: Progress = silent) -> None:
    """Put back what differs, and say so in the evidence. BenchError when something stays as it is."""
    found = list(found)
    for each in (e for e in found if e.kind == "link"):
        bench.links.reset(each.name)
        note_put_back(bench, tell, f"link {each.name}", each.was)
    for each in (e for e in found if e.kind == "power"):
        power_on(bench, [each.name], each.was, tell)
    slots = {e.name: e.was for e in found if e.kind == "slots"}
    slots |= {e.name: e.was for e in differences(bench) if e.kind == "slots" and e.name not in slots}
    renew(bench, slots, tell)
    if left := differences(bench):
        raise BenchError(
            f"bench {bench.name} is not as its lab file has it: {'; '.join(map(str, left))}",
            remedy="see `hil link show` and `hil board list`; a real board may have to be flashed",
        )


def renew(bench: Bench, boards: dict[str, str], tell: Progress = silent) -> None:
    """Bring boards to their factory state, each for a reason; all have booted then.

    A board in a container gets its disks anew.  A real one starts its factory slot: its other slot and its files stay.
    """
    for name, why in boards.items():
        note_put_back(bench, tell, f"board {name}", why)
    with ThreadPoolExecutor(PARALLEL) as pool:
        list(pool.map(lambda name: _renew(bench, bench.boards[name]), boards))


def is_virtual(bench: Bench, board: str) -> bool:
    """Return whether a board is a container of this machine, or a container behind a Jetson's driver."""
    return (disk_dir(bench.name) / board / "board.json").exists()


def _renew(bench: Bench, board: Board) -> None:
    if is_virtual(bench, board.name):
        supervisor = board.supervisor
        supervisor.discard() if isinstance(supervisor, ContainerSupervisor) else supervisor.cut()
        facts = BoardFacts(**bench.plumbing.board_facts(board.name))
        prepare_nv_dir(disk_dir(bench.name) / board.name, facts, bench.images.factory, ensure_pki())
        board.supervisor.on()
        board.wait_booted(deadline_s=60.0 + 2.0 * len(bench.boards))
        return
    board.boot.set_active(FACTORY_SLOT)
    if board.boot.state().running != FACTORY_SLOT:
        board.supervisor.off()
        board.supervisor.on()
        board.wait_booted()
