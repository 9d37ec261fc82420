"""SNMP, microcontroller, GPIO, USB hub and command drivers."""

from __future__ import annotations

import stat
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hil.boards.power.command import CommandOutlet, CommandSpec
from hil.boards.power.gpio import GpioPin, GpioSpec
from hil.boards.power.kinds import Surroundings
from hil.boards.power.micro import Microcontroller
from hil.boards.power.snmp import MODELS, OutletObjects, SnmpOutlet, SnmpSpec
from hil.boards.power.switch import ConfirmedSwitch, NoAnswerError
from hil.boards.power.uhubctl import HubPort, UhubctlSpec
from hil.boards.protocol import PowerState
from hil.core.command import Result
from hil.errors import BenchError, ConfigurationError
from hil.testing.fakes import FakeRunner
from tests.kits import checkout
from tests.kits.power_agents import PtyMicrocontroller, SnmpStrip


def agent(objects: OutletObjects, outlet: int = 3) -> SnmpStrip:
    """An agent that has that outlet, as the model describes it."""
    commands: dict[str, tuple[int, int | None, int | None]] = {
        objects.off_oid.format(outlet=outlet): (outlet, None, objects.off_value)
    }
    on_oid = objects.on_oid.format(outlet=outlet)
    off_value = objects.off_value if on_oid in commands else None
    commands[on_oid] = (outlet, objects.on_value, off_value)
    states = {objects.state_oid.format(outlet=outlet): (outlet, objects.state_on[0], objects.state_off[0])}
    return SnmpStrip(range(1, 9), states, commands)


Login = dict[str, str]
V2C: Login = {"community": "private"}
V3: Login = {
    "version": "3",
    "user": SnmpStrip.user,
    "auth_key": SnmpStrip.auth_key,
    "privacy_key": SnmpStrip.privacy_key,
}


@pytest.fixture
def secrets(tmp_path: Path) -> Callable[[Login], Login]:
    """As a lab file has a log-in: what is secret is in a file."""

    def hidden(login: Login) -> Login:
        named = dict(login)
        for key in {"community", "auth_key", "privacy_key"} & login.keys():
            (tmp_path / key).write_text(login[key])
            named[key] = f"file:{tmp_path / key}"
        return named

    return hidden


@pytest.fixture
def snmp(secrets: Callable[[Login], Login]) -> Callable[..., SnmpOutlet]:
    def outlet(
        strip: SnmpStrip, objects: OutletObjects, login: Login, *, number: int = 3, timeout_s: float = 3.0
    ) -> SnmpOutlet:
        section = {"kind": "snmp", "address": strip.address, "outlet": number, "objects": objects}
        spec = SnmpSpec.model_validate({**section, "request_timeout_s": timeout_s, **secrets(login)})
        return SnmpOutlet(spec, Surroundings())

    return outlet


@pytest.mark.parametrize("model", MODELS)
def test_every_model_switches_its_outlet_on_and_off_over_a_real_agent(
    model: str, snmp: Callable[..., SnmpOutlet]
) -> None:
    objects = MODELS[model]
    with agent(objects) as strip:
        switch = ConfirmedSwitch(snmp(strip, objects, V2C), deadline_s=5)
        switch.on()
        assert [number for number, on in strip.outlets.on.items() if on] == [3]
        switch.off()
        assert switch.state() is PowerState.OFF
        assert not any(strip.outlets.on.values())


@pytest.mark.parametrize("login", [{"version": "1", **V2C}, V3], ids=["v1", "v3"])
def test_snmp_versions_1_and_3_do_the_same(login: Login, snmp: Callable[..., SnmpOutlet]) -> None:
    with agent(MODELS["apc"]) as strip:
        ConfirmedSwitch(snmp(strip, MODELS["apc"], login), deadline_s=5).on()
        assert strip.outlets.on[3]


def test_several_threads_speak_snmp_at_once(snmp: Callable[..., SnmpOutlet]) -> None:
    with agent(MODELS["apc"]) as strip:
        switches = [ConfirmedSwitch(snmp(strip, MODELS["apc"], V2C, timeout_s=20), deadline_s=30) for _ in range(6)]
        with ThreadPoolExecutor(6) as threads:
            list(threads.map(lambda switch: switch.on(), switches))
        assert strip.outlets.on[3]


