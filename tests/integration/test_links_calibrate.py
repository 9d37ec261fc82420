"""Calibration on real packets through User-Mode Linux; bounds are wide enough for a busy machine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hil.errors import ConfigurationError
from hil.evidence.events import LinkFigure
from hil.links.calibration import stages
from hil.links.calibration.calibrate import BLOCKED, calibrate
from hil.links.engines import netem, rtnl
from hil.links.link_box import DIRECTIONS, LinkBox
from hil.links.schedule.player import Player
from hil.links.schedule.windows import ScheduleRow
from hil.links.state import MAX_DELAY_US, PPM, GilbertElliott, LinkState
from tests.kits.link_namespaces import CROSS, GROUND, as_it_came_up, figures, link_box

pytestmark = [pytest.mark.integration, pytest.mark.quiet]

MEASURED = {
    "engine_constant",
    "delay_p50",
    "delay_p95",
    "delay_p99",
    "delay_sparse_p50",
    "jitter_p95_p50",
    "jitter_sd",
    "rate",
    "rate_sustained",
    "loss",
    "mangled",
    "outage_length",
    "cut_effect_p50",
    "cut_effect_p99",
    "restore_effect_p50",
    "restore_effect_p99",
}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LinkBox]:
    with link_box("calibrate", tmp_path_factory.mktemp("links")) as box:
        yield box


@pytest.fixture
def box(shared: LinkBox) -> LinkBox:
    return as_it_came_up(shared)


class Script:
    """A schedule of one link, written out: (seconds, up, one-way delay in us)."""

    def __init__(self, link: str, *steps: tuple[float, bool, int]) -> None:
        self.links = (link,)
        self._rows = [ScheduleRow(round(at * 1e9), link, up, delay_us, 0) for at, up, delay_us in steps]

    def window(self, from_ns: int, to_ns: int) -> list[ScheduleRow]:
        now = [row for row in self._rows if row.at_ns <= from_ns][-1]
        return [now._replace(at_ns=from_ns), *(r for r in self._rows if from_ns < r.at_ns < to_ns)]


def by_quantity(rows: list[LinkFigure], direction: str = "a_to_b") -> dict[str, LinkFigure]:
    return {row.quantity: row for row in rows if row.direction == direction}


def test_every_quantity_of_every_direction_is_measured_and_the_engine_compensated(box: LinkBox) -> None:
    before = {status.name: status for status in box.show()}
    told: list[str] = []
    rows = calibrate(box, progress=told.append)
    assert {(r.link, r.direction, r.quantity) for r in rows} == {
        *((link, d, q) for link in box.links for d in DIRECTIONS for q in MEASURED),
        *(("ground", d, "share") for d in DIRECTIONS),  # tenants share it
    }
    for row in rows:
        assert row.measured is not None, row
        if row.quantity == "delay_p50":
            assert len(row.quantiles) == 101
            assert abs(row.measured - row.commanded) < 1_000
        if row.quantity == "outage_length":
            assert 50_000 < row.commanded < 500_000
            assert abs(row.measured - row.commanded) < 100_000
        if row.quantity == "rate":
            assert 0.7 * row.commanded < row.measured < 1.03 * row.commanded
        if row.quantity == "loss":
            assert row.measured < 50_000
        if row.quantity == "mangled":
            assert row.measured == 0
    assert any("delay" in each for each in told)
    for status in box.show():
        assert status.up
        assert status.a_to_b.commanded == before[status.name].a_to_b.commanded
        for direction in (status.a_to_b, status.b_to_a):
            assert 0 < direction.compensation_ns <= 1_000_000
            assert direction.agrees
            told_ns = direction.commanded.delay_us * 1000 - direction.compensation_ns
            assert direction.kernel_delay_ns == told_ns


def test_a_second_calibration_finds_the_same_constant_although_it_is_compensated(box: LinkBox) -> None:
    first, second = (
        by_quantity(figures(box, "crosslink", stages.engine_constant))["engine_constant"] for _ in range(2)
    )
    assert first.measured is not None and second.measured is not None
    assert second.measured > 20  # and not what the compensation has left of it
    assert abs(second.measured - first.measured) < 300


def test_only_the_links_asked_for_are_touched(box: LinkBox) -> None:
    before = box.show()[1].a_to_b.sent_packets
    assert {row.link for row in calibrate(box, links=["ground"], outage=False)} == {"ground"}
    assert box.show()[1].a_to_b.sent_packets - before < 10  # neighbours are looked up now and then
    with pytest.raises(ConfigurationError, match="no link is called 'moon'"):
        calibrate(box, links=["moon"])


def test_bursty_loss_is_judged_by_its_count_and_by_the_length_of_its_bursts(box: LinkBox) -> None:
    ge = GilbertElliott(10_000, 200_000)
    box.set("crosslink", a_to_b=replace(CROSS, gemodel=ge))
    rows = by_quantity(calibrate(box, links=["crosslink"], outage=False))
    loss, burst = rows["loss"], rows["burst_length"]
    assert (loss.commanded, burst.commanded) == (ge.mean_loss_ppm, 5)
    assert loss.low is not None and loss.low < ge.mean_loss_ppm
    assert burst.measured is not None and 2 < burst.measured < 12


def test_a_link_that_the_contact_plan_has_down_is_reported_and_found_silent(box: LinkBox, tmp_path: Path) -> None:
    box.set("ground", a_to_b=GROUND, b_to_a=GROUND)
    plan = Script("crosslink", (0, False, 14_390))
    player = Player(box, plan, zero_ns=time.monotonic_ns(), log_path=tmp_path / "log.csv").start()
    try:
        time.sleep(0.5)
        rows = calibrate(box, outage=False)
    finally:
        player.close()
    blocked = [row for row in rows if row.link == "crosslink"]
    assert [(r.quantity, r.commanded, r.measured, r.ok, r.note) for r in blocked] == [
        ("state", 0, 0, True, BLOCKED)
    ] * 2
    assert "delay_p50" in {row.quantity for row in rows if row.link == "ground"}


def test_a_delay_that_moves_is_compared_with_what_was_commanded_when_each_packet_was_sent(
    box: LinkBox, tmp_path: Path
) -> None:
    steps = [(n / 10, True, 5_000 + 100 * n) for n in range(600)]  # a millisecond a second: 30 times an orbit's
    player = Player(
        box, Script("crosslink", *steps), zero_ns=time.monotonic_ns(), log_path=tmp_path / "log.csv"
    ).start()
    try:
        time.sleep(0.3)
        rows = figures(box, "crosslink", stages.engine_constant, stages.delay)
    finally:
        player.close()
    p50 = by_quantity(rows)["delay_p50"]
    assert p50.measured is not None
    assert abs(p50.measured - p50.commanded) < 400  # within one measurement it moved by that much and more
    assert by_quantity(rows)["engine_constant"].measured is not None


def test_outages_by_hand_end_where_the_schedule_is_by_then(box: LinkBox, tmp_path: Path) -> None:
    plan = Script("crosslink", (0, True, 14_390), (1.0, True, 9_000))
    player = Player(box, plan, zero_ns=time.monotonic_ns(), log_path=tmp_path / "log.csv").start()
    try:
        time.sleep(0.3)
        rows = calibrate(box, links=["crosslink"])
        assert not box.cut_links()
        assert box.commanded("crosslink", "a_to_b").delay_us == 9_000
    finally:
        player.close()
    assert set(by_quantity(rows)) >= MEASURED


EXTREMES = [
    LinkState(MAX_DELAY_US, 0),
    LinkState(1, 34_359_738_360),  # the last rate that fits 32 bits of bytes per second
    LinkState(1, 34_359_738_368),  # the first one that does not
    LinkState(14_386, 400_000_000_000),
    LinkState(14_386, 2_500_000_000, gemodel=GilbertElliott(1, 1, 1, 0)),
    LinkState(14_386, 2_500_000_000, gemodel=GilbertElliott(PPM, PPM, PPM, PPM)),
    LinkState(14_386, 2_500_000_000, gemodel=GilbertElliott(333_333, 666_667, 123_457, 765_431)),
]


@pytest.mark.parametrize("state", EXTREMES, ids=str)
def test_the_kernel_reports_extreme_states_back_as_they_were_sent(box: LinkBox, state: LinkState) -> None:
    box.set("crosslink", a_to_b=state)
    back = box.show()[1].a_to_b
    assert back.kernel == state
    assert back.agrees


@pytest.mark.parametrize("delay_ns", [0, 1, 63, 64, 65, 14_386_001, (1 << 32) - 1, 1 << 32, 60_000_000_000])
def test_the_kernel_keeps_nanoseconds_of_delay_beyond_its_ticks_of_64(box: LinkBox, delay_ns: int) -> None:
    agent = box.agents[0]
    index = max(i for name, i in rtnl.interfaces(agent).items() if name.startswith("vec"))
    message = netem.encode(index, LinkState(0, 8_000), limit=100, delay_ns=delay_ns)
    rtnl.transact(agent, [("netem", message)])
    (reply,) = rtnl.transact(agent, [("dump", netem.dump_request())])
    found = dict(each for each in map(netem.decode, reply.messages) if each)
    assert found[index].delay_ns == delay_ns
    box.reapply()


def test_what_a_link_sustains_is_judged_when_asked_for_and_jitter_makes_figures_information(box: LinkBox) -> None:
    steady = box.commanded("crosslink", "a_to_b")
    slow = replace(steady, delay_us=5_000, rate_bps=20_000_000)
    box.set("crosslink", a_to_b=slow, b_to_a=replace(slow, jitter_us=1_000))
    rows = calibrate(box, links=["crosslink"], outage=False, sustained_s=1.5)
    there, back = by_quantity(rows), by_quantity(rows, "b_to_a")
    for quantity in ("rate_sustained", "rate_sustained_tcp"):
        assert there[quantity].measured == pytest.approx(20e6, rel=0.2)
    assert there["rate_sustained"].judged and not there["rate_sustained_tcp"].judged
    spread = back["jitter_sd"]
    assert spread.commanded == 1_000 and spread.measured is not None and 500 < spread.measured < 1_500
    assert "jitter is commanded" in back["delay_p50"].note and not back["delay_p50"].judged
    assert "engine_constant" not in back
