"""The clock of a bench that follows an orbit: mission time that passes faster, and whose link serves a guest."""

from __future__ import annotations

from datetime import timedelta
from functools import cache

import pytest

from hil.bench.orbit_clock import LEAD_S, OrbitClock
from hil.core import paths
from hil.lab.model import load_lab

LAB = load_lab(paths.ROOT / "lab/guests.yaml")
GUEST_LINKS = frozenset({"gst-01", "gst-02", "gst-10"})


@cache
def clock(time_factor: float) -> OrbitClock:
    assert LAB.orbit is not None
    orbit = LAB.orbit.model_copy(update={"time_factor": time_factor})
    lab = LAB.model_copy(update={"orbit": orbit})
    lab._file = LAB.file
    made = OrbitClock.ahead(lab)
    assert made is not None
    return made


def at(orbit: OrbitClock, now_s: float, monkeypatch: pytest.MonkeyPatch) -> frozenset[str]:
    monkeypatch.setattr(orbit, "now_s", lambda: now_s)
    return orbit.usable()


def test_the_bench_is_through_the_same_plan_so_many_times_sooner() -> None:
    slow, fast = clock(1), clock(20)
    assert [(s.guest, s.spacecraft) for s in slow.services] == [(s.guest, s.spacecraft) for s in fast.services]
    for one, other in zip(slow.services, fast.services, strict=True):
        assert (other.start_s * 20, other.end_s * 20) == pytest.approx((one.start_s, one.end_s), abs=1e-6)
    assert fast.plan.span_s * 20 == pytest.approx(slow.plan.span_s)


def test_delays_are_those_of_the_mission_at_that_moment() -> None:
    slow, fast = clock(1), clock(20)
    wanted = {row.link: row for row in slow.window(400 * 10**9, 400 * 10**9)}
    found = {row.link: row for row in fast.window(20 * 10**9, 20 * 10**9)}
    assert found.keys() == wanted.keys() >= GUEST_LINKS
    for link, row in found.items():
        assert (row.up, row.delay_us, row.at_ns) == (wanted[link].up, wanted[link].delay_us, 20 * 10**9)
    rows = fast.window(0, 30 * 10**9)
    assert [row.at_ns for row in rows] == sorted(row.at_ns for row in rows) and rows[-1].at_ns < 30 * 10**9


def test_mission_time_is_what_has_passed_there(monkeypatch: pytest.MonkeyPatch) -> None:
    orbit = clock(20)
    monkeypatch.setattr(orbit, "now_s", lambda: 3.0)
    assert orbit.mission_time() - orbit.epoch == timedelta(seconds=60)


def test_a_guest_is_served_over_one_link_and_handed_over_before_the_contact_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    orbit = clock(1)
    first, second, third = orbit.services
    assert first.overlap_s is not None and first.overlap_s > LEAD_S and third.overlap_s is None
    assert at(orbit, first.end_s - LEAD_S - 0.1, monkeypatch) & GUEST_LINKS == {"gst-02"}
    assert orbit.tracked(first.end_s - LEAD_S + 0.1) & GUEST_LINKS == {"gst-02", "gst-01"}
    assert at(orbit, first.end_s - LEAD_S + 0.1, monkeypatch) & GUEST_LINKS == {"gst-01"}
    assert at(orbit, second.start_s + 60, monkeypatch) & GUEST_LINKS == {"gst-01"}
    assert at(orbit, third.start_s + 60, monkeypatch) & GUEST_LINKS == {"gst-10"}
    assert not at(orbit, third.end_s + 1, monkeypatch) & GUEST_LINKS
