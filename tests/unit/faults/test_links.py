"""Links that are lost and come back together."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from hil.core import paths
from hil.errors import BenchError
from hil.faults.inject import outage
from hil.faults.links import LinkSet, usable_now, way_from_ground
from hil.lab.model import load_lab
from hil.links.link_box import End, Wire
from hil.links.state import LinkState
from hil.testing.fakes import FakeClock, ListSink
from hil.testing.links import fake_box
from tests.kits.small_labs import RING

LAB = load_lab(paths.ROOT / "lab/virtual.yaml")


class Box:
    """Counts bytes on every link and remembers what was done; ``broken`` links cannot be restored."""

    def __init__(self, *names: str, broken: str = "") -> None:
        self.names, self.broken = names, broken
        self.done: list[str] = []

    def cut(self, link: str, *, why: str = "") -> None:
        self.done.append(f"cut {link}")

    def restore(self, link: str, *, why: str = "") -> None:
        self.done.append(f"restore {link}")
        if link == self.broken:
            raise BenchError(f"{link} stays dark")

    def show(self) -> list[Any]:
        counted = SimpleNamespace(sent_bytes=10), SimpleNamespace(sent_bytes=1)
        return [SimpleNamespace(name=name, a_to_b=counted[0], b_to_a=counted[1]) for name in self.names]


def test_a_spacecraft_is_separated_by_all_its_links_and_by_no_other() -> None:
    assert LinkSet.of(Box(), LAB, "sc-b").names == ("isl-ab",)
    assert LinkSet.of(Box(), RING, "sc-a").names == ("gnd-a", "a-b", "e-a")
    assert LinkSet.of(Box(), RING, RING.ground_station.name).names == ("gnd-a",)


def test_bytes_of_all_its_links_are_counted_together() -> None:
    assert LinkSet(Box("x", "y", "z"), ["x", "z"]).bytes_sent() == 22


def test_bytes_into_a_spacecraft_are_those_of_one_direction() -> None:
    names = ("gnd-a", "a-b", "e-a", "b-c")
    into = {link.name: 10 if link.between[1] == "sc-a" else 1 for link in RING.links if "sc-a" in link.between}
    assert set(into.values()) == {1, 10}
    assert LinkSet.of(Box(*names), RING, "sc-a").bytes_into() == sum(into.values())


def test_links_come_back_after_an_outage_even_when_the_wait_or_a_cut_fails() -> None:
    class Broken(FakeClock):
        def sleep(self, seconds: float) -> None:
            raise KeyboardInterrupt

    box, clock = Box(), FakeClock()
    with outage(LinkSet(box, ["x", "y"]), 2.0, clock):
        assert box.done == ["cut x", "cut y"]
    assert box.done == ["cut x", "cut y", "restore x", "restore y"]
    assert clock.now == 2.0
    with pytest.raises(KeyboardInterrupt), outage(LinkSet(box, ["x", "y"]), 2.0, Broken()):
        pass
    assert box.done[-2:] == ["restore x", "restore y"]


def test_one_link_that_stays_dark_keeps_no_other_from_coming_back() -> None:
    box = Box(broken="x")
    with pytest.raises(BenchError, match="x stays dark"):
        LinkSet(box, ["x", "y"]).restore()
    assert box.done == ["restore x", "restore y"]


def test_the_way_from_the_ground_may_lead_through_the_spacecraft_that_is_to_be_cut_off() -> None:
    def bench(*usable: str) -> Any:
        orbit = SimpleNamespace(usable=lambda: frozenset(usable))
        return SimpleNamespace(lab=RING, orbit=orbit, links=SimpleNamespace(cut_links=lambda: []))

    everything = [link.name for link in RING.links]
    far = LinkSet.of(Box(), RING, "sc-a").names
    assert way_from_ground(bench(*everything), "sc-b") == ["gnd-a", "a-b"]
    assert way_from_ground(bench(*everything), "sc-b", without=far) is None
    assert way_from_ground(bench("a-b"), "sc-b") is None
    assert way_from_ground(bench(*everything), "sc-a", without=["a-b"]) == ["gnd-a"]


def test_links_cut_by_hand_cannot_be_used_now(tmp_path: Path) -> None:
    state = LinkState(delay_us=1000, rate_bps=10**8)
    wires = [Wire(n, End("ns1", f"l-{n}"), End("ns2", f"l-{n}"), state, state) for n in ("x", "y")]
    sink = ListSink()
    with fake_box(wires, socket_path=tmp_path / "links.sock", sink=sink) as box:
        bench = cast(Any, SimpleNamespace(orbit=None, links=box))
        assert usable_now(bench) == {"x", "y"}
        box.cut("x")
        assert usable_now(bench) == {"y"}
        orbit = SimpleNamespace(usable=lambda: frozenset("yz"))
        followed = SimpleNamespace(orbit=orbit, links=SimpleNamespace(cut_links=lambda: ["z"]))
        assert usable_now(cast(Any, followed)) == {"y"}
