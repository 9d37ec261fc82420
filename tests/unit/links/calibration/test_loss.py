"""Acceptance of counted losses, against numbers worked out here in other ways."""

import math
import random
from itertools import pairwise

import pytest

from hil.links.calibration.figure import percentiles
from hil.links.calibration.loss import acceptance_burst, acceptance_counts, bursts, chain_distribution, mean_burst
from hil.links.calibration.probe import Arrival
from hil.links.calibration.stages import arrival_rate_bps, judge_loss
from hil.links.state import PPM, GilbertElliott, LinkState
from tests.kits.fake_probe import FakeProbe

MODELS = [
    GilbertElliott(1_000, 100_000),
    GilbertElliott(10_000, 100_000, 700_000, 1_000),
    GilbertElliott(5_000, 20_000, 700_000, 1_000),
    GilbertElliott(900_000, 950_000, 300_000, 0),  # steps away from where it is: fewer runs than chance
]


def states(ge: GilbertElliott, count: int, seed: int) -> list[bool]:
    """Which of ``count`` packets a chain loses, step by step as the kernel does it."""
    draw = random.Random(seed)
    bad = draw.random() < ge.p_ppm / (ge.p_ppm + ge.r_ppm)
    lost = []
    for _ in range(count):
        lost.append(draw.random() * PPM < (ge.loss_bad_ppm if bad else ge.loss_good_ppm))
        bad = draw.random() * PPM >= ge.r_ppm if bad else draw.random() * PPM < ge.p_ppm
    return lost


@pytest.mark.parametrize("ge", MODELS, ids=str)
def test_the_count_of_a_two_state_chain_has_the_mean_and_variance_of_the_textbook(ge: GilbertElliott) -> None:
    n = 700
    chances = chain_distribution(ge, n)
    mean = sum(k * chance for k, chance in enumerate(chances))
    variance = sum((k - mean) ** 2 * chance for k, chance in enumerate(chances))
    p, r = ge.p_ppm / PPM, ge.r_ppm / PPM
    bad, rho = p / (p + r), 1 - p - r
    share = bad * ge.loss_bad_ppm / PPM + (1 - bad) * ge.loss_good_ppm / PPM
    apart = (ge.loss_bad_ppm - ge.loss_good_ppm) / PPM
    together = sum((n - k) * apart**2 * bad * (1 - bad) * rho**k for k in range(1, n))
    assert sum(chances) == pytest.approx(1)
    assert mean == pytest.approx(n * share)
    assert variance == pytest.approx(n * share * (1 - share) + 2 * together)


@pytest.mark.parametrize("ge", MODELS, ids=str)
def test_chains_drawn_step_by_step_lie_inside_the_interval_as_often_as_it_says(ge: GilbertElliott) -> None:
    low, high = acceptance_counts(LinkState(0, 0, gemodel=ge), 1_000)
    outside = sum(not low <= sum(states(ge, 1_000, seed)) <= high for seed in range(300))
    assert outside <= 12  # 3 expected; 13 or more by chance once in 100,000


def test_a_chain_without_memory_is_binomial() -> None:
    ge = GilbertElliott(100_000, 900_000)  # whatever came before, one in ten is lost
    bounds = acceptance_counts(LinkState(0, 0, gemodel=ge), 500)
    assert bounds == acceptance_counts(LinkState(0, 0, loss_ppm=100_000), 500)


def test_long_bursts_allow_a_wider_count_than_independent_loss() -> None:
    bursty = acceptance_counts(LinkState(0, 0, gemodel=GilbertElliott(1_000, 9_000)), 5_000)
    independent = acceptance_counts(LinkState(0, 0, loss_ppm=100_000), 5_000)
    assert bursty[0] < independent[0] < independent[1] < bursty[1]


def test_a_loss_of_one_percent_in_a_thousand_allows_what_tables_say() -> None:
    # central 99 % of the binomial distribution with n = 1000, p = 0.01
    assert acceptance_counts(LinkState(0, 0, loss_ppm=10_000), 1_000) == (3, 19)


@pytest.mark.parametrize("ge", MODELS, ids=str)
def test_the_mean_burst_is_that_of_chains_drawn_step_by_step(ge: GilbertElliott) -> None:
    lost = [n for n, gone in enumerate(states(ge, 300_000, 1)) if gone]
    lengths = bursts(lost)
    assert sum(lengths) == len(lost)
    assert sum(lengths) / len(lengths) == pytest.approx(mean_burst(ge), rel=0.12)


def test_everything_lost_in_the_bad_state_makes_bursts_of_one_over_r() -> None:
    assert mean_burst(GilbertElliott(777, 40_000)) == pytest.approx(25)


def test_bursts_are_runs_of_consecutive_numbers() -> None:
    assert bursts([]) == []
    assert bursts([3, 4, 5, 9, 11, 12]) == [3, 1, 2]


def test_the_mean_of_many_bursts_is_held_to_less_than_that_of_few() -> None:
    ge = GilbertElliott(1_000, 100_000)
    few, many = acceptance_burst(ge, 10), acceptance_burst(ge, 1_000)
    assert few[0] < many[0] < 10 < many[1] < few[1]
    half = 2.576 * math.sqrt(0.9 / 0.1**2 / 1_000)  # a thousand are nearly normal
    assert list(many) == pytest.approx([10 - half, 10 + half], abs=0.1)


def test_bursts_of_single_packets_have_no_spread() -> None:
    assert acceptance_burst(GilbertElliott(10_000, PPM), 7) == (1, 1)


def test_losses_are_judged_by_their_count_and_by_their_bursts() -> None:
    ge = GilbertElliott(5_000, 100_000)
    state = LinkState(0, 0, gemodel=ge)
    lost = [n for n, gone in enumerate(states(ge, 10_000, 3)) if gone]
    loss, burst = judge_loss(FakeProbe(), state, 10_000, lost)
    assert (loss.quantity, loss.unit, loss.commanded, loss.ok) == ("loss", "ppm", ge.mean_loss_ppm, True)
    assert (burst.quantity, burst.unit, burst.commanded, burst.ok) == ("burst_length", "packets", 10, True)
    assert loss.low is not None and loss.measured is not None and loss.high is not None
    assert loss.low < loss.measured < loss.high


def test_the_right_number_of_losses_without_their_bursts_is_outside() -> None:
    state = LinkState(0, 0, gemodel=GilbertElliott(5_000, 100_000))
    spread_out = list(range(0, 10_000, 21))  # 4.76 % as commanded, one at a time
    loss, burst = judge_loss(FakeProbe(), state, 10_000, spread_out)
    assert (loss.ok, burst.ok) == (True, False)


def test_no_loss_commanded_leaves_one_in_a_thousand_to_chance() -> None:
    state = LinkState(0, 0)
    assert judge_loss(FakeProbe(), state, 1_000, [5])[0].ok
    assert not judge_loss(FakeProbe(), state, 1_000, [5, 6])[0].ok


def queue(gaps_us: list[float], delays_us: list[float]) -> list[Arrival]:
    """Arrivals with these distances and delays."""
    found, at = [], 0.0
    for number, (gap, delay) in enumerate(zip([0.0, *gaps_us], delays_us, strict=True)):
        at += gap
        found.append(Arrival(number, round((at - delay) * 1000), round(at * 1000)))
    return found


def test_the_rate_is_that_of_frames_that_waited_and_not_of_a_sender_that_was_held_up() -> None:
    gaps, delays = [100.0] * 200, [20_000.0] * 201
    gaps[100] = 30_000.0  # nothing was sent for 30 ms ...
    delays[101] = 10_000.0  # ... so the next frame found the link free
    assert arrival_rate_bps(queue(gaps, delays), 1_250, 10_000) == pytest.approx(100e6)


def test_a_link_that_lets_frames_out_more_slowly_is_measured_as_slower() -> None:
    gaps, delays = [110.0] * 200, [20_000.0] * 201
    assert arrival_rate_bps(queue(gaps, delays), 1_250, 10_000) == pytest.approx(100e6 / 1.1)


def test_a_link_faster_than_what_is_offered_is_measured_at_what_was_offered() -> None:
    gaps, delays = [90.0] * 200, [10_000.0] * 201
    assert arrival_rate_bps(queue(gaps, delays), 1_250, 10_000) == pytest.approx(100e6 / 0.9)


def test_percentiles_begin_with_the_least_and_end_with_the_greatest() -> None:
    found = percentiles([5.0, 1.0, 3.0])
    assert (len(found), found[0], found[50], found[100]) == (101, 1.0, 3.0, 5.0)
    assert all(a <= b for a, b in pairwise(found))
