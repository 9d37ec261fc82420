"""A bench with a board that the lab file calls real: its ports lead to a container, and nothing of the harness knows.

SSH goes to a port of this machine's loopback, power is a strip there, the console is a serial line, and the flight
port is a NIC of this machine.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hil.bench.bench import Bench
from hil.bench.twin_journal import Follower, last_samples
from hil.boards.container.board import ContainerBoard
from hil.boards.protocol import Fidelity, PowerState, Via
from hil.core import netns
from hil.core.wait import wait_until
from hil.errors import BenchError
from hil.evidence.environment import lab_facts
from hil.evidence.twin import BoardHeat, TwinChange
from hil.onboard.twin.jetson_files import DIRECTORY, SensorFiles, Shown
from hil.onboard.twin.modules import MODULES
from tests.kits.bench_cables import FlightCable, Forward
from tests.kits.container_boards import boards, engine_client, ip
from tests.kits.power_strips import ShellyGen2Strip

pytestmark = [pytest.mark.integration, pytest.mark.side_by_side]

CABLE = FlightCable(f"hilt-jboard-{os.getpid()}", f"hiltf{os.getpid()}")
FLIGHT = "198.18.2.11"

LAB = """
schema: 1
name: hardware
ground_station: {{name: gs-1}}
gateway: a1
spacecraft:
  - name: sc-a
    boards: [{{name: a1, driver: container}}]
  - name: sc-b
    boards:
      - name: twin-1
        driver: jetson
        module: p3701-0005
        serial: "{serial}"
        jetson:
          ssh: {{address: 127.0.0.1, port: {port}, key_file: {key}, host_key: {host_key}}}
          console: {{url: {console}}}
          supervisor:
            power: {{kind: shelly-gen2, address: "{strip}", outlet: 0, request_timeout_s: 30.0}}
            min_off_s: 0.0
            confirm_within_s: 30.0
          flight: {{nic: {nic}}}
          budgets: {{boot_s: 60.0, shutdown_s: 60.0}}
links:
  - {{name: ground, kind: ground, between: [gs-1, sc-a], one_way_delay_us: 4000, rate_bps: 100000000}}
  - {{name: isl-ab, kind: crosslink, between: [sc-a, sc-b], one_way_delay_us: 14386, rate_bps: 200000000}}
