"""Leases: all boards or none, first come first served, no clock that jumps, nobody holds what somebody else has."""

from __future__ import annotations

import json
import math
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.cli.app import run
from hil.core import paths
from hil.core import process_id as procid
from hil.core.wait import wait_until
from hil.errors import ConfigurationError
from hil.leases import leases as leases_module
from hil.leases import store as leases_store
from hil.leases.leases import LeaseEntry, LeaseLost, Leases, LeaseTaken
from hil.leases.rules import WAIT_TERM_S, Origin, blockers, has_ended, left_s, span
from hil.testing.fakes import FakeClock

A1, A2, A3 = "six/a1", "six/a2", "six/a3"
WHEN = datetime(2026, 3, 1, tzinfo=UTC)
HERE = Origin(host="ctl", machine="m1", boot="boot-1", clock="time:1", pids="pid:1")


@pytest.fixture
def leases(tmp_path: Path) -> Leases:
    return Leases(tmp_path / "leases.db")


@pytest.fixture(autouse=True)
def no_lease_around(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HIL_LEASE", raising=False)
    monkeypatch.setenv("HIL_LEASES", str(tmp_path / "leases.db"))


def entry(number: int, *boards: str, holds: bool = False, within: int | None = None) -> LeaseEntry:
    return LeaseEntry(
        id=number,
        boards=frozenset(boards),
        holder="anna",
        purpose="test",
        by_person=False,
        within=within,
        origin=HERE,
        pid=os.getpid(),
        start_ticks=0,
        ttl_s=60,
        renewed_s=0,
        renewals=0,
        asked=WHEN,
        taken=WHEN if holds else None,
        renewed=WHEN,
    )


def elsewhere(path: Path, clock: FakeClock, **place: str) -> Leases:
    """The store as somebody sees it whose processes cannot be seen from here, on a clock that only moves when told."""
    return Leases(path, clock=clock, here=replace(HERE, **place))


# Who comes first


def test_a_lease_is_for_all_boards_or_for_none(leases: Leases) -> None:
    with leases.take([A2], purpose="alone"):
        with pytest.raises(LeaseTaken):
            leases.take([A1, A2, A3], purpose="all")
        leases.take([A1, A3], purpose="the rest").free()
    leases.take([A1, A2, A3], purpose="all").free()
    assert leases.list() == () == leases.queue()


def test_a_refusal_says_who_holds_what_since_when_until_when_where_for_what_and_what_to_do(
    leases: Leases,
) -> None:
    held = leases.reserve([A1, A2], holder="anna", purpose="new fan", ttl_s=3600)
    with pytest.raises(LeaseTaken) as caught:
        leases.take([A2, A3], holder="bob", purpose="x")
    said = str(caught.value)
    assert held.taken and held.expires
    for part in (
        "six/a2 is held by anna",
        f"on {leases.here.host}",
        f"since {held.taken:%Y-%m-%d %H:%M}",
        f"until {held.expires:%Y-%m-%d %H}",
        '"new fan"',
        f"lease {held.id}",
        "remedy: ask them",
        "hil lease list",
    ):
        assert part in said
    assert "a1" not in said
    assert [c.id for c in caught.value.blockers] == [held.id]


def test_boards_are_reserved_in_the_order_of_the_queue() -> None:
    holder = entry(1, A1, holds=True)
    all_of_them = entry(2, A1, A2, A3)
    single = entry(3, A2)
    unrelated = entry(4, "six/b1")
    everybody = [holder, all_of_them, single, unrelated]
    assert blockers(all_of_them, everybody) == [holder]
    assert blockers(single, everybody) == [all_of_them]
    assert blockers(unrelated, everybody) == []


def test_who_does_not_wait_does_not_jump_the_queue_either(leases: Leases) -> None:
    outcome: list[object] = []
    with leases.take([A1], purpose="holds"):
        waiter = _in_thread(lambda: outcome.append(leases.take([A1, A2], purpose="both", wait_s=60)))
        wait_until(leases.queue, what="the waiter to queue", deadline_s=30)
        with pytest.raises(LeaseTaken, match=r"waits for six/a2 .*place 1"):
            leases.take([A2], purpose="jumps")
    waiter.join(60)
    assert [type(each).__name__ for each in outcome] == ["Lease"]


BOARDS = st.frozensets(st.sampled_from(["a", "b", "c", "d"]), min_size=1)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.booleans(), BOARDS, st.integers(0, 9)), max_size=30))
def test_no_board_has_two_holders_nobody_is_passed_and_everybody_is_served(
    steps: list[tuple[bool, frozenset[str], int]],
) -> None:
    claims: list[LeaseEntry] = []
    waiting_since: dict[int, int] = {}

    def grant_what_can_be() -> None:
        for index, each in enumerate(claims):
            if not each.holds and not blockers(each, claims):
                claims[index] = replace(each, taken=WHEN)
                for other in claims:
                    if not other.holds and other.id < each.id:
                        assert other.boards.isdisjoint(each.boards), "passed somebody who asked before"
        held = [board for c in claims if c.holds for board in c.boards]
        assert len(held) == len(set(held)), "two holders"

    for number, (asks, boards, which) in enumerate(steps, start=1):
        if asks:
            claims.append(replace(entry(number), boards=boards))
            waiting_since[number] = number
        elif claims:
            claims.pop(which % len(claims))  # a holder frees, or a waiter leaves
        grant_what_can_be()
    while claims:
        holders = [c for c in claims if c.holds]
        assert holders, "somebody waits for nobody"
        claims.remove(holders[0])
        grant_what_can_be()


