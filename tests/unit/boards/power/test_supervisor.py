"""A supervisor made of parts, and its section of the lab file."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hil.boards.power.build import outlet_of, supervisor_of
from hil.boards.power.kinds import resolve_secret
from hil.boards.power.supervisor import PoweredSupervisor
from hil.boards.power.switch import ConfirmedSwitch, NoAnswerError, Reading
from hil.boards.protocol import PowerState
from hil.boards.protocol import Supervisor as SupervisorProtocol
from hil.errors import BenchError, ConfigurationError, DeviceError
from hil.evidence.events import BoardPower
from hil.lab.power import SupervisorSpec
from hil.lab.yamlfile import Strict, load_yaml
from hil.testing.fakes import FakeClock, ListSink
from tests.kits.power_agents import PtyMicrocontroller
from tests.kits.power_strips import Fault, ShellyGen1Strip, TasmotaStrip


class FakeOutlet:
    """An outlet that obeys, unless told otherwise."""

    name = "strip 7, outlet 1"

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.now = PowerState.OFF
        self.log: list[tuple[float, str]] = []
        self.refuse: set[PowerState] = set()
        self.unreadable = False
        self.stuck = False

    def command(self, wanted: PowerState) -> None:
        self.log.append((self.clock.now, wanted.value))
        if wanted in self.refuse:
            raise BenchError(f"{self.name}: says no", remedy="ask again")
        if not self.stuck:
            self.now = wanted

    def read(self) -> Reading:
        if self.unreadable:
            raise NoAnswerError(f"{self.name}: silent", remedy="wake it")
        return Reading(self.now)


class FakePin:
    name = "pin"

    def __init__(self, log: list[str]) -> None:
        self.log = log

    @contextmanager
    def held(self) -> Iterator[None]:
        self.log.append("hold")
        try:
            yield
        finally:
            self.log.append("release")

    def pulse(self) -> None:
        self.log.append("pulse")


class Rig:
    def __init__(self, **wired: object) -> None:
        self.clock = FakeClock()
        self.outlet = FakeOutlet(self.clock)
        self.sink = ListSink()
        self.pins: list[str] = []
        self.board = PoweredSupervisor(
            "a1",
            ConfirmedSwitch(self.outlet, deadline_s=1.0, clock=self.clock),
            clock=self.clock,
            sink=self.sink,
            **wired,  # type: ignore[arg-type]  # what a test wires
        )

    @property
    def actions(self) -> list[str]:
        return [event.action for event in self.sink.of(BoardPower)]


def test_it_is_what_the_board_protocol_calls_a_supervisor() -> None:
    board: SupervisorProtocol = Rig().board
    assert board.state() is PowerState.OFF


def test_a_power_cycle_leaves_the_board_off_for_the_minimum_time() -> None:
    rig = Rig(min_off_s=3.0)
    rig.board.on()
    rig.board.reset()
    (_, first), (off_at, second), (on_at, third) = rig.outlet.log
    assert (first, second, third) == ("on", "off", "on")
    assert on_at - off_at >= 3.0
    assert rig.actions == ["on", "cut", "on"]


def test_power_on_after_a_cut_waits_only_for_what_is_left_of_the_minimum_time() -> None:
    rig = Rig(min_off_s=3.0)
    rig.board.on()
    begun = rig.clock.now
    rig.board.cut()
    rig.clock.now += 2.0
    rig.board.on()
    assert rig.clock.now - begun == pytest.approx(3.0)


def test_the_minimum_time_holds_for_a_board_that_another_process_has_cut() -> None:
    rig = Rig(min_off_s=3.0)
    rig.board.on()
    rig.board.cut()
    off_at = rig.clock.now
    switch = ConfirmedSwitch(rig.outlet, deadline_s=1.0, clock=rig.clock)
    PoweredSupervisor("a1", switch, min_off_s=3.0, clock=rig.clock).on()
    on_at, word = rig.outlet.log[-1]
    assert word == "on" and on_at - off_at >= 3.0


def test_a_board_whose_power_on_fails_is_told_to_be_off_again() -> None:
    rig = Rig()
    rig.outlet.refuse = {PowerState.ON}
    with pytest.raises(BenchError, match="board a1: power on: strip 7, outlet 1: says no; it is off again") as error:
        rig.board.on()
    assert error.value.remedy == "ask again"
    assert [word for _, word in rig.outlet.log] == ["on", "off"]
    assert rig.actions == []


def test_when_even_that_cannot_be_told_the_message_says_so() -> None:
    rig = Rig()
    original = rig.outlet.command

    def then_silent(wanted: PowerState) -> None:
        original(wanted)
        rig.outlet.unreadable = True

    rig.outlet.command = then_silent  # type: ignore[method-assign]  # a strip that dies
    with pytest.raises(BenchError, match="whether it is off cannot be told"):
        rig.board.on()


def test_a_power_cycle_whose_cut_is_not_confirmed_does_not_go_on_to_power_on() -> None:
    rig = Rig()
    rig.board.on()
    rig.outlet.stuck = True
    with pytest.raises(BenchError, match=r"board a1: power off: .* says it is on"):
        rig.board.reset()
    assert [word for _, word in rig.outlet.log] == ["on", "off"]


@pytest.mark.parametrize("verb", ["cut", "off"])
def test_power_is_taken_away_even_when_the_strip_cannot_tell_its_state(verb: str) -> None:
    rig = Rig()
    rig.board.on()
    rig.outlet.unreadable = True
    with pytest.raises(NoAnswerError, match="board a1: power off"):
        getattr(rig.board, verb)()
    assert rig.outlet.now is PowerState.OFF


def test_off_asks_the_os_first_and_cuts_one_that_does_not_answer() -> None:
    asked: list[float] = []

    def shuts_down(deadline_s: float) -> bool:
        asked.append(deadline_s)
        return True

    def hangs(_deadline_s: float) -> bool:
        raise DeviceError("no answer over SSH")

    polite, hung = Rig(shut_down=shuts_down), Rig(shut_down=hangs)
    for rig in (polite, hung):
        rig.board.on()
        rig.board.off(deadline_s=7.0)
        assert rig.outlet.now is PowerState.OFF
    assert asked == [7.0]
    assert (polite.actions, hung.actions) == (["on", "off"], ["on", "cut"])


def test_off_cuts_power_even_when_asking_the_os_meets_a_bug_of_ours() -> None:
    def bug(_deadline_s: float) -> bool:
        raise TypeError("must be real number, not NoneType")

    rig = Rig(shut_down=bug)
    rig.board.on()
    with pytest.raises(TypeError):
        rig.board.off()
    assert rig.outlet.now is PowerState.OFF


def test_the_log_of_off_says_how_long_the_os_may_take(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig(shut_down=lambda deadline_s: True)
    rig.board.on()
    with caplog.at_level("DEBUG", "hil.boards"):
        rig.board.off()
    assert "ask its OS to shut down, for 10 s at most" in caplog.text


def test_verbs_that_are_true_already_send_nothing() -> None:
    rig = Rig()
    rig.board.off()
    rig.board.cut()
    rig.board.on()
    rig.board.on()
    assert [word for _, word in rig.outlet.log] == ["on"]


def test_recovery_by_pins_holds_fc_rec_over_the_reset() -> None:
    pins: list[str] = []
    rig = Rig(recovery=FakePin(pins), reset=FakePin(pins))
    rig.board.on()
    rig.board.force_recovery()
    assert pins == ["hold", "pulse", "release"]
    assert rig.actions == ["on", "recovery"]


def test_recovery_without_a_reset_pin_holds_fc_rec_over_a_power_cycle() -> None:
    pins: list[str] = []
    rig = Rig(recovery=FakePin(pins))
    rig.board.on()
    rig.board.force_recovery()
    assert pins == ["hold", "release"]
    assert [word for _, word in rig.outlet.log] == ["on", "off", "on"]


def test_the_recovery_pin_is_released_when_power_fails() -> None:
    pins: list[str] = []
    rig = Rig(recovery=FakePin(pins), reset=FakePin(pins))
    rig.outlet.refuse = {PowerState.ON}
    with pytest.raises(BenchError, match="board a1"):
        rig.board.force_recovery()
    assert pins == ["hold", "release"]
    assert rig.outlet.now is PowerState.OFF


def test_without_pins_the_error_says_what_to_wire() -> None:
    with pytest.raises(BenchError, match="no force-recovery pin") as error:
        Rig().board.force_recovery()
    assert "forced-recovery" in error.value.remedy
    with pytest.raises(BenchError, match="no reset pin"):
        Rig().board.press_reset()


class OneBoard(Strict):
    supervisor: SupervisorSpec


def written(folder: Path, text: str) -> SupervisorSpec:
    path = folder / "lab.yaml"
    path.write_text(text)
    return load_yaml(path, OneBoard).supervisor


def test_a_strip_from_the_lab_file_switches_with_a_password_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ShellyGen1Strip(password="s3cret") as strip:
        text = f"""
