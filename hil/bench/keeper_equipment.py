"""Boards, consoles and power of a bench, as the keeper owns them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING

from hil.bench.drivers import sites
from hil.bench.plumbing import Plumbing
from hil.bench.state import disk_dir
from hil.boards.capabilities import BootBudgets
from hil.boards.kinds import Equipment, Rack, kind_of
from hil.evidence.sink import NullSink
from hil.lab.model import BoardSpec

if TYPE_CHECKING:
    from docker import DockerClient

    from hil.images.images import Images
    from hil.images.pki import Pki

PARALLEL = 6
"""Boards started at once: much of a start is waiting for the container engine, so more than the cores pays."""


class KeeperEquipment:
    """Everything that stands on the bench's table; made on the way up, closed by the stack it was given."""

    def __init__(
        self, plumbing: Plumbing, client: DockerClient, images: Images, pki: Pki, stack: ExitStack
    ) -> None:
        """Open consoles and, where there are stand-ins, their power strip; no board has power yet.

        BenchError when a real board's serial port does not open.
        """
        self._boards = len(plumbing.lab.boards)
        rack = Rack(disk_dir(plumbing.bench), images, stack)
        places = sites(plumbing, client, images.hardware_image_id, pki, NullSink())
        self._of: dict[str, Equipment] = {
            board.name: kind_of(board).equip(board, places[board.name], rack) for board in plumbing.lab.boards
        }
        self.consoles = {name: equipment.console for name, equipment in self._of.items()}
        if rack.loads:
            from hil.bench.stand_in_strip import PowerStrip

            stack.enter_context(PowerStrip(plumbing.management, rack.loads))

    def power_on(self, spec: BoardSpec) -> None:
        """Make the board where the bench makes it, and give it power."""
        self._of[spec.name].power_on()

    def wait_booted(self, spec: BoardSpec) -> None:
        """Wait until its OS answers. DeviceError with its console's last lines."""
        board = self._of[spec.name].board
        budget_s = 60.0 + 2.0 * self._boards  # they share this machine's cores
        if isinstance(board, BootBudgets):
            budget_s = max(budget_s, board.boot_budget_s)
        board.wait_booted(deadline_s=budget_s)

    def choose_power_mode(self, spec: BoardSpec) -> str:
        """Set the mode that the lab file wants: its name on the board; empty when it wants none."""
        if spec.power_mode is None:
            return ""
        from hil.boards.jetson.power_modes import choose_mode

        return choose_mode(self._of[spec.name].board, spec.power_mode, reboot=True).mode

    def take_down(self) -> None:
        """Remove the containers, and shut real boards down. BenchError of the first that would not."""
        with ThreadPoolExecutor(PARALLEL) as pool:
            done = [pool.submit(equipment.take_down) for equipment in self._of.values()]
        if errors := [error for each in done if (error := each.exception())]:
            raise errors[0]