def test_a_waiter_is_told_its_place_and_gets_the_boards_when_they_are_free(leases: Leases) -> None:
    told: list[str] = []
    got: list[int] = []

    def wait() -> None:
        with leases.take([A1, A2], purpose="later", wait_s=math.inf, progress=told.append) as mine:
            got.append(mine.id)

    first = leases.take([A1], holder="anna", purpose="first")
    waiter = _in_thread(wait)
    wait_until(lambda: told, what="the waiter to be told", deadline_s=30)
    (queued,) = leases.queue()
    assert queued.position == 1 and queued.purpose == "later"
    assert told[0].startswith("place 1 in the queue for six/a1, six/a2: six/a1 is held by anna")
    first.free()
    waiter.join(60)
    assert got == [queued.id]


def test_a_waiter_that_gives_up_leaves_the_queue(leases: Leases) -> None:
    clock = FakeClock()
    with leases.take([A1], purpose="first"):
        patient = Leases(leases.path, clock=_Interrupting(after_s=1.0))
        with pytest.raises(KeyboardInterrupt):
            patient.take([A1], purpose="interrupted", wait_s=math.inf)
        with pytest.raises(LeaseTaken, match="after 5 s of waiting"):
            Leases(leases.path, clock=clock).take([A1], purpose="impatient", wait_s=5)
        assert leases.queue() == ()


class _Interrupting(FakeClock):
    def __init__(self, after_s: float) -> None:
        super().__init__()
        self._after_s = after_s

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        if self.now > self._after_s:
            raise KeyboardInterrupt


