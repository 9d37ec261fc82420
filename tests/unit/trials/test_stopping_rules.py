"""Stopping rules: they accept as often as they say, and agree with scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from hil.errors import ConfigurationError
from hil.evidence.stats import reliability_lower_bound, runs_for
from hil.trials.comparison import compare, interval, median_interval
from hil.trials.stopping_rules import (
    Anytime,
    Count,
    Decision,
    Fixed,
    Goal,
    Rule,
    Sprt,
    acceptance,
    anytime_lower_bound,
    log_e_value,
    rule_of,
    true_error,
)

GOAL = Goal(0.95, 0.90)
RULES: list[Rule] = [Fixed(GOAL), Fixed(GOAL, 2), Sprt(GOAL), Anytime(GOAL, most=300)]


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_no_rule_accepts_what_is_not_good_enough_more_often_than_one_minus_confidence(rule: Rule) -> None:
    error = true_error(rule)
    assert error is not None and 0.02 < error <= 0.10
    assert acceptance(rule, 0.90)[0] < 0.02
    assert acceptance(rule, 0.999)[0] > 0.9


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("reliability", [0.95, 0.90])
def test_simulated_series_are_accepted_as_often_as_the_recursion_says(rule: Rule, reliability: float) -> None:
    series = 100_000
    chance = np.random.default_rng(7)
    failures = np.cumsum(chance.random((series, rule.most), dtype=np.float32) >= reliability, axis=1, dtype=np.int16)
    going, shown = np.ones(series, dtype=bool), 0
    for trials in range(1, rule.most + 1):
        now = failures[:, trials - 1]
        for count in np.unique(now[going]):
            decision = rule.decide(trials - int(count), trials)
            if decision is not Decision.GO_ON:
                ended = going & (now == count)
                shown += int(ended.sum()) if decision is Decision.SHOWN else 0
                going &= ~ended
        if not going.any():
            break
    probability, _ = acceptance(rule, reliability)
    assert abs(shown / series - probability) < 4 * np.sqrt(probability * (1 - probability) / series) + 1e-5


def test_looking_at_a_fixed_bound_after_every_trial_is_what_the_fixed_rule_is_not() -> None:
    """The known trap: with the boundary 45/0, 77/1, 105/2 the true error is 17.6 %, not 10 %."""

    class Peeking(Count):
        def decide(self, passes: int, trials: int) -> Decision:
            failures = trials - passes
            if trials >= runs_for(0.95, 0.90, failures):
                return Decision.SHOWN
            return Decision.NOT_SHOWN if trials >= self.most else Decision.GO_ON

    assert acceptance(Peeking(105), 0.95)[0] == pytest.approx(0.176, abs=0.001)


def test_the_known_points_of_the_rules() -> None:
    assert (Fixed(GOAL).most, Fixed(GOAL, 2).most) == (45, 105)
    assert Fixed(GOAL).decide(20, 21) is Decision.NOT_SHOWN
    first = next(n for n in range(200) if n and Sprt(GOAL).decide(n, n) is Decision.SHOWN)
    assert first == 54  # Wald: p0 = .01, p1 = .05, alpha = beta = .1
    assert "54 trials" in Sprt(GOAL).describe() and "51 trials" in Anytime(GOAL).describe()


def test_the_e_value_is_the_mixture_that_it_says_by_numerical_integration() -> None:
    from scipy.integrate import quad

    for passes, trials in ((51, 51), (100, 102), (10, 14)):
        failures = trials - passes

        def ratio(x: float, k: int = passes, f: int = failures) -> float:  # x = (1-q)**0.2 takes the pole away
            q = 1 - x**5
            return float((q / 0.95) ** k * ((1 - q) / 0.05) ** f)

        upper = 0.05**0.2
        whole, mixed = upper, quad(ratio, 0, upper, epsabs=1e-13, epsrel=1e-12)[0]
        assert np.exp(log_e_value(passes, trials, 0.95)) == pytest.approx(mixed / whole, rel=1e-9)


def test_the_bound_at_any_time_lies_below_the_bound_for_a_fixed_number() -> None:
    for passes, trials in ((45, 45), (98, 100), (7, 10), (0, 4)):
        assert 0 <= anytime_lower_bound(passes, trials, 0.9) <= reliability_lower_bound(passes, trials, 0.9) + 1e-12
    assert anytime_lower_bound(51, 51, 0.9) == pytest.approx(0.95, abs=0.001)


def test_bounds_intervals_and_comparisons_agree_with_scipy() -> None:
    for passes, trials in ((45, 45), (44, 45), (99, 100), (0, 3), (3, 7)):
        got = interval(passes, trials, 0.9)
        want = stats.binomtest(passes, trials).proportion_ci(0.9, "exact")
        assert got == pytest.approx((want.low, want.high), abs=1e-9)
    assert compare(45, 45, 40, 45).p_value == pytest.approx(stats.fisher_exact([[45, 0], [40, 5]])[1], abs=1e-12)
    with pytest.raises(ValueError):
        compare(0, 0, 1, 1)


def test_the_interval_of_a_median_covers_as_often_as_it_says() -> None:
    assert median_interval([1.0, 2.0, 3.0, 4.0, 5.0], 0.9) == (3.0, 1.0, 5.0), "93.75 %"
    assert median_interval([1.0, 2.0], 0.9) is None and median_interval([], 0.9) is None
    chance = np.random.default_rng(3)
    covered = 0
    for _ in range(2000):
        found = median_interval(list(chance.exponential(1.0, 15)), 0.9)
        assert found is not None
        covered += found[1] <= np.log(2) <= found[2]
    assert 0.9 <= covered / 2000 < 0.98


@pytest.mark.parametrize(("text", "goal"), [("R=0.95,C=0.90", GOAL), ("0.95@90%", GOAL), ("0.9@0.8", Goal(0.9, 0.8))])
def test_a_goal_is_written_in_two_ways(text: str, goal: Goal) -> None:
    assert Goal.parse(text) == goal


@pytest.mark.parametrize("text", ["0.95", "R=2,C=0.9", "R=0.9", "x@y", "R=0.9999,C=0.99"])
def test_a_goal_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        rule_of("fixed", Goal.parse(text))


def test_a_rule_that_cannot_show_the_goal_even_of_a_perfect_device_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"cannot show R = .* within 500 trials"):
        rule_of("anytime", Goal(0.995, 0.9))
    for name in ("fixed", "sprt", "anytime"):
        assert rule_of(name, Goal(0.95, 0.9)).most
