"""Planned gaps of the contact between two spacecraft."""

from __future__ import annotations

from dataclasses import dataclass

from hil.rollout.contact_gaps import PlannedGap, gaps, transfer_s, upcoming
from hil.rollout.policy import RolloutPolicy
from tests.kits.small_labs import Plan, orbiting


@dataclass
class OrbitClock:
    plan: Plan
    at_s: float = 0.0

    def now_s(self) -> float:
        return self.at_s


ONE = orbiting("ab")
CLOSING = Plan([(0, "ab g"), (100, "ab"), (240, ""), (260, "ab"), (900, ""), (905, "g")])


def test_a_gap_is_from_the_end_of_one_contact_to_the_next_and_names_what_closed() -> None:
    assert gaps(CLOSING, ONE, "sc-a", "sc-b") == [PlannedGap(240, 260, ("ab",))]


def test_a_contact_that_never_returns_or_was_not_there_yet_is_no_gap() -> None:
    assert gaps(Plan([(0, ""), (50, "ab"), (80, "")]), ONE, "sc-a", "sc-b") == []


def test_a_way_round_counts_as_contact() -> None:
    triangle = orbiting("ab", "bc", "ac")
    plan = Plan([(0, "ab bc ac"), (10, "bc ac"), (20, "ac"), (30, "ab"), (40, "ab bc")])
    assert gaps(plan, triangle, "sc-a", "sc-b") == [PlannedGap(20, 30, ("bc",))]


def test_the_ground_station_is_no_way_round() -> None:
    assert gaps(Plan([(0, "ab g"), (5, "g"), (9, "ab g")]), ONE, "sc-a", "sc-b") == [PlannedGap(5, 9, ("ab",))]


def test_links_with_a_delay_of_their_own_are_always_there() -> None:
    lab = orbiting("ab", fixed=("ac", "bc"))
    assert gaps(Plan([(0, "ab"), (5, ""), (9, "ab")]), lab, "sc-a", "sc-b") == []


def test_upcoming_gaps_have_not_ended_and_begin_soon() -> None:
    plan = Plan([(0, "ab"), (10, ""), (20, "ab"), (700, ""), (720, "ab")])

    def starts(now_s: float, within_s: float = 600) -> list[float]:
        return [gap.closes_s for gap in upcoming(OrbitClock(plan, now_s), ONE, "sc-a", "sc-b", within_s=within_s)]

    assert starts(0) == [10]
    assert starts(15) == [10]  # it has begun
    assert starts(21) == []
    assert starts(101) == [700]
    assert starts(0, 1000) == [10, 700]


def test_the_slowest_link_on_the_way_decides_how_long_a_transfer_takes() -> None:
    lab = orbiting("ab", "bc")
    assert transfer_s(lab, ["ab", "bc"], 50_000_000) == 2.0
    assert transfer_s(lab, ["g", "ab"], 50_000_000) == 4.0


def test_a_policy_that_allows_for_a_gap_waits_longer_for_transfers_and_for_nothing_else() -> None:
    usual, patient = RolloutPolicy(), RolloutPolicy().allowing_for(20.0)
    assert patient.transfer_deadline_s == usual.transfer_deadline_s + 20
    assert patient.boot_deadline_s == usual.boot_deadline_s
