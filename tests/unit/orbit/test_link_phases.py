"""What every link does when: phases without gaps, drawn times and fades, and the plan of them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.errors import ConfigurationError
from hil.orbit.contact_plan import contact_plan
from hil.orbit.elements import Constellation, shell_elements
from hil.orbit.link_phases import draw_s, generator, plan_links
from hil.orbit.model import Duration, Fades, Shell, Station, Terminals
from hil.orbit.phases import Candidate, LinkPlan, Phase
from tests.kits.orbits import EPOCH, orbit, phases, plan_of, with_terminals

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
    assert planned[2].start_s == pytest.approx(first.start_s, abs=1e-6)  # turned in time: acquires at the opening
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


# -- what is drawn


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


# -- the plan


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
        usable = {n for n in plan.links if plan.interval(n, moment).phase in (Phase.TRACK, Phase.FADE)}
        assert topology[current][1] == usable
    assert len(topology) < sum(map(len, plan.links.values())) / 2


def test_a_plan_says_what_holds_from_an_edge_on_and_refuses_what_it_does_not_know() -> None:
    plan = plan_of(orbit("two-planes"), 6000)
    name, intervals = "sc-01--sc-06", plan.links["sc-01--sc-06"]
    for i in intervals:
        assert plan.interval(name, i.start_s) is i
        assert plan.up(name, (i.start_s + i.end_s) / 2) == (i.phase is Phase.TRACK)
    assert plan.interval(name, 6000) is intervals[-1]
    for link, at_s, words in ((name, 6000.1, "outside"), (name, -1, "outside"), ("x", 0, "no link 'x'")):
        with pytest.raises(ConfigurationError, match=words):
            plan.interval(link, at_s)
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
def test_candidates_that_the_constellation_does_not_have_are_refused(links: list[Candidate], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        plan_links(orbit("two-planes"), links, start=EPOCH, span_s=60, seed=1)
    with pytest.raises(ConfigurationError, match="a seed of -1"):
        plan_of(orbit("two-planes"), 6000, seed=-1)


def test_the_brief_gap_closes_four_minutes_after_its_epoch_for_a_rehearsals_length_of_time() -> None:
    """What the comment at the top of the file promises."""
    found = orbit("brief-gap")
    links = [Candidate("isl", "crosslink", "sc-a", "sc-b"), Candidate("ground", "ground", "gs-1", "sc-a")]
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


def test_a_plan_can_be_read_without_numpy() -> None:
    code = (
        "import sys\nfrom hil.orbit.phases import LinkPlan\n"
        "sys.exit(any(m in sys.modules for m in ('numpy', 'sgp4', 'pydantic')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
