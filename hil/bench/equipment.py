"""Boards, consoles and power of a bench: what its keeper owns, and what any process that uses it drives them with."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from hil.bench.guest import Guest, GuestSite
from hil.bench.plumbing import Plumbing
from hil.bench.stand_in_strip import ADDRESS, PowerStrip
from hil.bench.state import disk_dir
from hil.boards.capabilities import BootBudgets
from hil.boards.console.log_console import ConsoleLine
from hil.boards.container.board import LABEL, engine_errors
from hil.boards.kinds import Rack, Site, kind_of
from hil.evidence.sink import NullSink, Sink
from hil.lab.model import BoardSpec
from hil.lab.tenant import QuotaSpec
from hil.onboard.node.answers import PORT

if TYPE_CHECKING:
    from docker import DockerClient

    from hil.boards.protocol import Board
    from hil.images.images import Images
    from hil.images.pki import Pki

PARALLEL = 6
"""Boards started at once: much of a start is waiting for the container engine, so more than the cores pays."""


def sites(plumbing: Plumbing, client: DockerClient, image_id: str, pki: Pki, sink: Sink) -> dict[str, Site]:
    """Return what the bench gives to each board's driver, by the board's name."""
    return {
        board.name: Site(
            bench=plumbing.bench,
            spacecraft=plumbing.lab.spacecraft_of(board.name).name,
            addresses=plumbing.board_address(board.name),
            facts=plumbing.board_facts(board.name),
            disks=disk_dir(plumbing.bench),
            management=plumbing.management,
            strip=(ADDRESS, number),
            client=client,
            image_id=image_id,
            plug=partial(plumbing.plug, board.name),
            pki=pki,
            sink=sink,
            quotas=tenant.quotas if (tenant := plumbing.lab.tenant_of(board.name)) else QuotaSpec(),
        )
        for number, board in enumerate(plumbing.lab.boards)
    }


def boards_of(
    plumbing: Plumbing, client: DockerClient, image_id: str, consoles: Mapping[str, ConsoleLine], pki: Pki, sink: Sink
) -> dict[str, Board]:
    """Return the drivers of all boards of a lab by name, in lab file order; nothing is started."""
    places = sites(plumbing, client, image_id, pki, sink)
    return {
        board.name: kind_of(board).board(board, places[board.name], consoles[board.name])
        for board in plumbing.lab.boards
    }


def guests_of(plumbing: Plumbing, client: DockerClient, image_id: str) -> dict[str, Guest]:
    """Return the guests of a lab that are containers, by name; nothing is started."""
    lab, found = plumbing.lab, {}
    for guest in lab.guests:
        if guest.nic is None:
            board = guest.served_by or lab.gateway
            address = f"{plumbing.addresses[board].flight}:{PORT}"
            folder = disk_dir(plumbing.bench) / guest.name
            site = GuestSite(guest.name, plumbing.bench, folder, board, address, client, image_id)
            found[guest.name] = Guest(site)
    return found


def firmware_pids(client: DockerClient, bench: str) -> dict[str, int]:
    """Return the host PID of the firmware of every board of a bench that runs in a container now, by its name."""
    containers = client.containers.list(filters={"label": [f"{LABEL}={bench}", "hil.board"]})
    return {c.labels["hil.board"]: int(c.attrs["State"]["Pid"]) for c in containers if c.attrs["State"]["Pid"]}


class FirmwarePids:
    """:func:`firmware_pids` asked at most once a second, however many boards are asked about."""

    def __init__(self, client: DockerClient, bench: str) -> None:
        self._client, self._bench = client, bench
        self._known: dict[str, int] = {}
        self._asked_s = -math.inf

    def of(self, board: str) -> int | None:
        """Return the PID of a board's firmware; None while it is off. BenchError when the engine does not answer."""
        if time.monotonic() - self._asked_s >= 1.0:
            try:
                with engine_errors("the boards of this bench"):
                    self._known = firmware_pids(self._client, self._bench)
            finally:
                self._asked_s = time.monotonic()
        return self._known.get(board)


class KeeperEquipment:
    """Everything that stands on the bench's table; made on the way up, closed by the stack it was given."""

    def __init__(self, plumbing: Plumbing, client: DockerClient, images: Images, pki: Pki, stack: ExitStack) -> None:
        """Open consoles and, where there are stand-ins, their power strip; no board has power yet.

        BenchError when a real board's serial port does not open.
        """
        self._boards = len(plumbing.lab.boards)
        rack = Rack(disk_dir(plumbing.bench), images, stack)
        places = sites(plumbing, client, images.hardware_image_id, pki, NullSink())
        self._of = {board.name: kind_of(board).equip(board, places[board.name], rack) for board in plumbing.lab.boards}
        self.consoles = {name: equipment.console for name, equipment in self._of.items()}
        if rack.loads:
            stack.enter_context(PowerStrip(plumbing.management, rack.loads))

    @property
    def boards(self) -> dict[str, Board]:
        """The drivers of all boards by name, as the keeper has them."""
        return {name: equipment.board for name, equipment in self._of.items()}

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
