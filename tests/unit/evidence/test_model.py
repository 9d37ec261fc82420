"""Limits print themselves and judge values; exceptions carry blame."""

from __future__ import annotations

import math
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from hil.errors import BenchError, Blame, ConfigurationError, DeviceError, HarnessError
from hil.evidence.blame import Judgement, LimitViolated, gravest, judge_exception, raise_if_violated
from hil.evidence.events import Measurement
from hil.evidence.model import (
    EXIT_CODE,
    Limit,
    Verdict,
    at_least,
    at_most,
    between,
    equals,
    format_value,
    one_of,
    within,
    within_percent,
)
from hil.evidence.record import Recorder


@pytest.mark.parametrize(
    ("limit", "unit", "text"),
    [
        (at_most(0.5), "ms", "<= 0.5 ms"),
        (at_least(3), "1/s", ">= 3 1/s"),
        (between(1, 2), "V", "1 to 2 V"),
        (equals(6), "", "= 6"),
        (equals(True), "", "= yes"),
        (equals("2.0.0"), "", "= 2.0.0"),
        (within_percent(3, of=200), "Mbit/s", "within 3 % of 200 Mbit/s"),
        (within(0.15, of=14.386), "ms", "within 0.15 ms of 14.386 ms"),
        (one_of(["A", "B"]), "", "one of A, B"),
    ],
)
def test_a_limit_prints_itself(limit: Limit, unit: str, text: str) -> None:
    assert limit.text(unit) == text


@pytest.mark.parametrize(
    ("limit", "good", "bad"),
    [
        (at_most(0.5), [0.5, -1, 0], [0.50001]),
        (at_least(3), [3, 4.0], [2.999]),
        (between(1, 2), [1, 1.5, 2], [0.99, 2.01]),
        (equals(6), [6, 6.0], [7]),
        (within_percent(3, of=200), [194, 206, 200], [193.9, 206.1]),
        (within(0.1, of=0.2), [0.3, 0.1], [0.31]),
        (one_of(["A", "B"]), ["A"], ["C"]),
    ],
)
def test_a_limit_holds_up_to_its_bound_and_not_beyond(limit: Limit, good: list[float], bad: list[float]) -> None:
    assert [limit.holds(v) for v in good] == [True] * len(good)
    assert [limit.holds(v) for v in bad] == [False] * len(bad)


@pytest.mark.parametrize("limit", [at_most(5), at_least(-5), between(-5, 5), within(9, of=0), within_percent(50, of=3)])
def test_nothing_nan_truths_and_words_never_satisfy_a_limit_on_numbers(limit: Limit) -> None:
    assert not any(limit.holds(value) for value in (None, math.nan, True, "1"))


def test_a_truth_is_not_equal_to_the_number_one() -> None:
    assert not equals(1).holds(True)
    assert not equals(True).holds(1)
    assert equals(True).holds(True)


def test_a_range_whose_ends_are_swapped_is_refused() -> None:
    with pytest.raises(ValueError, match=r"between\(2, 1\)"):
        between(2, 1)


def test_values_are_printed_for_people() -> None:
    printed = [format_value(v, "B") for v in (52428800, 0.000123456789, 1234567.8, True, None, "x")]
    assert printed == ["52,428,800 B", "0.000123457 B", "1,234,567.8 B", "yes B", "nothing B", "x B"]


def measured(name: str, value: Any, unit: str = "", limit: Limit | None = None, **options: Any) -> Measurement:
    with TemporaryDirectory() as folder, Recorder.create(Path(folder) / "run", {}) as recorder:
        return recorder.measure(name, value, unit, limit=limit, **options)


def test_a_measurement_says_whether_it_is_within_its_limit() -> None:
    assert str(measured("delay", 0.7, "ms", at_most(0.5))) == "delay = 0.7 ms, limit <= 0.5 ms: violated"
    assert measured("delay", 0.7, "ms").ok is None


