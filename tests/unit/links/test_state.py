"""Link states: bounds, units, and the size of netem's queue."""

import math
import tempfile
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.errors import ConfigurationError
from hil.links.calibration.loss import acceptance_counts
from hil.links.commanded import BoxRecord, LinkRecord, RecordFile, ScheduleRecord
from hil.links.engines.agent import ClockOffset
from hil.links.state import (
    MAX_DELAY_US,
    MAX_RATE_BPS,
    PPM,
    GilbertElliott,
    LinkState,
    limit_packets,
    limit_small_packets,
    waiting_us,
)
from tests.kits.link_strategies import states


@given(states)
def test_a_state_survives_the_record_on_disk(state: LinkState) -> None:
    both = {"a_to_b": state, "b_to_a": state}
    link = LinkRecord("x", ("a", "n"), ("b", "n"), {"a_to_b": 3, "b_to_a": 2}, both)
    record = BoxRecord("kernel", "", "exact", 1, (link,), ScheduleRecord(5, ("x",)), ClockOffset(1, 2, 3))
    with tempfile.TemporaryDirectory() as directory:
        RecordFile(Path(directory) / "box.json").write(record)
        assert RecordFile(Path(directory) / "box.json").load() == record


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("delay_us", -1, "0 to 60000000"),
        ("delay_us", 14.39, "whole numbers"),
        ("rate_bps", MAX_RATE_BPS + 1, "0 to"),
        ("rate_bps", 7, "at least 8"),
        ("loss_ppm", PPM + 1, "0 to 1000000"),
        ("mtu", 100, "576 to 9216"),
        ("delay_us", True, "whole numbers"),
    ],
)
def test_a_value_out_of_bounds_is_refused_with_what_is_allowed(field: str, value: object, allowed: str) -> None:
    with pytest.raises(ConfigurationError, match=field) as refused:
        LinkState(**{"delay_us": 1000, "rate_bps": 1_000_000, field: value})  # type: ignore[arg-type]  # on purpose
    assert allowed in refused.value.remedy


def test_two_loss_models_at_once_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="loss_ppm and gemodel"):
        LinkState(1000, 0, loss_ppm=1, gemodel=GilbertElliott(1, 1))


def test_the_queue_holds_what_is_in_flight_plus_one_round_trip() -> None:
    # 2.5 Gbit/s x 14.39 ms = 4.50 MB = 2970.3 frames of 1514 B in flight, twice that waiting
    assert limit_packets(2_500_000_000, 14_390, 1500) == 2971 + 5941


def test_the_queue_of_a_slow_link_still_has_room_for_small_packets() -> None:
    assert limit_packets(1_000_000, 14_390, 1500) == 2 + 64


@given(st.integers(8, MAX_RATE_BPS), st.integers(0, MAX_DELAY_US), st.integers(576, 9216))
def test_the_queue_never_drops_what_the_link_can_carry(rate_bps: int, delay_us: int, mtu: int) -> None:
    frames_in_flight = rate_bps * delay_us / 1e6 / 8 / (mtu + 14)
    assert limit_packets(rate_bps, delay_us, mtu) >= frames_in_flight + 64


def test_the_mean_of_bursty_loss_weighs_both_states() -> None:
    assert GilbertElliott(10_000, 100_000).mean_loss_ppm == 90_909
    assert GilbertElliott(5_000, 20_000, 700_000, 1_000).mean_loss_ppm == 140_800
    assert LinkState(0, 0, gemodel=GilbertElliott(10_000, 100_000)).mean_loss_ppm == 90_909
    assert LinkState(0, 0, loss_ppm=7).mean_loss_ppm == 7


def test_counts_of_independent_loss_are_judged_by_the_binomial_distribution() -> None:
    for share_ppm, sent in ((10_000, 3_000), (100_000, 1_000)):
        share = Fraction(share_ppm, PPM)
        below = Fraction(0)
        quantiles: list[int] = []
        for k in range(sent):
            below += math.comb(sent, k) * share**k * (1 - share) ** (sent - k)
            if below >= (Fraction(5, 1000), Fraction(995, 1000))[len(quantiles)]:
                quantiles.append(k)
            if len(quantiles) == 2:
                break
        assert acceptance_counts(LinkState(0, 0, loss_ppm=share_ppm), sent) == tuple(quantiles)


def test_counts_of_bursty_loss_are_judged_more_widely() -> None:
    burst = LinkState(0, 0, gemodel=GilbertElliott(1_000, 50_000))
    plain = LinkState(0, 0, loss_ppm=burst.mean_loss_ppm)
    low, high = acceptance_counts(burst, 20_000)
    plain_low, plain_high = acceptance_counts(plain, 20_000)
    assert low < plain_low < 20_000 * burst.mean_loss_ppm / PPM < plain_high < high


def test_no_loss_and_total_loss_leave_no_room() -> None:
    assert acceptance_counts(LinkState(0, 0), 100) == (0, 0)
    assert acceptance_counts(LinkState(0, 0, loss_ppm=PPM), 100) == (100, 100)


@pytest.mark.parametrize(("loss_ppm", "packets"), [(10_000, 20), (500, 3), (300_000, 1000), (500_000, 10)])
def test_a_mean_loss_in_mean_bursts_is_a_chain_of_both(loss_ppm: int, packets: int) -> None:
    chain = GilbertElliott.bursty(loss_ppm, packets)
    assert chain.mean_loss_ppm == pytest.approx(loss_ppm, rel=0.02, abs=1)
    assert PPM / chain.r_ppm == pytest.approx(packets, rel=0.02)


def test_bursts_too_rare_for_parts_per_million_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="10 ppm in bursts of 500 packets cannot be made"):
        GilbertElliott.bursty(10, 500)


@given(st.integers(100_000, 2_500_000_000), st.integers(0, 30_000), st.integers(576, 9216))
def test_small_packets_alone_fill_a_link_and_full_ones_find_no_larger_queue(
    rate_bps: int, delay_us: int, mtu: int
) -> None:
    packets, waiting = limit_small_packets(rate_bps, delay_us, mtu), waiting_us(rate_bps, delay_us, mtu)
    assert limit_packets(rate_bps, delay_us, mtu) <= packets <= max(26_000, limit_packets(rate_bps, delay_us, mtu))
    in_flight = rate_bps * delay_us / 480e6
    assert packets >= min(26_000, in_flight + rate_bps * waiting / 480e6)
    assert waiting >= max(2 * delay_us, 20_000, 64 * 8e6 * (mtu + 14) / rate_bps)
    assert waiting < max(2 * delay_us + 10_000, 20_001, 64 * 8e6 * (mtu + 14) / rate_bps + 1)
