"""The storm: faults strike at their moments, never two at one thing, and all are healed whatever happens."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from hil.errors import BenchError, DeviceError
from hil.evidence.events import RolloutStep
from hil.faults.fault import Bite, Proof
from hil.testing.fakes import ListSink
from hil.trials.schedule import Strike
from hil.trials.storm import Moments, Storm


class Fault:
    """Notes who is hit when; ``refuse`` times it cannot be injected."""

    description, works_on, parameters = "x", "y", ()

    def __init__(self) -> None:
        self.now: set[str] = set()
        self.together = 0
        self.healed: list[str] = []
        self.refuse = 0
        self.error: Exception | None = None
        self.not_healed: list[Exception] = []
        """Raised one by one when it is healed after it has struck."""

    def targets(self, bench: Any) -> list[str]:
        return ["isl-ab", "b1", "b2", "sc-b"]

    def inject(self, bench: Any, target: str, values: Any) -> Bite:
        if self.error is not None:
            raise self.error
        if self.refuse:
            self.refuse -= 1
            raise DeviceError("it restarts just now")
        self.now.add(target)
        self.together = max(self.together, len(self.now))
        return Bite(lambda: Proof.of(target in self.now, "seen"))

    def heal(self, bench: Any, target: str, values: Any) -> None:
        if self.now and self.not_healed:
            raise self.not_healed.pop(0)
        self.now.discard(target)
        self.healed.append(target)


@pytest.fixture
def fault(monkeypatch: pytest.MonkeyPatch) -> Fault:
    fault = Fault()
    monkeypatch.setattr("hil.faults.fault.load_fault", lambda name: fault)
    monkeypatch.setattr("hil.trials.storm.USUALLY_S", dict.fromkeys(("start", "install", "prepared"), 0.05))
    monkeypatch.setattr("hil.trials.storm.AGAIN_S", 0.02)
    return fault


def storm_of(*strikes: Strike) -> tuple[Storm, Moments, Any]:
    boards = {name: SimpleNamespace(spacecraft="sc-b") for name in ("b1", "b2")}
    bench: Any = SimpleNamespace(name="test", boards=boards, sink=ListSink())
    moments = Moments()
    return Storm(bench, strikes, moments), moments, bench


def strike(target: str = "isl-ab", moment: str = "start", lasts_s: float = 0.1) -> Strike:
    return Strike(0, "any", target, {}, moment, 0.5, lasts_s)


def test_a_fault_strikes_when_its_moment_comes_on_its_board_and_is_healed(fault: Fault) -> None:
    storm, moments, _ = storm_of(strike("b1", "install"), strike("b2", "install"), strike("isl-ab", "prepared"))

    def action() -> None:
        moments.note(RolloutStep("b1", "install", "start"))
        time.sleep(1.0)

    storm.run(action, 5.0)
    first, second, third = storm.struck
    assert first.proof == "confirmed" and first.began_s is not None and first.ended_s is not None
    assert first.ended_s - first.began_s >= 0.098  # both are rounded to 1 ms
    assert second.began_s is third.began_s is None  # their moments never came
    assert not fault.now


def test_a_link_that_did_not_stay_as_it_was_to_be_is_not_confirmed(fault: Fault) -> None:
    storm, _, _ = storm_of(strike("isl-ab", lasts_s=0.3), strike("b1", lasts_s=0.3))

    def action() -> None:
        time.sleep(0.2)
        fault.now.clear()  # somebody else has mended it

    storm.run(action, 5.0)
    assert [struck.proof for struck in storm.struck] == ["mismatch", "confirmed"]


def test_two_faults_never_hold_one_thing_at_once(fault: Fault) -> None:
    storm, _, _ = storm_of(*[strike("isl-ab") for _ in range(4)])
    storm.run(lambda: time.sleep(0.7), 5.0)
    assert fault.together == 1 and sum(s.began_s is not None for s in storm.struck) == 4


def test_everything_is_healed_at_the_deadline_while_the_rollout_goes_on(fault: Fault) -> None:
    storm, _, _ = storm_of(strike("isl-ab", lasts_s=60.0), strike("b1", lasts_s=60.0))
    going = threading.Event()
    begun_s = time.monotonic()
    storm.run(lambda: going.wait(10.0), 0.4)
    assert time.monotonic() - begun_s < 5.0
    assert not fault.now and storm.action.is_alive()
    going.set()


def test_a_storm_that_is_interrupted_heals_what_has_struck(fault: Fault) -> None:
    storm, _, _ = storm_of(strike("isl-ab", lasts_s=60.0))

    def interrupted() -> bool:
        if fault.now:
            raise KeyboardInterrupt
        return False

    with pytest.raises(KeyboardInterrupt):
        storm.run(lambda: time.sleep(5.0), 30.0, interrupted)
    assert fault.healed[-1] == "isl-ab" and not fault.now


def test_a_board_that_restarts_just_now_is_struck_as_soon_as_it_answers(fault: Fault) -> None:
    fault.refuse = 3
    storm, _, _ = storm_of(strike("b1"))
    storm.run(lambda: time.sleep(0.5), 5.0)
    assert storm.struck[0].proof == "confirmed"


@pytest.mark.parametrize("error", [BenchError("the link box does not answer"), KeyError("x")])
def test_a_fault_that_the_bench_cannot_do_is_an_error_of_the_bench_and_healed(fault: Fault, error: Exception) -> None:
    fault.error = error
    storm, _, _ = storm_of(strike("b1"))
    storm.run(lambda: time.sleep(0.2), 5.0)
    assert storm.struck[0].error and fault.healed[-1] == "b1"


def test_a_board_that_does_not_answer_when_it_is_healed_is_healed_again(fault: Fault) -> None:
    fault.not_healed = [DeviceError("b1 refuses the login")]
    storm, _, _ = storm_of(strike("b1"))
    storm.run(lambda: time.sleep(0.2), 5.0)
    assert not fault.now and not storm.struck[0].error


def test_a_fault_that_was_not_healed_is_an_error_of_a_strike_that_began(fault: Fault) -> None:
    fault.not_healed = [OSError(28, "No space left on device")]
    storm, _, _ = storm_of(strike("b1"))
    storm.run(lambda: time.sleep(0.2), 5.0)
    (struck,) = storm.struck
    assert struck.began_s is not None
    assert struck.error == "it could not be healed: OSError: [Errno 28] No space left on device"


def test_a_fault_that_could_not_strike_is_an_error_when_it_cannot_be_healed_either(fault: Fault) -> None:
    fault.now = {"b1"}  # what another run left
    fault.not_healed = [DeviceError("it restarts just now")] * 10_000

    def end() -> None:
        fault.not_healed = [BenchError("b1 has no console any more")]

    storm, _, _ = storm_of(strike("b1"))
    threading.Timer(0.6, end).start()
    storm.run(lambda: None, 0.2)
    assert storm.struck[0].began_s is None
    assert storm.struck[0].error == "it could not be healed: b1 has no console any more"


@pytest.mark.parametrize(("error", "broken"), [(DeviceError("it fell back"), False), (KeyError("x"), True)])
def test_what_faults_do_to_a_rollout_is_expected_and_a_bug_of_ours_is_kept(
    fault: Fault, error: Exception, broken: bool
) -> None:
    def action() -> None:
        raise error

    storm, _, _ = storm_of()
    storm.run(action, 5.0)
    assert bool(storm.broken) is broken
