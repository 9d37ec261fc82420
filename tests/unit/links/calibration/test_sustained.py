"""What a link sustains, worked out from arrivals, and offered without packets."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from hil.links.calibration import sustained
from hil.links.calibration.probe import Arrival
from hil.links.calibration.sustained import Sustained, carried_bps
from hil.links.state import LinkState
from tests.kits.fake_probe import FakeProbe

FRAME_B = 1_250  # 0.1 ms at 100 Mbit/s


def arriving(gaps_us: Sequence[int]) -> list[Arrival]:
    now, arrivals = 0, []
    for number, gap in enumerate(gaps_us):
        now += gap * 1000
        arrivals.append(Arrival(number, 0, now))
    return arrivals


def test_pauses_count_against_what_is_sustained_but_not_how_the_pipe_fills() -> None:
    assert carried_bps(arriving([5_000, *[100] * 999]), FRAME_B) == pytest.approx(100e6, rel=0.01)
    with_pauses = [1_100 if n % 100 == 50 else 100 for n in range(1000)]  # a tenth of the time nothing comes
    assert carried_bps(arriving(with_pauses), FRAME_B) == pytest.approx(100e6 / 1.1, rel=0.01)
    assert carried_bps(arriving([1]), FRAME_B) is None


class Box:
    """A link box whose link has one state."""

    profile = "exact"

    def __init__(self, **state: Any) -> None:
        self.state = LinkState(10_000, **{"rate_bps": 100_000_000, **state})

    def commanded(self, link: str, direction: str) -> LinkState:
        return self.state


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch) -> list[SimpleNamespace]:
    """What was asked of the probe; the link carries nine tenths of its rate."""
    asked: list[SimpleNamespace] = []

    def sustain(probe: object, **how: Any) -> tuple[list[Arrival], float]:
        asked.append(SimpleNamespace(**how))
        gap_us = round(how["frame_b"] * 8 / 90)
        return arriving([gap_us] * 1000), float(how["offered_bps"])

    monkeypatch.setattr("hil.links.calibration.probe.sustain", sustain)
    monkeypatch.setattr("hil.links.calibration.probe.tcp_rate_bps", lambda probe, mtu, seconds: 80e6)
    return asked


def test_a_moment_is_for_information_and_shorter_where_there_are_many(offered: list[SimpleNamespace]) -> None:
    box: Any = Box()
    (row,) = sustained.short(box, [FakeProbe()])
    assert (row.quantity, row.ok, row.judged) == ("rate_sustained", True, False)
    assert row.measured == pytest.approx(90e6, rel=0.01) and "Mbit/s offered" in row.note
    sustained.short(box, [FakeProbe() for _ in range(8)])
    assert offered[0].seconds == 1.5 and offered[1].seconds == 0.5


def test_asked_for_it_is_judged_and_more_is_offered_where_packets_are_lost(offered: list[SimpleNamespace]) -> None:
    box: Any = Box(loss_ppm=100_000)
    udp, tcp = Sustained(10)(box, [FakeProbe()])
    assert not udp.ok and udp.judged and udp.tolerance == 3e6
    assert tcp.measured == 80e6 and tcp.ok and not tcp.judged
    assert offered[0].offered_bps == pytest.approx(100e6 * 1.05 / 0.9, rel=1e-6) and offered[0].seconds == 10
