"""The identity of a lease: a store that is made anew, or of an older release, has no second holder."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from hil.database.connection import BUSY_S
from hil.leases.leases import LeaseLost, Leases
from tests.kits.lease_store import A1, A2, file_of, in_thread


def made_anew(path: Path) -> None:
    for name in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm"))):
        name.unlink(missing_ok=True)


def test_a_store_made_anew_knows_nothing_of_the_leases_before(leases: Leases) -> None:
    first = leases.take([A1], holder="anna", purpose="thermal run")
    made_anew(file_of(leases))
    second = leases.take([A1], holder="bob", purpose="new fan")
    assert first.id == second.id and first.entry.token < second.entry.token
    with pytest.raises(LeaseLost):
        first.check()
    first.free()
    second.check()
    assert [entry.holder for entry in leases.list()] == ["bob"]
    second.free()


def test_a_waiter_is_not_granted_boards_in_a_store_that_is_gone(leases: Leases) -> None:
    first = leases.take([A1], purpose="thermal run")
    raised: list[BaseException] = []

    def wait() -> None:
        try:
            leases.take([A1], purpose="new fan", wait_s=BUSY_S, progress=lambda line: waiting.append(line)).free()
        except BaseException as exc:
            raised.append(exc)

    waiting: list[str] = []
    thread = in_thread(wait)
    while not waiting:
        thread.join(0.01)
    old = file_of(leases).with_name("old.db")
    for end in ("", "-wal", "-shm"):
        file_of(leases).with_name(file_of(leases).name + end).rename(old.with_name(old.name + end))
    Leases(old).free(first.id, force=True)
    thread.join(BUSY_S)
    assert [type(exc) for exc in raised] == [LeaseLost]
    assert not leases.list()


def test_a_store_of_an_older_release_goes_on_with_its_leases(leases: Leases) -> None:
    entry = leases.reserve([A1], holder="anna", purpose="new fan")
    with closing(sqlite3.connect(file_of(leases))) as db:
        db.execute("ALTER TABLE claims DROP COLUMN fence")
        db.execute("DROP TABLE identity")
        db.execute("DROP TABLE alembic_version")
        db.commit()
    assert [(each.id, each.holder, each.token) for each in leases.list()] == [(entry.id, "anna", 0)]
    later = leases.reserve([A2], purpose="night")
    assert later.token > 0 and later.store