def test_an_snmp_strip_that_lies_is_caught_and_one_that_lost_its_outlets_is_named(
    snmp: Callable[..., SnmpOutlet],
) -> None:
    with agent(MODELS["apc"]) as strip:
        outlet = snmp(strip, MODELS["apc"], V2C)
        strip.ignores_writes = True
        with pytest.raises(BenchError, match=rf"{strip.address}, outlet 3: it accepted .* says it is off"):
            ConfirmedSwitch(outlet, deadline_s=0.2).on()
        strip.answer = 4
        with pytest.raises(BenchError, match="its state is 4"):
            outlet.read()


def test_a_wrong_community_is_silence_and_the_remedy_says_so(snmp: Callable[..., SnmpOutlet]) -> None:
    with agent(MODELS["apc"]) as strip:
        outlet = snmp(strip, MODELS["apc"], {"community": "guess"}, timeout_s=0.3)
        with pytest.raises(NoAnswerError, match=f"{strip.address}.*no answer in 0.3 s") as error:
            outlet.read()
        assert "community is wrong" in error.value.remedy
        assert "guess" not in str(error.value)


def test_a_wrong_outlet_and_a_wrong_key_are_refused_with_the_reason(snmp: Callable[..., SnmpOutlet]) -> None:
    with agent(MODELS["apc"]) as strip:
        outlet = snmp(strip, MODELS["apc"], V2C, number=7)
        with pytest.raises(BenchError, match=r"outlet 7: refuses 1\.3\.6\.1\.4\.1\.318\.1\.1\.4\.4\.2\.1\.3\.7"):
            outlet.read()
        with pytest.raises(BenchError, match="outlet 7: refuses"):
            outlet.command(PowerState.ON)
        bad = V3 | {"auth_key": "not-the-key", "privacy_key": "not-the-key"}
        with pytest.raises(BenchError, match="outlet 3") as error:
            snmp(strip, MODELS["apc"], bad, timeout_s=0.6).read()
        assert "not-the-key" not in str(error.value)


@pytest.fixture
def pty() -> Iterator[PtyMicrocontroller]:
    with PtyMicrocontroller() as device:
        yield device


def test_a_microcontroller_switches_power_and_tells_it(pty: PtyMicrocontroller) -> None:
    switch = ConfirmedSwitch(Microcontroller(pty.port))
    switch.on()
    assert pty.outlets.on[0]
    assert switch.state() is PowerState.ON
    switch.off()
    assert not pty.outlets.on[0]


def test_recovery_is_held_for_the_reset_and_released_after_it(pty: PtyMicrocontroller) -> None:
    micro = Microcontroller(pty.port)
    with micro.held():
        micro.pulse()
    assert pty.resets == [True]
    assert not pty.recovery


def test_recovery_is_released_when_what_happens_inside_fails(pty: PtyMicrocontroller) -> None:
    with pytest.raises(RuntimeError, match="inside"), Microcontroller(pty.port).held():
        raise RuntimeError("inside")
    assert not pty.recovery


def test_noise_and_log_lines_on_the_line_are_passed_over(pty: PtyMicrocontroller) -> None:
    pty.noise = b"\xff\x00\xfe" * 300 + b"\r\n# brown-out seen\r\nok power off\r\n"
    ConfirmedSwitch(Microcontroller(pty.port)).on()
    assert pty.outlets.on[0]


def test_a_microcontroller_that_does_not_answer_is_named_within_its_time_out(pty: PtyMicrocontroller) -> None:
    pty.mute = {"power on"}
    outlet = Microcontroller(pty.port, timeout_s=0.3)
    began = time.monotonic()
    with pytest.raises(NoAnswerError, match=f"{pty.port}: did not answer 'power on' within 0.3 s"):
        outlet.command(PowerState.ON)
    assert time.monotonic() - began < 5


def test_a_refusal_is_passed_on_and_another_device_on_the_port_is_not_told_anything(pty: PtyMicrocontroller) -> None:
    micro = Microcontroller(pty.port)
    pty.refuse = {"reset"}
    with pytest.raises(BenchError, match="refused 'reset': not fitted on this carrier"):
        micro.pulse()
    pty.who = "espresso 3"
    with pytest.raises(BenchError, match="says it is 'espresso 3'"):
        micro.ask("power on")
    assert "power on" not in pty.seen


