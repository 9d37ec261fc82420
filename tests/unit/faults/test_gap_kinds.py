"""A planned end of contact in the middle of a transfer, on a clock that only moves when told to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from hil.errors import BenchError, DeviceError
from hil.evidence.events import ContactGap, FaultInjected
from hil.faults import gap_kinds
from hil.faults.fault import Injection, Outcome
from hil.faults.gap_kinds import Interrupted, across_gap
from hil.rollout.contact_gaps import ContactPlan, PlannedGap
from hil.testing.fakes import FakeClock, ListSink
from tests.kits.small_labs import Plan, orbiting

GAP = PlannedGap(100.0, 120.0, ("isl",))
LEAD_S = 0.9
SIZE = 1000


class World(FakeClock):
    """A transfer of ``SIZE`` bytes that goes on with ``rate`` per second while ``open_at`` says so."""

    def __init__(self, open_at: Callable[[float], bool], *, now: float = 0.0, rate: float = 500.0) -> None:
        super().__init__(now)
        self.open_at, self.rate = open_at, rate
        self.began_s: float | None = None
        self.bytes = 0.0
        self.done = threading.Event()
        self.begun = threading.Event()
        self.thread = threading.current_thread()
        self.failure: Exception | None = None
        self.answer: str | None = "relayed"
        self.sink = ListSink()
        self.told: list[str] = []

    @property
    def plan(self) -> ContactPlan:
        return Plan([])

    def now_s(self) -> float:
        return self.now

    def relay(self) -> str | None:
        self.began_s, self.thread = self.now, threading.current_thread()
        self.begun.set()
        assert self.done.wait(20)
        if self.failure:
            raise self.failure
        return self.answer

    def sleep(self, seconds: float) -> None:
        if self.now >= GAP.closes_s - LEAD_S:
            assert self.begun.wait(20)  # the thread is real: time stands still until it runs
        before, self.now = self.now, self.now + seconds
        if self.began_s is not None and self.open_at(before):
            self.bytes = min(SIZE, self.bytes + self.rate * seconds)
            if self.bytes >= SIZE or self.now > GAP.opens_s:  # nobody sleeps any more once bytes flow again
                self.done.set()
                self.thread.join(20)

    def run(self) -> Interrupted[str | None]:
        try:
            return across_gap(
                self.relay,
                GAP,
                orbit=self,
                lead_s=LEAD_S,
                progress=lambda: int(self.bytes),
                whole=SIZE,
                what="contact closed",
                sink=self.sink,
                tell=self.told.append,
                clock=self,
            )
        finally:
            self.done.set()


def as_planned(at_s: float) -> bool:
    return not GAP.closes_s <= at_s < GAP.opens_s


def test_the_transfer_begins_before_the_gap_and_is_resumed_after_it() -> None:
    world = World(lambda at_s: as_planned(at_s) and not 120.0 <= at_s < 121.4)
    done = world.run()
    assert done.result == "relayed"
    assert world.began_s == pytest.approx(GAP.closes_s - LEAD_S)
    assert 0 < done.at_close < SIZE
    assert done.again_after_s == pytest.approx(1.5, abs=0.11)


def test_a_transfer_that_returns_nothing_is_not_an_error() -> None:
    world = World(as_planned)
    world.answer = None
    assert world.run().result is None


def test_the_evidence_has_the_planned_and_the_observed_times() -> None:
    world = World(as_planned)
    done = world.run()
    (fault, gap) = world.sink.events
    assert fault == FaultInjected("contact closed", done.at_close, planned=True)
    assert isinstance(gap, ContactGap) and gap.bytes_at_close and gap.bytes_held
    assert (gap.links, gap.closes_s, gap.opens_s) == (("isl",), 100.0, 120.0)
    assert gap.bytes_at_close <= gap.bytes_held < SIZE
    assert 120.0 <= gap.flowed_again_s <= gap.ended_s


def test_a_long_wait_is_told_of_twice_a_minute() -> None:
    world = World(as_planned)
    world.run()
    waiting = [line for line in world.told if line.startswith("waiting")]
    assert len(waiting) == 4
    assert waiting[0] == "waiting 99 s for the planned end of contact on isl"
    assert any("bytes flow again" in line for line in world.told)


def test_what_arrives_while_the_contact_is_closed_by_plan_is_the_benchs_fault() -> None:
    with pytest.raises(BenchError, match="arrived while the contact was closed"):
        World(lambda at_s: as_planned(at_s) or at_s > 110, rate=20).run()


def test_what_is_in_flight_when_the_contact_ends_may_still_arrive() -> None:
    late = World(lambda at_s: as_planned(at_s - gap_kinds.IN_FLIGHT_S / 2))
    assert late.run().result == "relayed"


def test_a_transfer_that_ends_before_the_gap_shows_nothing() -> None:
    with pytest.raises(BenchError, match="ended before the contact ended"):
        World(as_planned, rate=1e6).run()


def test_a_transfer_that_only_has_to_fan_out_when_the_gap_comes_shows_nothing() -> None:
    class Lingers(World):
        def sleep(self, seconds: float) -> None:
            super().sleep(seconds)
            self.bytes = min(self.bytes, SIZE - 1) if self.now < GAP.closes_s + 0.1 else SIZE

    with pytest.raises(BenchError, match="everything had arrived"):
        Lingers(as_planned).run()


def test_a_gap_before_the_first_byte_shows_nothing() -> None:
    with pytest.raises(BenchError, match="before the first byte"):
        World(as_planned, rate=0).run()


def test_a_gap_that_is_too_near_is_not_begun() -> None:
    world = World(as_planned, now=GAP.closes_s - LEAD_S / 2)
    with pytest.raises(BenchError, match="too soon"):
        world.run()
    assert world.began_s is None


def test_no_byte_in_the_next_contact_is_the_devices_fault() -> None:
    with pytest.raises(DeviceError, match="no byte for 60 s after the contact returned"):
        World(lambda at_s: at_s < GAP.closes_s).run()


def test_an_error_of_the_transfer_is_raised_as_it_is() -> None:
    class Fails(World):
        def sleep(self, seconds: float) -> None:
            super().sleep(seconds)
            if self.now > 110:
                self.failure = DeviceError("no more flash")
                self.done.set()
                self.thread.join(20)

    with pytest.raises(DeviceError, match="no more flash"):
        Fails(as_planned).run()


class Sky:
    """A bench whose crosslink's contact ends after 0.2 s and returns after 0.5; ``kernel`` says what its links do."""

    def __init__(self) -> None:
        self.name, self.sink, self.lab = "six", ListSink(), orbiting("ab")
        self.plan = Plan([(0.0, "g ab"), (0.2, "g"), (0.5, "g ab")])
        self.begun_s = time.monotonic()
        self.orbit = self.links = self
        self.kernel: Callable[[], bool] = lambda: "ab" in self.usable()

    def now_s(self) -> float:
        return time.monotonic() - self.begun_s

    def usable(self) -> frozenset[str]:
        fixed = {link.name for link in self.lab.links if not link.follows_orbit}
        return [links for at_s, links in self.plan.topology() if at_s <= self.now_s()][-1] | fixed

    def cut_links(self) -> list[str]:
        return []

    def show(self) -> list[Any]:
        way = SimpleNamespace(kernel=SimpleNamespace(up=self.kernel()))
        return [SimpleNamespace(name="ab", a_to_b=way, b_to_a=way)]


def test_a_contact_that_ends_by_plan_is_confirmed_by_the_kernel_and_healed_by_its_return(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sky: Any = Sky()
    injection = Injection("contact-gap", sky, "sc-b", {})
    assert injection.begin().outcome is Outcome.CONFIRMED, injection.proof
    assert 0.2 <= sky.now_s() < 0.5
    injection.end()
    assert 0.5 <= sky.now_s() < 2.0
    monkeypatch.setattr(gap_kinds, "IN_FLIGHT_S", 0.1)
    wrong: Any = Sky()
    wrong.kernel = lambda: True  # the schedule is not played
    injection = Injection("contact-gap", wrong, "sc-b", {})
    assert injection.begin().outcome is Outcome.MISMATCH
    assert "the kernel still lets ab through" in injection.proof.seen
