"""Who points at whom, what every link does when, and the rows a link box gets from it."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.cli.app import run
from hil.errors import ConfigurationError
from hil.orbit.contacts import ContactPlan, contact_plan
from hil.orbit.elements import Constellation, load_constellation, shell_elements
from hil.orbit.geometry import one_way_delay_us, range_km
from hil.orbit.link_phases import (
    Candidate,
    LinkPlan,
    Phase,
    every_candidate,
    packet_loss_ppm,
    plan_links,
    samples,
)
from hil.orbit.model import Duration, Fades, Shell, Station, Terminals, load_orbit_file
from hil.orbit.picture import constellation_svg, show
from hil.orbit.pointing import Pass, point
from hil.orbit.positions import track
from hil.orbit.random_draws import draw_s, generator
from hil.orbit.times import parse_time
from tests.kits import checkout

ORBITS = checkout.ROOT / "lab" / "orbits"
EPOCH = parse_time("2026-03-21T00:00:00Z")
POINTED = {Phase.SLEW, Phase.ACQUIRE, Phase.TRACK, Phase.FADE, Phase.LOST, Phase.REACQUIRE}
MAY_FOLLOW = {
    Phase.BLOCKED: {Phase.SLEW, Phase.IDLE, Phase.ACQUIRE},
    Phase.IDLE: {Phase.SLEW, Phase.BLOCKED, Phase.ACQUIRE},
    Phase.SLEW: {Phase.ACQUIRE},
    Phase.ACQUIRE: {Phase.TRACK, Phase.BLOCKED, Phase.SLEW, Phase.IDLE},
    Phase.TRACK: {Phase.FADE, Phase.BLOCKED},
    Phase.FADE: {Phase.TRACK, Phase.LOST, Phase.BLOCKED},
    Phase.LOST: {Phase.REACQUIRE, Phase.BLOCKED},
    Phase.REACQUIRE: {Phase.TRACK, Phase.BLOCKED},
}


@cache
def orbit(name: str) -> Constellation:
    return load_constellation(ORBITS / f"{name}.yaml")


@cache
def contacts(name: str, span_s: float) -> ContactPlan:
    return contact_plan(orbit(name), duration_s=span_s, step_s=10)


def with_terminals(found: Constellation, **changes: object) -> Constellation:
    return replace(found, terminals=found.terminals.model_copy(update=changes))


def plan_of(found: Constellation, span_s: float, *, seed: int = 1, step_s: float = 10.0) -> LinkPlan:
    candidates = every_candidate(contact_plan(found, duration_s=span_s, step_s=10))
    return plan_links(found, candidates, start=found.epoch, span_s=span_s, seed=seed, step_s=step_s)


def phases(plan: LinkPlan, link: str) -> list[Phase]:
    return [interval.phase for interval in plan.links[link]]


@pytest.fixture(scope="module")
def fading() -> tuple[Constellation, tuple[Candidate, ...], LinkPlan]:
    """Two planes with a fade every twelve seconds of tracking, some of them long enough to lose the link."""
    found = with_terminals(orbit("two-planes"), fades=Fades(per_hour=300.0))
    candidates = every_candidate(contacts("two-planes", 6000))
    return found, candidates, plan_links(found, candidates, start=found.epoch, span_s=6000, seed=5, step_s=10)


# -- phases ------------------------------------------------------------------------------------------------------

shells = st.builds(
    Shell,
    planes=st.integers(1, 3),
    slots_per_plane=st.integers(2, 4),
    altitude_km=st.floats(500, 1500),
    inclination_deg=st.floats(30, 100),
    raan_deg=st.just(0.0),
    raan_spread_deg=st.floats(60, 360),
    phase_deg=st.floats(5, 80),
)


@settings(max_examples=25, deadline=None)
@given(shells, st.integers(1, 3), st.sampled_from([0.0, 60.0]), st.integers(0, 2**40))
def test_intervals_have_no_gaps_and_nobody_points_more_terminals_than_it_has(
    shell: Shell, terminals: int, fades_per_hour: float, seed: int
) -> None:
    sets = tuple(shell_elements(shell, EPOCH))
    found = Constellation(
        "random",
        EPOCH,
        tuple(f"s{k}" for k in range(len(sets))),
        sets,
        stations=(Station(name="g", latitude_deg=20.0, longitude_deg=10.0, mask_deg=5.0),),
        terminals=Terminals(per_spacecraft=terminals, fades=Fades(per_hour=fades_per_hour)),
    )
    plan = plan_of(found, 6000, seed=seed, step_s=30)
    pointed: list[tuple[float, int, str]] = []
    for name, intervals in plan.links.items():
        assert intervals[0].start_s == 0 and intervals[-1].end_s == plan.span_s
        assert all(i.start_s < i.end_s for i in intervals)
        for before, after in pairwise(intervals):
            assert before.end_s == after.start_s
            assert after.phase in MAY_FOLLOW[before.phase], (name, before, after)
        for i in (i for i in intervals if i.phase in POINTED):
            for node in ("g",) if name.endswith("--g") else name.split("--"):
                pointed += [(i.start_s, 1, node), (i.end_s, -1, node)]
    busy: Counter[str] = Counter()
    for _, change, node in sorted(pointed):
        busy[node] += change
        assert busy[node] <= (1 if node == "g" else terminals)
    assert LinkPlan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


def test_the_ten_neighbours_of_the_ring_track_for_a_whole_day() -> None:
    ring = orbit("ring-of-ten")
    pairs = [(f"sc-{k:02d}", f"sc-{k % 10 + 1:02d}") for k in range(1, 11)]
    candidates = [Candidate(f"isl-{a[3:]}", "crosslink", a, b) for a, b in pairs]
    plan = plan_links(ring, candidates, start=ring.epoch, span_s=86_400, seed=1, step_s=10)
    for name in plan.links:
        assert phases(plan, name) == [Phase.TRACK]
    assert plan.topology() == [(0.0, frozenset(plan.links))]


def test_links_between_two_planes_open_with_an_acquisition_and_close_again() -> None:
    plan = plan_of(orbit("two-planes"), 12_000)
    cycle = [Phase.BLOCKED, Phase.SLEW, Phase.ACQUIRE, Phase.TRACK, Phase.BLOCKED]
    assert phases(plan, "sc-01--sc-06")[:5] == cycle
    planned = plan.links["sc-01--sc-06"]
    first = contact_plan(orbit("two-planes"), duration_s=12_000, step_s=10).between("sc-01", "sc-06")[0]
    assert planned[2].start_s == pytest.approx(
        first.start_s, abs=1e-6
    )  # turned in time: acquires at the opening
    assert planned[3].end_s == pytest.approx(first.end_s, abs=1e-6)
    assert planned[2].why == f"acquisition drawn {planned[2].end_s - planned[2].start_s:.1f} s"


def test_a_link_in_contact_when_the_plan_starts_is_tracked_already() -> None:
    two = orbit("two-planes")
    link = Candidate("l", "crosslink", "sc-02", "sc-07")
    plan = plan_links(two, [link], start=two.epoch, span_s=1200, seed=1, step_s=10)
    first = plan.links["l"][0]
    assert (first.phase, first.start_s, first.why) == (Phase.TRACK, 0, "already tracked when the plan starts")


def test_one_antenna_serves_one_spacecraft_and_hands_over_when_the_pass_ends() -> None:
    plan = plan_of(orbit("two-planes"), 12 * 3600)
    ground = {name: i for name, i in plan.links.items() if name.endswith("--gs-1")}
    waits = [
        (name, before, after)
        for name, intervals in ground.items()
        for before, after in pairwise(intervals)
        if before.phase is Phase.IDLE and after.phase is Phase.ACQUIRE
    ]
    assert waits
    for name, before, after in waits:
        assert before.why.startswith("gs-1 serves ")
        served = before.why.removeprefix("gs-1 serves ")
        assert served != name and any(i.end_s == before.end_s for i in ground[served])
        assert after.end_s - after.start_s == pytest.approx(2.0, abs=1e-6)


def test_a_second_antenna_leaves_nobody_waiting() -> None:
    two = orbit("two-planes")
    station = two.stations[0].model_copy(update={"antennas": 4})
    plan = plan_of(replace(two, stations=(station,)), 12 * 3600)
    assert not any(Phase.IDLE in phases(plan, name) for name in plan.links if name.endswith("--gs-1"))


# -- pointing ----------------------------------------------------------------------------------------------------


def passes(*rows: tuple[str, str, float, float]) -> list[Pass]:
    return [
        Pass(Candidate(f"{a}--{b}", "crosslink", a, b), 1, start_s, end_s, start_s == 0)
        for a, b, start_s, end_s in rows
    ]


def test_what_is_tracked_is_kept_and_a_free_terminal_goes_to_the_longest_remaining_contact() -> None:
    one = with_terminals(orbit("two-planes"), per_spacecraft=1)
    kept, short, long = passes(
        ("sc-01", "sc-02", 0, 300), ("sc-01", "sc-03", 100, 900), ("sc-01", "sc-04", 200, 1500)
    )
    found = point(one, EPOCH, [kept, short, long])
    assert found.given[kept.key].ready_s == 0
    assert 300 <= found.given[long.key].slew_from_s < found.given[long.key].ready_s < 320
    assert found.refused[long.key] == "sc-01 serves sc-01--sc-02"
    assert short.key not in found.given and found.refused[short.key] == "sc-01 serves sc-01--sc-02"


def test_of_two_contacts_under_way_the_longer_one_is_tracked() -> None:
    one = with_terminals(orbit("two-planes"), per_spacecraft=1)
    short, long = passes(("sc-01", "sc-02", 0, 300), ("sc-01", "sc-03", 0, 900))
    found = point(one, EPOCH, [short, long])
    assert found.given[long.key].ready_s == 0 and short.key not in found.given


def test_a_terminal_free_in_time_turns_before_the_contact_opens_and_no_earlier_than_needed() -> None:
    two = orbit("two-planes")
    (one,) = passes(("sc-01", "sc-02", 500, 900))
    found = point(two, EPOCH, [one]).given[one.key]
    assert found.ready_s == 500
    turn_deg = (500 - found.slew_from_s - two.terminals.settle_s) * two.terminals.slew_deg_per_s
    assert 0 < turn_deg <= 180 and f"{turn_deg:.1f} deg" in found.why


def test_in_a_circular_ring_the_next_one_ahead_stands_18_degrees_below_the_flight_direction() -> None:
    ring = orbit("ring-of-ten")
    (one,) = passes(("sc-01", "sc-02", 500, 900))
    found = point(ring, EPOCH, [one]).given[one.key]
    # 36 degrees apart: the chord leaves 18 degrees below the tangent; the other end looks back, 162 degrees away.
    turn_deg = (500 - found.slew_from_s - ring.terminals.settle_s) * ring.terminals.slew_deg_per_s
    assert turn_deg == pytest.approx(162, abs=0.5)


def test_a_contact_shorter_than_the_turn_gets_no_terminal() -> None:
    slow = with_terminals(orbit("two-planes"), slew_deg_per_s=0.1, per_spacecraft=1)
    kept, brief = passes(("sc-01", "sc-02", 0, 500), ("sc-01", "sc-03", 400, 505))
    found = point(slow, EPOCH, [kept, brief])
    assert brief.key not in found.given and brief.key in found.refused


# -- what is drawn -----------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_plan_and_another_seed_another() -> None:
    two = with_terminals(orbit("two-planes"), fades=Fades(per_hour=30.0))
    plan = plan_of(two, 6000, seed=7)
    assert plan_of(two, 6000, seed=7) == plan
    assert plan_of(two, 6000, seed=8).links != plan.links


def test_another_link_or_fades_change_nobody_elses_acquisition() -> None:
    two, name = orbit("two-planes"), "sc-01--sc-06"
    alone = Candidate(name, "crosslink", "sc-01", "sc-06")

    def drawn(plan: LinkPlan) -> list[str]:
        return [i.why for i in plan.links[name] if i.phase is Phase.ACQUIRE]

    among_others = drawn(plan_of(two, 12_000))
    assert len(among_others) >= 3
    only = plan_links(two, [alone], start=EPOCH, span_s=12_000, seed=1, step_s=10)
    assert drawn(only) == among_others
    assert drawn(plan_of(with_terminals(two, fades=Fades(per_hour=60.0)), 12_000)) == among_others


def test_drawn_times_have_the_median_and_the_99th_percentile_that_were_asked_for() -> None:
    chance = generator(1, "isl", 1, "acquisition")
    drawn = np.array([draw_s(Duration(median_s=20.0, p99_s=100.0), chance) for _ in range(20_000)])
    assert np.median(drawn) == pytest.approx(20, rel=0.03)
    assert np.percentile(drawn, 99) == pytest.approx(100, rel=0.08)
    assert draw_s(Duration(median_s=4.0, p99_s=4.0), chance) == 4.0


def test_fades_are_windows_of_time_and_a_long_one_loses_the_link_until_it_is_reacquired(
    fading: tuple[Constellation, tuple[Candidate, ...], LinkPlan],
) -> None:
    _, _, plan = fading
    every = [i for name, intervals in plan.links.items() if "gs" not in name for i in intervals]
    tracked_h = sum(i.end_s - i.start_s for i in every if i.phase is Phase.TRACK) / 3600
    fades = [i for i in every if i.phase is Phase.FADE]
    assert len(fades) / tracked_h == pytest.approx(300, rel=0.15)
    assert all(0.0009 < i.end_s - i.start_s <= 0.050001 for i in fades)
    # Log-uniform over 1 to 100 ms: log(100/50)/log(100/1) of them last longer than 50 ms.
    lost = [i for i in every if i.phase is Phase.LOST]
    assert len(lost) / len(fades) == pytest.approx(0.15, abs=0.04)
    assert all(i.end_s - i.start_s <= 0.050001 and "over 50 ms" in i.why for i in lost)
    again = [i.end_s - i.start_s for i in every if i.phase is Phase.REACQUIRE]
    assert np.median(again) == pytest.approx(10, rel=0.35)


def test_ground_links_do_not_fade(fading: tuple[Constellation, tuple[Candidate, ...], LinkPlan]) -> None:
    _, _, plan = fading
    ground = [name for name in plan.links if "gs" in name]
    assert ground and not any({Phase.FADE, Phase.LOST} & set(phases(plan, name)) for name in ground)


# -- the plan ----------------------------------------------------------------------------------------------------


def test_routes_do_not_follow_fades_but_they_do_follow_a_lost_link(
    fading: tuple[Constellation, tuple[Candidate, ...], LinkPlan],
) -> None:
    _, _, plan = fading
    topology = plan.topology()
    assert topology[0][0] == 0 and all(a[0] < b[0] and a[1] != b[1] for a, b in pairwise(topology))
    moments = sorted({0.0, *(i.start_s for many in plan.links.values() for i in many)})
    current = -1
    for moment in moments:
        while current + 1 < len(topology) and topology[current + 1][0] <= moment:
            current += 1
        usable = {n for n in plan.links if plan.phase(n, moment) in (Phase.TRACK, Phase.FADE)}
        assert topology[current][1] == usable
    assert len(topology) < sum(map(len, plan.links.values())) / 2


def test_a_plan_says_what_holds_from_an_edge_on_and_refuses_what_it_does_not_know() -> None:
    plan = plan_of(orbit("two-planes"), 6000)
    name, intervals = "sc-01--sc-06", plan.links["sc-01--sc-06"]
    for i in intervals:
        assert plan.phase(name, i.start_s) is i.phase
        assert plan.up(name, (i.start_s + i.end_s) / 2) == (i.phase is Phase.TRACK)
    assert plan.phase(name, 6000) is intervals[-1].phase
    for link, at_s, words in ((name, 6000.1, "outside"), (name, -1, "outside"), ("x", 0, "no link 'x'")):
        with pytest.raises(ConfigurationError, match=words):
            plan.phase(link, at_s)
    with pytest.raises(ConfigurationError, match="not a link plan"):
        LinkPlan.from_json({"format": "hil-contact-plan/1"})


@pytest.mark.parametrize(
    ("links", "words"),
    [
        ([Candidate("l", "crosslink", "sc-01", "sc-99")], "has no sc-99"),
        ([Candidate("l", "crosslink", "sc-01", "gs-1")], "sc-01 and gs-1 make no crosslink"),
        ([Candidate("l", "ground", "sc-01", "sc-02")], "make no ground link"),
        ([Candidate("l", "crosslink", "sc-01", "sc-01")], "make no crosslink"),
        ([Candidate("l", "ground", "gs-1", "sc-01"), Candidate("l", "ground", "gs-1", "sc-02")], "twice: l"),
    ],
)
def test_candidates_that_the_constellation_does_not_have_are_refused(
    links: list[Candidate], words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words):
        plan_links(orbit("two-planes"), links, start=EPOCH, span_s=60, seed=1)
    with pytest.raises(ConfigurationError, match="a seed of -1"):
        plan_of(orbit("two-planes"), 6000, seed=-1)


# -- rows for the link box ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bit_error_rate", "mtu", "loss_ppm"),
    [
        (1e-6, 1500, 11_928),
        (1e-6, 9000, 69_469),
        (1e-7, 1500, 1_199),
        (1e-7, 9000, 7_174),
        (1e-9, 1500, 12),
        (1e-9, 9000, 72),
        (1e-12, 9000, 0),
        (0.0, 1500, 0),
    ],
)
def test_a_bit_error_rate_becomes_the_loss_of_full_packets(
    bit_error_rate: float, mtu: int, loss_ppm: int
) -> None:
    assert packet_loss_ppm(bit_error_rate, mtu) == loss_ppm


def test_rows_carry_every_edge_of_the_plan_at_its_exact_time(
    fading: tuple[Constellation, tuple[Candidate, ...], LinkPlan],
) -> None:
    found, candidates, plan = fading
    begin_s, end_s = 1000.0, 1300.0
    rows = samples(found, candidates, plan, from_s=begin_s, to_s=end_s)
    assert [row.at_s for row in rows] == sorted(row.at_s for row in rows)
    keyframe = rows[: len(candidates)]
    assert {row.link for row in keyframe} == set(plan.links) and {row.at_s for row in keyframe} == {begin_s}
    edges = 0
    for name, intervals in plan.links.items():
        wanted = [(begin_s, plan.up(name, begin_s))]
        for i in intervals:
            up = i.phase is Phase.TRACK
            if begin_s < i.start_s < end_s and up != wanted[-1][1]:
                wanted.append((i.start_s, up))
        mine = [row for row in rows if row.link == name]
        got = [(mine[0].at_s, mine[0].up)]
        got += [(b.at_s, b.up) for a, b in pairwise(mine) if a.up != b.up]
        assert got == wanted
        edges += len(got) - 1
    assert edges > 100


@pytest.mark.parametrize("name", ["two-planes", "ring-of-ten"])
def test_while_a_link_is_up_its_delay_steps_by_one_microsecond_and_is_never_more_than_half_of_one_off(
    name: str,
) -> None:
    found = with_terminals(orbit(name), bit_error_rate=1e-7)
    candidates = every_candidate(contacts(name, 6000))
    plan = plan_links(found, candidates, start=EPOCH, span_s=6000, seed=1, step_s=10)
    begin_s, end_s = 4000.0, 4120.5  # no multiple of a step: the last cell is cut
    rows = samples(found, candidates, plan, from_s=begin_s, to_s=end_s)
    ends = {link.name: link for link in candidates}
    nodes = {node: k for k, node in enumerate(found.nodes)}
    moved = 0
    for link, both in ends.items():
        mine = [row for row in rows if row.link == link]
        assert {row.loss_ppm for row in mine} == {1_199 if both.kind == "crosslink" else 0}
        for a, b in pairwise(mine):
            assert (a.up, b.up) != (False, False)  # nothing to say while a link is down
            if a.up and b.up:
                assert abs(a.delay_us - b.delay_us) == 1
                moved += 1
        moments = np.linspace(begin_s, end_s, 997, endpoint=False)
        place = track(found, EPOCH, moments).position[:, : len(nodes)].transpose(1, 2, 0)
        wanted = one_way_delay_us(range_km(place[nodes[both.a]], place[nodes[both.b]]))
        last = np.searchsorted([row.at_s for row in mine], moments, side="right") - 1
        up = np.array([mine[k].up for k in last])
        apart = np.abs(np.array([mine[k].delay_us for k in last]) - wanted)[up]
        assert not len(apart) or apart.max() < 0.51
    assert moved > (1000 if name == "two-planes" else 5)


def test_windows_in_a_row_say_what_one_long_window_says(
    fading: tuple[Constellation, tuple[Candidate, ...], LinkPlan],
) -> None:
    found, candidates, plan = fading
    whole = samples(found, candidates, plan, from_s=600, to_s=660)
    parts = samples(found, candidates, plan, from_s=600, to_s=630)
    parts += samples(found, candidates, plan, from_s=630, to_s=660)[len(candidates) :]
    assert [row[1:] for row in parts] == [row[1:] for row in whole]
    assert [row.at_s for row in parts] == pytest.approx([row.at_s for row in whole], abs=1e-6)


def test_an_empty_window_says_how_every_link_is_at_that_moment(
    fading: tuple[Constellation, tuple[Candidate, ...], LinkPlan],
) -> None:
    found, candidates, plan = fading
    end = samples(found, candidates, plan, from_s=6000, to_s=6000)
    assert {row.link: row.up for row in end} == {name: plan.up(name, 6000) for name in plan.links}
    assert len(end) == len(candidates)


@pytest.mark.parametrize(
    ("from_s", "to_s", "step_s"), [(5, 4, 0.1), (-1, 5, 0.1), (0, 6001, 0.1), (0, 6000, 1e-9), (0, 10, 0)]
)
def test_windows_outside_the_plan_are_refused(
    fading: tuple[Constellation, tuple[Candidate, ...], LinkPlan], from_s: float, to_s: float, step_s: float
) -> None:
    found, candidates, plan = fading
    with pytest.raises(ConfigurationError, match=r"a window from|in steps of"):
        samples(found, candidates, plan, from_s=from_s, to_s=to_s, step_s=step_s)


# -- files, pictures, the command --------------------------------------------------------------------------------


def test_the_brief_gap_closes_four_minutes_after_its_epoch_for_a_rehearsals_length_of_time() -> None:
    """What the comment at the top of the file promises."""
    found = orbit("brief-gap")
    links = [
        Candidate("isl", "crosslink", "sc-a", "sc-b"),
        Candidate("ground", "ground", "gs-1", "sc-a"),
    ]
    plan = contact_plan(found, duration_s=900)
    before, after = plan.between("sc-a", "sc-b")
    assert before.open_start and before.end_s == pytest.approx(239.474, abs=0.01)
    assert after.open_end and after.start_s == pytest.approx(258.432, abs=0.01)
    assert 15 < after.start_s - before.end_s < 25
    (sight,) = plan.between("gs-1", "sc-a")
    assert sight.open_start and 540 < sight.end_s == pytest.approx(590.9, abs=0.1)
    for seed in range(20):
        drawn = plan_links(found, links, start=found.epoch, span_s=900, seed=seed)
        closed = [Phase.TRACK, Phase.BLOCKED, Phase.SLEW, Phase.ACQUIRE, Phase.TRACK]
        assert phases(drawn, "isl") == closed
        acquire = drawn.links["isl"][3]
        assert acquire.start_s == pytest.approx(after.start_s, abs=1e-6)
        assert 2 < acquire.end_s - acquire.start_s < 8
        assert phases(drawn, "ground") == [Phase.TRACK, Phase.BLOCKED]


def orbit_file(folder: Path, *terminals: str) -> Path:
    shell = "shell: {planes: 1, slots_per_plane: 2, altitude_km: 600.0, ltan: '18:00'}"
    file = folder / "o.yaml"
    file.write_text("\n".join(["schema: 1", "name: o", "epoch: '2026-03-21'", shell, *terminals]) + "\n")
    return file


def test_a_bit_error_rate_may_be_written_without_a_point(tmp_path: Path) -> None:
    found = load_orbit_file(orbit_file(tmp_path, "terminals: {bit_error_rate: 1e-7}"))
    assert found.terminals.bit_error_rate == 1e-7
    assert found.terminals.per_spacecraft == 4 and found.terminals.fades.per_hour == 0


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("terminals: {acquire: {median_s: 20.0, p99_s: 10.0}}", r"o\.yaml:5: .*below the median \(20 s\)"),
        ("terminals: {fades: {shortest_ms: 5.0, longest_ms: 2.0}}", r"o\.yaml:5: .*below shortest_ms"),
        ("terminals: {slew_rate: 5.0}", r"o\.yaml:5: terminals\.slew_rate: unknown key"),
        ("terminals: {bit_error_rate: often}", r"o\.yaml:5: terminals\.bit_error_rate: .*valid number"),
        ("terminals: {per_spacecraft: 0}", r"o\.yaml:5: terminals\.per_spacecraft"),
    ],
)
def test_terminals_that_make_no_sense_are_refused_with_their_line(
    tmp_path: Path, line: str, words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words):
        load_orbit_file(orbit_file(tmp_path, line))


@pytest.mark.parametrize("format_", ["table", "csv", "json"])
def test_the_links_command_writes_every_phase_in_every_format(format_: str, tmp_path: Path) -> None:
    out = tmp_path / "plan"
    arguments = ["orbit", "links", str(ORBITS / "brief-gap.yaml"), "--span", "15m", "--seed", "3"]
    assert run([*arguments, "--format", format_, "-o", str(out)]) == 0
    text = out.read_text()
    if format_ == "json":
        plan = LinkPlan.from_json(json.loads(text))
        assert plan.seed == 3 and Phase.ACQUIRE in phases(plan, "sc-a--sc-b")
    elif format_ == "csv":
        rows = list(csv.DictReader(text.splitlines()))
        assert {"slew", "acquire", "track", "blocked"} == {r["phase"] for r in rows if "gs" not in r["link"]}
    else:
        assert "acquisition drawn" in text and "2026-03-21T00:03:59.474Z" in text


def test_one_link_can_be_asked_for_and_an_unknown_one_is_an_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["orbit", "links", str(ORBITS / "brief-gap.yaml"), "--span", "15m", "--link"]
    assert run([*arguments, "sc-a--sc-b"]) == 0
    assert "gs-1" not in capsys.readouterr().out
    assert run([*arguments, "sc-a--sc-c"]) == 2


def test_the_chart_is_coloured_by_phase() -> None:
    text = show(orbit("brief-gap"), EPOCH, hours=0.25)
    for phase in ("slew", "acquire", "track"):
        assert f'<rect class="p-{phase}"' in text
    assert "sc-a – sc-b acquire: " in text and "acquisition drawn" in text


def test_the_picture_of_a_moment_tells_links_that_are_up_from_pairs_in_sight() -> None:
    ring = orbit("ring-of-ten")
    text = constellation_svg(ring, EPOCH, links_up=[("sc-02", "sc-01"), ("gs-1", "sc-04")])
    assert "1 crosslinks up, 1 up to the ground; 9 more pairs in sight" in text
    assert text.count(", not up</title>") == 9 and text.count(", up</title>") == 2
    assert "10 crosslinks possible" in constellation_svg(ring, EPOCH)
    with pytest.raises(ConfigurationError, match="has no sc-77"):
        constellation_svg(ring, EPOCH, links_up=[("sc-01", "sc-77")])


def test_a_picture_styles_nothing_but_itself() -> None:
    style = constellation_svg(orbit("brief-gap"), EPOCH).split("<style>")[1].split("</style>")[0]
    selectors = [s for rule in style.split("}")[:-1] for s in rule.split("{")[0].split(",")]
    assert selectors and all(s.startswith(".sky") for s in selectors)


def test_a_plan_can_be_read_without_numpy() -> None:
    code = (
        "import sys\nfrom hil.orbit.phases import LinkPlan\n"
        "sys.exit(any(m in sys.modules for m in ('numpy', 'sgp4', 'pydantic')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