def test_a_port_that_is_not_there_and_one_in_use_each_have_their_remedy(
    pty: PtyMicrocontroller, tmp_path: Path
) -> None:
    with pytest.raises(BenchError, match="gone") as error:
        Microcontroller(str(tmp_path / "gone"), timeout_s=0.1).ask("state")
    assert "by-path" in error.value.remedy
    micro, other = Microcontroller(pty.port, timeout_s=0.2), Microcontroller(pty.port, timeout_s=5.0)
    with other._opened(time.monotonic() + 1), pytest.raises(BenchError, match="in use by another program"):
        micro.ask("state")


LINE = GpioSpec(kind="gpio", chip="gpiochip0", line=5)
GPIOSET = """#!/bin/sh
case "$*" in --version) echo "gpioset (libgpiod) v{version}"; exit 0;; esac
echo "$*" >> {log}
case "$*" in
  *{stays}*) echo 'line   5: "FC_REC" "gpioset" output active-low [used open-drain]' > {state}
     trap 'rm -f {state}; exit 0' TERM; while :; do sleep 0.02; done;;
esac
"""
GPIOINFO = """#!/bin/sh
echo "gpiochip0 - 8 lines:"
cat {state} 2>/dev/null || echo 'line   5: "FC_REC" unused input active-high'
"""


def libgpiod(folder: Path, version: str, stays: str) -> tuple[str, str, Path]:
    """Programs that behave as libgpiod's: (gpioset, gpioinfo, log of the calls)."""
    log, state = folder / "calls", folder / "held"
    programs = []
    for name, text in (("gpioset", GPIOSET), ("gpioinfo", GPIOINFO)):
        path = folder / name
        path.write_text(text.format(version=version, log=log, state=state, stays=stays))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        programs.append(str(path))
    return programs[0], programs[1], log


@pytest.mark.parametrize(
    ("version", "hold", "release"),
    [
        ("1.6.3", "--mode=signal gpiochip0 5=1", "--mode=exit gpiochip0 5=0"),
        ("2.1.3", "-c gpiochip0 5=1", "--toggle 0 -c gpiochip0 5=0"),
    ],
)
def test_a_gpio_line_is_held_by_a_living_process_and_left_inactive(
    tmp_path: Path, version: str, hold: str, release: str
) -> None:
    program, info, log = libgpiod(tmp_path, version, "5=1")
    pin = GpioPin(LINE, Surroundings(), program=program, info=info)
    with pin.held():
        assert (tmp_path / "held").exists()
    assert not (tmp_path / "held").exists()
    assert log.read_text().splitlines() == [
        f"--drive=open-drain --active-low {hold}",
        f"--drive=open-drain --active-low {release}",
    ]


def test_a_gpio_line_that_somebody_else_holds_is_an_error_at_once(tmp_path: Path) -> None:
    program, info, _ = libgpiod(tmp_path, "1.6.3", "never")
    with pytest.raises(BenchError, match=r"GPIO gpiochip0 line 5: .* ended at once") as error:
        GpioPin(LINE, Surroundings(), program=program, info=info).pulse()
    assert "busy" in error.value.remedy


def test_without_libgpiod_the_error_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(BenchError) as error:
        GpioPin(LINE, Surroundings(), program=str(tmp_path / "gpioset")).pulse()
    assert error.value.remedy == "apt-get install gpiod"


HUB = """Current status for hub 1-1 [05e3:0610 USB2.1 Hub, USB 2.10, 4 ports, ppps]
  Port 2: 0503 power highspeed enable connect [0955:7323 NVIDIA off Corp. APX]
Current status for hub 2-1 [05e3:0612 USB3.1 Hub, USB 3.10, 4 ports, ppps]
  Port 2: 00a0 off
"""


def hub_port(hub: str, port: int, runner: FakeRunner) -> HubPort:
    return HubPort(UhubctlSpec(kind="uhubctl", hub=hub, outlet=port), Surroundings(runner=runner))


def test_the_power_of_a_hub_port_is_read_from_its_own_hub() -> None:
    runner = FakeRunner({"uhubctl": HUB})
    assert hub_port("1-1", 2, runner).read().state is PowerState.ON
    assert hub_port("2-1", 2, runner).read().state is PowerState.OFF
    hub_port("1-1", 2, runner).command(PowerState.OFF)
    assert runner.calls[-1] == ("uhubctl", "-l", "1-1", "-p", "2", "-a", "off", "-r", "3")


