"""Kinds of fault: found by entry point, checked before anything is touched, healed whatever happens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from hil.boards.protocol import PowerState
from hil.cli.app import run
from hil.errors import ConfigurationError
from hil.evidence.events import FaultInjected
from hil.faults.fault import Parameter, all_faults, injected, load_fault
from hil.lab.model import load_lab
from hil.testing.fakes import ListSink
from tests.kits.fake_bench import LAB


class Links:
    """A link box that notes what is cut."""

    def __init__(self) -> None:
        self.cut_now: set[str] = set()

    def cut(self, link: str, *, why: str = "") -> None:
        self.cut_now.add(link)

    def restore(self, link: str, *, why: str = "") -> None:
        self.cut_now.discard(link)

    def cut_links(self) -> set[str]:
        return set(self.cut_now)


class Board:
    """A board that is on, and notes what is done to it."""

    def __init__(self, name: str, spacecraft: str) -> None:
        self.name, self.spacecraft = name, spacecraft
        self.supervisor = self
        self.calls: list[str] = []

    def state(self) -> PowerState:
        return PowerState.ON

    def cut(self) -> None:
        self.calls.append("cut")

    def on(self) -> None:
        self.calls.append("on")

    def wait_booted(self, *, deadline_s: float) -> None:
        self.calls.append(f"booted within {deadline_s:g}")


def test_the_list_says_what_every_parameter_means_in_plain_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fault", "list"]) == 0
    said = capsys.readouterr().out
    assert "within_s=900 (longest time until the contact ends, seconds; 1 to 86400)" in said
    with pytest.raises(ConfigurationError) as caught:
        Parameter("left_mb", 1.0, 0.0, 1e6, "MiB that stay free").checked(2e6)
    assert str(caught.value) == "left_mb is 2000000\n  remedy: give a value from 0 to 1000000: MiB that stay free"


@pytest.fixture
def bench() -> Any:
    lab = load_lab(LAB)
    boards = {b.name: Board(b.name, craft.name) for craft in lab.spacecraft for b in craft.boards}
    return SimpleNamespace(name="test", lab=lab, links=Links(), boards=boards, sink=ListSink(), orbit=None)


def test_the_built_in_faults_are_entry_points() -> None:
    assert {"link-cut", "power-cut", "spacecraft-lost", "spacecraft-dark", "ground-lost"} <= all_faults().keys()


def test_a_link_that_is_cut_comes_back_also_after_an_error(bench: Any) -> None:
    with pytest.raises(ZeroDivisionError), injected("link-cut", bench, "isl-ab"):
        assert bench.links.cut_now == {"isl-ab"}
        raise ZeroDivisionError
    assert not bench.links.cut_now
    assert bench.sink.events == [FaultInjected("link-cut", target="isl-ab")]


def test_a_spacecraft_is_lost_with_its_power_and_a_link_cut_by_hand_stays_cut(bench: Any) -> None:
    bench.links.cut("isl-ab")
    with injected("spacecraft-lost", bench, "sc-b", boot_s=90):
        assert len(bench.links.cut_now) > 1 or bench.lab.links
        assert bench.boards["b1"].calls == ["cut"]
    assert bench.links.cut_now == {"isl-ab"}
    assert bench.boards["b1"].calls == ["cut", "on", "booted within 90"]
    assert bench.boards["a1"].calls == []


@pytest.mark.parametrize(
    ("name", "target", "parameters", "why"),
    [
        ("link-cutt", "isl-ab", {}, "did you mean 'link-cut'"),
        ("link-cut", "isl-zz", {}, "no target 'isl-zz'"),
        ("power-cut", "a1", {"boots": 1}, "no parameter boots"),
        ("power-cut", "a1", {"boot_s": 0.1}, "from 1 to 1800"),
        ("contact-gap", "sc-a", {}, "nothing that it can hit"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_touched(
    bench: Any, name: str, target: str, parameters: dict[str, float], why: str
) -> None:
    with pytest.raises(ConfigurationError) as raised, injected(name, bench, target, **parameters):
        pytest.fail("it was injected")
    assert why in str(raised.value)
    assert not bench.links.cut_now and not bench.boards["a1"].calls


def test_a_fault_from_outside_is_an_object_with_four_members(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Dust:
        description = "covers a terminal with dust"
        parameters: Sequence[Parameter] = (Parameter("grams", 1.0, 0.0, 10.0, "how much"),)

        def targets(self, bench: Any) -> Sequence[str]:
            return ("terminal",)

        @contextmanager
        def inject(self, bench: Any, target: str, values: Mapping[str, float]) -> Iterator[None]:
            bench.dust = values["grams"]
            yield
            bench.dust = 0

    monkeypatch.setattr("hil.faults.fault.load_fault", lambda name: Dust())
    with injected("dust", bench, "terminal", grams=2):
        assert bench.dust == 2
    assert bench.dust == 0


def test_an_unknown_fault_names_those_there_are() -> None:
    with pytest.raises(ConfigurationError, match="link-cut"):
        load_fault("zzz")