supervisor:
  power: {{kind: shelly-gen1, address: "{strip.address}", outlet: 2, password: "env:STRIP_PASSWORD"}}
  min_off_s: 0
"""
        spec = written(tmp_path, text)
        with pytest.raises(ConfigurationError, match="STRIP_PASSWORD is not set"):
            supervisor_of("a1", spec)
        monkeypatch.setenv("STRIP_PASSWORD", "s3cret")
        board = supervisor_of("a1", spec)
        board.on()
        board.reset()
        assert strip.outlets.on[2]


def test_one_microcontroller_can_be_power_reset_and_recovery(tmp_path: Path) -> None:
    with PtyMicrocontroller() as pty:
        part = f"{{kind: microcontroller, port: {pty.port}}}"
        spec = written(
            tmp_path, f"supervisor:\n  power: {part}\n  recovery_pin: {part}\n  reset_pin: {part}\n  min_off_s: 0\n"
        )
        board = supervisor_of("a1", spec, clock=FakeClock())
        board.on()
        board.force_recovery()
        assert pty.resets == [True]
        board.cut()
        board.force_recovery()
        assert pty.powered_in_recovery
        assert not pty.recovery


def test_a_strip_that_hangs_leaves_the_board_off_with_its_name_and_the_strips_in_the_message(tmp_path: Path) -> None:
    with TasmotaStrip() as strip:
        strip.fault, strip.fault_commands_only = Fault.HANG, True
        spec = written(
            tmp_path,
            f'supervisor:\n  power: {{kind: tasmota, address: "{strip.address}", outlet: 2, request_timeout_s: 0.2}}\n'
            "  confirm_within_s: 0.2\n  min_off_s: 0\n",
        )
        with pytest.raises(BenchError, match=f"board a1: power on: Tasmota {strip.address}.*it is off again"):
            supervisor_of("a1", spec).on()
        assert not strip.outlets.on[2]


WRONG = {
    '{kind: shelly-gen1, address: "10.0.0.1", outlet: 0, password: hunter2}': "is not written into a lab file",
    '{kind: shelly-gen1, address: "strip.lab", outlet: 0}': "is an IPv4 address",
    '{kind: shelly-gen1, address: "10.0.0.300", outlet: 0}': "is an IPv4 address",
    '{kind: snmp, address: "10.0.0.1", outlet: 1, community: "env:C"}': "either model or objects",
    '{kind: snmp, address: "10.0.0.1", outlet: 1, model: acp, community: "env:C"}': "models: apc, apc-rpdu",
    '{kind: snmp, address: "10.0.0.1", outlet: 1, model: apc}': "needs community",
    '{kind: snmp, address: "10.0.0.1", outlet: 1, model: apc, version: "3"}': "needs user",
    '{kind: command, turn_on: [x], turn_off: [y], state: [z], state_on: "(", state_off: "0"}': "no regular expression",
    '{kind: command, turn_on: "x on", turn_off: [y], state: [z], state_on: "1", state_off: "0"}': "valid tuple",
    "{kind: microcontroller, port: COM3}": "should match pattern",
    "{kind: teapot}": "unknown kind 'teapot'",
    "{kind: gpio, chip: gpiochip0, line: 5}": "'gpio' has no place here. Allowed: command, microcontroller",
}


@pytest.mark.parametrize("power", WRONG)
def test_a_wrong_section_is_refused_with_line_and_reason(tmp_path: Path, power: str) -> None:
    with pytest.raises(ConfigurationError, match=r"lab\.yaml:2: ") as error:
        written(tmp_path, f"supervisor:\n  power: {power}\n")
    assert WRONG[power] in str(error.value)
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    "power",
    [
        '{kind: snmp, address: "10.0.0.1", outlet: 1, model: apc, community: "env:C"}',
        '{kind: snmp, address: "10.0.0.1:1161", outlet: 1, community: "env:C", objects: {on_oid: "1.3.{outlet}", '
        'on_value: 1, off_oid: "1.3.{outlet}", off_value: 0, state_oid: "1.3.{outlet}", state_on: [1], '
        "state_off: [0]}}",
        "{kind: uhubctl, hub: 1-1.4, outlet: 2}",
        "{kind: command, turn_on: [x, y], turn_off: [y], state: [z], state_on: '1', state_off: '0'}",
        "{kind: microcontroller, port: /dev/serial/by-path/x}",
    ],
)
def test_every_kind_can_be_written_and_becomes_an_outlet_that_names_itself(
    tmp_path: Path, power: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("C", "private")
    spec = written(tmp_path, f"supervisor:\n  power: {power}\n").power
    assert outlet_of(spec).name


def test_building_a_supervisor_imports_neither_snmp_nor_serial() -> None:
    code = "import hil.boards.power.build as b, sys; b.kinds.all_of(b.kinds.OUTLETS); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "hil.boards.power.snmp" in loaded
    assert not {"pysnmp", "serial", "docker", "paramiko", "numpy"} & set(loaded)


def test_a_secret_file_is_read_and_an_empty_one_refused(tmp_path: Path) -> None:
    place = tmp_path / "password"
    place.write_text("s3cret\n")
    assert resolve_secret(f"file:{place}") == "s3cret"
    place.write_text("\n")
    with pytest.raises(ConfigurationError, match="is empty"):
        resolve_secret(f"file:{place}")
    with pytest.raises(ConfigurationError, match="no such file") as error:
        resolve_secret(f"file:{tmp_path}/none")
    assert "chmod 600" in error.value.remedy
