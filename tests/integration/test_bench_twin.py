"""Heat and power in the loop: container boards really slow down, are capped, are shed and trip."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from hil.bench.bench import Bench
from hil.bench.twin_journal import Follower
from hil.boards.protocol import PowerState, Shell
from hil.core.cgroups import CpuGroup
from hil.core.wait import wait_until
from hil.errors import DeviceError

pytestmark = pytest.mark.integration

LAB = """\
schema: 1
name: heat
ground_station: {name: gs-1}
gateway: a1
spacecraft:
  - {name: sc-a, boards: [{name: a1}, {name: a2}]}
  - {name: sc-b, boards: [{name: b1, module: p3767-0000}, {name: b2, module: p3767-0000}]}
links:
  - {name: ground, kind: ground, between: [gs-1, sc-a], one_way_delay_us: 4000, rate_bps: 100000000}
  - {name: isl-ab, kind: crosslink, between: [sc-a, sc-b], one_way_delay_us: 14386, rate_bps: 200000000}
twin:
  time_factor: 30
  board_cores: 0.4
  sky: {eclipse_s: 0.0}
  structure: {start_c: 55.0, spreader_j_per_k: 300.0, board_j_per_k: 100.0}  # light: a trip comes within half a minute
  spacecraft:
    sc-a: {radiator: {area_m2: 0.012, heat_capacity_j_per_k: 200.0}}
    sc-b: {radiator: {area_m2: 1.0}, bus: {budget_w: 30.0, shed_order: [b2]}}
"""
BUSY = "setsid sh -c 'while :; do :; done' </dev/null >/dev/null 2>&1 & sleep 0.5; kill -0 $!"


@pytest.fixture(scope="module")
def heated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    file = tmp_path_factory.mktemp("lab") / "heat.yaml"
    file.write_text(LAB)
    with Bench(file) as up:
        yield up


def said(heated: Bench, board: str) -> list[str]:
    """What the twin said of a board so far."""
    lines = Follower(heated.name, from_start=True).lines()
    return [line["what"] for line in lines if line["kind"] == "twin.change" and line["board"] == board]


def spin(shell: Shell) -> None:
    shell.run(["sh", "-c", BUSY])


def cores_used(heated: Bench, board: str, seconds: float = 2.0) -> float:
    """Return the cores of this host that a board used."""
    group = CpuGroup.of(heated.boards[board].firmware_pid())  # type: ignore[attr-defined]
    before, start = group.used_s(), time.monotonic()
    time.sleep(seconds)
    return (group.used_s() - before) / (time.monotonic() - start)


def gets(heated: Bench, board: str, cores: float) -> None:
    """Wait until a board that spins uses that many cores, within a fifth; a busy host may give it less for a while."""
    near = pytest.approx(cores, rel=0.2)
    wait_until(lambda: cores_used(heated, board) == near, what=f"{board} to use {cores:.2f} cores", deadline_s=40.0)


def test_the_os_sees_the_sensors_of_a_jetson_and_its_power_mode_caps(heated: Bench) -> None:
    """In mode 30W, the default, the GPU of an AGX runs at 624.75 of 1,300.5 MHz: 0.19 of 0.4 cores."""
    board = heated.boards["a1"]
    with board.shell() as shell:
        kinds = shell.run(["sh", "-c", "cat /sys/class/thermal/thermal_zone*/type"]).stdout.split()
        assert "tj-thermal" in kinds
        assert shell.run(["cat", "/sys/class/devfreq/17000000.gpu/max_freq"]).stdout.strip() == "624750000"
        assert shell.run(["sh", "-c", "echo 1 > /sys/class/thermal/thermal_zone8/temp"], check=False).returncode != 0
        assert shell.run(["ls", "/sys/class/net"]).stdout.split()
        spin(shell)
        gets(heated, "a1", 0.4 * 624.75 / 1300.5)
        shell.run(["sh", "-c", "echo 312000000 > /sys/class/devfreq/17000000.gpu/max_freq"])
        wait_until(lambda: "capped" in said(heated, "a1")[1:], what="the lower cap to be seen", deadline_s=10.0)
        gets(heated, "a1", 0.4 * 312 / 1300.5)
    sensors = board.sensors()
    assert 60 < sensors["tj_c"] < 104
    assert sensors["board_mw"] > 10_000


def test_heat_throttles_then_trips_and_the_bus_sheds(heated: Bench) -> None:
    for name in ("a2", "b1"):
        with heated.boards[name].shell() as shell:
            spin(shell)
    with heated.boards["b2"].shell() as shell, suppress(DeviceError):  # the bus may shed it before it has answered
        spin(shell)
    wait_until(lambda: "throttled" in said(heated, "a2"), what="a2 to throttle", deadline_s=90.0)
    wait_until(lambda: cores_used(heated, "a2", 1.0) < 0.15, what="a2 to be slower", deadline_s=30.0)
    wait_until(lambda: "shed" in said(heated, "b2"), what="b2 to be shed", deadline_s=30.0)
    wait_until(lambda: heated.boards["b2"].supervisor.state() is PowerState.OFF, what="b2 to be off", deadline_s=20.0)
    assert "shed" not in said(heated, "b1")
    assert heated.boards["b1"].supervisor.state() is PowerState.ON
    wait_until(lambda: "tripped" in said(heated, "a2"), what="a2 to trip", deadline_s=90.0)
    wait_until(lambda: heated.boards["a2"].supervisor.state() is PowerState.OFF, what="a2 to be off", deadline_s=20.0)
