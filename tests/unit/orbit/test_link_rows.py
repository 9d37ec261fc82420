"""The rows that a link box gets from a link plan."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from hil.errors import ConfigurationError
from hil.orbit.elements import Constellation
from hil.orbit.geometry import one_way_delay_us, range_km, track
from hil.orbit.link_phases import every_candidate, plan_links
from hil.orbit.phases import Candidate, LinkPlan, Phase
from hil.orbit.sampled import packet_loss_ppm, samples
from tests.kits.orbits import EPOCH, contacts, orbit, with_terminals


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
def test_a_bit_error_rate_becomes_the_loss_of_full_packets(bit_error_rate: float, mtu: int, loss_ppm: int) -> None:
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


def test_a_plan_whose_span_has_more_digits_than_its_times_ends_and_so_do_its_rows() -> None:
    two = orbit("two-planes")
    link = Candidate("l", "crosslink", "sc-01", "sc-03")  # of one plane, which never see each other
    plan = plan_links(two, [link], start=two.epoch, span_s=60.00000012, seed=1, step_s=10)
    assert plan.links["l"][-1].end_s == plan.span_s
    assert [row.up for row in samples(two, [link], plan, from_s=59, to_s=plan.span_s)] == [False]


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
