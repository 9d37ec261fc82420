"""The judge of the bench: only a test that the bench carried may fail the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from hil.errors import Abandoned, BenchError, Blame, DeviceError
from hil.evidence.blame import Judgement, judge_exception
from hil.evidence.carriers import container, judged_with_bench, unordered_restarts
from hil.evidence.event import Event
from hil.evidence.events import BenchDiffers, BenchPulse, BoardSeen, RestartOrdered, ThreadDied
from hil.evidence.model import Verdict

FAILED = judge_exception(DeviceError("b1: timed out"))
PASSED = Judgement(Verdict.PASS)
GOOD = BenchPulse(5.0, {"the keeper of the bench": 0.6, "the link box": 0.05}, {}, 0.02, cpu_busy=0.9, cpu_steal=0.01)
SILENT = BenchPulse(5.0, {"the link box": 3.2}, {"the link box": "User-Mode Linux is gone"})
DIFFERS = BenchDiffers("link isl-ab", "was set by another process (hil link set, pid 7)")


def at(t_s: float, event: Event) -> Event:
    object.__setattr__(event, "t_s", t_s)
    return event


def crowded(programs: float) -> BenchPulse:
    return BenchPulse(5.0, runnable_per_core=programs)


def test_a_failure_while_the_host_was_crowded_for_a_moment_only_stays_the_devices() -> None:
    assert judged_with_bench(FAILED, [crowded(1.0)] * 10 + [crowded(9.0)] * 2 + [crowded(1.0)] * 4) == FAILED


def test_a_failure_while_processors_were_taken_away_for_a_moment_only_stays_the_devices() -> None:
    assert judged_with_bench(FAILED, [GOOD, BenchPulse(0.02, cpu_steal=1.0)]) == FAILED


def test_a_failure_on_a_bench_that_was_alive_and_on_time_stays_the_devices() -> None:
    assert judged_with_bench(FAILED, [GOOD, GOOD]) == FAILED


@pytest.mark.parametrize(
    ("events", "culprit"),
    [
        ([GOOD, SILENT], "the link box gave no sign of life for 3.2 s (User-Mode Linux is gone)"),
        ([BenchPulse(5.0, {"the keeper of the bench": 9.8})], "the keeper of the bench gave no sign of life for 9.8 s"),
        ([DIFFERS], "link isl-ab was set by another process"),
        ([BenchPulse(5.0, clock_late_s=2.3, cpu_busy=1.0)], "its clock was 2.3 s late (limit 1 s)"),
        ([BenchPulse(5.0, cpu_steal=0.45)], "45% of its processors' time was taken away"),
        ([crowded(1.0)] * 20 + [crowded(7.0)] * 6 + [crowded(0.5)] * 20, "7.0 programs shared each core (limit 4"),
    ],
)
def test_a_failure_on_a_bench_at_fault_is_the_benchs_and_names_culprit_and_figure(
    events: Sequence[Event], culprit: str
) -> None:
    judged = judged_with_bench(FAILED, events)
    assert (judged.verdict, judged.blame) == (Verdict.INCONCLUSIVE, Blame.BENCH)
    assert culprit in judged.message
    assert "b1: timed out" in judged.message


def test_a_silence_that_harmed_nothing_leaves_a_pass_a_pass() -> None:
    assert judged_with_bench(PASSED, [SILENT]) == PASSED


@pytest.mark.parametrize(
    ("event", "blame"), [(DIFFERS, Blame.BENCH), (ThreadDied("probe", "ValueError: x"), Blame.HARNESS)]
)
def test_a_pass_on_a_bench_that_another_hand_changed_or_without_all_evidence_is_inconclusive(
    event: Event, blame: Blame
) -> None:
    judged = judged_with_bench(PASSED, [GOOD, event])
    assert (judged.verdict, judged.blame) == (Verdict.INCONCLUSIVE, blame)


def test_what_did_not_run_is_not_judged_by_the_bench() -> None:
    skipped = Judgement(Verdict.NOT_RUN, None, "needs step upload")
    assert judged_with_bench(skipped, [DIFFERS]) == skipped


def test_an_abandoned_wait_is_the_benchs_fault() -> None:
    judged = judge_exception(Abandoned(BenchError("the link box is lost")))
    assert (judged.verdict, judged.blame, judged.message) == (Verdict.INCONCLUSIVE, Blame.BENCH, "the link box is lost")


def seen(boot_id: str, *, uptime_s: float = 1.0, confirmed: bool = True, board: str = "b2") -> BoardSeen:
    return BoardSeen(board, boot_id, confirmed, uptime_s)


def history(*events: tuple[float, Any]) -> list[Event]:
    return [at(t_s, event) for t_s, event in events]


def test_a_confirmed_board_that_restarts_by_itself_is_seen() -> None:
    (found,) = unordered_restarts(history((1, seen("one", uptime_s=60)), (31, seen("two", uptime_s=2))))
    assert found.startswith("b2 restarted by itself 29.0 s into the run: its boot id one became two")


def test_restarts_that_this_run_ordered_are_none_of_the_boards_own() -> None:
    ordered = history(
        (1, seen("one", uptime_s=60)),
        (10, RestartOrdered("b2", "activate")),
        (14, seen("two", confirmed=False)),
        (16, seen("two", uptime_s=3)),
        (16.5, RestartOrdered("b2", "power cut")),
        (20, seen("three")),
    )
    assert unordered_restarts(ordered) == []


def test_one_order_explains_one_restart_and_only_of_its_board() -> None:
    events = history(
        (1, seen("one", uptime_s=60)),
        (10, RestartOrdered("b2", "power cut")),
        (14, seen("two")),
        (30, RestartOrdered("b1", "power cut")),
        (34, seen("three")),
    )
    (found,) = unordered_restarts(events)
    assert "two became three" in found


def test_a_slot_that_is_not_confirmed_yet_may_fall_back_by_itself() -> None:
    events = history(
        (1, seen("one", uptime_s=60)),
        (10, RestartOrdered("b2", "activate")),
        (14, seen("two", confirmed=False)),
        (20, seen("three")),
    )
    assert unordered_restarts(events) == []


def test_a_container_that_another_hand_restarted_is_not_the_boards_fault() -> None:
    events = history(
        (1, seen("one", uptime_s=60)),
        (20, seen("two")),
        (21, BenchDiffers(container("b2"), "was started, and not by this run")),
    )
    assert unordered_restarts(events) == []
