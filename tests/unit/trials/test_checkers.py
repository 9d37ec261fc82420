"""The checkers are checked: each finds its planted fault, none finds one in a good history."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from hil.errors import Blame
from hil.evidence.events import BenchPulse, BoardSeen, OlderBundle, RestartOrdered, WatchClaim, WatchSummary
from hil.evidence.model import Verdict
from hil.trials.checkers import LIVENESS, SAFETY, check
from hil.trials.history import History, Struck
from hil.trials.trial_verdict import judge
from tests.kits.trial_histories import at, good, strike, with_events, with_read


def _watched(history: History, **changes: object) -> History:
    events = [replace(e, **changes) if isinstance(e, WatchSummary) else e for e in history.events]  # type: ignore[arg-type]
    for old, new in zip(history.events, events, strict=True):
        object.__setattr__(new, "t_s", old.t_s)
    return replace(history, events=events)


def _dark(history: History, *, claims_until_s: float) -> History:
    """sc-b is dark from 12 to 18 s, and b1 claims until then; the lease ends a second after the last renewal."""
    dark = Struck(strike("spacecraft-dark", "sc-b"), 12.0, 18.0, "confirmed")
    claims = {"a1": ((9.0, 20.0, 1),), "b1": ((9.0, claims_until_s, 1), (18.5, 20.0, 1))}
    return replace(_watched(history, claims=claims), struck=[dark])


def _restarted(history: History, *, epoch_at_start: int | None) -> History:
    """b1 claimed epoch 1, was struck, and has started again."""
    seen = BoardSeen("b1", "boot-9", True, 1.0, "B", epoch_at_start)
    return with_events(history, at(13.0, RestartOrdered("b1", "fault")), at(15.0, seen))


BAD: dict[str, Callable[[History], History]] = {
    "one epoch at a time": lambda h: _watched(h, violations=("mixed-epoch: a1 claimed 1, b1 claimed 2",)),
    "epochs never go back": lambda h: with_events(h, at(12.0, WatchClaim("b1", 3)), at(13.0, WatchClaim("b1", 2))),
    "epochs are not forgotten": lambda h: _restarted(h, epoch_at_start=0),
    "no claim without a lease": lambda h: _dark(h, claims_until_s=17.0),
    "no older system is taken": lambda h: with_events(h, at(12.0, OlderBundle("b1", "2.0.0", "0.9.0"))),
    "no restart of its own": lambda h: with_events(h, at(15.0, BoardSeen("b1", "boot-9", True, 1.0, "A"))),
    "confirmed only after the health check": lambda h: with_events(h, at(6.0, BoardSeen("b1", "boot-1", True, 4, "B"))),
    "success was true": lambda h: with_read(h, "b1", image_sha256="old", os_version="1.0.0", slot="A"),
    "a slot can always be booted": lambda h: with_read(h, "b1", bootable=(False, False)),
    "data survives": lambda h: with_read(h, "b1", data_intact=False),
    "converged": lambda h: with_read(h, "b1", epoch=None),
}


def _found(history: History) -> dict[str, list[str]]:
    found, broken = check({**SAFETY, **LIVENESS}, history)
    assert not broken
    return found


def test_every_checker_has_a_planted_history() -> None:
    assert BAD.keys() == {**SAFETY, **LIVENESS}.keys()


def test_a_good_history_passes_every_checker() -> None:
    assert _found(good()) == {}
    assert judge(good()).verdict is Verdict.PASS


@pytest.mark.parametrize("name", BAD)
def test_each_checker_finds_what_was_planted_for_it_and_names_the_board(name: str) -> None:
    found = _found(BAD[name](good()))
    assert name in found and "b1" in found[name][0]
    judged = judge(BAD[name](good()))
    assert (judged.verdict, judged.blame) == (Verdict.FAIL, Blame.DEVICE)
    assert judged.safe is (name not in SAFETY or name == "converged")


GOOD: dict[str, Callable[[History], History]] = {
    "an epoch found on disk again": lambda h: _restarted(h, epoch_at_start=1),
    "an OS that does not say what it found": lambda h: _restarted(h, epoch_at_start=None),
    "an older bundle that is refused": lambda h: with_events(h, at(12.0, OlderBundle("b1", "2.0.0", "0.9.0", "older"))),
    "a claim that ends with its lease": lambda h: _dark(h, claims_until_s=13.5),
    "a restart that a fault caused": lambda h: with_events(
        h, at(13.0, RestartOrdered("b1", "fault")), at(15.0, BoardSeen("b1", "boot-9", True, 1.0, "A"))
    ),
    "confirmed after its health check": lambda h: with_events(
        h, at(7.0, RestartOrdered("b1", "activate")), at(8.0, BoardSeen("b1", "boot-2", True, 0.5, "B"))
    ),
    "an epoch claimed again": lambda h: with_events(h, at(12.0, WatchClaim("b1", None)), at(13.0, WatchClaim("b1", 1))),
}


@pytest.mark.parametrize("name", GOOD)
def test_what_may_happen_is_not_called_a_fault(name: str) -> None:
    assert _found(GOOD[name](good())) == {}


def test_a_fault_that_was_not_confirmed_makes_the_trial_inconclusive_also_when_it_failed() -> None:
    for proof, error in (("mismatch", ""), ("unknown", ""), ("confirmed", "it could not be healed")):
        struck = [Struck(strike(), 2.0, 3.0, proof, "the kernel says no", error)]
        for history in (good(), BAD["data survives"](good())):
            judged = judge(replace(history, struck=struck))
            assert (judged.verdict, judged.blame) == (Verdict.INCONCLUSIVE, Blame.BENCH)
            assert "link-cut at isl-ab" in judged.reason and judged.safe is None


def test_a_fault_whose_moment_never_came_does_not_count_against_the_trial() -> None:
    assert judge(replace(good(), struck=[Struck(strike())])).verdict is Verdict.PASS


def test_a_checker_that_fails_itself_blames_the_harness(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(history: History) -> list[str]:
        raise KeyError("x")

    monkeypatch.setattr("hil.trials.trial_verdict.SAFETY", {"broken": broken})
    judged = judge(good())
    assert (judged.verdict, judged.blame) == (Verdict.INCONCLUSIVE, Blame.HARNESS) and "broken" in judged.reason


def test_a_bug_of_the_harness_is_not_laid_to_the_device() -> None:
    judged = judge(BAD["converged"](good()), [], "the rollout ended with AttributeError: _config")
    assert (judged.verdict, judged.blame) == (Verdict.INCONCLUSIVE, Blame.HARNESS)


def test_a_watch_with_a_gap_proves_no_safety_but_a_violation_that_was_seen_stands() -> None:
    gap = _watched(good(), conclusive=False, max_gap_s=3.0)
    assert judge(gap).verdict is Verdict.INCONCLUSIVE
    assert judge(BAD["data survives"](gap)).verdict is Verdict.FAIL
    unwatched = replace(good(), events=[e for e in good().events if not isinstance(e, WatchSummary)])
    assert judge(unwatched).verdict is Verdict.INCONCLUSIVE


def test_a_bench_that_did_not_carry_the_trial_is_blamed_for_its_failure() -> None:
    silent = with_events(BAD["converged"](good()), at(10.0, BenchPulse(5.0, {"the link box": 9.0})))
    judged = judge(silent)
    assert (judged.verdict, judged.blame) == (Verdict.INCONCLUSIVE, Blame.BENCH) and "link box" in judged.reason
    # A pass on a bench that stood still shows nothing either: its faults may not have struck.
    stood = with_events(good(), at(10.0, BenchPulse(5.0, {"the keeper of the bench": 9.0})))
    assert judge(stood).verdict is Verdict.INCONCLUSIVE
    assert judge(good(), ["the keeper is lost"]).verdict is Verdict.INCONCLUSIVE