def test_a_refusal_removes_nothing_for_the_next_claim_gets_its_number(
    leases: Leases, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = leases.reserve([A1], purpose="x")
    seen: list[int] = []
    drop = leases_store.Session.drop
    with monkeypatch.context() as watched:
        watched.setattr(leases_store.Session, "drop", lambda db, ids: drop(db, _kept(seen, ids)))
        with pytest.raises(LeaseTaken):
            leases.take([A1], purpose="y")
    assert seen == []
    assert leases.reserve([A2], purpose="z").id == held.id + 1


def _kept(into: list[int], ids: Iterable[int]) -> list[int]:
    found = list(ids)
    into += found
    return found


def test_waiting_for_free_boards_takes_nothing(leases: Leases) -> None:
    held = leases.reserve([A1], purpose="x")
    with pytest.raises(LeaseTaken):
        leases.wait_free([A1, A2], wait_s=0)
    leases.wait_free([A2], wait_s=0)
    leases.free(held.id)
    leases.wait_free([A1, A2], wait_s=0)
    assert leases.list() == ()


# Whose term is over, by which clock


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


def test_after_a_restart_of_the_machine_processes_hold_nothing_and_persons_keep_a_whole_term(
    tmp_path: Path,
) -> None:
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


def test_a_lease_of_another_host_is_over_a_term_after_it_was_first_seen_unless_renewed(
    tmp_path: Path,
) -> None:
    store = tmp_path / "leases.db"
    there = FakeClock(50.0)
    lease = elsewhere(store, there, host="other", machine="m2", boot="boot-9").take(
        [A1], purpose="x", ttl_s=100
    )
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


# What a holder has in its hands


def test_a_thread_renews_the_lease_while_it_is_held(leases: Leases) -> None:
    with leases.take([A1], purpose="x", ttl_s=6) as lease:
        (first,) = leases.list()
        wait_until(
            lambda: leases.list()[0].renewals > first.renewals, what="a renewal", deadline_s=30, every_s=0.2
        )
        lease.check()


def test_a_holder_notices_that_its_lease_was_freed_by_force(leases: Leases) -> None:
    with leases.take([A1], holder="anna", purpose="x", ttl_s=3) as lease:
        with pytest.raises(ConfigurationError, match="not yours"):
            leases.free(A1, by="bob")
        with pytest.raises(ConfigurationError, match="its process still runs"):
            leases.free(lease.id, by="anna")
        assert not lease.lost
        leases.free(A1, by="bob", force=True)
        wait_until(lambda: lease.lost, what="the holder to notice", deadline_s=30)
        with pytest.raises(LeaseLost):
            lease.check()


def test_a_forked_child_does_not_free_its_parents_lease(
    leases: Leases, monkeypatch: pytest.MonkeyPatch
) -> None:
    with leases.take([A1], purpose="x") as lease:
        me = os.getpid()
        with monkeypatch.context() as child:
            child.setattr(os, "getpid", lambda: me + 1)
            lease.free()
        assert leases.list() and not lease.lost


def test_a_process_started_within_a_lease_uses_its_boards_one_at_a_time(
    leases: Leases, monkeypatch: pytest.MonkeyPatch
) -> None:
    with leases.take([A1, A2], holder="anna", purpose="around") as outer:
        for name, value in outer.environment().items():
            monkeypatch.setenv(name, value)
        with leases.take([A1], purpose="inside") as inner:
            with pytest.raises(LeaseTaken, match='"inside"'):
                leases.take([A1, A2], purpose="also inside")
            leases.take([A2], purpose="beside").free()
        leases.take([A3], purpose="another board").free()
        with pytest.raises(ConfigurationError, match=r"has not got six/a3"):
            leases.take([A2, A3], purpose="half")
        inner = leases.take([A1], purpose="inside again")
        leases.free(outer.id, force=True)
        assert not inner.renew() and inner.lost
        with pytest.raises(LeaseLost, match="that lease has ended"):
            leases.take([A1], purpose="too late")
        monkeypatch.delenv("HIL_LEASE")
        with pytest.raises(LeaseLost, match="that lease has ended"):
            leases.take([A1], purpose="told too late", within=str(outer.id))
        with pytest.raises(LeaseTaken, match="inside again"):  # until it is done, nobody else gets the board
            leases.take([A1], purpose="outside")


def test_a_person_extends_and_frees_a_lease_by_board(leases: Leases) -> None:
    held = leases.reserve([A1, A2], purpose="x", ttl_s=60)
    assert leases.extend(held.id, ttl_s=7200).left_s > 7000
    assert [c.id for c in leases.free(A2)] == [held.id]
    with pytest.raises(ConfigurationError, match="no lease on six/a2"):
        leases.free(A2)
    with pytest.raises(ConfigurationError, match="no person's lease"):
        leases.extend(held.id)


# Where it is kept


@pytest.mark.parametrize("boards", [[], ["a1"], ["six/"], ["six/a1/b"], ["Six/a1"]])
def test_a_board_is_named_with_its_lab(leases: Leases, boards: list[str]) -> None:
    with pytest.raises(ConfigurationError):
        leases.take(boards, purpose="x")


@pytest.mark.parametrize("ttl_s", [0, -1, 0.5, 1e9, math.inf, math.nan])
def test_a_term_is_neither_nothing_nor_for_ever(leases: Leases, ttl_s: float) -> None:
    with pytest.raises(ConfigurationError):
        leases.reserve([A1], purpose="x", ttl_s=ttl_s)


def test_another_file_is_not_taken_for_a_lease_store(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE notes (text)")
        db.commit()
    with pytest.raises(ConfigurationError, match="is not a lease store"):
        Leases(path).list()
    path.write_text("no database at all, but long enough to have a header " * 10)
    with pytest.raises(Exception, match="damaged or no lease store"):
        Leases(path).list()


def test_a_store_on_a_disk_that_machines_share_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
        f"22 21 0:40 / {tmp_path} rw,relatime shared:1 - nfs4 server:/export rw\n"
    )
    assert leases_store.filesystem(tmp_path / "sub", mounts) == "nfs4"
    assert leases_store.filesystem(Path("/etc"), mounts) == "ext4"
    monkeypatch.setattr(leases_store, "filesystem", lambda directory: "nfs4")
    with pytest.raises(ConfigurationError, match="is on nfs4"):
        Leases(tmp_path / "leases.db")


def test_the_store_itself_refuses_a_board_twice(leases: Leases) -> None:
    leases.reserve([A1], purpose="x")
    with closing(sqlite3.connect(leases.path)) as db, pytest.raises(sqlite3.IntegrityError):
        db.execute("INSERT INTO held SELECT board, nested, claim FROM held")


def test_spans_are_written_for_people() -> None:
    assert [span(s) for s in (12, 250, 4980, -3)] == ["12 s", "4 min 10 s", "1 h 23 min", "0 s"]


# The command


def test_the_command_takes_lists_refuses_and_frees(capsys: pytest.CaptureFixture[str]) -> None:
    lab = str(paths.ROOT / "lab/virtual.yaml")
    assert (
        run(["lease", "take", "--lab", lab, "a1", "a2", "--for", "new fan", "--ttl", "1h30m", "--json"]) == 0
    )
    taken = json.loads(capsys.readouterr().out)
    assert taken["boards"] == ["virtual/a1", "virtual/a2"] and 5300 < taken["left_s"] <= 5400
    assert run(["lease", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [each["id"] for each in listed["leases"]] == [taken["id"]] and listed["queue"] == []
    assert run(["lease", "take", "--lab", lab, "--for", "all"]) == 3
    assert "virtual/a1, virtual/a2 are held by" in capsys.readouterr().err
    assert run(["lease", "wait", "virtual/a1", "--timeout", "0s"]) == 3
    assert run(["lease", "renew", str(taken["id"]), "--ttl", "2h"]) == 0
    assert run(["lease", "list"]) == 0
    page = capsys.readouterr().out
    assert "new fan" in page and "person" in page
    assert run(["lease", "free", "--lab", lab]) == 0
    assert f"lease {taken['id']} of" in capsys.readouterr().out
    assert run(["lease", "wait", "virtual/a1"]) == 0
    assert run(["lease", "list"]) == 0
    assert "no board is leased" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["take", "a1", "--for", "x"],
        ["take", "--for", "x"],
        ["take", "six/a1"],
        ["take", "six/a1", "--for", "x", "--ttl", "2 hours"],
        ["take", "six/a1", "--for", "x", "--"],
        ["take", "six/a1", "--for", "x", "--", "/no/such/program"],
        ["take", "six/a1", "--for", "x", "--json", "--", "true"],
        ["take", "--lab", str(paths.ROOT / "lab/virtual.yaml"), "a9", "--for", "x"],
        ["free", "17"],
    ],
)
def test_wrong_arguments_are_refused_and_leave_nothing(arguments: list[str], leases: Leases) -> None:
    assert run(["lease", *arguments]) == 2
    assert leases.list() == () == leases.queue()


def test_a_command_runs_within_its_lease_and_its_exit_code_is_passed_on(
    leases: Leases, capfd: pytest.CaptureFixture[str]
) -> None:
    script = (
        "import os; from hil.leases.leases import Leases\n"
        "(c,) = Leases().list()\n"
        "print(c.pid == os.getpid(), sorted(c.boards), c.purpose)\n"
        "Leases().take(['six/a1'], purpose='inside').free()\n"
        "raise SystemExit(7)"
    )
    assert run(["lease", "take", A1, A2, "--for", "a run", "--", sys.executable, "-c", script]) == 7
    assert "True ['six/a1', 'six/a2'] a run" in capfd.readouterr().out
    assert leases.list() == ()


def test_a_command_whose_lease_is_lost_is_ended(leases: Leases, capfd: pytest.CaptureFixture[str]) -> None:
    def free_it() -> None:
        (held,) = wait_until(leases.list, what="the lease", deadline_s=30)
        leases.free(held.id, force=True)

    freeing = _in_thread(free_it)
    assert run(["lease", "take", A1, "--for", "x", "--", "sleep", "300"]) == 3
    freeing.join(60)
    assert "the lease is lost" in capfd.readouterr().err


@pytest.fixture
def holder(leases: Leases) -> Iterator[subprocess.Popen[bytes]]:
    """`hil lease take six/a1 -- sleep 300`, running."""
    argv = [sys.executable, "-m", "hil.cli", "lease", "take", A1, "--for", "x", "--", "sleep", "300"]
    with subprocess.Popen(argv, cwd=paths.ROOT) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_boards_are_free_and_the_command_has_ended_once_its_holder_is_killed(
    leases: Leases, holder: subprocess.Popen[bytes], number: signal.Signals
) -> None:
    def command() -> LeaseEntry | None:
        return next((c for c in leases.list() if c.pid != holder.pid), None)

    held = wait_until(command, what="the command to hold the board", deadline_s=30)
    os.kill(holder.pid, number)
    holder.wait(30)
    wait_until(lambda: not leases.list(), what="the board to be free", deadline_s=30)
    assert procid.is_gone(held.pid, held.start_ticks)


def _in_thread(work: object) -> threading.Thread:
    assert callable(work)
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread
