"""Statistics against published and independently computed values."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.evidence.stats import reliability_lower_bound, runs_for, runs_still_needed


@pytest.mark.parametrize(
    ("passes", "runs", "bound"),
    [
        (10, 10, 0.794),
        (20, 20, 0.891),
        (22, 22, 0.901),
        (45, 45, 0.950),
        (44, 45, 0.916),
        (99, 100, 0.962),
        (298, 300, 0.982),
    ],
)  # scipy.stats.beta.ppf(0.1, k, n - k + 1)
def test_the_lower_bound_is_clopper_and_pearsons(passes: int, runs: int, bound: float) -> None:
    assert reliability_lower_bound(passes, runs, 0.90) == pytest.approx(bound, abs=6e-4)


@pytest.mark.parametrize(
    ("reliability", "confidence", "needed"),
    [
        (0.90, 0.80, 16), (0.90, 0.90, 22), (0.90, 0.95, 29), (0.90, 0.99, 44),
        (0.95, 0.80, 32), (0.95, 0.90, 45), (0.95, 0.95, 59), (0.95, 0.99, 90),
        (0.99, 0.80, 161), (0.99, 0.90, 230), (0.99, 0.95, 299), (0.99, 0.99, 459),
        (0.999, 0.90, 2302), (0.999, 0.99, 4603),
    ],
)  # fmt: skip
def test_the_success_run_needs_the_tabulated_number_of_runs(reliability: float, confidence: float, needed: int) -> None:
    assert runs_for(reliability, confidence) == needed


@pytest.mark.parametrize(
    ("reliability", "confidence", "needed"),
    [
        (0.95, 0.90, [45, 77, 105, 132, 158, 184]),
        (0.90, 0.90, [22, 38, 52, 65, 78, 91]),
        (0.99, 0.95, [299, 473, 628, 773]),
    ],
)
def test_each_failure_costs_the_tabulated_number_of_runs(
    reliability: float, confidence: float, needed: list[int]
) -> None:
    assert [runs_for(reliability, confidence, failures=f) for f in range(len(needed))] == needed


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.data(), st.sampled_from([0.8, 0.9, 0.95]))
def test_at_the_bound_the_result_seen_has_the_probability_one_minus_confidence(
    runs: int, data: st.DataObject, confidence: float
) -> None:
    passes = data.draw(st.integers(1, runs))
    p = reliability_lower_bound(passes, runs, confidence)
    tail = sum(math.comb(runs, i) * p**i * (1 - p) ** (runs - i) for i in range(passes, runs + 1))
    assert tail == pytest.approx(1 - confidence, rel=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 5), st.floats(0.5, 0.98), st.sampled_from([0.8, 0.9, 0.95]))
def test_the_number_of_runs_is_the_smallest_that_shows_the_reliability(
    failures: int, reliability: float, confidence: float
) -> None:
    n = runs_for(reliability, confidence, failures)
    assert reliability_lower_bound(n - failures, n, confidence) >= reliability - 1e-9
    if n > failures + 1:
        assert reliability_lower_bound(n - 1 - failures, n - 1, confidence) < reliability + 1e-9


def test_nothing_is_shown_without_a_pass() -> None:
    assert reliability_lower_bound(0, 0) == 0.0
    assert reliability_lower_bound(0, 10) == 0.0


def test_runs_still_needed_count_down_to_zero_and_grow_with_failures() -> None:
    assert [runs_still_needed(n, n, 0.90) for n in (0, 1, 21, 22, 30)] == [22, 21, 1, 0, 0]
    assert runs_still_needed(3, 4, 0.90) == 38 - 4


@pytest.mark.parametrize("confidence", [0.0, 1.0, 90.0])
def test_a_confidence_that_is_none_is_refused(confidence: float) -> None:
    with pytest.raises(ValueError, match="confidence"):
        reliability_lower_bound(1, 1, confidence)
