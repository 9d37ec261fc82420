"""The Jetson driver against what goes wrong in a real lab: the error names thing and remedy, the board is untouched."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import pytest

from hil.boards.jetson.board import JetsonBoard
from hil.boards.power.shelly import ShellyGen2Spec
from hil.boards.protocol import Identity, PowerState, Via
from hil.boards.ssh.shell import WrongHostKeyError
from hil.core import netns
from hil.core.wait import wait_until
from hil.errors import BenchError, ConfigurationError, HilError
from hil.evidence.events import BoardBooted, BoardPower
from hil.images.pki import ensure_pki
from hil.lab.power import SupervisorSpec
from tests.kits.container_boards import engine_client
from tests.kits.jetson_stand_ins import StandIn, stand_ins
from tests.kits.power_strips import Fault, ShellyGen2Strip

pytestmark = [pytest.mark.integration, pytest.mark.side_by_side]


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    with engine_client() as client, stand_ins(client, 1, tmp_path_factory.mktemp("consoles")) as (made,):
        yield made


@pytest.fixture
def before(rig: StandIn) -> Identity:
    """The board runs; who it is."""
    board = rig.driver()
    board.supervisor.on()
    return board.wait_booted()


def took(action: Callable[[], object], kind: type[HilError]) -> tuple[HilError, float]:
    """(the error, seconds until it came)."""
    start = time.monotonic()
    with pytest.raises(kind) as caught:
        action()
    return caught.value, time.monotonic() - start


def untouched(rig: StandIn, before: Identity) -> None:
    """It still runs, in the same boot, from the same slot, with the same boot order."""
    board = rig.driver()
    assert rig.hardware.supervisor.state() is PowerState.ON
    assert board.identity() == before
    assert rig.hardware.boot.state().active == before.slot


# -- who answers


def test_the_most_tries_of_a_slot_are_read_from_its_firmware(rig: StandIn, before: Identity) -> None:
    assert rig.driver().inspect().retry_count_max == 3
    untouched(rig, before)


def test_another_host_key_is_refused_at_once_and_nothing_is_sent(rig: StandIn, before: Identity) -> None:
    management = rig.facts.targets[Via.MANAGEMENT]
    wrong = replace(management, host_key=ensure_pki().host_key("somebody-else").public_line)
    impostor = rig.driver(targets={Via.MANAGEMENT: wrong})
    error, seconds = took(impostor.shell, WrongHostKeyError)
    assert "another host key" in error.message
    assert rig.facts.name in error.message
    assert impostor.address()[1] in error.message
    assert error.remedy
    _, seconds = took(lambda: impostor.wait_booted(deadline_s=60.0), WrongHostKeyError)
    assert seconds < 30.0  # not after the deadline: waiting does not change a key
    took(lambda: impostor.boot.set_active("B"), WrongHostKeyError)
    untouched(rig, before)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"module": "p3767-0005"}, ("p3767-0005", "p3701-0005")),
        ({"serial": "1421123456789"}, ("1421123456789", "142300000001")),
    ],
    ids=["module", "serial"],
)
def test_another_board_at_the_address_is_refused_before_anything_is_changed(
    rig: StandIn, before: Identity, changes: dict[str, str], words: tuple[str, str]
) -> None:
    actions: tuple[Callable[[JetsonBoard], object], ...] = (
        lambda board: board.shell(),
        lambda board: board.boot.set_active("B"),
        lambda board: board.wait_booted(deadline_s=60.0),
        lambda board: board.sensors(),
    )
    for action in actions:
        error, seconds = took(partial(action, rig.driver(**changes)), ConfigurationError)
        assert all(word in error.message for word in words)
        assert "lab file" in error.remedy
        assert seconds < 30.0
    untouched(rig, before)


# -- the power strip


@pytest.mark.parametrize(
    ("fault", "words"),
    [(Fault.ERROR_500, "HTTP 500"), (Fault.HANG, "did not answer"), (Fault.LIE, "accepted the command")],
)
@pytest.mark.parametrize("verb", ["cut", "reset"])
def test_a_strip_that_fails_is_named_within_its_deadline_and_the_board_runs_on(
    rig: StandIn, before: Identity, fault: Fault, words: str, verb: str
) -> None:
    with ShellyGen2Strip() as strip:
        strip.outlets.on[0] = True
        strip.fault, strip.fault_commands_only = fault, fault is Fault.LIE
        board = rig.driver(supervisor=supervisor_at(strip), supervisor_namespace=netns.HOST)
        error, seconds = took(getattr(board.supervisor, verb), BenchError)
        assert words in error.message
        assert strip.address in error.message
        assert board.name in error.message
        assert error.remedy
        assert seconds < 20.0
    untouched(rig, before)


def test_a_strip_that_is_not_there_leaves_the_board_off_and_says_so(rig: StandIn, before: Identity) -> None:
    rig.driver().supervisor.cut()
    with ShellyGen2Strip() as strip:
        address = strip.address
    board = rig.driver(
        supervisor=SupervisorSpec(
            power=ShellyGen2Spec(kind="shelly-gen2", address=address, outlet=0, request_timeout_s=1.0)
        ),
        supervisor_namespace=netns.HOST,
    )
    error, _ = took(board.supervisor.on, BenchError)
    assert address in error.message
    assert rig.hardware.supervisor.state() is PowerState.OFF
    rig.driver().supervisor.on()
    rig.driver().wait_booted()


def supervisor_at(strip: ShellyGen2Strip) -> SupervisorSpec:
    power = ShellyGen2Spec(kind="shelly-gen2", address=strip.address, outlet=0, request_timeout_s=1.0)
    return SupervisorSpec(power=power, min_off_s=0.0, confirm_within_s=1.0)


# -- the console


def test_nothing_typed_reaches_the_board_between_a_reset_by_another_process_and_its_login(
    rig: StandIn, before: Identity
) -> None:
    assert rig.console.listening
    other = rig.elsewhere()
    other.supervisor.cut()
    wait_until(lambda: not rig.console.listening, what="the console to be shut", deadline_s=5.0)
    with pytest.raises(BenchError, match="before `login:`"):
        rig.console.write(b"\x1b")
    other.supervisor.on()
    other.wait_booted()
    wait_until(lambda: rig.console.listening, what="the console to open again", deadline_s=10.0)


def test_a_board_that_runs_when_its_console_is_opened_may_be_written_to_once_it_answers(
    rig: StandIn, before: Identity
) -> None:
    rig.console.silence()
    rig.elsewhere().wait_booted()
    wait_until(lambda: rig.console.listening, what="the console to be released", deadline_s=5.0)


# -- slots and boots


def test_slots_are_remembered_while_the_board_is_off_and_asked_again_when_it_runs(
    rig: StandIn, before: Identity
) -> None:
    board = rig.driver()
    running = board.boot.state()
    board.supervisor.cut()
    off = board.boot.state()
    assert (off.running, off.slots, off.active) == (None, running.slots, running.active)
    stranger: JetsonBoard = rig.elsewhere()
    error, _ = took(stranger.boot.state, BenchError)
    assert "is off" in error.message
    board.supervisor.on()
    board.wait_booted()
    assert board.boot.state() == running


def test_every_boot_is_recorded_with_its_id_and_reset_reason(rig: StandIn, before: Identity) -> None:
    board = rig.driver()
    rig.sink.events.clear()
    board.supervisor.reset()
    after = board.wait_booted()
    (boot,) = rig.sink.of(BoardBooted)
    assert boot.boot_id == after.boot_id != before.boot_id
    assert boot.reset_reason == "SYS_RESET_N"
    assert board.inspect().proof.reset_reason == "SYS_RESET_N"


def test_an_orderly_shutdown_is_awaited_and_then_power_is_cut(rig: StandIn, before: Identity) -> None:
    board = rig.driver()
    since = board.console.size()
    rig.sink.events.clear()
    board.supervisor.off()
    assert "reboot: Power down" in board.console.text(since)
    assert [event.action for event in rig.sink.of(BoardPower)] == ["off"]
    board.supervisor.on()
    board.wait_booted()


def test_sensors_come_over_an_open_session_and_without_a_flight_cable_there_is_no_flight_address(
    rig: StandIn, before: Identity
) -> None:
    board = rig.driver()
    with board.shell() as shell:
        assert 0 < board.sensors_over(shell)["tj_c"] < 105
    error, _ = took(lambda: board.shell(Via.FLIGHT), BenchError)
    assert "flight" in error.message
