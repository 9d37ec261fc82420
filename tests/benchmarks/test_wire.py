"""Lost wake-ups are counted, and nothing else is taken for one."""

from __future__ import annotations

from dataclasses import replace

from hil.links.calibration.probe import Arrival
from tests.benchmarks.wire import count_lost_wakeups

MS = 1_000_000
DELAY = 14 * MS


def rounds(count: int, directions: int, *, every_ms: int = 40) -> list[list[Arrival]]:
    return [
        [Arrival(n, n * every_ms * MS + d * 10_000, n * every_ms * MS + d * 10_000 + DELAY) for n in range(count)]
        for d in range(directions)
    ]


def late(arrival: Arrival, by_ms: float) -> Arrival:
    return replace(arrival, arrived_ns=arrival.arrived_ns + round(by_ms * MS))


def test_packets_in_time_are_no_lost_wake_ups() -> None:
    assert count_lost_wakeups(rounds(10, 4), 14_000, 20_000)[:2] == (0, 0)


def test_a_packet_that_only_the_next_round_woke_is_a_lost_wake_up() -> None:
    arrived = rounds(10, 4)
    arrived[2][5] = late(arrived[2][5], 40)  # forgotten at the entrance
    arrived[1][7] = late(arrived[1][7], 26.5)  # its timer forgotten: it leaves as the next round is sent
    assert count_lost_wakeups(arrived, 14_000, 20_000)[:2] == (2, 2)


def test_a_packet_that_others_overtake_is_a_lost_wake_up() -> None:
    arrived = rounds(10, 4, every_ms=20)
    arrived[0][3] = late(arrived[0][3], 31)  # between rounds, while a later one of another direction was in time
    assert count_lost_wakeups(arrived, 14_000, 20_000)[:2] == (1, 1)


def test_an_engine_that_stood_still_makes_everything_late_and_lost_no_wake_up() -> None:
    arrived = rounds(10, 4)
    for direction in arrived:
        direction[6] = late(direction[6], 22)
    assert count_lost_wakeups(arrived, 14_000, 20_000)[:2] == (4, 0)
