"""Leases: all boards or none, first come first served; what a holder has in its hands, and where it is kept."""

from __future__ import annotations

import math
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterable
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.core.mounts import filesystem_of
from hil.core.wait import wait_until
from hil.errors import ConfigurationError, HilError
from hil.leases import store as leases_store
from hil.leases.leases import LeaseEntry, LeaseLost, Leases, LeaseTaken
from hil.leases.rules import blockers, span
from hil.testing.fakes import FakeClock
from tests.kits.lease_store import A1, A2, A3, WHEN, entry, file_of, in_thread

# Who comes first


def test_a_lease_is_for_all_boards_or_for_none(leases: Leases) -> None:
    with leases.take([A2], purpose="alone"):
        with pytest.raises(LeaseTaken):
            leases.take([A1, A2, A3], purpose="all")
        leases.take([A1, A3], purpose="the rest").free()
    leases.take([A1, A2, A3], purpose="all").free()
    assert leases.list() == () == leases.queue()


def test_a_refusal_says_who_holds_what_since_when_until_when_where_for_what_and_what_to_do(leases: Leases) -> None:
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
        waiter = in_thread(lambda: outcome.append(leases.take([A1, A2], purpose="both", wait_s=60)))
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
    waiter = in_thread(wait)
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
        patient = Leases(file_of(leases), clock=_Interrupting(after_s=1.0))
        with pytest.raises(KeyboardInterrupt):
            patient.take([A1], purpose="interrupted", wait_s=math.inf)
        with pytest.raises(LeaseTaken, match="after 5 s of waiting"):
            Leases(file_of(leases), clock=clock).take([A1], purpose="impatient", wait_s=5)
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


def test_looking_writes_nothing_and_who_takes_next_tidies_up(leases: Leases) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    lease = leases.take(["six/a1"], purpose="soon dead")
    lease.hand_to(process.pid)
    process.kill()
    process.wait()
    before = rows(file_of(leases))
    assert (leases.list(), leases.queue()) == ((), ())
    assert rows(file_of(leases)) == before
    assert any(row[1] == "soon dead" for row in before)
    with leases.take(["six/b1"], purpose="other"):
        assert [row[1] for row in rows(file_of(leases))] == ["other"]


def rows(store: Path) -> list[tuple[int, str]]:
    """What lies in the store, whether it counts or not."""
    with closing(sqlite3.connect(store)) as db:
        return db.execute("SELECT id, purpose FROM claims ORDER BY id").fetchall()


def test_waiting_for_free_boards_takes_nothing(leases: Leases) -> None:
    held = leases.reserve([A1], purpose="x")
    with pytest.raises(LeaseTaken):
        leases.wait_free([A1, A2], wait_s=0)
    leases.wait_free([A2], wait_s=0)
    leases.free(held.id)
    leases.wait_free([A1, A2], wait_s=0)
    assert leases.list() == ()


# What a holder has in its hands


def test_a_thread_renews_the_lease_while_it_is_held(leases: Leases) -> None:
    with leases.take([A1], purpose="x", ttl_s=6) as lease:
        (first,) = leases.list()
        wait_until(lambda: leases.list()[0].renewals > first.renewals, what="a renewal", deadline_s=30, every_s=0.2)
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


def test_a_forked_child_does_not_free_its_parents_lease(leases: Leases, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_nobody_extends_anothers_lease(leases: Leases) -> None:
    held = leases.reserve([A1], holder="anna", purpose="x", ttl_s=60)
    with pytest.raises(ConfigurationError, match=r"not yours \(bert\): six/a1 is held by anna"):
        leases.extend(held.id, ttl_s=1, by="bert")
    assert leases.list()[0].ttl_s == 60
    assert leases.extend(held.id, ttl_s=90, by="anna").ttl_s == 90


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


def test_a_store_on_a_disk_that_machines_share_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        f"21 1 8:1 / / rw - ext4 /dev/sda1 rw\n22 21 0:40 / {tmp_path} rw,relatime shared:1 - nfs4 server:/export rw\n"
    )
    assert filesystem_of(tmp_path / "sub", mounts) == "nfs4"
    assert filesystem_of(Path("/etc"), mounts) == "ext4"
    monkeypatch.setattr(leases_store, "filesystem_of", lambda directory: "nfs4")
    with pytest.raises(ConfigurationError, match="is on nfs4"):
        Leases(tmp_path / "leases.db")


def test_the_store_itself_refuses_a_board_twice(leases: Leases) -> None:
    leases.reserve([A1], purpose="x")
    with closing(sqlite3.connect(file_of(leases))) as db, pytest.raises(sqlite3.IntegrityError):
        db.execute("INSERT INTO held SELECT board, nested, claim FROM held")


def test_spans_are_written_for_people() -> None:
    assert [span(s) for s in (12, 250, 4980, -3)] == ["12 s", "4 min 10 s", "1 h 23 min", "0 s"]


JUNK = (None, "x", "[]", '{"host": 1}', "[1]", "[" * 20_000, "2026-03-01", b"\xff", 1e300)


def test_a_row_that_makes_no_sense_is_told_and_never_a_crash(leases: Leases, tmp_path: Path) -> None:
    leases.reserve([A1], holder="anna", purpose="x", ttl_s=3600)
    with closing(sqlite3.connect(file_of(leases))) as db:
        columns = [row[1] for row in db.execute("PRAGMA table_info(claims)") if row[1] != "id"]
    told = 0
    for number, (column, junk) in enumerate((column, junk) for column in columns for junk in JUNK):
        path = tmp_path / f"{number}.db"
        shutil.copy(file_of(leases), path)
        damaged = Leases(path)
        with closing(sqlite3.connect(path)) as db, suppress(sqlite3.IntegrityError), db:
            db.execute(f"UPDATE claims SET {column} = ?", (junk,))
        for verb in (
            damaged.list,
            damaged.queue,
            partial(damaged.reserve, [A2], purpose="y"),
            partial(damaged.free, A1),
        ):
            try:
                verb()
            except HilError as exc:
                told += "makes no sense" in exc.message
    assert told > 100
