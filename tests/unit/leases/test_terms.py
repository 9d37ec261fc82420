"""Whose term is over, by which clock."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hil.core import processes as procid
from hil.leases import leases as leases_module
from hil.leases import store as leases_store
from hil.leases.leases import LeaseLost, Leases, LeaseTaken
from hil.leases.rules import WAIT_TERM_S, Origin, has_ended, left_s
from hil.testing.fakes import FakeClock
from tests.kits.lease_store import A1, A2, HERE, WHEN, elsewhere, entry


def test_a_lease_that_is_not_renewed_is_over_after_its_term_and_not_before(tmp_path: Path) -> None:
    clock = FakeClock(1000.0)
    store = tmp_path / "leases.db"
    anna = elsewhere(store, clock, pids="pid:2").take([A1], purpose="x", ttl_s=100)
    bob = elsewhere(store, clock)
    clock.now += 99.9
    assert not anna.lost
    with pytest.raises(LeaseTaken):
        bob.take([A1], purpose="y")
    clock.now += 0.2
    assert anna.lost  # its own clock tells the holder, even before anybody else takes the board
    later = bob.take([A1], purpose="y")
    assert not anna.renew() and anna.lost
    with pytest.raises(LeaseLost, match="six/a1 is lost"):
        anna.check()
    anna.free()
    assert [c.id for c in bob.list()] == [later.id]  # a late free does not hurt the next holder


def test_a_late_renewal_counts_while_nobody_has_taken_the_boards(tmp_path: Path) -> None:
    clock = FakeClock()
    anna = elsewhere(tmp_path / "leases.db", clock).take([A1], purpose="x", ttl_s=100)
    clock.now += 150
    assert anna.lost
    anna.check()
    assert not anna.lost


@pytest.mark.parametrize("years", [-20, 20])
def test_a_wall_clock_that_jumps_neither_ends_nor_doubles_a_lease(
    leases: Leases, monkeypatch: pytest.MonkeyPatch, years: int
) -> None:
    held = leases.reserve([A1], purpose="x", ttl_s=3600)

    class Jumped(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]  # narrower on purpose
            return datetime.now(UTC) + timedelta(days=365 * years)

    monkeypatch.setattr(leases_store, "datetime", Jumped)
    monkeypatch.setattr(leases_module, "datetime", Jumped)
    (seen,) = leases.list()
    assert seen.id == held.id and 3500 < seen.left_s <= 3600
    with pytest.raises(LeaseTaken):
        leases.take([A1], purpose="y")


def test_a_process_that_has_ended_holds_nothing_and_a_recycled_pid_is_not_it() -> None:
    here = Origin.here()
    found = procid.started(os.getpid())
    assert found
    mine = replace(entry(1, A1, holds=True), origin=here, start_ticks=found[0])
    assert not has_ended(mine, here)
    assert has_ended(replace(mine, start_ticks=found[0] + 1), here)
    assert not has_ended(replace(mine, start_ticks=found[0] + 1, by_person=True), here)
    assert has_ended(replace(mine, start_ticks=found[0] + 1, by_person=True, taken=None), here)  # waits


def test_processes_that_cannot_be_seen_from_here_count_as_running() -> None:
    here = Origin.here()
    gone = replace(entry(1, A1, holds=True), origin=here, pid=2**22 - 3)
    assert has_ended(gone, here)
    for other in ({"pids": "pid:other"}, {"clock": "time:other"}, {"boot": "other", "host": "other"}):
        assert not has_ended(replace(gone, origin=replace(here, **other)), here)


def test_a_process_that_proc_hides_counts_as_running_and_a_zombie_with_threads_too(tmp_path: Path) -> None:
    assert not procid.is_gone(os.getpid(), 1, tmp_path)
    for threads, ended in ((1, True), (2, False)):
        fields = ["Z", "1", *["0"] * 15, str(threads), "0", "77", "0"]
        (tmp_path / "7").mkdir(exist_ok=True)
        (tmp_path / "7/stat").write_text(f"7 (x y) {' '.join(fields)}\n")
        assert procid.is_gone(7, 77, tmp_path) is ended


def test_after_a_restart_of_the_machine_processes_hold_nothing_and_persons_keep_a_whole_term(tmp_path: Path) -> None:
    store = tmp_path / "leases.db"
    before = elsewhere(store, FakeClock(90_000.0))
    before.take([A1], purpose="x", ttl_s=3600)
    person = before.reserve([A2], purpose="y", ttl_s=3600)
    clock = FakeClock(5.0)
    after = elsewhere(store, clock, boot="boot-2")
    assert [c.id for c in after.list()] == [person.id]
    clock.now += 3599
    assert [c.id for c in after.list()] == [person.id]
    clock.now += 2
    assert after.list() == ()
    after.take([A1], purpose="z").free()


def test_a_lease_of_another_host_is_over_a_term_after_it_was_first_seen_unless_renewed(tmp_path: Path) -> None:
    store = tmp_path / "leases.db"
    there = FakeClock(50.0)
    lease = elsewhere(store, there, host="other", machine="m2", boot="boot-9").take([A1], purpose="x", ttl_s=100)
    clock = FakeClock(7.0)
    us = elsewhere(store, clock)
    assert us.list()
    clock.now += 99
    assert us.list()
    lease.renew()
    assert us.list()
    clock.now += 99
    assert us.list()
    clock.now += 2
    assert us.list() == ()


def test_a_waiter_without_a_sign_of_life_leaves_the_queue() -> None:
    waiting = entry(1, A1)
    assert left_s(waiting, HERE, WAIT_TERM_S - 1) > 0 >= left_s(waiting, HERE, WAIT_TERM_S)
    assert left_s(replace(waiting, taken=WHEN), HERE, WAIT_TERM_S) == 30  # a lease has its own term
