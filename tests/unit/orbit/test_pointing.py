"""Who points at whom."""

from __future__ import annotations

import pytest

from hil.orbit.phases import Candidate
from hil.orbit.pointing import Pass, point
from tests.kits.orbits import EPOCH, orbit, with_terminals


def passes(*rows: tuple[str, str, float, float]) -> list[Pass]:
    return [
        Pass(Candidate(f"{a}--{b}", "crosslink", a, b), 1, start_s, end_s, start_s == 0)
        for a, b, start_s, end_s in rows
    ]


def test_what_is_tracked_is_kept_and_a_free_terminal_goes_to_the_longest_remaining_contact() -> None:
    one = with_terminals(orbit("two-planes"), per_spacecraft=1)
    kept, short, long = passes(("sc-01", "sc-02", 0, 300), ("sc-01", "sc-03", 100, 900), ("sc-01", "sc-04", 200, 1500))
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