twin: {{structure: {{start_c: 55.0}}}}
"""


class Trial:
    """The lab file, and what stands behind it."""

    def __init__(self, lab: Path, hardware: ContainerBoard, strip: ShellyGen2Strip) -> None:
        self.lab, self.hardware, self.strip = lab, hardware, strip


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    with CABLE.laid(), engine_client() as client, boards(client, 1, twin=True) as ((hardware,), _):
        namespace, address = hardware.address()

        def switched(outlet: int, on: bool) -> None:
            if on:
                hardware.supervisor.on()
                CABLE.plug(hardware, FLIGHT)
            else:
                hardware.supervisor.cut()

        with ShellyGen2Strip(on_change=switched) as strip, Forward(namespace, address) as forward:
            threading.Thread(target=forward.serve_forever, args=(0.05,), daemon=True).start()
            lab = tmp_path_factory.mktemp("lab") / "hardware.yaml"
            lab.write_text(
                LAB.format(
                    serial=hardware.spec.facts.serial,
                    port=forward.server_address[1],
                    key=hardware.target().key,
                    host_key=hardware.target().host_key,
                    console=hardware.console.url,
                    strip=strip.address,
                    nic=CABLE.nic,
                )
            )
            yield Trial(lab, hardware, strip)
            forward.shutdown()


@pytest.fixture(scope="module")
def bench(trial: Trial) -> Iterator[Bench]:
    with Bench(trial.lab, name="hardwaretest") as up:
        yield up
    assert trial.strip.outlets.on[0] is False, "a bench that went down leaves no real board with power"
    assert trial.hardware.supervisor.state() is PowerState.OFF
    assert "reboot: Power down" in trial.hardware.console.text(), "it was shut down in order"
    ip("link", "show", CABLE.nic)  # the NIC is back where it was


def test_a_real_board_is_brought_up_and_its_results_are_of_class_hardware(bench: Bench, trial: Trial) -> None:
    board = bench.boards["twin-1"]
    assert board.fidelity is Fidelity.HARDWARE
    assert board.identity().serial == trial.hardware.spec.facts.serial
    assert board.address()[0] == netns.HOST
    facts = lab_facts(bench.lab, trial.lab)
    assert [b["fidelity"] for b in facts["boards"].values()] == ["virtual", "hardware"]
    assert facts["fidelity"] == "virtual"


def test_emulated_links_lead_to_the_real_boards_flight_port(bench: Bench) -> None:
    with bench.boards["twin-1"].shell(Via.FLIGHT) as shell:
        assert shell.run(["hostname"]).stdout.strip() == "twin-1"
    with bench.boards["a1"].shell() as shell:
        shell.run(["ping", "-c1", "-W2", FLIGHT])
        bench.links.cut("isl-ab")
        try:
            assert shell.run(["ping", "-c1", "-W1", FLIGHT], check=False).returncode != 0
        finally:
            bench.links.restore("isl-ab")


def test_the_twin_predicts_beside_the_sensors_of_a_real_board(bench: Bench, trial: Trial) -> None:
    """Its record is what its sensors say, throttling too; the prediction, from the power of its rails, is beside it."""
    files = SensorFiles(trial.hardware.spec.nv_dir / DIRECTORY, MODULES["p3701-0005"])

    def says(shown: Shown, binding: str) -> BoardHeat:
        """Return the first record that is of all that is shown: a sample may fall between two of the files."""
        expected = (shown.junction_c, round(shown.power_w, 1), shown.busy, binding)

        def heat() -> BoardHeat | None:
            for sample in last_samples(bench.name):
                last = sample.boards.get("twin-1")
                if last and (last.junction_c, round(last.power_w, 1), last.busy, last.binding) == expected:
                    return last
            return None

        files.show(shown)
        return wait_until(heat, what=f"a sample of the twin with {expected}", deadline_s=15.0)

    cool = says(Shown(61.5, 50.0, 28.0, 0.97, 1.0, 0), "compute")
    assert 55.0 < (cool.predicted_c or 0.0) < 70.0
    hot = says(Shown(99.25, 90.0, 20.0, 0.95, 0.7, 4), "heat")
    assert (hot.peak_c, hot.throttled_s > 0) == (99.25, True)
    assert abs((hot.predicted_c or 0.0) - hot.junction_c) > 20.0  # the power of its rails does not make it that hot
    changes = [line for line in Follower(bench.name, from_start=True).lines() if line["kind"] == TwinChange.kind]
    assert ("twin-1", "throttled") in [(change["board"], change["what"]) for change in changes]
    assert trial.hardware.supervisor.state() is PowerState.ON  # the twin switches no real board
    files.close()


def test_a_power_cycle_goes_through_the_strip_and_is_proved_by_the_boot_id(bench: Bench, trial: Trial) -> None:
    board = bench.boards["twin-1"]
    before = board.identity()
    board.supervisor.reset()
    assert any("Switch.Set?id=0&on=false" in line for line in trial.strip.seen)
    assert board.wait_booted(deadline_s=60.0).boot_id != before.boot_id


def test_a_nic_that_is_not_there_stops_the_bench_before_any_board_has_power(trial: Trial, tmp_path: Path) -> None:
    lab = tmp_path / "lab.yaml"
    lab.write_text(
        trial.lab.read_text().replace(CABLE.nic, "hiltnothing0").replace("name: hardware\n", "name: nothing\n")
    )
    switched = len(trial.strip.seen)
    with pytest.raises(BenchError, match="no NIC hiltnothing0"):
        Bench(lab, name="hardwarenone").up()
    assert len(trial.strip.seen) == switched
