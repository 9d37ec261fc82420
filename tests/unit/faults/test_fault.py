"""Kinds of fault: found by entry point, checked before anything is touched, proven, healed whatever happens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from hil.boards.protocol import PowerState
from hil.cli.app import run
from hil.errors import BenchError, ConfigurationError, DeviceError
from hil.evidence.events import FaultHealed, FaultInjected
from hil.faults.fault import Bite, Injection, Outcome, Parameter, Proof, all_faults, injected, load_fault
from hil.faults.targets import chosen
from hil.lab.model import load_lab
from hil.testing.fakes import ListSink
from hil.testing.links import fake_box
from tests.kits.fake_bench import LAB
from tests.kits.fake_faults import wires_of


class Board:
    """A board that is on, and notes what is done to it."""

    def __init__(self, name: str, spacecraft: str) -> None:
        self.name, self.spacecraft = name, spacecraft
        self.supervisor = self
        self.calls: list[str] = []
        self.power = PowerState.ON

    def state(self) -> PowerState:
        return self.power

    def cut(self) -> None:
        self.calls.append("cut")
        self.power = PowerState.OFF

    def on(self) -> None:
        self.calls.append("on")
        self.power = PowerState.ON

    def wait_booted(self, *, deadline_s: float) -> None:
        self.calls.append(f"booted within {deadline_s:g}")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Any]:
    lab = load_lab(LAB)
    boards = {b.name: Board(b.name, craft.name) for craft in lab.spacecraft for b in craft.boards}
    with fake_box(wires_of(lab), socket_path=tmp_path / "links.sock") as links:
        yield SimpleNamespace(name="test", lab=lab, links=links, boards=boards, sink=ListSink(), orbit=None)


def test_the_list_says_what_every_parameter_means_in_plain_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fault", "list"]) == 0
    said = capsys.readouterr().out
    assert "within_s=900 (longest time until the contact ends, seconds; 1 to 86400)" in said
    with pytest.raises(ConfigurationError) as caught:
        Parameter("left_mb", 1.0, 0.0, 1e6, "MiB that stay free").checked(2e6)
    assert str(caught.value) == "left_mb is 2000000\n  remedy: give a value from 0 to 1000000: MiB that stay free"


def test_every_installed_fault_says_where_it_works_and_draws_within_its_ranges() -> None:
    faults = all_faults()
    assert {"link-cut", "power-cut", "spacecraft-lost", "spacecraft-dark", "ground-lost"} <= faults.keys()
    for name, fault in faults.items():
        assert fault.description and fault.works_on, name
        for each in fault.parameters:
            assert each.least <= each.default <= each.most, (name, each)
            if each.drawn is not None:
                assert each.least <= each.drawn[0] <= each.drawn[1] <= each.most, (name, each)


def test_a_link_that_is_cut_comes_back_also_after_an_error(world: Any) -> None:
    with pytest.raises(ZeroDivisionError), injected("link-cut", world, "isl-ab"):
        assert world.links.cut_links() == {"isl-ab"}
        raise ZeroDivisionError
    assert not world.links.cut_links()
    fault, healed = world.sink.events
    assert (fault.what, fault.target, fault.proof) == ("link-cut", "isl-ab", "confirmed")
    assert isinstance(fault, FaultInjected) and healed == FaultHealed("link-cut", target="isl-ab")


def test_a_spacecraft_is_lost_with_its_power_and_a_link_cut_by_hand_stays_cut(world: Any) -> None:
    world.links.cut("ground")
    with injected("spacecraft-lost", world, "sc-b", boot_s=90) as (injection,):
        assert world.links.cut_links() == {"ground", "isl-ab"}
        assert world.boards["b1"].calls == ["cut"]
        assert "off: b1, b2, b3" in injection.proof.seen
    assert world.links.cut_links() == {"ground"}
    assert world.boards["b1"].calls == ["cut", "on", "booted within 90"]
    assert world.boards["a1"].calls == []


@pytest.mark.parametrize(
    ("name", "target", "parameters", "why"),
    [
        ("link-cutt", "isl-ab", {}, "did you mean 'link-cut'"),
        ("link-cut", "isl-zz", {}, "no target 'isl-zz'"),
        ("power-cut", "a1", {"boots": 1}, "no parameter boots"),
        ("power-cut", "a1", {"boot_s": 0.1}, "from 1 to 1800"),
        ("contact-gap", "sc-a", {}, "nothing that it can hit"),
        ("link-cut", "one_per_spacecraft", {}, "no target is meant"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_touched(
    world: Any, name: str, target: str, parameters: dict[str, float], why: str
) -> None:
    with pytest.raises(ConfigurationError) as raised, injected(name, world, target, **parameters):
        pytest.fail("it was injected")
    assert why in str(raised.value)
    assert not world.links.cut_links() and not world.boards["a1"].calls


class Dust:
    """A fault from outside, whose proof a test chooses."""

    description = "covers a terminal with dust"
    works_on = "terminals"
    parameters: Sequence[Parameter] = (Parameter("grams", 1.0, 0.0, 10.0, "how much"),)

    def __init__(self, proof: Proof | Exception) -> None:
        self.proof = proof
        self.done: list[str] = []

    def targets(self, world: Any) -> Sequence[str]:
        return ("terminal", "mirror")

    def inject(self, world: Any, target: str, values: Mapping[str, float]) -> Bite:
        self.done.append(f"{target} {values['grams']:g}")
        return Bite(self.prove, lambda: self.done.append("stop"))

    def prove(self) -> Proof:
        if isinstance(self.proof, Exception):
            raise self.proof
        return self.proof

    def heal(self, world: Any, target: str, values: Mapping[str, float]) -> None:
        self.done.append("heal")


def _installed(fault: Dust, monkeypatch: pytest.MonkeyPatch) -> Dust:
    monkeypatch.setattr("hil.faults.fault.load_fault", lambda name: fault)
    return fault


def test_a_fault_is_healed_before_it_is_injected_and_at_the_end(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    dust = _installed(Dust(Proof.of(True, "grey")), monkeypatch)
    with injected("dust", world, "terminal", grams=2) as (injection,):
        assert dust.done == ["heal", "terminal 2"]
        assert injection.proof == Proof(Outcome.CONFIRMED, "grey")
    assert dust.done[2:] == ["stop", "heal"]


@pytest.mark.parametrize("proof", [Proof.of(False, "clean"), DeviceError("no answer"), OSError("gone")])
def test_an_effect_that_is_not_confirmed_is_the_benchs_fault_and_healed_at_once(
    world: Any, monkeypatch: pytest.MonkeyPatch, proof: Any
) -> None:
    dust = _installed(Dust(proof), monkeypatch)
    with pytest.raises(BenchError, match="not confirmed"), injected("dust", world, "all"):
        pytest.fail("it went on")
    assert dust.done == ["heal", "terminal 1", "stop", "heal"]
    assert world.sink.events[0].proof == ("mismatch" if isinstance(proof, Proof) else "unknown")


def test_an_injection_that_was_never_begun_can_be_ended(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    dust = _installed(Dust(Proof.of(True, "")), monkeypatch)
    injection = Injection("dust", world, "mirror", {})
    injection.end()
    assert dust.done == ["heal"] and injection.proof.outcome is Outcome.UNKNOWN


def test_targets_are_drawn_by_description_and_repeat_with_the_seed() -> None:
    lab = load_lab(LAB)
    boards = [board.name for board in lab.boards]
    draw = {wanted: chosen(wanted, boards, lab, Random(7)) for wanted in ("one", "half", "one_per_spacecraft")}
    assert [len(draw[w]) for w in ("one", "half", "one_per_spacecraft")] == [1, 3, 2]
    assert {lab.spacecraft_of(name).name for name in draw["one_per_spacecraft"]} == {"sc-a", "sc-b"}
    assert draw["half"] == chosen("half", boards, lab, Random(7))
    assert chosen("gateway", boards, lab, Random(1)) == ["a1"]
    assert chosen("gateway", ["sc-a", "sc-b"], lab, Random(1)) == ["sc-a"]
    assert chosen("all", boards, lab, Random(1)) == boards
    assert chosen("b2", boards, lab, Random(1)) == ["b2"]


def test_an_unknown_fault_names_those_there_are() -> None:
    with pytest.raises(ConfigurationError, match="link-cut"):
        load_fault("zzz")
