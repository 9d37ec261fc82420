"""Delta debugging on schedules whose cause is known."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import pytest

from hil.trials.shrink import smallest


@pytest.mark.parametrize("size", [1, 2, 3, 7, 14])
@pytest.mark.parametrize("causes", [0, 1, 2, 3])
def test_a_cause_is_found_whole_and_with_nothing_beside_it(size: int, causes: int) -> None:
    for seed in range(30):
        items = list(range(size))
        cause = set(Random(seed).sample(items, min(causes, size)))
        asked: list[Sequence[int]] = []

        def fails(part: Sequence[int], cause: set[int] = cause, asked: list[Sequence[int]] = asked) -> bool:
            asked.append(part)
            return cause <= set(part)

        assert set(smallest(items, fails)) == cause
        assert len(asked) == len({tuple(a) for a in asked}) <= 60


def test_a_failure_that_needs_one_of_two_keeps_one_and_the_order_stays() -> None:
    kept = smallest("abcdef", lambda part: "b" in part or "e" in part)
    assert kept in (["b"], ["e"])
    assert smallest("abcdef", lambda part: "".join(part).startswith("a") and "f" in part) == ["a", "f"]


def test_a_budget_ends_the_search_with_what_was_found() -> None:
    kept = smallest(list(range(64)), lambda part: {3, 40} <= set(part), budget=10)
    assert {3, 40} <= set(kept) and len(kept) < 64