def test_the_old_uhubctl_prints_a_comma_after_the_hub() -> None:
    runner = FakeRunner({"uhubctl": (checkout.ROOT / "tests/data/cases/36-uhubctl-1.txt").read_text()})
    assert hub_port("1-1.4", 2, runner).read().state is PowerState.ON


def test_of_a_pair_of_hubs_the_one_that_was_asked_for_is_read() -> None:
    """A USB 3 hub shows as two: one half says "power", the other "off", about the same socket."""
    runner = FakeRunner({"uhubctl": (checkout.ROOT / "tests/data/cases/54-uhubctl-pair.txt").read_text()})
    assert hub_port("1-1.4", 2, runner).read().state is PowerState.OFF


def failing(code: int, said: str) -> Callable[[Sequence[str]], Result]:
    return lambda argv: Result(tuple(argv), code, "", said)


@pytest.mark.parametrize(
    ("code", "said", "remedy"),
    [
        (127, "uhubctl: not found", "apt-get install uhubctl"),
        (1, "There were permission problems while accessing USB.", "as root"),
        (1, "No compatible devices detected at location 1-1!", "no hub at this place"),
    ],
)
def test_what_uhubctl_complains_of_comes_with_its_remedy(code: int, said: str, remedy: str) -> None:
    port = hub_port("1-1", 2, FakeRunner({"uhubctl": failing(code, said)}))
    with pytest.raises(BenchError, match="USB hub 1-1, port 2") as error:
        port.command(PowerState.ON)
    assert remedy in error.value.remedy


def test_a_hub_that_does_not_tell_its_power_is_not_guessed() -> None:
    with pytest.raises(BenchError, match="does not tell its power"):
        hub_port("1-1", 3, FakeRunner({"uhubctl": HUB})).read()


def relay(folder: Path) -> CommandOutlet:
    state = folder / "state"
    state.write_text("relay: 0\n")
    commands = CommandSpec(
        kind="command",
        turn_on=("sh", "-c", f"echo relay: 1 >{state}"),
        turn_off=("sh", "-c", f"echo relay: 0 >{state}"),
        state=("cat", str(state)),
        state_on=r"^relay: 1$",
        state_off=r"^relay: 0$",
        request_timeout_s=5,
    )
    return CommandOutlet(commands, Surroundings())


def test_any_command_can_be_a_switch_and_is_read_back(tmp_path: Path) -> None:
    switch = ConfirmedSwitch(relay(tmp_path), deadline_s=2)
    switch.on()
    assert switch.state() is PowerState.ON
    (tmp_path / "state").write_text("relay: ?\n")
    with pytest.raises(BenchError, match=r"printed 'relay: \?'.*neither fits"):
        switch.state()


def test_a_command_that_fails_or_never_ends_is_quoted() -> None:
    commands = CommandSpec(
        kind="command",
        turn_on=("false",),
        turn_off=("sleep", "30"),
        state=("true",),
        state_on="on",
        state_off="off",
        request_timeout_s=0.2,
    )
    outlet = CommandOutlet(commands, Surroundings())
    with pytest.raises(BenchError, match="`false` exited 1"):
        outlet.command(PowerState.ON)
    with pytest.raises(NoAnswerError, match=r"`sleep 30` did not end within 0\.2 s"):
        outlet.command(PowerState.OFF)


def test_a_password_of_a_command_is_read_when_it_is_needed_and_never_shown(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    argv = ["sh", "-c", 'test "$0" = S3cret && exit 7; exit 8', "env:STRIP_LOGIN"]
    spec = CommandSpec.model_validate(
        {"kind": "command", "turn_on": argv, "turn_off": argv, "state": argv, "state_on": "on", "state_off": "off"}
    )
    caplog.set_level("DEBUG")
    outlet = CommandOutlet(spec, Surroundings())
    with pytest.raises(ConfigurationError, match="environment variable STRIP_LOGIN is not set"):
        outlet.command(PowerState.ON)
    monkeypatch.setenv("STRIP_LOGIN", "S3cret")
    with pytest.raises(BenchError, match=r"power by `sh`: `sh \.\.\.` exited 7") as caught:
        outlet.command(PowerState.ON)
    assert "S3cret" not in f"{caught.value} {caplog.text} {outlet.name}"
