"""Jetson-driven stand-ins without a bench: container boards with a strip and a serial line, and the driver's facts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hil.bench.stand_in_strip import PowerStrip
from hil.boards.console.log_console import ConsoleLine
from hil.boards.console.serial_console import SerialConsole
from hil.boards.container.board import ContainerBoard
from hil.boards.jetson.board import JetsonBoard, JetsonFacts
from hil.boards.power.shelly import ShellyGen2Spec
from hil.boards.protocol import Fidelity
from hil.lab.power import SupervisorSpec
from hil.lab.real_board import BudgetSpec
from hil.testing.fakes import ListSink
from tests.kits.container_boards import boards

if TYPE_CHECKING:
    from docker import DockerClient

STRIP_S = 30.0  # the strip answers when the container has started, on a machine that others use too


@dataclass
class StandIn:
    """One board and everything around it."""

    hardware: ContainerBoard
    console: SerialConsole
    facts: JetsonFacts
    sink: ListSink

    def driver(self, **changes: Any) -> JetsonBoard:
        """A driver in the process that has the serial port, from facts that may differ."""
        return JetsonBoard(replace(self.facts, **changes), console=self.console, sink=self.sink)

    def elsewhere(self, **changes: Any) -> JetsonBoard:
        """A driver as another process has it: it only follows the console's log."""
        return JetsonBoard(replace(self.facts, **changes), sink=self.sink)


@contextmanager
def stand_ins(client: DockerClient, count: int, directory: Path) -> Iterator[list[StandIn]]:
    """``count`` stand-ins without power; everything is gone afterwards."""
    with boards(client, count) as (made, _), ExitStack() as stack:
        namespace = made[0].address()[0]
        loads = {number: board.supervisor for number, board in enumerate(made)}
        stack.enter_context(PowerStrip(namespace, loads))
        found = []
        for number, board in enumerate(made):
            console = stack.enter_context(SerialConsole(board.name, board.console.url, directory))
            power = ShellyGen2Spec(kind="shelly-gen2", address="127.0.0.1", outlet=number, request_timeout_s=STRIP_S)
            facts = JetsonFacts(
                name=board.name,
                spacecraft=board.spacecraft,
                module=board.spec.facts.module,
                serial=board.spec.facts.serial,
                targets=board.spec.targets,
                console=ConsoleLine("", console.url, console.log),
                supervisor=SupervisorSpec(power=power, min_off_s=0.0, confirm_within_s=STRIP_S),
                fidelity=Fidelity.VIRTUAL,
                supervisor_namespace=namespace,
                budgets=BudgetSpec(boot_s=60.0, shutdown_s=15.0, answer_s=5.0),
            )
            found.append(StandIn(board, console, facts, ListSink()))
        yield found
