"""The watcher: proves what it says, and catches a cluster that breaks its promise."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.evidence.events import BoardSeen, WatchClaim, WatchSummary, WatchViolation
from hil.onboard.node.answers import Claim, Health
from hil.onboard.node.epoch import Lease, Member, RenewReply
from hil.rollout.epoch_claims import ClaimInterval, Ledger, definite
from hil.rollout.node_client import NodeRefused
from hil.rollout.rollout import Rollout
from hil.rollout.watcher import InvariantWatcher
from hil.testing.fakes import ListSink
from tests.kits.loopback_nodes import FakeBundle, bed, eventually


def health(board: str = "a1", epoch: int = 1, since_s: float = 1.0, serving: bool = True) -> Health:
    claim = Claim(True, epoch, since_s) if serving else Claim(False)
    return Health(board, "boot-1", True, True, claim, os_version="2.0.0")


def claim(board: str, start: float, end: float, epoch: int = 1, version: str = "2.0.0") -> ClaimInterval:
    return ClaimInterval(board, start, end, epoch, version)


@given(
    began=st.floats(0, 100),
    asked_after=st.floats(0, 50),
    way_there=st.floats(0, 2),
    way_back=st.floats(0, 2),
    rate=st.floats(0.99, 1.01),
)
def test_a_definite_interval_lies_within_the_true_claim(
    began: float, asked_after: float, way_there: float, way_back: float, rate: float
) -> None:
    sent = began + asked_after - way_there
    looked = began + asked_after
    received = looked + way_back
    found = definite(health(since_s=(looked - began) * rate), sent, received)
    if found is not None:
        assert began - 1e-9 <= found.start_s <= found.end_s <= looked


def test_a_board_that_does_not_serve_proves_nothing() -> None:
    assert definite(health(serving=False), 1.0, 1.1) is None


def test_a_claim_that_has_only_just_begun_proves_nothing() -> None:
    assert definite(health(since_s=0.01), 1.0, 1.1) is None


def test_two_epochs_at_once_are_a_violation_and_one_after_the_other_are_not() -> None:
    ledger = Ledger()
    ledger.add(claim("a1", 0, 1, epoch=1))
    assert ledger.add(claim("b1", 1.1, 2, epoch=2)) == []
    (found,) = ledger.add(claim("b2", 0.9, 2, epoch=2))
    assert found.kind == "mixed-epoch"
    assert {found.first.board, found.second.board} == {"a1", "b2"}


def test_two_os_versions_under_one_epoch_are_a_violation() -> None:
    ledger = Ledger()
    ledger.add(claim("a1", 0, 1, version="1.0.0"))
    assert [v.kind for v in ledger.add(claim("b1", 0.5, 1))] == ["mixed-os"]


def test_samples_of_one_claim_become_one_interval_and_one_violation() -> None:
    ledger = Ledger()
    ledger.add(claim("b1", 0, 10, epoch=2))
    found = [ledger.add(claim("a1", t - 0.5, t)) for t in (1.0, 1.2, 1.4)]
    assert len(ledger.intervals["a1"]) == 1
    assert ledger.intervals["a1"][0] == claim("a1", 0.5, 1.4)
    assert [len(f) for f in found] == [1, 0, 0]


def test_a_break_in_a_claim_is_a_new_interval() -> None:
    ledger = Ledger()
    ledger.add(claim("a1", 0, 1))
    ledger.add(claim("a1", 1.5, 2))
    assert len(ledger.intervals["a1"]) == 2


def test_a_gap_in_the_sampling_makes_the_check_inconclusive() -> None:
    now = [0.0]
    watcher = InvariantWatcher(cast(Any, None), clock=lambda: now[0])
    watcher._note("a1", 0.0, 0.1, None)
    now[0] = 0.9
    assert watcher.report().conclusive
    now[0] = 1.4
    report = watcher.report()
    assert (report.conclusive, report.max_gap_s, report.max_gap_board) == (False, 1.4, "a1")
    assert report.violations == ()


def test_a_sound_cluster_is_watched_through_changes_and_restarts_without_a_violation(tmp_path: Path) -> None:
    with bed(tmp_path, {"a": 2, "b": 2}) as boards:
        rollout = Rollout(boards.fleet, FakeBundle.make(tmp_path / "x"), adapter=boards.adapter)
        sink = ListSink()
        with InvariantWatcher(boards.fleet, sink, every_s=0.02) as watcher:
            for revision in range(3):
                config = boards.fleet.config(
                    os_version="1.0.0", params={"revision": revision, "lease_s": 0.4, "renew_s": 0.1}
                )
                epoch = rollout.configure(config)
                eventually(partial(seen, watcher, epoch), f"a sample of epoch {epoch}")
                boards["b2"].off()
                boards["b2"].on()
            rollout.serving_together(3)
        report = watcher.report()
    assert report.violations == ()
    assert {epoch for _, _, epoch in report.claims["a1"]} == {1, 2, 3}
    assert len(sink.of(WatchSummary)) == 1


def seen(watcher: InvariantWatcher, epoch: int) -> bool:
    return any(e == epoch for _, _, e in watcher.report().claims.get("a1", []))


class ClaimsForEver(Member):
    """A broken board: it goes on claiming what it once claimed, whatever the coordinator says."""

    def on_reply(self, reply: RenewReply, now_s: float) -> bool:
        before = self._lease
        again = super().on_reply(reply, now_s)
        if before is not None and before.epoch < 99:
            self._lease = Lease(before.epoch, now_s + 1000, before.since_s)
        return again


def test_a_board_that_breaks_the_promise_is_caught(tmp_path: Path) -> None:
    with bed(tmp_path, {"a": 2, "b": 1}) as boards:
        boards["b1"].off()
        boards["b1"].member_type = ClaimsForEver
        boards["b1"].on()
        rollout = Rollout(boards.fleet, FakeBundle.make(tmp_path / "x"), adapter=boards.adapter)
        sink = ListSink()
        with InvariantWatcher(boards.fleet, sink, every_s=0.02) as watcher:
            params = {"lease_s": 0.3, "renew_s": 0.1}
            rollout.configure(boards.fleet.config(os_version="1.0.0", params=params))
            time.sleep(0.3)
            second = boards.fleet.config(os_version="1.0.0", params={**params, "revision": 2})
            rollout.configure(second, wait_for=["a1", "a2"])
            eventually(lambda: bool(watcher.report().violations), "the watcher to see it")
        found = watcher.report().violations[0]
    assert found.startswith("mixed-epoch: ")
    assert "b1 claimed epoch 1" in found
    assert sink.of(WatchViolation)


def test_boards_that_do_not_answer_are_sampled_as_silent(tmp_path: Path) -> None:
    with bed(tmp_path, {"a": 2}) as boards:
        boards["a2"].off()
        with InvariantWatcher(boards.fleet, every_s=0.02) as watcher:
            eventually(lambda: watcher.report().samples > 10, "samples")
        report = watcher.report()
    assert 0 < report.answers < report.samples
    assert (report.violations, report.conclusive) == ((), True)


class OddClient:
    """Stands in for a node's client: it answers or raises what it was given, again and again."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def __enter__(self) -> OddClient:
        return self

    def __exit__(self, *exc: object) -> None:
        return None

    def health(self) -> Health:
        if isinstance(self._answer, BaseException):
            raise self._answer
        return cast(Health, self._answer)


