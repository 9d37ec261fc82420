"""A container board that hangs on a power strip: the strip's server starts and cuts it; HTTP and SNMP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hil.boards.conformance import BoardConformance, running
from hil.boards.container.board import ContainerBoard
from hil.boards.power.http_client import HttpStrip
from hil.boards.power.kinds import Surroundings
from hil.boards.power.snmp import MODELS, SnmpOutlet, SnmpSpec
from hil.boards.power.supervisor import PoweredSupervisor
from hil.boards.power.switch import ConfirmedSwitch, Outlet
from hil.boards.power.tasmota import Tasmota
from hil.boards.protocol import PowerState
from hil.boards.protocol import Supervisor as SupervisorProtocol
from hil.core.wait import wait_until
from hil.errors import BenchError
from hil.evidence.events import BoardPower
from hil.testing.fakes import ListSink
from tests.kits.container_boards import boards, engine_client
from tests.kits.power_agents import SnmpStrip
from tests.kits.power_strips import Fault, OnChange, TasmotaStrip

pytestmark = [pytest.mark.integration, pytest.mark.side_by_side]


def carries(engine: SupervisorProtocol) -> OnChange:
    """What an outlet does to the board that hangs on it."""

    def switched(_outlet: int, on: bool) -> None:
        if on:
            engine.on()
        else:
            engine.cut()

    return switched


def on_strip(
    board: ContainerBoard, outlet: Outlet, engine: SupervisorProtocol, sink: ListSink, *, deadline_s: float = 10.0
) -> None:
    def shut_down(deadline_s: float) -> bool:
        with board.shell() as shell:
            shell.run(["poweroff"], check=False)
        return wait_until(
            lambda: engine.state() is PowerState.OFF, what=f"{board.name} to power off", deadline_s=deadline_s
        )

    switch = ConfirmedSwitch(outlet, deadline_s=deadline_s, every_s=0.02, sink=sink)
    board.supervisor = PoweredSupervisor(  # type: ignore[assignment]  # a driver for real hardware
        board.name, switch, min_off_s=0.2, shut_down=shut_down, sink=sink
    )


@pytest.fixture(scope="module")
def bench() -> Iterator[ContainerBoard]:
    with engine_client() as client, boards(client, 1) as (made, _):
        yield made[0]


def tasmota(strip: TasmotaStrip) -> Outlet:
    host, port = strip.address.split(":")
    return Tasmota(HttpStrip(f"Tasmota {strip.address}", (host, int(port)), timeout_s=10.0), 2)


@pytest.fixture(scope="class")
def board(bench: ContainerBoard) -> Iterator[ContainerBoard]:
    engine = bench.supervisor
    with TasmotaStrip(on_change=carries(engine)) as strip:
        on_strip(bench, tasmota(strip), engine, ListSink())
        yield bench
        engine.cut()
    bench.supervisor = engine


class TestBoardOnATasmotaPlug(BoardConformance):
    boot_deadline_s = 30.0


def test_a_board_on_an_snmp_strip_is_power_cycled_into_a_new_boot(bench: ContainerBoard, tmp_path: Path) -> None:
    engine = bench.supervisor
    oid = MODELS["apc"].on_oid.format(outlet=3)
    with SnmpStrip(range(1, 9), {oid: (3, 1, 2)}, {oid: (3, 1, 2)}, on_change=carries(engine)) as strip:
        (tmp_path / "community").write_text("private")
        spec = SnmpSpec(
            kind="snmp",
            address=strip.address,
            outlet=3,
            model="apc",
            community=f"file:{tmp_path}/community",
            request_timeout_s=9.0,
        )
        outlet = SnmpOutlet(spec, Surroundings())
        sink = ListSink()
        try:
            on_strip(bench, outlet, engine, sink)
            before = running(bench)
            bench.supervisor.reset()
            assert bench.wait_booted(deadline_s=30.0).boot_id != before.boot_id
            bench.supervisor.off()
            assert engine.state() is PowerState.OFF
            actions = [event.action for event in sink.of(BoardPower)]
            assert actions == ["on", "cut", "on", "off"]
        finally:
            bench.supervisor = engine
            engine.cut()


@pytest.mark.parametrize("fault", [Fault.HANG, Fault.ERROR_500, Fault.LOSE_ANSWER])
def test_a_strip_that_fails_while_powering_on_leaves_the_board_off_or_on_and_never_unknown(
    bench: ContainerBoard, fault: Fault
) -> None:
    engine = bench.supervisor
    with TasmotaStrip(on_change=carries(engine)) as strip:
        host, port = strip.address.split(":")
        http = HttpStrip(f"Tasmota {strip.address}", (host, int(port)), timeout_s=2.0)
        try:
            on_strip(bench, Tasmota(http, 2), engine, ListSink(), deadline_s=3.0)
            strip.fault, strip.fault_commands_only = fault, True
            if fault is Fault.LOSE_ANSWER:
                bench.supervisor.on()
                assert engine.state() is PowerState.ON
            else:
                with pytest.raises(BenchError, match=f"board {bench.name}: power on: Tasmota {strip.address}"):
                    bench.supervisor.on()
                assert engine.state() is PowerState.OFF
        finally:
            bench.supervisor = engine
            engine.cut()