@pytest.mark.parametrize(
    ("blame", "error"), [(Blame.DEVICE, LimitViolated), (Blame.BENCH, BenchError), (Blame.HARNESS, HarnessError)]
)
def test_a_violated_limit_raises_the_error_of_its_blame(blame: Blame, error: type[Exception]) -> None:
    with pytest.raises(error, match="<= 1"):
        raise_if_violated([measured("x", 2, limit=at_most(1), blame=blame)])


def test_a_bench_outside_its_limits_hides_what_the_device_did() -> None:
    device = measured("x", 2, limit=at_most(1))
    bench = measured("y", 2, limit=at_most(1), blame=Blame.BENCH)
    with pytest.raises(BenchError):
        raise_if_violated([device, bench])


def test_limits_that_hold_raise_nothing() -> None:
    raise_if_violated([measured("x", 1, limit=at_most(1)), measured("y", 5)])


def _raised(kind: str) -> BaseException:
    try:
        if kind == "skip":
            pytest.skip("not here")
        pytest.fail("wrong")
    except BaseException as exc:
        return exc


@pytest.mark.parametrize(
    ("error", "verdict", "blame"),
    [
        (None, Verdict.PASS, None),
        (AssertionError("2 != 3"), Verdict.FAIL, Blame.DEVICE),
        (DeviceError("no boot"), Verdict.FAIL, Blame.DEVICE),
        (_raised("fail"), Verdict.FAIL, Blame.DEVICE),
        (BenchError("cable"), Verdict.INCONCLUSIVE, Blame.BENCH),
        (HarnessError("bug"), Verdict.INCONCLUSIVE, Blame.HARNESS),
        (ZeroDivisionError("x"), Verdict.INCONCLUSIVE, Blame.HARNESS),
        (KeyboardInterrupt(), Verdict.INCONCLUSIVE, Blame.HARNESS),
        (ConfigurationError("typo"), Verdict.NOT_RUN, Blame.CONFIGURATION),
        (_raised("skip"), Verdict.NOT_RUN, None),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, BaseException) else str(v),
)
def test_only_the_device_under_test_can_fail(
    error: BaseException | None, verdict: Verdict, blame: Blame | None
) -> None:
    judgement = judge_exception(error)
    assert (judgement.verdict, judgement.blame) == (verdict, blame)


def test_of_several_errors_at_once_the_one_that_is_not_the_devices_decides() -> None:
    mixed = ExceptionGroup("six boards", [DeviceError("b1 dead"), BenchError("link down")])
    assert judge_exception(mixed).verdict is Verdict.INCONCLUSIVE
    alike = ExceptionGroup("six boards", [DeviceError("b1 dead"), DeviceError("b2 dead")])
    assert judge_exception(alike) == Judgement(Verdict.FAIL, Blame.DEVICE, "b1 dead (and 1 more)")


def test_the_gravest_phase_decides() -> None:
    passed, skipped = Judgement(Verdict.PASS), Judgement(Verdict.NOT_RUN)
    failed = Judgement(Verdict.FAIL, Blame.DEVICE, "b1 is dead")
    assert gravest([passed, failed, skipped]) == failed
    assert gravest([skipped, passed]) == skipped


@pytest.mark.parametrize("blame", [Blame.BENCH, Blame.HARNESS])
def test_a_fault_of_the_bench_in_one_phase_hides_the_device_in_another(blame: Blame) -> None:
    failed = Judgement(Verdict.FAIL, Blame.DEVICE, "b1 is dead")
    fault = Judgement(Verdict.INCONCLUSIVE, blame, "the link box is gone")
    judged = gravest([failed, fault])
    assert (judged.verdict, judged.blame) == (Verdict.INCONCLUSIVE, blame)
    assert judged.message == "the link box is gone; the test ended with: b1 is dead"


def test_exit_codes_are_those_of_the_campaign() -> None:
    codes = {v.value: EXIT_CODE[v] for v in Verdict}
    assert codes == {"PASS": 0, "WAIVED": 0, "FAIL": 1, "INCONCLUSIVE": 3, "NOT RUN": 3}
