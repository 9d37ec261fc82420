"""Calibration without packets: outages seen, repetitions, links that the contact plan takes away."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from hil.evidence.events import LinkFigure
from hil.links.calibration.calibrate import ATTEMPTS, measure
from hil.links.calibration.figure import bounded, figure, information
from hil.links.calibration.outage import Command, Seen, judge, observe
from hil.links.calibration.probe import Arrival, Probe
from hil.links.link_box import LinkBox
from hil.links.state import LinkState
from tests.kits.fake_probe import FakeProbe

MS = 1_000_000
DELAY = 14 * MS


def stream(lost: Sequence[tuple[int, int]], *, upto_ms: int = 400) -> list[Arrival]:
    """A packet each millisecond, but those of the ``lost`` stretches, in ms."""
    return [
        Arrival(ms, ms * MS, ms * MS + DELAY)
        for ms in range(upto_ms)
        if not any(low <= ms < high for low, high in lost)
    ]


def test_an_outage_is_as_long_as_the_packets_say_and_takes_effect_when_they_say() -> None:
    commands = [Command(100 * MS, 160 * MS), Command(250 * MS, 310 * MS)]
    first, second = observe(stream([(103, 165), (251, 311)]), commands, 0.001)
    assert first == Seen(length_us=62_000, cut_effect_us=2_000, restore_effect_us=5_000)
    assert second == Seen(length_us=60_000, cut_effect_us=0, restore_effect_us=1_000)


def test_a_cut_that_had_no_effect_shows_as_an_outage_of_no_length() -> None:
    (seen,) = observe(stream([]), [Command(100 * MS, 160 * MS)], 0.001)
    assert seen is not None
    rows = {row.quantity: row for row in judge(FakeProbe(), [Command(100 * MS, 160 * MS)], [seen], 0.001)}
    assert seen.length_us == 0
    assert not rows["outage_length"].ok


def test_the_outage_furthest_from_its_command_is_the_one_that_counts() -> None:
    commands = [Command(0, 60 * MS), Command(100 * MS, 160 * MS)]
    seen = [Seen(60_500, 1_000, 500), Seen(75_000, 2_000, 15_000)]
    rows = {row.quantity: row for row in judge(FakeProbe(), commands, seen, 0.001)}
    assert (rows["outage_length"].commanded, rows["outage_length"].measured) == (60_000, 75_000)
    assert rows["outage_length"].ok
    assert rows["cut_effect_p99"].measured == 2_000
    assert rows["restore_effect_p99"].measured == 15_000


def test_an_outage_that_nobody_saw_is_not_passed_over() -> None:
    commands = [Command(0, 60 * MS), Command(100 * MS, 160 * MS)]
    rows = judge(FakeProbe(), commands, [Seen(60_000, 0, 0), None], 0.001)
    assert not any(row.ok for row in rows)


def test_a_slow_stream_cannot_tell_the_moment_better_than_its_pace() -> None:
    seen = [Seen(60_000 + 25_000, 0, 0)]
    assert not judge(FakeProbe(), [Command(0, 60 * MS)], seen, 0.001)[0].ok
    assert judge(FakeProbe(), [Command(0, 60 * MS)], seen, 0.02)[0].ok


class FakeBox(LinkBox):
    """A link that follows a contact plan: what is commanded is whatever comes next in ``states``."""

    def __init__(self, states: Iterator[LinkState], *, followed: bool = True) -> None:
        self.states = states
        self.followed = followed
        self.last = LinkState(1_000, 0)

    def commanded(self, link: str, direction: str, at_ns: int | None = None) -> LinkState:
        self.last = next(self.states, self.last)
        return self.last

    def cut_links(self) -> frozenset[str]:
        return frozenset()

    def show(self) -> list[Any]:
        way = SimpleNamespace(scheduled=self.followed)
        return [SimpleNamespace(name="isl", a_to_b=way, b_to_a=way)]


class Stage:
    """Measures each probe with the errors given, one after another."""

    def __init__(self, **errors: list[float]) -> None:
        self.errors = errors
        self.rounds: list[list[str]] = []

    def __call__(self, box: object, probes: Sequence[Probe]) -> list[LinkFigure]:
        self.rounds.append([probe.direction for probe in probes])
        return [figure(p, "delay_p50", 0, self.errors[p.direction].pop(0), "us", 100) for p in probes]


UP = LinkState(1_000, 0)
BOTH = [FakeProbe(), FakeProbe("b_to_a")]


def test_only_the_direction_that_was_outside_is_measured_again_and_the_note_says_so() -> None:
    stage = Stage(a_to_b=[5.0], b_to_a=[500.0, 500.0, 7.0])
    rows, gone = measure(FakeBox(iter([UP])), BOTH, stage)
    assert stage.rounds == [["a_to_b", "b_to_a"], ["b_to_a"], ["b_to_a"]]
    assert [(row.direction, row.measured, row.note) for row in rows] == [
        ("a_to_b", 5.0, ""),
        ("b_to_a", 7.0, "attempt 3"),
    ]
    assert not gone


def test_what_stays_outside_is_reported_after_the_last_attempt() -> None:
    rows, _ = measure(FakeBox(iter([UP])), BOTH[:1], Stage(a_to_b=[500.0] * ATTEMPTS))
    assert [(row.ok, row.note) for row in rows] == [(False, f"attempt {ATTEMPTS}")]


def test_a_measurement_that_a_fade_spoilt_does_not_count_as_an_attempt() -> None:
    faded = replace(UP, up=False)
    stage = Stage(a_to_b=[500.0, 5.0])
    # up before, down right after, and back again while that is looked into
    rows, _ = measure(FakeBox(iter([UP, faded, UP, UP])), BOTH[:1], stage)
    assert [(row.measured, row.note) for row in rows] == [(5.0, "")]


def test_a_link_that_the_plan_takes_away_is_told_of_and_not_failed() -> None:
    faded = replace(UP, up=False)
    rows, gone = measure(FakeBox(iter([UP, faded])), BOTH[:1], Stage(a_to_b=[500.0]))
    assert [(row.quantity, row.commanded, row.ok) for row in rows] == [("state", 0, True)]
    assert gone == {("isl", "a_to_b")}


def test_a_link_that_goes_down_without_a_plan_is_failed() -> None:
    faded = replace(UP, up=False)
    box = FakeBox(iter([UP, faded]), followed=False)
    rows, gone = measure(box, BOTH[:1], Stage(a_to_b=[500.0] * ATTEMPTS), attempts=1)
    assert [row.ok for row in rows] == [False]
    assert not gone


def test_a_figure_is_judged_by_its_tolerance_by_its_bounds_or_not_at_all() -> None:
    probe = FakeProbe()
    assert figure(probe, "rate", 100, 103, "bit/s", 3).ok
    assert not figure(probe, "rate", 100, 104, "bit/s", 3).ok
    assert not figure(probe, "rate", 100, None, "bit/s", 3).ok
    assert bounded(probe, "loss", 10, 19, "ppm", (2, 20), "").ok
    assert not bounded(probe, "loss", 10, 1, "ppm", (2, 20), "").ok
    assert information(probe, "delay_p99", 0, 1e9).ok
    assert not information(probe, "delay_p99", 0, None).ok


@pytest.mark.parametrize("quantity", ["delay_p50", "rate"])
def test_a_calibration_goes_into_evidence_as_json(quantity: str) -> None:
    import json
    from dataclasses import asdict

    row = figure(FakeProbe(), quantity, 1, 1.25, "us", 1, quantiles=(1.0, 2.0))
    assert json.loads(json.dumps(asdict(row)))["quantiles"] == [1.0, 2.0]
