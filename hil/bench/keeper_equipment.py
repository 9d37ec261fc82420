"""Boards, consoles and power of a bench, as the keeper owns them: container boards, stand-ins, real Jetsons."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING

from hil.bench.drivers import containers, jetsons, outlets
from hil.bench.plumbing import Plumbing
from hil.bench.state import disk_dir
from hil.boards.console.pump import ConsoleLine, ConsolePump
from hil.boards.container.board import ContainerBoard
from hil.boards.container.storage import prepare_nv_dir
from hil.errors import HilError
from hil.evidence.sink import NullSink
from hil.lab.model import BoardSpec

if TYPE_CHECKING:
    from docker import DockerClient

    from hil.boards.console.serial_console import SerialConsole
    from hil.boards.jetson.board import JetsonBoard
    from hil.images.images import Images
    from hil.images.pki import Pki

PARALLEL = 6
"""Boards started at once: much of a start is waiting for the container engine, so more than the cores pays."""


class Equipment:
    """Everything that stands on the bench's table; made on the way up, closed by the stack it was given."""

    def __init__(
        self, plumbing: Plumbing, client: DockerClient, images: Images, pki: Pki, stack: ExitStack
    ) -> None:
        """Opens consoles and, where there are stand-ins, their power strip; no board has power yet.

        BenchError when a real board's serial port does not open.
        """
        self._lab = plumbing.lab
        self._images = images
        self._pki = pki
        directory = disk_dir(plumbing.bench)
        pump = stack.enter_context(ConsolePump(directory / "consoles"))
        plain = [b.name for b in self._lab.boards if b.driver == "container"]
        self.consoles: dict[str, ConsoleLine] = {name: pump.add(name) for name in plain}
        lines = dict(self.consoles)
        ports: dict[str, SerialConsole] = {}
        standing_in = outlets(self._lab.boards)
        if standing_in:
            # The serial line of a stand-in: its other end is opened by the Jetson driver's console, which has the log.
            lab_lines = stack.enter_context(ConsolePump(directory / "rack"))
            lines |= {name: lab_lines.add(name) for name in standing_in}
        for board in self._lab.boards:
            if board.driver == "jetson":
                ports[board.name] = port = stack.enter_context(_serial(board, lines, plumbing))
                tty = lines[board.name].board_tty if board.name in lines else ""
                self.consoles[board.name] = ConsoleLine(tty, port.url, port.log)
        self.hardware = containers(
            plumbing, client, images.hardware_image_id, lines, pki, NullSink(), [*plain, *standing_in]
        )
        if standing_in:
            from hil.bench.stand_in_strip import PowerStrip

            loads = {outlet: self.hardware[name].supervisor for name, outlet in standing_in.items()}
            stack.enter_context(PowerStrip(plumbing.management, loads))
        self.jetsons: dict[str, JetsonBoard] = jetsons(plumbing, self.consoles, pki, NullSink(), ports)

    def power_on(self, spec: BoardSpec) -> None:
        """Make the board where it is a container, and give it power."""
        if hardware := self.hardware.get(spec.name):
            prepare_nv_dir(hardware.spec.nv_dir, hardware.spec.facts, self._images.factory, self._pki)
            hardware.create()
        self._driver(spec).supervisor.on()

    def wait_booted(self, spec: BoardSpec) -> None:
        """Until its OS answers. DeviceError with its console's last lines."""
        budget_s = 60.0 + 2.0 * len(self._lab.boards)  # they share this machine's cores
        if jetson := self.jetsons.get(spec.name):
            budget_s = max(budget_s, jetson.facts.budgets.boot_s)
        self._driver(spec).wait_booted(deadline_s=budget_s)

    def choose_power_mode(self, spec: BoardSpec) -> str:
        """The mode that the lab file wants, and its name on the board; empty when it wants none."""
        if spec.power_mode is None:
            return ""
        from hil.boards.jetson.power_modes import choose_mode

        return choose_mode(self._driver(spec), spec.power_mode, reboot=True).mode

    def take_down(self) -> None:
        """Remove the containers, and shut real boards down. BenchError of the first that would not."""
        real = [board for board in self.jetsons.values() if board.name not in self.hardware]
        with ThreadPoolExecutor(PARALLEL) as pool:
            done = [
                *(pool.submit(board.remove) for board in self.hardware.values()),
                *(pool.submit(_off, board) for board in real),
            ]
        errors = [error for each in done if (error := each.exception())]
        if errors:
            raise errors[0]

    def _driver(self, spec: BoardSpec) -> ContainerBoard | JetsonBoard:
        return self.jetsons.get(spec.name) or self.hardware[spec.name]


def _off(board: JetsonBoard) -> None:
    try:
        board.supervisor.off(deadline_s=board.facts.budgets.shutdown_s)
    except HilError as exc:
        raise type(exc)(f"{exc.message}; it may still have power", remedy=exc.remedy) from exc


def _serial(board: BoardSpec, lines: dict[str, ConsoleLine], plumbing: Plumbing) -> SerialConsole:
    from hil.boards.console.serial_console import SerialConsole

    directory = disk_dir(plumbing.bench) / "consoles"
    section = board.jetson
    if section and section.console:
        return SerialConsole(board.name, section.console.url, directory, baudrate=section.console.baudrate)
    return SerialConsole(board.name, lines[board.name].url, directory)