def watched(answer: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[InvariantWatcher, ListSink]:
    """The watcher after it has asked a board that answers so."""
    monkeypatch.setattr("hil.rollout.watcher.NodeClient", lambda *args, **options: OddClient(answer))
    fleet = cast(Any, SimpleNamespace(names=["a1"]))
    sink = ListSink()
    with InvariantWatcher(fleet, sink, every_s=0.001) as watcher:
        time.sleep(0.05)
    return watcher, sink


@pytest.mark.parametrize(
    "answer",
    [
        Health("a1", "boot-1", True, True, Claim(True, 1)),
        Health("a1", "boot-1", True, True, Claim(True, None, 1.0)),
        NodeRefused("a1", 502, "GET /health: claim must be an object, not None", {}),
    ],
)
def test_an_answer_that_a_board_may_not_give_is_a_violation_told_once(
    answer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher, sink = watched(answer, monkeypatch)
    (violation,) = sink.of(WatchViolation)
    assert violation.what == "odd-answer"
    assert violation.detail.startswith("a1: ")
    assert watcher.report().violations[0].startswith("odd answer: a1: ")


def test_a_node_that_refuses_in_its_own_words_gives_no_odd_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    watcher, sink = watched(NodeRefused("a1", 503, "starting", {}), monkeypatch)
    assert sink.of(WatchViolation) == []
    assert watcher.report().conclusive


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_watch_whose_thread_died_is_not_conclusive_and_says_of_what(monkeypatch: pytest.MonkeyPatch) -> None:
    watcher, _ = watched(KeyError("epoch"), monkeypatch)
    report = watcher.report()
    assert not report.conclusive
    assert report.ended_early == ("a1: KeyError('epoch')",)


def test_a_boards_boot_id_is_noted_when_it_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    _, sink = watched(health(), monkeypatch)
    assert sink.of(BoardSeen) == [BoardSeen("a1", "boot-1", True, None)]


def test_what_a_board_found_on_its_disk_is_told_before_what_it_claims_since(monkeypatch: pytest.MonkeyPatch) -> None:
    _, sink = watched(replace(health(epoch=2), epoch_at_start=1), monkeypatch)
    told = [event for event in sink.events if isinstance(event, BoardSeen | WatchClaim)]
    assert told == [BoardSeen("a1", "boot-1", True, epoch_at_start=1), WatchClaim("a1", 2)]
